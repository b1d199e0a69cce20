"""Dataframes of any library, and arrays, to numbers and level codes, and back."""

from __future__ import annotations

import datetime
from decimal import Decimal

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from skae.table._containers import as_frame
from skae.table._frames import TableReader, kind_of


def fitted(X, categorical_features="from_dtype"):
    """Do what `fit` does with a reader; return it and the matrix."""
    reader = TableReader(categorical_features).fit(X)
    reader.check_dtypes(X)
    reader.learn_levels(X)
    matrix = reader.read(X)
    reader.remember_dtypes(X, matrix)
    return reader, matrix


def assert_same_frame(found, expected):
    """Compare names, dtypes, levels, cells and, in pandas, the index."""
    assert type(found) is type(expected)
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    elif isinstance(expected, pl.DataFrame):
        assert found.schema == expected.schema
        assert found.equals(expected)
    else:
        assert found.schema.equals(expected.schema)
        assert found.to_pylist() == expected.to_pylist()


WORDS = ["b", "a", None, "b", "c"]
NUMBERS = [2.5, -1.0, None, 2.5, 7.0]
WHOLE = [3, 1, None, 3, 120]
TRUTHS = [True, False, None, True, True]
PANDAS = {
    "category": pd.Categorical(WORDS),
    "category, unused": pd.Categorical(WORDS, categories=list("zcbay")),
    "category, ordered": pd.Categorical(WORDS, categories=list("cba"), ordered=True),
    "category of numbers": pd.Categorical(WHOLE),
    "category of truths": pd.Categorical(TRUTHS),
    "str": pd.array(WORDS, dtype="str"),
    "string": pd.array(WORDS, dtype="string"),
    "object": np.array(WORDS, dtype=object),
    "object with nan": np.array([np.nan if w is None else w for w in WORDS], object),
    "object of truths": np.array(TRUTHS, dtype=object),
    "words and numbers": np.array(["a", 1, None, 2.5, 1], dtype=object),
    "bool": np.array([True, False, False, True, True]),
    "boolean": pd.array(TRUTHS, dtype="boolean"),
    "int64": np.array([3, 1, 2, 3, 120]),
    "int8": np.array([3, 1, 2, 3, 120], dtype=np.int8),
    "uint64": np.array([3, 1, 2, 3, 120], dtype=np.uint64),
    "Int64": pd.array(WHOLE, dtype="Int64"),
    "UInt8": pd.array(WHOLE, dtype="UInt8"),
    "float64": np.array(NUMBERS, dtype=np.float64),
    "float32": np.array(NUMBERS, dtype=np.float32),
    "Float32": pd.array(NUMBERS, dtype="Float32"),
    "object of numbers": np.array([2.5, -1.0, np.nan, 2.5, 7.0], dtype=object),
    "pyarrow text": pd.array(WORDS, dtype=pd.ArrowDtype(pa.string())),
    "pyarrow integers": pd.array(WHOLE, dtype=pd.ArrowDtype(pa.int64())),
    "all missing": np.full(5, np.nan),
    "all missing text": pd.array([None] * 5, dtype="str"),
    "all missing category": pd.Categorical([None] * 5, categories=["a", "b"]),
    "all missing Int64": pd.array([None] * 5, dtype="Int64"),
}
POLARS = {
    "Enum": pl.Series(WORDS, dtype=pl.Enum(["z", "c", "b", "a"])),
    "Categorical": pl.Series(WORDS, dtype=pl.Categorical),
    "String": pl.Series(WORDS),
    "Boolean": pl.Series(TRUTHS),
    "Int64": pl.Series(WHOLE),
    "Int8": pl.Series(WHOLE, dtype=pl.Int8),
    "UInt32": pl.Series(WHOLE, dtype=pl.UInt32),
    "Float64": pl.Series(NUMBERS),
    "Float32": pl.Series(NUMBERS, dtype=pl.Float32),
    "Null": pl.Series([None] * 5),
    "all null String": pl.Series([None] * 5, dtype=pl.String),
    "all null Int64": pl.Series([None] * 5, dtype=pl.Int64),
    "all null Enum": pl.Series([None] * 5, dtype=pl.Enum(["a"])),
}
PYARROW = {
    "dictionary": pa.array(WORDS).dictionary_encode(),
    "string": pa.array(WORDS),
    "large_string": pa.array(WORDS, pa.large_string()),
    "bool": pa.array(TRUTHS),
    "int64": pa.array(WHOLE),
    "int8": pa.array(WHOLE, pa.int8()),
    "double": pa.array(NUMBERS),
    "float": pa.array(NUMBERS, pa.float32()),
    "null": pa.array([None] * 5),
    "all null string": pa.array([None] * 5, pa.string()),
    "chunks": pa.chunked_array([WORDS[:2], WORDS[2:]]),
}
FRAMES = {
    **{f"pandas {name}": pd.DataFrame({"x": c}) for name, c in PANDAS.items()},
    **{f"polars {name}": pl.DataFrame({"x": c}) for name, c in POLARS.items()},
    **{f"pyarrow {name}": pa.table({"x": c}) for name, c in PYARROW.items()},
}
WHOLE_FRAMES = {
    "pandas": pd.DataFrame(PANDAS),
    "polars": pl.DataFrame(POLARS),
    "pyarrow": pa.table(PYARROW),
}


