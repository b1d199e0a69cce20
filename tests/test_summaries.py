"""Mean and deviation of columns with holes, against numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from columns import table, weights, with_holes
from numpy.testing import assert_allclose, assert_array_equal

from skae.table._summaries import mean_and_deviation


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
