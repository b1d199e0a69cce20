"""Which rows the gradient sees, and which judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ._rows import Cells, Rows

MOST_JUDGES = 5000


@dataclass(frozen=True)
class Split:
    """The rows that the gradient sees and those that judge the weights, as indices.

    Attributes
    ----------
    training, judging : ndarray of int
    is_held_out : bool
        Whether the gradient never sees the rows that judge.
    """

    training: np.ndarray
    judging: np.ndarray
    is_held_out: bool

    @classmethod
    def of(cls, n_rows: int, n_val: int, fraction: float | None, seed: int) -> Split:
        """Split rows at random, or by the validation rows that come after them.

        Up to 5,000 rows judge. Without a fraction every row is for training, theirs
        too.
        """
        if n_val:
            return cls(np.arange(n_rows), np.arange(n_rows, n_rows + n_val), True)
        if n_rows == 1:  # copies of one row: nothing to learn, and nothing to judge by
            return cls(np.zeros(1, dtype=int), np.zeros(1, dtype=int), False)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(n_rows, generator=generator).numpy()
        if fraction is None:
            return cls(order, order[:MOST_JUDGES], False)
        n_judging = min(max(round(fraction * n_rows), 1), n_rows - 1, MOST_JUDGES)
        return cls(order[n_judging:], order[:n_judging], True)

    def rows(self, cells: Cells, weight: np.ndarray | None) -> tuple[Rows, Rows]:
        """Cut cells of all rows into those to learn from and those that judge."""
        training, judging = (
            torch.from_numpy(index).to(cells.device)
            for index in (self.training, self.judging)
        )
        if weight is None:
            return Rows(cells, training), Rows(cells, judging)
        relative = torch.from_numpy(weight / weight[self.training].mean())
        weights = relative.to(cells.device, torch.float32)
        of_judges = weights / weights[judging].mean()
        return Rows(cells, training, weights), Rows(cells, judging, of_judges)
