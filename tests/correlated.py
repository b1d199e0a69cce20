"""Tables of correlated columns, and how models of them are compared."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

TALL, SQUARE, WIDE = (120, 5), (20, 6), (6, 9)  # eigenvalues, then twice an SVD
N_COLUMNS, N_CODES = 5, 2
SHAPES = pytest.mark.parametrize("shape", [TALL, SQUARE, WIDE], ids=str)


def table(shape, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(shape[1], shape[1]))
    return rng.normal(size=shape) @ mixing + rng.normal(size=shape[1])


def assert_same(left, right, **tolerance):
    for name in vars(left):
        assert_allclose(
            getattr(left, name), getattr(right, name), err_msg=name, **tolerance
        )


def model_of(ppca):
    """Return the multivariate normal that probabilistic PCA is."""
    covariance = ppca.loadings @ ppca.loadings.T
    covariance += ppca.noise_variance * np.eye(len(ppca.mean))
    return stats.multivariate_normal(ppca.mean, covariance)


def holes(shape, share=0.3, seed=5):
    """Return which cells are seen where holes fall at random."""
    return np.random.default_rng(seed).uniform(size=shape) >= share
