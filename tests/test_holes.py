"""PCA and probabilistic PCA, with and without holes, against their definitions."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from skae import _linear
from skae.model._holes import _em_step, principal_components_of_seen
from skae.model._pca import principal_components
from skae.model._ppca import ProbabilisticPCA

TALL, SQUARE, WIDE = (120, 5), (20, 6), (6, 9)  # eigenvalues, then twice an SVD
SHAPES = pytest.mark.parametrize("shape", [TALL, SQUARE, WIDE], ids=str)


def table(shape, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(shape[1], shape[1]))
    return rng.normal(size=shape) @ mixing + rng.normal(size=shape[1])


def weights(n_samples, seed=1):
    return np.random.default_rng(seed).uniform(0.1, 3, size=n_samples)


def assert_same(left, right, **tolerance):
    for name in vars(left):
        assert_allclose(
            getattr(left, name), getattr(right, name), err_msg=name, **tolerance
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


@pytest.mark.parametrize("shape", [TALL, SQUARE], ids=str)
def test_integer_weights_are_repeated_rows_up_to_the_divisor(shape):
    X = table(shape)
    weight = np.random.default_rng(2).integers(0, 4, size=shape[0]).astype(float)
    weighted = principal_components(X, 2, weight)
    repeated = principal_components(np.repeat(X, weight.astype(int), axis=0), 2)
    total = weight.sum()
    ratio = (total - 1) / (total - (weight**2).sum() / total)
    assert_allclose(weighted.mean, repeated.mean)
    assert_allclose(weighted.components, repeated.components, atol=1e-10)
    assert_allclose(weighted.variances, ratio * repeated.variances)
    assert_allclose(weighted.noise_variance, ratio * repeated.noise_variance)
    assert_allclose(weighted.column_scales, np.sqrt(ratio) * repeated.column_scales)


@SHAPES
def test_only_the_ratios_of_weights_matter(shape):
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
    monkeypatch.setattr(_linear, "CHUNK_ROWS", 7)
    chunked = principal_components(X, 2, weight)
    assert_same(chunked, whole, rtol=1e-9, atol=1e-11)


@SHAPES
def test_the_way_of_large_tables_gives_the_same(shape, monkeypatch):
    X, weight = table(shape), weights(shape[0])
    full = principal_components(X, 3, weight)
    monkeypatch.setattr(_linear, "LARGEST_SVD", 2)
    partial = principal_components(X, 3, weight)
    assert_same(partial, full, rtol=1e-8, atol=1e-10)


def test_large_tables_too_get_components_beyond_their_columns(monkeypatch):
    monkeypatch.setattr(_linear, "LARGEST_SVD", 2)
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


# ------------------------------------------------------------- probabilistic PCA


@SHAPES
def test_the_model_has_the_covariance_of_sklearns_probabilistic_pca(shape):
    X = table(shape)
    ppca = principal_components(X, 3).probabilistic()
    model = ppca.loadings @ ppca.loadings.T + ppca.noise_variance * np.eye(shape[1])
    expected = PCA(3, svd_solver="full").fit(X).get_covariance()
    assert_allclose(model, expected, atol=1e-10)


@SHAPES
def test_the_posterior_follows_from_bayes_rule(shape):
    ppca = principal_components(table(shape), 3, weights(shape[0])).probabilistic()
    W, noise = ppca.loadings, ppca.noise_variance
    M = W.T @ W + noise * np.eye(3)
    assert_allclose(ppca.projection, np.linalg.solve(M, W.T), atol=1e-12)
    assert_allclose(np.diag(ppca.variances), noise * np.linalg.inv(M), atol=1e-12)


@SHAPES
def test_the_total_variance_of_the_posterior_is_that_of_the_prior(shape):
    ppca = principal_components(table(shape), 3).probabilistic()
    covariance = ppca.loadings @ ppca.loadings.T
    covariance += ppca.noise_variance * np.eye(shape[1])
    of_means = ppca.projection @ covariance @ ppca.projection.T
    assert_allclose(of_means + np.diag(ppca.variances), np.eye(3), atol=1e-12)


def test_components_without_variance_keep_the_prior():
    ppca = principal_components(table(TALL), 7).probabilistic()
    assert not ppca.loadings[:, 5:].any()
    assert not ppca.projection[5:].any()
    assert_array_equal(ppca.variances[5:], 1)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_the_noise_of_an_exact_table_is_small_but_not_zero(factor):
    X = factor * table(TALL)
    ppca = principal_components(X, 5).probabilistic()
    assert 0 < ppca.noise_variance <= 1e-11 * X.var()
    covariance = ppca.loadings @ ppca.loadings.T
    assert_allclose(covariance, np.cov(X.T), rtol=1e-6, atol=1e-9 * factor**2)


def test_a_constant_table_has_a_posterior():
    ppca = principal_components(np.full((5, 3), 2.5), 2).probabilistic()
    assert ppca.noise_variance > 0
    assert_array_equal(ppca.loadings, 0)
    assert_array_equal(ppca.variances, 1)


def model_of(ppca):
    """Return the multivariate normal that probabilistic PCA is."""
    covariance = ppca.loadings @ ppca.loadings.T
    covariance += ppca.noise_variance * np.eye(len(ppca.mean))
    return stats.multivariate_normal(ppca.mean, covariance)


@pytest.mark.parametrize("shape", [(40, 5), (200, 5), (5, 8)], ids=str)
@pytest.mark.parametrize("n_components", [1, 3])
def test_the_density_is_that_of_sklearns(shape, n_components):
    X, X_new = table(shape), 2 * table(shape, seed=1)
    ppca = principal_components(X, n_components).probabilistic()
    pca = PCA(n_components, svd_solver="full").fit(X)
    for rows in (X, X_new):
        found = ppca.log_density(rows, np.ones(shape, dtype=bool))
        assert_allclose(found, pca.score_samples(rows))


def test_as_many_components_as_columns_give_the_full_covariance():
    X = table((40, 5))
    ppca = principal_components(X, 5).probabilistic()
    expected = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T)).logpdf(X)
    found = ppca.log_density(X, np.ones(X.shape, dtype=bool))
    assert_allclose(found, expected, rtol=1e-6)


# --------------------------------------------------- probabilistic PCA of seen cells

N_COLUMNS, N_CODES = 5, 2
PATTERNS = st.integers(1, 12).flatmap(lambda n: arrays(bool, (n, N_COLUMNS)))


def ppca_of_five(n_components=N_CODES):
    return principal_components(table((60, N_COLUMNS)), n_components).probabilistic()


def holes(shape, share=0.3, seed=5):
    """Return which cells are seen where holes fall at random."""
    return np.random.default_rng(seed).uniform(size=shape) >= share


def marginal_log_density(ppca, x, seen):
    if not seen.any():
        return 0.0
    whole = model_of(ppca)
    part = stats.multivariate_normal(whole.mean[seen], whole.cov[np.ix_(seen, seen)])
    return part.logpdf(x[seen])


@given(seen=PATTERNS, n_components=st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_the_density_of_seen_cells_is_their_marginal_normal(seen, n_components):
    n_codes = min(n_components, N_COLUMNS - 1)
    ppca = ppca_of_five(n_codes)
    X = 2 * table(seen.shape, seed=1)
    expected = [marginal_log_density(ppca, *row) for row in zip(X, seen, strict=True)]
    assert_allclose(ppca.given(X, seen).log_density, expected, atol=1e-9)
    assert_array_equal(ppca.log_density(X, seen), ppca.given(X, seen).log_density)
    assert (ppca.log_density(X, seen)[~seen.any(axis=1)] == 0).all()


@given(seen=PATTERNS)
@settings(max_examples=60, deadline=None)
def test_missing_cells_get_their_conditional_mean(seen):
    ppca, X = ppca_of_five(), table(seen.shape, seed=1)
    model, found = model_of(ppca), ppca.given(X, seen)
    for x, filled, s in zip(X, found.filled, seen, strict=True):
        regression = model.cov[np.ix_(~s, s)] @ np.linalg.inv(model.cov[np.ix_(s, s)])
        expected = model.mean[~s] + regression @ (x[s] - model.mean[s])
        assert_allclose(filled[~s], expected, atol=1e-10)
    assert_array_equal(found.filled[seen], X[seen])


@given(seen=PATTERNS)
@settings(max_examples=60, deadline=None)
def test_codes_and_covariances_given_seen_cells_follow_from_bayes_rule(seen):
    ppca, X = ppca_of_five(), table(seen.shape, seed=1)
    found = ppca.given(X, seen)
    for i, s in enumerate(seen):
        W = ppca.loadings[s]
        M = W.T @ W + ppca.noise_variance * np.eye(N_CODES)
        codes = np.linalg.solve(M, W.T @ (X[i, s] - ppca.mean[s]))
        assert_allclose(found.codes[i], codes, atol=1e-10)
        covariance = ppca.noise_variance * np.linalg.inv(M)
        assert_allclose(found.covariances[i], covariance, atol=1e-10)
        assert_allclose(found.variances[i], covariance.diagonal(), atol=1e-10)


@given(seen=PATTERNS)
@settings(max_examples=60, deadline=None)
def test_filled_rows_project_to_the_codes_of_their_seen_cells(seen):
    ppca, X = ppca_of_five(), table(seen.shape, seed=1)
    found = ppca.given(X, seen)
    projected = (found.filled - ppca.mean) @ ppca.projection.T
    assert_allclose(projected, found.codes, atol=1e-10)


@pytest.mark.parametrize("n_components", [2, 7])
def test_whole_rows_have_the_posterior_of_whole_rows(n_components):
    ppca, X = ppca_of_five(n_components), table((9, N_COLUMNS), seed=1)
    found = ppca.given(X, np.ones(X.shape, dtype=bool))
    assert_allclose(found.codes, (X - ppca.mean) @ ppca.projection.T, atol=1e-9)
    assert_allclose(found.variances, np.tile(ppca.variances, (9, 1)))
    assert_array_equal(found.filled, X)


def test_rows_with_nothing_seen_are_the_prior():
    ppca, X = ppca_of_five(), table((3, N_COLUMNS))
    found = ppca.given(X, np.zeros(X.shape, dtype=bool))
    assert_array_equal(found.codes, 0)
    assert_array_equal(found.covariances, np.tile(np.eye(N_CODES), (3, 1, 1)))
    assert_array_equal(found.filled, np.tile(ppca.mean, (3, 1)))
    assert_array_equal(found.log_density, 0)


@given(seen=PATTERNS)
@settings(max_examples=30, deadline=None)
def test_a_hole_never_tells_more_than_the_cell_did(seen):
    ppca, X = ppca_of_five(), table(seen.shape, seed=1)
    smallest = np.linalg.eigvalsh(
        ppca.given(X, seen).covariances - np.diag(ppca.variances)
    ).min()
    assert smallest >= -1e-12


@given(seen=PATTERNS, value=st.floats(-1e6, 1e6))
@settings(max_examples=30, deadline=None)
def test_values_of_unseen_cells_do_not_matter(seen, value):
    ppca, X = ppca_of_five(), table(seen.shape, seed=1)
    found, other = (ppca.given(rows, seen) for rows in (X, np.where(seen, X, value)))
    for name in vars(found):
        assert_array_equal(getattr(found, name), getattr(other, name))


@pytest.mark.parametrize("stack", [1, 40, 10**6])
def test_order_and_company_of_rows_do_not_matter(stack, monkeypatch):
    ppca, shape = ppca_of_five(), (30, N_COLUMNS)
    X, seen = table(shape, seed=1), holes(shape)
    seen[:4] = [[True] * 5, [False] * 5, [True] * 5, [False] * 5]
    together = ppca.given(X, seen)
    monkeypatch.setattr(_linear, "LARGEST_STACK", stack)
    order = np.random.default_rng(3).permutation(len(X))
    shuffled = ppca.given(X[order], seen[order])
    for name in vars(together):
        expected = getattr(together, name)
        assert_allclose(getattr(shuffled, name), expected[order], atol=1e-11)
        for i in range(len(X)):
            alone = getattr(ppca.given(X[[i]], seen[[i]]), name)
            assert_allclose(alone[0], expected[i], atol=1e-11)
    assert_allclose(
        ppca.log_density(X[order], seen[order]), together.log_density[order]
    )


def test_one_pattern_for_all_rows_is_any_pattern(monkeypatch):
    monkeypatch.setattr(_linear, "CHUNK_ROWS", 7)
    ppca, X = ppca_of_five(), table((30, N_COLUMNS), seed=1)
    seen = np.tile([True, False, True, True, False], (30, 1))
    expected = [marginal_log_density(ppca, *row) for row in zip(X, seen, strict=True)]
    assert_allclose(ppca.log_density(X, seen), expected)


@pytest.mark.parametrize("n_components", [5, 7])
def test_densities_of_seen_cells_keep_their_digits_without_noise(n_components):
    ppca, shape = ppca_of_five(n_components), (30, N_COLUMNS)
    X, seen = table(shape, seed=1), holes(shape)
    expected = [marginal_log_density(ppca, *row) for row in zip(X, seen, strict=True)]
    assert_allclose(ppca.log_density(X, seen), expected, atol=1e-2)


@pytest.mark.parametrize("n_components", [5, 7])
def test_codes_of_seen_cells_keep_their_digits_without_noise(n_components):
    ppca, shape = ppca_of_five(n_components), (30, N_COLUMNS)
    found = ppca.given(table(shape, seed=1), holes(shape))
    projected = (found.filled - ppca.mean) @ ppca.projection.T
    assert_allclose(projected, found.codes, atol=1e-6)


# ---------------------------------------------------------------- PCA of seen cells


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
    for start in (found.probabilistic(), start_of_em(shape, 2)):
        ppca = start
        for _ in range(400):
            ppca = _em_step(ppca, X, seen, weight, 0.0)
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
    while len(steps) < 12 and steps[-1].noise_variance > 1e-6:
        steps.append(_em_step(steps[-1], X, seen, weight, 0.0))
    reached = [mean_log_density(ppca, X, seen, weight) for ppca in steps[:-1]]
    assert all(after > before - 1e-9 for before, after in pairwise(reached))


def test_a_step_of_em_takes_integer_weights_for_repeated_rows():
    shape = (40, N_COLUMNS)
    X, seen, start = table(shape), holes(shape), start_of_em(shape, 2)
    weight = np.random.default_rng(2).integers(0, 4, size=40)
    weighted = _em_step(start, X, seen, weight.astype(float), 0.0)
    again, seen_again = (np.repeat(rows, weight, axis=0) for rows in (X, seen))
    repeated = _em_step(start, again, seen_again, np.ones(len(again)), 0.0)
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
    monkeypatch.setattr(_linear, "LARGEST_STACK", 40)
    chunked = principal_components_of_seen(X, seen, 2, weight)
    assert_same(chunked, whole, rtol=1e-8, atol=1e-10)


def test_long_tables_are_learned_from_rows_evenly_spaced(monkeypatch):
    monkeypatch.setattr(_linear, "EM_ROWS", 50)
    X, seen, weight = table(TALL), holes(TALL), weights(len(table(TALL)))
    found = principal_components_of_seen(X, seen, 2, weight)
    third = principal_components_of_seen(X[::3], seen[::3], 2, weight[::3])
    assert_same(found, third, rtol=1e-12)


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
