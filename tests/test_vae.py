"""The variational autoencoder: its start, its bound, its density, its samples."""

from __future__ import annotations

import itertools
from copy import copy
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from settings import curved_table
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_iris,
    load_wine,
)
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import VAETransformer
from skae.model._evidence import NetworkDensity
from skae.model._network_stack import density_of_networks
from skae.network._objectives import EvidenceBound

X = curved_table()
QUICK = {"hidden_layer_sizes": (32,), "random_state": 0}
# Where mixtures beside the networks, and folds of few rows, are not the matter.
OF_NETWORKS = {**QUICK, "density": "networks", "validation_fraction": 0.1}
SMALL = {"hidden_layer_sizes": (8,), "random_state": 0}


def alone(fitted):
    """Leave out the densities that stand beside that of the networks."""
    fitted = copy(fitted)
    fitted._density = NetworkDensity(fitted._model)
    return fitted


@pytest.fixture(scope="module")
def trained():
    """Fit the default to the curved table, once."""
    return VAETransformer(2, random_state=0).fit(X)


@hypothesis_settings(max_examples=25, deadline=None)
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


def test_a_mixture_prior_starts_as_the_standard_normal():
    plain = VAETransformer(2, max_iter=0, prior="normal").fit(X)
    mixture = VAETransformer(2, max_iter=0, prior="mixture").fit(X)
    np.testing.assert_allclose(
        mixture.score_samples(X), plain.score_samples(X), rtol=1e-9
    )


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


def test_a_curved_density_is_learned(trained):
    test = curved_table(seed=1)
    start = VAETransformer(2, max_iter=0).fit(X).score(test)
    assert trained.score(test) > start + 4
    assert alone(trained).score(test) > start + 4


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"prior": "normal", "n_particles": 1},
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
    sides = [np.linspace(c.min() - 3, c.max() + 3, 61) for c in table.T]
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    cell = np.prod([side[1] - side[0] for side in sides])
    log_density = fitted.score_samples(grid, n_importance_samples=96)
    assert np.exp(log_density).sum() * cell == pytest.approx(1.0, abs=0.03)


def cells_between(values):
    """Return the middles and the widths of pieces between values, and far beyond."""
    values = np.unique(values[~np.isnan(values)])
    beyond = np.ptp(values) * np.linspace(0, 3, 41)[1:]
    edges = np.r_[values[0] - beyond[::-1], values, values[-1] + beyond]
    return (edges[:-1] + edges[1:]) / 2, np.diff(edges)


def test_the_density_of_normal_scores_integrates_to_one():
    rng = np.random.default_rng(0)
    u = rng.normal(size=60)
    table = np.c_[u, np.exp(u + 0.5 * rng.normal(size=60))]
    fitted = VAETransformer(1, scaling="quantile", max_iter=60, **QUICK).fit(table)
    middles, widths = zip(*map(cells_between, table.T), strict=True)
    grid = np.stack(np.meshgrid(*middles), axis=-1).reshape(-1, 2)
    log_density = fitted.score_samples(grid, n_importance_samples=64)
    areas = np.multiply.outer(widths[1], widths[0]).ravel()
    assert np.exp(log_density) @ areas == pytest.approx(1.0, abs=0.03)


def test_the_estimate_rises_with_the_points_and_settles():
    fitted = alone(VAETransformer(2, max_iter=100, legibility=0, **OF_NETWORKS).fit(X))
    one, some, more, most = (
        fitted.score_samples(X, n_importance_samples=n).mean() for n in (1, 8, 64, 1024)
    )
    assert one < some - 0.1
    assert some < most + 0.05  # the points of a few are not spread evenly
    assert more == pytest.approx(most, abs=0.02)


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
    fitted = VAETransformer(2, max_iter=120, **QUICK).fit(X)
    start = VAETransformer(2, max_iter=0).fit(X)
    assert fitted.best_iter_ > 0
    floor = start.score_samples(outliers) + np.log(0.01)
    assert (fitted.score_samples(outliers) >= floor - 1e-6 * np.abs(floor)).all()


def test_one_wild_row_does_not_spoil_the_density_of_the_others():
    table, test = X.copy(), curved_table(seed=1)
    table[0] = X.mean(axis=0) + 20 * X.std(axis=0)
    fitted = VAETransformer(2, max_iter=120, **QUICK).fit(table)
    assert fitted.score(test) > VAETransformer(2, max_iter=0).fit(X).score(test)


