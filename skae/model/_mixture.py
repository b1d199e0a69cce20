"""Gaussian mixtures of numbers and levels: their conditionals and their fit."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches
from threadpoolctl import threadpool_limits

from .._schema import Block
from ._ppca import ProbabilisticPCA

Kind = Literal["full", "diag"]

SIZES = (1, 2, 3, 5, 8, 12, 20)  # parts of the mixtures to choose from
MOST_ROWS = 5_000  # that a mixture is fitted to
LEAST_ROWS = 5  # per part
MOST_STACKED = 3  # mixtures in one
LEAST_SHARE = 0.01
MOST_WORK = 1e8  # multiplications in a step of EM: a second or two a fit
MOST_PATTERNS = 50  # of holes that EM takes as they are
PATTERN_WORK = 30_000  # multiplications that one part of one pattern costs beside
REGULARISATION = 1e-3  # of a column's variance, on the diagonal of each covariance
TOLERANCE = 1e-3  # nats per row, in a step of EM
SMALLEST_CHANCE = 1e-6
HALF_A_ROW = 0.5  # beside those of each level in the table
PSEUDO_COUNT = 1.0  # rows per level, of the table's frequencies, in each part
EM_STEPS = 300
SMALLEST_SHARE = 1e-9
LARGEST_STACK = 2_000_000  # numbers in a stack of rows or matrices, one per part
TINY = np.finfo(float).tiny

# Several threads add up in the order in which they finish, and round so.
one_thread = threadpool_limits.wrap(limits=1, user_api="openmp")


# ------------------------------------------------------------------------ levels


@dataclass(frozen=True)
class LevelColumns:
    """Columns of levels as standardised indicators, side by side in the matrix.

    Attributes
    ----------
    widths : tuple of int
        Number of indicators of each column: one for two levels (it is 1 for the
        second), and one per level for more.
    centre, scale : ndarray of shape (n_indicators,)
        An indicator is 0 or 1 once multiplied by `scale` and added to `centre`.
    """

    widths: tuple[int, ...] = ()
    centre: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scale: np.ndarray = field(default_factory=lambda: np.ones(0))

    @property
    def width(self) -> int:
        return sum(self.widths)

    @property
    def spans(self) -> list[slice]:
        """Which indicators each column has."""
        ends = np.cumsum(self.widths, dtype=int).tolist()
        pairs = zip(ends, self.widths, strict=True)
        return [slice(end - width, end) for end, width in pairs]

    @property
    def n_levels(self) -> np.ndarray:
        """Number of levels of the column of each indicator."""
        widths = np.array(self.widths, dtype=int)
        return np.repeat(np.maximum(widths, 2), widths)

    def indicators(self, Z: np.ndarray) -> np.ndarray:
        return np.clip(Z * self.scale + self.centre, 0.0, 1.0)

    def normalised(self, Z: np.ndarray) -> np.ndarray:
        """Return chances of levels that add up to one."""
        chances = np.clip(Z * self.scale + self.centre, SMALLEST_CHANCE, None)
        for span, width in zip(self.spans, self.widths, strict=True):
            part = chances[..., span]
            if width > 1:
                chances[..., span] = part / part.sum(axis=-1, keepdims=True)
            else:
                chances[..., span] = np.minimum(part, 1 - SMALLEST_CHANCE)
        return chances

    def standardised(self, indicators: np.ndarray) -> np.ndarray:
        return (indicators - self.centre) / self.scale

    def log_chances(
        self, Z: np.ndarray, seen: np.ndarray, chances: np.ndarray
    ) -> np.ndarray:
        """Log-chance of the seen levels of each row, of shape (n_rows, n_parts).

        It is linear in the indicators, so that values between levels have one too.
        """
        widths = np.array(self.widths, dtype=int)
        alone = np.repeat(widths == 1, widths)
        first = np.log(np.maximum(1 - chances, TINY)) * alone
        second = np.log(np.maximum(chances, TINY))
        chosen = np.where(seen, self.indicators(Z), 0.0)
        return chosen @ (second - first).T + seen.astype(float) @ first.T

    def moments(self, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of standardised indicators of given chances."""
        return self.standardised(chances), chances * (1 - chances) / self.scale**2

    def draw(self, chances: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw a level of each column, as standardised indicators, by its chances."""
        drawn = np.empty(chances.shape)
        for span in self.spans:
            drawn[..., span] = _draw_indicators(chances[..., span], generator)
        return self.standardised(drawn)


def level_columns(blocks: Sequence[Block]) -> LevelColumns:
    """Return the columns of levels among blocks."""
    levels = [block for block in blocks if not block.is_numeric]
    if not levels:
        return LevelColumns()
    return LevelColumns(
        tuple(width for block in levels for width in block.widths),
        np.concatenate([block.centre for block in levels]),
        np.concatenate([block.scale for block in levels]),
    )


def _draw_indicators(chances: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw the indicators of one column."""
    uniform = generator.random((*chances.shape[:-1], 1))
    if chances.shape[-1] == 1:
        return uniform < chances
    level = _draw_index(chances, uniform)
    return np.asarray(level[..., None] == np.arange(chances.shape[-1]))


def _draw_index(chances: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Choose along the last axis by chances that need not add up to exactly one."""
    upper = chances.cumsum(axis=-1)
    return np.asarray((upper < uniform * upper[..., -1:]).sum(axis=-1))


# ---------------------------------------------------------------------- patterns


def patterns_of(seen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each pattern of seen cells, and the rows that have it."""
    if not len(seen):
        return
    if (seen == seen[:1]).all():
        yield seen[0], np.arange(len(seen))
        return
    bits = np.packbits(seen, axis=1)
    _, which = np.unique(bits, axis=0, return_inverse=True)
    which = which.ravel()  # NumPy 2.0 gives it two axes
    ends = np.bincount(which).cumsum()
    for rows in np.split(np.argsort(which, kind="stable"), ends[:-1]):
        yield seen[rows[0]], rows


@dataclass(frozen=True)
class _Pattern:
    """Gaussian parts where the same numbers are seen: the others regressed on them.

    One Cholesky factor of the covariance, seen columns first, holds all of it: the
    density of these, the slopes, and a factor of what is left, which no rounding makes
    negative.

    Attributes
    ----------
    seen, unseen : ndarray of int
        Columns.
    means : ndarray of shape (n_parts, n_numbers)
    whitening : ndarray of shape (n_parts, n_seen, n_seen)
        Inverse Cholesky factors of the covariances of the seen columns.
    slopes : ndarray of shape (n_parts, n_unseen, n_seen)
    factors : ndarray of shape (n_parts, n_unseen, n_unseen)
        Cholesky factors of the conditional covariances.
    """

    seen: np.ndarray
    unseen: np.ndarray
    means: np.ndarray
    whitening: np.ndarray
    slopes: np.ndarray
    factors: np.ndarray

    @classmethod
    def of(
        cls, means: np.ndarray, covariances: np.ndarray, seen: np.ndarray
    ) -> _Pattern:
        order, n_seen = np.argsort(~seen, kind="stable"), int(seen.sum())
        factors = np.linalg.cholesky(covariances[:, order[:, None], order])
        whitening = np.linalg.inv(factors[:, :n_seen, :n_seen])
        slopes = factors[:, n_seen:, :n_seen] @ whitening
        left = factors[:, n_seen:, n_seen:]
        return cls(order[:n_seen], order[n_seen:], means, whitening, slopes, left)

    @property
    def covariances(self) -> np.ndarray:
        """Conditional covariances, of shape (n_parts, n_unseen, n_unseen)."""
        return self.factors @ self.factors.swapaxes(1, 2)

    def deviations(self, X: np.ndarray) -> np.ndarray:
        """Seen numbers less their means, of shape (n_parts, n_rows, n_seen)."""
        return X[:, self.seen] - self.means[:, None, self.seen]

    def expected(self, deviations: np.ndarray) -> np.ndarray:
        """Unseen numbers less their means, of shape (n_parts, n_rows, n_unseen)."""
        return deviations @ self.slopes.swapaxes(1, 2)

    def log_density(self, deviations: np.ndarray) -> np.ndarray:
        """Log-density of the seen numbers, of shape (n_rows, n_parts)."""
        whitened = deviations @ self.whitening.swapaxes(1, 2)
        exponent = 0.5 * np.einsum("kns,kns->nk", whitened, whitened)
        constant = np.log(self.whitening.diagonal(axis1=1, axis2=2)).sum(axis=1)
        return constant - 0.5 * len(self.seen) * np.log(2 * np.pi) - exponent

    def moments(
        self, X: np.ndarray, memberships: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the unseen numbers, over parts, of each row."""
        parts = self.expected(self.deviations(X)) + self.means[:, None, self.unseen]
        mean = np.einsum("nk,knu->nu", memberships, parts)
        spread = (parts - mean) ** 2 + (self.factors**2).sum(axis=2)[:, None]
        return mean, np.einsum("nk,knu->nu", memberships, spread)

    def draw(self, part: int, X: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Turn standard normal noise into the unseen numbers of rows of one part."""
        deviations = X[:, self.seen] - self.means[part, self.seen]
        expected = self.means[part, self.unseen] + deviations @ self.slopes[part].T
        return np.asarray(expected + noise @ self.factors[part].T)


# ------------------------------------------------------------------ the mixture


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
        X = np.where(seen, X, 0.0)
        parts = self._log_levels(X, seen)
        for pattern, rows in self._patterns(seen):
            parts[rows] += pattern.log_density(pattern.deviations(X[rows]))
        log_density = logsumexp(parts, axis=1)
        log_density[~seen.any(axis=1)] = 0.0  # where the weights' sum is rounded
        return MixtureConditional(self, X, seen, log_density, softmax(parts, axis=1))

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

    def _log_levels(self, X: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Log-density of each part and the seen levels, of shape (n_rows, n_parts)."""
        indicators = slice(self.n_numbers, None)
        return np.log(self.weights) + self.levels.log_chances(
            X[:, indicators], seen[:, indicators], self.chances
        )

    def _patterns(self, seen: np.ndarray) -> Iterator[tuple[_Pattern, np.ndarray]]:
        """Yield the patterns of seen numbers and their rows, not too many at once."""
        most = max(1, LARGEST_STACK // max(self.means.size, 1))
        for columns, rows in patterns_of(seen[:, : self.n_numbers]):
            pattern = _Pattern.of(self.means, self.covariances, columns)
            for chunk in gen_batches(len(rows), most):
                yield pattern, rows[chunk]


@dataclass(frozen=True)
class MixtureConditional:
    """What a mixture says of rows by their seen cells.

    Attributes
    ----------
    mixture : Mixture
    X : ndarray of shape (n_rows, n_columns)
    seen : ndarray of bool of shape (n_rows, n_columns)
    log_density : ndarray of shape (n_rows,)
        Of the seen cells, in nats: a density of numbers and a chance of levels.
    memberships : ndarray of shape (n_rows, n_parts)
        Chance that each row is of each part.
    """

    mixture: Mixture
    X: np.ndarray
    seen: np.ndarray
    log_density: np.ndarray
    memberships: np.ndarray

    @property
    def effective_draws(self) -> np.ndarray:
        """Without end: this is a closed form."""
        return np.full(len(self.X), np.inf)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each cell; the seen ones are as they are."""
        of, n_numbers = self.mixture, self.mixture.n_numbers
        mean, variance = np.zeros(self.X.shape), np.zeros(self.X.shape)
        chances = self.memberships @ of.chances
        mean[:, n_numbers:], variance[:, n_numbers:] = of.levels.moments(chances)
        for pattern, rows in of._patterns(self.seen):
            cells = np.ix_(rows, pattern.unseen)
            mean[cells], variance[cells] = pattern.moments(
                self.X[rows], self.memberships[rows]
            )
        return np.where(self.seen, self.X, mean), np.where(self.seen, 0.0, variance)

    def draws(
        self, n: int, generator: np.random.Generator, *, shared: bool = False
    ) -> np.ndarray:
        """Draw whole rows, of shape (n, n_rows, n_columns), around the seen cells.

        With `shared`, all rows have the same random numbers: what is drawn for a row
        does then not depend on its company.
        """
        of, n_rows = self.mixture, len(self.X)
        n_noises = 1 if shared else n_rows
        noise = generator.standard_normal((n, n_noises, of.n_numbers))
        part = np.empty((n, n_rows), dtype=int)
        for draw in range(n):
            uniform = generator.random((n_noises, 1))
            part[draw] = _draw_index(self.memberships, uniform)
        levels = of.levels.draw(of.chances[part], generator)
        noise = np.broadcast_to(noise, (n, n_rows, of.n_numbers))
        drawn = np.concatenate([noise, levels], axis=2)
        for pattern, rows in of._patterns(self.seen):
            if len(pattern.unseen):
                self._draw_numbers(drawn, pattern, rows, part)
        return np.where(self.seen, self.X, drawn)

    def _draw_numbers(
        self, drawn: np.ndarray, pattern: _Pattern, rows: np.ndarray, part: np.ndarray
    ) -> None:
        """Turn the noise in some drawn rows into numbers of the part of each."""
        part = part[:, rows]
        for number in np.unique(part).tolist():
            draw, position = np.nonzero(part == number)
            row = rows[position]
            cells = (draw[:, None], row[:, None], pattern.unseen)
            drawn[cells] = pattern.draw(number, self.X[row], drawn[cells])


# --------------------------------------------------------------- linear density


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
class LinearConditional:
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

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each cell; the seen ones are as they are."""
        of, n_numbers = self.density, self.density.n_numbers
        loadings, noise = of.numbers.loadings, of.numbers.noise_variance
        outer = (loadings[:, :, None] * loadings[:, None, :]).reshape(n_numbers, -1)
        mean, variance = np.zeros(self.X.shape), np.zeros(self.X.shape)
        mean[:, n_numbers:], variance[:, n_numbers:] = of.levels.moments(of.chances)
        for rows, filled, covariances in self._codes():
            mean[rows, :n_numbers] = filled
            flat = covariances.reshape(len(covariances), -1)
            variance[rows, :n_numbers] = flat @ outer.T + noise
        return np.where(self.seen, self.X, mean), np.where(self.seen, 0.0, variance)

    def draws(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw whole rows, of shape (n, n_rows, n_columns), around the seen cells."""
        of, n_numbers = self.density, self.density.n_numbers
        loadings, noise = of.numbers.loadings, of.numbers.noise_variance
        drawn = generator.standard_normal((n, *self.X.shape))
        chances = np.broadcast_to(of.chances, (n, len(self.X), of.levels.width))
        drawn[:, :, n_numbers:] = of.levels.draw(chances, generator)
        for rows, filled, covariances in self._codes():
            size = (n, len(filled), loadings.shape[1], 1)
            codes = _roots(covariances) @ generator.standard_normal(size)
            numbers = drawn[:, rows, :n_numbers]
            numbers *= np.sqrt(noise)
            numbers += filled + codes[..., 0] @ loadings.T
        return np.where(self.seen, self.X, drawn)

    def _codes(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yield rows, filled with their means, and the covariances of their codes.

        There is one covariance where it is the same for all.
        """
        numbers = slice(self.density.n_numbers)
        n_codes = self.density.numbers.loadings.shape[1]
        for rows in gen_batches(len(self.X), max(1, LARGEST_STACK // n_codes**2)):
            seen = self.seen[rows, numbers]
            known = self.density.numbers.given(self.X[rows, numbers], seen)
            count = 1 if (seen == seen[:1]).all() else None
            yield rows, known.filled, known.covariances[:count]


def _roots(covariances: np.ndarray) -> np.ndarray:
    """Return square roots of covariances that rounding may have made negative."""
    variances, vectors = np.linalg.eigh(covariances)
    return np.asarray(vectors * np.sqrt(np.maximum(variances, 0.0))[:, None])


# ----------------------------------------------------------------------- the fit


@dataclass(frozen=True)
class _Rows:
    """Rows of which no two are the same, in an order that depends on them alone."""

    X: np.ndarray
    seen: np.ndarray
    weight: np.ndarray

    @classmethod
    def distinct(cls, X: np.ndarray, seen: np.ndarray, weight: np.ndarray) -> _Rows:
        # Adding zero makes -0.0 and 0.0 the same bytes.
        rows = np.ascontiguousarray(np.c_[np.nan_to_num(X) + 0.0, seen], dtype=float)
        row_type = np.dtype((np.void, rows.itemsize * rows.shape[1]))
        _, first, which = np.unique(
            rows.view(row_type).ravel(), return_index=True, return_inverse=True
        )
        rows = rows[first]
        n_columns = X.shape[1]
        mass = np.bincount(which.ravel(), weight, minlength=len(rows))
        some = cls(rows[:, :n_columns], rows[:, n_columns:] > 0, mass)
        return some.take(np.flatnonzero(mass > 0))

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: np.ndarray) -> _Rows:
        return _Rows(self.X[rows], self.seen[rows], self.weight[rows])

    def thinned(self, seed: int) -> _Rows:
        """Keep rows drawn at random where there are many."""
        if len(self) <= MOST_ROWS:
            return self
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take(order[:MOST_ROWS])

    def with_common_holes(self, n_numbers: int) -> _Rows:
        """Call numbers seen, as filled, where few rows have the same holes."""
        found = list(patterns_of(self.seen[:, :n_numbers]))
        found.sort(key=lambda one: -self.weight[one[1]].sum())
        seen = self.seen.copy()
        for _, rows in found[MOST_PATTERNS:]:
            seen[rows, :n_numbers] = True
        return replace(self, seen=seen)


@dataclass(frozen=True)
class _Sums:
    """What the rows tell a step of EM, summed over them for each part.

    Attributes
    ----------
    mass : ndarray of shape (n_parts,)
    first, second : ndarray, (n_parts, n_numbers) and (n_parts, n_numbers, n_numbers)
        Of expected deviations from the means of the step before.
    chosen, present : ndarray of shape (n_parts, n_indicators)
        Mass of each level, and of the rows whose level is seen.
    log_likelihood : float
        Mean over the rows.
    """

    mass: np.ndarray
    first: np.ndarray
    second: np.ndarray
    chosen: np.ndarray
    present: np.ndarray
    log_likelihood: float

    @classmethod
    def of(
        cls, mixture: Mixture, rows: _Rows, memberships: np.ndarray | None = None
    ) -> _Sums:
        """Expect the numbers that are not seen, and the parts unless they are given."""
        X, n_numbers = np.where(rows.seen, rows.X, 0.0), mixture.n_numbers
        parts = mixture._log_levels(X, rows.seen)
        first, second = np.zeros_like(mixture.means), np.zeros_like(mixture.covariances)
        shares = np.empty(parts.shape)
        for pattern, some in mixture._patterns(rows.seen):
            deviations = pattern.deviations(X[some])
            parts[some] += pattern.log_density(deviations)
            of = softmax(parts[some], 1) if memberships is None else memberships[some]
            shares[some] = rows.weight[some, None] * of
            _add_numbers(first, second, pattern, deviations, shares[some].T)
        seen = rows.seen[:, n_numbers:].astype(float)
        indicators = mixture.levels.indicators(X[:, n_numbers:]) * seen
        return cls(
            shares.sum(axis=0),
            first,
            second,
            shares.T @ indicators,
            shares.T @ seen,
            float(np.average(logsumexp(parts, axis=1), weights=rows.weight)),
        )


def _add_numbers(
    first: np.ndarray,
    second: np.ndarray,
    pattern: _Pattern,
    deviations: np.ndarray,
    shares: np.ndarray,
) -> None:
    """Add what rows of one pattern tell of the numbers, shared among the parts."""
    whole = np.empty((*shares.shape, first.shape[1]))
    whole[:, :, pattern.seen] = deviations
    whole[:, :, pattern.unseen] = pattern.expected(deviations)
    weighted = shares[:, :, None] * whole
    first += weighted.sum(axis=1)
    second += weighted.swapaxes(1, 2) @ whole
    block = (slice(None), pattern.unseen[:, None], pattern.unseen)
    second[block] += shares.sum(axis=1)[:, None, None] * pattern.covariances


@one_thread
def fit_mixture(
    X: np.ndarray,
    seen: np.ndarray,
    weight: np.ndarray,
    n_parts: int,
    *,
    kind: Kind,
    levels: LevelColumns,
    regularisation: float = REGULARISATION,
    seed: int,
    max_steps: int = 50,
) -> Mixture:
    """Fit a mixture to standardised rows, with holes, by EM [1]_.

    Rows of integer weights and the same rows repeated, in any order, have the same fit.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_columns)
        Numbers first, then indicators. In the few rows whose holes hardly another row
        has, beyond the `MOST_PATTERNS` commonest patterns, numbers that are not seen
        count as they stand here.
    seen : ndarray of bool of shape (n_rows, n_columns)
    weight : ndarray of shape (n_rows,)
        Mass of each row: how many rows it stands for.
    n_parts : int
        Parts of less mass than a few rows are left out of what comes back.
    kind : {"full", "diag"}
        Covariances of the numbers.
    levels : LevelColumns
    regularisation : float
        Added to the variances.
    seed : int
    max_steps : int

    References
    ----------
    .. [1] Ghahramani, Z. and Jordan, M. I. (1994). Supervised learning from incomplete
       data via an EM approach. NIPS 6, 120-127.
    """
    rows = _Rows.distinct(X, seen, weight)
    return _fit(rows, n_parts, kind, levels, regularisation, seed, max_steps)


def _fit(
    rows: _Rows,
    n_parts: int,
    kind: Kind,
    levels: LevelColumns,
    regularisation: float,
    seed: int,
    max_steps: int = 50,
) -> Mixture:
    rows = rows.with_common_holes(rows.X.shape[1] - levels.width)
    mixture, memberships = _start(rows, min(n_parts, len(rows)), levels, seed)
    frequencies = mixture.chances[0]
    sums, before = _Sums.of(mixture, rows, memberships), -np.inf
    for _ in range(max_steps):
        mixture = _maximised(mixture, sums, kind, regularisation, frequencies)
        sums = _Sums.of(mixture, rows)
        if abs(sums.log_likelihood - before) < TOLERANCE:
            break
        before = sums.log_likelihood
    return _without_small_parts(mixture, sums.mass)


def _start(
    rows: _Rows, n_parts: int, levels: LevelColumns, seed: int
) -> tuple[Mixture, np.ndarray]:
    """Return parts that are all like the table, and the part of each row by k-means."""
    total = np.maximum(rows.weight @ rows.seen, TINY)
    mean = rows.weight @ np.where(rows.seen, rows.X, 0.0) / total
    filled = np.where(rows.seen, rows.X, mean)
    variance = rows.weight @ np.where(rows.seen, filled - mean, 0.0) ** 2 / total
    n_numbers = rows.X.shape[1] - levels.width
    covariance = np.diag(variance[:n_numbers] + REGULARISATION)
    mixture = Mixture(
        np.full(n_parts, 1 / n_parts),
        np.tile(mean[:n_numbers], (n_parts, 1)),
        np.tile(covariance, (n_parts, 1, 1)),
        np.tile(frequencies_of(rows.X, rows.seen, rows.weight, levels), (n_parts, 1)),
        levels,
    )
    model = KMeans(n_parts, n_init=1, random_state=seed)
    with warnings.catch_warnings(), config_context(array_api_dispatch=False):
        # Rows that differ in their holes alone may leave clusters without any.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = model.fit(filled, sample_weight=rows.weight).labels_
    return mixture, np.eye(n_parts)[labels]


def frequencies_of(
    X: np.ndarray, seen: np.ndarray, weight: np.ndarray, levels: LevelColumns
) -> np.ndarray:
    """Return the chances of levels in a table, none of them zero.

    Each level has half a row beside those that are seen.
    """
    n_numbers = X.shape[1] - levels.width
    present = seen[:, n_numbers:]
    indicators = np.where(present, levels.indicators(X[:, n_numbers:]), 0.0)
    total = weight @ present + HALF_A_ROW * levels.n_levels
    return np.asarray((weight @ indicators + HALF_A_ROW) / total)


def _maximised(
    before: Mixture,
    sums: _Sums,
    kind: Kind,
    regularisation: float,
    frequencies: np.ndarray,
) -> Mixture:
    """Return the mixture under which the expected rows are likeliest."""
    mass = sums.mass + 10 * np.finfo(float).eps
    shift = sums.first / mass[:, None]
    covariances = sums.second / mass[:, None, None]
    covariances -= shift[:, :, None] * shift[:, None, :]
    identity = np.eye(before.n_numbers)
    if kind == "diag":
        covariances *= identity
    pseudo = PSEUDO_COUNT * before.levels.n_levels
    return Mixture(
        mass / mass.sum(),
        before.means + shift,
        covariances + regularisation * identity,
        (sums.chosen + pseudo * frequencies) / (sums.present + pseudo),
        before.levels,
    )


def _without_small_parts(mixture: Mixture, mass: np.ndarray) -> Mixture:
    """Drop the parts of a row or two: these know them by heart, and no others."""
    kept = mass >= min(LEAST_ROWS, mass.max())
    return Mixture(
        mixture.weights[kept] / mixture.weights[kept].sum(),
        mixture.means[kept],
        mixture.covariances[kept],
        mixture.chances[kept],
        mixture.levels,
    )


# -------------------------------------------------------------------- the choice


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

    Returns
    -------
    choice : Choice or None
        None where the table has too few rows, or too many columns, for any.
    """

    def fitted(rows: _Rows, how: _How) -> Mixture:
        return _fit_as(how, rows, levels, seed).times(scales, floor)

    def scored(mixture: Mixture) -> np.ndarray:
        return mixture.given(judges.X, judges.seen).log_density

    units = np.r_[scales, np.ones(levels.width)]
    judges = _Rows.distinct(judged_X, judged_seen, judged_weight)
    rows = _Rows.distinct(X / units, seen, weight).thinned(seed)
    tried: list[tuple[float, np.ndarray, Mixture, _How]] = []
    for hows in _families(rows, len(scales), levels):
        best, best_size = -np.inf, 0
        for how in hows:
            mixture = fitted(rows, how)
            scores = scored(mixture)
            score = float(np.average(scores, weights=judges.weight))
            tried.append((score, scores, mixture, how))
            if score > best:
                best, best_size = score, how.size
            elif how.size > 2 * best_size:
                break  # of one family, more parts than the best are ever worse
    if not tried:
        return None
    tried.sort(key=lambda one: -one[0])
    _, each, mixtures, hows = zip(*tried[:MOST_STACKED], strict=True)
    shares = stack(np.column_stack(each), np.zeros(len(each)), judges.weight)
    every_row = _Rows.distinct(
        np.concatenate([X, judged_X]) / units,
        np.concatenate([seen, judged_seen]),
        np.concatenate([weight, judged_weight]),
    ).thinned(seed)
    final = [fitted(every_row, how) for how in hows]
    return Choice(Mixture.of(mixtures, shares), Mixture.of(final, shares))


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


def _fit_as(how: _How, rows: _Rows, levels: LevelColumns, seed: int) -> Mixture:
    if how.with_levels:
        return _fit(rows, how.size, how.kind, levels, REGULARISATION, seed)
    seen = rows.seen.copy()
    seen[:, rows.X.shape[1] - levels.width :] = False
    without = replace(rows, seen=seen)
    mixture = _fit(without, how.size, how.kind, levels, REGULARISATION, seed)
    chances = frequencies_of(rows.X, rows.seen, rows.weight, levels)
    return replace(mixture, chances=np.tile(chances, (len(mixture.weights), 1)))


def _families(
    rows: _Rows, n_numbers: int, levels: LevelColumns
) -> Iterator[list[_How]]:
    """Yield the mixtures to try, by growing numbers of parts."""
    for kind in _kinds(n_numbers):
        sizes = _sizes(rows, n_numbers, kind)
        yield [_How(size, kind, with_levels=True) for size in sizes]
        if levels.width and n_numbers:
            yield [_How(size, kind, with_levels=False) for size in sizes if size > 1]


def _kinds(n_numbers: int) -> tuple[Kind, ...]:
    """Return the kinds of covariance that differ for so many numbers."""
    return ("full", "diag") if n_numbers > 1 else ("diag",)


def _sizes(rows: _Rows, n_numbers: int, kind: Kind) -> list[int]:
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


def stack(
    log_densities: np.ndarray, least: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Weigh densities so that held-out rows are likeliest under their mixture.

    Parameters
    ----------
    log_densities : ndarray of shape (n_rows, n_densities)
        Of rows that none of the densities was fitted to.
    least : ndarray of shape (n_densities,)
        Smallest share of each.
    weight : ndarray of shape (n_rows,)
        Mass of each row.

    Returns
    -------
    shares : ndarray of shape (n_densities,)
        They add up to one.

    References
    ----------
    Smyth, P. and Wolpert, D. (1999). Linearly combining density estimators via
    stacking. Machine Learning 36, 59-83.
    """
    free = np.full(len(least), 1 / len(least))  # of what is left above the least
    likelihoods = np.exp(log_densities - log_densities.max(axis=1, keepdims=True))
    weight = weight / weight.sum()
    for _ in range(EM_STEPS):
        shares = least + (1 - least.sum()) * free
        total = (likelihoods * shares).sum(axis=1, keepdims=True)
        free = free * (weight @ (likelihoods / total))
        free = free / free.sum()
        free[free < SMALLEST_SHARE] = 0.0
    return np.asarray(least + (1 - least.sum()) * free)
