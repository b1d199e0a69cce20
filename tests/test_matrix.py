"""A table of numbers and level codes to the networks' matrix, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import OneHotEncoder

from skae import _table
from skae._schema import Block
from skae.table._distinct import canonical_rows
from skae.table._levels import FEWEST_ROWS, MOST_LEVELS, LevelEncoder
from skae.table._matrix import TableEncoder

FEW_VALUES = st.sampled_from([-1.5, -0.0, 0.0, 1.0, 256.0, 1e-300, np.nan])
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


# ------------------------------------------------------------------ level encoder


def codes_of(*counts, seed=0):
    """Draw codes with a number of rows for each level, in any order."""
    codes = np.repeat(np.arange(len(counts)), counts).astype(float)
    return np.random.default_rng(seed).permutation(codes)


COUNTS = st.lists(st.integers(FEWEST_ROWS, 9), min_size=2, max_size=MOST_LEVELS)


@given(counts=COUNTS, weighted=st.booleans())
@settings(max_examples=60, deadline=None)
def test_indicators_of_a_column_have_mean_zero_and_total_variance_one(counts, weighted):
    codes = codes_of(*counts)
    weight = 1 + np.arange(len(codes)) % 5.0 if weighted else None
    indicators = LevelEncoder(codes, weight).encode(codes)
    mean = np.average(indicators, axis=0, weights=weight)
    variance = np.average((indicators - mean) ** 2, axis=0, weights=weight)
    assert indicators.shape[1] == (len(counts) if len(counts) > 2 else 1)
    assert_allclose(mean, 0, atol=1e-12)
    assert_allclose(variance.sum(), 1)


@given(counts=COUNTS, seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_levels_come_back_from_their_indicators(counts, seed):
    codes = codes_of(*counts, seed=seed)
    level = LevelEncoder(codes, None)
    indicators = level.encode(codes)
    assert_array_equal(level.decode(indicators, None), codes)
    drawn = level.decode(indicators, np.random.default_rng(seed))
    assert_array_equal(drawn, codes)


def test_indicators_are_sklearns_centred_and_divided_by_one_number():
    codes = codes_of(5, 10, 20)
    indicators = LevelEncoder(codes, None).encode(codes)
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(codes[:, None])
    scale = np.sqrt(one_hot.var(axis=0).sum())
    assert_allclose(indicators, (one_hot - one_hot.mean(axis=0)) / scale)


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
    variance = level.encode(codes).var(axis=0).sum()
    assert_allclose(variance, 1 if level.width else 0)


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


# ------------------------------------------------------------------ table encoder


def mixed(n_samples=60, seed=0, holes=0.0):
    """Make a table of a number, five levels, a count, two levels, one, three, none."""
    rng = np.random.default_rng(seed)
    X = np.c_[
        rng.normal(size=n_samples) * 10,
        rng.permutation(np.arange(n_samples) % 5),
        rng.poisson(3, n_samples),
        rng.permutation(np.arange(n_samples) % 2),
        np.zeros(n_samples),
        rng.permutation(np.arange(n_samples) % 3),
        np.full(n_samples, np.nan),
    ]
    return np.where(rng.random(X.shape) < holes, np.nan, X)


LEVELS = "categorical"
KINDS = ["gaussian", LEVELS, "poisson", LEVELS, LEVELS, LEVELS, LEVELS]


def encoder_of(X, sample_weight=None, kinds=KINDS, scaling="standard"):
    scalings = [None if kind == LEVELS else scaling for kind in kinds]
    return TableEncoder(kinds, scalings).fit(X, sample_weight)


def test_numbers_come_first_then_two_levels_then_more():
    encoder = encoder_of(mixed())
    assert encoder.blocks_ == (
        Block("gaussian", (1,)),
        Block("poisson", (1,)),
        Block("binary", (1,)),
        Block("categorical", (5, 3)),
    )
    assert encoder.order_.tolist() == [0, 2, 3, 1, 5]
    matrix, seen = encoder.encode(mixed())
    assert matrix.shape == (60, 11)
    assert seen is None
    assert not encoder.is_numeric


def test_every_column_has_mean_zero_and_variance_one():
    matrix, _ = encoder_of(mixed()).encode(mixed())
    assert_allclose(matrix.mean(axis=0), 0, atol=1e-12)
    variance = np.add.reduceat(matrix.var(axis=0), [0, 1, 2, 3, 8])
    assert_allclose(variance, 1)


def test_numbers_of_one_kind_lie_side_by_side():
    kinds = ["gaussian", "poisson", "gaussian", LEVELS]
    X = np.c_[mixed()[:, [0, 2, 0]], mixed()[:, 3]]
    encoder = encoder_of(X, kinds=kinds)
    assert [block.kind for block in encoder.blocks_] == [
        "gaussian",
        "poisson",
        "binary",
    ]
    assert encoder.order_.tolist() == [0, 2, 1, 3]
    assert_allclose(encoder.decode(encoder.encode(X)[0]), X, atol=1e-12)


@given(
    seed=st.integers(0, 1000),
    n_levels=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    holes=st.sampled_from([0.0, 0.3]),
    weighted=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_rows_come_back_with_only_their_holes_filled(seed, n_levels, holes, weighted):
    rng = np.random.default_rng(seed)
    rows = np.arange(60)
    columns = [
        rng.permutation(rows % n if n else rng.normal(size=60)).astype(float)
        for n in n_levels
    ]
    X = np.stack(columns, axis=1)
    X[5:][rng.random((55, X.shape[1])) < holes] = np.nan
    kinds = [LEVELS if n else "gaussian" for n in n_levels]
    # Codes are those of levels that occur.
    for j, n in enumerate(n_levels):
        if n:
            seen = ~np.isnan(X[:, j])
            X[seen, j] = np.unique(X[seen, j], return_inverse=True)[1]
    weight = rng.uniform(0.1, 3, 60) if weighted else None
    encoder = encoder_of(X, weight, kinds)
    matrix, seen = encoder.encode(X)
    assert np.isfinite(matrix).all()
    assert matrix.shape[1] == sum(block.width for block in encoder.blocks_)
    back = encoder.decode(matrix)
    rare = [
        encoder.levels_[j].position.max(initial=0) + 1
        < len(encoder.levels_[j].position)
        for j in np.flatnonzero(n_levels)
    ]
    assume(not any(rare))
    assert_allclose(back[~np.isnan(X)], X[~np.isnan(X)], atol=1e-12)
    assert np.isfinite(back).all()
    expected = ~np.isnan(X[:, encoder.order_])
    assert_array_equal(np.ones_like(expected) if seen is None else seen, expected)


def test_missing_cells_are_zero_and_their_mask_is_in_the_order_of_the_blocks():
    X = mixed(holes=0.3)
    encoder = encoder_of(X)
    matrix, seen = encoder.encode(X)
    assert_array_equal(seen, ~np.isnan(X[:, encoder.order_]))
    per_column = encoder.columns_of(seen)
    assert_array_equal(per_column, np.repeat(seen, [1, 1, 1, 5, 3], axis=1))
    assert_array_equal(matrix[~per_column], 0)
    assert (matrix[per_column] != 0).all()


def test_a_number_that_is_missing_throughout_has_no_column():
    X = np.c_[mixed(), np.full(60, np.nan)]
    encoder = encoder_of(X, kinds=[*KINDS, "gaussian"])
    without = encoder_of(mixed())
    new = np.c_[mixed(seed=1), np.arange(60.0)]
    assert encoder.blocks_ == without.blocks_
    assert encoder.order_.tolist() == without.order_.tolist()
    matrix, seen = encoder.encode(new)
    assert seen is None
    assert_array_equal(matrix, without.encode(new[:, :-1])[0])
    assert np.isnan(encoder.decode(matrix)[:, -1]).all()
    assert_array_equal(encoder.log_jacobian(new), without.log_jacobian(new[:, :-1]))


def test_a_table_of_numbers_alone_is_only_scaled():
    X = mixed()[:, [0, 2]]
    encoder = encoder_of(X, kinds=["gaussian"] * 2)
    assert encoder.is_numeric
    assert_array_equal(encoder.encode(X)[0], encoder.scaler_.encode(X))
    assert_array_equal(encoder.centre_, encoder.scaler_.centre_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_precision_of_the_rows_is_kept(dtype):
    X = mixed(holes=0.2).astype(dtype)
    encoder = encoder_of(mixed())
    matrix, _ = encoder.encode(X)
    assert matrix.dtype == encoder.decode(matrix).dtype == dtype
    exact, _ = encoder.encode(X.astype(np.float64))
    assert_allclose(matrix, exact, rtol=1e-5, atol=1e-6)


def test_the_table_is_left_as_it_was():
    X = mixed(holes=0.3)
    X.flags.writeable = False
    encoder = encoder_of(X)
    matrix, _ = encoder.encode(X)
    matrix.flags.writeable = False
    encoder.decode(matrix)
    encoder.log_jacobian(X)
    assert_array_equal(X, mixed(holes=0.3))


def test_infinite_values_are_not_hidden():
    encoder = encoder_of(mixed())
    X = mixed(holes=0.2)
    X[0, 0], X[1, 0] = np.inf, -np.inf
    assert encoder.encode(X)[0][:2, 0].tolist() == [np.inf, -np.inf]


def test_expected_rows_have_the_likeliest_levels_and_the_mean_numbers():
    encoder = encoder_of(mixed(), scaling="quantile")
    matrix, _ = encoder.encode(mixed())
    variance = np.random.default_rng(0).random(matrix.shape)
    found, decoded = encoder.expected(matrix, variance), encoder.decode(matrix)
    assert_array_equal(found[:, [1, 3, 4, 5]], decoded[:, [1, 3, 4, 5]])
    numbers = encoder.scaler_.expected(matrix[:, :2], variance[:, :2])
    assert_array_equal(found[:, [0, 2]], numbers)
    assert np.isnan(found[:, 6]).all()


def test_rows_within_range_are_those_of_the_scaler_and_levels_stay():
    encoder = encoder_of(mixed())
    far = np.tile([1e5, 4.0, 2.4, 1.0, 0.0, 2.0, np.nan], (3, 1))
    found = encoder.within_range(far.copy(), whole=True)
    assert_array_equal(found[:, [1, 3, 4, 5, 6]], far[:, [1, 3, 4, 5, 6]])
    assert_array_equal(found[:, 0], mixed()[:, 0].max())
    assert_array_equal(found[:, 2], 2)


def test_the_jacobian_is_that_of_the_seen_numbers_and_of_shared_indicators():
    X = mixed(holes=0.3)
    X[:, 1] = codes_of(30, 1, 2, 20, 7)
    X[::9, 1] = np.where(np.isin(X[::9, 1], [0, 3]), np.nan, X[::9, 1])
    encoder = encoder_of(X)
    numbers = -np.log(encoder.scaler_.scale_) * ~np.isnan(X[:, [0, 2]])
    shares = np.select([X[:, 1] == 1, X[:, 1] == 2], np.log([1 / 3, 2 / 3]), 0.0)
    expected = numbers.sum(axis=1) + shares
    assert_allclose(encoder.log_jacobian(X), expected, atol=1e-12)


def test_the_frequency_is_that_of_independent_columns():
    X = mixed(holes=0.3)
    found = encoder_of(X).log_frequency(X)
    expected = np.zeros(60)
    for column in X[:, [1, 3, 5]].T:
        seen = ~np.isnan(column)
        share = np.bincount(column[seen].astype(int)) / seen.sum()
        expected[seen] += np.log(share[column[seen].astype(int)])
    assert_allclose(found, expected)


def test_integer_weights_encode_as_repeated_rows():
    X, weight = mixed(holes=0.2), np.random.default_rng(0).integers(1, 4, 60)
    one = encoder_of(X, weight.astype(float))
    other = encoder_of(np.repeat(X, weight, axis=0))
    assert one.blocks_ == other.blocks_
    assert_allclose(one.encode(X)[0], other.encode(X)[0], atol=1e-9)
    assert_allclose(one.log_frequency(X), other.log_frequency(X))
