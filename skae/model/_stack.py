"""Several densities as one, by the share of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import gen_batches

from .._statistics import CHUNK_ROWS, exceed_their_error
from ._mixture import MixtureDensity, stack


class Density(Protocol):
    """A density of rows of numbers, of which some cells may be missing."""

    def log_density(self, X: np.ndarray, seen: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class StackedDensity:
    """A density estimated row by row elsewhere, mixed with two that are closed forms.

    Attributes
    ----------
    linear : Density
    mixture : MixtureDensity or None
    shares : ndarray of shape (3,)
        Of the density from elsewhere, of `linear` and of `mixture`.
    """

    linear: Density
    mixture: MixtureDensity | None
    shares: np.ndarray

    def log_density(
        self, elsewhere: np.ndarray, X: np.ndarray, seen: np.ndarray
    ) -> np.ndarray:
        """Mix log-densities of rows with those of the closed forms, in nats."""
        return logsumexp(self._parts(elsewhere, X, seen), axis=1, b=self.shares)

    def weigh(
        self, elsewhere: np.ndarray, X: np.ndarray, mixture: MixtureDensity
    ) -> StackedDensity:
        """Give a mixture the share that makes held-out rows likeliest.

        It gets none where the gain is no larger than its standard error, by Student's
        t. `linear` keeps at least the share that it has.
        """
        seen = np.ones(X.shape, dtype=bool)
        wider = replace(self, mixture=mixture)
        parts = wider._parts(elsewhere, X, seen)
        shares = stack(parts, least=np.array([0, self.shares[1], 0]))
        wider = replace(wider, shares=shares)
        gains = wider.log_density(elsewhere, X, seen)
        gains -= self.log_density(elsewhere, X, seen)
        return wider if exceed_their_error(gains) else self

    def replace_some(self, rows: np.ndarray, generator: np.random.Generator) -> None:
        """Put draws of the mixture in place of its share of some drawn rows."""
        if self.mixture is not None:
            chosen = generator.random(len(rows)) < self.shares[2]
            rows[chosen] = self.mixture.sample(int(chosen.sum()), generator)

    def _parts(
        self, elsewhere: np.ndarray, X: np.ndarray, seen: np.ndarray
    ) -> np.ndarray:
        """Log-density of rows under each of the three, of shape (n_rows, 3)."""
        parts = np.full((len(X), 3), -np.inf)
        parts[:, 0] = elsewhere
        for rows in gen_batches(len(X), CHUNK_ROWS):
            parts[rows, 1] = self.linear.log_density(X[rows], seen[rows])
            if self.mixture is not None:
                parts[rows, 2] = self.mixture.log_density(X[rows], seen[rows])
        return parts
