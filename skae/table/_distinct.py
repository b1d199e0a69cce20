"""The same weighted table written in one way: distinct rows with their mass."""

from __future__ import annotations

import numpy as np
from sklearn.utils import gen_batches

from .._statistics import CHUNK_ROWS

CANONICAL_ROWS = 10_000
LEADING_COLUMNS = 8
MOST_COMBINATIONS, OFTEN = 100, 5  # rows of a population, and how often each is drawn


def distinct_rows(
    X: np.ndarray, sample_weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Write each row once, with the mass of its copies.

    A weight of two *is* a row given twice, and copies of a row cannot judge their twin.
    Rows of weight zero go. On tables of up to 10,000 rows what remains is sorted, so
    that whatever is drawn at random for a position is drawn for the same row.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Missing cells are NaN.
    sample_weight : ndarray of shape (n_samples,) or None

    Returns
    -------
    rows : ndarray of shape (n_rows, n_features)
    mass : ndarray of shape (n_rows,) or None
        Whole numbers where the weights are, and else of mean one; None where all have
        the same.
    """
    if sample_weight is not None and not sample_weight.all():
        X, sample_weight = X[sample_weight > 0], sample_weight[sample_weight > 0]
    first, which = _copies(X)
    mass = None
    if sample_weight is not None or len(first) < len(X):
        mass = _mass(which, sample_weight)
        if (mass == mass[0]).all():
            mass = None
    if len(first) < len(X):
        X = X[first]
    if len(X) <= CANONICAL_ROWS:
        order = _order_of_rows(X)
        X, mass = X[order], None if mass is None else mass[order]
    return X, mass


def recur(rows: np.ndarray, mass: np.ndarray | None) -> bool:
    """Tell whether distinct rows are a small population that was drawn many times.

    That is so of a few combinations of levels. Such rows will come again, so that they
    can judge what is learned of them: those that have not been seen are of no use.
    """
    if mass is None or len(rows) > MOST_COMBINATIONS or mass.sum() < OFTEN * len(rows):
        return False
    widest = max(len(np.unique(column)) for column in rows.T)
    return widest <= max(len(rows) / 2, 2)


def _mass(which: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Add up the weights of copies, the same for any order of the rows."""
    if weight is None:
        return np.bincount(which).astype(float)
    order = np.lexsort((weight, which))
    mass = np.bincount(which[order], weight[order])
    if (weight % 1 == 0).all():
        return mass
    return np.asarray(mass * (len(mass) / np.sort(mass).sum()))


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
    hashes = np.empty(len(X), dtype=np.uint64)
    for rows in gen_batches(len(X), CHUNK_ROWS):
        part = np.where(np.isnan(X[rows]), np.nan, X[rows] + 0.0).astype(X.dtype)
        bits = part.view(unsigned).astype(np.uint64)
        # The high bits of a product hold more of a number than its low ones.
        bits ^= bits >> np.uint64(32)
        mixed = bits * factors
        hashes[rows] = (mixed ^ (mixed >> np.uint64(29))).sum(axis=1, dtype=np.uint64)
    return hashes


def _are_equal(X: np.ndarray, others: np.ndarray) -> bool:
    """Tell whether each row equals another one of the same table."""
    return all(
        np.array_equal(X[rows], X[others[rows]], equal_nan=True)
        for rows in gen_batches(len(X), CHUNK_ROWS)
    )


def _order_of_rows(X: np.ndarray) -> np.ndarray:
    """Sort rows by their first values, in any units the same, and then by their bytes.

    Bytes sort wide tables fast, and may order the few ties by anything that depends on
    values alone.
    """
    rows = np.ascontiguousarray(X + 0.0)  # so that -0.0 and 0.0 are the same bytes
    row_type = np.dtype((np.void, rows.itemsize * rows.shape[1]))
    _, rank = np.unique(rows.view(row_type).ravel(), return_inverse=True)
    return np.lexsort((rank, *rows[:, :LEADING_COLUMNS].T[::-1]))
