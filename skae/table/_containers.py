"""Tables in the containers of dataframe libraries: wrapped, joined and converted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config

from ._dtypes import ColumnSample

Series: TypeAlias = "nw.Series[Any]"
Frame: TypeAlias = "nw.DataFrame[Any]"

OF_DASK = (
    "got a Dask {}, but expected a table in memory: pass its partitions one by one to "
    "partial_fit, write it to Parquet and pass the folder, or pass X.compute()."
)


def is_collection(X: Any) -> bool:
    """Tell what Dask has yet to compute, without importing Dask."""
    return any(c.__module__.partition(".")[0] == "dask" for c in type(X).__mro__)


def refuse_collection(X: Any) -> None:
    """Refuse what numpy would pull into memory without a word."""
    if is_collection(X):
        raise TypeError(OF_DASK.format(type(X).__name__))


def as_frame(X: Any) -> Frame | None:
    """Wrap a dataframe of any library; None for anything else in memory."""
    refuse_collection(X)
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    return frame if isinstance(frame, nw.DataFrame) else None


def as_dense(X: Any) -> Any:
    """Return a sparse matrix as an array, and anything else as it is."""
    return X.toarray() if sparse.issparse(X) else X


def as_series(native: Any, name: Any) -> Series:
    """Wrap a column of any library."""
    series: Series = nw.from_native(native, series_only=True)
    return series.alias(name)


def in_output(
    table: Any, names: Iterable[str], estimator: Any, original: Any = None
) -> Any:
    """Return a table as the container that `set_output` asks of `estimator`.

    Unless it asks for one, the table is left as it is. It gets the index of the
    `original` that it stands for, if that has one.
    """
    wanted = _get_output_config("transform", estimator)["dense"]
    if wanted == "default":
        return table
    if isinstance(table, np.ndarray) and table.dtype == object:
        table = pd.DataFrame(table, columns=list(names)).infer_objects()
    frame = as_frame(table)
    if frame is None:
        adapter = ADAPTERS_MANAGER.adapters[wanted]
        return adapter.create_container(table, original, columns=names)
    if frame.implementation.value == wanted:
        return table
    named = zip(frame.iter_columns(), names, strict=True)
    return join([_in_library(c, name, wanted) for c, name in named], None)


def _in_library(column: Any, name: str, library: Any) -> Series:
    cells = [None if pd.isna(cell) else cell for cell in column.to_list()]
    is_known = not isinstance(column.dtype, nw.Object | nw.Unknown)
    dtype = column.dtype if is_known else None
    if library == "pandas" and column.dtype.is_integer() and None in cells:
        dtype = nw.Float64()  # what pandas makes of whole numbers with holes
    return nw.new_series(name, cells, dtype, backend=library)


def framed(
    matrix: np.ndarray, names: Sequence[Any], library: str, original: Any
) -> Any:
    """Return numbers as a dataframe of a library, with the index of an original."""
    if library == "pandas":
        index = original.index if isinstance(original, pd.DataFrame) else None
        return pd.DataFrame(matrix, index=index, columns=list(names))
    backend: Any = library
    return nw.from_numpy(matrix, [str(n) for n in names], backend=backend).to_native()


def join(columns: list[Series], indexed: Frame | None) -> Any:
    """Put columns side by side, with the index of another frame if it has one."""
    frames = [column.to_frame() for column in columns]
    frame = nw.concat(frames, how="horizontal")
    index = None if indexed is None else nw.maybe_get_index(indexed)
    native = frame.to_native()
    if index is not None and nw.maybe_get_index(frame) is not None:
        native.index = index
    return native


def take(column: Series, rows: np.ndarray) -> Series:
    return nw.maybe_reset_index(column[(rows % len(column)).tolist()])


def scatter(column: Series, rows: np.ndarray, values: np.ndarray) -> Series:
    """Put numbers into a column of any numeric dtype, which it keeps."""
    like = ColumnSample.of(column[:0])
    if like.dtype["name"] == "sparse":  # whose cells cannot be set
        whole = column.to_numpy().astype(np.float64)
        whole[rows] = values
        return as_series(like.holding(whole), column.name)
    return column.scatter(rows.tolist(), as_series(like.holding(values), ""))


def replace(column: Series, rows: np.ndarray, other: Series) -> Series:
    """Take the cells of some rows from another column of levels."""
    chosen = np.arange(len(column))
    chosen[rows] += len(column)
    try:
        if other.dtype != column.dtype:
            other = other.cast(column.dtype)
        frames = [part.alias("x").to_frame() for part in (column, other)]
        both = nw.concat(frames, how="vertical")["x"].alias(column.name)
    except Exception:  # each library has its own for unlike levels
        cells = [cell for part in (column, other) for cell in part.to_list()]
        cells = [None if pd.isna(cell) else cell for cell in cells]
        both = nw.new_series(column.name, cells, backend=column.implementation)
    if both.dtype != column.dtype and isinstance(
        column.dtype, nw.Categorical | nw.Enum
    ):
        both = both.cast(nw.Categorical)
    return take(both, chosen)
