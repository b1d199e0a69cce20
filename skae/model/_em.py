"""Mixtures fitted by EM to weighted rows with holes and levels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import multigammaln
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from .._statistics import distinct
from ._level_columns import ROWS_OF_TABLE, TINY, LevelColumns, likeliest
from ._mixture import Mixture
from ._patterns import LARGEST_STACK, Pattern, patterns_of

Kind = Literal["full", "diag"]
MOST_ROWS = 5_000  # that a mixture is fitted to
LEAST_ROWS = 5  # per part
MOST_PATTERNS = 50  # of holes that EM takes as they are
REGULARISATION = 1e-3  # of a column's variance, on the diagonal of each covariance
TOLERANCE = 1e-3  # nats per row, in a step of EM
HALF_A_ROW = 0.5  # beside those of each level in the table
# Several threads add up in the order in which they finish, and round so.
one_thread = threadpool_limits.wrap(limits=1)


@dataclass(frozen=True)
class WeightedRows:
    """Rows of which no two are the same, in an order that depends on them alone."""

    X: np.ndarray
    seen: np.ndarray
    weight: np.ndarray

    @classmethod
    def distinct(
        cls, X: np.ndarray, seen: np.ndarray, weight: np.ndarray
    ) -> WeightedRows:
        filled = np.asarray(np.nan_to_num(X), dtype=float)
        first, mass = distinct(np.c_[filled, seen], weight)
        first, mass = first[mass > 0], mass[mass > 0]
        return cls(filled[first], seen[first], mass)

    def __len__(self) -> int:
        return len(self.X)

    def joined(self, other: WeightedRows) -> WeightedRows:
        X = np.concatenate([self.X, other.X])
        seen = np.concatenate([self.seen, other.seen])
        return self.distinct(X, seen, np.concatenate([self.weight, other.weight]))

    def take(self, rows: np.ndarray) -> WeightedRows:
        return WeightedRows(self.X[rows], self.seen[rows], self.weight[rows])

    def thinned(self, seed: int) -> WeightedRows:
        """Keep rows drawn at random where there are many."""
        if len(self) <= MOST_ROWS:
            return self
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take(order[:MOST_ROWS])

    def with_common_holes(self, n_numbers: int) -> WeightedRows:
        """Call numbers seen, as filled, where few rows have the same holes."""
        found = list(patterns_of(self.seen[:, :n_numbers]))
        found.sort(key=lambda one: -self.weight[one[1]].sum())
        seen = self.seen.copy()
        for _, rows in found[MOST_PATTERNS:]:
            seen[rows, :n_numbers] = True
        return replace(self, seen=seen)


@dataclass(frozen=True)
class _Products:
    """Rows without holes, as what Gaussian log-densities are linear in.

    All parts then cost one product of matrices, and what rows add up to another.

    Attributes
    ----------
    centre : ndarray of shape (n_numbers,)
    columns : ndarray of shape (n_rows, 1 + n_numbers + n_pairs)
        One, each number less its centre, and the product of each pair of these.
    pairs : tuple of ndarray of shape (n_pairs,)
        The two numbers of each.
    """

    centre: np.ndarray
    columns: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, X: np.ndarray, weight: np.ndarray) -> _Products:
        centre = weight @ X / weight.sum()
        numbers = X - centre
        one, other = pairs = np.triu_indices(X.shape[1])
        products = numbers[:, one] * numbers[:, other]
        return cls(centre, np.c_[np.ones(len(X)), numbers, products], pairs)

    def log_density(self, mixture: Mixture) -> np.ndarray:
        """Log-density of the rows in each part, of shape (n_rows, n_parts)."""
        means, every = mixture.means - self.centre, np.full(len(self.centre), True)
        pattern = Pattern.of(means, mixture.covariances, every)
        precisions = pattern.whitening.swapaxes(1, 2) @ pattern.whitening
        at_centre = pattern.log_density(-means[:, None])[0]
        slopes = (precisions @ means[:, :, None])[:, :, 0]
        one, other = self.pairs
        curvatures = -precisions[:, one, other] * np.where(one == other, 0.5, 1.0)
        return np.asarray(self.columns @ np.c_[at_centre, slopes, curvatures].T)

    def sums(
        self, mixture: Mixture, shares: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sum deviations from the means of each part, and their products."""
        totals, n_numbers = shares.T @ self.columns, len(self.centre)
        first, (one, other) = totals[:, 1 : 1 + n_numbers], self.pairs
        second = np.empty_like(mixture.covariances)
        second[:, one, other] = second[:, other, one] = totals[:, 1 + n_numbers :]
        means, mass = mixture.means - self.centre, totals[:, :1]
        cross = means[:, :, None] * first[:, None]
        squares = mass[:, None] * means[:, :, None] * means[:, None]
        second += squares - cross - cross.swapaxes(1, 2)
        return first - mass * means, second


