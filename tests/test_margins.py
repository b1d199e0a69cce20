"""Drawn numbers brought to the margins of a table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skae.table._margins import MARGIN_KNOTS, Margins, NormalScores

N_ROWS, N_DRAWS = 2000, 5000
KNOT = 1 / MARGIN_KNOTS  # share of the rows between neighbouring knots
QUANTILES = np.linspace(0.01, 0.99, 99)
TABLES = {
    "normal": lambda rng, n: rng.normal(3, 2, n),
    "skewed": lambda rng, n: rng.lognormal(size=n),
    "heavy tails": lambda rng, n: rng.standard_t(2, n),
    "two heaps": lambda rng, n: rng.normal(size=n) + 20 * (rng.random(n) < 0.3),
}
OF_TABLES = pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)


def column_of(make, seed=0, n_rows=N_ROWS):
    return make(np.random.default_rng(seed), n_rows)


def scores_of(n_columns=1, n_draws=N_DRAWS, seed=1):
    return np.random.default_rng(seed).normal(size=(n_draws, n_columns))


def matched(numbers, scores, drawn=None, weight=None):
    """Bring draws, far off as they are given, to the margins of a table."""
    drawn = 1e3 + scores if drawn is None else drawn
    return Margins(numbers, weight).matching(scores, drawn).move(scores, drawn)


def distance(values, wanted, weight=None):
    """Return the largest difference of two distribution functions."""
    weight = np.ones(len(wanted)) if weight is None else weight
    at = np.union1d(values, wanted)
    order = np.argsort(wanted)
    below = np.r_[0, np.cumsum(weight[order])] / weight.sum()
    expected = below[np.searchsorted(wanted[order], at, side="right")]
    found = np.searchsorted(np.sort(values), at, side="right") / len(values)
    return np.abs(found - expected).max()


# ------------------------------------------------------------------------- quantiles


@OF_TABLES
def test_matched_draws_have_the_quantiles_of_the_table(make):
    column = column_of(make)
    found = matched(column[:, None], scores_of())[:, 0]
    assert distance(found, column) < 2 * KNOT
    low, high = (np.quantile(column, (QUANTILES + e).clip(0, 1)) for e in (-0.01, 0.01))
    quantiles = np.quantile(found, QUANTILES)
    assert (low <= quantiles).all()
    assert (quantiles <= high).all()
    assert column.min() <= found.min()
    assert found.max() <= column.max()


@OF_TABLES
def test_draws_of_another_time_are_moved_by_the_same_ranks(make):
    """What is learned from some draws serves others of the same model."""
    column, first, later = column_of(make), scores_of(), scores_of(seed=2)
    matching = Margins(column[:, None], None).matching(first, 1e3 + first)
    found = matching.move(later, 1e3 + later)[:, 0]
    assert distance(found, column) < 2 * KNOT + 2 / N_DRAWS**0.5
    again = matching.move(later[:10], 1e3 + later[:10])[:, 0]
    assert_array_equal(again, found[:10])


@OF_TABLES
def test_ranks_are_kept(make):
    scores = scores_of()
    found = matched(column_of(make)[:, None], scores)[:, 0]
    by_rank = found[np.argsort(scores[:, 0])]
    assert (np.diff(by_rank) >= 0).all()
    assert stats.spearmanr(found, scores[:, 0]).statistic > 0.9999


def test_each_column_gets_its_own_margin():
    rng = np.random.default_rng(0)
    columns = np.stack([make(rng, N_ROWS) for make in TABLES.values()], axis=1)
    scores = scores_of(len(TABLES))
    found = matched(columns, scores)
    for j, column in enumerate(columns.T):
        assert_array_equal(found[:, j], matched(column[:, None], scores[:, [j]])[:, 0])


def test_draws_are_left_as_they_were():
    scores = scores_of()
    drawn = 1e3 + scores
    scores.flags.writeable = drawn.flags.writeable = False
    matched(column_of(TABLES["skewed"])[:, None], scores, drawn)
    assert_array_equal(drawn, 1e3 + scores_of())


# ------------------------------------------------------- which columns are left alone


@OF_TABLES
def test_a_column_whose_margin_could_pass_for_the_tables_is_left_alone(make):
    drawn = column_of(make, 5, N_DRAWS)
    margins = Margins(column_of(make)[:, None], None)
    matching = margins.matching(drawn[:, None], drawn[:, None])
    assert matching.pairs == {}
    assert_array_equal(matching.move(drawn[:, None], drawn[:, None])[:, 0], drawn)


@pytest.mark.parametrize("shift", [-0.2, 0.2])
def test_a_column_whose_margin_surely_differs_is_moved(shift):
    column = np.random.default_rng(0).normal(size=(N_ROWS, 1))
    scores = scores_of()
    assert matched(column, scores, scores + shift).mean() == pytest.approx(
        column.mean(), abs=0.01
    )


def test_columns_are_judged_one_by_one():
    rng = np.random.default_rng(0)
    columns, scores = rng.normal(size=(N_ROWS, 3)), scores_of(3)
    drawn = scores + np.array([0.0, 1.0, 0.0])
    found = matched(columns, scores, drawn)
    assert_array_equal(found[:, [0, 2]], drawn[:, [0, 2]])
    assert (found[:, 1] != drawn[:, 1]).all()


@pytest.mark.parametrize("n_rows", [20, 200])
def test_margins_are_rarely_held_for_different_where_they_are_not(n_rows):
    """The chance of an error is one in a hundred."""
    scores = scores_of()
    moved = sum(
        bool(
            Margins(np.random.default_rng(seed).normal(size=(n_rows, 1)), None)
            .matching(scores, scores)
            .pairs
        )
        for seed in range(300)
    )
    assert moved <= stats.binom.ppf(0.9999, 300, 0.01)


# ----------------------------------------------------------------------------- spikes


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("at", [0.0, 1.0, 1e6], ids=["low end", "inside", "high end"])
def test_spikes_come_back_as_often_as_in_the_table(share, at):
    rng = np.random.default_rng(0)
    column = rng.lognormal(size=N_ROWS)
    column[: round(share * N_ROWS)] = at
    found = matched(column[:, None], scores_of())[:, 0]
    assert abs((found == at).mean() - share) < KNOT


def test_a_spike_is_matched_even_where_the_margin_could_pass_for_the_tables():
    rng = np.random.default_rng(0)
    column, scores = rng.normal(size=N_ROWS).round(1), scores_of()
    found = matched(column[:, None], scores, scores)[:, 0]
    values, counts = np.unique(column, return_counts=True)
    for value, count in zip(values, counts, strict=True):
        if count > 1:  # others are no spikes
            assert abs((found == value).mean() - count / N_ROWS) < KNOT


def test_counts_come_back_with_their_frequencies():
    column = np.random.default_rng(0).poisson(1.5, N_ROWS).astype(float)
    found = matched(column[:, None], scores_of())[:, 0]
    values, counts = np.unique(column, return_counts=True)
    assert set(found) <= set(values)
    shares = [(found == value).mean() for value in values]
    assert_allclose(shares, counts / N_ROWS, atol=KNOT)


def test_gaps_of_the_table_stay_nearly_empty():
    rng = np.random.default_rng(0)
    column = rng.permutation(np.r_[rng.normal(size=N_ROWS), 50 + rng.normal(size=100)])
    found = matched(column[:, None], scores_of())[:, 0]
    assert ((found > 10) & (found < 40)).mean() < 2 * KNOT


# --------------------------------------------------- missing cells, weights, constants


@OF_TABLES
def test_missing_cells_count_for_nothing(make):
    column, scores = column_of(make), scores_of()
    holed = np.r_[column, np.full(500, np.nan)]
    holed = np.random.default_rng(3).permutation(holed)[:, None]
    found = matched(holed, scores)
    assert np.isfinite(found).all()
    assert_array_equal(found, matched(column[:, None], scores))
    assert_array_equal(Margins(holed, None).n_seen, [N_ROWS])


def test_a_column_without_a_value_leaves_draws_alone():
    numbers = np.c_[np.full(N_ROWS, np.nan), column_of(TABLES["skewed"])]
    scores = scores_of(2)
    found = matched(numbers, scores)
    assert_array_equal(found[:, 0], 1e3 + scores[:, 0])
    assert found[:, 1].max() < 1e3


@OF_TABLES
def test_weights_are_those_of_the_quantiles(make):
    column = column_of(make)
    weight = np.random.default_rng(4).uniform(0.1, 3, N_ROWS)
    weight[column > np.median(column)] *= 2
    found = matched(column[:, None], scores_of(), weight=weight)[:, 0]
    assert distance(found, column, weight) < 2 * KNOT
    assert distance(found, column) > 4 * KNOT


def test_unit_weights_are_no_weights():
    column, scores = column_of(TABLES["skewed"])[:, None], scores_of()
    found = matched(column, scores, weight=np.ones(N_ROWS))
    assert_array_equal(found, matched(column, scores))


def test_a_row_that_weighs_as_many_comes_back_as_often():
    """Rows of a table are written once, with the mass of their copies."""
    rng = np.random.default_rng(0)
    column = np.r_[0.0, rng.lognormal(size=N_ROWS)]
    weight = np.r_[float(N_ROWS), np.ones(N_ROWS)]
    found = matched(column[:, None], scores_of(), weight=weight)[:, 0]
    assert abs((found == 0).mean() - 0.5) < KNOT


def test_integer_weights_are_repeated_rows():
    rng = np.random.default_rng(0)
    column, weight = rng.lognormal(size=200), rng.integers(1, 30, 200)
    scores = scores_of()
    found = matched(column[:, None], scores, weight=weight.astype(float))
    repeated = matched(np.repeat(column, weight)[:, None], scores)
    assert_allclose(found, repeated)


@pytest.mark.parametrize("value", [0.0, -7.5, 1e30])
@pytest.mark.parametrize("far", [0.0, 1e3])
def test_draws_of_a_constant_column_are_its_constant(value, far):
    scores = scores_of()
    column = np.full((N_ROWS, 1), value)
    assert_array_equal(matched(column, scores, scores * 0 + value + far), value)


# ------------------------------------------------------------------ normal scores

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


@given(seed=st.integers(0, 1000), n_values=st.integers(2, MARGIN_KNOTS))
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
    assert 0.9 * MARGIN_KNOTS < len(scores.values) <= MARGIN_KNOTS + 2
    assert (scores.values[0], scores.values[-1]) == (column.min(), column.max())
    inner = np.abs(column) < 3  # of about a row per knot
    back = scores.inverse(scores.scores(column))
    assert np.abs(back - column)[inner].max() < 0.1
