"""A column of numbers as normal scores, by a smooth estimate of its density."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.special import ndtri

from ._summaries import copies

FEWEST_ROWS = 10  # of a cell, however small the table is
FEWEST_AT_THE_ENDS = 8  # of a cell where the column thins out
SAME = 1e-6  # of the quartile range: values that differ by rounding alone


class SmoothScores:
    """Map a column to the scores that it would have in a normal sample, smoothly.

    The column is cut into cells, each of so many rows that its share of them is hardly
    a matter of chance: the square root of all, and fewer towards both ends. A value
    that as many rows have is a cell of its own, a spike. The edges of the cells have
    the scores of their ranks; between them the map is a monotone rational quadratic
    spline [1]_, and beyond the last it bends as a logarithm, so that one value at a
    thousand deviations does not stand for the whole row. The slope of the map times the
    normal density of the scores is a density of the column, whose integral is one.

    On the way back all scores that belong to a spike lead to its value, so that spikes
    are drawn as often as they were seen, and no score leads out of the column's range.

    Parameters
    ----------
    column : ndarray of shape (n_samples,)
        Of two values at least; missing cells are NaN.
    sample_weight : ndarray of shape (n_samples,) or None

    Attributes
    ----------
    edges, at_edges : ndarray of shape (n_cells + 1,)
        Edges of the cells, and their scores.
    bends : ndarray of shape (2, n_cells)
        Slope of the map at the lower and the upper edge of each cell, as a multiple of
        the cell's mean slope.
    low, high : float
        Range of the column.
    spikes : ndarray of shape (n_spikes,)
    spike_scores : ndarray of shape (2, n_spikes)
        Lowest and highest score that leads to each spike.

    References
    ----------
    .. [1] Gregory, J. A. and Delbourgo, R. (1982). Piecewise rational quadratic
       interpolation to monotonic data. IMA Journal of Numerical Analysis 2, 123-130.
    """

    def __init__(self, column: np.ndarray, sample_weight: np.ndarray | None) -> None:
        weight = np.ones(len(column)) if sample_weight is None else sample_weight
        kept = ~np.isnan(column) & (weight > 0)
        values, which = np.unique(column[kept].astype(np.float64), return_inverse=True)
        self.low, self.high = values[0], values[-1]
        rows = np.bincount(which, copies(sample_weight, len(column))[kept])
        mass = np.bincount(which, weight[kept])
        fewest = max(FEWEST_ROWS, rows.sum() ** 0.5)
        starts, is_spike = _groups(values, rows, fewest)
        first, last = values[starts], values[np.r_[starts[1:], len(values)] - 1]
        rows, mass = np.add.reduceat(rows, starts), np.add.reduceat(mass, starts)
        share = mass / mass.sum()
        above = np.cumsum(share)
        below = above - share
        self.spikes = first[is_spike]
        self.spike_scores = ndtri(np.stack([below, above])[:, is_spike].clip(0, 1))
        cuts = _cuts(rows, is_spike, fewest)
        between = (last[:-1] + first[1:]) / 2
        # An end lies as far from its outermost value as the edge on the other side.
        ends = 2 * first[0] - between[0], 2 * last[-1] - between[-1]
        lowest = 2 * ndtri(share[0] / 2) - ndtri(share[0])
        highest = ndtri(share[-1]) - 2 * ndtri(share[-1] / 2)
        edges = np.r_[ends[0], between[cuts], ends[1]]
        rising = np.diff(edges, prepend=-np.inf) > 0
        self.edges = edges[rising]
        self.at_edges = np.r_[lowest, ndtri(above[cuts]), highest][rising]
        self.bends = _bends(np.diff(self.at_edges) / np.diff(self.edges))

    def scores(self, column: np.ndarray) -> np.ndarray:
        """Return the scores of values, in their dtype."""
        cell, share = self._place(column)
        lower, upper = self.bends[:, cell]
        other = share * (1 - share)
        risen = (share**2 + lower * other) / (1 + (lower + upper - 2) * other)
        result = self.at_edges[cell] + risen * np.diff(self.at_edges)[cell]
        under, over = np.log1p(self._beyond(column))
        return (result - under + over).astype(column.dtype)

    def log_slope(self, column: np.ndarray) -> np.ndarray:
        """Return the logarithm of the slope of the scores."""
        cell, share = self._place(column)
        lower, upper = self.bends[:, cell]
        other = share * (1 - share)
        bent = upper * share**2 + 2 * other + lower * (1 - share) ** 2
        mean = np.log(np.diff(self.at_edges)) - np.log(np.diff(self.edges))
        inside = np.log(bent) - 2 * np.log1p((lower + upper - 2) * other)
        return mean[cell] + inside - np.log1p(self._beyond(column)).sum(axis=0)

    def inverse(self, scores: np.ndarray) -> np.ndarray:
        """Return the values that scores stand for."""
        cell = _cell(self.at_edges, scores)
        risen = (scores - self.at_edges[cell]) / np.diff(self.at_edges)[cell]
        risen = risen.clip(0, 1)
        lower, upper = self.bends[:, cell]
        # The root of a quadratic equation between 0 and 1, free of cancellation.
        linear = lower - risen * (lower + upper - 2)
        root = np.sqrt(linear**2 + 4 * (1 - linear) * risen)
        share = 2 * risen / (linear + root)
        values = self.edges[cell] + share * np.diff(self.edges)[cell]
        if len(self.spikes):
            low, high = self.spike_scores
            spike = np.searchsorted(low, scores, side="right").clip(1) - 1
            leads_there = (scores >= low[spike]) & (scores <= high[spike])
            values = np.where(leads_there, self.spikes[spike], values)
        return values.clip(self.low, self.high)

    def _place(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the cell of each value, and which share of it lies below."""
        cell = _cell(self.edges, column)
        share = (column - self.edges[cell]) / np.diff(self.edges)[cell]
        return cell, share.clip(0, 1)

    def _beyond(self, column: np.ndarray) -> np.ndarray:
        """Return how far values lie under and over the edges, in scores."""
        slopes = np.diff(self.at_edges)[[0, -1]] / np.diff(self.edges)[[0, -1]]
        far = np.stack([self.edges[0] - column, column - self.edges[-1]])
        return far.clip(0) * slopes[:, None]


