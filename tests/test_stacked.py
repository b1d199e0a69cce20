"""Stacked modules answer as their members do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import draws, generator
from settings import curved_table
from torch import nn
from torch.testing import assert_close

from skae import AutoencoderTransformer, VAETransformer
from skae.network._autoencoders import Autoencoder, network_weights
from skae.network._cells import Cells
from skae.network._objectives import EvidenceBound
from skae.network._stacked import Members, load_member, stacked, stacked_weights

QUICK = {"hidden_layer_sizes": (6,), "max_iter": 3, "device": "cpu"}
X = curved_table(60)


def own_module(n_inputs: int, n_outputs: int) -> nn.Module:
    """Make a module that learns of a row from the others of its batch."""
    last = nn.Linear(6, n_outputs)
    return nn.Sequential(nn.Linear(n_inputs, 6), nn.BatchNorm1d(6), nn.SiLU(), last)


OWN = {"encoder": own_module, "decoder": own_module}
ESTIMATORS = {
    "autoencoder": AutoencoderTransformer(2, **QUICK),
    "textbook": AutoencoderTransformer(2, linear_path=False, **QUICK),
    "own encoder": AutoencoderTransformer(2, encoder=own_module, **QUICK),
    "own, textbook": AutoencoderTransformer(2, linear_path=False, **OWN, **QUICK),
    "own, chances": AutoencoderTransformer(
        2, loss="binary_cross_entropy", **OWN, **QUICK
    ),
    "vae": VAETransformer(2, **QUICK),
    "vae, normal prior": VAETransformer(2, prior="normal", **QUICK),
    "vae, counts": VAETransformer(2, likelihood={0: "negative_binomial"}, **QUICK),
}
OF_ALL = pytest.mark.parametrize("name", ESTIMATORS)


def stack_of(name: str, modules: list) -> Autoencoder:
    return stacked(modules, ESTIMATORS[name]._model.design.own_modules)


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
    whole, cells = stack_of(name, modules), Cells(rows)
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
    whole = stack_of(name, modules)
    other = ESTIMATORS[name]._model.new_module()
    found = load_member(whole, 1, other)
    assert found is other
    for one, two in zip(found.parameters(), modules[1].parameters(), strict=True):
        assert torch.equal(one, two)


@OF_ALL
def test_penalised_weights_of_a_stack_are_those_of_its_members(name):
    modules, _ = members(name)
    of_stack = stacked_weights(stack_of(name, modules), modules[0])
    found = torch.cat([p.flatten() for p in of_stack]).sort().values
    of_members = [p for module in modules for p in network_weights(module)]
    assert_close(found, torch.cat([p.flatten() for p in of_members]).sort().values)


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


# ------------------------------------------------------------- a user's own modules


def test_own_modules_are_in_the_stack_themselves():
    modules, _ = members("own encoder")
    whole = stack_of("own encoder", modules)
    own = [module.encoder.network.module for module in modules]
    assert list(whole.encoder.network.module.members) == own


def test_own_modules_come_out_with_their_buffers():
    modules, _ = members("own encoder")
    whole = stack_of("own encoder", modules)
    found = load_member(whole, 1, ESTIMATORS["own encoder"]._model.new_module())
    own = (one.encoder.network.module for one in (found, modules[1]))
    for one, two in zip(*(module.buffers() for module in own), strict=True):
        assert torch.equal(one, two)


def answers_of_three(
    x: torch.Tensor, fold: torch.Tensor
) -> tuple[Members, torch.Tensor]:
    """Let new members, with the same weights at every call, train on rows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = Members([own_module(4, 2) for _ in range(3)]).train()
    whole.fold = fold
    return whole, whole(x).detach()


def test_what_a_member_judges_does_not_reach_it_in_training():
    rows, fold = draws(9, 4).float(), torch.tensor([0, 1, -1] * 3)
    changed = torch.where((fold == 0)[:, None], 100.0, rows)
    (before, one), (after, two) = (answers_of_three(x, fold) for x in (rows, changed))
    assert torch.equal(one[0], two[0])
    for k in range(3):
        means = [whole.members[k][1].running_mean for whole in (before, after)]
        assert torch.equal(*means) == (k == 0)
    for k in range(2):
        assert not two[k][fold == k].any()
        alone = after.members[k](changed[fold != k])
        assert_close(two[k][fold != k], alone.detach())
    assert_close(two[2], after.members[2](changed).detach())


@pytest.mark.parametrize("fold", [[0, 0, 0], [0, 0, -1]], ids=str)
def test_a_member_may_have_one_row_of_a_batch_or_none(fold):
    _, answers = answers_of_three(draws(3, 4).float(), torch.tensor(fold))
    answered = answers[0].any(dim=1)
    assert answered.tolist() == [k != 0 for k in fold]
    assert answers[1:].any(dim=2).all()


def test_members_that_are_judged_answer_for_every_row():
    x = draws(3, 4).float()
    whole, _ = answers_of_three(x, torch.tensor([0, -1, 0]))
    expected = torch.stack([member(x) for member in whole.eval().members])
    assert torch.equal(whole(x), expected)


def test_members_answer_every_draw_of_the_code():
    whole, _ = answers_of_three(draws(3, 4).float(), torch.tensor([0, -1, 0]))
    codes = draws(5, 3, 7, 4).float()  # draws, members, rows, columns
    found = whole.eval()(codes)
    assert found.shape == (5, 3, 7, 2)
    for draw, answers in zip(codes, found, strict=True):
        assert torch.equal(answers, whole(draw))
