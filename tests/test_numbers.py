"""Numeric columns on one scale, with holes, and back."""

from __future__ import annotations

import numpy as np
import pytest
from columns import table, weights, with_holes
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, StandardScaler

from skae.table._numbers import ColumnScaler, NormalScores

SCALINGS = pytest.mark.parametrize("scaling", ["standard", "minmax", "quantile", None])
WEIGHTED = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])


def scaler_of(scaling, X, sample_weight=None):
    return ColumnScaler([scaling] * X.shape[1]).fit(X, sample_weight)


# ------------------------------------------------------------------- column scaler


@pytest.mark.parametrize(
    ("scaling", "scaler"), [("standard", StandardScaler()), ("minmax", MinMaxScaler())]
)
@pytest.mark.parametrize("make", [table, with_holes])
def test_scaling_is_sklearns(scaling, scaler, make):
    X, X_new = make(), make(seed=1)
    found = scaler_of(scaling, X)
    scaler.fit(X)
    assert_allclose(found.encode(X_new), scaler.transform(X_new), rtol=1e-9)
    assert_allclose(found.decode(X_new), scaler.inverse_transform(X_new), rtol=1e-9)


def test_no_scaling_changes_nothing():
    scaler = scaler_of(None, table())
    assert_array_equal(scaler.encode(table()), table())
    assert_array_equal(scaler.decode(table()), table())
    assert_array_equal(scaler.log_derivative(table()), 0)


def test_each_column_has_its_own_scaling():
    scalings = ["quantile", None, "minmax", "standard"]
    scaler = ColumnScaler(scalings).fit(with_holes(), None)
    alone = [scaler_of(scaling, with_holes()) for scaling in scalings]
    for j, single in enumerate(alone):
        assert_array_equal(
            scaler.encode(with_holes(seed=1))[:, j],
            single.encode(with_holes(seed=1))[:, j],
        )
        assert_array_equal(scaler.decode(table())[:, j], single.decode(table())[:, j])


@SCALINGS
@pytest.mark.parametrize("make", [table, with_holes])
def test_integer_weights_scale_as_repeated_rows(scaling, make):
    weight = np.random.default_rng(0).integers(1, 4, size=40)
    repeated = np.repeat(make(), weight, axis=0)
    one = scaler_of(scaling, make(), weight.astype(float))
    other = scaler_of(scaling, repeated)
    assert_allclose(one.centre_, other.centre_, rtol=1e-9, atol=1e-12)
    assert_allclose(one.scale_, other.scale_, rtol=1e-9)
    assert_allclose(one.encode(table(seed=1)), other.encode(table(seed=1)), rtol=1e-6)


MAGNITUDES = st.sampled_from([1e-200, 1e-30, 1e-3, 1.0, 1e6, 1e200])


@SCALINGS
@given(magnitude=MAGNITUDES, offset=st.floats(-100, 100), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_rows_come_back_in_their_units(scaling, magnitude, offset, seed):
    X = magnitude * (np.random.default_rng(seed).normal(size=(9, 2)) + offset)
    scaler = scaler_of(scaling, X)
    encoded = scaler.encode(X)
    assert np.isfinite(encoded).all()
    atol = 1e-13 * np.abs(X).max()
    assert_allclose(scaler.decode(encoded), X, rtol=0, atol=atol)
    if scaling in ("standard", "quantile"):
        assert_allclose(encoded.mean(axis=0), 0, atol=1e-10)
        assert_allclose(encoded.std(axis=0), 1, rtol=1e-9)
    if scaling == "minmax":
        assert_array_equal(encoded.min(axis=0), 0)
        assert_array_equal(encoded.max(axis=0), 1)


@SCALINGS
def test_holes_stay_holes_and_do_not_count(scaling):
    X = with_holes()
    scaler = scaler_of(scaling, X)
    assert_array_equal(np.isnan(scaler.encode(X)), np.isnan(X))
    encoded = scaler.encode(table(seed=1))
    for j in range(4):
        alone = scaler_of(scaling, X[~np.isnan(X[:, j])][:, [j]])
        expected = alone.encode(table(seed=1)[:, [j]])
        assert_allclose(encoded[:, [j]], expected)


@SCALINGS
@WEIGHTED
def test_a_column_without_a_value_stays_missing_and_disturbs_nothing(scaling, weighted):
    X = np.c_[table()[:, :2], np.full(40, np.nan), table()[:, 2:]]
    weight = weights() if weighted else None
    scaler = scaler_of(scaling, X, weight)
    others = scaler_of(scaling, table(), weight)
    encoded = scaler.encode(X)
    assert np.isnan(encoded[:, 2]).all()
    found = np.delete(encoded, 2, axis=1)
    assert_allclose(found, others.encode(table()), rtol=1e-12)
    assert np.isfinite(scaler.encode(np.ones((3, 5)))).all()
    decoded = scaler.decode(np.ones((3, 5)))
    assert np.isnan(decoded[:, 2]).all()
    assert np.isnan(scaler.within_range(decoded, whole=True)[:, 2]).all()
    assert_array_equal(scaler.log_derivative(X)[:, 2], 0)


@SCALINGS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -3e7, 1e-30, 1e30])
def test_constant_columns_come_back_exactly(scaling, dtype, value):
    X = np.c_[np.full(37, value), table(37)].astype(dtype)
    X[3, 0] = np.nan
    scaler = scaler_of(scaling, X)
    encoded = scaler.encode(X)
    assert scaler.constant_.tolist() == [True, False, False, False, False]
    if scaling is not None:
        assert_array_equal(np.delete(encoded[:, 0], 3), 0)
    decoded = scaler.decode(np.full_like(X, 123.0))
    assert_array_equal(decoded[:, 0], X[0, 0])
    expected = scaler.expected(np.nan_to_num(X), np.ones_like(X))
    assert_array_equal(scaler.within_range(expected, whole=False)[:, 0], X[0, 0])


