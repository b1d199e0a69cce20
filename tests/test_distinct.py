"""The same weighted table written in one way: distinct rows with their mass."""

from __future__ import annotations

import numpy as np
import pytest
from columns import table, weights
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal

from skae.table._distinct import distinct_rows

FEW_VALUES = st.sampled_from([-1.5, -0.0, 0.0, 1.0, 256.0, 1e-300, np.nan])
TABLES = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=FEW_VALUES
)
LARGE = pytest.mark.parametrize("large", [False, True], ids=["small", "large"])


def key(row):
    """Return what tells a row from others: NaN is NaN and -0.0 is 0.0."""
    return repr((np.asarray(row) + 0.0).tolist())


def masses(X, weight):
    """Add up the weights of each distinct row."""
    total = {}
    for row, mass in zip(X, weight, strict=True):
        if mass > 0:
            total[key(row)] = total.get(key(row), 0.0) + mass
    return total


def assert_same_bits(found, expected):
    """Compare rows and mass, every bit of them."""
    assert found[0].tobytes() == expected[0].tobytes()
    assert found[0].shape == expected[0].shape
    assert (found[1] is None) == (expected[1] is None)
    if found[1] is not None:
        assert found[1].tobytes() == expected[1].tobytes()


def signed_alike(rows, mass):
    """Forget the sign of zeros, which is that of whichever copy came first."""
    return rows + 0.0, mass


def large_from_here(monkeypatch, large):
    if large:
        monkeypatch.setattr("skae.table._distinct.CANONICAL_ROWS", 0)


# --------------------------------------------------------------------------- copies


@given(X=TABLES)
@settings(max_examples=60, deadline=None)
def test_every_row_is_there_once_with_the_number_of_its_copies(X):
    rows, mass = distinct_rows(X, None)
    expected = masses(X, np.ones(len(X)))
    assert len(rows) == len(expected)
    if mass is None:
        assert len(set(expected.values())) == 1
        assert {key(row) for row in rows} == set(expected)
    else:
        assert masses(rows, mass) == expected


@given(X=TABLES, seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_integer_weights_are_repeated_rows_bit_for_bit(X, seed):
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 4, size=len(X))
    weight[0] = max(weight[0], 1)
    repeated = rng.permutation(np.repeat(X, weight, axis=0))
    found = distinct_rows(X, weight.astype(float))
    expected = distinct_rows(repeated, None)
    assert_same_bits(signed_alike(*found), signed_alike(*expected))


@given(X=TABLES, seed=st.integers(0, 100))
@example(X=np.zeros((6, 8)), seed=86)
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_rows_leaves_no_trace(X, seed):
    rng = np.random.default_rng(seed)
    order, weight = rng.permutation(len(X)), rng.uniform(0.1, 2, size=len(X))
    for w in (None, weight):
        found = distinct_rows(X, w)
        again = distinct_rows(X[order], None if w is None else w[order])
        assert_same_bits(signed_alike(*found), signed_alike(*again))


