"""Rows on the device, in batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from torch import Tensor

EVALUATION_ROWS = 4096
FEWEST_EPOCHS = 5  # that make a fit, however many steps there are in one
FEWEST_OF_A_STREAM = 2  # each of which reads a whole table


# A tensor, or several with a row each: what they mean is the objective's.
Cells: TypeAlias = Any


@dataclass(frozen=True)
class Rows:
    """Some rows of a table on the device, without a copy of them.

    Attributes
    ----------
    cells : Cells
        Of the whole table.
    index : Tensor of int of shape (n_rows,)
    weight : Tensor of shape (n_table_rows,) or (n_members, n_table_rows), or None
        For each of several networks that train side by side, if there are such.
    member : Tensor of int of shape (n_table_rows,) or None
        Which of these networks judges a row.
    """

    fewest_epochs: ClassVar[int] = FEWEST_EPOCHS

    cells: Cells
    index: Tensor
    weight: Tensor | None = None
    member: Tensor | None = None

    @property
    def n_members(self) -> int:
        """Number of networks that train side by side."""
        has_members = self.weight is not None and self.weight.ndim == 2
        return len(self.weight) if self.weight is not None and has_members else 1

    @classmethod
    def all_of(cls, cells: Cells, weight: Tensor | None = None) -> Rows:
        return cls(cells, torch.arange(len(cells), device=cells.device), weight)

    def __len__(self) -> int:
        return len(self.index)

    def spread(self, n_rows: int) -> tuple[Cells, Tensor]:
        """Return up to `n_rows` of the table's rows, evenly spaced, and their weights.

        Rows of the other part of a split are among them.
        """
        n_cells = len(self.cells)
        places = np.linspace(0, n_cells - 1, min(n_rows, n_cells)).round().astype(int)
        index = torch.from_numpy(places).to(self.index.device)
        cells = self.cells.index_select(0, index)
        if self.weight is None:
            return cells, torch.ones_like(cells.values[:, 0])
        of_last = self.weight if self.weight.ndim == 1 else self.weight[-1]
        return cells, of_last[index]

    def batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Rows]:
        """Cut the rows, shuffled, into batches of equal size up to `batch_size`."""
        n_batches = math.ceil(len(self) / batch_size)
        if n_batches == 1:
            yield self
            return
        order = torch.randperm(len(self), generator=generator, device=self.index.device)
        for part in self.index[order].tensor_split(n_batches):
            yield replace(self, index=part)

    def values(self) -> Cells:
        return self.cells.index_select(0, self.index)

    def loss(self, losses: Callable[..., Tensor]) -> Tensor:
        """Return the mean loss, as a function of cells computes it row by row."""
        return self.mean(losses(self.values()))

    def mean(self, losses: Tensor) -> Tensor:
        """Average losses of these rows. Weights have a mean of one over the table."""
        if self.weight is None:
            return losses.mean()
        return (losses * self.weight[..., self.index]).mean()

    def merge(self, loss: Tensor, gradient: Tensor) -> tuple[Tensor, int]:
        """Return the loss of all processes, and of how many rows it is the mean.

        The gradient becomes, in place, that of all.
        """
        return loss, len(self)

    def evaluate(self, loss: Callable[..., Tensor]) -> Tensor:
        """Compute the losses of all rows, a chunk at a time."""
        parts = self.index.split(EVALUATION_ROWS)
        losses = [loss(self.cells.index_select(0, part)) for part in parts]
        if self.member is None:
            return torch.cat(losses)
        return torch.cat(losses, dim=1).gather(0, self.member[self.index][None])[0]


@dataclass(frozen=True, kw_only=True)
class StreamedRows(Rows):
    """Rows beyond those at hand, which come in chunks from elsewhere in each epoch.

    The rows at hand are a pool: each chunk is shuffled into it, and as many rows leave
    it as came. So neighbours in a file, which are alike, are in different batches.

    Attributes
    ----------
    more : callable of int
        Returns an iterator over cells, in an order that hangs on a seed.
    n_rows : int
        That come in an epoch, to all processes that share it.
    n_own : int
        Of them, to this one.
    """

    fewest_epochs: ClassVar[int] = FEWEST_OF_A_STREAM

    more: Callable[[int], Iterator[Cells]]
    n_rows: int
    n_own: int

    def __len__(self) -> int:
        return self.n_rows

    def batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Rows]:
        """Cut the rows into batches of `batch_size`, the last but smaller."""
        left = None
        for some in self._shuffled(generator):
            left = some if left is None else left.joined(some)
            *whole, left = left.split(batch_size)
            yield from map(Rows.all_of, whole)
        if left is not None:
            yield Rows.all_of(left)

    def _shuffled(self, generator: torch.Generator) -> Iterator[Cells]:
        device = self.index.device
        seed = torch.randint(2**31, (1,), generator=generator, device=device)
        pool = self.values()
        for chunk in self.more(int(seed)):
            pool = pool.joined(chunk)
            order = torch.randperm(len(pool), generator=generator, device=device)
            leaving, staying = order.split([len(chunk), len(pool) - len(chunk)])
            yield pool.index_select(0, leaving)
            pool = pool.index_select(0, staying)
