"""The density of rows under a VAE, and what it expects of their missing cells.

Both are integrals over the code, estimated by importance sampling at points that are
the same for every row: what is said of a row depends on nothing but the row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import gen_batches
from torch import Tensor

from .._torch import make_generator, no_gradients, to_numpy
from ..network._autoencoders import VariationalAutoencoder
from ..network._cells import Cells
from ..network._importance import log_joint, log_mean_exp, normal_points
from ..network._normal import gaussian_draws, gaussian_log_prob
from ..network._priors import Prior
from ._conditional import OfParts, Part
from ._leave_one_out import leave_one_out_by_points
from ._model import Model

CURVATURES = 4  # times that the climb to the mode of a posterior measures it
CLIMBS = 2  # steps with each curvature
STEP_LENGTHS = (0.0, 1 / 64, 1 / 16, 1 / 4, 1.0)
LARGEST_DAMPING = 1e12
FEW_FEATURES = 50  # each of which is left out with codes of its own
SHARED_POINTS = 16  # times as many as one feature has, where all share them
MOST_CODES = 10_000  # whose density is computed at once
WIDEST_CODE = 64  # components that a matrix of curvatures per row is worth its time for


@dataclass(frozen=True)
class Gaussians:
    """A Gaussian over codes for each row.

    Attributes
    ----------
    mean : Tensor of shape (n_rows, n_components)
    factor : Tensor of shape (n_rows, n_components, n_components)
        Cholesky factor of the precision matrix (lower triangle).
    """

    mean: Tensor
    factor: Tensor

    def draws(self, noise: Tensor) -> Tensor:
        """Turn noise of shape (n_points, n_components) into codes of every row."""
        columns = noise.T.expand(len(self.mean), -1, -1)
        spread = torch.linalg.solve_triangular(self.factor.mT, columns, upper=True)
        return self.mean + spread.permute(2, 0, 1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of codes of shape (n_points, n_rows, n_components)."""
        whitened = (z - self.mean).movedim(0, 1) @ self.factor
        log_volume = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
        constant = 0.5 * math.log(2 * math.pi) * z.shape[-1]
        return -0.5 * whitened.square().sum(dim=-1).T + log_volume - constant


@dataclass(frozen=True)
class Diagonals:
    """Diagonal Gaussians over codes, one for each row, as the encoder gives them.

    Attributes
    ----------
    mean, log_variance : Tensor of shape (n_rows, n_components)
    """

    mean: Tensor
    log_variance: Tensor

    def draws(self, noise: Tensor) -> Tensor:
        """Turn noise of shape (n_points, n_components) into codes of every row."""
        return gaussian_draws(self.mean, self.log_variance, noise[:, None, :])

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of codes of shape (n_points, n_rows, n_components)."""
        return gaussian_log_prob(z, self.mean, self.log_variance)


@dataclass(frozen=True)
class Proposal:
    """Where the codes of rows are looked for.

    By the encoder and around the mode; where cells are missing, by the prior as well:
    what they leave open may be codes far apart, and neither knows of more than some.

    Attributes
    ----------
    encoder : Diagonals
    mode : Gaussians or None
        Laplace's approximation of the posterior; None where it is not to be had.
    prior : Prior or None
    holed : Tensor of bool of shape (n_rows, 1)
        Which rows the prior is for.
    """

    encoder: Diagonals
    mode: Gaussians | None
    prior: Prior | None
    holed: Tensor

    @classmethod
    def of(
        cls,
        module: VariationalAutoencoder,
        cells: Cells,
        *,
        climb: bool = True,
        by_prior: bool = False,
    ) -> Proposal:
        encoder = Diagonals(*module.posterior(cells))
        holed = torch.zeros_like(encoder.mean[:, :1], dtype=torch.bool)
        if cells.seen is not None:
            holed = (cells.seen == 0).any(dim=1, keepdim=True)
        prior = module.prior if by_prior else None
        if not climb or encoder.mean.shape[1] > WIDEST_CODE:
            return cls(encoder, None, prior, holed)
        try:
            mode = laplace_approximation(module, cells, encoder.mean)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # torch's, of a user's decoder without second derivatives
            mode = None
        return cls(encoder, mode, prior, holed)

    def split(self, n_rows: int) -> list[Proposal]:
        def split(gaussians: Any) -> list[Any]:
            tensors = (tensor.split(n_rows) for tensor in vars(gaussians).values())
            return [type(gaussians)(*part) for part in zip(*tensors, strict=True)]

        encoders, holed = split(self.encoder), self.holed.split(n_rows)
        modes = [None] * len(encoders) if self.mode is None else split(self.mode)
        parts = zip(encoders, modes, holed, strict=True)
        return [Proposal(one, mode, self.prior, some) for one, mode, some in parts]

    def draws(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Turn points into codes of every row; return their log-densities."""
        sources = [s for s in (self.encoder, self.mode) if s is not None]
        if self.prior is None or not self.holed.any():
            return draws_of_mixture(sources, points)
        wide, of_wide = draws_of_mixture([*sources, self.prior], points)
        if self.holed.all():
            return wide, of_wide
        z, log_density = draws_of_mixture(sources, points)
        return (
            torch.where(self.holed, wide, z),
            torch.where(self.holed[:, 0], of_wide, log_density),
        )


