"""Statistics of columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches

from .._statistics import CHUNK_ROWS

MOST_DECIMALS = 4
DECIMALS_ROWS = 2000  # that the decimals are read from
QUARTILE_RANGE = 1.349  # between the quartiles of a standard normal column


def column_range(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each column, NaN where it has none."""
    low = np.fmin.reduce(X, axis=0).astype(np.float64)
    return low, np.fmax.reduce(X, axis=0).astype(np.float64)


def copies(weight: np.ndarray | None, n_rows: int) -> np.ndarray:
    """Return how many rows each row stands for: its weight, where all are whole."""
    if weight is None or (weight % 1 != 0).any():
        return np.ones(n_rows)
    return weight


@dataclass(frozen=True)
class SortedColumns:
    """Columns in ascending order, each by itself.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_columns)
        Missing cells are NaN, and last.
    above : ndarray of shape (n_rows, n_columns)
        How many seen cells have been met, copies counted.
    """

    values: np.ndarray
    above: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, weight: np.ndarray | None) -> SortedColumns:
        if weight is None:
            values = np.sort(X, axis=0)
            return cls(values, np.cumsum(~np.isnan(values), axis=0, dtype=float))
        order = np.argsort(X, axis=0)
        values = np.take_along_axis(X, order, axis=0)
        counts = copies(weight, len(X))[order] * ~np.isnan(values)
        return cls(values, np.cumsum(counts, axis=0))

    def resolutions(self) -> np.ndarray:
        """Geometric mean, over the rows, of the distances of neighbouring values.

        Zero where hardly a value occurs twice.
        """
        begins = np.diff(self.values, axis=0, prepend=-np.inf) > 0
        n_values, n_seen = begins.sum(axis=0), self.above[-1]
        recur = (n_values >= 2) & (n_values <= n_seen / 2)
        resolutions = np.zeros(len(recur))
        for j in np.flatnonzero(recur):
            first = np.flatnonzero(begins[:, j])
            below = np.r_[0.0, self.above[first[1:] - 1, j], n_seen[j]]
            gaps = np.diff(self.values[first, j])
            around = (np.r_[gaps[0], gaps] + np.r_[gaps, gaps[-1]]) / 2
            resolutions[j] = np.exp(np.average(np.log(around), weights=np.diff(below)))
        return resolutions

    def quartile_deviations(self) -> np.ndarray:
        """Deviations of normal columns with the same quartiles."""
        low, high = self._quantiles(0.25), self._quantiles(0.75)
        return np.nan_to_num(high - low).astype(np.float64) / QUARTILE_RANGE

    def _quantiles(self, share: float) -> np.ndarray:
        """Return what lies so far up in each column, between two values linearly."""
        place = share * np.maximum(self.above[-1] - 1, 0)
        below = np.floor(place)
        low, high = self._at(below), self._at(np.ceil(place))
        return low + (place - below) * (high - low)

    def _at(self, place: np.ndarray) -> np.ndarray:
        """Return the values at places, of each column one, that count from zero."""
        row = (self.above <= place).sum(axis=0).clip(max=len(self.values) - 1)
        return np.take_along_axis(self.values, row[None], axis=0)[0]


