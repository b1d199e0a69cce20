"""The density of an autoencoder: of its codes, and of what reconstructions leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import linalg
from scipy.special import logsumexp, softmax
from torch import Tensor

from .._schema import Encoded
from .._torch import make_generator, no_gradients, to_numpy
from ._conditional import OfParts, Part
from ._em import fit_mixture
from ._level_columns import LevelColumns, draw_index, level_columns
from ._mixture import Mixture
from ._model import Model

CODE_PARTS = 30  # of the mixture that codes are drawn from
ROWS_PER_PART = 20  # for each component of the code, or number of a row
WIDEST = 200  # columns whose residuals are drawn with their correlations
LEARNED_ROWS = 5_000
SLACKS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)  # of a variance
TINY = 1e-12  # variance in scaled units that keeps exact reconstructions a density
COMPLETING_PARTS = 5  # of a mixture that draws the holes of a table


@dataclass(frozen=True)
class GivenCodes:
    """Numbers given a code, in each part of a mixture of codes.

    They are linear in the code, with Gaussian noise of any covariance around that.

    Attributes
    ----------
    codes : Mixture
    slopes : ndarray of shape (n_parts, 1 + n_components, n_numbers)
        The first is a constant.
    factors : ndarray of shape (n_parts, n_numbers, n_numbers)
        Cholesky factors of the covariances. Where there are many columns, deviations of
        shape (n_parts, n_numbers).
    """

    codes: Mixture
    slopes: np.ndarray
    factors: np.ndarray

    @classmethod
    def learn(
        cls,
        mixture: Mixture,
        memberships: np.ndarray,
        codes: np.ndarray,
        numbers: np.ndarray,
    ) -> GivenCodes:
        """Regress numbers on codes by weighted least squares in each part.

        `memberships` are of the rows, times their weights.
        """
        regressors = np.c_[np.ones(len(codes)), codes]
        slopes, squares = [], []
        for weight in memberships.T:
            weighted = weight[:, None] * regressors
            normal = weighted.T @ regressors, weighted.T @ numbers
            slopes.append(np.linalg.lstsq(*normal)[0])
            squares.append(_squares(numbers - regressors @ slopes[-1], weight))
        totals = memberships.sum(axis=0)
        usual = _correlations(np.sum(squares, axis=0), totals.sum())
        pairs = zip(squares, totals, strict=True)
        factors = [_factor(square, total, usual) for square, total in pairs]
        return cls(mixture, np.stack(slopes), np.stack(factors))

    def joint(self, chances: np.ndarray, levels: LevelColumns) -> Mixture:
        """Return the mixture of codes, these numbers and levels of given chances."""
        slopes = self.slopes[:, 1:]
        cross = self.codes.covariances @ slopes
        covariances = np.concatenate(
            [
                np.concatenate([self.codes.covariances, cross], axis=2),
                np.concatenate(
                    [
                        cross.swapaxes(1, 2),
                        slopes.swapaxes(1, 2) @ cross + self._noise(),
                    ],
                    axis=2,
                ),
            ],
            axis=1,
        )
        means = self.codes.means
        numbers = self.slopes[:, 0] + (means[:, None] @ slopes)[:, 0]
        means = np.concatenate([means, numbers], axis=1)
        covariances = _positive(covariances)
        return Mixture(self.codes.weights, means, covariances, chances, levels)

    @property
    def log_noise(self) -> float:
        """Mean logarithm of the deviation of a number around what the code says."""
        if self.factors.ndim == 2:
            return float(self.codes.weights @ np.log(self.factors).mean(axis=1))
        deviations = np.sqrt((self.factors**2).sum(axis=2))
        if not deviations.size:
            return 0.0
        return float(self.codes.weights @ np.log(deviations).mean(axis=1))

    def _noise(self) -> np.ndarray:
        if self.factors.ndim == 3:
            return self.factors @ self.factors.swapaxes(1, 2)
        return self.factors[:, :, None] ** 2 * np.eye(self.factors.shape[1])


def _squares(noise: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sum products of residuals over rows: of all pairs, of many columns each's own."""
    if noise.shape[1] > WIDEST:
        return np.asarray(weight @ noise**2)
    return np.asarray((weight[:, None] * noise).T @ noise)