@dataclass(frozen=True)
class _Evidence:
    """Rows as the steps of EM need them again and again.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_numbers)
    groups : list of patterns of seen numbers, and the rows of each
    products : _Products or None
        None where there are holes, or more pairs of numbers than memory for them.
    chosen, present : ndarray of shape (n_rows, n_indicators)
    weight : ndarray of shape (n_rows,)
    """

    X: np.ndarray
    groups: list[tuple[np.ndarray, np.ndarray]]
    products: _Products | None
    chosen: np.ndarray
    present: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, rows: WeightedRows, levels: LevelColumns) -> _Evidence:
        n_numbers = rows.X.shape[1] - levels.width
        X, seen = rows.X[:, :n_numbers], rows.seen[:, :n_numbers]
        products = None
        if seen.all() and len(X) * n_numbers**2 <= 2 * LARGEST_STACK:
            products = _Products.of(X, rows.weight)
        chosen = levels.chosen(rows.X[:, n_numbers:], rows.seen[:, n_numbers:])
        return cls(X, list(patterns_of(seen)), products, *chosen, rows.weight)


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
        cls, mixture: Mixture, seen: _Evidence, memberships: np.ndarray | None = None
    ) -> _Sums:
        """Expect the numbers that are not seen, and the parts unless they are given."""
        parts = np.log(mixture.weights) + mixture.levels.log_chances_of(
            seen.chosen, seen.present, mixture.chances
        )
        shares, log_density = np.empty(parts.shape), np.empty(len(parts))

        def share_out(rows: np.ndarray | slice, of_numbers: np.ndarray) -> np.ndarray:
            known, log_density[rows] = _normalised(parts[rows] + of_numbers)
            known = known if memberships is None else memberships[rows]
            shares[rows] = seen.weight[rows, None] * known
            return shares[rows]

        if seen.products is not None:
            share_out(slice(None), seen.products.log_density(mixture))
            first, second = seen.products.sums(mixture, shares)
        else:
            first = np.zeros_like(mixture.means)
            second = np.zeros_like(mixture.covariances)
            for pattern, rows in mixture._patterns(seen.groups):
                deviations = pattern.deviations(seen.X[rows])
                of_rows = share_out(rows, pattern.log_density(deviations))
                _add_numbers(first, second, pattern, deviations, of_rows.T)
        return cls(
            shares.sum(axis=0),
            first,
            second,
            shares.T @ seen.chosen,
            shares.T @ seen.present,
            float(np.average(log_density, weights=seen.weight)),
        )


def _normalised(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn log-densities, in place, into chances; return these and their logsumexp."""
    highest = parts.max(axis=1, keepdims=True)
    parts -= highest
    np.exp(parts, out=parts)
    total = parts.sum(axis=1, keepdims=True)
    parts /= total
    return parts, (highest + np.log(total))[:, 0]


def _add_numbers(
    first: np.ndarray,
    second: np.ndarray,
    pattern: Pattern,
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
        count as they stand here: fill them with what a linear density expects.
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
    rows = WeightedRows.distinct(X, seen, weight)
    return fit_rows(rows, n_parts, kind, levels, regularisation, seed, max_steps)


def fit_rows(
    rows: WeightedRows,
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
    seen, before = _Evidence.of(rows, levels), -np.inf
    sums = _Sums.of(mixture, seen, memberships)
    for _ in range(max_steps):
        mixture = _maximised(mixture, sums, kind, regularisation, frequencies)
        sums = _Sums.of(mixture, seen)
        if abs(sums.log_likelihood - before) < TOLERANCE:
            break
        before = sums.log_likelihood
    return _without_small_parts(mixture, sums.mass)


def _start(
    rows: WeightedRows, n_parts: int, levels: LevelColumns, seed: int
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
    scatters = sums.second - sums.first[:, :, None] * shift[:, None, :]
    identity = np.eye(before.n_numbers)
    scatters += mass[:, None, None] * regularisation * identity
    if kind == "diag":
        scatters *= identity
    return Mixture(
        mass / mass.sum(),
        before.means + shift,
        drawn_together(scatters, mass, kind),
        before.levels.shrunk(sums.chosen, sums.present, frequencies),
        before.levels,
    )


def drawn_together(scatters: np.ndarray, mass: np.ndarray, kind: Kind) -> np.ndarray:
    """Estimate the covariances of parts by empirical Bayes.

    They are drawn towards that within all parts by as many rows as make the scatters
    likeliest if covariances have an inverse Wishart distribution around it [1]_ (or
    variances an inverse gamma distribution): hardly any where parts have shapes of
    their own, many where they are alike.

    Parameters
    ----------
    scatters : ndarray of shape (n_parts, n_numbers, n_numbers)
        Sums of the products of deviations from the mean of each part.
    mass : ndarray of shape (n_parts,)
    kind : {"full", "diag"}

    References
    ----------
    .. [1] Chen, C.-F. (1979). Bayesian inference for a normal dispersion matrix and
       its application to stochastic multiple regression analysis. Journal of the Royal
       Statistical Society B 41(2), 235-248.
    """
    n_numbers = scatters.shape[1]
    if n_numbers == 0:
        return scatters
    within = scatters.sum(axis=0) / mass.sum()
    if kind == "full":
        half = np.linalg.inv(np.linalg.cholesky(within))
        sizes, size = np.linalg.eigvalsh(half @ scatters @ half.T), n_numbers
    else:
        sizes = scatters.diagonal(axis1=1, axis2=2) / within.diagonal()
        size = 1
    rows = ROWS_OF_TABLE[:, None]
    prior, posterior = rows + size + 1, rows + size + 1 + mass
    gains = multigammaln(posterior / 2, size) - multigammaln(prior / 2, size)
    gains *= n_numbers / size
    gains += 0.5 * n_numbers * prior * np.log(rows)
    gains -= 0.5 * posterior * np.log(rows[:, :, None] + sizes.clip(0)).sum(axis=2)
    pseudo = likeliest(ROWS_OF_TABLE, gains.sum(axis=1))
    return np.asarray((scatters + pseudo * within) / (mass + pseudo)[:, None, None])


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
