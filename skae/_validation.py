"""What users pass, checked: tables, weights, counts, and the parameters of both."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import _check_sample_weight, validate_data

from .network._layers import ACTIVATIONS
from .table._containers import as_dense, as_frame
from .table._frames import TableReader
from .training._solvers import LEARNING_RATES

FLOATS = [np.float64, np.float32]
AUTO = StrOptions({"auto"})

PARAMETERS: dict[str, list[Any]] = {
    "n_components": [
        Interval(Integral, 1, None, closed="left"),
        Interval(RealNotInt, 0, 1, closed="neither"),
        AUTO,
    ],
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(set(ACTIVATIONS))],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "l1_penalty": [Interval(Real, 0, None, closed="left")],
    "linear_path": ["boolean"],
    "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
    "scaling": [StrOptions({"auto", "standard", "minmax", "quantile"}), None],
    "solver": [StrOptions(set(LEARNING_RATES))],
    "learning_rate": [Interval(Real, 0, None, closed="neither"), AUTO],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left"), AUTO],
    "max_iter": [Interval(Integral, 0, None, closed="left"), AUTO],
    "tol": [Interval(Real, 0, None, closed="left")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), AUTO],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither"), AUTO, None],
    "encoder": [callable, None],
    "decoder": [callable, None],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "device": [str, torch.device],
    "verbose": ["verbose"],
}


def read_rows(
    estimator: Any, frames: TableReader, X: Any, *, reset: bool = False, **checks: Any
) -> np.ndarray:
    """Validate a table; return its numbers and level codes, NaN where missing.

    With `reset` the estimator, and the levels, are those of this table from now on.
    """
    X = as_dense(X)
    checks |= {"dtype": FLOATS, "ensure_all_finite": "allow-nan"}
    if as_frame(X) is None and frames.is_numeric:
        X = _without_na(X)
        with _explained(X, is_fit=reset):
            return validate_data(estimator, X, reset=reset, **checks)
    if (frame := as_frame(X)) is not None and not frame.columns:
        raise ValueError("got a dataframe with 0 feature(s), but expected at least 1.")
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    frames.check_dtypes(X, is_fit=reset)
    if reset:
        frames.learn_levels(X)
    return check_array(frames.read(X), estimator=estimator, input_name="X", **checks)


def _without_na(X: Any) -> Any:
    """Write NaN where pandas' NA stands in an array of objects, or in lists."""
    is_array = isinstance(X, np.ndarray)
    if not (X.dtype.kind == "O" if is_array else isinstance(X, list | tuple)):
        return X
    try:
        cells = np.asarray(X, dtype=object)
    except ValueError:  # no table: scikit-learn says so
        return X
    gone = pd.isna(cells)
    return np.where(gone, np.nan, cells) if cells.ndim == 2 and gone.any() else X


@contextmanager
def _explained(X: Any, *, is_fit: bool) -> Iterator[None]:
    """Say what to do about text and infinity in an array whose validation fails."""
    try:
        yield
    except ValueError as error:
        if "could not convert string" in str(error):
            expected = "numbers, as in the fit: convert it first"
            if is_fit:
                expected = (
                    "numbers: name its columns in categorical_features, or pass a "
                    "dataframe"
                )
            raise ValueError(
                f"got text in an array ({error}), but expected {expected}."
            ) from error
        if "infinity" in str(error):
            infinite = np.isinf(np.asarray(X, dtype=np.float64)).any(axis=0)
            raise ValueError(
                f"got infinite values in the columns {np.flatnonzero(infinite)}, "
                "counted from 0, but expected finite numbers or missing cells (NaN): "
                "replace infinity first."
            ) from error
        raise


def read_weight(
    sample_weight: Any, rows: np.ndarray, fewest: int = 2
) -> np.ndarray | None:
    """Validate weights of rows, of which a few at least are above zero."""
    if sample_weight is None:
        return None
    weight = _check_sample_weight(
        sample_weight, rows, dtype=np.float64, ensure_non_negative=True
    )
    if (n_weighted := np.count_nonzero(weight)) < fewest:
        raise ValueError(
            f"got {n_weighted} row with a sample_weight above zero, but expected at "
            f"least {fewest}."
        )
    return weight


def read_given(given: Any) -> dict[Any, Any]:
    """Return what columns shall hold as a dict: of a mapping, or a row of a frame."""
    if given is None:
        return {}
    if not isinstance(given, Mapping | pd.Series):
        raise ValueError(
            f"got given of type {type(given).__name__}, but expected a dict of column "
            "to value, such as {'kind': 'dog'}, or a row of a dataframe as a Series."
        )
    return dict(given)


def check_choice(name: str, choice: Any, choices: Collection[str]) -> None:
    """Refuse what is not one of some words."""
    if choice not in choices:
        raise ValueError(
            f"got {name}={choice!r}, but expected one of {sorted(choices)}."
        )


def check_count(name: str, count: Any) -> None:
    """Refuse a number of draws that is none."""
    if not isinstance(count, Integral) or count < 1:
        raise ValueError(
            f"got {name}={count!r}, but expected an integer of at least 1."
        )
