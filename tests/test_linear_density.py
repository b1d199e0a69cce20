"""Probabilistic PCA beside independent levels, against scipy and a mixture."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mixtures import (
    CELLS,
    N_NUMBERS,
    NO_LEVELS,
    SEEDS,
    columns_of,
    drawn,
    draws,
    mixture,
    whole,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skae.model import _linear_density
from skae.model._linear_density import linear_density
from skae.model._mixture import Mixture


def linear():
    one = mixture(1)
    return linear_density(
        one.means[0], draws(N_NUMBERS, 2), 0.4, one.chances[0], one.levels
    )


@given(cells=CELLS, seed=SEEDS, n_codes=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_the_linear_density_is_the_mixture_of_one_part(cells, seed, n_codes):
    one, loadings = mixture(1, seed=seed), draws(N_NUMBERS, n_codes, seed=seed)
    covariance = loadings @ loadings.T + 0.3 * np.eye(N_NUMBERS)
    one = Mixture(one.weights, one.means, covariance[None], one.chances, one.levels)
    linear = linear_density(one.means[0], loadings, 0.3, one.chances[0], one.levels)
    X, seen = drawn(one, len(cells), seed), columns_of(cells)
    found, expected = linear.given(X, seen), one.given(X, seen)
    assert_allclose(found.log_density, expected.log_density, atol=1e-9)
    assert_allclose(found.moments(), expected.moments(), atol=1e-9)


def test_the_linear_density_of_a_wide_table_is_scipys():
    mean, loadings = draws(300), draws(300, 5)
    linear = linear_density(mean, loadings, 0.2, np.empty(0), NO_LEVELS)
    X = drawn(linear, 10)
    covariance = loadings @ loadings.T + 0.2 * np.eye(300)
    expected = stats.multivariate_normal(mean, covariance).logpdf(X)
    assert_allclose(linear.given(X, whole(X)).log_density, expected)


def test_nothing_seen_tells_a_linear_density_exactly_nothing():
    density = linear()
    X = drawn(density, 5)
    seen = np.zeros(X.shape, dtype=bool)
    assert_array_equal(density.given(X, seen).log_density, 0.0)


def test_chunks_do_not_matter_to_linear_moments(monkeypatch):
    density = linear()
    X = drawn(density, 20)
    seen = columns_of(np.random.default_rng(1).uniform(size=(20, 6)) > 0.4)
    together = density.given(X, seen).moments()
    monkeypatch.setattr(_linear_density, "LARGEST_STACK", 12)
    assert_allclose(density.given(X, seen).moments(), together)


def test_samples_have_the_mean_and_the_covariance():
    density = linear()
    rows = drawn(density, 40_000)
    loadings = density.numbers.loadings
    covariance = loadings @ loadings.T + 0.4 * np.eye(N_NUMBERS)
    numbers, levels = rows[:, :N_NUMBERS], rows[:, N_NUMBERS:]
    assert_allclose(numbers.mean(axis=0), density.numbers.mean, atol=0.05)
    assert_allclose(np.cov(numbers.T), covariance, atol=0.08)
    found = density.levels.indicators(levels).mean(axis=0)
    assert_allclose(found, density.chances, atol=0.02)


def test_drawn_numbers_depend_on_each_other_given_the_seen_ones():
    density = linear()
    X = drawn(density, 1)
    seen = np.zeros(X.shape, dtype=bool)
    seen[:, 0] = True
    rows = density.given(X, seen).draws(40_000, np.random.default_rng(1))[:, 0]
    loadings = density.numbers.loadings
    whole_covariance = loadings @ loadings.T + 0.4 * np.eye(N_NUMBERS)
    gain = whole_covariance[1:, 0] / whole_covariance[0, 0]
    expected = whole_covariance[1:, 1:] - np.outer(gain, whole_covariance[0, 1:])
    assert_allclose(np.cov(rows[:, 1:N_NUMBERS].T), expected, atol=0.06)