def departure(fitted, start):
    """Share of the start's codes that no linear map of the fitted ones gives."""
    codes, linear = fitted.transform(X), start.transform(X)
    return 1 - LinearRegression().fit(codes, linear).score(codes, linear)


def test_legibility_keeps_codes_near_those_of_the_start():
    start = VAETransformer(2, max_iter=0).fit(X)
    free, kept = (
        VAETransformer(2, legibility=price, max_iter=100, **QUICK).fit(X)
        for price in (0, 10)
    )
    assert departure(kept, start) < 0.5 * departure(free, start)
    assert kept.score(X) > start.score(X)


@pytest.mark.parametrize(("n_rows", "price"), [(300, 0.7), (1000, 0)])
def test_the_price_of_a_departure_falls_with_the_rows(n_rows, price):
    rows = np.random.default_rng(0).normal(size=(n_rows, 3)) ** 3
    auto, told = (
        VAETransformer(1, legibility=legibility, max_iter=3, **QUICK).fit(
            rows, X_val=rows[:50]
        )
        for legibility in ("auto", price)
    )
    assert_array_equal(auto.transform(rows), told.transform(rows))


@pytest.mark.parametrize("options", [{"beta": 2.0}, {"solver": "sgd"}])
def test_other_objectives_and_steps_have_no_price_of_their_own(options):
    options = options | {"max_iter": 3} | QUICK
    auto, free = (
        VAETransformer(2, legibility=legibility, **options).fit(X)
        for legibility in ("auto", 0)
    )
    assert_array_equal(auto.transform(X), free.transform(X))


def test_a_chunk_of_a_longer_table_has_no_price_of_few_rows(monkeypatch):
    made = []

    def spy(*args, **options):
        made.append(options["anchor"])
        return EvidenceBound(*args, **options)

    monkeypatch.setattr("skae._vae.EvidenceBound", spy)
    rows = np.random.default_rng(0).normal(size=(2_200, 3)) ** 3
    model = VAETransformer(1, max_iter=3, **QUICK)
    for chunk in (rows[:500], rows[500:2_000], rows[2_000:]):
        model.partial_fit(chunk)
    assert [anchor is None for anchor in made] == [False, True, True]


def test_all_of_very_few_rows_judge_what_has_not_seen_them(monkeypatch):
    asked = []

    def spy(model, judged, *args, **options):
        asked.append((model, judged))
        return density_of_networks(model, judged, *args, **options)

    monkeypatch.setattr("skae._vae.density_of_networks", spy)
    table = X[:120]
    fitted = VAETransformer(2, max_iter=5, device="cpu", **QUICK).fit(table)
    ((model, judged),) = asked
    assert model is fitted._model
    assert len(judged) == 3
    rows = np.concatenate([one.judging.matrix for one in judged])
    whole = fitted._table.encode(table).matrix
    assert_array_equal(np.sort(rows, axis=0), np.sort(whole, axis=0))
    for one in judged:
        both = np.concatenate([one.training.matrix, one.judging.matrix])
        assert len(np.unique(both, axis=0)) == 120
        mean = one.training.matrix.mean(axis=0)
        assert_allclose(one.model.linear.mean, mean, atol=1e-9)


