"""Columns of any dataframe library as plain values, and back.

What is kept of a fit shall load without the library that the table came from, and hold
nothing but values that any file can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
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
        plain = str if _is_decimal(dtype) else _plain
        gone = [cell for cell in raw if pd.isna(cell)]
        cells = [None if pd.isna(cell) else plain(cell) for cell in raw]
        missing = str(gone[0]) if gone else "None"
        return cls(column.name, library, dtype, cells, missing)

    def of_cells(self, cells: list[Any]) -> ColumnSample:
        """Return a sample of the same dtype with other cells."""
        return replace(self, cells=cells)

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

    @property
    def is_exact(self) -> bool:
        """Whether numbers of the dtype have a fixed number of decimals, or none."""
        return _is_decimal(self.dtype) or self.is_whole

    @property
    def is_whole(self) -> bool:
        """Whether numbers of the dtype are whole."""
        dtype = self.dtype.get("of", self.dtype)
        return "int" in str(dtype.get("name")).lower()

    def holding(self, numbers: np.ndarray) -> Any:
        """Make a column of the same dtype that holds numbers; NaN is missing.

        Numbers are rounded where the dtype asks for it.
        """
        make = {
            "pandas": _pandas_numbers,
            "polars": _polars_numbers,
            "pyarrow": _arrow_numbers,
        }.get(self.backend, _numbers)
        return make(self, numbers)


def joined(samples: Sequence[ColumnSample]) -> ColumnSample:
    """Return the cells of all samples of a column, with a dtype that holds them."""
    first = samples[0]
    cells = [cell for sample in samples for cell in sample.cells]
    dtypes = [sample.dtype for sample in samples]
    if all("categories" in dtype for dtype in dtypes):
        all_levels = [level for dtype in dtypes for level in dtype["categories"]]
        union = {"categories": list(dict.fromkeys(all_levels))}
        return replace(first, dtype=first.dtype | union, cells=cells)
    if all(dtype == first.dtype for dtype in dtypes):
        return first.of_cells(cells)
    if first.backend == "pandas":
        whole = nw.from_native(
            pd.concat([sample.series() for sample in samples]), series_only=True
        )
    else:
        whole = nw.new_series("x", cells, backend=first.backend)  # type: ignore[arg-type]
    return replace(ColumnSample.of(whole), name=first.name)


def _is_decimal(dtype: dict[str, Any]) -> bool:
    return "scale" in dtype or "scale" in dtype.get("of", ())


def _numbers(column: ColumnSample, numbers: np.ndarray) -> Any:
    dtype, backend = getattr(nw, column.dtype["name"], None), column.backend
    rounded = np.round(numbers).astype(object) if column.is_exact else numbers
    cells = [None if pd.isna(cell) else cell for cell in rounded.tolist()]
    return nw.new_series("x", cells, dtype, backend=backend).to_native()  # type: ignore[arg-type]


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
    if isinstance(dtype, pd.SparseDtype):
        fill = None if pd.isna(dtype.fill_value) else _plain(dtype.fill_value)
        return {"name": "sparse", "of": _pandas_dtype(dtype.subtype), "fill": fill}
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
    if dtype["name"] == "sparse":
        fill = np.nan if dtype["fill"] is None else dtype["fill"]
        return pd.SparseDtype(_pandas_dtype_of(dtype["of"]), fill)
    return pd.api.types.pandas_dtype(dtype["name"])


def _pandas_series(column: ColumnSample) -> pd.Series:
    cells, dtype = _decimals(column), _pandas_dtype_of(column.dtype)
    if column.dtype["name"] == "object":
        gone = _missing_object(column)
        cells = [gone if cell is None else cell for cell in cells]
    return pd.Series(cells, dtype=dtype, name=column.name)


def _missing_object(column: ColumnSample) -> Any:
    return {"nan": np.nan, "<NA>": pd.NA}.get(column.missing)


def _pandas_numbers(column: ColumnSample, numbers: np.ndarray) -> pd.Series:
    dtype = _pandas_dtype_of(column.dtype)
    if isinstance(dtype, pd.ArrowDtype):
        numbers = pd.arrays.ArrowExtensionArray(_arrow_numbers(column, numbers))
    elif column.dtype["name"] == "object":
        gone = np.isnan(numbers)
        numbers = numbers.astype(object)
        numbers[gone] = _missing_object(column)
    elif column.is_exact:
        numbers = np.round(numbers)
    return pd.Series(numbers, name=column.name).astype(dtype)


def _decimals(column: ColumnSample) -> list[Any]:
    """Return the cells, those of decimals as such."""
    if not _is_decimal(column.dtype):
        return column.cells
    return [None if cell is None else Decimal(cell) for cell in column.cells]


def _polars_dtype(dtype: Any) -> dict[str, Any]:
    name = dtype.base_type().__name__
    if name == "Enum":
        return {"name": name, "categories": dtype.categories.to_list()}
    if name == "Decimal":
        return {"name": name, "precision": dtype.precision, "scale": dtype.scale}
    return {"name": name}


def _polars_dtype_of(dtype: dict[str, Any]) -> Any:
    import polars as pl

    arguments = {key: value for key, value in dtype.items() if key != "name"}
    made = getattr(pl, dtype["name"])
    return made(**arguments) if arguments else made


def _polars_series(column: ColumnSample) -> Any:
    import polars as pl

    dtype = _polars_dtype_of(column.dtype)
    return pl.Series(column.name, _decimals(column), dtype=dtype)


def _polars_numbers(column: ColumnSample, numbers: np.ndarray) -> Any:
    import polars as pl

    dtype = _polars_dtype_of(column.dtype)
    if np.isnan(numbers).all():
        return pl.Series(column.name, [None] * len(numbers), dtype=dtype)
    series = pl.Series(column.name, numbers).fill_nan(None)
    if column.is_exact:
        series = series.round(column.dtype.get("scale", 0))
    return series.cast(dtype)


def _arrow_dtype(dtype: Any) -> dict[str, Any]:
    if hasattr(dtype, "index_type"):
        return {
            "name": "dictionary",
            "index": str(dtype.index_type),
            "of": str(dtype.value_type),
            "ordered": bool(dtype.ordered),
        }
    if hasattr(dtype, "scale"):
        name = f"decimal{dtype.bit_width}"
        return {"name": name, "precision": dtype.precision, "scale": dtype.scale}
    return {"name": str(dtype)}


def _arrow_type(dtype: dict[str, Any]) -> Any:
    import pyarrow as pa

    if "scale" in dtype:
        return getattr(pa, dtype["name"])(dtype["precision"], dtype["scale"])
    if dtype["name"] != "dictionary":
        return pa.type_for_alias(dtype["name"])
    index, of = (pa.type_for_alias(dtype[key]) for key in ("index", "of"))
    return pa.dictionary(index, of, dtype["ordered"])


def _arrow_array(column: ColumnSample) -> Any:
    import pyarrow as pa

    wanted = _arrow_type(column.dtype)
    if column.dtype["name"] != "dictionary":
        return pa.chunked_array([pa.array(_decimals(column), type=wanted)])
    encoded = pa.array(column.cells, type=wanted.value_type).dictionary_encode()
    return pa.chunked_array([encoded.cast(wanted)])


def _arrow_numbers(column: ColumnSample, numbers: np.ndarray) -> Any:
    import pyarrow as pa

    dtype = column.dtype.get("of", column.dtype)
    missing = np.isnan(numbers)
    if missing.all():
        cells = pa.nulls(len(numbers), _arrow_type(dtype))
    else:
        if column.is_exact:
            numbers = np.round(numbers, dtype.get("scale", 0))
        cells = pa.array(numbers, mask=missing).cast(_arrow_type(dtype))
    return pa.chunked_array([cells])
