"""Drawn numbers brought to the margins of a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import kstwobign

from ._summaries import _resolution, copies

MARGIN_KNOTS = 256  # of each margin that samples are brought to
SURE = 0.01  # chance of a distance that large between samples of one distribution


class Margins:
    """How the numbers of a table are spread, column by column.

    Parameters
    ----------
    numbers : ndarray of shape (n_samples, n_numbers)
        Missing cells are NaN.
    weight : ndarray of shape (n_samples,) or None
    """

    def __init__(self, numbers: np.ndarray, weight: np.ndarray | None) -> None:
        self.columns = [NormalScores(c, weight) for c in numbers.T]
        self.has_repeats = [_resolution(column, weight) > 0 for column in numbers.T]
        self.n_seen = copies(weight, len(numbers)) @ ~np.isnan(numbers)

    def matching(self, scores: np.ndarray, drawn: np.ndarray) -> Matching:
        """Learn how draws are to be moved.

        A column without repeated values whose margin could pass for the table's, by the
        test of Kolmogorov and Smirnov, is left alone: both margins are estimates, and
        to move numbers by their errors would blur what the columns are to each other.

        Parameters
        ----------
        scores : ndarray of shape (n_draws, n_numbers)
            What is drawn in place of the table, in scaled units, which have no ties.
        drawn : ndarray of shape (n_draws, n_numbers)
            The same in the units of the table.
        """
        return Matching(
            {
                j: (NormalScores(scores[:, j], None), wanted)
                for j, wanted in enumerate(self.columns)
                if self.has_repeats[j] or self._differs(j, drawn[:, j])
            }
        )

    def _differs(self, j: int, drawn: np.ndarray) -> bool:
        """Tell whether draws are surely not of the distribution of a column."""
        if self.n_seen[j] == 0:
            return False
        drawn = np.sort(drawn)
        steps = np.arange(len(drawn) + 1) / len(drawn)
        chances = self.columns[j].chances(drawn)
        distance = max((steps[1:] - chances).max(), (chances - steps[:-1]).max())
        size = len(drawn) * self.n_seen[j] / (len(drawn) + self.n_seen[j])
        return bool(kstwobign.sf(distance * size**0.5) < SURE)


@dataclass(frozen=True)
class Matching:
    """Move draws to the margins of a table, at their ranks.

    Attributes
    ----------
    pairs : dict of int to (NormalScores, NormalScores)
        Of what is drawn, in scaled units, and of the table.
    """

    pairs: dict[int, tuple[NormalScores, NormalScores]]

    def move(self, scores: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Return drawn numbers with the table's margins, at the ranks of the scores."""
        moved = drawn.copy()
        for j, (ranks, wanted) in self.pairs.items():
            moved[:, j] = wanted.inverse(ranks.scores(scores[:, j]))
        return moved


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
        kept = _knots(above)
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


def _knots(above: np.ndarray) -> np.ndarray:
    """Choose values, evenly spaced by rank, with both ends."""
    if len(above) <= MARGIN_KNOTS:
        return np.arange(len(above))
    wanted = np.searchsorted(above, np.linspace(0, 1, MARGIN_KNOTS))
    return np.unique(np.r_[0, wanted.clip(0, len(above) - 1), len(above) - 1])
