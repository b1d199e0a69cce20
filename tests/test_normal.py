"""Gaussian densities, divergences and draws against torch's and scipy's."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import draws, generator
from scipy import stats
from torch.autograd import gradcheck
from torch.distributions import Independent, Normal, kl_divergence
from torch.testing import assert_close

from skae.network._normal import gaussian_kl, gaussian_log_prob, standard_normal


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
