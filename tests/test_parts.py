"""Parts of a table: told, thinned and put together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

from skae.table._parts import Part

X = np.arange(40.0).reshape(10, 4)


def frame(rows=slice(None)):
    table = pd.DataFrame(
        {
            "n": [1, 2, 3, 4],
            "half": [0.5, np.nan, 1.5, 2.5],
            "word": ["a", "b", None, "c"],
            "kind": pd.Categorical(["x", None, "y", "y"]),
            "is": [True, False, True, True],
        }
    )
    return table.iloc[rows]


MAKE = {
    "pandas": lambda f: f,
    "polars": pl.from_pandas,
    "pyarrow": pa.Table.from_pandas,
}
EVERY_LIBRARY = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def cells(table):
    """Return the cells of a frame as plain values, None where one is missing."""
    columns = table.to_dict("list") if isinstance(table, pd.DataFrame) else None
    if columns is None:
        columns = table.to_pydict() if isinstance(table, pa.Table) else table.to_dict()
    return {
        name: [None if pd.isna(cell) else cell for cell in column]
        for name, column in columns.items()
    }


@EVERY_LIBRARY
def test_parts_of_a_frame_join_to_the_frame(make):
    whole = make(frame())
    parts = [Part.of(make(frame(rows))) for rows in (slice(1), slice(1, 4))]
    joined = Part.joined([Part(), *parts, Part()]).X
    assert type(joined) is type(whole)
    assert cells(joined) == cells(whole)


def test_dtypes_of_pandas_stay_where_parts_agree():
    parts = [Part.of(frame(slice(2))), Part.of(frame(slice(2, 4)))]
    assert Part.joined(parts).X.dtypes.equals(frame().dtypes)


def test_levels_of_one_part_alone_are_levels_of_the_whole():
    other = frame().assign(kind=pd.Categorical(["z", "x", "z", None]))
    column = Part.joined([Part.of(frame()), Part.of(other)]).X["kind"]
    assert isinstance(column.dtype, pd.CategoricalDtype)
    assert set(column.cat.categories) == {"x", "y", "z"}


@pytest.mark.parametrize("first", [0, 1])
def test_a_column_without_a_cell_in_one_part_has_the_dtype_of_the_other(first):
    empty = frame().assign(word=None, kind=None, half=np.nan)
    parts = [Part.of(frame()), Part.of(empty)]
    joined = Part.joined(parts if first else parts[::-1]).X
    assert joined.dtypes.equals(frame().dtypes)


@EVERY_LIBRARY
def test_whole_numbers_beside_halves_are_floats(make):
    other = frame().assign(n=[0.5, np.nan, 1.0, 2.0])
    joined = Part.joined([Part.of(make(frame())), Part.of(make(other))]).X
    assert cells(joined)["n"][:5] == [1, 2, 3, 4, 0.5]


def test_arrays_and_sparse_matrices_are_stacked():
    assert_array_equal(Part.joined([Part.of(X[:3]), Part.of(X[3:])]).X, X)
    halves = [Part.of(sparse.csr_array(part)) for part in (X[:3], X[3:])]
    assert_array_equal(Part.joined(halves).X.toarray(), X)
    assert_array_equal(Part.joined([Part.of(X[:3].tolist()), Part.of(X[3:])]).X, X)


def test_weights_go_with_their_rows():
    weights = np.arange(10.0)
    parts = [Part.of(X[:3], weights[:3]), Part.of(None), Part.of(X[3:], weights[3:])]
    assert_array_equal(Part.joined(parts).weight, weights)
    assert_array_equal(Part.of(X, 2.0).weight, np.full(10, 2.0))
    assert Part.joined([Part.of(X)]).weight is None


@pytest.mark.parametrize("nothing", [None, X[:0], frame(slice(0)), []])
def test_parts_without_rows_say_nothing(nothing):
    part = Part.of(nothing, None if nothing is None else [])
    assert (len(part), part.n_bytes, part.form) == (0, 0, None)
    assert Part.joined([part, part]).X is None
    assert part.thinned(0.1, 0) is part


def test_what_is_no_table_is_refused():
    with pytest.raises(ValueError, match="got str as a table"):
        Part.of("table.parquet")
    with pytest.raises(ValueError, match=r"sample_weight of shape \(9,\)"):
        Part.of(X, np.ones(9))


def test_forms_are_those_of_container_and_columns():
    assert Part.of(X).form == Part.of(X[:2]).form
    assert Part.of(X).form != Part.of(X[:, :2]).form
    assert Part.of(X).form != Part.of(X, np.ones(10)).form
    assert Part.of(frame()).form == Part.of(frame(slice(2))).form
    assert Part.of(frame()).form != Part.of(pl.from_pandas(frame())).form
    assert Part.of(frame()).form != Part.of(frame()[["half", "n"]]).form


@pytest.mark.parametrize("make", [lambda X: X, pd.DataFrame, pl.DataFrame])
def test_a_share_of_the_rows_is_drawn_in_their_order(make):
    part = Part.of(make(X), np.arange(10.0))
    thin = part.thinned(0.5, seed=1)
    rows = np.asarray(thin.X)[:, 0] / 4
    assert len(thin) == 5
    assert (np.diff(rows) > 0).all()
    assert_array_equal(thin.weight, rows)
    assert_array_equal(part.thinned(0.5, seed=1).X, thin.X)
    assert len(part.thinned(0.001, seed=1)) == 1
    assert part.thinned(1.0, seed=1) is part


def test_bytes_are_those_of_the_cells():
    assert Part.of(X).n_bytes == X.nbytes
    assert Part.of(pl.DataFrame(X)).n_bytes == X.nbytes
    assert Part.of(sparse.csr_array(np.eye(5))).n_bytes == 40
