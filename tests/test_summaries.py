"""Mean and deviation of columns with holes, against numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from columns import table, weights, with_holes
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array

from skae.table._summaries import (
    QUARTILE_RANGE,
    ColumnStatistics,
    SortedColumns,
    mean_and_deviation,
)


@pytest.mark.parametrize("chunk_rows", [7, 8192])
@pytest.mark.parametrize("weight", [None, weights()], ids=["unweighted", "weighted"])
def test_mean_and_deviation_are_numpys(chunk_rows, weight, monkeypatch):
    monkeypatch.setattr("skae.table._summaries.CHUNK_ROWS", chunk_rows)
    mean, deviation = mean_and_deviation(table(), weight)
    expected = np.average(table(), axis=0, weights=weight)
    variance = np.average((table() - expected) ** 2, axis=0, weights=weight)
    assert_allclose(mean, expected)
    assert_allclose(deviation, np.sqrt(variance))


@pytest.mark.parametrize("chunk_rows", [7, 8192])
@pytest.mark.parametrize("weight", [None, weights()], ids=["unweighted", "weighted"])
def test_mean_and_deviation_are_those_of_the_seen_cells(
    chunk_rows, weight, monkeypatch
):
    monkeypatch.setattr("skae.table._summaries.CHUNK_ROWS", chunk_rows)
    X = with_holes()
    mean, deviation = mean_and_deviation(X, weight)
    for j, column in enumerate(X.T):
        seen = ~np.isnan(column)
        found = mean_and_deviation(
            column[seen, None], None if weight is None else weight[seen]
        )
        assert_allclose([mean[j], deviation[j]], np.ravel(found))


def test_a_column_without_a_value_has_mean_and_deviation_zero():
    mean, deviation = mean_and_deviation(np.c_[np.full(5, np.nan), np.arange(5.0)])
    assert mean.tolist() == [0.0, 2.0]
    assert_allclose(deviation, [0.0, np.sqrt(2)])


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


COUNTS = np.random.default_rng(1).integers(1, 4, size=60).astype(float)


def some_columns(seed=0):
    """Return columns with holes: of numbers, of counts, constant, and of no cell."""
    rng = np.random.default_rng(seed)
    X = np.c_[rng.normal(size=60), rng.poisson(2, size=60), np.ones(60), np.ones(60)]
    X[rng.random(X.shape) < 0.2] = np.nan
    X[:, 3] = np.nan
    return X


@pytest.mark.parametrize("weight", [None, COUNTS], ids=["unweighted", "counted"])
def test_quartiles_of_all_columns_are_numpys(weight):
    X = some_columns()
    again = X if weight is None else np.repeat(X, weight.astype(int), axis=0)
    quartiles = np.nanquantile(again[:, :3], [0.25, 0.75], axis=0)
    found = SortedColumns.of(X, weight).quartile_deviations()
    assert_allclose(found[:3], np.diff(quartiles, axis=0)[0] / QUARTILE_RANGE)
    assert found[3] == 0


@pytest.mark.parametrize("weight", [None, COUNTS], ids=["unweighted", "counted"])
def test_the_resolution_is_the_mean_distance_of_values_that_recur(weight):
    values = np.repeat([1.0, 2.0, 4.0, np.nan], 15)
    rng = np.random.default_rng(0)
    X = np.c_[values, rng.normal(size=60), np.ones(60)][rng.permutation(60)]
    weight = np.ones(60) if weight is None else weight
    found = SortedColumns.of(X, weight).resolutions()
    seen = ~np.isnan(X[:, 0])
    around = {1.0: 1.0, 2.0: 1.5, 4.0: 2.0}
    logarithms = [np.log(around[value]) for value in X[seen, 0]]
    expected = np.exp(np.average(logarithms, weights=weight[seen]))
    assert_allclose(found, [expected, 0, 0])


def test_sorted_columns_tell_the_same_alone_and_beside_others():
    X = some_columns()
    together = SortedColumns.of(X, COUNTS)
    for j, column in enumerate(X.T):
        alone = SortedColumns.of(column[:, None], COUNTS)
        assert_array_equal(together.resolutions()[j], alone.resolutions()[0])
        deviations = together.quartile_deviations()
        assert_array_equal(deviations[j], alone.quartile_deviations()[0])


@pytest.mark.parametrize("weight", [None, weights()], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("unit", [1.0, 1e200, 1e-200])
def test_statistics_of_parts_merge_to_those_of_the_whole(weight, unit):
    X = with_holes() * unit + unit * 1e3
    X[:7, 1] = np.nan  # no cell in the first part
    parts = [slice(0, 7), slice(7, 8), slice(8, None)]
    found = [
        ColumnStatistics.of(X[part], None if weight is None else weight[part])
        for part in parts
    ]
    whole = ColumnStatistics.of(X, weight)
    for order in ([0, 1, 2], [2, 0, 1]):
        a, b, c = (found[place] for place in order)
        for name, value in vars(a.merge(b).merge(c)).items():
            assert_allclose(value, vars(whole)[name], rtol=1e-9, err_msg=name)


def test_columns_have_moved_by_a_share_of_their_deviation():
    X = np.random.default_rng(0).normal(size=(100, 4))
    X[:, 3] = np.nan
    before = ColumnStatistics.of(X, None)
    after = X.copy()
    after[:, 0] += 0.04
    after[:, 1] += 0.06
    after[:, 2] *= 1.1
    after[0, 3] = 5.0
    moved = before.have_moved(ColumnStatistics.of(after, None), 0.05)
    assert moved.tolist() == [False, True, True, True]


@pytest.mark.parametrize("unit", [1.0, 1e200, 1e-200])
def test_statistics_of_a_sparse_matrix_are_those_of_the_dense_one(unit):
    rng = np.random.default_rng(0)
    X = np.where(rng.random((50, 4)) < 0.3, rng.normal(size=(50, 4)) + 1, 0) * unit
    X[:, 2] = 0
    X[:, 3] = np.abs(X[:, 3]) + unit  # no zero in it
    found, dense = (
        ColumnStatistics.of_sparse(csr_array(X)),
        ColumnStatistics.of(X, None),
    )
    for name, value in vars(dense).items():
        assert_allclose(vars(found)[name], value, rtol=1e-9, err_msg=name)
