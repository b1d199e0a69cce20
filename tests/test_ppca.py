"""Probabilistic PCA of rows with and without holes, against the normal that it is."""

from __future__ import annotations

import numpy as np
import pytest
from columns import weights
from correlated import N_CODES, N_COLUMNS, SHAPES, TALL, holes, model_of, table
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.decomposition import PCA

from skae.model._pca import principal_components

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

PATTERNS = st.integers(1, 12).flatmap(lambda n: arrays(bool, (n, N_COLUMNS)))


def ppca_of_five(n_components=N_CODES):
    return principal_components(table((60, N_COLUMNS)), n_components).probabilistic()


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
    monkeypatch.setattr("skae.model._ppca.LARGEST_STACK", stack)
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
    monkeypatch.setattr("skae.model._ppca.CHUNK_ROWS", 7)
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


def test_filled_rows_by_chunks_are_those_of_all(monkeypatch):
    ppca, shape = ppca_of_five(), (30, N_COLUMNS)
    X, seen = table(shape, seed=1).astype(np.float32), holes(shape)
    known = ppca.given(X, seen)
    monkeypatch.setattr("skae.model._ppca.LARGEST_STACK", 40)
    filled, variances = ppca.filled(X, seen)
    assert filled.dtype == np.float32
    assert_array_equal(filled[seen], X[seen])
    assert_allclose(filled, known.filled, rtol=1e-6)
    assert_allclose(variances, known.variances, atol=1e-12)
