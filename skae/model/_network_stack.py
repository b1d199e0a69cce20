"""Which densities stand beside the networks of a VAE, and with which shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from .._schema import Encoded
from ..network._build import noise_scales, usual_scales
from ..network._objectives import DEFENCE
from ._choice import Trial, choose_mixture
from ._conditional import Density
from ._em import MOST_ROWS, WeightedRows
from ._evidence import NetworkDensity
from ._level_columns import level_columns
from ._linear_density import LinearDensity
from ._mixture import Mixture
from ._model import Model
from ._stack import Stack

STACKING_ROWS = 1_000  # held-out rows that weigh the densities
STACKING_POINTS = 50
TAIL_SCALES = (4, 16, 64, 256, 1024)  # of the safeguard
TAILS = 0.1  # share of them in it
LEAST_JUDGES = 10  # rows that can tell a mixture of several parts from a lucky one


@dataclass(frozen=True)
class Judged:
    """A model, rows that it has learned from, and others that judge it."""

    model: Model
    training: Encoded
    judging: Encoded

    def trial(self, trained: bool) -> Trial:
        """Return what mixtures are fitted to, and what they are judged by and with."""
        training = self.training.take(slice(MOST_ROWS))
        judging = self.judging.take(slice(STACKING_ROWS))
        safeguard = _safeguard(self.model, trained)
        return Trial(_weighted(training), _weighted(judging), safeguard)


def judged_by(
    models: Sequence[Model],
    encoded: Encoded,
    cuts: Sequence[tuple[np.ndarray, np.ndarray]],
) -> list[Judged]:
    """Name, for each model, the rows that it has learned from and its judges."""
    return [
        Judged(model, encoded.take(training), encoded.take(judging))
        for model, (training, judging) in zip(models, cuts, strict=True)
    ]


def density_of_networks(
    model: Model,
    judged: Sequence[Judged],
    seed: int,
    *,
    alone: bool,
    trained: bool,
    can_judge: bool,
) -> Stack:
    """Stack the density of networks with probabilistic PCA and with mixtures.

    Probabilistic PCA is a safeguard: no row falls far below it. Its tails are heavy,
    as a trained network says little of rows far from its own. Mixtures join if held-out
    rows are likelier with them.

    Parameters
    ----------
    model : Model
    judged : sequence of Judged
        The same model, or others in its place that have not seen the rows which judge
        them: all of these weigh the densities.
    seed : int
    alone : bool
        Whether mixtures are not to join.
    trained : bool
        Or the networks are at their start, which is probabilistic PCA.
    can_judge : bool
        Whether the rows that judge are held out of anything.
    """
    networks = NetworkDensity(model)
    safeguard = _safeguard(model, trained)
    if safeguard is None:
        return Stack({"vae": networks}, {"vae": 1.0})
    defence = DEFENCE / (1 - TAILS)
    least = {"vae": 0.0, "ppca": defence}
    shares = {"vae": 1 - defence, "ppca": defence}
    density = Stack({"vae": networks, "ppca": safeguard}, shares)
    n_judges = sum(len(one.judging) for one in judged)
    if alone or not can_judge or n_judges < LEAST_JUDGES:
        return density
    trials = [one.trial(trained) for one in judged]
    levels = level_columns(model.design.blocks)
    choice = choose_mixture(trials, levels, *_noise_scales(model), seed)
    if choice is None:
        return density
    cases = zip(judged, trials, choice.judged, strict=True)
    each = np.concatenate([_log_densities(*case) for case in cases])
    weight = np.concatenate([trial.judges.weight for trial in trials])
    return density.joined_by("mixture", choice.final, each, weight, least)


def _log_densities(one: Judged, trial: Trial, mixture: Mixture) -> np.ndarray:
    """Let networks, their safeguard and a mixture speak of the judges."""
    networks = NetworkDensity(one.model, STACKING_POINTS)
    parts = networks, cast("Density", trial.safeguard), mixture
    X, seen = trial.judges.X, trial.judges.seen
    return np.column_stack([part.given(X, seen).log_density for part in parts])


def _safeguard(model: Model, trained: bool) -> Density | None:
    """Return what stands beside networks, if their start is known in closed form."""
    start = model.start_density
    return with_heavy_tails(start) if start is not None and trained else start


def with_heavy_tails(density: LinearDensity) -> Stack:
    """Return a mixture of a density with the same at larger scales.

    As of Student's distribution, the logarithm of the tails falls with the logarithm of
    the distance, in place of its square.
    """
    share = TAILS / len(TAIL_SCALES)
    parts = {f"{scale}": density.scaled(scale) for scale in (1, *TAIL_SCALES)}
    return Stack(parts, dict.fromkeys(parts, share) | {"1": 1 - TAILS})


def _weighted(encoded: Encoded) -> WeightedRows:
    matrix = encoded.matrix.astype(np.float64)
    return WeightedRows.distinct(matrix, encoded.cells_seen, encoded.relative_weight)


def _noise_scales(model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Return the deviation of each number, and the least within a part."""
    blocks = model.design.blocks
    scales = usual_scales(blocks, model.linear.column_scales)
    start, noises, floors = 0, [], []
    typical = model.linear.probabilistic().noise_variance ** 0.5
    for block in blocks:
        of_block = scales[start : start + block.width]
        start += block.width
        if block.is_numeric:
            constant = np.where(of_block == 0, typical, of_block)
            noises.append(constant)
            floors.append(noise_scales(block, of_block, typical)[1])
    return np.concatenate([[], *noises]), np.concatenate([[], *floors])
