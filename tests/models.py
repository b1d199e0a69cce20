"""Models that are known exactly, others that are not, and rows for both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from skae.model._pca import principal_components
from skae.network._autoencoders import VariationalAutoencoder
from skae.network._cells import Cells
from skae.network._layers import multilayer_perceptron
from skae.network._likelihoods import Gaussian
from skae.network._priors import GaussianMixture, StandardNormal

N_FEATURES, N_CODES = 4, 2


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def rows_of_table(n_samples=30, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(
        rng.normal(size=(n_samples, N_FEATURES))
        @ np.random.default_rng(9).normal(size=(N_FEATURES, N_FEATURES))
        + 1
    )


def ppca_of_table(n_codes=N_CODES):
    return principal_components(rows_of_table().numpy(), n_codes).probabilistic()


def cells_of_table(n_samples=30, seed=0, *, anchored=False):
    rows = rows_of_table(n_samples, seed)
    return Cells(rows, log_density=exact_log_density(rows) if anchored else None)


def seen_cells(n_samples=30):
    """Choose seen cells: none in the first row and all in the second."""
    seen = draws(n_samples, N_FEATURES, seed=6) > -0.5
    seen[0], seen[1] = False, True
    return seen


def cells_with_holes(n_samples=30, seed=0, *, n_codes=N_CODES, anchored=False):
    """Make rows with holes, with what probabilistic PCA says of these."""
    ppca, seen = ppca_of_table(n_codes), seen_cells(n_samples)
    known = ppca.given(rows_of_table(n_samples, seed).numpy(), seen.numpy())
    log_density = torch.from_numpy(known.log_density)
    return Cells(
        torch.from_numpy(known.filled),
        seen.double(),
        torch.from_numpy(known.variances / ppca.variances).log(),
        log_density if anchored else None,
    )


CELLS = {
    "whole": cells_of_table,
    "anchored": lambda n=30: cells_of_table(n, anchored=True),
    "holes": cells_with_holes,
    "anchored holes": lambda n=30: cells_with_holes(n, anchored=True),
}
OF_CELLS = pytest.mark.parametrize("make_cells", CELLS.values(), ids=CELLS)


class Affine(nn.Module):
    """A map that is known exactly."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight).clone())
        self.bias = nn.Parameter(torch.as_tensor(bias).clone())

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


WIDTHS = (1,) * N_FEATURES


def reordered(model):
    """Let codes leave a model in another order, of which no objective may know."""
    model.order.copy_(model.order.flip(0))
    return model


def linear_vae(prior=None, n_codes=N_CODES):
    """Make probabilistic PCA of the table as a VAE, its factors on the spread one."""
    ppca = ppca_of_table(n_codes)
    mean, loadings, projection, variances = map(
        torch.from_numpy, (ppca.mean, ppca.loadings, ppca.projection, ppca.variances)
    )
    spread = torch.full_like(mean, ppca.noise_variance**0.5)
    return VariationalAutoencoder(
        Affine(
            torch.cat([projection, torch.zeros_like(projection)]),
            torch.cat([-projection @ mean, variances.log()]),
        ),
        Affine(
            torch.cat([loadings, torch.zeros_like(loadings)]),
            torch.cat([mean, torch.zeros_like(mean)]),
        ),
        Gaussian(spread, torch.zeros_like(spread)),
        prior or StandardNormal(n_codes).double(),
        WIDTHS,
    )


def misled_vae(**options):
    """Make a VAE whose posterior is off, so that its bounds are not tight."""
    model = linear_vae(**options)
    bias = model.encoder.bias.data
    bias += torch.tensor([0.2, -0.2, 0.6, 0.5])  # means, then log-variances
    return model


def curved_vae(prior=None, loss=None, n_codes=N_CODES):
    model = linear_vae(prior, n_codes)
    model.loss = loss or model.loss
    networks = {
        "encoder": (N_FEATURES, 5, 2 * n_codes),
        "decoder": (n_codes, 5, N_FEATURES + model.loss.n_extra),
    }
    for name, widths in networks.items():
        network = multilayer_perceptron(
            widths, "tanh", 0.0, generator(), starts_at_zero=False
        )
        setattr(model, name, network.double())
    return model


def mixture(n_codes=N_CODES):
    prior = GaussianMixture(3, n_codes)
    prior.means.data = draws(3, n_codes)
    return prior


def exact_log_density(rows):
    pca = PCA(N_CODES, svd_solver="full").fit(rows_of_table())
    return torch.from_numpy(pca.score_samples(rows))
