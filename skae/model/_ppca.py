"""Probabilistic PCA in closed form, of rows with or without holes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.utils import gen_batches

from .._statistics import CHUNK_ROWS
from ._patterns import distinct_patterns

LARGEST_STACK = 1_000_000  # numbers in a stack of rows or matrices, one per row


@dataclass(frozen=True)
class ProbabilisticPCA:
    """The density x = mean + W z + noise, z standard normal [1]_.

    In the principal axes M = WᵀW + σ²I is the diagonal matrix of the variances, so that
    the components of z are independent given a row without holes.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
    loadings : ndarray of shape (n_features, n_components)
        W.
    noise_variance : float
        σ².

    References
    ----------
    .. [1] Tipping, M. E. and Bishop, C. M. (1999). Probabilistic principal component
       analysis. Journal of the Royal Statistical Society B, 61(3), 611-622.
    """

    mean: np.ndarray
    loadings: np.ndarray
    noise_variance: float

    @property
    def variances(self) -> np.ndarray:
        """Posterior variances of z given a whole row, the diagonal of σ²M⁻¹."""
        total = (self.loadings**2).sum(axis=0) + self.noise_variance
        return self.noise_variance / total

    @property
    def projection(self) -> np.ndarray:
        """M⁻¹Wᵀ, which takes a centred row to the posterior mean of z."""
        return (self.variances / self.noise_variance)[:, None] * self.loadings.T

    @property
    def covariance(self) -> np.ndarray:
        """W Wᵀ + σ² I, that of the rows."""
        covariance = self.loadings @ self.loadings.T
        covariance[np.diag_indices_from(covariance)] += self.noise_variance
        return covariance

    def given(self, X: np.ndarray, seen: np.ndarray) -> Conditional:
        """Condition on the seen cells of each row.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Cells that are not seen may hold any finite value.
        seen : ndarray of bool of shape (n_samples, n_features)
        """
        parts = [known for _, known in self._by_chunks(X, seen)]
        fields = zip(*(vars(part).values() for part in parts), strict=True)
        return Conditional(*map(np.concatenate, fields))

    def filled(self, X: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows, in their dtype, with conditional means in their holes.

        Beside them the posterior variance of each component, as of what is given.
        """
        filled, variances = X.copy(), np.empty((len(X), self.loadings.shape[1]))
        for rows, known in self._by_chunks(X, seen):
            filled[rows], variances[rows] = known.filled, known.variances
        return filled, variances

    def log_density(self, X: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Log-density of the seen cells of each row, in nats."""
        result = np.empty(len(X))
        for rows, known in self._by_chunks(X, seen):
            result[rows] = known.log_density
        return result

    def _by_chunks(
        self, X: np.ndarray, seen: np.ndarray
    ) -> Iterator[tuple[slice, Conditional]]:
        size = max(self.loadings.shape)
        if (seen != seen[:1]).any():
            size = max(size, self.loadings.shape[1] ** 2)
        for rows in gen_batches(len(X), chunk_rows(size)):
            patterns = distinct_patterns(seen[rows])
            yield rows, self.given_patterns(X[rows], seen[rows], *patterns)

    def given_patterns(
        self, X: np.ndarray, seen: np.ndarray, patterns: np.ndarray, which: np.ndarray
    ) -> Conditional:
        """Condition on the seen cells, with one inverse for each pattern of them."""
        n_codes = self.loadings.shape[1]
        if len(patterns) == 1:
            which = which[:1]
        outer = self.loadings[:, :, None] * self.loadings[:, None, :]
        precision = patterns.astype(float) @ outer.reshape(len(outer), n_codes**2)
        precision = precision.reshape(-1, n_codes, n_codes) / self.noise_variance
        precision += np.eye(n_codes)
        covariance = np.linalg.inv(precision)[which]
        log_determinant = np.linalg.slogdet(precision)[1][which]
        codes, expected = np.zeros((len(X), n_codes)), self.mean
        for _ in range(3):  # steps of refinement: little noise leaves few digits
            residuals = np.where(seen, X - expected, 0)
            pull = residuals @ self.loadings / self.noise_variance - codes
            codes += (covariance @ pull[:, :, None])[:, :, 0]
            expected = self.mean + codes @ self.loadings.T
        residuals = np.where(seen, X - expected, 0)
        exponent = (residuals**2).sum(axis=1) / self.noise_variance
        exponent += (codes**2).sum(axis=1)
        constant = seen.sum(axis=1) * np.log(2 * np.pi * self.noise_variance)
        return Conditional(
            codes,
            np.broadcast_to(covariance, (len(X), n_codes, n_codes)),
            np.where(seen, X, expected),
            -0.5 * (exponent + log_determinant + constant),
        )


def chunk_rows(size: int) -> int:
    """Return how many rows go together that need so many numbers each."""
    return max(1, min(LARGEST_STACK // size, CHUNK_ROWS))


@dataclass(frozen=True)
class Conditional:
    """What probabilistic PCA says of rows by their seen cells.

    Attributes
    ----------
    codes : ndarray of shape (n_samples, n_components)
        Posterior means.
    covariances : ndarray of shape (n_samples, n_components, n_components)
        Posterior covariances.
    filled : ndarray of shape (n_samples, n_features)
        The rows, with the conditional mean where a cell is not seen. Their projection
        is then exactly `codes`.
    log_density : ndarray of shape (n_samples,)
        Of the seen cells, in nats.
    """

    codes: np.ndarray
    covariances: np.ndarray
    filled: np.ndarray
    log_density: np.ndarray

    @property
    def variances(self) -> np.ndarray:
        """Posterior variance of each component, of shape (n_samples, n_components)."""
        return self.covariances.diagonal(axis1=1, axis2=2)