@given(X=TABLES, seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_real_weights_become_mass_of_mean_one(X, seed):
    weight = np.random.default_rng(seed).uniform(0.1, 2, size=len(X))
    rows, mass = distinct_rows(X, weight)
    expected = masses(X, weight)
    assert {key(row) for row in rows} == set(expected)
    if mass is None:
        assert np.ptp(list(expected.values())) <= 1e-12
        return
    assert_allclose(mass.mean(), 1)
    per_row = len(expected) / weight.sum()
    relative = [expected[key(row)] * per_row for row in rows]
    assert_allclose(mass, relative, rtol=1e-12)


@LARGE
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_sign_of_zero_and_that_of_a_missing_cell_make_no_other_row(
    dtype, large, monkeypatch
):
    large_from_here(monkeypatch, large)
    X = np.array([[0.0, 1.0], [-0.0, 1.0], [np.nan, 1.0], [-np.nan, 1.0]], dtype=dtype)
    rows, mass = distinct_rows(np.r_[X, X[:1]], None)
    assert rows.dtype == dtype
    assert [key(row) for row in rows] == [key(X[0]), key(X[2])]
    assert mass.tolist() == [3.0, 2.0]


@LARGE
def test_missing_cells_with_other_bits_are_missing_cells(large, monkeypatch):
    large_from_here(monkeypatch, large)
    bits = np.array([0x7FF8000000000000, 0x7FF8000000000001, 0xFFF8000000000000])
    X = np.c_[bits.astype(np.uint64).view(np.float64), [1.0, 1.0, 1.0]]
    assert np.isnan(X[:, 0]).all()
    rows, mass = distinct_rows(X, None)
    assert len(rows) == 1
    assert mass is None


@LARGE
def test_holes_in_other_places_are_other_rows(large, monkeypatch):
    large_from_here(monkeypatch, large)
    X = np.array([[np.nan, 1.0, 1.0], [1.0, np.nan, 1.0], [1.0, 1.0, np.nan]])
    assert len(distinct_rows(X, None)[0]) == 3


@LARGE
def test_the_same_values_in_other_columns_are_other_rows(large, monkeypatch):
    large_from_here(monkeypatch, large)
    values = np.array([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])
    X = np.stack(np.meshgrid(*3 * [values]), axis=-1).reshape(-1, 3)
    rows, mass = distinct_rows(X, None)
    assert mass is None
    assert len(rows) == len(X)


# ---------------------------------------------------------------------------- weights


@LARGE
def test_rows_of_weight_zero_go(large, monkeypatch):
    large_from_here(monkeypatch, large)
    X, weight = table(), weights()
    weight[::2] = 0
    found = distinct_rows(X, weight)
    assert_same_bits(found, distinct_rows(X[1::2], weight[1::2]))
    assert len(found[0]) == 20


@LARGE
@pytest.mark.parametrize(
    ("copies", "weight"),
    [
        (1, None),
        (3, None),
        (1, np.full(40, 2.0)),
        (1, np.full(40, 0.3)),
        (3, np.full(120, 0.25)),
        (2, np.repeat([1.0, 3.0], 40)),
    ],
)
def test_equal_masses_are_none(copies, weight, large, monkeypatch):
    large_from_here(monkeypatch, large)
    rows, mass = distinct_rows(np.tile(table(), (copies, 1)), weight)
    assert mass is None
    assert len(rows) == 40


@LARGE
def test_whole_weights_stay_whole_and_others_have_mean_one(large, monkeypatch):
    large_from_here(monkeypatch, large)
    whole = np.arange(1.0, 41)
    _, mass = distinct_rows(table(), whole)
    assert sorted(mass.tolist()) == whole.tolist()
    _, mass = distinct_rows(table(), whole / 3)
    assert_allclose(np.sort(mass), whole / whole.mean())


@pytest.mark.parametrize("factor", [1e-3, 7.3, 1e5])
def test_only_the_ratios_of_real_weights_matter(factor):
    rows, mass = distinct_rows(table(), weights())
    again, scaled = distinct_rows(table(), factor * weights())
    assert_array_equal(rows, again)
    assert_allclose(scaled, mass, rtol=1e-12)


# -------------------------------------------------------------------- order of the rows


@pytest.mark.parametrize("weight", [None, weights()], ids=["unweighted", "weighted"])
def test_the_order_does_not_depend_on_the_units(weight):
    X = table()
    found, mass = distinct_rows(X, weight)
    moved, moved_mass = distinct_rows(X * 4 + [1, 2, 3, 4], weight)
    assert_allclose(moved, found * 4 + [1, 2, 3, 4])
    assert (weight is None) or (mass == moved_mass).all()


@LARGE
@pytest.mark.parametrize("layout", [np.asfortranarray, lambda X: X[:, ::-1][:, ::-1]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_layout_in_memory_does_not_matter(layout, dtype, large, monkeypatch):
    large_from_here(monkeypatch, large)
    X = np.tile(table(), (2, 1))[:60].astype(dtype)
    found, mass = distinct_rows(layout(X), None)
    expected, expected_mass = distinct_rows(X, None)
    assert found.dtype == dtype
    assert_array_equal(found, expected)
    assert_array_equal(mass, expected_mass)


def test_rows_that_differ_only_in_late_columns_are_sorted_too():
    X = np.zeros((30, 20))
    X[:, 19] = np.random.default_rng(0).permutation(30)
    assert_array_equal(distinct_rows(X, None)[0], distinct_rows(X[::-1], None)[0])


def test_signs_of_zeros_do_not_move_rows():
    rng = np.random.default_rng(0)
    X = np.zeros((30, 12))
    X[:, 10] = rng.integers(0, 2, size=30)
    X[:, 11] = rng.permutation(30)
    signed = np.where((X == 0) & (rng.random(X.shape) < 0.5), -0.0, X)
    assert_array_equal(distinct_rows(signed, None)[0], distinct_rows(X, None)[0])


@pytest.mark.parametrize("weight", [None, weights(), np.arange(40) // 3 * 1.0])
def test_large_tables_keep_their_order(weight, monkeypatch):
    large_from_here(monkeypatch, large=True)
    found, mass = distinct_rows(table(), weight)
    seen = slice(None) if weight is None else weight > 0
    assert_array_equal(found, table()[seen])
    if weight is not None:
        kept = weight[seen]
        expected = kept if (kept % 1 == 0).all() else kept / kept.mean()
        assert_allclose(mass, expected)


def test_copies_in_large_tables_are_where_the_first_was(monkeypatch):
    large_from_here(monkeypatch, large=True)
    X = table()
    mixed = X[[3, 1, 3, 0, 1, 3, 2]]
    rows, mass = distinct_rows(mixed, None)
    assert_array_equal(rows, X[[3, 1, 0, 2]])
    assert mass.tolist() == [3.0, 2.0, 1.0, 1.0]
    rows, mass = distinct_rows(mixed, np.array([1.0, 2, 3, 4, 5, 6, 0]))
    assert_array_equal(rows, X[[3, 1, 0]])
    assert mass.tolist() == [10.0, 7.0, 4.0]


def test_a_table_larger_than_a_chunk_is_merged_across_chunks(monkeypatch):
    monkeypatch.setattr("skae._statistics.CHUNK_ROWS", 7)
    X = np.tile(table(), (3, 1))[:100]
    rows, mass = distinct_rows(X, None)
    expected = masses(X, np.ones(100))
    assert masses(rows, mass) == expected


@LARGE
@pytest.mark.parametrize("of_each", [False, True], ids=["all alike", "a few alike"])
def test_rows_whose_hashes_collide_are_not_merged(of_each, large, monkeypatch):
    large_from_here(monkeypatch, large)

    def hashes(X):
        values = np.arange(len(X)) // 2 if of_each else np.zeros(len(X))
        return values.astype(np.uint64)

    monkeypatch.setattr("skae._statistics.hashes", hashes)
    for weight in (None, weights()):
        rows, mass = distinct_rows(table(), weight)
        alike = {key(row) for row in rows} == {key(row) for row in table()}
        assert alike
        assert len(rows) == 40
        assert (mass is None) == (weight is None)


def test_copies_whose_hashes_collide_with_others_lose_no_mass(monkeypatch):
    def hashes(X):
        return np.zeros(len(X), dtype=np.uint64)

    monkeypatch.setattr("skae._statistics.hashes", hashes)
    X, weight = np.tile(table(), (2, 1)), np.r_[weights(), weights(seed=2)]
    rows, mass = distinct_rows(X, weight)
    found, expected = masses(rows, mass), masses(X, weight / weight.mean())
    share = sum(found.values()) / sum(expected.values())
    assert found.keys() == expected.keys()
    assert_allclose(
        [found[k] for k in expected], share * np.array([*expected.values()])
    )


def test_the_table_and_its_weights_are_left_as_they_were():
    X, weight = table(), weights()
    X.flags.writeable = weight.flags.writeable = False
    distinct_rows(X, weight)
    assert_array_equal(X, table())
    assert_array_equal(weight, weights())
