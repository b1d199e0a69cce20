"""The gradient written out, against automatic differentiation."""

from __future__ import annotations

import copy

import pytest
import torch
from models import draws, generator
from torch import nn
from torch.testing import assert_close

from skae.network._autoencoders import Autoencoder
from skae.network._cells import Cells
from skae.network._layers import LinearPath, multilayer_perceptron
from skae.network._losses import AbsoluteError, SquaredError
from skae.network._objectives import Reconstruction
from skae.network._passes import WrittenOut
from skae.network._stacked import stacked

N_ROWS, N_COLUMNS, N_CODES = 11, 5, 2


def path(n_inputs, n_outputs, hidden, seed, activation="silu", dropout=0.0):
    widths = (n_inputs, *hidden, n_outputs)
    network = multilayer_perceptron(
        widths, activation, dropout, generator(seed), starts_at_zero=False
    )
    return LinearPath(
        draws(n_outputs, n_inputs, seed=seed),
        draws(1, n_outputs, seed=seed + 1)[0],
        network,
        input_centre=draws(1, n_inputs, seed=seed + 2)[0],
        input_scale=0.5 + torch.rand(n_inputs, generator=generator(seed)),
        output_scale=draws(1, n_outputs, seed=seed + 3)[0],
        input_limit=torch.full((n_inputs,), 1.0),  # clips some inputs
    )


def autoencoder(seed=0, hidden=(7, 6), loss=SquaredError, **options):
    encoder = path(N_COLUMNS, N_CODES, hidden, seed, **options)
    decoder = path(N_CODES, N_COLUMNS, hidden[::-1], seed + 10, **options)
    return Autoencoder(encoder, decoder, loss(), [1] * N_COLUMNS).double()


def objective(module, price=0.7):
    return Reconstruction(
        module,
        generator(),
        noise_scale=torch.full((N_COLUMNS,), 0.3, dtype=torch.float64),
        anneal=False,
        masking=0.2,
        centre=torch.zeros(N_COLUMNS, dtype=torch.float64),
        sample=(Cells(draws(2, N_COLUMNS)), torch.ones(2)),
        legibility=price,
        neighborhood=0.0,
    )


def loss_and_gradients(module, weight, *, by_hand):
    module = copy.deepcopy(module)
    of = objective(module)
    assert of.written_out is not None
    if not by_hand:
        of.written_out = None
    losses = of.training_loss(Cells(draws(N_ROWS, N_COLUMNS).double()))
    (losses * weight).mean().backward()
    trained = [p for p in module.parameters() if p.requires_grad]
    return losses.detach(), [p.grad for p in trained]


@pytest.mark.parametrize("hidden", [(), (6,), (7, 6), (4, 5, 6)], ids=str)
@pytest.mark.parametrize("n_members", [1, 3])
def test_gradients_are_those_of_automatic_differentiation(hidden, n_members):
    module = autoencoder(hidden=hidden)
    weight = torch.rand(N_ROWS, generator=generator(3)).double()
    if n_members > 1:
        module = stacked([autoencoder(seed, hidden) for seed in range(n_members)])
        weight = torch.rand(n_members, N_ROWS, generator=generator(3)).double()
    by_hand = loss_and_gradients(module, weight, by_hand=True)
    automatic = loss_and_gradients(module, weight, by_hand=False)
    assert_close(by_hand, automatic)


def test_gradients_add_up_as_automatic_ones_do():
    module = autoencoder()
    of = objective(module)
    rows = Cells(draws(N_ROWS, N_COLUMNS).double())
    state = of.generator.get_state()
    found = []
    for _ in range(2):
        of.generator.set_state(state)
        of.training_loss(rows).sum().backward()
        found.append(module.decoder.bias.grad.clone())
    assert_close(found[1], 2 * found[0])


@pytest.mark.parametrize(
    "module",
    [
        autoencoder(activation="relu"),
        autoencoder(dropout=0.5),
        autoencoder(loss=AbsoluteError),
        Autoencoder(nn.Linear(2, 1), nn.Linear(1, 2), SquaredError(), [1, 1]),
        Autoencoder(
            path(3, 1, (4,), 0), path(1, 2, (4,), 0), SquaredError(), [1, 1], [1]
        ),
    ],
    ids=["ReLU", "dropout", "absolute error", "without a linear path", "holes"],
)
def test_other_networks_are_left_to_automatic_differentiation(module):
    assert WrittenOut.of(module) is None


def test_a_path_that_is_trained_is_left_to_automatic_differentiation():
    module = autoencoder()
    module.encoder.weight.requires_grad_(True)
    assert WrittenOut.of(module) is None
