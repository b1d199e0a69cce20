"""The networks: a straight linear path plus a nonlinear one that starts at zero."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from ._likelihoods import Output
from ._priors import Prior
from ._table import Block
from ._torch import Cells

LARGEST_LOG_VARIANCE = 6.0  # of a posterior; beyond any prior, for rows far off

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}

ModuleFactory = Callable[[int, int], nn.Module]


class Dropout(nn.Module):
    """Inverted dropout that draws from its own generator, not from torch's global one.

    Srivastava et al. (2014). Dropout: a simple way to prevent neural networks from
    overfitting. JMLR 15, 1929-1958.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.keep = 1 - p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.empty_like(x).bernoulli_(self.keep, generator=self.generator)
        return x * kept / self.keep


def seed_dropout(module: nn.Module, generator: torch.Generator) -> None:
    """Let every dropout layer of a module draw from `generator`."""
    for layer in module.modules():
        if isinstance(layer, Dropout):
            layer.generator = generator


def linear(n_inputs: int, n_outputs: int, generator: torch.Generator) -> nn.Linear:
    """Make an affine layer with LeCun's initial weights, std 1 / sqrt(n_inputs)."""
    layer = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs)
    bound = 1 / math.sqrt(n_inputs)
    nn.init.normal_(layer.weight, std=bound, generator=generator)
    # Spread offsets: on a code of one component they alone tell hidden units apart.
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def multilayer_perceptron(
    widths: Sequence[int],
    activation: str,
    dropout: float,
    generator: torch.Generator,
    *,
    starts_at_zero: bool,
) -> nn.Sequential:
    """Chain affine layers of the given widths, activations between them.

    With `starts_at_zero` the last layer is zero, so that the whole network is.
    """
    layers: list[nn.Module] = []
    for n_inputs, n_outputs in itertools.pairwise(widths):
        layers += [linear(n_inputs, n_outputs, generator), ACTIVATIONS[activation]()]
        if dropout > 0:
            layers.append(Dropout(dropout))
    while not isinstance(layers[-1], nn.Linear):
        layers.pop()
    if starts_at_zero:
        for parameter in layers[-1].parameters():
            nn.init.zeros_(parameter)
    return nn.Sequential(*layers)