def _correlations(squares: np.ndarray, total: float) -> np.ndarray | None:
    """Return the correlations of all residuals, smaller where there are few rows.

    None where there are more columns than could have any.
    """
    if squares.ndim == 1:
        return None
    covariance = squares / max(total, 1.0)
    deviations = np.sqrt(covariance.diagonal() + TINY)
    known = total / (len(squares) + total)
    correlations = known * covariance / np.outer(deviations, deviations)
    np.fill_diagonal(correlations, 1.0)
    return correlations


def _factor(
    squares: np.ndarray, total: float, correlations: np.ndarray | None
) -> np.ndarray:
    """Return what turns standard normal draws into draws like weighted rows of a part.

    Where the part has few rows for so many columns, its correlations are drawn towards
    those of all parts.
    """
    total = max(total, 1.0)
    covariance = squares / total
    if correlations is None:
        return np.sqrt(covariance + TINY)
    variances = covariance.diagonal() + TINY
    deviations = np.sqrt(variances)
    usual = correlations * np.outer(deviations, deviations)
    known = total / (len(squares) + total)
    covariance = known * covariance + (1 - known) * usual
    slack = TINY + 1e-9 * variances.max(initial=0.0)
    np.fill_diagonal(covariance, variances + slack)
    return linalg.cholesky(covariance, lower=True)


def _positive(covariances: np.ndarray) -> np.ndarray:
    """Add to the variances what rounding has left them short of, if anything.

    Numbers that the code tells exactly have no variance of their own.
    """
    every = np.arange(covariances.shape[1])
    for slack in SLACKS:
        raised = covariances.copy()
        raised[:, every, every] *= 1 + slack
        try:
            np.linalg.cholesky(raised)
            np.linalg.cholesky(raised[:, ::-1, ::-1])
        except np.linalg.LinAlgError:
            continue
        break
    return raised