def test_columns_that_are_constant_up_to_rounding_are_constant():
    X = np.c_[np.full(20, 0.3), table(20)]
    X[::2, 0] = 0.1 + 0.2
    scaler = scaler_of("standard", X)
    assert scaler.constant_.tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("spread", [1e-6, 1e-12])
def test_small_variations_are_not_constant(spread):
    X = 1 + spread * table(20)[:, :1]
    scaler = scaler_of("standard", X)
    assert not scaler.constant_.any()
    assert_allclose(scaler.encode(X).std(axis=0), 1, rtol=1e-3)


@SCALINGS
def test_single_precision_stays_single_and_close_to_double(scaling):
    X = table().astype(np.float32)
    scaler = scaler_of(scaling, X)
    encoded = scaler.encode(X)
    assert encoded.dtype == scaler.decode(encoded).dtype == np.float32
    assert_allclose(encoded, scaler.encode(X.astype(np.float64)), rtol=1e-5, atol=1e-6)
    assert_allclose(scaler.decode(encoded), X, rtol=1e-6, atol=1e-2)


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
def test_single_precision_far_from_zero_keeps_its_digits(scaling):
    X = (1e6 + np.arange(32)[:, None]).astype(np.float32)
    scaler = scaler_of(scaling, X)
    exact = scaler.encode(X.astype(np.float64))
    assert_allclose(scaler.encode(X), exact, rtol=1e-6, atol=1e-6)
    assert_allclose(scaler.decode(exact.astype(np.float32)), X, rtol=1e-7)


def test_columns_too_small_for_single_precision_stay_finite():
    X = 1e-200 * table()
    scaler = scaler_of("standard", X)
    assert np.isfinite(scaler.encode(X.astype(np.float32))).all()


@SCALINGS
def test_scaling_leaves_its_input_alone(scaling):
    X = table()
    X.flags.writeable = False
    scaler = scaler_of(scaling, X)
    assert not np.shares_memory(scaler.encode(X), X)
    assert not np.shares_memory(scaler.decode(X), X)


@pytest.mark.parametrize("scaling", ["standard", "minmax", None])
def test_the_derivative_is_the_change_of_a_uniform_density(scaling):
    X = table()
    scaler = scaler_of(scaling, X)
    side, scaled_side = np.ptp(X, axis=0), np.ptp(scaler.encode(X), axis=0)
    expected = np.tile(np.log(scaled_side) - np.log(side), (40, 1))
    assert_allclose(scaler.log_derivative(X), expected, rtol=1e-9)


@SCALINGS
def test_the_derivative_is_that_of_the_encoding(scaling):
    X = with_holes()
    scaler = scaler_of(scaling, X)
    between = np.sort(table(), axis=0)
    between = (between[1:] + between[:-1]) / 2
    between = np.where(with_holes(39) == table(39), between, np.nan)
    step = 1e-7 * X[~np.isnan(X)].std() * np.array([1e-5, 1e-4, 1e-8, 1])
    rise = scaler.encode(between + step) - scaler.encode(between - step)
    expected = np.nan_to_num(np.log(rise / (2 * step)))
    assert_allclose(scaler.log_derivative(between), expected, rtol=1e-3, atol=1e-3)


