"""What every wing counts and compares in the same way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import stdtrit

CHUNK_ROWS = 8192  # at a time, of what needs more memory than the table itself
FEW_ROWS = 1_500  # up to which rows that judge are missed by the network that is kept
ONE_SIGMA = 0.8413  # chance that a normal value is below its mean plus one deviation


def exceed_their_error(gains: np.ndarray) -> bool:
    """Tell whether the mean of paired gains is larger than its standard error.

    By Student's t: of few rows the error is itself uncertain. A single row tells
    nothing.
    """
    if len(gains) < 2:
        return False
    error = gains.std(ddof=1) / len(gains) ** 0.5
    return bool(gains.mean() > stdtrit(len(gains) - 1, ONE_SIGMA) * error)


def by_chunks(
    function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, n_rows: int
) -> np.ndarray:
    """Apply a function to some rows at a time; the result has the dtype of all."""
    result = np.empty(0)
    for start in range(0, len(rows), n_rows):
        part = slice(start, start + n_rows)
        output = function(rows[part])
        if start == 0:
            result = np.empty((len(rows), *output.shape[1:]), rows.dtype)
        result[part] = output
    return result