def _cell(edges: np.ndarray, among: np.ndarray) -> np.ndarray:
    return np.searchsorted(edges, among).clip(1, len(edges) - 1) - 1


def _groups(
    values: np.ndarray, rows: np.ndarray, fewest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Take values for one that differ by rounding alone and make a spike together.

    Returns
    -------
    starts : ndarray of int of shape (n_groups,)
        The first value of each group.
    is_spike : ndarray of bool of shape (n_groups,)
    """
    low, high = np.quantile(values, [0.25, 0.75])
    same = SAME * (high - low)
    begins = np.diff(values, prepend=-np.inf) > same
    group = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    last = np.r_[first[1:], len(values)] - 1
    # The values of a table of millions lie as close, one by one, and are not the same.
    is_narrow = values[last] - values[first] <= 2 * same
    is_spike = (np.bincount(group, rows) >= fewest) & is_narrow
    starts = np.flatnonzero(begins | ~is_spike[group])
    return starts, is_spike[group][starts]


def _cuts(rows: np.ndarray, is_spike: np.ndarray, fewest: float) -> np.ndarray:
    """Choose the groups of values behind which a cell ends."""
    around = np.flatnonzero(is_spike[:-1] | is_spike[1:])
    cuts = [around]
    for start, stop in pairwise(np.unique([0, *(around + 1), len(rows)])):
        above = np.cumsum(rows[start:stop])
        size = above[-1] / max(above[-1] // fewest, 1)
        wanted = np.arange(size, above[-1], size)
        halves = size / 2.0 ** np.arange(1, 64)
        halves = halves[halves >= FEWEST_AT_THE_ENDS]
        low = halves if start == 0 else []
        high = above[-1] - halves if stop == len(rows) else []
        cuts.append(start + np.searchsorted(above, np.r_[wanted, low, high]))
    chosen = np.unique(np.concatenate(cuts))
    return chosen[chosen < len(rows) - 1]


def _bends(slopes: np.ndarray) -> np.ndarray:
    """Let neighbouring cells meet with the harmonic mean of their mean slopes."""
    bends = np.ones((2, len(slopes)))
    steeper = slopes[1:] / slopes[:-1]
    bends[1, :-1] = 2 * steeper / (1 + steeper)
    bends[0, 1:] = 2 / (1 + steeper)
    return bends
