"""What the decoder's output stands for: losses and likelihoods, cell by cell.

A cell is one column of the table in one row, be it one number of the matrix or the
indicators of all levels. The loss of a row is the mean over its seen cells, so that it
does not grow with the width of the table; a log-likelihood is the sum, as a density
demands.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ._table import Block

RAREST = 0.01  # chance or rate that keeps a start at rare values trainable
SMALLEST_NOISE = 1e-6  # of a reconstruction, in scaled units, and chance of a level
LARGEST_LOG_RATE = 30.0  # keeps the exponential of an output finite
NOISE_PACE = 0.1  # of a predicted spread, to that of a mean
LARGEST_LOG_FACTOR = 8.0  # of a predicted spread, about its column's own
LARGEST_LOG_SIZE = 9.0  # beyond, a negative binomial is Poisson and lgamma inexact


class Output(nn.Module):
    """What the decoder's output stands for: here the mean itself.

    Attributes
    ----------
    n_extra : int
        Outputs after those of the columns.
    """

    n_extra = 0

    @abstractmethod
    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        """Loss or log-likelihood of each cell, of shape (..., n_features)."""

    def mean(self, output: Tensor) -> Tensor:
        """Return the reconstruction, in scaled units."""
        return output

    def variance(self, output: Tensor) -> Tensor:
        """Variance around the reconstruction, where a likelihood says it."""
        return torch.zeros_like(output)

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one scaled row per row of `output`."""
        return self.mean(output)

    def log_chance(self, output: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        """Log-density of cells around a reconstruction that a loss was fitted for.

        `noise` is the standard deviation of each column's residuals.
        """
        noise = noise.clamp(min=SMALLEST_NOISE)
        deviation = (x - self.mean(output)) / noise
        return -0.5 * deviation.square() - noise.log()

    def tangent(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output that stands for `mean`, and its slope there.

        A linear decoder around `mean` is, to first order, that output plus the slope
        times the deviation.
        """
        return mean, torch.ones_like(mean)

    def row_mean(self, output: Tensor, x: Tensor, seen: Tensor | None) -> Tensor:
        """Average over the seen cells of each row; zero where none is."""
        return mean_of_seen(self.per_cell(output, x), seen)

    def row_sum(self, output: Tensor, x: Tensor, seen: Tensor | None) -> Tensor:
        """Sum over the seen cells of each row."""
        cells = self.per_cell(output, x)
        return (cells if seen is None else cells * seen).sum(dim=-1)


class Units(nn.Module):
    """Raw values behind the standardised ones that the matrix holds.

    Parameters
    ----------
    centre, scale : Tensor of shape (n_columns,)
        raw = scale * x + centre.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, centre: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("centre", centre.clone())
        self.register_buffer("scale", scale.clone())

    def raw(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.centre, x, self.scale)

    def standardised(self, raw: Tensor) -> Tensor:
        return (raw - self.centre) / self.scale


class Standardised(Units, Output):
    """A loss or likelihood of the raw values."""


class Levels(Units):
    """Indicators of categorical columns, which may have different numbers of levels."""

    membership: Tensor
    place: Tensor
    padding: Tensor

    def __init__(self, widths: Sequence[int], centre: Tensor, scale: Tensor) -> None:
        super().__init__(centre, scale)
        self.shape = len(widths), max(widths)
        self.has_padding = min(widths) < max(widths)
        column = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
        place = torch.cat([torch.arange(width) for width in widths])
        place = place + column * max(widths)
        padding = torch.full((math.prod(self.shape),), len(column))
        padding[place] = torch.arange(len(column))
        membership = functional.one_hot(column).to(centre.dtype)
        self.register_buffer("membership", membership, persistent=False)
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("padding", padding, persistent=False)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the indicators of each column."""
        return values @ self.membership

    def padded(self, values: Tensor) -> Tensor:
        """Lay the columns below each other, with -inf where one ends early."""
        if self.has_padding:
            end = values.new_full((*values.shape[:-1], 1), -torch.inf)
            values = torch.cat([values, end], dim=-1).index_select(-1, self.padding)
        return values.unflatten(-1, self.shape)

    def unpadded(self, values: Tensor) -> Tensor:
        values = values.flatten(-2)
        return values.index_select(-1, self.place) if self.has_padding else values

    def draw(self, chances: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one level per column, as standardised indicators."""
        flat = self.padded(chances).clamp(min=0).reshape(-1, self.shape[1])
        drawn = torch.multinomial(flat, 1, generator=generator)
        indicators = torch.zeros_like(flat).scatter_(1, drawn, 1.0)
        indicators = indicators.reshape(*chances.shape[:-1], *self.shape)
        return self.standardised(self.unpadded(indicators))


class OfLevels(Output):
    """A loss or likelihood of columns that have several levels.

    Parameters
    ----------
    widths : sequence of int
        Indicators of each column.
    centre, scale : Tensor of shape (n_indicators,)
        Of the standardised indicators.
    """

    def __init__(self, widths: Sequence[int], centre: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.levels = Levels(widths, centre, scale)


class SquaredError(Output):
    """(x̂ - x)², minus the log-likelihood of a Gaussian up to constants."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        return (output - x).square()


class AbsoluteError(Output):
    """abs(x̂ - x), the loss of the conditional median."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        return (output - x).abs()


class Huber(Output):
    """Squared up to one scaled unit, linear beyond: outlying cells pull less."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        return functional.huber_loss(output, x, reduction="none")


class Logits(Output):
    """Outputs that are the logits of a mean in [0, 1]."""

    def mean(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output)

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(torch.sigmoid(output), generator=generator)

    def tangent(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        inner = mean.clamp(RAREST, 1 - RAREST)
        return inner.logit(), 1 / (inner * (1 - inner))


class BinaryCrossEntropy(Logits):
    """-x log p - (1 - x) log(1 - p), p the logistic sigmoid of the output."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(output, x, reduction="none")

    def log_chance(self, output: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        return -self.per_cell(output, x)


class SquaredErrorOfBinary(Standardised):
    """Squared error of the standardised indicator of two levels."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        return (output - x).square()

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        chance = self.raw(output).clamp(0, 1)
        return self.standardised(torch.bernoulli(chance, generator=generator))

    def log_chance(self, output: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        chance = self.raw(output).clamp(SMALLEST_NOISE, 1 - SMALLEST_NOISE)
        x = self.raw(x)
        return x * chance.log() + (1 - x) * (1 - chance).log()


class SquaredErrorOfLevels(OfLevels):
    """Squared error over the indicators of each categorical column (Brier's score).

    Indicators of a column have a total variance of one, so that a column weighs as much
    as a number does, however many levels it has. The best output is the conditional
    probability of each level, and linear principal components remain the start.
    """

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        return self.levels.sum((output - x).square())

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        chances = self.levels.raw(output).clamp(min=SMALLEST_NOISE)
        return self.levels.draw(chances, generator)

    def log_chance(self, output: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        chances = self.levels.raw(output).clamp(min=SMALLEST_NOISE)
        chosen = self.levels.sum(chances * self.levels.raw(x))
        return chosen.log() - self.levels.sum(chances).log()


LOSSES: dict[str, type[Output]] = {
    "squared_error": SquaredError,
    "absolute_error": AbsoluteError,
    "huber": Huber,
    "binary_cross_entropy": BinaryCrossEntropy,
}


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
        padded = self.levels.padded(output)
        chosen = self.levels.sum(self.levels.raw(x) * output)
        return chosen - padded.logsumexp(dim=-1)

    def chances(self, output: Tensor) -> Tensor:
        return self.levels.unpadded(self.levels.padded(output).softmax(dim=-1))

    def mean(self, output: Tensor) -> Tensor:
        return self.levels.standardised(self.chances(output))

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        return self.levels.draw(self.chances(output), generator)

    def tangent(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        chances = self.levels.raw(mean).clamp(min=RAREST)
        return chances.log(), self.levels.scale / chances


class Mixed(Output):
    """Columns of several kinds, side by side.

    Parameters
    ----------
    parts : sequence of (Output, int)
        Each with its number of columns of the matrix.
    """

    def __init__(self, parts: Sequence[tuple[Output, int]]) -> None:
        super().__init__()
        outputs, widths = zip(*parts, strict=True)
        self.parts = nn.ModuleList(outputs)
        self.widths = list(widths)
        self.extras = [part.n_extra for part in outputs]
        self.n_extra = sum(self.extras)

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        pieces = self._split_output(output), self._split(x)
        triples = zip(self._outputs(), *pieces, strict=True)
        return torch.cat([part.per_cell(o, v) for part, o, v in triples], dim=-1)

    def mean(self, output: Tensor) -> Tensor:
        return self._join("mean", output)

    def variance(self, output: Tensor) -> Tensor:
        return self._join("variance", output)

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        return self._join("sample", output, generator)

    def tangent(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        pairs = zip(self._outputs(), self._split(mean), strict=True)
        outputs, slopes = zip(*(p.tangent(m) for p, m in pairs), strict=True)
        return torch.cat(outputs), torch.cat(slopes)

    def log_chance(self, output: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        parts = self._split_output(output), self._split(x), self._split(noise)
        rows = zip(self._outputs(), *parts, strict=True)
        return torch.cat([part.log_chance(*cells) for part, *cells in rows], dim=-1)

    def _outputs(self) -> Iterator[Output]:
        return iter(cast("Iterable[Output]", self.parts))

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(self.widths, dim=-1)

    def _split_output(self, output: Tensor) -> list[Tensor]:
        """Give each part its columns, and its extra outputs after them."""
        pieces = output.split([*self.widths, *self.extras], dim=-1)
        n_parts = len(self.widths)
        return [
            torch.cat(pieces[i::n_parts], dim=-1) if self.extras[i] else pieces[i]
            for i in range(n_parts)
        ]

    def _join(self, method: str, output: Tensor, *others: torch.Generator) -> Tensor:
        pairs = zip(self._outputs(), self._split_output(output), strict=True)
        return torch.cat([getattr(p, method)(o, *others) for p, o in pairs], dim=-1)


def mean_of_seen(cells: Tensor, seen: Tensor | None) -> Tensor:
    """Average over the seen cells of each row; zero where none is."""
    if seen is None:
        return cells.mean(dim=-1)
    return (cells * seen).sum(dim=-1) / seen.sum(dim=-1).clamp(min=1)


def assemble(blocks: Sequence[Block], make: Callable[[Block, slice], Output]) -> Output:
    """Make the output of each block of columns and put them side by side."""
    parts, start = [], 0
    for block in blocks:
        columns = slice(start, start + block.width)
        parts.append((make(block, columns), block.width))
        start = columns.stop
    return parts[0][0] if len(parts) == 1 else Mixed(parts)


LIKELIHOODS: dict[str, type[Output]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}


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
