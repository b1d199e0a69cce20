"""Priors against closed forms, scipy and their own samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch.autograd import gradcheck
from torch.func import functional_call
from torch.testing import assert_close

from skae.network._importance import normal_points
from skae.network._priors import GaussianMixture, StandardNormal


def draws(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def log_prob_and_inputs(module, *inputs):
    """Return a function of the inputs and the parameters, and all of these."""
    module.forward = module.log_prob
    names = [name for name, _ in module.named_parameters()]

    def log_prob(*values):
        parameters = dict(zip(names, values[len(inputs) :], strict=True))
        return functional_call(module, parameters, values[: len(inputs)])

    return log_prob, (*inputs, *module.parameters())


def mixture(n_parts=3, n_components=2):
    prior = GaussianMixture(n_parts, n_components)
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


def test_every_part_of_a_mixture_starts_as_the_standard_normal():
    prior, z = GaussianMixture(10, 2), draws(50, 2)
    assert not prior.means.any()
    assert not prior.log_variances.any()
    assert not prior.logits.any()
    expected = StandardNormal(2).double().log_prob(z)
    assert_close(prior.log_prob(z).detach(), expected)


def test_parts_that_are_the_same_are_moved_apart_but_hardly():
    prior, z = GaussianMixture(10, 2), draws(50, 2)
    prior.part(generator())
    expected = StandardNormal(2).double().log_prob(z)
    assert_close(prior.log_prob(z).detach(), expected, atol=0.01, rtol=0)
    assert len(prior.means.unique(dim=0)) == 10
    assert not prior.log_variances.any()
    assert not prior.logits.any()


def test_parts_move_apart_by_a_thousandth_from_where_they_are():
    prior, before = GaussianMixture(500, 4), draws(500, 4)
    prior.means.data = before.clone()
    prior.part(generator())
    moved = ((prior.means.detach() - before) / 1e-3).flatten().numpy()
    assert stats.kstest(moved, stats.norm.cdf).pvalue > 0.01


def test_parts_move_apart_by_the_generator_alone():
    priors = [GaussianMixture(10, 2) for _ in range(3)]
    for prior, seed in zip(priors, (1, 1, 2), strict=True):
        prior.part(generator(seed))
    first, second, other = (prior.means for prior in priors)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_standard_normal_has_no_parts_to_move():
    prior, draws_of = StandardNormal(3), generator()
    before = draws_of.get_state()
    prior.part(draws_of)
    assert prior.moments()[0].tolist() == [0, 0, 0]
    assert torch.equal(draws_of.get_state(), before)


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


def test_points_of_the_standard_normal_prior_are_its_codes():
    points = draws(7, 2)
    assert_close(StandardNormal(2).double().draws(points), points[:, None])


def test_of_points_each_part_of_a_mixture_gets_its_share():
    prior, points = mixture(), draws(1000, 2)
    prior.log_variances.data -= 20
    codes = prior.draws(points)[:, 0]
    nearest = torch.cdist(codes, prior.means).argmin(dim=1)
    counts = torch.bincount(nearest, minlength=3)
    assert_close(counts.double() / 1000, prior.logits.softmax(dim=0), atol=2e-3, rtol=0)


def test_codes_of_quasi_random_points_have_the_moments_of_a_mixture():
    prior = mixture()
    codes = prior.draws(normal_points(4096, 2))[:, 0]
    mean, log_variance = prior.moments()
    assert_close(codes.mean(dim=0), mean, atol=0.01, rtol=0)
    assert_close(codes.var(dim=0), log_variance.exp(), atol=0, rtol=0.02)
