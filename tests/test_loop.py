"""Rows, flat weights, solvers and the training loop, on problems solved by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch.testing import assert_close

from skae import _training
from skae.network._build import network_weights
from skae.network._cells import Cells
from skae.network._layers import linear, multilayer_perceptron
from skae.training._folds import split_rows
from skae.training._judge import Best
from skae.training._loop import RESTARTS, Training
from skae.training._rows import Rows
from skae.training._solvers import LBFGS, Cycle, GradientSolver
from skae.training._weights import AVERAGING, Weights


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


# ---------------------------------------------------------------------------- rows

SIZES = {"n_rows": st.integers(1, 60), "batch_size": st.integers(1, 70)}


@given(**SIZES, seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_batches_partition_the_rows_evenly(n_rows, batch_size, seed):
    index = torch.arange(100, 100 + n_rows)
    rows = Rows(torch.zeros(200, 1), index)
    batches = list(rows.batches(batch_size, generator(seed)))
    together = torch.cat([batch.index for batch in batches])
    assert together.sort().values.tolist() == index.tolist()
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == math.ceil(n_rows / batch_size)


def test_batches_are_shuffled_by_the_generator():
    rows = Rows.all_of(draws(40, 2), torch.arange(40.0))
    first, second, other = (
        [batch.index.tolist() for batch in rows.batches(8, generator(seed))]
        for seed in (1, 1, 2)
    )
    assert first == second != other


def test_batches_keep_the_weights_with_their_rows():
    matrix = torch.arange(40.0)[:, None]
    rows = Rows.all_of(matrix, torch.arange(40.0) + 1)
    for batch in rows.batches(7, generator()):
        value = batch.mean(torch.ones(len(batch)))
        assert_close(value, (batch.values()[:, 0] + 1).mean())


def test_chosen_rows_come_in_their_order():
    matrix = draws(6, 2)
    rows = Rows(matrix, torch.tensor([4, 1, 5]))
    assert len(rows) == 3
    assert torch.equal(rows.values(), matrix[[4, 1, 5]])
    assert torch.equal(rows.first(2), matrix[[4, 1]])
    assert torch.equal(rows.first(9), matrix[[4, 1, 5]])


def cells_with_holes(n_rows=10):
    seen = (draws(n_rows, 2, seed=1) > 0).double()
    return Cells(draws(n_rows, 2), seen, log_density=draws(n_rows, seed=2))


def test_rows_of_cells_carry_what_is_known_of_their_holes():
    cells, index = cells_with_holes(), torch.tensor([4, 1, 4, 9, 0])
    rows = Rows(cells, index)
    assert len(Rows.all_of(cells)) == 10
    for found, expected in ((rows.values(), index), (rows.first(2), index[:2])):
        assert torch.equal(found.values, cells.values[expected])
        assert torch.equal(found.seen, cells.seen[expected])
        assert torch.equal(found.log_density, cells.log_density[expected])
        assert found.log_variances is None


def test_batches_of_cells_hold_every_row_once_with_its_holes():
    cells = cells_with_holes(10)
    parts = [batch.values() for batch in Rows.all_of(cells).batches(4, generator())]
    values = torch.cat([part.values for part in parts])
    order = values[:, 0].argsort()
    whole = cells.values[:, 0].argsort()
    assert torch.equal(values[order], cells.values[whole])
    for name in ("seen", "log_density"):
        together = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(together[order], getattr(cells, name)[whole])


def test_mean_of_losses_is_weighted():
    losses, weight = draws(6), draws(6).exp()
    weight = weight / weight.mean()
    matrix = torch.zeros(6, 1)
    expected = np.average(losses, weights=weight)
    assert_close(Rows.all_of(matrix, weight).mean(losses).item(), expected)
    assert_close(Rows.all_of(matrix).mean(losses), losses.mean())


def test_evaluation_in_chunks_is_evaluation_at_once(monkeypatch):
    rows = Rows(draws(10, 2), torch.tensor([9, 2, 3, 3, 1, 0, 8]))
    whole = rows.evaluate(lambda x: x.sum(dim=1))
    assert_close(whole, rows.values().sum(dim=1))
    monkeypatch.setattr(_training, "EVALUATION_ROWS", 3)
    assert torch.equal(rows.evaluate(lambda x: x.sum(dim=1)), whole)
    cells = Cells(rows.cells, seen=draws(10, 2, seed=1))
    found = Rows(cells, rows.index).evaluate(lambda c: (c.values * c.seen).sum(dim=1))
    assert_close(found, (cells.values * cells.seen).sum(dim=1)[rows.index])


@given(
    n_rows=st.integers(2, 60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 5)
)
@settings(max_examples=60, deadline=None)
def test_a_split_is_disjoint_and_complete(n_rows, fraction, seed):
    training, judging = split_rows(torch.zeros(n_rows, 1), None, fraction, seed)
    chosen = torch.cat([training.index, judging.index])
    assert chosen.sort().values.tolist() == list(range(n_rows))
    assert len(training) >= 1
    assert len(judging) == min(max(round(fraction * n_rows), 1), n_rows - 1)


def test_a_split_is_drawn_from_its_seed():
    first, second, other = (
        split_rows(torch.zeros(50, 1), None, 0.3, seed)[1].index.tolist()
        for seed in (1, 1, 2)
    )
    assert first == second != other


def test_without_a_fraction_all_rows_train_and_some_of_them_judge(monkeypatch):
    monkeypatch.setattr(_training, "MOST_JUDGES", 7)
    training, judging = split_rows(torch.zeros(20, 1), None, None, 0)
    assert sorted(training.index.tolist()) == list(range(20))
    assert len(set(judging.index.tolist())) == len(judging) == 7


def test_a_long_table_has_no_more_judges_than_it_needs(monkeypatch):
    monkeypatch.setattr(_training, "MOST_JUDGES", 7)
    training, judging = split_rows(torch.zeros(100, 1), None, 0.3, 0)
    assert (len(training), len(judging)) == (93, 7)
    both = torch.cat([training.index, judging.index])
    assert both.sort().values.tolist() == list(range(100))


@pytest.mark.parametrize("fraction", [0.3, None])
def test_judges_weigh_one_on_average(fraction):
    weight = draws(40).exp()
    training, judging = split_rows(torch.zeros(40, 1), weight, fraction, 0)
    assert_close(judging.mean(torch.ones(len(judging)).double()).item(), 1.0)
    ratio = judging.weight / weight
    assert_close(ratio, ratio[0].expand(40))
    assert torch.equal(training.weight, weight)


# -------------------------------------------------------------------- flat weights


class Network(nn.Module):
    """An affine layer in double precision, with a buffer as batch norm has."""

    def __init__(self, n_inputs=3, n_outputs=2):
        super().__init__()
        self.layer = linear(n_inputs, n_outputs, generator()).double()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        return self.layer(x)


def free_part(vector, weights):
    """Return the part of a vector that no penalty acts on."""
    return vector[len(weights.penalised) :]


def flattened():
    module = Network()
    return module, Weights(module, [module.layer.weight])


def test_flattening_keeps_the_values_and_sorts_the_penalised_out():
    module, weights = flattened()
    fresh = Network()
    assert torch.equal(module.layer.weight, fresh.layer.weight)
    assert torch.equal(module.layer.bias, fresh.layer.bias)
    assert torch.equal(weights.penalised, fresh.layer.weight.flatten())
    assert torch.equal(free_part(weights.vector, weights), fresh.layer.bias)


def test_a_change_of_the_vector_changes_the_module():
    module, weights = flattened()
    x = draws(4, 3)
    weights.penalised.zero_()
    free_part(weights.vector, weights).fill_(7)
    assert torch.equal(module(x), torch.full((4, 2), 7.0).double())


def test_gradients_arrive_in_the_vectors_and_add_up():
    module, weights = flattened()
    x = draws(4, 3)
    for times in (1, 2):
        module(x).sum().backward()
        expected = times * x.sum(dim=0).repeat(2)
        assert_close(weights.penalised_gradient, expected)
        assert_close(
            free_part(weights.gradient, weights), torch.full((2,), 4.0 * times).double()
        )
    weights.gradient.zero_()
    assert not weights.penalised_gradient.any()
    assert not module.layer.bias.grad.any()


def test_a_snapshot_brings_weights_and_buffers_back():
    module, weights = flattened()
    snapshot, before = weights.snapshot(), module(draws(4, 3))
    weights.penalised.fill_(3)
    module.seen.fill_(5)
    assert not torch.equal(module(draws(4, 3)), before)
    weights.load(snapshot)
    assert torch.equal(module(draws(4, 3)), before)
    assert module.seen.item() == 0


def test_loading_leaves_the_snapshot_alone():
    _, weights = flattened()
    snapshot = weights.snapshot()
    weights.load(snapshot)
    weights.penalised.fill_(3)
    assert not (snapshot[0] == 3).any()


def test_averaged_puts_the_average_in_place_and_takes_it_away_again():
    module, weights = flattened()
    start = free_part(weights.vector, weights).clone()
    free_part(weights.vector, weights).add_(1)
    weights.average()
    with weights.averaged():
        assert_close(module.layer.bias.detach(), start + 0.5)
    assert_close(module.layer.bias.detach(), start + 1)


def follow(weights, values):
    for value in values:
        free_part(weights.vector, weights).fill_(value)
        weights.average()
    with weights.averaged():
        return free_part(weights.vector, weights)[0].item()


def test_the_average_of_few_steps_is_the_plain_mean():
    _, weights = flattened()
    weights.restart_from([torch.zeros_like(t) for t in weights.snapshot()])
    values = draws(60).tolist()
    assert_allclose(follow(weights, values), np.mean([0, *values]))


def test_the_average_of_many_steps_is_exponential():
    _, weights = flattened()
    follow(weights, [2.0] * 1000)
    found = follow(weights, [3.0] * 50)
    assert_allclose(found, 3 - AVERAGING**50, rtol=1e-4)


def test_a_restart_forgets_the_average():
    _, weights = flattened()
    snapshot = weights.snapshot()
    follow(weights, [2.0] * 200)
    weights.restart_from(snapshot)
    assert torch.equal(weights.vector, snapshot[0])
    with weights.averaged():
        assert torch.equal(weights.vector, snapshot[0])
    weights.restart_from([torch.zeros_like(tensor) for tensor in snapshot])
    assert_allclose(follow(weights, [3.0, 6.0]), 3.0)


@pytest.mark.parametrize("which", ["none", "all"])
def test_modules_may_have_no_penalised_weights_or_no_other(which):
    module = Network()
    penalised = [] if which == "none" else list(module.parameters())
    weights = Weights(module, penalised)
    assert len(weights.vector) == 8
    assert len(weights.penalised) == (0 if which == "none" else 8)
    module(draws(4, 3)).sum().backward()
    assert weights.gradient.any()


# ------------------------------------------------------------------------- solvers

NO_PENALTY = {"weight_decay": 0.0, "l1_penalty": 0.0}


class Values(nn.Module):
    """Parameters alone: some to be penalised and some free."""

    def __init__(self, penalised, free):
        super().__init__()
        self.penalised = nn.Parameter(torch.tensor(penalised, dtype=torch.float64))
        self.free = nn.Parameter(torch.tensor(free, dtype=torch.float64))


def solver_of(name, module, learning_rate, momentum=0.0, **penalties):
    weights = Weights(module, [module.penalised])
    penalties = NO_PENALTY | penalties
    if name == "lbfgs":
        return LBFGS(weights, generator(), learning_rate, **penalties)
    return GradientSolver(weights, name, learning_rate, momentum=momentum, **penalties)


ONE_BATCH = Rows.all_of(torch.zeros(1, 1))


def minimise(solver, loss, n_steps, rates=None):
    rates = itertools.repeat(1.0) if rates is None else rates
    return [
        solver.epoch(iter([ONE_BATCH]), lambda batch: loss(), iter([rate]))
        for rate, _ in zip(rates, range(n_steps), strict=False)
    ]


def quadratic(module, target=(3.0, -0.2, 0.1), curvature=(1.0, 2.0, 4.0)):
    target, curvature = (torch.tensor(v).double() for v in (target, curvature))

    def loss():
        both = torch.cat([module.penalised, module.free])
        return 0.5 * (curvature * (both - target).square()).sum()

    return loss


@pytest.mark.parametrize(
    ("name", "rate", "momentum", "n_steps"),
    [
        ("adam", 0.1, 0.0, 300),
        ("sgd", 0.2, 0.0, 150),
        ("sgd", 0.05, 0.9, 300),
        ("lbfgs", 1.0, 0.0, 15),
    ],
)
def test_every_solver_minimises_a_quadratic(name, rate, momentum, n_steps):
    module = Values([0.0, 1.0], [2.0])
    solver = solver_of(name, module, rate, momentum)
    rates = np.linspace(1, 0.01, n_steps)
    losses = minimise(solver, quadratic(module), n_steps, rates)
    assert_allclose(module.penalised.tolist(), [3.0, -0.2], atol=1e-3)
    assert_allclose(module.free.tolist(), [0.1], atol=1e-3)
    assert losses[-1] < 1e-5 < losses[0]


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_an_epoch_returns_the_mean_loss_of_its_rows(name):
    module = Values([1.0], [2.0])
    solver = solver_of(name, module, 1.0)
    matrix = torch.arange(5.0)[:, None]
    batches = [Rows(matrix, torch.tensor(part)) for part in ([0, 1], [2, 3], [4])]

    def loss(batch):
        return batch.values().mean() + 0 * module.penalised.sum()

    assert solver.epoch(iter(batches), loss, itertools.repeat(1.0)) == 2.0


def test_a_step_of_sgd_is_the_gradient_times_the_rate():
    module = Values([1.0, 1.0], [2.0])
    solver = solver_of("sgd", module, 0.5)
    minimise(solver, quadratic(module), 1, [0.2])
    assert_allclose(module.penalised.tolist(), [1 + 0.1 * 2, 1 - 0.1 * 2 * 1.2])
    assert_allclose(module.free.tolist(), [2 - 0.1 * 4 * 1.9])


def test_the_momentum_of_sgd_is_nesterovs():
    module = Values([0.0], [0.0])
    solver = solver_of("sgd", module, 0.1, momentum=0.5)
    velocity, expected = 0.0, 0.0
    for _ in range(3):
        minimise(solver, lambda: module.free.sum() + 0 * module.penalised.sum(), 1)
        velocity = 0.5 * velocity + 1
        expected -= 0.1 * (1 + 0.5 * velocity)
        assert_allclose(module.free.item(), expected)


def test_the_first_step_of_adam_has_the_length_of_the_rate():
    module = Values([1.0, 1.0], [2.0])
    solver = solver_of("adam", module, 0.5)
    minimise(solver, quadratic(module), 1, [0.2])
    assert_allclose(module.penalised.tolist(), [1.1, 0.9], rtol=1e-6)
    assert_allclose(module.free.tolist(), [1.9], rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_rate_of_zero_moves_nothing(name):
    module = Values([1.0, 1.0], [2.0])
    solver = solver_of(name, module, 0.5, l1_penalty=0.1, weight_decay=0.1)
    minimise(solver, quadratic(module), 3, [0.0] * 3)
    assert module.penalised.tolist() == [1.0, 1.0]
    assert module.free.item() == 2.0


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_weight_decay_shrinks_the_penalised_alone(name):
    module = Values([1.0, -2.0], [3.0])
    solver = solver_of(name, module, 0.1, weight_decay=0.5)
    minimise(solver, lambda: 0 * (module.penalised.sum() + module.free.sum()), 10)
    factor = (1 - 0.1 * 0.5) ** 10
    assert_allclose(module.penalised.tolist(), [factor, -2 * factor])
    assert module.free.item() == 3.0


@pytest.mark.parametrize("name", ["sgd", "lbfgs"])
def test_weight_decay_is_ridge_regression(name):
    module = Values([0.0, 1.0], [2.0])
    solver = solver_of(name, module, 0.2 if name == "sgd" else 1.0, weight_decay=0.5)
    minimise(solver, quadratic(module), 150 if name == "sgd" else 15)
    assert_allclose(module.penalised.tolist(), [3 / 1.5, -0.4 / 2.5], atol=1e-5)
    assert_allclose(module.free.tolist(), [0.1], atol=1e-5)


def test_the_l1_penalty_is_the_soft_threshold():
    module = Values([1.0, 1.0], [2.0])
    solver = solver_of("sgd", module, 0.2, l1_penalty=0.5)
    minimise(solver, quadratic(module), 150)
    assert_allclose(module.penalised.tolist(), [2.5, 0.0], atol=1e-6)
    assert module.penalised[1].item() == 0
    assert_allclose(module.free.tolist(), [0.1], atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_the_l1_penalty_makes_exact_zeros_of_the_penalised_alone(name):
    module = Values([1.0, 0.01], [0.01])
    solver = solver_of(name, module, 0.1, l1_penalty=0.5)
    minimise(solver, lambda: 0 * (module.penalised.sum() + module.free.sum()), 3)
    assert_allclose(module.penalised.tolist(), [0.85, 0.0])
    assert module.penalised[1].item() == 0
    assert module.free.item() == 0.01


def test_lbfgs_counts_the_l1_penalty_in_the_loss():
    module = Values([1.0, 1.0], [2.0])
    solver = solver_of("lbfgs", module, 1.0, l1_penalty=0.5)
    losses = minimise(solver, quadratic(module), 30)
    lasso = 0.5 * 0.5**2 + 0.5 * 2.5 + 0.2**2  # at 2.5 and 0, the soft threshold
    assert losses[0] > lasso + 1
    assert lasso <= losses[-1] < lasso + 1e-3
    assert_allclose(module.penalised.tolist(), [2.5, 0.0], atol=0.05)


def regression(n_rows=30):
    x, noise = draws(n_rows, 3), draws(n_rows, 1, seed=1)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]).double() + 0.3 + 0.1 * noise
    return torch.cat([x, y], dim=1)


@pytest.mark.parametrize("n_batches", [1, 4])
def test_lbfgs_reaches_least_squares_in_few_steps(n_batches):
    table = regression()
    module = Network(3, 1)
    weights = Weights(module, [module.layer.weight])
    solver = LBFGS(weights, generator(), 1.0, **NO_PENALTY)
    parts = [Rows(table, part) for part in torch.arange(30).tensor_split(n_batches)]

    def loss(batch):
        rows = batch.values()
        return (module(rows[:, :3])[:, 0] - rows[:, 3]).square().mean()

    losses = [solver.epoch(iter(parts), loss, itertools.repeat(1.0)) for _ in range(12)]
    inputs = np.c_[table[:, :3], np.ones(30)]
    solution, residual, _, _ = np.linalg.lstsq(inputs, table[:, 3], rcond=None)
    assert_allclose(module.layer.weight[0].tolist(), solution[:3], atol=1e-6)
    assert_allclose(module.layer.bias.tolist(), solution[3:], atol=1e-6)
    assert_allclose(losses[-1], residual[0] / 30)
    assert losses == sorted(losses, reverse=True)


def test_a_step_of_lbfgs_sees_the_same_draws_at_every_point():
    module = Values([0.0, 1.0], [2.0])
    solver = solver_of("lbfgs", module, 1.0)
    seen = []

    def loss():
        seen[-1].append(torch.rand(1, generator=solver.generator).item())
        return quadratic(module)()

    for _ in range(3):
        seen.append([])
        minimise(solver, loss, 1)
    assert all(len(set(values)) == 1 for values in seen)
    assert len({values[0] for values in seen}) == 3
    assert len(seen[0]) > 1


# ------------------------------------------------------------------- learning rate


def rates_of(cycle):
    return np.array(
        [rate for epoch in range(cycle.last_epoch) for rate in cycle.rates(epoch)]
    )


@pytest.mark.parametrize(("max_epochs", "steps"), [(3000, 1), (300, 10), (5, 700)])
def test_the_rate_rises_stays_and_falls_to_zero(max_epochs, steps):
    cycle = Cycle(max_epochs, steps)
    rates = rates_of(cycle)
    full = np.flatnonzero(rates == 1)
    assert len(rates) == max_epochs * steps
    assert full[0] == pytest.approx(100, abs=1)
    assert_allclose(np.diff(rates[: full[0]]), 1 / 101)
    assert (rates[full[0] : full[-1]] == 1).all()
    assert len(full) > len(rates) / 2
    assert_allclose(np.diff(rates[full[-1] + 1 :], n=2), 0, atol=1e-12)
    assert 0 < rates[-1] < 1 / 250
    assert cycle.rate(len(rates)) == 0


@given(max_epochs=st.integers(0, 300), steps=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_the_rate_of_any_cycle_rises_once_and_falls_once(max_epochs, steps):
    rates = rates_of(Cycle(max_epochs, steps))
    assert len(rates) == max_epochs * steps
    assert ((rates > 0) & (rates <= 1)).all()
    signs = np.sign(np.diff(rates))
    assert (np.diff(signs) <= 0).all()


@pytest.mark.parametrize(("max_epochs", "steps"), [(60, 1), (30, 10), (3, 50)])
def test_short_cycles_too_rise_quickly_and_fall_in_their_last_third(max_epochs, steps):
    rates = rates_of(Cycle(max_epochs, steps))
    total = max_epochs * steps
    full = np.flatnonzero(rates == 1)
    assert full[0] <= total // 10
    assert abs(full[-1] - 2 * total / 3) <= steps


@pytest.mark.parametrize("steps", [1, 7])
def test_an_early_fall_shortens_the_cycle(steps):
    cycle, whole = Cycle(3000 // steps, steps), Cycle(3000 // steps, steps)
    cycle.fall_from(100)
    assert cycle.last_epoch == 100 + cycle.fall_epochs < whole.last_epoch
    rates = rates_of(cycle)
    assert_array_equal(rates[: 100 * steps], rates_of(whole)[: 100 * steps])
    assert (np.diff(rates[100 * steps :]) < 0).all()
    assert cycle.rate(cycle.last_epoch * steps) == 0


def test_a_fall_never_lengthens_the_cycle():
    cycle = Cycle(1000, 1)
    cycle.fall_from(100)
    end = cycle.last_epoch
    cycle.fall_from(300)
    assert cycle.last_epoch == end
    late = Cycle(1000, 1)
    late.fall_from(999)
    assert late.last_epoch == 1000


def test_a_cycle_knows_when_it_falls():
    cycle = Cycle(1000, 1)
    rates = rates_of(cycle)
    begin = [cycle.falls_in(epoch) for epoch in range(1000)].index(True)
    assert begin == 1000 - cycle.fall_epochs
    assert (np.diff(rates[: begin + 1]) >= 0).all()
    assert (np.diff(rates[begin:]) < 0).all()


# -------------------------------------------------------------------- best weights


def best_of(start, losses, weight=None):
    """Return which epoch's weights are kept: of the start 0, of the losses 1."""
    module, weights = flattened()
    rows = Rows.all_of(torch.zeros(len(start), 1), weight)
    best = Best(weights, rows, torch.as_tensor(start))
    free_part(weights.vector, weights).fill_(1)
    best.update(1, torch.as_tensor(losses))
    free_part(weights.vector, weights).fill_(2)
    best.restore(prefer_start=True)
    kept_start = torch.equal(module.layer.bias, Network().layer.bias)
    assert kept_start or (module.layer.bias == 1).all()
    assert best.epoch == (0 if kept_start else 1)
    assert best.loss == (best.start_loss if kept_start else rows.mean(best.losses))
    return best.epoch


