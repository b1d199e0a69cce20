"""What a density tells of a table: cells given the others, missing cells, new rows."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import optimize, stats

from skae import AutoencoderTransformer, VAETransformer
from skae._table_density import _medians
from skae.model._conditional import Part, moments_of

BOTH = pytest.mark.parametrize("cls", [AutoencoderTransformer, VAETransformer])
QUICK = {"max_iter": 200, "random_state": 0, "device": "cpu"}
MEDIANS = {"ant": 0.001, "bee": 1.0, "cow": 1000.0}


def correlated(n_rows=300, seed=0):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n_rows, 2))
    mixing = np.random.default_rng(99).normal(size=(2, 6))
    rows = factors @ mixing + 0.3 * rng.normal(size=(n_rows, 6))
    return rows * [1, 10, 100, 1e3, 0.1, 1] + [0, 5, 0, -1e3, 0, 7]


def animals(n_rows=300, seed=0):
    """Draw a table whose levels have weights decades apart, some of them missing."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(list(MEDIANS), n_rows)
    weight = pd.Series(kind).map(MEDIANS) * rng.lognormal(0, 0.2, n_rows)
    age = rng.integers(0, 20, n_rows)
    table = pd.DataFrame({"kind": kind, "weight": weight, "age": age})
    table["weight"] = table["weight"].mask(rng.random(n_rows) < 0.3)
    return table


@cache
def start():
    return VAETransformer(2, max_iter=0, device="cpu").fit(correlated())


@cache
def of_animals(cls):
    return cls(2, **QUICK).fit(animals())


def conditionals(est, rows):
    """Mean and deviation of each scaled cell given the others, by the covariance."""
    ppca = est._model.start_density.numbers
    covariance = ppca.loadings @ ppca.loadings.T
    covariance += ppca.noise_variance * np.eye(len(covariance))
    precision = np.linalg.inv(covariance)
    scaled = (rows - correlated().mean(axis=0)) / correlated().std(axis=0)
    mean = scaled - (scaled - ppca.mean) @ precision / precision.diagonal()
    return scaled, mean, precision.diagonal() ** -0.5


# -------------------------------------------------------------- cells given the others


def test_cells_of_probabilistic_pca_have_its_conditional_density():
    rows = correlated(20, seed=1)
    scaled, mean, deviation = conditionals(start(), rows)
    expected = stats.norm(mean, deviation).logpdf(scaled)
    assert_allclose(start().score_cells(rows), expected, atol=1e-3)


def test_expected_cells_are_those_of_the_regression_on_the_others():
    rows = correlated(20, seed=1)
    _, mean, _ = conditionals(start(), rows)
    expected = mean * correlated().std(axis=0) + correlated().mean(axis=0)
    expected = expected.clip(correlated().min(axis=0), correlated().max(axis=0))
    _, found = start().score_cells(rows, return_expected=True)
    apart = (found - expected) / correlated().std(axis=0)
    assert_allclose(apart, 0, atol=0.01)  # the mean of the points is not quite zero


@pytest.mark.parametrize("column", range(6))
def test_a_cell_is_what_its_row_has_less_without_it(column):
    rows = correlated(20, seed=1)
    holed = rows.copy()
    holed[:, column] = np.nan
    difference = start().score_samples(rows) - start().score_samples(holed)
    scale = correlated().std(axis=0)[column]
    found = start().score_cells(rows)[:, column] - np.log(scale)
    assert_allclose(found, difference, atol=1e-9)


@BOTH
def test_the_least_likely_cell_is_the_one_that_was_moved(cls):
    est = cls(2, **QUICK).fit(correlated())
    rows, rng = correlated(40, seed=1), np.random.default_rng(2)
    column = rng.integers(0, 6, len(rows))
    sign = rng.choice([-1, 1], len(rows))
    rows[np.arange(40), column] += 8 * sign * correlated().std(axis=0)[column]
    assert (est.score_cells(rows).argmin(axis=1) == column).mean() >= 0.95


@BOTH
def test_chances_of_the_levels_of_a_cell_add_up_to_one(cls):
    est, some = of_animals(cls), animals(15, seed=3)
    each = [est.score_cells(some.assign(kind=kind))["kind"] for kind in MEDIANS]
    total = np.exp(each).sum(axis=0)
    assert np.median(total) == pytest.approx(1, abs=0.1)
    if cls is VAETransformer:  # few codes carry what an autoencoder says of a row
        assert_allclose(total, 1, atol=0.1)


@BOTH
def test_the_expected_level_is_the_one_whose_weight_it_is(cls):
    some = animals(60, seed=3).dropna()
    wrong = some.assign(kind="bee")
    scores, expected = of_animals(cls).score_cells(wrong, return_expected=True)
    if cls is VAETransformer:  # which sees numbers as scores
        assert (expected["kind"] == some["kind"]).mean() > 0.95
    assert scores["kind"].to_numpy()[some["kind"] == "cow"].max() < -1
    assert list(scores.columns) == list(expected.columns) == list(some.columns)


@BOTH
def test_missing_cells_have_no_density_but_an_expectation(cls):
    some = animals(30, seed=3)
    scores, expected = of_animals(cls).score_cells(some, return_expected=True)
    assert_allclose(scores["weight"].isna(), some["weight"].isna())
    assert not expected.isna().any(axis=None)


