"""The training loop on problems solved by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from models import draws, generator
from numpy.testing import assert_allclose
from regressions import Network, regression
from torch.testing import assert_close

from skae.network._autoencoders import network_weights
from skae.network._layers import multilayer_perceptron
from skae.training._folds import Split
from skae.training._loop import MOST_EPOCHS, RESTARTS, History, Pace, Settings, Training
from skae.training._rows import Rows
from skae.training._solvers import WIND_DOWN_STEPS

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

    warm_up_epochs = 0

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


OPTIONS = {"weight_decay": 0.0, "max_iter": 200}


def split(table):
    return Split.of(len(table), 0, 0.3, 0).rows(table, None)


def training(
    objective,
    report=None,
    *,
    table=None,
    judges=None,
    prefer_start=True,
    pace=None,
    **changes,
):
    rows, held_out = split(regression() if table is None else table)
    return Training(
        objective,
        rows,
        held_out if judges is None else Rows.all_of(judges),
        network_weights(objective.module),
        report or Silent(),
        prefer_start=prefer_start,
        settings=Settings(**(OPTIONS | changes)),
        pace=pace,
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
    rows, _ = split(regression())
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


# -------------------------------------------------------------------- budgets

SLOW = {"solver": "sgd", "learning_rate": 1e-3, "momentum": 0.0, "batch_size": 8}
LONG = regression(1_000)  # of which five epochs are 440 steps of eight rows


def brief(objective, **options):
    report = Silent()
    options = {"table": LONG, "pace": Pace(n_steps=160)} | SLOW | options
    return training(objective, report, **options).run(), report


def test_a_budget_grows_while_the_judged_loss_falls():
    slow, _ = brief(Regression(), learning_rate=1e-4, max_iter="auto")
    assert len(slow.loss_curve) == MOST_EPOCHS
    done, report = brief(Regression(), learning_rate=0.05, max_iter="auto")
    assert len(done.loss_curve) < MOST_EPOCHS
    assert not done.is_short
    assert report.max_epochs == MOST_EPOCHS


@pytest.mark.parametrize(("n_steps", "share"), [(160, 1 / 2), (1_600, 1 / 10)])
def test_a_very_long_table_winds_down_slowly(n_steps, share):
    pace = Pace(n_steps=n_steps, fall_share=0.5)  # of 440 steps in five epochs
    options = {"max_iter": 100, "n_iter_no_change": 20, "pace": pace}
    history, _ = brief(Constant(), **options)
    assert_allclose(len(history.loss_curve), 20 + share * 20, atol=2)


def test_a_budget_that_ended_while_the_loss_fell_was_short():
    for max_iter in (10, "auto"):
        history, _ = brief(Regression(), learning_rate=3e-5, max_iter=max_iter)
        assert history.is_short
    assert len(history.loss_curve) == MOST_EPOCHS


def test_the_number_of_epochs_that_was_asked_for_does_not_grow():
    history, _ = brief(Regression(), max_iter=8)
    assert len(history.loss_curve) == 8


def test_a_budget_without_gain_neither_grows_nor_is_short():
    for max_iter in (10, "auto"):
        history, _ = brief(Constant(), max_iter=max_iter, early_stopping=False)
        assert len(history.loss_curve) <= 10
        assert not history.is_short


def test_small_tables_are_seen_often_enough():
    for max_iter in (20, 60):
        loop = training(Regression(), max_iter=max_iter, learning_rate=1e-5)
        assert not loop.run().is_short


# ------------------------------------------------------------------ early stopping


def n_epochs(objective, **options):
    return len(training(objective, **({"max_iter": 1000} | options)).run().loss_curve)


def test_training_without_improvement_winds_down():
    assert n_epochs(Constant(), n_iter_no_change=100) == 100 + WIND_DOWN_STEPS
    assert n_epochs(Constant(), n_iter_no_change=200) == 200 + WIND_DOWN_STEPS


def test_patience_is_counted_in_steps_where_it_is_automatic():
    assert n_epochs(Constant()) == 400 + WIND_DOWN_STEPS
    assert n_epochs(Constant(), batch_size=11) == 200 + WIND_DOWN_STEPS // 2


@pytest.mark.parametrize("n_iter_no_change", [100, 10_000])
def test_a_fall_ends_where_nothing_improves_in_it(n_iter_no_change):
    """Be it the one at the end of the budget, or that of training in vain."""
    pace = Pace(fall_share=0.5, check_steps=25, fall_patience_steps=50)
    found = n_epochs(Constant(), pace=pace, n_iter_no_change=n_iter_no_change)
    assert found == min(n_iter_no_change, 500) + 50


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_fall_that_improves_runs_to_its_end(solver):
    pace = Pace(fall_share=0.5, check_steps=25, fall_patience_steps=50)
    options = {"solver": solver, "learning_rate": 1e-4}
    assert n_epochs(Regression(), pace=pace, **options) == 1000


def test_all_epochs_run_without_early_stopping():
    options = {"early_stopping": False, "n_iter_no_change": 1, "max_iter": 400}
    assert n_epochs(Constant(), **options) == 400
    pace = Pace(fall_share=0.5, fall_patience_steps=50)
    assert n_epochs(Constant(), pace=pace, **options) == 400


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
    found = n_epochs(Regression(), tol=1e6, **options)
    assert found == 100 + WIND_DOWN_STEPS


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


def test_a_loss_that_stays_nan_ends_in_the_best_weights_and_is_told():
    objective, report = Diverging(range(3, 10_000)), Silent()
    loop = training(objective, report, max_iter=1000, learning_rate=0.01)
    history = loop.run()
    assert history.diverged
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
    assert not history.diverged
    assert_allclose(loop.learning_rate, 0.05 / 100)
    assert np.isfinite(bias_and_weight(objective)).all()
    assert history.best_loss < history.start_loss
    assert history.best_loss <= np.nanmin(history.validation_curve)


def test_a_nan_forgets_what_happened_since_the_best_weights():
    objective = Diverging({20})
    loop = training(objective, max_iter=21, early_stopping=False)
    history = loop.run()
    assert history.diverged
    assert history.best_epoch == 0
    assert bias_and_weight(objective) == START


@pytest.mark.parametrize(
    ("curve", "diverged"),
    [
        ([], False),
        ([2.0, 1.0], False),
        ([2.0, math.nan, 1.0], False),
        ([2.0, math.nan], True),
        ([2.0, math.inf], True),
    ],
    ids=str,
)
def test_a_history_that_ends_without_a_loss_diverged(curve, diverged):
    assert History(2.0, 1.0, loss_curve=curve).diverged is diverged


def test_extreme_tables_diverge_and_leave_no_nans():
    objective = Regression()
    loop = training(objective, table=1e200 * regression(), max_iter=100)
    assert loop.run().diverged
    assert bias_and_weight(objective) == START


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_networks_of_several_layers_train_as_well(solver):
    objective = Regression()
    objective.module = multilayer_perceptron(
        (3, 8, 8, 1), "tanh", 0.0, generator(), starts_at_zero=False
    ).double()
    history = training(objective, solver=solver, learning_rate=0.05, max_iter=200).run()
    assert history.best_loss < 0.6 * history.start_loss


class Pressed(Regression):
    """A regression in which Ctrl-C is pressed at a batch."""

    def __init__(self, at):
        super().__init__()
        self.n_left = at

    def training_loss(self, rows):
        self.n_left -= 1
        if self.n_left < 0:
            raise KeyboardInterrupt
        return super().training_loss(rows)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("at", [0, 1, 75, 150])
def test_an_interrupted_run_ends_in_the_best_weights_seen(solver, at):
    objective, report = Pressed(at), Silent()
    loop = training(objective, report, solver=solver, early_stopping=False)
    history = loop.run()
    assert history.interrupted
    assert report.ended is history
    assert len(history.loss_curve) == len(history.validation_curve) < 200
    assert history.best_loss <= history.start_loss
    if history.best_epoch == 0:
        assert bias_and_weight(objective) == START
    else:
        assert history.best_epoch <= len(history.loss_curve)
        losses = loop._validation_losses()
        assert_allclose(float(loop.validation.mean(losses)), history.best_loss)


def test_a_run_that_nobody_interrupts_says_so():
    assert not training(Regression(), max_iter=3).run().interrupted


class PressedBefore(Regression):
    """A regression in which Ctrl-C is pressed while the start is judged."""

    def validation_loss(self, rows):
        raise KeyboardInterrupt


def test_an_interrupt_before_training_is_passed_on():
    with pytest.raises(KeyboardInterrupt):
        training(PressedBefore()).run()


# ------------------------------------------------------------------------ the warm-up


class WarmingUp(Regression):
    """Least squares that aims at nothing until the warm-up is over."""

    def __init__(self, warm_up_epochs):
        super().__init__()
        self.warm_up_epochs = warm_up_epochs

    def training_loss(self, rows):
        aim = float(self.begun[-1][0] >= self.warm_up_epochs)
        wrong = (self.module(rows[:, :3])[:, 0] + 5).square()
        return aim * self.losses(rows) + (1 - aim) * wrong


@pytest.mark.parametrize("warm_up", [0, 40, 90])
def test_patience_begins_with_the_end_of_the_warm_up(warm_up):
    options = {"learning_rate": 0.05, "max_iter": 2000, "n_iter_no_change": 30}
    history = training(WarmingUp(warm_up), **options).run()
    assert history.best_epoch > warm_up
    assert history.best_loss < 0.1 * history.start_loss


@pytest.mark.parametrize("warm_up", [0, 25])
def test_the_warm_up_comes_on_top_of_the_steps_that_auto_stands_for(warm_up):
    plain = training(Regression(), max_iter="auto").cycle.last_epoch
    found = training(WarmingUp(warm_up), max_iter="auto").cycle.last_epoch
    assert found == plain + warm_up


def test_a_fit_that_ends_in_the_warm_up_keeps_no_less_than_the_start():
    history = training(WarmingUp(50), max_iter=30, prefer_start=False).run()
    assert (history.best_epoch, history.best_loss) == (0, history.start_loss)
