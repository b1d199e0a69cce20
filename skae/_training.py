"""One training loop for every model: batches, steps, validation, best weights, stop.

Everything is counted in gradient steps where patience is meant: on a table of a few
hundred rows an epoch is one step or two.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from scipy.special import stdtrit
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn import functional

from ._torch import Cells

STEPS_PER_CHECK = 50
ROWS_PER_JUDGE = 4  # rows trained on per row judged: judging stays below a tenth
PATIENCE_STEPS = 400
WARM_UP_STEPS = 100
DECAY_STEPS = 300
AVERAGING = 0.99  # decay of the moving average of the weights
EVALUATION_ROWS = 4096
RESTARTS = 5
BATCH_ROWS = 128
DEFAULT_STEPS = 3000
FEWEST_EPOCHS = 5
MOST_JUDGES = 5000
Number = TypeVar("Number", int, float)
LEARNING_RATES = {"adam": 5e-3, "sgd": 5e-2, "lbfgs": 1.0}


class Objective(Protocol):
    """What a model minimises. Losses come row by row, to be weighted and averaged."""

    generator: torch.Generator

    @property
    def module(self) -> nn.Module: ...

    def begin_epoch(self, epoch: int, rate: float) -> None: ...

    def training_loss(self, cells: Cells) -> Tensor: ...

    def validation_loss(self, cells: Cells) -> Tensor: ...


@dataclass(frozen=True)
class Rows:
    """Some rows of a table on the device, without a copy of them."""

    cells: Cells
    index: Tensor
    weight: Tensor | None = None

    @classmethod
    def all_of(cls, cells: Cells, weight: Tensor | None = None) -> Rows:
        return cls(cells, torch.arange(len(cells), device=cells.device), weight)

    def __len__(self) -> int:
        return len(self.index)

    def first(self, n_rows: int) -> Cells:
        """Return the values of up to `n_rows` rows."""
        return self.cells.index_select(0, self.index[:n_rows])

    def spread(self, n_rows: int) -> tuple[Cells, Tensor]:
        """Return up to `n_rows` of the table's rows, evenly spaced, and their weights.

        Rows of the other part of a split are among them.
        """
        n_cells = len(self.cells)
        places = np.linspace(0, n_cells - 1, min(n_rows, n_cells)).round().astype(int)
        index = torch.from_numpy(places).to(self.index.device)
        cells = self.cells.index_select(0, index)
        if self.weight is None:
            return cells, torch.ones_like(cells.values[:, 0])
        return cells, self.weight[index]

    def drawn(self, n_rows: int, seed: int) -> Cells:
        """Return up to `n_rows` rows, drawn by their weights where they have such."""
        if self.weight is None:
            return self.first(n_rows)
        chances = self.weight[self.index].double().cpu().numpy()
        generator = np.random.default_rng(seed)
        chosen = generator.choice(
            len(self), min(n_rows, len(self)), p=chances / chances.sum()
        )
        index = torch.from_numpy(chosen).to(self.index.device)
        return self.cells.index_select(0, self.index[index])

    def batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Rows]:
        """Cut the rows, shuffled, into batches of equal size up to `batch_size`."""
        n_batches = math.ceil(len(self) / batch_size)
        if n_batches == 1:
            yield self
            return
        order = torch.randperm(len(self), generator=generator, device=self.index.device)
        for part in self.index[order].tensor_split(n_batches):
            yield Rows(self.cells, part, self.weight)

    def values(self) -> Cells:
        return self.cells.index_select(0, self.index)

    def mean(self, losses: Tensor) -> Tensor:
        """Average losses of these rows. Weights have a mean of one over the table."""
        if self.weight is None:
            return losses.mean()
        return (losses * self.weight[self.index]).mean()

    def evaluate(self, loss: Callable[[Cells], Tensor]) -> Tensor:
        """Compute the losses of all rows, a chunk at a time."""
        parts = self.index.split(EVALUATION_ROWS)
        return torch.cat([loss(self.cells.index_select(0, part)) for part in parts])


class Weights:
    """All trainable weights of a module, laid out in one vector.

    A step, an average or a copy is then one operation, however many layers there are.
    The vector begins with the matrices that weight decay and the L1 penalty act on.
    """

    def __init__(self, module: nn.Module, penalised: list[nn.Parameter]) -> None:
        chosen = {id(parameter) for parameter in penalised}
        others = [
            parameter
            for parameter in module.parameters()
            if parameter.requires_grad and id(parameter) not in chosen
        ]
        self.vector, self.gradient = _flatten([*penalised, *others])
        n_penalised = sum(parameter.numel() for parameter in penalised)
        self.penalised = self.vector[:n_penalised]
        self.penalised_gradient = self.gradient[:n_penalised]
        self.buffers = list(module.buffers())
        self._average = self.vector.clone()
        self._n_averaged = 0

    def snapshot(self) -> list[Tensor]:
        return [tensor.clone() for tensor in (self.vector, *self.buffers)]

    def load(self, snapshot: list[Tensor]) -> None:
        for tensor, saved in zip((self.vector, *self.buffers), snapshot, strict=True):
            tensor.copy_(saved)

    def average(self) -> None:
        """Move the average of the weights a step towards where they are now."""
        self._n_averaged += 1
        share = max(1 - AVERAGING, 1 / (self._n_averaged + 1))
        self._average.lerp_(self.vector, share)

    def restart_from(self, snapshot: list[Tensor]) -> None:
        self.load(snapshot)
        self._average = self.vector.clone()
        self._n_averaged = 0

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights in place inside the block."""
        current = self.vector.clone()
        self.vector.copy_(self._average)
        try:
            yield
        finally:
            self.vector.copy_(current)


