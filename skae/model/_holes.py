"""Principal components of tables with holes, by the EM algorithm."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from scipy import linalg
from sklearn.utils import gen_batches
from sklearn.utils.extmath import svd_flip

from .._schema import Encoded
from ._pca import PrincipalComponents, principal_components
from ._ppca import LARGEST_STACK, ProbabilisticPCA

SMALLEST_SEEN_NOISE = 1e-6  # the same where holes leave a matrix to invert
EM_STEPS = 50
DEFAULT_SHARE = 0.9  # of the variance, that n_components="auto" explains linearly
WIDEST_WITH_HOLES = 50  # components of a spectrum that is learned by EM
EM_ROWS = 20_000  # holes are learned from as many rows as that, evenly spaced


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


def code_width(n_components: Any, encoded: Encoded) -> int:
    """Read the parameter `n_components`: a width, or a share of the variance.

    A share, for which "auto" stands too, is what so many components explain linearly.
    """
    if isinstance(n_components, Integral):
        return int(n_components)
    share = DEFAULT_SHARE if n_components == "auto" else n_components
    widest, seen = min(encoded.matrix.shape), encoded.columns_seen
    if seen is not None:
        widest = min(widest, WIDEST_WITH_HOLES)
    spectrum = principal_components_of(encoded.matrix, seen, widest, encoded.weight)
    total = (spectrum.column_scales**2).sum()
    explained = spectrum.variances.cumsum()
    return 1 + min(int(np.searchsorted(explained, share * total)), widest - 1)


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
    reach = np.full(n_components, np.inf)  # not measured where holes leave it open
    return PrincipalComponents(
        ppca.mean, components, variances, ppca.noise_variance, scales, reach
    )
