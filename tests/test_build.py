"""Networks around a linear model, and of an architecture."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from models import draws, generator
from networks import autoencoder, layers, perceptron, vae
from torch import nn
from torch.testing import assert_close

from skae._schema import Block
from skae.model._pca import principal_components
from skae.network._build import Architecture, around_linear_model, network_weights
from skae.network._layers import linear
from skae.network._likelihoods import Gaussian, Poisson
from skae.network._losses import SquaredError
from skae.network._priors import GaussianMixture

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


# ------------------------------------------------------------ weights under penalties


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
