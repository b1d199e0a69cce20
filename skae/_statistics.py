"""What every wing counts and compares in the same way."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

CHUNK_ROWS = 8192  # at a time, of what needs more memory than the table itself
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
