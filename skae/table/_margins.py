"""Drawn numbers brought to the margins of a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import kstwobign

from ._numbers import NormalScores
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
        self.columns = [NormalScores(c, weight, MARGIN_KNOTS) for c in numbers.T]
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
                j: (NormalScores(scores[:, j], None, MARGIN_KNOTS), wanted)
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