# ----------------------------------------------------------------- there and back


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_a_column_of_every_dtype_comes_back(frame):
    reader, matrix = fitted(frame)
    assert_same_frame(reader.write(matrix), frame)


@pytest.mark.parametrize("frame", WHOLE_FRAMES.values(), ids=WHOLE_FRAMES.keys())
def test_tables_of_every_dtype_come_back_in_any_order_of_the_rows(frame):
    reader, matrix = fitted(frame)
    assert matrix.dtype == np.float64
    assert_same_frame(reader.write(matrix), frame)
    order = [3, 0, 0, 2]
    expected = nw.from_native(frame)[order]
    expected = nw.maybe_reset_index(expected).to_native()
    assert_same_frame(reader.write(matrix[order]), expected)


@pytest.mark.parametrize("frame", WHOLE_FRAMES.values(), ids=WHOLE_FRAMES.keys())
def test_a_single_row_is_written(frame):
    reader, matrix = fitted(frame)
    expected = nw.maybe_reset_index(nw.from_native(frame)[[1]]).to_native()
    assert_same_frame(reader.write(matrix[1:2]), expected)


CELLS = {
    "number": st.none() | st.floats(-1e6, 1e6),
    "whole": st.none() | st.integers(-100, 100),
    "text": st.none() | st.text(max_size=3),
    "truth": st.none() | st.booleans(),
}
ROWS = st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=12)


@given(rows=ROWS)
@settings(max_examples=50, deadline=None)
def test_generated_tables_come_back_and_libraries_agree(rows):
    schema = {
        "number": pl.Float64,
        "whole": pl.Int64,
        "text": pl.String,
        "truth": pl.Boolean,
    }
    polars = pl.DataFrame(rows, schema=schema)
    pandas = pd.DataFrame(rows, columns=list(schema)).astype(
        {"number": float, "whole": "Int64", "text": "str", "truth": "boolean"}
    )
    matrices = []
    for frame in (polars, pandas, polars.to_arrow()):
        reader, matrix = fitted(frame)
        assert_same_frame(reader.write(matrix), frame)
        matrices.append(matrix)
    assert_array_equal(matrices[0], matrices[1])
    assert_array_equal(matrices[0], matrices[2])


def test_numbers_are_rounded_where_the_column_is_whole():
    reader, _ = fitted(pd.DataFrame({"n": [1, 2, 3], "k": ["a", "b", "a"]}))
    found = reader.write(np.array([[1.4, 0.0], [2.6, 1.0]]))
    assert_same_frame(found, pd.DataFrame({"n": [1, 3], "k": ["a", "b"]}))


def test_what_is_written_does_not_depend_on_the_index_of_the_fit():
    frame = pd.DataFrame({"k": ["a", None, "b"], "x": [1.0, 2.0, np.nan]})
    for index in ([7, 3, 9], [7, 7, 7], list("xyz")):
        reader, matrix = fitted(frame.set_axis(index))
        assert_same_frame(reader.write(matrix), frame)


