"""Which mixtures make held-out rows likeliest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

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
MOST_WORK = 1e8  # multiplications in a step of EM: a second or two a fit
PATTERN_WORK = 30_000  # multiplications that one part of one pattern costs beside


@dataclass(frozen=True)
class Choice:
    """A mixture as the rows that judge have seen it, and what it is on all rows."""

    judged: Mixture
    final: Mixture


@one_thread
def choose_mixture(
    X: np.ndarray,
    seen: np.ndarray,
    weight: np.ndarray,
    judged_X: np.ndarray,
    judged_seen: np.ndarray,
    judged_weight: np.ndarray,
    levels: LevelColumns,
    scales: np.ndarray,
    floor: np.ndarray,
    seed: int,
    safeguard: Density | None = None,
) -> Choice | None:
    """Fit mixtures and stack those under which other rows are likeliest.

    Mixtures of several sizes together are likelier, by a nat on the mean of eight
    tables, than the best one alone.

    Parameters
    ----------
    X, judged_X : ndarray of shape (n_rows, n_columns), (n_judges, n_columns)
    seen, judged_seen : ndarray of bool of the same shapes
    weight, judged_weight : ndarray of shape (n_rows,), (n_judges,)
    levels : LevelColumns
    scales : ndarray of shape (n_numbers,)
        Standard deviations of the numbers.
    floor : ndarray of shape (n_numbers,)
        Smallest standard deviation of a number within a part.
    seed : int
    safeguard : Density or None
        What will stand beside the mixtures, with a small share: a wild row that judges
        is then told by that, and does not choose among mixtures that it is wild to.

    Returns
    -------
    choice : Choice or None
        None where the table has too few rows, or too many columns, for any.
    """

    def fitted(rows: WeightedRows, how: _How) -> Mixture:
        return _fit_as(how, rows, levels, seed).times(scales, floor)

    units = np.r_[scales, np.ones(levels.width)]
    judges = WeightedRows.distinct(judged_X, judged_seen, judged_weight)
    rows = WeightedRows.distinct(X / units, seen, weight).thinned(seed)
    least = np.full(len(judges), -np.inf)
    if safeguard is not None:
        known = safeguard.given(judges.X, judges.seen)
        least = np.log(DEFENCE) + known.log_density
    trials = _tried(partial(fitted, rows), judges, least, _families(rows, levels))
    if not trials:
        return None
    scores = np.column_stack([trial.scores for trial in trials])
    shares = stack(scores, np.zeros(len(trials)), judges.weight)
    every_row = WeightedRows.distinct(
        np.concatenate([X, judged_X]) / units,
        np.concatenate([seen, judged_seen]),
        np.concatenate([weight, judged_weight]),
    ).thinned(seed)
    final = [fitted(every_row, trial.how) for trial in trials]
    judged = [trial.mixture for trial in trials]
    return Choice(Mixture.of(judged, shares), Mixture.of(final, shares))


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
class _Trial:
    """A mixture, and what rows that judge think of it."""

    how: _How
    mixture: Mixture
    scores: np.ndarray
    score: float


def _tried(
    fitted: Callable[[_How], Mixture],
    judges: WeightedRows,
    least: np.ndarray,
    families: Iterable[list[_How]],
) -> list[_Trial]:
    """Return the mixtures under which the judges are likeliest, the best first.

    `least` is the log-density that each judge has without any.
    """
    trials = []
    for hows in families:
        best, best_size = -np.inf, 0
        for how in hows:
            mixture = fitted(how)
            scores = mixture.given(judges.X, judges.seen).log_density
            scores = np.logaddexp(scores, least)
            score = float(np.average(scores, weights=judges.weight))
            trials.append(_Trial(how, mixture, scores, score))
            if score > best:
                best, best_size = score, how.size
            elif how.size > 2 * best_size:
                break  # of one family, more parts than the best are ever worse
    return sorted(trials, key=lambda trial: -trial.score)[:MOST_STACKED]


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
