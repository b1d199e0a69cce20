"""Solvers on problems solved by hand, and their learning rate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import generator
from numpy.testing import assert_allclose, assert_array_equal
from regressions import Network, regression
from torch import nn
from torch.testing import assert_close

from skae.training._rows import Rows
from skae.training._solvers import LBFGS, WIND_DOWN_STEPS, Adam, Cycle, GradientSolver
from skae.training._weights import Weights

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


@pytest.mark.parametrize("square_decay", [0.9, 0.999])
def test_steps_of_adam_are_those_of_torch(square_decay):
    vector, twin = torch.ones(4), torch.ones(4, requires_grad=True)
    ours = Adam(vector, square_decay)
    theirs = torch.optim.Adam([twin], 0.1, betas=(Adam.MEAN_DECAY, square_decay))
    for seed in range(5):
        twin.grad = torch.randn(4, generator=generator(seed))
        ours.step(vector, twin.grad, 0.1)
        theirs.step()
        assert_close(vector, twin.detach())


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


def test_a_cycle_twice_as_long_falls_over_the_same_share():
    cycle = Cycle(10, 100, fall_share=0.5)
    cycle.doubled(50)
    assert (cycle.last_epoch, cycle.fall_epoch) == (20, 10)
    cycle.doubled(30)
    assert (cycle.last_epoch, cycle.fall_epoch) == (30, 15)
    cycle.doubled(30)
    assert cycle.last_epoch == 30


def test_winding_down_is_short():
    cycle = Cycle(1000, 1, fall_share=0.5)
    cycle.fall_from(100)
    assert cycle.last_epoch == 100 + WIND_DOWN_STEPS
    assert cycle.rate(100) == 1.0
    assert cycle.rate(100 + WIND_DOWN_STEPS) == 0.0


def test_winding_down_may_take_some_epochs():
    cycle = Cycle(1000, 1, fall_share=0.5)
    cycle.fall_from(100, 400)
    assert cycle.last_epoch == 500
    short = Cycle(1000, 1, fall_share=0.1)  # but no more than the cycle gives
    short.fall_from(100, 400)
    assert short.last_epoch == 100 + short.fall_epochs < 500
