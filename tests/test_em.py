"""EM against moments, numerical slopes and repeated rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixtures import (
    NO_LEVELS,
    SEEDS,
    clusters,
    combinations,
    draws,
    parameters,
    whole,
)
from numpy.testing import assert_allclose
from scipy import optimize
from scipy.special import multigammaln

from skae.model import _em, _level_columns
from skae.model._em import drawn_together, fit_mixture, frequencies_of
from skae.model._level_columns import LevelColumns
from skae.model._mixture import Mixture


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
    frequencies = frequencies_of(X, seen, weight, levels)
    assert_allclose(density.chances[0], frequencies, atol=2 / weight.sum())


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
    """With the prior on levels, and none on covariances."""
    monkeypatch.setattr(_em, "TOLERANCE", -1.0)
    monkeypatch.setattr(_em, "LEAST_ROWS", 0)
    X, seen, levels = clusters(400, share=share)
    weight = np.random.default_rng(0).uniform(0.5, 2, 400)
    frequencies = frequencies_of(X, seen, weight, levels)
    rows_of_table = 3.0
    monkeypatch.setattr(_level_columns, "ROWS_OF_TABLE", np.array([rows_of_table]))
    monkeypatch.setattr(_em, "ROWS_OF_TABLE", np.array([1e-12]))  # of covariances
    pseudo = rows_of_table * frequencies
    alone = np.array([True, False, False, False])
    found = []
    for steps in range(1, 15):
        density = fitted(
            X, seen, levels, weight, 4, kind, regularisation=0.0, max_steps=steps
        )
        prior = pseudo * np.log(density.chances)
        others = (rows_of_table - pseudo) * np.log(1 - density.chances)
        prior = prior.sum() + others[:, alone].sum()
        found.append(weight @ density.given(X, seen).log_density + prior)
    assert (np.diff(found) > -1e-8).all()
    assert found[-1] > found[0] + 1


@pytest.mark.parametrize("kind", ["full", "diag"])
@pytest.mark.parametrize("centre", [0.0, 1e4])
def test_products_of_numbers_tell_what_rows_pattern_by_pattern_do(
    kind, centre, monkeypatch
):
    X, seen, levels = clusters(200)
    X[:, :2] += centre
    weight = np.random.default_rng(0).uniform(0.5, 2, 200)
    found = fitted(X, seen, levels, weight, kind=kind)
    monkeypatch.setattr(_em, "LARGEST_STACK", 0)
    expected = fitted(X, seen, levels, weight, kind=kind)
    assert_allclose(parameters(found), parameters(expected), rtol=1e-8, atol=1e-8)


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


# ---------------------------------------------------------------------- covariances


def scatters_of(n_rows, shapes, seed=0):
    """Return scatters of rows drawn from Gaussians, each of its shape."""
    rows = draws(len(shapes), n_rows, shapes.shape[1], seed=seed) @ shapes
    return rows.swapaxes(1, 2) @ rows, np.full(len(shapes), float(n_rows))


ALIKE = np.tile(np.tril(np.ones((4, 4))), (8, 1, 1))


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_parts_that_are_alike_learn_of_each_other(kind):
    shape = ALIKE[0] if kind == "full" else np.diag([1.0, 2, 3, 4])
    shapes = np.tile(shape, (40, 1, 1))
    scatters, mass = scatters_of(12, shapes)
    if kind == "diag":
        scatters = scatters * np.eye(4)
    truth = (shapes.swapaxes(1, 2) @ shapes)[0]
    found = drawn_together(scatters, mass, kind)
    own = scatters / mass[:, None, None]
    errors = [np.linalg.norm(each - truth, axis=(1, 2)).mean() for each in (found, own)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_parts_of_their_own_shapes_stay_apart(kind):
    shapes = np.array([np.diag(s) for s in ([1.0, 1], [30, 1], [1, 1 / 30], [9, 9])])
    scatters, mass = scatters_of(400, shapes)
    if kind == "diag":
        scatters = scatters * np.eye(2)
    found = drawn_together(scatters, mass, kind)
    ratios = found.diagonal(axis1=1, axis2=2) / scatters.diagonal(axis1=1, axis2=2)
    assert_allclose(ratios[1] * mass[1], 1, rtol=0.05)
    assert_allclose(ratios[3] * mass[3], 1, rtol=0.05)


def test_one_part_has_its_own_covariance():
    scatters, mass = scatters_of(20, ALIKE[:1])
    assert_allclose(drawn_together(scatters, mass, "full"), scatters / 20)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_covariances_follow_the_coordinates(seed):
    scatters, mass = scatters_of(15, ALIKE, seed=seed)
    turn = draws(4, 4, seed=seed + 1) + 3 * np.eye(4)
    turned = drawn_together(turn @ scatters @ turn.T, mass, "full")
    expected = turn @ drawn_together(scatters, mass, "full") @ turn.T
    assert_allclose(turned, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


@given(seed=SEEDS, n_rows=st.sampled_from([6, 30, 300]))
@settings(max_examples=20, deadline=None)
def test_the_rows_of_a_prior_make_the_scatters_likeliest(seed, n_rows):
    """By determinants, as the inverse Wishart distribution is written."""
    scatters, mass = scatters_of(n_rows, ALIKE * draws(8, 1, 4, seed=seed), seed=seed)
    within = scatters.sum(axis=0) / mass.sum()

    def log_likelihood(rows):
        prior = rows + 5.0
        posterior = prior + mass
        gain = multigammaln(posterior / 2, 4) - multigammaln(prior / 2, 4)
        gain += prior / 2 * np.linalg.slogdet(rows * within)[1]
        gain -= posterior / 2 * np.linalg.slogdet(rows * within + scatters)[1]
        return gain.sum()

    best = max(_em.ROWS_OF_TABLE, key=log_likelihood)
    expected = (scatters + best * within) / (mass + best)[:, None, None]
    assert_allclose(drawn_together(scatters, mass, "full"), expected)
