"""Which mixtures make held-out rows likeliest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..network._objectives import DEFENCE
from ._conditional import Density
from ._em import (
    LEAST_ROWS,
    MOST_PATTERNS,
    REGULARISATION,
    Kind,
    WeightedRows,
    fit_rows,
    frequencies_of,
    one_thread,
)
from ._level_columns import LevelColumns
from ._mixture import Mixture
from ._patterns import patterns_of
from ._stack import stack

SIZES = (1, 2, 3, 5, 8, 12, 20)  # parts of the mixtures to choose from
MOST_STACKED = 3  # mixtures in one
FARTHEST = 1e6  # deviations: beside wilder cells, rounding leaves no covariances
MOST_WORK = 1e8  # multiplications in a step of EM: a second or two a fit
PATTERN_WORK = 30_000  # multiplications that one part of one pattern costs beside


@dataclass(frozen=True)
class Trial:
    """Rows that mixtures are fitted to, and others that judge them.

    Attributes
    ----------
    rows, judges : WeightedRows
    safeguard : Density or None
        What will stand beside the mixtures, with a small share: a wild row that judges
        is then told by that, and does not choose among mixtures that it is wild to.
    """

    rows: WeightedRows
    judges: WeightedRows
    safeguard: Density | None = None

    @cached_property
    def least(self) -> np.ndarray:
        """Log-density that each judge has without any mixture."""
        if self.safeguard is None:
            return np.full(len(self.judges), -np.inf)
        known = self.safeguard.given(self.judges.X, self.judges.seen)
        return np.log(DEFENCE) + known.log_density

    def scores(self, mixture: Mixture) -> np.ndarray:
        """Log-density that each judge has with a mixture."""
        known = mixture.given(self.judges.X, self.judges.seen)
        return np.logaddexp(known.log_density, self.least)


@dataclass(frozen=True)
class Choice:
    """A mixture as the judges of each trial see it, and what it is on all rows."""

    judged: list[Mixture]
    final: Mixture


@one_thread
def choose_mixture(
    trials: Sequence[Trial],
    levels: LevelColumns,
    scales: np.ndarray,
    floor: np.ndarray,
    seed: int,
) -> Choice | None:
    """Fit mixtures and stack those under which other rows are likeliest.

    Mixtures of several sizes together are likelier, by a nat on the mean of eight
    tables, than the best one alone.

    Parameters
    ----------
    trials : sequence of Trial
        Rows and judges of each are, together, the same table.
    levels : LevelColumns
    scales : ndarray of shape (n_numbers,)
        Standard deviations of the numbers.
    floor : ndarray of shape (n_numbers,)
        Smallest standard deviation of a number within a part.
    seed : int

    Returns
    -------
    choice : Choice or None
        None where the table has too few rows, or too many columns, for any.
    """
    units = np.r_[scales, np.ones(levels.width)]
    middle = _medians(trials[0].rows) / units

    def scaled(rows: WeightedRows) -> WeightedRows:
        X = np.clip(rows.X / units, middle - FARTHEST, middle + FARTHEST)
        return replace(rows, X=X).thinned(seed)

    def fitted(how: _How, rows: WeightedRows) -> Mixture:
        return _fit_as(how, rows, levels, seed).times(scales, floor)

    parts = [scaled(trial.rows) for trial in trials]

    def judged(how: _How) -> _Candidate:
        mixtures = [fitted(how, rows) for rows in parts]
        pairs = zip(trials, mixtures, strict=True)
        scores = np.concatenate([trial.scores(mixture) for trial, mixture in pairs])
        return _Candidate(how, mixtures, scores, float(weight @ scores / weight.sum()))

    weight = np.concatenate([trial.judges.weight for trial in trials])
    candidates = _best(judged, _families(parts[0], levels))
    if not candidates:
        return None
    scores = np.column_stack([candidate.scores for candidate in candidates])
    shares = stack(scores, np.zeros(len(candidates)), weight)
    every_row = scaled(trials[0].rows.joined(trials[0].judges))
    of_each = zip(*[candidate.mixtures for candidate in candidates], strict=True)
    final = [fitted(candidate.how, every_row) for candidate in candidates]
    return Choice(
        [Mixture.of(mixtures, shares) for mixtures in of_each],
        Mixture.of(final, shares),
    )


def _medians(rows: WeightedRows) -> np.ndarray:
    """Return the median of what is seen of each column, 0 where nothing is."""
    columns = zip(rows.X.T, rows.seen.T, strict=True)
    return np.array([np.median(x[seen]) if seen.any() else 0.0 for x, seen in columns])


@dataclass(frozen=True)
class _How:
    """How a mixture is fitted.

    Attributes
    ----------
    size : int
        Number of parts.
    kind : {"full", "diag"}
    with_levels : bool
        Or levels are independent of the parts.
    """

    size: int
    kind: Kind
    with_levels: bool


@dataclass(frozen=True)
class _Candidate:
    """Mixtures, one for each trial, and what the judges think of them."""

    how: _How
    mixtures: list[Mixture]
    scores: np.ndarray
    score: float


def _best(
    judged: Callable[[_How], _Candidate], families: Iterable[list[_How]]
) -> list[_Candidate]:
    """Return the mixtures under which the judges are likeliest, the best first."""
    candidates = []
    for hows in families:
        best, best_size = -np.inf, 0
        for how in hows:
            candidate = judged(how)
            candidates.append(candidate)
            if candidate.score > best:
                best, best_size = candidate.score, how.size
            elif how.size > 2 * best_size:
                break  # of one family, more parts than the best are ever worse
    return sorted(candidates, key=lambda candidate: -candidate.score)[:MOST_STACKED]


def _fit_as(how: _How, rows: WeightedRows, levels: LevelColumns, seed: int) -> Mixture:
    if how.with_levels:
        return fit_rows(rows, how.size, how.kind, levels, REGULARISATION, seed)
    seen = rows.seen.copy()
    seen[:, rows.X.shape[1] - levels.width :] = False
    without = replace(rows, seen=seen)
    mixture = fit_rows(without, how.size, how.kind, levels, REGULARISATION, seed)
    chances = frequencies_of(rows.X, rows.seen, rows.weight, levels)
    return replace(mixture, chances=np.tile(chances, (len(mixture.weights), 1)))


def _families(rows: WeightedRows, levels: LevelColumns) -> Iterator[list[_How]]:
    """Yield the mixtures to try, by growing numbers of parts.

    Where parts are many and levels tell little of the numbers, mixtures of the numbers
    alone are likelier by a nat.
    """
    n_numbers = rows.X.shape[1] - levels.width
    for kind in _kinds(n_numbers):
        sizes = _sizes(rows, n_numbers, kind)
        yield [_How(size, kind, with_levels=True) for size in sizes]
        if levels.width and n_numbers:
            yield [_How(size, kind, with_levels=False) for size in sizes if size > 1]


def _kinds(n_numbers: int) -> tuple[Kind, ...]:
    """Return the kinds of covariance that differ for so many numbers."""
    return ("full", "diag") if n_numbers > 1 else ("diag",)


def _sizes(rows: WeightedRows, n_numbers: int, kind: Kind) -> list[int]:
    """Return the numbers of parts that a table has rows enough for."""
    n_rows, n_columns = rows.X.shape
    most = n_rows // LEAST_ROWS
    if kind == "full":
        most = min(most, max(n_rows // (2 * n_numbers), 1))
    n_patterns = sum(1 for _ in patterns_of(rows.seen[:, :n_numbers]))
    work = n_rows * (n_numbers**2 + n_columns)
    work += min(n_patterns, MOST_PATTERNS) * (n_numbers**3 + PATTERN_WORK)
    most = min(most, int(MOST_WORK / work))
    return [size for size in SIZES if size <= most]
