"""Imputation as a step of a pipeline, in scikit-learn's form."""

from __future__ import annotations

import pickle

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skae import AutoencoderImputer, AutoencoderTransformer, VAETransformer

QUICK = {"max_iter": 2, "hidden_layer_sizes": (8,)}
INNER = [AutoencoderTransformer(**QUICK), VAETransformer(**QUICK)]
BOTH = pytest.mark.parametrize("inner", INNER, ids=lambda e: type(e).__name__)


def mixed(n_rows=90, seed=0):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n_rows)
    frame = pd.DataFrame(
        {
            "size": u + 0.1 * rng.normal(size=n_rows),
            "count": pd.array(rng.poisson(np.exp(u)), dtype="Int64"),
            "colour": np.where(u > 0, "red", "blue"),
        }
    )
    for name in frame:
        frame.loc[rng.random(n_rows) < 0.2, name] = None
    return frame


def numbers(n_rows=80, seed=0):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n_rows, 1)) + 0.3 * rng.normal(size=(n_rows, 4))
    table[:, 0] = table[:, 0].round()
    table[rng.random(table.shape) < 0.2] = np.nan
    return table


@BOTH
def test_what_is_filled_is_what_impute_fills(inner):
    table = numbers()
    filled = AutoencoderImputer(inner, random_state=3).fit_transform(table)
    expected = clone(inner).set_params(random_state=3).fit(table).impute(table)
    assert_array_equal(filled, expected)
    assert not np.isnan(filled).any()
    assert_array_equal(filled[~np.isnan(table)], table[~np.isnan(table)])
    assert (filled[:, 0] % 1 == 0).all()


@BOTH
@pytest.mark.parametrize(
    "convert",
    [lambda f: f, pl.from_pandas, pa.Table.from_pandas],
    ids=["pd", "pl", "pa"],
)
def test_a_dataframe_comes_back_as_what_it_was(inner, convert):
    frame = convert(mixed())
    filled = AutoencoderImputer(inner, random_state=0).fit_transform(frame)
    assert type(filled) is type(frame)
    found = nw.from_native(filled)
    assert found.schema == nw.from_native(frame).schema
    assert not any(column.is_null().any() for column in found.iter_columns())


@pytest.mark.parametrize(
    ("output", "kind"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)]
)
@pytest.mark.parametrize(
    "convert",
    [lambda f: f, pl.from_pandas, pa.Table.from_pandas, lambda f: numbers()],
    ids=["pd", "pl", "pa", "array"],
)
def test_set_output_decides_otherwise(output, kind, convert):
    table = convert(mixed())
    imputer = AutoencoderImputer(INNER[0], random_state=0)
    filled = imputer.set_output(transform=output).fit_transform(table)
    assert type(filled) is kind
    assert list(filled.columns) == imputer.get_feature_names_out().tolist()


def test_the_estimator_that_was_given_is_left_alone():
    inner = VAETransformer(**QUICK)
    imputer = AutoencoderImputer(inner, random_state=0).fit(numbers())
    with pytest.raises(NotFittedError):
        inner.transform(numbers())
    assert inner.random_state is None
    assert imputer.estimator_.random_state == 0


def test_its_own_seed_is_that_of_the_estimator():
    inner = VAETransformer(random_state=5, **QUICK)
    assert AutoencoderImputer(inner).fit(numbers()).estimator_.random_state == 5


def test_names_and_pickles():
    frame = mixed()
    imputer = AutoencoderImputer(INNER[1], random_state=0).fit(frame)
    assert imputer.feature_names_in_.tolist() == ["size", "count", "colour"]
    assert imputer.get_feature_names_out().tolist() == ["size", "count", "colour"]
    copy = pickle.loads(pickle.dumps(imputer))  # noqa: S301
    pd.testing.assert_frame_equal(copy.transform(frame), imputer.transform(frame))


def test_a_search_goes_over_the_parameters_of_the_estimator_in_a_pipeline():
    frame = mixed()
    y = frame["colour"].isin(["red"]).to_numpy()
    encode = make_column_transformer(
        (OneHotEncoder(), ["colour"]), remainder="passthrough"
    )
    pipeline = make_pipeline(
        AutoencoderImputer(INNER[1], random_state=0), encode, LogisticRegression()
    )
    grid = {"autoencoderimputer__estimator__n_components": [1, 2]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(frame, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("estimator", [LogisticRegression(), "vae", VAETransformer])
def test_an_estimator_that_cannot_impute_is_refused(estimator):
    with pytest.raises((ValueError, TypeError), match="estimator"):
        AutoencoderImputer(estimator).fit(numbers())


def test_weights_of_rows_are_repeated_rows():
    table = numbers(40)
    weight = np.arange(40) % 3
    imputer = AutoencoderImputer(INNER[1], random_state=0)
    weighted = clone(imputer).fit(table, sample_weight=weight)
    repeated = clone(imputer).fit(np.repeat(table, weight, axis=0))
    assert_array_equal(weighted.transform(table), repeated.transform(table))