def test_the_index_of_an_original_is_taken():
    frame = pd.DataFrame({"k": ["a", None, "b"], "x": [1.0, 2.0, np.nan]})
    reader, matrix = fitted(frame)
    indexed = frame.set_axis([7, 3, 7])
    assert_same_frame(reader.write(matrix, indexed), indexed)


def test_names_of_columns_may_be_numbers_in_pandas():
    frame = pd.DataFrame({0: ["a", None, "b"], 1: [1.0, 2.0, np.nan]})
    reader, matrix = fitted(frame)
    assert_same_frame(reader.write(matrix), frame)


@pytest.mark.parametrize("frame", WHOLE_FRAMES.values(), ids=WHOLE_FRAMES.keys())
def test_a_table_is_left_as_it_was(frame):
    before = nw.from_native(frame).clone().to_native()
    reader, matrix = fitted(frame)
    reader.fill(frame, some_values(matrix))
    assert_same_frame(frame, before)


def some_values(matrix):
    """Return a value for each missing cell, save in columns that have none at all."""
    return np.where(np.isnan(matrix).all(axis=0), np.nan, 1.0) + 0 * np.ones_like(
        matrix
    )


# ------------------------------------------------------------------------ reading


def test_numbers_are_read_as_they_are_and_levels_by_their_order():
    frame = pd.DataFrame({"x": [2.5, np.nan, -1.0], "k": ["b", "a", None]})
    _, matrix = fitted(frame)
    assert_array_equal(matrix, [[2.5, 1], [np.nan, 0], [-1, np.nan]])


@pytest.mark.parametrize(
    "missing", [None, np.nan, pd.NA, pd.NaT, float("nan")], ids=repr
)
def test_everything_that_is_missing_is_nan(missing):
    cells = np.array(["a", missing, "b"], dtype=object)
    _, matrix = fitted(pd.DataFrame({"k": cells}))
    assert_array_equal(matrix[:, 0], [0, np.nan, 1])


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_levels_that_the_fit_did_not_see_are_told_and_have_a_code_of_their_own(library):
    reader, _ = fitted(library({"k": ["a", "b", "a"], "x": [1.0, 2.0, 3.0]}))
    new = library({"k": ["b", "nowhere", None], "x": [1.0, 2.0, 3.0]})
    with pytest.warns(UserWarning, match=r"1 cell of column 'k' \('nowhere'\)"):
        found = reader.read(new)
    assert_array_equal(found[:, 0], [1, -1, np.nan])


def test_a_reader_reads_the_same_cells_of_another_library_alike():
    frame = pd.DataFrame({name: PANDAS[name] for name in ("str", "boolean", "Int64")})
    reader, matrix = fitted(frame)
    assert_array_equal(reader.read(pl.from_pandas(frame)), matrix)
    assert_array_equal(reader.read(pa.Table.from_pandas(frame)), matrix)


def test_a_column_with_nothing_in_it_is_missing_whatever_its_dtype():
    reader, _ = fitted(pd.DataFrame({"x": [1.0, 2.0], "k": ["a", "b"]}))
    empty = pd.DataFrame({"x": [None, None], "k": [np.nan, np.nan]})
    for frame in (
        empty,
        empty.astype(object),
        pl.DataFrame({"x": [None], "k": [None]}),
    ):
        reader.check_dtypes(frame)
        assert np.isnan(reader.read(frame)).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_infinite_values_are_refused_by_name(library, value):
    frame = library({"k": ["a", "b"], "far": [1.0, value]})
    with pytest.raises(ValueError, match=r"'far' with infinite values.*replace"):
        fitted(frame)


def test_text_among_numbers_of_an_array_is_refused():
    array = np.array([["a", 1], ["b", "two"]], dtype=object)
    with pytest.raises(ValueError, match=r"'x1'.*not numbers.*categorical_features"):
        fitted(array, [0])