@SCALINGS
def test_constant_and_missing_cells_have_no_derivative(scaling):
    X = np.c_[table(), np.full(40, 5.0)]
    X[:7, 1] = np.nan
    derivative = scaler_of(scaling, X).log_derivative(X)
    assert_array_equal(derivative[:, 4], 0)
    assert_array_equal(derivative[:7, 1], 0)


@pytest.mark.parametrize("scaling", ["standard", "minmax", None])
def test_the_mean_of_a_linear_scale_is_the_decoded_mean(scaling):
    scaler = scaler_of(scaling, table())
    mean, variance = np.random.default_rng(0).random((2, 10, 4))
    assert_array_equal(scaler.expected(mean, variance), scaler.decode(mean))


@pytest.mark.parametrize(
    ("draw", "error"),
    [
        (lambda rng: rng.exponential(size=500), 0.1),
        (lambda rng: rng.normal(size=500), 0.05),
        (lambda rng: rng.poisson(2, 500), 0.3),  # the quadrature of a staircase
    ],
    ids=["exponential", "normal", "counts"],
)
def test_the_mean_of_normal_scores_is_that_of_a_monte_carlo(draw, error):
    rng = np.random.default_rng(0)
    scaler = scaler_of("quantile", draw(rng)[:, None].astype(float))
    mean = np.linspace(-1.5, 1.5, 10)[:, None]
    variance = np.tile([[0.05], [1.0]], (5, 1))
    points = stats.norm.ppf((np.arange(5000) + 0.5) / 5000)
    expected = [
        scaler.decode(m + np.sqrt(v) * points[:, None]).mean()
        for m, v in zip(mean[:, 0], variance[:, 0], strict=True)
    ]
    assert_allclose(scaler.expected(mean, variance)[:, 0], expected, atol=error)


def test_the_mean_without_a_variance_is_the_decoded_mean():
    scaler = scaler_of("quantile", table())
    mean = np.random.default_rng(0).normal(size=(10, 4))
    found = scaler.expected(mean, np.zeros((10, 4)))
    assert_allclose(found, scaler.decode(mean), rtol=1e-9)


# ---------------------------------------------------------------- ranges, decimals


