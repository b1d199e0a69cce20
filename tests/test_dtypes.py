"""Columns of any dataframe library as plain values, and back."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skae.table._dtypes import ColumnSample

WORDS = ["b", "a", None, "b", "c"]
NUMBERS = [2.5, -1.0, None, 2.5, 7.0]
WHOLE = [3, 1, None, 3, 120]
FULL = [3, 1, 2, 3, 120]
TRUTHS = [True, False, None, True, True]
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
BIG = 2**53 + 1  # which no float holds


def objects(*cells):
    result = np.empty(len(cells), dtype=object)
    result[:] = cells
    return result


def arrow(values, dtype):
    return pd.array(values, dtype=pd.ArrowDtype(dtype))


PANDAS = {
    **{name: np.array(FULL, dtype=name) for name in INTEGERS},
    **{
        name: pd.array(WHOLE, dtype=name)
        for name in (i.replace("i", "I").replace("u", "U") for i in INTEGERS)
    },
    "float32": np.array(NUMBERS, dtype=np.float32),
    "float64": np.array(NUMBERS, dtype=np.float64),
    "Float32": pd.array(NUMBERS, dtype="Float32"),
    "Float64": pd.array(NUMBERS, dtype="Float64"),
    "bool": np.array([True, False, True, True, False]),
    "boolean": pd.array(TRUTHS, dtype="boolean"),
    "str": pd.array(WORDS, dtype="str"),
    "string": pd.array(WORDS, dtype="string"),
    "string of python": pd.array(WORDS, dtype="string[python]"),
    "string of pyarrow": pd.array(WORDS, dtype="string[pyarrow]"),
    "str of python": pd.array(WORDS, dtype=pd.StringDtype("python", np.nan)),
    "arrow string": arrow(WORDS, pa.string()),
    "arrow large string": arrow(WORDS, pa.large_string()),
    "arrow int64": arrow(WHOLE, pa.int64()),
    "arrow uint8": arrow(WHOLE, pa.uint8()),
    "arrow double": arrow(NUMBERS, pa.float64()),
    "arrow float": arrow(NUMBERS, pa.float32()),
    "arrow bool": arrow(TRUTHS, pa.bool_()),
    "arrow dictionary": arrow(WORDS, pa.dictionary(pa.int8(), pa.string())),
    "object with None": objects("b", "a", None, "b", "c"),
    "object with nan": objects("b", "a", np.nan, "b", "c"),
    "object with NA": objects("b", "a", pd.NA, "b", "c"),
    "object of numbers": objects(2.5, -1.0, np.nan, 2.5, 7.0),
    "object of truths": objects(True, False, None, True, True),
    "object of words and numbers": objects("a", 1, None, 2.5, True),
    "big Int64": pd.array([BIG, 1, None, 3, 4], dtype="Int64"),
    "category": pd.Categorical(WORDS),
    "category, unused": pd.Categorical(WORDS, categories=list("zcbay")),
    "category, ordered": pd.Categorical(WORDS, categories=list("cba"), ordered=True),
    "category of int": pd.Categorical(WHOLE, categories=[120, 3, 1, 7]),
    "category of int, ordered": pd.Categorical(WHOLE, ordered=True),
    "category of float": pd.Categorical(NUMBERS),
    "category of bool": pd.Categorical(TRUTHS),
    "category of object": pd.Categorical(objects("a", 1, None, "a", 1)),
    "category of int8": pd.Categorical(
        WHOLE, dtype=pd.CategoricalDtype(pd.Index([3, 1, 120], dtype="int8"))
    ),
    "all missing str": pd.array([None] * 5, dtype="str"),
    "all missing Int64": pd.array([None] * 5, dtype="Int64"),
    "all missing float64": np.full(5, np.nan),
    "all missing category": pd.Categorical([None] * 5, categories=["a", "b"]),
}
POLARS = {
    **{
        str(dtype): pl.Series(WHOLE, dtype=dtype)
        for dtype in (
            *(pl.Int8, pl.Int16, pl.Int32, pl.Int64),
            *(pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64),
        )
    },
    "Float32": pl.Series(NUMBERS, dtype=pl.Float32),
    "Float64": pl.Series(NUMBERS),
    "Boolean": pl.Series(TRUTHS),
    "String": pl.Series(WORDS),
    "Categorical": pl.Series(WORDS, dtype=pl.Categorical),
    "Enum": pl.Series(WORDS, dtype=pl.Enum(["z", "c", "b", "a"])),
    "Null": pl.Series([None] * 5),
    "big Int64": pl.Series([BIG, 1, None, 3, 4]),
    "all null String": pl.Series([None] * 5, dtype=pl.String),
    "all null Enum": pl.Series([None] * 5, dtype=pl.Enum(["a"])),
}
PYARROW = {
    **{name: pa.array(WHOLE, name) for name in INTEGERS},
    "double": pa.array(NUMBERS),
    "float": pa.array(NUMBERS, pa.float32()),
    "bool": pa.array(TRUTHS),
    "string": pa.array(WORDS),
    "large_string": pa.array(WORDS, pa.large_string()),
    "dictionary": pa.array(WORDS).dictionary_encode(),
    "dictionary, int8": pa.array(WORDS, pa.dictionary(pa.int8(), pa.string())),
    "dictionary, ordered": pa.array(WORDS).cast(
        pa.dictionary(pa.int32(), pa.string(), ordered=True)
    ),
    "dictionary of large strings": pa.array(
        WORDS, pa.dictionary(pa.int32(), pa.large_string())
    ),
    "dictionary of int64": pa.array(WHOLE, pa.dictionary(pa.int32(), pa.int64())),
    "null": pa.array([None] * 5),
    "big int64": pa.array([BIG, 1, None, 3, 4]),
    "all null string": pa.array([None] * 5, pa.string()),
    "chunks": pa.chunked_array([WORDS[:2], WORDS[2:]]),
}
COLUMNS = {
    **{
        f"pandas {name}": pd.Series(c, name="x", dtype=c.dtype)
        for name, c in PANDAS.items()
    },
    **{f"polars {name}": c.alias("x") for name, c in POLARS.items()},
    **{
        f"pyarrow {name}": pa.chunked_array(c)
        if isinstance(c, pa.ChunkedArray)
        else pa.chunked_array([c])
        for name, c in PYARROW.items()
    },
}
OF_COLUMNS = pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)


def sample_of(column):
    return ColumnSample.of(nw.from_native(column, series_only=True))


def assert_same(found, expected):
    """Compare names, dtypes, levels and cells, missing ones by what they are."""
    assert type(found) is type(expected)
    if isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(found, expected)
        if expected.dtype == object:
            pairs = zip(found, expected, strict=True)
            assert all(type(a) is type(b) for a, b in pairs)
    elif isinstance(expected, pl.Series):
        assert found.name == expected.name
        assert found.dtype == expected.dtype
        assert found.equals(expected, check_dtypes=True, null_equal=True)
    else:
        assert found.type.equals(expected.type)
        assert found.to_pylist() == expected.to_pylist()


def leaves_of(value):
    """List all that containers hold, and the keys of dicts."""
    if isinstance(value, dict):
        return [leaf for pair in value.items() for v in pair for leaf in leaves_of(v)]
    if isinstance(value, list):
        return [leaf for v in value for leaf in leaves_of(v)]
    return [value]


@OF_COLUMNS
def test_a_column_of_every_dtype_comes_back(column):
    assert_same(sample_of(column).series(), column)


@OF_COLUMNS
def test_what_is_kept_is_plain(column):
    kept = vars(sample_of(column))
    plain = {str, int, float, bool, type(None)}
    assert {type(leaf) for leaf in leaves_of(kept)} <= plain


@OF_COLUMNS
def test_what_is_kept_can_be_written_as_text(column):
    kept = vars(sample_of(column))
    again = ColumnSample(**json.loads(json.dumps(kept)))
    name = getattr(column, "name", "")
    assert again.name == name
    assert_same(again.series(), column)


@OF_COLUMNS
def test_a_sample_of_what_comes_back_is_the_same(column):
    sample = sample_of(column)
    assert sample_of(sample.series()) == sample


@OF_COLUMNS
def test_no_cell_makes_an_empty_column_of_the_dtype(column):
    empty = column[:0] if not isinstance(column, pd.Series) else column.iloc[:0]
    found = sample_of(empty).series()
    assert len(found) == 0
    if isinstance(column, pa.ChunkedArray):
        assert found.type.equals(column.type)
    else:
        assert found.dtype == column.dtype


@pytest.mark.parametrize("name", ["x", "", None, 3, ("a", 1)], ids=repr)
def test_names_of_pandas_columns_are_kept(name):
    column = pd.Series(WORDS, name=name)
    found = sample_of(column).series()
    assert found.name == name
    assert type(found.name) is type(name)


@pytest.mark.parametrize(
    "column", [COLUMNS["polars Enum"], COLUMNS["pyarrow dictionary"]]
)
def test_loading_imports_no_library_of_the_table(column):
    """A fit may be loaded where its dataframe library is missing."""
    library = type(column).__module__.split(".")[0]
    if library == "pyarrow":
        pytest.importorskip("pyarrow")
    code = (
        "import pickle, sys\n"
        f"sys.modules[{library!r}] = None\n"
        "sample = pickle.loads(sys.stdin.buffer.read())\n"
        "print(sample.backend, sample.cells)"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        input=pickle.dumps(sample_of(column)),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().split()[0] == library
