"""Dataframes of any library, and arrays, to numbers and level codes, and back."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Number, Real
from typing import Any, TypeAlias

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config

from ._dtypes import ColumnSample

Series: TypeAlias = "nw.Series[Any]"
Frame: TypeAlias = "nw.DataFrame[Any]"
CATEGORICAL = (nw.String, nw.Boolean, nw.Categorical, nw.Enum)
ADVICE = {
    "date": (
        "dates",
        "turn them into numbers first, for instance into days since a day, "
        "(X[name] - X[name].min()).dt.days in pandas, or into .dt.year and .dt.month",
    ),
    "text": (
        "text",
        "leave categorical_features='from_dtype' for dataframes, name these columns "
        "in categorical_features, or drop them",
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
    template_ : list of ColumnSample or None
        For each column one cell of each level and a missing one, or of numbers one
        cell, missing if there is such; None where rows come back as plain arrays.
    """

    def __init__(self, categorical_features: Any) -> None:
        self.categorical_features = categorical_features

    def fit(self, X: Any) -> TableReader:
        """Decide which columns are categorical."""
        frame = as_frame(X)
        if frame is None:
            shape = np.asarray(X).shape
            n_features = shape[1] if len(shape) == 2 else 0
            names: list[str] = []
        else:
            n_features, names = len(frame.columns), frame.columns
        self.categorical_ = np.zeros(n_features, dtype=bool)
        if isinstance(self.categorical_features, str):
            if frame is not None:
                kinds = [kind_of(column) for column in frame.iter_columns()]
                self.categorical_ |= np.array([k in ("text", "level") for k in kinds])
        elif self.categorical_features is not None:
            chosen = _chosen(self.categorical_features, names, n_features)
            self.categorical_[chosen] = True
        self.columns_: list[Any] = list(names) or list(range(n_features))
        self.levels_: dict[int, np.ndarray] = {}
        self.template_: list[ColumnSample] = []
        self.names_: list[Any] = []
        self.is_array_ = frame is None
        self.is_typed_ = False
        return self

    @property
    def is_numeric(self) -> bool:
        return not self.categorical_.any()

    def check_dtypes(self, X: Any) -> None:
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
            raise ValueError(
                f"got columns of {content}, {names}, but expected numbers or "
                f"categories: {advice}."
            )

    def learn_levels(self, X: Any) -> None:
        """Collect the levels of the categorical columns."""
        for feature, column in self._columns(X):
            if self.categorical_[feature]:
                values, missing = _values(column)
                self.levels_[feature] = _sorted_levels(values[~missing], column.name)

    def read(self, X: Any) -> np.ndarray:
        """Return a float64 matrix, NaN where a cell is missing or its level unknown."""
        columns = list(self._columns(X))
        matrix = np.empty((len(columns[0][1]), len(columns)), order="F")
        for feature, column in columns:
            values, missing = _values(column)
            if self.categorical_[feature]:
                matrix[:, feature] = _codes(self.levels_[feature], values, missing)
            else:
                matrix[:, feature] = _numbers(values, missing, column.name)
        return np.ascontiguousarray(matrix)

    def remember(self, X: Any, matrix: np.ndarray, weight: np.ndarray | None) -> None:
        """Keep the levels of rows that count, and what it takes to write such rows."""
        if weight is not None:
            self.keep_levels(matrix, weight > 0)
        self.is_typed_ = self.is_typed(X, matrix)
        if self.is_typed_:
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
            levels = list(self.levels_[feature])
            if value not in levels:
                raise ValueError(
                    f"got given={{{name!r}: {value!r}}}, but expected a level of the "
                    f"fit, one of {levels[:20]}."
                )
            return float(levels.index(value))
        number = float(value) if isinstance(value, Real) else np.nan
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
            else:
                rows = np.argsort(~np.isnan(cells), kind="stable")[:1]
            self.template_.append(ColumnSample.of(_take(column, rows)))

    def is_typed(self, X: Any, matrix: np.ndarray) -> bool:
        """Tell whether rows come back as the table was: levels, dtypes, container.

        So does what `PCA` could not have taken; other tables come back as arrays.
        """
        return not self.is_numeric or (not self.is_array_ and np.isnan(matrix).any())

    def write(self, matrix: np.ndarray, original: Any = None) -> Any:
        """Return rows in the container, with the dtypes and levels, of the fit.

        They get the index of the `original` that they stand for, if it has one.
        """
        columns = [self._column(j, matrix[:, j]) for j in range(matrix.shape[1])]
        native = _join(columns, as_frame(original))
        return native.to_numpy() if self.is_array_ else native

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
        return _join(columns, frame)

    def _fill_array(self, X: Any, matrix: np.ndarray) -> np.ndarray:
        filled = np.array(X)
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
            return _scatter(column, holes, values[holes])
        wanted = self._column(feature, values)
        if wanted.implementation is not backend:
            cells = [None if pd.isna(cell) else cell for cell in wanted.to_list()]
            wanted = nw.new_series(column.name, cells, backend=backend)
        return wanted if is_empty else _replace(column, holes, wanted)

    def _column(self, feature: int, values: np.ndarray) -> Series:
        """Make a column like the fitted one: codes become levels."""
        native = self.template_[feature].series()
        template: Series = nw.from_native(native, series_only=True)
        template = template.alias(self.names_[feature])
        missing = np.isnan(values)
        if self.categorical_[feature]:
            return _take(template, np.where(missing, -1, values).astype(int))
        column = _take(template, np.zeros(len(values), dtype=int))
        seen = np.flatnonzero(~missing)
        if column.dtype.is_integer():
            low, high = self.range_
            values = values.clip(low[feature], high[feature])
        return _scatter(column, seen, values[seen]) if len(seen) else column

    def _columns(self, X: Any) -> Iterable[tuple[int, Series]]:
        frame = as_frame(X)
        if frame is None:
            array = np.asarray(X, dtype=None if hasattr(X, "__array__") else object)
            array = array.astype(object) if array.dtype.kind == "U" else array
            table = pd.DataFrame(array, dtype=array.dtype)
            frame = nw.from_native(table.rename(columns="x{}".format))
        return enumerate(frame.iter_columns())


