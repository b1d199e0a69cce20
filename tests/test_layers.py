"""Layers against their formulas, and where they start."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from models import draws, generator
from networks import layers, perceptron
from torch import nn
from torch.autograd import gradcheck
from torch.func import functional_call
from torch.testing import assert_close

from skae.network._layers import (
    ACTIVATIONS,
    Dropout,
    Gate,
    HardThreshold,
    LinearPath,
    OfDraws,
    linear,
    seed_dropout,
)


def linear_path(n_straight=3, n_outputs=3, *, network=None, **scales):
    options = {
        "input_centre": draws(4, seed=2),
        "input_scale": torch.tensor([0.5, 1.0, 2.0, 4.0]).double(),
        "output_scale": torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])[:n_outputs].double(),
    }
    return LinearPath(
        draws(n_straight, 4),
        draws(n_outputs, seed=1),
        network or perceptron(4, 6, n_outputs),
        **(options | scales),
    )


# ------------------------------------------------------------------------- dropout


def dropout(p, seed=0):
    layer = Dropout(p)
    seed_dropout(layer, generator(seed))
    return layer


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(p):
    kept = dropout(p)(torch.ones(20_000))
    error = (p / (1 - p) / 20_000) ** 0.5
    assert abs(kept.mean() - 1) < 4 * error


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_hides_a_value_or_scales_it(p):
    x = draws(1000)
    kept = dropout(p)(x)
    seen = kept != 0
    assert_close(kept[seen], x[seen] / (1 - p))
    assert 0 < seen.sum() < 1000


def test_dropout_does_nothing_in_evaluation():
    x = draws(100)
    assert torch.equal(dropout(0.5).eval()(x), x)


def test_dropout_draws_from_its_generator():
    x = torch.ones(100)
    assert torch.equal(dropout(0.5, seed=1)(x), dropout(0.5, seed=1)(x))
    assert not torch.equal(dropout(0.5, seed=1)(x), dropout(0.5, seed=2)(x))


def test_seeds_reach_the_dropout_of_nested_modules():
    module = nn.Sequential(Dropout(0.5), nn.Sequential(nn.ReLU(), Dropout(0.5)))
    shared = generator()
    seed_dropout(module, shared)
    assert all(layer.generator is shared for layer in layers(module, Dropout))


# ------------------------------------------------------------------------ thresholds


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_threshold_sets_the_smallest_share_of_codes_to_zero(share):
    threshold, codes = HardThreshold(share).double(), draws(50, 4)
    assert torch.equal(threshold(codes), codes)
    threshold.settle(codes, torch.ones(50).double())
    kept = threshold(codes)
    assert (kept == 0).sum() == round(share * codes.numel())
    assert kept[kept != 0].abs().min() > codes[kept == 0].abs().max()


def test_a_threshold_counts_rows_by_their_weight():
    weight = torch.tensor([3.0, 1.0, 0.0, 2.0]).double()
    one, other = HardThreshold(0.4).double(), HardThreshold(0.4).double()
    codes = draws(4, 3)
    one.settle(codes, weight)
    other.settle(codes.repeat_interleave(weight.long(), 0), torch.ones(6).double())
    assert torch.equal(one.level, other.level)


def test_members_have_a_threshold_each():
    codes, weight = draws(3, 20, 2), torch.ones(20).double()
    whole, one = HardThreshold(0.3).double(), HardThreshold(0.3).double()
    whole.level = torch.zeros(3, 1, 1).double()
    whole.settle(codes, weight)
    for member in range(3):
        one.settle(codes[member], weight)
        assert torch.equal(whole(codes)[member], one(codes[member]))


# --------------------------------------------------------------------- affine layers


def test_initial_weights_keep_the_variance_of_the_input():
    layer = linear(400, 200, generator())
    assert_close(layer.weight.std().item(), 1 / 20, rtol=0.02, atol=0)
    assert abs(layer.weight.mean()) < 4 / 20 / 80_000**0.5
    assert layer.bias.abs().max() <= 1 / 20
    assert len(layer.bias.unique()) > 190


def test_initial_weights_come_from_the_generator():
    first, second, other = (linear(5, 3, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    assert not torch.equal(first.weight, other.weight)


# ----------------------------------------------------------------------- perceptrons


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(4, 2), (4, 5, 2), (4, 7, 3, 5, 2)], ids=str)
def test_perceptron_is_a_chain_of_affine_maps_and_activations(widths, activation):
    network = perceptron(*widths, activation=activation)
    maps = layers(network, nn.Linear)
    assert [(m.in_features, m.out_features) for m in maps] == [
        *itertools.pairwise(widths)
    ]
    expected = x = draws(6, 4)
    for affine in maps[:-1]:
        expected = ACTIVATIONS[activation]()(affine(expected))
    assert_close(network(x), maps[-1](expected))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("n_hidden", [0, 1, 3])
def test_dropout_follows_every_hidden_layer_and_no_other(n_hidden, dropout):
    network = perceptron(4, *[5] * n_hidden, 2, dropout=dropout)
    assert len(layers(network, Dropout)) == (n_hidden if dropout else 0)
    assert isinstance(network[-1], nn.Linear)


@pytest.mark.parametrize("widths", [(4, 2), (4, 5, 3, 2)], ids=str)
def test_perceptron_that_starts_at_zero_is_zero_but_can_learn(widths):
    network = perceptron(*widths, starts_at_zero=True)
    output = network(draws(6, 4))
    assert torch.equal(output, torch.zeros(6, 2).double())
    (output - 1).square().sum().backward()
    assert network[-1].weight.grad.any()
    assert network[-1].bias.grad.any()


def test_hidden_weights_do_not_depend_on_the_start_at_zero():
    zero, usual = perceptron(4, 5, 2, starts_at_zero=True), perceptron(4, 5, 2)
    assert torch.equal(zero[0].weight, usual[0].weight)
    assert usual[-1].weight.all()


# ------------------------------------------------------------------------------ gate


def test_gate_starts_at_zero_and_multiplies_each_output():
    gate = Gate(perceptron(4, 3), 3).double()
    x = draws(5, 4)
    assert torch.equal(gate(x), torch.zeros(5, 3).double())
    gate.factor.data = factor = draws(3)
    assert_close(gate(x), factor * gate.module(x))


def test_gate_can_open():
    gate = Gate(perceptron(4, 3), 3).double()
    (gate(draws(5, 4)) - 1).square().sum().backward()
    assert gate.factor.grad.all()


# ----------------------------------------------------------------------- linear path


@pytest.mark.parametrize("n_straight", [3, 5])
def test_linear_path_computes_its_formula(n_straight):
    path, x = linear_path(n_straight, 5), draws(6, 4, seed=3)
    scale = torch.tensor([0.5, 1.0, 2.0, 4.0])
    standardised = (x - draws(4, seed=2)) / scale
    straight = torch.zeros(6, 5).double()
    straight[:, :n_straight] = x @ draws(n_straight, 4).T
    correction = torch.arange(1, 6) * path.network(standardised)
    assert_close(path(x), straight + draws(5, seed=1) + correction)


@pytest.mark.parametrize("n_straight", [3, 5])
def test_gradients_of_the_linear_path_are_finite_differences(n_straight):
    path = linear_path(n_straight, 5)
    names = [name for name, _ in path.named_parameters()]

    def output(x, *values):
        return functional_call(path, dict(zip(names, values, strict=True)), (x,))

    x = draws(3, 4, seed=3).requires_grad_()
    assert gradcheck(output, (x, *path.parameters()))


def test_linear_path_is_linear_where_the_network_starts_at_zero():
    path = linear_path(network=perceptron(4, 6, 3, starts_at_zero=True))
    x = draws(5, 4, seed=3)
    assert_close(path(x), x @ draws(3, 4).T + draws(3, seed=1))


def test_far_from_the_data_the_network_is_constant():
    path = linear_path()
    far, farther = (factor * torch.ones(1, 4).double() for factor in (1e3, 1e6))
    slope = path.weight.sum(dim=1)
    assert_close(path(farther) - path(far), slope[None] * (1e6 - 1e3))


def test_the_network_sees_ten_deviations_and_no_more():
    path = linear_path(network=nn.Identity(), n_straight=4, n_outputs=4)
    path.weight.data.zero_()
    path.bias.data.zero_()
    deviations = torch.tensor([-12.0, -9.0, 9.0, 12.0]).double()
    x = path.input_centre + deviations / path.input_factor
    expected = torch.tensor([-10.0, -9.0, 9.0, 10.0]).double() * path.output_scale
    assert_close(path(x[None])[0], expected)


def test_an_input_of_scale_zero_is_hidden_from_the_network():
    path = linear_path(input_scale=torch.tensor([0.5, 0.0, 2.0, 4.0]).double())
    x, moved = draws(5, 4, seed=3), draws(5, 4, seed=3)
    moved[:, 1] += 3
    assert path(x).isfinite().all()
    assert_close(path(moved) - path(x), (3 * path.weight[:, 1]).expand(5, 3))


def test_an_output_of_scale_zero_is_left_to_the_linear_path():
    path = linear_path(output_scale=torch.tensor([1.0, 0.0, 3.0]).double())
    x = draws(5, 4, seed=3)
    straight = x @ path.weight.T + path.bias
    assert_close(path(x)[:, 1], straight[:, 1])
    assert not torch.isclose(path(x)[:, 0], straight[:, 0]).any()


def test_linear_path_copies_what_it_is_given():
    weight, bias = draws(3, 4), draws(3)
    centre, scale = draws(4), torch.ones(4).double()
    path = LinearPath(
        weight,
        bias,
        nn.Identity(),
        input_centre=centre,
        input_scale=scale,
        output_scale=scale,
    )
    before = copy.deepcopy(path.state_dict())
    for tensor in (weight, bias, centre, scale):
        tensor.zero_()
    for name, value in path.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_module_answers_each_draw_of_the_codes_as_it_answers_rows():
    inner = nn.Sequential(perceptron(2, 3), nn.BatchNorm1d(3)).double().eval()
    codes = draws(4, 5, 2)
    found = OfDraws(inner)(codes)
    for draw, answers in zip(codes, found, strict=True):
        assert_close(answers, inner(draw))
    assert_close(OfDraws(inner)(codes[0]), inner(codes[0]))
