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
    fold : Tensor of int of shape (n_rows,) or None
        Which of several networks judges a row, and must not learn of it; -1 for none.
    """

    values: Any
    seen: Any = None
    log_variances: Any = None
    log_density: Any = None
    fold: Any = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def device(self) -> torch.device:
        return self.values.device

    def index_select(self, dim: int, index: torch.Tensor) -> Cells:
        """Take rows, as of a tensor (`dim` is 0)."""
        return self.map(lambda tensor: tensor.index_select(dim, index))

    def joined(self, other: Cells) -> Cells:
        """Return these rows and others after them.

        Where only some of them have holes, of the rest all cells are seen.
        """
        here, there = vars(self), vars(other)
        pairs = {name: [here[name], there[name]] for name in here}
        for name, whole in {"seen": 1.0, "log_variances": 0.0}.items():
            if (pairs[name][0] is None) != (pairs[name][1] is None):
                pairs[name] = [
                    _like(like, len(rows), whole) if tensor is None else tensor
                    for rows, tensor, like in zip(
                        (self, other), pairs[name], pairs[name][::-1], strict=True
                    )
                ]
        tensors = {k: None if p[0] is None else torch.cat(p) for k, p in pairs.items()}
        return Cells(**tensors)

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


def _like(tensor: torch.Tensor, n_rows: int, value: float) -> torch.Tensor:
    return tensor.new_full((n_rows, *tensor.shape[1:]), value)