@dataclass(frozen=True)
class ColumnStatistics:
    """What all rows say of each column, however many chunks they came in.

    Attributes
    ----------
    mass : ndarray of shape (n_columns,)
        Weight of the seen cells.
    low, high : ndarray of shape (n_columns,)
        NaN where no cell is seen.
    mean, deviation : ndarray of shape (n_columns,)
        Zero where no cell is seen.
    """

    mass: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, weight: np.ndarray | None) -> ColumnStatistics:
        mass = (np.ones(len(X)) if weight is None else weight) @ ~np.isnan(X)
        return cls(mass, *column_range(X), *mean_and_deviation(X, weight))

    @classmethod
    def of_sparse(cls, X: Any) -> ColumnStatistics:
        """Return those of a sparse matrix without missing cells, never made dense."""
        low, high = (f(axis=0).toarray().ravel() for f in (X.min, X.max))
        largest = np.maximum(np.abs(low), np.abs(high))
        unit = np.where(largest > 0, largest, 1)
        shares = X @ sparse.diags_array(1 / unit)
        mean = np.asarray(shares.mean(axis=0)).ravel()
        n_zeros = X.shape[0] - np.bincount(shares.indices, minlength=X.shape[1])
        deviations = shares.data - mean[shares.indices]
        squares = np.bincount(shares.indices, deviations**2, X.shape[1])
        variance = (squares + n_zeros * mean**2) / X.shape[0]
        mass = np.full(X.shape[1], float(X.shape[0]))
        return cls(mass, low, high, mean * unit, np.sqrt(variance) * unit)

    def merge(self, other: ColumnStatistics) -> ColumnStatistics:
        """Return what both say together, in any order the same but for rounding.

        References
        ----------
        Chan, T. F., Golub, G. H. and LeVeque, R. J. (1983). Algorithms for computing
        the sample variance. The American Statistician 37, 242-247.
        """
        mass = self.mass + other.mass
        total = np.where(mass > 0, mass, 1)
        here, there = self.mass / total, other.mass / total
        within = np.hypot(here**0.5 * self.deviation, there**0.5 * other.deviation)
        between = (here * there) ** 0.5 * (other.mean - self.mean)
        return ColumnStatistics(
            mass,
            np.fmin(self.low, other.low),
            np.fmax(self.high, other.high),
            here * self.mean + there * other.mean,
            np.hypot(within, between),
        )

    def squared_deviations(self) -> float:
        """Return the sum of those of all cells from the means of their columns."""
        return float(self.mass @ self.deviation**2)

    def have_moved(self, now: ColumnStatistics, share: float) -> np.ndarray:
        """Tell which columns are elsewhere now, by a share of their deviation."""
        moves = [now.mean - self.mean, now.deviation - self.deviation]
        far = np.abs(moves).max(axis=0) > share * self.deviation
        return far | ((self.mass == 0) & (now.mass > 0))

    def take(self, columns: np.ndarray) -> ColumnStatistics:
        """Return those of some columns."""
        return ColumnStatistics(*(array[columns] for array in vars(self).values()))


def largest_share(column: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return the share of the seen cells that have the most frequent value."""
    seen = ~np.isnan(column)
    _, which = np.unique(column[seen], return_inverse=True)
    mass = np.bincount(which, None if weight is None else weight[seen])
    return float(mass.max() / mass.sum())


def _decimals(X: np.ndarray) -> np.ndarray:
    """Count the decimals of each column's values, -1 if they are more than four."""
    X = np.nan_to_num(X[:: -(-len(X) // DECIMALS_ROWS)])
    decimals = np.full(X.shape[1], -1)
    for count in range(MOST_DECIMALS, -1, -1):
        scaled = X * 10.0**count
        tolerance = 1e-6 * np.minimum(np.abs(scaled), 1)
        whole = np.abs(scaled - np.round(scaled)) <= tolerance
        decimals[whole.all(axis=0) & (np.abs(scaled) < 1e9).all(axis=0)] = count
    return decimals


def mean_and_deviation(
    X: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of the seen cells per column, in two passes.

    The columns are divided by their largest magnitude first, so that the squares of
    values such as 1e200 or 1e-200 stay within the range of floating point.
    """
    low, high = column_range(X)
    largest = np.maximum(np.abs(low), np.abs(high))
    unit = np.where(largest > 0, largest, 1)
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    total, mean, variance = np.zeros((3, X.shape[1]))
    for rows in gen_batches(len(X), CHUNK_ROWS):
        total += weight[rows] @ ~np.isnan(X[rows])
        mean += weight[rows] @ np.nan_to_num(X[rows] / unit)
    total = np.where(total > 0, total, 1)
    mean /= total
    for rows in gen_batches(len(X), CHUNK_ROWS):
        variance += weight[rows] @ np.nan_to_num(X[rows] / unit - mean) ** 2
    return mean * unit, np.sqrt(variance / total) * unit
