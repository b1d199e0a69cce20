"""Columns of levels in the matrix, and chances of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import gammaln

from .._schema import Block

SMALLEST_CHANCE = 1e-6
EQUAL = 1e-9  # relative difference of log-likelihoods that is none
TINY = np.finfo(float).tiny
# Like the whole table, that a part of it may have beside its own.
ROWS_OF_TABLE = np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1_000.0])


@dataclass(frozen=True)
class LevelColumns:
    """Columns of levels as standardised indicators, side by side in the matrix.

    Attributes
    ----------
    widths : tuple of int
        Number of indicators of each column: one for two levels (it is 1 for the
        second), and one per level for more.
    centre, scale : ndarray of shape (n_indicators,)
        An indicator is 0 or 1 once multiplied by `scale` and added to `centre`.
    """

    widths: tuple[int, ...] = ()
    centre: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scale: np.ndarray = field(default_factory=lambda: np.ones(0))

    @property
    def width(self) -> int:
        return sum(self.widths)

    @property
    def spans(self) -> list[slice]:
        """Which indicators each column has."""
        ends = np.cumsum(self.widths, dtype=int).tolist()
        pairs = zip(ends, self.widths, strict=True)
        return [slice(end - width, end) for end, width in pairs]

    @property
    def n_levels(self) -> np.ndarray:
        """Number of levels of the column of each indicator."""
        widths = np.array(self.widths, dtype=int)
        return np.repeat(np.maximum(widths, 2), widths)

    def indicators(self, Z: np.ndarray) -> np.ndarray:
        return np.clip(Z * self.scale + self.centre, 0.0, 1.0)

    def normalised(self, Z: np.ndarray) -> np.ndarray:
        """Return chances of levels that add up to one."""
        chances = np.clip(Z * self.scale + self.centre, SMALLEST_CHANCE, None)
        for span, width in zip(self.spans, self.widths, strict=True):
            part = chances[..., span]
            if width > 1:
                chances[..., span] = part / part.sum(axis=-1, keepdims=True)
            else:
                chances[..., span] = np.minimum(part, 1 - SMALLEST_CHANCE)
        return chances

    def standardised(self, indicators: np.ndarray) -> np.ndarray:
        return (indicators - self.centre) / self.scale

    def log_chances(
        self, Z: np.ndarray, seen: np.ndarray, chances: np.ndarray
    ) -> np.ndarray:
        """Log-chance of the seen levels of each row, of shape (n_rows, n_parts).

        It is linear in the indicators, so that values between levels have one too.
        """
        return self.log_chances_of(*self.chosen(Z, seen), chances)

    def chosen(self, Z: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return indicators, zero where they are not seen, and whether they are."""
        return np.where(seen, self.indicators(Z), 0.0), seen.astype(float)

    def log_chances_of(
        self, chosen: np.ndarray, present: np.ndarray, chances: np.ndarray
    ) -> np.ndarray:
        of_chosen, of_present = self._logs(chances)
        return chosen @ of_chosen.T + present @ of_present.T

    def log_chances_of_cells(
        self, Z: np.ndarray, seen: np.ndarray, chances: np.ndarray
    ) -> np.ndarray:
        """Log-chance of each level, (n_parts, n_rows, n_columns); zero if not seen."""
        of_chosen, of_present = self._logs(chances)
        chosen, present = self.chosen(Z, seen)
        each = chosen * of_chosen[:, None] + present * of_present[:, None]
        starts = np.array([span.start for span in self.spans], dtype=int)
        return np.add.reduceat(each, starts, axis=2)

    def _logs(self, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what chosen and what present indicators add to a log-chance."""
        widths = np.array(self.widths, dtype=int)
        alone = np.repeat(widths == 1, widths)
        first = np.log(np.maximum(1 - chances, TINY)) * alone
        second = np.log(np.maximum(chances, TINY))
        return second - first, first

    def shrunk(
        self, chosen: np.ndarray, present: np.ndarray, frequencies: np.ndarray
    ) -> np.ndarray:
        """Estimate the chances of levels in parts of a table, by empirical Bayes.

        They are drawn towards the frequencies in the table by as many rows as make the
        counts likeliest if chances have a Dirichlet distribution around these [1]_:
        hardly any where parts have levels of their own, many where they are alike.

        Parameters
        ----------
        chosen, present : ndarray of shape (n_parts, n_indicators)
            Mass of each indicator, and of the rows whose level is seen.
        frequencies : ndarray of shape (n_indicators,)

        References
        ----------
        .. [1] Minka, T. P. (2000). Estimating a Dirichlet distribution. MIT.
        """
        if not self.widths:
            return chosen
        rows = ROWS_OF_TABLE[:, None, None]
        widths = np.array(self.widths, dtype=int)
        starts = np.cumsum(widths) - widths
        prior = rows * frequencies
        gains = gammaln(prior + chosen) - gammaln(prior)
        alone = np.repeat(widths == 1, widths)
        rest = (rows * (1 - frequencies))[:, :, alone]
        others = (present - chosen)[:, alone].clip(0)
        gains[:, :, alone] += gammaln(rest + others) - gammaln(rest)
        gains = np.add.reduceat(gains, starts, axis=2)
        gains += gammaln(rows) - gammaln(rows + present[:, starts])
        pseudo = np.repeat(likeliest(ROWS_OF_TABLE, gains.sum(axis=1)), widths)
        return np.asarray((chosen + pseudo * frequencies) / (present + pseudo))

    def moments(self, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of standardised indicators of given chances."""
        return self.standardised(chances), chances * (1 - chances) / self.scale**2

    def draw(self, chances: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw a level of each column, as standardised indicators, by its chances."""
        drawn = np.empty(chances.shape)
        for span in self.spans:
            drawn[..., span] = _draw_indicators(chances[..., span], generator)
        return self.standardised(drawn)


def likeliest(rows: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Return the rows of the highest log-likelihoods along the first axis.

    Where several are as high but for rounding, as where no part has two rows, the most:
    nothing then tells parts apart.
    """
    highest = gains.max(axis=0)
    is_high = gains >= highest - EQUAL * (1 + np.abs(highest))
    return np.asarray(rows[::-1][is_high[::-1].argmax(axis=0)])


def level_columns(blocks: Sequence[Block]) -> LevelColumns:
    """Return the columns of levels among blocks."""
    levels = [block for block in blocks if not block.is_numeric]
    if not levels:
        return LevelColumns()
    return LevelColumns(
        tuple(width for block in levels for width in block.widths),
        np.concatenate([block.centre for block in levels]),
        np.concatenate([block.scale for block in levels]),
    )


def _draw_indicators(chances: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw the indicators of one column."""
    uniform = generator.random((*chances.shape[:-1], 1))
    if chances.shape[-1] == 1:
        return uniform < chances
    level = draw_index(chances, uniform)
    return np.asarray(level[..., None] == np.arange(chances.shape[-1]))


def draw_index(chances: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Choose along the last axis by chances that need not add up to exactly one."""
    upper = chances.cumsum(axis=-1)
    return np.asarray((upper < uniform * upper[..., -1:]).sum(axis=-1))
