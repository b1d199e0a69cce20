"""Statistics of columns."""

from __future__ import annotations

import numpy as np
from sklearn.utils import gen_batches

from .._statistics import CHUNK_ROWS

MOST_DECIMALS = 4
DECIMALS_ROWS = 2000  # that the decimals are read from
QUARTILE_RANGE = 1.349  # between the quartiles of a standard normal column


def _range(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each column, NaN where it has none."""
    low = np.fmin.reduce(X, axis=0).astype(np.float64)
    return low, np.fmax.reduce(X, axis=0).astype(np.float64)


def copies(weight: np.ndarray | None, n_rows: int) -> np.ndarray:
    """Return how many rows each row stands for: its weight, where all are whole."""
    if weight is None or (weight % 1 != 0).any():
        return np.ones(n_rows)
    return weight


def _resolution(column: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Geometric mean, over the rows, of the distance between neighbouring values."""
    seen = ~np.isnan(column)
    values, which = np.unique(column[seen], return_inverse=True)
    counts = np.bincount(which, copies(weight, len(column))[seen], len(values))
    if len(values) < 2 or len(values) > counts.sum() / 2:
        return 0.0
    gaps = np.diff(values)
    around = (np.r_[gaps[0], gaps] + np.r_[gaps, gaps[-1]]) / 2
    return float(np.exp(np.average(np.log(around), weights=counts)))


def largest_share(column: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return the share of the seen cells that have the most frequent value."""
    seen = ~np.isnan(column)
    _, which = np.unique(column[seen], return_inverse=True)
    mass = np.bincount(which, None if weight is None else weight[seen])
    return float(mass.max() / mass.sum())


def _quartile_deviation(column: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return the deviation of a normal column with the same quartiles."""
    seen = ~np.isnan(column)
    if not seen.any():
        return 0.0
    values = np.repeat(column[seen], copies(weight, len(column))[seen].astype(int))
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / QUARTILE_RANGE


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
    low, high = _range(X)
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
