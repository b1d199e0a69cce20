"""Losses, likelihoods and priors against closed forms, scipy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.metrics import log_loss
from torch.autograd import gradcheck
from torch.distributions import Independent, Normal, kl_divergence
from torch.func import functional_call
from torch.testing import assert_close

from skae._likelihoods import (
    LIKELIHOODS,
    LOSSES,
    AbsoluteError,
    Bernoulli,
    BinaryCrossEntropy,
    GaussianMixture,
    Huber,
    LinearGaussian,
    SquaredError,
    StandardNormal,
    gaussian_kl,
    gaussian_log_prob,
    standard_normal,
)
from skae._linear import principal_components

SPREAD = [0.5, 1.0, 2.0]
OUTPUTS = {**LOSSES, **LIKELIHOODS}


def draws(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape))


def shares(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(size=shape))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def likelihood(name, spread=SPREAD, floor=0.01):
    if name == "bernoulli":
        return Bernoulli()
    spread = torch.tensor(spread, dtype=torch.float64)
    return LIKELIHOODS[name](spread, torch.full_like(spread, floor))


def log_prob_and_inputs(module, *inputs):
    """Return a function of the inputs and the parameters, and all of these."""
    module.forward = module.log_prob
    names = [name for name, _ in module.named_parameters()]

    def log_prob(*values):
        parameters = dict(zip(names, values[len(inputs) :], strict=True))
        return functional_call(module, parameters, values[: len(inputs)])

    return log_prob, (*inputs, *module.parameters())


# ---------------------------------------------------------------- what outputs mean


@pytest.mark.parametrize("name", OUTPUTS)
def test_tangent_is_the_first_order_expansion_of_the_mean(name):
    mean = torch.linspace(0.02, 0.98, 9, dtype=torch.float64)
    output, slope = OUTPUTS[name].tangent(mean)
    make = (lambda: likelihood(name)) if name in LIKELIHOODS else OUTPUTS[name]
    output.requires_grad_()
    found = make().mean(output)
    assert_close(found, mean)
    (derivative,) = torch.autograd.grad(found.sum(), output)
    assert_close(slope * derivative, torch.ones_like(mean))


@pytest.mark.parametrize("output", [BinaryCrossEntropy, Bernoulli])
def test_tangents_at_zero_and_one_stay_trainable(output):
    logits, slope = output.tangent(torch.tensor([0.0, 1.0]))
    assert_close(torch.sigmoid(logits), torch.tensor([0.01, 0.99]))
    assert_close(slope, torch.full((2,), 1 / 0.0099))


def test_only_binary_outputs_expect_the_unit_interval():
    binary = {name for name, o in OUTPUTS.items() if o.expects_unit_interval}
    assert binary == {"binary_cross_entropy", "bernoulli"}


# -------------------------------------------------------------------------- losses


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        (SquaredError(), lambda r: r**2),
        (AbsoluteError(), abs),
        (Huber(), lambda r: np.where(abs(r) < 1, r**2 / 2, abs(r) - 0.5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_losses_of_the_residual(loss, formula):
    output, x = 2 * draws(20, 3), 2 * draws(20, 3, seed=1)
    expected = formula((output - x).numpy())
    assert_close(loss.per_cell(output, x), torch.from_numpy(expected))
    assert_close(loss(output, x), torch.from_numpy(expected.mean(axis=1)))


def test_binary_cross_entropy_is_sklearns_log_loss():
    output, x = 3 * draws(20, 4), (shares(20, 4) > 0.5).double()
    found = BinaryCrossEntropy()(output, x)
    p = torch.sigmoid(output)
    for row in range(20):
        assert_close(found[row].item(), log_loss(x[row], p[row], labels=[0, 1]))


def test_binary_cross_entropy_stays_finite_at_extreme_logits():
    output = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = BinaryCrossEntropy()(output, torch.tensor([[0.0, 0.0]]))
    loss.sum().backward()
    assert_close(loss, torch.tensor([0.5e4]))
    assert_close(output.grad, torch.tensor([[0.5, 0.0]]))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_losses_are_finite_differences(name):
    output, x = 2 * draws(6, 3).requires_grad_(), shares(6, 3)
    assert gradcheck(LOSSES[name](), (output, x))


@pytest.mark.parametrize("name", ["squared_error", "absolute_error", "huber"])
def test_losses_of_the_mean_vanish_only_at_the_row(name):
    x = draws(5, 3)
    assert_close(LOSSES[name]()(x, x), torch.zeros(5, dtype=x.dtype))
    assert (LOSSES[name]()(x + 0.1, x) > 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_does_not_grow_with_the_width_of_the_table(name):
    output, x = draws(5, 3), shares(5, 3)
    loss = LOSSES[name]()
    assert_close(loss(output.repeat(1, 4), x.repeat(1, 4)), loss(output, x))


@pytest.mark.parametrize("name", LOSSES)
def test_the_best_constant_is_the_mean_or_the_median(name):
    x = torch.from_numpy(np.random.default_rng(0).beta(0.5, 2, size=(101, 1)))
    best = x.median() if name == "absolute_error" else x.mean()
    output, _ = LOSSES[name].tangent(best)
    loss = LOSSES[name]()
    reached = loss(output.expand_as(x), x).mean()
    for step in (-0.05, 0.05):
        assert loss((output + step).expand_as(x), x).mean() > reached


# --------------------------------------------------------------------- likelihoods


@pytest.mark.parametrize(
    ("name", "distribution"), [("gaussian", stats.norm), ("laplace", stats.laplace)]
)
def test_densities_are_scipys(name, distribution):
    output, x = draws(30, 3), 3 * draws(30, 3, seed=1)
    expected = distribution(output, SPREAD).logpdf(x).sum(axis=1)
    found = likelihood(name).log_prob(output, x).detach()
    assert_close(found, torch.from_numpy(expected))


def test_bernoulli_probabilities_are_scipys():
    output, x = 3 * draws(30, 3), (shares(30, 3) > 0.4).double()
    expected = stats.bernoulli(torch.sigmoid(output)).logpmf(x).sum(axis=1)
    assert_close(Bernoulli().log_prob(output, x), torch.from_numpy(expected))


@given(share=st.floats(0, 1), logit=st.floats(-30, 30))
@settings(max_examples=50, deadline=None)
def test_bernoulli_fractions_are_shares_of_ones(share, logit):
    output = torch.tensor([[logit]], dtype=torch.float64)
    one, zero = (
        Bernoulli().log_prob(output, torch.full_like(output, v)) for v in (1, 0)
    )
    found = Bernoulli().log_prob(output, torch.full_like(output, share))
    assert_close(found, share * one + (1 - share) * zero)


def test_bernoulli_stays_finite_at_extreme_logits():
    output = torch.tensor([[1e4, -1e4]], requires_grad=True)
    log_prob = Bernoulli().log_prob(output, torch.tensor([[0.0, 0.0]]))
    log_prob.sum().backward()
    assert_close(log_prob, torch.tensor([-1e4]))
    assert_close(output.grad, torch.tensor([[-1.0, 0.0]]))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_of_likelihoods_are_finite_differences(name):
    output, x = 2 * draws(5, 3).requires_grad_(), shares(5, 3)
    assert gradcheck(*log_prob_and_inputs(likelihood(name), output, x))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_probabilities_of_columns_add_up(name):
    output, x = draws(10, 3), shares(10, 3, seed=1)
    together = likelihood(name).log_prob(output, x)
    alone = sum(
        likelihood(name, [spread]).log_prob(output[:, [j]], x[:, [j]])
        for j, spread in enumerate(SPREAD)
    )
    assert_close(together, alone)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_particles_share_the_row(name):
    output, x = draws(4, 10, 3), shares(10, 3)
    found = likelihood(name).log_prob(output, x)
    for particle in range(4):
        assert_close(found[particle], likelihood(name).log_prob(output[particle], x))


@pytest.mark.parametrize(
    ("name", "distribution"), [("gaussian", stats.norm), ("laplace", stats.laplace)]
)
def test_samples_follow_the_density(name, distribution):
    output = torch.tensor([3.0, 0.0, -1.0], dtype=torch.float64).expand(4000, 3)
    found = likelihood(name).sample(output, generator()).detach().numpy()
    for j, spread in enumerate(SPREAD):
        expected = distribution(output[0, j].item(), spread)
        assert stats.kstest(found[:, j], expected.cdf).pvalue > 0.01
    correlation = np.corrcoef(found.T) - np.eye(3)
    assert abs(correlation).max() < 4 / np.sqrt(4000)


def test_bernoulli_samples_are_ones_as_often_as_they_should():
    output = torch.tensor([-2.0, 0.0, 3.0]).expand(4000, 3)
    found = Bernoulli().sample(output, generator())
    assert set(found.unique().tolist()) == {0.0, 1.0}
    p = torch.sigmoid(output[0])
    error = (p * (1 - p) / 4000).sqrt()
    assert ((found.mean(dim=0) - p).abs() < 4 * error).all()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_samples_come_from_the_generator_alone(name):
    output = draws(5, 3)
    first, second, other = (
        likelihood(name).sample(output, generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


# ------------------------------------------------------------------- learned noise


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
@pytest.mark.parametrize("floor", [0.0, 0.01, 5.0, torch.inf])
def test_noise_starts_at_the_given_spread(name, floor):
    found = likelihood(name, floor=floor).spread().detach()
    assert_close(found, torch.tensor(SPREAD, dtype=torch.float64))


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
@pytest.mark.parametrize("log_excess", [-1000.0, -5.0, 0.0, 3.0])
def test_noise_never_falls_below_its_floor(name, log_excess):
    module = likelihood(name, floor=0.3)
    module.log_excess.data.fill_(log_excess)
    assert (module.spread() >= 0.3).all()


def test_a_start_below_the_floor_stays_about_where_it_is():
    module = likelihood("gaussian", floor=torch.inf)
    module.log_excess.data.fill_(-1000.0)
    assert_close(module.spread().detach(), 0.99 * torch.tensor(SPREAD).double())


def test_the_floor_is_kept_with_the_weights_but_not_trained():
    module = likelihood("gaussian")
    assert set(module.state_dict()) == {"floor", "log_excess"}
    assert [name for name, _ in module.named_parameters()] == ["log_excess"]


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_the_likeliest_spread_is_the_mean_deviation(name):
    x = 3 * draws(200, 1)
    output = torch.zeros_like(x)
    deviation = x.abs().mean() if name == "laplace" else x.square().mean().sqrt()
    module = likelihood(name, [deviation.item()], floor=0.0)
    module.log_prob(output, x).sum().backward()
    assert_close(module.log_excess.grad, torch.zeros(1).double(), atol=1e-9, rtol=0)


# ----------------------------------------------------------------------- Gaussians


def test_gaussian_log_prob_is_that_of_torch():
    z, mean, log_variance = draws(3, 7, 2), draws(7, 2, seed=1), draws(7, 2, seed=2)
    expected = Independent(Normal(mean, (0.5 * log_variance).exp()), 1).log_prob(z)
    assert_close(gaussian_log_prob(z, mean, log_variance), expected)


def test_gaussian_kl_is_that_of_torch():
    mean, log_variance, prior_mean, prior_log_variance = draws(4, 50, 3)
    expected = kl_divergence(
        Normal(mean, (0.5 * log_variance).exp()),
        Normal(prior_mean, (0.5 * prior_log_variance).exp()),
    )
    found = gaussian_kl(mean, log_variance, prior_mean, prior_log_variance)
    assert_close(found, expected)


def test_gaussian_kl_is_the_mean_log_ratio_of_densities():
    moments = mean, log_variance, prior_mean, prior_log_variance = draws(4, 1)
    z = mean + (0.5 * log_variance).exp() * draws(100_000, 1, seed=1)
    ratio = gaussian_log_prob(z, mean, log_variance)
    ratio = ratio - gaussian_log_prob(z, prior_mean, prior_log_variance)
    error = ratio.std() / 100_000**0.5
    assert abs(ratio.mean() - gaussian_kl(*moments)) < 4 * error


FINITE = st.floats(-5, 5)


@given(moments=st.tuples(FINITE, FINITE, FINITE, FINITE))
@settings(max_examples=50, deadline=None)
def test_gaussian_kl_is_zero_between_equals_and_never_negative(moments):
    mean, log_variance, prior_mean, prior_log_variance = torch.tensor(moments).double()
    same = gaussian_kl(mean, log_variance, mean, log_variance)
    assert_close(same, torch.zeros_like(same))
    assert gaussian_kl(mean, log_variance, prior_mean, prior_log_variance) >= -1e-12


def test_gradients_of_gaussians_are_finite_differences():
    arguments = tuple(part.clone().requires_grad_() for part in draws(4, 5, 2))
    assert gradcheck(gaussian_log_prob, arguments[:3])
    assert gradcheck(gaussian_kl, arguments)


def test_standard_normal_draws_have_the_form_of_their_pattern():
    for dtype in (torch.float32, torch.float64):
        found = standard_normal(torch.zeros(4000, 2, dtype=dtype), generator())
        assert found.shape == (4000, 2)
        assert found.dtype == dtype
        assert stats.kstest(found.flatten().numpy(), stats.norm.cdf).pvalue > 0.01


# ---------------------------------------------------------------- probabilistic PCA


def linear_gaussian(X, n_components):
    start = principal_components(X, n_components)
    ppca = start.posterior()
    module = LinearGaussian(
        torch.from_numpy(start.mean),
        torch.from_numpy(ppca.projection),
        torch.from_numpy(ppca.variances).log(),
        torch.from_numpy(ppca.loadings),
        ppca.noise_variance,
    )
    return module, ppca


def correlated(n_samples=40, n_features=5, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n_features, n_features))
    return rng.normal(size=(n_samples, n_features)) @ mixing + 3


@pytest.mark.parametrize("shape", [(40, 5), (200, 5), (5, 8)], ids=str)
@pytest.mark.parametrize("n_components", [1, 3])
def test_probabilistic_pca_has_the_density_of_sklearns(shape, n_components):
    X, X_new = correlated(*shape), 2 * correlated(*shape, seed=1)
    module, _ = linear_gaussian(X, n_components)
    pca = PCA(n_components, svd_solver="full").fit(X)
    for rows in (X, X_new):
        found = module.log_prob(torch.from_numpy(rows))
        assert_close(found, torch.from_numpy(pca.score_samples(rows)))


def test_probabilistic_pca_is_a_multivariate_normal():
    X = correlated()
    module, ppca = linear_gaussian(X, 2)
    covariance = ppca.loadings @ ppca.loadings.T + ppca.noise_variance * np.eye(5)
    expected = stats.multivariate_normal(X.mean(axis=0), covariance).logpdf(X)
    assert_close(module.log_prob(torch.from_numpy(X)), torch.from_numpy(expected))


def test_as_many_components_as_columns_give_the_full_covariance():
    X = correlated()
    module, _ = linear_gaussian(X, 5)
    expected = stats.multivariate_normal(X.mean(axis=0), np.cov(X.T)).logpdf(X)
    found = module.log_prob(torch.from_numpy(X))
    assert_close(found, torch.from_numpy(expected), rtol=1e-6, atol=1e-6)


def test_samples_of_probabilistic_pca_are_as_likely_as_their_entropy_says():
    module, ppca = linear_gaussian(correlated(), 2)
    covariance = ppca.loadings @ ppca.loadings.T + ppca.noise_variance * np.eye(5)
    rows = module.sample(4000, generator())
    log_prob = module.log_prob(rows)
    entropy = stats.multivariate_normal(np.zeros(5), covariance).entropy()
    assert abs(log_prob.mean() + entropy) < 4 * log_prob.std() / 4000**0.5
    found = np.cov(rows.numpy().T)
    error = np.sqrt((covariance**2 + np.outer(*[covariance.diagonal()] * 2)) / 4000)
    assert (abs(found - covariance) < 5 * error).all()
    error = np.sqrt(covariance.diagonal() / 4000)
    assert (abs(rows.mean(dim=0) - module.mean).numpy() < 5 * error).all()


# -------------------------------------------------------------------------- priors


def mixture(n_parts=3, n_components=2):
    prior = GaussianMixture(n_parts, n_components, generator())
    prior.means.data = 2 * draws(n_parts, n_components)
    prior.log_variances.data = draws(n_parts, n_components, seed=1)
    prior.logits.data = draws(n_parts, seed=2)
    return prior


def mixture_parts(prior):
    weight = prior.logits.softmax(dim=0).detach().numpy()
    spread = (0.5 * prior.log_variances).exp().detach().numpy()
    return list(zip(weight, prior.means.detach().numpy(), spread, strict=True))


def test_standard_normal_prior_has_scipys_density():
    z = draws(3, 10, 2)
    expected = stats.norm.logpdf(z).sum(axis=-1)
    assert_close(StandardNormal(2).double().log_prob(z), torch.from_numpy(expected))


def test_mixture_prior_has_the_density_of_the_direct_sum():
    prior, z = mixture(), 2 * draws(4, 10, 2, seed=3)
    density = sum(
        weight * stats.norm(mean, spread).pdf(z).prod(axis=-1)
        for weight, mean, spread in mixture_parts(prior)
    )
    assert_close(prior.log_prob(z).detach(), torch.from_numpy(np.log(density)))


def test_mixture_prior_stays_finite_far_from_every_part():
    z = torch.full((1, 2), 1e3, dtype=torch.float64, requires_grad=True)
    log_prob = mixture().log_prob(z)
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert z.grad.isfinite().all()


def test_gradients_of_the_mixture_are_finite_differences():
    assert gradcheck(*log_prob_and_inputs(mixture(), draws(4, 2).requires_grad_()))


def test_mixture_prior_starts_about_standard_normal_but_with_parts_apart():
    prior, z = GaussianMixture(10, 2, generator()), draws(50, 2)
    expected = StandardNormal(2).double().log_prob(z)
    assert_close(prior.log_prob(z).detach(), expected, atol=0.01, rtol=0)
    assert len(prior.means.unique(dim=0)) == 10


def test_moments_of_the_standard_normal_are_zeros():
    mean, log_variance = StandardNormal(3).moments()
    assert mean.tolist() == log_variance.tolist() == [0, 0, 0]


def test_moments_of_the_mixture_follow_from_the_law_of_total_variance():
    prior = mixture()
    weight, means, spreads = map(np.array, zip(*mixture_parts(prior), strict=True))
    mean = weight @ means
    variance = weight @ spreads**2 + weight @ (means - mean) ** 2
    found = [moment.detach() for moment in prior.moments()]
    assert_close(found[0], torch.from_numpy(mean))
    assert_close(found[1], torch.from_numpy(np.log(variance)))


def test_moments_of_a_mixture_far_from_zero_keep_their_digits():
    prior = mixture().float()
    prior.means.data.fill_(1e3)
    prior.log_variances.data.fill_(-4.0)
    _, log_variance = prior.moments()
    assert_close(log_variance.detach(), torch.full((2,), -4.0))


@pytest.mark.parametrize("make", [mixture, lambda: StandardNormal(2).double()])
def test_samples_of_priors_have_their_moments_and_their_entropy(make):
    prior = make()
    z = prior.sample(torch.empty(8000, 2, dtype=torch.float64), generator()).detach()
    mean, log_variance = (moment.detach() for moment in prior.moments())
    variance = log_variance.exp()
    assert ((z.mean(dim=0) - mean).abs() < 4 * (variance / 8000).sqrt()).all()
    assert_close(z.var(dim=0), variance.expand(2), rtol=0.1, atol=0)
    again = prior.sample(torch.empty(8000, 2, dtype=torch.float64), generator(1))
    one, other = prior.log_prob(z).detach(), prior.log_prob(again).detach()
    assert stats.ks_2samp(one, other).pvalue > 0.01


def test_samples_of_the_mixture_follow_its_distribution():
    prior = mixture(n_components=1)
    z = prior.sample(torch.empty(4000, 1, dtype=torch.float64), generator()).detach()

    def distribution(values):
        return sum(
            weight * stats.norm(mean, spread).cdf(values)
            for weight, mean, spread in mixture_parts(prior)
        )

    assert stats.kstest(z[:, 0].numpy(), distribution).pvalue > 0.01


def test_only_the_standard_normal_is_standard():
    assert StandardNormal(2).is_standard
    assert not mixture().is_standard