def normalised(n_inputs, n_outputs):
    return nn.Sequential(
        nn.Linear(n_inputs, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Linear(8, n_outputs)
    )


@pytest.mark.parametrize("n_rows", [100, 500])
def test_own_networks_may_normalise_their_batches(n_rows):
    table = curved_table(n_rows)
    options = {"max_iter": 20, "random_state": 0, "device": "cpu"}
    model = VAETransformer(2, encoder=normalised, decoder=normalised, **options)
    model.fit(table)
    whole = model.score_samples(table)
    each = [model.score_samples(row[None])[0] for row in table[:5]]
    assert_allclose(each, whole[:5], rtol=1e-7)
    assert model.sample(4, random_state=0).shape == (4, table.shape[1])
    assert np.isfinite(model.score_cells(table[:3])).all()


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
    with pytest.warns(UserWarning, match="of 5 components of the code died") as told:
        fitted = VAETransformer(5, beta=3.0, max_iter=100, **QUICK).fit(table)
    assert fitted.active_units_ < 5
    assert 1 <= int(str(told[0].message)[0]) <= 5 - fitted.active_units_


def test_a_larger_beta_tells_less_and_free_bits_tell_more():
    common = {"max_iter": 80, "early_stopping": False, **OF_NETWORKS}
    plain = VAETransformer(3, **common).fit(X).kl_per_component_.sum()
    with pytest.warns(UserWarning, match="3 of 3 components of the code died"):
        heavy = VAETransformer(3, beta=10.0, **common).fit(X).kl_per_component_.sum()
    freed = VAETransformer(3, beta=10.0, free_bits=1.0, **common).fit(X)
    assert heavy < plain
    assert freed.kl_per_component_.sum() > heavy


def test_beta_zero_reconstructs_best():
    def error(beta):
        fitted = VAETransformer(2, beta=beta, max_iter=80, **OF_NETWORKS).fit(X)
        back = fitted.inverse_transform(fitted.transform(X))
        return np.square((back - X) / X.std(axis=0)).mean()

    best = error(0.0)
    with pytest.warns(UserWarning, match="2 of 2 components of the code died"):
        worst = error(20.0)
    assert best < worst


def test_a_mixture_prior_finds_clusters_of_codes():
    rng = np.random.default_rng(0)
    centres = np.array([[-5.0, 0, 0], [5.0, 0, 0], [0, 8.0, 0]])
    train, test = centres[rng.integers(0, 3, size=(2, 300))] + 0.3 * rng.normal(
        size=(2, 300, 3)
    )
    common = {"n_particles": 1, "max_iter": 300, "legibility": 0, **OF_NETWORKS}
    normal, mixture = (
        VAETransformer(2, prior=prior, **common).fit(train)
        for prior in ("normal", "mixture")
    )
    assert alone(mixture).score(test) > alone(normal).score(test) + 0.1
    drawn = mixture.sample(2000, random_state=0)
    nearest = np.linalg.norm(drawn[:, None] - centres, axis=2).min(axis=1)
    assert np.mean(nearest < 2) > 0.8


@pytest.mark.parametrize("n_particles", [1, 5])
def test_particles_bound_the_same_likelihood(n_particles):
    fitted = VAETransformer(
        2, n_particles=n_particles, max_iter=100, **OF_NETWORKS
    ).fit(X)
    assert fitted.best_loss_ < fitted.start_loss_


def test_kl_warmup_ends_at_beta():
    fitted = VAETransformer(2, kl_warmup=20, max_iter=60, **OF_NETWORKS).fit(X)
    assert fitted.best_loss_ < fitted.start_loss_
    assert fitted.loss_curve_[0] < fitted.start_loss_


def test_patience_does_not_run_out_within_a_long_warm_up():
    fitted = VAETransformer(2, kl_warmup=100, n_iter_no_change=20, **OF_NETWORKS).fit(X)
    assert fitted.best_iter_ > 100
    assert fitted.best_loss_ < fitted.start_loss_


def test_a_fit_that_ends_within_the_warm_up_says_so():
    vae = VAETransformer(2, kl_warmup=30, max_iter=20, **QUICK)
    with pytest.warns(ConvergenceWarning, match=r"20 epochs.*of 30.*max_iter"):
        vae.fit(X)


def test_the_code_is_the_posterior_mean():
    fitted = VAETransformer(2, max_iter=0).fit(X)
    scaled = StandardScaler().fit_transform(X)
    pca = PCA(2).fit(scaled)
    variances, noise = pca.explained_variance_, pca.noise_variance_
    expected = pca.transform(scaled) * np.sqrt(variances - noise) / variances
    np.testing.assert_allclose(fitted.transform(X), expected, atol=1e-8)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 5), (-20, 1e4)])
def test_bernoulli_rows_have_a_mass_that_sums_to_one(low, high):
    rng = np.random.default_rng(0)
    hidden = rng.integers(0, 2, size=300)
    binary = np.c_[hidden, hidden, rng.integers(0, 2, size=300)].astype(float)
    binary = low + (high - low) * binary
    fitted = VAETransformer(1, likelihood="bernoulli", max_iter=100, **QUICK).fit(
        binary
    )
    every = np.array(list(itertools.product([low, high], repeat=3)), dtype=float)
    mass = np.exp(fitted.score_samples(every, n_importance_samples=512))
    assert mass.sum() == pytest.approx(1.0, abs=0.02)
    assert set(np.unique(fitted.sample(40, random_state=0))) == {low, high}