def test_densities_of_cells_are_the_same_with_what_is_expected():
    rows = correlated(9, seed=1)
    with_expected, _ = start().score_cells(rows, return_expected=True)
    np.testing.assert_array_equal(start().score_cells(rows), with_expected)


def test_rows_do_not_hang_on_their_company():
    rows = correlated(9, seed=1)
    alone = [start().score_cells(row[None])[0] for row in rows]
    assert_allclose(start().score_cells(rows), alone, atol=1e-9)


# ---------------------------------------------------------------------- missing cells


@BOTH
@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_imputed_numbers_are_what_their_level_weighs(cls, strategy):
    table = animals()
    holes = table["weight"].isna()
    filled = of_animals(cls).impute(table, strategy=strategy)
    for kind in MEDIANS:
        own = table.loc[table["kind"] == kind, "weight"].dropna()
        found = filled.loc[holes & (table["kind"] == kind), "weight"]
        assert found.median() == pytest.approx(own.median(), rel=0.1)
        assert found.between(own.min(), own.max()).all()


@BOTH
@pytest.mark.parametrize("wild", [-999.0, 1e9, 1e12])
def test_one_wild_cell_is_no_reason_for_others(cls, wild):
    table = correlated()
    table[0, 0] = wild
    holed = table[1:].copy()
    holed[:, 0] = np.nan
    est = cls(2, **QUICK).fit(table)
    assert np.isfinite(est.score_samples(holed)).all()
    filled = est.impute(holed, strategy="median")[:, 0]
    seen = table[1:, 0]
    within = (seen.min() <= filled) & (filled <= seen.max())
    assert (within | (filled == wild)).all()
    assert (filled == wild).mean() < 0.01
    # An autoencoder's error is squared, in units that one such cell blows up.
    worst = 0.4 if cls is VAETransformer else 2
    assert np.median(np.abs(filled - seen)) < worst * seen.std()


def test_medians_are_those_of_the_mixture():
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(4), 5).T
    means, variances = rng.normal(size=(4, 5, 3)) * 3, rng.gamma(1, size=(4, 5, 3))
    parts = [Part(*part) for part in zip(chances, means, variances, strict=True)]
    found = _medians(parts, slice(None))
    for row, column in np.ndindex(5, 3):
        of_parts = stats.norm(means[:, row, column], variances[:, row, column] ** 0.5)

        def excess(x, of_parts=of_parts, row=row):
            return chances[:, row] @ of_parts.cdf(x) - 0.5

        root = optimize.brentq(excess, -30, 30)
        assert found[row, column] == pytest.approx(root, abs=1e-3)


@BOTH
@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_imputed_cells_do_not_hang_on_what_memory_there_is(cls, strategy, monkeypatch):
    est, table = of_animals(cls), animals(40, seed=4)
    expected = est.impute(table, strategy=strategy)
    monkeypatch.setattr("skae._table_density.MOST_NUMBERS", 1_000)
    found = est.impute(table, strategy=strategy)
    assert_allclose(found["weight"], expected["weight"], rtol=1e-9)
    assert_allclose(found["age"], expected["age"])


def test_moments_are_those_of_the_mixture():
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(4), 5).T
    means, variances = rng.normal(size=(4, 5, 3)), rng.gamma(1, size=(4, 5, 3))
    parts = [Part(*part) for part in zip(chances, means, variances, strict=True)]
    mean, variance = moments_of(parts)
    second = np.einsum("pn,pnd->nd", chances, variances + means**2)
    assert_allclose(mean, np.einsum("pn,pnd->nd", chances, means))
    assert_allclose(variance, second - mean**2)


# ------------------------------------------------------------------------------ draws


@BOTH
@pytest.mark.parametrize("kind", MEDIANS)
def test_draws_keep_to_the_range_of_their_level(cls, kind):
    table = animals()
    own = table.loc[table["kind"] == kind, "weight"].dropna()
    drawn = of_animals(cls).sample(2000, random_state=0)
    given = of_animals(cls).sample(500, random_state=0, given={"kind": kind})
    for rows in (drawn[drawn["kind"] == kind], given):
        outside = ~rows["weight"].between(own.min(), own.max())
        assert outside.mean() < 0.005


# ---------------------------------------------------------------------------- holes


def test_few_patterns_of_holes_are_remembered_with_the_first_rows(monkeypatch):
    """A pattern may cost the cube of the columns; rows that share one cost little."""
    monkeypatch.setattr("skae._table_density.HOLE_PATTERNS", 3)
    X = correlated(40)
    X[::2, 0] = np.nan  # whole rows and these are two patterns
    X[10:, 1][::5] = np.nan
    options = {"max_iter": 0, "validation_fraction": None, "device": "cpu"}
    for seed in range(3):
        est = VAETransformer(2, random_state=seed, **options).fit(X)
        drawn = est.sample(400, random_state=0, missing=True)
        patterns = np.unique(np.isnan(drawn), axis=0)
        assert 2 <= len(patterns) <= 3
        assert {*map(tuple, patterns)} <= {*map(tuple, np.isnan(X))}
