"""Drawn numbers brought to the margins of a table."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skae.table import _margins
from skae.table._margins import Margins, _explained
from skae.table._ranks import MOST_KNOTS

N_ROWS, N_DRAWS = 2000, 5000
KNOT = 1 / MOST_KNOTS  # share of the rows between neighbouring knots
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


def no_levels(rows):
    return np.empty((len(rows), 0))


def learned(numbers, scores, drawn, weight=None):
    margins = Margins(numbers, no_levels(numbers), weight)
    return margins.matching(scores, drawn, no_levels(drawn))


def matched(numbers, scores, drawn=None, weight=None):
    """Bring draws, far off as they are given, to the margins of a table."""
    drawn = 1e3 + scores if drawn is None else drawn
    matching = learned(numbers, scores, drawn, weight)
    return matching.move(scores, drawn, no_levels(drawn))


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
    matching = learned(column[:, None], first, 1e3 + first)
    found = matching.move(later, 1e3 + later, no_levels(later))[:, 0]
    assert distance(found, column) < 2 * KNOT + 2 / N_DRAWS**0.5
    again = matching.move(later[:10], 1e3 + later[:10], no_levels(later[:10]))[:, 0]
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


@pytest.mark.parametrize("is_moved", [True, False])
def test_no_number_is_drawn_into_a_vast_gap(is_moved):
    rng = np.random.default_rng(0)
    column = np.r_[rng.normal(size=N_ROWS), 1e3 + rng.normal(size=N_ROWS), -999.0]
    low, high = column[:N_ROWS], column[N_ROWS:-1]
    scores = np.r_[rng.uniform(-999, 1e3, 100), rng.choice(column, N_DRAWS)][:, None]
    found = matched(column[:, None], scores, scores + 1e3 * is_moved)[:, 0]
    of_low = (low.min() <= found) & (found <= low.max())
    of_high = (high.min() <= found) & (found <= high.max())
    assert (of_low | of_high | (found == -999)).all()


# ------------------------------------------------------- which columns are left alone


@OF_TABLES
def test_a_column_whose_margin_could_pass_for_the_tables_is_left_alone(make):
    column, drawn = column_of(make), column_of(make, 5, N_DRAWS)
    matching = learned(column[:, None], drawn[:, None], drawn[:, None])
    assert matching.ranks == {}
    found = matching.move(drawn[:, None], drawn[:, None], no_levels(drawn))[:, 0]
    within = drawn.clip(column.min(), column.max())
    moved = found != within  # into a gap between two heaps no table reaches
    assert moved.mean() < 0.005
    assert np.isin(found[moved], column).all()


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
    left = [0, 2]
    low, high = columns.min(axis=0), columns.max(axis=0)
    assert_array_equal(found[:, left], drawn.clip(low, high)[:, left])
    assert (found[:, 1] != drawn[:, 1]).all()


@pytest.mark.parametrize("n_rows", [20, 200])
def test_margins_are_rarely_held_for_different_where_they_are_not(n_rows):
    """The chance of an error is one in a hundred."""
    scores = scores_of()
    moved = sum(
        bool(
            learned(
                np.random.default_rng(seed).normal(size=(n_rows, 1)), scores, scores
            ).ranks
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
    (margins,) = Margins(holed, no_levels(holed), None).of_numbers
    assert margins.whole.n_seen == N_ROWS


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


# --------------------------------------------------------------------- within levels


CENTRES = np.array([0.0, 5.0, 1e4])


def numbers_and_levels(n_rows=600, seed=0):
    """Draw a number whose three levels are decades apart, and one that they leave."""
    rng = np.random.default_rng(seed)
    level = rng.integers(0, 3, n_rows).astype(float)
    number = CENTRES[level.astype(int)] * rng.lognormal(0, 0.2, n_rows)
    number += rng.lognormal(size=n_rows)
    return np.c_[number, rng.normal(size=n_rows)], level[:, None]


def blurred(n_draws=N_DRAWS, seed=1):
    """Draw scores that reach from each level's mode to the others'."""
    rng = np.random.default_rng(seed)
    level = rng.integers(0, 3, n_draws).astype(float)
    scores = np.c_[level - 1 + rng.normal(size=n_draws), rng.normal(size=n_draws)]
    return scores, np.exp(3 * scores), level[:, None]


def test_draws_keep_to_the_spread_of_their_level():
    numbers, levels = numbers_and_levels()
    scores, drawn, of_draws = blurred()
    matching = Margins(numbers, levels, None).matching(scores, drawn, of_draws)
    found = matching.move(scores, drawn, of_draws)
    for level in range(3):
        own = numbers[levels[:, 0] == level, 0]
        got = found[of_draws[:, 0] == level, 0]
        assert own.min() <= got.min()
        assert got.max() <= own.max()
        assert distance(got, own) < 0.02


def test_ranks_are_kept_within_a_level():
    numbers, levels = numbers_and_levels()
    scores, drawn, of_draws = blurred()
    matching = Margins(numbers, levels, None).matching(scores, drawn, of_draws)
    found = matching.move(scores, drawn, of_draws)[:, 0]
    for level in range(3):
        rows = of_draws[:, 0] == level
        assert (np.diff(found[rows][np.argsort(scores[rows, 0])]) >= 0).all()


def test_a_number_that_levels_tell_nothing_of_has_one_margin():
    numbers, levels = numbers_and_levels()
    first, second = Margins(numbers, levels, None).of_numbers
    assert sorted(first.of_levels) == [0, 1, 2]
    assert second.column is None
    assert second.of_levels == {}


def test_of_two_columns_of_levels_the_more_telling_counts():
    numbers, levels = numbers_and_levels()
    rng = np.random.default_rng(5)
    mixed_up = np.where(rng.random(levels.shape) < 0.5, 0.0, levels)
    for columns, expected in [((mixed_up, levels), 1), ((levels, mixed_up), 0)]:
        margins = Margins(numbers, np.hstack(columns), None)
        assert margins.of_numbers[0].column == expected


def test_what_levels_explain_is_omega_squared():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 90).astype(float)
    scores = np.c_[codes + rng.normal(size=90), rng.normal(size=90)]
    groups = [[column[codes == level] for level in range(3)] for column in scores.T]
    expected = []
    for of_levels, column in zip(groups, scores.T, strict=True):
        statistic = stats.f_oneway(*of_levels).statistic
        expected.append(2 * (statistic - 1) / (2 * (statistic - 1) + len(column)))
    assert_allclose(_explained(scores, codes, None), expected)


def test_what_levels_explain_is_of_the_cells_that_have_both():
    rng = np.random.default_rng(0)
    codes, weight = rng.integers(0, 3, 90).astype(float), rng.integers(1, 4, 90) * 1.0
    scores = codes[:, None] + rng.normal(size=(90, 4))
    scores[rng.random(scores.shape) < 0.2] = np.nan
    scores[:, 3] = np.nan
    codes[rng.random(90) < 0.2] = np.nan
    found = _explained(scores, codes, weight)
    for j, column in enumerate(scores.T[:3]):
        rows = np.flatnonzero(~np.isnan(column) & ~np.isnan(codes))
        rows = np.repeat(rows, weight[rows].astype(int))
        assert_allclose(found[j], _explained(column[rows, None], codes[rows], None)[0])
    assert found[3] == 0
    assert_array_equal(_explained(scores, np.full(90, np.nan), weight), 0)


def test_numbers_scored_at_once_are_numbers_scored_one_by_one(monkeypatch):
    numbers, levels = numbers_and_levels()
    together = Margins(numbers, levels, None).of_numbers
    monkeypatch.setattr(_margins, "SCORED_CELLS", 1)
    alone = Margins(numbers, levels, None).of_numbers
    assert [m.column for m in alone] == [m.column for m in together] == [0, None]


def test_levels_of_few_rows_have_the_margin_of_the_table():
    numbers, levels = numbers_and_levels()
    levels[:10] = 3.0
    (margins, _) = Margins(numbers, levels, None).of_numbers
    assert sorted(margins.of_levels) == [0, 1, 2]
    unseen = np.array([[3.0], [np.nan], [7.0]])
    assert [level for level, *_ in margins.groups(unseen)] == [-1]


def test_integer_weights_are_repeated_rows_within_levels_too():
    numbers, levels = numbers_and_levels(100)
    weight = np.random.default_rng(2).integers(1, 9, 100)
    scores, drawn, of_draws = blurred(500)
    every = Margins(
        np.repeat(numbers, weight, axis=0), np.repeat(levels, weight, axis=0), None
    )
    for margins in (every, Margins(numbers, levels, weight.astype(float))):
        matching = margins.matching(scores, drawn, of_draws)
        found = matching.move(scores, drawn, of_draws)
        if margins is every:
            expected = found
    assert_allclose(found, expected)


def test_only_wanted_numbers_are_moved():
    rng = np.random.default_rng(0)
    table, drawn = rng.exponential(size=(500, 3)), rng.normal(size=(500, 3))
    none = no_levels(drawn)
    matching = Margins(table, none, None).matching(drawn, drawn, none)
    wanted = rng.uniform(size=drawn.shape) < 0.3
    wanted[:, 1] = False
    found = matching.move(drawn, drawn, none, wanted)
    np.testing.assert_array_equal(
        found, np.where(wanted, matching.move(drawn, drawn, none), drawn)
    )
    assert (found[wanted] != drawn[wanted]).all()
