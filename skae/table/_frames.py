"""Dataframes of any library, and arrays, to numbers and level codes, and back."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from ._containers import (
    Series,
    as_dense,
    as_frame,
    as_series,
    framed,
    join,
    replace,
    scatter,
    take,
)
from ._dtypes import ColumnSample
from ._unseen import check_levels, level_codes, tell_unseen

CATEGORICAL = (nw.String, nw.Boolean, nw.Categorical, nw.Enum)
PLAIN = {nw.Float64}
PLAIN_NAMES = {"pandas": "float64", "polars": "Float64", "pyarrow": "double"}
ADVICE = {
    "date": (
        "dates",
        "turn them into numbers first, for instance into days since a day, "
        "(X[name] - X[name].min()).dt.days in pandas, or into .dt.year and .dt.month",
    ),
    "text": (
        "text",
        "set categorical_features='from_dtype', name these columns there, or drop them",
    ),
    "other": ("values that are neither numbers nor text", "drop these columns first"),
}


class TableReader:
    """Read tables as matrices of numbers and level codes, and write them back.

    Parameters
    ----------
    categorical_features : "from_dtype", None, or array-like of bool, int or str
        As in `HistGradientBoostingClassifier`.

    Attributes
    ----------
    categorical_ : ndarray of bool of shape (n_features,)
    levels_ : dict of int to ndarray
        Levels of each categorical column, sorted.
    template_ : list of ColumnSample
        For each column one cell of each level and a missing one, or of numbers one
        cell, missing if there is such; empty where rows come back as plain arrays.
    backend_ : str or None
        Of the dataframe, as narwhals calls it; None for arrays.
    """

    def __init__(self, categorical_features: Any) -> None:
        self.categorical_features = categorical_features

    def fit(self, X: Any) -> TableReader:
        """Decide which columns are categorical."""
        frame = as_frame(X)
        if frame is None:
            shape = np.asarray(as_dense(X)).shape
            n_features = shape[1] if len(shape) == 2 else 0
            names: list[str] = []
        else:
            n_features, names = len(frame.columns), frame.columns
        self.categorical_ = np.zeros(n_features, dtype=bool)
        if isinstance(self.categorical_features, str):
            if frame is not None:
                kinds = [kind_of(column) for column in frame.iter_columns()]
                self.categorical_[:] = [kind in ("text", "level") for kind in kinds]
        elif self.categorical_features is not None:
            chosen = _chosen(self.categorical_features, names, n_features)
            self.categorical_[chosen] = True
        self.columns_: list[Any] = list(names) or list(range(n_features))
        self.levels_: dict[int, np.ndarray] = {}
        self.template_: list[ColumnSample] = []
        self.names_: list[Any] = []
        self.backend_ = None if frame is None else str(frame.implementation.value)
        return self

    @property
    def is_numeric(self) -> bool:
        return not self.categorical_.any()

    @property
    def is_array(self) -> bool:
        return self.backend_ is None

    def check_dtypes(self, X: Any, *, is_fit: bool = True) -> None:
        """Refuse columns of a dataframe that are neither numbers nor categorical."""
        frame = as_frame(X)
        if frame is None:
            return
        found: dict[str, list[str]] = {}
        pairs = zip(frame.iter_columns(), self.categorical_, strict=True)
        for column, categorical in pairs:
            kind = kind_of(column)
            is_wrong = kind in ADVICE and (kind == "date" or not categorical)
            if is_wrong and not column.is_null().all():
                found.setdefault(kind, []).append(column.name)
        for kind, names in found.items():
            content, advice = ADVICE[kind]
            expected = "numbers or categories"
            if kind == "text" and not is_fit:
                expected, advice = "numbers, as in the fit", "convert them first"
            raise ValueError(
                f"got columns of {content}, {names}, but expected {expected}: {advice}."
            )

    def learn_levels(self, X: Any) -> None:
        """Collect the levels of the categorical columns."""
        for feature, column in self._columns(X):
            if self.categorical_[feature]:
                values, missing = _values(column)
                self.levels_[feature] = _sorted_levels(values[~missing], column.name)

    def read(self, X: Any) -> np.ndarray:
        """Return a matrix of numbers and level codes.

        NaN stands where a cell is missing, and -1 where the fit had no such level. In
        single precision where all numbers are, else in double.
        """
        whole = self._read_at_once(X)
        if whole is not None:
            return whole
        columns = list(self._columns(X))
        dtypes = {c.dtype for j, c in columns if not self.categorical_[j]}
        dtype = np.float32 if dtypes == {nw.Float32} else np.float64
        n_rows = len(columns[0][1]) if columns else 0
        matrix = np.empty((n_rows, len(columns)), dtype, order="F")
        unseen: dict[Any, np.ndarray] = {}
        for feature, column in columns:
            values, missing = _values(column)
            if self.categorical_[feature]:
                levels = self.levels_[feature]
                check_levels(levels, values[~missing], column.name)
                codes, unseen[column.name] = level_codes(levels, values, missing)
                matrix[:, feature] = codes
            else:
                matrix[:, feature] = _numbers(values, missing, column.name)
        tell_unseen(unseen)
        return np.ascontiguousarray(matrix)

    def _read_at_once(self, X: Any) -> np.ndarray | None:
        """Return a frame of nothing but plain floats, which may have many columns."""
        frame = as_frame(X)
        if frame is None or not self.is_numeric or set(frame.schema.dtypes()) != PLAIN:
            return None
        matrix = frame.to_numpy()
        # Infinite cells are left to the way that names them.
        is_plain = matrix.dtype == np.float64 and not np.isinf(matrix).any()
        return matrix if is_plain else None

    def remember(self, X: Any, matrix: np.ndarray, weight: np.ndarray | None) -> None:
        """Keep the levels of rows that count, and what it takes to write such rows."""
        if weight is not None:
            self.keep_levels(matrix, weight > 0)
        if self.is_typed:
            self.remember_dtypes(X, matrix)

    def keep_levels(self, matrix: np.ndarray, rows: np.ndarray) -> None:
        """Forget the levels that none of these rows has, in place."""
        for feature, levels in self.levels_.items():
            codes = matrix[:, feature]
            kept = np.unique(codes[rows & ~np.isnan(codes)]).astype(int)
            new_codes = np.full(len(levels), np.nan)
            new_codes[kept] = np.arange(len(kept))
            seen = ~np.isnan(codes)
            matrix[seen, feature] = new_codes[codes[seen].astype(int)]
            self.levels_[feature] = levels[kept]

    def code_of(self, feature: int, name: Any, value: Any) -> float:
        """Return one value as `read` would."""
        if self.categorical_[feature]:
            levels = self.levels_[feature].tolist()
            is_missing = pd.api.types.is_scalar(value) and pd.isna(value)
            if is_missing or value not in levels:
                raise ValueError(
                    f"got given={{{name!r}: {value!r}}}, but expected a level of the "
                    f"fit, one of {levels[:20]}."
                )
            return float(levels.index(value))
        number = float(value) if isinstance(value, Real | Decimal) else np.nan
        if not np.isfinite(number):
            raise ValueError(
                f"got given={{{name!r}: {value!r}}}, but expected a finite number."
            )
        return number

    def remember_dtypes(self, X: Any, matrix: np.ndarray) -> None:
        """Keep of each column what it takes to write one like it."""
        self.template_, self.names_ = [], []
        self.range_ = np.fmin.reduce(matrix), np.fmax.reduce(matrix)
        for feature, column in self._columns(X):
            self.names_.append(column.name)
            cells = matrix[:, feature]
            if self.categorical_[feature]:
                _, rows = np.unique(cells, return_index=True)  # NaN comes last
                some = take(column, rows)
            else:
                row = int(np.isnan(cells).argmax())  # a missing one, if there is such
                some = column[row : row + 1]
            self.template_.append(ColumnSample.of(some))

    def samples(self, X: Any, rows: Sequence[np.ndarray]) -> list[ColumnSample]:
        """Return some cells of each column, by their rows."""
        columns = [column for _, column in self._columns(X)]
        return [
            ColumnSample.of(take(column, of))
            if len(of)
            else ColumnSample.of(column[:0])
            for column, of in zip(columns, rows, strict=True)
        ]

    @property
    def is_typed(self) -> bool:
        """Whether there is more to a row than its numbers: levels, dtypes, names."""
        return not (self.is_numeric and self.is_array)

    def write(self, matrix: np.ndarray, original: Any = None) -> Any:
        """Return rows in the container, with the dtypes and levels, of the fit.

        They get the index of the `original` that they stand for, if it has one.
        """
        if not self.is_typed:
            return matrix
        if self._is_plain and not np.isnan(matrix).any():
            return self.write_numbers(matrix.astype(np.float64), original)
        columns = [self._column(j, matrix[:, j]) for j in range(matrix.shape[1])]
        native = join(columns, as_frame(original))
        return native.to_numpy() if self.is_array else native

    @property
    def _is_plain(self) -> bool:
        """Whether all columns are floats that a frame can be made of at once."""
        names = {sample.dtype["name"] for sample in self.template_}
        return names == {PLAIN_NAMES.get(str(self.backend_))}

    def write_numbers(self, matrix: np.ndarray, original: Any) -> Any:
        """Return a number per cell in the container of the fit."""
        if self.is_array:
            return matrix
        return framed(matrix, self.columns_, str(self.backend_), original)

    def fill(self, X: Any, matrix: np.ndarray) -> Any:
        """Return `X` with its missing cells, and nothing else, taken from `matrix`."""
        frame = as_frame(X)
        if frame is None:
            return self._fill_array(X, matrix)
        columns = []
        for feature, column in self._columns(nw.maybe_reset_index(frame)):
            _, missing = _values(column)
            holes = np.flatnonzero(missing & ~np.isnan(matrix[:, feature]))
            if len(holes):
                column = self._fill_column(feature, column, holes, matrix[:, feature])
            columns.append(column)
        return join(columns, frame)

    def _fill_array(self, X: Any, matrix: np.ndarray) -> np.ndarray:
        filled = np.asarray(as_dense(X)).copy()
        for feature, values in enumerate(matrix.T):
            holes = pd.isna(filled[:, feature]) & ~np.isnan(values)
            if self.categorical_[feature]:
                levels = self.levels_[feature]
                filled[holes, feature] = levels[values[holes].astype(int)]
            else:
                filled[holes, feature] = values[holes]
        return filled

    def _fill_column(
        self, feature: int, column: Series, holes: np.ndarray, values: np.ndarray
    ) -> Series:
        backend, is_empty = column.implementation, len(holes) == len(column)
        if not self.categorical_[feature]:
            if is_empty and not column.dtype.is_numeric():
                return nw.new_series(column.name, values.tolist(), backend=backend)
            return scatter(column, holes, values[holes])
        wanted = self._column(feature, values)
        if wanted.implementation is not backend:
            cells = [None if pd.isna(cell) else cell for cell in wanted.to_list()]
            wanted = nw.new_series(column.name, cells, backend=backend)
        return wanted if is_empty else replace(column, holes, wanted)

    def _column(self, feature: int, values: np.ndarray) -> Series:
        """Make a column like the fitted one: codes become levels."""
        sample, name = self.template_[feature], self.names_[feature]
        if self.categorical_[feature]:
            codes = np.where(np.isnan(values), -1, values).astype(int)
            return take(as_series(sample.series(), name), codes)
        if sample.is_exact:
            low, high = self.range_
            values = values.clip(low[feature], high[feature])
        return as_series(sample.holding(values), name)

    def _columns(self, X: Any) -> Iterable[tuple[int, Series]]:
        frame = as_frame(X)
        if frame is None:
            array = np.asarray(X, dtype=None if hasattr(X, "__array__") else object)
            array = array.astype(object) if array.dtype.kind == "U" else array
            table = pd.DataFrame(array, dtype=array.dtype)
            frame = nw.from_native(table.rename(columns="x{}".format))
        return enumerate(frame.iter_columns())


def kind_of(column: Any) -> str:
    """Tell numbers from levels, text, dates and what cannot be read at all."""
    dtype = column.dtype
    if dtype.is_numeric():
        return "number"
    if isinstance(dtype, CATEGORICAL):
        return "text" if dtype == nw.String else "level"
    if dtype.is_temporal():
        return "date"
    if not isinstance(dtype, nw.Object | nw.Unknown):
        return "other"
    values, missing = _values(column)
    types = {type(value) for value in values[~missing]}
    if any(issubclass(t, str | bool | np.bool_) for t in types):
        return "text"
    if any(issubclass(t, datetime.date | datetime.time | np.datetime64) for t in types):
        return "date"
    numbers = all(issubclass(t, Real | Decimal) for t in types)
    return "number" if numbers else "other"


def _values(column: Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells and which of them are missing: null, or NaN."""
    values = column.to_numpy()
    missing = column.is_null().to_numpy().astype(bool)
    return values, missing | pd.isna(values)


