"""All trainable weights of a module in one vector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

AVERAGING = 0.99  # decay of the moving average of the weights


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

    def state(self) -> dict[str, Any]:
        """Return what it takes to go on from here."""
        return {
            "tensors": self.snapshot(),
            "average": self._average,
            "n_averaged": self._n_averaged,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.load(state["tensors"])
        self._average, self._n_averaged = state["average"], state["n_averaged"]

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