def test_samples_have_the_moments_of_the_table(trained):
    drawn = trained.sample(20_000, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), X.mean(axis=0), atol=0.3 * X.std())
    np.testing.assert_allclose(drawn.std(axis=0), X.std(axis=0), rtol=0.25)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(X.T), atol=0.2)


def test_samples_are_as_likely_as_rows(trained):
    test = curved_table(seed=1)
    drawn = trained.sample(2000, random_state=0)
    assert trained.score(drawn) == pytest.approx(trained.score(test), abs=1.0)


def test_constant_columns_do_not_run_away_with_the_likelihood():
    table = np.c_[X, np.full(len(X), 3.0)]
    fitted = VAETransformer(2, max_iter=80, early_stopping=False, **OF_NETWORKS).fit(
        table
    )
    start = VAETransformer(2, max_iter=0).fit(table)
    without = VAETransformer(2, max_iter=80, early_stopping=False, **OF_NETWORKS).fit(X)
    gain = fitted.score(table) - start.score(table)
    gain_without = without.score(X) - VAETransformer(2, max_iter=0).fit(X).score(X)
    assert gain == pytest.approx(gain_without, abs=1.5)


def test_a_score_needs_a_point():
    with pytest.raises(ValueError, match="n_importance_samples=0"):
        VAETransformer(max_iter=0).fit(X).score_samples(X, n_importance_samples=0)


# ------------------------------------------------------------------- missing cells


def linear_table(n_rows=400, n_columns=5, seed=0):
    rng = np.random.default_rng(seed)
    return 3 + rng.normal(size=(n_rows, n_columns)) @ rng.normal(
        size=(n_columns, n_columns)
    )


def holes_in(table, share=0.3, seed=0):
    hidden = np.random.default_rng(seed).random(table.shape) < share
    return np.where(hidden, np.nan, table)


def moments_of_holes(table, holes, width):
    """Log-density of seen cells, and moments of the others, by probabilistic PCA."""
    scaler = StandardScaler().fit(table)
    pca = PCA(width).fit(scaler.transform(table))
    covariance, rows = pca.get_covariance(), scaler.transform(holes)
    log_density = np.zeros(len(rows))
    mean, variance = np.tile(pca.mean_, (len(rows), 1)), np.zeros_like(rows)
    for i, row in enumerate(rows):
        seen = ~np.isnan(row)
        within = covariance[np.ix_(seen, seen)]
        if seen.any():
            normal = stats.multivariate_normal(pca.mean_[seen], within)
            log_density[i] = normal.logpdf(row[seen])
            log_density[i] -= np.log(scaler.scale_[seen]).sum()
        gain = np.linalg.solve(within, covariance[seen]).T
        mean[i] += gain @ (row - pca.mean_)[seen]
        variance[i, ~seen] = np.diag(covariance - gain @ covariance[seen])[~seen]
    return log_density, scaler.inverse_transform(mean), variance * scaler.var_


@pytest.mark.parametrize("width", [1, 2])
def test_seen_cells_of_the_start_score_as_the_marginal_of_probabilistic_pca(width):
    table = linear_table()
    holes = holes_in(table[:80])
    holes[0], holes[1, 1:] = np.nan, np.nan
    fitted = VAETransformer(width, max_iter=0, scaling="standard").fit(table)
    expected, _, _ = moments_of_holes(table, holes, width)
    scores = fitted.score_samples(holes, n_importance_samples=4096)
    np.testing.assert_allclose(scores, expected, atol=0.01)
    assert scores[0] == 0


def test_missing_cells_of_the_start_are_filled_by_their_conditional_mean():
    table = linear_table()
    holes = holes_in(table[:80])
    holes[0] = np.nan
    fitted = VAETransformer(2, max_iter=0).fit(table)
    _, expected, _ = moments_of_holes(table, holes, 2)
    expected = np.clip(expected, table.min(axis=0), table.max(axis=0))
    filled = fitted.impute(holes, n_importance_samples=1024)
    errors = (filled - np.where(np.isnan(holes), expected, holes)) / table.std(axis=0)
    assert np.abs(errors).max() < 0.03


