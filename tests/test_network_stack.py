"""Which densities stand beside the networks of a VAE, and with which shares."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from mixtures import clusters as rows_of_clusters
from numpy.testing import assert_allclose
from scipy import stats
from settings import curved_table

from skae import VAETransformer
from skae.model._network_stack import TAIL_SCALES, with_heavy_tails

QUICK = {
    "max_iter": 5,
    "hidden_layer_sizes": (8,),
    "validation_fraction": 0.1,
    "random_state": 0,
    "device": "cpu",
}
X = curved_table()
LEAST = 0.01
ALONE, GUARDED = {"vae"}, {"vae", "ppca"}


def clusters(n_rows=400, seed=0):
    return rows_of_clusters(n_rows, seed)[0][:, :2]


def framed(n_rows=300):
    """Return far parts that differ in numbers and in levels, some cells missing."""
    rng = np.random.default_rng(0)
    part = rng.integers(3, size=n_rows)
    numbers = np.array([[0, 0], [9, 0], [0, 9]])[part] + rng.normal(size=(n_rows, 2))
    frame = pd.DataFrame(numbers, columns=["a", "b"])
    frame["kind"] = np.array(list("xyz"))[part]
    frame["two"] = np.where(rng.uniform(size=n_rows) < 0.2 + 0.3 * part, "yes", "no")
    return frame.mask(rng.uniform(size=frame.shape) < 0.1)


TABLES = {"curved": lambda: X, "clusters": clusters, "framed": framed}
OF_TABLES = pytest.mark.parametrize("name", TABLES)


@cache
def fitted(name, n_components=1, **parameters):
    est = VAETransformer(n_components, **{**QUICK, **parameters})
    return est.fit(TABLES[name]())


def parts_of(est):
    return set(est._density.parts)


# ------------------------------------------------------------------------ shares


@OF_TABLES
@pytest.mark.parametrize("parameters", [{}, {"max_iter": 0}], ids=str)
def test_shares_add_up_to_one(name, parameters):
    est = fitted(name, **parameters)
    assert sum(est._density.shares.values()) == pytest.approx(1)
    assert list(est._density.shares) == list(est._density.parts)
    assert all(share > 0 for share in est._density.shares.values())
    assert est._density.shares["ppca"] >= LEAST - 1e-12


@OF_TABLES
def test_the_shares_that_are_told_are_those_of_the_density(name):
    est = fitted(name)
    assert set(est.density_shares_) == {"vae", "ppca", "mixture"}
    assert sum(est.density_shares_.values()) == pytest.approx(1)
    for part, share in est.density_shares_.items():
        assert share == est._density.shares.get(part, 0.0)


@pytest.mark.parametrize("name", ["clusters", "framed"])
def test_a_mixture_joins_where_it_makes_rows_likelier(name):
    assert fitted(name).density_shares_["mixture"] > 0.3


def test_a_mixture_takes_part_in_what_is_expected_of_holes():
    est, table = fitted("framed"), framed()
    whole = est.impute(table)
    assert not whole.isna().any(axis=None)
    known = table["kind"].notna() & table["a"].isna()
    expected = np.where(whole["kind"] == "y", 9.0, 0.0)
    assert np.median(np.abs(whole["a"] - expected)[known]) < 1.5


# --------------------------------------------------------------- which parts there are


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"validation_fraction": None}, GUARDED),
        ({"max_iter": 0}, GUARDED),
        ({"linear_path": False}, ALONE),
        ({"likelihood": "laplace"}, ALONE),
        ({"likelihood": {0: "laplace"}}, ALONE),
        ({"likelihood": "laplace", "max_iter": 0}, ALONE),
    ],
    ids=lambda value: str(sorted(map(str, value))),
)
def test_without_a_judge_or_a_linear_start_there_is_no_mixture(parameters, expected):
    est = VAETransformer(1, **{**QUICK, **parameters}).fit(clusters())
    assert parts_of(est) == expected
    shares = est.density_shares_
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["ppca"] == pytest.approx(0 if expected == ALONE else LEAST, rel=0.2)


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "negative_binomial"])
def test_other_likelihoods_are_the_networks_alone(likelihood):
    table = np.random.default_rng(0).integers(0, 2, size=(200, 4)).astype(float)
    est = VAETransformer(1, likelihood=likelihood, **QUICK).fit(table)
    assert parts_of(est) == ALONE
    assert est.density_shares_ == {"vae": 1.0, "ppca": 0.0, "mixture": 0.0}
    assert_allclose(est.score_samples(table), est.log_evidence(table))


@pytest.mark.parametrize(("n_judges", "expected"), [(9, False), (60, True)])
def test_a_few_judges_cannot_tell_a_mixture(n_judges, expected):
    est = VAETransformer(1, **QUICK)
    est.fit(clusters(200), X_val=clusters(n_judges, seed=1))
    assert ("mixture" in parts_of(est)) == expected


def test_levels_alone_have_company_too():
    est = VAETransformer(1, **QUICK).fit(framed()[["kind", "two"]])
    assert "ppca" in parts_of(est)
    rows = framed(50)[["kind", "two"]]
    assert np.isfinite(est.score_samples(rows)).all()


# ------------------------------------------------------------------- the safeguard


def wild(est, table):
    """Return rows of the matrix, those at random far off, and all as seen."""
    matrix = est._table.encode(est._read(table)).matrix
    n_numbers = est._model.design.n_numbers
    rng = np.random.default_rng(0)
    rows = matrix.copy()
    rows[:, :n_numbers] *= 10 ** rng.uniform(-1, 2, size=(len(rows), 1))
    return np.concatenate([matrix, rows])


@OF_TABLES
@pytest.mark.parametrize("parameters", [{}, {"validation_fraction": None}], ids=str)
def test_no_row_falls_far_below_probabilistic_pca(name, parameters):
    est = fitted(name, **parameters)
    table = TABLES[name]()
    X = wild(est, table.dropna() if name == "framed" else table)
    seen = np.ones(X.shape, dtype=bool)
    found = est._density.given(X, seen).log_density
    start = est._model.start_density.given(X, seen).log_density
    assert (found >= start - 4.61).all()


def test_the_safeguard_is_the_start_itself():
    est = fitted("curved", validation_fraction=None)
    start = fitted("curved", validation_fraction=None, max_iter=0)
    table = 3 * curved_table(50, seed=1)
    gap = start.score_samples(table) - est.score_samples(table)
    assert gap.max() < 4.61


def test_with_holes_no_row_falls_below_either():
    est, table = fitted("framed"), framed()
    encoded = est._table.encode(est._read(table))
    X, seen = encoded.matrix, encoded.cells_seen
    found = est._density.given(X, seen).log_density
    start = est._model.start_density.given(X, seen).log_density
    assert (found >= start - 4.61).all()
    nothing = np.zeros_like(seen)
    assert (est._density.given(X, nothing).log_density == 0).all()


def test_the_score_is_better_on_new_rows_than_that_of_any_part():
    """Up to what few judges leave open."""
    est, new = fitted("clusters"), clusters(500, seed=5)
    X = est._table.encode(new).matrix
    seen = np.ones(X.shape, dtype=bool)
    whole = est._density.given(X, seen).log_density.mean()
    for part in est._density.parts.values():
        assert whole > part.given(X, seen).log_density.mean() - 0.05


# ------------------------------------------------------------------------ heavy tails


def line_with_a_wild_row(distance, n_rows=200):
    """Draw rows along a line, and one far from it."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n_rows, 1)) * [1, 1, 1] + 0.3 * rng.normal(size=(n_rows, 3))
    return rows, rows.mean(axis=0) + distance * np.array([[1.0, -1.0, 0.0]])


