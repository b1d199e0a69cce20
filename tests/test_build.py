"""Layers and networks against their formulas, and where they start."""

from __future__ import annotations

import copy
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.func import functional_call
from torch.testing import assert_close

from skae._schema import Block
from skae.model._pca import principal_components
from skae.network._autoencoders import (
    LARGEST_LOG_VARIANCE,
    Autoencoder,
    VariationalAutoencoder,
)
from skae.network._build import Architecture, around_linear_model, network_weights
from skae.network._cells import Cells
from skae.network._layers import (
    ACTIVATIONS,
    Dropout,
    Gate,
    LinearPath,
    linear,
    multilayer_perceptron,
    seed_dropout,
)
from skae.network._likelihoods import Bernoulli, Gaussian, Poisson
from skae.network._losses import SquaredError
from skae.network._priors import GaussianMixture, StandardNormal


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def perceptron(*widths, activation="silu", dropout=0.0, starts_at_zero=False, seed=0):
    return multilayer_perceptron(
        widths, activation, dropout, generator(seed), starts_at_zero=starts_at_zero
    ).double()


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


def layers(module, kind):
    return [layer for layer in module.modules() if isinstance(layer, kind)]


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


# ------------------------------------------------------------ around a linear model

PPCA_TABLE = np.random.default_rng(0).normal(size=(40, 4)) @ [
    [1.0, 0.5, 0.0, 2.0],
    [0.0, 1.0, 0.3, 0.0],
    [0.2, 0.0, 0.4, 0.1],
    [0.0, 0.1, 0.0, 0.3],
] + [1.0, 2.0, 3.0, 4.0]


def around(
    output=None, *, n_flags=0, with_variances=False, starts_at_zero=True, **more
):
    """Make networks around probabilistic PCA of two components."""
    start = principal_components(PPCA_TABLE, 2)
    ppca = start.probabilistic()
    log_variances = torch.from_numpy(ppca.variances).log() if with_variances else None
    output = output or SquaredError()
    networks = (
        perceptron(4 + n_flags, 5, 4 if with_variances else 2, seed=3),
        perceptron(2, 5, 4 + output.n_extra, seed=4),
    )
    if starts_at_zero:
        for network in networks:
            network[-1].weight.data.zero_()
            network[-1].bias.data.zero_()
    options = {
        "mean": torch.from_numpy(ppca.mean),
        "projection": torch.from_numpy(ppca.projection),
        "loadings": torch.from_numpy(ppca.loadings),
        "column_scales": torch.from_numpy(start.column_scales),
        "code_scales": torch.ones(2).double(),
        "n_flags": n_flags,
        "log_variances": log_variances,
    }
    return around_linear_model(*networks, output, **(options | more)), ppca


def test_networks_around_a_linear_model_start_as_that_model():
    (encoder, decoder), ppca = around()
    x, z = draws(6, 4), draws(6, 2)
    codes = (x.numpy() - ppca.mean) @ ppca.projection.T
    assert_close(encoder(x).detach(), torch.from_numpy(codes))
    rows = ppca.mean + z.numpy() @ ppca.loadings.T
    assert_close(decoder(z).detach(), torch.from_numpy(rows))


def test_log_variances_are_constant_at_the_start_and_stand_beside_the_codes():
    (encoder, _), ppca = around(with_variances=True)
    (codes_alone, _), _ = around()
    mean, log_variance = encoder(draws(6, 4)).chunk(2, dim=1)
    assert_close(mean, codes_alone(draws(6, 4)))
    expected = torch.from_numpy(np.log(ppca.variances))
    assert_close(log_variance.detach(), expected.expand(6, 2))
    assert len(encoder.weight) == 2


def test_a_decoder_of_rates_starts_as_the_tangent_of_the_linear_model():
    scale = torch.tensor([0.5, 1.0, 2.0, 4.0]).double()
    counts = Poisson(torch.full((4,), 20.0).double(), scale)
    (_, decoder), ppca = around(counts)
    for step, bound in ((1e-2, 3e-4), (1e-4, 3e-8)):
        z = step * draws(6, 2)
        rows = torch.from_numpy(ppca.mean + z.numpy() @ ppca.loadings.T)
        assert (counts.mean(decoder(z)) - rows).abs().max() < bound


def test_a_decoder_of_rates_gives_corrections_in_units_of_each_column():
    scale = torch.tensor([0.5, 1.0, 2.0, 4.0]).double()
    counts = Poisson(torch.full((4,), 20.0).double(), scale)
    (_, decoder), ppca = around(counts, starts_at_zero=False)
    tangent, slope = counts.tangent(torch.from_numpy(ppca.mean))
    scales = torch.from_numpy(PPCA_TABLE.std(axis=0, ddof=1))
    z = draws(6, 2)
    moved = z @ torch.from_numpy(ppca.loadings).T + scales * decoder.network(z)
    assert_close(decoder(z), tangent + slope * moved)


