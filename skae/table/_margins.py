"""Drawn numbers brought to the margins of a table."""

from __future__ import annotations

import numpy as np
from scipy.stats import ks_2samp

from ._numbers import NormalScores
from ._summaries import _resolution

MARGIN_KNOTS = 256  # of each margin that samples are brought to


class Margins:
    """Bring drawn numbers to the margins of a table, column by column and by rank.

    A column without repeated values whose margin could pass for the table's, by the
    test of Kolmogorov and Smirnov, is left alone: both margins are estimates, and to
    move numbers by their errors would blur what the columns are to each other.

    Parameters
    ----------
    table : ndarray of shape (n_samples, n_features)
        Missing cells are NaN.
    sample_weight : ndarray of shape (n_samples,) or None
    scores : ndarray of shape (n_draws, n_features)
        What is drawn in place of the table, in scaled units, which have no ties.
    drawn : ndarray of shape (n_draws, n_features)
        The same in the units of the table.
    """

    def __init__(
        self,
        table: np.ndarray,
        sample_weight: np.ndarray | None,
        scores: np.ndarray,
        drawn: np.ndarray,
    ) -> None:
        self.pairs = {
            j: (
                NormalScores(scores[:, j], None, MARGIN_KNOTS),
                NormalScores(column, sample_weight, MARGIN_KNOTS),
            )
            for j, column in enumerate(table.T)
            if _resolution(column) > 0 or _differ(column, drawn[:, j])
        }

    def match(self, scores: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Return drawn numbers with the table's margins, at the ranks of the scores."""
        matched = drawn.copy()
        for j, (ranks, wanted) in self.pairs.items():
            matched[:, j] = wanted.inverse(ranks.scores(scores[:, j]))
        return matched


def _differ(column: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two samples are surely not of one distribution."""
    seen = column[~np.isnan(column)]
    if len(seen) == 0:
        return False
    return bool(ks_2samp(seen, other, method="asymp").pvalue < 0.01)
