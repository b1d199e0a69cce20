"""Numeric columns on one scale, with holes, and back."""

from __future__ import annotations

import numpy as np
import pytest
from columns import table, weights, with_holes
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae.table._numbers import ColumnScaler

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
    assert np.isnan(scaler.within_range(decoded)[:, 2]).all()
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
    assert_array_equal(scaler.within_range(decoded)[:, 0], X[0, 0])


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


@pytest.mark.parametrize("weighted", [False, True])
def test_a_column_of_rare_values_has_a_twentieth_of_its_range_as_scale(weighted):
    rng = np.random.default_rng(0)
    rare, less_rare, tailed = np.zeros((3, 2000))
    rare[:3], less_rare[:60], tailed[:] = [2, 9, 16], 16, rng.standard_t(2, 2000)
    X = np.c_[rare, less_rare, tailed, rng.normal(size=2000)]
    weight = rng.uniform(0.5, 1, 2000) if weighted else None
    scaler = scaler_of("standard", X, weight)
    mean = np.average(X, axis=0, weights=weight)
    deviation = np.average((X - mean) ** 2, axis=0, weights=weight) ** 0.5
    assert scaler.scale_[0] == pytest.approx(16 / 20)
    assert deviation[0] < 0.75 * scaler.scale_[0]
    assert_allclose(scaler.scale_[1:], deviation[1:])
    assert_allclose(scaler.decode(scaler.encode(X)), X, atol=1e-12)


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


# ---------------------------------------------------------------- ranges, decimals


@given(decimals=st.integers(0, 4), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_drawn_numbers_have_the_decimals_and_the_range_of_the_fit(decimals, seed):
    rng = np.random.default_rng(seed)
    X = np.round(rng.normal(size=(60, 2)) * [1, 50], decimals)
    X[rng.random(X.shape) < 0.2] = np.nan
    scaler = scaler_of("standard", X)
    drawn = scaler.within_range(rng.normal(size=(40, 2)) * [3, 150])
    assert_array_equal(drawn, np.round(drawn, decimals))
    assert (drawn >= np.nanmin(X, axis=0)).all()
    assert (drawn <= np.nanmax(X, axis=0)).all()


def test_decimals_are_as_many_as_the_column_has_and_at_most_four():
    rng = np.random.default_rng(0)
    whole = rng.integers(-5, 90_000, size=50)
    X = np.c_[*(whole / 10**count for count in range(6)), rng.normal(size=50)]
    assert scaler_of(None, X).decimals_.tolist() == [0, 1, 2, 3, 4, -1, -1]
    assert scaler_of(None, whole[:, None] + 0.04).decimals_.tolist() == [2]


def test_the_resolution_is_the_distance_of_neighbouring_values():
    rng = np.random.default_rng(0)
    X = np.c_[3.0 * rng.integers(0, 9, 500), rng.normal(size=500), np.full(500, 2.0)]
    scaler = scaler_of(None, X)
    assert_allclose(scaler.resolution_, [3.0, 0.0, 0.0])
    assert_allclose(scaler_of("standard", X).resolution_[0], 3 / X[:, 0].std())
