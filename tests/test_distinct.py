"""Rows of a table in an order that is their own."""

from __future__ import annotations

import numpy as np
import pytest
from columns import table, weights
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal

from skae.table._distinct import canonical_rows

FEW_VALUES = st.sampled_from([-1.5, -0.0, 0.0, 1.0, 256.0, 1e-300, np.nan])
TABLES = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=FEW_VALUES
)


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
    by_repr = [sorted(map(repr, (rows + 0.0).tolist())) for rows in (found, X)]
    assert by_repr[0] == by_repr[1]


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
    monkeypatch.setattr("skae.table._distinct.CANONICAL_ROWS", 20)
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
