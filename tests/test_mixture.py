"""Mixtures of numbers and levels against scipy, brute force and themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixtures import (
    CELLS,
    N_NUMBERS,
    SEEDS,
    WIDTHS,
    columns_of,
    combinations,
    conditioned,
    drawn,
    draws,
    level_columns,
    mixture,
    parameters,
    whole,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats
from scipy.special import logsumexp

from skae.model import _mixture
from skae.model._level_columns import LevelColumns
from skae.model._linear_density import linear_density
from skae.model._mixture import Mixture


def level_chances(density, row, seen):
    """Chance of the seen levels of a row in each part, a level at a time."""
    raw = row * density.levels.scale + density.levels.centre
    chances = np.ones(len(density.weights))
    for span in density.levels.spans:
        if not seen[span][0]:
            continue
        column = density.chances[:, span]
        if column.shape[1] == 1:
            chances *= column[:, 0] if raw[span][0] > 0.5 else 1 - column[:, 0]
        else:
            chances *= column[:, raw[span].argmax()]
    return chances


def brute_log_density(density, row, seen):
    """Sum over the parts, each of them by scipy."""
    count = density.means.shape[1]
    parts = np.log(density.weights * level_chances(density, row[count:], seen[count:]))
    numbers = seen[:count]
    if numbers.any():
        for i, covariance in enumerate(density.covariances):
            normal = stats.multivariate_normal(
                density.means[i, numbers], covariance[np.ix_(numbers, numbers)]
            )
            parts[i] += normal.logpdf(row[:count][numbers])
    return logsumexp(parts)


# ----------------------------------------------------------------------- density


@given(cells=CELLS, n_parts=st.integers(1, 4), seed=SEEDS)
@settings(max_examples=50, deadline=None)
def test_the_density_is_the_sum_over_parts_that_scipy_finds(cells, n_parts, seed):
    density, seen = mixture(n_parts, seed=seed), columns_of(cells)
    X = drawn(density, len(cells), seed)
    rows = zip(X, seen, strict=True)
    expected = [brute_log_density(density, *row) for row in rows]
    assert_allclose(density.given(X, seen).log_density, expected, atol=1e-9)


@given(cells=CELLS, seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_conditional_density_is_the_joint_less_the_marginal(cells, seed):
    """Law p(a, b) = p(a | b) p(b), with p(a | b) as a mixture of conditional parts."""
    density, seen = mixture(seed=seed), columns_of(cells)
    X = drawn(density, len(cells), seed)
    joint = density.given(X, whole(X)).log_density
    marginal = density.given(X, seen)
    for i, row in enumerate(seen):
        conditional = conditioned(density, X[i], row, marginal.memberships[i])
        found = conditional.given(X[[i]][:, ~row], whole(X[[i]][:, ~row]))
        expected = joint[i] - marginal.log_density[i]
        assert_allclose(found.log_density, expected, atol=1e-12)  # zero, of no cells


def test_the_density_of_all_levels_and_numbers_integrates_to_one():
    density = mixture(n_numbers=1)
    every = combinations(density.levels)

    def total(number):
        X = np.c_[np.full(len(every), number), every]
        return np.exp(density.given(X, whole(X)).log_density).sum()

    assert integrate.quad(total, -40, 40, limit=200)[0] == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("widths", [(1,), (3,), WIDTHS, (1, 1, 4)])
def test_the_chances_of_all_levels_add_up_to_one(widths):
    density = mixture(n_numbers=0, widths=widths)
    X = combinations(density.levels)
    chances = np.exp(density.given(X, whole(X)).log_density)
    assert chances.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("density", [mixture(5), mixture(1), mixture(7, widths=())])
def test_nothing_seen_tells_exactly_nothing(density):
    X = drawn(density, 4)
    seen = np.zeros(X.shape, dtype=bool)
    assert_array_equal(density.given(X, seen).log_density, 0.0)
    assert_allclose(density.memberships(X, seen), [density.weights] * 4)


@given(cells=CELLS)
@settings(max_examples=20, deadline=None)
def test_what_stands_in_a_hole_does_not_matter(cells):
    density, seen = mixture(), columns_of(cells)
    X = drawn(density, len(cells))
    one, other = (density.given(np.where(seen, X, hole), seen) for hole in (X, np.nan))
    assert_array_equal(one.log_density, other.log_density)
    assert_array_equal(one.moments(), other.moments())


def test_order_company_and_chunks_of_rows_do_not_matter(monkeypatch):
    density = mixture()
    X = drawn(density, 40)
    seen = columns_of(np.random.default_rng(1).uniform(size=(40, 6)) > 0.3)
    together = density.given(X, seen)
    backwards = density.given(X[::-1], seen[::-1])
    alone = [density.given(X[[i]], seen[[i]]) for i in range(len(X))]
    monkeypatch.setattr(_mixture, "LARGEST_STACK", 1)
    chunked = density.given(X, seen)
    expected = together.log_density
    assert_allclose(backwards.log_density[::-1], expected)
    assert_allclose([one.log_density[0] for one in alone], expected)
    assert_allclose(chunked.log_density, expected)
    assert_allclose(chunked.moments(), together.moments(), atol=1e-12)


def test_values_between_levels_have_finite_densities():
    density = mixture()
    X = drawn(density, 20)
    X[:, N_NUMBERS:] += 0.4 * draws(20, sum(WIDTHS))
    assert np.isfinite(density.given(X, whole(X)).log_density).all()


def test_a_level_of_no_chance_makes_a_row_hardly_possible_but_finite():
    levels = LevelColumns((3,), np.zeros(3), np.ones(3))
    sure = Mixture(
        np.ones(1), np.empty((1, 0)), np.empty((1, 0, 0)), np.eye(3)[:1], levels
    )
    found = sure.given(np.eye(3), whole(np.eye(3))).log_density
    assert found[0] == 0.0
    assert (found[1:] < -700).all()
    assert np.isfinite(found).all()


def test_single_precision_changes_no_level():
    density = mixture()
    X = drawn(density, 50)
    found = density.given(X.astype(np.float32), whole(X)).log_density
    assert_allclose(found, density.given(X, whole(X)).log_density, atol=1e-4)


def test_no_rows_have_no_densities():
    density = mixture()
    X = np.empty((0, N_NUMBERS + sum(WIDTHS)))
    found = density.given(X, whole(X))
    assert found.log_density.shape == (0,)
    assert found.draws(2, np.random.default_rng(0)).shape == (2, *X.shape)


# ----------------------------------------------------------------------- moments


@given(cells=CELLS, seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_moments_are_those_of_the_conditional_mixture(cells, seed):
    density, seen = mixture(seed=seed), columns_of(cells)
    X = drawn(density, len(cells), seed)
    known = density.given(X, seen)
    means, variances = known.moments()
    for i, row in enumerate(seen):
        left = conditioned(density, X[i], row, known.memberships[i])
        raw = left.weights @ left.chances
        mean = left.weights @ left.means
        spread = left.covariances.diagonal(axis1=1, axis2=2) + (left.means - mean) ** 2
        expected = np.r_[mean, left.levels.standardised(raw)]
        assert_allclose(means[i, ~row], expected, atol=1e-9)
        expected = np.r_[left.weights @ spread, raw * (1 - raw) / left.levels.scale**2]
        assert_allclose(variances[i, ~row], expected, atol=1e-9)


def test_moments_are_those_of_a_numerical_integral():
    density = mixture(n_numbers=2, widths=(3,))
    row = drawn(density, 1)
    seen = np.array([[False, True, False, False, False]])
    every, grid = combinations(density.levels), np.linspace(-30, 30, 6001)
    X = np.tile(row, (3 * len(grid), 1))
    X[:, 0], X[:, 2:] = np.tile(grid, 3), np.repeat(every, len(grid), axis=0)
    mass = np.exp(density.given(X, whole(X)).log_density)
    mass /= mass.sum()
    mean = mass @ X
    found_mean, found_variance = density.given(row, seen).moments()
    assert_allclose(found_mean[0], mean, atol=1e-6)
    assert_allclose(found_variance[0], mass @ (X - mean) ** 2, atol=1e-6)


def both(density):
    """Return a mixture, and a linear density of as many columns."""
    linear = linear_density(
        density.means[0], draws(3, 2), 0.4, density.chances[0], density.levels
    )
    return density, linear


@pytest.mark.parametrize("density", both(mixture()), ids=["mixture", "linear"])
def test_whole_rows_are_their_own_moments_and_draws(density):
    X = drawn(density, 12)
    known = density.given(X, whole(X))
    mean, variance = known.moments()
    assert_array_equal(mean, X)
    assert_array_equal(variance, 0.0)
    assert_array_equal(known.draws(3, np.random.default_rng(0)), np.tile(X, (3, 1, 1)))


# ------------------------------------------------------------------------- draws


@pytest.mark.parametrize("density", both(mixture()), ids=["mixture", "linear"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_draws_have_the_moments(density, share):
    cells = np.random.default_rng(5).uniform(size=(4, 6)) >= share
    X, seen = drawn(density, 4), columns_of(cells)
    known = density.given(X, seen)
    mean, variance = known.moments()
    rows = known.draws(20_000, np.random.default_rng(1))
    error = np.sqrt(variance / 20_000)
    assert (np.abs(rows.mean(axis=0) - mean) <= 4.5 * error + 1e-9).all()
    assert_allclose(rows.var(axis=0), variance, rtol=0.06, atol=1e-3)


def test_drawn_numbers_and_levels_depend_on_each_other_as_in_the_mixture():
    density = mixture()
    X = drawn(density, 1)
    seen = columns_of(np.array([[True, False, False, False, False, True]]))
    known = density.given(X, seen)
    rows = known.draws(100_000, np.random.default_rng(0))[:, 0]
    left = conditioned(density, X[0], seen[0], known.memberships[0])
    values = np.concatenate([left.means, left.levels.standardised(left.chances)], 1)
    centred = values - left.weights @ values
    expected = (left.weights[:, None] * centred).T @ centred
    expected[:2, :2] += np.tensordot(left.weights, left.covariances, axes=1)
    found = np.cov(rows[:, ~seen[0]].T)
    assert_allclose(found[:2], expected[:2], atol=0.15)


@pytest.mark.parametrize("density", both(mixture()), ids=["mixture", "linear"])
def test_drawn_levels_are_levels_and_seen_cells_stay(density):
    X = drawn(density, 30)
    seen = columns_of(np.random.default_rng(1).uniform(size=(30, 6)) > 0.4)
    rows = density.given(X, seen).draws(5, np.random.default_rng(2))
    raw = rows[..., N_NUMBERS:] * density.levels.scale + density.levels.centre
    assert_allclose(raw, raw.round(), atol=1e-12)
    for width, span in zip(WIDTHS, density.levels.spans, strict=True):
        assert width == 1 or (raw[..., span].round().sum(axis=-1) == 1).all()
    assert_array_equal(rows[:, seen], np.tile(X[seen], (5, 1)))


@pytest.mark.parametrize("density", both(mixture()), ids=["mixture", "linear"])
def test_draws_are_repeatable(density):
    X, seen = drawn(density, 6), columns_of(np.eye(6) > 0)
    known = density.given(X, seen)
    one, other = (known.draws(3, np.random.default_rng(7)) for _ in range(2))
    assert_array_equal(one, other)


def test_a_closed_form_needs_no_points():
    for density in both(mixture()):
        assert density.at(7) is density
        X = drawn(density, 3)
        assert_array_equal(density.given(X, whole(X)).effective_draws, np.inf)


# --------------------------------------------------------- one mixture to another


def test_mixtures_of_mixtures_have_the_weighted_density():
    levels = level_columns()
    mixtures = [mixture(n, seed=n) for n in (1, 2, 3)]
    mixtures = [Mixture(*list(vars(m).values())[:4], levels) for m in mixtures]
    X, shares = drawn(mixtures[2], 20), np.array([0.5, 0.3, 0.2])
    parts = [part.given(X, whole(X)).log_density for part in mixtures]
    expected = logsumexp(parts, axis=0, b=shares[:, None])
    found = Mixture.of(mixtures, shares).given(X, whole(X)).log_density
    assert_allclose(found, expected)
    nearly = Mixture.of(mixtures, np.array([1 - 1e-4, 1e-4, 0]))
    assert_allclose(parameters(nearly), parameters(mixtures[0]))


def test_scaling_moves_the_density_by_the_jacobian():
    density, scales = mixture(), np.array([2.0, 0.5, 10.0])
    X = drawn(density, 20)
    units = np.r_[scales, np.ones(sum(WIDTHS))]
    found = density.times(scales, np.zeros(3)).given(X * units, whole(X)).log_density
    expected = density.given(X, whole(X)).log_density - np.log(scales).sum()
    assert_allclose(found, expected)


def test_no_part_is_narrower_than_the_floor():
    density, floor = mixture(), np.array([0.1, 1.5, 3.0])
    found = density.times(np.ones(3), floor).covariances
    before = density.covariances.diagonal(axis1=1, axis2=2)
    after = found.diagonal(axis1=1, axis2=2)
    assert_allclose(after, np.maximum(before, floor**2))
    apart = ~np.eye(3, dtype=bool)
    assert_array_equal(found[:, apart], density.covariances[:, apart])
