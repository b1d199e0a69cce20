"""What networks are made of, and the networks of either direction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from models import draws, generator
from networks import layers
from torch import nn

from skae._schema import KINDS, Block, Encoded
from skae.model._model import Model
from skae.model._pca import principal_components
from skae.network._design import Design, hidden_widths, users_randomness
from skae.network._layers import linear

CPU = torch.device("cpu")
BLOCKS = (
    Block(KINDS["gaussian"], (1, 1)),
    Block(KINDS["binary"], (1,)),
    Block(KINDS["categorical"], (3, 4)),
)


def design(**changes):
    options = {
        "blocks": BLOCKS,
        "hidden_layer_sizes": (7, 5),
        "n_components": 2,
        "activation": "tanh",
        "dropout": 0.0,
        "linear_path": True,
    }
    return Design(**(options | changes))


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
    found = hidden_widths(sizes)
    assert found == widths
    assert all(type(width) is int for width in found)


@pytest.mark.parametrize("sizes", [(0,), (4, -1), (2.5,), ("8",), (None,)], ids=repr)
def test_hidden_layers_without_units_are_refused(sizes):
    with pytest.raises(ValueError, match=r"got hidden_layer_sizes=.*but expected"):
        hidden_widths(sizes)


def test_designs_of_the_same_parameters_are_equal():
    assert design() == design(hidden_layer_sizes=hidden_widths([7, 5]))
    assert design() != design(n_components=3)


def test_differences_name_the_parameter_and_both_values():
    found = design(n_components=3, activation="relu").differences(design())
    assert found == "n_components=3 (not 2), activation='relu' (not 'tanh')"
    assert design().differences(design()) == ""


def test_other_columns_and_other_holes_are_another_design():
    assert design() == design(blocks=tuple(BLOCKS))
    assert design() != design(blocks=BLOCKS[:2])
    found = design(incomplete=(1,)).differences(design())
    assert found == "incomplete=(1,) (not ())"


def test_a_design_counts_its_columns_and_inputs():
    found = design(incomplete=(0, 4))
    assert found.widths == [1, 1, 1, 3, 4]
    assert found.n_columns == 10
    assert found.n_numbers == 2
    assert found.n_inputs == 12
    assert design(blocks=BLOCKS[:1]).n_columns == 2


@pytest.mark.parametrize(("encodes", "hidden"), [(True, [7, 5]), (False, [5, 7])])
def test_the_decoder_mirrors_the_encoder(encodes, hidden):
    network = design().network(4, 2, generator(), encodes=encodes)
    widths = [layer.out_features for layer in layers(network, nn.Linear)]
    assert widths == [*hidden, 2]
    assert len(layers(network, nn.Tanh)) == 2


@pytest.mark.parametrize("own", [None, users_network])
@pytest.mark.parametrize("starts_at_zero", [True, False])
def test_networks_beside_a_linear_path_start_at_zero(own, starts_at_zero):
    found = design(linear_path=starts_at_zero, encoder=own)
    network = found.network(4, 2, generator(), encodes=True)
    assert network(torch.ones(3, 4)).any() != starts_at_zero


@pytest.mark.parametrize("direction", ["encoder", "decoder"])
def test_own_modules_replace_one_direction(direction):
    found = design(linear_path=False, **{direction: users_network})
    for encodes in (True, False):
        network = found.network(4, 2, generator(), encodes=encodes)
        is_own = isinstance(network, nn.Linear)
        assert is_own == (encodes == (direction == "encoder"))


def test_a_factory_that_makes_no_module_is_refused():
    found = design(encoder=lambda n_inputs, n_outputs: "network")
    with pytest.raises(TypeError, match=r"got 'network' from .*torch\.nn\.Module"):
        found.network(4, 2, generator(), encodes=True)


def test_a_module_of_the_wrong_width_is_refused():
    found = design(decoder=lambda n_inputs, n_outputs: linear(n_inputs, 3, generator()))
    with pytest.raises(ValueError, match=r"maps \(2, 4\) to \(2, 3\), but .*\(2, 2\)"):
        found.network(4, 2, generator(), encodes=False)


UNIT = (Block(KINDS["bernoulli"], (1, 1)), *BLOCKS[1:2])


class FunctionalSigmoid(nn.Module):
    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.inner = linear(n_inputs, n_outputs, generator())

    def forward(self, codes):
        return torch.sigmoid(self.inner(codes))


def zeros(n_inputs, n_outputs):
    layer = linear(n_inputs, n_outputs, generator())
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def ending_in(layer):
    return lambda n_inputs, n_outputs: nn.Sequential(
        linear(n_inputs, n_outputs, generator()), layer
    )


@pytest.mark.parametrize("factory", [ending_in(nn.Sigmoid()), FunctionalSigmoid])
def test_a_decoder_of_chances_gives_their_logits(factory):
    found = design(blocks=UNIT, linear_path=False, decoder=factory)
    network, codes = (
        found.network(2, 4, generator(), encodes=False),
        draws(9, 2).float(),
    )
    logits = linear(2, 4, generator())(codes)
    torch.testing.assert_close(
        network(codes)[:, :2], logits[:, :2], atol=1e-3, rtol=1e-3
    )
    chances = logits[:, 2:].sigmoid()  # of levels, and what is no column
    torch.testing.assert_close(network(codes)[:, 2:], chances)
    extremes = network(1e6 * codes)
    assert extremes.isfinite().all()
    assert network.training


@pytest.mark.parametrize(
    "factory",
    [
        users_network,
        ending_in(nn.Tanh()),
        ending_in(nn.Softplus()),
        ending_in(nn.ReLU()),
        zeros,
    ],
)
def test_other_decoders_are_taken_to_give_logits(factory):
    found = design(blocks=UNIT, linear_path=False, decoder=factory)
    network, codes = (
        found.network(2, 4, generator(), encodes=False),
        draws(9, 2).float(),
    )
    assert torch.equal(network(codes), factory(2, 4)(codes))


def test_sigmoids_stay_where_outputs_are_no_logits():
    sigmoid = ending_in(nn.Sigmoid())
    for blocks, encodes in ((BLOCKS, False), (UNIT, True)):
        found = design(
            blocks=blocks, linear_path=False, encoder=sigmoid, decoder=sigmoid
        )
        network, rows = found.network(2, 4, generator(), encodes=encodes), draws(9, 2)
        assert torch.equal(network(rows.float()), sigmoid(2, 4)(rows.float()))


def dropping(n_inputs, n_outputs):
    """Make a module that draws from torch's global generator."""
    return nn.Sequential(nn.Linear(n_inputs, n_outputs), nn.Dropout(0.5))


