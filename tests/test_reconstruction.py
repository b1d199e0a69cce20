"""The density of an autoencoder against the Gaussian that a linear one is."""

from __future__ import annotations

import pickle
import tracemalloc
from functools import cache

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skae import AutoencoderTransformer
from skae.model._level_columns import level_columns

START = {"max_iter": 0, "random_state": 0, "device": "cpu"}
N_COLUMNS, N_ROWS = 5, 400
MIXING = np.random.default_rng(9).normal(size=(N_COLUMNS, N_COLUMNS))
TRAINED = {**START, "max_iter": 10, "hidden_layer_sizes": (8,)}


def table(n_rows=N_ROWS, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_rows, N_COLUMNS)) @ MIXING + 1


def framed(n_rows=300, seed=0):
    """Return rows of three kinds, which differ in numbers and in levels."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(3, size=n_rows)
    numbers = rng.normal(size=(n_rows, 3)) + 3 * np.eye(3)[kind]
    frame = pd.DataFrame(numbers, columns=["a", "b", "c"])
    frame["kind"] = np.array(list("xyz"))[kind]
    frame["two"] = np.where(rng.uniform(size=n_rows) < 0.2 + 0.3 * kind, "yes", "no")
    return frame


def with_holes(frame, share=0.2, seed=1):
    holes = np.random.default_rng(seed).uniform(size=frame.shape) < share
    return (
        frame.mask(holes)
        if isinstance(frame, pd.DataFrame)
        else np.where(holes, np.nan, frame)
    )


@cache
def linear():
    """Fit PCA to a Gaussian table, with one part of the codes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skae.model._reconstruction.CODE_PARTS", 1)
        est = AutoencoderTransformer(2, validation_fraction=None, **START)
        return est.fit(table())._density


CURVED = {
    "numbers": table,
    "numbers with holes": lambda: with_holes(table()),
    "levels": framed,
    "levels with holes": lambda: with_holes(framed()),
}
OF_TABLES = pytest.mark.parametrize("name", CURVED)


@cache
def fitted(name):
    """Return a density of a trained autoencoder, and rows of which cells are seen."""
    rows = CURVED[name]()
    est = AutoencoderTransformer(2, **TRAINED).fit(rows)
    encoded = est._table.encode(est._read(rows)[:12])
    rng = np.random.default_rng(3)
    seen = rng.uniform(size=(12, len(encoded.widths))) > 0.4
    seen[0], seen[1] = False, True
    seen = encoded.columns_of(seen) & encoded.cells_seen
    return est._density, encoded.matrix, seen


def gaussian(density):
    """Mean and covariance of rows that are linear in codes of one part."""
    n_codes = density.model.design.n_components
    offset = density.model.decoded(np.zeros((1, n_codes)))[0]
    slopes = density.model.decoded(np.eye(n_codes)) - offset
    turn = np.concatenate([slopes, np.eye(len(offset))])
    joint = density.joint
    return offset + joint.means[0] @ turn, turn.T @ joint.covariances[0] @ turn


def holed(n_rows=12, seed=0):
    """Return scaled rows of the linear density, and which cells are seen."""
    rng = np.random.default_rng(seed)
    X = linear().sample(n_rows, rng)
    seen = rng.uniform(size=X.shape) > 0.4
    seen[0], seen[1] = False, True
    return X, seen


def conditional(density, row, seen):
    mean, covariance = gaussian(density)
    cross = covariance[np.ix_(~seen, seen)]
    gain = cross @ np.linalg.inv(covariance[np.ix_(seen, seen)])
    left = covariance[np.ix_(~seen, ~seen)] - gain @ cross.T
    return mean[~seen] + gain @ (row - mean)[seen], left


# ------------------------------------------------------------- exactly, where linear


def test_there_is_one_part():
    assert len(linear().joint.weights) == 1
    assert linear().joint.covariances.shape == (1, 2 + N_COLUMNS, 2 + N_COLUMNS)


def test_the_gaussian_is_about_that_of_the_table():
    mean, covariance = gaussian(linear())
    assert_allclose(mean, 0, atol=1e-6)
    assert_allclose(covariance, np.corrcoef(table().T), atol=0.05)


