"""Weighted principal components, of tables with or without holes: the start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg
from sklearn.utils import gen_batches
from sklearn.utils.extmath import svd_flip

CHUNK_ROWS = 8192
SMALLEST_NOISE = 1e-12  # of the mean variance: keeps exact tables' density finite
SMALLEST_SEEN_NOISE = 1e-6  # the same where holes leave a matrix to invert
LARGEST_SVD = 1000  # columns (or rows) up to which a full SVD takes a second at most
LARGEST_STACK = 2_000_000  # numbers in a stack of matrices, one matrix per row
EM_STEPS = 50
EM_ROWS = 20_000  # holes are learned from as many rows as that, evenly spaced


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

    def code_scales(self) -> np.ndarray:
        """Return the deviation along each component, a typical one where it is zero."""
        typical = np.sqrt(np.mean(self.column_scales**2)) or 1.0
        deviations = np.sqrt(self.variances)
        return np.where(deviations > 1e-8 * typical, deviations, typical)

    def probabilistic(self) -> ProbabilisticPCA:
        """Return probabilistic PCA in the axes of the principal components."""
        typical = float(np.mean(self.column_scales**2)) or 1.0
        noise = max(self.noise_variance, SMALLEST_NOISE * typical)
        total = np.maximum(self.variances, noise)
        loadings = np.sqrt(total - noise) * self.components.T
        return ProbabilisticPCA(self.mean, loadings, noise)


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

    def given(self, X: np.ndarray, seen: np.ndarray) -> Conditional:
        """Condition on the seen cells of each row.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Cells that are not seen may hold any finite value.
        seen : ndarray of bool of shape (n_samples, n_features)
        """
        parts = [self._given(X[rows], seen[rows]) for rows in self._chunks(len(X))]
        fields = zip(*(vars(part).values() for part in parts), strict=True)
        return Conditional(*map(np.concatenate, fields))

    def log_density(self, X: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Log-density of the seen cells of each row, in nats."""
        result = np.empty(len(X))
        same = (seen == seen[:1]).all()
        for rows in self._chunks(len(X), CHUNK_ROWS if same else None):
            result[rows] = self._given(X[rows], seen[rows]).log_density
        return result

    def _chunks(self, n_rows: int, chunk_rows: int | None = None) -> Iterator[slice]:
        n_codes = self.loadings.shape[1]
        return gen_batches(n_rows, chunk_rows or max(1, LARGEST_STACK // n_codes**2))

    def _given(self, X: np.ndarray, seen: np.ndarray) -> Conditional:
        """Condition on the seen cells, with one inverse for each pattern of holes."""
        n_codes = self.loadings.shape[1]
        patterns, which = seen[:1], np.zeros(1, dtype=int)
        if (seen != patterns).any():
            patterns, which = np.unique(seen, axis=0, return_inverse=True)
        outer = self.loadings[:, :, None] * self.loadings[:, None, :]
        precision = patterns.astype(float) @ outer.reshape(len(outer), -1)
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


def principal_components_of(
    X: np.ndarray,
    seen: np.ndarray | None,
    n_components: int,
    sample_weight: np.ndarray | None = None,
) -> PrincipalComponents:
    """Compute weighted PCA of a table with holes, or without where `seen` is None."""
    if seen is None:
        return principal_components(X, n_components, sample_weight)
    return principal_components_of_seen(X, seen, n_components, sample_weight)


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
    divisor = weight.sum() - (weight**2).sum() / weight.sum()
    n_directions = min(n_samples, n_features)
    n_kept = min(n_components, n_directions)

    if n_samples < 10 * n_features and n_directions <= LARGEST_SVD:
        directions, variances = _by_svd(X, mean, weight / divisor)
        total = variances.sum()
        column_variances = (directions.T**2) @ variances
    else:
        covariance = _covariance(X, mean, weight / divisor)
        directions, variances = _by_eigenvalues(covariance, n_kept)
        column_variances = covariance.diagonal().copy()
        total = column_variances.sum()

    components = np.zeros((n_components, n_features))
    components[:n_kept] = directions[:n_kept]
    kept = np.zeros(n_components)
    kept[:n_kept] = variances[:n_kept]
    n_discarded = n_directions - n_kept
    noise = max(total - kept.sum(), 0.0) / n_discarded if n_discarded else 0.0
    if len(variances) > n_kept:  # their own sum is exact where the difference cancels
        noise = variances[n_kept:].mean()
    scales = np.sqrt(np.maximum(column_variances, 0.0))
    return PrincipalComponents(mean, components, kept, float(noise), scales)


def _weighted_sum(X: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sum the weighted rows in float64 without a second table in memory."""
    total = np.zeros(X.shape[1])
    for rows in gen_batches(len(X), CHUNK_ROWS):
        total += weight[rows] @ X[rows].astype(np.float64, copy=False)
    return total


def _by_svd(
    X: np.ndarray, mean: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    rows = (X - mean) * np.sqrt(weight)[:, None]
    left, singular_values, right = linalg.svd(
        rows, full_matrices=False, check_finite=False, overwrite_a=True
    )
    _, right = svd_flip(left, right, u_based_decision=False)
    return right, singular_values**2


def _covariance(X: np.ndarray, mean: np.ndarray, weight: np.ndarray) -> np.ndarray:
    covariance = np.zeros((X.shape[1], X.shape[1]))
    for rows in gen_batches(len(X), CHUNK_ROWS):
        centred = X[rows] - mean
        covariance += (centred * weight[rows, None]).T @ centred
    return covariance


def _by_eigenvalues(
    covariance: np.ndarray, n_kept: int
) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvectors as rows, by descending eigenvalue.

    All eigenvalues come back for small matrices, only the leading ones for large.
    """
    size = len(covariance)
    wanted = [0, size - 1] if size <= LARGEST_SVD else [size - n_kept, size - 1]
    variances, vectors = linalg.eigh(
        covariance, subset_by_index=wanted, check_finite=False, overwrite_a=False
    )
    directions = vectors.T[::-1]
    _, directions = svd_flip(None, directions, u_based_decision=False)
    return directions, np.maximum(variances[::-1], 0.0)


def principal_components_of_seen(
    X: np.ndarray,
    seen: np.ndarray,
    n_components: int,
    sample_weight: np.ndarray | None = None,
) -> PrincipalComponents:
    """Compute weighted PCA of a table with holes, by the EM algorithm [1]_.

    What comes back is the maximum of the likelihood of the seen cells under
    probabilistic PCA, in its principal axes, with a weak standard normal prior on the
    loadings for columns that few rows have.

    References
    ----------
    .. [1] Ilin, A. and Raiko, T. (2010). Practical approaches to principal component
       analysis in the presence of missing values. JMLR 11, 1957-2000.
    """
    rows = np.arange(0, len(X), -(-len(X) // EM_ROWS))
    X, seen = X[rows].astype(np.float64), seen[rows]
    weight = np.ones(len(X)) if sample_weight is None else sample_weight[rows]
    centre, scales = _moments_of_seen(X, seen, weight)
    X = X - centre
    n_kept = min(n_components, max(X.shape[1] - 1, 1), len(X) - 1)
    start = principal_components(np.where(seen, X, 0.0), n_kept, weight)
    typical = float(np.mean(scales**2)) or 1.0
    floor = SMALLEST_SEEN_NOISE * typical
    noise = max(start.noise_variance, floor)
    ppca = replace(start, noise_variance=noise).probabilistic()
    for _ in range(EM_STEPS):
        before, ppca = ppca, _em_step(ppca, X, seen, weight, floor, typical)
        moved = np.abs(ppca.loadings - before.loadings).max()
        if moved < 1e-3 * np.sqrt(typical):
            break
    ppca = replace(ppca, mean=ppca.mean + centre)
    return _principal_axes(ppca, n_components, scales)


def _moments_of_seen(
    X: np.ndarray, seen: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of the seen cells of each column."""
    total = np.maximum(weight @ seen, np.finfo(float).tiny)
    mean = weight @ np.where(seen, X, 0) / total
    return mean, np.sqrt(weight @ np.where(seen, X - mean, 0) ** 2 / total)


def _em_step(
    ppca: ProbabilisticPCA,
    X: np.ndarray,
    seen: np.ndarray,
    weight: np.ndarray,
    smallest_noise: float,
    prior_variance: float = 1.0,
) -> ProbabilisticPCA:
    """Regress each column, over the rows that have it, on codes and a constant.

    With the parameter expansion of Liu, Rubin and Wu (1998), Biometrika 85, 755-770,
    which takes a tenth of the steps.
    """
    n_columns, n_codes = ppca.loadings.shape
    size = n_codes + 1
    moments = np.zeros((n_columns, size, size))
    products = np.zeros((n_columns, size))
    spread = np.zeros((size, size))
    for rows in gen_batches(len(X), max(1, LARGEST_STACK // size**2)):
        known = ppca.given(X[rows], seen[rows])
        regressors = np.c_[known.codes, np.ones(len(known.codes))]
        second = regressors[:, :, None] * regressors[:, None, :]
        second[:, :n_codes, :n_codes] += known.covariances
        counted = (seen[rows] * weight[rows, None]).T
        spread += np.tensordot(weight[rows], second, axes=1)
        moments += (counted @ second.reshape(len(second), -1)).reshape(moments.shape)
        products += (counted * X[rows].T) @ regressors
    squares = weight @ np.where(seen, X, 0) ** 2
    prior = ppca.noise_variance / prior_variance * np.eye(size)
    prior[n_codes, n_codes] = np.finfo(float).eps
    weights = np.linalg.solve(moments + prior, products[:, :, None])[:, :, 0]
    explained = 2 * products - (moments @ weights[:, :, None])[:, :, 0]
    errors = squares - (weights * explained).sum(axis=1)
    noise = max(errors.sum() / (weight @ seen).sum(), smallest_noise)
    # Parameter expansion: codes of any mean and spread, put back to N(0, I).
    centre = spread[:n_codes, n_codes] / weight.sum()
    spread = spread[:n_codes, :n_codes] / weight.sum() - np.outer(centre, centre)
    loadings, mean = weights[:, :n_codes], weights[:, n_codes]
    return ProbabilisticPCA(
        mean + loadings @ centre, loadings @ np.linalg.cholesky(spread), float(noise)
    )


def _principal_axes(
    ppca: ProbabilisticPCA, n_components: int, scales: np.ndarray
) -> PrincipalComponents:
    """Rotate the loadings to orthogonal ones, which leaves the density as it is."""
    directions, lengths, _ = linalg.svd(ppca.loadings, full_matrices=False)
    directions, _ = svd_flip(directions, None, u_based_decision=True)
    n_kept = len(lengths)
    components = np.zeros((n_components, len(ppca.mean)))
    components[:n_kept] = directions.T
    variances = np.zeros(n_components)
    exists = lengths > 1e-8 * lengths.max(initial=0)
    variances[:n_kept] = np.where(exists, lengths**2 + ppca.noise_variance, 0)
    return PrincipalComponents(
        ppca.mean, components, variances, ppca.noise_variance, scales
    )
