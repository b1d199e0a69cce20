"""Mixtures of numbers and levels, and rows of far parts."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skae.model._level_columns import LevelColumns
from skae.model._mixture import Mixture

N_NUMBERS, WIDTHS = 3, (1, 3, 2)  # two levels, three, and two as two indicators
SEEDS = st.integers(0, 10_000)
CELLS = st.integers(1, 10).flatmap(lambda n: arrays(bool, (n, N_NUMBERS + 3)))
NO_LEVELS = LevelColumns()


def draws(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def whole(X):
    return np.ones(X.shape, dtype=bool)


def level_columns(widths=WIDTHS, seed=0):
    rng, width = np.random.default_rng(seed), sum(widths)
    scale = np.repeat(rng.uniform(0.3, 2, len(widths)), widths)
    return LevelColumns(widths, rng.uniform(0.1, 0.9, width), scale)


def mixture(n_parts=3, n_numbers=N_NUMBERS, widths=WIDTHS, seed=0):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(n_parts, n_numbers, n_numbers))
    covariances = roots @ roots.swapaxes(1, 2) + 0.3 * np.eye(n_numbers)
    chances = [rng.dirichlet(np.ones(max(m, 2)), n_parts)[:, -m:] for m in widths]
    return Mixture(
        rng.dirichlet(np.ones(n_parts)),
        2 * rng.normal(size=(n_parts, n_numbers)),
        covariances,
        np.concatenate([np.empty((n_parts, 0)), *chances], axis=1),
        level_columns(widths, seed),
    )


def drawn(density, n_rows, seed=0):
    return density.sample(n_rows, np.random.default_rng(seed))


def columns_of(cells, n_numbers=N_NUMBERS, widths=WIDTHS):
    """Repeat what is said of cells for each column of the matrix."""
    return np.repeat(cells, [1] * n_numbers + list(widths), axis=1)


def combinations(levels):
    """Return every combination of levels, as standardised indicators."""
    each = [[[0], [1]] if m == 1 else np.eye(m).tolist() for m in levels.widths]
    rows = [np.concatenate(row) for row in itertools.product(*each)]
    return levels.standardised(np.array(rows))


def conditioned(density, row, seen, memberships):
    """Return the mixture of the unseen cells, by the textbook's formulas."""
    count = density.means.shape[1]
    a, b = ~seen[:count], seen[:count]
    means, covariances = [], []
    for mean, cov in zip(density.means, density.covariances, strict=True):
        gain = cov[np.ix_(a, b)] @ np.linalg.inv(cov[np.ix_(b, b)])
        means.append(mean[a] + gain @ (row[:count][b] - mean[b]))
        covariances.append(cov[np.ix_(a, a)] - gain @ cov[np.ix_(b, a)])
    old, left = density.levels, ~seen[count:]
    pairs = zip(old.widths, old.spans, strict=True)
    widths = tuple(width for width, span in pairs if left[span][0])
    levels = LevelColumns(widths, old.centre[left], old.scale[left])
    chances = density.chances[:, left]
    return Mixture(memberships, np.array(means), np.array(covariances), chances, levels)


def parameters(density):
    fields = density.weights, density.means, density.covariances, density.chances
    return np.concatenate([np.ravel(array) for array in fields])


def clusters(n_rows, seed=0, share=0.0):
    """Return rows of three far parts that differ in numbers and levels, and seen."""
    rng = np.random.default_rng(seed)
    levels = LevelColumns((1, 3), np.full(4, 0.4), np.full(4, 0.8))
    part = rng.integers(3, size=n_rows)
    numbers = np.array([[0, 0], [9, 0], [0, 9]])[part] + rng.normal(size=(n_rows, 2))
    two = rng.uniform(size=n_rows) < np.array([0.1, 0.5, 0.9])[part]
    three = np.eye(3)[np.where(rng.uniform(size=n_rows) < 0.8, part, 0)]
    X = np.c_[numbers / 4, levels.standardised(np.c_[two, three])]
    cells = rng.uniform(size=(n_rows, 4)) >= share
    return X, columns_of(cells, 2, (1, 3)), levels
