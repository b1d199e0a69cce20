"""Which densities stand beside the networks of a VAE, and with which shares."""

from __future__ import annotations

import numpy as np

from .._schema import Encoded
from ..network._build import noise_scales, usual_scales
from ..network._objectives import DEFENCE
from ._choice import choose_mixture
from ._em import MOST_ROWS
from ._evidence import NetworkDensity
from ._level_columns import level_columns
from ._linear_density import LinearDensity
from ._model import Model
from ._stack import Stack

STACKING_ROWS = 1_000  # held-out rows that weigh the densities
STACKING_POINTS = 50
TAIL_SCALES = (4, 16, 64, 256, 1024)  # of the safeguard
TAILS = 0.1  # share of them in it
LEAST_JUDGES = 10  # rows that can tell a mixture of several parts from a lucky one


def density_of_networks(
    model: Model,
    training: Encoded,
    judging: Encoded,
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
    training, judging : Encoded
        Rows that mixtures are fitted to, and those that weigh them.
    seed : int
    alone : bool
        Whether mixtures are not to join.
    trained : bool
        Or the networks are at their start, which is probabilistic PCA.
    can_judge : bool
        Whether the rows that judge are held out of anything.
    """
    networks = NetworkDensity(model)
    start = model.start_density
    if start is None:
        return Stack({"vae": networks}, {"vae": 1.0})
    safeguard = with_heavy_tails(start) if trained else start
    defence = DEFENCE / (1 - TAILS)
    least = {"vae": 0.0, "ppca": defence}
    shares = {"vae": 1 - defence, "ppca": defence}
    density = Stack({"vae": networks, "ppca": safeguard}, shares)
    judging = judging.take(slice(STACKING_ROWS))
    if alone or not can_judge or len(judging) < LEAST_JUDGES:
        return density
    training = training.take(slice(MOST_ROWS))
    X, seen, weight = _arrays(judging)
    scales, floor = _noise_scales(model)
    levels = level_columns(model.design.blocks)
    choice = choose_mixture(
        *_arrays(training), X, seen, weight, levels, scales, floor, seed, safeguard
    )
    if choice is None:
        return density
    parts = (networks.at(STACKING_POINTS), safeguard, choice.judged)
    each = [part.given(X, seen).log_density for part in parts]
    return density.joined_by(
        "mixture", choice.final, np.column_stack(each), weight, least
    )


def with_heavy_tails(density: LinearDensity) -> Stack:
    """Return a mixture of a density with the same at larger scales.

    As of Student's distribution, the logarithm of the tails falls with the logarithm of
    the distance, in place of its square.
    """
    share = TAILS / len(TAIL_SCALES)
    parts = {f"{scale}": density.scaled(scale) for scale in (1, *TAIL_SCALES)}
    return Stack(parts, dict.fromkeys(parts, share) | {"1": 1 - TAILS})


def _arrays(encoded: Encoded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matrix = encoded.matrix.astype(np.float64)
    return matrix, encoded.cells_seen, encoded.relative_weight


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
