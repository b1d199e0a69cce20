"""The variational autoencoder: its start, its bound, its density, its samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from settings import curved_table
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_iris,
    load_wine,
)
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import VAETransformer

X = curved_table()
QUICK = {"hidden_layer_sizes": (32,), "random_state": 0}


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    n_columns=st.integers(2, 10),
    width=st.integers(1, 9),
    exponent=st.integers(-5, 5),
    seed=st.integers(0, 10_000),
)
def test_the_start_scores_as_probabilistic_pca(n_columns, width, exponent, seed):
    rng = np.random.default_rng(seed)
    width = min(width, n_columns - 1)
    mixing = rng.normal(size=(n_columns, n_columns))
    table = rng.normal(size=(60, n_columns)) @ mixing * 10.0**exponent
    scaler = StandardScaler().fit(table)
    pca = PCA(width).fit(scaler.transform(table))
    jacobian = -np.log(scaler.scale_).sum()
    fitted = VAETransformer(width, max_iter=0).fit(table)
    expected = pca.score_samples(scaler.transform(table)) + jacobian
    np.testing.assert_allclose(fitted.score_samples(table), expected, rtol=1e-6)


@pytest.mark.parametrize("width", [1, 3, 5])
def test_without_scaling_the_start_scores_as_pca_of_the_raw_table(width):
    fitted = VAETransformer(width, max_iter=0, scaling=None).fit(X)
    assert fitted.score(X) == pytest.approx(PCA(width).fit(X).score(X), rel=1e-6)


def test_the_start_is_exact_whatever_the_number_of_points():
    fitted = VAETransformer(2, max_iter=0).fit(X)
    one = fitted.score_samples(X, n_importance_samples=1)
    np.testing.assert_allclose(
        one, fitted.score_samples(X, n_importance_samples=64), rtol=1e-9
    )


def test_a_mixture_prior_starts_within_a_thousandth_of_a_nat():
    plain = VAETransformer(2, max_iter=0).fit(X)
    mixture = VAETransformer(2, max_iter=0, prior="mixture").fit(X)
    assert mixture.score(X) == pytest.approx(plain.score(X), abs=1e-3)


@pytest.mark.parametrize(
    "load",
    [load_breast_cancer, load_diabetes, load_iris, load_wine],
    ids=lambda load: load.__name__,
)
def test_held_out_rows_are_never_less_likely_than_by_pca(load):
    rng = np.random.default_rng(0)
    train, test = train_test_split(load().data, test_size=0.3, random_state=0)
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    train, test = (part + 0.1 * rng.normal(size=part.shape) for part in (train, test))
    width = max(1, train.shape[1] // 3)
    fitted = VAETransformer(width, max_iter=150, random_state=0).fit(train)
    assert fitted.score(test) >= PCA(width).fit(train).score(test) - 0.05


def test_a_curved_density_is_learned():
    test = curved_table(seed=1)
    start = VAETransformer(2, max_iter=0).fit(X).score(test)
    assert VAETransformer(2, random_state=0).fit(X).score(test) > start + 1.5


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"prior": "mixture", "n_prior_components": 3},
        {"likelihood": "laplace"},
        {"linear_path": False},
    ],
)
def test_the_density_integrates_to_one(parameters):
    rng = np.random.default_rng(0)
    u = rng.normal(size=400)
    table = np.c_[u, u**2 + 0.5 * rng.normal(size=400)]
    fitted = VAETransformer(
        1, max_iter=60, early_stopping=False, **parameters, **QUICK
    ).fit(table)
    sides = [np.linspace(c.min() - 5, c.max() + 5, 151) for c in table.T]
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    cell = np.prod([side[1] - side[0] for side in sides])
    log_density = fitted.score_samples(grid, n_importance_samples=512)
    assert np.exp(log_density).sum() * cell == pytest.approx(1.0, abs=0.03)


def test_the_estimate_rises_with_the_points_and_settles():
    fitted = VAETransformer(2, max_iter=200, **QUICK).fit(X)
    means = [
        fitted.score_samples(X, n_importance_samples=n).mean() for n in (1, 8, 64, 1024)
    ]
    assert means[0] < means[1] < means[2] + 0.01
    assert means[3] == pytest.approx(means[2], abs=0.05)


def test_a_row_scores_the_same_in_any_company():
    fitted = VAETransformer(2, max_iter=20, **QUICK).fit(X)
    together = fitted.score_samples(X)
    alone = [fitted.score_samples(row[None])[0] for row in X[:20]]
    np.testing.assert_allclose(alone, together[:20], rtol=1e-9)
    np.testing.assert_allclose(fitted.score_samples(X[::-1])[::-1], together, rtol=1e-9)


def test_score_is_the_mean_of_score_samples():
    fitted = VAETransformer(2, max_iter=5, **QUICK).fit(X)
    assert fitted.score(X) == pytest.approx(fitted.score_samples(X).mean(), rel=1e-12)


def test_other_units_shift_the_score_by_the_jacobian():
    factors = np.array([2.0**-10, 1, 4, 2.0**20, 8])
    fitted = VAETransformer(2, max_iter=20, **QUICK).fit(X)
    other = VAETransformer(2, max_iter=20, **QUICK).fit(X * factors)
    np.testing.assert_allclose(
        other.score_samples(X * factors),
        fitted.score_samples(X) - np.log(factors).sum(),
        rtol=1e-6,
    )


def test_no_row_falls_far_below_probabilistic_pca():
    outliers = X.mean(axis=0) + X.std(axis=0) * np.array([[5], [50], [1000]])
    fitted = VAETransformer(2, max_iter=300, **QUICK).fit(X)
    start = VAETransformer(2, max_iter=0).fit(X)
    assert fitted.best_iter_ > 0
    floor = start.score_samples(outliers) + np.log(0.01)
    assert (fitted.score_samples(outliers) >= floor - 1e-6 * np.abs(floor)).all()


def test_one_wild_row_does_not_spoil_the_density_of_the_others():
    table, test = X.copy(), curved_table(seed=1)
    table[0] = X.mean(axis=0) + 20 * X.std(axis=0)
    fitted = VAETransformer(2, random_state=0).fit(table)
    assert fitted.score(test) > VAETransformer(2, max_iter=0).fit(X).score(test)


def test_the_divergence_of_each_component_is_told():
    fitted = VAETransformer(6, max_iter=100, **QUICK).fit(X)
    assert fitted.kl_per_component_.shape == (6,)
    assert (fitted.kl_per_component_ >= 0).all()
    assert fitted.active_units_ == (fitted.kl_per_component_ > 0.01).sum()


def test_a_table_of_low_rank_leaves_components_inactive():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(300, 1)) @ np.ones((1, 6)) + 0.5 * rng.normal(
        size=(300, 6)
    )
    fitted = VAETransformer(5, beta=3.0, max_iter=200, **QUICK).fit(table)
    assert fitted.active_units_ < 5


def test_a_larger_beta_tells_less_and_free_bits_tell_more():
    common = {"max_iter": 150, "early_stopping": False, **QUICK}
    plain = VAETransformer(3, **common).fit(X).kl_per_component_.sum()
    heavy = VAETransformer(3, beta=10.0, **common).fit(X).kl_per_component_.sum()
    freed = VAETransformer(3, beta=10.0, free_bits=1.0, **common).fit(X)
    assert heavy < plain
    assert freed.kl_per_component_.sum() > heavy


def test_beta_zero_reconstructs_best():
    def error(beta):
        fitted = VAETransformer(2, beta=beta, max_iter=150, **QUICK).fit(X)
        back = fitted.inverse_transform(fitted.transform(X))
        return np.square((back - X) / X.std(axis=0)).mean()

    assert error(0.0) < error(20.0)


def test_a_mixture_prior_finds_clusters_of_codes():
    rng = np.random.default_rng(0)
    centres = np.array([[-5.0, 0, 0], [5.0, 0, 0], [0, 8.0, 0]])
    train, test = centres[rng.integers(0, 3, size=(2, 500))] + 0.3 * rng.normal(
        size=(2, 500, 3)
    )
    normal = VAETransformer(2, random_state=0).fit(train).score(test)
    mixture = VAETransformer(2, prior="mixture", random_state=0).fit(train)
    assert mixture.score(test) > normal
    drawn = mixture.sample(2000, random_state=0)
    nearest = np.linalg.norm(drawn[:, None] - centres, axis=2).min(axis=1)
    assert np.mean(nearest < 2) > 0.8


@pytest.mark.parametrize("n_particles", [1, 5])
def test_particles_bound_the_same_likelihood(n_particles):
    fitted = VAETransformer(2, n_particles=n_particles, max_iter=100, **QUICK).fit(X)
    assert fitted.best_loss_ < fitted.start_loss_


def test_kl_warmup_ends_at_beta():
    fitted = VAETransformer(2, kl_warmup=20, max_iter=60, **QUICK).fit(X)
    assert fitted.best_loss_ < fitted.start_loss_
    assert fitted.loss_curve_[0] < fitted.start_loss_


def test_the_code_is_the_posterior_mean():
    fitted = VAETransformer(2, max_iter=0).fit(X)
    scaled = StandardScaler().fit_transform(X)
    pca = PCA(2).fit(scaled)
    variances, noise = pca.explained_variance_, pca.noise_variance_
    expected = pca.transform(scaled) * np.sqrt(variances - noise) / variances
    np.testing.assert_allclose(fitted.transform(X), expected, atol=1e-8)


def test_bernoulli_rows_have_a_mass_that_sums_to_one():
    rng = np.random.default_rng(0)
    hidden = rng.integers(0, 2, size=300)
    binary = np.c_[hidden, hidden, rng.integers(0, 2, size=300)].astype(float)
    fitted = VAETransformer(1, likelihood="bernoulli", max_iter=100, **QUICK).fit(
        binary
    )
    every = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T.astype(float)
    mass = np.exp(fitted.score_samples(every, n_importance_samples=512))
    assert mass.sum() == pytest.approx(1.0, abs=0.02)
    assert set(np.unique(fitted.sample(40, random_state=0))) == {0.0, 1.0}


def test_samples_have_the_moments_of_the_table():
    fitted = VAETransformer(2, random_state=0).fit(X)
    drawn = fitted.sample(20_000, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), X.mean(axis=0), atol=0.3 * X.std())
    np.testing.assert_allclose(drawn.std(axis=0), X.std(axis=0), rtol=0.25)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(X.T), atol=0.2)


def test_samples_are_as_likely_as_rows():
    fitted = VAETransformer(2, random_state=0).fit(X)
    test = curved_table(seed=1)
    drawn = fitted.sample(2000, random_state=0)
    assert fitted.score(drawn) == pytest.approx(fitted.score(test), abs=1.0)


def test_constant_columns_do_not_run_away_with_the_likelihood():
    table = np.c_[X, np.full(len(X), 3.0)]
    fitted = VAETransformer(2, max_iter=200, early_stopping=False, **QUICK).fit(table)
    start = VAETransformer(2, max_iter=0).fit(table)
    without = VAETransformer(2, max_iter=200, early_stopping=False, **QUICK).fit(X)
    gain = fitted.score(table) - start.score(table)
    gain_without = without.score(X) - VAETransformer(2, max_iter=0).fit(X).score(X)
    assert gain == pytest.approx(gain_without, abs=1.5)


def test_a_score_needs_a_point():
    with pytest.raises(ValueError, match="n_importance_samples=0"):
        VAETransformer(max_iter=0).fit(X).score_samples(X, n_importance_samples=0)
