"""The same weighted table written in one way."""

from __future__ import annotations

import numpy as np

CANONICAL_ROWS = 10_000
LEADING_COLUMNS = 8


def canonical_rows(
    X: np.ndarray, sample_weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Write the same weighted table in one way, whatever the order of its rows.

    Rows of weight zero go. On tables of up to 10,000 rows, integer weights become
    repeated rows and all rows are sorted: a weight of two *is* a row given twice, and
    whatever is drawn at random for a position is drawn for the same row. Weights that
    remain have a mean of one.
    """
    if sample_weight is not None:
        if not sample_weight.all():
            X, sample_weight = X[sample_weight > 0], sample_weight[sample_weight > 0]
        total = np.sort(sample_weight).sum()  # the same for any order of the rows
        if total <= CANONICAL_ROWS and (sample_weight % 1 == 0).all():
            X, sample_weight = np.repeat(X, sample_weight.astype(int), axis=0), None
        else:
            sample_weight = sample_weight * (len(X) / total)
    if len(X) <= CANONICAL_ROWS:
        order = _order_of_rows(X if sample_weight is None else np.c_[X, sample_weight])
        X = X[order]
        sample_weight = None if sample_weight is None else sample_weight[order]
    return X, sample_weight


def _order_of_rows(X: np.ndarray) -> np.ndarray:
    """Sort rows by their first values, in any units the same, and then by their bytes.

    Bytes sort wide tables fast, and may order the few ties by anything that depends on
    values alone.
    """
    rows = np.ascontiguousarray(X + 0.0)  # so that -0.0 and 0.0 are the same bytes
    row_type = np.dtype((np.void, rows.itemsize * rows.shape[1]))
    _, rank = np.unique(rows.view(row_type).ravel(), return_inverse=True)
    return np.lexsort((rank, *rows[:, :LEADING_COLUMNS].T[::-1]))
