"""Autoencoders as modules that answer by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ._cells import Cells
from ._layers import HardThreshold, LinearPath
from ._outputs import Output
from ._priors import Prior

LARGEST_LOG_VARIANCE = 6.0  # of a posterior; beyond any prior, for rows far off


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
    sparsity : float in [0, 1), default=0.0
        Share of the codes' entries that are zero.
    """

    cell: Tensor
    incomplete: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        loss: Output,
        widths: Sequence[int],
        incomplete: Sequence[int] = (),
        sparsity: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.loss = loss
        self.threshold: nn.Module = nn.Identity()
        if sparsity > 0:
            self.threshold = HardThreshold(sparsity)
        self.n_features = len(widths)
        cell = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
        self.register_buffer("cell", cell, persistent=False)
        flagged = torch.tensor(incomplete, dtype=torch.long)
        self.register_buffer("incomplete", flagged, persistent=False)

    @property
    def is_sparse(self) -> bool:
        """Whether small entries of codes are zero."""
        return isinstance(self.threshold, HardThreshold)

    def inputs(self, cells: Cells) -> Tensor:
        """Return what the encoder sees of rows."""
        values = cells.values
        if len(self.incomplete):
            flags = values.new_zeros(len(values), len(self.incomplete))
            if cells.seen is not None:
                flags = 1 - cells.seen.index_select(1, self.incomplete)
            values = torch.cat([values, flags], dim=1)
        return values

    def encode(self, cells: Cells) -> Tensor:
        """Compute the encoder's output."""
        return self.encoder(self.inputs(cells))

    def latent(self, cells: Cells) -> Tensor:
        """Compute the codes of rows."""
        return self.threshold(self.encode(cells))

    @torch.no_grad()
    def settle(self, cells: Cells, weight: Tensor) -> None:
        """Let the share of the codes of these rows be zero that was asked for."""
        if isinstance(self.threshold, HardThreshold):
            self.threshold.settle(self.encode(cells), weight)

    def decoded(self, latent: Tensor) -> Tensor:
        """Compute scaled rows from codes."""
        return self.loss.mean(self.decoder(latent))

    def squared_errors(self, cells: Cells) -> Tensor:
        """Squared error of each seen cell, of shape (n_rows, n_features)."""
        errors = (self.decoded(self.latent(cells)) - cells.values).square()
        if self.n_features < len(self.cell):
            total = errors.new_zeros(len(errors), self.n_features)
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

    @torch.no_grad()
    def carried(self, cells: Cells, weight: Tensor) -> tuple[np.ndarray, float]:
        """Return the importance of each component, and what they explain together."""
        importances = self.importances(cells, weight).cpu().numpy().astype(np.float64)
        return importances, max(float(self.explained(cells, weight)), 0.0)

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
        super().__init__(encoder, decoder, likelihood, widths, incomplete)
        self.prior = prior

    def posterior(self, cells: Cells) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x) for each row."""
        mean, log_variance = self.encode(cells).chunk(2, dim=-1)
        if cells.log_variances is not None:
            log_variance = log_variance + cells.log_variances
        return mean, log_variance.clamp(max=LARGEST_LOG_VARIANCE)

    def latent(self, cells: Cells) -> Tensor:
        return self.posterior(cells)[0]


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