def test_identical_losses_keep_the_start():
    assert best_of([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 0


def test_worse_losses_keep_the_start():
    assert best_of([1.0, 2.0, 3.0], [1.5, 2.5, 3.5]) == 0


def test_an_even_gain_is_taken_however_small():
    assert best_of([1.0, 2.0, 3.0], [0.75, 1.75, 2.75]) == 1


def test_a_single_row_proves_nothing():
    assert best_of([1.0], [0.0]) == 0


@given(seed=st.integers(0, 10_000), n_rows=st.integers(2, 40))
@settings(max_examples=60, deadline=None)
def test_the_start_is_kept_unless_a_t_test_at_one_standard_error_speaks(seed, n_rows):
    rng = np.random.default_rng(seed)
    start = rng.normal(size=n_rows)
    losses = start - rng.normal(0.2, 1, size=n_rows)
    test = stats.ttest_rel(start, losses, alternative="greater")
    assert best_of(start, losses) == (test.pvalue < 1 - 0.8413)


def test_the_gain_of_weighted_rows_is_weighted():
    start, losses = torch.zeros(4), torch.tensor([-1.0, -1.1, -0.9, 2.0])
    assert best_of(start, losses) == 0
    assert best_of(start, losses, torch.tensor([1.3, 1.3, 1.3, 0.1])) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_losses_that_are_not_finite_are_never_best(bad):
    assert best_of([1.0, 2.0], [bad, 0.0]) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_anything_finite_beats_a_start_that_is_not(bad):
    assert best_of([bad, 1.0], [5.0, 5.0]) == 1


def test_best_follows_the_lowest_loss():
    _, weights = flattened()
    rows = Rows.all_of(torch.zeros(3, 1))
    best = Best(weights, rows, torch.full((3,), 5.0))
    for epoch, loss in enumerate([4.0, 2.0, 3.0, math.nan], start=1):
        free_part(weights.vector, weights).fill_(epoch)
        found = best.update(epoch, torch.full((3,), loss))
        assert found == loss or math.isnan(loss)
    best.restore(prefer_start=False)
    assert (best.epoch, best.loss, best.start_loss) == (2, 2.0, 5.0)
    assert free_part(weights.vector, weights).tolist() == [2.0, 2.0]


# -------------------------------------------------------------------- the whole loop


class Silent:
    """A report that remembers, and stops training at an epoch if asked."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.epochs = []
        self.ended = None

    def begin(self, max_epochs):
        self.max_epochs = max_epochs

    def epoch(self, epoch, history):
        self.epochs.append(epoch)
        return epoch == self.stop_at

    def end(self, history):
        self.ended = history


class Regression:
    """Least squares on a table whose last column is the target."""

    def __init__(self, seed=0):
        self.module = Network(3, 1)
        self.generator = generator(seed)
        self.begun = []
        self.modes = []

    def begin_epoch(self, epoch, rate):
        self.begun.append((epoch, rate))

    def losses(self, rows):
        return (self.module(rows[:, :3])[:, 0] - rows[:, 3]).square()

    def training_loss(self, rows):
        self.modes.append(self.module.training)
        return self.losses(rows)

    def validation_loss(self, rows):
        self.modes.append(self.module.training)
        return self.losses(rows)


class Constant(Regression):
    """An objective that nothing improves."""

    def losses(self, rows):
        return 1 + 0 * super().losses(rows)


class Diverging(Regression):
    """An objective whose training loss is NaN in chosen epochs."""

    def __init__(self, bad_epochs):
        super().__init__()
        self.bad_epochs = bad_epochs

    def training_loss(self, rows):
        loss = self.losses(rows)
        return loss * math.nan if self.begun[-1][0] in self.bad_epochs else loss


OPTIONS = {
    "prefer_start": True,
    "solver": "adam",
    "learning_rate": "auto",
    "momentum": 0.9,
    "weight_decay": 0.0,
    "l1_penalty": 0.0,
    "batch_size": "auto",
    "max_iter": 200,
    "tol": 0.0,
    "n_iter_no_change": "auto",
    "early_stopping": True,
}


def training(objective, report=None, *, table=None, judges=None, **changes):
    rows, held_out = split_rows(regression() if table is None else table, None, 0.3, 0)
    return Training(
        objective,
        rows,
        held_out if judges is None else Rows.all_of(judges),
        network_weights(objective.module),
        report or Silent(),
        **(OPTIONS | changes),
    )


def bias_and_weight(objective):
    layer = objective.module.layer
    return [*layer.bias.tolist(), *layer.weight.flatten().tolist()]


START = [*Network(3, 1).layer.bias.tolist(), *Network(3, 1).layer.weight[0].tolist()]


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "adam", "learning_rate": 0.05},
        {"solver": "adam", "learning_rate": 0.05, "batch_size": 4},
        {"solver": "sgd", "learning_rate": 0.05},
        {"solver": "sgd", "learning_rate": 0.1, "momentum": 0.0, "batch_size": 8},
        {"solver": "lbfgs", "max_iter": 20},
    ],
    ids=str,
)
def test_training_reaches_least_squares(options):
    objective = Regression()
    history = training(objective, **({"max_iter": 400} | options)).run()
    rows, _ = split_rows(regression(), None, 0.3, 0)
    values = rows.values().numpy()
    inputs = np.c_[np.ones(len(values)), values[:, :3]]
    solution, *_ = np.linalg.lstsq(inputs, values[:, 3], rcond=None)
    assert_allclose(bias_and_weight(objective), solution, atol=0.05)
    assert history.best_loss < 0.03 < history.start_loss
    assert history.best_epoch > 0


def test_the_weights_in_the_end_are_those_of_the_best_loss():
    objective = Regression()
    loop = training(objective, batch_size=4, learning_rate=0.3)
    history = loop.run()
    found = loop.validation.mean(objective.losses(loop.validation.values()))
    assert_close(found.item(), history.best_loss)
    assert history.best_loss == min(history.start_loss, *history.validation_curve)
    assert history.validation_curve[history.best_epoch - 1] == history.best_loss


def trained(seed, solver):
    objective = Regression(seed)
    training(objective, solver=solver, batch_size=4, max_iter=7).run()
    return bias_and_weight(objective)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_the_same_seed_gives_the_same_bits(solver):
    assert trained(1, solver) == trained(1, solver)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_another_seed_gives_other_batches(solver):
    assert trained(1, solver) != trained(2, solver)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_frozen_parameters_stay_where_they_are(solver):
    objective = Regression()
    frozen = objective.module.layer.weight.requires_grad_(False)
    objective.module.layer.bias.data.fill_(5.0)
    before = frozen.tolist()
    history = training(objective, solver=solver, weight_decay=0.5, l1_penalty=0.5).run()
    assert history.best_loss < history.start_loss - 1
    assert frozen.tolist() == before


def test_no_epochs_keep_the_start():
    objective, report = Regression(), Silent()
    history = training(objective, report, max_iter=0).run()
    assert bias_and_weight(objective) == START
    assert history.best_loss == history.start_loss
    assert (history.best_epoch, history.loss_curve, report.epochs) == (0, [], [])
    assert report.ended is history


@pytest.mark.parametrize("prefer_start", [True, False])
def test_an_objective_that_nothing_improves_keeps_the_start(prefer_start):
    objective = Constant()
    history = training(objective, prefer_start=prefer_start, weight_decay=0.5).run()
    assert bias_and_weight(objective) == START
    assert history.best_epoch == 0


def test_the_gain_must_be_significant_where_the_start_is_preferred():
    kept = {}
    for prefer_start in (True, False):
        objective = Regression()
        noise = torch.cat([draws(20, 3), draws(20, 1, seed=5)], dim=1)
        objective.module.layer.weight.data.zero_()
        objective.module.layer.bias.data.fill_(noise[:, 3].mean())
        loop = training(objective, table=noise, prefer_start=prefer_start)
        kept[prefer_start] = loop.run().best_epoch
    assert kept[True] == 0 < kept[False]


def test_training_and_validation_use_their_modes():
    objective = Regression()
    training(objective, max_iter=50, batch_size=4).run()
    assert objective.modes[0] is False
    assert set(objective.modes) == {True, False}
    assert not objective.module.training


def test_the_objective_is_told_epochs_and_rates():
    objective = Regression()
    loop = training(objective, max_iter=30, early_stopping=False)
    expected = [(epoch, loop.cycle.rate(epoch)) for epoch in range(30)]
    loop.run()
    assert objective.begun == expected


def test_curves_have_a_value_per_epoch_and_a_check_every_fifty_steps():
    history = training(Regression(), max_iter=170, early_stopping=False).run()
    assert len(history.loss_curve) == len(history.validation_curve) == 170
    changes = np.flatnonzero(np.diff(history.validation_curve)) + 2
    assert changes.tolist() == [50, 100, 150, 170]
    assert set(history.validation_curve[:49]) == {history.start_loss}


class Counting(Regression):
    """An objective that counts the rows that it is asked for."""

    def __init__(self):
        super().__init__()
        self.counts = {True: 0, False: 0}

    def losses(self, rows):
        self.counts[self.module.training] += len(rows)
        return super().losses(rows)


@pytest.mark.parametrize("n_judges", [5, 500, 5000])
def test_judging_costs_little_beside_training(n_judges):
    objective = Counting()
    judges = regression(n_judges)
    training(objective, judges=judges, max_iter=1000, early_stopping=False).run()
    judged = objective.counts[False] - 2 * n_judges  # of the start and in the end
    assert 0 <= judged <= objective.counts[True] / 4


@pytest.mark.parametrize(
    ("solver", "n_rows", "epochs"),
    [
        ("adam", 100, 3000),
        ("sgd", 3000, math.ceil(3000 / 17)),  # 2,100 rows in batches of 128
        ("adam", 200_000, 5),
        ("lbfgs", 3000, 3000),
    ],
)
def test_auto_makes_three_thousand_steps_and_five_epochs_at_least(
    solver, n_rows, epochs
):
    table = torch.zeros(n_rows, 4)
    loop = training(Regression(), table=table, solver=solver, max_iter="auto")
    assert loop.cycle.last_epoch == epochs


def test_a_report_stops_training_where_it_wants():
    objective, report = Regression(), Silent(stop_at=7)
    history = training(objective, report).run()
    assert report.epochs == list(range(1, 8))
    assert len(history.loss_curve) == 7
    assert report.max_epochs == 200
    assert report.ended is history
    assert history.best_epoch == 7
    assert bias_and_weight(objective) != START


# ------------------------------------------------------------------ early stopping


def n_epochs(objective, **options):
    return len(training(objective, **({"max_iter": 1000} | options)).run().loss_curve)


def test_training_without_improvement_winds_down():
    fall = Cycle(1000, 1).fall_epochs
    assert n_epochs(Constant(), n_iter_no_change=100) == 100 + fall
    assert n_epochs(Constant(), n_iter_no_change=200) == 200 + fall


def test_patience_is_counted_in_steps_where_it_is_automatic():
    fall = Cycle(1000, 1).fall_epochs
    assert n_epochs(Constant()) == 400 + fall
    fall = Cycle(1000, 2).fall_epochs
    assert n_epochs(Constant(), batch_size=11) == 200 + fall


def test_all_epochs_run_without_early_stopping():
    options = {"early_stopping": False, "n_iter_no_change": 1, "max_iter": 400}
    assert n_epochs(Constant(), **options) == 400


def test_training_that_improves_is_not_stopped():
    options = {"solver": "sgd", "learning_rate": 1e-4, "n_iter_no_change": 100}
    assert n_epochs(Regression(), **options) == 1000


@pytest.mark.parametrize("n_iter_no_change", [1, 10])
def test_patience_shorter_than_a_check_does_not_stop_what_improves(n_iter_no_change):
    options = {"solver": "sgd", "learning_rate": 1e-4}
    found = n_epochs(Regression(), n_iter_no_change=n_iter_no_change, **options)
    assert found == 1000


def test_patience_waits_for_many_judges():
    options = {"solver": "sgd", "learning_rate": 1e-4, "max_iter": 1500}
    table, judges = regression()[:10], regression(2000)
    assert n_epochs(Regression(), table=table, judges=judges, **options) == 1500


def test_gains_below_the_tolerance_are_no_improvement():
    options = {"solver": "sgd", "learning_rate": 1e-4, "n_iter_no_change": 100}
    fall = Cycle(1000, 1).fall_epochs
    assert n_epochs(Regression(), tol=1e6, **options) == 100 + fall


class Drift(Regression):
    """An objective whose training moves the bias on and on, past the best place."""

    def training_loss(self, rows):
        return -self.module.layer.bias + 0 * self.losses(rows)

    def validation_loss(self, rows):
        return (self.module.layer.bias - 1.3).abs().expand(len(rows))


class Follower(Silent):
    """A report that remembers the bias after every epoch."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.biases = [module.layer.bias.item()]

    def epoch(self, epoch, history):
        self.biases.append(self.module.layer.bias.item())
        return super().epoch(epoch, history)


def drift(**options):
    """Train with a step of a hundredth per epoch, but for the rise and the fall."""
    objective = Drift()
    objective.module.layer.bias.data.zero_()
    report = Follower(objective.module)
    options = {"solver": "sgd", "learning_rate": 0.01, "momentum": 0.0} | options
    history = training(objective, report, **options).run()
    return np.array(report.biases), objective.module.layer.bias.item(), history


def test_the_average_of_the_weights_is_what_is_judged_and_kept():
    biases, kept, history = drift(max_iter=40)
    assert history.best_epoch == 40
    assert_allclose(kept, biases.mean())
    assert_allclose(history.best_loss, 1.3 - biases.mean())


def test_training_winds_down_once_from_the_best_weights():
    biases, _, history = drift(max_iter=2000, n_iter_no_change=100)
    (end,) = np.flatnonzero(np.diff(biases) < 0)  # where training went back
    best = np.argmin(history.validation_curve[:end])
    assert end == best + 1 + 100
    distance = history.validation_curve[best]
    assert distance < 0.2
    assert_allclose(abs(biases[end + 1] - 1.3), distance, atol=0.011)
    assert history.best_loss <= distance


# ---------------------------------------------------------------------- divergence


def test_a_loss_that_stays_nan_ends_in_the_best_weights_and_a_warning():
    objective, report = Diverging(range(3, 10_000)), Silent()
    loop = training(objective, report, max_iter=1000, learning_rate=0.01)
    with pytest.warns(ConvergenceWarning, match="infinite or NaN"):
        history = loop.run()
    assert len(history.loss_curve) == 3 + RESTARTS + 1
    assert_allclose(loop.learning_rate, 0.01 / 10 ** (RESTARTS + 1))
    assert bias_and_weight(objective) == START
    assert report.ended is history


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_training_goes_on_from_the_best_weights_after_a_nan(solver):
    objective = Diverging({55, 60})
    options = {"solver": solver, "learning_rate": 0.05, "early_stopping": False}
    loop = training(objective, max_iter=150, **options)
    history = loop.run()
    assert np.flatnonzero(np.isnan(history.loss_curve)).tolist() == [55, 60]
    assert len(history.loss_curve) == 150
    assert_allclose(loop.learning_rate, 0.05 / 100)
    assert np.isfinite(bias_and_weight(objective)).all()
    assert history.best_loss < history.start_loss
    assert history.best_loss <= np.nanmin(history.validation_curve)


def test_a_nan_forgets_what_happened_since_the_best_weights():
    objective = Diverging({20})
    loop = training(objective, max_iter=21, early_stopping=False)
    with pytest.warns(ConvergenceWarning, match="did not recover"):
        history = loop.run()
    assert history.best_epoch == 0
    assert bias_and_weight(objective) == START


def test_extreme_tables_end_in_a_warning_not_in_nans():
    objective = Regression()
    loop = training(objective, table=1e200 * regression(), max_iter=100)
    with pytest.warns(ConvergenceWarning):
        loop.run()
    assert bias_and_weight(objective) == START


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_networks_of_several_layers_train_as_well(solver):
    objective = Regression()
    objective.module = multilayer_perceptron(
        (3, 8, 8, 1), "tanh", 0.0, generator(), starts_at_zero=False
    ).double()
    history = training(objective, solver=solver, learning_rate=0.05, max_iter=200).run()
    assert history.best_loss < 0.6 * history.start_loss
