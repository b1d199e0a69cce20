"""From a design to networks at their start."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from .._schema import Block
from ._layers import Gate, LinearPath, ModuleFactory, multilayer_perceptron
from ._outputs import Output
from ._priors import Prior


def network_weights(model: nn.Module) -> list[nn.Parameter]:
    """Trainable matrices of a model, without the linear paths and the prior."""
    aside = {
        id(p) for m in model.modules() if isinstance(m, Prior) for p in m.parameters()
    }
    aside |= {id(m.weight) for m in model.modules() if isinstance(m, LinearPath)}
    return [
        p
        for p in model.parameters()
        if p.ndim >= 2 and p.requires_grad and id(p) not in aside
    ]


def around_linear_model(
    encoder: nn.Module,
    decoder: nn.Module,
    output: Output,
    *,
    mean: Tensor,
    projection: Tensor,
    loadings: Tensor,
    column_scales: Tensor,
    code_scales: Tensor,
    n_flags: int,
    log_variances: Tensor | None = None,
    trainable: bool = False,
) -> tuple[LinearPath, LinearPath]:
    """Add networks to a linear encoder and decoder.

    Parameters
    ----------
    encoder, decoder : nn.Module
        Networks that are zero at the start of training.
    output : Output
        What the decoder's output stands for.
    mean, column_scales : Tensor of shape (n_columns,)
    projection : Tensor of shape (n_components, n_columns)
    loadings : Tensor of shape (n_columns, n_components)
    code_scales : Tensor of shape (n_components,)
    n_flags : int
        Inputs after the columns that say which cells are missing.
    log_variances : Tensor of shape (n_components,) or None
        Of the code, as outputs of the encoder beside the code itself.
    trainable : bool
        Whether training moves projection and loadings.
    """
    pad = nn.functional.pad
    bias, encoder_scale = -projection @ mean, code_scales
    if log_variances is not None:
        bias = torch.cat([bias, log_variances])
        encoder_scale = torch.cat([code_scales, torch.ones_like(code_scales)])
    tangent, slope = output.tangent(mean)
    extra = (0, output.n_extra)
    return LinearPath(
        pad(projection, (0, n_flags)),
        bias,
        encoder,
        input_centre=pad(mean, (0, n_flags)),
        input_scale=pad(column_scales, (0, n_flags), value=0.5),
        output_scale=encoder_scale,
        trainable=trainable,
    ), LinearPath(
        slope[:, None] * loadings,
        pad(tangent, extra),
        decoder,
        input_centre=torch.zeros_like(code_scales),
        input_scale=code_scales,
        output_scale=pad(slope * column_scales, extra, value=1.0),
        trainable=trainable,
    )


@dataclass(frozen=True)
class Architecture:
    """What the networks are made of, kept with the fit so that it can be rebuilt."""

    blocks: tuple[Block, ...]
    n_components: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    dropout: float
    linear_path: bool
    loss: str
    encoder: ModuleFactory | None
    decoder: ModuleFactory | None
    incomplete: tuple[int, ...] = ()
    n_prior_components: int = 0

    @classmethod
    def of(
        cls,
        estimator: Any,
        blocks: tuple[Block, ...],
        incomplete: tuple[int, ...],
        **others: Any,
    ) -> Architecture:
        """Read an estimator's parameters."""
        widths = estimator.hidden_layer_sizes
        widths = (widths,) if isinstance(widths, Integral) else tuple(widths)
        if not all(isinstance(width, Integral) and int(width) > 0 for width in widths):
            raise ValueError(
                f"got hidden_layer_sizes={estimator.hidden_layer_sizes!r}, but "
                "expected positive integers."
            )
        return cls(
            blocks=blocks,
            incomplete=incomplete,
            n_components=estimator.n_components_,
            hidden_layer_sizes=tuple(map(int, widths)),
            activation=estimator.activation,
            dropout=float(estimator.dropout),
            linear_path=bool(estimator.linear_path),
            encoder=estimator.encoder,
            decoder=estimator.decoder,
            **others,
        )

    @property
    def widths(self) -> list[int]:
        """Columns of the matrix for each of the table's."""
        return [width for block in self.blocks for width in block.widths]

    @property
    def n_columns(self) -> int:
        """Width of the matrix that the networks see."""
        return sum(self.widths)

    @property
    def n_inputs(self) -> int:
        """Inputs of the encoder."""
        return self.n_columns + len(self.incomplete)

    def differences(self, other: Architecture) -> str:
        """Say which parameters differ from those of another architecture."""
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
            return Gate(module, n_outputs) if self.linear_path else module
        hidden = self.hidden_layer_sizes if encodes else self.hidden_layer_sizes[::-1]
        return multilayer_perceptron(
            (n_inputs, *hidden, n_outputs),
            self.activation,
            self.dropout,
            generator,
            starts_at_zero=self.linear_path,
        )


def _users_module(factory: ModuleFactory, n_inputs: int, n_outputs: int) -> nn.Module:
    """Make a user's module and try it on two rows."""
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