@dataclass(frozen=True)
class ReconstructionDensity:
    """The density of rows that are decoded codes plus what a reconstruction leaves.

    Codes have a mixture of Gaussians; residuals of numbers are Gaussian given the code,
    with their correlations; levels are independent given the code, by the chances that
    are decoded. Codes of rows are looked for by importance sampling, from a mixture of
    codes and rows.

    Attributes
    ----------
    model : Model
    residuals, rows : GivenCodes
        Of the numbers.
    chances : ndarray of shape (n_parts, n_indicators)
        Of levels, in each part of the codes.
    n_points : int
        Of importance sampling, for each row.
    """

    model: Model
    residuals: GivenCodes
    rows: GivenCodes
    chances: np.ndarray
    n_points: int = 100

    @classmethod
    def learn(cls, model: Model, encoded: Encoded, seed: int) -> ReconstructionDensity:
        """Learn what codes and residuals of some rows are like.

        Codes of rows with holes may be those of the rows as they are, which training
        has seen, or as they are completed, which are of one piece: by what leaves less.
        """
        encoded = encoded.take(slice(LEARNED_ROWS))
        rows, weight = _completed(encoded, model, seed), encoded.relative_weight
        candidates = [cls._around(model, model.latent(encoded), rows, weight, seed)]
        if encoded.seen is not None:
            codes = model.latent(replace(encoded, matrix=rows, seen=None))
            candidates.append(cls._around(model, codes, rows, weight, seed))
        return min(candidates, key=lambda density: density.residuals.log_noise)

    @classmethod
    def _around(
        cls,
        model: Model,
        codes: np.ndarray,
        rows: np.ndarray,
        weight: np.ndarray,
        seed: int,
    ) -> ReconstructionDensity:
        numbers = slice(_n_residuals(model))
        left = (rows - model.decoded(codes))[:, numbers]
        mixture = _mixture_of(codes, weight, seed)
        memberships = mixture.memberships(codes) * weight[:, None]
        levels = level_columns(model.design.blocks)
        first = model.design.n_numbers
        chosen = levels.indicators(rows[:, first:])
        frequencies = weight @ chosen / weight.sum()
        mass = memberships.sum(axis=0)[:, None]
        chances = (memberships.T @ chosen + frequencies) / (mass + 1)
        return cls(
            model,
            GivenCodes.learn(mixture, memberships, codes, left),
            GivenCodes.learn(mixture, memberships, codes, rows[:, numbers]),
            chances,
        )

    @cached_property
    def joint(self) -> Mixture:
        """Codes and residuals."""
        n_parts = len(self.residuals.codes.weights)
        return self.residuals.joint(np.empty((n_parts, 0)), LevelColumns())

    @cached_property
    def proposal(self) -> Mixture:
        """Codes and rows, as far as they are linear."""
        return self.rows.joint(self.chances, level_columns(self.model.design.blocks))

    def __getstate__(self) -> dict[str, Any]:
        lazy = {"joint", "proposal"}  # large, and made anew in no time
        return {k: v for k, v in vars(self).items() if k not in lazy}

    def at(self, n_points: int) -> ReconstructionDensity:
        """Return the same density, looked for at another number of points."""
        return replace(self, n_points=n_points)

    def given(self, X: np.ndarray, seen: np.ndarray) -> ReconstructionConditional:
        """Condition on the seen cells of each row, by importance sampling."""
        return ReconstructionConditional.of(self, X, seen)

    def sample(self, n_rows: int, generator: np.random.Generator) -> np.ndarray:
        """Draw rows of shape (n_rows, n_columns)."""
        parts, size = [], self.model.chunk_rows
        for start in range(0, n_rows, size):
            codes = self.residuals.codes.sample(min(size, n_rows - start), generator)
            parts.append(self.around(codes, generator))
        return np.concatenate(parts)

    def around(
        self,
        codes: np.ndarray,
        generator: np.random.Generator,
        residuals: np.ndarray | None = None,
    ) -> np.ndarray:
        """Draw a row around each code, with residuals of which NaN are to be drawn."""
        n_codes, n_left = codes.shape[1], _n_residuals(self.model)
        if residuals is None:
            residuals = np.full((len(codes), n_left), np.nan)
        joined = np.c_[codes, residuals]
        known = self.joint.given(np.nan_to_num(joined), ~np.isnan(joined))
        left = known.draws(1, generator)[0, :, n_codes:]
        rows = _drawn(self.model, codes, int(generator.integers(2**62)))
        rows[:, :n_left] = self.model.decoded(codes)[:, :n_left] + left
        return rows


def _n_residuals(model: Model) -> int:
    """Numbers that are decoded up to a residual; others are drawn by chances."""
    blocks = [block for block in model.design.blocks if block.kind.domain == "real"]
    return sum(block.width for block in blocks)