@pytest.mark.parametrize("starts_at_zero", [True, False])
def test_outputs_after_those_of_the_columns_are_the_networks_as_they_are(
    starts_at_zero,
):
    spread = torch.tensor([0.5, 1.0, 2.0, 4.0]).double()
    noisy = Gaussian(spread, 0.1 * spread)
    (_, decoder), ppca = around(noisy, starts_at_zero=starts_at_zero)
    scales = torch.from_numpy(PPCA_TABLE.std(axis=0, ddof=1))
    z = draws(6, 2)
    correction = decoder.network(z)
    rows = torch.from_numpy(ppca.mean + z.numpy() @ ppca.loadings.T)
    assert_close(decoder(z)[:, :4], rows + scales * correction[:, :4])
    assert torch.equal(decoder(z)[:, 4:], correction[:, 4:])
    assert correction.any() != starts_at_zero
    assert len(decoder.weight) == 4


def test_flags_have_no_linear_path_but_reach_the_network():
    (encoder, _), _ = around(n_flags=2)
    (without, _), _ = around()
    seen = []
    encoder.network.register_forward_hook(
        lambda module, args, output: seen.append(args)
    )
    x, flags = draws(6, 4), (draws(6, 2) > 0).double()
    assert_close(encoder(torch.cat([x, flags], dim=1)), without(x))
    assert_close(seen[0][0][:, 4:], 2 * flags)


@pytest.mark.parametrize("trainable", [True, False])
def test_the_linear_model_is_trained_on_request(trainable):
    paths, _ = around(trainable=trainable)
    for path in paths:
        assert path.weight.requires_grad == trainable
        assert path.bias.requires_grad


def test_networks_around_a_linear_model_see_and_give_standardised_values():
    code_scales = torch.tensor([2.0, 0.5]).double()
    (encoder, decoder), ppca = around(starts_at_zero=False, code_scales=code_scales)
    scales = torch.from_numpy(PPCA_TABLE.std(axis=0, ddof=1))
    mean = torch.from_numpy(ppca.mean)
    x, z = draws(6, 4), draws(6, 2)
    codes = (x - mean) @ torch.from_numpy(ppca.projection).T
    codes = codes + code_scales * encoder.network((x - mean) / scales)
    assert_close(encoder(x), codes)
    rows = mean + z @ torch.from_numpy(ppca.loadings).T
    assert_close(decoder(z), rows + scales * decoder.network(z / code_scales))


# -------------------------------------------------------------------- whole networks


def autoencoder(widths=(1, 1, 1, 1), incomplete=(), order=(1, 0)):
    n_inputs = 4 + len(incomplete)
    encoder = LinearPath(
        draws(2, n_inputs),
        draws(2),
        perceptron(n_inputs, 5, 2),
        input_centre=torch.zeros(n_inputs).double(),
        input_scale=torch.ones(n_inputs).double(),
        output_scale=torch.ones(2).double(),
    )
    decoder = perceptron(2, 5, 4)
    model = Autoencoder(
        encoder, decoder, SquaredError(), widths, incomplete, n_components=2
    )
    model.order.copy_(torch.tensor(order))
    return model


def vae(prior=None, likelihood=None, incomplete=(), order=(2, 0, 1)):
    model = VariationalAutoencoder(
        perceptron(4 + len(incomplete), 5, 6),
        perceptron(3, 5, 4),
        likelihood or Bernoulli(),
        prior or StandardNormal(3),
        (1, 1, 1, 1),
        incomplete,
    )
    model.order.copy_(torch.tensor(order))
    return model


def with_holes(n_features=4):
    """Make rows of which the third has nothing seen and the last two everything."""
    seen = (draws(5, n_features, seed=5) > 0).double()
    seen[2], seen[3:] = 0, 1
    return Cells(draws(5, 4, seed=3), seen)


def test_autoencoder_joins_encoder_and_decoder():
    model, x = autoencoder(), draws(5, 4, seed=3)
    latent = model.latent(Cells(x))
    assert_close(latent, model.encoder(x))
    assert_close(model.decoded(latent), model.decoder(model.encoder(x)))
    assert_close(model(x), model.decoder(model.encoder(x)))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_codes_leave_and_enter_in_the_order_of_the_components(order):
    model, cells = vae(order=order), Cells(draws(5, 4, seed=3))
    latent, code = model.latent(cells), model.code(cells)
    for place, component in enumerate(order):
        assert torch.equal(code[:, place], latent[:, component])
    assert torch.equal(model.reconstruction(code), model.decoded(latent))


