"""What a density is, and what it says of rows by their seen cells."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np


class Conditional(Protocol):
    """What a density says of rows by their seen cells."""

    @property
    def log_density(self) -> np.ndarray:
        """Of the seen cells of each row, in nats; of nothing, exactly zero."""

    @property
    def effective_draws(self) -> np.ndarray:
        """How many draws carry the answers for each row; infinite in closed form."""

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each cell; the seen ones are as they are."""

    def draws(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw whole rows, of shape (n, n_rows, n_columns), around the seen cells."""


class Density(Protocol):
    """A density of rows of the matrix."""

    def at(self, n_points: int) -> Self:
        """Return the same, looked for at so many points; closed forms need none."""

    def given(self, X: np.ndarray, seen: np.ndarray) -> Conditional:
        """Condition on the seen cells of each row.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_columns)
            Cells that are not seen may hold anything.
        seen : ndarray of bool of shape (n_rows, n_columns)
            The indicators of one column are seen together.
        """

    def sample(self, n_rows: int, generator: np.random.Generator) -> np.ndarray:
        """Draw rows of shape (n_rows, n_columns)."""
