"""Cells given the others of their row, against rows less the rows without them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from densities import network_density
from hypothesis import given, settings
from mixtures import CELLS, SEEDS, WIDTHS, columns_of, drawn, mixture, whole
from models import N_FEATURES, curved_vae, linear_vae, ppca_of_table, rows_of_table
from numpy.testing import assert_allclose, assert_array_equal
from planes import N_CODES, N_NUMBERS, planes, rows

from skae import AutoencoderTransformer, VAETransformer
from skae.model import _leave_one_out
from skae.model._leave_one_out import leave_one_out_of, without_each
from skae.model._linear_density import linear_density
from skae.model._stack import Stack

N_COLUMNS = 3 + len(WIDTHS)
START = {"max_iter": 0, "random_state": 0, "device": "cpu"}


def share(monkeypatch):
    """Let codes be shared however few features there are."""
    monkeypatch.setattr("skae.model._evidence.FEW_FEATURES", 0)
    monkeypatch.setattr("skae.model._reconstruction.FEW_FEATURES", 0)
    monkeypatch.setattr(_leave_one_out, "LEAST_LIKELY", 1)


@pytest.fixture
def shared(monkeypatch):
    share(monkeypatch)


def one_at_a_time(density, X, seen, widths):
    """Condition on the others of each cell, by the chain rule."""
    log_density = density.given(X, seen).log_density
    result, ends = [], np.cumsum(widths)
    for start, end in zip(ends - widths, ends, strict=True):
        others = seen.copy()
        others[:, start:end] = False
        result.append(log_density - density.given(X, others).log_density)
    return np.stack(result, axis=1)


def linear(noise=0.4, seed=0):
    one = mixture(1, seed=seed)
    loadings = np.random.default_rng(seed).normal(size=(3, 2))
    return linear_density(one.means[0], loadings, noise, one.chances[0], one.levels)


def stacked(seed=0):
    one, wide = linear(seed=seed), linear(seed=seed).scaled(3)
    other = mixture(3, seed=seed)
    parts = {"one": one, "wide": wide, "other": other}
    return Stack(parts, {"one": 0.5, "wide": 0.2, "other": 0.3})


CLOSED = {
    "mixture": lambda seed: mixture(seed=seed),
    "linear": lambda seed: linear(seed=seed),
    "stack": stacked,
}
OF_CLOSED = pytest.mark.parametrize("make", CLOSED.values(), ids=CLOSED)


# ---------------------------------------------------------------------- closed forms


@OF_CLOSED
@given(cells=CELLS, seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_a_cell_is_the_row_less_the_row_without_it(make, cells, seed):
    density, seen = make(seed), columns_of(cells)
    X = drawn(density, len(cells), seed)
    X[0, :3] += 30  # where some parts are far less likely than others
    found = density.given(X, seen).leave_one_out()
    widths = np.array([1, 1, 1, *WIDTHS])
    assert_allclose(found, one_at_a_time(density, X, seen, widths), atol=1e-7)
    assert_array_equal(found[~cells], 0)


@OF_CLOSED
def test_what_stands_in_a_hole_does_not_matter(make):
    density = make(0)
    X, seen = drawn(density, 6), columns_of(np.eye(6) == 0)
    one, other = (density.given(np.where(seen, X, v), seen) for v in (0.0, np.nan))
    assert_array_equal(one.leave_one_out(), other.leave_one_out())


@pytest.mark.parametrize("noise", [1e-12, 1e-6])
def test_a_number_that_only_itself_tells_has_its_own_density(noise):
    """The others leave all of it free, whatever the code says of it."""
    one = mixture(1)
    loadings = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    density = linear_density(np.zeros(3), loadings, noise, one.chances[0], one.levels)
    X = drawn(density, 5)
    found = density.given(X, whole(X)).leave_one_out()[:, 2]
    expected = -0.5 * (X[:, 2] ** 2 / 4 + np.log(2 * np.pi * 4))
    assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("noise", [2.0, 0.5, 1e-3])
def test_cells_around_planes_are_the_rows_less_those_without_them(noise, monkeypatch):
    density, (X, seen) = planes(noise), rows()
    codes = np.random.default_rng(2).normal(size=(len(X), N_CODES))
    X, seen = np.c_[codes, X], np.c_[codes == codes, seen]
    found = density.given(X, seen).leave_one_out()
    widths = np.array([1] * (N_CODES + N_NUMBERS) + [3, 1])
    expected = one_at_a_time(density, X, seen, widths)[:, N_CODES:]
    assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    monkeypatch.setattr("skae.model._factors.LARGEST_STACK", 1)
    assert_allclose(density.given(X, seen).leave_one_out(), found)


def test_cells_of_one_part_are_its_own():
    cells = np.random.default_rng(0).normal(size=(1, 4, 3))
    assert_allclose(leave_one_out_of(np.zeros((1, 4)), cells), cells[0])


def test_the_part_that_a_row_hardly_is_of_tells_of_the_cell_that_hides_it():
    """Without its odd cell the row is of the second part, by a thousand nats."""
    log_parts = np.array([[0.0], [-4_000.0]])
    cells = np.array([[[-1.0]], [[-5_000.0]]])
    assert_allclose(leave_one_out_of(log_parts, cells), [[-1_000.0]])


def test_rows_are_conditioned_without_the_cells_that_are_asked_for():
    density = mixture()
    X = drawn(density, 4)
    wanted = np.random.default_rng(0).uniform(size=(4, N_COLUMNS)) > 0.5
    wanted[2] = False
    widths = np.array([1, 1, 1, *WIDTHS])
    found = without_each(density, X, whole(X), widths, wanted)
    log_density = density.given(X, whole(X)).log_density[np.nonzero(wanted)[0]]
    expected = one_at_a_time(density, X, whole(X), widths)[wanted]
    assert_allclose(log_density - found, expected, atol=1e-9)
    nothing = np.zeros_like(wanted)
    assert without_each(density, X, whole(X), widths, nothing).shape == (0,)


# ------------------------------------------------------------------------- sampled


def of_table():
    """Return rows of a table, a cell of one moved, and which are seen."""
    X = rows_of_table(12).numpy().copy()
    seen = np.random.default_rng(0).uniform(size=X.shape) > 0.2
    seen[0], seen[1] = np.arange(N_FEATURES) == 2, True
    X[1, 2] += 20
    return X, seen


@pytest.mark.usefixtures("shared")
def test_shared_codes_of_a_linear_model_tell_what_probabilistic_pca_does():
    X, seen = of_table()
    found = network_density(linear_vae(), 256).given(X, seen).leave_one_out()
    ppca = ppca_of_table()
    parts = ppca.mean, ppca.loadings, ppca.noise_variance
    closed = linear_density(*parts, np.empty(0), mixture(1, widths=()).levels)
    expected = closed.given(X, seen).leave_one_out()
    assert_allclose(found, expected, atol=0.02)
    assert expected[1].argmin() == found[1].argmin() == 2


@pytest.mark.usefixtures("shared")
def test_shared_codes_of_a_curved_model_tell_what_own_ones_do(monkeypatch):
    X, seen = of_table()
    known = network_density(curved_vae(), 512).given(X, seen)
    found = known.leave_one_out()
    monkeypatch.setattr("skae.model._evidence.FEW_FEATURES", N_FEATURES)
    apart = np.abs(found - known.leave_one_out())
    assert np.median(apart[seen]) < 0.01
    assert apart.max() < 0.2
    assert_array_equal(found[~seen], 0)


def test_few_features_are_left_out_by_the_chain_rule():
    X, seen = of_table()
    density = network_density(curved_vae(), 8)
    found = density.given(X, seen).leave_one_out()
    assert_allclose(found, one_at_a_time(density, X, seen, np.ones(N_FEATURES, int)))


@pytest.mark.usefixtures("shared")
def test_odd_and_lonely_cells_are_left_out_by_the_chain_rule():
    X, seen = of_table()
    density = network_density(curved_vae(), 8)
    found = density.given(X, seen).leave_one_out()
    expected = one_at_a_time(density, X, seen, np.ones(N_FEATURES, int))
    assert_allclose(found[[0, 1], 2], expected[[0, 1], 2])
    own = density.given(X, seen).log_density
    assert_allclose(found[0, 2], own[0])
    assert (np.abs(found - expected) > 1e-6).any()


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("chunk_rows", [1, 30])
def test_shared_codes_do_not_hang_on_what_memory_there_is(chunk_rows, monkeypatch):
    X, seen = of_table()
    density = network_density(curved_vae(), 8)
    expected = density.given(X, seen).leave_one_out()
    monkeypatch.setattr("skae.model._model.Model.chunk_rows", chunk_rows)
    assert_allclose(density.given(X, seen).leave_one_out(), expected, atol=1e-9)


@pytest.mark.usefixtures("shared")
def test_rows_do_not_hang_on_their_company():
    X, seen = of_table()
    density = network_density(curved_vae(), 8)
    together = density.given(X, seen).leave_one_out()
    alone = [density.given(X[[i]], seen[[i]]).leave_one_out()[0] for i in range(len(X))]
    assert_allclose(together, alone, atol=1e-9)


def framed(n_rows=300):
    """Draw numbers, counts and levels of three kinds of rows."""
    rng = np.random.default_rng(0)
    kind = rng.integers(3, size=n_rows)
    numbers = rng.normal(size=(n_rows, 4)) + 3 * np.eye(3)[kind] @ np.eye(3, 4)
    frame = pd.DataFrame(numbers, columns=list("abcd"))
    frame["kind"], frame["count"] = np.array(list("xyz"))[kind], rng.poisson(2 + kind)
    return frame.mask(rng.uniform(size=frame.shape) < 0.1)


@pytest.mark.parametrize(
    ("cls", "likelihood"),
    [(AutoencoderTransformer, None), (VAETransformer, {"count": "poisson"})],
)
def test_cells_of_every_kind_are_about_the_same_by_shared_codes(
    cls, likelihood, monkeypatch
):
    options = {} if likelihood is None else {"likelihood": likelihood}
    est = cls(2, **START, **options).fit(framed())
    some = framed().head(20)
    expected = est.score_cells(some, n_importance_samples=200)
    share(monkeypatch)
    found = est.score_cells(some, n_importance_samples=200)
    apart = np.abs(found - expected)
    assert (apart.isna() == some.isna()).all(axis=None)
    assert np.nanmedian(apart) < 0.02
    assert np.nanquantile(apart, 0.95) < 0.3
    assert np.nanmax(apart) > 1e-9  # or codes were not shared


@pytest.mark.parametrize("cls", [AutoencoderTransformer, VAETransformer])
def test_the_moved_cell_of_a_wide_row_is_the_least_likely(cls):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 110))
    X = np.sin(rng.normal(size=(400, 3)) @ mixing) + 0.2 * rng.normal(size=(400, 110))
    est = cls(3, **{**START, "max_iter": 10}).fit(X[:380])
    moved, column = X[380:].copy(), rng.integers(0, 110, 20)
    moved[np.arange(20), column] += 8 * X[:380].std(axis=0)[column]
    assert_array_equal(est.score_cells(moved).argmin(axis=1), column)


@pytest.mark.usefixtures("shared")
def test_the_least_likely_cells_are_left_out_by_the_chain_rule(monkeypatch):
    monkeypatch.setattr(_leave_one_out, "LEAST_SHARE", 0.0)
    X, seen = of_table()
    density = network_density(curved_vae(), 8)
    exact = one_at_a_time(density, X, seen, np.ones(N_FEATURES, int))
    for n_least, n_exact in ((1, 1), (3, 3)):
        monkeypatch.setattr(_leave_one_out, "LEAST_LIKELY", n_least)
        found = density.given(X, seen).leave_one_out()
        is_exact = np.isclose(found, exact, rtol=0, atol=1e-7) & seen
        assert (is_exact.sum(axis=1) >= np.minimum(n_exact, seen.sum(axis=1))).all()
        assert (is_exact.sum(axis=1) == n_exact).any()
