"""The table as a fit has learned it: to the matrix, to containers, and back."""

from __future__ import annotations

import pickle
import warnings
from functools import cache

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skae import AutoencoderTransformer, VAETransformer
from skae._schema import KINDS
from skae.table._margins import Margins

START = {"max_iter": 0, "random_state": 0, "device": "cpu"}


def numbers(n_rows=60, seed=0):
    return np.random.default_rng(seed).normal(size=(n_rows, 4)) * [1, 10, 0.1, 3] + 5


def frame(n_rows=120, seed=0):
    """Make columns of levels between columns of numbers, in no order of kinds."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "kind": rng.choice(list("abc"), n_rows),
            "size": rng.normal(5, 2, n_rows).round(1),
            "two": rng.choice(["no", "yes"], n_rows, p=[0.3, 0.7]),
            "count": rng.poisson(3, n_rows),
            "spike": np.maximum(rng.normal(size=n_rows), 0),
        }
    )


def with_holes(table, share=0.2, seed=1):
    return table.mask(np.random.default_rng(seed).uniform(size=table.shape) < share)


@cache
def fitted(name, **parameters):
    tables = {
        "numbers": numbers,
        "frame": frame,
        "holes": lambda: with_holes(frame()),
        "all missing": lambda: frame().assign(none=np.nan, same="one"),
    }
    table = tables[name]()
    est = AutoencoderTransformer(2, **{**START, **parameters}).fit(table)
    return est._table, est._read(table), table


NAMES = ["numbers", "frame", "holes", "all missing"]
OF_TABLES = pytest.mark.parametrize("name", NAMES)


# ------------------------------------------------------------------ to and from cells


@OF_TABLES
@pytest.mark.parametrize("scaling", ["standard", "minmax", "quantile", None])
def test_rows_are_encoded_and_decoded(name, scaling):
    table, rows, _ = fitted(name, scaling=scaling)
    encoded = table.encode(rows)
    back = table.decode(encoded.matrix)
    seen = ~np.isnan(rows)
    assert_allclose(back[seen], rows[seen], atol=1e-9)
    assert len(table.blocks) > 0
    assert encoded.matrix.shape == (len(rows), sum(b.width for b in table.blocks))


@OF_TABLES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_matrix_has_the_precision_of_the_rows(name, dtype):
    table, rows, _ = fitted(name)
    encoded = table.encode(rows.astype(dtype))
    assert encoded.matrix.dtype == dtype
    assert table.decode(encoded.matrix).dtype == dtype
    assert np.isfinite(encoded.matrix).all()


def test_holes_are_where_cells_are_missing():
    table, rows, holed = fitted("holes")
    encoded = table.encode(rows)
    found = table.holes(encoded)
    assert found.dtype == bool
    assert_array_equal(found, holed.isna())
    whole, whole_rows, _ = fitted("frame")
    assert not whole.holes(whole.encode(whole_rows)).any()


def test_columns_without_a_place_in_the_matrix_have_no_holes():
    table, rows, _ = fitted("all missing")
    found = table.holes(table.encode(rows))
    assert found.shape == rows.shape
    assert not found.any()


def test_weights_stay_with_the_encoded_rows():
    table, rows, _ = fitted("holes")
    weight = np.arange(len(rows), dtype=float)
    assert_array_equal(table.encode(rows, weight).weight, weight)
    assert table.encode(rows).weight is None


@pytest.mark.parametrize("name", ["numbers", "frame", "holes"])
def test_values_of_cells_go_to_their_columns(name):
    table, rows, _ = fitted(name)
    features = np.arange(rows.shape[1])[table.encoder.order_]
    cells = np.tile(features + 1.0, (len(rows), 1))
    found = table.by_column(cells, rows)
    expected = np.where(np.isnan(rows), np.nan, np.arange(rows.shape[1]) + 1.0)
    assert_array_equal(found, expected)


def test_columns_that_the_matrix_lacks_have_zero():
    table, rows, _ = fitted("all missing")
    cells = np.ones((len(rows), len(table.encoder.order_)))
    found = table.by_column(cells, rows)
    assert np.isnan(found[:, 5]).all()  # all missing
    assert_array_equal(found[:, 6], 0)  # of one level
    assert_array_equal(found[:, :5], 1)


def test_expected_rows_have_the_likeliest_level():
    table, rows, _ = fitted("frame")
    encoded = table.encode(rows)
    mean = encoded.matrix * 0.6
    found = table.decode(mean)
    assert_array_equal(found[:, [0, 2]], rows[:, [0, 2]])
    averages = np.full(rows.shape, 0.123456)
    taken = table.averaged(averages, found)
    assert_array_equal(taken[:, [0, 2]], rows[:, [0, 2]])
    assert (taken[:, 1] >= rows[:, 1].min()).all()


@OF_TABLES
def test_a_matrix_is_all_numbers_of_its_rows(name):
    table, rows, _ = fitted(name)
    names, values = table.as_numbers(table.encode(rows).matrix)
    found = pd.DataFrame(values, columns=names)
    for column, cells in zip(table.column_names, rows.T, strict=True):
        seen = ~np.isnan(cells)
        levels = table.frames.levels_.get(list(table.column_names).index(column))
        if levels is None and seen.any():
            assert_allclose(found[column][seen], cells[seen], atol=1e-9)
        for code, level in enumerate([] if levels is None else levels):
            if (key := f"{column}={level}") in found:
                assert_allclose(found[key][seen], cells[seen] == code, atol=1e-9)
    n_two = len([name for name in names if name.startswith("two=")])
    assert n_two == ("two" in table.column_names)


def test_columns_that_the_matrix_lacks_are_zero_as_numbers():
    table, rows, _ = fitted("all missing")
    names, values = table.as_numbers(table.encode(rows).matrix)
    lacking = [names.index("none"), names.index("same")]
    assert_array_equal(values[:, lacking], 0)


@pytest.mark.parametrize("name", ["numbers", "frame"])
def test_decoded_numbers_are_kept_within_the_range(name):
    table, rows, _ = fitted(name)
    numeric = table.encoder.numeric_
    matrix = 100 * table.encode(rows).matrix
    found = table.with_numbers(matrix, rows)[:, numeric]
    assert (found >= rows[:, numeric].min(axis=0)).all()
    assert (found <= rows[:, numeric].max(axis=0)).all()


def test_the_jacobian_is_that_of_the_scales():
    table, rows, _ = fitted("numbers")
    found = table.log_jacobian(rows)
    assert_allclose(found, -np.log(numbers().std(axis=0)).sum(), rtol=1e-9)


# ---------------------------------------------------------------- given values


def test_given_values_are_a_row_of_their_columns():
    table, _, _ = fitted("frame")
    found = table.given({"size": 4.5, "kind": "b"})
    assert_array_equal(found, [[1, 4.5, np.nan, np.nan, np.nan]])
    assert_array_equal(
        table.given({"two": "yes"}), [[np.nan, np.nan, 1, np.nan, np.nan]]
    )
    assert np.isnan(table.given({})).all()
    assert table.given({}).shape == (1, 5)


def test_columns_without_names_are_given_by_their_index():
    table, _, _ = fitted("numbers")
    assert_array_equal(table.given({2: 7}), [[np.nan, np.nan, 7, np.nan]])
    assert_array_equal(
        table.given({np.int64(0): np.float32(0.5)}), [[0.5, np.nan, np.nan, np.nan]]
    )


def test_a_column_named_two_is_the_column_named_two():
    named = pd.DataFrame(numbers()).set_axis([2, 7, 0, 1], axis=1)
    table = AutoencoderTransformer(2, **START).fit(named)._table
    assert_array_equal(table.given({2: 1.5}), [[1.5, np.nan, np.nan, np.nan]])
    assert_array_equal(table.given({0: 1.5}), [[np.nan, np.nan, 1.5, np.nan]])
    with pytest.raises(ValueError, match="column 3, but expected one of"):
        table.given({3: 1.5})


@pytest.mark.parametrize("column", ["colour", 0, None, ("kind",)])
def test_unknown_columns_are_named_beside_those_there_are(column):
    table, _, _ = fitted("frame")
    with pytest.raises(ValueError, match="got given=") as told:
        table.given({column: 1})
    message = str(told.value)
    assert message.startswith(f"got given={{{column!r}: 1}} with a column {column!r}")
    assert "expected one of ['kind', 'size', 'two', 'count', 'spike']" in message


@pytest.mark.parametrize("index", [4, -1, "x0"])
def test_unknown_indices_are_refused(index):
    table, _, _ = fitted("numbers")
    with pytest.raises(ValueError, match=r"expected one of \[0, 1, 2, 3\]"):
        table.given({index: 1})


def whole_table(cls=AutoencoderTransformer, library=pd.DataFrame, **parameters):
    rng = np.random.default_rng(0)
    columns = {
        "age": rng.integers(0, 20, 90),
        "rooms": rng.integers(1, 7, 90).astype(float),
        "size": rng.normal(size=90),
        "fixed": np.full(90, 3.5),
        "share": rng.uniform(size=90),
    }
    return learned(cls, library(columns), **parameters)


def learned(cls, X, **parameters):
    return cls(2, **{**START, **parameters}).fit(X)._table


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"age": -4}, "whole number from 0 to 19"),
        ({"age": 2.5}, "whole number from 0 to 19"),
        ({"age": 25}, "whole number from 0 to 19"),
        ({"rooms": 1.5}, "whole number from 1 to 6"),
        ({"rooms": 0}, "whole number from 1 to 6"),
        ({"fixed": 3}, "number from 3.5 to 3.5"),
    ],
)
def test_values_that_a_column_cannot_hold_are_refused(library, given, expected):
    ((column, value),) = given.items()
    with pytest.raises(ValueError, match=rf"'{column}': {value}}}.*{expected}"):
        whole_table(library=library).given(given)


def test_values_that_a_column_of_an_array_cannot_hold_are_refused():
    X = np.random.default_rng(0).poisson(3.0, size=(80, 3)).astype(float)
    table = learned(VAETransformer, X, likelihood="poisson")
    with pytest.raises(ValueError, match=r"\{0: -4\}.*whole number from 0"):
        table.given({0: -4})
    with pytest.raises(ValueError, match=r"\{2: 0.5\}.*whole number from 0"):
        table.given({2: 0.5})


def test_shares_stay_in_the_range_of_the_fit():
    X = np.random.default_rng(0).uniform(size=(80, 3))
    table = learned(VAETransformer, X, likelihood="bernoulli")
    with pytest.raises(ValueError, match=r"\{1: 1.5\}.*number from"):
        table.given({1: 1.5})


@pytest.mark.parametrize(
    "given",
    [{"age": 19.0}, {"rooms": 1}, {"size": 9.5}, {"size": -9.5}, {"fixed": 3.5}],
)
def test_values_that_a_column_can_hold_are_taken(given):
    row = whole_table().given(given)
    assert row[~np.isnan(row)].tolist() == list(given.values())


@pytest.mark.parametrize("cls", [AutoencoderTransformer, VAETransformer])
def test_columns_of_names_are_told_and_no_others(cls):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "name": [f"row {i}" for i in range(60)],
            "x": rng.normal(size=60),
            "kind": rng.choice(list("ab"), 60),
            "one": "same",
            "twice": np.repeat(np.arange(30), 2).astype(str),
            "rare": ["once", "twice", "thrice"] + ["often"] * 57,
        }
    )
    with pytest.warns(UserWarning, match=r"no level.*\['name', 'twice'\].*Drop"):
        learned(cls, frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learned(cls, frame.drop(columns=["name", "twice"]))


def test_levels_and_numbers_that_are_none_are_refused():
    table, _, _ = fitted("frame")
    with pytest.raises(ValueError, match=r"'kind': 'z'.*one of \['a', 'b', 'c'\]"):
        table.given({"kind": "z"})
    for value in (np.nan, np.inf, "4", None):
        with pytest.raises(ValueError, match="expected a finite number"):
            table.given({"size": value})


# --------------------------------------------------------------------- likelihoods


def test_columns_that_are_named_have_the_kind_they_are_given():
    table = frame()
    est = VAETransformer(2, likelihood={"count": "poisson"}, **START).fit(table)
    kinds = {block.kind.name: block.width for block in est._table.blocks}
    assert kinds == {"gaussian": 2, "poisson": 1, "binary": 1, "categorical": 3}
    assert KINDS["poisson"].domain == "count"


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        ({"age": "poisson"}, "likelihood=.* with a column 'age', but expected one of"),
        ({"kind": "poisson"}, "for the categorical column 'kind'"),
    ],
)
def test_kinds_of_columns_that_have_none_are_refused(likelihood, message):
    with pytest.raises(ValueError, match=message):
        VAETransformer(2, likelihood=likelihood, **START).fit(frame())


# ------------------------------------------------------------------- drawn rows


def realised(seed=0, **parameters):
    table, rows, _ = fitted("frame", **parameters)
    rng = np.random.default_rng(seed)
    matrix = table.encode(rows[rng.integers(len(rows), size=2000)]).matrix
    n_numbers = len(table.encoder.numeric_)
    matrix[:, :n_numbers] += rng.normal(size=(2000, n_numbers))
    return table.realise(matrix, seed), rows, matrix


def test_realised_rows_are_in_the_range_and_the_decimals_of_the_table():
    found, rows, _ = realised()
    assert (found >= rows.min(axis=0)).all()
    assert (found <= rows.max(axis=0)).all()
    assert_allclose(found[:, 1], found[:, 1].round(1), atol=1e-12)
    assert_array_equal(found[:, 3], found[:, 3].round())
    assert not np.isnan(found).any()


def test_realised_levels_are_those_of_the_matrix():
    found, _, matrix = realised()
    table, _, _ = fitted("frame")
    assert_array_equal(found[:, [0, 2]], table.decode(matrix)[:, [0, 2]])


@pytest.mark.parametrize("cls", [AutoencoderTransformer, VAETransformer])
def test_margins_that_are_matched_are_those_of_the_table(cls):
    table = frame(400)
    est = cls(2, **START).fit(table)
    drawn = est._density.sample(4000, np.random.default_rng(0))
    est.sample(1, random_state=0)
    found = est._table.realise(drawn, 0)
    rows = est._read(table)
    for column in (1, 3, 4):
        values = np.unique(rows[:, column])
        steps = [(part[:, column, None] <= values).mean(0) for part in (found, rows)]
        assert np.abs(steps[0] - steps[1]).max() < 0.06
    assert (found[:, 4] == 0).mean() == pytest.approx(
        (rows[:, 4] == 0).mean(), abs=0.05
    )


def test_the_same_seed_realises_the_same_rows():
    one, other = (realised(3)[0] for _ in range(2))
    assert_array_equal(one, other)


def test_a_pickled_table_is_matched_anew_to_the_same_rows():
    est = AutoencoderTransformer(2, **START).fit(frame())
    rows = est.sample(50, random_state=0)
    twin = pickle.loads(pickle.dumps(est))  # noqa: S301
    pd.testing.assert_frame_equal(twin.sample(50, random_state=0), rows)


# ----------------------------------------------------------------------- filling


def test_missing_cells_of_some_rows_are_filled():
    table, rows, holed = fitted("holes")
    whole = np.where(np.isnan(rows), [2, 4.5, 0, 3, 0.25], rows)
    filled = table.fill(holed, whole)
    assert not filled.isna().any(axis=None)
    hole = holed.isna()
    assert (filled["kind"][hole["kind"]] == "c").all()
    assert (filled["size"][hole["size"]] == 4.5).all()
    pd.testing.assert_frame_equal(filled.mask(hole), holed)


def test_cells_that_stay_missing_stay_so():
    table, rows, holed = fitted("holes")
    pd.testing.assert_frame_equal(table.fill(holed, rows), holed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_are_filled_in_their_dtype(dtype):
    table, rows, _ = fitted("numbers")
    holed = rows.astype(dtype)
    holed[::7, 1] = np.nan
    missing = np.isnan(holed).any(axis=1)
    filled = table.fill(holed, np.full(holed.shape, 9.0))
    assert filled.dtype == dtype
    assert_array_equal(filled[missing, 1], 9)
    assert_array_equal(filled[~np.isnan(holed)], holed[~np.isnan(holed)])


# ------------------------------------------------------------------------- names


def test_answers_have_the_names_of_the_table_or_made_up_ones():
    assert fitted("frame")[0].column_names.tolist() == list(frame().columns)
    assert fitted("numbers")[0].column_names.tolist() == ["x0", "x1", "x2", "x3"]


def test_a_table_knows_of_its_levels():
    assert fitted("frame")[0].has_levels
    assert not fitted("numbers")[0].has_levels


@pytest.mark.parametrize("make", [numbers, frame, lambda: with_holes(frame())])
def test_margins_are_looked_at_when_rows_are_first_drawn(make, monkeypatch):
    looked = []
    monkeypatch.setattr(
        "skae.table._table.Margins", lambda *of: looked.append(1) or Margins(*of)
    )
    est = AutoencoderTransformer(2, **START).fit(make())
    est.transform(make())
    assert not looked
    again = pickle.loads(pickle.dumps(est))  # noqa: S301
    drawn = est.sample(20, random_state=0)
    est.sample(5, random_state=1)
    assert len(looked) == 1
    assert_array_equal(again.sample(20, random_state=0), drawn)
