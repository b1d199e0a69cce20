"""Drawn numbers brought to the margins of a table, and of its levels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.stats import kstwobign

from ._ranks import NormalScores
from ._summaries import SortedColumns, copies

SURE = 0.01  # chance of a distance that large between samples of one distribution
LEVEL_ROWS = 20  # that tell how a number is spread within a level
TELLING = 0.05  # of the variance of a number's ranks, that levels must explain
SCORED_CELLS = 1_000_000  # at a time


@dataclass(frozen=True)
class Margin:
    """How a number is spread, in the table or within one level of it.

    Attributes
    ----------
    scores : NormalScores
    has_repeats : bool
    n_seen : float
    """

    scores: NormalScores
    has_repeats: bool
    n_seen: float

    @classmethod
    def of(cls, column: np.ndarray, weight: np.ndarray | None) -> Margin:
        n_seen = float(copies(weight, len(column)) @ ~np.isnan(column))
        scores = NormalScores(column, weight)
        (resolution,) = SortedColumns.of(column[:, None], weight).resolutions()
        return cls(scores, resolution > 0, n_seen)

    def is_of(self, drawn: np.ndarray) -> bool:
        """Tell whether draws could pass for the column, by Kolmogorov and Smirnov."""
        if self.n_seen == 0 or self.has_repeats:
            return self.n_seen == 0
        drawn = np.sort(drawn)
        steps = np.arange(len(drawn) + 1) / len(drawn)
        chances = self.scores.chances(drawn)
        distance = max((steps[1:] - chances).max(), (chances - steps[:-1]).max())
        size = len(drawn) * self.n_seen / (len(drawn) + self.n_seen)
        return bool(kstwobign.sf(distance * size**0.5) >= SURE)

    def within(self, numbers: np.ndarray) -> np.ndarray:
        """Keep numbers in the range of what was seen, and out of its vast gaps."""
        if self.n_seen == 0:
            return numbers
        numbers = numbers.clip(self.scores.values[0], self.scores.values[-1])
        gaps = self.scores.gaps
        if not len(gaps):
            return numbers
        last = np.searchsorted(gaps[:, 0], numbers).clip(1) - 1  # that begins below
        low, high = gaps[last].T
        is_in_gap = (low < numbers) & (numbers < high)
        nearer = np.where(numbers - low < high - numbers, low, high)
        return np.where(is_in_gap, nearer, numbers)


@dataclass(frozen=True)
class MarginsOfNumber:
    """How one number is spread, within the levels that tell most of it.

    Attributes
    ----------
    whole : Margin
    column : int or None
        Among the columns of levels.
    of_levels : dict of int to Margin
        Of the levels that have rows enough; for the others there is the whole.
    """

    whole: Margin
    column: int | None
    of_levels: dict[int, Margin]

    @classmethod
    def of(
        cls,
        number: np.ndarray,
        whole: Margin,
        column: int | None,
        levels: np.ndarray,
        weight: np.ndarray | None,
    ) -> MarginsOfNumber:
        of_levels = {}
        for level, rows in _groups(levels, column):
            some = None if weight is None else weight[rows]
            margin = Margin.of(number[rows], some)
            if margin.n_seen >= LEVEL_ROWS:
                of_levels[level] = margin
        return cls(whole, column, of_levels)

    def groups(self, levels: np.ndarray) -> Iterator[tuple[int, Margin, np.ndarray]]:
        """Yield each level with a margin, -1 for the whole, and which rows have it."""
        rest = np.ones(len(levels), dtype=bool)
        for level, rows in _groups(levels, self.column):
            if level in self.of_levels:
                rest[rows] = False
                yield level, self.of_levels[level], rows
        if rest.any():
            yield -1, self.whole, np.flatnonzero(rest)


class Margins:
    """How the numbers of a table are spread.

    Parameters
    ----------
    numbers : ndarray of shape (n_samples, n_numbers)
        Missing cells are NaN.
    levels : ndarray of shape (n_samples, n_level_columns)
        Codes of levels.
    weight : ndarray of shape (n_samples,) or None
    """

    def __init__(
        self, numbers: np.ndarray, levels: np.ndarray, weight: np.ndarray | None
    ) -> None:
        wholes = [Margin.of(number, weight) for number in numbers.T]
        columns = _most_telling(numbers, wholes, levels, weight)
        self.of_numbers = [
            MarginsOfNumber.of(*number, levels, weight)
            for number in zip(numbers.T, wholes, columns, strict=True)
        ]

    def matching(
        self, scores: np.ndarray, drawn: np.ndarray, levels: np.ndarray
    ) -> Matching:
        """Learn how draws are to be moved.

        Those of a whole column that could pass for the table's are left alone: both
        margins are estimates, and to move numbers by their errors would blur what the
        columns are to each other. Within levels no doubt is enough: modes of a density
        reach into each other, and a few draws out of place there are seen at once.

        Parameters
        ----------
        scores : ndarray of shape (n_draws, n_numbers)
            What is drawn in place of the table, in scaled units, which have no ties.
        drawn : ndarray of shape (n_draws, n_numbers)
            The same in the units of the table.
        levels : ndarray of shape (n_draws, n_level_columns)
        """
        ranks = {}
        for j, margins in enumerate(self.of_numbers):
            for level, margin, rows in margins.groups(levels):
                of_level = scores[rows, j]
                if level == -1:
                    if margin.is_of(drawn[:, j]):
                        continue
                    of_level = scores[:, j]
                ranks[j, level] = NormalScores(of_level, None)
        return Matching(self.of_numbers, ranks)


@dataclass(frozen=True)
class Matching:
    """Move draws to the margins of a table, at their ranks.

    Attributes
    ----------
    of_numbers : list of MarginsOfNumber
    ranks : dict of (int, int) to NormalScores
        Of what is drawn of a number within a level, in scaled units.
    """

    of_numbers: list[MarginsOfNumber]
    ranks: dict[tuple[int, int], NormalScores]

    def move(
        self,
        scores: np.ndarray,
        drawn: np.ndarray,
        levels: np.ndarray,
        wanted: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return drawn numbers with the table's margins, at the ranks of the scores.

        Where only some are wanted, others stay as they are.
        """
        moved = drawn.copy()
        if wanted is None:
            wanted = np.ones(drawn.shape, dtype=bool)
        for j in np.flatnonzero(wanted.any(axis=0)).tolist():
            some = np.flatnonzero(wanted[:, j])
            for level, margin, which in self.of_numbers[j].groups(levels[some]):
                rows = some[which]
                if (ranks := self.ranks.get((j, level))) is not None:
                    of_ranks = ranks.scores(scores[rows, j])
                    moved[rows, j] = margin.scores.inverse(of_ranks)
                moved[rows, j] = margin.within(moved[rows, j])
        return moved


