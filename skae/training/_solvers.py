"""Solvers, and the schedule of their learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from ._rows import Rows
from ._weights import Weights

WARM_UP_STEPS = 100
DECAY_STEPS = 300
LEARNING_RATES = {"adam": 5e-3, "sgd": 5e-2, "lbfgs": 1.0}


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
            (loss * batch.n_members).backward()
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
