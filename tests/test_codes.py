"""Codes, what they explain, and the scores and rows that come from them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import logsumexp
from settings import curved_table
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAETransformer
from skae.model._evidence import NetworkDensity
from skae.model._mixture import Mixture
from skae.model._stack import Stack

CLASSES = (AutoencoderTransformer, VAETransformer)
BOTH = pytest.mark.parametrize("cls", CLASSES)
TRAINED = {
    "max_iter": 25,
    "hidden_layer_sizes": (16,),
    "validation_fraction": None,  # no mixture to choose then
    "random_state": 0,
    "device": "cpu",
}
BRIEF = {**TRAINED, "max_iter": 2}
HELD_OUT = {**TRAINED, "validation_fraction": 0.1}
START = {**TRAINED, "max_iter": 0}
X = curved_table()
NEW = curved_table(150, seed=1)


def clusters(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0], [9, 0], [0, 9]])
    return centres[rng.integers(3, size=n_rows)] + rng.normal(size=(n_rows, 2))


CLUSTERS = clusters(60, seed=2)


def linear_table(n_samples=300, n_columns=8, rank=2, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(rank, n_columns))
    signal = rng.normal(size=(n_samples, rank)) @ mixing
    return signal + noise * rng.normal(size=signal.shape)


def with_holes(table, share=0.1, seed=5):
    rng = np.random.default_rng(seed)
    return np.where(rng.uniform(size=table.shape) < share, np.nan, table)


def spectrum(table):
    scaled = StandardScaler().fit_transform(table)
    return PCA(svd_solver="full").fit(scaled).explained_variance_ratio_


@cache
def fitted(cls, n_components=2, **parameters):
    return cls(n_components, **{**TRAINED, **parameters}).fit(X)


@cache
def stacked():
    """Fit clusters, and give network, linear model and mixture a share each."""
    est = VAETransformer(1, **{**HELD_OUT, "max_iter": 10}).fit(clusters(400))
    assert est.best_iter_ > 0
    shares = {"vae": 0.5, "ppca": 0.1, "mixture": 0.4}
    parts = {"vae": NetworkDensity(est._model), **est._density.parts}
    assert parts.keys() == shares.keys()
    est._density = Stack(parts, shares)
    return est


MODELS = pytest.mark.parametrize(
    ("make", "rows"),
    [
        (lambda: fitted(VAETransformer, 1), NEW),
        (lambda: fitted(VAETransformer, 3), NEW),
        (lambda: fitted(VAETransformer, validation_fraction=0.1), NEW),
        (stacked, CLUSTERS),
    ],
    ids=["one code", "three codes", "default", "all three"],
)


# -------------------------------------------------------- what components explain


@pytest.mark.parametrize("n_components", [1, 3, 5])
def test_the_start_explains_what_pca_explains(n_components):
    est = fitted(AutoencoderTransformer, n_components, max_iter=0)
    found = est.explained_variance_ratio_
    assert_allclose(found, spectrum(X)[:n_components], rtol=1e-4)


@pytest.mark.parametrize("n_components", [1, 3])
def test_the_start_of_the_vae_explains_what_probabilistic_pca_does(n_components):
    est = fitted(VAETransformer, n_components, max_iter=0)
    pca = PCA(n_components).fit(StandardScaler().fit_transform(X))
    noise = pca.noise_variance_ / pca.explained_variance_
    carried = pca.explained_variance_ * (1 - noise) ** 2
    explained = pca.explained_variance_ratio_ @ (1 - noise**2)
    expected = explained * carried / carried.sum()
    assert_allclose(est.explained_variance_ratio_, expected, rtol=1e-4)


@BOTH
@pytest.mark.parametrize("parameters", [{}, {"linear_path": False}, {"max_iter": 0}])
@pytest.mark.parametrize("n_components", [4])
def test_components_share_what_the_reconstruction_explains(
    cls, n_components, parameters
):
    est = fitted(cls, n_components, **parameters)
    ratios = est.explained_variance_ratio_
    scaled = StandardScaler().fit(X)
    back = scaled.transform(est.inverse_transform(est.transform(X)))
    explained = 1 - ((scaled.transform(X) - back) ** 2).mean()
    assert ratios.shape == (n_components,)
    assert (ratios >= 0).all()
    assert ratios.sum() <= 1
    assert ratios.sum() == pytest.approx(max(explained, 0), abs=1e-4)
    if parameters != {"max_iter": 0, "linear_path": False}:
        assert (np.diff(ratios) <= 1e-7).all()


def test_the_shares_add_up_to_the_score():
    est = fitted(AutoencoderTransformer, 3)
    assert est.explained_variance_ratio_.sum() == pytest.approx(est.score(X), abs=1e-5)


@BOTH
@pytest.mark.parametrize("parameters", [{}, {"linear_path": False}])
def test_a_component_carries_what_changes_when_it_is_held_at_its_mean(cls, parameters):
    est = fitted(cls, 3, **parameters)
    codes, scale = est.transform(X), X.std(axis=0)
    whole = est.inverse_transform(codes)
    changes = []
    for k in range(3):
        without = codes.copy()
        without[:, k] = codes[:, k].mean()
        change = (est.inverse_transform(without) - whole) / scale
        changes.append((change**2).sum(axis=1).mean())
    ratios = est.explained_variance_ratio_
    expected = ratios.sum() * np.array(changes) / sum(changes)
    assert_allclose(ratios, expected, rtol=1e-3, atol=1e-6)


def test_components_beyond_the_columns_explain_nothing():
    est = AutoencoderTransformer(8, **START).fit(X)
    ratios = est.explained_variance_ratio_
    assert_allclose(ratios[:5], spectrum(X), rtol=1e-4)
    assert_allclose(ratios[5:], 0, atol=1e-9)


@BOTH
def test_a_constant_table_has_nothing_to_explain(cls):
    est = cls(2, **START).fit(np.full((20, 3), 2.5))
    assert_array_equal(est.explained_variance_ratio_, 0)


@BOTH
@pytest.mark.parametrize("weighted", [False, True])
def test_an_explained_share_is_that_of_weighted_rows(cls, weighted):
    weight = np.repeat([1, 3 if weighted else 1], 150)
    one = cls(2, **START).fit(X, sample_weight=weight)
    other = cls(2, **START).fit(np.repeat(X, weight, axis=0))
    assert_allclose(
        one.explained_variance_ratio_, other.explained_variance_ratio_, rtol=1e-5
    )


@BOTH
def test_a_table_with_holes_is_explained_about_as_well(cls):
    table = linear_table()
    est = cls(2, **START).fit(with_holes(table))
    whole = cls(2, **START).fit(table)
    assert_allclose(
        est.explained_variance_ratio_, whole.explained_variance_ratio_, atol=0.05
    )
    assert (np.diff(est.explained_variance_ratio_) <= 1e-6).all()


@BOTH
@pytest.mark.parametrize("parameters", [{}, {"linear_path": False}])
def test_codes_go_back_to_what_the_module_reconstructs(cls, parameters):
    est = fitted(cls, 4, **parameters)
    scaler = StandardScaler().fit(X)
    rows = torch.from_numpy(scaler.transform(NEW))
    with torch.no_grad():
        expected = est._model.module(torch.float64)(rows).numpy()
    found = est.inverse_transform(est.transform(NEW))
    assert_allclose(found, scaler.inverse_transform(expected), rtol=1e-9)
    with torch.no_grad():
        single = est.module_(rows.float()).numpy()
    assert_allclose(single, expected, atol=1e-3)


@BOTH
def test_some_fit_puts_components_in_another_order_than_the_encoder(cls):
    order = fitted(cls, 4, linear_path=False)._model.order.tolist()
    assert sorted(order) == [0, 1, 2, 3]
    assert order != [0, 1, 2, 3]


def test_the_divergences_of_the_components_follow_their_order():
    est = fitted(VAETransformer, 4, linear_path=False, prior="normal")
    mean, deviation = est.posterior(X)
    kl = 0.5 * (mean**2 + deviation**2 - 1) - np.log(deviation)
    found = est.kl_per_component_
    assert np.argsort(found).tolist() == np.argsort(kl.mean(axis=0)).tolist()
    assert_allclose(found, kl.mean(axis=0), rtol=0.2)


# --------------------------------------------------------------- the width of codes

WIDE = linear_table(150, 12, rank=12, noise=1.0)


@BOTH
@given(share=st.floats(0.01, 0.99))
@hypothesis_settings(max_examples=8, deadline=None)
def test_a_share_gives_the_width_that_pca_takes(cls, share):
    scaled = StandardScaler().fit_transform(WIDE)
    expected = PCA(share, svd_solver="full").fit(scaled).n_components_
    est = cls(share, **START).fit(WIDE)
    assert est.n_components_ == expected
    assert est.transform(WIDE).shape == (150, expected)


@BOTH
def test_the_default_share_is_nine_tenths(cls):
    auto, named = (cls(width, **START).fit(WIDE) for width in ("auto", 0.9))
    assert auto.n_components_ == named.n_components_
    assert auto.n_components_ == 1 + (spectrum(WIDE).cumsum() < 0.9).sum()
    assert_array_equal(auto.transform(WIDE), named.transform(WIDE))


@BOTH
def test_the_share_that_was_asked_for_is_explained(cls):
    ratios = AutoencoderTransformer(0.7, **START).fit(WIDE).explained_variance_ratio_
    assert ratios.sum() >= 0.7
    assert ratios[:-1].sum() < 0.7


@BOTH
def test_a_number_of_components_is_taken_as_it_is(cls):
    est = cls(np.int64(3), **START).fit(X)
    assert est.n_components_ == 3
    assert type(est.n_components_) is int


@BOTH
@pytest.mark.parametrize("width", [1, 7, 0.5, "auto"])
def test_the_codes_have_a_name_each(cls, width):
    est = cls(width, **START).fit(X)
    names = est.get_feature_names_out()
    expected = [f"{cls.__name__.lower()}{i}" for i in range(est.n_components_)]
    assert names.tolist() == expected
    assert len(est.explained_variance_ratio_) == len(names)
    frame = clone(est).set_output(transform="pandas").fit_transform(X)
    assert frame.columns.tolist() == expected


@BOTH
@pytest.mark.parametrize("width", [0, 0.0, 1.0, -1, 1.5, np.nan, "many", None, [2]])
def test_widths_that_are_none_are_refused_by_name(cls, width):
    with pytest.raises(ValueError, match="n_components"):
        cls(width, **START).fit(X)


@BOTH
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, "auto"])
def test_a_constant_table_gets_one_component(cls, share):
    assert cls(share, **START).fit(np.ones((20, 3))).n_components_ == 1


@BOTH
@pytest.mark.parametrize("shape", [(4, 9), (30, 2), (3, 1)], ids=str)
def test_a_share_asks_for_no_more_than_the_table_has(cls, shape):
    table = np.random.default_rng(0).normal(size=shape)
    est = cls(0.9999, **START).fit(table)
    assert 1 <= est.n_components_ <= min(shape)


@BOTH
def test_a_share_counts_rows_by_their_weights(cls):
    weight = np.random.default_rng(0).integers(1, 5, size=len(WIDE))
    weight[:50] *= 4
    weighted = cls(0.6, **START).fit(WIDE, sample_weight=weight)
    repeated = cls(0.6, **START).fit(np.repeat(WIDE, weight, axis=0))
    assert weighted.n_components_ == repeated.n_components_


@BOTH
def test_a_share_of_a_table_with_holes_is_about_that_of_the_whole(cls):
    table = linear_table(rank=3, noise=0.1)
    whole, some = (cls(0.9, **START).fit(t) for t in (table, with_holes(table)))
    assert abs(some.n_components_ - whole.n_components_) <= 1
    assert some.transform(with_holes(table)).shape == (300, some.n_components_)


@BOTH
def test_a_share_holds_in_a_table_with_levels(cls):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(linear_table(100, 4)).add_prefix("x")
    frame["kind"] = rng.choice(list("abc"), size=100)
    est = cls("auto", **START).fit(frame)
    assert 1 < est.n_components_ < 7
    assert est.inverse_transform(est.transform(frame)).shape == frame.shape


@BOTH
def test_going_on_keeps_the_width_of_the_first_fit(cls):
    lines, noise = linear_table(noise=0.1), linear_table(rank=8)
    est = cls(0.8, warm_start=True, **BRIEF).fit(lines)
    first = est.n_components_
    assert cls(0.8, **START).fit(noise).n_components_ > first
    est.fit(noise)
    assert est.n_components_ == first == est.transform(noise).shape[1]
    assert est.n_iter_ == 4


@BOTH
def test_going_on_with_another_number_of_components_is_refused(cls):
    est = cls(2, warm_start=True, **{**TRAINED, "max_iter": 1}).fit(X)
    with pytest.raises(ValueError, match="n_components=3"):
        est.set_params(n_components=3).fit(X)
    assert est.n_components_ == 2


@BOTH
@pytest.mark.parametrize("width", [2, 0.5, "auto"])
def test_widths_survive_a_clone(cls, width):
    est = cls(width, **START).fit(X)
    twin = clone(est)
    assert twin.n_components == width
    assert not hasattr(twin, "n_components_")
    assert twin.fit(X).n_components_ == est.n_components_


@BOTH
def test_widths_can_be_searched(cls):
    grid = {"n_components": [2, 0.5, "auto"]}
    search = GridSearchCV(cls(**BRIEF), grid, cv=2).fit(X[:60])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["n_components"] in grid["n_components"]


# ------------------------------------------------------------------ the posterior


@pytest.mark.parametrize("parameters", [{}, {"linear_path": False}, {"max_iter": 0}])
def test_the_mean_of_the_posterior_is_the_code(parameters):
    est = fitted(VAETransformer, 4, **parameters)
    mean, deviation = est.posterior(NEW)
    assert_array_equal(mean, est.transform(NEW))
    assert mean.shape == deviation.shape == (len(NEW), 4)
    assert np.isfinite(deviation).all()
    assert (deviation > 0).all()


@pytest.mark.parametrize("n_components", [1, 3])
def test_the_start_is_as_sure_of_a_code_as_probabilistic_pca(n_components):
    est = fitted(VAETransformer, n_components, max_iter=0)
    pca = PCA(n_components).fit(StandardScaler().fit_transform(X))
    expected = np.sqrt(pca.noise_variance_ / pca.explained_variance_)
    _, deviation = est.posterior(NEW)
    assert_allclose(deviation, np.tile(expected, (len(NEW), 1)), rtol=1e-6)


def test_the_posterior_keeps_the_precision_of_the_table():
    for dtype in (np.float32, np.float64):
        moments = fitted(VAETransformer).posterior(NEW.astype(dtype))
        assert [moment.dtype for moment in moments] == [dtype, dtype]


def test_a_hole_leaves_more_open():
    est = fitted(VAETransformer, 2, max_iter=0)
    holes = np.where(np.arange(5) == 2, np.nan, NEW)
    assert (est.posterior(holes)[1] > est.posterior(NEW)[1]).all()


def test_of_a_row_without_cells_the_prior_is_left():
    est = fitted(VAETransformer, 2, max_iter=0)
    mean, deviation = est.posterior(np.full((1, 5), np.nan))
    assert_allclose(mean, 0, atol=1e-9)
    assert_allclose(deviation, 1, rtol=1e-9)


# --------------------------------------------------------------- bounds and scores

POINTS = pytest.mark.parametrize("n_points", [1, 30])


@MODELS
def test_the_bound_is_below_the_evidence_of_every_row(make, rows):
    est = make()
    bound = est.elbo(rows, n_importance_samples=512)
    evidence = est.log_evidence(rows, n_importance_samples=512)
    assert (bound <= evidence + 0.02).all()


@pytest.mark.parametrize("width", [1, 3])
def test_of_a_trained_network_the_bound_is_not_the_evidence(width):
    est = fitted(VAETransformer, width)
    assert (est.log_evidence(NEW) - est.elbo(NEW)).mean() > 0.01


@MODELS
def test_with_one_point_the_bound_is_the_evidence(make, rows):
    bound = make().elbo(rows, n_importance_samples=1)
    evidence = make().log_evidence(rows, n_importance_samples=1)
    assert_allclose(bound, evidence, rtol=1e-12)


@MODELS
def test_the_score_is_the_stack_of_the_evidence_and_closed_forms(make, rows):
    est = make()
    matrix = est._table.encode(rows).matrix
    seen, jacobian = np.ones(matrix.shape, bool), est._table.log_jacobian(rows)
    each = {
        name: part.given(matrix, seen).log_density + jacobian
        for name, part in est._density.parts.items()
    }
    if "vae" in each:
        assert_allclose(each["vae"], est.log_evidence(rows))
    shares = [[est._density.shares[name]] for name in each]
    expected = logsumexp(list(each.values()), axis=0, b=shares)
    assert_allclose(est.score_samples(rows), expected)


@POINTS
@pytest.mark.parametrize("width", [1, 3])
def test_at_the_start_the_bound_is_the_score(width, n_points):
    est = fitted(VAETransformer, width, max_iter=0)
    bound = est.elbo(NEW, n_importance_samples=n_points)
    score = est.score_samples(NEW, n_importance_samples=n_points)
    assert_allclose(bound, score, rtol=1e-8)


@POINTS
def test_at_the_start_a_code_of_one_component_is_exact_with_holes_too(n_points):
    est, table = fitted(VAETransformer, 1, max_iter=0), with_holes(NEW)
    bound = est.elbo(table, n_importance_samples=n_points)
    score = est.score_samples(table, n_importance_samples=n_points)
    assert_allclose(bound, score, rtol=1e-8)


@pytest.mark.parametrize("n_components", [1, 2, 4])
def test_the_start_scores_as_pca_of_the_standardised_table(n_components):
    scaler = StandardScaler().fit(X)
    pca = PCA(n_components).fit(scaler.transform(X))
    expected = pca.score_samples(scaler.transform(NEW)) - np.log(scaler.scale_).sum()
    est = fitted(VAETransformer, n_components, max_iter=0)
    assert_allclose(est.score_samples(NEW), expected, rtol=1e-6)


def test_seen_cells_score_as_the_marginal_of_probabilistic_pca():
    scaler = StandardScaler().fit(X)
    pca = PCA(1).fit(scaler.transform(X))
    seen = [0, 3, 4]
    covariance = pca.get_covariance()[np.ix_(seen, seen)]
    model = stats.multivariate_normal(pca.mean_[seen], covariance)
    rows = scaler.transform(NEW)[:, seen]
    expected = model.logpdf(rows) - np.log(scaler.scale_[seen]).sum()
    table = np.full(NEW.shape, np.nan)
    table[:, seen] = NEW[:, seen]
    est = fitted(VAETransformer, 1, max_iter=0)
    assert_allclose(est.score_samples(table), expected, rtol=1e-6)


@POINTS
def test_a_row_without_cells_scores_nothing(n_points):
    empty = np.full((3, 5), np.nan)
    est = fitted(VAETransformer)
    for method in (est.score_samples, est.log_evidence, est.elbo):
        found = method(empty, n_importance_samples=n_points)
        assert_allclose(found, 0, atol=1e-12)


@MODELS
def test_more_points_raise_the_mean_score_until_it_settles(make, rows):
    means = [
        make().score_samples(rows[:20], n_importance_samples=n).mean()
        for n in (1, 4, 16, 64, 256, 100, 10_000)
    ]
    assert (np.diff(means[:5]) > -0.05).all()  # the same few points for all rows
    assert means[5] == pytest.approx(means[6], abs=0.1)


@MODELS
def test_a_row_scores_the_same_in_any_order_and_company(make, rows):
    est = make()
    together = est.score_samples(rows)
    assert_allclose(est.score_samples(rows[::-1])[::-1], together, rtol=1e-9)
    alone = [est.score_samples(row[None])[0] for row in rows[:10]]
    assert_allclose(alone, together[:10], rtol=1e-9)


def parts_of(est, rows):
    """Log-density of rows by quadrature over a code of one dimension, and by parts."""
    matrix = est._table.encode(rows).matrix
    module, z = est._model.module(torch.float64), torch.linspace(-9, 9, 4001).double()
    with torch.no_grad():
        output = module.decoder(z[:, None, None])
        given = module.loss.row_sum(output, torch.from_numpy(matrix), None)
        joint = given + module.prior.log_prob(z[:, None, None])
    parts = {"vae": logsumexp(joint.numpy(), axis=0) + np.log(float(z[1] - z[0]))}
    for name in ("ppca", "mixture"):
        if name in est._density.parts:
            known = est._density.parts[name].given(matrix, np.isfinite(matrix))
            parts[name] = known.log_density
    jacobian = est._table.log_jacobian(rows)
    return {name: part + jacobian for name, part in parts.items()}


@pytest.mark.parametrize(
    ("make", "rows"),
    [(lambda: fitted(VAETransformer, 1), NEW[:60]), (stacked, CLUSTERS)],
)
def test_many_points_give_the_integral_over_the_code(make, rows):
    est = make()
    parts = parts_of(est, rows)
    shares = [[est._density.shares[name]] for name in parts]
    expected = logsumexp(list(parts.values()), axis=0, b=shares)
    found = est.score_samples(rows, n_importance_samples=10_000)
    assert_allclose(found, expected, atol=1e-2)


def test_no_row_falls_below_its_share_of_either_closed_form():
    est = stacked()
    rows = 30 * clusters(60, seed=2)
    parts = parts_of(est, rows)
    found, shares = est.score_samples(rows), est._density.shares
    for name in ("ppca", "mixture"):
        assert (found >= parts[name] + np.log(shares[name]) - 1e-6).all()


def test_clusters_are_found_about_as_likely_as_they_are():
    est = VAETransformer(1, **{**HELD_OUT, "max_iter": 10}).fit(clusters(400))
    entropy = 1 + np.log(2 * np.pi) + np.log(3)
    assert est.density_shares_["mixture"] > 0.5
    assert est.score(clusters(500, seed=3)) == pytest.approx(-entropy, abs=0.2)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_mixture_gets_no_share_that_costs_new_rows(seed):
    table, new = linear_table(seed=seed), linear_table(seed=seed + 10)
    est = VAETransformer(2, **HELD_OUT).fit(table)
    found = est.score(new)
    parts = {"vae": NetworkDensity(est._model), "ppca": est._density.parts["ppca"]}
    est._density = Stack(parts, {"vae": 0.99, "ppca": 0.01})
    assert found > est.score(new) - 0.05


def test_a_stacked_density_integrates_to_one():
    side = np.linspace(-15, 24, 66)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    density = np.exp(stacked().score_samples(grid, n_importance_samples=30))
    assert density.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    "parameters",
    [{"likelihood": "laplace"}, {"linear_path": False}, {"validation_fraction": None}],
    ids=str,
)
def test_no_mixture_is_weighed_where_there_is_nothing_to_judge_it_by(parameters):
    est = VAETransformer(1, **{**HELD_OUT, "max_iter": 2, **parameters})
    est.fit(clusters(100))
    assert "mixture" not in est._density.parts
    assert est.density_shares_["mixture"] == 0


# -------------------------------------------------------- errors of cells


@BOTH
def test_errors_of_cells_come_as_the_table_came(cls):
    frame = pd.DataFrame(NEW, columns=list("abcde")).set_axis(range(7, 157))
    table = pd.DataFrame(X, columns=list("abcde"))
    errors = cls(2, **START).fit(table).reconstruction_error(frame)
    assert isinstance(errors, pd.DataFrame)
    assert errors.columns.equals(frame.columns)
    assert errors.index.equals(frame.index)
    assert (errors >= 0).all(axis=None)
    array = cls(2, **START).fit(X).reconstruction_error(NEW)
    assert_array_equal(array, errors)


@BOTH
def test_errors_are_squares_of_scaled_deviations(cls):
    est = fitted(cls)
    back = est.inverse_transform(est.transform(NEW))
    expected = ((NEW - back) / X.std(axis=0)) ** 2
    assert_allclose(est.reconstruction_error(NEW), expected, rtol=1e-6, atol=1e-12)


@BOTH
def test_missing_cells_have_no_error(cls):
    est, table = fitted(cls), with_holes(NEW)
    errors = est.reconstruction_error(table)
    assert_array_equal(np.isnan(errors), np.isnan(table))


def test_the_mean_error_of_a_row_is_its_negative_score():
    est = fitted(AutoencoderTransformer)
    for table in (NEW, with_holes(NEW)):
        errors = np.nanmean(est.reconstruction_error(table), axis=1)
        assert_allclose(errors, -est.score_samples(table), rtol=1e-9)


@pytest.mark.parametrize("n_components", [5, 7])
def test_an_exact_reconstruction_has_no_errors(n_components):
    est = AutoencoderTransformer(n_components, **START).fit(X)
    assert_allclose(est.reconstruction_error(NEW), 0, atol=1e-20)


@BOTH
def test_errors_of_a_table_with_levels_are_sums_over_the_levels(cls):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(linear_table(100, 3)).add_prefix("x")
    frame["kind"] = rng.choice(list("abc"), size=100)
    frame["one"] = "same"
    frame["none"] = np.nan
    frame.loc[::9, "kind"] = None
    est = cls(2, **START).fit(frame)
    errors = est.reconstruction_error(frame)
    assert errors.columns.tolist() == frame.columns.tolist()
    assert_array_equal(errors.isna(), frame.isna())
    assert_array_equal(errors["one"], 0)
    seen = errors["kind"].dropna()
    assert (seen > 0).all()
    assert seen.mean() < 1.5


@BOTH
@pytest.mark.parametrize("parameters", [{}, {"max_iter": 0}])
@pytest.mark.parametrize("column", range(6))
def test_a_cell_that_is_odd_has_the_largest_error_of_its_row(cls, column, parameters):
    est = lines(cls, **parameters)
    table, rows = linear_table(300, 6), linear_table(20, 6, seed=7)
    rows[:, column] += 8 * table[:, column].std()
    errors = est.reconstruction_error(rows)
    assert (errors.argmax(axis=1) == column).all()


@cache
def lines(cls, **parameters):
    """Fit a table in which the cells of a row tell of each other."""
    return cls(2, **{**TRAINED, **parameters}).fit(linear_table(300, 6))


# --------------------------------------------------------------------- wild rows


WHERE = pytest.mark.parametrize("n_cells", [1, 5], ids=["a cell", "a row"])


@cache
def spoilt(cls, n_cells):
    """Fit a table with a row of which cells are a thousand deviations off."""
    table = X.copy()
    table[0, :n_cells] += 1000 * X.std(axis=0)[:n_cells]
    return cls(2, **HELD_OUT).fit(table), table


@BOTH
@WHERE
def test_one_wild_row_breaks_nothing(cls, n_cells):
    est, table = spoilt(cls, n_cells)
    results = [
        est.transform(table),
        est.score_samples(table),
        est.inverse_transform(est.transform(table)),
        est.reconstruction_error(table),
        est.explained_variance_ratio_,
        est.sample(100, random_state=0),
        est.loss_curve_,
    ]
    assert all(np.isfinite(result).all(axis=None) for result in results)


@WHERE
def test_one_wild_row_costs_the_others_less_than_a_nat(n_cells):
    clean = fitted(VAETransformer, validation_fraction=0.1).score(NEW)
    assert spoilt(VAETransformer, n_cells)[0].score(NEW) > clean - 1


# -------------------------------------------------------------------- drawn rows


def spiky_table(n_samples=400, seed=0):
    """Draw numbers, whole numbers, zeros with a tail, and a rare one."""
    rng = np.random.default_rng(seed)
    u, v = rng.normal(size=(2, n_samples))
    zeros = np.maximum(u - stats.norm.ppf(0.4), 0)
    rare = u + 0.3 * v > np.sqrt(1.09) * stats.norm.ppf(0.9)
    noise = rng.normal(size=n_samples)
    return np.c_[u, np.exp(v), np.round(3 * u + noise), zeros, rare, u + v + noise]


@cache
def spiky(cls, **parameters):
    return cls(2, **{**TRAINED, "max_iter": 10, **parameters}).fit(spiky_table())


STARTS = pytest.mark.parametrize("parameters", [{}, {"max_iter": 0}], ids=str)


@BOTH
@STARTS
def test_drawn_rows_stay_in_the_range_and_the_decimals_of_the_table(cls, parameters):
    rows, table = spiky(cls, **parameters).sample(3000, random_state=0), spiky_table()
    assert (rows >= table.min(axis=0)).all()
    assert (rows <= table.max(axis=0)).all()
    assert_array_equal(rows[:, [2, 4]], rows[:, [2, 4]].round())
    assert set(np.unique(rows[:, 4])) == {0, 1}


@BOTH
@STARTS
def test_zeros_are_drawn_as_often_as_they_are_seen(cls, parameters):
    rows, table = spiky(cls, **parameters).sample(4000, random_state=1), spiky_table()
    for column in (3, 4):
        expected = (table[:, column] == 0).mean()
        assert (rows[:, column] == 0).mean() == pytest.approx(expected, abs=0.05)


@BOTH
@STARTS
def test_rare_values_are_drawn_as_often_as_they_are_seen(cls, parameters):
    rows, table = spiky(cls, **parameters).sample(4000, random_state=1), spiky_table()
    expected = table[:, 4].mean()
    assert rows[:, 4].mean() == pytest.approx(expected, rel=0.3)


@BOTH
@STARTS
@pytest.mark.parametrize("column", range(6))
def test_drawn_columns_are_distributed_as_those_of_the_table(cls, column, parameters):
    rows, table = spiky(cls, **parameters).sample(4000, random_state=2), spiky_table()
    values = np.unique(table[:, column])
    steps = [(part[:, column, None] <= values).mean(axis=0) for part in (rows, table)]
    assert np.abs(steps[0] - steps[1]).max() < 0.07


@BOTH
def test_drawn_rows_are_repeatable(cls):
    est = spiky(cls)
    one, other = (est.sample(50, random_state=4) for _ in range(2))
    assert_array_equal(one, other)
    assert (est.sample(50, random_state=5) != one).any()
    assert_array_equal(est.sample(50, random_state=np.int64(4)), one)


@BOTH
@STARTS
def test_a_gaussian_table_is_drawn_with_its_correlations(cls, parameters):
    table = linear_table(800, 4, rank=4, noise=0.5)
    est = cls(3, **{**TRAINED, "max_iter": 10, **parameters}).fit(table)
    rows = est.sample(4000, random_state=0)
    assert_allclose(np.corrcoef(rows.T), np.corrcoef(table.T), atol=0.1)
    assert_allclose(rows.mean(axis=0), table.mean(axis=0), atol=0.2)
    assert_allclose(rows.std(axis=0), table.std(axis=0), rtol=0.1)


def test_clusters_are_drawn_as_clusters():
    table = clusters(400)
    rows = VAETransformer(1, **{**HELD_OUT, "max_iter": 10}).fit(table).sample(2000, 0)
    centres = np.array([[0, 0], [9, 0], [0, 9]])
    near, wanted = (
        np.linalg.norm(part[:, None] - centres, axis=2) < 3.5 for part in (rows, table)
    )
    assert near.any(axis=1).mean() > 0.9
    assert_allclose(near.mean(axis=0), wanted.mean(axis=0), atol=0.1)


NAMES = ("vae", "ppca", "mixture")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shares", [(0.98, 0.01, 0.01), (0.1, 0.6, 0.3)], ids=str)
def test_each_part_draws_its_share_of_the_rows(name, shares):
    density = replace(stacked()._density, shares=dict(zip(NAMES, shares, strict=True)))
    parts = dict(density.parts)
    mixture = parts["mixture"]
    fields = mixture.weights, mixture.means + 1e3, mixture.covariances
    parts[name] = Mixture(*fields, mixture.chances, mixture.levels)
    rows = replace(density, parts=parts).sample(3000, np.random.default_rng(0))
    share = density.shares[name]
    assert (rows > 500).all(axis=1).mean() == pytest.approx(share, abs=0.03)


def test_a_sample_is_drawn_from_the_density():
    """Its rows, before they get the margins of the table, have its moments.

    Of the safeguard without its heavy tails: with these, a mean of as many rows is a
    matter of a handful of them.
    """
    density = stacked()._density
    parts = dict(density.parts) | {"ppca": stacked()._model.start_density}
    density = replace(density, parts=parts)
    rows = density.sample(20_000, np.random.default_rng(0))
    nothing = np.zeros((1, 2))
    mean, variance = density.at(4096).given(nothing, nothing > 0).moments()
    assert_allclose(rows.mean(axis=0), mean[0], atol=0.05)
    assert_allclose(rows.var(axis=0), variance[0], rtol=0.05)


@BOTH
@pytest.mark.parametrize("missing", [False, True])
def test_rows_of_a_table_with_holes_are_drawn_within_its_range(cls, missing):
    table = with_holes(spiky_table(), 0.2)
    est = cls(2, **{**TRAINED, "max_iter": 3}).fit(table)
    rows = np.asarray(est.sample(1000, random_state=0, missing=missing), dtype=float)
    assert np.isnan(rows).mean() == pytest.approx(0.2 * missing, abs=0.04)
    low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
    assert ((rows >= low) & (rows <= high) | np.isnan(rows)).all()


@BOTH
def test_given_values_are_kept_exactly(cls):
    rows = spiky(cls).sample(200, random_state=0, given={2: 1, 0: 0.25})
    assert_array_equal(rows[:, 2], 1)
    assert_array_equal(rows[:, 0], 0.25)
    table = spiky_table()
    assert (rows >= table.min(axis=0)).all()


@BOTH
def test_a_table_of_levels_alone_is_drawn(cls):
    rng = np.random.default_rng(0)
    kind = rng.choice(list("abc"), size=150)
    frame = pd.DataFrame({"kind": kind, "same": np.where(kind == "a", "yes", "no")})
    rows = cls(1, **{**TRAINED, "max_iter": 3}).fit(frame).sample(500, random_state=0)
    assert rows.columns.tolist() == ["kind", "same"]
    assert set(rows["kind"]) == {"a", "b", "c"}


@BOTH
@pytest.mark.parametrize(("n_rows", "fraction"), [(2, 0.5), (3, 0.5), (5, 0.8)])
def test_a_handful_of_rows_is_fitted_and_drawn(cls, n_rows, fraction):
    table = np.random.default_rng(0).normal(size=(n_rows, 2))
    parameters = {**TRAINED, "max_iter": 2, "validation_fraction": fraction}
    rows = cls(1, **parameters).fit(table).sample(20, random_state=0)
    assert np.isfinite(rows).all()


# -------------------------------------------------------------- components that die


KILLING = {
    **TRAINED,
    "beta": 5.0,
    "prior": "normal",
    "batch_size": 16,
    "learning_rate": 0.05,
    "max_iter": 15,
}


@pytest.mark.parametrize("beta", [5.0, 20.0])
def test_components_that_die_are_told_of(beta):
    est = VAETransformer(3, **{**KILLING, "beta": beta})
    with pytest.warns(UserWarning, match=r"died.*free_bits=0.1") as told:
        est.fit(linear_table(rank=3))
    dead = (est.kl_per_component_ < 0.01).sum()
    message = str(told[0].message)
    assert len(told) == 1
    assert dead > 0
    assert message.startswith(f"{dead} of 3 components")
    assert est.active_units_ == 3 - dead
    if dead == 3:  # a narrower code would die too
        assert "n_components" not in message
        assert "Codes then hold nothing of the table" in message
    else:
        assert f"Set n_components={3 - dead}, or keep them alive" in message


@pytest.mark.parametrize(("prior", "beta"), [("normal", 4.0), ("mixture", 2.0)])
def test_free_bits_keep_each_component_alive_that_dies_without(prior, beta):
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(6, 6)))[0][:4] * [[3], [1], [0.7], [0.5]]
    table = rng.normal(size=(300, 4)) @ axes + 0.4 * rng.normal(size=(300, 6))
    options = {"hidden_layer_sizes": (16,), "max_iter": 100, "random_state": 0}
    options |= {"prior": prior, "beta": beta, "scaling": None, "density": "networks"}
    with pytest.warns(UserWarning, match="of 4 components of the code died"):
        without = VAETransformer(4, **options).fit(table)
    assert without.kl_per_component_.min() < 0.01
    freed = VAETransformer(4, free_bits=0.2, **options).fit(table)
    assert freed.kl_per_component_.min() > 0.1
    assert freed.kl_per_component_.max() < without.kl_per_component_.max() + 0.3


@pytest.mark.parametrize("n_components", [2, 5])
def test_the_default_lets_no_component_of_a_plain_table_die(n_components):
    table = linear_table(rank=2)
    est = VAETransformer(n_components, **HELD_OUT).fit(table)  # warnings are errors
    assert est.n_iter_ > 0
    assert est.active_units_ >= 2


def test_the_start_has_no_dead_components_to_tell_of():
    VAETransformer(7, **START).fit(linear_table(rank=2, noise=1e-3))


def test_codes_of_the_autoencoder_do_not_die():
    AutoencoderTransformer(3, sparsity=0.9, **TRAINED).fit(linear_table(rank=3))
