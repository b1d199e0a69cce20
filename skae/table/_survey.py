"""A table of which only some rows are at hand: what all its rows say, and these."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np

from .._statistics import FEW_ROWS, hashes
from ._dtypes import ColumnSample, joined
from ._frames import TableReader, order_of_levels
from ._levels import FEWEST_ROWS
from ._matrix import Known
from ._summaries import ColumnStatistics
from ._unseen import check_levels

JUDGING = 10  # one row of so many judges
MOST_LEVELS = 10_000  # of a column: more are names of rows, and count as unseen
GROWTH_OF_FEW = 1.25  # times as many rows, that are worth a fit
GROWTH, GROWTH_OF_SOME = 1.5, 2.0  # the same of more rows, and of those not all kept
MOVED = 0.05  # of a deviation, that a mean or a deviation is another one
NEW_SHARE = 0.01  # of the rows, that have a new level
ROOM = 2  # times the rows to keep, that are held before the others are dropped
ROWS_WITHOUT_KEY = np.empty(0)


class Survey:
    """Learn of rows that come chunk by chunk, and keep some of them.

    Ranges, means, deviations, levels and dtypes are those of all rows, whatever their
    order. The rows kept are drawn at random without replacement: each gets a random
    key when it comes, and those with the lowest keys stay.

    Parameters
    ----------
    most_rows : int
        To be kept.
    seed : int
    is_sparse : bool, default=False
        Whether the chunks were sparse.

    Attributes
    ----------
    n_rows : int
        That have come.
    statistics : ColumnStatistics
        Of the numbers.
    """

    statistics: ColumnStatistics
    _mass: dict[int, dict[Any, float]]
    _at_fit: tuple[int, ColumnStatistics, dict[int, dict[Any, float]]]

    def __init__(self, most_rows: int, seed: int, *, is_sparse: bool = False) -> None:
        self.is_sparse = is_sparse
        self.most_rows = most_rows
        self.seed = seed
        self.n_rows = 0
        self._keys = ROWS_WITHOUT_KEY
        self._weights = ROWS_WITHOUT_KEY

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        if self.n_rows:
            state["_mass"] = _as_pairs(self._mass)
        if "_at_fit" in state:
            state["_at_fit"] = *self._at_fit[:2], _as_pairs(self._at_fit[2])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.n_rows:
            self._mass = _of_pairs(state["_mass"])
        if "_at_fit" in state:
            self._at_fit = *state["_at_fit"][:2], _of_pairs(state["_at_fit"][2])

    def updated(
        self, X: Any, frames: TableReader, rows: np.ndarray, weight: np.ndarray | None
    ) -> Survey:
        """Return a survey that has learned of a chunk too.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_rows, n_features)
        frames : TableReader
            That knows the levels of this chunk.
        rows : ndarray of shape (n_rows, n_features)
            The chunk as that reads it.
        weight : ndarray of shape (n_rows,) or None
        """
        if weight is None:
            weight = np.ones(len(rows))
        grown = copy(self)
        grown._begin(frames, rows)
        grown._learn(X, frames, rows, weight)
        return grown

    def _begin(self, frames: TableReader, rows: np.ndarray) -> None:
        """Make what will change one's own."""
        n_features = rows.shape[1]
        if not self.n_rows:
            self._frames = copy(frames)
            self._rows = rows[:0]
            self._cells: list[list[ColumnSample]] = [[] for _ in range(n_features)]
            self._has_holes = self._has_numbers = np.zeros(n_features, dtype=bool)
            levels = np.flatnonzero(frames.categorical_).tolist()
            self._mass = {j: {} for j in levels}
        self._part()

    def _part(self) -> None:
        """Have nothing that changes in common with what this is a copy of."""
        self._cells = [list(cells) for cells in self._cells]
        self._has_holes = self._has_holes.copy()
        self._has_numbers = self._has_numbers.copy()
        self._mass = {feature: dict(known) for feature, known in self._mass.items()}

    def _learn(
        self, X: Any, frames: TableReader, rows: np.ndarray, weight: np.ndarray
    ) -> None:
        firsts = self._firsts(frames, rows, weight)
        if frames.is_typed:
            for known, new in zip(self._cells, frames.samples(X, firsts), strict=True):
                known += [new] if new.cells else []
        rows = self._recoded(frames, rows, weight)
        weight = weight[weight > 0]
        found = ColumnStatistics.of(rows, weight)
        self.statistics = self.statistics.merge(found) if self.n_rows else found
        self._keep(rows, weight)
        self.n_rows += len(rows)

    def _firsts(
        self, frames: TableReader, rows: np.ndarray, weight: np.ndarray
    ) -> list[np.ndarray]:
        """Return the rows of cells of a kind that a column did not have before.

        Holes, levels, and one number, for each column.
        """
        holes = np.isnan(rows) & (weight > 0)[:, None]
        new_hole = holes.any(axis=0) & ~self._has_holes
        numbers = ~holes & (weight > 0)[:, None]
        new_number = numbers.any(axis=0) & ~self._has_numbers
        firsts = []
        for feature in range(rows.shape[1]):
            some = [numbers[:, feature].argmax()] if new_number[feature] else []
            if feature in self._mass:
                codes = np.where(numbers[:, feature], rows[:, feature], -1)
                some = self._new_levels(feature, codes, frames.levels_[feature])
            some += [holes[:, feature].argmax()] if new_hole[feature] else []
            firsts.append(np.array(some, dtype=int))
        self._has_holes |= new_hole
        self._has_numbers |= new_number
        return firsts

    def _new_levels(
        self, feature: int, codes: np.ndarray, levels: np.ndarray
    ) -> list[int]:
        """Return the first row of each level that has not come before."""
        known = self._mass[feature]
        found, first = np.unique(codes, return_index=True)
        fresh = [
            row
            for code, row in zip(found.tolist(), first.tolist(), strict=True)
            if code >= 0 and levels[int(code)] not in known
        ]
        return fresh[: max(MOST_LEVELS - len(known), 0)]

    def _recoded(
        self, frames: TableReader, rows: np.ndarray, weight: np.ndarray
    ) -> np.ndarray:
        """Count levels; return rows whose codes are of levels in their order of coming.

        Without rows of weight zero.
        """
        rows = rows.copy()
        for feature, known in self._mass.items():
            codes = rows[:, feature]
            seen = (codes >= 0) & (weight > 0)
            levels = frames.levels_[feature].tolist()
            if known:
                check_levels(
                    _objects(known), _objects(levels), frames.columns_[feature]
                )
            mass = np.bincount(codes[seen].astype(int), weight[seen], len(levels))
            for level, more in zip(levels, mass, strict=True):
                if more and (level in known or len(known) < MOST_LEVELS):
                    known[level] = known.get(level, 0.0) + float(more)
            place = {level: code for code, level in enumerate(known)}
            recoded = np.array([place.get(level, -1) for level in levels], dtype=float)
            rows[seen, feature] = recoded[codes[seen].astype(int)]
        return rows[weight > 0]

    def _keep(self, rows: np.ndarray, weight: np.ndarray) -> None:
        """Keep rows, or those of them with low keys."""
        generator = np.random.default_rng([self.seed, self.n_rows])
        self._rows = np.concatenate([self._rows, rows])
        self._keys = np.r_[self._keys, generator.random(len(rows))]
        self._weights = np.r_[self._weights, weight]
        self._newest = rows
        if len(self._rows) > ROOM * self.most_rows:
            self._drop()

    def _drop(self) -> None:
        if len(self._keys) > self.most_rows:
            lowest = np.argpartition(self._keys, self.most_rows)[: self.most_rows]
            self._take(np.sort(lowest))

    def _take(self, rows: np.ndarray) -> None:
        self._rows, self._keys = self._rows[rows], self._keys[rows]
        self._weights = self._weights[rows]

    # ---------------------------------------------------- of several processes

    def thinned(self, n_total: int) -> Survey:
        """Return a survey that keeps its share of what is kept of so many rows."""
        thin = copy(self)
        if n_total > self.most_rows:
            thin.most_rows = math.ceil(self.most_rows * self.n_rows / n_total)
            thin._drop()
            thin.most_rows = self.most_rows
        return thin

    def merged(self, other: Survey) -> Survey:
        """Return a survey of the rows of both, those of the other last.

        Parameters
        ----------
        other : Survey
            Of other rows, by the same columns, with other random keys.

        Raises
        ------
        ValueError
            If a column has text in the one and numbers in the other.
        """
        both = copy(self)
        both._part()
        rows = both._with_levels(other)
        both._rows = np.concatenate([self._rows, rows(other._rows)])
        both._newest = rows(other._newest)
        both._keys = np.r_[self._keys, other._keys]
        both._weights = np.r_[self._weights, other._weights]
        both.statistics = self.statistics.merge(other.statistics)
        both.n_rows = self.n_rows + other.n_rows
        both._drop()
        return both

    def _with_levels(self, other: Survey) -> Callable[[np.ndarray], np.ndarray]:
        """Learn levels, holes and dtypes; return what recodes the rows of the other."""
        codes: dict[int, np.ndarray] = {}
        for feature, cells in enumerate(self._cells):
            fresh: set[int] = set()
            if feature in self._mass:
                fresh, codes[feature] = self._add_levels(feature, other._mass[feature])
            elif not self._has_numbers[feature]:
                fresh = {0}
            hole = not self._has_holes[feature]
            cells += _chosen(other._cells[feature], fresh, hole=hole)
        self._has_holes |= other._has_holes
        self._has_numbers |= other._has_numbers

        def recoded(rows: np.ndarray) -> np.ndarray:
            rows = rows.copy()
            for feature, places in codes.items():
                seen = rows[:, feature] >= 0
                rows[seen, feature] = places[rows[seen, feature].astype(int)]
            return rows

        return recoded

    def _add_levels(
        self, feature: int, others: dict[Any, float]
    ) -> tuple[set[int], np.ndarray]:
        """Count levels of another survey; return which are new, and codes of all."""
        known = self._mass[feature]
        if known:
            name = self._frames.columns_[feature]
            check_levels(_objects(known), _objects(others), name)
        fresh = set()
        for place, (level, mass) in enumerate(others.items()):
            if level not in known and len(known) < MOST_LEVELS:
                fresh.add(place)
                known[level] = 0.0
            if level in known:
                known[level] += mass
        code_of = {level: code for code, level in enumerate(known)}
        codes = [code_of.get(level, -1) for level in others]
        return fresh, np.array(codes, dtype=float)

    # ------------------------------------------------------------ what is known

    def of_more(self, n_rows: int, statistics: ColumnStatistics) -> Survey:
        """Return a survey of more rows, of which these are some drawn at random."""
        grown = copy(self)
        grown.n_rows, grown.statistics = n_rows, statistics
        return grown

    def taken_in(self) -> Survey:
        """Return this survey as one whose table has been learned by a model."""
        grown = copy(self)
        grown._at_fit = self.n_rows, self.statistics, self._mass
        return grown

    @property
    def has_changed(self) -> bool:
        """Whether the table is another one than when a model last learned it.

        By more rows, by columns that have moved, or by a level that is not rare.
        """
        n_rows, statistics, mass = self._at_fit
        growth = GROWTH if self.is_whole else GROWTH_OF_SOME
        growth = GROWTH_OF_FEW if n_rows <= FEW_ROWS else growth
        if self.n_rows >= growth * n_rows:
            return True
        numbers = ~self._frames.categorical_
        if statistics.have_moved(self.statistics, MOVED)[numbers].any():
            return True
        return any(
            more >= max(FEWEST_ROWS, NEW_SHARE * sum(known.values()))
            for feature, known in self._mass.items()
            for level, more in known.items()
            if level not in mass[feature]
        )

    @property
    def is_whole(self) -> bool:
        """Whether all rows are kept."""
        return len(self._rows) == self.n_rows <= self.most_rows

    @property
    def has_holes(self) -> bool:
        return bool(self._has_holes.any())

    @property
    def weight(self) -> np.ndarray | None:
        """Weights of the rows kept, None where all are the same."""
        self._drop()
        is_equal = len(self._weights) and (self._weights == self._weights[0]).all()
        return None if is_equal else self._weights

    def rows(self, frames: TableReader) -> np.ndarray:
        """Return the rows kept, as numbers and as codes of the levels of `frames`."""
        self._drop()
        return self._coded(self._rows, frames)

    def newest(self, frames: TableReader) -> np.ndarray:
        """Return the rows of the last chunk, in the same way."""
        return self._coded(self._newest, frames)

    def _coded(self, rows: np.ndarray, frames: TableReader) -> np.ndarray:
        rows = rows.copy()
        for feature, known in self._mass.items():
            place = {level: i for i, level in enumerate(frames.levels_[feature])}
            codes = np.array([place.get(level, -1) for level in known], dtype=float)
            seen = rows[:, feature] >= 0
            rows[seen, feature] = codes[rows[seen, feature].astype(int)]
        return rows

    @property
    def frames(self) -> TableReader:
        """What reads such tables, by all levels, and writes rows with their dtypes."""
        frames = copy(self._frames)
        frames.levels_ = {
            feature: _objects(known)[self._orders[feature]]
            for feature, known in self._mass.items()
        }
        if frames.is_typed:
            frames.template_ = [self._sample(j) for j in range(len(self._cells))]
            frames.names_ = [sample.name for sample in frames.template_]
            frames.range_ = self.statistics.low, self.statistics.high
        return frames

    @property
    def known(self) -> Known:
        """What all rows say of each column."""
        of_levels = {
            feature: np.array(list(known.values()))[self._orders[feature]]
            for feature, known in self._mass.items()
        }
        return self.statistics, of_levels

    @property
    def _orders(self) -> dict[int, np.ndarray]:
        """Places of the levels of each column, sorted, in the order of their coming."""
        return {
            feature: np.array(order_of_levels(list(known)), dtype=int)
            for feature, known in self._mass.items()
        }

    def _sample(self, feature: int) -> ColumnSample:
        """Return a cell of each level and a hole, or a number and a hole."""
        if not self._cells[feature]:  # of rows without weight alone
            return ColumnSample(feature, str(self._frames.backend_), {"name": "object"})
        sample = joined(self._cells[feature])
        cells = [cell for cell in sample.cells if cell is not None]
        if feature in self._mass:
            cells = [cells[place] for place in self._orders[feature]]
            return sample.of_cells(cells + [None] * bool(self._has_holes[feature]))
        return sample.of_cells([None] if self._has_holes[feature] else cells[:1])


def _chosen(
    samples: list[ColumnSample], fresh: set[int], *, hole: bool
) -> list[ColumnSample]:
    """Choose cells of a column by their places among the seen, and holes if wanted."""
    chosen, place = [], 0
    for sample in samples:
        cells = []
        for cell in sample.cells:
            if hole if cell is None else place in fresh:
                cells.append(cell)
            place += cell is not None
        chosen += [sample.of_cells(cells)] if cells else []
    return chosen


def judging(rows: np.ndarray) -> np.ndarray:
    """Tell which rows judge: a tenth of the different ones, now and ever after."""
    return hashes(rows) % np.uint64(JUDGING) == 0


def _as_pairs(mass: dict[int, dict[Any, float]]) -> list[tuple[int, list[Any]]]:
    """Return levels and their mass as no keys, of which skops loads False as True."""
    return [(feature, list(known.items())) for feature, known in mass.items()]


def _of_pairs(pairs: list[tuple[int, list[Any]]]) -> dict[int, dict[Any, float]]:
    return {feature: dict(known) for feature, known in pairs}


def _objects(levels: Any) -> np.ndarray:
    array = np.empty(len(levels), dtype=object)
    array[:] = list(levels)
    return array
