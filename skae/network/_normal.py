"""Formulas of diagonal Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal values of the shape, precision and device of `like`."""
    return torch.empty_like(like).normal_(generator=generator)


def gaussian_draws(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Turn standard normal noise into draws of diagonal Gaussians."""
    return mean + noise * (0.5 * log_variance).exp()


def gaussian_log_prob(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log-density of diagonal Gaussians, summed over the last dimension."""
    squared = (z - mean).square() / log_variance.exp()
    return -0.5 * (squared + log_variance + math.log(2 * math.pi)).sum(dim=-1)


def gaussian_kl(
    mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor
) -> Tensor:
    """KL(N(mean, variance) || prior) per component, in nats, for diagonal Gaussians.

    Kingma, D. P. and Welling, M. (2014). Auto-encoding variational Bayes. ICLR,
    appendix B, for a prior of any mean and variance.
    """
    squared = (mean - prior_mean).square() + log_variance.exp()
    log_ratio = prior_log_variance - log_variance
    return 0.5 * (log_ratio + squared / prior_log_variance.exp() - 1)
