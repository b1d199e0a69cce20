"""Whether rows that are neighbours in the table are neighbours in the code."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOST_ROWS = 256  # that are compared with each other
ONE_OF = 40  # of which is a neighbour
FEWEST = 3  # neighbours of a row
NARROWNESS = 4.0  # of the kernel, beside the share of rows that are neighbours
LEAST = -1e9  # logarithm of what is nothing beside a neighbour
TINY = 1e-12  # variance of codes, or of rows, that are all equal


def neighbor_losses(code: Tensor, values: Tensor) -> Tensor:
    """Say of each row how far its neighbours are from being those of its code, in nats.

    The Kullback-Leibler divergence to a distribution over the rows of a batch, by a
    Student kernel between codes, from the uniform one over those that are nearest in
    the table: parametric t-SNE [1]_, row by row [2]_. The kernel is a share of the mean
    distance of codes wide, so that codes of any scale cost the same.

    Parameters
    ----------
    code : Tensor of shape (n_rows, n_components)
        Of rows in any order.
    values : Tensor of shape (n_rows, n_columns)

    Returns
    -------
    losses : Tensor of shape (n_rows,)
        Zero for a row alone.

    References
    ----------
    .. [1] van der Maaten, L. (2009). Learning a parametric embedding by preserving
       local structure. AISTATS.
    .. [2] Damrich, S., Böhm, J. N., Hamprecht, F. A. and Kobak, D. (2023). From t-SNE
       to UMAP with contrastive learning. ICLR.
    """
    n_parts = math.ceil(len(values) / MOST_ROWS)
    parts = zip(code.tensor_split(n_parts), values.tensor_split(n_parts), strict=True)
    return torch.cat([_losses(*part) for part in parts])


def _losses(code: Tensor, values: Tensor) -> Tensor:
    n_rows = len(values)
    n_neighbors = min(max(n_rows // ONE_OF, FEWEST), n_rows - 1)
    if n_neighbors < 1:
        return 0 * code.sum(dim=1)
    distances = torch.cdist(values, values).fill_diagonal_(math.inf)
    neighbors = distances.topk(n_neighbors, largest=False).indices
    squares = (code[:, None] - code).square().sum(dim=2)
    narrowness = NARROWNESS * n_rows / n_neighbors
    closeness = -torch.log1p(narrowness * squares / (squares.mean() + TINY))
    total = closeness.fill_diagonal_(LEAST).logsumexp(dim=1)
    near = closeness.gather(1, neighbors).mean(dim=1)
    return total - near - math.log(n_neighbors)


def relative_distance(values: Tensor) -> Tensor:
    """Return the median distance of a row to the nearest, over the rows' deviation."""
    distances = torch.cdist(values, values)
    if len(values) > 1:
        distances.fill_diagonal_(math.inf)
    deviation = values.var(dim=0, correction=0).sum().sqrt()
    return distances.min(dim=1).values.median() / (deviation + TINY)