def test_levels_that_cannot_be_compared_are_refused_by_name():
    frame = pd.DataFrame({"x": [[1], [2]]})
    with pytest.raises(ValueError, match=r"'x' of list objects.*drop"):
        TableReader(["x"]).fit(frame).learn_levels(frame)


# ----------------------------------------------------------- what is categorical


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (None, [False, False, False]),
        ("from_dtype", [True, False, True]),
        ([True, True, False], [True, True, False]),
        (np.array([False, False, False]), [False, False, False]),
        ([0], [True, False, False]),
        ([0, -1], [True, False, True]),
        (np.array([1, 2]), [False, True, True]),
        (("k", "n"), [True, True, False]),
        (pd.Index(["truth"]), [False, False, True]),
        ([], [False, False, False]),
    ],
)
@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_columns_are_categorical_where_it_is_said(library, features, expected):
    frame = library({"k": ["a", "b"], "n": [1.0, 2.0], "truth": [True, False]})
    reader = TableReader(features).fit(frame)
    assert reader.categorical_.tolist() == expected
    assert reader.is_numeric == (not any(expected))


@pytest.mark.parametrize("features", ["from_dtype", None, []])
def test_arrays_have_no_categorical_columns_unless_told(features):
    assert TableReader(features).fit(np.zeros((3, 2))).is_numeric


@pytest.mark.parametrize("features", [[1], [False, True], [-1]])
@pytest.mark.parametrize("make", [np.array, list])
def test_columns_of_arrays_are_named_by_position(features, make):
    reader = TableReader(features).fit(make([[1.5, 2], [2.5, 3]]))
    assert reader.categorical_.tolist() == [False, True]


@pytest.mark.parametrize(
    "features",
    [["nope"], [3], [-4], [0.5], [True, False], [[0]], 2, [None], ["k", 1]],
    ids=repr,
)
@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_columns_that_are_not_there_are_refused(library, features):
    frame = library({"k": ["a", "b"], "n": [1.0, 2.0], "truth": [True, False]})
    with pytest.raises(
        ValueError,
        match=r"categorical_features=.*mask of 3.*\['k', 'n', 'truth'\]",
    ):
        TableReader(features).fit(frame)


def test_names_of_arrays_are_refused():
    with pytest.raises(ValueError, match=r"categorical_features=\['k'\].*mask of 2"):
        TableReader(["k"]).fit(np.zeros((3, 2)))


def test_an_array_with_levels_is_written_as_one():
    array = np.array([["a", 1.5], ["b", np.nan], [None, 2.5]], dtype=object)
    reader, matrix = fitted(array, [0])
    back = reader.write(matrix)
    assert isinstance(back, np.ndarray)
    assert pd.DataFrame(back).equals(pd.DataFrame(array))


def test_a_numeric_array_with_levels_keeps_its_dtype():
    array = np.array([[3, 10], [1, 20], [3, 30]])
    reader, matrix = fitted(array, [0])
    assert_array_equal(matrix, [[1, 10], [0, 20], [1, 30]])
    assert reader.write(matrix).dtype == array.dtype
    assert_array_equal(reader.write(matrix), array)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"x": [1.0, 2.0], "n": [3, 4]}),
        pl.DataFrame({"x": [1.0, 2.0], "n": [3, 4]}),
        pa.table({"x": [1.0, 2.0], "n": [3, 4]}),
    ],
    ids=["pandas", "polars", "pyarrow"],
)
def test_frames_come_back_as_frames_whether_they_have_holes_and_levels_or_not(frame):
    reader, matrix = fitted(frame)
    assert_same_frame(reader.write(matrix), frame)


def test_arrays_of_numbers_come_back_as_they_are():
    reader = TableReader("from_dtype").fit(np.zeros((3, 2)))
    rows = np.ones((4, 2))
    assert reader.write(rows) is rows


