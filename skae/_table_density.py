"""What a density tells of a table: log-likelihoods, missing cells, new rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr
from sklearn.utils import gen_batches

from ._schema import Encoded
from ._statistics import by_chunks
from .model._conditional import (
    MOST_NUMBERS,
    Conditional,
    Density,
    Part,
    draw_given,
    moments_of,
)
from .model._patterns import distinct_patterns
from .table._table import Table

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
STRATEGIES = ("mean", "median")  # what a missing number becomes
HALVINGS = 40  # of a deviation, to find a median: beside a wild cell others are alike
TINY = np.finfo(float).tiny
HOLE_ROWS = 1_000  # of the fit, that samples take their holes from
HOLE_PATTERNS = 200  # among these rows: each may cost the cube of the columns
MOST_ROWS = 1_024  # at a time


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

    def completed(self, rows: np.ndarray, strategy: str) -> np.ndarray:
        """Return rows with their missing cells as expected.

        Numbers as the mean or the median of what would be drawn, levels as likeliest.
        """
        self.table.match_margins(self.density.sample, self.margins_seed)
        of_numbers = self._means if strategy == "mean" else self._medians

        def of_chunk(some: np.ndarray) -> np.ndarray:
            encoded = self.table.encode(some)
            return of_numbers(self._given(encoded), ~encoded.cells_seen)

        whole, holed = rows.copy(), np.isnan(rows).any(axis=1)
        if holed.any():
            whole[holed] = self._by_chunks(of_chunk, rows[holed])
        return whole

    def _means(self, known: Conditional, wanted: np.ndarray) -> np.ndarray:
        """Return the mean of each number, by Gauss-Hermite quadrature in each part."""
        parts = list(known.parts())
        like = self.table.decode(moments_of(parts)[0])
        means = np.zeros(like.shape)
        size = MOST_NUMBERS // (len(NODES) * wanted.size)
        for some in gen_batches(len(parts), max(1, size)):
            chance, mean, variance = map(np.stack, zip(*parts[some], strict=True))
            at_nodes = mean + np.multiply.outer(NODES, np.sqrt(variance))
            weights, shape = np.multiply.outer(WEIGHTS, chance), at_nodes.shape[:2]
            matrix, repeat = at_nodes.reshape(-1, mean.shape[2]), (np.prod(shape), 1)
            tiled = np.tile(like, repeat), np.tile(wanted, repeat)
            drawn = self.table.with_numbers(matrix, *tiled)
            drawn = drawn.reshape(*shape, *like.shape)
            means += np.einsum("qpn,qpnf->nf", weights, drawn)
        return self.table.averaged(means, like)

    def _medians(self, known: Conditional, wanted: np.ndarray) -> np.ndarray:
        """Return the median of each number."""
        parts = list(known.parts())
        like = self.table.decode(moments_of(parts)[0])
        return self.table.with_numbers(_medians(parts, slice(None)), like, wanted)

    def cells(self, rows: np.ndarray, *, expect: bool) -> tuple[np.ndarray, np.ndarray]:
        """Log-density of each cell given the others, and what these let expect.

        Numbers are in the units of the matrix. Without `expect` cells are in the place
        of what is expected.
        """

        def of_chunk(some: np.ndarray) -> np.ndarray:
            encoded = self.table.encode(some)
            result = np.stack([self.table.log_chances(some), some], axis=1)
            features = [feature for feature, _ in self.table.spans]
            result[:, 0, features] += self._given(encoded).leave_one_out()
            result[:, 0][np.isnan(some)] = np.nan
            for feature, columns in self.table.spans if expect else ():
                others = encoded.cells_seen.copy()
                others[:, columns] = False
                known = self.density.given(encoded.matrix, others)
                result[:, 1, feature] = self._expected(known, feature, columns)
            return result

        if expect:
            self.table.match_margins(self.density.sample, self.margins_seed)
        densities, expected = self._by_chunks(of_chunk, rows).swapaxes(0, 1)
        return densities, expected

    def _expected(self, known: Conditional, feature: int, columns: slice) -> np.ndarray:
        """Return the median of a number, or the likeliest level, of each row."""
        parts = list(known.parts())
        matrix, _ = moments_of(parts)
        rows = self.table.decode(matrix)
        if not self.table.has_levels_in(feature):
            matrix[:, columns] = _medians(parts, columns)
            wanted = np.zeros(matrix.shape, dtype=bool)
            wanted[:, columns] = True
            rows = self.table.with_numbers(matrix, rows, wanted)
        return rows[:, feature]

    def remember_holes(self, encoded: Encoded) -> None:
        """Let the table keep some rows, completed, with their patterns of holes."""
        if encoded.seen is not None:
            some = _with_few_patterns(encoded.take(slice(HOLE_ROWS)))
            generator = np.random.default_rng(self.margins_seed)
            (whole,) = self._given(some).draws(1, generator)
            self.table.remember_holes(some, whole)

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


def _with_few_patterns(encoded: Encoded) -> Encoded:
    """Return the first rows, up to one with a pattern of holes too many."""
    _, which = distinct_patterns(encoded.cells_seen)
    firsts = np.sort(np.unique(which, return_index=True)[1])
    return encoded.take(slice([*firsts, len(encoded)][: HOLE_PATTERNS + 1][-1]))


def _medians(parts: Sequence[Part], columns: slice) -> np.ndarray:
    """Return the medians of cells, which are within a deviation of their means."""
    some = [
        Part(part.chance[:, None], part.mean[:, columns], part.variance[:, columns])
        for part in parts
    ]
    chances, means, variances = map(np.stack, zip(*some, strict=True))
    deviations = np.sqrt(variances) + TINY
    mean, variance = (moment[:, columns] for moment in moments_of(parts))
    low, high = mean - np.sqrt(variance), mean + np.sqrt(variance)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = (chances * ndtr((middle - means) / deviations)).sum(axis=0) < 0.5
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high
