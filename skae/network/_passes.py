"""The squared error of a reconstruction and its gradient, written out.

On networks as small as those of tables the bookkeeping of automatic differentiation
takes as long as the products of matrices.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ._autoencoders import Autoencoder
from ._layers import Linear, LinearPath, affine
from ._losses import SquaredError, SquaredErrorOfBinary, SquaredErrorOfLevels

SQUARED = SquaredError, SquaredErrorOfBinary, SquaredErrorOfLevels


class PathPasses:
    """Compute outputs of a linear path, then add to the gradients of its weights.

    All but the straight matrix is trained. The weights of several paths may be stacked.

    Parameters
    ----------
    path : LinearPath
    layers : list of Linear
        Of its network, with SiLU between them.
    """

    def __init__(self, path: LinearPath, layers: list[Linear]) -> None:
        self.path = path
        self.layers = [(layer.weight, layer.bias) for layer in layers]

    @classmethod
    def through(cls, module: nn.Module) -> PathPasses | None:
        """Make the passes through a module, or None where it is of another make."""
        if not isinstance(module, LinearPath) or not module.is_plain:
            return None
        layers = [layer for layer in module.network.children() if type(layer) is Linear]
        return cls(module, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Compute outputs, and keep what the way back needs."""
        path = self.path
        self.standardised = (x - path.input_centre) * path.input_factor
        hidden = self.standardised.clamp(-path.input_limit, path.input_limit)
        self.inputs, self.sums = [], []
        for weight, bias in self.layers:
            self.inputs.append(hidden)
            self.sums.append(affine(hidden, weight, bias))
            hidden = nn.functional.silu(self.sums[-1])
        straight = affine(x, path.weight, path.bias)
        return torch.addcmul(straight, self.sums[-1], path.output_scale)

    @property
    def correction(self) -> Tensor:
        """What the network adds to the straight path, in the last pass."""
        return self.sums[-1] * self.path.output_scale

    def backward(self, slope: Tensor, by_correction: Tensor | None = None) -> Tensor:
        """Add to the gradients of the weights, given the slope by the outputs.

        Returns the slope by the sums of the first layer. What else hangs on the
        correction adds its slope to that of the network alone.
        """
        _add_sum(self.path.bias, slope)
        if by_correction is not None:
            slope = slope + by_correction
        slope = slope * self.path.output_scale
        for i in reversed(range(len(self.layers))):
            weight, bias = self.layers[i]
            _add_product(weight, slope, self.inputs[i])
            _add_sum(bias, slope)
            if i > 0:
                slope = slope @ weight
                slope = torch.ops.aten.silu_backward(slope, self.sums[i - 1])
        return slope

    def by_inputs(self, slope: Tensor, by_sums: Tensor) -> Tensor:
        """Return the slope by the inputs, given those by outputs and by first sums."""
        first, _ = self.layers[0]
        is_inside = self.standardised == self.inputs[0]
        through_network = (by_sums @ first) * is_inside
        straight = slope @ self.path.weight
        return torch.addcmul(straight, through_network, self.path.input_factor)


class _Losses(torch.autograd.Function):
    """Loss of each row; gradients are added where weights keep them."""

    @staticmethod
    def forward(
        ctx: Any, _: Tensor, ways: WrittenOut, inputs: Tensor, values: Tensor
    ) -> Tensor:
        error = ways.decoder.forward(ways.encoder.forward(inputs)).sub_(values)
        ctx.ways, ctx.error = ways, error
        loss = error.square().sum(dim=-1) / ways.n_features
        if ways.price > 0:
            ctx.departure = ways.encoder.correction
            loss = loss + ways.price * ctx.departure.square().sum(dim=-1)
        return loss

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        encoder, decoder = ctx.ways.encoder, ctx.ways.decoder
        ways, slope = ctx.ways, slope[..., None]
        by_correction = None
        if ways.price > 0:
            by_correction = ctx.departure.mul_(2 * ways.price * slope)
        slope = ctx.error.mul_(2 / ways.n_features * slope)
        by_code = decoder.by_inputs(slope, decoder.backward(slope))
        encoder.backward(by_code, by_correction)
        return None, None, None, None


class WrittenOut:
    """An autoencoder whose squared error has its gradient written out.

    Parameters
    ----------
    encoder, decoder : PathPasses
    n_features : int
        Columns of the table, that a row's error is divided by.
    price : float
        Of the squared correction of a code.
    """

    def __init__(
        self, encoder: PathPasses, decoder: PathPasses, n_features: int, price: float
    ) -> None:
        self.encoder = encoder
        self.decoder = decoder
        self.n_features = n_features
        self.price = price

    @classmethod
    def of(cls, module: Autoencoder, price: float = 0.0) -> WrittenOut | None:
        """Write out a module, or return None where it is of another make."""
        encoder = PathPasses.through(module.encoder)
        decoder = PathPasses.through(module.decoder)
        is_other = len(module.incomplete) > 0 or module.is_sparse
        if is_other or not all(type(o) in SQUARED for o in module.loss.outputs()):
            return None
        if encoder is None or decoder is None:
            return None
        return cls(encoder, decoder, module.n_features, price)

    def losses(self, inputs: Tensor, values: Tensor) -> Tensor:
        """Compute the squared error per column of each row, with all cells seen.

        A call of `backward` adds to the gradients of the weights in place.
        """
        anchor = self.decoder.path.bias  # what tells torch that there are gradients
        apply = cast("Any", _Losses).apply
        return cast("Tensor", apply(anchor, self, inputs, values))


def _add_product(weight: Tensor, slope: Tensor, inputs: Tensor) -> None:
    """Add to the gradient of a matrix, or of each of a stack."""
    gradient = _gradient_of(weight)
    if weight.ndim == 2:
        gradient.addmm_(slope.t(), inputs)
    else:
        gradient.baddbmm_(slope.mT, inputs.expand(*slope.shape[:-1], -1))


def _add_sum(bias: Tensor, slope: Tensor) -> None:
    """Add to the gradient of a vector, or of each of a stack."""
    _gradient_of(bias).add_(slope.sum(dim=-2, keepdim=bias.ndim > 1))


def _gradient_of(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