def _sorted_levels(values: np.ndarray, name: str) -> np.ndarray:
    try:
        levels = np.asarray(pd.unique(values)).tolist()
    except TypeError as error:
        raise ValueError(
            f"got column {name!r} of {type(values[0]).__name__} objects, but expected "
            "numbers or categories: drop this column first."
        ) from error
    result = np.empty(len(levels), dtype=object)
    result[:] = levels
    return result[order_of_levels(levels)]


def order_of_levels(levels: Sequence[Any]) -> list[int]:
    """Return the places of levels in ascending order, by type where they are mixed."""
    places = list(range(len(levels)))
    try:
        return sorted(places, key=levels.__getitem__)
    except TypeError:  # numbers among words
        return sorted(places, key=lambda i: (type(levels[i]).__name__, str(levels[i])))


def _numbers(values: np.ndarray, missing: np.ndarray, name: str) -> np.ndarray:
    numbers = np.full(len(values), np.nan)
    try:
        numbers[~missing] = values[~missing].astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"got column {name!r} with cells that are not numbers ({error}), but "
            "expected numbers: name it in categorical_features, or drop it."
        ) from error
    if np.isinf(numbers).any():
        raise ValueError(
            f"got column {name!r} with infinite values, but expected finite numbers "
            "or missing cells (NaN): replace infinity first."
        )
    return numbers


def _chosen(features: Any, names: Sequence[str], n_features: int) -> np.ndarray:
    """Resolve the parameter `categorical_features` to a mask or indices."""
    chosen = np.asarray(features)
    expected = f"a mask of {n_features}, or indices or names of the table's columns"
    wrong = ValueError(
        f"got categorical_features={features!r}, but expected 'from_dtype', None, "
        f"{expected}{', ' + str(list(names)) if names else ''}."
    )
    if chosen.ndim != 1 or chosen.size == 0:
        if chosen.size == 0:
            return np.zeros(0, dtype=int)
        raise wrong
    if chosen.dtype.kind == "b" and len(chosen) == n_features:
        return chosen
    if chosen.dtype.kind in "iu" and (np.abs(chosen + 0.5) < n_features).all():
        return chosen
    if chosen.dtype.kind in "UO" and set(chosen) <= set(names):
        return np.array([names.index(name) for name in chosen])
    raise wrong
