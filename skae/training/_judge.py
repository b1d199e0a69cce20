"""The best weights seen, the start included."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from .._statistics import exceed_their_error
from ._rows import Rows
from ._weights import Weights


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

    def begin_anew(self, epoch: int, losses: Tensor) -> float:
        """Forget what was seen but for the start; return the loss of what is in place.

        If that has no finite loss, the start is what there is.
        """
        loss = float(self.rows.mean(losses))
        if math.isfinite(loss):
            self.losses, self.loss, self.epoch = losses, loss, epoch
            self.snapshot = self.weights.snapshot()
        return loss

    def state(self) -> dict[str, Any]:
        """Return what has been seen since the start."""
        return {
            "losses": self.losses,
            "loss": self.loss,
            "epoch": self.epoch,
            "snapshot": self.snapshot,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def restore(self, *, prefer_start: bool, least_gain: float = 0.0) -> None:
        """Put the best weights in place.

        With `prefer_start` the start stays unless the gain over it exceeds its own
        standard error, by Student's t where there are few rows, and a share of the
        start's loss.
        """
        least = least_gain * abs(self.start_loss)
        is_gain = self.start_loss - self.loss > least and self._beats_start()
        stays = self.loss > self.start_loss or (prefer_start and not is_gain)
        if math.isfinite(self.start_loss) and stays:
            self.snapshot, self.loss, self.epoch = self.start, self.start_loss, 0
        self.weights.load(self.snapshot)

    def _beats_start(self) -> bool:
        # On the CPU, since Apple's GPUs have no doubles.
        gains = (self.start_losses - self.losses).cpu().double()
        if self.rows.weight is not None:
            gains = gains * self.rows.weight[self.rows.index].cpu().double()
        return exceed_their_error(gains.numpy())
