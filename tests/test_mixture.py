"""Mixtures of numbers and levels against scipy, brute force and themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, optimize, stats
from scipy.special import logsumexp

from skae.model import _em, _linear_density, _mixture
from skae.model._choice import choose_mixture
from skae.model._em import PSEUDO_COUNT, fit_mixture, frequencies_of
from skae.model._level_columns import LevelColumns
from skae.model._linear_density import linear_density
from skae.model._mixture import Mixture
from skae.model._patterns import patterns_of
from skae.model._stack import stack

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


def parameters(density):
    fields = density.weights, density.means, density.covariances, density.chances
    return np.concatenate([np.ravel(array) for array in fields])


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
        assert_allclose(found.log_density, joint[i] - marginal.log_density[i])


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


# ---------------------------------------------------------------- linear density


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
    linear = both(mixture())[1]
    X = drawn(linear, 5)
    seen = np.zeros(X.shape, dtype=bool)
    assert_array_equal(linear.given(X, seen).log_density, 0.0)


def test_chunks_do_not_matter_to_linear_moments(monkeypatch):
    linear = both(mixture())[1]
    X = drawn(linear, 20)
    seen = columns_of(np.random.default_rng(1).uniform(size=(20, 6)) > 0.4)
    together = linear.given(X, seen).moments()
    monkeypatch.setattr(_linear_density, "LARGEST_STACK", 12)
    assert_allclose(linear.given(X, seen).moments(), together)


# ----------------------------------------------------------------------- the fit


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


def fitted(X, seen, levels, weight=None, n_parts=3, kind="full", **settings):
    weight = np.ones(len(X)) if weight is None else weight
    settings = {"seed": 0} | settings
    return fit_mixture(X, seen, weight, n_parts, kind=kind, levels=levels, **settings)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_far_parts_are_found_with_their_levels(share):
    X, seen, levels = clusters(3000, share=share)
    density = fitted(X, seen, levels)
    order = np.argsort(density.means @ [1, 2])
    assert_allclose(density.weights, 1 / 3, atol=0.03)
    means = np.array([[0, 0], [9, 0], [0, 9]]) / 4
    assert_allclose(density.means[order], means, atol=0.05)
    assert_allclose(density.covariances, [np.eye(2) / 16] * 3, atol=0.01)
    three = [[1, 0, 0], [0.2, 0.8, 0], [0.2, 0, 0.8]]
    expected = np.c_[[0.1, 0.5, 0.9], three]
    assert_allclose(density.chances[order], expected, atol=0.05)


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_one_part_without_holes_has_the_moments_of_the_rows(kind):
    X, seen, levels = clusters(300)
    weight = np.random.default_rng(0).integers(1, 4, 300).astype(float)
    density = fitted(X, seen, levels, weight, n_parts=1, kind=kind)
    covariance = np.cov(X[:, :2].T, aweights=weight, ddof=0)
    if kind == "diag":
        covariance = np.diag(covariance.diagonal())
    assert_allclose(density.means[0], np.average(X[:, :2], 0, weight))
    assert_allclose(density.covariances[0], covariance + 1e-3 * np.eye(2))
    total, pseudo = weight.sum(), PSEUDO_COUNT * levels.n_levels
    expected = weight @ levels.indicators(X[:, 2:])
    expected += pseudo * frequencies_of(X, seen, weight, levels)
    assert_allclose(density.chances[0], expected / (total + pseudo))


def test_one_part_with_holes_is_where_the_likelihood_is_largest():
    X, seen = (array[:, :2] for array in clusters(60, share=0.4)[:2])
    settings = {"regularisation": 0.0, "max_steps": 500, "n_parts": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_em, "TOLERANCE", 1e-13)
        density = fitted(X, seen, NO_LEVELS, **settings)

    def log_likelihood(values):
        root = np.array([[values[2], 0], [values[3], values[4]]])
        other = Mixture(
            np.ones(1),
            values[None, :2],
            (root @ root.T)[None],
            np.empty((1, 0)),
            NO_LEVELS,
        )
        return other.given(X, seen).log_density.sum()

    root = np.linalg.cholesky(density.covariances[0])
    best = np.r_[density.means[0], root[0, 0], root[1]]
    slope = optimize.approx_fprime(best, log_likelihood, 1e-6)
    assert_allclose(slope, 0, atol=1e-2)
    for seed in range(20):
        moved = best + 0.02 * draws(5, seed=seed)
        assert log_likelihood(moved) < log_likelihood(best)


@pytest.mark.parametrize("kind", ["full", "diag"])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_steps_of_em_never_make_the_rows_less_likely(kind, share, monkeypatch):
    """With the prior on levels, a row each at the table's frequencies."""
    monkeypatch.setattr(_em, "TOLERANCE", -1.0)
    monkeypatch.setattr(_em, "LEAST_ROWS", 0)
    X, seen, levels = clusters(400, share=share)
    weight = np.random.default_rng(0).uniform(0.5, 2, 400)
    frequencies = frequencies_of(X, seen, weight, levels)
    pseudo = PSEUDO_COUNT * levels.n_levels * frequencies
    alone = np.array([True, False, False, False])
    found = []
    for steps in range(1, 15):
        density = fitted(
            X, seen, levels, weight, 4, kind, regularisation=0.0, max_steps=steps
        )
        prior = pseudo * np.log(density.chances)
        others = PSEUDO_COUNT * 2 * (1 - frequencies) * np.log(1 - density.chances)
        prior = prior.sum() + others[:, alone].sum()
        found.append(weight @ density.given(X, seen).log_density + prior)
    assert (np.diff(found) > -1e-8).all()
    assert found[-1] > found[0] + 1