@pytest.mark.parametrize("n_points", [1, 4, 2000])
def test_the_log_density_is_that_of_the_gaussian_at_any_points(n_points):
    """Codes are looked for where they are: each of them has the same weight."""
    X, seen = holed(30)
    mean, covariance = gaussian(linear())
    known = linear().at(n_points).given(X, seen)
    assert_allclose(known.effective_draws, n_points, rtol=1e-6)
    pairs = zip(X[1:], seen[1:], strict=True)
    expected = [
        stats.multivariate_normal(mean[k], covariance[np.ix_(k, k)]).logpdf(row[k])
        for row, k in pairs
    ]
    assert_allclose(known.log_density[1:], expected, atol=1e-6)


def test_the_moments_are_those_of_the_gaussian():
    X, seen = holed(30)
    mean, variance = linear().at(2000).given(X, seen).moments()
    for i, known in enumerate(seen):
        centre, left = conditional(linear(), X[i], known)
        error = np.sqrt(left.diagonal() / 2000)
        assert (np.abs(mean[i, ~known] - centre) <= 5 * error + 1e-6).all()
        assert_allclose(variance[i, ~known], left.diagonal(), rtol=0.15, atol=1e-6)


def test_draws_are_those_of_the_gaussian():
    X, seen = holed()
    rows = linear().at(2000).given(X, seen).draws(2000, np.random.default_rng(1))
    for i, known in enumerate(seen):
        centre, left = conditional(linear(), X[i], known)
        deviation = np.sqrt(left.diagonal())
        found = rows[:, i, ~known]
        assert_allclose((found.mean(axis=0) - centre) / deviation, 0, atol=0.15)
        covariance = np.cov(found.T).reshape(left.shape) / np.outer(
            deviation, deviation
        )
        expected = left / np.outer(deviation, deviation)
        assert_allclose(covariance, expected, atol=0.2)


def test_samples_are_those_of_the_gaussian():
    rows = linear().sample(40_000, np.random.default_rng(0))
    mean, covariance = gaussian(linear())
    assert_allclose(rows.mean(axis=0), mean, atol=0.03)
    assert_allclose(np.cov(rows.T), covariance, atol=0.04)


# ------------------------------------------------------------------ of any network


@OF_TABLES
def test_nothing_seen_tells_exactly_nothing(name):
    density, X, _ = fitted(name)
    nothing = np.zeros(X.shape, dtype=bool)
    known = density.given(X, nothing)
    assert_array_equal(known.log_density, 0.0)
    assert (known.effective_draws > 10).all()


@OF_TABLES
def test_a_sample_has_the_moments_given_nothing(name):
    density, X, _ = fitted(name)
    rows = density.sample(20_000, np.random.default_rng(0))
    nothing = np.zeros((1, X.shape[1]))
    mean, variance = density.at(4000).given(nothing, nothing > 0).moments()
    deviation = np.sqrt(variance[0])
    assert rows.shape == (20_000, X.shape[1])
    assert_allclose((rows.mean(axis=0) - mean[0]) / deviation, 0, atol=0.08)
    assert_allclose(rows.std(axis=0), deviation, rtol=0.1)


@OF_TABLES
def test_seen_cells_are_as_they_are(name):
    density, X, seen = fitted(name)
    known = density.given(X, seen)
    mean, variance = known.moments()
    assert_array_equal(mean[seen], X[seen])
    assert_array_equal(variance[seen], 0)
    assert (variance[~seen] > 0).all()
    rows = known.draws(3, np.random.default_rng(0))
    assert rows.shape == (3, *X.shape)
    assert_array_equal(rows[:, seen], np.tile(X[seen], (3, 1)))
    assert np.isfinite(rows).all()


@OF_TABLES
def test_rows_do_not_depend_on_their_company(name):
    density, X, seen = fitted(name)
    together, order = density.given(X, seen), np.arange(len(X))[::-1]
    backwards = density.given(X[order], seen[order])
    assert_allclose(backwards.log_density, together.log_density[order], atol=1e-6)
    moments = np.array(together.moments())
    assert_allclose(backwards.moments(), moments[:, order], atol=1e-6)
    for i in range(4):
        alone = density.given(X[[i]], seen[[i]])
        assert_allclose(alone.log_density, together.log_density[[i]], atol=1e-6)
        assert_allclose(alone.moments(), moments[:, [i]], atol=1e-6)


