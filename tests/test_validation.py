"""What users pass is refused with what came, and what was expected."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils import check_array

from skae._validation import check_count, read_rows, read_weight
from skae.table._frames import TableReader

ROWS = np.zeros((3, 2))


def test_no_weight_is_none():
    assert read_weight(None, ROWS) is None


def test_weights_come_back_in_double_precision():
    weight = read_weight([1, 0, 2], ROWS)
    assert weight.dtype == np.float64
    assert weight.tolist() == [1, 0, 2]


def test_one_weighted_row_is_too_few():
    with pytest.raises(ValueError, match="sample_weight above zero, but expected"):
        read_weight([1, 0, 0], ROWS)


@pytest.mark.parametrize("weight", [[1, -1, 1], [1, 1], [1, np.nan, 1], [0, 0, 0]])
def test_wrong_weights_are_refused(weight):
    with pytest.raises(
        ValueError, match=r"[Nn]egative|inconsistent|shape|NaN|non-zero"
    ):
        read_weight(weight, ROWS)


@pytest.mark.parametrize("count", [0, -1, 1.5, "two", None])
def test_a_count_is_a_positive_integer(count):
    with pytest.raises(ValueError, match=r"got n_draws=.*, but expected an integer"):
        check_count("n_draws", count)


def test_numpy_integers_are_counts():
    check_count("n_draws", np.int64(3))


# ---------------------------------------------------------------------------- tables


class Reader(BaseEstimator):
    """An estimator that reads tables, as it does in `fit` and after it."""

    def fit(self, X):
        self.frames = TableReader("from_dtype").fit(X)
        return read_rows(self, self.frames, X, reset=True)

    def read(self, X):
        return read_rows(self, self.frames, X)


@pytest.mark.parametrize("X", [np.array([["a", "b"]]), [["a", 1]]])
def test_text_in_an_array_is_explained(X):
    with pytest.raises(
        ValueError, match=r"text in an array.*categorical_features.*dataframe"
    ):
        Reader().fit(X)


def test_text_where_the_fit_had_numbers_says_so():
    reader = Reader()
    reader.fit([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match="numbers, as in the fit: convert it") as error:
        reader.read([["a", 1.0]])
    assert "categorical_features" not in str(error.value)
    reader.fit(pd.DataFrame({"x": [1.0, 2.0]}))
    with pytest.raises(ValueError, match=r"\['x'\].*numbers, as in the fit") as error:
        reader.read(pd.DataFrame({"x": ["a", "b"]}))
    assert "categorical_features" not in str(error.value)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_cells_are_refused_by_column(value):
    table = np.array([[0.0, value, 1.0], [1.0, np.nan, value]])
    for X in (table, table.tolist(), table.astype(np.float32), table.astype(object)):
        with pytest.raises(ValueError, match=r"infinite values.*\[1 2\].*infinity"):
            Reader().fit(X)
    for make in (pd.DataFrame, pl.DataFrame, pa.table):
        with pytest.raises(ValueError, match=r"'far' with infinite values"):
            Reader().fit(make({"near": [0.0, 1.0], "far": [0.0, value]}))


@pytest.mark.parametrize("missing", [pd.NA, None, np.nan], ids=repr)
def test_what_is_missing_in_arrays_and_columns_of_objects_is_nan(missing):
    rows = [[1.0, missing], [2.5, 3.0]]
    expected = [[1.0, np.nan], [2.5, 3.0]]
    frame = pd.DataFrame(rows, columns=["a", "b"], dtype=object)
    for X in (rows, np.array(rows, dtype=object), frame):
        np.testing.assert_array_equal(Reader().fit(X), expected)


@pytest.mark.parametrize("X", [np.array([[np.nan, 1]]), np.array([1.0]), [[1], [2, 3]]])
def test_other_errors_stay_as_they_are(X):
    checks = {"ensure_min_samples": 2, "ensure_all_finite": "allow-nan"}
    with pytest.raises(ValueError, match=r"sample|2D|inhomogeneous") as plain:
        check_array(X, estimator=BaseEstimator(), input_name="X", **checks)
    with pytest.raises(ValueError, match=r"sample|2D|inhomogeneous") as explained:
        read_rows(
            BaseEstimator(), TableReader(None).fit([[0.0]]), X, reset=True, **checks
        )
    assert str(explained.value) == str(plain.value)


@pytest.mark.parametrize(
    "frame", [pd.DataFrame(index=range(5)), pl.DataFrame(), pd.DataFrame()]
)
def test_a_frame_without_columns_is_refused_in_words(frame):
    with pytest.raises(ValueError, match=r"0 (sample|feature)\(s\)"):
        Reader().fit(frame)


def test_complex_columns_are_refused_by_name():
    with pytest.raises(ValueError, match=r"\['wave'\].*numbers"):
        Reader().fit(pd.DataFrame({"wave": [1 + 1j, 2.0]}))


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_frames_of_numbers_are_read_in_their_precision(make, dtype):
    X = make({name: np.arange(3, dtype=dtype) for name in "ab"})
    rows = Reader().fit(X)
    assert rows.dtype == (np.float32 if dtype == np.float32 else np.float64)
    np.testing.assert_array_equal(rows, [[0, 0], [1, 1], [2, 2]])
