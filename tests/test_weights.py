"""Weights of a module in one vector, against the module."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import draws
from numpy.testing import assert_allclose
from regressions import Network, flattened, free_part
from torch.testing import assert_close

from skae.training._weights import AVERAGING, Weights


def test_flattening_keeps_the_values_and_sorts_the_penalised_out():
    module, weights = flattened()
    fresh = Network()
    assert torch.equal(module.layer.weight, fresh.layer.weight)
    assert torch.equal(module.layer.bias, fresh.layer.bias)
    assert torch.equal(weights.penalised, fresh.layer.weight.flatten())
    assert torch.equal(free_part(weights.vector, weights), fresh.layer.bias)


def test_a_change_of_the_vector_changes_the_module():
    module, weights = flattened()
    x = draws(4, 3)
    weights.penalised.zero_()
    free_part(weights.vector, weights).fill_(7)
    assert torch.equal(module(x), torch.full((4, 2), 7.0).double())


def test_gradients_arrive_in_the_vectors_and_add_up():
    module, weights = flattened()
    x = draws(4, 3)
    for times in (1, 2):
        module(x).sum().backward()
        expected = times * x.sum(dim=0).repeat(2)
        assert_close(weights.penalised_gradient, expected)
        assert_close(
            free_part(weights.gradient, weights), torch.full((2,), 4.0 * times).double()
        )
    weights.gradient.zero_()
    assert not weights.penalised_gradient.any()
    assert not module.layer.bias.grad.any()


def test_a_snapshot_brings_weights_and_buffers_back():
    module, weights = flattened()
    snapshot, before = weights.snapshot(), module(draws(4, 3))
    weights.penalised.fill_(3)
    module.seen.fill_(5)
    assert not torch.equal(module(draws(4, 3)), before)
    weights.load(snapshot)
    assert torch.equal(module(draws(4, 3)), before)
    assert module.seen.item() == 0


def test_loading_leaves_the_snapshot_alone():
    _, weights = flattened()
    snapshot = weights.snapshot()
    weights.load(snapshot)
    weights.penalised.fill_(3)
    assert not (snapshot[0] == 3).any()


def test_averaged_puts_the_average_in_place_and_takes_it_away_again():
    module, weights = flattened()
    start = free_part(weights.vector, weights).clone()
    free_part(weights.vector, weights).add_(1)
    weights.average()
    with weights.averaged():
        assert_close(module.layer.bias.detach(), start + 0.5)
    assert_close(module.layer.bias.detach(), start + 1)


def follow(weights, values):
    for value in values:
        free_part(weights.vector, weights).fill_(value)
        weights.average()
    with weights.averaged():
        return free_part(weights.vector, weights)[0].item()


def test_the_average_of_few_steps_is_the_plain_mean():
    _, weights = flattened()
    weights.restart_from([torch.zeros_like(t) for t in weights.snapshot()])
    values = draws(60).tolist()
    assert_allclose(follow(weights, values), np.mean([0, *values]))


def test_the_average_of_many_steps_is_exponential():
    _, weights = flattened()
    follow(weights, [2.0] * 1000)
    found = follow(weights, [3.0] * 50)
    assert_allclose(found, 3 - AVERAGING**50, rtol=1e-4)


def test_a_restart_forgets_the_average():
    _, weights = flattened()
    snapshot = weights.snapshot()
    follow(weights, [2.0] * 200)
    weights.restart_from(snapshot)
    assert torch.equal(weights.vector, snapshot[0])
    with weights.averaged():
        assert torch.equal(weights.vector, snapshot[0])
    weights.restart_from([torch.zeros_like(tensor) for tensor in snapshot])
    assert_allclose(follow(weights, [3.0, 6.0]), 3.0)


@pytest.mark.parametrize("which", ["none", "all"])
def test_modules_may_have_no_penalised_weights_or_no_other(which):
    module = Network()
    penalised = [] if which == "none" else list(module.parameters())
    weights = Weights(module, penalised)
    assert len(weights.vector) == 8
    assert len(weights.penalised) == (0 if which == "none" else 8)
    module(draws(4, 3)).sum().backward()
    assert weights.gradient.any()