@OF_TABLES
def test_what_stands_in_a_hole_does_not_matter(name):
    density, X, seen = fitted(name)
    one, other = (density.given(np.where(seen, X, hole), seen) for hole in (0.0, 5.0))
    assert_allclose(other.log_density, one.log_density)
    assert_allclose(other.moments(), one.moments(), atol=1e-9)


@OF_TABLES
def test_draws_have_the_moments(name):
    density, X, seen = fitted(name)
    known = density.given(X[:6], seen[:6])
    mean, variance = known.moments()
    rows = known.draws(4000, np.random.default_rng(1))
    error = np.sqrt(variance / 4000)
    assert (np.abs(rows.mean(axis=0) - mean) <= 5 * error + 1e-6).all()
    assert_allclose(rows.var(axis=0), variance, rtol=0.25, atol=0.01)


@OF_TABLES
def test_draws_and_samples_are_repeatable(name):
    density, X, seen = fitted(name)
    known = density.given(X, seen)
    one, other = (known.draws(2, np.random.default_rng(7)) for _ in range(2))
    assert_array_equal(one, other)
    one, other, another = (
        density.sample(20, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert_array_equal(one, other)
    assert (one != another).any()


@OF_TABLES
def test_a_pickled_density_says_the_same_without_what_is_made_anew(name):
    density, X, seen = fitted(name)
    expected = density.given(X, seen).log_density
    state = density.__getstate__()
    assert not {"joint", "proposal"} & set(state)
    twin = pickle.loads(pickle.dumps(density))  # noqa: S301
    assert_array_equal(twin.given(X, seen).log_density, expected)


def test_a_density_is_looked_for_at_as_many_points_as_asked_for():
    X, seen = holed()
    assert len(linear().at(17).given(X, seen).codes) == 17
    assert len(linear().given(X, seen).codes) == linear().n_points == 100
    found = linear().at(17).given(X, seen).effective_draws
    assert ((found >= 1 - 1e-9) & (found <= 17 + 1e-9)).all()


# ------------------------------------------------------------------------- levels

OF_LEVELS = pytest.mark.parametrize("name", ["levels", "levels with holes"])


def raw_levels(density, rows):
    levels = level_columns(density.model.design.blocks)
    first = density.model.design.n_numbers
    return levels, rows[..., first:] * levels.scale + levels.centre


@OF_LEVELS
def test_chances_of_levels_add_up_to_one(name):
    density, X, seen = fitted(name)
    mean, variance = density.given(X, seen).moments()
    levels, chances = raw_levels(density, mean)
    assert chances.min() > -1e-9
    assert chances.max() < 1 + 1e-9
    for width, span in zip(levels.widths, levels.spans, strict=True):
        assert width == 1 or np.allclose(chances[:, span].sum(axis=1), 1)
    raw = variance[:, density.model.design.n_numbers :] * levels.scale**2
    hole = ~seen[:, density.model.design.n_numbers :]
    assert_allclose(raw[hole], (chances * (1 - chances))[hole], atol=1e-6)


@OF_LEVELS
def test_drawn_levels_are_one_level_each(name):
    density, X, seen = fitted(name)
    known = density.given(X, seen)
    for rows in (
        known.draws(20, np.random.default_rng(0)),
        density.sample(200, np.random.default_rng(0)),
    ):
        levels, raw = raw_levels(density, rows)
        assert_allclose(raw, raw.round(), atol=1e-6)
        for width, span in zip(levels.widths, levels.spans, strict=True):
            assert width == 1 or (raw[..., span].round().sum(axis=-1) == 1).all()


def test_the_chances_of_all_levels_of_a_column_add_up_to_one():
    """As the log-densities of rows that differ in it alone tell them."""
    density, X, _ = fitted("levels")
    levels, _ = raw_levels(density, X)
    (span,) = (s for s, w in zip(levels.spans, levels.widths, strict=True) if w > 1)
    first = density.model.design.n_numbers
    rows = np.repeat(X[2:3], 3, axis=0)
    columns = np.arange(first, X.shape[1])[span]
    centre, scale = levels.centre[span], levels.scale[span]
    rows[:, columns] = (np.eye(3) - centre) / scale
    seen = np.ones(rows.shape, dtype=bool)
    without = seen.copy()
    without[:, columns] = False
    density = density.at(4000)
    each = density.given(rows, seen).log_density
    (marginal,) = np.unique(density.given(rows, without).log_density.round(9))
    assert np.exp(each - marginal).sum() == pytest.approx(1, abs=0.1)


def test_levels_follow_the_numbers_and_numbers_the_levels():
    density = fitted("levels")[0]
    rows = density.sample(3000, np.random.default_rng(0))
    levels, raw = raw_levels(density, rows)
    (span,) = (s for s, w in zip(levels.spans, levels.widths, strict=True) if w > 1)
    kind = raw[:, span].argmax(axis=1)
    means = np.array([rows[kind == k, :3].mean(axis=0) for k in range(3)])
    assert_array_equal(means.argmax(axis=0), range(3))


# ---------------------------------------------------------------- what no code holds


def pairs(n_rows=400, seed=0):
    """Return columns of one strong factor, and a pair that has nothing of it."""
    rng = np.random.default_rng(seed)
    factor, other = rng.normal(size=(2, n_rows))
    noise = rng.normal(size=(n_rows, 6))
    strong = factor[:, None] + 0.3 * noise[:, :4]
    return np.c_[strong, other[:, None] + 0.1 * noise[:, 4:]]


PARAMETERS = pytest.mark.parametrize(
    "parameters", [START, TRAINED], ids=["start", "trained"]
)


@PARAMETERS
def test_the_partner_of_a_column_that_the_code_cannot_hold_follows_it(parameters):
    est = AutoencoderTransformer(1, **parameters).fit(pairs())
    X = est._table.encode(pairs(100, seed=1)).matrix
    seen = np.ones(X.shape, dtype=bool)
    seen[:, 5] = False
    known = est._density.given(X, seen)
    mean, variance = known.moments()
    assert np.corrcoef(mean[:, 5], X[:, 5])[0, 1] > 0.95
    assert variance[:, 5].mean() < 0.5
    (drawn,) = known.draws(1, np.random.default_rng(0))
    assert np.corrcoef(drawn[:, 5], X[:, 5])[0, 1] > 0.7


@PARAMETERS
def test_a_pair_is_drawn_about_as_correlated_as_it_is(parameters):
    est = AutoencoderTransformer(1, **parameters).fit(pairs())
    rows = est._density.sample(2000, np.random.default_rng(0))
    assert np.corrcoef(rows[:, 4], rows[:, 5])[0, 1] > 0.9


# ------------------------------------------------------------------------ wide tables


def wide(n_rows=250, n_columns=600):
    rng = np.random.default_rng(0)
    mixing = np.random.default_rng(1).normal(size=(3, n_columns))
    return rng.normal(size=(n_rows, 3)) @ mixing + rng.normal(size=(n_rows, n_columns))


@cache
def of_wide():
    return AutoencoderTransformer(3, **START).fit(with_holes(wide()))


def megabytes(function):
    """Return the most memory that NumPy takes beyond what a function returns."""
    tracemalloc.start()
    try:
        result = function()
        return (tracemalloc.get_traced_memory()[1] - result.nbytes) / 1e6
    finally:
        tracemalloc.stop()


def test_rows_of_a_wide_table_are_drawn_around_cells_in_little_memory():
    of_wide().sample(1)  # which learns its margins
    given = {0: 0.3, 5: -0.2}
    assert megabytes(lambda: of_wide().sample(500, 0, given=given)) < 150


def test_wide_tables_are_imputed_in_little_memory():
    of_wide().sample(1)
    rows = with_holes(wide(100), seed=2)
    assert megabytes(lambda: of_wide().impute(rows)) < 200


def test_imputed_cells_of_a_wide_table_follow_the_code():
    holed = with_holes(wide(50), seed=2)
    filled = of_wide().impute(holed)
    holes = np.isnan(holed)
    signal = np.corrcoef(filled[holes], wide(50)[holes])[0, 1]
    assert signal > 0.75


@OF_TABLES
def test_answers_do_not_hang_on_what_memory_there_is(name, monkeypatch):
    density, X, seen = fitted(name)
    expected = density.given(X, seen)
    moments = expected.moments()
    monkeypatch.setattr("skae.model._reconstruction.MOST_NUMBERS", 3 * X.size)
    found = density.given(X, seen)
    assert_allclose(found.log_density, expected.log_density, atol=1e-9)
    assert_allclose(found.moments(), moments, atol=1e-9)
    rows = found.draws(7, np.random.default_rng(0))
    assert rows.shape == (7, *X.shape)
    assert_array_equal(rows[:, seen], np.tile(X[seen], (7, 1)))
