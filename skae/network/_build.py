"""From a design to an autoencoder at its start."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from .._schema import Block
from ._autoencoders import Autoencoder, VariationalAutoencoder
from ._design import Design
from ._layers import LinearPath
from ._likelihoods import make_likelihood
from ._losses import make_loss
from ._outputs import Output, assemble
from ._priors import GaussianMixture, Prior, StandardNormal

NOISE_FLOOR = 0.01  # of a column's standard deviation
RULED = 5.0  # times what its quartiles say, a deviation is that of a few rows


@dataclass(frozen=True)
class LinearStart:
    """A linear encoder and decoder.

    Attributes
    ----------
    mean, column_scales : Tensor of shape (n_columns,)
    projection : Tensor of shape (n_components, n_columns)
    loadings : Tensor of shape (n_columns, n_components)
    code_scales : Tensor of shape (n_components,)
    log_variances : Tensor of shape (n_components,) or None
        Of the code given a row, where the code is a random variable.
    noise_variance : float
        Of each column given the code.
    code_limits : Tensor of shape (n_components,) or None
        Deviations of the code beyond which the decoder's network sees no difference.
    input_scales : Tensor of shape (n_columns,) or None
        Deviations of what the encoder's network sees, where they are not those of the
        columns.
    """

    mean: Tensor
    column_scales: Tensor
    projection: Tensor
    loadings: Tensor
    code_scales: Tensor
    log_variances: Tensor | None
    noise_variance: float
    code_limits: Tensor | None = None
    input_scales: Tensor | None = None


def build(
    design: Design, start: LinearStart, generator: torch.Generator
) -> Autoencoder:
    """Make an autoencoder at its start, in double precision on the CPU."""
    if design.is_variational:
        return _variational(design, start, generator).double()
    return _deterministic(design, start, generator).double()


def _deterministic(
    design: Design, start: LinearStart, generator: torch.Generator
) -> Autoencoder:
    n_columns, n_codes = design.n_columns, design.n_components
    encoder = design.network(design.n_inputs, n_codes, generator, encodes=True)
    decoder = design.network(n_codes, n_columns, generator, encodes=False)
    loss = assemble(design.blocks, lambda block, _: make_loss(block))
    if design.linear_path:
        encoder, decoder = around_linear_model(
            encoder, decoder, loss, start, n_flags=len(design.incomplete)
        )
    return Autoencoder(
        encoder, decoder, loss, design.widths, design.incomplete, design.sparsity
    )


def _variational(
    design: Design, start: LinearStart, generator: torch.Generator
) -> VariationalAutoencoder:
    n_columns, n_codes = design.n_columns, design.n_components
    scales = usual_scales(design.blocks, start.column_scales.numpy())
    encoder = design.network(design.n_inputs, 2 * n_codes, generator, encodes=True)
    noise = start.noise_variance**0.5 if design.linear_path else None
    likelihood = assemble(
        design.blocks,
        lambda block, columns: make_likelihood(
            block, *map(torch.from_numpy, noise_scales(block, scales[columns], noise))
        ),
    )
    n_outputs = n_columns + likelihood.n_extra
    decoder = design.network(n_codes, n_outputs, generator, encodes=False)
    if design.linear_path:
        encoder, decoder = around_linear_model(
            encoder,
            decoder,
            likelihood,
            replace(start, column_scales=torch.from_numpy(scales)),
            n_flags=len(design.incomplete),
            trainable=True,
        )
    prior: Prior = StandardNormal(n_codes)
    if design.n_prior_components:
        prior = GaussianMixture(design.n_prior_components, n_codes)
    return VariationalAutoencoder(
        encoder, decoder, likelihood, prior, design.widths, design.incomplete
    )


def usual_scales(blocks: tuple[Block, ...], scales: np.ndarray) -> np.ndarray:
    """Return the deviation of each column, by its quartiles where a few rows rule.

    One row at a thousand standard deviations would make all others alike.
    """
    parts = [b.quartile_deviation if b.is_numeric else 0 * b.scale for b in blocks]
    usual = np.concatenate(parts)
    return np.where((usual > 0) & (scales > RULED * usual), usual, scales)


def noise_scales(
    block: Block, scales: np.ndarray, noise: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the noise that columns start with, and the least that they may reach.

    Parameters
    ----------
    block : Block
    scales : ndarray of shape (width,)
        Deviations of the columns.
    noise : float or None
        Deviation of the noise about the linear start; None where there is no such.
    """
    scales = scales.copy()
    if not block.is_numeric:
        return scales, 0 * scales
    floor = np.maximum(NOISE_FLOOR * scales, block.resolution / 12**0.5)
    # The noise of a constant column stays where it starts: there is nothing to
    # learn it from, and it would shrink without end.
    constant = scales == 0
    scales[constant] = 1.0 if noise is None else noise
    floor[constant] = scales[constant]
    if noise is not None:
        scales[:] = noise
    return scales, floor


def around_linear_model(
    encoder: nn.Module,
    decoder: nn.Module,
    output: Output,
    start: LinearStart,
    *,
    n_flags: int,
    trainable: bool = False,
) -> tuple[LinearPath, LinearPath]:
    """Add networks to a linear encoder and decoder.

    Parameters
    ----------
    encoder, decoder : nn.Module
        Networks that are zero at the start of training.
    output : Output
        What the decoder's output stands for.
    start : LinearStart
    n_flags : int
        Inputs after the columns that say which cells are missing.
    trainable : bool
        Whether training moves projection and loadings.
    """
    pad = nn.functional.pad
    mean, scales = start.mean, start.code_scales
    bias, encoder_scale = -start.projection @ mean, scales
    if start.log_variances is not None:
        bias = torch.cat([bias, start.log_variances])
        encoder_scale = torch.cat([scales, torch.ones_like(scales)])
    inputs = start.column_scales if start.input_scales is None else start.input_scales
    tangent, slope = output.tangent(mean)
    extra = (0, output.n_extra)
    return LinearPath(
        pad(start.projection, (0, n_flags)),
        bias,
        encoder,
        input_centre=pad(mean, (0, n_flags)),
        input_scale=pad(inputs, (0, n_flags), value=0.5),
        output_scale=encoder_scale,
        trainable=trainable,
    ), LinearPath(
        slope[:, None] * start.loadings,
        pad(tangent, extra),
        decoder,
        input_centre=torch.zeros_like(scales),
        input_scale=scales,
        input_limit=start.code_limits,
        output_scale=pad(slope * start.column_scales, extra, value=1.0),
        trainable=trainable,
    )
