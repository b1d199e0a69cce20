"""Codes of rows, as what the rows' seen cells say of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import gen_batches

from ._level_columns import draw_index
from ._patterns import LARGEST_STACK, inverse_of_triangles, softmax


@dataclass(frozen=True)
class CodesOfRows:
    """A mixture of Gaussians over codes, for each row.

    Attributes
    ----------
    parts : ndarray of shape (n_rows, n_parts)
        Log-density of the seen cells of each row, and of its part.
    means : ndarray of shape (n_rows, n_parts, n_components)
    factors : ndarray of shape (n_rows, n_parts, n_components, n_components)
        Cholesky factors of the covariances.
    n_noises : int
        Random numbers that a draw takes: those of a row, and of its code first.
    """

    parts: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    n_noises: int

    @property
    def log_density(self) -> np.ndarray:
        """Of the seen cells of each row, in nats."""
        return np.asarray(logsumexp(self.parts, axis=1))

    def draws(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw codes of shape (n, n_rows, n_components).

        All rows have the same random numbers: no row depends on its company.
        """
        n_rows, _, n_codes = self.means.shape
        noise = np.empty((n, n_codes))
        for some in gen_batches(n, max(1, LARGEST_STACK // self.n_noises)):
            size = some.stop - some.start, self.n_noises
            noise[some] = generator.standard_normal(size)[:, :n_codes]
        uniform = generator.random((n, 1, 1))
        chances = softmax(self.parts)
        codes = np.empty((n, n_rows, n_codes))
        for some in gen_batches(n, max(1, LARGEST_STACK // max(self.parts.size, 1))):
            part, row = draw_index(chances, uniform[some]), np.arange(n_rows)
            spread = self.factors[row, part] @ noise[some, None, :, None]
            codes[some] = self.means[row, part] + spread[..., 0]
        return codes

    def log_joint(self, codes: np.ndarray) -> np.ndarray:
        """Log-density of codes, (n, n_rows, n_components), and of the seen cells."""
        n_rows, n_parts, n_codes = self.means.shape
        whitening = inverse_of_triangles(self.factors.reshape(-1, n_codes, n_codes))
        volumes = np.log(whitening.diagonal(axis1=1, axis2=2)).sum(axis=1)
        whitening = whitening.reshape(self.factors.shape).swapaxes(2, 3)
        heights = self.parts + volumes.reshape(n_rows, n_parts)
        heights = heights - 0.5 * n_codes * np.log(2 * np.pi)
        joint = np.empty((n_parts, *codes.shape[:2]))
        for part in range(n_parts):
            deviations = (codes - self.means[:, part]).swapaxes(0, 1)
            exponent = ((deviations @ whitening[:, part]) ** 2).sum(axis=2).T
            joint[part] = heights[:, part] - 0.5 * exponent
        return np.asarray(logsumexp(joint, axis=0))
