"""Importance-weighted draws of the code, and the points that they are made from."""

from __future__ import annotations

import math

import torch
from scipy.stats import norm, qmc
from torch import Tensor

from ._autoencoders import VariationalAutoencoder
from ._cells import Cells
from ._normal import gaussian_draws, gaussian_log_prob


def log_prob(module: VariationalAutoencoder, z: Tensor, cells: Cells) -> Tensor:
    """Log-density of the seen cells given codes of shape (n_points, n_rows, ...)."""
    return module.loss.row_sum(module.decoder(z), cells.values, cells.seen)


def log_joint(module: VariationalAutoencoder, z: Tensor, cells: Cells) -> Tensor:
    """Log-density of the seen cells and of the codes."""
    return log_prob(module, z, cells) + module.prior.log_prob(z)


def importance_draws(
    module: VariationalAutoencoder,
    cells: Cells,
    posterior: tuple[Tensor, Tensor],
    noise: Tensor,
) -> tuple[Tensor, Tensor]:
    """Draw codes from the encoder, and the logarithms of their importance weights.

    Parameters
    ----------
    module : VariationalAutoencoder
    cells : Cells
    posterior : tuple of Tensor of shape (n_rows, n_components)
        Means and log-variances that the encoder gives the rows.
    noise : Tensor of shape (n_points, n_rows or 1, n_components)
        Standard normal draws of the code, before its posterior scales them.

    Returns
    -------
    z : Tensor of shape (n_points, n_rows, n_components)
    log_weights : Tensor of shape (n_points, n_rows)
        log p(x, z) - log q(z | x), x being the seen cells.
    """
    z = gaussian_draws(*posterior, noise)
    return z, log_joint(module, z, cells) - gaussian_log_prob(z, *posterior)


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """Logarithm of the mean over the first dimension."""
    return log_weights.logsumexp(dim=0) - math.log(len(log_weights))


def normal_points(n_points: int, n_components: int) -> Tensor:
    """Make quasi-random standard normal points (scrambled Sobol), always the same."""
    sobol = qmc.Sobol(n_components, scramble=True, rng=0)
    power = math.ceil(math.log2(n_points))
    uniform = sobol.random_base2(power)[:n_points]
    return torch.from_numpy(norm.ppf(uniform.clip(1e-12, 1 - 1e-12)))
