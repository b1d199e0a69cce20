"""What a density tells of a table: log-likelihoods, missing cells, new rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._schema import Encoded
from ._statistics import by_chunks
from .model._conditional import Conditional, Density, draw_given
from .table._table import Table

MOST_ROWS = 1_024  # at a time
MOST_NUMBERS = 4_000_000  # of these rows, at all points, in memory


@dataclass(frozen=True)
class TableDensity:
    """A density of rows of the matrix, as one of rows of the table.

    Attributes
    ----------
    table : Table
    density : Density
    n_points : int
        That the density is looked for at, for each row.
    margins_seed : int
        Of the rows by which the table learns how the density's draws are spread.
    """

    table: Table
    density: Density
    n_points: int
    margins_seed: int

    def log_density(self, rows: np.ndarray) -> np.ndarray:
        """Log-density of the seen cells of each row, in the units of the table."""

        def of_chunk(some: np.ndarray) -> np.ndarray:
            known = self._given(self.table.encode(some))
            return known.log_density + self.table.log_jacobian(some)

        return self._by_chunks(of_chunk, rows)

    def completed(self, rows: np.ndarray) -> np.ndarray:
        """Return rows with their missing cells as expected."""

        def of_chunk(some: np.ndarray) -> np.ndarray:
            known = self._given(self.table.encode(some))
            return self.table.expected(*known.moments())

        whole, holed = rows.copy(), np.isnan(rows).any(axis=1)
        if holed.any():
            whole[holed] = self._by_chunks(of_chunk, rows[holed])
        return whole

    def completions(self, rows: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
        """Draw the missing cells of rows, of shape (n_draws, n_rows, n_features)."""
        self.table.match_margins(self.density.sample, self.margins_seed)
        generator = np.random.default_rng(seed)

        def of_chunk(some: np.ndarray) -> np.ndarray:
            drawn = self._given(self.table.encode(some)).draws(n_draws, generator)
            return np.stack([self.table.realise(d, seed) for d in drawn], axis=1)

        whole, holed = np.stack([rows] * n_draws), np.isnan(rows).any(axis=1)
        if holed.any():
            drawn = self._by_chunks(of_chunk, rows[holed])
            whole[:, holed] = drawn.swapaxes(0, 1)
        return whole

    def sample(
        self, n_rows: int, seed: int, given: Mapping[Any, Any], *, missing: bool
    ) -> np.ndarray:
        """Draw rows that have given values, with holes like those of the table."""
        self.table.match_margins(self.density.sample, self.margins_seed)
        generator = np.random.default_rng(seed)
        fixed = self.table.given(given)
        if given:
            of = self.table.encode(fixed)
            cells = of.matrix, of.cells_seen
            matrix = draw_given(self.density, *cells, n_rows, generator)
        else:
            matrix = self.density.sample(n_rows, generator)
        rows = self.table.realise(matrix, seed)
        rows = np.where(np.isnan(fixed), rows, fixed)
        if missing:
            rows[self.table.holes_like(rows, seed)] = np.nan
        return rows

    def _given(self, encoded: Encoded) -> Conditional:
        return self.density.given(encoded.matrix, encoded.cells_seen)

    def _by_chunks(
        self, function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray
    ) -> np.ndarray:
        n_columns = max(sum(self.table.encoder.widths), 1)
        n_rows = MOST_NUMBERS // (self.n_points * n_columns)
        return by_chunks(function, rows, min(max(n_rows, 1), MOST_ROWS))
