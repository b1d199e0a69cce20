"""The same weighted table written in one way: distinct rows with their mass."""

from __future__ import annotations

import numpy as np

from .._statistics import distinct

CANONICAL_ROWS = 10_000
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
    first, mass = distinct(X, sample_weight, most_sorted=CANONICAL_ROWS)
    if len(first) < len(X) or len(X) <= CANONICAL_ROWS:
        X = X[first]
    if (mass == mass[:1]).all():
        return X, None
    if sample_weight is not None and (sample_weight % 1 > 0).any():
        mass = mass * (len(mass) / np.sort(mass).sum())
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
