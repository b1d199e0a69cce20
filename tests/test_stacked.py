"""Stacked modules answer as their members do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import draws, generator
from settings import curved_table
from torch.testing import assert_close

from skae import AutoencoderTransformer, VAETransformer
from skae.network._autoencoders import network_weights
from skae.network._cells import Cells
from skae.network._objectives import EvidenceBound
from skae.network._stacked import load_member, stacked, stacked_weights

QUICK = {"hidden_layer_sizes": (6,), "max_iter": 3, "device": "cpu"}
X = curved_table(60)
ESTIMATORS = {
    "autoencoder": AutoencoderTransformer(2, **QUICK),
    "textbook": AutoencoderTransformer(2, linear_path=False, **QUICK),
    "vae": VAETransformer(2, **QUICK),
    "vae, normal prior": VAETransformer(2, prior="normal", **QUICK),
    "vae, counts": VAETransformer(2, likelihood={0: "negative_binomial"}, **QUICK),
}
OF_ALL = pytest.mark.parametrize("name", ESTIMATORS)


def members(name: str, count: int = 3) -> tuple[list, torch.Tensor]:
    """Fit some models of one design to one table; return its rows."""
    estimator, table = ESTIMATORS[name], X.copy()
    table[:, 0] = np.abs(table[:, 0]).round()
    modules = [
        estimator.set_params(random_state=seed).fit(table)._model.new_module()
        for seed in range(count)
    ]
    return modules, torch.from_numpy(estimator._table.encode(table).matrix)


@OF_ALL
def test_a_stack_reconstructs_as_each_of_its_members(name):
    modules, rows = members(name)
    whole, cells = stacked(modules), Cells(rows)
    together = whole.decoded(whole.latent(cells))
    alone = torch.stack([m.decoded(m.latent(cells)) for m in modules])
    assert_close(together, alone)
    losses = whole.loss.row_mean(whole.decoder(whole.latent(cells)), rows, None)
    assert losses.shape == (3, len(rows))


@pytest.mark.parametrize("name", [n for n in ESTIMATORS if n.startswith("vae")])
@pytest.mark.parametrize("options", [{}, {"beta": 2.0}, {"free_bits": 0.1}])
def test_the_bound_of_a_stack_is_that_of_each_member(name, options):
    modules, rows = members(name)
    settings = {"beta": 1.0, "kl_warmup": 0, "free_bits": 0.0, "n_particles": 2}
    settings |= options
    whole = EvidenceBound(stacked(modules), generator(), is_stacked=True, **settings)
    alone = [EvidenceBound(module, generator(), **settings) for module in modules]
    expected = torch.stack([one.validation_loss(Cells(rows)) for one in alone])
    assert_close(whole.validation_loss(Cells(rows)), expected)


@OF_ALL
def test_a_member_comes_out_as_it_went_in(name):
    modules, _ = members(name)
    whole, other = stacked(modules), modules[0]
    expected = [p.clone() for p in modules[1].parameters()]
    found = load_member(whole, 1, other)
    assert found is other
    for one, two in zip(found.parameters(), expected, strict=True):
        assert torch.equal(one, two)


@OF_ALL
def test_penalised_weights_of_a_stack_are_those_of_its_members(name):
    modules, _ = members(name)
    of_stack = stacked_weights(stacked(modules), modules[0])
    of_member = network_weights(modules[0])
    assert [p.shape for p in of_stack] == [(3, *p.shape) for p in of_member]


def test_gradients_of_a_stack_are_those_of_its_members():
    modules, rows = members("autoencoder")
    whole, cells = stacked(modules), Cells(rows)
    weight = draws(3, len(rows)).exp()
    errors = (whole.decoded(whole.latent(cells)) - rows).square().mean(dim=-1)
    (errors * weight).sum().backward()
    for index, module in enumerate(modules):
        errors = (module.decoded(module.latent(cells)) - rows).square().mean(dim=-1)
        (errors * weight[index]).sum().backward()
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                found = whole.get_parameter(name).grad[index]
                assert_close(found.reshape(parameter.shape), parameter.grad)
