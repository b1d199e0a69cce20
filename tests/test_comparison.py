"""Figures of drawn rows beside real ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import ks_2samp
from scipy.stats.contingency import association
from settings import curved_table

from skae import compare_tables


def mixed(n_rows=600, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n_rows)
    return pd.DataFrame(
        {
            "size": z + 0.5 * rng.normal(size=n_rows),
            "weight": np.maximum(z, 0),
            "kind": np.where(z > 0.4, "c", np.where(z > -0.4, "b", "a")),
            "sex": np.where(z + rng.normal(size=n_rows) > 0, "male", "female"),
        }
    )


def test_two_halves_of_a_table_cannot_be_told_apart():
    X = curved_table(1200)
    comparison = compare_tables(X[::2], X[1::2])
    assert comparison.auc.shape == (5,)
    assert abs(comparison.auc.mean() - 0.5) < 0.06
    assert (comparison.columns["distance"] < 0.1).all()
    assert np.abs(comparison.correlations).max(axis=None) < 0.15


def test_shifted_rows_are_told_apart():
    X = curved_table(600)
    shifted = X[1::2] + 10 * X.std(axis=0)
    comparison = compare_tables(X[::2], shifted)
    assert comparison.auc.mean() > 0.99
    assert (comparison.columns["distance"] == 1).all()
    assert (comparison.columns["outside"] == 1).all()
    assert_allclose(comparison.columns["covered"], 0, atol=1e-12)


def test_margins_alone_do_not_hide_lost_correlations():
    real = mixed()
    rng = np.random.default_rng(1)
    shuffled = real.apply(lambda column: rng.permutation(column))
    comparison = compare_tables(real, shuffled)
    assert_allclose(comparison.columns["distance"].astype(float), 0, atol=1e-12)
    assert comparison.columns["correlation"].min() > 0.3
    assert comparison.auc.mean() > 0.8


def test_figures_of_a_column():
    real = pd.DataFrame({"n": [0, 0, 0, 1, 2, 4.0], "k": list("aaabbc")})
    drawn = pd.DataFrame({"n": [0, 0, 1, 3, 5.0, np.nan], "k": [*"aabbd", None]})
    columns = compare_tables(real, drawn, cv=2).columns
    numbers, levels = columns.loc["n"], columns.loc["k"]
    known = drawn["n"].dropna()
    assert numbers["distance"] == pytest.approx(ks_2samp(real["n"], known).statistic)
    assert numbers["outside"] == pytest.approx(1 / 5)
    assert numbers["covered"] == 1
    assert numbers["spike"] == pytest.approx(1 / 2)
    assert numbers["spike_drawn"] == pytest.approx(2 / 5)
    assert (numbers["missing"], numbers["missing_drawn"]) == (0, pytest.approx(1 / 6))
    # |1/2 - 2/5| + |1/3 - 2/5| + |1/6 - 0| + |0 - 1/5|, halved
    assert levels["distance"] == pytest.approx((1 / 10 + 1 / 15 + 1 / 6 + 1 / 5) / 2)
    assert levels["outside"] == pytest.approx(1 / 5)
    assert levels["covered"] == pytest.approx(2 / 3)


def test_correlations_are_those_of_the_kinds_of_columns():
    real, drawn = mixed(), mixed(seed=1)
    difference = compare_tables(real, drawn).correlations

    def figures(table):
        groups = table.groupby("kind")["size"].transform("mean")
        ratio = np.sqrt(groups.var(ddof=0) / table["size"].var(ddof=0))
        counts = pd.crosstab(table["kind"], table["sex"]).to_numpy()
        correlation = np.corrcoef(table["size"], table["weight"])[0, 1]
        return np.array([correlation, ratio, association(counts, method="cramer")])

    found = [
        difference.loc["size", "weight"],
        difference.loc["kind", "size"],
        difference.loc["sex", "kind"],
    ]
    assert_allclose(found, figures(drawn) - figures(real), atol=1e-9)
    assert_allclose(difference, difference.T, atol=1e-12)
    assert_allclose(np.diag(difference), 0, atol=1e-12)


def test_negative_correlations_are_negative():
    x = np.random.default_rng(0).normal(size=200)
    comparison = compare_tables(np.c_[x, -x], np.c_[x, x])
    assert comparison.correlations.iloc[0, 1] == pytest.approx(2)


def test_columns_may_be_constant_or_missing():
    X = mixed(100).assign(same=1.0, one="a", none=np.nan, nothing=None)
    comparison = compare_tables(X[::2], X[1::2])
    columns = comparison.columns
    assert columns.loc[["none", "nothing"], "distance"].isna().all()
    assert (columns.loc[["same", "one"], "distance"] == 0).all()
    assert (columns.loc[["same", "one"], "covered"] == 1).all()
    assert (comparison.correlations.loc[["same", "one", "none"]] == 0).all(axis=None)
    assert np.isfinite(comparison.auc).all()


def test_many_levels_are_compared():
    rng = np.random.default_rng(0)
    names = pd.DataFrame({"name": rng.integers(0, 900, 2000).astype(str), "x": 1.0})
    comparison = compare_tables(names[::2], names[1::2])
    assert abs(comparison.auc.mean() - 0.5) < 0.1


def test_figures_do_not_hang_on_the_container_or_the_order_of_columns():
    real, drawn = mixed(), mixed(seed=1)
    expected = compare_tables(real, drawn)
    for a, b in (
        (real, drawn[["sex", "kind", "weight", "size"]]),
        (pl.DataFrame(real.to_dict("list")), drawn.set_axis(range(5, 605))),
        (real, drawn.to_numpy()),
    ):
        found = compare_tables(a, b)
        assert_array_equal(found.columns, expected.columns)
        assert_array_equal(found.correlations, expected.correlations)
        assert_array_equal(found.auc, expected.auc)


def test_other_columns_and_too_few_rows_are_refused():
    X = mixed(20)
    with pytest.raises(ValueError, match=r"got drawn rows with the columns \['size'\]"):
        compare_tables(X, X[["size"]])
    with pytest.raises(ValueError, match="got drawn rows with the columns"):
        compare_tables(X, X.rename(columns={"sex": "Sex"}))
    with pytest.raises(ValueError, match="got tables of 20 and 3 rows, but expected"):
        compare_tables(X, X[:3])
