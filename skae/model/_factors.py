"""Mixtures whose numbers are linear in codes, with noise of each number's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import gen_batches

from ._codes_of_rows import CodesOfRows
from ._conditional import OfParts, Part
from ._em import REGULARISATION, frequencies_of
from ._leave_one_out import leave_one_out_of
from ._level_columns import TINY, LevelColumns, draw_index
from ._mixture import Mixture
from ._patterns import (
    LARGEST_STACK,
    Pattern,
    distinct_patterns,
    inverse_of_triangles,
    softmax,
)

REFINEMENTS = 3  # of a posterior mean: little noise leaves few digits


@dataclass(frozen=True)
class FactorMixture:
    """A mixture of codes, of numbers around planes in them, and of levels [1]_.

    In each part numbers are independent given the code: no matrix has more rows than
    there are components, however many columns there are.

    Attributes
    ----------
    codes : Mixture
    slopes : ndarray of shape (n_parts, 1 + n_components, n_numbers)
        The first is a constant.
    deviations : ndarray of shape (n_parts, n_numbers)
        Of numbers around the plane.
    chances : ndarray of shape (n_parts, n_indicators)
    levels : LevelColumns

    References
    ----------
    .. [1] Ghahramani, Z. and Hinton, G. E. (1996). The EM algorithm for mixtures of
       factor analyzers. Technical report CRG-TR-96-1, University of Toronto.
    """

    codes: Mixture
    slopes: np.ndarray
    deviations: np.ndarray
    chances: np.ndarray
    levels: LevelColumns

    @property
    def n_codes(self) -> int:
        return self.codes.n_numbers

    @property
    def n_numbers(self) -> int:
        return self.deviations.shape[1]

    @property
    def spans(self) -> tuple[slice, slice, slice]:
        """Columns of codes, numbers and indicators in a row that has them all."""
        first = self.n_codes + self.n_numbers
        return slice(self.n_codes), slice(self.n_codes, first), slice(first, None)

    def codes_of_rows(self, X: np.ndarray, seen: np.ndarray) -> CodesOfRows:
        """Condition codes on the seen cells of each row.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_numbers + n_indicators)
            Cells that are not seen may hold anything.
        seen : ndarray of bool of shape (n_rows, n_numbers + n_indicators)
        """
        parts = self._log_chances(X, seen)
        shape = *parts.shape, self.n_codes
        means, factors = np.empty(shape), np.empty((*shape, self.n_codes))
        numbers, known = X[:, : self.n_numbers], seen[:, : self.n_numbers]
        patterns = distinct_patterns(known)
        for part in range(parts.shape[1]):
            told = self._posterior(part, numbers, known, *patterns)
            parts[:, part] += told[0]
            means[:, part], factors[:, part] = told[1:]
        width = self.n_codes + self.n_numbers
        return CodesOfRows(parts, means, factors, width)

    def _posterior(
        self,
        part: int,
        X: np.ndarray,
        seen: np.ndarray,
        patterns: np.ndarray,
        which: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log-density of seen numbers in a part, and the Gaussian of their code.

        By Woodbury's identity and the determinant lemma, as in probabilistic PCA.
        """
        slopes, prior = self.slopes[part, 1:], self.codes.means[part]
        variances = self.deviations[part] ** 2
        pulls = slopes / variances
        outer = (slopes[:, None] * pulls).reshape(-1, self.n_numbers)
        of_prior = np.linalg.inv(self.codes.covariances[part])
        of_seen = patterns.astype(float) @ outer.T
        precisions = of_prior + of_seen.reshape(-1, *of_prior.shape)
        roots, log_determinants = _inverse_roots(precisions)
        factors = roots[which]
        mean = np.tile(prior, (len(X), 1))
        for _ in range(REFINEMENTS):
            left = np.where(seen, X - self.plane(part, mean), 0.0)
            slope = left @ pulls.T - (mean - prior) @ of_prior
            half = slope[:, None] @ factors
            mean += (half @ factors.swapaxes(1, 2))[:, 0]
        left = np.where(seen, X - self.plane(part, mean), 0.0)
        exponent = (left**2) @ (1 / variances)
        exponent += (((mean - prior) @ of_prior) * (mean - prior)).sum(axis=1)
        volume = seen @ np.log(2 * np.pi * variances) + log_determinants[which]
        volume -= np.linalg.slogdet(of_prior)[1]
        return -0.5 * (exponent + volume), mean, factors

    def given(self, X: np.ndarray, seen: np.ndarray) -> FactorConditional:
        """Condition on codes, and on the seen cells of each row beside them.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_components + n_numbers + n_indicators)
            Cells that are not seen may hold anything.
        seen : ndarray of bool of the same shape
            All codes are.
        """
        X, n_codes = np.where(seen, X, 0.0), self.n_codes
        codes, cells, known = X[:, :n_codes], X[:, n_codes:], seen[:, n_codes:]
        parts = self._log_chances(cells, known)
        every = np.ones(n_codes, dtype=bool)
        pattern = Pattern.of(self.codes.means, self.codes.covariances, every)
        parts += pattern.log_density(pattern.deviations(codes))
        numbers = cells[:, : self.n_numbers]
        mask = known[:, : self.n_numbers].astype(float)
        volumes = mask @ np.log(2 * np.pi * self.deviations**2).T
        for part, deviation in enumerate(self.deviations):
            left = self.plane(part, codes)
            left -= numbers
            left *= mask
            left *= left
            parts[:, part] -= 0.5 * (left @ deviation**-2.0 + volumes[:, part])
        return FactorConditional(self, X, seen, logsumexp(parts, axis=1), parts)

    def plane(self, part: int, codes: np.ndarray) -> np.ndarray:
        """Return the means of numbers in a part, given codes."""
        return np.asarray(np.c_[np.ones(len(codes)), codes] @ self.slopes[part])

    def _log_chances(self, X: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Log-chance of each part and of the seen levels, (n_rows, n_parts)."""
        levels = slice(self.n_numbers, None)
        of_levels = self.levels.log_chances(X[:, levels], seen[:, levels], self.chances)
        return np.asarray(np.log(self.codes.weights) + of_levels)


def independent_columns(
    X: np.ndarray, seen: np.ndarray, weight: np.ndarray, levels: LevelColumns
) -> FactorMixture:
    """Return the density of one part and no code that has the moments of seen cells."""
    n_numbers = X.shape[1] - levels.width
    numbers, known = X[:, :n_numbers], seen[:, :n_numbers]
    total = np.maximum(weight @ known, TINY)
    mean = weight @ np.where(known, numbers, 0.0) / total
    variance = weight @ np.where(known, numbers - mean, 0.0) ** 2 / total
    no_codes = Mixture(
        np.ones(1),
        np.empty((1, 0)),
        np.empty((1, 0, 0)),
        np.empty((1, 0)),
        LevelColumns(),
    )
    deviations = np.sqrt(variance + REGULARISATION)
    chances = frequencies_of(X, seen, weight, levels)
    planes = mean[None, None], deviations[None], chances[None]
    return FactorMixture(no_codes, *planes, levels)


def _inverse_roots(precisions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Cholesky factors of inverse matrices, and log-determinants of these.

    The triangle of a matrix turned around is, turned back, that of its inverse: nothing
    is lost where some directions are known far better than others.
    """
    turned = np.linalg.cholesky(precisions[:, ::-1, ::-1])
    roots = inverse_of_triangles(turned)[:, ::-1, ::-1].swapaxes(1, 2)
    volumes = np.log(turned.diagonal(axis1=1, axis2=2)).sum(axis=1)
    return np.ascontiguousarray(roots), 2 * volumes


@dataclass(frozen=True)
class FactorConditional(OfParts):
    """What a mixture of planes says of rows by their codes and seen cells.

    Attributes
    ----------
    mixture : FactorMixture
    X : ndarray of shape (n_rows, n_components + n_numbers + n_indicators)
    seen : ndarray of bool of the same shape
    log_density : ndarray of shape (n_rows,)
        Of the codes and the seen cells, in nats.
    log_parts : ndarray of shape (n_rows, n_parts)
        Log-density of each row and of its part.
    """

    mixture: FactorMixture
    X: np.ndarray
    seen: np.ndarray
    log_density: np.ndarray
    log_parts: np.ndarray

    @cached_property
    def memberships(self) -> np.ndarray:
        """Chance that each row is of each part, of shape (n_rows, n_parts)."""
        return softmax(self.log_parts)

    def leave_one_out(self) -> np.ndarray:
        """Log-density of each number and level given the codes and the others.

        Of shape (n_rows, n_features). Codes are not left out.
        """
        mixture = self.mixture
        features = np.arange(mixture.n_numbers + len(mixture.levels.widths))
        result = np.zeros((len(self.X), len(features)))
        size = LARGEST_STACK // max(self.log_parts.shape[1] * len(features), 1)
        for rows in gen_batches(len(self.X), max(1, size)):
            log_parts = self.log_parts[rows].T
            result[rows] = leave_one_out_of(log_parts, self._cells(rows))
        return result

    def _cells(self, rows: slice) -> np.ndarray:
        """Log-density of each cell given the code, (n_parts, n_rows, n_features)."""
        mixture, X, seen = self.mixture, self.X[rows], self.seen[rows]
        codes, numbers, levels = mixture.spans
        cells = mixture.levels.log_chances_of_cells(
            X[:, levels], seen[:, levels], mixture.chances
        )
        each = []
        for part, deviation in enumerate(mixture.deviations):
            left = (X[:, numbers] - mixture.plane(part, X[:, codes])) / deviation
            of_part = -0.5 * (left**2 + np.log(2 * np.pi * deviation**2))
            each.append(np.where(seen[:, numbers], of_part, 0.0))
        return np.concatenate([each, cells], axis=2)

    def parts(self) -> Iterator[Part]:
        """Yield the parts of the mixture."""
        mixture, codes = self.mixture, self.X[:, : self.mixture.n_codes]
        for part, chance in enumerate(self.memberships.T):
            levels, spread = mixture.levels.moments(mixture.chances[part])
            numbers = mixture.plane(part, codes)
            mean = np.c_[codes, numbers, np.tile(levels, (len(codes), 1))]
            noise = np.zeros(mixture.n_codes), mixture.deviations[part] ** 2, spread
            mean = np.where(self.seen, self.X, mean)
            yield Part(chance, mean, np.where(self.seen, 0.0, np.concatenate(noise)))

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each cell; the seen ones are as they are."""
        mixture, n_codes = self.mixture, self.mixture.n_codes
        codes, numbers = (
            self.X[:, :n_codes],
            slice(n_codes, n_codes + mixture.n_numbers),
        )
        mean, variance = np.zeros(self.X.shape), np.zeros(self.X.shape)
        chances = self.memberships @ mixture.chances
        levels = mixture.levels.moments(chances)
        mean[:, numbers.stop :], variance[:, numbers.stop :] = levels
        for part, chance in enumerate(self.memberships.T):
            mean[:, numbers] += chance[:, None] * mixture.plane(part, codes)
        variance[:, numbers] = self.memberships @ mixture.deviations**2
        for part, chance in enumerate(self.memberships.T):
            apart = mixture.plane(part, codes)
            apart -= mean[:, numbers]
            apart *= apart
            apart *= chance[:, None]
            variance[:, numbers] += apart
        return np.where(self.seen, self.X, mean), np.where(self.seen, 0.0, variance)

    def draws(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw whole rows, of shape (n, n_rows, n_columns), around the seen cells."""
        mixture, n_rows, n_codes = self.mixture, len(self.X), self.mixture.n_codes
        width = n_codes + mixture.n_numbers
        noise = generator.standard_normal((n, n_rows, width))
        uniform = generator.random((n, n_rows, 1))
        part = draw_index(self.memberships, uniform)
        for number in np.unique(part).tolist():
            draw, row = np.nonzero(part == number)
            numbers = mixture.plane(number, self.X[row, :n_codes])
            numbers += mixture.deviations[number] * noise[draw, row, n_codes:]
            noise[draw, row, n_codes:] = numbers
        levels = mixture.levels.draw(mixture.chances[part], generator)
        return np.where(self.seen, self.X, np.concatenate([noise, levels], axis=2))
