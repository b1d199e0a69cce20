"""Principal components of tables with holes, by the EM algorithm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from scipy import linalg
from sklearn.utils import gen_batches
from sklearn.utils.extmath import svd_flip

from .._schema import Encoded
from ._patterns import distinct_patterns
from ._pca import PrincipalComponents, principal_components
from ._ppca import ProbabilisticPCA, chunk_rows

SMALLEST_SEEN_NOISE = 1e-6  # the same where holes leave a matrix to invert
EM_STEPS = 50
DEFAULT_SHARE = 0.9  # of the variance, that n_components="auto" explains linearly
WIDEST_WITH_HOLES = 50  # components of a spectrum that is learned by EM
EM_ROWS = 20_000  # holes are learned from as many rows as that, evenly spaced
EM_WORK = 500_000_000  # and of fewer, where codes are wide: products, in a step
FEW_ROWS = 1_500  # that the first steps take
THINNING = 4  # times fewer rows in the steps before
LAST_STEPS = 4  # at most, of all rows; as many more of fewer


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
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    n_kept = min(n_components, max(X.shape[1] - 1, 1), len(X) - 1)
    most = max(EM_WORK // (n_kept**2 * (n_kept + X.shape[1])), FEW_ROWS)
    rows = np.arange(0, len(X), -(-len(X) // min(EM_ROWS, most)))
    X, seen, weight = X[rows].astype(np.float64), seen[rows], weight[rows]
    centre, scales = _moments_of_seen(X, seen, weight)
    X -= centre
    X[~seen] = 0.0
    start = principal_components(X, n_kept, weight)
    typical = float(np.mean(scales**2)) or 1.0
    floor = SMALLEST_SEEN_NOISE * typical
    noise = max(start.noise_variance, floor)
    ppca = replace(start, noise_variance=noise).probabilistic()
    for thinning in _thinnings(len(X)):
        each = slice(None, None, thinning)
        some = SeenRows.of(X[each], seen[each], weight[each], n_kept + 1)
        for _ in range(EM_STEPS if len(some) <= FEW_ROWS else thinning * LAST_STEPS):
            before, ppca = ppca, _em_step(ppca, some, floor, typical)
            moved = np.abs(ppca.loadings - before.loadings).max()
            if moved < 1e-3 * np.sqrt(typical):
                break
    ppca = replace(ppca, mean=ppca.mean + centre)
    return _principal_axes(ppca, n_components, scales)


def _thinnings(n_rows: int) -> list[int]:
    """Return how far apart rows are: many steps see few of them, and few see all."""
    thinnings = [1]
    while n_rows > FEW_ROWS * thinnings[-1]:
        thinnings.append(THINNING * thinnings[-1])
    return thinnings[::-1]


def _moments_of_seen(
    X: np.ndarray, seen: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of the seen cells of each column."""
    total = np.maximum(weight @ seen, np.finfo(float).tiny)
    mean = weight @ np.where(seen, X, 0) / total
    return mean, np.sqrt(weight @ np.where(seen, X - mean, 0) ** 2 / total)


@dataclass(frozen=True)
class SeenRows:
    """Rows as each step of EM needs them.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_columns)
    seen : ndarray of bool of shape (n_rows, n_columns)
    weight : ndarray of shape (n_rows,)
    chunks : list of slice, and the patterns of seen cells and that of each row in it
    """

    X: np.ndarray
    seen: np.ndarray
    weight: np.ndarray
    chunks: list[tuple[slice, tuple[np.ndarray, np.ndarray]]]

    def __len__(self) -> int:
        return len(self.X)

    @classmethod
    def of(
        cls, X: np.ndarray, seen: np.ndarray, weight: np.ndarray, n_regressors: int
    ) -> SeenRows:
        """Find the patterns of holes, so many rows at once as memory has matrices."""
        batches = gen_batches(len(X), chunk_rows(max(n_regressors**2, X.shape[1])))
        chunks = [(rows, distinct_patterns(seen[rows])) for rows in batches]
        return cls(X, seen, weight, chunks)


def _em_step(
    ppca: ProbabilisticPCA,
    rows: SeenRows,
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
    squares, masses = np.zeros((2, n_columns))
    spread = np.zeros((size, size))
    for part, patterns in rows.chunks:
        X, seen, weight = rows.X[part], rows.seen[part], rows.weight[part]
        known = ppca.given_patterns(X, seen, *patterns)
        regressors = np.c_[known.codes, np.ones(len(known.codes))]
        second = regressors[:, :, None] * regressors[:, None, :]
        second[:, :n_codes, :n_codes] += known.covariances
        counted = (seen * weight[:, None]).T
        spread += np.tensordot(weight, second, axes=1)
        moments += (counted @ second.reshape(len(second), -1)).reshape(moments.shape)
        products += (counted * X.T) @ regressors
        squares += (counted * X.T**2).sum(axis=1)
        masses += counted.sum(axis=1)
    total = rows.weight.sum()
    prior = ppca.noise_variance / prior_variance * np.eye(size)
    prior[n_codes, n_codes] = np.finfo(float).eps
    weights = np.linalg.solve(moments + prior, products[:, :, None])[:, :, 0]
    explained = 2 * products - (moments @ weights[:, :, None])[:, :, 0]
    errors = squares - (weights * explained).sum(axis=1)
    noise = max(errors.sum() / masses.sum(), smallest_noise)
    # Parameter expansion: codes of any mean and spread, put back to N(0, I).
    centre = spread[:n_codes, n_codes] / total
    spread = spread[:n_codes, :n_codes] / total - np.outer(centre, centre)
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
