"""How far the neighbours of rows are from being those of their codes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from models import draws, generator
from torch.testing import assert_close

from skae.network._neighbors import (
    MOST_ROWS,
    NARROWNESS,
    neighbor_losses,
    relative_distance,
)


def by_loops(code, values):
    """Compute the divergences one row at a time."""
    code, values = code.numpy(), values.numpy()
    n_rows = len(values)
    n_neighbors = max(n_rows // 40, 3)
    squares = ((code[:, None] - code) ** 2).sum(axis=2)
    width = squares.mean() * n_neighbors / n_rows / NARROWNESS
    losses = []
    for row in range(n_rows):
        others = np.delete(np.arange(n_rows), row)
        kernel = 1 / (1 + squares[row, others] / width)
        chance = dict(zip(others, kernel / kernel.sum(), strict=True))
        distances = np.linalg.norm(values[others] - values[row], axis=1)
        nearest = others[np.argsort(distances)[:n_neighbors]]
        target = 1 / n_neighbors
        losses.append(sum(target * math.log(target / chance[n]) for n in nearest))
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("n_rows", [5, 50, 170])
def test_losses_are_divergences_between_neighbours_and_a_student_kernel(n_rows):
    code, values = draws(n_rows, 2, seed=1), draws(n_rows, 4)
    assert_close(neighbor_losses(code, values), by_loops(code, values))


def test_the_scale_of_codes_and_of_values_is_free():
    code, values = draws(60, 2, seed=1), draws(60, 4)
    assert_close(neighbor_losses(100 * code, values), neighbor_losses(code, values))
    assert_close(neighbor_losses(code, 100 * values), neighbor_losses(code, values))


def test_codes_that_are_the_rows_cost_less_than_codes_of_other_rows():
    values = draws(200, 2)
    own = neighbor_losses(values, values)
    shuffled = values[torch.randperm(200, generator=generator())]
    assert (own >= 0).all()
    assert own.mean() < 0.5 * neighbor_losses(shuffled, values).mean()


def test_many_rows_are_compared_in_parts():
    code, values = draws(MOST_ROWS + 20, 2, seed=1), draws(MOST_ROWS + 20, 4)
    half = (MOST_ROWS + 20) // 2
    parts = [
        neighbor_losses(code[part], values[part])
        for part in (slice(half), slice(half, None))
    ]
    assert_close(neighbor_losses(code, values), torch.cat(parts))


@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_few_rows_and_equal_ones_have_finite_losses_and_gradients(n_rows):
    code = torch.zeros(n_rows, 2, requires_grad=True)
    losses = neighbor_losses(code, torch.ones(n_rows, 4))
    losses.sum().backward()
    assert losses.abs().max() < 1e-6
    assert torch.isfinite(code.grad).all()


def test_gradients_are_finite_differences():
    code, values = draws(12, 2, seed=1).requires_grad_(), draws(12, 4)
    assert torch.autograd.gradcheck(lambda c: neighbor_losses(c, values), code)


def test_the_distance_to_the_nearest_is_a_share_of_the_deviation():
    line = torch.arange(11.0).double()[:, None]
    assert_close(relative_distance(line), 1 / torch.tensor(10.0).double().sqrt())
    assert_close(relative_distance(7 * line + 3), relative_distance(line))
    assert relative_distance(line[:1]) == relative_distance(torch.ones(5, 2)) == 0
