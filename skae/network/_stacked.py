"""Several modules of one design as one, which answers for all of them at once.

A stacked weight matrix has shape (n_members, n_outputs, n_inputs), a vector
(n_members, 1, n): products and sums of rows of shape (n_rows, n_inputs) then broadcast
to (n_members, n_rows, n_outputs). One step of all members costs little more than one
of a single member. Modules that a user brought answer one after another instead.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ._autoencoders import Autoencoder, network_weights
from ._layers import HardThreshold, LinearPath
from ._likelihoods import LearnedNoise

# Layers whose buffers differ by member.
STACKED_DIMENSIONS = 3  # of rows: members, rows, columns
OWN_BUFFERS = (LinearPath, LearnedNoise, HardThreshold)


class Members(nn.Module):
    """Modules of which each answers for itself, on its part of the rows.

    A row that a member judges does not reach it in training: a batch normalisation
    would learn of it, whatever its weight in the loss. The answer is then zero.

    Parameters
    ----------
    members : sequence of nn.Module
        From rows of shape (n_rows, n_inputs); the last judges none.

    Attributes
    ----------
    fold : Tensor of int of shape (n_rows,) or None
        Which member judges each of the rows that come next in training.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.fold: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim > STACKED_DIMENSIONS:  # several draws of the code of each row
            return torch.stack([self(draw) for draw in x])
        *others, rows = x.expand(len(self.members), *x.shape[-2:])
        last = self.members[-1](rows)
        answers = [self._answer(k, part, last) for k, part in enumerate(others)]
        return torch.stack([*answers, last])

    def _answer(self, index: int, x: Tensor, like: Tensor) -> Tensor:
        member = self.members[index]
        if self.fold is None or not self.training:
            return cast("Tensor", member(x))
        zeros, rows = torch.zeros_like(like), (self.fold != index).nonzero()[:, 0]
        if len(rows) == 0:
            return zeros
        # A lone row comes twice: what normalises batches refuses it.
        twice = rows.repeat(2) if len(rows) == 1 else rows
        return zeros.index_copy(0, rows, member(x[twice])[: len(rows)])


def stacked(members: Sequence[Autoencoder], own: Sequence[str] = ()) -> Autoencoder:
    """Put members of one design on top of each other.

    Parameters
    ----------
    members : sequence of Autoencoder
    own : sequence of str
        Where the modules that the user brought are in each. The stack has these
        themselves, of which not all could be copied.
    """
    kept = {name: [member.get_submodule(name) for member in members] for name in own}
    memo: dict[int, Any] = {id(modules[0]): modules[0] for modules in kept.values()}
    whole = copy.deepcopy(members[0], memo)
    for name, modules in kept.items():
        whole.set_submodule(name, Members(modules))
    layers = [dict(member.named_modules()) for member in members]
    for name, layer in whole.named_modules():
        if _place(name, own) is not None:
            continue
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
    """Copy the weights of one member of a stack, and all that its own modules hold."""
    own = _own_modules(whole)
    for place, layer in own.items():
        into.get_submodule(place).load_state_dict(layer.members[index].state_dict())
    with torch.no_grad():
        for name, parameter in into.named_parameters():
            if _place(name, own) is None:
                part = whole.get_parameter(name)[index]
                parameter.copy_(part.reshape(parameter.shape))
    return into


def stacked_weights(whole: Autoencoder, member: Autoencoder) -> list[nn.Parameter]:
    """Trainable matrices of a stack: those that are matrices in a member of it."""
    chosen = {id(parameter) for parameter in network_weights(member)}
    own = _own_modules(whole)
    found: list[nn.Parameter] = []
    for name, parameter in member.named_parameters():
        if id(parameter) not in chosen:
            continue
        if (place := _place(name, own)) is None:
            found.append(whole.get_parameter(name))
        else:
            inside = name.removeprefix(f"{place}.")
            found += [one.get_parameter(inside) for one in own[place].members]
    return found


def _own_modules(whole: Autoencoder) -> dict[str, Members]:
    return {n: m for n, m in whole.named_modules() if isinstance(m, Members)}


def _place(name: str, own: Iterable[str]) -> str | None:
    """Tell which of a user's modules a layer or parameter is in, None for neither."""
    return next((o for o in own if name == o or name.startswith(f"{o}.")), None)


def _stack(tensors: list[Tensor]) -> Tensor:
    values = torch.stack(tensors)
    return values[:, None] if values.ndim == 2 else values
