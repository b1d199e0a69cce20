"""The linear denoiser against reduced-rank regression, ridge and corrupted copies."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Ridge

from skae._schema import KINDS, Block, Encoded
from skae.model import _denoiser
from skae.model._denoiser import Corruption, Denoiser, linear_model, noise_scales
from skae.model._pca import covariance_of, principal_components
from skae.network._design import Design

N_COLUMNS = 5
NOISES = np.array([0.3, 0.0, 1.0, 0.2, 2.0])
CORRUPTIONS = {
    "noise": (NOISES, 0.0),
    "masks": (0 * NOISES, 0.3),
    "both": (NOISES, 0.5),
}
ALL = pytest.mark.parametrize("name", CORRUPTIONS)


def table(n_rows=60, seed=0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(N_COLUMNS, N_COLUMNS))
    return rng.normal(size=(n_rows, N_COLUMNS)) @ mixing + 3


def corruption(name, widths=(1, 2, 1, 1)):
    return Corruption(*CORRUPTIONS[name], widths)


def denoiser(name, n_components=2, X=None, weight=None):
    X = table() if X is None else X
    linear = principal_components(X, n_components, weight)
    return Denoiser.of(linear, corruption(name), X, None, weight)


def risk(made, encoder, decoder, X):
    """Mean squared error of ``decoder.T @ encoder`` on corrupted rows."""
    clean = covariance_of(X, X.mean(axis=0))
    both, spoiled = made.corruption.covariances(clean)
    whole = decoder.T @ encoder
    return np.trace(clean - 2 * whole @ both.T + whole @ spoiled @ whole.T)


@ALL
def test_covariances_are_those_of_corrupted_copies(name):
    rng = np.random.default_rng(0)
    spoils, n = corruption(name), 400_000
    factor = np.linalg.cholesky(covariance_of(table(), table().mean(axis=0)))
    rows = rng.normal(size=(n, N_COLUMNS)) @ factor.T
    copies = rows + spoils.noise * rng.normal(size=rows.shape)
    masks = rng.uniform(size=(n, len(spoils.widths))) < spoils.masking
    copies[np.repeat(masks, spoils.widths, axis=1)] = 0.0
    both, spoiled = spoils.covariances(factor @ factor.T)
    tolerance = 0.02 * np.abs(both).max()
    assert_allclose(rows.T @ copies / n, both, atol=tolerance)
    assert_allclose(copies.T @ copies / n, spoiled, atol=tolerance)


@ALL
@pytest.mark.parametrize("n_components", [1, 2, 4])
def test_no_map_of_that_rank_denoises_better(name, n_components):
    X, made = table(), denoiser(name, n_components)
    rng = np.random.default_rng(1)
    least = risk(made, made.encoder, made.decoder, X)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(20):
            moved = [
                part + size * rng.normal(size=part.shape)
                for part in (made.encoder, made.decoder)
            ]
            assert risk(made, *moved, X) > least
    components = principal_components(X, n_components).components
    assert risk(made, components, components, X) > least


@ALL
def test_of_full_rank_it_is_wieners_filter(name):
    X, made = table(), denoiser(name, N_COLUMNS)
    both, spoiled = made.corruption.covariances(covariance_of(X, X.mean(axis=0)))
    wiener = np.linalg.solve(spoiled, both).T
    assert_allclose(made.decoder.T @ made.encoder, wiener, atol=1e-6)


def test_noise_that_all_columns_share_makes_it_ridge_regression():
    X, noise = table(), 0.7
    linear = principal_components(X, N_COLUMNS)
    spoils = Corruption(np.full(N_COLUMNS, noise), 0.0, (1,) * N_COLUMNS)
    made = Denoiser.of(linear, spoils, X, None, None)
    ridge = Ridge(alpha=noise**2 * (len(X) - 1)).fit(X, X)
    assert_allclose(made.decoder.T @ made.encoder, ridge.coef_, atol=1e-6)
    assert_allclose(made.decoder, linear.components, atol=1e-6)
    expected = linear.variances**2 / (linear.variances + noise**2)
    assert_allclose(made.code_variances, expected, rtol=1e-6)


@ALL
def test_scales_are_the_deviations_of_corrupted_rows_and_of_their_codes(name):
    X, made = table(), denoiser(name)
    _, spoiled = made.corruption.covariances(covariance_of(X, X.mean(axis=0)))
    assert_allclose(made.input_scales**2, spoiled.diagonal())
    codes = made.projection @ spoiled @ made.projection.T
    assert_allclose(codes, np.diag(made.code_scales() ** 2), atol=1e-6)
    largest = np.abs((X - X.mean(axis=0)) @ made.projection.T).max(axis=0)
    assert_allclose(made.reach, largest / made.code_scales())


@ALL
def test_whole_weights_are_repeated_rows(name):
    weight = np.random.default_rng(0).integers(1, 4, size=60)
    weighted = denoiser(name, weight=weight.astype(float))
    repeated = denoiser(name, X=np.repeat(table(), weight, axis=0))
    for part in ("encoder", "decoder", "code_variances", "reach"):
        assert_allclose(getattr(weighted, part), getattr(repeated, part), atol=1e-8)


def test_the_same_of_other_rows_is_that_of_these_alone():
    other = table(40, seed=5)
    made = denoiser("both").of_rows(other, None)
    expected = denoiser("both", X=other)
    for part in ("mean", "components", "encoder", "decoder", "input_scales"):
        assert_array_equal(getattr(made, part), getattr(expected, part))


def test_constant_columns_and_too_many_components_have_no_part():
    X = table()
    X[:, 4] = 2.0
    for name in CORRUPTIONS:
        made = denoiser(name, 7, X)
        assert made.encoder.shape == made.decoder.shape == (7, N_COLUMNS)
        assert not made.encoder[N_COLUMNS:].any()
        assert made.input_scales[4] == 0
        assert_allclose(made.encoder[:, 4], 0, atol=1e-8)
        assert np.isfinite(made.reach).all()


WIDE = (1, 2, 1, 3) + (1,) * 23  # columns of each feature


def wide(n_rows=12, seed=0):
    """Return fewer rows than columns, and their corruptions."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 4)) @ rng.normal(size=(4, 30)) + 3
    X += 0.3 * rng.normal(size=X.shape)
    X[:, 3] = -2 * X[:, 1]  # within one cell, where masks hide both
    X[:, 9] = 1.0
    noises = rng.uniform(0, 1, 30)
    return X, {
        "noise": Corruption(noises, 0.0, WIDE),
        "masks": Corruption(0 * noises, 0.3, WIDE),
        "both": Corruption(noises, 0.5, WIDE),
    }