class Gate(nn.Module):
    """Multiply each output by a learned factor that starts at zero.

    Bachlechner et al. (2021). ReZero is all you need. UAI. It lets a module that a user
    brings start at zero, whatever its last layer is.
    """

    def __init__(self, module: nn.Module, n_outputs: int) -> None:
        super().__init__()
        self.module = module
        self.factor = nn.Parameter(torch.zeros(n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.module(x)


class LinearPath(nn.Module):
    """Compute ``A x + b + s * network(clip((x - c) / r))``.

    The network sees standardised inputs that are clipped at `LIMIT` standard
    deviations, so that its part is bounded: far from the data the linear path carries
    on. Where A stays as it is given, an outlier is reconstructed as well as by PCA.

    Parameters
    ----------
    weight : Tensor of shape (n_straight, n_inputs)
        A. Where it has fewer rows than there are outputs, the outputs beyond it have
        no linear path.
    bias : Tensor of shape (n_outputs,)
    network : nn.Module
        From `n_inputs` to `n_outputs`, zero at the start of training.
    input_centre, input_scale : Tensor of shape (n_inputs,)
        c and r. An input of scale zero is hidden from the network.
    output_scale : Tensor of shape (n_outputs,)
        s. An output of scale zero is left to the linear path.
    trainable : bool
        Whether training moves A.
    """

    LIMIT = 10.0

    input_centre: Tensor
    input_factor: Tensor
    output_scale: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        network: nn.Module,
        *,
        input_centre: Tensor,
        input_scale: Tensor,
        output_scale: Tensor,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone(), requires_grad=trainable)
        self.bias = nn.Parameter(bias.clone())
        self.network = network
        self.n_padded = len(bias) - len(weight)
        factor = torch.where(input_scale > 0, 1 / input_scale, 0.0)
        self.register_buffer("input_centre", input_centre.clone())
        self.register_buffer("input_factor", factor)
        self.register_buffer("output_scale", output_scale.clone())

    def forward(self, x: Tensor) -> Tensor:
        standardised = (x - self.input_centre) * self.input_factor
        correction = self.network(standardised.clamp(-self.LIMIT, self.LIMIT))
        straight = nn.functional.linear(x, self.weight)
        if self.n_padded:
            straight = nn.functional.pad(straight, (0, self.n_padded))
        return torch.addcmul(straight + self.bias, correction, self.output_scale)


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


class Autoencoder(nn.Module):
    """An encoder to the code, a decoder back, and the loss that joins them.

    Parameters
    ----------
    encoder, decoder : nn.Module
    loss : Output
    widths : sequence of int
        Columns of the matrix for each of the table's.
    incomplete : sequence of int
        Columns of the table for which the encoder is told, by an input after all
        others, that their cell is missing.
    n_components : int

    Attributes
    ----------
    order : Tensor of int of shape (n_components,)
        Of the components in the codes that leave and enter the module, by outputs of
        the encoder.
    """

    cell: Tensor
    incomplete: Tensor
    order: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        loss: Output,
        widths: Sequence[int],
        incomplete: Sequence[int] = (),
        *,
        n_components: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.loss = loss
        cell = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
        self.register_buffer("cell", cell, persistent=False)
        flagged = torch.tensor(incomplete, dtype=torch.long)
        self.register_buffer("incomplete", flagged, persistent=False)
        self.register_buffer("order", torch.arange(n_components))

    def encode(self, cells: Cells) -> Tensor:
        """Compute the encoder's output."""
        values = cells.values
        if len(self.incomplete):
            flags = values.new_zeros(len(values), len(self.incomplete))
            if cells.seen is not None:
                flags = 1 - cells.seen.index_select(1, self.incomplete)
            values = torch.cat([values, flags], dim=1)
        return self.encoder(values)

    def latent(self, cells: Cells) -> Tensor:
        """Compute the codes of rows, as they come out of the encoder."""
        return self.encode(cells)

    def code(self, cells: Cells) -> Tensor:
        """Compute the codes of rows, the component that carries most first."""
        return self.latent(cells).index_select(1, self.order)

    def reconstruction(self, codes: Tensor) -> Tensor:
        """Compute scaled rows from codes."""
        return self.decoded(codes.index_select(1, self.order.argsort()))

    def decoded(self, latent: Tensor) -> Tensor:
        """Compute scaled rows from codes as they come out of the encoder."""
        return self.loss.mean(self.decoder(latent))

    def squared_errors(self, cells: Cells) -> Tensor:
        """Squared error of each seen cell, of shape (n_rows, n_features)."""
        errors = (self.decoded(self.latent(cells)) - cells.values).square()
        if self.cell[-1] + 1 < len(self.cell):
            total = errors.new_zeros(len(errors), int(self.cell[-1]) + 1)
            errors = total.index_add(1, self.cell, errors)
        return errors if cells.seen is None else errors * cells.seen

    def importances(self, cells: Cells, weight: Tensor) -> Tensor:
        """Mean squared change of a row when a component of its code is the mean.

        For orthonormal linear components these are the variances along them.
        """
        latent = self.latent(cells)
        rows, means = self.decoded(latent), weight @ latent / weight.sum()
        result = torch.empty_like(means)
        for component, mean in enumerate(means):
            without = latent.clone()
            without[:, component] = mean
            change = (self.decoded(without) - rows).square().sum(dim=1)
            result[component] = weight @ change / weight.sum()
        return result

    def explained(self, cells: Cells, weight: Tensor) -> Tensor:
        """Share of the variance of the seen cells that the reconstruction explains."""
        weights = weight[:, None].expand_as(cells.values)
        if cells.seen is not None:
            weights = weights * cells.seen.index_select(1, self.cell)
        means = (weights * cells.values).sum(dim=0) / weights.sum(dim=0)
        variance = (weights * (cells.values - means.nan_to_num()).square()).sum()
        errors = weight @ self.squared_errors(cells).sum(dim=1)
        return 1 - errors / variance if variance > 0 else torch.zeros_like(variance)

    def forward(self, rows: Tensor) -> Tensor:
        """Reconstruct scaled rows without holes."""
        return self.decoded(self.latent(Cells(rows)))


class VariationalAutoencoder(Autoencoder):
    """An autoencoder whose code is a random variable.

    The encoder's output is the posterior's mean and log-variance side by side, and the
    loss is a likelihood.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Output,
        prior: Prior,
        widths: Sequence[int],
        incomplete: Sequence[int] = (),
    ) -> None:
        super().__init__(
            encoder,
            decoder,
            likelihood,
            widths,
            incomplete,
            n_components=prior.n_components,
        )
        self.prior = prior

    def posterior(self, cells: Cells) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x) for each row."""
        mean, log_variance = self.encode(cells).chunk(2, dim=-1)
        if cells.log_variances is not None:
            log_variance = log_variance + cells.log_variances
        return mean, log_variance.clamp(max=LARGEST_LOG_VARIANCE)

    def latent(self, cells: Cells) -> Tensor:
        return self.posterior(cells)[0]


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
