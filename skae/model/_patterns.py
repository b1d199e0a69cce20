"""Rows by their patterns of seen cells, and Gaussians where these are the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

LARGEST_STACK = 2_000_000  # numbers in a stack of rows or matrices, one per part
SMALL = 8  # columns of a matrix that is inverted whole
Groups = Iterable[tuple[np.ndarray, np.ndarray]]  # patterns, and the rows of each


def distinct_patterns(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows of seen cells, and which of them each row has."""
    if (seen == seen[:1]).all():
        return seen[:1], np.zeros(len(seen), dtype=int)
    bits = np.packbits(seen, axis=1)
    _, first, which = np.unique(bits, axis=0, return_index=True, return_inverse=True)
    return seen[first], which.ravel()  # NumPy 2.0 gives it two axes


def patterns_of(seen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each pattern of seen cells, and the rows that have it."""
    patterns, which = distinct_patterns(seen)
    ends = np.bincount(which, minlength=1).cumsum()
    rows_of_each = np.split(np.argsort(which, kind="stable"), ends[:-1])
    yield from zip(patterns, rows_of_each, strict=False)  # of no rows, no pattern


@dataclass(frozen=True)
class Pattern:
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
        cls,
        means: np.ndarray,
        covariances: np.ndarray,
        seen: np.ndarray,
        wanted: np.ndarray | bool = True,
    ) -> Pattern:
        """Factorise covariances, without unseen columns that are not wanted."""
        order = np.r_[np.flatnonzero(seen), np.flatnonzero(~seen & wanted)]
        n_seen = int(seen.sum())
        factors = np.linalg.cholesky(covariances[:, order[:, None], order])
        whitening = inverse_of_triangles(factors[:, :n_seen, :n_seen])
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

    def leave_one_out(self, deviations: np.ndarray) -> np.ndarray:
        """Log-density of each seen number given the others [1]_.

        Of shape (n_parts, n_rows, n_seen). The precision matrix has all of them: a
        number is about as far from its mean given the others as what the matrix makes
        of the deviations, over its own precision, which is its element.

        References
        ----------
        .. [1] Rue, H. and Held, L. (2005). Gaussian Markov random fields, theorem 2.3.
        """
        pulls = deviations @ self.whitening.swapaxes(1, 2) @ self.whitening
        precisions = (self.whitening**2).sum(axis=1)[:, None]
        exponent = pulls**2 / precisions
        return 0.5 * (np.log(precisions / (2 * np.pi)) - exponent)

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


def inverse_of_triangles(factors: np.ndarray) -> np.ndarray:
    """Invert lower triangular matrices by halves, in a third of a general one's time.

    NumPy has no stacks of triangular ones, and SciPy none of any.
    """
    size = factors.shape[1]
    if size <= SMALL:
        return np.linalg.inv(factors)
    first, last = slice(size // 2), slice(size // 2, size)
    inverse = np.zeros_like(factors)
    inverse[:, first, first] = inverse_of_triangles(factors[:, first, first])
    inverse[:, last, last] = inverse_of_triangles(factors[:, last, last])
    between = factors[:, last, first] @ inverse[:, first, first]
    inverse[:, last, first] = -inverse[:, last, last] @ between
    return inverse


def softmax(parts: np.ndarray) -> np.ndarray:
    """Chance of each part by its log-density; SciPy's takes longer for a few rows."""
    chances = np.exp(parts - parts.max(axis=1, keepdims=True))
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))
