"""What table and network share: the blocks of columns."""

from __future__ import annotations

from dataclasses import dataclass

UNIT_INTERVAL = {"binary_cross_entropy", "bernoulli"}
COUNTS = {"poisson", "negative_binomial"}


@dataclass(frozen=True)
class Block:
    """Columns of one kind, side by side in the matrix.

    Attributes
    ----------
    kind : str
        "binary", "categorical", or the likelihood of numeric columns.
    widths : tuple of int
        Number of the matrix' columns for each of the table's columns: one, or the
        number of levels of a categorical column.
    """

    kind: str
    widths: tuple[int, ...]

    @property
    def width(self) -> int:
        return sum(self.widths)