def test_draws_of_the_start_have_the_conditional_mean_and_variance():
    table = linear_table()
    holes = holes_in(table[:40])
    fitted = VAETransformer(2, max_iter=0).fit(table)
    _, mean, variance = moments_of_holes(table, holes, 2)
    draws = np.array(fitted.impute(holes, n_draws=200, random_state=0))
    hidden = np.isnan(holes)
    # Draws are kept within the range of the fit: cells far inside it are compared.
    room = np.minimum(mean - table.min(axis=0), table.max(axis=0) - mean)
    inside = hidden & (room > 2.5 * np.sqrt(variance))
    assert inside.sum() > 20
    deviation = np.sqrt(variance[inside])
    assert (
        np.abs(draws.mean(axis=0)[inside] - mean[inside]).max() < 0.3 * deviation.max()
    )
    np.testing.assert_allclose(draws.std(axis=0)[inside], deviation, rtol=0.25)


def test_draws_vary_where_cells_are_missing_and_agree_with_the_mean():
    holes = holes_in(X)
    fitted = VAETransformer(2, max_iter=60, **SMALL).fit(holes)
    before = holes.copy()
    draws = np.array(fitted.impute(holes, n_draws=60, random_state=0))
    np.testing.assert_array_equal(holes, before)
    hidden = np.isnan(holes)
    assert (draws[:, ~hidden] == holes[~hidden]).all()
    # Draws beyond the range of the table all end at its edge.
    assert (draws.std(axis=0)[hidden] > 0).mean() > 0.98
    low, high = np.nanmin(holes, axis=0), np.nanmax(holes, axis=0)
    assert ((draws >= low) & (draws <= high)).all()
    scale = np.nanstd(holes, axis=0)
    gap = (draws.mean(axis=0) - fitted.impute(holes)) / scale
    assert np.sqrt(np.square(gap[hidden]).mean()) < 0.2
    assert np.abs(gap[hidden].mean()) < 0.05


def regimes(n_rows=600):
    """Two levels, a number that is far apart in them, and one of many zeros."""
    rng = np.random.default_rng(0)
    level = rng.choice(["low", "high"], n_rows)
    spike = np.where(rng.random(n_rows) < 0.4, 0, rng.lognormal(2, 1, n_rows))
    far = np.where(level == "low", -5, 5) + rng.normal(size=n_rows)
    both = 0.1 * spike + far + 0.2 * rng.normal(size=n_rows)
    return pd.DataFrame({"level": level, "spike": spike, "far": far, "both": both})


def test_what_a_level_leaves_open_is_drawn_as_it_is_without():
    fitted = VAETransformer(2, max_iter=200, **OF_NETWORKS).fit(regimes())
    assert fitted.best_iter_ > 0
    drawn = fitted.sample(10_000, random_state=0)
    for level, of_level in drawn.groupby("level"):
        given = fitted.sample(5_000, random_state=0, given={"level": level})
        empty = of_level[:1].assign(spike=np.nan, far=np.nan, both=np.nan)
        filled = fitted.impute(empty, strategy="median", n_importance_samples=2_000)
        for name in ("spike", "far", "both"):
            scale = of_level[name].std()
            for share in (0.25, 0.5, 0.75):
                gap = given[name].quantile(share) - of_level[name].quantile(share)
                assert abs(gap) < 0.15 * scale
            gap = filled[name].item() - of_level[name].median()
            assert abs(gap) < 0.2 * scale


def test_draws_of_skewed_numbers_agree_with_their_mean():
    rng = np.random.default_rng(0)
    u, *others = rng.normal(size=(3, 300))
    table = np.c_[np.exp(1.5 * u), *(u + 0.5 * other for other in others)]
    holes = np.where(rng.random(table.shape) < 0.3, np.nan, table)
    fitted = VAETransformer(1, scaling="quantile", max_iter=60, **SMALL).fit(holes)
    draws = np.array(fitted.impute(holes, n_draws=60, random_state=0))
    gap = (draws.mean(axis=0) - fitted.impute(holes)) / np.nanstd(holes, axis=0)
    np.testing.assert_allclose(
        np.nanmean(np.where(gap, gap, np.nan), axis=0), 0, atol=0.05
    )


