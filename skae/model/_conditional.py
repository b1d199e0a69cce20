"""Codes of rows that have given values, by importance resampling."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from ..network._cells import Cells

PROPOSALS = 10_000  # draws of the code at a time
MOST_ROUNDS = 20
LEAST_DRAWS = 20  # effective number of draws below which given values are too rare
ENOUGH_DRAWS = 1_000
LARGEST_RARITY = 10_000  # how many times less likely than usual given values may be
REFERENCE_CODES, REFERENCE_ROWS = 1_000, 100


class Generative(Protocol):
    """What draws codes, rows from codes, and says how likely cells are given a code."""

    def _draw_codes(
        self, module: Any, n_samples: int, generator: torch.Generator
    ) -> Tensor: ...

    def _draw_rows(
        self, module: Any, codes: Tensor, generator: torch.Generator
    ) -> Tensor: ...

    def _log_chance(self, module: Any, codes: Tensor, cells: Cells) -> Tensor: ...

    def _propose(
        self, module: Any, cells: Cells, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]: ...


def codes_given(
    model: Generative,
    module: Any,
    cells: Cells,
    n_samples: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw codes of rows that have the seen cells of one row.

    Raises
    ------
    ValueError
        If too few draws of the code agree with the cells, or if they are far less
        likely than what the model itself draws in these columns.
    """
    wanted = min(max(n_samples, LEAST_DRAWS), ENOUGH_DRAWS)
    proposals: list[Tensor] = []
    log_weights: list[Tensor] = []
    n_effective = 0.0
    while n_effective < wanted and len(proposals) < MOST_ROUNDS:
        codes, log_weight = model._propose(module, cells, generator)
        proposals.append(codes)
        log_weights.append(log_weight)
        weights = torch.cat(log_weights).softmax(dim=0)
        n_effective = 1 / float(weights.square().sum())
    log_density = torch.cat(log_weights).logsumexp(dim=0) - math.log(len(weights))
    rarity = typical_log_density(model, module, cells, generator) - log_density
    if not n_effective >= LEAST_DRAWS or rarity > math.log(LARGEST_RARITY):
        raise ValueError(
            "got values in given that are too rare together: they are "
            f"{float(rarity.exp()):.1g} times less likely than what the model draws in "
            f"these columns, and {n_effective:.0f} of {len(weights):,} draws of the "
            f"code agree with them; expected at most {LARGEST_RARITY:,} and at least "
            f"{LEAST_DRAWS}. Give fewer columns, or other values."
        )
    chosen = torch.multinomial(
        weights, n_samples, replacement=True, generator=generator
    )
    return torch.cat(proposals)[chosen]


def typical_log_density(
    model: Generative, module: Any, cells: Cells, generator: torch.Generator
) -> Tensor:
    """Mean log-density of the model's own rows in the columns of some cells."""
    codes = model._draw_codes(module, REFERENCE_CODES, generator)
    rows = model._draw_rows(module, codes[:REFERENCE_ROWS], generator)
    own = Cells(rows, cells.seen)
    log_chances = model._log_chance(module, codes[:, None, :], own)
    return (log_chances.logsumexp(dim=0) - math.log(len(codes))).mean()
