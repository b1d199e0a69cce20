"""PCA of tables with holes, against tables without."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from columns import weights
from correlated import N_COLUMNS, SQUARE, TALL, assert_same, holes, model_of, table
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import subspace_angles

from skae.model import _holes, _ppca
from skae.model._holes import SeenRows, _em_step, principal_components_of_seen
from skae.model._pca import principal_components
from skae.model._ppca import ProbabilisticPCA


def low_rank(shape=(300, 8), rank=2, noise=0.1, seed=0):
    """Return a table, the table without its noise and the subspace of that."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(shape[1], rank))
    clean = rng.normal(size=(shape[0], rank)) @ loadings.T
    return clean + noise * rng.normal(size=shape), clean, loadings


def angle(components, loadings):
    return subspace_angles(components.T, loadings).max()


def start_of_em(shape, n_components, seed=0):
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(shape[1], n_components))
    return ProbabilisticPCA(rng.normal(size=shape[1]), loadings, 1.0)


def mean_log_density(ppca, X, seen, weight):
    return weight @ ppca.log_density(X, seen) / weight.sum()


HEAVY = 1e6  # weight of a row beside which the prior on the loadings counts for nothing


@pytest.mark.parametrize("shape", [TALL, SQUARE], ids=str)
def test_without_holes_em_ends_at_principal_components(shape):
    X = table(shape)
    seen, weight = np.ones(shape, dtype=bool), np.full(len(X), HEAVY)
    expected = principal_components(X, 2)
    to_likeliest = (len(X) - 1) / len(X)
    found = principal_components_of_seen(X, seen, 2, weight)
    rows = SeenRows.of(X, seen, weight, 3)
    for start in (found.probabilistic(), start_of_em(shape, 2)):
        ppca = start
        for _ in range(400):
            ppca = _em_step(ppca, rows, 0.0)
        likeliest = replace(
            expected,
            variances=to_likeliest * expected.variances,
            noise_variance=to_likeliest * expected.noise_variance,
        ).probabilistic()
        assert_allclose(ppca.mean, likeliest.mean, atol=1e-9)
        assert_allclose(ppca.noise_variance, likeliest.noise_variance, rtol=1e-6)
        assert_allclose(model_of(ppca).cov, model_of(likeliest).cov, atol=1e-5)
    assert_allclose(found.mean, expected.mean, atol=1e-9)
    assert angle(found.components, expected.components.T) < 1e-9
    for name in ("variances", "noise_variance"):
        likeliest_value = to_likeliest * getattr(expected, name)
        assert_allclose(getattr(found, name), likeliest_value, rtol=5e-3)


