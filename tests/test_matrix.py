"""A table of numbers and level codes to the networks' matrix, and back."""

from __future__ import annotations

import numpy as np
import pytest
from columns import codes_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skae._schema import KINDS, Block
from skae.table._matrix import TableEncoder


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
OF_COLUMNS = ["gaussian", LEVELS, "poisson", LEVELS, LEVELS, LEVELS, LEVELS]


def encoder_of(X, sample_weight=None, kinds=OF_COLUMNS, scaling="standard"):
    scalings = [None if kind == LEVELS else scaling for kind in kinds]
    return TableEncoder(kinds, scalings).fit(X, sample_weight)


def test_numbers_come_first_then_two_levels_then_more():
    encoder = encoder_of(mixed())
    assert encoder.blocks_ == (
        Block(KINDS["gaussian"], (1,)),
        Block(KINDS["poisson"], (1,)),
        Block(KINDS["binary"], (1,)),
        Block(KINDS["categorical"], (5, 3)),
    )
    assert encoder.order_.tolist() == [0, 2, 3, 1, 5]
    encoded = encoder.encode(mixed())
    assert encoded.matrix.shape == (60, 11)
    assert list(encoded.widths) == encoder.widths == [1, 1, 1, 5, 3]
    assert encoded.seen is None
    assert encoded.weight is None
    assert not encoder.is_numeric


def test_weights_travel_with_the_rows():
    weight = np.random.default_rng(0).uniform(0.1, 3, 60)
    encoded = encoder_of(mixed(), weight).encode(mixed(), weight)
    assert encoded.weight is weight


def test_blocks_hold_what_the_columns_are_scaled_by():
    encoder = encoder_of(mixed())
    for name in ("centre", "scale"):
        joined = np.concatenate([getattr(block, name) for block in encoder.blocks_])
        assert_array_equal(joined, getattr(encoder, f"{name}_"))
    for name in ("resolution", "quartile_deviation"):
        joined = np.concatenate([getattr(block, name) for block in encoder.blocks_])
        assert_array_equal(joined, getattr(encoder.scaler_, f"{name}_"))
        sizes = [len(getattr(block, name)) for block in encoder.blocks_]
        assert sizes == [1, 1, 0, 0]


def test_columns_have_mean_zero_and_variance_one_or_gini_impurity():
    table = mixed()
    matrix = encoder_of(table).encode(table).matrix
    assert_allclose(matrix.mean(axis=0), 0, atol=1e-12)
    variance = np.add.reduceat(matrix.var(axis=0), [0, 1, 2, 3, 8])
    shares = [
        np.unique(table[:, feature], return_counts=True)[1] / len(table)
        for feature in encoder_of(table).order_[2:]
    ]
    impurity = [1 - np.square(share).sum() for share in shares]
    assert_allclose(variance, [1, 1, *impurity])


def test_numbers_of_one_kind_lie_side_by_side():
    kinds = ["gaussian", "poisson", "gaussian", LEVELS]
    X = np.c_[mixed()[:, [0, 2, 0]], mixed()[:, 3]]
    encoder = encoder_of(X, kinds=kinds)
    assert [block.kind.name for block in encoder.blocks_] == [
        "gaussian",
        "poisson",
        "binary",
    ]
    assert encoder.order_.tolist() == [0, 2, 1, 3]
    assert_allclose(encoder.decode(encoder.encode(X).matrix), X, atol=1e-12)


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
    encoded = encoder.encode(X)
    matrix, seen = encoded.matrix, encoded.seen
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
    encoded = encoder.encode(X)
    matrix, seen = encoded.matrix, encoded.seen
    assert_array_equal(seen, ~np.isnan(X[:, encoder.order_]))
    per_column = encoder.columns_of(seen)
    assert_array_equal(encoded.columns_seen, per_column)
    assert_array_equal(per_column, np.repeat(seen, [1, 1, 1, 5, 3], axis=1))
    assert_array_equal(matrix[~per_column], 0)
    assert (matrix[per_column] != 0).all()