def test_components_stay_in_order_until_they_are_ranked():
    same = nn.Identity()
    plain = Autoencoder(same, same, SquaredError(), (1,), n_components=5)
    assert plain.order.tolist() == [0, 1, 2, 3, 4]
    variational = VariationalAutoencoder(
        same, same, Bernoulli(), StandardNormal(3), (1,)
    )
    assert variational.order.tolist() == [0, 1, 2]


def test_reconstruction_is_the_mean_that_the_output_stands_for():
    model, z = vae(), draws(5, 3)
    assert_close(model.decoded(z), torch.sigmoid(model.decoder(z)))
    ordered = z[:, model.order]
    assert_close(model.reconstruction(ordered), torch.sigmoid(model.decoder(z)))


@pytest.mark.parametrize("make", [autoencoder, vae])
@pytest.mark.parametrize("incomplete", [(), (1,), (0, 3)])
def test_the_encoder_is_told_which_cells_of_incomplete_columns_are_missing(
    make, incomplete
):
    model, cells = make(incomplete=incomplete), with_holes()
    missing = 1 - cells.seen[:, list(incomplete)]
    expected = model.encoder(torch.cat([cells.values, missing], dim=1))
    assert_close(model.encode(cells), expected)
    whole = torch.cat([cells.values, torch.zeros_like(missing)], dim=1)
    assert_close(model.encode(Cells(cells.values)), model.encoder(whole))


@pytest.mark.parametrize("make", [autoencoder, vae])
def test_missing_cells_of_other_columns_are_not_told(make):
    model, cells = make(incomplete=(1,)), with_holes()
    told, expected = cells.seen.clone(), model.encode(cells)
    told[:, 0] = 0
    assert torch.equal(model.encode(Cells(cells.values, told)), expected)
    told[:, 1] = 0
    found = model.encode(Cells(cells.values, told))
    assert not torch.isclose(found, expected)[3:].any()


def test_squared_errors_are_those_of_each_number():
    model, cells = autoencoder(), with_holes()
    expected = (model(cells.values) - cells.values).square()
    assert_close(model.squared_errors(Cells(cells.values)), expected)
    assert_close(model.squared_errors(cells), expected * cells.seen)


@pytest.mark.parametrize("widths", [(4,), (3, 1), (1, 3), (2, 2), (1, 2, 1)], ids=str)
def test_squared_errors_of_indicators_are_summed_for_each_cell(widths):
    model, cells = autoencoder(widths), with_holes(len(widths))
    errors = (model(cells.values) - cells.values).square()
    parts = [part.sum(dim=1) for part in errors.split(widths, dim=1)]
    expected = torch.stack(parts, dim=1)
    assert_close(model.squared_errors(Cells(cells.values)), expected)
    assert_close(model.squared_errors(cells), expected * cells.seen)


def test_code_of_a_vae_is_the_posterior_mean():
    model, x = vae(), draws(5, 4, seed=3)
    mean, log_variance = model.posterior(Cells(x))
    assert mean.shape == log_variance.shape == (5, 3)
    assert_close(torch.cat([mean, log_variance], dim=1), model.encoder(x))
    assert torch.equal(model.latent(Cells(x)), mean)
    assert torch.equal(model.code(Cells(x)), mean[:, model.order])


def test_holes_add_to_the_log_variances_of_the_code_alone():
    model, cells, added = vae(), with_holes(), draws(5, 3, seed=7)
    mean, log_variance = model.posterior(cells)
    wider = model.posterior(Cells(cells.values, cells.seen, added))
    assert torch.equal(wider[0], mean)
    assert_close(wider[1], log_variance + added)


def test_posteriors_are_no_wider_than_the_largest():
    model, cells = vae(), with_holes()
    mean, log_variance = model.posterior(cells)
    added = torch.zeros(5, 3).double()
    added[:, 1] = 2 * LARGEST_LOG_VARIANCE
    wider = model.posterior(Cells(cells.values, cells.seen, added))
    log_variance[:, 1] = LARGEST_LOG_VARIANCE
    assert torch.equal(wider[0], mean)
    assert torch.equal(wider[1], log_variance)


def test_what_is_kept_with_the_weights_holds_no_layout_of_columns():
    kept = set(autoencoder(incomplete=(1,)).state_dict())
    assert not {"cell", "incomplete"} & kept
    assert "order" in kept


def test_network_weights_are_the_matrices_of_the_networks_alone():
    model = autoencoder()
    expected = [
        *layers(model.encoder.network, nn.Linear),
        *layers(model.decoder, nn.Linear),
    ]
    assert {id(p) for p in network_weights(model)} == {id(m.weight) for m in expected}