@pytest.mark.parametrize("direction", ["encoder", "decoder"])
def test_what_users_modules_draw_is_repeatable_and_leaves_no_trace(direction):
    found, before = design(**{direction: dropping}), torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        with users_randomness(found.encoder, found.decoder, seed, CPU):
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_own_networks_leave_the_global_generator_to_the_user():
    before = torch.get_rng_state()
    with users_randomness(None, None, 1, CPU):
        assert torch.equal(torch.get_rng_state(), before)
        design().network(4, 2, generator(), encodes=True)
    assert torch.equal(torch.get_rng_state(), before)


# ------------------------------------------------------------- the order of the codes


@pytest.mark.parametrize("is_variational", [True, False])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_codes_leave_and_enter_in_the_order_of_the_components(order, is_variational):
    kind = "gaussian" if is_variational else "squared_error"
    ones = np.ones(4)
    blocks = (Block(KINDS[kind], (1,) * 4, 0 * ones, ones, 0 * ones, ones),)
    made = design(blocks=blocks, n_components=3, is_variational=is_variational)
    X = draws(30, 4).numpy() * [4.0, 3.0, 2.0, 1.0]
    start = Model.start(made, principal_components(X, 3), 0, CPU)
    assert start.order.tolist() == [0, 1, 2]  # until they are ranked
    model, rows = (
        start.learned(start.new_module(), np.array(order)),
        Encoded(X, [1] * 4),
    )
    codes, latent = model.codes(rows), model.latent(rows)
    for place, component in enumerate(order):
        np.testing.assert_array_equal(codes[:, place], latent[:, component])
    np.testing.assert_array_equal(model.rows_of(codes), model.decoded(latent))
    if is_variational:
        mean, deviation = model.posterior(rows)
        np.testing.assert_array_equal(mean, codes)
        inner = start.posterior(rows)[1]
        np.testing.assert_array_equal(deviation, inner[:, list(order)])
        divergences = start.divergences(rows)
        found = model.divergences(rows)
        np.testing.assert_array_equal(found, divergences[:, list(order)])
