"""Columns of numbers and of levels, holes in them, and weights of their rows."""

from __future__ import annotations

import numpy as np


def table(n_samples=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_samples, 4)) * [1, 10, 1e-3, 1e5] + [0, 1e3, 0, -7]


def with_holes(n_samples=40, seed=0):
    holes = np.random.default_rng(seed + 1).random((n_samples, 4)) < 0.3
    return np.where(holes, np.nan, table(n_samples, seed))


def weights(n_samples=40, seed=1):
    return np.random.default_rng(seed).uniform(0.1, 3, size=n_samples)


def codes_of(*counts, seed=0):
    """Draw codes with a number of rows for each level, in any order."""
    codes = np.repeat(np.arange(len(counts)), counts).astype(float)
    return np.random.default_rng(seed).permutation(codes)
