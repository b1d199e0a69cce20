"""A column of levels as indicators, and back."""

from __future__ import annotations

import numpy as np

MOST_LEVELS = 30
FEWEST_ROWS = 3  # of a level that has an indicator of its own


class LevelEncoder:
    """One categorical column as indicators.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        Codes 0, 1, ... of the levels, NaN where missing.
    sample_weight : ndarray of shape (n_samples,) or None

    Attributes
    ----------
    position : ndarray of int of shape (n_levels,)
        Which indicator a level has.
    share : ndarray of shape (n_levels,)
        Frequency of a level among those of its indicator.
    frequency : ndarray of shape (n_levels,)
        Frequency of the indicator of a level.
    likeliest : ndarray of int of shape (n_indicators,)
        The most frequent level of each indicator, sorted.
    of_unseen : int or None
        Which indicator a level has that is not among these: that of the rare levels,
        or none, where there are none.
    mass, mass_of_unseen : float
        Weight of the cells that are there, and of those of that indicator.
    width : int
        Number of columns: none for a single indicator, and one for two of them.
    centre, scale : ndarray of shape (width,)
    """

    def __init__(self, codes: np.ndarray, sample_weight: np.ndarray | None) -> None:
        seen = ~np.isnan(codes)
        weight = None if sample_weight is None else sample_weight[seen]
        counts = np.bincount(codes[seen].astype(int), weight)
        by_count = np.argsort(-counts, kind="stable")
        rare = counts < FEWEST_ROWS
        rare[by_count[MOST_LEVELS:]] = True
        # A level that is not here would be one more of the rare ones, if there are any.
        new = np.flatnonzero(rare)[:1]
        if rare.sum() < 2:
            rare[:] = False
        self.position = np.cumsum(~rare) - 1
        self.position[rare] = (~rare).sum()
        mass = np.bincount(self.position, counts)
        self.of_unseen = int(self.position[new[0]]) if len(new) else None
        self.mass = float(mass.sum())
        shares = slice(None) if self.of_unseen is None else self.of_unseen
        self.mass_of_unseen = float(mass[shares].sum())
        self.share = counts / mass[self.position] if len(counts) else counts
        by_frequency = np.argsort(-self.share, kind="stable")
        _, first = np.unique(self.position[by_frequency], return_index=True)
        self.likeliest = np.sort(by_frequency[first])
        by_position = mass / mass.sum() if len(mass) else mass
        self.frequency = by_position[self.position]
        self.width = 0 if len(mass) < 2 else 1 if len(mass) == 2 else len(mass)
        self.centre = by_position[len(mass) - self.width :]
        # One indicator stands for two that mirror it, and moves as far as they do.
        self.scale = np.full(self.width, 0.5**0.5 if self.width == 1 else 1.0)

    def encode(self, codes: np.ndarray) -> np.ndarray:
        """Return centred indicators, zeros where the cell has no level."""
        placed = self._positions(codes)
        seen = np.flatnonzero(~np.isnan(placed))
        indicators = np.zeros((len(codes), self.width), codes.dtype)
        if self.width:
            positions = placed[seen].astype(int)
            scaled = -self.centre / self.scale
            indicators[seen] = scaled
            if self.width == 1:
                seen = seen[positions == 1]
                positions = np.zeros(len(seen), dtype=int)
            indicators[seen, positions] = ((1 - self.centre) / self.scale)[positions]
        return indicators

    def _positions(self, codes: np.ndarray) -> np.ndarray:
        """Return the indicator of each cell, NaN where it has none."""
        unseen = np.nan if self.of_unseen is None else float(self.of_unseen)
        positions = np.where(codes < 0, unseen, np.nan)
        known = codes >= 0
        positions[known] = self.position[codes[known].astype(int)]
        return positions

    def sharing(self) -> list[np.ndarray]:
        """Return the levels of each column that there is."""
        positions = range(self.position.max() + 1)
        groups = [np.flatnonzero(self.position == position) for position in positions]
        return groups[len(groups) - self.width :]

    def decode(
        self, indicators: np.ndarray, generator: np.random.Generator | None
    ) -> np.ndarray:
        """Return codes by probabilities or centred indicators."""
        if not len(self.position):
            return np.full(len(indicators), np.nan)
        chances = indicators * self.scale + self.centre
        if self.width == 1:
            chances = np.concatenate([1 - chances, chances], axis=1)
        elif self.width == 0:
            chances = np.ones((len(indicators), 1))
        if generator is None:
            among = chances[:, self.position[self.likeliest]]
            return self.likeliest[(among * self.share[self.likeliest]).argmax(axis=1)]
        position = chances.argmax(axis=1)
        codes = np.empty(len(position))
        for shared in np.unique(position):
            levels = np.flatnonzero(self.position == shared)
            rows = np.flatnonzero(position == shared)
            codes[rows] = generator.choice(levels, len(rows), p=self.share[levels])
        return codes

    def log_chance(self, codes: np.ndarray, chances: np.ndarray) -> np.ndarray:
        """Log of the chance of each cell's level, zero where it is missing.

        A level that the fit did not have gets what one more row would have given it,
        among those of its indicator.
        """
        seen, unseen = codes >= 0, codes < 0
        result = np.zeros(len(codes))
        result[seen] = np.log(chances[codes[seen].astype(int)])
        result[unseen] = -np.log1p(self.mass_of_unseen)
        return result

    @property
    def error_of_unseen(self) -> float:
        """Squared error, at the mean, of one more level that has no indicator."""
        share = 1 / (1 + self.mass)
        of_levels = (1 - share) ** 2 * (self.share * self.frequency**2).sum()
        return float(of_levels + (1 - share) ** 2)
