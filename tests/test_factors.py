"""Mixtures of planes against the dense Gaussians that they are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from planes import CENTRE, LEVELS, N_CODES, N_NUMBERS, SCALE, dense, planes, rows

from skae.model._conditional import moments_of
from skae.model._factors import independent_columns

NOISES = pytest.mark.parametrize("noise", [2.0, 0.5, 1e-3])


def with_codes(n_rows=12):
    """Return rows with their codes, and which cells are seen."""
    X, seen = rows(n_rows)
    codes = np.random.default_rng(2).normal(size=(n_rows, N_CODES))
    return np.c_[codes, X], np.c_[np.ones(codes.shape, dtype=bool), seen]


@NOISES
def test_codes_of_rows_are_those_of_the_dense_gaussians(noise):
    mixture, (X, seen) = planes(noise), rows()
    found, expected = (m.codes_of_rows(X, seen) for m in (mixture, dense(mixture)))
    assert_allclose(found.parts, expected.parts, rtol=1e-6)
    assert_allclose(found.log_density, expected.log_density, rtol=1e-6)
    assert_allclose(found.means, expected.means, rtol=1e-4, atol=1e-6)
    assert_allclose(found.factors, expected.factors, rtol=1e-3, atol=1e-9)


@NOISES
def test_rows_have_the_density_of_the_dense_gaussians_around_codes(noise):
    mixture, cells = planes(noise), with_codes()
    found, expected = (m.given(*cells) for m in (mixture, dense(mixture)))
    assert_allclose(found.log_density, expected.log_density, rtol=1e-6)
    assert_allclose(found.memberships, expected.memberships, atol=1e-6)


@NOISES
def test_moments_and_draws_are_those_of_the_dense_gaussians(noise):
    mixture, cells = planes(noise), with_codes()
    found, expected = (m.given(*cells) for m in (mixture, dense(mixture)))
    assert_allclose(found.moments(), expected.moments(), atol=1e-6)
    assert_allclose(moments_of(found.parts()), found.moments(), atol=1e-9)
    one, other = (
        known.draws(3, np.random.default_rng(3)) for known in (found, expected)
    )
    assert_allclose(one, other, atol=1e-6)
    assert_array_equal(one[:, cells[1]], np.tile(cells[0][cells[1]], (3, 1)))


def test_exact_planes_lose_no_digits():
    """The code is told a million times better than before, and exactly so."""
    mixture = planes(1e-9)
    code = np.array([0.3, -0.7])
    X = np.zeros((1, N_NUMBERS + 4))
    X[0, :N_NUMBERS] = mixture.plane(1, code[None])[0]
    seen = np.arange(X.shape[1])[None] < N_NUMBERS
    found = mixture.codes_of_rows(X, seen)
    assert found.parts.argmax() == 1
    assert_allclose(found.means[0, 1], code, atol=1e-9)
    assert np.isfinite(found.parts).all()
    assert (found.factors.diagonal(axis1=2, axis2=3) > 0).all()


def test_what_stands_in_a_hole_does_not_matter():
    X, seen = rows()
    one, other = (
        planes().codes_of_rows(np.where(seen, X, hole), seen) for hole in (0.0, 5.0)
    )
    assert_array_equal(one.parts, other.parts)
    assert_array_equal(one.means, other.means)


def test_independent_columns_have_the_moments_of_their_seen_cells():
    rng = np.random.default_rng(0)
    X = np.c_[rng.normal(3, 2, size=(4000, N_NUMBERS)), np.zeros((4000, 4))]
    X[:, N_NUMBERS:] = LEVELS.draw(np.full((4000, 4), 0.25), rng)
    features = rng.uniform(size=(4000, N_NUMBERS + 2)) > 0.3
    seen = np.repeat(features, [1] * N_NUMBERS + [3, 1], axis=1)
    weight = rng.integers(1, 4, size=4000).astype(float)
    mixture = independent_columns(np.where(seen, X, 99.0), seen, weight, LEVELS)
    for column in range(N_NUMBERS):
        of_column, mass = X[seen[:, column], column], weight[seen[:, column]]
        mean = np.average(of_column, weights=mass)
        variance = np.average((of_column - mean) ** 2, weights=mass)
        assert mixture.slopes[0, 0, column] == pytest.approx(mean)
        assert mixture.deviations[0, column] ** 2 == pytest.approx(variance, abs=2e-3)
    nothing = np.zeros((20_000, X.shape[1]))
    (drawn,) = mixture.given(nothing, nothing > 0).draws(1, rng)
    assert_allclose(drawn[:, :N_NUMBERS].mean(axis=0), 3, atol=0.15)
    raw = drawn[:, N_NUMBERS:] * SCALE + CENTRE
    assert_allclose(raw.mean(axis=0), [1 / 3, 1 / 3, 1 / 3, 0.25], atol=0.04)
