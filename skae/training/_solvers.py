"""Solvers, and the schedule of their learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ._rows import Rows
from ._weights import Weights

SQUARE_DECAY = 0.999  # of the average of squared gradients in Adam
WARM_UP_STEPS = 100
DECAY_STEPS = 300
WIND_DOWN_STEPS = 200
LEARNING_RATES = {"adam": 5e-3, "sgd": 5e-2, "lbfgs": 1.0}


class Adam:
    """Steps of Adam on one vector.

    References
    ----------
    Kingma, D. P. and Ba, J. (2015). Adam: A method for stochastic optimization. ICLR.
    """

    MEAN_DECAY, EPSILON = 0.9, 1e-8

    def __init__(self, vector: Tensor, square_decay: float) -> None:
        self.mean = torch.zeros_like(vector)
        self.square = torch.zeros_like(vector)
        self.square_decay = square_decay
        self.n_steps = 0

    def step(self, vector: Tensor, gradient: Tensor, rate: float) -> None:
        """Move the vector in place."""
        self.n_steps += 1
        self.mean.lerp_(gradient, 1 - self.MEAN_DECAY)
        self.square.lerp_(gradient.square(), 1 - self.square_decay)
        mean_mass = 1 - self.MEAN_DECAY**self.n_steps
        square_mass = 1 - self.square_decay**self.n_steps
        deviation = self.square.sqrt().add_(self.EPSILON * square_mass**0.5)
        length = -rate * square_mass**0.5 / mean_mass
        vector.addcdiv_(self.mean, deviation, value=length)


class Nesterov:
    """Steps along the gradient with Nesterov's momentum."""

    def __init__(self, vector: Tensor, momentum: float) -> None:
        self.velocity = torch.zeros_like(vector)
        self.momentum = momentum

    def step(self, vector: Tensor, gradient: Tensor, rate: float) -> None:
        """Move the vector in place."""
        self.velocity.mul_(self.momentum).add_(gradient)
        vector.add_(gradient, alpha=-rate)
        vector.add_(self.velocity, alpha=-rate * self.momentum)


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
        square_decay: float = SQUARE_DECAY,
    ) -> None:
        self.weights = weights
        self.learning_rate = learning_rate
        self.decay = weight_decay if name == "adam" else 0.0
        self.l2_penalty = weight_decay if name == "sgd" else 0.0
        self.l1_penalty = l1_penalty
        self.step_of: Adam | Nesterov = Nesterov(weights.vector, momentum)
        if name == "adam":
            self.step_of = Adam(weights.vector, square_decay)

    def epoch(
        self,
        batches: Iterator[Rows],
        loss_of: Callable[[Rows], Tensor],
        rates: Iterator[float],
    ) -> float:
        """Take one step per batch and return the mean loss."""
        total, n_rows = self.weights.vector.new_zeros(()), 0
        for batch in batches:
            rate = self.learning_rate * next(rates)
            self.weights.gradient.zero_()
            loss = loss_of(batch)
            (loss * batch.n_members).backward()
            loss, n_merged = batch.merge(loss.detach(), self.weights.gradient)
            if self.l2_penalty > 0:
                penalised = self.weights.penalised
                self.weights.penalised_gradient.add_(penalised, alpha=self.l2_penalty)
            with torch.no_grad():
                self.step_of.step(self.weights.vector, self.weights.gradient, rate)
            self._shrink(rate)
            self.weights.average()
            total = total + loss * n_merged
            n_rows += n_merged
        return float(total) / n_rows

    def state(self) -> dict[str, Any]:
        """Return what the steps so far have left."""
        return dict(vars(self.step_of))

    def load_state(self, state: dict[str, Any]) -> None:
        vars(self.step_of).update(state)

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

    def state(self) -> dict[str, Any]:
        """Return what the steps so far have left."""
        return self.optimizer.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

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

    The fall takes the last `fall_share` of `max_epochs`, or begins when `fall_from` is
    called and is short then.
    """

    def __init__(
        self, max_epochs: int, steps_per_epoch: int, fall_share: float = 0.1
    ) -> None:
        total = max_epochs * steps_per_epoch
        self.steps_per_epoch = steps_per_epoch
        self.fall_share = fall_share
        self.rise_steps = min(WARM_UP_STEPS, total // 10)
        self._end_at(max_epochs)

    def _end_at(self, last_epoch: int) -> None:
        self.last_epoch = last_epoch
        total = last_epoch * self.steps_per_epoch
        fall = max(self.fall_share * total, min(DECAY_STEPS, total // 3))
        self.fall_epochs = math.ceil(fall / self.steps_per_epoch)

    @property
    def fall_epoch(self) -> int:
        """Epoch that the fall begins with."""
        return self.last_epoch - self.fall_epochs

    def doubled(self, most_epochs: int) -> None:
        """Go on for twice as long."""
        self._end_at(max(min(2 * self.last_epoch, most_epochs), self.last_epoch))

    def fall_from(self, epoch: int, fewest_epochs: int = 0) -> None:
        """Begin the fall now, over a few hundred steps or some epochs."""
        few = max(math.ceil(WIND_DOWN_STEPS / self.steps_per_epoch), fewest_epochs)
        self.fall_epochs = min(self.fall_epochs, few)
        self.last_epoch = min(self.last_epoch, epoch + self.fall_epochs)

    def falls_in(self, epoch: int) -> bool:
        return epoch >= self.fall_epoch

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