@given(decimals=st.integers(0, 4), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_drawn_numbers_have_the_decimals_and_the_range_of_the_fit(decimals, seed):
    rng = np.random.default_rng(seed)
    X = np.round(rng.normal(size=(60, 2)) * [1, 50], decimals)
    X[rng.random(X.shape) < 0.2] = np.nan
    scaler = scaler_of("standard", X)
    drawn = scaler.within_range(rng.normal(size=(40, 2)) * [3, 150], whole=True)
    assert_array_equal(drawn, np.round(drawn, decimals))
    assert (drawn >= np.nanmin(X, axis=0)).all()
    assert (drawn <= np.nanmax(X, axis=0)).all()


def test_decimals_are_as_many_as_the_column_has_and_at_most_four():
    rng = np.random.default_rng(0)
    whole = rng.integers(-5, 90_000, size=50)
    X = np.c_[*(whole / 10**count for count in range(6)), rng.normal(size=50)]
    assert scaler_of(None, X).decimals_.tolist() == [0, 1, 2, 3, 4, -1, -1]
    assert scaler_of(None, whole[:, None] + 0.04).decimals_.tolist() == [2]


def test_without_rounding_only_the_range_is_kept():
    X = np.arange(10.0)[:, None]
    scaler = scaler_of("standard", X)
    found = scaler.within_range(np.array([[-3.0], [2.5], [99.0]]), whole=False)
    assert found.ravel().tolist() == [0.0, 2.5, 9.0]


def test_the_resolution_is_the_distance_of_neighbouring_values():
    rng = np.random.default_rng(0)
    X = np.c_[3.0 * rng.integers(0, 9, 500), rng.normal(size=500), np.full(500, 2.0)]
    scaler = scaler_of(None, X)
    assert_allclose(scaler.resolution_, [3.0, 0.0, 0.0])
    assert_allclose(scaler_of("standard", X).resolution_[0], 3 / X[:, 0].std())


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


@given(seed=st.integers(0, 1000), n_values=st.integers(2, 1000))
@settings(max_examples=30, deadline=None)
def test_up_to_a_thousand_distinct_values_come_back(seed, n_values):
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


@pytest.mark.parametrize("draw", ["exponential", "standard_cauchy", "standard_normal"])
def test_scores_of_a_big_sample_are_standard_normal(draw):
    column = getattr(np.random.default_rng(0), draw)(size=20_000)
    scores = NormalScores(column, None).scores(column)
    assert stats.kstest(scores, "norm").statistic < 0.01
    peer = QuantileTransformer(output_distribution="normal", subsample=None)
    expected = peer.fit_transform(column[:, None])[:, 0]
    inner = np.abs(expected) < 2
    assert_allclose(scores[inner], expected[inner], atol=0.02)


@pytest.mark.parametrize("spike", [0.0, 1.0, 4.0], ids=["low", "inside", "high"])
def test_spikes_come_back_as_often_as_they_were_seen(spike):
    rng = np.random.default_rng(0)
    column = np.r_[np.full(600, spike), rng.uniform(0.1, 3.9, 1400)]
    drawn = NormalScores(column, None).inverse(rng.normal(size=50_000))
    assert np.mean(drawn == spike) == pytest.approx(0.3, abs=0.01)
    assert stats.ks_2samp(drawn, column).statistic < 0.02


def test_counts_come_back_with_their_frequencies():
    rng = np.random.default_rng(0)
    column = rng.poisson(1.5, 3000).astype(float)
    drawn = NormalScores(column, None).inverse(rng.normal(size=50_000))
    values, counts = np.unique(column, return_counts=True)
    often = counts > 1  # what occurs once has no width
    found = [np.mean(drawn == value) for value in values[often]]
    assert_allclose(found, counts[often] / 3000, atol=0.01)


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
    assert_allclose(one.log_slope(new), other.log_slope(new), atol=1e-12)


@given(values=VALUES, seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_slope_is_that_of_finite_differences(values, seed):
    assume(len(set(values)) > 1)
    scores = NormalScores(np.array(values), None)
    knots = np.unique(values)
    shares = np.random.default_rng(seed).uniform(0.1, 0.9, len(knots) - 1)
    inside = knots[:-1] + shares * np.diff(knots)
    points = np.r_[inside, knots[0] - 1e5, knots[-1] + 1e5]
    step = 1e-3 * np.r_[np.diff(knots), 1e3, 1e3]
    rise = scores.scores(points + step) - scores.scores(points - step)
    expected = np.log(rise / (2 * step))
    assert_allclose(scores.log_slope(points), expected, rtol=1e-4, atol=1e-4)


def test_the_slope_at_a_value_is_the_mean_slope_around_it():
    scores = NormalScores(np.array([0.0, 1.0, 3.0, 3.0, 10.0]), None)
    at = scores.scores(np.array([0.0, 1.0, 3.0, 10.0]))
    expected = np.log([(at[2] - at[0]) / 3, (at[3] - at[1]) / 9])
    assert_allclose(scores.log_slope(np.array([1.0, 3.0])), expected)


@pytest.mark.parametrize("n_values", [40, 3000])
def test_the_density_of_normal_scores_integrates_to_one(n_values):
    column = np.random.default_rng(0).exponential(size=(n_values, 1)) ** 2
    scaler = scaler_of("quantile", column)
    scores = scaler.scores_[0]
    reach = 10 / np.exp(scores.log_slope(np.array([-1.0])))[0]
    edges = np.unique(np.r_[-reach, scores.values, scores.values[-1] + reach])
    middles = (edges[:-1] + np.diff(edges) * np.linspace(0.02, 0.98, 25)[:, None]).T
    points = middles.reshape(-1, 1)
    log_density = stats.norm.logpdf(
        scaler.encode(points)[:, 0],
        -scaler.centre_[0] / scaler.scale_[0],
        1 / scaler.scale_[0],
    )
    density = np.exp(log_density + scaler.log_derivative(points)[:, 0])
    mass = density.reshape(middles.shape).mean(axis=1) @ np.diff(edges)
    assert mass == pytest.approx(1.0, abs=0.01)


def test_big_columns_are_kept_as_about_a_thousand_knots():
    column = np.random.default_rng(0).normal(size=20_000)
    scores = NormalScores(column, None)
    assert 900 < len(scores.values) <= 1002
    assert (scores.values[0], scores.values[-1]) == (column.min(), column.max())
    back = scores.inverse(scores.scores(column))
    assert np.abs(back - column).max() < 0.05


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
