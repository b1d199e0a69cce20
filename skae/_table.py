"""A user's table to the matrix that the networks see, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils import gen_batches
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config

Rows = TypeVar("Rows", bound=Any)
CHUNK_ROWS = 8192
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


class ColumnScaler:
    """Bring numeric columns to one scale, and outputs back to the user's units.

    A constant column is centred and left at its scale on the way in, and comes back as
    its constant on the way out, whatever the networks say.

    Parameters
    ----------
    scaling : {"standard", "minmax"} or None
        Zero mean and unit variance, the range [0, 1], or the columns as they are.

    Attributes
    ----------
    centre_, scale_ : ndarray of shape (n_features,)
        What is subtracted, and what is divided by.
    constant_ : ndarray of bool of shape (n_features,)
    constant_values_ : ndarray of shape (n_features,)
        One value per column, used where the column is constant.
    """

    def __init__(self, scaling: str | None) -> None:
        self.scaling = scaling

    def fit(self, X: np.ndarray, sample_weight: np.ndarray | None) -> ColumnScaler:
        low = X.min(axis=0).astype(np.float64)
        high = X.max(axis=0).astype(np.float64)
        # One rounding error of the largest value is not a variation of the column.
        magnitude = np.maximum(np.abs(low), np.abs(high))
        self.constant_ = high - low <= 4 * np.finfo(X.dtype).eps * magnitude
        self.constant_values_ = low
        if self.scaling == "standard":
            self.centre_, self.scale_ = mean_and_deviation(X, sample_weight)
        elif self.scaling == "minmax":
            self.centre_, self.scale_ = low, high - low
        else:
            self.centre_, self.scale_ = np.zeros_like(low), np.ones_like(low)
        self.scale_[self.constant_] = 1.0
        if self.scaling is not None:
            self.centre_[self.constant_] = low[self.constant_]
        return self

    def constants(self, dtype: np.dtype) -> tuple[np.ndarray, ...]:
        """Return centre, its rounding error and scale in the dtype of some rows.

        The rounding error keeps the digits of float32 columns that lie far from zero.
        """
        centre = self.centre_.astype(dtype)
        rounded_off = (self.centre_ - centre).astype(dtype)
        scale = np.maximum(self.scale_.astype(dtype), np.finfo(dtype).tiny)
        return centre, rounded_off, scale

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Scale the rows in the dtype of `X`."""
        return standardise(X, *self.constants(X.dtype))

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        """Return rows in the user's units, in the dtype of `encoded`."""
        X = encoded * self.scale_.astype(encoded.dtype)
        X += self.centre_.astype(encoded.dtype)
        X[:, self.constant_] = self.constant_values_[self.constant_]
        return X

    def log_jacobian(self) -> float:
        """Log-density of the user's units less that of the scaled units, in nats."""
        return float(-np.log(self.scale_).sum())


def standardise(X: Rows, centre: Rows, rounded_off: Rows, scale: Rows) -> Rows:
    """Compute (X - centre) / scale for arrays and tensors alike."""
    encoded = X - centre
    encoded -= rounded_off
    encoded /= scale
    return encoded


def mean_and_deviation(
    X: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation per column, in float64, in two passes.

    The columns are divided by their largest magnitude first, so that the squares of
    values such as 1e200 or 1e-200 stay within the range of floating point.
    """
    largest = np.maximum(np.abs(X.min(axis=0)), np.abs(X.max(axis=0)))
    unit = np.where(largest > 0, largest, 1).astype(np.float64)
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    mean = np.zeros(X.shape[1])
    for rows in gen_batches(len(X), CHUNK_ROWS):
        mean += weight[rows] @ (X[rows] / unit)
    mean /= weight.sum()
    variance = np.zeros(X.shape[1])
    for rows in gen_batches(len(X), CHUNK_ROWS):
        variance += weight[rows] @ (X[rows] / unit - mean) ** 2
    return mean * unit, np.sqrt(variance / weight.sum()) * unit


@contextmanager
def explain_text(X: Any) -> Iterator[None]:
    """Name the columns of a dataframe that hold no numbers if its validation fails."""
    try:
        yield
    except (ValueError, TypeError) as error:
        frame = nw.from_native(X, eager_only=True, pass_through=True)
        if not isinstance(frame, nw.DataFrame):
            raise
        allowed = (nw.Boolean, nw.Decimal, nw.Object)
        text = [
            name
            for name, dtype in frame.schema.items()
            if not dtype.is_numeric() and not isinstance(dtype, allowed)
        ]
        if not text or "feature names" in str(error):
            raise
        raise ValueError(
            f"got columns that are not numeric, {text}, but expected numbers only: "
            "drop these columns or encode them first, with "
            "sklearn.preprocessing.OneHotEncoder for instance."
        ) from error


def to_container(
    array: np.ndarray, columns: np.ndarray, estimator: Any, original: Any = None
) -> Any:
    """Return an array as the container that `set_output` asks of `estimator`."""
    wanted = _get_output_config("transform", estimator)["dense"]
    if wanted == "default":
        return array
    adapter = ADAPTERS_MANAGER.adapters[wanted]
    return adapter.create_container(array, original, columns=columns)
