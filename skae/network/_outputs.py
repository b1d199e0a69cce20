"""What the decoder's output stands for, cell by cell.

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

from .._schema import Block

RAREST = 0.01  # chance or rate that keeps a start at rare values trainable
SMALLEST_NOISE = 1e-6  # of a reconstruction, in scaled units, and chance of a level


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

    def outputs(self) -> Iterator[Output]:
        """Yield what stands side by side: here itself."""
        yield self

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

    column: Tensor
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
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("padding", padding, persistent=False)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the indicators of each column, in time that grows with their number.

        A product with a matrix of zeros and ones takes the square of it.
        """
        sums = values.new_zeros((*values.shape[:-1], self.shape[0]))
        return sums.scatter_add(-1, self.column.expand_as(values), values)

    def of_each(self, columns: Tensor) -> Tensor:
        """Repeat the values of columns for each of their indicators."""
        return columns.index_select(-1, self.column)

    def exponentials(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return exponentials, the largest of each column one, and what they lack."""
        largest = values.new_full((*values.shape[:-1], self.shape[0]), -torch.inf)
        index = self.column.expand_as(values)
        largest = largest.scatter_reduce(-1, index, values.detach(), "amax")
        return (values - self.of_each(largest)).exp(), largest

    def logsumexp(self, values: Tensor) -> Tensor:
        """Log of the summed exponentials of each column."""
        exponentials, largest = self.exponentials(values)
        return self.sum(exponentials).log() + largest

    def softmax(self, values: Tensor) -> Tensor:
        """Chances of the levels, which add up to one in each column."""
        exponentials, _ = self.exponentials(values)
        return exponentials / self.of_each(self.sum(exponentials))

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


class Logits(Output):
    """Outputs that are the logits of a mean in [0, 1]."""

    def mean(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output)

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(torch.sigmoid(output), generator=generator)

    def tangent(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        inner = mean.clamp(RAREST, 1 - RAREST)
        return inner.logit(), 1 / (inner * (1 - inner))


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
        triples = zip(self.outputs(), *pieces, strict=True)
        return torch.cat([part.per_cell(o, v) for part, o, v in triples], dim=-1)

    def mean(self, output: Tensor) -> Tensor:
        return self._join("mean", output)

    def variance(self, output: Tensor) -> Tensor:
        return self._join("variance", output)

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        return self._join("sample", output, generator)

    def tangent(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        pairs = zip(self.outputs(), self._split(mean), strict=True)
        outputs, slopes = zip(*(p.tangent(m) for p, m in pairs), strict=True)
        return torch.cat(outputs), torch.cat(slopes)

    def log_chance(self, output: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        parts = self._split_output(output), self._split(x), self._split(noise)
        rows = zip(self.outputs(), *parts, strict=True)
        return torch.cat([part.log_chance(*cells) for part, *cells in rows], dim=-1)

    def outputs(self) -> Iterator[Output]:
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
        pairs = zip(self.outputs(), self._split_output(output), strict=True)
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