def test_network_weights_leave_the_prior_out():
    model = vae(GaussianMixture(5, 3))
    expected = layers(model, nn.Linear)
    assert {id(p) for p in network_weights(model)} == {id(m.weight) for m in expected}


# ---------------------------------------------------------------------- architecture


def parameters(**changes):
    defaults = {
        "hidden_layer_sizes": (7, 5),
        "n_components_": 2,
        "activation": "tanh",
        "dropout": 0.0,
        "linear_path": True,
        "encoder": None,
        "decoder": None,
    }
    return SimpleNamespace(**(defaults | changes))


BLOCKS = (
    Block("gaussian", (1, 1)),
    Block("binary", (1,)),
    Block("categorical", (3, 4)),
)


def architecture(*, blocks=BLOCKS, incomplete=(), **changes):
    return Architecture.of(
        parameters(**changes), blocks, incomplete, loss="squared_error"
    )


def users_network(n_inputs, n_outputs):
    return linear(n_inputs, n_outputs, generator())


@pytest.mark.parametrize(
    ("sizes", "widths"),
    [
        ((7, 5), (7, 5)),
        ([7, 5], (7, 5)),
        (np.array([7, 5]), (7, 5)),
        (7, (7,)),
        (np.int64(7), (7,)),
        ((), ()),
    ],
    ids=repr,
)
def test_hidden_layer_sizes_become_a_tuple_of_ints(sizes, widths):
    found = architecture(hidden_layer_sizes=sizes).hidden_layer_sizes
    assert found == widths
    assert all(type(width) is int for width in found)


@pytest.mark.parametrize("sizes", [(0,), (4, -1), (2.5,), ("8",), (None,)], ids=repr)
def test_hidden_layers_without_units_are_refused(sizes):
    with pytest.raises(ValueError, match=r"got hidden_layer_sizes=.*but expected"):
        architecture(hidden_layer_sizes=sizes)


def test_architectures_of_the_same_parameters_are_equal():
    assert architecture() == architecture(hidden_layer_sizes=[7, 5])
    assert architecture() != architecture(n_components_=3)


def test_differences_name_the_parameter_and_both_values():
    found = architecture(n_components_=3, activation="relu").differences(architecture())
    assert found == "n_components=3 (not 2), activation='relu' (not 'tanh')"
    assert architecture().differences(architecture()) == ""


def test_other_columns_and_other_holes_are_another_architecture():
    assert architecture() == architecture(blocks=tuple(BLOCKS))
    assert architecture() != architecture(blocks=BLOCKS[:2])
    found = architecture(incomplete=(1,)).differences(architecture())
    assert found == "incomplete=(1,) (not ())"


def test_an_architecture_counts_its_columns_and_inputs():
    found = architecture(incomplete=(0, 4))
    assert found.n_columns == 10
    assert found.n_inputs == 12
    assert architecture(blocks=BLOCKS[:1]).n_columns == 2


@pytest.mark.parametrize(("encodes", "hidden"), [(True, [7, 5]), (False, [5, 7])])
def test_the_decoder_mirrors_the_encoder(encodes, hidden):
    network = architecture().network(4, 2, generator(), encodes=encodes)
    widths = [layer.out_features for layer in layers(network, nn.Linear)]
    assert widths == [*hidden, 2]
    assert len(layers(network, nn.Tanh)) == 2


@pytest.mark.parametrize("own", [None, users_network])
@pytest.mark.parametrize("starts_at_zero", [True, False])
def test_networks_beside_a_linear_path_start_at_zero(own, starts_at_zero):
    found = architecture(linear_path=starts_at_zero, encoder=own)
    network = found.network(4, 2, generator(), encodes=True)
    assert network(torch.ones(3, 4)).any() != starts_at_zero


@pytest.mark.parametrize("direction", ["encoder", "decoder"])
def test_own_modules_replace_one_direction(direction):
    found = architecture(linear_path=False, **{direction: users_network})
    for encodes in (True, False):
        network = found.network(4, 2, generator(), encodes=encodes)
        is_own = isinstance(network, nn.Linear)
        assert is_own == (encodes == (direction == "encoder"))


def test_a_factory_that_makes_no_module_is_refused():
    found = architecture(encoder=lambda n_inputs, n_outputs: "network")
    with pytest.raises(TypeError, match=r"got 'network' from .*torch\.nn\.Module"):
        found.network(4, 2, generator(), encodes=True)


def test_a_module_of_the_wrong_width_is_refused():
    found = architecture(
        decoder=lambda n_inputs, n_outputs: linear(n_inputs, 3, generator())
    )
    with pytest.raises(ValueError, match=r"maps \(2, 4\) to \(2, 3\), but .*\(2, 2\)"):
        found.network(4, 2, generator(), encodes=False)
