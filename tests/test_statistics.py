"""Gains against their standard error, by Student's t of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from skae._statistics import ONE_SIGMA, exceed_their_error

SEEDS = st.integers(0, 10_000)


def gains_of(n_rows, statistic, seed=0):
    """Draw gains whose mean is as many times their standard error."""
    gains = np.random.default_rng(seed).normal(size=n_rows)
    return gains - gains.mean() + statistic * stats.sem(gains)


@given(seed=SEEDS, n_rows=st.integers(2, 40))
@settings(max_examples=60, deadline=None)
def test_gains_exceed_their_error_where_a_one_sided_t_test_says_so(seed, n_rows):
    gains = np.random.default_rng(seed).normal(0.2, 1, size=n_rows)
    test = stats.ttest_1samp(gains, 0, alternative="greater")
    assert exceed_their_error(gains) == (test.pvalue < 1 - 0.8413)


@pytest.mark.parametrize("n_rows", [2, 3, 10, 10_000])
def test_a_mean_must_be_larger_than_a_quantile_of_students_t(n_rows):
    quantile = stats.t(n_rows - 1).ppf(0.8413)
    assert exceed_their_error(gains_of(n_rows, 1.001 * quantile))
    assert not exceed_their_error(gains_of(n_rows, 0.999 * quantile))


def test_of_many_rows_the_mean_must_be_larger_than_one_error():
    assert_allclose(ONE_SIGMA, stats.norm.cdf(1), atol=1e-4)
    assert exceed_their_error(gains_of(100_000, 1.01))
    assert not exceed_their_error(gains_of(100_000, 0.99))


@pytest.mark.parametrize("gains", [[], [5.0], [-5.0], [1e300]], ids=str)
def test_fewer_than_two_rows_tell_nothing(gains):
    assert exceed_their_error(np.array(gains)) is False


@pytest.mark.parametrize("n_rows", [2, 30])
@pytest.mark.parametrize("gain", [1e-12, 0.25, 1e6])
def test_gains_that_are_all_the_same_exceed_their_error_if_there_are_any(n_rows, gain):
    assert exceed_their_error(np.full(n_rows, gain)) is True
    assert exceed_their_error(np.zeros(n_rows)) is False
    assert exceed_their_error(np.full(n_rows, -gain)) is False


@given(seed=SEEDS, n_rows=st.integers(2, 40), mean=st.floats(0, 5))
@settings(max_examples=60, deadline=None)
def test_losses_are_no_gains(seed, n_rows, mean):
    gains = np.abs(np.random.default_rng(seed).normal(mean, 1, size=n_rows))
    assert not exceed_their_error(-gains)
    assert not exceed_their_error(gains - gains.mean() - 1e-3)


@given(seed=SEEDS, n_rows=st.integers(2, 40), power=st.integers(-40, 40))
@settings(max_examples=60, deadline=None)
def test_the_unit_of_the_gains_does_not_matter(seed, n_rows, power):
    gains = np.random.default_rng(seed).normal(0.3, 1, size=n_rows)
    assert exceed_their_error(gains * 2.0**power) == exceed_their_error(gains)
