"""Which rows the gradient sees, and which judge."""

from __future__ import annotations

import torch
from torch import Tensor

from ._rows import Cells, Rows

MOST_JUDGES = 5000


def split_rows(
    cells: Cells, weight: Tensor | None, fraction: float | None, seed: int
) -> tuple[Rows, Rows]:
    """Choose the rows that the gradient sees and those that judge the weights.

    Up to 5,000 rows judge. Without a fraction every row is for training, theirs too.
    """
    n_rows = len(cells)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n_rows, generator=generator).to(cells.device)
    if fraction is None:
        training, judging = order, order[:MOST_JUDGES]
    else:
        n_judging = min(max(round(fraction * n_rows), 1), n_rows - 1, MOST_JUDGES)
        judging, training = order[:n_judging], order[n_judging:]
    judging_weight = None if weight is None else weight / weight[judging].mean()
    return Rows(cells, training, weight), Rows(cells, judging, judging_weight)
