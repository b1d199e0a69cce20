"""Weighted principal components: the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.decomposition import PCA
from sklearn.utils import gen_batches
from sklearn.utils.extmath import randomized_svd, svd_flip

from .._statistics import CHUNK_ROWS
from ._ppca import ProbabilisticPCA

SMALLEST_NOISE = 1e-12  # of the mean variance: keeps exact tables' density finite
LARGEST_SVD = 200_000_000  # products up to which it takes a fraction of a second
LARGEST_SPECTRUM = 500  # columns (or rows) up to which all eigenvalues do
LARGEST_PRODUCTS = 1_500  # the same up to which a few exact eigenvalues do
PRECISION = 1e-10  # of eigenvalues that are approached step by step
POWER_STEPS = 7  # that sharpen random directions, as in scikit-learn's PCA


@dataclass(frozen=True)
class PrincipalComponents:
    """The leading principal components of a table.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
    components : ndarray of shape (n_components, n_features)
        Orthonormal rows, by descending variance. Where the table has fewer directions
        than `n_components`, the remaining rows are zero.
    variances : ndarray of shape (n_components,)
        Variance along each component; zero for the rows that are zero.
    noise_variance : float
        Mean variance of the discarded directions, which is the noise of probabilistic
        PCA [1]_; among `min(n_samples, n_features)` directions, as in scikit-learn.
    column_scales : ndarray of shape (n_features,)
        Standard deviation of each column.
    reach : ndarray of shape (n_components,) or None
        Largest deviation of a row along each component, in standard deviations.

    References
    ----------
    .. [1] Tipping, M. E. and Bishop, C. M. (1999). Probabilistic principal component
       analysis. Journal of the Royal Statistical Society B, 61(3), 611-622.
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    noise_variance: float
    column_scales: np.ndarray
    reach: np.ndarray | None = None

    @property
    def projection(self) -> np.ndarray:
        """What takes a centred row to its code."""
        return self.components

    @property
    def directions(self) -> np.ndarray:
        """What takes a code back, as rows."""
        return self.components

    @property
    def input_scales(self) -> np.ndarray:
        """Deviations of the columns that are encoded."""
        return self.column_scales

    def code_scales(self) -> np.ndarray:
        """Return the deviation along each component, a typical one where it is zero."""
        return self.deviations(self.variances)

    def deviations(self, variances: np.ndarray) -> np.ndarray:
        """Return the roots of variances, a typical one of a column where it is zero."""
        typical = np.sqrt(np.mean(self.column_scales**2)) or 1.0
        deviations = np.sqrt(variances)
        return np.where(deviations > 1e-8 * typical, deviations, typical)

    def of_rows(
        self, X: np.ndarray, sample_weight: np.ndarray | None
    ) -> PrincipalComponents:
        """Return the same of other rows, without holes."""
        return principal_components(X, len(self.components), sample_weight)

    def reach_in(self, X: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
        """Return the largest deviation of a code, in standard deviations."""
        counts = np.ones(len(X)) if sample_weight is None else sample_weight > 0
        largest = np.zeros(len(self.projection))
        for rows in gen_batches(len(X), CHUNK_ROWS):
            centred = (X[rows] - self.mean) * counts[rows, None]
            codes = centred @ self.projection.T
            largest = np.maximum(largest, np.abs(codes).max(axis=0))
        return largest / self.code_scales()

    def probabilistic(self) -> ProbabilisticPCA:
        """Return probabilistic PCA in the axes of the principal components."""
        typical = float(np.mean(self.column_scales**2)) or 1.0
        noise = max(self.noise_variance, SMALLEST_NOISE * typical)
        total = np.maximum(self.variances, noise)
        loadings = np.sqrt(total - noise) * self.components.T
        return ProbabilisticPCA(self.mean, loadings, noise)


def principal_components(
    X: np.ndarray, n_components: int, sample_weight: np.ndarray | None = None
) -> PrincipalComponents:
    """Compute weighted PCA in float64, whatever the dtype of `X`.

    Variances are the unbiased ones (divisor n - 1 for equal weights), so that unit
    weights give the numbers of `sklearn.decomposition.PCA`.
    """
    n_samples, n_features = X.shape
    weight = np.ones(n_samples) if sample_weight is None else sample_weight
    mean = _weighted_sum(X, weight) / weight.sum()
    n_directions = min(n_samples, n_features)
    n_kept = min(n_components, n_directions)
    spectrum = _directions(X, mean, weight, n_kept)
    found = _assembled(mean, spectrum, n_components, n_directions)
    return replace(found, reach=found.reach_in(X, sample_weight))


def _assembled(
    mean: np.ndarray,
    spectrum: tuple[np.ndarray, np.ndarray, np.ndarray],
    n_components: int,
    n_directions: int,
) -> PrincipalComponents:
    """Keep the leading directions; what the others carry is noise."""
    directions, variances, column_variances = spectrum
    n_kept = min(n_components, len(directions))
    total = column_variances.sum()
    components = np.zeros((n_components, len(mean)))
    components[:n_kept] = directions[:n_kept]
    kept = np.zeros(n_components)
    kept[:n_kept] = variances[:n_kept]
    n_discarded = n_directions - n_kept
    noise = max(total - kept.sum(), 0.0) / n_discarded if n_discarded else 0.0
    if len(variances) > n_kept:  # their own sum is exact where the difference cancels
        noise = variances[n_kept:].mean()
    scales = np.sqrt(np.maximum(column_variances, 0.0))
    return PrincipalComponents(mean, components, kept, float(noise), scales)


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of rows without holes, however many chunks they came in.

    Attributes
    ----------
    n_rows : int
    mean : ndarray of shape (n_columns,)
    scatter : ndarray of shape (n_columns, n_columns)
        Products of deviations from the mean, summed over the rows.
    """

    n_rows: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray) -> Moments:
        mean = X.mean(axis=0, dtype=np.float64)
        centred = X - mean
        return cls(len(X), mean, centred.T @ centred)

    def merge(self, other: Moments) -> Moments:
        """Return those of both, in any order the same but for rounding."""
        n_rows = self.n_rows + other.n_rows
        away = other.mean - self.mean
        share = other.n_rows / n_rows
        between = self.n_rows * share * np.outer(away, away)
        scatter = self.scatter + other.scatter + between
        return Moments(n_rows, self.mean + share * away, scatter)

    def principal_components(self, n_components: int) -> PrincipalComponents:
        """Compute PCA of all the rows; how far these reach is not known."""
        covariance = self.scatter / max(self.n_rows - 1, 1)
        n_directions = min(self.n_rows, len(self.mean))
        n_kept = min(n_components, n_directions)
        directions, variances = leading_directions(covariance, n_kept)
        exist = slice(n_directions)
        spectrum = directions[exist], variances[exist], covariance.diagonal().copy()
        return _assembled(self.mean, spectrum, n_components, n_directions)


def _directions(
    X: np.ndarray, mean: np.ndarray, weight: np.ndarray, n_kept: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return directions, the variances along them and those of the columns.

    They come from the rows where these are few, from products of rows or of columns,
    whichever are fewer, where that is not, and from random directions [1]_ where both
    are many.

    References
    ----------
    .. [1] Halko, N., Martinsson, P.-G. and Tropp, J. A. (2011). Finding structure with
       randomness. SIAM Review 53(2), 217-288.
    """
    n_samples, n_features = X.shape
    n_directions, size = min(X.shape), X.size
    is_long = n_samples >= 10 * n_features
    are_many = is_large(n_directions, n_kept)
    if is_long and not are_many:
        covariance = covariance_of(X, mean, weight)
        return *leading_directions(covariance, n_kept), covariance.diagonal().copy()
    rows = deviations_of(X, mean, weight)
    if size * n_directions <= LARGEST_SVD:
        directions, variances = _by_svd(rows)
        return directions, variances, (directions.T**2) @ variances
    column_variances = np.einsum("nj,nj->j", rows, rows)
    if are_many:
        _, singular_values, directions = randomized_svd(
            rows, n_kept, n_iter=POWER_STEPS, flip_sign=False, random_state=0
        )
        variances = singular_values**2
    elif n_samples < n_features:
        left, variances = leading_directions(rows @ rows.T, n_kept)
        directions = orthonormal(left[:n_kept] @ rows)
    else:
        directions, variances = leading_directions(rows.T @ rows, n_kept)
    _, directions = svd_flip(None, directions, u_based_decision=False)
    return directions, variances, column_variances


def is_large(n_directions: int, n_kept: int) -> bool:
    """Tell whether a few directions are not worth the eigenvectors of matrices."""
    return n_directions > LARGEST_PRODUCTS and 10 * n_kept < n_directions


def orthonormal(directions: np.ndarray) -> np.ndarray:
    """Make rows orthonormal, even where rounding is all that is left of a variance."""
    directions = linalg.qr(directions.T, mode="economic")[0].T
    return np.asarray(svd_flip(None, directions, u_based_decision=False)[1])


def deviations_of(
    X: np.ndarray, mean: np.ndarray, sample_weight: np.ndarray | None
) -> np.ndarray:
    """Return rows whose products are the unbiased covariance about a mean."""
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    return np.asarray(
        (X - mean) * np.sqrt(weight / _degrees_of_freedom(weight))[:, None]
    )


def _degrees_of_freedom(weight: np.ndarray) -> float:
    """Return the divisor of an unbiased variance.

    Whole weights count rows that were given several times, others say how much a row
    can be relied on.
    """
    total = weight.sum()
    if total > 1 and (weight % 1 == 0).all():
        return float(total - 1)
    return float(total - (weight**2).sum() / total) or 1.0  # a single row


def _weighted_sum(X: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sum the weighted rows in float64 without a second table in memory."""
    total = np.zeros(X.shape[1])
    for rows in gen_batches(len(X), CHUNK_ROWS):
        total += weight[rows] @ X[rows].astype(np.float64, copy=False)
    return total


def principal_components_of_sparse(
    X: Any, centre: np.ndarray, n_components: int
) -> PrincipalComponents:
    """Compute PCA of a sparse matrix less a row, which is never made dense.

    By Lanczos' method; how far rows reach is not known.
    """
    n_directions = min(X.shape)
    n_kept = min(n_components, n_directions - 1)
    found = PCA(n_kept, svd_solver="arpack", random_state=0).fit(X)
    squares = np.asarray(X.multiply(X).mean(axis=0)).ravel()
    column_variances = (squares - found.mean_**2) * X.shape[0] / (X.shape[0] - 1)
    _, directions = svd_flip(None, found.components_, u_based_decision=False)
    spectrum = directions, found.explained_variance_, column_variances
    mean = found.mean_ - centre
    return _assembled(mean, spectrum, n_components, n_directions)


def _by_svd(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, singular_values, right = linalg.svd(
        rows, full_matrices=False, check_finite=False, overwrite_a=True
    )
    _, right = svd_flip(left, right, u_based_decision=False)
    return right, singular_values**2


def covariance_of(
    X: np.ndarray, mean: np.ndarray, sample_weight: np.ndarray | None = None
) -> np.ndarray:
    """Compute the unbiased covariance of weighted rows about their mean."""
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    roots = np.sqrt(weight / _degrees_of_freedom(weight))
    covariance = np.zeros((X.shape[1], X.shape[1]))
    for rows in gen_batches(len(X), CHUNK_ROWS):
        centred = (X[rows] - mean) * roots[rows, None]
        covariance += centred.T @ centred  # in half the time of other products
    return covariance


def directions_of_product(
    product: Callable[[np.ndarray], np.ndarray], size: int, n_kept: int
) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvectors of a covariance that is known by its products alone.

    By Lanczos' method.
    """
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=size)
    if not product(start).any():  # which Lanczos' method cannot do without
        return np.eye(n_kept, size), np.zeros(n_kept)
    n_vectors = min(max(4 * n_kept, 20), size)
    variances, vectors = eigsh(operator, n_kept, v0=start, ncv=n_vectors, tol=PRECISION)
    order = np.argsort(variances)[::-1]
    directions = orthonormal(vectors[:, order].T)
    return directions, np.maximum(variances[order], 0.0)


def leading_directions(
    covariance: np.ndarray, n_kept: int
) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvectors as rows, by descending eigenvalue.

    All eigenvalues come back for small matrices, only the leading ones for large.
    """
    size = len(covariance)
    wanted = [0, size - 1] if size <= LARGEST_SPECTRUM else [size - n_kept, size - 1]
    variances, vectors = linalg.eigh(
        covariance, subset_by_index=wanted, check_finite=False, overwrite_a=False
    )
    directions = vectors.T[::-1]
    _, directions = svd_flip(None, directions, u_based_decision=False)
    return directions, np.maximum(variances[::-1], 0.0)
