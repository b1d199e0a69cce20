"""Normal scores of several columns at once, in torch, and back.

The formulas are those of the table's own scores; they are computed in double precision,
as there, whatever the precision of the columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..table._scores import SmoothScores


class Lookup(nn.Module):
    """A value for each column's cell, by its place among the values of the column."""

    values: Tensor
    first: Tensor

    def __init__(self, columns: Sequence[np.ndarray]) -> None:
        super().__init__()
        values = _padded(columns, np.nan)
        self.register_buffer("values", values.flatten())
        self.register_buffer("first", torch.arange(len(values)) * values.shape[1])

    def forward(self, place: Tensor) -> Tensor:
        return self.values[place + self.first]


class Intervals(nn.Module):
    """The interval, between the edges of its column, that a number lies in."""

    inner: Tensor

    def __init__(self, edges: Sequence[np.ndarray]) -> None:
        super().__init__()
        self.register_buffer("inner", _padded([e[1:-1] for e in edges], np.inf))
        self.start = Lookup([e[:-1] for e in edges])
        self.width = Lookup([np.diff(e) for e in edges])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return its place, and which share of it lies below the number."""
        place = (x[..., None] > self.inner).sum(dim=-1)
        return place, ((x - self.start(place)) / self.width(place)).clamp(0, 1)

    def at(self, place: Tensor, share: Tensor) -> Tensor:
        """Return the number that has a share of an interval below it."""
        return self.start(place) + share * self.width(place)


class Scores(nn.Module):
    """The maps of several columns to normal scores, and back."""

    outer: Tensor
    slopes: Tensor
    spikes: Tensor
    limits: Tensor

    def __init__(self, maps: Sequence[SmoothScores]) -> None:
        super().__init__()
        self.edges = Intervals([m.edges for m in maps])
        self.at_edges = Intervals([m.at_edges for m in maps])
        self.lower = Lookup([m.bends[0] for m in maps])
        self.upper = Lookup([m.bends[1] for m in maps])
        outer = np.array([m.edges[[0, -1]] for m in maps]).T
        slopes = [np.diff(m.at_edges) / np.diff(m.edges) for m in maps]
        ends = np.array([slope[[0, -1]] for slope in slopes]).T
        self.register_buffer("outer", torch.from_numpy(outer))
        self.register_buffer("slopes", torch.from_numpy(ends))
        lowest = [m.spike_scores[0] for m in maps]
        self.register_buffer("spikes", _padded(lowest, np.inf))
        self.spike_low = Lookup([np.r_[low, np.inf] for low in lowest])
        self.spike_high = Lookup([np.r_[m.spike_scores[1], -np.inf] for m in maps])
        self.spike = Lookup([np.r_[m.spikes, np.nan] for m in maps])
        limits = np.array([[m.low, m.high] for m in maps]).T
        self.register_buffer("limits", torch.from_numpy(limits))

    def forward(self, columns: Tensor) -> Tensor:
        """Return scores, NaN where a number is missing."""
        x = columns.double()
        place, share = self.edges(x)
        lower, upper = self.lower(place), self.upper(place)
        other = share * (1 - share)
        risen = (share**2 + lower * other) / (1 + (lower + upper - 2) * other)
        under = ((self.outer[0] - x).clamp(min=0) * self.slopes[0]).log1p()
        over = ((x - self.outer[1]).clamp(min=0) * self.slopes[1]).log1p()
        scores = self.at_edges.at(place, risen) - under + over
        return torch.where(x.isnan(), x, scores).to(columns.dtype)

    def inverse(self, scores: Tensor) -> Tensor:
        """Return the values that scores stand for."""
        x = scores.double()
        place, risen = self.at_edges(x)
        lower, upper = self.lower(place), self.upper(place)
        linear = lower - risen * (lower + upper - 2)
        root = (linear**2 + 4 * (1 - linear) * risen).sqrt()
        values = self.edges.at(place, 2 * risen / (linear + root))
        near = (x[..., None] >= self.spikes).sum(dim=-1).clamp(min=1) - 1
        is_spike = (x >= self.spike_low(near)) & (x <= self.spike_high(near))
        values = torch.where(is_spike, self.spike(near), values)
        values = torch.maximum(torch.minimum(values, self.limits[1]), self.limits[0])
        return values.to(scores.dtype)


def _padded(columns: Sequence[np.ndarray], filling: float) -> Tensor:
    """Put columns of several lengths, filled up to one, on top of each other."""
    length = max(1, *(len(column) for column in columns))
    padded = np.full((len(columns), length), filling)
    for row, column in zip(padded, columns, strict=True):
        row[: len(column)] = column
    return torch.from_numpy(padded)