def test_a_number_that_is_missing_throughout_has_no_column():
    X = np.c_[mixed(), np.full(60, np.nan)]
    encoder = encoder_of(X, kinds=[*OF_COLUMNS, "gaussian"])
    without = encoder_of(mixed())
    new = np.c_[mixed(seed=1), np.arange(60.0)]
    assert encoder.blocks_ == without.blocks_
    assert encoder.order_.tolist() == without.order_.tolist()
    encoded = encoder.encode(new)
    matrix = encoded.matrix
    assert encoded.seen is None
    assert_array_equal(matrix, without.encode(new[:, :-1]).matrix)
    assert np.isnan(encoder.decode(matrix)[:, -1]).all()
    assert_array_equal(encoder.log_jacobian(new), without.log_jacobian(new[:, :-1]))


def test_a_table_of_numbers_alone_is_only_scaled():
    X = mixed()[:, [0, 2]]
    encoder = encoder_of(X, kinds=["gaussian"] * 2)
    assert encoder.is_numeric
    assert_array_equal(encoder.encode(X).matrix, encoder.scaler_.encode(X))
    assert_array_equal(encoder.centre_, encoder.scaler_.centre_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_precision_of_the_rows_is_kept(dtype):
    X = mixed(holes=0.2).astype(dtype)
    encoder = encoder_of(mixed())
    matrix = encoder.encode(X).matrix
    assert matrix.dtype == encoder.decode(matrix).dtype == dtype
    exact = encoder.encode(X.astype(np.float64)).matrix
    assert_allclose(matrix, exact, rtol=1e-5, atol=1e-6)


def test_the_table_is_left_as_it_was():
    X = mixed(holes=0.3)
    X.flags.writeable = False
    encoder = encoder_of(X)
    matrix = encoder.encode(X).matrix
    matrix.flags.writeable = False
    encoder.decode(matrix)
    encoder.log_jacobian(X)
    assert_array_equal(X, mixed(holes=0.3))


def test_infinite_values_are_not_hidden():
    encoder = encoder_of(mixed())
    X = mixed(holes=0.2)
    X[0, 0], X[1, 0] = np.inf, -np.inf
    assert encoder.encode(X).matrix[:2, 0].tolist() == [np.inf, -np.inf]


def test_rows_within_range_are_those_of_the_scaler_and_levels_stay():
    encoder = encoder_of(mixed())
    far = np.tile([1e5, 4.0, 2.4, 1.0, 0.0, 2.0, np.nan], (3, 1))
    found = encoder.within_range(far.copy())
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


@pytest.mark.parametrize("kind", ["bernoulli", "binary_cross_entropy"])
def test_shares_of_ones_have_no_jacobian(kind):
    X = np.c_[mixed()[:, 0], 5 * mixed()[:, 3], np.linspace(0, 20, 60)]
    encoder = TableEncoder(["gaussian", kind, kind], ["minmax"] * 3).fit(X, None)
    expected = np.full(60, -np.log(np.ptp(X[:, 0])))
    assert_allclose(encoder.log_jacobian(X), expected)


def test_integer_weights_encode_as_repeated_rows():
    X, weight = mixed(holes=0.2), np.random.default_rng(0).integers(1, 4, 60)
    one = encoder_of(X, weight.astype(float))
    other = encoder_of(np.repeat(X, weight, axis=0))
    assert one.blocks_ == other.blocks_
    assert_allclose(one.encode(X).matrix, other.encode(X).matrix, atol=1e-9)
    assert_allclose(one.log_jacobian(X), other.log_jacobian(X))


def test_continuous_columns_are_numbers_and_indicators():
    X = mixed()
    encoder = encoder_of(X)
    columns = encoder.continuous(encoder.encode(X).matrix)
    assert_allclose(columns[:, 0], X[:, 0])
    assert_allclose(columns[:, 1], X[:, 2])
    assert_allclose(columns[:, 2], X[:, 3] == 1, atol=1e-12)
    expected = np.c_[X[:, [1]] == np.arange(5), X[:, [5]] == np.arange(3)]
    assert_allclose(columns[:, 3:], expected, atol=1e-12)
