"""Mixtures of Gaussians: closed forms, and the choice of their size."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.special import logsumexp, softmax
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils import gen_batches
from threadpoolctl import threadpool_limits

from .._statistics import CHUNK_ROWS

SIZES = (1, 2, 3, 5, 8, 12, 20)  # parts of the mixtures to choose from
MOST_ROWS = 5_000  # that a mixture is fitted to
LEAST_ROWS = 5  # per part
MOST_STACKED = 3  # mixtures in one
LEAST_SHARE = 0.01
MOST_WORK = 1e8  # multiplications in a step of EM: a second or two a fit
REGULARISATION = 1e-3  # of a column's variance, on the diagonal of each covariance
EM_STEPS = 300
SMALLEST_SHARE = 1e-9
# Several threads add up in the order in which they finish, and round so.
one_thread = threadpool_limits.wrap(limits=1, user_api="openmp")


@dataclass(frozen=True)
class MixtureDensity:
    """A mixture of Gaussians with any covariances.

    Attributes
    ----------
    weights : ndarray of shape (n_parts,)
    means : ndarray of shape (n_parts, n_features)
    covariances : ndarray of shape (n_parts, n_features, n_features)
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    @classmethod
    def of(
        cls, mixtures: Sequence[MixtureDensity], shares: np.ndarray
    ) -> MixtureDensity:
        """Put mixtures together by their shares, without those that have none."""
        pairs = zip(mixtures, shares, strict=True)
        kept = [(mixture, share) for mixture, share in pairs if share > LEAST_SHARE]
        weights = np.concatenate([share * m.weights for m, share in kept])
        return cls(
            weights / weights.sum(),
            np.concatenate([m.means for m, _ in kept]),
            np.concatenate([m.covariances for m, _ in kept]),
        )

    def log_density(self, X: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Log-density of the seen cells of each row, in nats."""
        result = np.empty(len(X))
        patterns, which = seen[:1], np.zeros(len(X), dtype=int)
        if (seen != patterns).any():
            patterns, which = np.unique(seen, axis=0, return_inverse=True)
        for number, columns in enumerate(patterns):
            rows = np.flatnonzero(which == number)
            for part in gen_batches(len(rows), CHUNK_ROWS):
                result[rows[part]] = self._log_density(X[rows[part]], columns)
        return result

    def _log_density(self, X: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return logsumexp(self._parts(X[:, columns], columns), axis=1)

    def memberships(self, X: np.ndarray) -> np.ndarray:
        """Chance that each row is of each part, of shape (n_rows, n_parts)."""
        return softmax(self._parts(X, np.ones(X.shape[1], dtype=bool)), axis=1)

    def _parts(self, X: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Log-density of some columns and each part, of shape (n_rows, n_parts)."""
        parts = np.empty((len(X), len(self.means)))
        for i, covariance in enumerate(self.covariances):
            factor = linalg.cholesky(covariance[np.ix_(columns, columns)], lower=True)
            deviations = (X - self.means[i, columns]).T
            whitened = linalg.solve_triangular(factor, deviations, lower=True)
            exponent = 0.5 * (whitened**2).sum(axis=0)
            parts[:, i] = -exponent - np.log(factor.diagonal()).sum()
        return parts + np.log(self.weights) - 0.5 * X.shape[1] * np.log(2 * np.pi)

    def sample(self, n_samples: int, generator: np.random.Generator) -> np.ndarray:
        """Draw rows of shape (n_samples, n_features)."""
        part = generator.choice(len(self.weights), n_samples, p=self.weights)
        factors = np.linalg.cholesky(self.covariances)
        rows = self.means[part]
        noise = generator.standard_normal(rows.shape)
        for number, factor in enumerate(factors):
            rows[part == number] += noise[part == number] @ factor.T
        return rows

    def times(self, scales: np.ndarray, floor: np.ndarray) -> MixtureDensity:
        """Multiply the columns, each part having a standard deviation of a floor."""
        covariances = self.covariances * np.outer(scales, scales)
        variances = covariances.diagonal(axis1=1, axis2=2)
        missing = np.maximum(floor**2 - variances, 0)
        covariances = covariances + missing[:, :, None] * np.eye(len(scales))
        return MixtureDensity(self.weights, self.means * scales, covariances)


@dataclass(frozen=True)
class Choice:
    """A mixture as the rows that judge have seen it, and what it is on all rows."""

    judged: MixtureDensity
    final: MixtureDensity


@one_thread
def choose_mixture(
    X: np.ndarray, judges: np.ndarray, scales: np.ndarray, floor: np.ndarray, seed: int
) -> Choice | None:
    """Fit Gaussian mixtures and stack those under which other rows are likeliest.

    Mixtures of several sizes together are likelier, by a nat on the mean of eight
    tables, than the best one alone.

    Parameters
    ----------
    X, judges : ndarray of shape (n_rows, n_features), (n_judges, n_features)
    scales : ndarray of shape (n_features,)
        Standard deviations of the columns.
    floor : ndarray of shape (n_features,)
        Smallest standard deviation of a column within a part.
    seed : int

    Returns
    -------
    choice : Choice or None
        None where the table has too few rows, or too many columns, for any.
    """

    def fitted(rows: np.ndarray, size: int, kind: str) -> MixtureDensity:
        return _fit(rows[:MOST_ROWS] / scales, size, kind, seed).times(scales, floor)

    n_rows, n_features = X[:MOST_ROWS].shape
    seen = np.ones(judges.shape, dtype=bool)
    tried: list[tuple[np.ndarray, MixtureDensity, tuple[int, str]]] = []
    for kind in ("full", "diag"):
        best, best_size = -np.inf, 0
        for size in _sizes(n_rows, n_features, kind):
            mixture = fitted(X, size, kind)
            scores = mixture.log_density(judges, seen)
            tried.append((scores, mixture, (size, kind)))
            if scores.mean() > best:
                best, best_size = scores.mean(), size
            elif size > 2 * best_size:
                break  # of one kind, more parts than the best are ever worse
    if not tried:
        return None
    tried.sort(key=lambda one: -one[0].mean())
    scores, mixtures, kinds = zip(*tried[:MOST_STACKED], strict=True)
    shares = stack(np.column_stack(scores), np.zeros(len(scores)))
    every_row = np.concatenate([X, judges])
    return Choice(
        MixtureDensity.of(mixtures, shares),
        MixtureDensity.of([fitted(every_row, *kind) for kind in kinds], shares),
    )


def _sizes(n_rows: int, n_features: int, kind: str) -> list[int]:
    """Return the numbers of parts that a table has rows enough for."""
    most = n_rows // LEAST_ROWS
    if kind == "full":
        most = min(most, max(n_rows // (2 * n_features), 1))
    most = min(most, int(MOST_WORK / (n_rows * n_features**2)))
    return [size for size in SIZES if size <= most]


def _fit(X: np.ndarray, size: int, kind: str, seed: int) -> MixtureDensity:
    """Fit a mixture to standardised rows by EM."""
    model = GaussianMixture(
        size,
        covariance_type=kind,
        reg_covar=REGULARISATION,
        max_iter=50,
        random_state=seed,
    )
    with warnings.catch_warnings(), config_context(array_api_dispatch=False):
        # A density that would still rise a little is nothing to act on.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X)
    covariances = model.covariances_
    if kind == "diag":
        covariances = covariances[:, :, None] * np.eye(X.shape[1])
    # A part of a row or two knows these rows by heart, and no others.
    n_rows = model.weights_ * len(X)
    kept = n_rows >= min(LEAST_ROWS, n_rows.max())
    weights = model.weights_[kept] / model.weights_[kept].sum()
    return MixtureDensity(weights, model.means_[kept], covariances[kept])


def stack(log_densities: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Weigh densities so that held-out rows are likeliest under their mixture.

    Parameters
    ----------
    log_densities : ndarray of shape (n_rows, n_densities)
        Of rows that none of the densities was fitted to.
    least : ndarray of shape (n_densities,)
        Smallest share of each.

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
    for _ in range(EM_STEPS):
        shares = least + (1 - least.sum()) * free
        total = (likelihoods * shares).sum(axis=1, keepdims=True)
        free = free * (likelihoods / total).mean(axis=0)
        free = free / free.sum()
        free[free < SMALLEST_SHARE] = 0.0
    return least + (1 - least.sum()) * free
