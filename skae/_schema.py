"""All that table and network share: kinds of columns, their blocks, encoded rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Kind:
    """What the cells of a column are, and which loss or likelihood they have.

    Attributes
    ----------
    name : str
        Of the loss or likelihood.
    domain : {"real", "unit interval", "count", "levels"}
    """

    name: str
    domain: str

    def scaling(self, wanted: str | None, of_reals: str) -> str | None:
        """Return how the column is scaled, "auto" standing for what suits it best."""
        if self.domain in ("count", "levels"):
            return "standard"
        if wanted != "auto":
            return wanted
        return "minmax" if self.domain == "unit interval" else of_reals


REALS = ("squared_error", "absolute_error", "huber", "gaussian", "laplace")
KINDS = {
    **{name: Kind(name, "real") for name in REALS},
    "binary_cross_entropy": Kind("binary_cross_entropy", "unit interval"),
    "bernoulli": Kind("bernoulli", "unit interval"),
    "poisson": Kind("poisson", "count"),
    "negative_binomial": Kind("negative_binomial", "count"),
    "binary": Kind("binary", "levels"),
    "categorical": Kind("categorical", "levels"),
}


def _nothing() -> np.ndarray:
    return np.empty(0)


@dataclass(frozen=True)
class Block:
    """Columns of one kind, side by side in the matrix.

    Attributes
    ----------
    kind : Kind
    widths : tuple of int
        Number of the matrix' columns for each of the table's columns: one, or the
        number of levels of a categorical column.
    centre, scale : ndarray of shape (width,)
        A raw value is `scale` times that of the matrix, plus `centre`; of indicators,
        `centre` is the frequency.
    resolution : ndarray of shape (width,)
        Distance between neighbouring numbers in scaled units, zero where hardly a
        value occurs twice; empty for levels.
    quartile_deviation : ndarray of shape (width,)
        Standard deviation of a normal column with the same quartiles, in scaled units;
        empty for levels.
    """

    kind: Kind
    widths: tuple[int, ...]
    centre: np.ndarray = field(default_factory=_nothing, compare=False, repr=False)
    scale: np.ndarray = field(default_factory=_nothing, compare=False, repr=False)
    resolution: np.ndarray = field(default_factory=_nothing, compare=False, repr=False)
    quartile_deviation: np.ndarray = field(
        default_factory=_nothing, compare=False, repr=False
    )

    @property
    def width(self) -> int:
        return sum(self.widths)

    @property
    def is_numeric(self) -> bool:
        return self.kind.domain != "levels"


@dataclass(frozen=True)
class Encoded:
    """Rows of a table in the order of its blocks.

    Attributes
    ----------
    matrix : ndarray of shape (n_rows, n_columns)
        Zero where a cell is missing.
    widths : tuple of int
        Columns of the matrix for each of the table's.
    seen : ndarray of bool of shape (n_rows, n_features) or None
        Cells that are there; None where all are.
    weight : ndarray of shape (n_rows,) or None
    """

    matrix: np.ndarray
    widths: Sequence[int]
    seen: np.ndarray | None = None
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def relative_weight(self) -> np.ndarray:
        """Weights with a mean of one."""
        if self.weight is None:
            return np.ones(len(self))
        return np.asarray(self.weight / self.weight.mean())

    @property
    def columns_seen(self) -> np.ndarray | None:
        """Which cells of the matrix are there; None where all are."""
        return None if self.seen is None else self.columns_of(self.seen)

    @property
    def cells_seen(self) -> np.ndarray:
        """Which cells of the matrix are there."""
        known = self.columns_seen
        return np.ones(self.matrix.shape, dtype=bool) if known is None else known

    @property
    def incomplete(self) -> tuple[int, ...]:
        """Columns of the table with missing cells, in the order of the blocks."""
        if self.seen is None:
            return ()
        return tuple(np.flatnonzero(~self.seen.all(axis=0)).tolist())

    def columns_of(self, features: np.ndarray) -> np.ndarray:
        """Repeat values per feature for each of its columns of the matrix."""
        return np.repeat(features, self.widths, axis=-1)

    def take(self, rows: np.ndarray | slice) -> Encoded:
        """Return some of the rows."""
        seen = None if self.seen is None else self.seen[rows]
        weight = None if self.weight is None else self.weight[rows]
        return replace(self, matrix=self.matrix[rows], seen=seen, weight=weight)

    def spread(self, n_rows: int) -> Encoded:
        """Return up to so many rows, evenly spaced."""
        return self.take(np.arange(0, len(self), -(-len(self) // n_rows)))


@dataclass(frozen=True)
class Stream:
    """Rows that come in chunks, as often as they are wanted.

    Attributes
    ----------
    chunks : callable
        Returns an iterator over encoded rows, shuffled by a generator.
    n_rows : int
        Of all processes.
    n_own : int
        Of them, in this one.
    """

    chunks: Callable[[np.random.Generator], Iterator[Encoded]]
    n_rows: int
    n_own: int