@given(seed=SEEDS, share=st.sampled_from([0.0, 0.2]))
@settings(max_examples=15, deadline=None)
def test_integer_weights_are_repeated_rows(seed, share):
    X, seen, levels = clusters(60, seed, share)
    counts = np.random.default_rng(seed).integers(0, 4, 60)
    one = fitted(X, seen, levels, counts.astype(float), seed=seed)
    repeated = np.repeat(np.arange(60), counts)
    other = fitted(X[repeated], seen[repeated], levels, seed=seed)
    assert_allclose(parameters(other), parameters(one), atol=1e-9)


@given(seed=SEEDS, share=st.sampled_from([0.0, 0.2]))
@settings(max_examples=15, deadline=None)
def test_the_order_of_rows_does_not_matter(seed, share):
    X, seen, levels = clusters(60, seed, share)
    weight = np.random.default_rng(seed).uniform(0.5, 2, 60)
    order = np.random.default_rng(seed + 1).permutation(60)
    one = fitted(X, seen, levels, weight)
    other = fitted(X[order], seen[order], levels, weight[order])
    assert_allclose(parameters(other), parameters(one), atol=1e-9)


def test_what_stands_in_a_common_hole_does_not_matter_to_the_fit():
    X, seen, levels = clusters(200, share=0.2)
    one = fitted(np.where(seen, X, 0), seen, levels)
    other = fitted(np.where(seen, X, np.nan), seen, levels)
    assert_allclose(parameters(other), parameters(one), atol=1e-9)


def test_holes_that_few_rows_have_count_as_filled(monkeypatch):
    monkeypatch.setattr(_em, "MOST_PATTERNS", 1)
    X, seen, levels = clusters(200)
    seen[:40, 0] = False
    found, expected = fitted(X, seen, levels), fitted(X, whole(X), levels)
    assert_allclose(
        np.sort(parameters(found)), np.sort(parameters(expected)), atol=1e-9
    )


def test_every_level_has_a_chance_in_every_part():
    X, seen, levels = clusters(300)
    kept = X[:, 4] > X[:, 4].min()  # of three levels, one alone
    density = fitted(X[kept], seen[kept], levels)
    raw = density.chances
    assert (raw > 0).all()
    assert (raw[:, 0] < 1).all()
    assert_allclose(raw[:, 1:].sum(axis=1), 1)