@pytest.mark.parametrize("density", ["stacked", "networks"])
def test_a_wild_row_costs_as_many_nats_as_the_logarithm_of_its_distance(density):
    rows, _ = line_with_a_wild_row(1)
    est = VAETransformer(1, density=density, **QUICK).fit(rows)
    costs = [
        -est.score_samples(line_with_a_wild_row(distance)[1])[0]
        for distance in (10, 100, 1000)
    ]
    assert costs[-1] < 60
    assert np.diff(costs).max() < 25
    start = VAETransformer(1, **QUICK | {"max_iter": 0}).fit(rows)
    assert -start.score_samples(line_with_a_wild_row(1000)[1])[0] > 1e5


def test_heavy_tails_are_those_of_a_mixture_of_scales():
    est = VAETransformer(1, **QUICK).fit(clusters())
    start = est._model.start_density
    tailed = with_heavy_tails(start)
    far = np.random.default_rng(0).normal(size=(50, 2)) * 20
    seen = np.ones(far.shape, dtype=bool)
    covariance = start.numbers.loadings @ start.numbers.loadings.T
    covariance += start.numbers.noise_variance * np.eye(2)
    expected = sum(
        share
        * stats.multivariate_normal(start.numbers.mean, scale**2 * covariance).pdf(far)
        for scale, share in [(1, 0.9), *((s, 0.02) for s in TAIL_SCALES)]
    )
    assert_allclose(tailed.given(far, seen).log_density, np.log(expected))
