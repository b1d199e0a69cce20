"""One training loop for every model: batches, steps, validation, best weights, stop.

Everything is counted in gradient steps where patience is meant: on a table of a few
hundred rows an epoch is one step or two.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ._checkpoint import Checkpoint
from ._group import ALONE, Alone
from ._judge import Best
from ._rows import Cells, Rows
from ._solvers import LBFGS, LEARNING_RATES, SQUARE_DECAY, Cycle, GradientSolver
from ._weights import Weights

ROWS_PER_JUDGE = 4  # rows trained on per row judged: judging stays below a tenth
RESTARTS = 5
MOST_EPOCHS = 60  # up to which a budget that is too small for a long table grows
STILL_FALLING = 0.02  # share of the gain since the start, made since halfway
COUNTS = (  # of a run, and numbers that it compares with
    "epoch",
    "checked_at",
    "improved_at",
    "restarts",
    "reference",
    "validation_loss",
    "learning_rate",
)
Number = TypeVar("Number", int, float)


class Objective(Protocol):
    """What a model minimises. Losses come row by row, to be weighted and averaged.

    Those of `own` rows alone are asked for where processes share a batch; what is drawn
    at random is then drawn for all of it. In the first `warm_up_epochs` the training
    loss is not yet what is aimed at.
    """

    generator: torch.Generator
    warm_up_epochs: int

    @property
    def module(self) -> nn.Module: ...

    def begin_epoch(self, epoch: int, rate: float) -> None: ...

    def training_loss(self, cells: Cells, own: slice | None = None) -> Tensor: ...

    def validation_loss(self, cells: Cells, own: slice | None = None) -> Tensor: ...


@dataclass
class History:
    """What happened in training.

    The validation curve has one value per epoch, the latest one measured by then. The
    history is short if the epochs ended where the judged loss was still falling.
    `interrupted` says whether the user ended it.
    """

    start_loss: float
    best_loss: float
    best_epoch: int = 0
    loss_curve: list[float] = field(default_factory=list)
    validation_curve: list[float] = field(default_factory=list)
    is_short: bool = False
    interrupted: bool = False

    @property
    def diverged(self) -> bool:
        """Whether the training loss became infinite or NaN and did not recover."""
        return bool(self.loss_curve) and not math.isfinite(self.loss_curve[-1])


@dataclass(frozen=True)
class Pace:
    """What "auto" stands for, and how often the judges are asked.

    Attributes
    ----------
    batch_rows : int
    n_steps : int
        Gradient steps of a fit, unless five epochs are more.
    learning_rate : float
        Of Adam.
    width_factor : float
        Of that learning rate, where layers are wide. Weights decay as without it.
    square_decay : float
        Of Adam.
    fall_share : float
        Share of the steps over which the learning rate falls.
    check_steps, patience_steps : int
        Gradient steps from one judgement to the next, and without an improvement until
        training winds down.
    fall_patience_steps : float
        The same while the learning rate falls, until training ends.
    least_gain : float
        Share of the start's loss below which a gain is none.
    judging_share : float or None
        Of the rows, where these are not few. None has all rows train and judge.
    """

    batch_rows: int = 128
    n_steps: int = 3000
    learning_rate: float = LEARNING_RATES["adam"]
    width_factor: float = 1.0
    square_decay: float = SQUARE_DECAY
    fall_share: float = 0.1
    check_steps: int = 50
    patience_steps: int = 400
    fall_patience_steps: float = math.inf
    least_gain: float = 0.0
    judging_share: float | None = 0.1


@dataclass(frozen=True)
class Settings:
    """How to descend: parameters of the estimators, "auto" included."""

    solver: str = "adam"
    learning_rate: float | str = "auto"
    momentum: float = 0.9
    weight_decay: float = 0.01
    l1_penalty: float = 0.0
    batch_size: int | str = "auto"
    max_iter: int | str = "auto"
    tol: float = 0.0
    n_iter_no_change: int | str = "auto"
    early_stopping: bool = True


class Report(Protocol):
    """Who is told how training goes."""

    def begin(self, max_epochs: int) -> None: ...

    def epoch(self, epoch: int, history: History) -> bool:
        """Return whether to stop here."""

    def end(self, history: History) -> None: ...


class Training:
    """A run of gradient descent that leaves the best weights seen in the module.

    Parameters
    ----------
    objective : Objective
    rows, validation : Rows
        What the gradient sees, and what decides which weights are best.
    penalised : list of nn.Parameter
        Weights under weight decay and the L1 penalty.
    report : Report
    prefer_start : bool
        Keep the start unless training improves on it significantly.
    settings : Settings
    pace : Pace, default=Pace()
    group : Alone or Group, default=ALONE
        Processes that share each batch.
    checkpoint : Checkpoint, default=None
        Where the state of the run is kept, and where it goes on from.
    """

    def __init__(
        self,
        objective: Objective,
        rows: Rows,
        validation: Rows,
        penalised: list[nn.Parameter],
        report: Report,
        *,
        prefer_start: bool,
        settings: Settings,
        pace: Pace | None = None,
        group: Alone = ALONE,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.pace = pace = pace or Pace()
        self.objective = objective
        self.weights = Weights(objective.module, penalised)
        self.channel = group.channel(self.weights.vector, len(validation))
        self.rows = self.channel.share(rows)
        self.validation = self.channel.share(validation)
        self.checkpoint = checkpoint
        self.report = report
        self.prefer_start = prefer_start
        self.settings = settings
        self.batch_size = _resolve(settings.batch_size, pace.batch_rows)
        n_batches = math.ceil(len(rows) / self.batch_size)
        steps_per_epoch = 1 if settings.solver == "lbfgs" else n_batches
        enough = max(rows.fewest_epochs, math.ceil(pace.n_steps / steps_per_epoch))
        enough += objective.warm_up_epochs
        patient = math.ceil(pace.patience_steps / steps_per_epoch)
        self.cycle = Cycle(
            _resolve(settings.max_iter, enough), steps_per_epoch, pace.fall_share
        )
        self.is_long = enough < MOST_EPOCHS
        # Of so many rows, the slow fall is where most is learned.
        self.is_very_long = rows.fewest_epochs * steps_per_epoch > pace.n_steps
        self.most_epochs = self.cycle.last_epoch
        if isinstance(settings.max_iter, str):
            self.most_epochs = max(MOST_EPOCHS, self.cycle.last_epoch)
        self.check_epochs = max(
            math.ceil(pace.check_steps / steps_per_epoch),
            math.ceil(
                ROWS_PER_JUDGE * len(validation) / (len(rows) * rows.n_members**2)
            ),
        )
        self.patience = self.fall_patience = math.inf
        if settings.early_stopping:
            self.patience = _resolve(settings.n_iter_no_change, patient)
            self.fall_patience = pace.fall_patience_steps / steps_per_epoch
        usual = LEARNING_RATES | {"adam": pace.learning_rate * pace.width_factor}
        self.learning_rate = _resolve(settings.learning_rate, usual[settings.solver])
        self.solver = self._make_solver()

    def run(self) -> History:
        with self.channel.open():
            self._begin()
            try:
                self._run_epochs()
            except self.channel.interrupt:
                self.history.interrupted = True
                if self.checkpoint is not None:
                    self.checkpoint.files.stays = True
                del self.history.loss_curve[len(self.history.validation_curve) :]
            return self._finish()

    def _run_epochs(self) -> None:
        while self.epoch < self.cycle.last_epoch and self.restarts <= RESTARTS:
            loss = self._run_epoch()
            if not math.isfinite(loss):
                self._restart()
            if self._is_due():
                self._check()
            self.history.loss_curve.append(loss)
            self.history.validation_curve.append(self.validation_loss)
            if self.channel.stops(lambda: self.report.epoch(self.epoch, self.history)):
                self._check()
                break
            if self._is_tired():
                if not self._winds_down():
                    break
            elif self._is_crossing() and self._is_still_falling():
                self._go_on()
            if self.checkpoint is not None:
                self.checkpoint.epoch(self)

    @property
    def products_per_step(self) -> int:
        """Numbers that a step multiplies on its way through the networks."""
        return min(self.batch_size, len(self.rows)) * len(self.weights.vector)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.weights.vector.device

    @property
    def module(self) -> nn.Module:
        """What is trained."""
        return self.objective.module

    def state(self) -> dict[str, Any]:
        """Return what it takes to go on from the end of an epoch."""
        return {
            "weights": self.weights.state(),
            "solver": self.solver.state(),
            "best": self.best.state(),
            "cycle": vars(self.cycle),
            "history": vars(self.history),
            "counts": {name: getattr(self, name) for name in COUNTS},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from where a run was, in this one that has just begun."""
        vars(self).update(state["counts"])
        self.solver = self._make_solver()
        for name in ("weights", "solver", "best"):
            getattr(self, name).load_state(state[name])
        vars(self.cycle).update(state["cycle"])
        vars(self.history).update(state["history"])

    def _begin(self) -> None:
        self.channel.align(self.weights.vector)
        self.best = Best(self.weights, self.validation, self._validation_losses())
        self.history = History(start_loss=self.best.loss, best_loss=self.best.loss)
        self.validation_loss = self.reference = self.best.loss
        self.epoch = self.checked_at = self.improved_at = self.restarts = 0
        self.report.begin(self.most_epochs)
        if self.checkpoint is not None:
            self.checkpoint.resume(self)

    def _run_epoch(self) -> float:
        first_step = self.epoch * self.cycle.steps_per_epoch
        self.objective.begin_epoch(self.epoch, self.cycle.rate(first_step))
        self.objective.module.train()
        batches = self.rows.batches(self.batch_size, self.objective.generator)
        loss = self.solver.epoch(batches, self._loss, self.cycle.rates(self.epoch))
        self.epoch += 1
        return loss

    def _loss(self, batch: Rows) -> Tensor:
        return batch.loss(self.objective.training_loss)

    def _restart(self) -> None:
        """Go back to the best weights with a tenth of the learning rate."""
        self.restarts += 1
        self.weights.restart_from(self.best.snapshot)
        self.learning_rate /= 10
        self.solver = self._make_solver()

    def _check(self) -> None:
        """Measure the validation loss.

        Patience, and the choice of the best weights, begin with the end of the warm-up.
        """
        warms_up = self.epoch <= self.objective.warm_up_epochs
        judge = self.best.begin_anew if warms_up else self.best.update
        with self.as_judged():
            self.validation_loss = judge(self.epoch, self._validation_losses())
        self.checked_at = self.epoch
        if warms_up or not self.best.loss >= self.reference - self.settings.tol:
            self.reference, self.improved_at = self.best.loss, self.epoch

    def as_judged(self) -> AbstractContextManager[None]:
        """Put in place what validation judges: averaged weights, if there are such."""
        return self.weights.averaged() if self.solver.has_rate else nullcontext()

    def _validation_losses(self) -> Tensor:
        self.objective.module.eval()
        with torch.no_grad():
            return self.validation.evaluate(self.objective.validation_loss)

    def _is_tired(self) -> bool:
        """Tell whether the judges have seen nothing better for too long."""
        if self.epoch != self.checked_at:
            return False
        if not self._falls():
            return self.epoch - self.improved_at >= self.patience
        since = max(self.improved_at, self.cycle.fall_epoch)
        return self.epoch - since >= self.fall_patience

    def _falls(self) -> bool:
        return self.solver.has_rate and self.cycle.falls_in(self.epoch)

    def _winds_down(self) -> bool:
        """Let the learning rate fall from the best weights; False if it cannot."""
        can_fall = self.solver.has_rate and not self._falls()
        if can_fall:
            self.weights.restart_from(self.best.snapshot)
            slow = self.epoch // 2 if self.is_very_long else 0
            self.cycle.fall_from(self.epoch, slow)
        return can_fall

    def _is_due(self) -> bool:
        """Tell whether to ask the judges."""
        is_late = self.epoch - self.checked_at >= self.check_epochs
        return is_late or self.epoch == self.cycle.last_epoch or self._is_crossing()

    def _is_crossing(self) -> bool:
        """Tell whether to fall or to go on, where rows have been seen but few times."""
        return self.is_long and self.epoch == self.cycle.fall_epoch

    def _is_still_falling(self) -> bool:
        """Tell whether the later half of the way brought much of what was gained."""
        start = self.best.start_loss
        halfway = [start, *self.history.validation_curve][self.epoch // 2]
        gain = start - self.validation_loss
        return halfway - self.validation_loss > STILL_FALLING * gain > 0

    def _go_on(self) -> None:
        """Put off the fall of the learning rate; tell where the user has to."""
        can_grow = self.cycle.last_epoch < self.most_epochs
        self.history.is_short = not can_grow
        self.cycle.doubled(self.most_epochs)

    def _finish(self) -> History:
        self.best.restore(
            prefer_start=self.prefer_start, least_gain=self.pace.least_gain
        )
        self.history.best_loss = self.best.loss
        self.history.best_epoch = self.best.epoch
        self.objective.module.eval()
        self.report.end(self.history)
        return self.history

    def _make_solver(self) -> GradientSolver | LBFGS:
        settings = self.settings
        if settings.solver == "lbfgs":
            return LBFGS(
                self.weights,
                self.objective.generator,
                self.learning_rate,
                weight_decay=settings.weight_decay,
                l1_penalty=settings.l1_penalty,
            )
        is_slower = settings.solver == "adam" and settings.learning_rate == "auto"
        factor = self.pace.width_factor if is_slower else 1.0
        return GradientSolver(
            self.weights,
            settings.solver,
            self.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay / factor,
            l1_penalty=settings.l1_penalty,
            square_decay=self.pace.square_decay,
        )


def _resolve(value: Number | str, default: Number) -> Number:
    """Return a parameter's value, or the default that "auto" stands for."""
    return default if isinstance(value, str) else value
