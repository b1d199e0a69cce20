"""Tables in the containers that `set_output` asks for."""

from __future__ import annotations

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from sklearn.preprocessing import FunctionTransformer

from skae.table._containers import as_frame, framed, in_output

NAMES = ["a", "b", "c", "d"]


def table(seed=0):
    return np.random.default_rng(seed).normal(size=(40, 4))


def asking_for(output):
    return FunctionTransformer().set_output(transform=output)


def test_tables_stay_as_they_are_unless_something_else_is_asked_for():
    for rows in (table(), pd.DataFrame(table()), pl.DataFrame(table())):
        assert in_output(rows, NAMES, FunctionTransformer()) is rows
        assert in_output(rows, NAMES, asking_for("default")) is rows


def test_pandas_frames_get_the_names_and_the_index():
    original = pd.DataFrame(table(), index=range(100, 140))
    found = in_output(table(), NAMES, asking_for("pandas"), original)
    expected = pd.DataFrame(table(), columns=list("abcd"), index=range(100, 140))
    pd.testing.assert_frame_equal(found, expected)


def test_pandas_frames_without_an_original_are_numbered():
    found = in_output(table(), NAMES, asking_for("pandas"))
    pd.testing.assert_frame_equal(found, pd.DataFrame(table(), columns=list("abcd")))


def test_polars_frames_get_the_names():
    found = in_output(table(), NAMES, asking_for("polars"))
    assert isinstance(found, pl.DataFrame)
    assert found.columns == list("abcd")
    assert_array_equal(found.to_numpy(), table())


MIXED = {
    "word": ["x", None, "y"],
    "number": [1.5, 2.5, None],
    "truth": [True, False, True],
    "whole": [3, 1, 2],
}
LIBRARIES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}


@pytest.mark.parametrize("wanted", ["pandas", "polars"])
@pytest.mark.parametrize("came", LIBRARIES)
def test_frames_of_every_library_become_what_is_asked_for(came, wanted):
    frame = LIBRARIES[came](MIXED)
    found = in_output(frame, list(MIXED), asking_for(wanted))
    assert type(found) is LIBRARIES[wanted]
    if came == wanted:
        assert found is frame
    found = nw.from_native(found)
    assert found.columns == list(MIXED)
    for name, cells in MIXED.items():
        missing = [cell is None for cell in cells]
        assert pd.isna(pd.Series(found[name].to_list())).tolist() == missing
        whole = [cell for cell in found[name].to_list() if not pd.isna(cell)]
        assert whole == [cell for cell in cells if cell is not None]


def test_levels_of_a_frame_stay_levels():
    levels = pd.Categorical(["low", "high", None], ["low", "high"], ordered=True)
    found = in_output(pd.DataFrame({"k": levels}), ["k"], asking_for("polars"))
    assert found["k"].to_list() == ["low", "high", None]
    assert isinstance(nw.from_native(found)["k"].dtype, nw.Enum | nw.Categorical)


def test_names_that_are_no_text_are_replaced_where_they_have_to_be():
    frame = pd.DataFrame({0: ["x", "y"], 1: [1.0, 2.0]})
    found = in_output(frame, ["x0", "x1"], asking_for("polars"))
    assert found.columns == ["x0", "x1"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_numbers_are_framed_in_a_library(library):
    found = framed(table(), NAMES, library, None)
    assert nw.from_native(found).implementation.value == library
    assert as_frame(found).columns == NAMES
    assert_array_equal(nw.from_native(found).to_numpy(), table())


def test_numbers_get_the_index_of_the_rows_that_they_are_of():
    original = pd.DataFrame({"k": ["a"] * 40}, index=range(5, 45))
    found = framed(table(), [3, 1, 2, 0], "pandas", original)
    assert found.index.equals(original.index)
    assert found.columns.tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize("convert", [pl.from_pandas, pa.Table.from_pandas])
def test_whole_numbers_with_holes_become_floats_in_pandas(convert):
    frame = pd.DataFrame({"n": pd.array([1, None, 3], dtype="Int64"), "m": [4, 5, 6]})
    found = in_output(convert(frame), ["n", "m"], asking_for("pandas"))
    assert found.dtypes.astype(str).tolist() == ["float64", "int64"]
    assert_array_equal(found["n"], [1, np.nan, 3])
