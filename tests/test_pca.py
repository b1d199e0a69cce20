"""PCA against its definition and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from columns import weights
from correlated import SHAPES, SQUARE, TALL, assert_same, table
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.decomposition import PCA

from skae.model._pca import (
    Moments,
    covariance_of,
    deviations_of,
    directions_of_product,
    leading_directions,
    principal_components,
    principal_components_of_sparse,
)

# ------------------------------------------------------------------------- PCA


@SHAPES
@pytest.mark.parametrize("n_components", [1, 3])
def test_unit_weights_give_the_numbers_of_sklearn(shape, n_components):
    X = table(shape)
    found = principal_components(X, n_components)
    expected = PCA(n_components, svd_solver="full").fit(X)
    assert_allclose(found.mean, expected.mean_)
    assert_allclose(found.components, expected.components_, atol=1e-10)
    assert_allclose(found.variances, expected.explained_variance_)
    assert_allclose(found.noise_variance, expected.noise_variance_)


@pytest.mark.parametrize("shape", [TALL, SQUARE], ids=str)
def test_real_weights_give_the_axes_of_numpys_weighted_covariance(shape):
    X, weight = table(shape), weights(shape[0])
    found = principal_components(X, 2, weight)
    covariance = np.cov(X.T, aweights=weight)
    eigenvalues = np.linalg.eigvalsh(covariance)[::-1]
    assert_allclose(found.mean, np.average(X, axis=0, weights=weight))
    assert_allclose(found.variances, eigenvalues[:2])
    assert_allclose(found.noise_variance, eigenvalues[2:].mean())
    assert_allclose(found.column_scales**2, covariance.diagonal())
    assert_allclose(
        covariance @ found.components.T, found.components.T * eigenvalues[:2]
    )


def counts(shape):
    rng = np.random.default_rng(2)
    return rng.integers(0, 4, size=shape[0]).astype(float)


@pytest.mark.parametrize("shape", [TALL, SQUARE], ids=str)
def test_whole_weights_give_the_axes_of_numpys_covariance_of_counted_rows(shape):
    X, weight = table(shape), counts(shape)
    found = principal_components(X, 2, weight)
    covariance = np.cov(X.T, fweights=weight.astype(int))
    eigenvalues = np.linalg.eigvalsh(covariance)[::-1]
    assert_allclose(found.mean, np.average(X, axis=0, weights=weight))
    assert_allclose(found.variances, eigenvalues[:2])
    assert_allclose(found.noise_variance, eigenvalues[2:].mean())
    assert_allclose(found.column_scales**2, covariance.diagonal())


@pytest.mark.parametrize("shape", [TALL, SQUARE], ids=str)
def test_whole_weights_are_repeated_rows(shape):
    X, weight = table(shape), counts(shape)
    found = principal_components(X, 2, weight)
    repeated = principal_components(np.repeat(X, weight.astype(int), axis=0), 2)
    assert_same(found, repeated, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", [TALL, SQUARE], ids=str)
def test_whole_weights_and_their_fractions_differ_in_the_divisor_alone(shape):
    X, weight = table(shape), counts(shape)
    counted, relied = (principal_components(X, 2, w) for w in (weight, weight / 7))
    total = weight.sum()
    ratio = (total - 1) / (total - (weight**2).sum() / total)
    assert_allclose(relied.mean, counted.mean)
    assert_allclose(relied.components, counted.components, atol=1e-10)
    assert_allclose(relied.variances, ratio * counted.variances)
    assert_allclose(relied.noise_variance, ratio * counted.noise_variance)
    assert_allclose(relied.column_scales, np.sqrt(ratio) * counted.column_scales)


def test_a_single_row_has_no_variance_whatever_it_weighs():
    X = table((1, 5))
    for weight in (1.0, 3.0, 0.7):
        found = principal_components(X, 2, np.array([weight]))
        assert_allclose(found.mean, X[0])
        assert_allclose(found.variances, 0, atol=1e-20)


@SHAPES
def test_only_the_ratios_of_real_weights_matter(shape):
    X, weight = table(shape), weights(shape[0])
    found = principal_components(X, 2, 1000 * weight)
    assert_same(found, principal_components(X, 2, weight), rtol=1e-9, atol=1e-12)


@SHAPES
def test_equal_weights_are_no_weights(shape):
    X = table(shape)
    weighted = principal_components(X, 2, np.full(len(X), 0.3))
    assert_same(weighted, principal_components(X, 2), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [TALL, (40, 6)], ids=str)
def test_rows_of_weight_zero_count_for_nothing(shape):
    X, weight = table(shape), weights(shape[0])
    weight[::3] = 0
    X[::3] = 1e3
    found = principal_components(X, 2, weight)
    seen = principal_components(X[weight > 0], 2, weight[weight > 0])
    assert_same(found, seen, rtol=1e-8, atol=1e-10)


@SHAPES
def test_components_are_orthonormal_and_sorted(shape):
    found = principal_components(table(shape), 4, weights(shape[0]))
    assert_allclose(found.components @ found.components.T, np.eye(4), atol=1e-12)
    assert (np.diff(found.variances) <= 0).all()
    assert found.noise_variance <= found.variances[-1]


@given(seed=st.integers(0, 1000), n_components=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_no_other_directions_hold_more_variance(seed, n_components):
    X, weight = table((40, 5), seed), weights(40, seed)
    found = principal_components(X, n_components, weight)
    rng = np.random.default_rng(seed)
    rival, _ = np.linalg.qr(rng.normal(size=(5, n_components)))
    covariance = np.cov(X.T, aweights=weight)
    held = np.trace(rival.T @ covariance @ rival)
    assert held <= found.variances.sum() * (1 + 1e-12)


@pytest.mark.parametrize("shape", [TALL, SQUARE], ids=str)
def test_variances_share_out_the_total_variance(shape):
    found = principal_components(table(shape), 2)
    discarded = (shape[1] - 2) * found.noise_variance
    assert_allclose(found.variances.sum() + discarded, (found.column_scales**2).sum())


@SHAPES
def test_column_scales_are_standard_deviations(shape):
    X = table(shape)
    assert_allclose(principal_components(X, 2).column_scales, X.std(axis=0, ddof=1))


@SHAPES
def test_a_shift_moves_the_mean_alone_and_a_factor_the_scales(shape):
    X = table(shape)
    found, moved = principal_components(X, 2), principal_components(7 * X + 5, 2)
    assert_allclose(moved.mean, 7 * found.mean + 5)
    assert_allclose(moved.components, found.components, atol=1e-9)
    assert_allclose(moved.variances, 49 * found.variances)
    assert_allclose(moved.noise_variance, 49 * found.noise_variance)


@SHAPES
def test_the_order_of_the_rows_does_not_matter(shape):
    X, weight = table(shape), weights(shape[0])
    order = np.random.default_rng(3).permutation(len(X))
    found = principal_components(X[order], 2, weight[order])
    assert_same(found, principal_components(X, 2, weight), rtol=1e-8, atol=1e-11)


# ---------------------------------------------------------------- ranks, precision


@SHAPES
def test_components_beyond_the_table_are_zero(shape):
    directions = min(shape)
    found = principal_components(table(shape), directions + 3)
    full = principal_components(table(shape), directions)
    assert_array_equal(found.components[:directions], full.components)
    assert_array_equal(found.variances[:directions], full.variances)
    assert not found.components[directions:].any()
    assert not found.variances[directions:].any()
    assert found.noise_variance == 0


@pytest.mark.parametrize("shape", [(120, 5), (12, 5)], ids=str)
def test_a_table_of_low_rank_has_no_noise(shape):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(shape[0], 2)) @ rng.normal(size=(2, shape[1]))
    found = principal_components(X, 2)
    centred = X - found.mean
    projected = centred @ found.components.T @ found.components
    assert_allclose(projected, centred, atol=1e-12)
    assert 0 <= found.noise_variance < 1e-14


def test_noise_far_below_the_signal_keeps_its_digits():
    rng = np.random.default_rng(0)
    X = rng.normal(size=SQUARE) * [1e5, 1e5, 1e-5, 1e-5, 1e-5, 1e-5]
    found = principal_components(X, 2).noise_variance
    centred = X - X.mean(axis=0)
    basis, _ = np.linalg.qr(centred[:, :2])
    rest = centred[:, 2:] - basis @ (basis.T @ centred[:, 2:])
    assert_allclose(found, (rest**2).sum() / 19 / 4, rtol=1e-4)


@pytest.mark.parametrize("n_samples", [2, 50])
def test_a_constant_table_has_no_variance(n_samples):
    found = principal_components(np.full((n_samples, 3), 2.5), 2)
    assert_array_equal(found.mean, 2.5)
    assert_array_equal(found.variances, 0)
    assert_array_equal(found.column_scales, 0)
    assert found.noise_variance == 0


@SHAPES
def test_float32_tables_are_computed_in_double(shape):
    X = table(shape).astype(np.float32)
    found = principal_components(X, 2)
    assert found.components.dtype == found.mean.dtype == np.float64
    assert_same(found, principal_components(X.astype(np.float64), 2), rtol=1e-12)


@SHAPES
def test_the_table_is_left_as_it_was(shape):
    X, weight = table(shape), weights(shape[0])
    X.flags.writeable = weight.flags.writeable = False
    before = X.copy(), weight.copy()
    principal_components(X, 2, weight)
    assert_array_equal(X, before[0])
    assert_array_equal(weight, before[1])


def test_a_far_mean_costs_no_digits():
    X = table(TALL)
    near, far = principal_components(X, 2), principal_components(X + 2.0**20, 2)
    assert_allclose(far.variances, near.variances, rtol=1e-8)
    assert_allclose(far.noise_variance, near.noise_variance, rtol=1e-8)


@SHAPES
def test_chunks_of_rows_change_nothing(shape, monkeypatch):
    X, weight = table(shape), weights(shape[0])
    whole = principal_components(X, 2, weight)
    monkeypatch.setattr("skae.model._pca.CHUNK_ROWS", 7)
    chunked = principal_components(X, 2, weight)
    assert_same(chunked, whole, rtol=1e-9, atol=1e-11)


@SHAPES
def test_the_way_of_large_tables_gives_the_same(shape, monkeypatch):
    X, weight = table(shape), weights(shape[0])
    full = principal_components(X, 3, weight)
    monkeypatch.setattr("skae.model._pca.LARGEST_SVD", 2)
    partial = principal_components(X, 3, weight)
    assert_same(partial, full, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("n_kept", [1, 3])
def test_products_of_a_covariance_tell_its_leading_directions(n_kept):
    X = table(TALL)
    covariance = covariance_of(X, X.mean(axis=0))
    expected, variances = leading_directions(covariance, n_kept)
    size = len(covariance)
    found = directions_of_product(lambda v: covariance @ v, size, n_kept)
    assert_allclose(found[0], expected[:n_kept], atol=1e-7)
    assert_allclose(found[1], variances[:n_kept], rtol=1e-9)


def test_products_without_any_variance_have_some_directions():
    directions, variances = directions_of_product(lambda v: 0 * v, 9, 2)
    assert_allclose(directions @ directions.T, np.eye(2), atol=1e-12)
    assert_array_equal(variances, 0)


def test_products_of_deviations_are_the_covariance():
    X, weight = table(TALL), weights(len(table(TALL)))
    for some in (None, weight):
        mean = np.average(X, axis=0, weights=some)
        rows = deviations_of(X, mean, some)
        assert_allclose(rows.T @ rows, covariance_of(X, mean, some), atol=1e-12)


def test_large_tables_too_get_components_beyond_their_columns(monkeypatch):
    monkeypatch.setattr("skae.model._pca.LARGEST_SVD", 2)
    found = principal_components(table(TALL), 7)
    full = PCA(5, svd_solver="full").fit(table(TALL))
    assert_allclose(found.components[:5], full.components_, atol=1e-10)
    assert not found.components[5:].any()


# ------------------------------------------------------------------------ scales


def test_code_scales_are_the_deviations_along_the_components():
    found = principal_components(table(TALL), 3)
    codes = (table(TALL) - found.mean) @ found.components.T
    assert_allclose(found.code_scales(), codes.std(axis=0, ddof=1))


def test_code_scales_are_typical_where_there_is_no_variance():
    found = principal_components(table(TALL), 7)
    typical = np.sqrt(np.mean(found.column_scales**2))
    assert_allclose(found.code_scales()[:5], np.sqrt(found.variances[:5]))
    assert_allclose(found.code_scales()[5:], typical)


@SHAPES
def test_moments_of_parts_give_the_components_of_the_whole(shape):
    X = table(shape) + 1e3
    cuts = np.array_split(X, 3)
    whole = principal_components(X, 3)
    for parts in (cuts, cuts[::-1]):
        first, *others = map(Moments.of, parts)
        for other in others:
            first = first.merge(other)
        found = first.principal_components(3)
        assert_allclose(found.mean, whole.mean)
        assert_allclose(found.components, whole.components, atol=1e-7)
        assert_allclose(found.variances, whole.variances, rtol=1e-7)
        assert_allclose(found.noise_variance, whole.noise_variance, rtol=1e-6)
        assert_allclose(found.column_scales, whole.column_scales)


def test_a_sparse_matrix_has_the_components_of_the_dense_one():
    rng = np.random.default_rng(0)
    X = np.where(rng.random((60, 12)) < 0.3, rng.normal(size=(60, 12)) + 2, 0.0)
    centre = np.arange(12.0)
    found = principal_components_of_sparse(sparse.csr_array(X), centre, 3)
    dense = principal_components(X - centre, 3)
    assert_allclose(found.mean, dense.mean)
    assert_allclose(found.components, dense.components, atol=1e-8)
    assert_allclose(found.variances, dense.variances)
    assert_allclose(found.noise_variance, dense.noise_variance)
    assert_allclose(found.column_scales, dense.column_scales)
