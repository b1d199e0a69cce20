"""Whether a column of numbers is better told by normal scores, or on its own scale."""

from __future__ import annotations

import numpy as np
from scipy.stats import gaussian_kde, norm

from .._statistics import exceed_their_error
from ._scores import SmoothScores
from ._summaries import mean_and_deviation

MOST_ROWS = 50_000  # that are looked at for spikes
MOST_VALUES = 1_000  # of a column, that decide
MOST_CELLS = 50_000  # the same, of all columns together
FEWEST_VALUES = 30
N_FOLDS = 3
FARTHEST = 6  # deviations that a few Gaussians may have to reach
BANDWIDTHS = (0.1, 0.2, 0.4)  # of a kernel, in standard deviations


def likelier_scaling(
    column: np.ndarray, sample_weight: np.ndarray | None, n_columns: int = 1
) -> str:
    """Choose "standard" or "quantile" for a column that a mixture will have a part in.

    Normal scores are for spikes, edges and heavy tails. They pay for it: their slope is
    estimated, and clusters that are Gaussian are so no longer. A column without spikes
    keeps its own scale where a normal or a kernel density has values that it has not
    seen likelier than scores have.

    Parameters
    ----------
    column : ndarray of shape (n_samples,)
        Missing cells are NaN.
    sample_weight : ndarray of shape (n_samples,) or None
    n_columns : int, default=1
        Of the table: where they are many, few values of each decide.
    """
    step = -(-len(column) // MOST_ROWS)
    weight = np.ones(len(column)) if sample_weight is None else sample_weight
    column, weight = column[::step], weight[::step]
    kept = ~np.isnan(column) & (weight > 0)
    values, which = np.unique(column[kept].astype(np.float64), return_inverse=True)
    if len(values) < FEWEST_VALUES or len(SmoothScores(column, weight).spikes):
        return "quantile"
    # By value, not by row: the order of a table and copies of its rows say nothing.
    most = min(MOST_VALUES, max(MOST_CELLS // n_columns, FEWEST_VALUES))
    some = np.random.default_rng(0).permutation(len(values))[:most]
    mass, values = np.bincount(which, weight[kept])[some], values[some]
    mean, deviation = mean_and_deviation(values[:, None], mass)
    values = (values - mean) / deviation
    if np.abs(values).max() > FARTHEST:
        return "quantile"
    fold = np.arange(len(values)) % N_FOLDS
    by_scores = np.empty(len(values))
    by_humps = np.empty((len(values), 1 + len(BANDWIDTHS)))
    for k in range(N_FOLDS):
        rest, own = fold != k, fold == k
        known = values[rest], mass[rest], values[own]
        by_scores[own] = _by_scores(*known)
        kernels = [_by_kernels(*known, width) for width in BANDWIDTHS]
        by_humps[own] = np.column_stack([_by_normal(*known), *kernels])
    best = by_humps[:, np.argmax(mass @ by_humps)]
    gains = (best - by_scores) * mass / mass.mean()
    return "standard" if exceed_their_error(gains) else "quantile"


def _by_normal(rest: np.ndarray, mass: np.ndarray, own: np.ndarray) -> np.ndarray:
    return np.asarray(norm.logpdf(own, *mean_and_deviation(rest[:, None], mass)))


def _by_scores(rest: np.ndarray, mass: np.ndarray, own: np.ndarray) -> np.ndarray:
    smooth = SmoothScores(rest, mass)
    of_scores = _by_normal(smooth.scores(rest), mass, smooth.scores(own))
    return of_scores + smooth.log_slope(own)


def _by_kernels(
    rest: np.ndarray, mass: np.ndarray, own: np.ndarray, bandwidth: float
) -> np.ndarray:
    return np.asarray(gaussian_kde(rest, bandwidth, weights=mass).logpdf(own))