def _flatten(parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
    """Make parameters views of one vector, and their gradients of another."""
    if not parameters:
        raise ValueError("got networks without a trainable weight, but expected some.")
    vector = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    gradient = torch.zeros_like(vector)
    vector.grad = gradient
    start = 0
    for parameter in parameters:
        part = slice(start, start + parameter.numel())
        parameter.data = vector[part].view(parameter.shape)
        parameter.grad = gradient[part].view(parameter.shape)
        start = part.stop
    return vector, gradient


class GradientSolver:
    """Adam with decoupled weight decay [1]_, or SGD with Nesterov momentum.

    The L1 penalty is decoupled too: each step ends with the soft threshold, its
    proximal map, so that weights become exactly zero.

    References
    ----------
    .. [1] Loshchilov, I. and Hutter, F. (2019). Decoupled weight decay regularization.
       ICLR.
    """

    has_rate = True  # that can fall, and steps noisy enough to average

    def __init__(
        self,
        weights: Weights,
        name: str,
        learning_rate: float,
        *,
        momentum: float,
        weight_decay: float,
        l1_penalty: float,
    ) -> None:
        self.weights = weights
        self.learning_rate = learning_rate
        self.decay = weight_decay if name == "adam" else 0.0
        self.l2_penalty = weight_decay if name == "sgd" else 0.0
        self.l1_penalty = l1_penalty
        vectors = [weights.vector]
        self.optimizer: torch.optim.Optimizer
        if name == "adam":
            self.optimizer = torch.optim.Adam(vectors, learning_rate, fused=True)
        else:
            self.optimizer = torch.optim.SGD(
                vectors, learning_rate, momentum=momentum, nesterov=momentum > 0
            )

    def epoch(
        self,
        batches: Iterator[Rows],
        loss_of: Callable[[Rows], Tensor],
        rates: Iterator[float],
    ) -> float:
        """Take one step per batch and return the mean loss."""
        total, n_rows = self.weights.vector.new_zeros(()), 0
        (group,) = self.optimizer.param_groups
        for batch in batches:
            group["lr"] = rate = self.learning_rate * next(rates)
            self.weights.gradient.zero_()
            loss = loss_of(batch)
            loss.backward()
            if self.l2_penalty > 0:
                penalised = self.weights.penalised
                self.weights.penalised_gradient.add_(penalised, alpha=self.l2_penalty)
            self.optimizer.step()
            self._shrink(rate)
            self.weights.average()
            total = total + loss.detach() * len(batch)
            n_rows += len(batch)
        return float(total) / n_rows

    def _shrink(self, rate: float) -> None:
        penalised = self.weights.penalised
        if self.decay > 0:
            penalised.mul_(1 - rate * self.decay)
        if self.l1_penalty > 0:
            penalised.copy_(functional.softshrink(penalised, rate * self.l1_penalty))


class LBFGS:
    """Limited-memory BFGS with a strong Wolfe line search over the whole table.

    An epoch is one quasi-Newton step. The penalties are part of the loss here, and the
    random draws of an epoch are the same at every point that the line search visits.
    """

    has_rate = False

    def __init__(
        self,
        weights: Weights,
        generator: torch.Generator,
        learning_rate: float,
        *,
        weight_decay: float,
        l1_penalty: float,
    ) -> None:
        self.weights = weights
        self.generator = generator
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.l1_penalty = l1_penalty
        self.optimizer = torch.optim.LBFGS(
            [weights.vector],
            learning_rate,
            max_iter=1,
            max_eval=20,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

    def epoch(
        self,
        batches: Iterator[Rows],
        loss_of: Callable[[Rows], Tensor],
        rates: Iterator[float],
    ) -> float:
        """Take one step over all batches and return the mean loss before it."""
        parts = list(batches)
        n_rows = sum(map(len, parts))
        draws = self.generator.get_state()

        def closure() -> Tensor:
            self.generator.set_state(draws)
            self.weights.gradient.zero_()
            total = self._penalty()
            for part in parts:
                loss = loss_of(part) * (len(part) / n_rows)
                loss.backward()
                total = total + loss.detach()
            return total

        return float(self.optimizer.step(closure))

    def _penalty(self) -> Tensor:
        """Add the gradient of the penalties and return their value."""
        weights = self.weights.penalised
        gradient = self.weights.penalised_gradient
        gradient.add_(weights, alpha=self.weight_decay)
        gradient.add_(weights.sign(), alpha=self.l1_penalty)
        squares = 0.5 * self.weight_decay * weights.square().sum()
        return squares + self.l1_penalty * weights.abs().sum()


class Cycle:
    """The learning rate over a fit: a short rise, a plateau, a fall to zero.

    The fall is at the end of `max_epochs`, or begins when `fall_from` is called.
    """

    def __init__(self, max_epochs: int, steps_per_epoch: int) -> None:
        total = max_epochs * steps_per_epoch
        self.steps_per_epoch = steps_per_epoch
        self.rise_steps = min(WARM_UP_STEPS, total // 10)
        fall = min(max(DECAY_STEPS, total // 10), total // 3)
        self.fall_epochs = math.ceil(fall / steps_per_epoch)
        self.last_epoch = max_epochs

    def fall_from(self, epoch: int) -> None:
        self.last_epoch = min(self.last_epoch, epoch + self.fall_epochs)

    def falls_in(self, epoch: int) -> bool:
        return epoch >= self.last_epoch - self.fall_epochs

    def rate(self, step: int) -> float:
        """Factor of the learning rate at a step, counted from 0."""
        rise = (step + 1) / (self.rise_steps + 1)
        left = self.last_epoch * self.steps_per_epoch - step
        fall = left / max(self.fall_epochs * self.steps_per_epoch, 1)
        return min(1.0, rise, fall)

    def rates(self, epoch: int) -> Iterator[float]:
        """Factors for the steps of an epoch, counted from 0."""
        start = epoch * self.steps_per_epoch
        return map(self.rate, range(start, start + self.steps_per_epoch))


@dataclass
class History:
    """What happened in training.

    The validation curve has one value per epoch, the latest one measured by then.
    """

    start_loss: float
    best_loss: float
    best_epoch: int = 0
    loss_curve: list[float] = field(default_factory=list)
    validation_curve: list[float] = field(default_factory=list)


class Best:
    """The best weights seen so far by the validation rows, the start included."""

    def __init__(self, weights: Weights, rows: Rows, losses: Tensor) -> None:
        self.weights = weights
        self.rows = rows
        self.start_losses = self.losses = losses
        self.start = self.snapshot = weights.snapshot()
        self.start_loss = self.loss = float(rows.mean(losses))
        self.epoch = 0

    def update(self, epoch: int, losses: Tensor) -> float:
        """Remember the weights in place if they are better; return their loss."""
        loss = float(self.rows.mean(losses))
        if loss < self.loss or (math.isfinite(loss) and not math.isfinite(self.loss)):
            self.losses, self.loss, self.epoch = losses, loss, epoch
            self.snapshot = self.weights.snapshot()
        return loss

    def restore(self, *, prefer_start: bool) -> None:
        """Put the best weights in place.

        With `prefer_start` the start stays unless the gain over it exceeds its own
        standard error, by Student's t where there are few rows.
        """
        if prefer_start and math.isfinite(self.start_loss) and not self._beats_start():
            self.snapshot, self.loss, self.epoch = self.start, self.start_loss, 0
        self.weights.load(self.snapshot)

    def _beats_start(self) -> bool:
        n_rows = len(self.rows)
        if n_rows < 2:
            return False
        gains = (self.start_losses - self.losses).double()
        if self.rows.weight is not None:
            gains = gains * self.rows.weight[self.rows.index].double()
        one_standard_error = float(stdtrit(n_rows - 1, 0.8413))
        error = float(gains.std()) / math.sqrt(n_rows)
        return float(gains.mean()) > one_standard_error * error


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
    solver, learning_rate, momentum, weight_decay, l1_penalty, batch_size, max_iter, \
    tol, n_iter_no_change, early_stopping
        As in the estimators, "auto" included.
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
        solver: str,
        learning_rate: float | str,
        momentum: float,
        weight_decay: float,
        l1_penalty: float,
        batch_size: int | str,
        max_iter: int | str,
        tol: float,
        n_iter_no_change: int | str,
        early_stopping: bool,
    ) -> None:
        self.objective = objective
        self.rows = rows
        self.validation = validation
        self.report = report
        self.prefer_start = prefer_start
        self.batch_size = _resolve(batch_size, BATCH_ROWS)
        n_batches = math.ceil(len(rows) / self.batch_size)
        steps_per_epoch = 1 if solver == "lbfgs" else n_batches
        enough = max(FEWEST_EPOCHS, math.ceil(DEFAULT_STEPS / steps_per_epoch))
        patient = math.ceil(PATIENCE_STEPS / steps_per_epoch)
        self.cycle = Cycle(_resolve(max_iter, enough), steps_per_epoch)
        self.check_epochs = max(
            math.ceil(STEPS_PER_CHECK / steps_per_epoch),
            math.ceil(ROWS_PER_JUDGE * len(validation) / len(rows)),
        )
        self.patience = math.inf
        if early_stopping:
            self.patience = _resolve(n_iter_no_change, patient)
        self.tol = tol
        self.learning_rate = _resolve(learning_rate, LEARNING_RATES[solver])
        self.weights = Weights(objective.module, penalised)
        self.solver_name = solver
        self.options = {
            "momentum": momentum,
            "weight_decay": weight_decay,
            "l1_penalty": l1_penalty,
        }
        self.solver = self._make_solver()

    def run(self) -> History:
        self._begin()
        while self.epoch < self.cycle.last_epoch and self.restarts <= RESTARTS:
            loss = self._run_epoch()
            if not math.isfinite(loss):
                self._restart()
            due = self.epoch - self.checked_at >= self.check_epochs
            if due or self.epoch == self.cycle.last_epoch:
                self._check()
            self.history.loss_curve.append(loss)
            self.history.validation_curve.append(self.validation_loss)
            if self.report.epoch(self.epoch, self.history):
                self._check()
                break
            if self._is_tired() and not self._winds_down():
                break
        return self._finish()

    def _begin(self) -> None:
        self.best = Best(self.weights, self.validation, self._validation_losses())
        self.history = History(start_loss=self.best.loss, best_loss=self.best.loss)
        self.validation_loss = self.reference = self.best.loss
        self.epoch = self.checked_at = self.improved_at = self.restarts = 0
        self.report.begin(self.cycle.last_epoch)

    def _run_epoch(self) -> float:
        first_step = self.epoch * self.cycle.steps_per_epoch
        self.objective.begin_epoch(self.epoch, self.cycle.rate(first_step))
        self.objective.module.train()
        batches = self.rows.batches(self.batch_size, self.objective.generator)
        loss = self.solver.epoch(batches, self._loss, self.cycle.rates(self.epoch))
        self.epoch += 1
        return loss

    def _loss(self, batch: Rows) -> Tensor:
        return batch.mean(self.objective.training_loss(batch.values()))

    def _restart(self) -> None:
        """Go back to the best weights with a tenth of the learning rate."""
        self.restarts += 1
        self.weights.restart_from(self.best.snapshot)
        self.learning_rate /= 10
        self.solver = self._make_solver()

    def _check(self) -> None:
        """Measure the validation loss, of the averaged weights where there are such."""
        averaged = self.weights.averaged() if self.solver.has_rate else nullcontext()
        with averaged:
            losses = self._validation_losses()
            self.validation_loss = self.best.update(self.epoch, losses)
        self.checked_at = self.epoch
        if not self.best.loss >= self.reference - self.tol:
            self.reference, self.improved_at = self.best.loss, self.epoch

    def _validation_losses(self) -> Tensor:
        self.objective.module.eval()
        with torch.no_grad():
            return self.validation.evaluate(self.objective.validation_loss)

    def _is_tired(self) -> bool:
        just_checked = self.epoch == self.checked_at
        return just_checked and self.epoch - self.improved_at >= self.patience

    def _winds_down(self) -> bool:
        """Let the learning rate fall from the best weights; False if there is none."""
        if self.solver.has_rate and not self.cycle.falls_in(self.epoch):
            self.weights.restart_from(self.best.snapshot)
            self.cycle.fall_from(self.epoch)
        return self.solver.has_rate

    def _finish(self) -> History:
        curve = self.history.loss_curve
        if curve and not math.isfinite(curve[-1]):
            message = DIVERGED.format(self.learning_rate)
            warnings.warn(message, ConvergenceWarning, stacklevel=7)
        self.best.restore(prefer_start=self.prefer_start)
        self.history.best_loss = self.best.loss
        self.history.best_epoch = self.best.epoch
        self.objective.module.eval()
        self.report.end(self.history)
        return self.history

    def _make_solver(self) -> GradientSolver | LBFGS:
        if self.solver_name == "lbfgs":
            return LBFGS(
                self.weights,
                self.objective.generator,
                self.learning_rate,
                weight_decay=self.options["weight_decay"],
                l1_penalty=self.options["l1_penalty"],
            )
        return GradientSolver(
            self.weights, self.solver_name, self.learning_rate, **self.options
        )


def _resolve(value: Number | str, default: Number) -> Number:
    """Return a parameter's value, or the default that "auto" stands for."""
    return default if isinstance(value, str) else value


DIVERGED = (
    "The training loss became infinite or NaN and did not recover, down to a learning "
    "rate of {:.1e}. The best weights seen before are kept. Lower learning_rate, or "
    "look for extreme values in the table."
)


def split_rows(
    cells: Cells, weight: Tensor | None, fraction: float | None, seed: int
) -> tuple[Rows, Rows]:
    """Choose the rows that the gradient sees and those that judge the weights.

    Up to 5,000 rows judge. Without a fraction every row is for training, theirs too.
    """
    n_rows = len(cells)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n_rows, generator=generator).to(cells.device)
    if fraction is None:
        training, judging = order, order[:MOST_JUDGES]
    else:
        n_judging = min(max(round(fraction * n_rows), 1), n_rows - 1, MOST_JUDGES)
        judging, training = order[:n_judging], order[n_judging:]
    judging_weight = None if weight is None else weight / weight[judging].mean()
    return Rows(cells, training, weight), Rows(cells, judging, judging_weight)
