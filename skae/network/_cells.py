"""Rows of a table as tensors, and what is known of their holes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import itemgetter
from typing import Any

import torch


@dataclass(frozen=True)
class Cells:
    """Encoded rows of a table as tensors or arrays, and what is known of their holes.

    Attributes
    ----------
    values : Tensor of shape (n_rows, n_columns)
        The encoded cells, and where one is missing what the linear model expects there.
    seen : Tensor of shape (n_rows, n_features) or None
        One where a cell was seen, zero where it is missing; None where all were seen.
    log_variances : Tensor of shape (n_rows, n_components) or None
        What holes add to the log-variances of the code, by the linear model.
    log_density : Tensor of shape (n_rows,) or None
        Of the seen cells under the linear model, in nats.
    """

    values: Any
    seen: Any = None
    log_variances: Any = None
    log_density: Any = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def device(self) -> torch.device:
        return self.values.device

    def index_select(self, dim: int, index: torch.Tensor) -> Cells:
        """Take rows, as of a tensor (`dim` is 0)."""
        return self.map(lambda tensor: tensor.index_select(dim, index))

    def own(self, rows: slice | None) -> Cells:
        """Take rows that are side by side, or all where none are named."""
        return self if rows is None else self.map(itemgetter(rows))

    def split(self, n_rows: int) -> list[Cells]:
        """Cut the rows into parts of at most `n_rows`."""
        starts = range(0, len(self), n_rows)
        return [self.map(itemgetter(slice(i, i + n_rows))) for i in starts]

    def map(self, function: Callable[[Any], Any]) -> Cells:
        """Apply a function to every tensor."""
        tensors = [getattr(self, field.name) for field in fields(self)]
        return Cells(*(None if t is None else function(t) for t in tensors))
