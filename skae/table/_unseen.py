"""Levels of a column that the fit did not see."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd

UNSEEN = -1.0  # code of a level that the fit did not have
MOST_NAMED = 3
TOLD = (
    "got levels that the fit did not have: {}. They count as rare levels, or as "
    "missing where there are none, and cost in score_samples what a level of one row "
    "would."
)


def level_codes(
    levels: np.ndarray, values: np.ndarray, missing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the code of each cell, and the cells whose levels are not among these."""
    found = pd.Index(levels, dtype=object).get_indexer(pd.Index(values, dtype=object))
    unseen = ~missing & (found < 0)
    codes = np.where(unseen, UNSEEN, found)
    return np.where(missing, np.nan, codes), values[unseen]


def check_levels(levels: np.ndarray, values: np.ndarray, name: Any) -> None:
    """Refuse a column of another dtype than the fit's, of which no level can match."""
    came, expected = ({_kind(v): v for v in _plain(c)} for c in (values, levels))
    if came and expected and not came.keys() & expected.keys():
        raise ValueError(
            f"got column {name!r} of {_listed(came)}, but expected {_listed(expected)} "
            "as in the fit: convert the column first."
        )


def tell_unseen(unseen: Mapping[Any, np.ndarray]) -> None:
    """Warn, once for a table, of cells with levels that the fit did not have."""
    parts = [
        f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'} of column {name!r} "
        f"({', '.join(map(repr, _plain(cells)[:MOST_NAMED]))})"
        for name, cells in unseen.items()
        if len(cells)
    ]
    if parts:
        warnings.warn(TOLD.format(", ".join(parts)), UserWarning, stacklevel=6)


def _plain(cells: np.ndarray) -> list[Any]:
    """Return the different cells as values that read well."""
    return np.asarray(pd.unique(cells)).tolist()


def _kind(value: Any) -> str:
    """Tell in what a level is alike to others: numbers and truths equal each other."""
    if isinstance(value, str):
        return "text"
    is_number = isinstance(value, Number | np.bool_)
    return "numbers" if is_number else f"{type(value).__name__} objects"


def _listed(examples: Mapping[str, Any]) -> str:
    return " and ".join(
        f"{'truths' if isinstance(v, bool) else kind} such as {v!r}"
        for kind, v in examples.items()
    )
