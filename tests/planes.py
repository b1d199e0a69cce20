"""Mixtures of rows around planes, and the same as dense Gaussians."""

from __future__ import annotations

import numpy as np

from skae.model._factors import FactorMixture
from skae.model._given_codes import JointMixture
from skae.model._level_columns import LevelColumns
from skae.model._mixture import Mixture

N_PARTS, N_CODES, N_NUMBERS = 3, 2, 6
CENTRE, SCALE = np.array([0.2, 0.5, 0.3, 0.4]), np.array([1.0, 2.0, 0.5, 1.0])
LEVELS = LevelColumns((3, 1), CENTRE, SCALE)
CHANCES = np.array([[0.2, 0.5, 0.3, 0.4], [0.6, 0.3, 0.1, 0.9], [0.1, 0.1, 0.8, 0.5]])


def planes(noise: float = 0.5, seed: int = 0) -> FactorMixture:
    """Draw a mixture of planes whose noise is about so large."""
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(N_PARTS, N_CODES, N_CODES))
    codes = Mixture(
        np.array([0.5, 0.3, 0.2]),
        rng.normal(size=(N_PARTS, N_CODES)),
        roots @ roots.swapaxes(1, 2) + 0.1 * np.eye(N_CODES),
        np.empty((N_PARTS, 0)),
        LevelColumns(),
    )
    slopes = rng.normal(size=(N_PARTS, 1 + N_CODES, N_NUMBERS))
    deviations = noise * rng.uniform(0.5, 1.5, size=(N_PARTS, N_NUMBERS))
    return FactorMixture(codes, slopes, deviations, CHANCES, LEVELS)


def dense(mixture: FactorMixture) -> JointMixture:
    """Write out the covariances of codes and numbers."""
    codes, slopes = mixture.codes, mixture.slopes[:, 1:]
    one = np.broadcast_to(np.eye(N_CODES), (N_PARTS, N_CODES, N_CODES))
    turn = np.concatenate([one, slopes], axis=2)
    covariances = turn.swapaxes(1, 2) @ codes.covariances @ turn
    own = np.arange(N_CODES, N_CODES + N_NUMBERS)
    covariances[:, own, own] += mixture.deviations**2
    means = (codes.means[:, None] @ turn)[:, 0]
    means[:, N_CODES:] += mixture.slopes[:, 0]
    parts = codes.weights, means, covariances
    return JointMixture(*parts, CHANCES, LEVELS, N_CODES)


def rows(n_rows: int = 12, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows without their codes, and which cells of them are seen."""
    rng = np.random.default_rng(seed)
    X = dense(planes()).sample(n_rows, rng)[:, N_CODES:]
    features = rng.uniform(size=(n_rows, N_NUMBERS + 2)) > 0.4
    features[0], features[1] = False, True
    seen = np.repeat(features, [1] * N_NUMBERS + [3, 1], axis=1)
    return X, seen
