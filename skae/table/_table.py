"""The table as `fit` has learned it: what the rest of the house holds of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.metrics import pairwise_distances_argmin

from .._schema import KINDS, Block, Encoded, Kind
from ._frames import TableReader
from ._margins import Margins, Matching
from ._matrix import Known, TableEncoder

MARGIN_DRAWS = 5_000  # rows that show how what a model draws is spread
MARGIN_ROWS = 20_000  # rows that the margins of a table are read from
IGNORED = (
    "got columns in which no level has three different rows, {}: nothing can be "
    "learned of them, and the networks do not see them. Drop columns of names, or "
    "group their levels."
)
NO_COLUMN = "got {0}={1!r} with a column {2!r}, but expected one of {3}."


class Table:
    """Numbers and levels of a table to the networks' matrix, and back.

    Rows of numbers and level codes come from :meth:`read` of `frames`; what is drawn
    leaves by :meth:`realise`, whoever drew it.

    Attributes
    ----------
    frames : TableReader
        Containers to numbers and level codes, and back.
    encoder : TableEncoder
        These to the matrix, and back.
    names : list
        Of the columns; their indices where they have none.
    """

    def __init__(self, frames: TableReader) -> None:
        self.frames = frames
        self.names = frames.columns_
        self._matching: Matching | None = None
        self._patterns: tuple[np.ndarray, np.ndarray] | None = None

    def learn(
        self,
        rows: np.ndarray,
        weight: np.ndarray | None,
        kinds: Sequence[Kind],
        scaling: str | None,
        beside_levels: str = "standard",
        known: Known | None = None,
    ) -> Self:
        """Learn scales and levels from rows of numbers and level codes.

        Some rows are kept, for the margins that are looked at once a model draws.
        `beside_levels` is what a `scaling` of "auto" stands for, for numbers of any
        sign where there are columns of levels too. Where the rows are some of many,
        `known` is what all of them say.
        """
        names = [kind.name for kind in kinds]
        of_reals = beside_levels if self.has_levels else "standard"
        scalings = [kind.scaling(scaling, of_reals) for kind in kinds]
        self.encoder = TableEncoder(names, scalings).fit(rows, weight, known)
        step = -(-len(rows) // MARGIN_ROWS)
        some = None if weight is None else weight[::step]
        self._margin_rows = rows[::step].copy(), some
        return self

    @property
    def kept_rows(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Some rows of the fit, and their weights."""
        return self._margin_rows

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_matching": None}  # drawn anew from the model

    @property
    def blocks(self) -> tuple[Block, ...]:
        return self.encoder.blocks_

    @property
    def has_levels(self) -> bool:
        return not self.frames.is_numeric

    @property
    def column_names(self) -> np.ndarray:
        """Names for the columns of an answer."""
        names = [n if isinstance(n, str) else f"x{i}" for i, n in enumerate(self.names)]
        return np.array(names, dtype=object)

    # ------------------------------------------------------------- to the matrix

    def kinds(self, default: Kind, wanted: Mapping[Any, Kind]) -> list[Kind]:
        """Choose the kind of each column; levels have theirs already."""
        levels = self.frames.categorical_
        kinds = [KINDS["categorical"] if level else default for level in levels]
        named = {column: kind.name for column, kind in wanted.items()}
        for column, kind in wanted.items():
            feature = self._feature("likelihood", named, column)
            if levels[feature]:
                raise ValueError(
                    f"got likelihood={named!r} for the categorical column {column!r}, "
                    "but expected columns of numbers."
                )
            kinds[feature] = kind
        return kinds

    def encode(self, rows: np.ndarray, weight: np.ndarray | None = None) -> Encoded:
        """Encode rows of numbers and level codes, in their dtype.

        Rows with values that a column of counts cannot hold are refused.
        """
        self.encoder.check_counts(rows, self.names)
        return self.encoder.encode(rows, weight)

    def encode_sparse(self, X: Any) -> tuple[Any, np.ndarray] | None:
        """Scale a sparse matrix; return it and the row that is subtracted from it.

        None where columns are not scaled by a factor, or not all of them stay.
        """
        scaler = self.encoder.scaler_
        if scaler.scores_ or not self.encoder.is_all_numbers_:
            return None
        scaled = X.tocsr() @ sparse.diags_array(1 / scaler.scale_)
        return scaled, scaler.centre_ / scaler.scale_

    def check(self, rows: np.ndarray, encoded: Encoded) -> None:
        """Refuse numbers that overflow, or that their likelihood has no place for.

        Warn of columns of levels that tell nothing.
        """
        self.encoder.check_range(rows, encoded.matrix)
        names = [self.names[feature] for feature in self.encoder.ignored]
        if names:
            warnings.warn(IGNORED.format(names), UserWarning, stacklevel=4)

    def given(self, values: Mapping[Any, Any]) -> np.ndarray:
        """Write given values as a row of numbers and level codes, NaN elsewhere."""
        row = np.full((1, len(self.names)), np.nan)
        for column, value in values.items():
            feature = self._feature("given", dict(values), column)
            number = self.frames.code_of(feature, column, value)
            if not self.encoder.can_hold(feature, number):
                low, high, whole = self.encoder.bounds(feature)
                raise ValueError(
                    f"got given={{{column!r}: {value!r}}}, but expected a "
                    f"{'whole ' if whole else ''}number from {low:g} to {high:g}, "
                    "which is what the column had in the fit."
                )
            row[0, feature] = number
        return row

    def _feature(self, parameter: str, value: Any, column: Any) -> int:
        if column not in self.names:
            raise ValueError(NO_COLUMN.format(parameter, value, column, self.names))
        return self.names.index(column)

    def log_jacobian(self, rows: np.ndarray) -> np.ndarray:
        """Log-density in the table's units less that of the matrix, in nats."""
        return self.encoder.log_jacobian(rows)

    def log_chances(self, rows: np.ndarray) -> np.ndarray:
        """Log of what the matrix does not tell of the chance of each cell's level."""
        return self.encoder.log_chances(rows)

    @property
    def spans(self) -> list[tuple[int, slice]]:
        """Columns of the table that the matrix has, and which are theirs in it."""
        ends = np.cumsum(self.encoder.widths).tolist()
        pairs = zip(
            self.encoder.order_.tolist(), self.encoder.widths, ends, strict=True
        )
        return [(feature, slice(end - width, end)) for feature, width, end in pairs]

    def has_levels_in(self, feature: int) -> bool:
        return feature in self.encoder.levels_

    # ------------------------------------------------------------ from the matrix

    def decode(self, matrix: np.ndarray) -> np.ndarray:
        """Return rows, of numbers and likeliest levels, that a matrix stands for."""
        return self.encoder.decode(matrix)

    def as_numbers(self, matrix: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return all that a matrix says of rows as numbers, which move as it does.

        Numbers are not rounded, and of levels there is the chance of each, except for
        the first of two. Columns that the matrix lacks are zero.
        """
        decoded, spans = self.encoder.continuous(matrix), dict(self.spans)
        names: list[str] = []
        columns = []
        for feature, name in enumerate(self.column_names):
            if feature not in spans:
                names.append(name)
                columns.append(np.zeros((len(matrix), 1)))
                continue
            columns.append(decoded[:, spans[feature]])
            is_level = self.has_levels_in(feature)
            names += self._level_names(feature, name) if is_level else [name]
        return names, np.concatenate(columns, axis=1)

    def _level_names(self, feature: int, name: str) -> list[str]:
        """Name the indicators of a column of levels."""
        levels = self.frames.levels_[feature]
        groups = self.encoder.levels_[feature].sharing()
        names = [levels[of[0]] if len(of) == 1 else "(rare)" for of in groups]
        return [f"{name}={level}" for level in names]

    def realise(self, matrix: np.ndarray, seed: int) -> np.ndarray:
        """Make drawn rows of the matrix rows of the table.

        They get its margins, its whole numbers and decimals, and its range; of levels
        that share an indicator one is drawn. Seen cells need not be theirs any more.
        """
        rows = self.encoder.decode(matrix, np.random.default_rng(seed))
        return self.with_numbers(matrix, rows)

    def with_numbers(
        self, matrix: np.ndarray, rows: np.ndarray, wanted: np.ndarray | None = None
    ) -> np.ndarray:
        """Return rows, of which the levels are known, with the numbers of a matrix.

        These get the margins that numbers have in the table, within the levels that
        tell most of them, its range, whole numbers and decimals. Where only some cells
        of the matrix are wanted, the margins of others are not looked at.
        """
        numbers = self.encoder.numeric_
        scores = matrix[:, : len(numbers)]
        rows = rows.copy()
        rows[:, numbers] = self.encoder.scaler_.decode(scores)
        if self._matching is not None:
            some = None if wanted is None else wanted[:, : len(numbers)]
            drawn = self._numbers_and_levels(rows)
            rows[:, numbers] = self._matching.move(scores, *drawn, some)
        return self.encoder.within_range(rows)

    def averaged(self, numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return rows with averages of their numbers, to as many decimals."""
        levels = list(self.encoder.levels_)
        numbers = numbers.copy()
        numbers[:, levels] = rows[:, levels]
        return self.encoder.within_range(numbers)

    def _numbers_and_levels(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return rows[:, self.encoder.numeric_], rows[:, list(self.encoder.levels_)]

    def match_margins(
        self, sample: Callable[[int, np.random.Generator], np.ndarray], seed: int
    ) -> None:
        """Learn how drawn numbers are spread, once, from rows of the matrix as drawn.

        A network draws smooth margins; tables have spikes, edges and gaps.
        """
        if self._matching is None:
            drawn = sample(MARGIN_DRAWS, np.random.default_rng(seed))
            decoded = self.encoder.decode(drawn, np.random.default_rng(seed))
            scores = drawn[:, : len(self.encoder.numeric_)]
            learned = self._numbers_and_levels(decoded)
            rows, weight = self._margin_rows
            margins = Margins(*self._numbers_and_levels(rows), weight)
            self._matching = margins.matching(scores, *learned)

    # -------------------------------------------------------------- to containers

    def holes(self, encoded: Encoded) -> np.ndarray:
        """Return which cells are missing, in the order of the table's columns."""
        holes = np.zeros((len(encoded), len(self.names)), dtype=bool)
        if encoded.seen is not None:
            holes[:, self.encoder.order_] = ~encoded.seen
        return holes

    def remember_holes(self, encoded: Encoded, whole: np.ndarray) -> None:
        """Keep the holes of rows, with the matrix of the rows as completed."""
        self._patterns = whole.astype(np.float32), self.holes(encoded)

    def holes_like(self, rows: np.ndarray, seed: int) -> np.ndarray:
        """Return the holes of the remembered rows that drawn ones are nearest to."""
        if self._patterns is None:
            return np.zeros(rows.shape, dtype=bool)
        whole, holes = self._patterns
        # Both with the margins of the table: else rows of many holes, which are drawn,
        # are nearer to what is drawn than rows with the table's own spikes.
        donors = self.encode(self.realise(whole.astype(np.float64), seed)).matrix
        return holes[pairwise_distances_argmin(self.encode(rows).matrix, donors)]

    def by_column(self, cells: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Put a value per seen cell into the table's columns, NaN where one is missing.

        Columns that the matrix lacks have zero.
        """
        result = np.where(np.isnan(rows), np.nan, 0.0)
        result[:, self.encoder.order_] += cells
        return result + self.unseen_errors(rows)

    def unseen_errors(self, rows: np.ndarray) -> np.ndarray:
        """Squared errors of cells with levels that have no place, else zero."""
        return self.encoder.unseen_errors(rows)

    def fill(self, X: Any, rows: np.ndarray) -> Any:
        """Return `X` with its missing cells, and nothing else, taken from rows."""
        return self.frames.fill(X, rows)