def test_draws_repeat_by_their_seed():
    holes = holes_in(X)
    fitted = VAETransformer(2, max_iter=0).fit(holes)
    one, same, other = (
        fitted.impute(holes, n_draws=2, random_state=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one[0], one[1], equal_nan=True)
    assert not np.array_equal(one[0], other[0], equal_nan=True)
    np.testing.assert_array_equal(fitted.impute(holes), fitted.impute(holes))


@pytest.mark.parametrize("parameters", [{}, {"scaling": "quantile"}])
def test_the_density_of_what_is_seen_is_the_joint_one_summed_over_the_rest(parameters):
    rng = np.random.default_rng(0)
    u = rng.normal(size=400)
    table = np.c_[u, u**2 + 0.5 * rng.normal(size=400)]
    holes = np.where(rng.random((400, 2)) < 0.2, np.nan, table)
    fitted = VAETransformer(1, max_iter=60, **parameters, **QUICK).fit(holes)
    side, widths = cells_between(holes[:, 1])
    for first in (-1.0, 0.0, 0.5):
        grid = np.c_[np.full_like(side, first), side]
        log_joint = fitted.score_samples(grid, n_importance_samples=512)
        alone = fitted.score_samples([[first, np.nan]], n_importance_samples=512)
        total = np.log(np.exp(log_joint) @ widths)
        assert alone[0] == pytest.approx(total, abs=0.05)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_what_is_learned_of_holes_is_no_less_likely_than_by_the_start(share):
    test = holes_in(curved_table(seed=1), share, seed=1)
    holes = holes_in(X, share)
    fitted = VAETransformer(2, max_iter=200, **OF_NETWORKS).fit(holes)
    start = VAETransformer(2, max_iter=0).fit(holes)
    assert fitted.score(test) > start.score(test) - 0.05


@pytest.mark.parametrize("n_draws", [0, -1, 1.5, "many"])
def test_draws_are_counted_in_positive_integers(n_draws):
    fitted = VAETransformer(max_iter=0).fit(X)
    with pytest.raises(ValueError, match=f"n_draws={n_draws!r}"):
        fitted.impute(X, n_draws=n_draws)
    with pytest.raises(ValueError, match="n_importance_samples=0"):
        fitted.impute(X, n_importance_samples=0)


# --------------------------------------------------------------------- mixed tables


def mixed_frame(n_rows=400, seed=0):
    """Make a table of a spiked number, three levels and two, that hang together."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n_rows)
    fare = np.where(
        rng.random(n_rows) < 0.3, 0, np.exp(group + rng.normal(size=n_rows))
    )
    return pd.DataFrame(
        {
            "fare": fare.round(2),
            "group": np.array(["a", "b", "c"])[group],
            "sign": rng.random(n_rows) < np.array([0.1, 0.5, 0.9])[group],
        }
    )


def test_auto_scaling_is_by_quantiles_where_there_are_levels():
    frame = mixed_frame()
    auto = VAETransformer(2, max_iter=0).fit(frame)
    named = VAETransformer(2, max_iter=0, scaling="quantile").fit(frame)
    plain = VAETransformer(2, max_iter=0, scaling="standard").fit(frame)
    np.testing.assert_array_equal(auto.transform(frame), named.transform(frame))
    assert not np.allclose(auto.transform(frame), plain.transform(frame))
    numbers = VAETransformer(2, max_iter=0).fit(X)
    standard = VAETransformer(2, max_iter=0, scaling="standard").fit(X)
    np.testing.assert_array_equal(numbers.transform(X), standard.transform(X))


def test_spikes_and_levels_are_drawn_as_often_as_they_are_in_the_table():
    frame = mixed_frame(1000)
    fitted = VAETransformer(2, max_iter=60, **QUICK).fit(frame)
    drawn = fitted.sample(4000, random_state=0)
    assert np.mean(drawn["fare"] == 0) == pytest.approx(0.3, abs=0.1)
    assert drawn["fare"].min() == 0
    assert drawn["fare"].max() <= frame["fare"].max()
    shares = drawn["group"].value_counts(normalize=True)
    np.testing.assert_allclose(shares[["a", "b", "c"]], 1 / 3, atol=0.08)
    assert drawn["sign"].mean() == pytest.approx(0.5, abs=0.08)
    with_c = drawn.loc[drawn["group"] == "c", "sign"].mean()
    assert with_c > drawn.loc[drawn["group"] == "a", "sign"].mean() + 0.4


def test_the_mass_of_levels_sums_to_one():
    frame = (
        mixed_frame()
        .drop(columns="fare")
        .assign(
            rare=[f"r{i}" for i in range(9)] + ["often", "seldom"] * 195 + ["often"]
        )
    )
    fitted = VAETransformer(2, max_iter=60, **SMALL).fit(frame)
    every = pd.MultiIndex.from_product([sorted(set(frame[name])) for name in frame])
    every = every.to_frame(index=False, name=list(frame))
    log_mass = fitted.score_samples(every, n_importance_samples=512)
    assert np.exp(log_mass).sum() == pytest.approx(1.0, abs=0.02)
    alone = every.drop_duplicates("group").assign(sign=None, rare=None)
    mass = np.exp(fitted.score_samples(alone, n_importance_samples=512))
    assert mass.sum() == pytest.approx(1.0, abs=0.02)


def test_the_density_of_a_mixed_table_integrates_to_one():
    frame = mixed_frame()[["fare", "group"]]
    frame["fare"] = np.random.default_rng(0).normal(size=400) + frame["group"].eq("c")
    fitted = VAETransformer(1, max_iter=60, **SMALL).fit(frame)
    side, widths = cells_between(frame["fare"].to_numpy())
    log_density = [
        fitted.score_samples(
            pd.DataFrame({"fare": side, "group": level}), n_importance_samples=256
        )
        for level in "abc"
    ]
    mass = np.exp(log_density).sum(axis=0) @ widths
    assert mass == pytest.approx(1.0, abs=0.03)


def test_drawn_levels_are_as_likely_as_the_model_says():
    frame = mixed_frame()
    fitted = VAETransformer(2, max_iter=60, **SMALL).fit(frame)
    row = pd.DataFrame({"fare": [0.0], "group": [None], "sign": [True]})
    row = row.astype({"group": frame["group"].dtype})
    rows = pd.concat([row.assign(group=level) for level in "abc"])
    log_joint = fitted.score_samples(rows, n_importance_samples=1024)
    chances = np.exp(log_joint - np.logaddexp.reduce(log_joint))
    draws = fitted.impute(pd.concat([row] * 100), n_draws=20, random_state=0)
    found = pd.concat(draws)["group"].value_counts(normalize=True)
    np.testing.assert_allclose(found[["a", "b", "c"]], chances, atol=0.06)
    likeliest = "abc"[chances.argmax()]
    assert fitted.impute(row, n_importance_samples=1024)["group"].tolist() == [
        likeliest
    ]


def test_draws_of_a_frame_are_frames_of_its_dtypes():
    frame = mixed_frame()
    frame.loc[::3, "group"] = None
    frame.loc[1::4, "fare"] = np.nan
    fitted = VAETransformer(2, max_iter=3, **SMALL).fit(frame)
    draws = fitted.impute(frame, n_draws=3, random_state=0)
    assert len(draws) == 3
    for drawn in draws:
        assert (drawn.dtypes == frame.dtypes).all()
        assert not drawn.isna().any(axis=None)
        seen = frame.notna()
        pd.testing.assert_frame_equal(drawn.where(seen), frame)
    filled = [drawn.loc[::3, "group"].tolist() for drawn in draws]
    assert filled[0] != filled[1]


# --------------------------------------------------------------------------- counts


def counts_of(n_rows, seed, spread):
    """Draw counts whose rates hang on one number; `spread` makes them overdispersed."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n_rows)
    rates = np.exp(np.outer(u, [0.5, -0.4, 0.3]) + np.array([1.0, 2.0, 0.0]))
    rates *= rng.gamma(1 / spread, spread, rates.shape) if spread else 1
    return rng.poisson(rates).astype(float)


@cache
def score_of_counts(likelihood, spread):
    """Return what the networks alone, with a plain prior, score other counts by."""
    plain = {"prior": "normal", "n_particles": 1}
    fitted = VAETransformer(1, likelihood=likelihood, max_iter=100, **plain, **SMALL)
    fitted.fit(counts_of(500, 0, spread))
    assert fitted.best_loss_ <= fitted.start_loss_
    return alone(fitted).score(counts_of(400, 1, spread))


def test_counts_are_more_likely_as_counts_than_as_numbers():
    assert score_of_counts("poisson", 0) > score_of_counts("gaussian", 0) + 0.1
    gain = score_of_counts("negative_binomial", 1.0) - score_of_counts("gaussian", 1.0)
    assert gain > 0.1


def test_overdispersed_counts_are_less_likely_as_poisson():
    gain = score_of_counts("negative_binomial", 1.0) - score_of_counts("poisson", 1.0)
    assert gain > 0.5


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_the_mass_of_counts_sums_to_one(likelihood):
    table = np.minimum(counts_of(300, 0, 0)[:, [0, 2]], 12)
    fitted = VAETransformer(1, likelihood=likelihood, max_iter=60, **SMALL).fit(table)
    side = np.arange(80.0)
    every = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    log_mass = fitted.score_samples(every, n_importance_samples=256)
    assert np.exp(log_mass).sum() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_samples_of_counts_are_counts_of_the_same_moments(likelihood):
    table = counts_of(600, 0, 0 if likelihood == "poisson" else 1.0)
    fitted = VAETransformer(1, likelihood=likelihood, max_iter=100, **SMALL).fit(table)
    drawn = fitted.sample(4000, random_state=0)
    np.testing.assert_array_equal(drawn, drawn.round())
    assert ((drawn >= 0) & (drawn <= table.max(axis=0))).all()
    np.testing.assert_allclose(drawn.mean(axis=0), table.mean(axis=0), rtol=0.15)
    np.testing.assert_allclose(drawn.std(axis=0), table.std(axis=0), rtol=0.3)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_counts_may_have_holes(likelihood):
    table = counts_of(300, 0, 0)
    holes = holes_in(table)
    fitted = VAETransformer(1, likelihood=likelihood, max_iter=60, **SMALL).fit(holes)
    assert np.isfinite(fitted.score_samples(holes)).all()
    hidden = np.isnan(holes)
    error = np.square(fitted.impute(holes) - table)[hidden].mean()
    assert error < np.square(np.nanmean(holes, axis=0) - table)[hidden].mean()
    whole = fitted.impute(holes, n_draws=1, random_state=0)[0]
    np.testing.assert_array_equal(whole, whole.round())


def test_each_column_may_have_its_likelihood():
    frame = mixed_frame().assign(visits=counts_of(400, 0, 0)[:, 1].astype(int))
    frame.loc[::5, "fare"] = np.nan
    likelihood = {"visits": "poisson", "fare": "laplace"}
    fitted = VAETransformer(2, likelihood=likelihood, max_iter=30, **SMALL).fit(frame)
    drawn = fitted.sample(50, random_state=0)
    assert (drawn.dtypes == frame.dtypes).all()
    assert drawn["visits"].min() >= 0
    assert np.isfinite(fitted.score_samples(frame)).all()
    by_index = VAETransformer(1, likelihood={1: "poisson"}, max_iter=3, **SMALL)
    by_name = VAETransformer(1, likelihood={"b": "poisson"}, max_iter=3, **SMALL)
    numbers = np.c_[X[:, 0], counts_of(300, 0, 0)[:, 1]]
    named = pd.DataFrame(numbers, columns=["a", "b"])
    np.testing.assert_array_equal(
        by_index.fit_transform(numbers), by_name.fit_transform(named)
    )


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        ({"nope": "poisson"}, r"column 'nope'.*\['fare', 'group', 'sign'\]"),
        ({"fare": "posson"}, "'posson'.*'poisson'"),
        ({"group": "poisson"}, "'group'.*categor"),
        ({"fare": "poisson"}, r"'fare'.*not a count.*'poisson'.*0, 1, 2"),
    ],
)
def test_likelihoods_of_columns_that_cannot_be_are_refused(likelihood, message):
    with pytest.raises(ValueError, match=message):
        VAETransformer(likelihood=likelihood, max_iter=0).fit(mixed_frame())


