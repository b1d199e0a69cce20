"""Stacks of densities against the merged mixture that they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mixtures import CELLS, SEEDS, columns_of, drawn, draws, mixture, whole
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp

from skae.model._mixture import Mixture
from skae.model._stack import MANY, Stack, stack

SHARES = {"one": 0.7, "other": 0.3}


def pair(seed=0, n_parts=(2, 3)):
    """Return a stack of two mixtures, and the one mixture that it is."""
    one, other = (mixture(n, seed=seed + i) for i, n in enumerate(n_parts))
    other = Mixture(*list(vars(other).values())[:4], one.levels)
    shares = np.array(list(SHARES.values()))
    merged = Mixture.of([one, other], shares)
    return Stack({"one": one, "other": other}, SHARES), merged


def with_holes(n_rows=8, seed=0):
    """Return rows of a stack, which cells are seen (in the first none), and both."""
    density, merged = pair(seed)
    seen = columns_of(np.random.default_rng(seed).uniform(size=(n_rows, 6)) > 0.5)
    seen[0], seen[1] = False, True
    return density, merged, drawn(density, n_rows, seed), seen


@dataclass(frozen=True)
class Sampled:
    """A density that counts its draws, and stands for one without a closed form."""

    mixture: Mixture
    n_points: int = 5

    def at(self, n_points):
        return Sampled(self.mixture, n_points)

    def given(self, X, seen):
        known = self.mixture.given(X, seen)
        return SampledConditional(known, self.n_points)

    def sample(self, n_rows, generator):
        return self.mixture.sample(n_rows, generator)


@dataclass(frozen=True)
class SampledConditional:
    known: object
    n_points: int

    @property
    def log_density(self):
        return self.known.log_density

    @property
    def effective_draws(self):
        return np.full(len(self.log_density), float(self.n_points))


# ------------------------------------------------------------------- conditioning


@given(cells=CELLS, seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_stack_of_mixtures_is_the_merged_mixture(cells, seed):
    density, merged = pair(seed)
    X, seen = drawn(density, len(cells), seed), columns_of(cells)
    found, expected = density.given(X, seen), merged.given(X, seen)
    assert_allclose(found.log_density, expected.log_density, atol=1e-9)
    assert_allclose(found.moments(), expected.moments(), atol=1e-9)
    of_parts = expected.memberships[:, :2].sum(axis=1)
    assert_allclose(found.memberships[:, 0], of_parts, atol=1e-9)


def test_nothing_seen_tells_exactly_nothing():
    density, _, X, seen = with_holes()
    found = density.given(np.full(X.shape, np.nan), np.zeros_like(seen))
    assert_array_equal(found.log_density, 0.0)
    assert_allclose(found.memberships, [list(SHARES.values())] * len(X))


def test_seen_cells_are_their_own_moments_and_draws():
    density, _, X, seen = with_holes()
    known = density.given(X, seen)
    mean, variance = known.moments()
    assert_array_equal(mean[seen], X[seen])
    assert_array_equal(variance[seen], 0)
    rows = known.draws(4, np.random.default_rng(0))
    assert rows.shape == (4, *X.shape)
    assert_array_equal(rows[:, seen], np.tile(X[seen], (4, 1)))


def test_draws_have_the_moments():
    density, _, X, seen = with_holes()
    known = density.given(X, seen)
    mean, variance = known.moments()
    rows = known.draws(20_000, np.random.default_rng(1))
    error = np.sqrt(variance / 20_000)
    assert (np.abs(rows.mean(axis=0) - mean) <= 4.5 * error + 1e-9).all()
    assert_allclose(rows.var(axis=0), variance, rtol=0.06, atol=1e-3)


def test_drawn_cells_depend_on_each_other_as_in_the_merged_mixture():
    density, merged, X, seen = with_holes()
    each = [
        np.cov(
            of.given(X[:1], seen[:1]).draws(60_000, np.random.default_rng(i))[:, 0].T
        )
        for i, of in enumerate((density, merged))
    ]
    assert_allclose(*each, atol=0.25)


def test_draws_are_repeatable():
    density, _, X, seen = with_holes()
    known = density.given(X, seen)
    one, other = (known.draws(3, np.random.default_rng(7)) for _ in range(2))
    assert_array_equal(one, other)
    assert (known.draws(3, np.random.default_rng(8)) != one).any()


def test_order_and_company_of_rows_do_not_matter():
    density, _, X, seen = with_holes()
    together = density.given(X, seen)
    backwards = density.given(X[::-1], seen[::-1])
    assert_allclose(backwards.log_density[::-1], together.log_density)
    assert_allclose(backwards.memberships[::-1], together.memberships)
    for i in range(len(X)):
        alone = density.given(X[[i]], seen[[i]])
        assert_allclose(alone.log_density[0], together.log_density[i])
        assert_allclose(
            np.array(alone.moments())[:, 0], np.array(together.moments())[:, i]
        )


def test_a_part_that_cannot_have_made_a_row_has_no_say_in_it():
    density, _ = pair()
    one, other = density.parts.values()
    far = Mixture(other.weights, other.means + 1e4, *list(vars(other).values())[2:])
    apart = Stack({"one": one, "other": far}, SHARES)
    X = drawn(one, 6)
    known = apart.given(X, whole(X))
    assert_allclose(known.memberships, [[1, 0]] * 6)
    expected = one.given(X, whole(X)).log_density + np.log(0.7)
    assert_allclose(known.log_density, expected)
    assert_allclose(
        apart.given(far.sample(5, np.random.default_rng(0)), whole(X[:5])).memberships,
        [[0, 1]] * 5,
    )


def test_rows_beyond_all_parts_are_finite():
    density, _ = pair()
    X = drawn(density, 3)
    X[:, :3] *= 1e6
    known = density.given(X, whole(X))
    assert np.isfinite(known.log_density).all()
    assert_allclose(known.memberships.sum(axis=1), 1)


# ----------------------------------------------------------------------- samples


def test_a_sample_is_what_is_drawn_given_nothing():
    density, merged = pair()
    rows = drawn(density, 40_000)
    nothing = np.zeros((1, rows.shape[1]))
    mean, variance = density.given(nothing, nothing > 0).moments()
    assert_allclose(rows.mean(axis=0), mean[0], atol=0.06)
    assert_allclose(rows.var(axis=0), variance[0], rtol=0.05)
    other = drawn(merged, 40_000, seed=1)
    assert_allclose(np.cov(rows.T), np.cov(other.T), atol=0.25)


def test_samples_come_from_each_part_by_its_share_in_any_order():
    density, _ = pair()
    one, other = density.parts.values()
    far = Mixture(other.weights, other.means + 1e4, *list(vars(other).values())[2:])
    rows = drawn(Stack({"one": one, "other": far}, SHARES), 10_000)
    is_far = rows[:, 0] > 5e3
    assert is_far.mean() == pytest.approx(0.3, abs=0.02)
    assert is_far[:5_000].mean() == pytest.approx(0.3, abs=0.03)
    assert_array_equal(drawn(density, 20), drawn(density, 20))
    assert (drawn(density, 20) != drawn(density, 20, seed=1)).any()


@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_a_few_rows_can_be_sampled(n_rows):
    assert drawn(pair()[0], n_rows).shape == (n_rows, 9)


def test_a_part_without_a_share_is_not_drawn_from():
    density, _ = pair()
    one, other = density.parts.values()
    far = Mixture(other.weights, other.means + 1e4, *list(vars(other).values())[2:])
    rows = drawn(Stack({"one": one, "other": far}, {"one": 1.0, "other": 0.0}), 500)
    assert (np.abs(rows) < 1e3).all()


def test_every_part_is_looked_for_at_as_many_points():
    _, merged = pair()
    sampled = Stack({"one": Sampled(merged), "other": merged}, SHARES)
    assert sampled.at(17).parts["one"].n_points == 17
    assert sampled.at(17).parts["other"] is merged
    assert sampled.at(17).shares == SHARES
    assert sampled.parts["one"].n_points == 5


def test_effective_draws_are_those_of_the_parts_by_their_memberships():
    _, merged, X, seen = with_holes()
    closed = Stack({"one": merged, "other": merged}, SHARES)
    assert (closed.given(X, seen).effective_draws == MANY).all()
    sampled = Stack(
        {"one": Sampled(merged), "other": merged}, {"one": 1 - 1e-12, "other": 1e-12}
    )
    assert_allclose(sampled.given(X, seen).effective_draws, 5, atol=1e-3)


# ------------------------------------------------------------------------ joining


def judged(n_rows=200, seed=0):
    """Return two mixtures, rows of the second, and the log-densities of both."""
    density, _ = pair(seed)
    one, other = density.parts.values()
    X = drawn(other, n_rows, seed)
    each = [part.given(X, whole(X)).log_density for part in (one, other)]
    return one, other, np.column_stack(each)


def test_a_part_that_makes_rows_likelier_joins():
    one, other, each = judged()
    alone = Stack({"one": one}, {"one": 1.0})
    joined = alone.joined_by("other", other, each, np.ones(len(each)), {})
    assert list(joined.parts)[-1] == "other"
    assert joined.parts["other"] is other
    assert sum(joined.shares.values()) == pytest.approx(1)
    assert joined.shares["other"] > 0.9


def test_a_part_without_a_gain_does_not_join():
    one, _, each = judged()
    alone = Stack({"one": one}, {"one": 1.0})
    same = np.repeat(each[:, :1], 2, axis=1)
    assert alone.joined_by("same", one, same, np.ones(len(each)), {}) is alone
    worse = np.column_stack([each[:, 0], each[:, 0] - 3])
    assert alone.joined_by("worse", one, worse, np.ones(len(each)), {}) is alone


def test_a_gain_within_its_error_is_none():
    """One row in a hundred tells all: its mean gain is less than its error."""
    one, other, _ = judged()
    alone = Stack({"one": one}, {"one": 1.0})
    level = np.zeros((100, 2))
    level[0, 1], level[1:, 1] = 3.0, -6.0
    weight = np.ones(100)
    assert alone.joined_by("other", other, level, weight, {}) is alone
    level[:, 1] = 0.5
    assert "other" in alone.joined_by("other", other, level, weight, {}).parts


def test_weights_of_rows_decide_who_joins():
    one, other, _ = judged()
    alone = Stack({"one": one}, {"one": 1.0})
    each = np.zeros((100, 2))
    each[:50, 1], each[50:, 1] = 1.0, -40.0
    for_it = np.where(np.arange(100) < 50, 1.0, 1e-6)
    found = alone.joined_by("other", other, each, for_it, {})
    assert found.shares["other"] > 0.9
    against = alone.joined_by("other", other, each, for_it[::-1], {})
    assert against.shares.get("other", 0.0) < 0.01


@pytest.mark.parametrize("least", [0.0, 0.01, 0.4])
def test_least_shares_are_kept(least):
    one, other, each = judged()
    alone = Stack({"one": one}, {"one": 1.0})
    weight = np.ones(len(each))
    joined = alone.joined_by("other", other, each, weight, {"one": least})
    assert joined.shares.get("one", 0.0) >= least
    assert sum(joined.shares.values()) == pytest.approx(1)
    assert list(joined.parts) == list(joined.shares)
    if least > 0.1:
        assert joined.shares["one"] == pytest.approx(least, abs=0.05)


def test_a_part_that_a_better_one_makes_worthless_leaves():
    one, other, each = judged()
    alone = Stack({"one": one}, {"one": 1.0})
    each[:, 0] = each[:, 1] - 50
    joined = alone.joined_by("other", other, each, np.ones(len(each)), {})
    assert list(joined.parts) == ["other"]
    assert joined.shares == {"other": 1.0}


@pytest.mark.parametrize(("gain", "joins"), [(0.09, False), (0.13, True)])
def test_rows_must_gain_more_than_a_nat_together_to_let_one_join(gain, joins):
    one, other, _ = judged()
    alone = Stack({"one": one}, {"one": 1.0})
    each = np.array([[0.0, gain]] * 10)
    joined = alone.joined_by("other", other, each, np.ones(10), {})
    assert ("other" in joined.parts) == joins


# ------------------------------------------------------------------------- shares


def test_weighted_rows_are_stacked_as_repeated_rows():
    parts, counts = 2 * draws(40, 3), np.random.default_rng(0).integers(0, 4, 40)
    least = np.array([0.1, 0, 0])
    found = stack(parts, least, counts.astype(float))
    expected = stack(np.repeat(parts, counts, axis=0), least, np.ones(counts.sum()))
    assert_allclose(found, expected, atol=1e-9)
    assert_allclose(found.sum(), 1)


@given(seed=SEEDS, rival=arrays(float, 3, elements=st.floats(0.01, 1)))
@settings(max_examples=30, deadline=None)
def test_no_other_shares_make_the_rows_likelier(seed, rival):
    parts, least = 2 * draws(60, 3, seed=seed), np.array([0.0, 0.2, 0.0])
    weight = np.random.default_rng(seed).uniform(size=60)
    shares = stack(parts, least, weight)
    other = least + 0.8 * rival / rival.sum()
    found, expected = (
        np.average(logsumexp(parts, axis=1, b=b), weights=weight)
        for b in (shares, other)
    )
    assert found >= expected - 1e-4
    assert (shares >= least - 1e-12).all()


def test_the_density_that_rows_come_from_gets_the_share_it_has():
    density, _ = pair()
    parts = list(density.parts.values())
    X = drawn(density, 4000)
    each = np.column_stack([p.given(X, whole(X)).log_density for p in parts])
    shares = stack(each, np.zeros(2), np.ones(len(X)))
    assert_allclose(shares, [0.7, 0.3], atol=0.05)


def test_rows_that_no_density_can_have_made_do_not_spoil_the_shares():
    each = np.array([[-1e5, -2e5], [0.0, -1.0], [-1e300, -1e300]])
    shares = stack(each, np.array([0.0, 0.01]), np.ones(3))
    assert np.isfinite(shares).all()
    assert shares.sum() == pytest.approx(1)
