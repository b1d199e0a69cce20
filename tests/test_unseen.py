"""Levels that the fit did not see: coded, told and refused."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from skae.table._unseen import UNSEEN, check_levels, level_codes, tell_unseen


def objects(*cells):
    result = np.empty(len(cells), dtype=object)
    result[:] = cells
    return result


LEVELS = objects("a", "b")


def test_cells_get_the_code_of_their_level():
    values = objects("b", None, "z", "a")
    codes, unseen = level_codes(LEVELS, values, pd.isna(values))
    assert_array_equal(codes, [1, np.nan, UNSEEN, 0])
    assert unseen.tolist() == ["z"]


@pytest.mark.parametrize(
    ("levels", "values"),
    [
        (LEVELS, objects("z", "y")),
        (LEVELS, objects("z", 1)),
        (objects(1, 2), np.array([1.0, 2.0])),
        (objects(1, 2), np.array([5.5])),
        (objects(0, 1), np.array([True])),
        (objects("a", 1), np.array([7])),
        (objects(), np.array([7])),
        (LEVELS, objects()),
    ],
)
def test_cells_of_a_kind_that_the_fit_had_are_taken(levels, values):
    check_levels(levels, values, "k")


@pytest.mark.parametrize(
    ("levels", "values", "message"),
    [
        (objects("1", "2"), np.array([1, 2]), "numbers such as 2, .*text such as '2'"),
        (objects(1, 2), objects("1"), "text such as '1'.*numbers such as 2"),
        (objects(True), objects("True"), "text such as 'True'.*truths such as True"),
        (LEVELS, objects(b"a"), "bytes objects such as b'a'.*text such as 'b'"),
    ],
)
def test_cells_of_another_kind_are_refused(levels, values, message):
    with pytest.raises(ValueError, match=rf"got column 'k' of {message}.*convert"):
        check_levels(levels, values, "k")


def test_unseen_levels_are_told_once_with_their_columns_and_counts():
    cells = {"k": objects("z", "y", "z", "x", "w"), "seen": objects(), 3: objects(7)}
    expected = (
        r"5 cells of column 'k' \('z', 'y', 'x'\), 1 cell of column 3 \(7\)\..*missing"
    )
    with pytest.warns(UserWarning, match=expected) as told:
        tell_unseen(cells)
    assert len(told) == 1


def test_nothing_is_told_where_all_levels_are_known():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_unseen({"k": objects()})