def draws_of_mixture(sources: Sequence[Any], points: Tensor) -> tuple[Tensor, Tensor]:
    """Turn as many points into codes by each source; return their log-densities.

    Such a deterministic mixture [1]_ weighs each code by the density of all.

    References
    ----------
    .. [1] Owen, A. and Zhou, Y. (2000). Safe and effective importance sampling.
       Journal of the American Statistical Association 95(449), 135-143.
    """
    each = points.tensor_split(len(sources))
    drawn = [source.draws(part) for source, part in zip(sources, each, strict=True)]
    z = torch.cat([codes.expand(-1, drawn[0].shape[1], -1) for codes in drawn])
    shares = z.new_tensor([len(part) / len(points) for part in each]).log()

    def log_density(some: Tensor) -> Tensor:
        parts = [source.log_prob(some) for source in sources]
        return (torch.stack(parts, dim=-1) + shares).logsumexp(dim=-1)

    at_once = z.split(max(1, MOST_CODES // z.shape[1]))  # of one row, many points
    return z, torch.cat([log_density(some) for some in at_once])


def laplace_approximation(
    module: VariationalAutoencoder, cells: Cells, z: Tensor
) -> Gaussians:
    """Climb to the mode of each row's posterior by Newton's method; measure it there.

    In a linear model this is the posterior, and so is what the encoder says.
    """
    for _ in range(CURVATURES):
        factor = _precision_factor(module, cells, z)
        for _ in range(CLIMBS):
            with torch.enable_grad():
                leaf = z.detach().requires_grad_()
                slope = _slope(log_joint(module, leaf, cells), leaf)[:, :, None]
            half = torch.linalg.solve_triangular(factor, slope, upper=False)
            step = torch.linalg.solve_triangular(factor.mT, half, upper=True)[:, :, 0]
            z = _highest(module, cells, z, step.nan_to_num(0.0, 0.0, 0.0))
    return Gaussians(z, _precision_factor(module, cells, z))


def _highest(
    module: VariationalAutoencoder, cells: Cells, z: Tensor, step: Tensor
) -> Tensor:
    """Go as far along a step as is best of some lengths, none included."""
    lengths = torch.tensor(STEP_LENGTHS, dtype=z.dtype, device=z.device)
    candidates = z + lengths[:, None, None] * step
    heights = log_joint(module, candidates, cells).nan_to_num(-math.inf)
    best = heights.argmax(dim=0)
    return candidates[best, torch.arange(len(z), device=z.device)]


def _slope(height: Tensor, z: Tensor, *, again: bool = False) -> Tensor:
    """Differentiate heights, and the slopes once more where that is to come."""
    return torch.autograd.grad(height.sum(), z, create_graph=again)[0]


def _precision_factor(
    module: VariationalAutoencoder, cells: Cells, z: Tensor
) -> Tensor:
    """Cholesky factors of minus the second derivatives of the log-joint density.

    Where that is not positive definite, a multiple of one is added until it is.
    """
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        slope = _slope(log_joint(module, leaf, cells), leaf, again=True)
        columns = [
            torch.autograd.grad(part.sum(), leaf, retain_graph=True)[0]
            for part in slope.unbind(dim=1)
        ]
    precision = -torch.stack(columns, dim=2)
    precision = (0.5 * (precision + precision.mT)).nan_to_num(0.0, 0.0, 0.0)
    one = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    factor, failed = torch.linalg.cholesky_ex(precision)
    damping = 1.0
    while failed.any() and damping < LARGEST_DAMPING:
        damped, still = torch.linalg.cholesky_ex(precision + damping * one)
        factor = torch.where((failed > 0)[:, None, None], damped, factor)
        failed = torch.where(failed > 0, still, failed)
        damping *= 4
    return torch.where((failed > 0)[:, None, None], one, factor)


def weighted_codes(
    module: VariationalAutoencoder,
    cells: Cells,
    points: Tensor,
    n_at_once: int,
    *,
    climb: bool = True,
    by_prior: bool = False,
) -> Iterator[tuple[Cells, Tensor, Tensor]]:
    """Draw codes of rows with the logarithms of their importance weights.

    Parameters
    ----------
    module : VariationalAutoencoder
    cells : Cells
    points : Tensor of shape (n_points, n_components)
        Standard normal; they serve every row.
    n_at_once : int
        Codes in memory.
    climb : bool, default=True
        Whether to look around the mode of the posterior as well as by the encoder.
    by_prior : bool, default=False
        Whether to look by the prior, too, where cells are missing.

    Yields
    ------
    cells : Cells
        Some of the rows, in their order.
    z : Tensor of shape (n_points, n_rows, n_components)
    log_weights : Tensor of shape (n_points, n_rows)
        log p(x, z) - log q(z | x), x being the seen cells.
    """
    points = points.to(cells.values)
    proposal = Proposal.of(module, cells, climb=climb, by_prior=by_prior)
    n_rows = max(1, n_at_once // len(points))
    for part, some in zip(cells.split(n_rows), proposal.split(n_rows), strict=True):
        z, log_density = some.draws(points)
        at_once = z.split(max(1, n_at_once // len(part)))  # of one row, many points
        heights = torch.cat([log_joint(module, codes, part) for codes in at_once])
        yield part, z, heights - log_density


@dataclass(frozen=True)
class NetworkDensity:
    """The density that a VAE's networks have, without company.

    Attributes
    ----------
    model : Model
    n_points : int
        Of importance sampling, for each row.
    """

    model: Model
    n_points: int = 100

    def at(self, n_points: int) -> Self:
        """Return the same density, looked for at another number of points."""
        return replace(self, n_points=n_points)

    def given(self, X: np.ndarray, seen: np.ndarray) -> NetworkConditional:
        """Condition on the seen cells of each row, by importance sampling."""
        return NetworkConditional.of(self.model, X, seen, self.n_points)

    def sample(self, n_rows: int, generator: np.random.Generator) -> np.ndarray:
        """Draw rows of shape (n_rows, n_columns)."""
        model, like = self.model, self.model.tensor(np.empty(0))
        draws = make_generator(int(generator.integers(2**62)), like.device)
        with no_gradients():
            module: Any = model.module(like.dtype)
            parts = []
            for part in gen_batches(n_rows, model.chunk_rows):
                size = part.stop - part.start, model.design.n_components
                codes = module.prior.sample(like.new_empty(size), draws)
                drawn = module.loss.sample(module.decoder(codes), draws)
                parts.append(to_numpy(drawn).astype(np.float64))
        return np.concatenate(parts)


@dataclass(frozen=True)
class NetworkBound(NetworkDensity):
    """The evidence lower bound (ELBO) in place of the density: less tight."""

    def given(self, X: np.ndarray, seen: np.ndarray) -> NetworkConditional:
        """Condition on the seen cells of each row, by draws of the encoder alone."""
        return NetworkConditional.of(self.model, X, seen, self.n_points, is_tight=False)


@dataclass(frozen=True)
class NetworkConditional(OfParts):
    """What a VAE's networks say of rows by their seen cells.

    Attributes
    ----------
    model : Model
    X : ndarray of shape (n_rows, n_columns)
    seen : ndarray of bool of shape (n_rows, n_columns)
    codes : Tensor of shape (n_points, n_rows, n_components)
    log_weights : Tensor of shape (n_points, n_rows)
        log p(x, z) - log q(z), x being the seen cells.
    is_tight : bool
        Whether the density is the importance-weighted bound, or the ELBO.
    """

    model: Model
    X: np.ndarray
    seen: np.ndarray
    codes: Tensor
    log_weights: Tensor
    is_tight: bool = True

    @classmethod
    def of(
        cls,
        model: Model,
        X: np.ndarray,
        seen: np.ndarray,
        n_points: int,
        *,
        is_tight: bool = True,
    ) -> NetworkConditional:
        points = normal_points(n_points, model.design.n_components)
        cells = model.tensors(model.cells(model.encoded(X, seen)))
        with no_gradients():
            module: Any = model.module(cells.values.dtype)
            draws = weighted_codes(
                module,
                cells,
                points,
                model.chunk_rows,
                climb=is_tight,
                # At its start the posterior is known, of any cells.
                by_prior=is_tight and model.is_trained,
            )
            _, codes, log_weights = zip(*draws, strict=True)
        z, log_weight = torch.cat(codes, dim=1), torch.cat(log_weights, dim=1)
        return cls(model, X, seen, z, log_weight, is_tight)

    @property
    def log_density(self) -> np.ndarray:
        """Bound that of the seen cells, in nats; of nothing it is exactly zero."""
        weights = self.log_weights
        bound = log_mean_exp(weights) if self.is_tight else weights.mean(dim=0)
        return np.where(self.seen.any(axis=1), to_numpy(bound), 0.0)

    @property
    def effective_draws(self) -> np.ndarray:
        """How many codes carry the answers for each row."""
        return to_numpy(1 / self.log_weights.softmax(dim=0).square().sum(dim=0))

    def leave_one_out(self) -> np.ndarray:
        """Log-density of each cell given the others of its row."""
        n_points, widths = len(self.codes), self.model.design.widths
        density = NetworkDensity(self.model, n_points)
        is_wide = len(widths) > FEW_FEATURES
        n_shared = SHARED_POINTS * n_points if is_wide else None
        return leave_one_out_by_points(self, density, widths, n_shared)

    def log_weights_without_each(self) -> Iterator[np.ndarray]:
        """Yield log-weights of some codes for the rows without each of their cells."""
        model = self.model
        cells = model.tensors(model.cells(model.encoded(self.X, self.seen)))
        module: Any = model.module(self.codes.dtype)
        at_once = max(1, model.chunk_rows // len(cells))
        pairs = zip(
            self.codes.split(at_once), self.log_weights.split(at_once), strict=True
        )
        with no_gradients():
            for codes, log_weights in pairs:
                each = module.loss.per_cell(module.decoder(codes), cells.values)
                each = each if cells.seen is None else each * cells.seen
                without = log_weights[:, :, None] - each
                yield to_numpy(without).astype(np.float64)

    def parts(self) -> Iterator[Part]:
        """Yield what each code says of the cells, by its importance weight [1]_.

        References
        ----------
        .. [1] Mattei, P.-A. and Frellsen, J. (2019). MIWAE: Deep generative modelling
           and imputation of incomplete data sets. ICML, equation 13.
        """
        module: Any = self.model.module(self.codes.dtype)
        chances = to_numpy(self.log_weights.softmax(dim=0)).astype(np.float64)
        with no_gradients():
            for z, chance in zip(self.codes, chances, strict=True):
                output = module.decoder(z)
                told = module.loss.mean(output), module.loss.variance(output)
                mean, variance = (to_numpy(of).astype(np.float64) for of in told)
                mean = np.where(self.seen, self.X, mean)
                yield Part(chance, mean, np.where(self.seen, 0.0, variance))

    def draws(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw whole rows, of shape (n, n_rows, n_columns), around the seen cells."""
        module: Any = self.model.module(self.codes.dtype)
        seed = int(generator.integers(2**62))
        draws = make_generator(seed, self.codes.device)
        chances = self.log_weights.softmax(dim=0).T
        chosen = torch.multinomial(chances, n, replacement=True, generator=draws).T
        rows = torch.arange(chosen.shape[1], device=chosen.device)
        codes = self.codes[chosen, rows].flatten(0, 1)
        with no_gradients():
            drawn = np.concatenate(
                [
                    to_numpy(module.loss.sample(module.decoder(part), draws))
                    for part in codes.split(self.model.chunk_rows)
                ]
            )
        return np.where(self.seen, self.X, drawn.reshape(n, *self.X.shape))
