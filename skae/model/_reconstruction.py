"""The density of an autoencoder: of its codes, and of what reconstructions leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp, softmax
from sklearn.utils import gen_batches
from torch import Tensor

from .._schema import Encoded
from .._torch import make_generator, no_gradients, to_numpy
from ._conditional import MOST_NUMBERS, OfParts, Part
from ._em import fit_mixture
from ._factors import FactorConditional, FactorMixture, independent_columns
from ._given_codes import WIDEST, GivenCodes, JointMixture
from ._leave_one_out import leave_one_out_by_points
from ._level_columns import LevelColumns, draw_index, level_columns
from ._mixture import Mixture, MixtureConditional
from ._model import Model

CODE_PARTS = 30  # of the mixture that codes are drawn from
ROWS_PER_PART = 20  # for each component of the code, or number of a row
LEARNED_ROWS = 5_000
FEW_FEATURES = 100  # each of which is left out in as little time as all by shared codes
SHARED_POINTS = 8  # times as many as one feature has, where all share them
COMPLETING_PARTS = 5  # of a mixture that draws the holes of a table


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
    def joint(self) -> JointMixture | FactorMixture:
        """Codes and residuals."""
        n_parts = len(self.residuals.codes.weights)
        return self.residuals.joint(np.empty((n_parts, 0)), LevelColumns())

    @cached_property
    def proposal(self) -> JointMixture | FactorMixture:
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
        drawn = [np.empty((0, self.model.design.n_columns))]
        for some in gen_batches(n_rows, self.model.chunk_rows):
            codes = self.residuals.codes.sample(some.stop - some.start, generator)
            nothing = np.zeros((len(codes), self.model.design.n_columns))
            drawn.append(self.around(codes, nothing, nothing > 0, generator))
        return np.concatenate(drawn)

    def around(
        self,
        codes: np.ndarray,
        X: np.ndarray,
        seen: np.ndarray,
        generator: np.random.Generator,
    ) -> np.ndarray:
        """Draw a row around each code and the seen cells of a row."""
        n_codes, n_left = codes.shape[1], _n_residuals(self.model)
        output, decoded = _decoded(self.model, codes)
        decoded = decoded[:, :n_left]
        known = self.joint.given(*self.with_residuals(codes, decoded, X, seen))
        left = known.draws(1, generator)[0, :, n_codes:]
        rows = _drawn(self.model, output, int(generator.integers(2**62)))
        rows[:, :n_left] = decoded + left
        return np.where(seen, X, rows)

    def with_residuals(
        self, codes: np.ndarray, decoded: np.ndarray, X: np.ndarray, seen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Join codes and what they leave of rows; tell what of that is known."""
        numbers = slice(_n_residuals(self.model))
        known = seen[:, numbers]
        left = np.where(known, X[:, numbers] - decoded[:, numbers], 0.0)
        return np.c_[codes, left], np.c_[np.ones(codes.shape, dtype=bool), known]


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
    weight, levels = encoded.relative_weight, level_columns(model.design.blocks)
    mixture: Mixture | FactorMixture
    if X.shape[1] > WIDEST:
        mixture = independent_columns(X, seen, weight, levels)
    else:
        n_parts = np.clip(len(X) // (ROWS_PER_PART * X.shape[1]), 1, COMPLETING_PARTS)
        options = {"kind": "full", "levels": levels, "seed": seed}
        mixture = fit_mixture(X, seen, weight, int(n_parts), **options)
    (whole,) = mixture.given(X, seen).draws(1, np.random.default_rng(seed))
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
    log_weights : ndarray of shape (n_points, n_rows)
    decoded : ndarray of shape (n_points * n_rows, n_columns) or None
        Of the codes; None where they are too many to be decoded at once.
    """

    density: ReconstructionDensity
    X: np.ndarray
    seen: np.ndarray
    codes: np.ndarray
    log_weights: np.ndarray
    decoded: np.ndarray | None

    @classmethod
    def of(
        cls, density: ReconstructionDensity, X: np.ndarray, seen: np.ndarray
    ) -> ReconstructionConditional:
        columns = _proposal_columns(density.model)
        found = density.proposal.codes_of_rows(X[:, columns], seen[:, columns])
        points = np.random.default_rng(0)  # the same for every row
        codes = found.draws(density.n_points, points)
        log_weights = found.log_density - found.log_joint(codes)
        decoded = None
        for some in _at_once(codes, X):
            log_joint, decoded = _log_joint(density, codes[some], X, seen)
            log_weights[some] += log_joint
        if decoded is not None and len(decoded) < log_weights.size:
            decoded = None
        return cls(density, X, seen, codes, log_weights, decoded)

    @property
    def log_density(self) -> np.ndarray:
        """Of the seen cells, in nats."""
        mean = logsumexp(self.log_weights, axis=0) - np.log(len(self.log_weights))
        return np.where(self.seen.any(axis=1), mean, 0.0)

    @property
    def effective_draws(self) -> np.ndarray:
        """How many codes carry the answers for each row."""
        return np.asarray(1 / (softmax(self.log_weights, axis=0) ** 2).sum(axis=0))

    def leave_one_out(self) -> np.ndarray:
        """Log-density of each cell given the others of its row."""
        density, widths = self.density, self.density.model.design.widths
        is_wide = len(widths) > FEW_FEATURES
        n_shared = SHARED_POINTS * density.n_points if is_wide else None
        return leave_one_out_by_points(self, density, widths, n_shared)

    def log_weights_without_each(self) -> Iterator[np.ndarray]:
        """Yield log-weights of some codes for the rows without each of their cells."""
        n_left = _n_residuals(self.density.model)
        for some in _at_once(self.codes, self.X):
            codes = self.codes[some]
            known, log_chances, _ = _at_codes(self.density, codes, self.X, self.seen)
            each = known.leave_one_out()
            of_numbers = each[:, each.shape[1] - n_left :]  # codes may come before
            of_numbers = of_numbers.reshape(*codes.shape[:2], n_left)
            cells = np.concatenate([of_numbers, log_chances], axis=2)
            yield self.log_weights[some, :, None] - cells

    def parts(self) -> Iterator[Part]:
        """Yield what each code says of the cells, by its importance weight."""
        chances = softmax(self.log_weights, axis=0)
        for some in _at_once(self.codes, self.X):
            moments = self._moments(self.codes[some])
            for chance, mean, variance in zip(chances[some], *moments, strict=True):
                mean = np.where(self.seen, self.X, mean)
                yield Part(chance, mean, np.where(self.seen, 0.0, variance))

    def _moments(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each cell given each code."""
        density, n_codes = self.density, codes.shape[2]
        flat, X, seen = _each_at(codes, self.X, self.seen)
        decoded = self.decoded
        if decoded is None:
            decoded = density.model.decoded(flat)
        joined = density.with_residuals(flat, decoded, X, seen)
        left, spread = (
            moment[:, n_codes:] for moment in density.joint.given(*joined).moments()
        )
        means, variances = _chances(density.model, decoded)
        means[:, : left.shape[1]] = decoded[:, : left.shape[1]] + left
        variances[:, : left.shape[1]] = spread
        shape = *codes.shape[:2], means.shape[1]
        return means.reshape(shape), variances.reshape(shape)

    def draws(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw whole rows, of shape (n, n_rows, n_columns), around the seen cells."""
        uniform = generator.random((n, len(self.X), 1))
        chosen = draw_index(softmax(self.log_weights, axis=0).T, uniform)
        codes = self.codes[chosen, np.arange(len(self.X))]
        drawn = np.empty((n, *self.X.shape))
        for some in _at_once(codes, self.X):
            cells = _each_at(codes[some], self.X, self.seen)
            rows = self.density.around(*cells, generator)
            drawn[some] = rows.reshape(drawn[some].shape)
        return drawn


def _at_once(codes: np.ndarray, X: np.ndarray) -> Iterator[slice]:
    """Cut points into as many as may be in memory with a row each."""
    yield from gen_batches(len(codes), max(1, MOST_NUMBERS // max(X.size, 1)))


def _each_at(
    codes: np.ndarray, X: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Repeat rows for each of their codes, (n_points, n_rows, n_components)."""
    repeat = len(codes), 1
    return codes.reshape(-1, codes.shape[2]), np.tile(X, repeat), np.tile(seen, repeat)


def _proposal_columns(model: Model) -> np.ndarray:
    """Columns of the matrix that codes are looked for by."""
    columns = np.arange(model.design.n_columns)
    is_number = columns < model.design.n_numbers
    return columns[(columns < _n_residuals(model)) | ~is_number]


def _log_joint(
    density: ReconstructionDensity, codes: np.ndarray, X: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log-density of codes and of the seen cells, (n_points, n_rows), and decoded."""
    known, log_chances, decoded = _at_codes(density, codes, X, seen)
    log_joint = known.log_density.reshape(codes.shape[:2])
    return log_joint + log_chances.sum(axis=2), decoded


def _at_codes(
    density: ReconstructionDensity, codes: np.ndarray, X: np.ndarray, seen: np.ndarray
) -> tuple[MixtureConditional | FactorConditional, np.ndarray, np.ndarray]:
    """Return what is said of residuals, log-chances of other cells, and decoded."""
    shape = codes.shape[:2]
    codes, *cells = _each_at(codes, X, seen)
    output, decoded = _decoded(density.model, codes)
    known = density.joint.given(*density.with_residuals(codes, decoded, *cells))
    log_chances = np.zeros((*shape, 0))
    if _n_residuals(density.model) < X.shape[1]:
        log_chances = _log_chances(density.model, output, X, seen)
    return known, log_chances, decoded


def _decoded(model: Model, codes: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Return the decoder's output for codes, and the rows that it stands for."""
    latent = model.tensor(codes)
    with no_gradients():
        module: Any = model.module(latent.dtype)
        output = module.decoder(latent)
        rows = module.loss.mean(output)
    return output, to_numpy(rows).astype(np.float64)


def _drawn(model: Model, output: Tensor, seed: int) -> np.ndarray:
    """Draw levels by the chances that are decoded; numbers are as decoded."""
    with no_gradients():
        module: Any = model.module(output.dtype)
        generator = make_generator(seed, output.device)
        drawn = module.loss.sample(output, generator)
    return to_numpy(drawn).astype(np.float64)


def _chances(model: Model, decoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of cells that are drawn by chances, given each code."""
    levels, first = level_columns(model.design.blocks), model.design.n_numbers
    means, variances = decoded.copy(), decoded * (1 - decoded)
    chances = levels.normalised(decoded[..., first:])
    means[..., first:], variances[..., first:] = levels.moments(chances)
    return means, variances


def _log_chances(
    model: Model, output: Tensor, X: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """Log-chance of each cell without a residual, (n_points, n_rows, n_features)."""
    n_points, n_left = len(output) // len(X), _n_residuals(model)
    encoded, values = model.encoded(X, seen), model.tensor(X)
    with no_gradients():
        module: Any = model.module(output.dtype)
        output = output.unflatten(0, (n_points, len(X)))
        cells: Tensor = module.loss.log_chance(output, values, torch.ones_like(values))
        log_chances = to_numpy(cells[..., n_left:]).astype(np.float64)
    if encoded.seen is not None:
        log_chances = np.where(encoded.seen[:, n_left:], log_chances, 0.0)
    return log_chances