@ALL
@pytest.mark.parametrize("n_components", [1, 4, 9])
@pytest.mark.parametrize("weighted", [False, True])
def test_few_rows_tell_what_their_covariance_does(name, n_components, weighted):
    X, corruptions = wide()
    weight = np.random.default_rng(1).uniform(size=len(X)) if weighted else None
    linear = principal_components(X, n_components, weight)
    made = Denoiser.of(linear, corruptions[name], X, None, weight)
    clean = covariance_of(X, linear.mean, weight)
    found = _denoiser._by_columns(clean, corruptions[name], n_components)
    spoiled, variances, decoder, encoder = found
    scales = np.sqrt(spoiled) * (linear.column_scales > 0)
    assert_allclose(made.spoiled_scales, scales, atol=1e-12)
    assert_allclose(made.code_variances, variances, rtol=1e-6)
    assert_allclose(made.decoder, decoder, atol=1e-6)
    assert_allclose(made.encoder, encoder, atol=1e-6)


@ALL
@pytest.mark.parametrize("n_rows", [25, 60])
def test_directions_of_large_tables_are_those_of_their_matrices(
    name, n_rows, monkeypatch
):
    X, corruptions = wide(n_rows)
    linear = principal_components(X, 2)
    expected = Denoiser.of(linear, corruptions[name], X, None, None)
    monkeypatch.setattr("skae.model._pca.LARGEST_PRODUCTS", 0)
    found = Denoiser.of(linear, corruptions[name], X, None, None)
    for part in ("encoder", "decoder", "code_variances", "spoiled_scales", "reach"):
        assert_allclose(getattr(found, part), getattr(expected, part), atol=1e-7)


def test_fewer_rows_than_components_leave_the_rest_of_the_code_empty():
    X, corruptions = wide(3)
    made = Denoiser.of(principal_components(X, 5), corruptions["both"], X, None, None)
    assert not made.encoder[3:].any()
    assert_allclose(made.decoder[:3] @ made.decoder[:3].T, np.eye(3), atol=1e-9)
    assert made.code_variances[1] > 1e-3
    assert_allclose(made.code_variances[2:], 0, atol=1e-9)


def design(n_components=2):
    number = Block(KINDS["squared_error"], (1, 1))
    levels = Block(KINDS["categorical"], (3,), np.full(3, 1 / 3), np.ones(3))
    return Design((number, levels), n_components, (4,), "silu", 0.0, linear_path=True)


def test_noise_is_in_units_of_the_matrix_and_in_deviations_of_indicators():
    deviations = np.array([1.0, 5.0, 0.5, 0.4, 0.3])
    found = noise_scales(0.2, deviations, 2)
    assert_allclose(found, [0.2, 0.2, 0.1, 0.08, 0.06])


def test_without_a_corruption_the_linear_model_is_pca():
    encoded = Encoded(table(), (1, 1, 3))
    plain = linear_model(encoded, design(), 0.0, 0.0)
    assert not isinstance(plain, Denoiser)
    assert_array_equal(plain.projection, principal_components(table(), 2).components)
    nearly = linear_model(encoded, design(), 1e-6, 0.0)
    assert_allclose(nearly.projection, plain.projection, atol=1e-6)
    assert_allclose(nearly.directions, plain.directions, atol=1e-6)


def test_rows_with_holes_are_denoised_by_what_their_pca_says():
    X, seen = table(300), np.ones((300, 3), dtype=bool)
    seen[::3, 0], seen[1::3, 2] = False, False
    encoded = Encoded(
        np.where(np.repeat(seen, (1, 1, 3), axis=1), X, 0), (1, 1, 3), seen
    )
    made = linear_model(encoded, design(4), 0.5, 0.1)
    whole = linear_model(Encoded(X, (1, 1, 3)), design(4), 0.5, 0.1)
    assert_allclose(
        made.decoder.T @ made.encoder, whole.decoder.T @ whole.encoder, atol=0.15
    )
