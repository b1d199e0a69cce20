"""Parts of one table that several processes hold: told, thinned and put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals
from scipy import sparse

from ._containers import as_frame


@dataclass(frozen=True)
class Part:
    """Some rows of a table in any container, or none, with their weights.

    Attributes
    ----------
    X : array, sparse matrix, dataframe or None
    weight : ndarray of shape (n_rows,) or None
    """

    X: Any = None
    weight: np.ndarray | None = None

    @classmethod
    def of(cls, X: Any, weight: Any = None) -> Part:
        """Make a part of what a user passes.

        Raises
        ------
        ValueError
            If it is no table, or weights are not as many as rows.
        """
        if X is None:
            return cls()
        whole = X if as_frame(X) is not None or sparse.issparse(X) else np.asarray(X)
        if not whole.shape:
            raise ValueError(
                f"got {type(X).__name__} as a table, but expected an array, a "
                "dataframe, or None in a process without rows."
            )
        n_rows = whole.shape[0]
        if n_rows == 0:
            return cls()
        if weight is None:
            return cls(whole)
        weight = np.asarray(weight, dtype=np.float64)
        weight = np.full(n_rows, weight) if weight.ndim == 0 else weight
        if weight.shape != (n_rows,):
            raise ValueError(
                f"got sample_weight of shape {weight.shape}, but expected "
                f"{(n_rows,)}, one for each row."
            )
        return cls(whole, weight)

    def __len__(self) -> int:
        return 0 if self.X is None else self.X.shape[0]

    @property
    def n_bytes(self) -> int:
        frame = as_frame(self.X)
        if frame is not None:
            return int(frame.estimated_size())
        if sparse.issparse(self.X):
            return int(self.X.data.nbytes)
        return 0 if self.X is None else int(self.X.nbytes)

    @property
    def form(self) -> dict[str, Any] | None:
        """What parts of one table have in common; None where there are no rows."""
        if self.X is None:
            return None
        frame = as_frame(self.X)
        if frame is not None:
            library, columns = str(frame.implementation.value), list(self.X.columns)
            columns = frame.columns if library != "pandas" else columns
        else:
            library = "sparse matrix" if sparse.issparse(self.X) else "array"
            columns = list(self.X.shape[1:])
        has_weight = self.weight is not None
        return {"container": library, "columns": columns, "sample_weight": has_weight}

    def thinned(self, share: float, seed: int) -> Part:
        """Return a share of the rows, drawn at random, in their order."""
        if share >= 1 or self.X is None:
            return self
        n_rows = max(round(share * len(self)), 1)
        chosen = np.random.default_rng(seed).choice(len(self), n_rows, replace=False)
        chosen.sort()
        weight = None if self.weight is None else self.weight[chosen]
        frame = as_frame(self.X)
        if frame is None:
            return Part(self.X[chosen], weight)
        return Part(frame[chosen.tolist(), :].to_native(), weight)

    @classmethod
    def joined(cls, parts: Sequence[Part]) -> Part:
        """Put parts of one form below each other; those without rows have no say."""
        some = [part for part in parts if part.X is not None]
        if not some:
            return cls()
        tables = [part.X for part in some]
        weights = [part.weight for part in some if part.weight is not None]
        weight = np.concatenate(weights) if weights else None
        if as_frame(tables[0]) is not None:
            return cls(_joined_frames(tables), weight)
        join = sparse.vstack if sparse.issparse(tables[0]) else np.concatenate
        return cls(join(tables), weight)


def check_same(name: str, values: list[dict[str, Any] | None]) -> None:
    """Refuse what differs between processes; those without rows say nothing."""
    said = [(rank, value) for rank, value in enumerate(values) if value is not None]
    for rank, value in said[1:]:
        first_rank, first = said[0]
        for key in first:
            if value[key] != first[key]:
                what = key if name == "parameters" else f"{key} of {name}"
                raise ValueError(
                    f"got {what} {first[key]!r} in process {first_rank} and "
                    f"{value[key]!r} in process {rank}, but expected the same in all."
                )


def _joined_frames(frames: list[Any]) -> Any:
    """Put dataframes below each other; numbers and levels may be of unlike dtypes."""
    library = str(nw.from_native(frames[0], eager_only=True).implementation.value)
    if library == "pandas":
        places = range(frames[0].shape[1])
        columns = [_joined_column([f.iloc[:, j] for f in frames]) for j in places]
        table = pd.concat(columns, axis=1)
        table.columns = frames[0].columns
        return table
    if library == "polars":
        import polars as pl

        return pl.concat(frames, how="vertical_relaxed")
    if library == "pyarrow":
        import pyarrow as pa

        return pa.concat_tables(frames, promote_options="permissive")
    whole = nw.concat([nw.from_native(f, eager_only=True) for f in frames])
    return whole.to_native()


def _joined_column(columns: list[pd.Series]) -> pd.Series:
    """Put columns below each other; one without a cell says nothing of the dtype."""
    telling = [column for column in columns if column.notna().any()]
    dtypes = {column.dtype for column in telling or columns}
    is_level = [isinstance(dtype, pd.CategoricalDtype) for dtype in dtypes]
    if len(dtypes) > 1 and all(is_level):
        whole = union_categoricals([c.reset_index(drop=True) for c in telling])
        dtypes = {whole.dtype}
    if len(dtypes) == 1:
        (dtype,) = dtypes
        if not (dtype.kind in "iub" and len(telling) < len(columns)):
            columns = [column.astype(dtype) for column in columns]
    return pd.concat(columns, ignore_index=True)
