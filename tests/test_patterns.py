"""Patterns of holes, and Gaussians regressed on what is seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from mixtures import CELLS, SEEDS, drawn, mixture
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import softmax as softmax_of_scipy

from skae.model._patterns import (
    Pattern,
    distinct_patterns,
    inverse_of_triangles,
    patterns_of,
    softmax,
)

SEEN = np.array([True, False, True, False])


def gaussians(seed=0):
    """Return parts of four numbers, rows of them, and the pattern."""
    density = mixture(3, 4, (), seed)
    pattern = Pattern.of(density.means, density.covariances, SEEN)
    return density, drawn(density, 6, seed), pattern


def regressed(covariance):
    """Return slopes and covariance of the unseen numbers, by the textbook."""
    cross = covariance[np.ix_(~SEEN, SEEN)]
    slopes = cross @ np.linalg.inv(covariance[np.ix_(SEEN, SEEN)])
    return slopes, covariance[np.ix_(~SEEN, ~SEEN)] - slopes @ cross.T


@given(cells=CELLS)
def test_patterns_are_a_partition_of_the_rows(cells):
    found = list(patterns_of(cells))
    assert_array_equal(
        np.sort(np.concatenate([r for _, r in found])), range(len(cells))
    )
    assert len(found) == len(np.unique(cells, axis=0))
    for columns, rows in found:
        assert (cells[rows] == columns).all()


@given(cells=CELLS)
def test_each_row_has_one_of_the_distinct_patterns(cells):
    patterns, which = distinct_patterns(cells)
    assert_array_equal(patterns[which], cells)
    assert len(patterns) == len(np.unique(cells, axis=0))


@pytest.mark.parametrize("size", [0, 1, 8, 9, 16, 33])
def test_triangles_are_inverted_by_halves(size):
    factors = np.tril(np.random.default_rng(0).normal(size=(3, size, size)))
    factors += 5 * np.eye(size)
    inverse = inverse_of_triangles(factors)
    assert_allclose(
        inverse @ factors, np.broadcast_to(np.eye(size), factors.shape), atol=1e-12
    )
    assert_array_equal(inverse, np.tril(inverse))


def test_no_rows_have_no_patterns():
    assert not list(patterns_of(np.empty((0, 3), dtype=bool)))


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_unseen_numbers_are_regressed_on_the_seen_ones(seed):
    density, X, pattern = gaussians(seed)
    expected = pattern.expected(pattern.deviations(X))
    for i, covariance in enumerate(density.covariances):
        slopes, left = regressed(covariance)
        assert_allclose(pattern.slopes[i], slopes, atol=1e-9)
        assert_allclose(pattern.covariances[i], left, atol=1e-9)
        deviations = X[:, SEEN] - density.means[i, SEEN]
        assert_allclose(expected[i], deviations @ slopes.T, atol=1e-8)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_density_of_the_seen_numbers_is_scipys(seed):
    density, X, pattern = gaussians(seed)
    found = pattern.log_density(pattern.deviations(X))
    block = np.ix_(SEEN, SEEN)
    for i, covariance in enumerate(density.covariances):
        normal = stats.multivariate_normal(density.means[i, SEEN], covariance[block])
        assert_allclose(found[:, i], normal.logpdf(X[:, SEEN]), atol=1e-8)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_a_seen_number_is_regressed_on_the_other_seen_ones(seed):
    density, X, pattern = gaussians(seed)
    found = pattern.leave_one_out(pattern.deviations(X))
    for part, (mean, covariance) in enumerate(
        zip(density.means, density.covariances, strict=True)
    ):
        for one, other in ((0, 2), (2, 0)):
            slope = covariance[one, other] / covariance[other, other]
            expected = mean[one] + slope * (X[:, other] - mean[other])
            variance = covariance[one, one] - slope * covariance[one, other]
            normal = stats.norm(expected, variance**0.5)
            place = list(pattern.seen).index(one)
            assert_allclose(found[part, :, place], normal.logpdf(X[:, one]))


def test_moments_are_those_of_the_parts_by_their_memberships():
    density, X, pattern = gaussians()
    memberships = density.memberships(X)
    mean, variance = pattern.moments(X, memberships)
    means, spreads = [], []
    for centre, covariance in zip(density.means, density.covariances, strict=True):
        slopes, left = regressed(covariance)
        means.append(centre[~SEEN] + (X[:, SEEN] - centre[SEEN]) @ slopes.T)
        spreads.append(np.tile(left.diagonal(), (len(X), 1)))
    weights = memberships.T[:, :, None]
    expected = (weights * means).sum(axis=0)
    assert_allclose(mean, expected)
    second = (weights * (np.array(spreads) + np.square(means))).sum(axis=0)
    assert_allclose(variance, second - expected**2, atol=1e-9)


def test_noise_becomes_numbers_with_the_conditional_mean_and_covariance():
    density, X, pattern = gaussians()
    noise = np.random.default_rng(0).normal(size=(60_000, 2))
    slopes, left = regressed(density.covariances[1])
    rows = pattern.draw(1, np.repeat(X[:1], len(noise), axis=0), noise)
    centre = density.means[1]
    expected = centre[~SEEN] + slopes @ (X[0, SEEN] - centre[SEEN])
    assert_allclose(rows.mean(axis=0), expected, atol=0.05)
    assert_allclose(np.cov(rows.T), left, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("seen", [np.ones(4, bool), np.zeros(4, bool)], ids=str)
def test_all_or_nothing_seen_is_a_pattern_too(seen):
    density = mixture(3, 4, ())
    X = drawn(density, 5)
    pattern = Pattern.of(density.means, density.covariances, seen)
    log_density = pattern.log_density(pattern.deviations(X))
    assert log_density.shape == (5, 3)
    assert (log_density == 0).all() == (not seen.any())
    mean, variance = pattern.moments(X, np.full((5, 3), 1 / 3))
    assert mean.shape == variance.shape == (5, (~seen).sum())


def test_rounding_makes_no_conditional_variance_negative():
    column = np.random.default_rng(0).normal(size=(4, 1))
    covariance = column @ column.T + 1e-14 * np.eye(4)
    pattern = Pattern.of(np.zeros((1, 4)), covariance[None], SEEN)
    _, variance = pattern.moments(np.ones((3, 4)), np.ones((3, 1)))
    assert (variance >= 0).all()


def test_softmax_is_scipys_for_any_height():
    parts = np.random.default_rng(0).normal(size=(5, 4)) * 300 + 1e4
    assert_allclose(softmax(parts), softmax_of_scipy(parts, axis=1), atol=1e-15)
    assert_array_equal(softmax(np.array([[-1e300, 0.0]])), [[0, 1]])


def test_columns_that_are_not_wanted_are_left_out_of_the_regression():
    density, _, whole = gaussians()
    wanted = np.arange(len(SEEN)) == whole.unseen[0]
    some = Pattern.of(density.means, density.covariances, SEEN, wanted)
    np.testing.assert_array_equal(some.unseen, whole.unseen[:1])
    np.testing.assert_allclose(some.slopes, whole.slopes[:, :1])
    np.testing.assert_allclose(some.factors, whole.factors[:, :1, :1])
    none = Pattern.of(density.means, density.covariances, SEEN, wanted=False)
    np.testing.assert_allclose(none.whitening, whole.whitening)
    assert none.unseen.size == 0
