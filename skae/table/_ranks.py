"""A column by the ranks of its values, and back."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from ._summaries import copies

MOST_KNOTS = 256
BESIDE = 5  # values on a side of a gap, whose spread it is measured by
VAST = 5.0  # times that spread


class NormalScores:
    """Map a column to the scores that its ranks would have in a normal sample.

    Equal values share the score of their mean rank (van der Waerden scores). Between
    the values the map is linear, and beyond them it goes on with the mean slope. On the
    way back all scores that belong to a repeated value lead to that value, so that
    spikes and whole numbers are drawn as often as they were seen.

    Parameters
    ----------
    column : ndarray of shape (n_samples,)
        Missing cells are NaN.
    sample_weight : ndarray of shape (n_samples,) or None

    Attributes
    ----------
    gaps : ndarray of shape (n_gaps, 2)
        Two neighbours each, between which there is nothing for far longer than beside
        them, as there is between -999 and other values.
    """

    def __init__(self, column: np.ndarray, sample_weight: np.ndarray | None) -> None:
        seen = ~np.isnan(column)
        weight = np.ones(len(column)) if sample_weight is None else sample_weight
        values, which = np.unique(column[seen].astype(np.float64), return_inverse=True)
        rows = copies(sample_weight, len(column))[seen]
        counts = np.bincount(which, rows, len(values))
        mass = np.bincount(which, weight[seen], len(values))
        above = np.cumsum(mass) / max(mass.sum(), np.finfo(float).tiny)
        below = above - mass / max(mass.sum(), np.finfo(float).tiny)
        before_gaps = np.flatnonzero(_vast_gaps(values))
        self.gaps = np.stack([values[before_gaps], values[before_gaps + 1]], axis=1)
        kept = _knots(above, before_gaps)
        self.values = values[kept]
        self.at_values = ndtri((above + below)[kept] / 2)
        repeated = counts[kept] > 1
        low = np.where(repeated, ndtri(below[kept]), self.at_values)
        high = np.where(repeated, ndtri(above[kept]), self.at_values)
        self.edges = np.stack([low, high], axis=1).ravel().clip(-10, 10)

    def scores(self, column: np.ndarray) -> np.ndarray:
        result = np.interp(column, self.values, self.at_values)
        low, high, slope = self.values[0], self.values[-1], self._mean_slope()
        result += np.minimum(column - low, 0) * slope
        result += np.maximum(column - high, 0) * slope
        return result.astype(column.dtype)

    def inverse(self, scores: np.ndarray) -> np.ndarray:
        return np.interp(scores, self.edges, np.repeat(self.values, 2))

    def chances(self, column: np.ndarray) -> np.ndarray:
        """Share of the column below each value."""
        inside = ndtr(np.interp(column, self.values, self.at_values))
        beyond = np.where(column < self.values[0], 0.0, inside)
        return np.where(column > self.values[-1], 1.0, beyond)

    def _mean_slope(self) -> float:
        run = self.values[-1] - self.values[0]
        return float((self.at_values[-1] - self.at_values[0]) / run) if run else 1.0


def _vast_gaps(values: np.ndarray) -> np.ndarray:
    """Tell after which of the sorted values there is nothing for long."""
    gaps = np.diff(values)
    if len(values) <= BESIDE:
        return np.zeros(len(gaps), dtype=bool)
    spreads, unknown = values[BESIDE:] - values[:-BESIDE], np.full(BESIDE, -np.inf)
    below, above = np.r_[unknown, spreads[:-1]], np.r_[spreads[1:], unknown]
    spread = np.maximum(below, above)
    return np.asarray((spread >= 0) & (gaps > VAST * spread))


def _knots(above: np.ndarray, before_gaps: np.ndarray) -> np.ndarray:
    """Choose values, evenly spaced by rank, with both ends and both sides of gaps."""
    if len(above) <= MOST_KNOTS:
        return np.arange(len(above))
    wanted = np.searchsorted(above, np.linspace(0, 1, MOST_KNOTS))
    wanted = np.r_[wanted.clip(0, len(above) - 1), before_gaps, before_gaps + 1]
    return np.unique(np.r_[0, wanted, len(above) - 1])
