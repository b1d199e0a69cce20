"""Losses and likelihoods of every kind against closed forms, scipy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.metrics import log_loss
from torch.autograd import gradcheck
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Independent, Normal, kl_divergence
from torch.func import functional_call
from torch.testing import assert_close

from skae._schema import Block
from skae.network._likelihoods import (
    LARGEST_LOG_FACTOR,
    LARGEST_LOG_RATE,
    LIKELIHOODS,
    NOISE_PACE,
    Bernoulli,
    Binary,
    Categorical,
    NegativeBinomial,
    Poisson,
)
from skae.network._losses import (
    LOSSES,
    AbsoluteError,
    BinaryCrossEntropy,
    Huber,
    SquaredError,
    SquaredErrorOfBinary,
    SquaredErrorOfLevels,
)
from skae.network._normal import gaussian_kl, gaussian_log_prob, standard_normal
from skae.network._outputs import RAREST, SMALLEST_NOISE, Levels, Mixed, Units, assemble

SPREAD = [0.5, 1.0, 2.0]
FLOOR = 0.01
CENTRE = torch.tensor([0.3, 0.5, 0.8]).double()
SCALE = torch.tensor([0.5, 2.0, 1.5]).double()
WIDTHS = (3, 2, 4)
FREQUENCIES = torch.tensor([0.5, 0.3, 0.2, 0.9, 0.1, 0.4, 0.3, 0.2, 0.1]).double()
LEVEL_SCALE = torch.tensor([0.8, 0.4, 0.7]).double()[[0, 0, 0, 1, 1, 2, 2, 2, 2]]
COUNT_CENTRE = torch.tensor([1.0, 3.0, 10.0]).double()


def draws(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape))


def shares(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(size=shape))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def likelihood(name, spread=SPREAD, floor=FLOOR):
    """Make one with learned noise."""
    spread = torch.tensor(spread, dtype=torch.float64)
    return LIKELIHOODS[name](spread, torch.full_like(spread, floor))


def mean_and_spread(output):
    """Split an output of a likelihood with learned noise, as `likelihood` makes it."""
    mean, log_factor = np.split(output.numpy(), 2, axis=-1)
    log_factor = NOISE_PACE * log_factor
    factor = np.exp(LARGEST_LOG_FACTOR * np.tanh(log_factor / LARGEST_LOG_FACTOR))
    return mean, FLOOR + (np.array(SPREAD) - FLOOR) * factor


def negative_binomial(size=(0.5, 2.0, 20.0)):
    found = NegativeBinomial(COUNT_CENTRE, SCALE)
    found.log_size.data = torch.tensor(size).double().log()
    return found


PARTS = ["gaussian", "negative_binomial", "laplace", "binary", "categorical"]
SIZES = [3, 3, 3, 3, 9]


def mixed():
    return Mixed([(KINDS[kind](), n) for kind, n in zip(PARTS, SIZES, strict=True)])


OF_LOSSES = {
    **LOSSES,
    "binary levels": lambda: SquaredErrorOfBinary(CENTRE, SCALE),
    "levels": lambda: SquaredErrorOfLevels(WIDTHS, FREQUENCIES, LEVEL_SCALE),
}
OF_NOISE = {
    name: lambda name=name: likelihood(name) for name in ("gaussian", "laplace")
}
OF_COUNTS = {
    "poisson": lambda: Poisson(COUNT_CENTRE, SCALE),
    "negative_binomial": negative_binomial,
}
OF_LIKELIHOODS = {
    **OF_NOISE,
    **OF_COUNTS,
    "bernoulli": Bernoulli,
    "binary": lambda: Binary(CENTRE, SCALE),
    "categorical": lambda: Categorical(WIDTHS, FREQUENCIES, LEVEL_SCALE),
    "mixed": mixed,
}
KINDS = OF_LOSSES | OF_LIKELIHOODS
N_COLUMNS = dict.fromkeys(KINDS, 3) | {"levels": 9, "categorical": 9, "mixed": 21}
N_EXTRA = dict.fromkeys(KINDS, 0) | {"gaussian": 3, "laplace": 3, "mixed": 6}


def indicators(n_rows, seed=0):
    """Draw raw indicators of columns of three, two and four levels."""
    rng = np.random.default_rng(seed)
    levels = [np.eye(width)[rng.integers(width, size=n_rows)] for width in WIDTHS]
    return torch.from_numpy(np.concatenate(levels, axis=1))


def rows_of(kind, n_rows=6, seed=0):
    """Draw rows of a kind as the matrix holds them."""
    rng = np.random.default_rng(seed)
    if kind == "mixed":
        return torch.cat([rows_of(part, n_rows, seed) for part in PARTS], dim=1)
    if kind in ("levels", "categorical"):
        return (indicators(n_rows, seed) - FREQUENCIES) / LEVEL_SCALE
    if kind in OF_COUNTS:
        counts = torch.from_numpy(rng.poisson(5.0, size=(n_rows, 3)))
        return (counts - COUNT_CENTRE) / SCALE
    if kind in ("binary", "binary levels"):
        return ((shares(n_rows, 3, seed=seed) > 0.4).double() - CENTRE) / SCALE
    if kind in ("bernoulli", "binary_cross_entropy"):
        return shares(n_rows, 3, seed=seed)
    return 2 * draws(n_rows, 3, seed=seed)


def outputs_of(kind, *shape, seed=9):
    return draws(*shape, N_COLUMNS[kind] + N_EXTRA[kind], seed=seed)


def padded(kind, output):
    """Add the outputs that come after those of the columns, at zero."""
    return torch.nn.functional.pad(output, (0, N_EXTRA[kind]))


def of(kinds):
    return pytest.mark.parametrize("kind", kinds)


def per_cell_and_inputs(module, *inputs):
    """Return a function of the inputs and the parameters, and all of these."""
    module.forward = module.per_cell
    names = [name for name, _ in module.named_parameters()]

    def per_cell(*values):
        parameters = dict(zip(names, values[len(inputs) :], strict=True))
        return functional_call(module, parameters, values[: len(inputs)])

    return per_cell, (*inputs, *module.parameters())


# --------------------------------------------------------------------- units, levels


def test_units_lead_to_raw_values_and_back():
    units, x = Units(CENTRE, SCALE), draws(5, 3)
    assert_close(units.raw(x), SCALE * x + CENTRE)
    assert_close(units.standardised(units.raw(x)), x)


SOME_WIDTHS = st.lists(st.integers(1, 5), min_size=1, max_size=6)


def levels_of(widths):
    ones = torch.ones(sum(widths)).double()
    return Levels(widths, 0 * ones, ones)


@given(widths=SOME_WIDTHS)
@settings(max_examples=40, deadline=None)
def test_columns_of_different_widths_are_laid_side_by_side(widths):
    levels, values = levels_of(widths), draws(2, 3, sum(widths))
    padded = levels.padded(values)
    assert padded.shape == (2, 3, len(widths), max(widths))
    assert torch.equal(levels.unpadded(padded), values)
    for j, part in enumerate(values.split(widths, dim=-1)):
        assert torch.equal(padded[..., j, : widths[j]], part)
        assert (padded[..., j, widths[j] :] == -torch.inf).all()


@given(widths=SOME_WIDTHS)
@settings(max_examples=40, deadline=None)
def test_sums_over_levels_are_those_of_each_column(widths):
    values = draws(2, 3, sum(widths))
    expected = [part.sum(dim=-1) for part in values.split(widths, dim=-1)]
    assert_close(levels_of(widths).sum(values), torch.stack(expected, dim=-1))


# ---------------------------------------------------------------- what outputs mean


def probable_mean(kind):
    """Return a mean and a direction in which it may move."""
    if kind == "mixed":
        parts = [probable_mean(part) for part in PARTS]
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))
    if kind in ("levels", "categorical"):
        chances = FREQUENCIES.roll(1) / levels_of(WIDTHS).sum(
            FREQUENCIES.roll(1)
        ).repeat_interleave(torch.tensor(WIDTHS))
        mean = (chances - FREQUENCIES) / LEVEL_SCALE
        direction = (indicators(1)[0] - chances) / LEVEL_SCALE
        return mean, direction
    raw = torch.tensor([0.02, 0.4, 0.98]).double()
    if kind in ("binary", "binary levels"):
        return (raw - CENTRE) / SCALE, draws(3)
    if kind in OF_COUNTS:
        return (10 * raw - COUNT_CENTRE) / SCALE, draws(3)
    return raw, draws(3)


@of(KINDS)
def test_tangent_is_the_first_order_expansion_of_the_mean(kind):
    module, (mean, direction) = KINDS[kind](), probable_mean(kind)
    output, slope = module.tangent(mean)
    assert output.shape == slope.shape == mean.shape
    output = padded(kind, output)
    assert_close(module.mean(output), mean)
    step = padded(kind, 1e-5 * slope * direction)
    difference = module.mean(output + step) - module.mean(output - step)
    assert_close(difference / 2e-5, direction, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("module", [BinaryCrossEntropy(), Bernoulli()], ids=repr)
def test_tangents_at_zero_and_one_stay_trainable(module):
    logits, slope = module.tangent(torch.tensor([0.0, 1.0]))
    assert_close(torch.sigmoid(logits), torch.tensor([RAREST, 1 - RAREST]))
    assert_close(slope, torch.full((2,), 1 / (RAREST * (1 - RAREST))))


def test_tangents_of_binary_columns_and_counts_stay_trainable():
    zero, one = ((value - CENTRE) / SCALE for value in (0, 1))
    binary, poisson = Binary(CENTRE, SCALE), Poisson(CENTRE, SCALE)
    for mean, chance in ((zero, RAREST), (one, 1 - RAREST)):
        logits, slope = binary.tangent(mean)
        assert_close(torch.sigmoid(logits), torch.full((3,), chance).double())
        assert_close(slope, SCALE / (RAREST * (1 - RAREST)))
    log_rate, slope = poisson.tangent(zero - 1)
    assert_close(log_rate.exp(), torch.full((3,), RAREST).double())
    assert_close(slope, SCALE / RAREST)


def test_tangents_of_levels_that_never_occur_stay_trainable():
    module = Categorical(WIDTHS, FREQUENCIES, LEVEL_SCALE)
    raw = torch.tensor([0.0, 0.4, 0.6, 1, 0, 0, 0, 0, 1]).double()
    output, slope = module.tangent((raw - FREQUENCIES) / LEVEL_SCALE)
    assert_close(output.exp(), raw.clamp(min=RAREST))
    assert_close(slope, LEVEL_SCALE / raw.clamp(min=RAREST))


@of(OF_LIKELIHOODS)
def test_particles_share_the_row(kind):
    module, output, x = KINDS[kind](), outputs_of(kind, 4, 10), rows_of(kind, 10)
    found = module.per_cell(output, x)
    for particle in range(4):
        assert_close(found[particle], module.per_cell(output[particle], x))
        for method in ("mean", "variance"):
            together, alone = getattr(module, method)(output), output[particle]
            assert_close(together[particle], getattr(module, method)(alone))


@of(KINDS)
def test_columns_do_not_know_of_each_other(kind):
    module, output, x = KINDS[kind](), outputs_of(kind, 6), rows_of(kind)
    before, mean = module.per_cell(output, x), module.mean(output)
    output[:, 0] += 1
    if N_EXTRA[kind]:
        output[:, N_COLUMNS[kind]] += 1
    x[:, 0] += 0.5 if kind in ("bernoulli", "binary_cross_entropy") else SCALE[0]
    width = WIDTHS[0] if N_COLUMNS[kind] == 9 else 1
    assert not torch.equal(module.per_cell(output, x), before)
    assert_close(module.per_cell(output, x)[:, 1:], before[:, 1:])
    assert_close(module.mean(output)[:, width:], mean[:, width:])


@of(KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_that_of_the_output(kind, dtype):
    module = KINDS[kind]().to(dtype)
    output, x = outputs_of(kind, 5).to(dtype), rows_of(kind, 5).to(dtype)
    found = [
        module.per_cell(output, x),
        module.mean(output),
        module.variance(output),
        module.sample(output, generator()),
        *module.tangent(module.mean(output)[0]),
    ]
    assert {values.dtype for values in found} == {dtype}


@of(KINDS)
def test_gradients_are_finite_differences(kind):
    output = 1.5 * outputs_of(kind, 5).requires_grad_()
    assert gradcheck(*per_cell_and_inputs(KINDS[kind](), output, rows_of(kind, 5)))


@of(OF_LIKELIHOODS)
@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_extreme_outputs_stay_finite(kind, extreme):
    module, x = KINDS[kind](), rows_of(kind, 5)
    output = padded(kind, torch.zeros_like(x))
    output[:, ::2] = extreme
    output.requires_grad_()
    log_prob = module.row_sum(output, x, None)
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert output.grad.isfinite().all()
    assert module.mean(output).isfinite().all()
    assert module.variance(output).isfinite().all()


# -------------------------------------------------------------------- rows and holes


def n_cells(kind):
    return {9: 3, 21: 15}.get(N_COLUMNS[kind], 3)


def columns_of(kind, cells):
    """Repeat values per cell for each column of the matrix."""
    if N_COLUMNS[kind] == 3:
        return cells
    widths = torch.tensor([1] * (n_cells(kind) - 3) + list(WIDTHS))
    return cells.repeat_interleave(widths, dim=-1)


@of(KINDS)
def test_rows_without_holes_are_means_and_sums_of_their_cells(kind):
    module, output, x = KINDS[kind](), outputs_of(kind, 6), rows_of(kind)
    cells = module.per_cell(output, x)
    assert cells.shape == (6, n_cells(kind))
    assert_close(module.row_sum(output, x, None), cells.sum(dim=1))
    assert_close(module.row_mean(output, x, None), cells.sum(dim=1) / n_cells(kind))
    seen = torch.ones_like(cells)
    assert_close(module.row_sum(output, x, seen), cells.sum(dim=1))
    assert_close(module.row_mean(output, x, seen), cells.mean(dim=1))


@of(KINDS)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_rows_with_holes_are_means_and_sums_over_the_seen_cells(kind, data):
    module, output, x = KINDS[kind](), outputs_of(kind, 6), rows_of(kind)
    seen = data.draw(arrays(bool, (6, n_cells(kind))))
    cells, mask = module.per_cell(output, x).detach(), torch.from_numpy(seen).double()
    total, mean = (
        getattr(module, name)(output, x, mask).detach()
        for name in ("row_sum", "row_mean")
    )
    for i in range(6):
        alone = cells[i, seen[i]]
        assert_close(total[i], alone.sum())
        assert_close(
            mean[i], alone.mean() if seen[i].any() else torch.tensor(0.0).double()
        )


@of(KINDS)
@pytest.mark.parametrize("value", [-0.37, 0.0, 4.4, 100.0])
@pytest.mark.parametrize("method", ["row_sum", "row_mean"])
def test_values_of_unseen_cells_change_neither_rows_nor_gradients(kind, value, method):
    seen = (shares(6, n_cells(kind), seed=3) > 0.4).double()
    assert 0 < seen.sum() < seen.numel()
    found = []
    for x in (rows_of(kind), rows_of(kind)):
        if found:
            x = torch.where(columns_of(kind, seen) > 0, x, value)
        module = KINDS[kind]()
        output = outputs_of(kind, 6).requires_grad_()
        rows = getattr(module, method)(output, x, seen)
        rows.square().sum().backward()
        found.append((rows, output.grad, *(p.grad for p in module.parameters())))
    for left, right in zip(*found, strict=True):
        assert torch.equal(left, right)


@of(OF_COUNTS)
def test_unseen_cells_may_hold_counts_below_zero(kind):
    module = KINDS[kind]()
    x = ((-1.0 - COUNT_CENTRE) / SCALE)[None]
    found = module.row_sum(outputs_of(kind, 1), x, torch.zeros(1, 3).double())
    assert found.item() == 0


# -------------------------------------------------------------------------- losses


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


@of(["levels", "categorical"])
def test_the_best_constant_of_levels_is_their_frequencies(kind):
    module, x = KINDS[kind](), rows_of(kind, 300)
    output, _ = module.tangent(x.mean(dim=0))
    output = output.expand_as(x).clone().requires_grad_()
    module.per_cell(output, x).sum().backward()
    gradient = output.grad.sum(dim=0)
    assert_close(gradient, torch.zeros_like(gradient), atol=1e-10, rtol=0)


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


# --------------------------------------------------------------------- likelihoods


def raw_of(kind, x):
    return SCALE * x + (COUNT_CENTRE if kind in OF_COUNTS else CENTRE)


@pytest.mark.parametrize(
    ("name", "distribution"), [("gaussian", stats.norm), ("laplace", stats.laplace)]
)
def test_densities_are_scipys(name, distribution):
    output, x = outputs_of(name, 30), 3 * draws(30, 3, seed=1)
    expected = distribution(*mean_and_spread(output)).logpdf(x)
    found = likelihood(name).per_cell(output, x).detach()
    assert_close(found, torch.from_numpy(expected))


def test_bernoulli_probabilities_are_scipys():
    output, x = 3 * draws(30, 3), (shares(30, 3) > 0.4).double()
    expected = stats.bernoulli(torch.sigmoid(output)).logpmf(x)
    assert_close(Bernoulli().per_cell(output, x), torch.from_numpy(expected))


def test_binary_probabilities_are_scipys_in_raw_units():
    output, x = 3 * draws(30, 3), rows_of("binary", 30)
    raw = raw_of("binary", x).round()
    expected = stats.bernoulli(torch.sigmoid(output)).logpmf(raw)
    found = Binary(CENTRE, SCALE).per_cell(output, x)
    assert_close(found, torch.from_numpy(expected))


def test_poisson_probabilities_are_scipys_per_scaled_unit():
    output, x = draws(30, 3), rows_of("poisson", 30)
    counts = raw_of("poisson", x).round()
    expected = stats.poisson(output.exp()).logpmf(counts) + SCALE.log().numpy()
    found = Poisson(COUNT_CENTRE, SCALE).per_cell(output, x)
    assert_close(found, torch.from_numpy(expected))


def test_negative_binomial_probabilities_are_scipys_per_scaled_unit():
    output, x = draws(30, 3), rows_of("negative_binomial", 30)
    counts = raw_of("negative_binomial", x).round()
    size = np.array([0.5, 2.0, 20.0])
    distribution = stats.nbinom(size, size / (size + output.exp().numpy()))
    expected = distribution.logpmf(counts) + SCALE.log().numpy()
    found = negative_binomial().per_cell(output, x).detach()
    assert_close(found, torch.from_numpy(expected))


def test_a_dispersion_is_learned_from_one_on():
    fresh = NegativeBinomial(COUNT_CENTRE, SCALE)
    output, x = draws(30, 3), rows_of("negative_binomial", 30)
    expected = negative_binomial((1.0, 1.0, 1.0)).per_cell(output, x)
    assert_close(fresh.per_cell(output, x), expected)
    assert [name for name, _ in fresh.named_parameters()] == ["log_size"]


def test_categorical_probabilities_are_those_of_torch():
    output, x, raw = 3 * draws(30, 9), rows_of("categorical", 30), indicators(30)
    found = KINDS["categorical"]().per_cell(output, x)
    parts = zip(output.split(WIDTHS, dim=1), raw.split(WIDTHS, dim=1), strict=True)
    for j, (logits, levels) in enumerate(parts):
        distribution = TorchCategorical(logits=logits)
        assert_close(found[:, j], distribution.log_prob(levels.argmax(dim=1)))


@given(widths=SOME_WIDTHS)
@settings(max_examples=40, deadline=None)
def test_columns_of_different_widths_have_separate_softmaxes(widths):
    ones = torch.ones(sum(widths)).double()
    module, output = Categorical(widths, 0 * ones, ones), 3 * draws(6, sum(widths))
    expected = [part.softmax(dim=1) for part in output.split(widths, dim=1)]
    assert_close(module.mean(output), torch.cat(expected, dim=1))
    alone = Mixed([(Categorical((w,), 0 * ones[:w], ones[:w]), w) for w in widths])
    x = torch.zeros(6, sum(widths)).double()
    x[:, torch.tensor([0, *widths[:-1]]).cumsum(dim=0)] = 1
    assert_close(module.per_cell(output, x), alone.per_cell(output, x))
    assert_close(module.mean(output), alone.mean(output))


def test_binary_is_categorical_of_two_levels():
    logits, x = draws(30, 3), rows_of("binary", 30)
    raw = raw_of("binary", x)
    pairs = torch.stack([1 - raw, raw], dim=2).flatten(1)
    scale = SCALE.repeat_interleave(2)
    centre = torch.stack([1 - CENTRE, CENTRE], dim=1).flatten()
    categorical = Categorical((2, 2, 2), centre, scale)
    output = torch.stack([torch.zeros_like(logits), logits], dim=2).flatten(1)
    binary = Binary(CENTRE, SCALE)
    found = categorical.per_cell(output, (pairs - centre) / scale)
    assert_close(found, binary.per_cell(logits, x))
    assert_close(categorical.mean(output)[:, 1::2], binary.mean(logits))


@given(share=st.floats(0, 1), logit=st.floats(-30, 30))
@settings(max_examples=50, deadline=None)
def test_bernoulli_fractions_are_shares_of_ones(share, logit):
    output = torch.tensor([[logit]], dtype=torch.float64)
    one, zero = (
        Bernoulli().per_cell(output, torch.full_like(output, v)) for v in (1, 0)
    )
    found = Bernoulli().per_cell(output, torch.full_like(output, share))
    assert_close(found, share * one + (1 - share) * zero)


def test_bernoulli_stays_finite_at_extreme_logits():
    output = torch.tensor([[1e4, -1e4]], requires_grad=True)
    log_prob = Bernoulli().row_sum(output, torch.tensor([[0.0, 0.0]]), None)
    log_prob.sum().backward()
    assert_close(log_prob, torch.tensor([-1e4]))
    assert_close(output.grad, torch.tensor([[-1.0, 0.0]]))


# ------------------------------------------------------- whole supports: sums, moments

N_COUNTS = 3000


def support_of(kind):
    """Return all values that the first cell can have, as rows of the matrix."""
    if kind == "categorical":
        rows = indicators(3)
        rows[:, :3] = torch.eye(3)
        return (rows - FREQUENCIES) / LEVEL_SCALE
    if kind in OF_COUNTS:
        counts = torch.arange(N_COUNTS).double()[:, None]
        return (counts - COUNT_CENTRE) / SCALE
    values = torch.tensor([0.0, 1.0]).double()[:, None].expand(2, 3)
    return (values - CENTRE) / SCALE if kind == "binary" else values


def chances_of(kind, output):
    """Return the support of the first cell and the chance of each value."""
    module, support = KINDS[kind](), support_of(kind)
    log_chances = module.per_cell(output.expand(len(support), -1), support).detach()
    if kind in OF_COUNTS:
        log_chances = log_chances - SCALE.log()
    return support, log_chances[:, 0].exp()


DISCRETE = ["bernoulli", "binary", "categorical", "poisson", "negative_binomial"]


@of(DISCRETE)
@pytest.mark.parametrize("seed", range(3))
def test_chances_of_all_values_sum_to_one(kind, seed):
    _, chances = chances_of(kind, 2 * outputs_of(kind, seed=seed))
    assert_close(chances.sum(), torch.tensor(1.0).double())


@of(DISCRETE)
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_is_the_expectation(kind, seed):
    output = 2 * outputs_of(kind, seed=seed)
    support, chances = chances_of(kind, output)
    width = 3 if kind == "categorical" else 1
    expected = chances @ support[:, :width]
    assert_close(KINDS[kind]().mean(output)[:width], expected)


@of(OF_COUNTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_variance_of_counts_is_that_of_their_chances(kind, seed):
    output = outputs_of(kind, seed=seed)
    support, chances = chances_of(kind, output)
    mean = chances @ support[:, 0]
    expected = chances @ (support[:, 0] - mean).square()
    assert_close(KINDS[kind]().variance(output)[0].detach(), expected)


@of(OF_NOISE)
def test_noise_has_the_variance_of_its_density(kind):
    distribution = {"gaussian": stats.norm, "laplace": stats.laplace}[kind]
    output = outputs_of(kind, 4)
    found = likelihood(kind).variance(output).detach()
    expected = distribution(*mean_and_spread(output)).var()
    assert_close(found, torch.from_numpy(expected))


@of(OF_LOSSES)
def test_losses_say_no_variance(kind):
    assert not KINDS[kind]().variance(outputs_of(kind, 4)).any()


def test_the_negative_binomial_tends_to_the_poisson():
    output, x = draws(30, 3), rows_of("poisson", 30)
    poisson = Poisson(COUNT_CENTRE, SCALE)
    gaps = []
    for size in (8.0, 80.0, 800.0, 8000.0):
        module = negative_binomial((size, size, size))
        gap = module.per_cell(output, x) - poisson.per_cell(output, x)
        gaps.append(gap.abs().max().item())
        ratio = module.variance(output) / poisson.variance(output) - 1
        assert_close(ratio, output.exp() / size, rtol=1e-9, atol=1e-12)
    assert_allclose(np.array(gaps[1:]) * 10 / gaps[:-1], 1, rtol=0.5)
    assert gaps[-1] < 0.02


def test_nearly_poisson_counts_keep_their_digits_in_single_precision():
    output, x = draws(30, 3), rows_of("poisson", 30)
    module = negative_binomial((1e6, 1e6, 1e6))
    exact = module.per_cell(output, x)
    found = module.float().per_cell(output.float(), x.float())
    assert_close(found.double(), exact, atol=0.01, rtol=0)


@of(OF_COUNTS)
def test_rates_are_bounded(kind):
    module = KINDS[kind]()
    output = torch.full((1, 3), 1e3).double()
    raw = raw_of(kind, module.mean(output))
    assert_allclose(raw.numpy(), np.exp(LARGEST_LOG_RATE))


# -------------------------------------------------------------------------- samples

N_DRAWS = 4000


def samples_of(kind, output, seed=0):
    found = KINDS[kind]().sample(output.expand(N_DRAWS, -1), generator(seed))
    return found.detach()


@of(OF_NOISE)
def test_samples_follow_the_density(kind):
    distribution = {"gaussian": stats.norm, "laplace": stats.laplace}[kind]
    output = torch.tensor([3.0, 0.0, -1.0, 0.0, -20.0, 15.0], dtype=torch.float64)
    found = samples_of(kind, output).numpy()
    for j, moments in enumerate(zip(*mean_and_spread(output), strict=True)):
        expected = distribution(*moments)
        assert stats.kstest(found[:, j], expected.cdf).pvalue > 0.01
    correlation = np.corrcoef(found.T) - np.eye(3)
    assert abs(correlation).max() < 4 / np.sqrt(N_DRAWS)


def assert_frequencies(drawn, chances):
    """Assert that shares of ones differ from their chances by chance alone."""
    error = (chances * (1 - chances) / len(drawn)).sqrt()
    assert ((drawn.mean(dim=0) - chances).abs() <= 4 * error).all()


@of(["bernoulli", "binary_cross_entropy"])
def test_samples_of_logits_are_ones_as_often_as_they_should(kind):
    output = torch.tensor([-2.0, 0.0, 3.0]).double()
    found = samples_of(kind, output)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert_frequencies(found, torch.sigmoid(output))


def test_samples_of_binary_columns_are_standardised_ones():
    output = torch.tensor([-2.0, 0.0, 3.0]).double()
    found = raw_of("binary", samples_of("binary", output))
    assert_close(found, found.round())
    assert_frequencies(found, torch.sigmoid(output))


def test_samples_of_a_reconstructed_binary_column_have_its_chance():
    chances = torch.tensor([-0.3, 0.2, 1.4]).double()
    found = raw_of("binary", samples_of("binary levels", (chances - CENTRE) / SCALE))
    assert_close(found, found.round())
    assert_frequencies(found, chances.clamp(0, 1))


@of(["levels", "categorical"])
def test_samples_of_levels_are_one_indicator_each_as_often_as_they_should(kind):
    module, output = KINDS[kind](), outputs_of(kind) / 3
    drawn = LEVEL_SCALE * samples_of(kind, output) + FREQUENCIES
    assert_close(drawn, drawn.round())
    assert_close(module.levels.sum(drawn), torch.ones(N_DRAWS, 3).double())
    chances = LEVEL_SCALE * module.mean(output) + FREQUENCIES
    chances = chances.clamp(min=0)
    total = module.levels.sum(chances).repeat_interleave(torch.tensor(WIDTHS))
    assert_frequencies(drawn, chances / total)
    first, second = drawn[:, :3].argmax(dim=1), drawn[:, 5:].argmax(dim=1)
    table = stats.contingency.crosstab(first.numpy(), second.numpy()).count
    assert stats.chi2_contingency(table).pvalue > 0.01


def test_samples_of_levels_come_in_any_shape():
    module = KINDS["categorical"]()
    found = module.sample(outputs_of("categorical", 4, 5), generator())
    raw = LEVEL_SCALE * found + FREQUENCIES
    assert found.shape == (4, 5, 9)
    assert_close(module.levels.sum(raw), torch.ones(4, 5, 3).double())


@of(OF_COUNTS)
def test_samples_of_counts_have_their_chances(kind):
    output = torch.tensor([1.0, 0.0, -1.0]).double()
    found = samples_of(kind, output)
    counts = raw_of(kind, found)
    assert_close(counts, counts.round())
    module = KINDS[kind]()
    variance = module.variance(output).detach()
    error = (variance / N_DRAWS).sqrt()
    assert ((found.mean(dim=0) - module.mean(output)).abs() < 4 * error).all()
    _, chances = chances_of(kind, output)
    chances = chances[:8].numpy()
    seen = np.bincount(counts[:, 0].round().int().numpy(), minlength=N_COUNTS)[:8]
    observed, expected = (
        np.append(part, whole - part.sum())
        for part, whole in ((seen, N_DRAWS), (N_DRAWS * chances, N_DRAWS))
    )
    assert stats.chisquare(observed, expected).pvalue > 0.01


@of([*OF_LIKELIHOODS, "binary_cross_entropy", "binary levels", "levels"])
def test_samples_come_from_the_generator_alone(kind):
    output = outputs_of(kind, 20) / 5
    first, second, other = (
        KINDS[kind]().sample(output, generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@of(["squared_error", "absolute_error", "huber"])
def test_losses_of_numbers_draw_the_mean(kind):
    output = outputs_of(kind, 5)
    assert torch.equal(KINDS[kind]().sample(output, generator()), output)


# ---------------------------------------------------------------------------- mixed


def split(tensor):
    """Give each part its columns."""
    return zip(PARTS, tensor.split(SIZES, dim=-1), strict=True)


def split_output(output):
    """Give each part the outputs of its columns, and its own of those after all."""
    columns, gaussian, laplace = output.split([21, 3, 3], dim=-1)
    extras = {"gaussian": gaussian, "laplace": laplace}
    for kind, part in split(columns):
        extra = [extras[kind]] if kind in extras else []
        yield kind, torch.cat([part, *extra], dim=-1)


@pytest.mark.parametrize("method", ["mean", "variance"])
def test_moments_of_mixed_columns_are_those_of_their_parts(method):
    output = outputs_of("mixed", 6)
    parts = split_output(output)
    expected = [getattr(KINDS[kind](), method)(part) for kind, part in parts]
    assert_close(getattr(mixed(), method)(output), torch.cat(expected, dim=1))


def test_cells_of_mixed_columns_are_those_of_their_parts():
    output, x = outputs_of("mixed", 2, 6), rows_of("mixed")
    pairs = zip(split_output(output), split(x), strict=True)
    expected = [KINDS[kind]().per_cell(o, v) for (kind, o), (_, v) in pairs]
    assert_close(mixed().per_cell(output, x), torch.cat(expected, dim=-1))


def test_samples_of_mixed_columns_are_drawn_part_by_part():
    output, shared = outputs_of("mixed", 6), generator()
    parts = split_output(output)
    expected = [KINDS[kind]().sample(part, shared) for kind, part in parts]
    found = mixed().sample(output, generator())
    assert_close(found, torch.cat(expected, dim=1))


def test_tangents_of_mixed_columns_are_those_of_their_parts():
    mean, _ = probable_mean("mixed")
    pairs = [KINDS[kind]().tangent(part) for kind, part in split(mean)]
    for found, expected in zip(
        mixed().tangent(mean), zip(*pairs, strict=True), strict=True
    ):
        assert_close(found, torch.cat(expected))


def test_chances_of_mixed_losses_are_those_of_their_parts():
    parts = [("squared_error", 3), ("binary levels", 3), ("levels", 9)]
    module = Mixed([(KINDS[kind](), width) for kind, width in parts])
    output = torch.cat([outputs_of(kind, 6) / 3 for kind, _ in parts], dim=1)
    x = torch.cat([rows_of(kind) for kind, _ in parts], dim=1)
    noise = shares(15)
    expected, start = [], 0
    for kind, width in parts:
        columns = slice(start, start + width)
        cells = output[:, columns], x[:, columns], noise[columns]
        expected.append(KINDS[kind]().log_chance(*cells))
        start += width
    assert_close(module.log_chance(output, x, noise), torch.cat(expected, dim=1))


def test_blocks_are_assembled_side_by_side():
    blocks = (Block("gaussian", (1, 1)), Block("binary", (1,)), Block("x", (3, 4)))
    made = []

    def make(block, columns):
        made.append((block.kind, columns.start, columns.stop))
        return SquaredError()

    found = assemble(blocks, make)
    assert made == [("gaussian", 0, 2), ("binary", 2, 3), ("x", 3, 10)]
    assert isinstance(found, Mixed)
    assert found.widths == [2, 1, 7]


@of(KINDS)
def test_outputs_after_those_of_the_columns_are_counted(kind):
    assert KINDS[kind]().n_extra == N_EXTRA[kind]


def test_a_single_block_needs_no_mixture():
    only = SquaredError()
    assert assemble((Block("gaussian", (1, 1)),), lambda *_: only) is only


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("squared_error", set()),
        ("poisson", {"centre", "scale"}),
        ("negative_binomial", {"centre", "scale", "log_size"}),
        ("categorical", {"levels.centre", "levels.scale"}),
    ],
)
def test_what_is_kept_with_the_weights_are_units_and_what_is_learned(kind, names):
    assert set(KINDS[kind]().state_dict()) == names


# ------------------------------------------------------------------- learned noise


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
@pytest.mark.parametrize("floor", [0.0, 0.01, 5.0, torch.inf])
def test_noise_starts_at_the_given_spread(name, floor):
    zero = torch.zeros(3, dtype=torch.float64)
    found = likelihood(name, floor=floor).spread(zero).detach()
    assert_close(found, torch.tensor(SPREAD, dtype=torch.float64))


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
@pytest.mark.parametrize("log_excess", [-1000.0, -5.0, 0.0, 3.0])
@pytest.mark.parametrize("log_factor", [-1000.0, -5.0, 0.0, 3.0])
def test_noise_never_falls_below_its_floor(name, log_excess, log_factor):
    module = likelihood(name, floor=0.3)
    module.log_excess.data.fill_(log_excess)
    assert (module.spread(torch.tensor(log_factor)) >= 0.3).all()


def test_a_start_below_the_floor_stays_about_where_it_is():
    module = likelihood("gaussian", floor=torch.inf)
    module.log_excess.data.fill_(-1000.0)
    found = module.spread(torch.zeros(3).double()).detach()
    assert_close(found, 0.99 * torch.tensor(SPREAD).double())


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_a_factor_on_the_spread_is_bounded_and_monotone(name):
    log_factor = torch.tensor([-1e4, -1.0, 0.0, 1.0, 1e4]).double()[:, None]
    found = likelihood(name, floor=0.0).spread(log_factor).detach()
    ratio = (found / torch.tensor(SPREAD)).log()
    assert (ratio.diff(dim=0) > 0).all()
    assert_close(ratio[0], torch.full((3,), -LARGEST_LOG_FACTOR).double())
    assert_close(ratio[-1], torch.full((3,), LARGEST_LOG_FACTOR).double())


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_an_output_is_means_and_then_logarithms_of_factors(name):
    module, output = likelihood(name), outputs_of(name, 2, 6)
    mean, spread = (part.detach() for part in module.parts(output))
    expected = map(torch.from_numpy, mean_and_spread(output))
    for found, known in zip((mean, spread), expected, strict=True):
        assert_close(found, known)
    assert torch.equal(module.mean(output), output[..., :3])


def test_the_floor_is_kept_with_the_weights_but_not_trained():
    module = likelihood("gaussian")
    assert set(module.state_dict()) == {"floor", "log_excess"}
    assert [name for name, _ in module.named_parameters()] == ["log_excess"]


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_the_likeliest_spread_is_the_mean_deviation(name):
    x = 3 * draws(200, 1)
    output = torch.zeros(200, 2, dtype=x.dtype, requires_grad=True)
    deviation = x.abs().mean() if name == "laplace" else x.square().mean().sqrt()
    module = likelihood(name, [deviation.item()], floor=0.0)
    module.per_cell(output, x).sum().backward()
    zero = torch.zeros(1).double()
    assert_close(module.log_excess.grad, zero, atol=1e-9, rtol=0)
    assert_close(output.grad[:, 1:].sum(dim=0), zero, atol=1e-9, rtol=0)


# ----------------------------------------------------------------------- Gaussians


def test_gaussian_log_prob_is_that_of_torch():
    z, mean, log_variance = draws(3, 7, 2), draws(7, 2, seed=1), draws(7, 2, seed=2)
    expected = Independent(Normal(mean, (0.5 * log_variance).exp()), 1).log_prob(z)
    assert_close(gaussian_log_prob(z, mean, log_variance), expected)


def test_gaussian_kl_is_that_of_torch():
    mean, log_variance, prior_mean, prior_log_variance = draws(4, 50, 3)
    expected = kl_divergence(
        Normal(mean, (0.5 * log_variance).exp()),
        Normal(prior_mean, (0.5 * prior_log_variance).exp()),
    )
    found = gaussian_kl(mean, log_variance, prior_mean, prior_log_variance)
    assert_close(found, expected)


def test_gaussian_kl_is_the_mean_log_ratio_of_densities():
    moments = mean, log_variance, prior_mean, prior_log_variance = draws(4, 1)
    z = mean + (0.5 * log_variance).exp() * draws(100_000, 1, seed=1)
    ratio = gaussian_log_prob(z, mean, log_variance)
    ratio = ratio - gaussian_log_prob(z, prior_mean, prior_log_variance)
    error = ratio.std() / 100_000**0.5
    assert abs(ratio.mean() - gaussian_kl(*moments)) < 4 * error


FINITE = st.floats(-5, 5)


@given(moments=st.tuples(FINITE, FINITE, FINITE, FINITE))
@settings(max_examples=50, deadline=None)
def test_gaussian_kl_is_zero_between_equals_and_never_negative(moments):
    mean, log_variance, prior_mean, prior_log_variance = torch.tensor(moments).double()
    same = gaussian_kl(mean, log_variance, mean, log_variance)
    assert_close(same, torch.zeros_like(same))
    assert gaussian_kl(mean, log_variance, prior_mean, prior_log_variance) >= -1e-12


def test_gradients_of_gaussians_are_finite_differences():
    arguments = tuple(part.clone().requires_grad_() for part in draws(4, 5, 2))
    assert gradcheck(gaussian_log_prob, arguments[:3])
    assert gradcheck(gaussian_kl, arguments)


def test_standard_normal_draws_have_the_form_of_their_pattern():
    for dtype in (torch.float32, torch.float64):
        found = standard_normal(torch.zeros(4000, 2, dtype=dtype), generator())
        assert found.shape == (4000, 2)
        assert found.dtype == dtype
        assert stats.kstest(found.flatten().numpy(), stats.norm.cdf).pvalue > 0.01