def as_frame(X: Any) -> Frame | None:
    """Wrap a dataframe of any library; None for anything else."""
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    return frame if isinstance(frame, nw.DataFrame) else None


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
    numbers = all(issubclass(t, Number) for t in types)
    return "number" if numbers else "other"


def _values(column: Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells and which of them are missing: null, or NaN."""
    values = column.to_numpy()
    missing = column.is_null().to_numpy().astype(bool)
    return values, missing | pd.isna(values)


def _sorted_levels(values: np.ndarray, name: str) -> np.ndarray:
    try:
        levels = list(pd.unique(values))
    except TypeError as error:
        raise ValueError(
            f"got column {name!r} of {type(values[0]).__name__} objects, but expected "
            "numbers or categories: drop this column first."
        ) from error
    try:
        levels.sort()
    except TypeError:  # numbers among words
        levels.sort(key=lambda level: (type(level).__name__, str(level)))
    result = np.empty(len(levels), dtype=object)
    result[:] = levels
    return result


def _codes(levels: np.ndarray, values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    codes = pd.Index(levels, dtype=object).get_indexer(pd.Index(values, dtype=object))
    return np.where(missing | (codes < 0), np.nan, codes)


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


def _join(columns: list[Series], indexed: Frame | None) -> Any:
    """Put columns side by side, with the index of another frame if it has one."""
    frames = [column.to_frame() for column in columns]
    frame = nw.concat(frames, how="horizontal")
    index = None if indexed is None else nw.maybe_get_index(indexed)
    native = frame.to_native()
    if index is not None and nw.maybe_get_index(frame) is not None:
        native.index = index
    return native


def _take(column: Series, rows: np.ndarray) -> Series:
    return nw.maybe_reset_index(column[(rows % len(column)).tolist()])


def _scatter(column: Series, rows: np.ndarray, values: np.ndarray) -> Series:
    """Put numbers into a column of any numeric dtype, which it keeps."""
    if column.dtype.is_integer():
        new = np.round(values).astype(np.int64).tolist()
    else:
        new = values.tolist()
    dtype = column.dtype if column.dtype.is_numeric() else nw.Float64
    series = nw.new_series("", new, dtype, backend=column.implementation)
    return column.scatter(rows.tolist(), series)


def _replace(column: Series, rows: np.ndarray, other: Series) -> Series:
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
    return _take(both, chosen)


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


@contextmanager
def explain_text() -> Iterator[None]:
    """Say what to do about text in an array if its validation fails."""
    try:
        yield
    except ValueError as error:
        if "could not convert string" not in str(error):
            raise
        raise ValueError(
            f"got text in an array ({error}), but expected numbers: name its columns "
            "in categorical_features, or pass a dataframe."
        ) from error


def to_container(
    array: np.ndarray, columns: np.ndarray, estimator: Any, original: Any = None
) -> Any:
    """Return an array as the container that `set_output` asks of `estimator`."""
    wanted = _get_output_config("transform", estimator)["dense"]
    if wanted == "default":
        return array
    adapter = ADAPTERS_MANAGER.adapters[wanted]
    return adapter.create_container(array, original, columns=columns)
