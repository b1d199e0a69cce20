"""The density of probabilistic PCA beside independent levels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from sklearn.utils import gen_batches

from ._conditional import OfParts, Part
from ._leave_one_out import without_each
from ._level_columns import LevelColumns
from ._patterns import LARGEST_STACK
from ._ppca import Conditional, ProbabilisticPCA

LEAST_FREE = 1e-6  # share of the noise of a number that its own code does not follow


@dataclass(frozen=True)
class LinearDensity:
    """Probabilistic PCA of the numbers times independent levels.

    Attributes
    ----------
    numbers : ProbabilisticPCA
    chances : ndarray of shape (n_indicators,)
        As in a mixture.
    levels : LevelColumns
    """

    numbers: ProbabilisticPCA
    chances: np.ndarray
    levels: LevelColumns

    @property
    def n_numbers(self) -> int:
        return len(self.numbers.mean)

    def at(self, n_points: int) -> LinearDensity:
        """Return the density itself: a closed form is not looked for at points."""
        return self

    def given(self, X: np.ndarray, seen: np.ndarray) -> LinearConditional:
        """Condition on the seen cells of each row, as a mixture does."""
        X, n_numbers = np.where(seen, X, 0.0), self.n_numbers
        log_density = self.numbers.log_density(X[:, :n_numbers], seen[:, :n_numbers])
        log_density += self.levels.log_chances(
            X[:, n_numbers:], seen[:, n_numbers:], self.chances[None]
        )[:, 0]
        return LinearConditional(self, X, seen, log_density)

    def scaled(self, factor: float) -> LinearDensity:
        """Return the density with deviations so many times as large."""
        numbers = ProbabilisticPCA(
            self.numbers.mean,
            factor * self.numbers.loadings,
            factor**2 * self.numbers.noise_variance,
        )
        return replace(self, numbers=numbers)

    def sample(self, n_rows: int, generator: np.random.Generator) -> np.ndarray:
        """Draw rows of shape (n_rows, n_columns)."""
        nothing = np.zeros((n_rows, self.n_numbers + self.levels.width))
        return self.given(nothing, nothing.astype(bool)).draws(1, generator)[0]


def linear_density(
    mean: np.ndarray,
    loadings: np.ndarray,
    noise_variance: float,
    chances: np.ndarray,
    levels: LevelColumns,
) -> LinearDensity:
    """Return N(mean, W Wᵀ + σ² I) of the numbers times independent levels.

    Its cost grows with the cube of the number of components alone.

    Parameters
    ----------
    mean : ndarray of shape (n_numbers,)
    loadings : ndarray of shape (n_numbers, n_components)
        W, in any axes.
    noise_variance : float
        σ².
    chances : ndarray of shape (n_indicators,)
    levels : LevelColumns
    """
    return LinearDensity(
        ProbabilisticPCA(mean, loadings, noise_variance), chances, levels
    )


@dataclass(frozen=True)
class LinearConditional(OfParts):
    """What a linear density says of rows by their seen cells.

    Attributes
    ----------
    density : LinearDensity
    X : ndarray of shape (n_rows, n_columns)
    seen : ndarray of bool of shape (n_rows, n_columns)
    log_density : ndarray of shape (n_rows,)
        Of the seen cells, in nats: a density of numbers and a chance of levels.
    """

    density: LinearDensity
    X: np.ndarray
    seen: np.ndarray
    log_density: np.ndarray

    @property
    def effective_draws(self) -> np.ndarray:
        """Without end: this is a closed form."""
        return np.full(len(self.X), np.inf)

    def parts(self) -> Iterator[Part]:
        """Yield the one part that this is."""
        density, n_numbers = self.density, self.density.n_numbers
        loadings, noise = density.numbers.loadings, density.numbers.noise_variance
        outer = _outer(loadings)
        mean, variance = np.zeros(self.X.shape), np.zeros(self.X.shape)
        mean[:, n_numbers:], variance[:, n_numbers:] = density.levels.moments(
            density.chances
        )
        for rows, known, covariances in self._codes():
            mean[rows, :n_numbers] = known.filled
            flat = covariances.reshape(len(covariances), -1)
            variance[rows, :n_numbers] = flat @ outer.T + noise
        mean, variance = np.where(self.seen, [self.X, 0 * self.X], [mean, variance])
        yield Part(np.ones(len(mean)), mean, variance)

    def draws(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw whole rows, of shape (n, n_rows, n_columns), around the seen cells."""
        density, n_numbers = self.density, self.density.n_numbers
        loadings, noise = density.numbers.loadings, density.numbers.noise_variance
        drawn = generator.standard_normal((n, *self.X.shape))
        chances = np.broadcast_to(density.chances, drawn[:, :, n_numbers:].shape)
        drawn[:, :, n_numbers:] = density.levels.draw(chances, generator)
        for rows, known, covariances in self._codes():
            size = (n, len(known.filled), loadings.shape[1], 1)
            codes = _roots(covariances) @ generator.standard_normal(size)
            numbers = drawn[:, rows, :n_numbers]
            numbers *= np.sqrt(noise)
            numbers += known.filled + codes[..., 0] @ loadings.T
        return np.where(self.seen, self.X, drawn)

    def leave_one_out(self) -> np.ndarray:
        """Log-density of each cell given the others of its row.

        Where a number is told by hardly anything but itself, rounding leaves nothing of
        the rest: the others are conditioned on alone.
        """
        density, numbers = self.density, slice(self.density.n_numbers)
        levels, widths = slice(density.n_numbers, None), density.levels.widths
        of_numbers, free = self._given_other_numbers()
        (of_levels,) = density.levels.log_chances_of_cells(
            self.X[:, levels], self.seen[:, levels], density.chances[None]
        )
        seen = self.seen[:, numbers]
        result = np.c_[np.where(seen, of_numbers, 0.0), of_levels]
        own = np.c_[seen & (free < LEAST_FREE), np.zeros(of_levels.shape, dtype=bool)]
        whole = np.broadcast_to(self.log_density[:, None], own.shape)[own]
        of_columns = (1,) * density.n_numbers + widths
        cells = self.X, self.seen, of_columns, own
        result[own] = whole - without_each(density, *cells)
        return result

    def _given_other_numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Log-density of numbers given the others, and what these leave free [1]_.

        The rest is the leverage of a number: how much its expectation follows it.

        References
        ----------
        .. [1] Cook, R. D. and Weisberg, S. (1982). Residuals and influence in
           regression. Chapman and Hall, section 2.2.
        """
        numbers, ppca = slice(self.density.n_numbers), self.density.numbers
        noise, outer = ppca.noise_variance, _outer(ppca.loadings)
        result, free = np.zeros((2, len(self.X), self.density.n_numbers))
        for rows, known, covariances in self._codes():
            left = self.X[rows, numbers] - ppca.mean - known.codes @ ppca.loadings.T
            flat = covariances.reshape(len(covariances), -1)
            free[rows] = 1 - flat @ outer.T / noise
            variances = noise / np.maximum(free[rows], LEAST_FREE)
            exponent = left**2 * variances / noise**2
            result[rows] = -0.5 * (np.log(2 * np.pi * variances) + exponent)
        return result, free

    def _codes(self) -> Iterator[tuple[slice, Conditional, np.ndarray]]:
        """Yield rows, what is known of their codes, and the covariances of these.

        There is one covariance where it is the same for all.
        """
        numbers = slice(self.density.n_numbers)
        n_codes = self.density.numbers.loadings.shape[1]
        for rows in gen_batches(len(self.X), max(1, LARGEST_STACK // n_codes**2)):
            seen = self.seen[rows, numbers]
            known = self.density.numbers.given(self.X[rows, numbers], seen)
            count = 1 if (seen == seen[:1]).all() else None
            yield rows, known, known.covariances[:count]


def _outer(loadings: np.ndarray) -> np.ndarray:
    """Products of the loadings of each number, (n_numbers, n_components ** 2)."""
    outer = loadings[:, :, None] * loadings[:, None, :]
    return outer.reshape(len(loadings), loadings.shape[1] ** 2)


def _roots(covariances: np.ndarray) -> np.ndarray:
    """Return square roots of covariances that rounding may have made negative."""
    variances, vectors = np.linalg.eigh(covariances)
    return np.asarray(vectors * np.sqrt(np.maximum(variances, 0.0))[:, None])
