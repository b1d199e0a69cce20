"""What all pictures share: axes, short names, tables as frames of pandas."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils import check_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_NAME = 24  # characters of a name that a picture has room for
KEPT_BEFORE = 4  # characters that alike names share before they differ


def make_axes(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    """Return the axes that are given, or those of a new figure."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    return ax


def shortened(names: Iterable[Any], longest: int = LONGEST_NAME) -> list[str]:
    """Cut long names so that they still differ.

    The middle goes, or where names differ by it, what they share before it.
    """
    whole = [str(name) for name in names]
    short = [_without_middle(name, longest) for name in whole]
    alike: dict[str, set[str]] = {}
    for name, cut in zip(whole, short, strict=True):
        alike.setdefault(cut, set()).add(name)
    for place, cut in enumerate(short):
        if len(alike[cut]) > 1:
            shared = _n_shared(alike[cut])
            rest = whole[place][max(shared - KEPT_BEFORE, 0) :]
            short[place] = _without_middle(f"…{rest}", longest, after=0)
    return [name.replace("$", r"\$") for name in short]


def _n_shared(names: Collection[str]) -> int:
    """Count the characters that all names begin with."""
    columns = zip(*names, strict=False)
    return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, columns))


def _without_middle(name: str, longest: int, after: int | None = None) -> str:
    if len(name) <= longest:
        return name
    after = (longest - 1) // 2 if after is None else after
    begin = name[: longest - 1 - after].rstrip()
    return f"{begin}…{name[len(name) - after :].lstrip()}"


def as_pandas(table: Any) -> pd.DataFrame:
    """Return a table of any container as a frame of pandas.

    The columns of an array are named as scikit-learn names them.
    """
    if isinstance(table, pd.DataFrame):
        return table
    frame = nw.from_native(table, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        columns = {column.name: column.to_list() for column in frame.iter_columns()}
        return pd.DataFrame(columns)
    array = check_array(table, dtype=None, ensure_all_finite=False)
    names = [f"x{j}" for j in range(array.shape[1])]
    return pd.DataFrame(array, columns=names).infer_objects()


def holds_numbers(column: pd.Series) -> bool:
    """Tell a column of numbers from one of levels."""
    is_number = pd.api.types.is_numeric_dtype(column.dtype)
    return is_number and not pd.api.types.is_bool_dtype(column.dtype)


def check_columns(n_columns: int | None, n_all: int) -> int:
    """Return how many columns a picture shows; None is all."""
    if n_columns is None:
        return n_all
    if n_columns < 1:
        raise ValueError(
            f"got n_columns={n_columns!r}, but expected an integer of at least 1, or "
            "None for all."
        )
    return min(n_columns, n_all)


def column_names_of(estimator: Any) -> np.ndarray:
    """Return the names of the columns of the fit."""
    indices = range(estimator.n_features_in_)
    names = getattr(estimator, "feature_names_in_", [f"x{j}" for j in indices])
    return np.asarray(names, dtype=object)


def linear_start(estimator: Any) -> Any:
    """Return an unfitted estimator that stays at PCA of the same columns and levels."""
    start = clone(estimator).set_params(max_iter=0, linear_path=True, warm_start=False)
    plain = {"noise": "auto", "masking": 0.0}  # which would start at a denoiser
    known = start.get_params()
    return start.set_params(**{k: v for k, v in plain.items() if k in known})
