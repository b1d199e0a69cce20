"""Columns of levels as indicators, and back."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from columns import codes_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import pdist
from sklearn.preprocessing import OneHotEncoder

from skae.table._levels import FEWEST_ROWS, MOST_LEVELS, LevelEncoder

COUNTS = st.lists(st.integers(FEWEST_ROWS, 9), min_size=2, max_size=MOST_LEVELS)


@given(counts=COUNTS, weighted=st.booleans())
@settings(max_examples=60, deadline=None)
def test_indicators_have_mean_zero_and_the_variance_of_gini_impurity(counts, weighted):
    codes = codes_of(*counts)
    weight = 1 + np.arange(len(codes)) % 5.0 if weighted else None
    indicators = LevelEncoder(codes, weight).encode(codes)
    mean = np.average(indicators, axis=0, weights=weight)
    variance = np.average((indicators - mean) ** 2, axis=0, weights=weight)
    assert indicators.shape[1] == (len(counts) if len(counts) > 2 else 1)
    assert_allclose(mean, 0, atol=1e-12)
    mass = np.bincount(codes.astype(int), weight)
    assert_allclose(variance.sum(), 1 - np.square(mass / mass.sum()).sum())


@given(counts=COUNTS, seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_levels_come_back_from_their_indicators(counts, seed):
    codes = codes_of(*counts, seed=seed)
    level = LevelEncoder(codes, None)
    indicators = level.encode(codes)
    assert_array_equal(level.decode(indicators, None), codes)
    drawn = level.decode(indicators, np.random.default_rng(seed))
    assert_array_equal(drawn, codes)


@pytest.mark.parametrize("counts", [(5, 10, 20), (5, 10), (3, 4, 5, 6, 7, 8)])
def test_rows_are_as_far_apart_as_in_a_one_hot_table(counts):
    codes = codes_of(*counts)
    indicators = LevelEncoder(codes, None).encode(codes)
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(codes[:, None])
    assert_allclose(pdist(indicators), pdist(one_hot), atol=1e-12)


@pytest.mark.parametrize("rare", [[2] * 10, [2, 1, 1], [1, 1]])
@pytest.mark.parametrize("frequent", [[40, 30], [40]])
def test_levels_share_an_indicator_as_infrequent_ones_do_in_scikit_learn(
    frequent, rare
):
    codes = codes_of(*frequent, *rare)
    one_hot = OneHotEncoder(min_frequency=3, sparse_output=False)
    expected = one_hot.fit_transform(codes[:, None])
    indicators = LevelEncoder(codes, None).encode(codes)
    assert_allclose(pdist(indicators), pdist(expected), atol=1e-12)


@given(counts=COUNTS, seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_weights_of_levels_are_repeated_rows(counts, seed):
    rng = np.random.default_rng(seed)
    codes, weight = codes_of(*counts), rng.integers(1, 4, sum(counts))
    one = LevelEncoder(codes, weight.astype(float))
    other = LevelEncoder(np.repeat(codes, weight), None)
    for name in ("position", "share", "frequency", "centre", "scale"):
        assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12)


def test_a_missing_cell_is_zero_and_does_not_count():
    codes = np.r_[codes_of(5, 10, 20), np.full(7, np.nan)]
    with_missing, without = LevelEncoder(codes, None), LevelEncoder(codes[:-7], None)
    indicators = with_missing.encode(codes)
    assert_array_equal(indicators[-7:], 0)
    assert_array_equal(indicators[:-7], without.encode(codes[:-7]))


def test_levels_beyond_the_most_frequent_share_an_indicator():
    counts = [100 + i for i in range(MOST_LEVELS)] + [50, 60, 90]
    codes = codes_of(*counts)
    level = LevelEncoder(codes, None)
    assert level.width == MOST_LEVELS + 1
    alone, shared = level.position[:MOST_LEVELS], level.position[MOST_LEVELS:]
    assert sorted(alone) == list(range(MOST_LEVELS))
    assert set(shared) == {MOST_LEVELS}
    assert_allclose(level.share[MOST_LEVELS:], [0.25, 0.3, 0.45])
    assert_array_equal(level.share[:MOST_LEVELS], 1)


def test_levels_of_few_rows_share_an_indicator_unless_there_is_but_one():
    several = LevelEncoder(codes_of(20, 1, 2, 10, FEWEST_ROWS), None)
    assert several.position.tolist() == [0, 3, 3, 1, 2]
    one = LevelEncoder(codes_of(20, 1, 10), None)
    assert one.position.tolist() == [0, 1, 2]


@given(counts=st.lists(st.integers(1, 6), min_size=2, max_size=50))
@settings(max_examples=60, deadline=None)
def test_frequencies_of_levels_are_those_of_the_column(counts):
    codes = codes_of(*counts)
    level = LevelEncoder(codes, None)
    assert_allclose(level.frequency * level.share, np.array(counts) / sum(counts))


def test_levels_that_share_an_indicator_are_drawn_at_their_frequencies():
    counts = [40, 30, *[2] * 10, *[1] * 10]
    codes = codes_of(*counts)
    level = LevelEncoder(codes, None)
    shared = level.encode(np.full(6000, 5.0))
    drawn = level.decode(shared, np.random.default_rng(0)).astype(int)
    assert_allclose(np.bincount(drawn)[2:] / 6000, np.array(counts[2:]) / 30, atol=0.01)
    assert counts[int(level.decode(shared[:1], None)[0])] == 2


def test_a_level_alone_wins_over_many_that_are_likelier_together():
    level = LevelEncoder(codes_of(5, *[2] * 10), None)
    by_mean = np.zeros((1, level.width))  # the chances are the frequencies
    assert level.decode(by_mean, None).tolist() == [0]


@pytest.mark.parametrize(
    ("counts", "width"), [((7,), 0), ((1,) * 9, 0), ((2, 2), 0), ((5, 4), 1)]
)
def test_columns_of_one_indicator_have_none_and_of_two_have_one(counts, width):
    level = LevelEncoder(codes_of(*counts), None)
    assert level.width == width
    assert level.encode(codes_of(*counts)).shape == (sum(counts), width)


def test_a_column_of_one_indicator_is_drawn_at_its_frequencies():
    level = LevelEncoder(codes_of(1, 2, 2, 1), None)
    drawn = level.decode(np.empty((6000, 0)), np.random.default_rng(0)).astype(int)
    assert_allclose(np.bincount(drawn) / 6000, [1 / 6, 1 / 3, 1 / 3, 1 / 6], atol=0.02)


def test_a_column_without_a_level_stays_missing():
    level = LevelEncoder(np.full(9, np.nan), None)
    assert level.width == 0
    assert level.encode(np.full(4, np.nan)).shape == (4, 0)
    assert np.isnan(level.decode(np.empty((4, 0)), None)).all()
    assert_array_equal(level.log_chance(np.full(4, np.nan), level.share), 0)


def test_the_chance_of_a_level_is_its_share_and_nothing_where_missing():
    codes = codes_of(20, 1, 2, 10, FEWEST_ROWS)
    level = LevelEncoder(codes, None)
    found = level.log_chance(np.array([0, 1, 2, np.nan]), level.share)
    assert_allclose(found, np.log([1, 1 / 3, 2 / 3, 1]))


@given(counts=st.lists(st.integers(1, 6), min_size=2, max_size=50), seed=st.integers(0))
@settings(max_examples=60, deadline=None)
def test_the_decoded_level_is_the_likeliest_of_all(counts, seed):
    level = LevelEncoder(codes_of(*counts), None)
    assume(level.width > 1)
    chances = np.random.default_rng(seed).dirichlet(np.ones(level.width), 40)
    of_levels = chances[:, level.position] * level.share
    found = level.decode((chances - level.centre) / level.scale, None)
    likeliest = of_levels.max(axis=1)
    assert_allclose(of_levels[np.arange(40), found], likeliest, rtol=1e-9)


def test_decoding_ids_takes_no_room_for_every_pair_of_row_and_level():
    codes = codes_of(*[50] * 5, *[1] * 20_000)
    level = LevelEncoder(codes, None)
    indicators = level.encode(codes[:1000])
    tracemalloc.start()
    level.decode(indicators, None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * indicators.nbytes


# -------------------------------------------------------------------- unseen levels


def counted(*counts):
    return LevelEncoder(np.repeat(np.arange(float(len(counts))), counts), None)


@pytest.mark.parametrize(
    ("counts", "like"),
    [((50, 30, 2, 1, 1), 3), ((50, 30, 1), 2), ((50, 2), 1), ((1, 1, 1), 0)],
)
def test_an_unseen_level_is_one_of_the_rare_ones(counts, like):
    level = counted(*counts)
    new, rare = level.encode(np.array([-1.0])), level.encode(np.array([float(like)]))
    assert_array_equal(new, rare)
    mass = sum(count for count in counts if count < 3)
    (chance,) = level.log_chance(np.array([-1.0]), level.share)
    assert_allclose(chance, -np.log(mass + 1))
    assert chance < level.log_chance(np.arange(float(len(counts))), level.share).min()


@pytest.mark.parametrize("counts", [(50, 30, 3), (40, 7), (9,)])
def test_an_unseen_level_where_none_is_rare_has_no_place(counts):
    level = counted(*counts)
    assert_array_equal(
        level.encode(np.array([-1.0, np.nan])), np.zeros((2, level.width))
    )
    chances = level.log_chance(np.array([-1.0, np.nan]), level.share)
    assert_allclose(chances, [-np.log(sum(counts) + 1), 0])


@pytest.mark.parametrize("counts", [(50, 30, 3), (40, 7), (9,), (20, 20, 20, 5)])
def test_the_error_of_an_unseen_level_is_that_of_one_more_row(counts):
    shares = np.array([*counts, 1]) / (sum(counts) + 1)
    indicator = np.arange(len(shares)) == len(counts)
    expected = np.square(indicator - shares).sum()
    assert_allclose(counted(*counts).error_of_unseen, expected)


@given(counts=COUNTS)
@settings(max_examples=60, deadline=None)
def test_columns_stand_for_levels_in_their_order(counts):
    level = LevelEncoder(codes_of(*counts), None)
    groups = level.sharing()
    assert len(groups) == level.width
    last = range(len(counts))[len(counts) - level.width :]
    assert [group.tolist() for group in groups] == [[code] for code in last]


def test_rare_levels_share_the_last_column():
    level = LevelEncoder(codes_of(9, 1, 8, 2, 7), None)
    assert [group.tolist() for group in level.sharing()] == [[0], [2], [4], [1, 3]]


def test_a_single_level_has_no_column():
    assert LevelEncoder(codes_of(5), None).sharing() == []
