"""What table and network share: kinds of columns, their blocks, encoded rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from columns import weights
from numpy.testing import assert_allclose, assert_array_equal

from skae._schema import KINDS, REALS, Block, Encoded
from skae.network._likelihoods import LIKELIHOODS
from skae.network._losses import LOSSES

# ------------------------------------------------------------------------------ kinds

SCALINGS = [None, "standard", "minmax", "quantile"]
WIDTHS = (1, 3, 2)
N_COLUMNS, N_FEATURES = sum(WIDTHS), len(WIDTHS)


def test_every_loss_and_likelihood_has_a_kind():
    assert {*LOSSES, *LIKELIHOODS, "binary", "categorical"} == set(KINDS)
    assert all(kind.name == name for name, kind in KINDS.items())


@pytest.mark.parametrize("name", REALS)
@pytest.mark.parametrize("of_reals", ["standard", "quantile"])
def test_numbers_of_any_sign_are_scaled_as_is_wanted(name, of_reals):
    found = [KINDS[name].scaling(wanted, of_reals) for wanted in SCALINGS]
    assert found == SCALINGS
    assert KINDS[name].scaling("auto", of_reals) == of_reals


@pytest.mark.parametrize("name", ["bernoulli", "binary_cross_entropy"])
@pytest.mark.parametrize("of_reals", ["standard", "quantile"])
def test_shares_are_brought_to_the_unit_interval_unless_another_scale_is_wanted(
    name, of_reals
):
    assert KINDS[name].scaling("auto", of_reals) == "minmax"
    assert [KINDS[name].scaling(w, of_reals) for w in SCALINGS] == SCALINGS


@pytest.mark.parametrize(
    "name", ["poisson", "negative_binomial", "binary", "categorical"]
)
@pytest.mark.parametrize("wanted", [*SCALINGS, "auto"])
def test_counts_and_levels_are_standardised_whatever_is_wanted(name, wanted):
    assert KINDS[name].scaling(wanted, "quantile") == "standard"


# ----------------------------------------------------------------------------- blocks


def test_a_block_is_as_wide_as_its_columns():
    assert Block(KINDS["gaussian"], (1, 1)).width == 2
    assert Block(KINDS["categorical"], (3, 4)).width == 7


@pytest.mark.parametrize("name", KINDS)
def test_all_but_levels_are_numbers(name):
    is_numeric = Block(KINDS[name], (1,)).is_numeric
    assert is_numeric == (name not in ("binary", "categorical"))


def test_blocks_are_told_apart_by_their_kind_and_widths():
    """What is measured of the columns is no matter of the networks' layout."""
    block = Block(KINDS["gaussian"], (1, 1), np.zeros(2), np.ones(2))
    assert block == Block(KINDS["gaussian"], (1, 1), np.ones(2), np.zeros(2))
    assert block != Block(KINDS["laplace"], (1, 1), np.zeros(2), np.ones(2))
    assert block != Block(KINDS["gaussian"], (1,), np.zeros(1), np.ones(1))
    assert hash(block) == hash(Block(KINDS["gaussian"], (1, 1)))


# ----------------------------------------------------------------------- encoded rows


def encoded(n_rows=40, *, holes=True, weighted=True):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(n_rows, N_COLUMNS))
    seen = None
    if holes:
        seen = rng.random((n_rows, N_FEATURES)) < 0.7
        seen[:, 1] = True
        matrix[~np.repeat(seen, WIDTHS, axis=1)] = 0
    return Encoded(matrix, WIDTHS, seen, weights(n_rows) if weighted else None)


OF_ENCODED = pytest.mark.parametrize(
    "rows",
    [encoded(), encoded(holes=False), encoded(weighted=False)],
    ids=["all", "whole", "unweighted"],
)
INDICES = {
    "slice": slice(5, 20, 3),
    "indices": np.array([7, 7, 0, 39]),
    "mask": np.arange(40) % 3 == 0,
    "none": np.zeros(0, dtype=int),
}


@OF_ENCODED
@pytest.mark.parametrize("chosen", INDICES.values(), ids=INDICES)
def test_rows_that_are_taken_bring_their_holes_and_weights(rows, chosen):
    found = rows.take(chosen)
    index = np.arange(40)[chosen]
    assert len(found) == len(index)
    assert found.widths == rows.widths
    for field in dataclasses.fields(Encoded):
        before, after = getattr(rows, field.name), getattr(found, field.name)
        if before is None:
            assert after is None
        elif field.name != "widths":
            assert_array_equal(after, before[index])


@OF_ENCODED
def test_taking_rows_leaves_the_others_as_they_were(rows):
    before = rows.matrix.copy()
    rows.take(slice(3))
    assert len(rows) == 40
    assert_array_equal(rows.matrix, before)


@pytest.mark.parametrize(
    "features",
    [np.array([5, 6, 7]), np.arange(6).reshape(2, 3), np.ones((2, 4, 3), dtype=bool)],
    ids=["vector", "rows", "more"],
)
def test_values_of_features_are_repeated_for_their_columns(features):
    found = encoded().columns_of(features)
    assert found.shape == (*features.shape[:-1], N_COLUMNS)
    assert found.dtype == features.dtype
    first = 0
    for feature, width in enumerate(WIDTHS):
        for column in range(first, first + width):
            assert_array_equal(found[..., column], features[..., feature])
        first += width


def test_cells_of_the_matrix_are_seen_where_those_of_the_table_are():
    rows = encoded()
    expected = np.repeat(rows.seen, WIDTHS, axis=1)
    assert_array_equal(rows.cells_seen, expected)
    assert_array_equal(rows.columns_seen, expected)


def test_all_cells_of_whole_rows_are_seen():
    rows = encoded(holes=False)
    assert rows.columns_seen is None
    assert rows.cells_seen.shape == rows.matrix.shape
    assert rows.cells_seen.all()


def test_incomplete_columns_are_those_with_a_missing_cell():
    rows = encoded()
    assert rows.incomplete == (0, 2)
    assert all(type(feature) is int for feature in rows.incomplete)
    assert encoded(holes=False).incomplete == ()
    whole = Encoded(np.zeros((4, 6)), WIDTHS, np.ones((4, 3), dtype=bool))
    assert whole.incomplete == ()
    one = np.ones((4, 3), dtype=bool)
    one[2, 1] = False
    assert Encoded(np.zeros((4, 6)), WIDTHS, one).incomplete == (1,)


def test_relative_weights_have_a_mean_of_one():
    found = encoded().relative_weight
    assert_allclose(found.mean(), 1)
    assert_allclose(found / found[0], weights() / weights()[0])


def test_rows_without_weights_weigh_one():
    found = encoded(weighted=False).relative_weight
    assert found.shape == (40,)
    assert_array_equal(found, 1.0)


@pytest.mark.parametrize("n_rows", [1, 3, 7, 20, 100])
def test_rows_are_spread_evenly(n_rows):
    encoded = Encoded(np.arange(20.0)[:, None], [1], weight=np.arange(20.0))
    found = encoded.spread(n_rows).matrix[:, 0]
    assert 1 <= len(found) <= n_rows
    assert found[0] == 0
    assert len(set(np.diff(found))) <= 1
    assert_array_equal(encoded.spread(n_rows).weight, found)
