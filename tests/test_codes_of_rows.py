"""Codes of rows as Gaussians of each part."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from planes import dense, planes, rows
from scipy import stats
from scipy.special import logsumexp

MIXTURES = {"planes": planes, "dense": lambda: dense(planes())}
OF_BOTH = pytest.mark.parametrize("name", MIXTURES)


def found(name, some=slice(None)):
    X, seen = rows()
    return MIXTURES[name]().codes_of_rows(X[some], seen[some])


@OF_BOTH
def test_the_joint_density_is_that_of_rows_with_these_codes(name):
    """The chain rule: of the row, and of the code given the row."""
    X, seen = rows()
    codes = np.random.default_rng(2).normal(size=(4, len(X), 2))
    log_joint = found(name).log_joint(codes)
    for point, told in zip(codes, log_joint, strict=True):
        whole = np.c_[np.ones(point.shape, dtype=bool), seen]
        known = MIXTURES[name]().given(np.c_[point, X], whole)
        assert_allclose(told, known.log_density, rtol=1e-9)


@OF_BOTH
def test_the_joint_density_is_the_mixture_of_the_parts(name):
    of, codes = found(name), np.random.default_rng(2).normal(size=(1, 12, 2))
    for row in range(12):
        parts = [
            of.parts[row, k]
            + stats.multivariate_normal(
                of.means[row, k], of.factors[row, k] @ of.factors[row, k].T
            ).logpdf(codes[0, row])
            for k in range(of.parts.shape[1])
        ]
        assert of.log_joint(codes)[0, row] == pytest.approx(logsumexp(parts))


@OF_BOTH
def test_draws_have_the_moments_of_the_mixture(name):
    of = found(name)
    codes = of.draws(20_000, np.random.default_rng(0))
    chances = np.exp(of.parts - of.log_density[:, None])
    mean = np.einsum("nk,nkc->nc", chances, of.means)
    second = (of.factors**2).sum(axis=3) + (of.means - mean[:, None]) ** 2
    deviation = np.sqrt(np.einsum("nk,nkc->nc", chances, second))
    assert_allclose((codes.mean(axis=0) - mean) / deviation, 0, atol=0.04)
    assert_allclose(codes.std(axis=0) / deviation, 1, atol=0.04)


@OF_BOTH
def test_draws_of_a_row_are_independent_of_its_company(name):
    whole = found(name).draws(5, np.random.default_rng(2))
    order = np.arange(12)[::-1]
    backwards = found(name, order).draws(5, np.random.default_rng(2))
    assert_allclose(backwards, whole[:, order], atol=1e-9)
    alone = found(name, slice(3, 4)).draws(5, np.random.default_rng(2))
    assert_allclose(alone, whole[:, 3:4], atol=1e-9)


def test_few_numbers_at_once_draw_the_same(monkeypatch):
    whole = found("planes").draws(50, np.random.default_rng(2))
    monkeypatch.setattr("skae.model._codes_of_rows.LARGEST_STACK", 100)
    assert_array_equal(found("planes").draws(50, np.random.default_rng(2)), whole)
