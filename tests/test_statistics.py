"""Gains against their standard error, by Student's t of scipy; distinct rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skae._statistics import ONE_SIGMA, distinct, exceed_their_error

SEEDS = st.integers(0, 10_000)
FEW_VALUES = st.sampled_from([-1.5, -0.0, 0.0, 1.0, 256.0, np.nan])
TABLES = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, max_side=25), elements=FEW_VALUES
)


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


# ------------------------------------------------------------------- distinct rows


@given(X=TABLES)
@settings(max_examples=100, deadline=None)
def test_distinct_rows_are_sorted_by_their_values(X):
    first, mass = distinct(X, None)
    by_value = np.unique(np.where(np.isnan(X), np.inf, X), axis=0)
    assert_array_equal(np.where(np.isnan(X), np.inf, X)[first], by_value)
    assert mass.sum() == len(X)


@given(seed=SEEDS, n_rows=st.integers(2, 40))
@settings(max_examples=60, deadline=None)
def test_a_last_digit_moves_no_row(seed, n_rows):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 3))
    nudged = X * (1 + rng.choice([0, 1e-15], size=X.shape))
    assert_array_equal(distinct(nudged, None)[0], distinct(X, None)[0])


@pytest.mark.parametrize("n_columns", [8, 9, 16, 40])
def test_rows_that_differ_in_the_last_column_are_sorted_by_it(n_columns):
    X = np.zeros((30, n_columns))
    X[:, -1] = np.random.default_rng(0).permutation(30)
    assert_array_equal(distinct(X, None)[0], np.argsort(X[:, -1]))


def test_more_rows_than_are_sorted_stay_in_their_order():
    X = np.array([[3.0], [1.0], [3.0], [2.0]])
    first, mass = distinct(X, np.array([1.0, 2.0, 4.0, 8.0]), most_sorted=2)
    assert first.tolist() == [0, 1, 3]
    assert mass.tolist() == [5.0, 2.0, 8.0]
    first, mass = distinct(X, np.array([1.0, 2.0, 4.0, 8.0]), most_sorted=3)
    assert first.tolist() == [1, 3, 0]
    assert mass.tolist() == [2.0, 8.0, 5.0]
