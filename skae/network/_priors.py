"""Densities of the codes."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from ._normal import gaussian_draws, gaussian_log_prob, standard_normal


class Prior(nn.Module):
    """A density on the codes."""

    is_standard = False

    def __init__(self, n_components: int) -> None:
        super().__init__()
        self.n_components = n_components

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of codes of shape (..., n_components), in nats."""

    @abstractmethod
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of each component of the code."""

    def part(self, generator: torch.Generator) -> None:
        """Make parts that are the same differ, so that training can tell them apart."""

    @abstractmethod
    def draws(self, points: Tensor) -> Tensor:
        """Turn standard normal points into codes, of shape (n_points, 1, ...)."""

    @abstractmethod
    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw codes of the shape (n_samples, n_components) of `like`."""


class StandardNormal(Prior):
    """The prior N(0, I)."""

    is_standard = True
    zeros: Tensor

    def __init__(self, n_components: int) -> None:
        super().__init__(n_components)
        self.register_buffer("zeros", torch.zeros(n_components), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        return gaussian_log_prob(z, *self.moments())

    def moments(self) -> tuple[Tensor, Tensor]:
        return self.zeros, self.zeros

    def draws(self, points: Tensor) -> Tensor:
        return points.unsqueeze(1)

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return standard_normal(like, generator)


class GaussianMixture(Prior):
    """A learned mixture of diagonal Gaussians, each N(0, I) at the start.

    Tomczak, J. and Welling, M. (2018). VAE with a VampPrior. AISTATS.
    """

    def __init__(self, n_parts: int, n_components: int) -> None:
        super().__init__(n_components)
        means = torch.zeros(n_parts, n_components, dtype=torch.float64)
        self.means = nn.Parameter(means)
        self.log_variances = nn.Parameter(torch.zeros_like(means))
        self.logits = nn.Parameter(torch.zeros(n_parts, dtype=torch.float64))

    def part(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.means.add_(standard_normal(self.means, generator), alpha=1e-3)

    def log_prob(self, z: Tensor) -> Tensor:
        of_parts = self.means.unsqueeze(-3), self.log_variances.unsqueeze(-3)
        parts = gaussian_log_prob(z[..., None, :], *of_parts)
        return (parts + self.logits.log_softmax(dim=-1)).logsumexp(dim=-1)

    def moments(self) -> tuple[Tensor, Tensor]:
        shares = self.logits.softmax(dim=-1)
        mean = shares @ self.means
        spread = (self.means - mean).square() + self.log_variances.exp()
        return mean, (shares @ spread).log()

    def draws(self, points: Tensor) -> Tensor:
        """Give each part as many of the points as is its share."""
        ends = self.logits.softmax(dim=0).cumsum(dim=0)
        places = (torch.arange(len(points), device=points.device) + 0.5) / len(points)
        part = torch.searchsorted(ends[:-1], places.to(ends))
        return self._around(part, points).unsqueeze(1)

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        shares = self.logits.softmax(dim=0)
        part = torch.multinomial(
            shares, len(like), replacement=True, generator=generator
        )
        return self._around(part, standard_normal(like, generator))

    def _around(self, part: Tensor, noise: Tensor) -> Tensor:
        return gaussian_draws(self.means[part], self.log_variances[part], noise)
