"""Columns as normal scores, by a smooth estimate of their density."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skae.table._scores import FEWEST_ROWS, SmoothScores

COLUMNS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "log-normal": lambda rng, n: rng.lognormal(sigma=2, size=n),
    "heavy tails": lambda rng, n: rng.standard_t(2, n),
    "uniform": lambda rng, n: rng.uniform(size=n),
    "two heaps": lambda rng, n: rng.normal(size=n) + 20 * (rng.random(n) < 0.4),
    "zeros": lambda rng, n: rng.exponential(size=n) * (rng.random(n) > 0.3),
    "counts": lambda rng, n: rng.poisson(3, n).astype(float),
    "tenths": lambda rng, n: rng.normal(size=n).round(1),
    "hundredths": lambda rng, n: 1000 + rng.gamma(9, size=n).round(2),
    "coin": lambda rng, n: rng.integers(0, 2, n).astype(float),
}
OF_COLUMNS = pytest.mark.parametrize("make", COLUMNS.values(), ids=COLUMNS)
CONTINUOUS = [
    name
    for name in COLUMNS
    if name not in ("zeros", "counts", "tenths", "hundredths", "coin")
]
VALUES = st.lists(
    st.sampled_from([-1e6, -2.5, -1.0, 0.0, 1e-3, 0.5, 1.0, 3.0, 7e4]),
    min_size=2,
    max_size=60,
)


def column_of(make, n_rows=500, seed=0):
    return make(np.random.default_rng(seed), n_rows)


def log_density(scores, column):
    """Log-density of a column whose scores are standard normal."""
    return stats.norm.logpdf(scores.scores(column)) + scores.log_slope(column)


def values_among(scores, n_points=50):
    """Return values in all cells, more of them at the edges, and far beyond."""
    shares = stats.beta.ppf((np.arange(n_points) + 0.5) / n_points, 0.5, 0.5)
    inside = scores.edges[:-1, None] + np.diff(scores.edges)[:, None] * shares
    side = np.ptp(scores.edges) * np.geomspace(1e-6, 1e3, n_points)
    beyond = scores.edges[0] - side, scores.edges[-1] + side
    return np.unique(np.concatenate([inside.ravel(), *beyond]))


# ------------------------------------------------------------------- a density


@OF_COLUMNS
@pytest.mark.parametrize("n_rows", [30, 3000])
def test_the_density_of_a_column_integrates_to_one(make, n_rows):
    scores = SmoothScores(column_of(make, n_rows), None)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    reach = np.ptp(scores.edges) * np.geomspace(1e-3, 1e9, 200)
    edges = np.r_[scores.edges[0] - reach[::-1], scores.edges, scores.edges[-1] + reach]
    half = np.diff(edges)[:, None] / 2
    points = edges[:-1, None] + half * (nodes + 1)
    density = np.exp(log_density(scores, points.ravel())).reshape(points.shape)
    mass = ((density * half) @ weights).sum()
    assert mass == pytest.approx(1.0, abs=1e-3)


@OF_COLUMNS
def test_the_slope_is_that_of_finite_differences(make):
    scores = SmoothScores(column_of(make), None)
    points = values_among(scores)
    middle, step = (points[1:] + points[:-1]) / 2, 1e-4 * np.diff(points)
    rise = scores.scores(middle + step) - scores.scores(middle - step)
    assert_allclose(np.log(rise / (2 * step)), scores.log_slope(middle), atol=5e-3)


@given(values=VALUES, seed=st.integers(0, 1000), weighted=st.booleans())
@settings(max_examples=60, deadline=None)
def test_scores_rise_with_the_values_and_back(values, seed, weighted):
    assume(len(set(values)) > 1)
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.1, 3, len(values)) if weighted else None
    scores = SmoothScores(np.array(values), weight)
    assert (np.diff(scores.scores(values_among(scores))) > 0).all()
    assert (np.diff(scores.inverse(np.sort(rng.normal(size=99) * 3))) >= 0).all()


@OF_COLUMNS
def test_the_slope_does_not_jump(make):
    """At an edge of two cells, nor where the tails begin."""
    scores = SmoothScores(column_of(make), None)
    width = 1e-8 * np.r_[np.diff(scores.edges), np.diff(scores.edges)[-1]]
    width = np.minimum(width, np.r_[width[0], width[:-1]])
    before, after = scores.edges - width, scores.edges + width
    assert_allclose(scores.log_slope(before), scores.log_slope(after), atol=1e-3)


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("n_rows", [200, 1000, 5000])
def test_fresh_values_are_as_likely_as_those_of_the_fit(name, n_rows):
    below = []
    for seed in range(8):
        column = column_of(COLUMNS[name], n_rows, seed)
        fresh = column_of(COLUMNS[name], 5000, 100 + seed)
        scores = SmoothScores(column, None)
        known, new = log_density(scores, column), log_density(scores, fresh)
        below.append((new < np.quantile(known, 0.05)).mean())
    assert 0.03 < np.mean(below) < 0.085


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("normal", stats.norm()),
        ("exponential", stats.expon()),
        ("heavy tails", stats.t(2)),
        ("uniform", stats.uniform()),
    ],
)
@pytest.mark.parametrize(("n_rows", "lost"), [(200, 0.12), (5000, 0.03)])
def test_the_density_is_about_the_true_one(name, peer, n_rows, lost):
    """Nats that are lost on fresh values, per value."""
    gaps = []
    for seed in range(8):
        scores = SmoothScores(column_of(COLUMNS[name], n_rows, seed), None)
        fresh = column_of(COLUMNS[name], 5000, 100 + seed)
        gaps.append((peer.logpdf(fresh) - log_density(scores, fresh)).mean())
    assert np.mean(gaps) < lost


@pytest.mark.parametrize("end", [0, -1], ids=["low", "high"])
@OF_COLUMNS
def test_a_rounding_error_costs_nothing(make, end):
    column = np.sort(column_of(make))
    scores = SmoothScores(column, None)
    beyond = np.nextafter(column[end], np.inf if end else -np.inf)
    at = log_density(scores, np.array([column[end], beyond]))
    assert at[0] == pytest.approx(at[1], abs=1e-6)


@pytest.mark.parametrize("single", [False, True], ids=["double", "single"])
def test_values_that_differ_by_rounding_alone_are_one(single):
    rng = np.random.default_rng(0)
    dtype = np.float32 if single else np.float64
    tenths = rng.integers(1, 10, 1000)
    computed = (tenths.astype(dtype) * dtype(0.1)).astype(np.float64)
    written = (tenths / 10).astype(dtype).astype(np.float64)
    mixed = np.where(rng.random(1000) < 0.5, computed, written)
    plain, scores = SmoothScores(written, None), SmoothScores(mixed, None)
    assert len(np.unique(mixed)) > len(np.unique(written))
    expected = log_density(plain, written)
    assert_allclose(log_density(scores, mixed), expected, atol=1e-3)
    assert_allclose(log_density(scores, computed), expected, atol=1e-3)
    assert_allclose(log_density(plain, computed), expected, atol=1e-3)


@OF_COLUMNS
def test_the_farther_outside_the_less_likely(make):
    column = column_of(make)
    scores = SmoothScores(column, None)
    far = np.ptp(column) * np.array([1.0, 10.0, 1e2, 1e3])
    least = log_density(scores, column).min()
    for values in (column.max() + far, column.min() - far):
        found = log_density(scores, values)
        assert (np.diff(found) < -2).all()
        assert found[0] < least
        assert found[-1] < least - 15
        assert np.isfinite(found).all()


# ------------------------------------------------------------------- scores


@OF_COLUMNS
def test_scores_have_the_ranks_of_a_normal_sample(make):
    column = column_of(make, 5000)
    expected = stats.norm.ppf((stats.rankdata(column) - 0.5) / 5000)
    found = SmoothScores(column, None).scores(column)
    _, counts = np.unique(column, return_counts=True)
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    if counts.max() == 1:
        assert stats.kstest(found, "norm").statistic < 0.03


def test_single_precision_scores_are_single_and_missing_ones_missing():
    column = np.r_[np.random.default_rng(0).normal(size=50), np.nan]
    scores = SmoothScores(column, None)
    found = scores.scores(column.astype(np.float32))
    assert found.dtype == np.float32
    assert np.isnan(found).tolist() == [*([False] * 50), True]
    without = SmoothScores(column[:-1], None)
    assert_array_equal(scores.scores(column), without.scores(column))


@OF_COLUMNS
def test_weights_are_repeated_values(make):
    rng = np.random.default_rng(0)
    column, weight = column_of(make, 200), rng.integers(0, 4, 200)
    one = SmoothScores(column, weight.astype(float))
    other = SmoothScores(np.repeat(column, weight), None)
    new = values_among(other)
    assert_allclose(one.scores(new), other.scores(new), atol=1e-9)
    assert_allclose(one.log_slope(new), other.log_slope(new), atol=1e-9)


@pytest.mark.parametrize("magnitude", [1e-200, 1e-30, 1e30, 1e200])
def test_units_do_not_matter(magnitude):
    column = column_of(COLUMNS["zeros"])
    plain, other = SmoothScores(column, None), SmoothScores(magnitude * column, None)
    assert_allclose(other.scores(magnitude * column), plain.scores(column), atol=1e-9)
    moved = other.log_slope(magnitude * column) + np.log(magnitude)
    assert_allclose(moved, plain.log_slope(column), atol=1e-9)


# ------------------------------------------------------------------- and back


@OF_COLUMNS
@pytest.mark.parametrize("n_rows", [3, 30, 3000])
def test_every_value_comes_back_from_its_score(make, n_rows):
    column = np.r_[0.0, 1.0, column_of(make, n_rows)]
    scores = SmoothScores(column, None)
    back = scores.inverse(scores.scores(column))
    assert_allclose(back, column, rtol=0, atol=1e-12 * np.ptp(column))
    values, counts = np.unique(column, return_counts=True)
    often = np.isin(column, values[counts >= max(FEWEST_ROWS, len(column) ** 0.5)])
    assert_array_equal(back[often], column[often])


@pytest.mark.parametrize("spike", [0.0, 1.0, 4.0], ids=["low", "inside", "high"])
def test_spikes_come_back_as_often_as_they_were_seen(spike):
    rng = np.random.default_rng(0)
    column = np.r_[np.full(600, spike), rng.uniform(0.1, 3.9, 1400)]
    drawn = SmoothScores(column, None).inverse(rng.normal(size=50_000))
    assert np.mean(drawn == spike) == pytest.approx(0.3, abs=0.01)
    assert stats.ks_2samp(drawn, column).statistic < 0.03


def test_counts_come_back_with_their_frequencies():
    rng = np.random.default_rng(0)
    column = rng.poisson(1.5, 3000).astype(float)
    drawn = SmoothScores(column, None).inverse(rng.normal(size=50_000))
    values, counts = np.unique(column, return_counts=True)
    often = counts >= 3000**0.5
    found = [np.mean(drawn == value) for value in values[often]]
    assert_allclose(found, counts[often] / 3000, atol=0.01)


@OF_COLUMNS
def test_far_scores_lead_to_the_range_of_the_column(make):
    column = column_of(make)
    found = SmoothScores(column, None).inverse(np.array([-50.0, 50.0]))
    assert found.tolist() == [column.min(), column.max()]


def test_big_columns_have_few_cells():
    column = np.random.default_rng(0).normal(size=100_000)
    assert len(SmoothScores(column, None).edges) < 400


def test_values_that_are_close_only_since_they_are_many_are_not_the_same():
    column = np.repeat(np.arange(1_500_000.0), 2)
    scores = SmoothScores(column, None)
    assert len(scores.spikes) == 0
    assert scores.inverse(np.array([0.0])) == pytest.approx(750_000, rel=1e-3)
