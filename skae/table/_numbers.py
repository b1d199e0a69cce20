"""Numeric columns on one scale, with holes where cells are missing, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._scaling import likelier_scaling
from ._scores import SmoothScores
from ._summaries import (
    ColumnStatistics,
    SortedColumns,
    _decimals,
    column_range,
    largest_share,
    mean_and_deviation,
)

RARE = 0.99  # share of one value beyond which the others are rare
FARTHEST = 20  # deviations that the range of a column of rare values has at most
RESOLUTION_ROWS = 10_000
SORTED_CELLS = 1_000_000  # at a time


class ColumnScaler:
    """Bring numeric columns to one scale, and outputs back to the user's units.

    A column of which nearly all rows share one value has a scale of at least a
    twentieth of its range: a pixel that is rarely on would rule the few rows that have
    it. A constant column is centred and left at its scale on the way in, and comes back
    as its constant on the way out, whatever the networks say.

    Parameters
    ----------
    scalings : sequence of {"standard", "minmax", "quantile", "likelier", None}
        For each column: zero mean and unit variance; the range [0, 1]; normal scores,
        standardised; the first or the last of these; or as it is.

    Attributes
    ----------
    centre_, scale_ : ndarray of shape (n_features,)
        What is subtracted, and what is divided by.
    low_, high_ : ndarray of shape (n_features,)
        Range of each column.
    constant_ : ndarray of bool of shape (n_features,)
    decimals_ : ndarray of int of shape (n_features,)
        Decimals of the values, or -1 where there are more than four.
    resolution_ : ndarray of shape (n_features,)
        Distance between neighbouring values, as a geometric mean over the rows, in
        scaled units; zero where hardly a value occurs twice.
    quartile_deviation_ : ndarray of shape (n_features,)
        Standard deviation of a normal column with the same quartiles, in scaled units.
    scalings_ : list of {"standard", "minmax", "quantile", None}
        What is done to each column that varies.
    scores_ : dict of int to SmoothScores
        Of the columns that have them.
    """

    def __init__(self, scalings: Sequence[str | None]) -> None:
        self.scalings = tuple(scalings)

    def fit(
        self,
        X: np.ndarray,
        sample_weight: np.ndarray | None,
        known: ColumnStatistics | None = None,
    ) -> ColumnScaler:
        """Learn from rows, and from what is `known` of others that are not at hand."""
        low, high = (known.low, known.high) if known else column_range(X)
        # One rounding error of the largest value is not a variation of the column.
        magnitude = np.maximum(np.abs(low), np.abs(high))
        varies = high - low > 4 * np.finfo(X.dtype).eps * magnitude
        self.constant_ = ~varies
        self.low_, self.high_ = low, high
        self.decimals_ = _decimals(X)
        self.scalings_ = [
            likelier_scaling(X[:, j], sample_weight, X.shape[1])
            if scaling == "likelier" and varies[j]
            else scaling
            for j, scaling in enumerate(self.scalings)
        ]
        self.scores_ = {
            j: SmoothScores(X[:, j], sample_weight)
            for j in self._columns("quantile")
            if np.fmin.reduce(X[:, j]) < np.fmax.reduce(X[:, j]) and varies[j]
        }
        self.centre_, self.scale_ = mean_and_deviation(
            self._to_scores(X), sample_weight
        )
        if known:
            exact = [j for j in range(X.shape[1]) if j not in self.scores_]
            self.centre_[exact] = known.mean[exact]
            self.scale_[exact] = known.deviation[exact]
        for j in np.flatnonzero(high - low > FARTHEST * self.scale_):
            if j not in self.scores_ and largest_share(X[:, j], sample_weight) >= RARE:
                self.scale_[j] = (high - low)[j] / FARTHEST
        ranged, raw = self._columns("minmax"), self._columns(None)
        self.centre_[ranged], self.scale_[ranged] = low[ranged], (high - low)[ranged]
        self.scale_[self.constant_] = 1.0
        self.centre_[self.constant_] = np.nan_to_num(low[self.constant_])
        self.centre_[raw], self.scale_[raw] = 0.0, 1.0
        step = -(-len(X) // RESOLUTION_ROWS)
        some = self.encode(X[::step])
        weight = None if sample_weight is None else sample_weight[::step]
        self.resolution_, self.quartile_deviation_ = np.zeros((2, some.shape[1]))
        n_columns = max(1, SORTED_CELLS // len(some))
        for start in range(0, some.shape[1], n_columns):
            part = slice(start, start + n_columns)
            columns = SortedColumns.of(some[:, part], weight)
            self.resolution_[part] = columns.resolutions()
            self.quartile_deviation_[part] = columns.quartile_deviations()
        return self

    def _columns(self, scaling: str | None) -> list[int]:
        return [j for j, chosen in enumerate(self.scalings_) if chosen == scaling]

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Scale the rows in the dtype of `X`; holes stay NaN."""
        X = self._to_scores(X)
        centre = self.centre_.astype(X.dtype)
        # The rounding error keeps the digits of float32 columns far from zero.
        rounded_off = (self.centre_ - centre).astype(X.dtype)
        encoded = X - centre
        if rounded_off.any():
            encoded -= rounded_off
        encoded /= np.maximum(self.scale_.astype(X.dtype), np.finfo(X.dtype).tiny)
        return encoded

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        """Return rows in the user's units, in the dtype of `encoded`."""
        X = encoded * self.scale_.astype(encoded.dtype)
        X += self.centre_.astype(encoded.dtype)
        for j, scores in self.scores_.items():
            X[:, j] = scores.inverse(X[:, j])
        X[:, self.constant_] = self.low_[self.constant_]
        return X

    def within_range(self, X: np.ndarray) -> np.ndarray:
        """Clip rows to the fitted range, and round them as its values are."""
        X = np.clip(X, self.low_, self.high_)
        for j in np.flatnonzero((self.decimals_ >= 0) & ~self.constant_):
            X[:, j] = np.round(X[:, j], self.decimals_[j])
        return X

    def log_derivative(self, X: np.ndarray) -> np.ndarray:
        """Log of the slope of each cell's scaled value; zero where it is missing."""
        slope = np.broadcast_to(-np.log(self.scale_), X.shape).copy()
        for j, scores in self.scores_.items():
            slope[:, j] += scores.log_slope(X[:, j])
        return np.where(np.isnan(X), 0.0, slope)

    def _to_scores(self, X: np.ndarray) -> np.ndarray:
        if not self.scores_:
            return X
        encoded = X.copy()
        for j, scores in self.scores_.items():
            encoded[:, j] = scores.scores(X[:, j])
        return encoded
