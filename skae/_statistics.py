"""What every wing counts and compares in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import stdtrit

CHUNK_ROWS = 8192  # at a time, of what needs more memory than the table itself
CHUNK_CELLS = 2**16  # the same, where they should stay in the cache
FEW_ROWS = 1_500  # up to which rows that judge are missed by the network that is kept
LEADING_COLUMNS = 8  # at a time, by which rows are sorted until there is no tie
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


def distinct(
    X: np.ndarray, weight: np.ndarray | None, *, most_sorted: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Find each row once, with the mass of its copies.

    Neither the order of the rows nor a weight in place of copies makes a difference.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_columns)
        NaN is equal to NaN, and -0.0 to 0.0.
    weight : ndarray of shape (n_rows,) or None
        None where each row counts as one.
    most_sorted : int, default=inf
        Up to how many distinct rows are sorted by their values. More are in the order
        in which they come.

    Returns
    -------
    first : ndarray of int of shape (n_distinct,)
        The first row of each kind.
    mass : ndarray of shape (n_distinct,)
    """
    first, which = _copies(X)
    if weight is None:
        mass = np.bincount(which).astype(float)
    else:  # in the same order, whatever that of the rows
        order = np.lexsort((weight, which))
        mass = np.bincount(which[order], weight[order])
    if len(first) > most_sorted:
        return first, mass
    order = _order_of_rows(X if len(first) == len(X) else X[first])
    return first[order], mass[order]


def _copies(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each kind, in their order, and the kind of each row."""
    _, first, which = np.unique(hashes(X), return_index=True, return_inverse=True)
    if len(first) == len(X) or not _are_equal(X, first[which]):
        return np.arange(len(X)), np.arange(len(X))
    rank = np.argsort(np.argsort(first))
    return np.sort(first), rank[which]


def hashes(X: np.ndarray) -> np.ndarray:
    """Return a number per row, the same for rows that are equal."""
    generator = np.random.default_rng(0)
    factors = generator.integers(2**63, size=X.shape[1], dtype=np.uint64) | np.uint64(1)
    unsigned = np.uint64 if X.itemsize == 8 else np.uint32
    numbers = np.empty(len(X), dtype=np.uint64)
    for rows in _chunks(X):
        part = X[rows] + X.dtype.type(0)  # of -0, too
        part[np.isnan(part)] = np.nan
        bits = part.view(unsigned).astype(np.uint64, copy=False)
        # The high bits of a product hold more of a number than its low ones.
        bits ^= bits >> np.uint64(32)
        bits *= factors
        bits ^= bits >> np.uint64(29)
        numbers[rows] = bits.sum(axis=1, dtype=np.uint64)
    return numbers


def _are_equal(X: np.ndarray, others: np.ndarray) -> bool:
    """Tell whether each row equals another one of the same table."""
    return all(
        np.array_equal(X[rows], X[others[rows]], equal_nan=True) for rows in _chunks(X)
    )


def _chunks(X: np.ndarray) -> Iterator[slice]:
    n_rows = max(CHUNK_CELLS // max(X.shape[1], 1), 1)
    yield from (slice(i, i + n_rows) for i in range(0, len(X), n_rows))


def _order_of_rows(X: np.ndarray) -> np.ndarray:
    """Sort rows by their values, in any units the same, the first column first.

    A few columns at a time, and by more of them only the rows that are still tied.
    """
    order, kind = np.arange(len(X)), np.zeros(len(X), dtype=int)
    tied = np.arange(len(X))
    for start in range(0, X.shape[1], LEADING_COLUMNS):
        if len(tied) == 0:
            break
        block = X[order[tied], start : start + LEADING_COLUMNS]
        by = np.lexsort((*block.T[::-1], kind[tied]))
        order[tied], block = order[tied][by], block[by]
        one, other = block[1:], block[:-1]
        equal = ((one == other) | (np.isnan(one) & np.isnan(other))).all(axis=1)
        equal &= kind[tied][1:] == kind[tied][:-1]
        kind[tied] = np.append(False, ~equal).cumsum()
        tied = tied[np.append(False, equal) | np.append(equal, False)]
    return order
