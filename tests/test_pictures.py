"""Names, frames and counts that all pictures share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skae import AutoencoderTransformer
from skae.inspection._pictures import (
    as_pandas,
    check_columns,
    column_names_of,
    holds_numbers,
    linear_start,
    make_axes,
    shortened,
)


def test_short_names_stay_and_long_ones_lose_their_middle():
    names = ["age", "the first of two long names", "x" * 24, 7]
    short = shortened(names, 24)
    assert short[0] == "age"
    assert short[1].startswith("the first of")
    assert short[1].endswith("long names")
    assert short[2:] == ["x" * 24, "7"]


@pytest.mark.parametrize(
    "pattern",
    [
        "a_very_long_name_of_a_column_{}",
        "{}_a_very_long_name_of_a_column",
        "a long beginning before {} and a long end after it",
    ],
)
def test_names_that_differ_still_do(pattern):
    short = shortened([pattern.format(k) for k in range(200)], 20)
    assert len(set(short)) == 200
    assert max(map(len, short)) <= 20


def test_a_name_is_no_formula():
    assert shortened(["price in $"]) == [r"price in \$"]


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_frames_of_any_library_are_frames_of_pandas(library):
    columns = {"size": [1.5, None, 3.0], "kind": ["a", "b", None]}
    frame = as_pandas(library(columns))
    assert list(frame) == ["size", "kind"]
    assert [holds_numbers(frame[name]) for name in frame] == [True, False]
    assert frame.isna().to_numpy().tolist() == [[0, 0], [1, 0], [0, 1]]


def test_columns_of_arrays_have_names():
    frame = as_pandas(np.array([[1, "a"], [2.5, "b"]], dtype=object))
    assert list(frame) == ["x0", "x1"]
    assert holds_numbers(frame["x0"])
    assert not holds_numbers(frame["x1"])


def test_booleans_are_levels():
    assert not holds_numbers(pd.Series([True, False]))
    assert not holds_numbers(pd.Series([True, None], dtype="boolean"))


@pytest.mark.parametrize(("asked", "shown"), [(None, 7), (3, 3), (9, 7)])
def test_as_many_columns_are_shown_as_there_are(asked, shown):
    assert check_columns(asked, 7) == shown


def test_less_than_one_column_is_refused():
    with pytest.raises(ValueError, match="got n_columns=0, but expected"):
        check_columns(0, 7)


def test_axes_that_are_given_are_kept():
    given = object()
    assert make_axes(given) is given


def test_the_linear_start_has_no_noise_to_undo():
    est = AutoencoderTransformer(3, noise=0.5, masking=0.2, linear_path=False)
    start = linear_start(est)
    assert (start.noise, start.masking, start.linear_path) == ("auto", 0.0, True)
    assert (start.n_components, start.max_iter) == (3, 0)
    assert est.noise == 0.5


def test_columns_without_names_are_numbered():
    X = np.random.default_rng(0).normal(size=(20, 3))
    fitted = AutoencoderTransformer(1, max_iter=0).fit(X)
    assert column_names_of(fitted).tolist() == ["x0", "x1", "x2"]
    fitted.fit(pd.DataFrame(X, columns=list("abc")))
    assert column_names_of(fitted).tolist() == ["a", "b", "c"]
