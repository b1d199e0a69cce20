"""Numbers given codes: regressions, and what they leave."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from planes import CHANCES, LEVELS, N_PARTS, dense, planes, rows

from skae.model._given_codes import GivenCodes
from skae.model._level_columns import LevelColumns
from skae.model._mixture import Mixture

ONE = Mixture(
    np.ones(1), np.zeros((1, 2)), np.eye(2)[None], np.empty((1, 0)), LevelColumns()
)


def learned(n_rows=4000, n_numbers=5, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(n_rows, 2))
    slopes, noise = rng.normal(size=(3, n_numbers)), rng.uniform(0.2, 1, n_numbers)
    numbers = slopes[0] + codes @ slopes[1:]
    numbers += noise * rng.normal(size=numbers.shape)
    given = GivenCodes.learn(ONE, np.ones((n_rows, 1)), codes, numbers)
    return given, slopes, noise


@pytest.mark.parametrize("widest", [200, 3], ids=["dense", "planes"])
def test_slopes_and_deviations_are_learned(widest, monkeypatch):
    monkeypatch.setattr("skae.model._given_codes.WIDEST", widest)
    given, slopes, noise = learned()
    assert_allclose(given.slopes[0], slopes, atol=0.06)
    joint = given.joint(np.empty((1, 0)), LevelColumns())
    X, seen = np.zeros((1, 7)), np.arange(7)[None] < 2
    mean, variance = joint.given(X, seen).moments()
    assert_allclose(mean[0, 2:], slopes[0], atol=0.06)
    assert_allclose(variance[0, 2:], noise**2, rtol=0.1)
    assert given.log_noise == pytest.approx(np.log(noise).mean(), abs=0.03)


def test_the_joint_of_diagonal_factors_is_that_of_deviations():
    mixture = planes()
    factors = mixture.deviations[:, None] * np.eye(mixture.n_numbers)
    whole = GivenCodes(mixture.codes, mixture.slopes, factors)
    few = GivenCodes(mixture.codes, mixture.slopes, mixture.deviations)
    one, other = (of.joint(CHANCES, LEVELS) for of in (whole, few))
    assert_allclose(one.means, dense(other).means)
    assert_allclose(one.covariances, dense(other).covariances, atol=1e-12)
    found, expected = (of.codes_of_rows(*rows()) for of in (other, one))
    assert_allclose(found.parts, expected.parts)
    assert len(found.parts[0]) == N_PARTS
