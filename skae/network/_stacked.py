"""Several modules of one design as one, which answers for all of them at once.

A stacked weight matrix has shape (n_members, n_outputs, n_inputs), a vector
(n_members, 1, n): products and sums of rows of shape (n_rows, n_inputs) then broadcast
to (n_members, n_rows, n_outputs). One step of all members costs little more than one
of a single member.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._autoencoders import Autoencoder, network_weights
from ._layers import HardThreshold, LinearPath
from ._likelihoods import LearnedNoise

# Layers whose buffers differ by member.
OWN_BUFFERS = (LinearPath, LearnedNoise, HardThreshold)


def stacked(members: Sequence[Autoencoder]) -> Autoencoder:
    """Put members of one design on top of each other."""
    whole = copy.deepcopy(members[0])
    layers = [dict(member.named_modules()) for member in members]
    for name, layer in whole.named_modules():
        of_members = [by_name[name] for by_name in layers]
        for key, parameter in layer.named_parameters(recurse=False):
            values = _stack([m.get_parameter(key).detach() for m in of_members])
            layer.register_parameter(
                key, nn.Parameter(values, requires_grad=parameter.requires_grad)
            )
        if isinstance(layer, OWN_BUFFERS):
            for key, _ in layer.named_buffers(recurse=False):
                values = _stack([m.get_buffer(key) for m in of_members])
                layer.register_buffer(key, values)
    return whole


def load_member(whole: Autoencoder, index: int, into: Autoencoder) -> Autoencoder:
    """Copy the weights of one member of a stack."""
    with torch.no_grad():
        for name, parameter in into.named_parameters():
            part = whole.get_parameter(name)[index]
            parameter.copy_(part.reshape(parameter.shape))
    return into


def stacked_weights(whole: Autoencoder, member: Autoencoder) -> list[nn.Parameter]:
    """Trainable matrices of a stack: those that are matrices in a member of it."""
    chosen = {id(parameter) for parameter in network_weights(member)}
    return [
        whole.get_parameter(name)
        for name, parameter in member.named_parameters()
        if id(parameter) in chosen
    ]


def _stack(tensors: list[Tensor]) -> Tensor:
    values = torch.stack(tensors)
    return values[:, None] if values.ndim == 2 else values