def test_numbers_per_cell_come_in_the_container_of_the_fit():
    numbers = np.array([[0.5, np.nan], [1.5, 2.5]])
    for frame in (
        pd.DataFrame({"k": ["a", "b"], "n": [3, 4]}),
        pl.DataFrame({"k": ["a", "b"], "n": [3, 4]}),
        pa.table({"k": ["a", "b"], "n": [3, 4]}),
    ):
        reader, _ = fitted(frame)
        found = reader.write_numbers(numbers, frame)
        assert type(found) is type(frame)
        found = nw.from_native(found)
        assert found.columns == ["k", "n"]
        assert_array_equal(found.to_numpy(), numbers)
    reader = TableReader("from_dtype").fit(numbers)
    assert reader.write_numbers(numbers, numbers) is numbers


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_single_numbers_beside_levels_are_read_in_single_precision(library):
    x = np.array([1.5, 2.5], dtype=np.float32)
    columns = {"x": x, "k": ["a", "b"]}
    assert fitted(library(columns))[1].dtype == np.float32
    assert fitted(library(columns | {"y": [1.0, 2.0]}))[1].dtype == np.float64
    assert fitted(library({"k": ["a", "b"]}))[1].dtype == np.float64


@pytest.mark.parametrize("fill", [0.0, np.nan, 1.5])
def test_sparse_columns_of_pandas_come_back_and_are_filled(fill):
    cells = pd.arrays.SparseArray([0.0, 1.5, 0.0, np.nan], fill_value=fill)
    frame = pd.DataFrame({"s": cells, "k": ["a", "b", "a", "b"]})
    reader, matrix = fitted(frame)
    assert_array_equal(matrix[:, 0], [0, 1.5, 0, np.nan])
    assert_same_frame(reader.write(matrix), frame)
    filled = reader.fill(frame, np.full((4, 2), 2.5))
    assert filled["s"].dtype == frame["s"].dtype
    assert filled["s"].tolist() == [0.0, 1.5, 0.0, 2.5]


EXACT = [Decimal("1.25"), None, Decimal("-3.10"), Decimal("7.00")]
ARROW_DECIMAL = pa.decimal128(10, 2)
DECIMALS = {
    "polars": pl.DataFrame({"d": pl.Series(EXACT, dtype=pl.Decimal(10, 2))}),
    "pyarrow": pa.table({"d": pa.array(EXACT, ARROW_DECIMAL)}),
    "pyarrow, wide": pa.table({"d": pa.array(EXACT, pa.decimal256(50, 2))}),
    "pandas": pd.DataFrame({"d": pd.array(EXACT, pd.ArrowDtype(ARROW_DECIMAL))}),
}


@pytest.mark.parametrize("frame", DECIMALS.values(), ids=DECIMALS.keys())
def test_decimals_come_back_with_the_precision_that_they_had(frame):
    reader, matrix = fitted(frame)
    assert_array_equal(matrix[:, 0], [1.25, np.nan, -3.1, 7.0])
    assert_same_frame(reader.write(matrix), frame)
    found = nw.from_native(reader.write(np.array([[2.004], [99.0]])))
    assert found["d"].to_list() == [Decimal("2.00"), Decimal("7.00")]
    filled = nw.from_native(reader.fill(frame, np.full((4, 1), 5.678)))
    assert filled.schema == nw.from_native(frame).schema
    assert filled["d"].to_list() == [EXACT[0], Decimal("5.68"), *EXACT[2:]]


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_column_of_levels_that_changes_its_dtype_is_refused(library):
    reader, _ = fitted(library({"k": ["1", "2", None], "x": [1.0, 2.0, 3.0]}))
    with pytest.raises(ValueError, match=r"'k' of numbers such as 2.*text such as '2'"):
        reader.read(library({"k": [1, 2, None], "x": [1.0, 2.0, 3.0]}))


def test_a_frame_without_columns_has_none():
    assert TableReader("from_dtype").fit(pd.DataFrame(index=range(3))).is_numeric


# ------------------------------------------------------------------ kinds of columns


