"""Losses of a reconstruction."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .._schema import Block
from ._outputs import SMALLEST_NOISE, Logits, OfLevels, Output, Standardised


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
        return functional.huber_loss(output, x.expand_as(output), reduction="none")


class BinaryCrossEntropy(Logits):
    """-x log p - (1 - x) log(1 - p), p the logistic sigmoid of the output."""

    def per_cell(self, output: Tensor, x: Tensor) -> Tensor:
        x = x.expand_as(output)
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

    It is summed over the indicators of a column, as in a table that is one-hot encoded.
    The best output is the conditional probability of each level, and linear principal
    components remain the start.
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


def make_loss(block: Block) -> Output:
    """Make the loss of a block of columns."""
    if block.is_numeric:
        return LOSSES[block.kind.name]()
    centre, scale = map(torch.from_numpy, (block.centre, block.scale))
    if block.kind.name == "binary":
        return SquaredErrorOfBinary(centre, scale)
    return SquaredErrorOfLevels(block.widths, centre, scale)
