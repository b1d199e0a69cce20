"""A column by the ranks of its values, and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skae.table._ranks import MOST_KNOTS, NormalScores

VALUES = st.lists(
    st.sampled_from([-1e6, -2.5, -1.0, 0.0, 1e-3, 0.5, 1.0, 3.0, 7e4]),
    min_size=2,
    max_size=60,
)


@given(values=VALUES)
@settings(max_examples=100, deadline=None)
def test_every_value_comes_back_from_its_score(values):
    column = np.array(values)
    scores = NormalScores(column, None)
    assert_array_equal(scores.inverse(scores.scores(column)), column)


@given(seed=st.integers(0, 1000), n_values=st.integers(2, MOST_KNOTS))
@settings(max_examples=30, deadline=None)
def test_as_many_distinct_values_as_there_are_knots_come_back(seed, n_values):
    rng = np.random.default_rng(seed)
    distinct = np.unique(rng.standard_cauchy(n_values))
    column = rng.permutation(np.r_[distinct, rng.choice(distinct, 50)])
    scores = NormalScores(column, None)
    assert_allclose(scores.inverse(scores.scores(column)), column, rtol=1e-9)


@given(values=VALUES, seed=st.integers(0, 1000), weighted=st.booleans())
@settings(max_examples=60, deadline=None)
def test_scores_rise_with_the_values_and_back(values, seed, weighted):
    assume(len(set(values)) > 1)
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.1, 3, len(values)) if weighted else None
    scores = NormalScores(np.array(values), weight)
    among = np.unique(np.r_[values, rng.normal(size=50), rng.normal(size=50) * 1e5])
    assert (np.diff(scores.scores(among)) > 0).all()
    assert (np.diff(scores.inverse(np.sort(rng.normal(size=99) * 3))) >= 0).all()


def test_scores_of_distinct_values_are_van_der_waerdens():
    column = np.random.default_rng(0).exponential(size=99)
    expected = stats.norm.ppf((stats.rankdata(column) - 0.5) / 99)
    assert_allclose(NormalScores(column, None).scores(column), expected, atol=1e-12)


def test_equal_values_share_the_score_of_their_mean_rank():
    column = np.random.default_rng(0).integers(0, 5, 80).astype(float)
    expected = stats.norm.ppf((stats.rankdata(column) - 0.5) / 80)
    assert_allclose(NormalScores(column, None).scores(column), expected, atol=1e-12)


@given(values=VALUES, within=st.floats(-0.499, 0.499))
@settings(max_examples=60, deadline=None)
def test_all_ranks_of_a_repeated_value_lead_to_it(values, within):
    distinct, counts = np.unique(values, return_counts=True)
    above = np.cumsum(counts) / len(values)
    quantiles = above - counts / len(values) * (0.5 + within)
    found = NormalScores(np.array(values), None).inverse(stats.norm.ppf(quantiles))
    assert_array_equal(found[counts > 1], distinct[counts > 1])


def test_far_scores_lead_to_the_range_of_the_column():
    column = np.random.default_rng(0).normal(size=100)
    found = NormalScores(column, None).inverse(np.array([-50.0, 50.0]))
    assert found.tolist() == [column.min(), column.max()]


def test_weights_are_repeated_values():
    rng = np.random.default_rng(0)
    column, weight = rng.integers(0, 9, 50).astype(float), rng.integers(1, 4, 50)
    one = NormalScores(column, weight.astype(float))
    other = NormalScores(np.repeat(column, weight), None)
    new = rng.normal(size=30) * 5
    assert_allclose(one.scores(new), other.scores(new), atol=1e-12)


def test_single_precision_scores_are_single():
    column = np.random.default_rng(0).normal(size=50).astype(np.float32)
    assert NormalScores(column, None).scores(column).dtype == np.float32


def test_missing_cells_have_no_score():
    column = np.array([1.0, np.nan, 2.0, 5.0])
    scores = NormalScores(column, None)
    assert np.isnan(scores.scores(column)).tolist() == [False, True, False, False]
    complete = NormalScores(column[[0, 2, 3]], None)
    new = np.array([0.0, 1.5, 9.0])
    assert_array_equal(scores.scores(new), complete.scores(new))


def test_big_columns_are_kept_as_about_as_many_knots():
    column = np.random.default_rng(0).normal(size=20_000)
    scores = NormalScores(column, None)
    assert 0.9 * MOST_KNOTS < len(scores.values) <= MOST_KNOTS + 2
    assert (scores.values[0], scores.values[-1]) == (column.min(), column.max())
    inner = np.abs(column) < 3  # of about a row per knot
    back = scores.inverse(scores.scores(column))
    assert np.abs(back - column)[inner].max() < 0.1


@given(seed=st.integers(0, 1000), n_values=st.integers(1, 40), power=st.floats(0.5, 4))
@settings(max_examples=60, deadline=None)
def test_a_gap_is_vast_beside_five_values_on_each_side(seed, n_values, power):
    rng = np.random.default_rng(seed)
    values = np.unique(np.exp(power * rng.normal(size=n_values)))
    expected = []
    for i, (low, high) in enumerate(itertools.pairwise(values)):
        spreads = [low - values[i - 5]] if i >= 5 else []
        spreads += [values[i + 6] - high] if i + 6 < len(values) else []
        if spreads and high - low > 5 * max(spreads):
            expected.append([low, high])
    found = NormalScores(rng.permutation(values), None).gaps
    assert_array_equal(found, np.reshape(expected, (-1, 2)))


@pytest.mark.parametrize("n_values", [100, 20_000])
def test_vast_gaps_are_found_in_columns_of_any_length(n_values):
    rng = np.random.default_rng(0)
    heaps = [rng.normal(size=n_values), 1e3 + rng.normal(size=n_values), [-999.0]]
    scores = NormalScores(rng.permutation(np.concatenate(heaps)), None)
    gaps = [[-999.0, min(heaps[0])], [max(heaps[0]), min(heaps[1])]]
    assert all(gap in scores.gaps.tolist() for gap in gaps)
    assert np.isin(gaps, scores.values).all()


def test_columns_of_one_heap_have_hardly_a_vast_gap():
    rng = np.random.default_rng(0)
    gaps = [len(NormalScores(rng.normal(size=300), None).gaps) for _ in range(200)]
    assert np.mean(gaps) < 0.1