VERBS = ["transform", "score_samples", "score", "reconstruction_error", "impute"]


@pytest.mark.parametrize("kind", ["poisson", "negative_binomial"])
@pytest.mark.parametrize("value", [-50.0, 2.5])
@pytest.mark.parametrize("verb", ["fit", *VERBS])
def test_counts_are_whole_and_not_negative(kind, value, verb):
    frame = pd.DataFrame({"size": X[:60, 0], "children": np.arange(60) % 4.0})
    model = VAETransformer(1, likelihood={"children": kind}, max_iter=0).fit(frame)
    wrong = frame.copy()
    wrong.loc[3, "children"] = value
    wrong.loc[3, "size"] = np.nan
    message = rf"got {value:g} in column 'children'.*'{kind}'.*0, 1, 2"
    with pytest.raises(ValueError, match=message):
        getattr(model, verb)(wrong)
    with pytest.raises(ValueError, match="got -1 in column 1"):
        VAETransformer(1, likelihood={1: kind}, max_iter=0).fit(
            np.where(np.arange(2) == 1, -1.0, frame.to_numpy())
        )
    frame.loc[3, "children"] = np.nan
    getattr(model, verb)(frame)  # a hole is none
    with pytest.raises(ValueError, match=f"'children': {value}.*whole number from 0"):
        model.sample(2, given={"children": value})
