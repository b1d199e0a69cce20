"""Columns of any dataframe library as plain values, and back.

What is kept of a fit shall load without the library that the table came from, and hold
nothing but values that any file can.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd


@dataclass(frozen=True)
class ColumnSample:
    """Some cells of a column, with all that makes its dtype.

    Attributes
    ----------
    name : object
    backend : str
        "pandas", "polars", "pyarrow" or another that narwhals knows.
    dtype : dict of str to object
        What the library calls it, and what a name does not say.
    cells : list
        None where one is missing.
    missing : str
        What stands for a missing cell in a column of objects: "None", "nan" or "<NA>".
    """

    name: Any
    backend: str
    dtype: dict[str, Any]
    cells: list[Any] = field(default_factory=list)
    missing: str = "None"

    @classmethod
    def of(cls, column: nw.Series[Any]) -> ColumnSample:
        """Keep a column as plain values."""
        native, library = column.to_native(), str(column.implementation.value)
        describe = {"pandas": _pandas_dtype, "polars": _polars_dtype}.get(library)
        if library == "pyarrow":
            dtype, raw = _arrow_dtype(native.type), native.to_pylist()
        elif describe is not None:
            dtype, raw = describe(native.dtype), native.to_list()
        else:
            dtype, raw = {"name": str(column.dtype)}, column.to_list()
        gone = [cell for cell in raw if pd.isna(cell)]
        cells = [None if pd.isna(cell) else _plain(cell) for cell in raw]
        missing = str(gone[0]) if gone else "None"
        return cls(column.name, library, dtype, cells, missing)

    def series(self) -> Any:
        """Make the column again, in its library."""
        make = {"pandas": _pandas_series, "polars": _polars_series}.get(self.backend)
        if self.backend == "pyarrow":
            return _arrow_array(self)
        if make is not None:
            return make(self)
        dtype = getattr(nw, self.dtype["name"], None)
        backend: Any = self.backend
        series = nw.new_series("x", self.cells, dtype, backend=backend)
        return series.to_native()


def _plain(cell: Any) -> Any:
    return cell.item() if isinstance(cell, np.generic) else cell


def _pandas_dtype(dtype: Any) -> dict[str, Any]:
    if isinstance(dtype, pd.CategoricalDtype):
        categories = dtype.categories
        return {
            "name": "category",
            "categories": [_plain(level) for level in categories],
            "of": _pandas_dtype(categories.dtype),
            "ordered": bool(dtype.ordered),
        }
    if isinstance(dtype, pd.StringDtype):
        is_nan = dtype.na_value is not pd.NA
        return {"name": "string", "storage": dtype.storage, "nan": is_nan}
    if isinstance(dtype, pd.ArrowDtype):
        return {"name": "arrow", "of": _arrow_dtype(dtype.pyarrow_dtype)}
    return {"name": str(dtype)}


def _pandas_dtype_of(dtype: dict[str, Any]) -> Any:
    if dtype["name"] == "category":
        of = _pandas_dtype_of(dtype["of"])
        return pd.CategoricalDtype(
            pd.Index(dtype["categories"], dtype=of), dtype["ordered"]
        )
    if dtype["name"] == "string" and "storage" in dtype:
        return pd.StringDtype(dtype["storage"], np.nan if dtype["nan"] else pd.NA)
    if dtype["name"] == "arrow":
        return pd.ArrowDtype(_arrow_type(dtype["of"]))
    return pd.api.types.pandas_dtype(dtype["name"])


def _pandas_series(column: ColumnSample) -> pd.Series:
    cells, dtype = column.cells, _pandas_dtype_of(column.dtype)
    if column.dtype["name"] == "object":
        gone = {"nan": np.nan, "<NA>": pd.NA}.get(column.missing)
        cells = [gone if cell is None else cell for cell in cells]
    return pd.Series(cells, dtype=dtype, name=column.name)


def _polars_dtype(dtype: Any) -> dict[str, Any]:
    name = dtype.base_type().__name__
    if name == "Enum":
        return {"name": name, "categories": dtype.categories.to_list()}
    return {"name": name}


def _polars_series(column: ColumnSample) -> Any:
    import polars as pl

    dtype = getattr(pl, column.dtype["name"])
    if "categories" in column.dtype:
        dtype = dtype(column.dtype["categories"])
    return pl.Series(column.name, column.cells, dtype=dtype)


def _arrow_dtype(dtype: Any) -> dict[str, Any]:
    if hasattr(dtype, "index_type"):
        return {
            "name": "dictionary",
            "index": str(dtype.index_type),
            "of": str(dtype.value_type),
            "ordered": bool(dtype.ordered),
        }
    return {"name": str(dtype)}


def _arrow_type(dtype: dict[str, Any]) -> Any:
    import pyarrow as pa

    if dtype["name"] != "dictionary":
        return pa.type_for_alias(dtype["name"])
    index, of = (pa.type_for_alias(dtype[key]) for key in ("index", "of"))
    return pa.dictionary(index, of, dtype["ordered"])


def _arrow_array(column: ColumnSample) -> Any:
    import pyarrow as pa

    wanted = _arrow_type(column.dtype)
    if column.dtype["name"] != "dictionary":
        return pa.chunked_array([pa.array(column.cells, type=wanted)])
    encoded = pa.array(column.cells, type=wanted.value_type).dictionary_encode()
    return pa.chunked_array([encoded.cast(wanted)])