DAY = datetime.date(2020, 2, 29)
KINDS = {
    "number": [
        pd.Series([1.5]),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1, 2.5, None], dtype=object),
        pl.Series([1]),
        pl.Series([None]),
    ],
    "level": [
        pd.Series(pd.Categorical(["a"])),
        pd.Series([True]),
        pd.Series([None, True], dtype="boolean"),
        pl.Series(["a"], dtype=pl.Enum(["a"])),
        pl.Series(["a"], dtype=pl.Categorical),
        pl.Series([True, None]),
    ],
    "text": [
        pd.Series(["a", None]),
        pd.Series(["a", None], dtype=object),
        pd.Series([1, "a"], dtype=object),
        pd.Series([True, None], dtype=object),
        pl.Series(["a"]),
    ],
    "date": [
        pd.Series([pd.Timestamp(DAY)]),
        pd.Series([pd.Timedelta(days=1)]),
        pd.Series([DAY, None], dtype=object),
        pd.Series([datetime.time(12)], dtype=object),
        pl.Series([DAY]),
        pl.Series([datetime.timedelta(1)]),
    ],
    "other": [
        pd.Series([[1, 2]]),
        pd.Series([object()]),
        pl.Series([[1, 2]]),
        pl.Series([{"a": 1}]),
    ],
}


@pytest.mark.parametrize(
    ("kind", "series"),
    [(kind, series) for kind, several in KINDS.items() for series in several],
    ids=lambda value: value if isinstance(value, str) else str(value.dtype),
)
def test_kinds_of_columns_are_told_apart(kind, series):
    assert kind_of(nw.from_native(series, series_only=True)) == kind


@pytest.mark.parametrize("features", ["from_dtype", None, ["born"]])
@pytest.mark.parametrize(
    "library", [pd.DataFrame, pl.DataFrame, pa.table], ids=lambda f: f.__module__
)
def test_dates_are_refused_with_a_way_out(library, features):
    frame = library({"x": [1.0, 2.0], "born": [DAY, DAY]})
    with pytest.raises(
        ValueError, match=r"dates, \['born'\].*into numbers.*days.*\.dt\.year"
    ):
        TableReader(features).fit(frame).check_dtypes(frame)


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_text_that_is_not_said_to_be_levels_is_refused_by_name(library):
    frame = library({"age": [1.0, 2.0], "name": ["Ada", "Bob"], "city": ["a", "b"]})
    for features, names in ((None, r"\['name', 'city'\]"), (["name"], r"\['city'\]")):
        reader = TableReader(features).fit(frame)
        with pytest.raises(
            ValueError, match=rf"text, {names}.*expected.*categorical_features"
        ):
            reader.check_dtypes(frame)


def test_what_is_neither_number_nor_level_is_refused_by_name():
    frame = pl.DataFrame({"x": [1.0], "tags": [["a"]]})
    with pytest.raises(ValueError, match=r"\['tags'\].*drop"):
        TableReader("from_dtype").fit(frame).check_dtypes(frame)


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_numbers_and_truths_pass_where_all_is_numeric(library):
    frame = library({"age": [1, 2], "tall": [True, False]})
    reader = TableReader(None).fit(frame)
    reader.check_dtypes(frame)
    assert_array_equal(reader.read(frame), [[1, 1], [2, 0]])


def test_arrays_are_not_frames():
    assert as_frame(np.zeros((2, 2))) is None
    assert as_frame([[1, 2]]) is None
    assert isinstance(as_frame(pd.DataFrame({"x": [1]})), nw.DataFrame)


# --------------------------------------------------------------------- given values


@pytest.fixture
def reader():
    frame = pd.DataFrame({"x": [1.0, 2.0], "k": ["b", "a"], "truth": [True, False]})
    return fitted(frame)[0]


def test_one_value_is_read_as_a_table_is(reader):
    assert reader.code_of(0, "x", np.float32(2.5)) == 2.5
    assert reader.code_of(1, "k", "b") == 1.0
    assert reader.code_of(2, "truth", np.True_) == 1.0


@pytest.mark.parametrize("value", ["c", None, ["a"], np.nan, 0])
def test_a_level_that_is_not_there_is_refused_with_those_that_are(reader, value):
    with pytest.raises(ValueError, match=r"given=\{'k': .*one of \['a', 'b'\]"):
        reader.code_of(1, "k", value)


@pytest.mark.parametrize("value", ["c", None, np.nan, np.inf, 1j])
def test_a_number_that_is_none_is_refused(reader, value):
    with pytest.raises(ValueError, match=r"given=\{'x': .*finite number"):
        reader.code_of(0, "x", value)