def _groups(levels: np.ndarray, column: int | None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the levels of a column, and the rows of each."""
    if column is None:
        return
    codes = np.nan_to_num(levels[:, column], nan=-1.0).astype(int)
    for level in np.unique(codes[codes >= 0]).tolist():
        yield level, np.flatnonzero(codes == level)


def _most_telling(
    numbers: np.ndarray,
    margins: list[Margin],
    levels: np.ndarray,
    weight: np.ndarray | None,
) -> list[int | None]:
    """Choose the column of levels that explains most of each number, if any does."""
    chosen: list[int | None] = []
    n_columns = max(1, SCORED_CELLS // len(numbers))
    for start in range(0, len(margins), n_columns):
        part = slice(start, start + n_columns)
        scores = np.full((len(numbers), len(margins[part])), np.nan)
        for j, margin in enumerate(margins[part]):
            if margin.n_seen:
                scores[:, j] = margin.scores.scores(numbers[:, start + j])
        explained = [np.full(len(margins[part]), TELLING)]
        explained += [_explained(scores, codes, weight) for codes in levels.T]
        best = np.argmax(explained, axis=0).tolist()
        chosen += [column - 1 if column else None for column in best]
    return chosen


def _explained(
    scores: np.ndarray, codes: np.ndarray, weight: np.ndarray | None
) -> np.ndarray:
    """Share of each number's variance that levels explain, less what chance would (ω²).

    `scores` are those of the numbers, side by side.
    """
    rows = np.flatnonzero(~np.isnan(codes))
    found, which = np.unique(codes[rows], return_inverse=True)
    places, shape = (which, np.arange(len(rows))), (len(found), len(rows))
    has_level = sparse.csr_array((np.ones(len(rows)), places), shape=shape)
    seen = ~np.isnan(scores[rows])
    mass = copies(weight, len(scores))[rows][:, None] * seen
    rows_mass = mass.sum(axis=0)
    deviations = np.where(seen, scores[rows], 0.0)
    deviations -= (mass * deviations).sum(axis=0) / np.maximum(rows_mass, 1)
    level_mass, sums = has_level @ mass, has_level @ (mass * deviations)
    between = (sums**2 / np.where(level_mass > 0, level_mass, 1)).sum(axis=0)
    total, n_levels = (mass * deviations**2).sum(axis=0), (level_mass > 0).sum(axis=0)
    free = rows_mass - n_levels
    noise = (total - between) / np.maximum(free, 1)
    explained = between - (n_levels - 1) * noise
    explained /= np.where(total > 0, total + noise, 1)
    exact = (total > 0) & (free > 0)
    return np.where((total <= between) | (free <= 0), exact, explained)
