"""What users pass is refused with what came, and what was expected."""

from __future__ import annotations

import numpy as np
import pytest

from skae._validation import check_count, read_weight

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
