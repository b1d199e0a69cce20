"""Losses of the autoencoder and likelihoods of the VAE, row by row.

Both take the decoder's raw output. A loss is the mean over the columns of a row, so
that it does not grow with the width of the table; a log-likelihood is the sum, as a
density demands.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional


class Output(nn.Module):
    """What the decoder's output stands for: here the mean itself."""

    expects_unit_interval = False

    def mean(self, output: Tensor) -> Tensor:
        """Return the reconstruction, in scaled units."""
        return output

    @staticmethod
    def tangent(mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output that stands for `mean`, and its slope there.

        A linear decoder around `mean` is, to first order, that output plus the slope
        times the deviation.
        """
        return mean, torch.ones_like(mean)


class Logits(Output):
    """Outputs that are the logits of a mean in [0, 1]."""

    expects_unit_interval = True

    def mean(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output)

    @staticmethod
    def tangent(mean: Tensor) -> tuple[Tensor, Tensor]:
        inner = mean.clamp(0.01, 0.99)  # keeps a start at rare values trainable
        return inner.logit(), 1 / (inner * (1 - inner))


class Loss(Output):
    """What a reconstruction costs: the mean over a row's cells."""

    @abstractmethod
    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        """Loss of every cell, of the shape of `x`."""

    def forward(self, output: Tensor, x: Tensor) -> Tensor:
        return self.per_cell(output, x).mean(dim=-1)


class SquaredError(Loss):
    """(x̂ - x)², minus the log-likelihood of a Gaussian up to constants."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        return (output - x).square()


class AbsoluteError(Loss):
    """abs(x̂ - x), the loss of the conditional median."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        return (output - x).abs()


class Huber(Loss):
    """Squared up to one scaled unit, linear beyond: outlying cells pull less."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        return functional.huber_loss(output, x, reduction="none")


class BinaryCrossEntropy(Logits, Loss):
    """-x log p - (1 - x) log(1 - p), p the logistic sigmoid of the output."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(output, x, reduction="none")


LOSSES: dict[str, type[Loss]] = {
    "squared_error": SquaredError,
    "absolute_error": AbsoluteError,
    "huber": Huber,
    "binary_cross_entropy": BinaryCrossEntropy,
}


class Likelihood(Output):
    """The density p(x | z) of a row, given the decoder's output for z."""

    @abstractmethod
    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """Log-density of each row, summed over the columns, in nats."""

    @abstractmethod
    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one row per row of `output`."""


class LearnedNoise(Likelihood):
    """Independent noise around the output, of one learned spread per column.

    Parameters
    ----------
    spread : Tensor of shape (n_features,)
        Spread to start from, in scaled units.
    floor : Tensor of shape (n_features,)
        Smallest spread that training can reach, so that columns which the decoder
        reproduces exactly do not send the likelihood to infinity. A start below the
        floor stays about where it is.
    """

    floor: Tensor

    def __init__(self, spread: Tensor, floor: Tensor) -> None:
        super().__init__()
        self.register_buffer("floor", torch.minimum(0.99 * spread, floor))
        self.log_excess = nn.Parameter((spread - self.floor).log())

    def spread(self) -> Tensor:
        return self.floor + self.log_excess.exp()


class Gaussian(LearnedNoise):
    """Gaussian noise; the spread is its standard deviation."""

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        spread = self.spread()
        constant = spread.log().sum() + 0.5 * math.log(2 * math.pi) * x.shape[-1]
        return -0.5 * ((x - output) / spread).square().sum(dim=-1) - constant

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        return output + self.spread() * standard_normal(output, generator)


class Laplace(LearnedNoise):
    """Laplace noise, of heavier tails; the spread is its mean absolute deviation."""

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        spread = self.spread()
        return -((x - output).abs() / spread + (2 * spread).log()).sum(dim=-1)

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        exponential = torch.empty_like(output).exponential_(generator=generator)
        sign = standard_normal(output, generator).sign()
        return output + self.spread() * sign * exponential


class Bernoulli(Logits, Likelihood):
    """Independent binary columns; fractions in [0, 1] count as shares of ones."""

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        # log sigmoid(o) = -softplus(-o) and log(1 - sigmoid(o)) = -o - softplus(-o)
        return ((x - 1) * output - functional.softplus(-output)).sum(dim=-1)

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(torch.sigmoid(output), generator=generator)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "bernoulli": Bernoulli,
}


def standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal values of the shape, precision and device of `like`."""
    return torch.empty_like(like).normal_(generator=generator)


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


class LinearGaussian(nn.Module):
    """The density N(mean, W Wᵀ + σ² I) of probabilistic PCA in closed form.

    Parameters
    ----------
    mean : Tensor of shape (n_features,)
    projection : Tensor of shape (n_components, n_features)
        From a centred row to the posterior mean of its code.
    log_variances : Tensor of shape (n_components,)
        Of the posterior.
    loadings : Tensor of shape (n_features, n_components)
        W.
    noise_variance : float
        σ².
    """

    mean: Tensor
    projection: Tensor
    log_variances: Tensor
    loadings: Tensor
    log_noise: Tensor

    def __init__(
        self,
        mean: Tensor,
        projection: Tensor,
        log_variances: Tensor,
        loadings: Tensor,
        noise_variance: float,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("projection", projection.clone())
        self.register_buffer("log_variances", log_variances.clone())
        self.register_buffer("loadings", loadings.clone())
        noise = torch.tensor(noise_variance, dtype=mean.dtype)
        self.register_buffer("log_noise", noise.log())

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of each row: Bayes' rule at the posterior mean."""
        centred = x - self.mean
        z = functional.linear(centred, self.projection)
        residual = centred - functional.linear(z, self.loadings)
        exponent = residual.square().sum(dim=-1) / self.log_noise.exp()
        exponent = exponent + z.square().sum(dim=-1) - self.log_variances.sum()
        constant = x.shape[-1] * (self.log_noise + math.log(2 * math.pi))
        return -0.5 * (exponent + constant)

    def sample(self, n_samples: int, generator: torch.Generator) -> Tensor:
        like = self.mean.new_empty(n_samples, self.loadings.shape[1])
        rows = self.mean + functional.linear(
            standard_normal(like, generator), self.loadings
        )
        return rows + (0.5 * self.log_noise).exp() * standard_normal(rows, generator)


class Prior(nn.Module):
    """A density on the codes."""

    is_standard = False

    def __init__(self, n_components: int) -> None:
        super().__init__()
        self.n_components = n_components

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of codes of shape (..., n_components), in nats."""

    @abstractmethod
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of each component of the code."""

    @abstractmethod
    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw codes of the shape (n_samples, n_components) of `like`."""


class StandardNormal(Prior):
    """The prior N(0, I)."""

    is_standard = True
    zeros: Tensor

    def __init__(self, n_components: int) -> None:
        super().__init__(n_components)
        self.register_buffer("zeros", torch.zeros(n_components), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        return gaussian_log_prob(z, *self.moments())

    def moments(self) -> tuple[Tensor, Tensor]:
        return self.zeros, self.zeros

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return standard_normal(like, generator)


class GaussianMixture(Prior):
    """A learned mixture of diagonal Gaussians.

    It starts as N(0, I) in every part, save for means of a thousandth that let the
    parts drift apart in training (Tomczak and Welling (2018). VAE with a VampPrior).
    """

    def __init__(
        self, n_parts: int, n_components: int, generator: torch.Generator
    ) -> None:
        super().__init__(n_components)
        means = torch.empty(n_parts, n_components, dtype=torch.float64)
        self.means = nn.Parameter(1e-3 * standard_normal(means, generator))
        self.log_variances = nn.Parameter(torch.zeros_like(means))
        self.logits = nn.Parameter(torch.zeros(n_parts, dtype=torch.float64))

    def log_prob(self, z: Tensor) -> Tensor:
        parts = gaussian_log_prob(z[..., None, :], self.means, self.log_variances)
        return (parts + self.logits.log_softmax(dim=0)).logsumexp(dim=-1)

    def moments(self) -> tuple[Tensor, Tensor]:
        share = self.logits.softmax(dim=0)[:, None]
        mean = (share * self.means).sum(dim=0)
        spread = (self.means - mean).square() + self.log_variances.exp()
        return mean, (share * spread).sum(dim=0).log()

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        shares = self.logits.softmax(dim=0)
        part = torch.multinomial(
            shares, len(like), replacement=True, generator=generator
        )
        spread = (0.5 * self.log_variances[part]).exp()
        return self.means[part] + spread * standard_normal(like, generator)
