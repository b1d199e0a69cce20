"""Mixtures, stacked densities and residuals against scipy, sklearn and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize, stats
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

from skae.model._mixture import MixtureDensity, choose_mixture
from skae.model._residuals import WIDEST, Residuals, fit_mixture
from skae.model._stack import StackedDensity, stack

N_COLUMNS = 4
PATTERNS = st.integers(1, 12).flatmap(lambda n: arrays(bool, (n, N_COLUMNS)))
SEEDS = st.integers(0, 10_000)


def draws(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def whole(X):
    return np.ones(X.shape, dtype=bool)


def mixture(n_parts=3, n_features=N_COLUMNS, seed=0):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(n_parts, n_features, n_features))
    covariances = roots @ roots.swapaxes(1, 2) + 0.3 * np.eye(n_features)
    means = 2 * rng.normal(size=(n_parts, n_features))
    return MixtureDensity(rng.dirichlet(np.ones(n_parts)), means, covariances)


def normal(mean, deviation=1.0):
    """Return a mixture of one part with independent columns."""
    mean = np.atleast_2d(np.asarray(mean, dtype=float))
    return MixtureDensity(
        np.ones(1), mean, deviation**2 * np.eye(mean.shape[1])[None, :, :]
    )


def sklearns(density):
    model = GaussianMixture(len(density.weights))
    model.weights_, model.means_ = density.weights, density.means
    model.covariances_ = density.covariances
    precisions = np.linalg.inv(density.covariances)
    model.precisions_cholesky_ = np.linalg.cholesky(precisions)
    return model


def moments(density):
    mean = density.weights @ density.means
    centred = density.means - mean
    between = (density.weights[:, None] * centred).T @ centred
    return mean, np.tensordot(density.weights, density.covariances, axes=1) + between


def marginal_log_density(density, x, seen):
    if not seen.any():
        return 0.0
    parts = [
        np.log(weight)
        + stats.multivariate_normal(mean[seen], cov[np.ix_(seen, seen)]).logpdf(x[seen])
        for weight, mean, cov in zip(*vars(density).values(), strict=True)
    ]
    return logsumexp(parts)


def parameters(density):
    return np.concatenate([np.ravel(array) for array in vars(density).values()])


# --------------------------------------------------------------------- a mixture


@given(n_parts=st.integers(1, 5), n_features=st.integers(1, 6), seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_whole_rows_have_the_density_of_sklearns_mixture(n_parts, n_features, seed):
    density = mixture(n_parts, n_features, seed)
    X = 3 * draws(20, n_features, seed=seed)
    expected = sklearns(density).score_samples(X)
    assert_allclose(density.log_density(X, whole(X)), expected, rtol=1e-9, atol=1e-9)


@given(seen=PATTERNS, n_parts=st.integers(1, 4), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_rows_with_holes_have_the_density_of_the_marginal_mixture(seen, n_parts, seed):
    density, X = mixture(n_parts, seed=seed), 2 * draws(*seen.shape, seed=seed)
    rows = zip(X, seen, strict=True)
    expected = [marginal_log_density(density, *row) for row in rows]
    assert_allclose(density.log_density(X, seen), expected, atol=1e-9)


def test_nothing_seen_tells_nothing():
    X = draws(5, N_COLUMNS)
    seen = np.zeros(X.shape, dtype=bool)
    assert_allclose(mixture().log_density(X, seen), 0, atol=1e-12)


@given(seen=PATTERNS)
@settings(max_examples=20, deadline=None)
def test_what_stands_in_a_hole_does_not_matter(seen):
    X = draws(*seen.shape)
    other = np.where(seen, X, 1e6)
    found = mixture().log_density(X, seen)
    assert_array_equal(mixture().log_density(other, seen), found)


@pytest.mark.parametrize("share", [0.0, 0.3], ids=["whole", "holes"])
def test_order_and_company_of_rows_do_not_matter(share, monkeypatch):
    X = draws(60, N_COLUMNS)
    seen = np.random.default_rng(1).uniform(size=X.shape) >= share
    density = mixture()
    together = density.log_density(X, seen)
    assert_allclose(density.log_density(X[::-1], seen[::-1])[::-1], together)
    alone = [density.log_density(X[[i]], seen[[i]])[0] for i in range(len(X))]
    assert_allclose(alone, together)
    monkeypatch.setattr("skae.model._mixture.CHUNK_ROWS", 7)
    assert_allclose(density.log_density(X, seen), together)


def test_rows_far_from_every_part_have_a_finite_density():
    X = np.full((1, N_COLUMNS), 1e6)
    found = mixture().log_density(X, whole(X))
    assert np.isfinite(found).all()
    assert (found < -1e9).all()


def test_no_rows_have_no_densities():
    X = np.empty((0, N_COLUMNS))
    assert mixture().log_density(X, whole(X)).shape == (0,)


def test_memberships_are_those_of_sklearn():
    X = draws(30, N_COLUMNS)
    found = mixture().memberships(X)
    assert_allclose(found, sklearns(mixture()).predict_proba(X), atol=1e-10)
    assert_allclose(found.sum(axis=1), 1)


def test_a_mixture_integrates_to_one():
    side = np.linspace(-15, 15, 241)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    density = np.exp(mixture(3, 2).log_density(grid, whole(grid)))
    assert density.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=1e-3)


def test_samples_have_the_mean_and_the_covariance_of_the_mixture():
    density, n_rows = mixture(), 40_000
    X = density.sample(n_rows, np.random.default_rng(0))
    mean, covariance = moments(density)
    error = np.sqrt(covariance.diagonal() / n_rows)
    assert (np.abs(X.mean(axis=0) - mean) < 4 * error).all()
    scales = np.sqrt(np.outer(covariance.diagonal(), covariance.diagonal()))
    assert_allclose(np.cov(X.T) / scales, covariance / scales, atol=0.03)


def test_samples_have_the_entropy_of_other_samples_of_sklearn():
    density, model = mixture(), sklearns(mixture())
    model.random_state = 0
    ours = density.sample(4000, np.random.default_rng(0))
    theirs, _ = model.sample(4000)
    found, expected = (density.log_density(X, whole(X)) for X in (ours, theirs))
    assert stats.ks_2samp(found, expected).pvalue > 0.01


def test_samples_are_repeatable_and_as_many_as_asked_for():
    density = mixture()
    one, other = (density.sample(50, np.random.default_rng(3)) for _ in range(2))
    assert_array_equal(one, other)
    assert density.sample(0, np.random.default_rng(0)).shape == (0, N_COLUMNS)


@given(scales=arrays(float, N_COLUMNS, elements=st.floats(1e-3, 1e3)), seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_factors_on_the_columns_shift_the_density_by_the_jacobian(scales, seed):
    density, X = mixture(seed=seed), draws(10, N_COLUMNS, seed=seed)
    scaled = density.times(scales, np.zeros(N_COLUMNS))
    expected = density.log_density(X, whole(X)) - np.log(scales).sum()
    assert_allclose(scaled.log_density(X * scales, whole(X)), expected, atol=1e-7)


@given(floor=arrays(float, N_COLUMNS, elements=st.floats(0, 10)), seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_every_deviation_of_every_part_is_at_least_its_floor(floor, seed):
    density = mixture(seed=seed)
    floored = density.times(np.ones(N_COLUMNS), floor)
    variances = floored.covariances.diagonal(axis1=1, axis2=2)
    before = density.covariances.diagonal(axis1=1, axis2=2)
    assert_allclose(variances, np.maximum(before, floor**2), rtol=1e-12)
    apart = ~np.eye(N_COLUMNS, dtype=bool)
    assert_array_equal(floored.covariances[:, apart], density.covariances[:, apart])
    assert_array_equal(floored.means, density.means)


def test_scaling_leaves_the_mixture_as_it_was():
    density = mixture()
    before = parameters(density)
    density.times(np.full(N_COLUMNS, 2.0), np.full(N_COLUMNS, 9.0))
    assert_array_equal(parameters(density), before)


# ----------------------------------------------------------- a mixture of a table


def clusters(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0], [9, 0], [0, 9]])
    return centres[rng.integers(3, size=n_rows)] + rng.normal(size=(n_rows, 2))


def chosen(X, judges, floor=0.01, seed=0):
    scales = X.std(axis=0)
    return choose_mixture(X, judges, scales, floor * scales, seed)


def test_separated_clusters_get_a_part_each():
    density = chosen(clusters(400), clusters(100, seed=1)).final
    near = np.abs(density.means[:, None] - [[0, 0], [9, 0], [0, 9]]).max(axis=2) < 0.8
    assert len(density.weights) >= 3
    assert near.any(axis=0).all()
    assert_allclose(density.weights.sum(), 1)


def test_clusters_are_likelier_than_under_one_gaussian():
    X, judges, test = (clusters(n, seed) for seed, n in enumerate((400, 100, 500)))
    found = chosen(X, judges).final.log_density(test, whole(test)).mean()
    one = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T)).logpdf(test).mean()
    entropy = 1 + np.log(2 * np.pi) + np.log(3)
    assert found > one + 1
    assert found == pytest.approx(-entropy, abs=0.15)


@pytest.mark.parametrize(("n_features", "seed"), [(1, 0), (2, 1), (4, 2)])
def test_rows_that_judge_are_as_likely_as_under_one_gaussian(n_features, seed):
    rng = np.random.default_rng(seed)
    mixing = np.eye(n_features) + np.tril(np.ones((n_features, n_features)), -1)
    X, judges = (rng.normal(size=(n, n_features)) @ mixing for n in (300, 60))
    found = chosen(X, judges).judged.log_density(judges, whole(judges)).mean()
    one = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T))
    assert found > one.logpdf(judges).mean() - 0.05


def test_columns_without_correlation_get_parts_without_it_where_rows_are_few():
    rng = np.random.default_rng(0)
    sides = rng.choice([-5.0, 5.0], size=(90, 1))
    X = sides + rng.normal(size=(90, 20))
    density = chosen(X[:60], X[60:]).judged
    apart = density.covariances[:, ~np.eye(20, dtype=bool)].any(axis=1)
    assert density.weights[~apart].sum() > 0.5
    assert len(density.weights[~apart]) > 1


def both(choice):
    return np.concatenate([parameters(choice.judged), parameters(choice.final)])


def test_the_choice_is_repeatable():
    X, judges = clusters(300), clusters(60, seed=1)
    one, other = (chosen(X, judges, seed=5) for _ in range(2))
    assert_array_equal(both(one), both(other))


def test_the_choice_does_not_depend_on_the_units():
    X, judges, units = clusters(300), clusters(60, seed=1), np.array([2.0**10, 2.0**-8])
    one, other = chosen(X, judges).final, chosen(X * units, judges * units).final
    expected = one.log_density(judges, whole(judges)) - np.log(units).sum()
    assert_allclose(other.log_density(judges * units, whole(judges)), expected)


def test_no_part_is_narrower_than_the_floor():
    X = np.c_[np.repeat([0.0, 1.0], 100), draws(200)]
    choice = chosen(X, X[::7], floor=0.4)
    for density in (choice.judged, choice.final):
        deviations = np.sqrt(density.covariances.diagonal(axis1=1, axis2=2))
        assert (deviations >= 0.4 * X.std(axis=0) * (1 - 1e-9)).all()


def test_tables_too_wide_for_a_step_get_no_mixture():
    X = draws(26, 2000)
    assert chosen(X, X[:5]) is None


@pytest.mark.parametrize("n_rows", [1, 3])
def test_a_few_rows_get_no_mixture(n_rows):
    X, judges = draws(n_rows, 3), draws(4, 3, seed=1)
    assert choose_mixture(X, judges, np.ones(3), np.zeros(3), 0) is None


@pytest.mark.parametrize("n_rows", [6, 9])
def test_the_rows_that_judge_are_fitted_at_last_alone(n_rows):
    X, judges = draws(n_rows, 3), draws(4, 3, seed=1)
    choice = chosen(X, judges)
    for mean in choice.judged.means:  # so few rows make one part in each mixture
        assert_allclose(mean, X.mean(axis=0), atol=1e-9)
    for mean in choice.final.means:
        assert_allclose(mean, np.r_[X, judges].mean(axis=0), atol=1e-9)
    assert np.isfinite(both(choice)).all()


def test_only_the_first_rows_of_a_large_table_are_fitted(monkeypatch):
    monkeypatch.setattr("skae.model._mixture.MOST_ROWS", 50)
    X, judges = clusters(300), clusters(40, seed=1)
    scales, floor = X.std(axis=0), np.zeros(2)
    found = choose_mixture(X, judges, scales, floor, 0)
    expected = choose_mixture(X[:50], judges, scales, floor, 0)
    assert_array_equal(parameters(found.judged), parameters(expected.judged))


def test_mixtures_of_mixtures_have_the_weighted_density():
    mixtures, X = [mixture(n, seed=n) for n in (1, 2, 3)], draws(20, N_COLUMNS)
    shares = np.array([0.5, 0.3, 0.2])
    parts = [part.log_density(X, whole(X)) for part in mixtures]
    expected = logsumexp(parts, axis=0, b=shares[:, None])
    found = MixtureDensity.of(mixtures, shares)
    assert_allclose(found.log_density(X, whole(X)), expected)


@pytest.mark.parametrize("tiny", [0.0, 1e-4])
def test_a_mixture_of_no_share_is_left_out(tiny):
    mixtures = [mixture(2, seed=1), mixture(3, seed=2)]
    found = MixtureDensity.of(mixtures, np.array([1 - tiny, tiny]))
    assert_allclose(parameters(found), parameters(mixtures[0]))


# ------------------------------------------------------------- a mixture of codes


def test_the_mixture_of_codes_has_their_moments():
    codes = clusters(500)
    mean, covariance = moments(fit_mixture(codes, 0))
    scales = np.outer(codes.std(axis=0), codes.std(axis=0))
    assert_allclose(mean, codes.mean(axis=0), atol=0.2)
    assert_allclose(covariance / scales, np.corrcoef(codes.T), atol=0.05)


@pytest.mark.parametrize("n_rows", [1, 2, 3, 40])
def test_a_constant_column_of_codes_stays_about_constant(n_rows):
    codes = np.c_[draws(n_rows), np.full(n_rows, 7.0)]
    rows = fit_mixture(codes, 0).sample(100, np.random.default_rng(0))
    assert_allclose(rows[:, 1], 7, atol=0.2)
    assert np.isfinite(rows).all()


def test_two_codes_are_enough():
    codes = np.array([[0.0, 1.0], [2.0, 5.0]])
    density = fit_mixture(codes, 0)
    assert_allclose(moments(density)[0], [1, 3])
    assert_allclose(moments(density)[1].diagonal(), [1, 4], rtol=0.01)


def test_units_of_the_codes_shift_the_density_alone():
    codes = clusters(200)
    density, other = fit_mixture(codes, 0), fit_mixture(2.0**20 * codes, 0)
    expected = density.log_density(codes, whole(codes)) - 2 * np.log(2.0**20)
    assert_allclose(other.log_density(2.0**20 * codes, whole(codes)), expected)


# ------------------------------------------------------------------------ shares


def log_densities(n_rows=60, n_densities=3, seed=0):
    return 2 * draws(n_rows, n_densities, seed=seed)


def mean_log(parts, shares):
    return logsumexp(parts, axis=1, b=shares).mean()


@given(
    seed=SEEDS,
    least=arrays(float, 3, elements=st.floats(0, 0.3)),
    rival=arrays(float, 3, elements=st.floats(0.01, 1)),
)
@settings(max_examples=50, deadline=None)
def test_no_other_shares_make_the_rows_likelier(seed, least, rival):
    parts = log_densities(seed=seed)
    shares = stack(parts, least)
    other = least + (1 - least.sum()) * rival / rival.sum()
    assert_allclose(shares.sum(), 1)
    assert (shares >= least - 1e-12).all()
    assert mean_log(parts, shares) >= mean_log(parts, other) - 1e-4


@given(seed=SEEDS, least=arrays(float, 2, elements=st.floats(0, 0.4)))
@settings(max_examples=30, deadline=None)
def test_two_shares_are_where_scipy_finds_the_likeliest(seed, least):
    parts = log_densities(n_densities=2, seed=seed)
    best = optimize.minimize_scalar(
        lambda share: -mean_log(parts, np.array([share, 1 - share])),
        bounds=(least[0], 1 - least[1]),
        options={"xatol": 1e-9},
    )
    shares = stack(parts, least)
    assert shares[0] == pytest.approx(best.x, abs=0.01)
    assert mean_log(parts, shares) == pytest.approx(-best.fun, abs=1e-5)


def test_a_density_that_is_best_on_every_row_gets_all_that_is_free():
    parts = log_densities()
    parts[:, 1] = parts.max(axis=1) + 1
    least = np.array([0.05, 0.1, 0.2])
    assert_allclose(stack(parts, least), [0.05, 0.75, 0.2], atol=1e-9)


def test_equal_densities_share_equally():
    parts = np.repeat(draws(20, 1), 4, axis=1)
    assert_allclose(stack(parts, np.zeros(4)), 0.25)


def test_the_share_of_a_component_of_the_truth_is_found():
    rng = np.random.default_rng(0)
    rows = np.where(rng.uniform(size=20_000) < 0.3, 0, 4) + rng.normal(size=20_000)
    parts = np.c_[stats.norm(0).logpdf(rows), stats.norm(4).logpdf(rows)]
    assert_allclose(stack(parts, np.zeros(2)), [0.3, 0.7], atol=0.015)


def test_a_constant_on_a_row_does_not_matter():
    parts, least = log_densities(), np.array([0.1, 0, 0])
    moved = parts + 1e3 * draws(len(parts), 1, seed=1)
    assert_allclose(stack(moved, least), stack(parts, least), atol=1e-9)


def test_densities_may_be_impossible_on_some_rows():
    parts = log_densities()
    parts[:30, 0], parts[30:, 1], parts[:, 2] = -np.inf, -1e5, -1e308
    shares = stack(parts, np.zeros(3))
    assert_allclose(shares, [0.5, 0.5, 0], atol=1e-9)


def test_nothing_free_leaves_the_least():
    least = np.array([0.2, 0.3, 0.5])
    assert_allclose(stack(log_densities(), least), least)


# -------------------------------------------------------------- stacked densities

SHARES = np.array([0.7, 0.1, 0.2])


def stacked(shares=SHARES, second=None):
    return StackedDensity(mixture(1, seed=1), second, np.asarray(shares))


@given(seen=PATTERNS, shares=st.sampled_from([SHARES, np.array([0.99, 0.01, 0])]))
@settings(max_examples=30, deadline=None)
def test_the_stacked_density_is_the_weighted_sum(seen, shares):
    X, second = 2 * draws(*seen.shape), mixture()
    elsewhere = draws(len(X), seed=2)
    density = stacked(shares, second)
    found = density.log_density(elsewhere, X, seen)
    parts = density.linear.log_density(X, seen), second.log_density(X, seen)
    expected = shares @ np.exp([elsewhere, *parts])
    assert_allclose(found, np.log(expected), atol=1e-9)
    assert (found >= np.log(shares[1]) + parts[0] - 1e-12).all()


def test_without_a_mixture_two_densities_are_mixed():
    X, elsewhere = draws(20, N_COLUMNS), draws(20, seed=2)
    density = stacked([0.99, 0.01, 0])
    linear = density.linear.log_density(X, whole(X))
    expected = np.logaddexp(np.log(0.99) + elsewhere, np.log(0.01) + linear)
    assert_allclose(density.log_density(elsewhere, X, whole(X)), expected)


@pytest.mark.parametrize("elsewhere", [-np.inf, -1e30, 0.0])
def test_no_row_falls_below_the_linear_share(elsewhere):
    X = 50 * draws(20, N_COLUMNS)
    density = stacked(second=mixture())
    found = density.log_density(np.full(20, elsewhere), X, whole(X))
    linear = density.linear.log_density(X, whole(X))
    assert np.isfinite(found).all()
    assert (found >= np.log(0.1) + linear - 1e-9).all()


def test_stacked_rows_do_not_depend_on_their_company(monkeypatch):
    X, elsewhere = draws(30, N_COLUMNS), draws(30, seed=2)
    seen = np.random.default_rng(1).uniform(size=X.shape) > 0.2
    density = stacked(second=mixture())
    together = density.log_density(elsewhere, X, seen)
    alone = [density.log_density(elsewhere[[i]], X[[i]], seen[[i]]) for i in range(30)]
    assert_allclose(np.concatenate(alone), together)
    monkeypatch.setattr("skae.model._mixture.CHUNK_ROWS", 7)
    monkeypatch.setattr("skae.model._stack.CHUNK_ROWS", 7)
    assert_allclose(density.log_density(elsewhere, X, seen), together)


def base():
    return StackedDensity(normal([0, 0], 5.0), None, np.array([0.99, 0.01, 0.0]))


def test_a_good_mixture_gets_a_share_and_the_linear_keeps_its_own():
    density = normal([0, 0])
    X = density.sample(200, np.random.default_rng(0))
    elsewhere = normal([1, 1]).log_density(X, whole(X))
    wider = base().weigh(elsewhere, X, density)
    assert wider.mixture is density
    assert wider.shares[2] > 0.8
    assert wider.shares[1] >= 0.01 - 1e-12
    assert_allclose(wider.shares.sum(), 1)


def test_a_mixture_that_gets_a_share_makes_the_rows_likelier():
    density = mixture(3, 2)
    X = density.sample(300, np.random.default_rng(0))
    elsewhere = normal([0, 0], 3.0).log_density(X, whole(X))
    before = base().log_density(elsewhere, X, whole(X)).mean()
    wider = base().weigh(elsewhere, X, density)
    assert wider.log_density(elsewhere, X, whole(X)).mean() > before


def test_a_bad_mixture_gets_nothing():
    X = draws(200, 2)
    elsewhere = normal([0, 0]).log_density(X, whole(X))
    start = base()
    assert start.weigh(elsewhere, X, normal([30, 30])) is start


def test_the_same_density_again_gets_nothing():
    X, density = draws(200, 2), normal([0, 0])
    start = StackedDensity(density, None, np.array([0.99, 0.01, 0.0]))
    assert start.weigh(density.log_density(X, whole(X)), X, density) is start


@pytest.mark.parametrize(("n_rows", "wins"), [(1, False), (20, True)])
def test_a_gain_within_its_standard_error_is_none(n_rows, wins):
    X, density = draws(200, 2), normal([0, 0])
    elsewhere = density.log_density(X, whole(X)) + 30
    elsewhere[:n_rows] -= 30 + np.log(200 * np.exp(3))
    start = StackedDensity(normal([99, 99]), None, np.array([0.99, 0.01, 0.0]))
    assert (start.weigh(elsewhere, X, density) is not start) == wins


def test_two_rows_can_judge():
    X, density = draws(2, 2), normal([0, 0])
    elsewhere = density.log_density(X, whole(X))
    for shift in (-5, 5):
        assert_allclose(base().weigh(elsewhere + shift, X, density).shares.sum(), 1)


@pytest.mark.parametrize(("share", "replaced"), [(0.0, 0), (0.3, 600), (1.0, 2000)])
def test_a_share_of_the_drawn_rows_is_the_mixtures(share, replaced):
    rows, density = np.zeros((2000, 2)), normal([50, -50])
    shares = np.array([1 - share, 0, share])
    StackedDensity(normal([0, 0]), density, shares).replace_some(
        rows, np.random.default_rng(0)
    )
    others = (rows == 0).all(axis=1)
    assert (~others).sum() == pytest.approx(replaced, abs=80)
    assert (np.abs(rows[~others] - [50, -50]) < 6).all()


def test_without_a_mixture_drawn_rows_stay():
    rows = draws(50, 2)
    base().replace_some(rows, np.random.default_rng(0))
    assert_array_equal(rows, draws(50, 2))


# --------------------------------------------------------------------- residuals

MIXING = np.array([[1.0, 0, 0], [0.5, 1.0, 0], [-0.3, 0.2, 0.7]])  # of noise
SLOPE = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, -1.0], [0.3, 2.0, 0.1]])


def linear_residuals(codes, slope=SLOPE, seed=1):
    noise = draws(len(codes), 3, seed=seed) @ MIXING.T
    return np.c_[np.ones(len(codes)), codes] @ slope + noise


def test_linear_residuals_are_learned():
    codes = draws(8000, 2)
    found = Residuals.learn(normal([0, 0]), codes, linear_residuals(codes))
    assert_allclose(found.slopes[0], SLOPE, atol=0.05)
    factor = found.factors[0]
    assert_allclose(factor @ factor.T, MIXING @ MIXING.T, atol=0.05)
    assert_array_equal(factor, np.tril(factor))


def test_every_part_of_the_codes_has_its_own_residuals():
    means = np.array([[0.0, 0.0], [30.0, 0.0]])
    density = MixtureDensity(np.full(2, 0.5), means, np.stack([np.eye(2)] * 2))
    codes = density.sample(6000, np.random.default_rng(0))
    first = codes[:, 0] < 15
    residuals = np.where(
        first[:, None], linear_residuals(codes), linear_residuals(codes, -SLOPE)
    )
    found = Residuals.learn(density, codes, residuals)
    assert_allclose(found.slopes[0], SLOPE, atol=0.15)
    assert_allclose(found.slopes[1, 1:], -SLOPE[1:], atol=0.15)
    drawn = found.draw(codes, np.random.default_rng(0))
    for rows in (first, ~first):
        assert_allclose(
            drawn[rows].mean(axis=0), residuals[rows].mean(axis=0), atol=0.15
        )
        assert_allclose(np.cov(drawn[rows].T), np.cov(residuals[rows].T), atol=0.35)


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20, 2.0**30])
def test_units_of_the_codes_do_not_matter_to_residuals(factor):
    codes = draws(200, 2)
    residuals = linear_residuals(codes)
    one, other = (
        Residuals.learn(normal([0, 0], unit), unit * codes, residuals)
        for unit in (1, factor)
    )
    assert_allclose(other.slopes[0, 0], one.slopes[0, 0], atol=1e-6)
    assert_allclose(factor * other.slopes[0, 1:], one.slopes[0, 1:], atol=1e-6)
    assert_allclose(other.factors, one.factors, atol=1e-6)


@pytest.mark.parametrize("code", [(0.0, 0.0), (1.5, -1.0)])
def test_draws_have_the_conditional_mean_and_covariance(code):
    codes = draws(8000, 2)
    found = Residuals.learn(normal([0, 0]), codes, linear_residuals(codes))
    drawn = found.draw(np.tile(code, (20_000, 1)), np.random.default_rng(0))
    assert_allclose(drawn.mean(axis=0), np.r_[1, code] @ SLOPE, atol=0.1)
    assert_allclose(np.cov(drawn.T), MIXING @ MIXING.T, atol=0.07)


def test_draws_are_repeatable():
    codes = draws(100, 2)
    found = Residuals.learn(normal([0, 0]), codes, linear_residuals(codes))
    one, other = (found.draw(codes, np.random.default_rng(2)) for _ in range(2))
    assert_array_equal(one, other)


@pytest.mark.parametrize("n_rows", [10, 50, 400])
def test_few_rows_shrink_correlations_but_no_variance(n_rows):
    codes = draws(n_rows, 1)
    residuals = np.repeat(draws(n_rows, 1, seed=1), 5, axis=1)
    factor = Residuals.learn(normal([0]), codes, residuals).factors[0]
    covariance = factor @ factor.T
    regressors = np.c_[np.ones(n_rows), codes]
    noise = residuals - regressors @ np.linalg.lstsq(regressors, residuals)[0]
    assert_allclose(covariance.diagonal(), noise.var(axis=0), rtol=1e-6)
    correlations = covariance / covariance[0, 0]
    expected = n_rows / (n_rows + 5)
    assert_allclose(correlations[~np.eye(5, dtype=bool)], expected, rtol=1e-6)


def test_many_columns_get_independent_noise():
    codes, common = draws(500, 1), draws(500, 1, seed=1)
    scales = np.linspace(1, 3, WIDEST + 1)
    found = Residuals.learn(normal([0]), codes, common * scales)
    assert found.factors.shape == (1, WIDEST + 1)
    drawn = found.draw(draws(3000, 1, seed=2), np.random.default_rng(0))
    assert_allclose(drawn.std(axis=0), common.std() * scales, rtol=0.1)
    correlations = np.corrcoef(drawn[:, :30].T)[~np.eye(30, dtype=bool)]
    assert np.abs(correlations).max() < 0.12


@pytest.mark.parametrize("n_columns", [1, 3, WIDEST + 1])
def test_no_residuals_are_drawn_as_none(n_columns):
    codes = draws(60, 2)
    found = Residuals.learn(normal([0, 0]), codes, np.zeros((60, n_columns)))
    assert_allclose(found.draw(codes, np.random.default_rng(0)), 0, atol=1e-6)


def test_a_column_without_residuals_stays_without():
    codes = draws(200, 2)
    residuals = linear_residuals(codes)
    residuals[:, 1] = 0
    found = Residuals.learn(normal([0, 0]), codes, residuals)
    drawn = found.draw(codes, np.random.default_rng(0))
    assert_allclose(drawn[:, 1], 0, atol=1e-4)
    assert (drawn[:, [0, 2]].std(axis=0) > 0.5).all()


@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_a_few_rows_have_residuals(n_rows):
    codes, residuals = draws(n_rows, 2), draws(n_rows, 3, seed=1)
    found = Residuals.learn(fit_mixture(codes, 0), codes, residuals)
    drawn = found.draw(codes, np.random.default_rng(0))
    assert np.isfinite(drawn).all()
    assert np.abs(drawn - residuals).max() < 3


def test_a_part_that_no_row_belongs_to_draws_finite_residuals():
    means = np.array([[0.0, 0.0], [1e4, 0.0]])
    density = MixtureDensity(np.full(2, 0.5), means, np.stack([np.eye(2)] * 2))
    codes = draws(100, 2)
    found = Residuals.learn(density, codes, linear_residuals(codes))
    drawn = found.draw(means[1:], np.random.default_rng(0))
    assert np.isfinite(drawn).all()


def test_a_table_of_levels_alone_has_no_columns_of_residuals():
    codes = draws(50, 2)
    found = Residuals.learn(normal([0, 0]), codes, np.empty((50, 0)))
    assert found.draw(codes, np.random.default_rng(0)).shape == (50, 0)
