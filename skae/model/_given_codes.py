"""Numbers given codes, in each part of a mixture of codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from ._codes_of_rows import CodesOfRows
from ._factors import FactorMixture
from ._level_columns import LevelColumns
from ._mixture import Mixture
from ._patterns import patterns_of

WIDEST = 200  # columns whose residuals are drawn with their correlations
SLACKS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)  # of a variance
TINY = 1e-12  # variance in scaled units that keeps exact reconstructions a density


@dataclass(frozen=True)
class JointMixture(Mixture):
    """A mixture of rows, of which the first numbers are codes.

    Attributes
    ----------
    n_codes : int
    """

    n_codes: int

    def codes_of_rows(self, X: np.ndarray, seen: np.ndarray) -> CodesOfRows:
        """Condition codes on the seen cells of each row, of which `X` is all else."""
        none = np.zeros((len(X), self.n_codes))
        X, seen = np.c_[none, np.where(seen, X, 0.0)], np.c_[none > 0, seen]
        levels, n_codes = slice(self.n_numbers, None), self.n_codes
        parts = np.log(self.weights) + self.levels.log_chances(
            X[:, levels], seen[:, levels], self.chances
        )
        means = np.empty((*parts.shape, n_codes))
        factors = np.empty((*parts.shape, n_codes, n_codes))
        groups, wanted = (
            patterns_of(seen[:, : self.n_numbers]),
            np.arange(self.n_numbers),
        )
        for pattern, rows in self._patterns(groups, wanted=wanted < n_codes):
            deviations = pattern.deviations(X[rows])
            parts[rows] += pattern.log_density(deviations)
            expected = pattern.expected(deviations).swapaxes(0, 1)
            means[rows] = self.means[:, :n_codes] + expected
            factors[rows] = pattern.factors
        return CodesOfRows(parts, means, factors, self.n_numbers)


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

    def joint(
        self, chances: np.ndarray, levels: LevelColumns
    ) -> JointMixture | FactorMixture:
        """Return the mixture of codes, these numbers and levels of given chances."""
        if self.factors.ndim == 2:
            planes = self.codes, self.slopes, self.factors
            return FactorMixture(*planes, chances, levels)
        noise = self.factors @ self.factors.swapaxes(1, 2)
        slopes = self.slopes[:, 1:]
        cross = self.codes.covariances @ slopes
        covariances = np.concatenate(
            [
                np.concatenate([self.codes.covariances, cross], axis=2),
                np.concatenate(
                    [
                        cross.swapaxes(1, 2),
                        slopes.swapaxes(1, 2) @ cross + noise,
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
        weights, n_codes = self.codes.weights, self.codes.n_numbers
        return JointMixture(weights, means, covariances, chances, levels, n_codes)

    @property
    def log_noise(self) -> float:
        """Mean logarithm of the deviation of a number around what the code says."""
        if self.factors.ndim == 2:
            return float(self.codes.weights @ np.log(self.factors).mean(axis=1))
        deviations = np.sqrt((self.factors**2).sum(axis=2))
        if not deviations.size:
            return 0.0
        return float(self.codes.weights @ np.log(deviations).mean(axis=1))


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