# -------------------------------------------------------------------------- filling


@pytest.mark.parametrize("frame", WHOLE_FRAMES.values(), ids=WHOLE_FRAMES.keys())
def test_only_missing_cells_are_filled_and_dtypes_stay(frame):
    reader, matrix = fitted(frame)
    filled = reader.fill(frame, some_values(matrix))
    before, after = nw.from_native(frame), nw.from_native(filled)
    assert after.schema == before.schema
    expected = np.where(np.isnan(matrix), some_values(matrix), matrix)
    assert_array_equal(reader.read(filled), expected)


@pytest.mark.parametrize("index", [[7, 3, 9], [7, 7, 7], list("xyz")])
def test_a_frame_keeps_its_index(index):
    frame = pd.DataFrame({"k": ["a", None, "b"], "x": [1.0, 2.0, np.nan]}, index=index)
    reader, _ = fitted(frame)
    found = reader.fill(frame, np.ones((3, 2)))
    expected = pd.DataFrame({"k": ["a", "b", "b"], "x": [1.0, 2.0, 1.0]}, index=index)
    assert_same_frame(found, expected)


def test_cells_that_stay_missing_in_the_matrix_stay_missing():
    frame = pd.DataFrame({"k": ["a", None, "b"], "x": [1.0, np.nan, np.nan]})
    reader, _ = fitted(frame)
    matrix = np.array([[0, 0], [np.nan, np.nan], [0, 5.0]])
    expected = pd.DataFrame({"k": ["a", None, "b"], "x": [1.0, np.nan, 5.0]})
    assert_same_frame(reader.fill(frame, matrix), expected)


def test_a_complete_frame_comes_back_as_it_is():
    frame = pd.DataFrame({"k": ["a", "b"], "x": [1.0, -0.0]})
    reader, _ = fitted(frame)
    assert_same_frame(reader.fill(frame, np.full((2, 2), np.nan)), frame)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, object])
def test_arrays_are_filled_in_their_dtype(dtype):
    array = np.array([[1.0, np.nan], [np.nan, 2.0]], dtype=dtype)
    reader = TableReader("from_dtype").fit(array)
    found = reader.fill(array, np.full((2, 2), 0.5))
    assert found.dtype == dtype
    assert found.tolist() == [[1.0, 0.5], [0.5, 2.0]]
    assert np.isnan(array[0, 1])


def test_frames_of_another_library_are_filled_too():
    frame = pd.DataFrame({"k": ["a", None, "b"], "x": [1.0, 2.0, np.nan]})
    reader, _ = fitted(frame)
    for library in (pl.from_pandas, pa.Table.from_pandas):
        other = library(frame)
        found = nw.from_native(reader.fill(other, np.ones((3, 2))))
        assert found.schema == nw.from_native(other).schema
        assert found["k"].to_list() == ["a", "b", "b"]
        assert found["x"].to_list() == [1.0, 2.0, 1.0]


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_columns_with_nothing_in_them_are_filled(library):
    reader, _ = fitted(library({"k": ["a", None, "b"], "x": [1.0, 2.0, 3.0]}))
    found = reader.fill(library({"k": [None], "x": [None]}), np.array([[1.0, 2.5]]))
    assert nw.from_native(found).rows() == [("b", 2.5)]


@pytest.mark.parametrize(
    "column",
    [
        pd.Categorical(["a", None, "a"]),
        pd.Categorical(["b", None, "a"], categories=["b", "a", "z"]),
        np.full(3, np.nan),
        np.full(3, None),
    ],
    ids=["fewer levels", "other levels", "empty floats", "empty objects"],
)
def test_levels_are_filled_in_whatever_dtype_comes(column):
    reader, _ = fitted(pd.DataFrame({"k": pd.Categorical(["a", "b", "a"])}))
    found = reader.fill(pd.DataFrame({"k": column}), np.array([[1.0]] * 3))
    assert found["k"].iloc[1] == "b"
    assert found["k"].iloc[2] == ("b" if pd.isna(column[2]) else "a")
