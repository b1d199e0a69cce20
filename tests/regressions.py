"""An affine network, its weights in one vector, and a table that it can learn."""

from __future__ import annotations

import torch
from models import draws, generator
from torch import nn

from skae.network._layers import linear
from skae.training._weights import Weights


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


def regression(n_rows=30):
    x, noise = draws(n_rows, 3), draws(n_rows, 1, seed=1)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]).double() + 0.3 + 0.1 * noise
    return torch.cat([x, y], dim=1)
