"""From a user's table to the networks' matrix and back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    StandardScaler,
)
from sklearn.utils import check_array

from skae import _table
from skae._table import (
    ColumnScaler,
    canonical_rows,
    explain_text,
    mean_and_deviation,
    standardise,
    to_container,
)

SCALINGS = pytest.mark.parametrize("scaling", ["standard", "minmax", None])
FEW_VALUES = st.sampled_from([-1.5, -0.0, 0.0, 1.0, 256.0, 1e-300])
TABLES = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=FEW_VALUES
)


def table(n_samples=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_samples, 4)) * [1, 10, 1e-3, 1e5] + [0, 1e3, 0, -7]


def weights(n_samples=40, seed=1):
    return np.random.default_rng(seed).uniform(0.1, 3, size=n_samples)


# ------------------------------------------------------------------- canonical rows


@given(X=TABLES, seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_rows_leaves_no_trace(X, seed):
    order = np.random.default_rng(seed).permutation(len(X))
    assert_array_equal(canonical_rows(X[order], None)[0], canonical_rows(X, None)[0])


@given(X=TABLES, seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_integer_weights_are_repeated_rows(X, seed):
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 4, size=len(X))
    repeated = rng.permutation(np.repeat(X, weight, axis=0))
    found, found_weight = canonical_rows(X, weight.astype(float))
    assert found_weight is None
    if len(repeated):
        assert_array_equal(found, canonical_rows(repeated, None)[0])


@given(X=TABLES, seed=st.integers(0, 100))
@example(X=np.zeros((6, 8)), seed=86)
@settings(max_examples=60, deadline=None)
def test_real_weights_stay_with_their_rows_in_any_order(X, seed):
    rng = np.random.default_rng(seed)
    order, weight = rng.permutation(len(X)), rng.uniform(0.1, 2, size=len(X))
    found, found_weight = canonical_rows(X, weight)
    again, again_weight = canonical_rows(X[order], weight[order])
    assert_array_equal(found, again)
    assert_array_equal(found_weight, again_weight)
    assert_allclose(found_weight.mean(), 1)
    pairs = np.c_[X, weight / weight.mean()]
    by_pairs = np.lexsort(pairs.T[::-1])
    found_pairs = np.c_[found, found_weight]
    found_pairs = found_pairs[np.lexsort(found_pairs.T[::-1])]
    assert_allclose(found_pairs, pairs[by_pairs], rtol=1e-12)


@given(X=TABLES)
@settings(max_examples=60, deadline=None)
def test_the_rows_are_the_same_ones_and_none_is_lost(X):
    found, _ = canonical_rows(X, None)
    assert sorted(map(tuple, found)) == sorted(map(tuple, X))


@pytest.mark.parametrize("weight", [None, weights()], ids=["unweighted", "weighted"])
def test_the_order_does_not_depend_on_the_units(weight):
    X = table()
    found, found_weight = canonical_rows(X, weight)
    moved, moved_weight = canonical_rows(X * 4 + [1, 2, 3, 4], weight)
    assert_allclose(moved, found * 4 + [1, 2, 3, 4])
    assert (weight is None) or (found_weight == moved_weight).all()


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda X: X[:, ::-1][:, ::-1]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_layout_in_memory_does_not_matter(layout, dtype):
    X = table().astype(dtype)
    found, _ = canonical_rows(layout(X), None)
    assert found.dtype == dtype
    assert_array_equal(found, canonical_rows(X, None)[0])


def test_rows_that_differ_only_in_late_columns_are_sorted_too():
    X = np.zeros((30, 20))
    X[:, 19] = np.random.default_rng(0).permutation(30)
    assert_array_equal(canonical_rows(X, None)[0], canonical_rows(X[::-1], None)[0])


def test_the_sign_of_zero_does_not_matter():
    rng = np.random.default_rng(0)
    X = np.zeros((30, 12))
    X[:, 10] = rng.integers(0, 2, size=30)
    X[:, 11] = rng.permutation(30)
    signed = np.where((X == 0) & (rng.random(X.shape) < 0.5), -0.0, X)
    assert_array_equal(canonical_rows(signed, None)[0], canonical_rows(X, None)[0])


def test_rows_of_weight_zero_go():
    X, weight = table(), weights()
    weight[::2] = 0
    found, found_weight = canonical_rows(X, weight)
    seen, seen_weight = canonical_rows(X[1::2], weight[1::2])
    assert_array_equal(found, seen)
    assert_allclose(found_weight, seen_weight)


@pytest.mark.parametrize("weight", [None, weights(), np.arange(40) // 3 * 1.0])
def test_large_tables_keep_their_order(weight, monkeypatch):
    monkeypatch.setattr(_table, "CANONICAL_ROWS", 20)
    found, found_weight = canonical_rows(table(), weight)
    seen = slice(None) if weight is None else weight > 0
    assert_array_equal(found, table()[seen])
    if weight is not None:
        assert_allclose(found_weight, weight[seen] / weight[seen].mean())


def test_the_table_and_its_weights_are_left_as_they_were():
    X, weight = table(), weights()
    X.flags.writeable = weight.flags.writeable = False
    canonical_rows(X, weight)
    assert_array_equal(X, table())
    assert_array_equal(weight, weights())


# ------------------------------------------------------------------- column scaler


@pytest.mark.parametrize(
    ("scaling", "scaler"), [("standard", StandardScaler()), ("minmax", MinMaxScaler())]
)
def test_scaling_is_sklearns(scaling, scaler):
    X, X_new = table(), table(seed=1)
    found = ColumnScaler(scaling).fit(X, None)
    scaler.fit(X)
    assert_allclose(found.encode(X_new), scaler.transform(X_new), rtol=1e-9)
    assert_allclose(found.decode(X_new), scaler.inverse_transform(X_new), rtol=1e-9)


def test_no_scaling_changes_nothing():
    scaler = ColumnScaler(None).fit(table(), None)
    assert_array_equal(scaler.encode(table()), table())
    assert_array_equal(scaler.decode(table()), table())
    assert scaler.log_jacobian() == 0


@SCALINGS
def test_integer_weights_scale_as_repeated_rows(scaling):
    weight = np.random.default_rng(0).integers(1, 4, size=40)
    weighted = ColumnScaler(scaling).fit(table(), weight.astype(float))
    repeated = ColumnScaler(scaling).fit(np.repeat(table(), weight, axis=0), None)
    assert_allclose(weighted.centre_, repeated.centre_)
    assert_allclose(weighted.scale_, repeated.scale_)


MAGNITUDES = st.sampled_from([1e-200, 1e-30, 1e-3, 1.0, 1e6, 1e200])


@SCALINGS
@given(magnitude=MAGNITUDES, offset=st.floats(-100, 100), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_rows_come_back_in_their_units(scaling, magnitude, offset, seed):
    X = magnitude * (np.random.default_rng(seed).normal(size=(9, 2)) + offset)
    scaler = ColumnScaler(scaling).fit(X, None)
    encoded = scaler.encode(X)
    assert np.isfinite(encoded).all()
    atol = 1e-13 * np.abs(X).max()
    assert_allclose(scaler.decode(encoded), X, rtol=0, atol=atol)
    if scaling == "standard":
        assert_allclose(encoded.mean(axis=0), 0, atol=1e-10)
        assert_allclose(encoded.std(axis=0), 1, rtol=1e-9)
    if scaling == "minmax":
        assert_array_equal(encoded.min(axis=0), 0)
        assert_array_equal(encoded.max(axis=0), 1)


@SCALINGS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -3e7, 1e-30, 1e30])
def test_constant_columns_come_back_exactly(scaling, dtype, value):
    X = np.c_[np.full(37, value), table(37)].astype(dtype)
    scaler = ColumnScaler(scaling).fit(X, None)
    encoded = scaler.encode(X)
    assert scaler.constant_.tolist() == [True, False, False, False, False]
    if scaling is not None:
        assert_array_equal(encoded[:, 0], 0)
    decoded = scaler.decode(np.full_like(X, 123.0))
    assert_array_equal(decoded[:, 0], X[:, 0])


def test_columns_that_are_constant_up_to_rounding_are_constant():
    X = np.c_[np.full(20, 0.3), table(20)]
    X[::2, 0] = 0.1 + 0.2
    scaler = ColumnScaler("standard").fit(X, None)
    assert scaler.constant_.tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("spread", [1e-6, 1e-12])
def test_small_variations_are_not_constant(spread):
    X = 1 + spread * table(20)[:, :1]
    scaler = ColumnScaler("standard").fit(X, None)
    assert not scaler.constant_.any()
    assert_allclose(scaler.encode(X).std(axis=0), 1, rtol=1e-3)


@SCALINGS
def test_single_precision_stays_single_and_close_to_double(scaling):
    X = table().astype(np.float32)
    scaler = ColumnScaler(scaling).fit(X, None)
    encoded = scaler.encode(X)
    assert encoded.dtype == scaler.decode(encoded).dtype == np.float32
    assert_allclose(encoded, scaler.encode(X.astype(np.float64)), rtol=1e-5, atol=1e-6)
    assert_allclose(scaler.decode(encoded), X, rtol=1e-6, atol=1e-2)


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
def test_single_precision_far_from_zero_keeps_its_digits(scaling):
    X = (1e6 + np.arange(32)[:, None]).astype(np.float32)
    scaler = ColumnScaler(scaling).fit(X, None)
    exact = scaler.encode(X.astype(np.float64))
    assert_allclose(scaler.encode(X), exact, rtol=1e-6, atol=1e-6)
    assert_allclose(scaler.decode(exact.astype(np.float32)), X, rtol=1e-7)


def test_columns_too_small_for_single_precision_stay_finite():
    X = 1e-200 * table()
    scaler = ColumnScaler("standard").fit(X, None)
    assert np.isfinite(scaler.encode(X.astype(np.float32))).all()


def test_tensors_are_standardised_as_arrays_are():
    scaler = ColumnScaler("standard").fit(table(), None)
    constants = scaler.constants(np.dtype(np.float64))
    found = standardise(torch.from_numpy(table()), *map(torch.from_numpy, constants))
    assert_array_equal(found.numpy(), scaler.encode(table()))


@SCALINGS
def test_scaling_leaves_its_input_alone(scaling):
    X = table()
    X.flags.writeable = False
    scaler = ColumnScaler(scaling).fit(X, None)
    assert not np.shares_memory(scaler.encode(X), X)
    assert not np.shares_memory(scaler.decode(X), X)


@SCALINGS
def test_the_jacobian_is_the_change_of_a_uniform_density(scaling):
    X = table()
    scaler = ColumnScaler(scaling).fit(X, None)
    side, scaled_side = np.ptp(X, axis=0), np.ptp(scaler.encode(X), axis=0)
    expected = np.log(scaled_side).sum() - np.log(side).sum()
    assert_allclose(scaler.log_jacobian(), expected)


def test_constant_columns_have_no_jacobian():
    X = table()
    with_constant = ColumnScaler("standard").fit(np.c_[X, np.full(40, 5.0)], None)
    without = ColumnScaler("standard").fit(X, None)
    assert_allclose(with_constant.log_jacobian(), without.log_jacobian())


# -------------------------------------------------------------- mean and deviation


@pytest.mark.parametrize("chunk_rows", [7, 8192])
@pytest.mark.parametrize("weight", [None, weights()], ids=["unweighted", "weighted"])
def test_mean_and_deviation_are_numpys(chunk_rows, weight, monkeypatch):
    monkeypatch.setattr(_table, "CHUNK_ROWS", chunk_rows)
    mean, deviation = mean_and_deviation(table(), weight)
    expected = np.average(table(), axis=0, weights=weight)
    variance = np.average((table() - expected) ** 2, axis=0, weights=weight)
    assert_allclose(mean, expected)
    assert_allclose(deviation, np.sqrt(variance))


@pytest.mark.parametrize("magnitude", [1e-300, 1e-200, 1e200, 1e300])
def test_mean_and_deviation_do_not_overflow(magnitude):
    X = table()[:, :2]
    mean, deviation = mean_and_deviation(magnitude * X)
    assert_allclose(mean / magnitude, X.mean(axis=0))
    assert_allclose(deviation / magnitude, X.std(axis=0))


def test_mean_and_deviation_of_single_precision_are_double():
    X = (1e4 + np.random.default_rng(0).normal(size=(500, 2))).astype(np.float32)
    mean, deviation = mean_and_deviation(X)
    assert mean.dtype == deviation.dtype == np.float64
    assert_allclose(mean, X.astype(np.float64).mean(axis=0), rtol=1e-12)
    assert_allclose(deviation, X.astype(np.float64).std(axis=0), rtol=1e-9)


def test_zeros_have_no_deviation():
    mean, deviation = mean_and_deviation(np.zeros((5, 2)))
    assert_array_equal(mean, 0)
    assert_array_equal(deviation, 0)


# -------------------------------------------------------------------- text columns


def validate(X):
    with explain_text(X):
        return check_array(X, dtype=np.float64)


def frames(columns):
    polars = pytest.importorskip("polars")
    return pd.DataFrame(columns), polars.DataFrame(columns)


@pytest.mark.parametrize("library", [0, 1], ids=["pandas", "polars"])
def test_text_columns_are_named(library):
    columns = {"age": [1.0, 2.0], "name": ["Ada", "Bob"], "city": ["Rome", "Oslo"]}
    frame = frames(columns)[library]
    with pytest.raises(ValueError, match=r"not numeric, \['name', 'city'\].*expected"):
        validate(frame)


def test_categories_are_named():
    frame = pd.DataFrame({"x": [1.0, 2.0], "kind": pd.Categorical(["a", "b"])})
    with pytest.raises(ValueError, match=r"not numeric, \['kind'\]"):
        validate(frame)


@pytest.mark.parametrize("library", [0, 1], ids=["pandas", "polars"])
def test_numbers_pass(library):
    frame = frames({"age": [1, 2], "tall": [True, False]})[library]
    assert_array_equal(validate(frame), [[1, 1], [2, 0]])


def test_objects_that_hold_numbers_pass():
    frame = pd.DataFrame({"age": [1, 2.5]}, dtype=object)
    assert_array_equal(validate(frame), [[1], [2.5]])


@pytest.mark.parametrize(
    "X",
    [
        np.array([["a", "b"]]),
        [["a", 1]],
        np.array([[np.nan, 1]]),
        pd.DataFrame({"x": [np.nan, 1], "tall": [True, False]}),
    ],
    ids=["array", "list", "NaN", "frame with NaN"],
)
def test_other_errors_stay_as_they_are(X):
    with pytest.raises(ValueError, match=r"NaN|convert") as plain:
        check_array(X, dtype=np.float64)
    with pytest.raises(ValueError, match=r"NaN|convert") as explained:
        validate(X)
    assert str(explained.value) == str(plain.value)


def test_wrong_feature_names_are_not_taken_for_text():
    frame = pd.DataFrame({"kind": ["a", "b"]})
    with (
        pytest.raises(ValueError, match=r"^The feature names should match"),
        explain_text(frame),
    ):
        raise ValueError("The feature names should match those of fit")


# ---------------------------------------------------------------------- containers

NAMES = np.array(["a", "b", "c", "d"], dtype=object)


def asking_for(output):
    return FunctionTransformer().set_output(transform=output)


def test_arrays_stay_arrays_unless_something_else_is_asked_for():
    array = table()
    assert to_container(array, NAMES, FunctionTransformer()) is array
    assert to_container(array, NAMES, asking_for("default")) is array


def test_pandas_frames_get_the_names_and_the_index():
    original = pd.DataFrame(table(), index=range(100, 140))
    found = to_container(table(), NAMES, asking_for("pandas"), original)
    expected = pd.DataFrame(table(), columns=list("abcd"), index=range(100, 140))
    pd.testing.assert_frame_equal(found, expected)


def test_pandas_frames_without_an_original_are_numbered():
    found = to_container(table(), NAMES, asking_for("pandas"))
    pd.testing.assert_frame_equal(found, pd.DataFrame(table(), columns=list("abcd")))


def test_polars_frames_get_the_names():
    polars = pytest.importorskip("polars")
    found = to_container(table(), NAMES, asking_for("polars"))
    assert isinstance(found, polars.DataFrame)
    assert found.columns == list("abcd")
    assert_array_equal(found.to_numpy(), table())
