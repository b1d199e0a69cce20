"""Table to code and back as modules, which hold what numpy does around the networks.

Both speak of the table as two tensors: `numbers`, the columns that are not text, and
`texts`, the places of texts among the levels of their column, -1 where the fit did not
have such a level.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..model._model import Model
from ..network._cells import Cells
from ..table._levels import LevelEncoder
from ..table._table import Table
from ._normal_scores import Scores


class Columns:
    """Which columns of a table are numbers and which are text.

    Attributes
    ----------
    numbers, texts : list of int
        Columns of either; levels that are numbers, or true and false, are numbers too.

    Raises
    ------
    ValueError
        If a column has both texts and other levels.
    """

    def __init__(self, table: Table) -> None:
        levels = table.frames.levels_
        self.texts = [feature for feature in levels if self._is_text(table, feature)]
        features = range(len(table.names))
        self.numbers = [feature for feature in features if feature not in self.texts]

    @staticmethod
    def _is_text(table: Table, feature: int) -> bool:
        are_texts = [isinstance(v, str) for v in table.frames.levels_[feature]]
        if any(are_texts) and not all(are_texts):
            raise ValueError(
                f"got column {table.names[feature]!r} of texts and other levels, but "
                "expected either alone: a tensor has one type."
            )
        return all(are_texts)


class Indicators(nn.Module):
    """The indicators of the levels of a column, NaN where a cell has none.

    Parameters
    ----------
    level : LevelEncoder
    values : ndarray or None
        The levels where these are numbers; None where texts come by their places.
    dtype : torch.dtype
    """

    values: Tensor
    rows: Tensor

    def __init__(
        self, level: LevelEncoder, values: np.ndarray | None, dtype: torch.dtype
    ) -> None:
        super().__init__()
        rows = level.encode(np.arange(-1.0, len(level.position)))
        if level.of_unseen is None:
            rows[0] = np.nan
        self.register_buffer("rows", torch.from_numpy(rows).to(dtype))
        numbers = [] if values is None else values.tolist()
        self.register_buffer("values", torch.tensor(numbers, dtype=dtype))

    def forward(self, column: Tensor) -> Tensor:
        if not len(self.values):
            return self.rows[column + 1]
        is_level = column[:, None] == self.values
        place = (is_level * torch.arange(1, len(self.values) + 1)).sum(dim=1)
        return torch.where(column.isnan()[:, None], torch.nan, self.rows[place])


class TableToCode(nn.Module):
    """What `transform` computes for rows without holes; NaN for rows with any."""

    chosen: Tensor
    centre: Tensor
    rounded_off: Tensor
    scale: Tensor
    order: Tensor

    def __init__(self, table: Table, model: Model, dtype: torch.dtype) -> None:
        super().__init__()
        encoder, columns = table.encoder, Columns(table)
        scaler = encoder.scaler_
        chosen = [columns.numbers.index(feature) for feature in encoder.numeric_]
        self.register_buffer("chosen", torch.tensor(chosen, dtype=torch.long))
        self.scored = list(scaler.scores_)
        self.scores = Scores(list(scaler.scores_.values())) if self.scored else None
        centre = torch.from_numpy(scaler.centre_)
        self.register_buffer("centre", centre.to(dtype))
        # What single precision keeps of columns far from zero.
        self.register_buffer("rounded_off", (centre - self.centre).to(dtype))
        least = torch.finfo(dtype).tiny
        scale = torch.from_numpy(scaler.scale_).to(dtype).clamp(min=least)
        self.register_buffer("scale", scale)
        self.places: list[tuple[bool, int]] = []
        self.levels = nn.ModuleList()
        for feature in encoder.order_[len(encoder.numeric_) :].tolist():
            is_text = feature in columns.texts
            among = columns.texts if is_text else columns.numbers
            values = None if is_text else table.frames.levels_[feature]
            self.places.append((is_text, among.index(feature)))
            self.levels.append(Indicators(encoder.levels_[feature], values, dtype))
        self.network = model.new_module().to(dtype)
        self.register_buffer("order", torch.from_numpy(model.order.copy()))

    def forward(
        self, numbers: Tensor | None = None, texts: Tensor | None = None
    ) -> Tensor:
        parts = []
        if numbers is not None and len(self.chosen):
            parts.append(self._scaled(numbers[:, self.chosen]))
        for (is_text, place), indicators in zip(self.places, self.levels, strict=True):
            rows = texts if is_text else numbers
            if rows is not None:
                parts.append(indicators(rows[:, place]))
        matrix = torch.cat(parts, dim=1)
        codes = self.network.latent(Cells(matrix))[:, self.order]
        # Not every runtime carries NaN through every activation.
        has_hole = matrix.isnan().any(dim=1, keepdim=True)
        return torch.where(has_hole, torch.nan, codes)

    def _scaled(self, numbers: Tensor) -> Tensor:
        if self.scores is not None:
            scores = self.scores(numbers[:, self.scored])
            numbers = _with_columns(numbers, self.scored, scores)
        return (numbers - self.centre - self.rounded_off) / self.scale


class Likeliest(nn.Module):
    """The place of the likeliest level of a column, by its indicators."""

    centre: Tensor
    scale: Tensor
    position: Tensor
    share: Tensor
    likeliest: Tensor

    def __init__(self, level: LevelEncoder, dtype: torch.dtype) -> None:
        super().__init__()
        self.width = level.width
        of_likeliest = level.position[level.likeliest], level.share[level.likeliest]
        for name, array in zip(("position", "share"), of_likeliest, strict=True):
            self.register_buffer(name, torch.from_numpy(array))
        self.register_buffer("likeliest", torch.from_numpy(level.likeliest))
        self.register_buffer("centre", torch.from_numpy(level.centre).to(dtype))
        self.register_buffer("scale", torch.from_numpy(level.scale).to(dtype))

    def forward(self, indicators: Tensor) -> Tensor:
        if not self.width:
            none = indicators.new_zeros(indicators.shape[0], dtype=torch.long)
            return none + self.likeliest[0]
        chances = indicators * self.scale + self.centre
        if self.width == 1:
            chances = torch.cat([1 - chances, chances], dim=1)
        among = chances[:, self.position] * self.share
        return self.likeliest[among.argmax(dim=1)]


class CodeToTable(nn.Module):
    """What `inverse_transform` computes: numbers, and the places of texts."""

    order: Tensor
    centre: Tensor
    scale: Tensor
    constant: Tensor
    constants: Tensor
    whole: Tensor
    limits: Tensor

    def __init__(self, table: Table, model: Model, dtype: torch.dtype) -> None:
        super().__init__()
        encoder, frames = table.encoder, table.frames
        self.columns = Columns(table)
        scaler = encoder.scaler_
        self.register_buffer("order", torch.from_numpy(np.argsort(model.order)))
        self.network = model.new_module().to(dtype)
        self.numeric = encoder.numeric_.tolist()
        self.scored = list(scaler.scores_)
        self.scores = Scores(list(scaler.scores_.values())) if self.scored else None
        buffers = {
            "centre": scaler.centre_,
            "scale": scaler.scale_,
            "constants": np.where(scaler.constant_, scaler.low_, 0.0),
        }
        for name, array in buffers.items():
            self.register_buffer(name, torch.from_numpy(array).to(dtype))
        self.register_buffer("constant", torch.from_numpy(scaler.constant_))
        samples = [frames.template_[f] for f in self.numeric if frames.template_]
        whole = [sample.is_whole for sample in samples]
        self.has_whole = any(whole)
        if self.has_whole:
            limits = np.stack(frames.range_)[:, self.numeric]
            self.register_buffer("whole", torch.tensor(whole))
            self.register_buffer("limits", torch.from_numpy(limits).to(dtype))
        self.spans: dict[int, slice] = {}
        self.levels = nn.ModuleDict()
        start = len(self.numeric)
        for feature in [*encoder.order_[start:].tolist(), *encoder.levels_]:
            if feature not in self.spans:
                level = encoder.levels_[feature]
                self.spans[feature] = slice(start, start + level.width)
                start += level.width
                self.levels[str(feature)] = Likeliest(level, dtype)
                values = frames.levels_[feature]
                if feature not in self.columns.texts:
                    numbers = torch.tensor(values.tolist(), dtype=dtype)
                    self.register_buffer(f"values_{feature}", numbers)

    def forward(self, codes: Tensor) -> tuple[Tensor, ...]:
        matrix = self.network.decoded(codes[:, self.order])
        numbers = self._numbers(matrix[:, : len(self.numeric)])
        found = {f: numbers[:, i : i + 1] for i, f in enumerate(self.numeric)}
        for feature, span in self.spans.items():
            place = self.levels[str(feature)](matrix[:, span])
            if feature not in self.columns.texts:
                place = self.get_buffer(f"values_{feature}")[place]
            found[feature] = place[:, None]
        if self.numeric == list(found):  # as many as there are, without a node for each
            return (numbers,)
        kinds = filter(None, (self.columns.numbers, self.columns.texts))
        return tuple(torch.cat([found[f] for f in kind], dim=1) for kind in kinds)

    def _numbers(self, scaled: Tensor) -> Tensor:
        numbers = scaled * self.scale + self.centre
        if self.scores is not None:
            values = self.scores.inverse(numbers[:, self.scored])
            numbers = _with_columns(numbers, self.scored, values)
        numbers = torch.where(self.constant, self.constants, numbers)
        if self.has_whole:
            low, high = self.limits
            nearest = torch.maximum(torch.minimum(numbers, high), low).round()
            numbers = torch.where(self.whole, nearest, numbers)
        return numbers


def _with_columns(rows: Tensor, chosen: list[int], columns: Tensor) -> Tensor:
    """Return rows with some columns replaced."""
    n_columns = rows.shape[1]
    source = torch.arange(n_columns)
    source[chosen] = n_columns + torch.arange(len(chosen))
    return torch.cat([rows, columns], dim=1)[:, source]
