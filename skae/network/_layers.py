"""Layers: a straight linear path plus a network that starts at zero."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

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


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply rows by a matrix, or by each of a stack of them, and add a vector."""
    if weight.ndim == 2:
        return nn.functional.linear(x, weight, bias)
    if bias is None or x.ndim > 3:
        product = x @ weight.mT
        return product if bias is None else product + bias
    return torch.baddbmm(bias, x.expand(len(weight), *x.shape[-2:]), weight.mT)


class Linear(nn.Linear):
    """An affine layer whose weights may be stacked; `linear` gives the first ones."""

    def reset_parameters(self) -> None:
        """Draw nothing from torch's global generator."""

    def forward(self, x: Tensor) -> Tensor:
        return affine(x, self.weight, self.bias)


def linear(n_inputs: int, n_outputs: int, generator: torch.Generator) -> nn.Linear:
    """Make an affine layer with LeCun's initial weights, std 1 / sqrt(n_inputs)."""
    layer: nn.Linear = Linear(n_inputs, n_outputs)
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


class OfDraws(nn.Module):
    """Answer for several draws of the code of each row as for so many rows.

    What a user brings may count on two dimensions, as batch normalisation does.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, z: Tensor) -> Tensor:
        answers: Tensor = self.module(z.flatten(0, -2))
        return answers.unflatten(0, z.shape[:-1])


class ChancesAsLogits(nn.Module):
    """Turn the chances that a module ends in into their logits, in some columns.

    Parameters
    ----------
    columns : Tensor of bool of shape (n_columns,)
        Where outputs are chances; any outputs beyond are as they are.
    """

    LEAST = 1e-5  # chance that still has a gradient in single precision

    columns: Tensor

    def __init__(self, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        columns = nn.functional.pad(
            self.columns, (0, x.shape[-1] - len(self.columns)), value=False
        )
        return torch.where(columns, x.clamp(self.LEAST, 1 - self.LEAST).logit(), x)


class HardThreshold(nn.Module):
    """Set the small entries of codes to zero, a share of them all.

    One level holds for all rows and components, so that a row that is easily told uses
    fewer of them. A sparse autoencoder that keeps the largest entries of each row [1]_
    cannot do so.

    Parameters
    ----------
    share : float in (0, 1)

    References
    ----------
    .. [1] Makhzani, A. and Frey, B. (2014). k-sparse autoencoders. ICLR.
    """

    level: Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("level", torch.zeros(1))

    def forward(self, codes: Tensor) -> Tensor:
        return torch.where(codes.abs() > self.level, codes, 0.0)

    def settle(self, codes: Tensor, weight: Tensor) -> None:
        """Set the level at which the share of these codes, by weight, is zero.

        Codes are (..., n_rows, n_components), and those of several members have a level
        each.
        """
        sizes, order = codes.abs().flatten(-2).sort(dim=-1)
        mass = weight[:, None].expand(codes.shape).flatten(-2).gather(-1, order)
        mass = mass.cumsum(dim=-1)
        place = (mass < self.share * mass[..., -1:]).sum(dim=-1, keepdim=True)
        self.level.copy_(sizes.gather(-1, place).reshape(self.level.shape))


class LinearPath(nn.Module):
    """Compute ``A x + b + s * network(clip((x - c) / r))``.

    The network sees standardised inputs that are clipped at `LIMIT` standard deviations
    or before, so that its part is bounded: far from the data the linear path carries
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
    input_limit : Tensor of shape (n_inputs,) or None
        Where inputs are clipped, in standard deviations; at `LIMIT` without.
    output_scale : Tensor of shape (n_outputs,)
        s. An output of scale zero is left to the linear path.
    trainable : bool
        Whether training moves A.
    """

    LIMIT = 10.0

    input_centre: Tensor
    input_factor: Tensor
    input_limit: Tensor
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
        input_limit: Tensor | None = None,
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
        limit = torch.full_like(factor, self.LIMIT)
        if input_limit is not None:
            limit = input_limit.clamp(max=self.LIMIT)
        self.register_buffer("input_limit", limit)
        self.register_buffer("output_scale", output_scale.clone())

    @property
    def is_plain(self) -> bool:
        """Whether SiLU is all between the layers of the network, and A stays."""
        if not isinstance(self.network, nn.Sequential):
            return False
        kinds = [type(layer) for layer in self.network]
        plain = [Linear, *[nn.SiLU, Linear] * (len(kinds) // 2)]
        return kinds == plain and not (self.n_padded or self.weight.requires_grad)

    def straight(self, x: Tensor) -> Tensor:
        """Compute ``A x + b``."""
        return affine(x, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        standardised = (x - self.input_centre) * self.input_factor
        limit = self.input_limit
        correction = self.network(standardised.clamp(-limit, limit))
        straight = affine(x, self.weight)
        if self.n_padded:
            straight = nn.functional.pad(straight, (0, self.n_padded))
        return torch.addcmul(straight + self.bias, correction, self.output_scale)