def test_frequencies_have_half_a_row_beside_each_level():
    levels = LevelColumns((1, 3), np.zeros(4), np.ones(4))
    X = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0.0]])
    found = frequencies_of(X, whole(X), np.array([1.0, 2, 1]), levels)
    assert_allclose(found, [3.5 / 5, 1.5 / 5.5, 3.5 / 5.5, 0.5 / 5.5])
    unseen = frequencies_of(X, ~whole(X), np.ones(3), levels)
    assert_allclose(unseen, [1 / 2, 1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_a_few_rows_have_a_mixture(n_rows):
    X, seen, levels = clusters(n_rows)
    density = fitted(X, seen, levels)
    assert np.isfinite(parameters(density)).all()
    assert np.isfinite(density.given(X, seen).log_density).all()


def test_a_column_that_no_row_has_is_wide_and_does_no_harm():
    X, seen, levels = clusters(200)
    seen[:, 1] = False
    density = fitted(X, seen, levels)
    assert np.isfinite(parameters(density)).all()


def test_levels_alone_have_classes():
    X, seen, levels = clusters(2000)
    density = fitted(X[:, 2:], seen[:, 2:], levels)
    every = combinations(levels)
    chances = np.exp(density.given(every, whole(every)).log_density)
    found = np.array([(np.abs(X[:, 2:] - row) < 1e-9).all(1).mean() for row in every])
    assert_allclose(chances, found, atol=0.02)


# -------------------------------------------------------------------- the choice


def chosen(X, seen, levels, n_rows, weight=None, floor=0.0, seed=0):
    weight = np.ones(len(X)) if weight is None else weight
    one, other = slice(n_rows), slice(n_rows, None)
    scales = X[:, : X.shape[1] - levels.width].std(axis=0)
    return choose_mixture(
        *(X[one], seen[one], weight[one]),
        *(X[other], seen[other], weight[other]),
        *(levels, scales, floor * scales, seed),
    )


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_the_chosen_mixture_is_likelier_than_independent_levels(share):
    X, seen, levels = clusters(500, share=share)
    test, test_seen, _ = clusters(1000, seed=1, share=share)
    choice = chosen(X, seen, levels, 400)
    numbers = chosen(X[:, :2], seen[:, :2], NO_LEVELS, 400).final
    chances = frequencies_of(X, seen, np.ones(500), levels)
    alone = numbers.given(test[:, :2], test_seen[:, :2]).log_density
    alone += levels.log_chances(test[:, 2:], test_seen[:, 2:], chances[None])[:, 0]
    found = choice.final.given(test, test_seen).log_density
    assert found.mean() > alone.mean() + 0.5


def test_levels_that_tell_nothing_of_numbers_cost_nothing():
    X, seen, levels = clusters(1300)
    X[:, 2:] = X[np.random.default_rng(0).permutation(1300), 2:]
    X, test = X[:300], X[300:]
    choice = chosen(X, seen[:300], levels, 240)
    numbers = chosen(X[:, :2], seen[:300, :2], NO_LEVELS, 240).final
    chances = frequencies_of(X, seen[:300], np.ones(300), levels)
    alone = numbers.given(test[:, :2], whole(test[:, :2])).log_density
    alone += levels.log_chances(test[:, 2:], whole(test[:, 2:]), chances[None])[:, 0]
    found = choice.final.given(test, whole(test)).log_density
    assert found.mean() > alone.mean() - 0.1


def test_levels_alone_can_be_chosen():
    X, seen, levels = clusters(400)
    choice = chosen(X[:, 2:], seen[:, 2:], levels, 300)
    every = combinations(levels)
    found = choice.final.given(every, whole(every)).log_density
    assert np.exp(found).sum() == pytest.approx(1)


def test_the_choice_does_not_depend_on_order_or_copies():
    X, seen, levels = clusters(150, share=0.1)
    order = np.r_[np.random.default_rng(0).permutation(100), np.arange(100, 150)]
    scales = np.ones(2)
    counts = np.r_[np.random.default_rng(1).integers(1, 3, 150)]
    rows = [np.repeat(np.arange(100), counts[:100]), np.arange(100, 150)]
    rows[1] = np.repeat(rows[1], counts[100:])
    one = [X[order[:100]], seen[order[:100]], counts[order[:100]].astype(float)]
    one += [X[100:], seen[100:], counts[100:].astype(float)]
    other = [each for r in rows for each in (X[r], seen[r], np.ones(len(r)))]
    found = [
        choose_mixture(*data, levels, scales, 0 * scales, 0) for data in (one, other)
    ]
    for name in ("judged", "final"):
        first, second = (parameters(getattr(choice, name)) for choice in found)
        assert_allclose(second, first, atol=1e-8)


def test_the_choice_does_not_depend_on_the_units():
    X, seen, levels = clusters(200)
    units = np.r_[2.0**10, 2.0**-8, np.ones(4)]
    one, other = (chosen(X * u, seen, levels, 150).final for u in (1, units))
    expected = one.given(X, seen).log_density - np.log(units).sum()
    assert_allclose(other.given(X * units, seen).log_density, expected)


def test_a_floor_holds_in_every_part_of_the_choice():
    X, seen, levels = clusters(200)
    X[:, 0] = np.repeat([0.0, 1.0], 100)
    choice = chosen(X, seen, levels, 150, floor=0.4)
    for density in (choice.judged, choice.final):
        deviations = np.sqrt(density.covariances.diagonal(axis1=1, axis2=2))
        assert (deviations >= 0.4 * X[:, :2].std(axis=0) * (1 - 1e-9)).all()


def test_tables_too_small_or_too_wide_get_no_mixture():
    X, seen, levels = clusters(8)
    assert chosen(X, seen, levels, 4) is None
    X = draws(30, 2500)
    assert chosen(X, whole(X), NO_LEVELS, 25) is None


def test_many_rows_are_thinned(monkeypatch):
    monkeypatch.setattr(_em, "MOST_ROWS", 60)
    X, seen, levels = clusters(400)
    choice = chosen(X, seen, levels, 300)
    assert np.isfinite(parameters(choice.final)).all()
    assert len(choice.final.weights) <= 3 * 60 // _em.LEAST_ROWS


@given(cells=CELLS)
def test_patterns_are_a_partition_of_the_rows(cells):
    found = list(patterns_of(cells))
    assert_array_equal(
        np.sort(np.concatenate([r for _, r in found])), range(len(cells))
    )
    assert len(found) == len(np.unique(cells, axis=0))
    for columns, rows in found:
        assert (cells[rows] == columns).all()


# ------------------------------------------------------------------------ shares


def test_weighted_rows_are_stacked_as_repeated_rows():
    parts, counts = 2 * draws(40, 3), np.random.default_rng(0).integers(0, 4, 40)
    least = np.array([0.1, 0, 0])
    found = stack(parts, least, counts.astype(float))
    expected = stack(np.repeat(parts, counts, axis=0), least, np.ones(counts.sum()))
    assert_allclose(found, expected, atol=1e-9)
    assert_allclose(found.sum(), 1)


@given(seed=SEEDS, rival=arrays(float, 3, elements=st.floats(0.01, 1)))
@settings(max_examples=30, deadline=None)
def test_no_other_shares_make_the_rows_likelier(seed, rival):
    parts, least = 2 * draws(60, 3, seed=seed), np.array([0.0, 0.2, 0.0])
    weight = np.random.default_rng(seed).uniform(size=60)
    shares = stack(parts, least, weight)
    other = least + 0.8 * rival / rival.sum()
    found, expected = (
        np.average(logsumexp(parts, axis=1, b=b), weights=weight)
        for b in (shares, other)
    )
    assert found >= expected - 1e-4
    assert (shares >= least - 1e-12).all()
