"""What holds for losses and likelihoods alike, of every kind."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kinds import (
    CENTRE,
    COUNT_CENTRE,
    FREQUENCIES,
    KINDS,
    LEVEL_SCALE,
    N_COLUMNS,
    N_DRAWS,
    N_EXTRA,
    OF_COUNTS,
    OF_LIKELIHOODS,
    PARTS,
    SCALE,
    SIZES,
    SOME_WIDTHS,
    WIDTHS,
    assert_frequencies,
    indicators,
    mixed,
    of,
    outputs_of,
    padded,
    rows_of,
    samples_of,
    shares,
)
from models import draws, generator
from scipy import stats
from torch.autograd import gradcheck
from torch.func import functional_call
from torch.testing import assert_close

from skae._schema import Block
from skae.network._likelihoods import Bernoulli
from skae.network._losses import BinaryCrossEntropy, SquaredError
from skae.network._outputs import RAREST, Levels, Mixed, Units, assemble


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


@of(["levels", "categorical"])
def test_the_best_constant_of_levels_is_their_frequencies(kind):
    module, x = KINDS[kind](), rows_of(kind, 300)
    output, _ = module.tangent(x.mean(dim=0))
    output = output.expand_as(x).clone().requires_grad_()
    module.per_cell(output, x).sum().backward()
    gradient = output.grad.sum(dim=0)
    assert_close(gradient, torch.zeros_like(gradient), atol=1e-10, rtol=0)


# -------------------------------------------------------------------------- samples


@of(["bernoulli", "binary_cross_entropy"])
def test_samples_of_logits_are_ones_as_often_as_they_should(kind):
    output = torch.tensor([-2.0, 0.0, 3.0]).double()
    found = samples_of(kind, output)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert_frequencies(found, torch.sigmoid(output))


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


@of([*OF_LIKELIHOODS, "binary_cross_entropy", "binary levels", "levels"])
def test_samples_come_from_the_generator_alone(kind):
    output = outputs_of(kind, 20) / 5
    first, second, other = (
        KINDS[kind]().sample(output, generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


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


@pytest.mark.parametrize("widths", [(3, 3), (3, 5, 4), (3, 31, 3)], ids=str)
def test_levels_of_any_widths_are_those_of_their_columns(widths):
    levels = Levels(widths, torch.zeros(sum(widths)), torch.ones(sum(widths)))
    values = 50 * torch.randn(2, 4, sum(widths), generator=generator(0))
    columns = values.split(widths, dim=-1)
    for of_levels, of_column in [
        (levels.sum(values), lambda part: part.sum(dim=-1, keepdim=True)),
        (levels.logsumexp(values), lambda part: part.logsumexp(dim=-1, keepdim=True)),
        (levels.softmax(values), lambda part: part.softmax(dim=-1)),
    ]:
        expected = torch.cat([of_column(part) for part in columns], dim=-1)
        torch.testing.assert_close(of_levels, expected)


def test_slopes_and_curvatures_of_levels_are_those_of_their_columns():
    widths = (3, 5, 4)
    levels = Levels(widths, torch.zeros(12), torch.ones(12))
    values = torch.randn(12, generator=generator(0)).double()

    def by_columns(values):
        return torch.stack([part.logsumexp(dim=-1) for part in values.split(widths)])

    for derivative in (
        torch.func.jacrev,
        lambda f: torch.func.jacrev(torch.func.jacrev(f)),
    ):
        assert_close(
            derivative(levels.logsumexp)(values), derivative(by_columns)(values)
        )
