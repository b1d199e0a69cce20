"""What networks are made of, kept with a fit so that they can be made anew."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

import torch
from torch import nn

from .._schema import Block
from .._torch import seeded_globally
from ._layers import (
    ChancesAsLogits,
    Gate,
    ModuleFactory,
    OfDraws,
    multilayer_perceptron,
)

TRIED_CODES, FAR_OFF = 64, 1e4  # to tell outputs that are bounded from small ones


@dataclass(frozen=True)
class Design:
    """The parameters of the networks, and the columns that these stand between.

    Attributes
    ----------
    blocks : tuple of Block
    n_components : int
    hidden_layer_sizes : tuple of int
        Of the encoder; the decoder mirrors them.
    activation : str
    dropout : float
    linear_path : bool
    encoder, decoder : ModuleFactory or None
    is_variational : bool
    n_prior_components : int
        Parts of a mixture prior; none for the standard normal.
    incomplete : tuple of int
        Columns of the table, in the order of the blocks, that have missing cells.
    sparsity : float
        Share of the codes' entries that are zero.
    """

    blocks: tuple[Block, ...]
    n_components: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    dropout: float
    linear_path: bool
    encoder: ModuleFactory | None = None
    decoder: ModuleFactory | None = None
    is_variational: bool = False
    n_prior_components: int = 0
    incomplete: tuple[int, ...] = ()
    sparsity: float = 0.0

    @property
    def widths(self) -> list[int]:
        """Columns of the matrix for each of the table's."""
        return [width for block in self.blocks for width in block.widths]

    @property
    def n_columns(self) -> int:
        """Width of the matrix that the networks see."""
        return sum(self.widths)

    @property
    def n_numbers(self) -> int:
        """Columns of numbers, which come first."""
        return sum(block.width for block in self.blocks if block.is_numeric)

    @property
    def n_inputs(self) -> int:
        """Inputs of the encoder."""
        return self.n_columns + len(self.incomplete)

    @property
    def own_modules(self) -> tuple[str, ...]:
        """Where the modules that the user brought are in an autoencoder."""
        place = "{}.network.module" if self.linear_path else "{}"
        own = {"encoder": self.encoder, "decoder": self.decoder}
        return tuple(place.format(name) for name in own if own[name] is not None)

    def differences(self, other: Design) -> str:
        """Say which parameters differ from those of another design."""
        pairs = (
            (f.name, getattr(self, f.name), getattr(other, f.name))
            for f in fields(self)
        )
        return ", ".join(f"{name}={a!r} (not {b!r})" for name, a, b in pairs if a != b)

    def network(
        self,
        n_inputs: int,
        n_outputs: int,
        generator: torch.Generator,
        *,
        encodes: bool,
    ) -> nn.Module:
        """Make the nonlinear network of one direction, the decoder's mirrored."""
        factory = self.encoder if encodes else self.decoder
        if factory is not None:
            module = _users_module(factory, n_inputs, n_outputs)
            if not encodes:
                module = self._in_logits(module, n_inputs)
                module = OfDraws(module) if self.is_variational else module
            return Gate(module, n_outputs) if self.linear_path else module
        hidden = self.hidden_layer_sizes if encodes else self.hidden_layer_sizes[::-1]
        return multilayer_perceptron(
            (n_inputs, *hidden, n_outputs),
            self.activation,
            self.dropout,
            generator,
            starts_at_zero=self.linear_path,
        )

    def _in_logits(self, module: nn.Module, n_codes: int) -> nn.Module:
        """Let a decoder that ends in a sigmoid, as is usual, give logits of chances.

        Its loss or likelihood, too, begins with a sigmoid: two would leave the means
        between 0.5 and 0.73.
        """
        columns = [
            b.kind.domain == "unit interval" for b in self.blocks for _ in b.widths
        ]
        if not any(columns) or not _gives_chances(module, n_codes):
            return module
        return nn.Sequential(module, ChancesAsLogits(torch.tensor(columns)))


def users_randomness(
    encoder: ModuleFactory | None,
    decoder: ModuleFactory | None,
    seed: int,
    device: torch.device,
) -> AbstractContextManager[None]:
    """Make modules that the user brought repeatable; skae's own need no care."""
    own = encoder is None and decoder is None
    return nullcontext() if own else seeded_globally(seed, device)


def hidden_widths(hidden_layer_sizes: Sequence[Any] | int) -> tuple[int, ...]:
    """Read the parameter `hidden_layer_sizes`."""
    sizes: Any = hidden_layer_sizes
    widths = (sizes,) if isinstance(sizes, Integral) else tuple(sizes)
    if not all(isinstance(width, Integral) and int(width) > 0 for width in widths):
        raise ValueError(
            f"got hidden_layer_sizes={sizes!r}, but expected positive integers."
        )
    return tuple(map(int, widths))


def _users_module(factory: ModuleFactory, n_inputs: int, n_outputs: int) -> nn.Module:
    """Make a user's module and try it on two rows."""
    if isinstance(factory, nn.Module):
        raise TypeError(
            f"got a module, {factory!r}, but expected a callable (n_inputs, n_outputs) "
            "-> torch.nn.Module that makes one, since each fit needs new weights; see "
            "the parameters encoder and decoder."
        )
    module = factory(n_inputs, n_outputs)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"got {module!r} from {factory!r}({n_inputs}, {n_outputs}), but expected "
            "a torch.nn.Module; see the parameters encoder and decoder."
        )
    with torch.no_grad():
        shape = tuple(module.eval()(torch.zeros(2, n_inputs)).shape)
    if shape != (2, n_outputs):
        raise ValueError(
            f"got a module from {factory!r} that maps (2, {n_inputs}) to {shape}, but "
            f"expected (2, {n_outputs}); see the parameters encoder and decoder."
        )
    return module.train()


def _gives_chances(module: nn.Module, n_codes: int) -> bool:
    """Tell whether all outputs lie in [0, 1], however far off the codes are."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(TRIED_CODES, n_codes, generator=generator)
    with torch.no_grad():
        outputs = module.eval()(torch.cat([codes, FAR_OFF * codes]))
    module.train()
    inside = bool(((outputs >= 0) & (outputs <= 1)).all())
    return inside and bool((outputs != outputs[:1]).any())
