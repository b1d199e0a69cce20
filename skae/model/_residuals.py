"""The density of an autoencoder's codes, and of what reconstructions leave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from ._mixture import MixtureDensity, _fit, one_thread

CODE_PARTS = 30  # of the mixture that codes of an autoencoder are drawn from
WIDEST = 200  # columns whose residuals are drawn with their correlations


@dataclass(frozen=True)
class Residuals:
    """What reconstructions leave of rows, given their codes.

    In each part of a mixture of codes the residuals are linear in the code, with
    Gaussian noise of any covariance around that.

    Attributes
    ----------
    codes : MixtureDensity
    slopes : ndarray of shape (n_parts, 1 + n_components, n_features)
        The first is a constant.
    factors : ndarray of shape (n_parts, n_features, n_features)
        Cholesky factors of the covariances. Where there are many columns, deviations of
        shape (n_parts, n_features).
    """

    codes: MixtureDensity
    slopes: np.ndarray
    factors: np.ndarray

    @classmethod
    def learn(
        cls, density: MixtureDensity, codes: np.ndarray, residuals: np.ndarray
    ) -> Residuals:
        """Regress residuals on codes by weighted least squares in each part."""
        regressors = np.c_[np.ones(len(codes)), codes]
        slopes, factors = [], []
        for weight in density.memberships(codes).T:
            root = np.sqrt(weight)[:, None]
            slope = np.linalg.lstsq(root * regressors, root * residuals)[0]
            noise = root * (residuals - regressors @ slope)
            slopes.append(slope)
            factors.append(_factor(noise, weight.sum()))
        return cls(density, np.stack(slopes), np.stack(factors))

    def draw(self, codes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw residuals of shape (n_rows, n_features) for given codes."""
        chances = self.codes.memberships(codes).cumsum(axis=1)
        below = generator.random((len(codes), 1)) * chances[:, -1:]
        part = (chances < below).sum(axis=1)
        noise = generator.standard_normal((len(codes), self.slopes.shape[2]))
        regressors = np.c_[np.ones(len(codes)), codes]
        result = np.empty_like(noise)
        for i, factor in enumerate(self.factors):
            rows = part == i
            drawn = noise[rows]
            drawn = drawn @ factor.T if factor.ndim == 2 else drawn * factor
            result[rows] = regressors[rows] @ self.slopes[i] + drawn
        return result


def _factor(noise: np.ndarray, total: float) -> np.ndarray:
    """Return what turns standard normal draws into draws like weighted rows.

    The correlations shrink where there are few rows for so many columns.
    """
    total, n_features = max(total, 1.0), noise.shape[1]
    variances = (noise**2).sum(axis=0) / total
    if n_features > WIDEST:
        return np.sqrt(variances)
    shrinkage = n_features / (n_features + total)
    covariance = (1 - shrinkage) * noise.T @ noise / total
    tiny = np.finfo(float).tiny + 1e-12 * variances.max(initial=0.0)
    np.fill_diagonal(covariance, variances + tiny)
    return linalg.cholesky(covariance, lower=True)


@one_thread
def fit_mixture(codes: np.ndarray, seed: int) -> MixtureDensity:
    """Fit a mixture of a few full Gaussians to codes."""
    scales = codes.std(axis=0)
    scales[scales == 0] = 1.0
    n_parts = int(np.clip(len(codes) // (10 * codes.shape[1]), 1, CODE_PARTS))
    codes = np.resize(codes, (max(len(codes), 2), codes.shape[1]))
    return _fit(codes / scales, n_parts, "full", seed).times(scales, 0 * scales)