@given(
    n_rows=st.integers(3, 30),
    n_columns=st.integers(2, 6),
    n_components=st.integers(1, 4),
    share=st.floats(0, 0.6),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_no_step_of_em_lowers_the_likelihood(
    n_rows, n_columns, n_components, share, seed
):
    shape = n_rows, n_columns
    X, seen = table(shape, seed), holes(shape, share, seed)
    seen[0] = True
    weight = HEAVY * weights(n_rows, seed)
    steps = [start_of_em(shape, min(n_components, n_columns - 1), seed)]
    rows = SeenRows.of(X, seen, weight, n_columns)
    while len(steps) < 12 and steps[-1].noise_variance > 1e-6:
        steps.append(_em_step(steps[-1], rows, 0.0))
    reached = [mean_log_density(ppca, X, seen, weight) for ppca in steps[:-1]]
    assert all(after > before - 1e-9 for before, after in pairwise(reached))


def test_a_step_of_em_takes_integer_weights_for_repeated_rows():
    shape = (40, N_COLUMNS)
    X, seen, start = table(shape), holes(shape), start_of_em(shape, 2)
    weight = np.random.default_rng(2).integers(0, 4, size=40)
    rows = SeenRows.of(X, seen, weight.astype(float), 3)
    weighted = _em_step(start, rows, 0.0)
    again, seen_again = (np.repeat(rows, weight, axis=0) for rows in (X, seen))
    rows = SeenRows.of(again, seen_again, np.ones(len(again)), 3)
    repeated = _em_step(start, rows, 0.0)
    assert_same(weighted, repeated, rtol=1e-9, atol=1e-11)


def test_integer_weights_of_seen_cells_are_repeated_rows():
    X, _, _ = low_rank()
    seen, weight = holes(X.shape), np.random.default_rng(2).integers(0, 4, size=300)
    weighted = principal_components_of_seen(X, seen, 2, weight.astype(float))
    again, seen_again = (np.repeat(rows, weight, axis=0) for rows in (X, seen))
    repeated = principal_components_of_seen(again, seen_again, 2)
    assert_same(weighted, repeated, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("shape", "rank"), [((300, 8), 2), ((60, 30), 3)], ids=str)
def test_the_subspace_of_a_table_with_holes_is_recovered(shape, rank, seed):
    X, clean, loadings = low_rank(shape, rank, seed=seed)
    seen = holes(shape)
    found = principal_components_of_seen(X, seen, rank)
    zero_filled = principal_components(np.where(seen, X, 0), rank)
    reached = angle(found.components, loadings)
    assert reached < 0.05
    assert reached < 0.4 * angle(zero_filled.components, loadings)
    assert_allclose(found.noise_variance, 0.01, rtol=0.2)
    filled = found.probabilistic().given(np.where(seen, X, 0), seen).filled
    error = ((filled - clean)[~seen] ** 2).mean() / clean.var()
    assert error < 0.1


def test_cells_missing_for_a_reason_that_is_seen_bend_no_mean():
    rng = np.random.default_rng(0)
    first = rng.normal(size=2000)
    X = np.c_[first, first, first] + 0.3 * rng.normal(size=(2000, 3))
    seen = np.ones(X.shape, dtype=bool)
    seen[:, 2] = X[:, 0] < 0
    found = principal_components_of_seen(X, seen, 1)
    assert X[seen[:, 2], 2].mean() < -0.6
    assert_allclose(found.mean, 0, atol=0.06)


@pytest.mark.parametrize("shape", [TALL, SQUARE, (200, 3)], ids=str)
def test_the_largest_cell_of_a_component_of_seen_cells_is_positive(shape):
    found = [
        principal_components_of_seen(table(shape, seed), holes(shape), 2).components
        for seed in range(8)
    ]
    for components in found:
        largest = np.abs(components).argmax(axis=1)
        assert (components[range(2), largest] > 0).all()


def test_values_of_unseen_cells_change_no_component():
    X, seen = table(TALL), holes(TALL)
    found = principal_components_of_seen(X, seen, 2)
    other = principal_components_of_seen(np.where(seen, X, 1e6), seen, 2)
    for name in vars(found):
        assert_array_equal(getattr(found, name), getattr(other, name))


def test_the_order_of_rows_with_holes_does_not_matter():
    X, seen, weight = table(TALL), holes(TALL), weights(len(table(TALL)))
    order = np.random.default_rng(3).permutation(len(X))
    found = principal_components_of_seen(X, seen, 2, weight)
    moved = principal_components_of_seen(X[order], seen[order], 2, weight[order])
    assert_same(moved, found, rtol=1e-8, atol=1e-10)


def test_chunks_of_rows_with_holes_change_nothing(monkeypatch):
    X, seen, weight = table(TALL), holes(TALL), weights(len(table(TALL)))
    whole = principal_components_of_seen(X, seen, 2, weight)
    monkeypatch.setattr("skae.model._ppca.LARGEST_STACK", 40)
    chunked = principal_components_of_seen(X, seen, 2, weight)
    assert_same(chunked, whole, rtol=1e-8, atol=1e-10)


def test_long_tables_are_learned_from_rows_evenly_spaced(monkeypatch):
    monkeypatch.setattr("skae.model._holes.EM_ROWS", 50)
    X, seen, weight = table(TALL), holes(TALL), weights(len(table(TALL)))
    found = principal_components_of_seen(X, seen, 2, weight)
    third = principal_components_of_seen(X[::3], seen[::3], 2, weight[::3])
    assert_same(found, third, rtol=1e-12)


@pytest.mark.parametrize("n_components", [2, 5])
def test_most_steps_of_em_see_few_rows_and_end_where_all_would(
    n_components, monkeypatch
):
    X, _, _ = low_rank((6_000, 8), n_components)
    seen = holes(X.shape)
    few = principal_components_of_seen(X, seen, n_components)
    monkeypatch.setattr(_holes, "FEW_ROWS", len(X))
    every = principal_components_of_seen(X, seen, n_components)
    assert angle(few.components, every.components.T) < 0.01
    fits, weight = (few.probabilistic(), every.probabilistic()), np.ones(len(X))
    reached, of_all = (mean_log_density(fit, X, seen, weight) for fit in fits)
    assert reached > of_all - 0.01


def test_wide_codes_of_seen_cells_are_learned_from_rows_that_the_work_allows(
    monkeypatch,
):
    monkeypatch.setattr(_holes, "EM_WORK", 40 * 4 * (2 + N_COLUMNS))
    monkeypatch.setattr(_holes, "FEW_ROWS", 10)
    X, seen = table(TALL), holes(TALL)
    found = principal_components_of_seen(X, seen, 2)
    step = -(-len(X) // 40)
    some = principal_components_of_seen(X[::step], seen[::step], 2)
    assert_same(found, some, rtol=1e-12)


def test_the_memory_of_em_is_that_of_some_rows():
    shape = (4_000, 12)
    X, seen = table(shape), holes(shape)
    principal_components_of_seen(X[:100], seen[:100], 10)
    tracemalloc.start()
    principal_components_of_seen(X, seen, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    stack = 8 * _ppca.LARGEST_STACK
    assert peak < 8 * stack + 10 * X.nbytes


def test_a_column_that_is_all_missing_has_no_loadings():
    X, _, _ = low_rank()
    seen = holes(X.shape)
    seen[:, 3] = False
    found = principal_components_of_seen(X, seen, 2)
    rest = principal_components_of_seen(
        np.delete(X, 3, axis=1), np.delete(seen, 3, axis=1), 2
    )
    assert_array_equal(found.components[:, 3], 0)
    assert found.column_scales[3] == 0
    without = np.delete(found.components, 3, axis=1)
    assert angle(without, rest.components.T) < 0.005
    assert_allclose(found.variances, rest.variances, rtol=0.01)
    assert_allclose(found.noise_variance, rest.noise_variance, rtol=0.05)


def test_rows_that_are_all_missing_tell_nothing():
    X, _, _ = low_rank()
    seen = holes(X.shape)
    seen[::4] = False
    some = seen.any(axis=1)
    found = principal_components_of_seen(X, seen, 2)
    rest = principal_components_of_seen(X[some], seen[some], 2)
    assert_same(found, rest, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("shape", "n_components"),
    [((30, 5), 5), ((30, 5), 9), ((2, 5), 3), ((3, 5), 3), ((30, 1), 1), ((30, 1), 2)],
    ids=str,
)
def test_few_rows_or_columns_leave_components_at_zero(shape, n_components):
    X, seen = table(shape), holes(shape)
    found = principal_components_of_seen(X, seen, n_components)
    most = min(n_components, max(shape[1] - 1, 1), shape[0] - 1)
    assert found.components.shape == (n_components, shape[1])
    assert not found.components[most:].any()
    assert not found.variances[most:].any()
    kept = found.components[:most]
    assert_allclose(kept @ kept.T, np.eye(most), atol=1e-12)
    assert (np.diff(found.variances) <= 0).all()
    assert found.noise_variance > 0
    known = found.probabilistic().given(X, seen)
    assert all(np.isfinite(values).all() for values in vars(known).values())


def test_one_cell_in_each_row_is_enough():
    X = table((30, 5))
    seen = np.arange(30)[:, None] % 5 == np.arange(5)
    found = principal_components_of_seen(X, seen, 2)
    assert_allclose(found.mean, [X[seen[:, j], j].mean() for j in range(5)], atol=0.3)
    assert found.noise_variance > 0


def test_a_constant_table_with_holes_has_no_loadings():
    X, seen = np.full((20, 3), 2.5), holes((20, 3))
    found = principal_components_of_seen(X, seen, 2)
    assert_allclose(found.mean, 2.5)
    assert_array_equal(found.column_scales, 0)
    assert_allclose(found.probabilistic().loadings, 0, atol=1e-8)


def test_column_scales_are_the_deviations_of_seen_cells():
    X, seen, weight = table(TALL), holes(TALL), weights(len(table(TALL)))
    found = principal_components_of_seen(X, seen, 2, weight).column_scales
    for j, scale in enumerate(found):
        column, share = X[seen[:, j], j], weight[seen[:, j]]
        mean = np.average(column, weights=share)
        assert_allclose(scale**2, np.average((column - mean) ** 2, weights=share))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_table_with_holes_is_left_as_it_was(dtype):
    X, seen = table(TALL).astype(dtype), holes(TALL)
    before = X.copy(), seen.copy()
    X.flags.writeable = seen.flags.writeable = False
    found = principal_components_of_seen(X, seen, 2)
    assert_array_equal(X, before[0])
    assert_array_equal(seen, before[1])
    assert found.components.dtype == np.float64
    assert_same(found, principal_components_of_seen(X.astype(float), seen, 2))


@pytest.mark.parametrize(
    "factor",
    [
        0.01,
        100.0,
    ],
)
def test_a_factor_moves_the_scales_of_seen_cells_alone(factor):
    X, _, _ = low_rank()
    seen = holes(X.shape)
    found = principal_components_of_seen(X, seen, 2)
    moved = principal_components_of_seen(factor * X, seen, 2)
    assert_allclose(moved.components, found.components, atol=0.01)
    assert_allclose(moved.variances, factor**2 * found.variances, rtol=0.02)
    assert_allclose(moved.noise_variance, factor**2 * found.noise_variance, rtol=0.02)


@pytest.mark.parametrize(
    "shift",
    [
        1.0,
        3000.0,
    ],
)
def test_a_shift_moves_the_mean_of_seen_cells_alone(shift):
    X, _, _ = low_rank()
    seen = holes(X.shape)
    found = principal_components_of_seen(X, seen, 2)
    moved = principal_components_of_seen(X + shift, seen, 2)
    assert_allclose(moved.mean, found.mean + shift, atol=0.02)
    assert_allclose(moved.components, found.components, atol=0.02)
    assert_allclose(moved.noise_variance, found.noise_variance, rtol=0.05)
