"""A table of numbers and level codes to the networks' matrix, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from .._schema import KINDS, Block, Encoded
from ._levels import LevelEncoder
from ._numbers import ColumnScaler
from ._summaries import ColumnStatistics

# Of all rows: statistics of every column, and the weight of each level where one is.
Known: TypeAlias = tuple[ColumnStatistics, dict[int, np.ndarray]]


class TableEncoder:
    """Numbers on one scale and levels as indicators, and back.

    The matrix has the numeric columns first, then the columns of two levels as one
    indicator each, then those of more levels as one indicator per level. Indicators are
    centred, and have no other scale but that the single one of two levels is √2 times
    as large: the variance of a column is its Gini impurity, as in a table that is
    one-hot encoded. Levels beyond the 30 most frequent, and those of fewer than three
    rows, share an indicator.

    Parameters
    ----------
    kinds : sequence of str
        Of each column of the table: "categorical", or the likelihood of its numbers.
    scalings : sequence of {"standard", "minmax", "quantile", None}
        Of each column of the table; levels have none.

    Attributes
    ----------
    blocks_ : tuple of Block
    order_ : ndarray of int
        The table's columns in the order of the blocks, without those that are all
        missing or of one level.
    is_all_numbers_ : bool
        Whether the table's columns are those of the scaler, in the same order.
    centre_, scale_ : ndarray of shape (n_columns,)
        Of the matrix' columns.
    scaler_ : ColumnScaler
        Of the numeric columns.
    """

    def __init__(self, kinds: Sequence[str], scalings: Sequence[str | None]) -> None:
        self.kinds = tuple(kinds)
        self.scalings = tuple(scalings)

    def fit(
        self,
        X: np.ndarray,
        sample_weight: np.ndarray | None,
        known: Known | None = None,
    ) -> TableEncoder:
        """Learn from rows, and from what is `known` of others that are not at hand."""
        of_numbers, counts = known or (None, {})
        is_level = np.array([kind == "categorical" for kind in self.kinds])
        self.levels_ = {}
        for feature in np.flatnonzero(is_level).tolist():
            codes, weight = X[:, feature], sample_weight
            if feature in counts:  # a row for each level, that weighs as all of its own
                codes, weight = np.arange(len(counts[feature])), counts[feature]
            self.levels_[feature] = LevelEncoder(codes, weight)
        is_missing = np.isnan(X).all(axis=0)
        by_kind: dict[str, list[int]] = {}
        for feature, kind in enumerate(self.kinds):
            if kind != "categorical" and not is_missing[feature]:
                by_kind.setdefault(kind, []).append(feature)
        self.numeric_ = np.array([f for fs in by_kind.values() for f in fs], dtype=int)
        self.is_all_numbers_ = np.array_equal(self.numeric_, range(len(self.kinds)))
        scaler = ColumnScaler([self.scalings[f] for f in self.numeric_])
        self.scaler_ = scaler.fit(
            self._numbers(X),
            sample_weight,
            of_numbers and of_numbers.take(self.numeric_),
        )
        two = [f for f, level in self.levels_.items() if level.width == 1]
        many = [f for f, level in self.levels_.items() if level.width > 1]
        self.order_ = np.r_[self.numeric_, np.array(two + many, dtype=int)]
        widths = tuple(self.levels_[f].width for f in many)
        indicators = [self.levels_[f] for f in two + many]
        self.centre_ = np.concatenate(
            [self.scaler_.centre_, *(level.centre for level in indicators)]
        )
        self.scale_ = np.concatenate(
            [self.scaler_.scale_, *(level.scale for level in indicators)]
        )
        columns = {kind: (1,) * len(features) for kind, features in by_kind.items()}
        columns |= {"binary": (1,) * len(two), "categorical": widths}
        self.blocks_ = tuple(self._make_blocks(columns))
        return self

    def _make_blocks(self, columns: dict[str, tuple[int, ...]]) -> Iterator[Block]:
        start = 0
        for kind, widths in columns.items():
            part = slice(start, start + sum(widths))
            start = part.stop
            if widths:
                yield Block(
                    KINDS[kind],
                    widths,
                    self.centre_[part],
                    self.scale_[part],
                    self.scaler_.resolution_[part],
                    self.scaler_.quartile_deviation_[part],
                )

    @property
    def is_numeric(self) -> bool:
        return not self.levels_

    def encode(self, X: np.ndarray, weight: np.ndarray | None = None) -> Encoded:
        """Encode rows in their dtype."""
        matrix = self.scaler_.encode(self._numbers(X))
        if not self.is_numeric:
            indicators = [
                self.levels_[feature].encode(X[:, feature])
                for feature in self.order_[len(self.numeric_) :]
            ]
            matrix = np.concatenate([matrix, *indicators], axis=1, dtype=X.dtype)
        seen = self._seen(X)
        if seen is not None:
            np.nan_to_num(matrix, copy=False, posinf=np.inf, neginf=-np.inf)
        return Encoded(matrix, self.widths, seen, weight)

    @property
    def widths(self) -> list[int]:
        """Columns of the matrix for each of the table's, in the order of the blocks."""
        return [width for block in self.blocks_ for width in block.widths]

    def _seen(self, X: np.ndarray) -> np.ndarray | None:
        """Tell which cells are seen, in the order of the blocks; None if all are."""
        cells = X if self.is_all_numbers_ else X[:, self.order_]
        with np.errstate(over="ignore", invalid="ignore"):
            # One pass and no copy in the usual case.
            if self.is_numeric and not np.isnan(cells.sum()):
                return None
        seen = ~np.isnan(cells) & ~self._without_place(X)[:, self.order_]
        return None if seen.all() else seen

    def _without_place(self, X: np.ndarray) -> np.ndarray:
        """Tell which cells have a level that the fit did not have, nor rare ones."""
        found = np.zeros(X.shape, dtype=bool)
        levels = [f for f, level in self.levels_.items() if level.of_unseen is None]
        found[:, levels] = X[:, levels] < 0
        return found

    def check_range(self, table: np.ndarray, encoded: np.ndarray) -> None:
        """Refuse numbers that overflow, or that their likelihood has no place for."""
        if not self.blocks_ or np.isnan(table[:, self.order_]).all():
            raise ValueError(
                "got a table without numbers, and without a column of two levels that "
                "more than two rows have, but expected some of either."
            )
        if not (np.isfinite(encoded.min()) and np.isfinite(encoded.max())):
            raise ValueError(
                f"got columns that overflow {encoded.dtype} with scaling="
                f"{self.scaler_.scalings_[0]!r}; divide them by a constant first."
            )
        for kind in dict.fromkeys(self.kinds):
            chosen = np.array([name == kind for name in self.kinds])
            if KINDS[kind].domain == "unit interval":
                self._check_unit_interval(
                    kind, encoded[:, self.columns_of(chosen[self.order_])]
                )

    def check_counts(self, table: np.ndarray, names: Sequence[Any]) -> None:
        """Refuse values that are no counts in columns of counts, by their names."""
        for feature, kind in enumerate(self.kinds):
            if KINDS[kind].domain != "count":
                continue
            column = table[:, feature]
            wrong = column[(column < 0) | (column % 1 > 0)]
            if len(wrong):
                raise ValueError(
                    f"got {wrong[0]:g} in column {names[feature]!r}, which is not a "
                    f"count, but {kind!r} expects 0, 1, 2, ...: name the columns of "
                    "counts, likelihood={name: kind}."
                )

    def _check_unit_interval(self, kind: str, columns: np.ndarray) -> None:
        low, high = columns.min(), columns.max()
        if low < -1e-6 or high > 1 + 1e-6:
            raise ValueError(
                f"got values from {low:.3g} to {high:.3g} with scaling="
                f"{self.scalings[self.kinds.index(kind)]!r}, but {kind!r} "
                "expects values in [0, 1]: set scaling='minmax' or scaling='auto'."
            )

    def bounds(self, feature: int) -> tuple[float, float, bool]:
        """Return the range of a column of numbers, and whether all are whole."""
        (place,) = np.flatnonzero(self.numeric_ == feature)
        low, high = self.scaler_.low_[place], self.scaler_.high_[place]
        return low, high, bool(self.scaler_.decimals_[place] == 0)

    def can_hold(self, feature: int, value: float) -> bool:
        """Tell whether a column could have a value.

        Numbers of any sign may leave the range of the fit; whole numbers, shares and
        constants do not.
        """
        if feature not in self.numeric_:
            return True
        low, high, whole = self.bounds(feature)
        is_real = KINDS[self.kinds[feature]].domain == "real" and low < high
        inside = low <= value <= high or (is_real and not whole)
        return inside and not (whole and value % 1)

    @property
    def ignored(self) -> list[int]:
        """Columns of several levels that are all too rare to have an indicator."""
        return [
            feature
            for feature, level in self.levels_.items()
            if level.width == 0 and len(level.position) > 1
        ]

    def decode(
        self, matrix: np.ndarray, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """Return rows of the table, the largest indicator giving the level.

        Of levels that share an indicator `generator` draws one, or without it the most
        frequent is taken.
        """
        numbers = self.scaler_.decode(matrix[:, : len(self.numeric_)])
        if self.is_all_numbers_:
            return numbers
        X = np.full((len(matrix), len(self.kinds)), np.nan, matrix.dtype)
        X[:, self.numeric_] = numbers
        start = len(self.numeric_)
        for feature in self.order_[len(self.numeric_) :]:
            level = self.levels_[feature]
            part = matrix[:, start : start + level.width]
            X[:, feature] = level.decode(part, generator)
            start += level.width
        for feature, level in self.levels_.items():
            if level.width == 0:
                X[:, feature] = level.decode(np.empty((len(X), 0)), generator)
        return X

    def continuous(self, matrix: np.ndarray) -> np.ndarray:
        """Return the matrix with numbers and chances of levels for its columns."""
        n_numbers = len(self.numeric_)
        numbers = self.scaler_.decode(matrix[:, :n_numbers])
        indicators = matrix * self.scale_ + self.centre_
        return np.concatenate([numbers, indicators[:, n_numbers:]], axis=1)

    def within_range(self, X: np.ndarray) -> np.ndarray:
        """Keep numbers to the range and the decimals of the fit."""
        X[:, self.numeric_] = self.scaler_.within_range(X[:, self.numeric_])
        counts = [KINDS[kind].domain == "count" for kind in self.kinds]
        X[:, counts] = X[:, counts].round()
        return X

    def log_jacobian(self, X: np.ndarray) -> np.ndarray:
        """Log-density of the table's units less that of the matrix, per row, in nats.

        It holds the chance of each level among those that share its indicator, and that
        of a level which the fit did not have. What is a share of ones in the unit
        interval has a probability, in any units the same.
        """
        slopes = self.scaler_.log_derivative(self._numbers(X))
        kinds = [KINDS[self.kinds[feature]] for feature in self.numeric_]
        slopes[:, [kind.domain == "unit interval" for kind in kinds]] = 0.0
        total = slopes.sum(axis=1)
        return total + self.log_chances(X).sum(axis=1)

    def log_chances(self, X: np.ndarray) -> np.ndarray:
        """Log of the chance of each cell's level among those of its indicator."""
        chances = np.zeros(X.shape)
        for feature, level in self.levels_.items():
            chances[:, feature] = level.log_chance(X[:, feature], level.share)
        return chances

    def unseen_errors(self, X: np.ndarray) -> np.ndarray:
        """Squared errors of cells whose level has no place in the matrix, else zero."""
        errors = np.zeros(X.shape)
        errors[:, list(self.levels_)] = [
            level.error_of_unseen for level in self.levels_.values()
        ]
        return np.where(self._without_place(X), errors, 0.0)

    def columns_of(self, features: np.ndarray) -> np.ndarray:
        """Repeat values per feature, in the order of the blocks, for each column."""
        return np.repeat(features, self.widths, axis=-1)

    def _numbers(self, X: np.ndarray) -> np.ndarray:
        """Return the numeric columns, without a copy where there are no others."""
        return X if self.is_all_numbers_ else X[:, self.numeric_]
