"""Likelihoods of every kind of column."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .._schema import Block
from ._normal import standard_normal
from ._outputs import RAREST, Logits, OfLevels, Output, Standardised

LARGEST_LOG_RATE = 30.0  # keeps the exponential of an output finite
NOISE_PACE = 0.1  # of a predicted spread, to that of a mean
LARGEST_LOG_FACTOR = 8.0  # of a predicted spread, about its column's own
LARGEST_LOG_SIZE = 9.0  # beyond, a negative binomial is Poisson and lgamma inexact


class LearnedNoise(Output):
    """Independent noise around the output, whose spread the decoder predicts.

    The decoder's output holds the means of all columns and then the logarithm of a
    factor on each column's spread.

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
        self.n_extra = len(spread)
        self.register_buffer("floor", torch.minimum(0.99 * spread, floor))
        self.log_excess = nn.Parameter((spread - self.floor).log())

    def spread(self, log_factor: Tensor) -> Tensor:
        """Return the spread for a decoder's output.

        At full pace the spread would swallow the residuals before the means are learned
        (Seitzer, M. et al. (2022). On the pitfalls of heteroscedastic uncertainty
        estimation with probabilistic neural networks. ICLR).
        """
        share = (NOISE_PACE / LARGEST_LOG_FACTOR * log_factor).tanh()
        log_factor = LARGEST_LOG_FACTOR * share
        return self.floor + (self.log_excess + log_factor).exp()

    def mean(self, output: Tensor) -> Tensor:
        return output[..., : self.n_extra]

    def parts(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Split an output into means and spreads."""
        mean, log_factor = output.chunk(2, dim=-1)
        return mean, self.spread(log_factor)


class Gaussian(LearnedNoise):
    """Gaussian noise; the spread is its standard deviation."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        mean, spread = self.parts(output)
        constant = -spread.log() - 0.5 * math.log(2 * math.pi)
        deviation = (x - mean) / spread
        return torch.addcmul(constant, deviation, deviation, value=-0.5)

    def variance(self, output: Tensor) -> Tensor:
        return self.parts(output)[1].square()

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        mean, spread = self.parts(output)
        return mean + spread * standard_normal(mean, generator)


class Laplace(LearnedNoise):
    """Laplace noise, of heavier tails; the spread is its mean absolute deviation."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        mean, spread = self.parts(output)
        return -((x - mean).abs() / spread + (2 * spread).log())

    def variance(self, output: Tensor) -> Tensor:
        return 2 * self.parts(output)[1].square()

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        mean, spread = self.parts(output)
        exponential = torch.empty_like(mean).exponential_(generator=generator)
        sign = standard_normal(mean, generator).sign()
        return mean + spread * sign * exponential


class Bernoulli(Logits):
    """Independent binary columns; fractions in [0, 1] count as shares of ones."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        # log sigmoid(o) = -softplus(-o) and log(1 - sigmoid(o)) = -o - softplus(-o)
        return (x - 1) * output - functional.softplus(-output)


class Binary(Standardised):
    """Columns of two levels: Bernoulli, the output being a logit."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        return (self.raw(x) - 1) * output - functional.softplus(-output)

    def mean(self, output: Tensor) -> Tensor:
        return self.standardised(torch.sigmoid(output))

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        drawn = torch.bernoulli(torch.sigmoid(output), generator=generator)
        return self.standardised(drawn)

    def tangent(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        inner = self.raw(mean).clamp(RAREST, 1 - RAREST)
        return inner.logit(), self.scale / (inner * (1 - inner))


class Counts(Standardised):
    """Counts with the logarithm of their rate as output."""

    def mean(self, output: Tensor) -> Tensor:
        return self.standardised(self.rate(output))

    def rate(self, output: Tensor) -> Tensor:
        return output.clamp(max=LARGEST_LOG_RATE).exp()

    def tangent(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        rate = self.raw(mean).clamp(min=RAREST)
        return rate.log(), self.scale / rate


class Poisson(Counts):
    """Poisson counts: variance and mean agree."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        count = self.raw(x).clamp(min=0)  # holes are filled with any number
        log_rate = output.clamp(max=LARGEST_LOG_RATE)
        log_density = count * log_rate - log_rate.exp() - torch.lgamma(count + 1)
        return log_density + self.scale.log()

    def variance(self, output: Tensor) -> Tensor:
        return self.rate(output) / self.scale.square()

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        return self.standardised(torch.poisson(self.rate(output), generator=generator))


class NegativeBinomial(Counts):
    """Counts of any variance above their mean, with one learned dispersion per column.

    The variance is rate + rate² / r, and r is learned from 1 on.
    """

    def __init__(self, centre: Tensor, scale: Tensor) -> None:
        super().__init__(centre, scale)
        self.log_size = nn.Parameter(torch.zeros_like(scale))

    def _log_size(self) -> Tensor:
        return self.log_size.clamp(max=LARGEST_LOG_SIZE)

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        count, log_size = self.raw(x).clamp(min=0), self._log_size()
        size = log_size.exp()
        log_rate = output.clamp(max=LARGEST_LOG_RATE)
        # log(rate + size), and what is left of rate and size as shares of it
        log_total = torch.logaddexp(log_rate, log_size)
        log_density = (
            torch.lgamma(count + size) - torch.lgamma(size) - torch.lgamma(count + 1)
        )
        log_density = log_density + count * (log_rate - log_total)
        return log_density + size * (log_size - log_total) + self.scale.log()

    def variance(self, output: Tensor) -> Tensor:
        rate = self.rate(output)
        return (rate + rate.square() / self._log_size().exp()) / self.scale.square()

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        size = self._log_size().exp().expand_as(output)
        # torch.distributions would draw from the global generator.
        gamma = torch._standard_gamma(size, generator) * self.rate(output) / size
        return self.standardised(torch.poisson(gamma, generator=generator))


class Categorical(OfLevels):
    """Columns of several levels: softmax over the outputs of their indicators."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        chosen = self.levels.sum(self.levels.raw(x) * output)
        return chosen - self.levels.logsumexp(output)

    def chances(self, output: Tensor) -> Tensor:
        return self.levels.softmax(output)

    def mean(self, output: Tensor) -> Tensor:
        return self.levels.standardised(self.chances(output))

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        return self.levels.draw(self.chances(output), generator)

    def tangent(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        chances = self.levels.raw(mean).clamp(min=RAREST)
        return chances.log(), self.levels.scale / chances


LIKELIHOODS: dict[str, type[Output]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}


def make_likelihood(block: Block, spread: Tensor, floor: Tensor) -> Output:
    """Make the likelihood of a block of columns.

    `spread` and `floor` are of the noise of numbers whose noise is learned.
    """
    centre, scale = map(torch.from_numpy, (block.centre, block.scale))
    if block.kind.name == "categorical":
        return Categorical(block.widths, centre, scale)
    if block.kind.name == "binary":
        return Binary(centre, scale)
    kind = LIKELIHOODS[block.kind.name]
    if issubclass(kind, Standardised):
        return kind(centre, scale)
    return kind(spread, floor) if issubclass(kind, LearnedNoise) else kind()
