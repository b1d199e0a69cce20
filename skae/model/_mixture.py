"""Gaussian mixtures of numbers and levels, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import logsumexp

from ._conditional import OfParts, Part
from ._leave_one_out import leave_one_out_of
from ._level_columns import LevelColumns, draw_index
from ._patterns import LARGEST_STACK, Groups, Pattern, patterns_of, softmax

LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Mixture:
    """A mixture; in each part numbers are Gaussian and levels independent [1]_.

    The matrix has the numbers first, and then the indicators of the levels.

    Attributes
    ----------
    weights : ndarray of shape (n_parts,)
    means : ndarray of shape (n_parts, n_numbers)
    covariances : ndarray of shape (n_parts, n_numbers, n_numbers)
    chances : ndarray of shape (n_parts, n_indicators)
        Of each level; where there is one indicator, of the second level of two.
    levels : LevelColumns

    References
    ----------
    .. [1] Hunt, L. and Jorgensen, M. (1999). Mixture model clustering using the
       MULTIMIX program. Australian & New Zealand Journal of Statistics 41, 154-171.
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    chances: np.ndarray
    levels: LevelColumns

    @classmethod
    def of(cls, mixtures: Sequence[Mixture], shares: np.ndarray) -> Mixture:
        """Put mixtures together by their shares, without those that have none."""
        pairs = zip(mixtures, shares, strict=True)
        kept = [(mixture, share) for mixture, share in pairs if share > LEAST_SHARE]
        weights = np.concatenate([share * m.weights for m, share in kept])
        return cls(
            weights / weights.sum(),
            np.concatenate([m.means for m, _ in kept]),
            np.concatenate([m.covariances for m, _ in kept]),
            np.concatenate([m.chances for m, _ in kept]),
            kept[0][0].levels,
        )

    @property
    def n_numbers(self) -> int:
        return self.means.shape[1]

    def at(self, n_points: int) -> Mixture:
        """Return the density itself: a closed form is not looked for at points."""
        return self

    def given(self, X: np.ndarray, seen: np.ndarray) -> MixtureConditional:
        """Condition on the seen cells of each row.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_columns)
            Cells that are not seen may hold anything.
        seen : ndarray of bool of shape (n_rows, n_columns)
            The indicators of one column are seen together.
        """
        X, n_numbers = np.where(seen, X, 0.0), self.n_numbers
        parts = np.log(self.weights) + self.levels.log_chances(
            X[:, n_numbers:], seen[:, n_numbers:], self.chances
        )
        groups = patterns_of(seen[:, :n_numbers])
        for pattern, rows in self._patterns(groups, wanted=False):
            parts[rows] += pattern.log_density(pattern.deviations(X[rows]))
        log_density = logsumexp(parts, axis=1)
        log_density[~seen.any(axis=1)] = 0.0  # where the weights' sum is rounded
        return MixtureConditional(self, X, seen, log_density, parts)

    def memberships(self, X: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
        """Chance that each row is of each part, of shape (n_rows, n_parts)."""
        seen = np.ones(X.shape, dtype=bool) if seen is None else seen
        return self.given(X, seen).memberships

    def sample(self, n_rows: int, generator: np.random.Generator) -> np.ndarray:
        """Draw rows of shape (n_rows, n_columns)."""
        nothing = np.zeros((n_rows, self.n_numbers + self.levels.width))
        return self.given(nothing, nothing.astype(bool)).draws(1, generator)[0]

    def times(self, scales: np.ndarray, floor: np.ndarray) -> Mixture:
        """Multiply the numbers, each part having a standard deviation of a floor."""
        covariances = self.covariances * np.outer(scales, scales)
        variances = covariances.diagonal(axis1=1, axis2=2)
        lacking = np.maximum(floor**2 - variances, 0)
        covariances = covariances + lacking[:, :, None] * np.eye(len(scales))
        return replace(self, means=self.means * scales, covariances=covariances)

    def _patterns(
        self, groups: Groups, *, wanted: np.ndarray | bool = True
    ) -> Iterator[tuple[Pattern, np.ndarray]]:
        """Yield the patterns of seen numbers and their rows, not too many at once."""
        most = max(1, LARGEST_STACK // max(self.means.size, 1))
        for columns, rows in groups:
            pattern = Pattern.of(self.means, self.covariances, columns, wanted)
            for start in range(0, len(rows), most):
                yield pattern, rows[start : start + most]


@dataclass(frozen=True)
class MixtureConditional(OfParts):
    """What a mixture says of rows by their seen cells.

    Attributes
    ----------
    mixture : Mixture
    X : ndarray of shape (n_rows, n_columns)
    seen : ndarray of bool of shape (n_rows, n_columns)
    log_density : ndarray of shape (n_rows,)
        Of the seen cells, in nats: a density of numbers and a chance of levels.
    log_parts : ndarray of shape (n_rows, n_parts)
        Log-density of each row and of its part.
    """

    mixture: Mixture
    X: np.ndarray
    seen: np.ndarray
    log_density: np.ndarray
    log_parts: np.ndarray

    @cached_property
    def memberships(self) -> np.ndarray:
        """Chance that each row is of each part, of shape (n_rows, n_parts)."""
        return softmax(self.log_parts)

    @property
    def effective_draws(self) -> np.ndarray:
        """Without end: this is a closed form."""
        return np.full(len(self.X), np.inf)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each cell; the seen ones are as they are."""
        mixture, n_numbers = self.mixture, self.mixture.n_numbers
        mean, variance = np.zeros(self.X.shape), np.zeros(self.X.shape)
        chances = self.memberships @ mixture.chances
        mean[:, n_numbers:], variance[:, n_numbers:] = mixture.levels.moments(chances)
        for pattern, rows in self._patterns():
            cells = np.ix_(rows, pattern.unseen)
            mean[cells], variance[cells] = pattern.moments(
                self.X[rows], self.memberships[rows]
            )
        return np.where(self.seen, self.X, mean), np.where(self.seen, 0.0, variance)

    def parts(self) -> Iterator[Part]:
        """Yield the parts of the mixture."""
        mixture, n_numbers = self.mixture, self.mixture.n_numbers
        shape = (len(mixture.weights), *self.X.shape)
        means, variances = np.zeros(shape), np.zeros(shape)
        levels = mixture.levels.moments(mixture.chances[:, None])
        means[:, :, n_numbers:], variances[:, :, n_numbers:] = levels
        for pattern, rows in self._patterns():
            known = pattern.expected(pattern.deviations(self.X[rows]))
            cells = (slice(None), rows[:, None], pattern.unseen)
            means[cells] = known + mixture.means[:, None, pattern.unseen]
            variances[cells] = (pattern.factors**2).sum(axis=2)[:, None]
        for part, chance in enumerate(self.memberships.T):
            mean = np.where(self.seen, self.X, means[part])
            yield Part(chance, mean, np.where(self.seen, 0.0, variances[part]))

    def draws(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw whole rows, of shape (n, n_rows, n_columns), around the seen cells."""
        mixture, n_rows = self.mixture, len(self.X)
        noise = generator.standard_normal((n, n_rows, mixture.n_numbers))
        part = np.empty((n, n_rows), dtype=int)
        for draw in range(n):
            uniform = generator.random((n_rows, 1))
            part[draw] = draw_index(self.memberships, uniform)
        levels = mixture.levels.draw(mixture.chances[part], generator)
        drawn = np.concatenate([noise, levels], axis=2)
        numbers = slice(mixture.n_numbers)
        for columns, rows in patterns_of(self.seen[:, numbers]):
            if not columns.all():
                self._draw_numbers(drawn, columns, rows, part)
        return np.where(self.seen, self.X, drawn)

    def leave_one_out(self) -> np.ndarray:
        """Log-density of each cell given the others of its row."""
        mixture, numbers = self.mixture, slice(self.mixture.n_numbers)
        n_features = mixture.n_numbers + len(mixture.levels.widths)
        result = np.zeros((len(self.X), n_features))
        groups = patterns_of(self.seen[:, numbers])
        for pattern, rows in mixture._patterns(groups, wanted=False):
            X, levels = self.X[rows], slice(mixture.n_numbers, None)
            cells = np.zeros((len(mixture.weights), len(rows), n_features))
            deviations = pattern.deviations(X)
            cells[:, :, pattern.seen] = pattern.leave_one_out(deviations)
            cells[:, :, levels] = mixture.levels.log_chances_of_cells(
                X[:, levels], self.seen[rows, levels], mixture.chances
            )
            result[rows] = leave_one_out_of(self.log_parts[rows].T, cells)
        return result

    def _patterns(self) -> Iterator[tuple[Pattern, np.ndarray]]:
        seen = self.seen[:, : self.mixture.n_numbers]
        return self.mixture._patterns(patterns_of(seen))

    def _draw_numbers(
        self, drawn: np.ndarray, seen: np.ndarray, rows: np.ndarray, part: np.ndarray
    ) -> None:
        """Turn the noise in some drawn rows into numbers of the part of each.

        Of the parts of a mixture, only those are looked at that any row is of.
        """
        mixture, part = self.mixture, part[:, rows]
        numbers = np.unique(part)
        of_parts = mixture.means[numbers], mixture.covariances[numbers]
        pattern = Pattern.of(*of_parts, seen)
        for which, number in enumerate(numbers.tolist()):
            draw, position = np.nonzero(part == number)
            row = rows[position]
            cells = (draw[:, None], row[:, None], pattern.unseen)
            drawn[cells] = pattern.draw(which, self.X[row], drawn[cells])