def _completed(encoded: Encoded, model: Model, seed: int) -> np.ndarray:
    """Draw the holes of rows from a mixture of their seen cells.

    What a reconstruction of a row with holes says of them was never trained; what it
    leaves of such a draw puts that right.
    """
    X, seen = encoded.matrix.astype(np.float64), encoded.cells_seen
    if encoded.seen is None:
        return X
    mixture = fit_mixture(
        X,
        seen,
        encoded.relative_weight,
        int(np.clip(len(X) // (ROWS_PER_PART * X.shape[1]), 1, COMPLETING_PARTS)),
        kind="full" if X.shape[1] <= WIDEST else "diag",
        levels=level_columns(model.design.blocks),
        seed=seed,
    )
    known = mixture.given(X, seen)
    (whole,) = known.draws(1, np.random.default_rng(seed))
    return np.asarray(whole)


def _mixture_of(codes: np.ndarray, weight: np.ndarray, seed: int) -> Mixture:
    """Fit a mixture of a few full Gaussians to codes."""
    mean = np.average(codes, axis=0, weights=weight)
    scales = np.sqrt(np.average((codes - mean) ** 2, axis=0, weights=weight))
    scales[scales == 0] = 1.0
    most = len(codes) // (ROWS_PER_PART * codes.shape[1])
    mixture = fit_mixture(
        codes / scales,
        np.ones(codes.shape, dtype=bool),
        weight,
        int(np.clip(most, 1, CODE_PARTS)),
        kind="full",
        levels=LevelColumns(),
        seed=seed,
    )
    return mixture.times(scales, 0 * scales)


@dataclass(frozen=True)
class ReconstructionConditional(OfParts):
    """What an autoencoder's density says of rows by their seen cells.

    Attributes
    ----------
    density : ReconstructionDensity
    X : ndarray of shape (n_rows, n_columns)
    seen : ndarray of bool of shape (n_rows, n_columns)
    codes : ndarray of shape (n_points, n_rows, n_components)
    decoded : ndarray of shape (n_points, n_rows, n_columns)
    log_weights : ndarray of shape (n_points, n_rows)
    """

    density: ReconstructionDensity
    X: np.ndarray
    seen: np.ndarray
    codes: np.ndarray
    decoded: np.ndarray
    log_weights: np.ndarray

    @classmethod
    def of(
        cls, density: ReconstructionDensity, X: np.ndarray, seen: np.ndarray
    ) -> ReconstructionConditional:
        model, n_points = density.model, density.n_points
        n_codes = model.design.n_components
        parts = _proposal_columns(model)
        joined = np.c_[np.zeros((len(X), n_codes)), X[:, parts]]
        known = np.c_[np.zeros((len(X), n_codes), dtype=bool), seen[:, parts]]
        at_rows = density.proposal.given(joined, known)
        points = np.random.default_rng(0)  # the same for every row
        codes = at_rows.draws(n_points, points, shared=True)[:, :, :n_codes]
        flat = codes.reshape(-1, n_codes)
        joined = np.c_[flat, np.tile(X[:, parts], (n_points, 1))]
        known = np.c_[np.ones(flat.shape, bool), np.tile(seen[:, parts], (n_points, 1))]
        log_proposal = density.proposal.given(joined, known).log_density
        log_joint = _log_joint(density, flat, X, seen)
        log_weights = (log_joint - log_proposal).reshape(n_points, -1)
        decoded = model.decoded(flat).reshape(n_points, *X.shape)
        return cls(density, X, seen, codes, decoded, log_weights + at_rows.log_density)

    @property
    def log_density(self) -> np.ndarray:
        """Of the seen cells, in nats."""
        mean = logsumexp(self.log_weights, axis=0) - np.log(len(self.log_weights))
        return np.where(self.seen.any(axis=1), mean, 0.0)

    @property
    def effective_draws(self) -> np.ndarray:
        """How many codes carry the answers for each row."""
        return np.asarray(1 / (softmax(self.log_weights, axis=0) ** 2).sum(axis=0))

    def parts(self) -> Iterator[Part]:
        """Yield what each code says of the cells, by its importance weight."""
        chances = softmax(self.log_weights, axis=0)
        for chance, mean, variance in zip(chances, *self._moments(), strict=True):
            mean = np.where(self.seen, self.X, mean)
            yield Part(chance, mean, np.where(self.seen, 0.0, variance))

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each cell given each code."""
        of, n_points = self.density, len(self.codes)
        n_left, n_codes = _n_residuals(of.model), self.codes.shape[2]
        joined = np.c_[self.codes.reshape(-1, n_codes), self._residuals()]
        known = of.joint.given(np.nan_to_num(joined), ~np.isnan(joined))
        left, spread = (m[:, n_codes:] for m in known.moments())
        shape = (n_points, len(self.X), n_left)
        means, variances = _chances(of.model, self.decoded)
        means[:, :, :n_left] = self.decoded[:, :, :n_left] + left.reshape(shape)
        variances[:, :, :n_left] = spread.reshape(shape)
        return means, variances

    def _residuals(self) -> np.ndarray:
        """Return what each decoded code leaves of the seen numbers, NaN elsewhere."""
        n_left = _n_residuals(self.density.model)
        left = (self.X - self.decoded)[:, :, :n_left]
        left = np.where(self.seen[:, :n_left], left, np.nan)
        return left.reshape(len(left) * len(self.X), n_left)

    def draws(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw whole rows, of shape (n, n_rows, n_columns), around the seen cells."""
        uniform = generator.random((n, len(self.X), 1))
        chosen = draw_index(softmax(self.log_weights, axis=0).T, uniform)
        rows = np.arange(len(self.X))
        n_left = _n_residuals(self.density.model)
        left = self._residuals().reshape(len(self.codes), len(self.X), n_left)
        codes = self.codes[chosen, rows].reshape(-1, self.codes.shape[2])
        drawn = self.density.around(
            codes, generator, left[chosen, rows].reshape(len(codes), left.shape[2])
        )
        return np.where(self.seen, self.X, drawn.reshape(n, *self.X.shape))


def _proposal_columns(model: Model) -> np.ndarray:
    """Columns of the matrix that codes are looked for by."""
    columns = np.arange(model.design.n_columns)
    is_number = columns < model.design.n_numbers
    return columns[(columns < _n_residuals(model)) | ~is_number]


def _log_joint(
    density: ReconstructionDensity, codes: np.ndarray, X: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """Log-density of codes and of the seen cells, for each point and row."""
    n_left = _n_residuals(density.model)
    n_points = len(codes) // len(X)
    decoded = density.model.decoded(codes)
    left = np.tile(X[:, :n_left], (n_points, 1)) - decoded[:, :n_left]
    known = np.tile(seen[:, :n_left], (n_points, 1))
    joined = np.c_[codes, np.where(known, left, 0.0)]
    known = np.c_[np.ones(codes.shape, dtype=bool), known]
    result = density.joint.given(joined, known).log_density
    if n_left < X.shape[1]:
        result = result + _log_chances(density.model, codes, X, seen)
    return result


def _drawn(model: Model, codes: np.ndarray, seed: int) -> np.ndarray:
    """Draw levels by the chances that are decoded; numbers are as decoded."""
    latent = model.tensor(codes)
    with no_gradients():
        module: Any = model.module(latent.dtype)
        generator = make_generator(seed, latent.device)
        drawn = module.loss.sample(module.decoder(latent), generator)
    return to_numpy(drawn).astype(np.float64)


def _chances(model: Model, decoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of cells that are drawn by chances, given each code."""
    levels, first = level_columns(model.design.blocks), model.design.n_numbers
    means, variances = decoded.copy(), decoded * (1 - decoded)
    chances = levels.normalised(decoded[..., first:])
    means[..., first:], variances[..., first:] = levels.moments(chances)
    return means, variances


def _log_chances(
    model: Model, codes: np.ndarray, X: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """Log-chance of the seen cells that have no residual, for each point and row."""
    n_points, n_left = len(codes) // len(X), _n_residuals(model)
    encoded = model.encoded(X, seen)
    latent, values = model.tensor(codes), model.tensor(X)
    with no_gradients():
        module: Any = model.module(latent.dtype)
        output = module.decoder(latent).unflatten(0, (n_points, len(X)))
        cells: Tensor = module.loss.log_chance(output, values, torch.ones_like(values))
        log_chances = to_numpy(cells[..., n_left:]).astype(np.float64)
    if encoded.seen is not None:
        log_chances = np.where(encoded.seen[:, n_left:], log_chances, 0.0)
    return log_chances.sum(axis=-1).ravel()
