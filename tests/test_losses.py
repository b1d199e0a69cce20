"""Losses against their formulas, and what they say of chances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kinds import (
    CENTRE,
    FREQUENCIES,
    KINDS,
    LEVEL_SCALE,
    OF_LOSSES,
    SCALE,
    SPREAD,
    WIDTHS,
    assert_frequencies,
    indicators,
    of,
    outputs_of,
    raw_of,
    rows_of,
    samples_of,
    shares,
)
from models import draws, generator
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.metrics import log_loss
from torch.testing import assert_close

from skae.network._likelihoods import Bernoulli
from skae.network._losses import (
    LOSSES,
    AbsoluteError,
    BinaryCrossEntropy,
    Huber,
    SquaredError,
    SquaredErrorOfLevels,
)
from skae.network._outputs import SMALLEST_NOISE

# --------------------------------------------------------------------- cells and rows


def row_loss(name, output, x):
    return LOSSES[name]().row_mean(output, x, None)


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        (SquaredError(), lambda r: r**2),
        (AbsoluteError(), abs),
        (Huber(), lambda r: np.where(abs(r) < 1, r**2 / 2, abs(r) - 0.5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_losses_of_the_residual(loss, formula):
    output, x = 2 * draws(20, 3), 2 * draws(20, 3, seed=1)
    expected = formula((output - x).numpy())
    assert_close(loss.per_cell(output, x), torch.from_numpy(expected))
    row = loss.row_mean(output, x, None)
    assert_close(row, torch.from_numpy(expected.mean(axis=1)))


def test_binary_cross_entropy_is_sklearns_log_loss():
    output, x = 3 * draws(20, 4), (shares(20, 4) > 0.5).double()
    found = row_loss("binary_cross_entropy", output, x)
    p = torch.sigmoid(output)
    for row in range(20):
        assert_close(found[row].item(), log_loss(x[row], p[row], labels=[0, 1]))


def test_binary_cross_entropy_stays_finite_at_extreme_logits():
    output = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = row_loss("binary_cross_entropy", output, torch.tensor([[0.0, 0.0]]))
    loss.sum().backward()
    assert_close(loss, torch.tensor([0.5e4]))
    assert_close(output.grad, torch.tensor([[0.5, 0.0]]))


@pytest.mark.parametrize("name", ["squared_error", "absolute_error", "huber"])
def test_losses_of_the_mean_vanish_only_at_the_row(name):
    x = draws(5, 3)
    assert_close(row_loss(name, x, x), torch.zeros(5, dtype=x.dtype))
    assert (row_loss(name, x + 0.1, x) > 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_does_not_grow_with_the_width_of_the_table(name):
    output, x = draws(5, 3), shares(5, 3)
    wide = row_loss(name, output.repeat(1, 4), x.repeat(1, 4))
    assert_close(wide, row_loss(name, output, x))


@pytest.mark.parametrize("name", LOSSES)
def test_the_best_constant_is_the_mean_or_the_median(name):
    x = torch.from_numpy(np.random.default_rng(0).beta(0.5, 2, size=(101, 1)))
    best = x.median() if name == "absolute_error" else x.mean()
    output, _ = LOSSES[name]().tangent(best)
    reached = row_loss(name, output.expand_as(x), x).mean()
    for step in (-0.05, 0.05):
        assert row_loss(name, (output + step).expand_as(x), x).mean() > reached


def test_squared_error_of_levels_is_briers_score_of_each_column():
    module = SquaredErrorOfLevels(WIDTHS, FREQUENCIES, torch.ones(9).double())
    chances, raw = shares(6, 9), indicators(6)
    found = module.per_cell(chances - FREQUENCIES, raw - FREQUENCIES)
    parts = (chances - raw).square().split(WIDTHS, dim=1)
    assert_close(found, torch.stack([part.sum(dim=1) for part in parts], dim=1))


def test_squared_error_of_the_frequencies_is_the_variance_of_the_indicators():
    x = rows_of("levels", 500)
    scale = x.var(dim=0, correction=0)
    module = SquaredErrorOfLevels(WIDTHS, FREQUENCIES, LEVEL_SCALE)
    found = module.per_cell(x.mean(dim=0).expand_as(x), x).mean(dim=0)
    assert_close(found, module.levels.sum(scale))


# --------------------------------------------------------- chances beside the losses


@pytest.mark.parametrize("kind", ["squared_error", "absolute_error", "huber"])
def test_chances_of_numbers_are_gaussian_around_the_reconstruction(kind):
    output, x = draws(6, 3), draws(6, 3, seed=1)
    noise = torch.tensor(SPREAD).double()
    found = KINDS[kind]().log_chance(output, x, noise)
    expected = stats.norm(output, noise).logpdf(x) + 0.5 * np.log(2 * np.pi)
    assert_close(found, torch.from_numpy(expected))


def test_chances_around_exact_reconstructions_are_finite():
    x, noise = draws(6, 3), torch.zeros(3).double()
    found = SquaredError().log_chance(x, x, noise)
    assert_allclose(found.numpy(), -np.log(SMALLEST_NOISE))


def test_chances_of_the_unit_interval_are_bernoullis():
    output, x = outputs_of("bernoulli", 6), rows_of("bernoulli")
    found = BinaryCrossEntropy().log_chance(output, x, torch.zeros(3).double())
    assert_close(found, Bernoulli().per_cell(output, x))


def test_chances_of_two_levels_are_the_reconstruction():
    module, chance = KINDS["binary levels"](), torch.tensor([0.2, 1.3, -0.4]).double()
    output = module.standardised(chance)
    zero, one = (
        module.log_chance(output, module.standardised(CENTRE * 0 + value), CENTRE * 0)
        for value in (0, 1)
    )
    expected = chance.clamp(SMALLEST_NOISE, 1 - SMALLEST_NOISE)
    assert_close(one.exp(), expected)
    assert_close(zero.exp(), 1 - expected)


def test_chances_of_levels_are_the_reconstruction_and_sum_to_one():
    module, output = KINDS["levels"](), outputs_of("levels", 6) / 2
    total = torch.zeros(6, 3).double()
    chances = module.levels.raw(output).clamp(min=SMALLEST_NOISE)
    parts = [p / p.sum(dim=1, keepdim=True) for p in chances.split(WIDTHS, dim=1)]
    for level in range(max(WIDTHS)):
        raw = torch.cat(
            [torch.eye(width)[[min(level, width - 1)]] for width in WIDTHS], dim=1
        ).expand(6, -1)
        x = module.levels.standardised(raw.double())
        found = module.log_chance(output, x, torch.zeros(9)).exp()
        for j, width in enumerate(WIDTHS):
            if level < width:
                assert_close(found[:, j], parts[j][:, level])
                total[:, j] += found[:, j]
    assert_close(total, torch.ones_like(total))


# ----------------------------------------------------------------- variances, samples


@of(OF_LOSSES)
def test_losses_say_no_variance(kind):
    assert not KINDS[kind]().variance(outputs_of(kind, 4)).any()


def test_samples_of_a_reconstructed_binary_column_have_its_chance():
    chances = torch.tensor([-0.3, 0.2, 1.4]).double()
    found = raw_of("binary", samples_of("binary levels", (chances - CENTRE) / SCALE))
    assert_close(found, found.round())
    assert_frequencies(found, chances.clamp(0, 1))


@of(["squared_error", "absolute_error", "huber"])
def test_losses_of_numbers_draw_the_mean(kind):
    output = outputs_of(kind, 5)
    assert torch.equal(KINDS[kind]().sample(output, generator()), output)
