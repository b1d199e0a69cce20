"""Rows around given cells come from the density, or are refused."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from skae.model._conditional import draw_given
from skae.model._level_columns import LevelColumns
from skae.model._mixture import Mixture, MixtureConditional

CORRELATED = Mixture(
    np.ones(1),
    np.zeros((1, 2)),
    np.array([[[1.0, 0.9], [0.9, 1.0]]]),
    np.empty((1, 0)),
    LevelColumns(),
)


X, SEEN = np.array([[0.5, np.nan]]), np.array([[True, False]])


def rows_at(value: float) -> np.ndarray:
    given = np.array([[value, np.nan]])
    return draw_given(CORRELATED, given, SEEN, 4_000, np.random.default_rng(0))


@pytest.mark.parametrize("value", [-1.5, 0.0, 2.0])
def test_draws_keep_the_given_cell_and_follow_the_conditional(value):
    rows = rows_at(value)
    assert (rows[:, 0] == value).all()
    assert rows[:, 1].mean() == pytest.approx(0.9 * value, abs=0.03)
    assert rows[:, 1].std() == pytest.approx(np.sqrt(1 - 0.81), abs=0.02)


def test_values_that_are_too_rare_are_refused_with_how_rare_they_are():
    with pytest.raises(ValueError, match=r"too rare together: they are 10\^\d+ times"):
        rows_at(12.0)


def test_nothing_given_is_a_sample():
    X, seen = np.full((1, 2), np.nan), np.zeros((1, 2), dtype=bool)
    rows = draw_given(CORRELATED, X, seen, 4_000, np.random.default_rng(0))
    np.testing.assert_allclose(np.cov(rows.T), CORRELATED.covariances[0], atol=0.08)


def test_many_draws_are_made_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr("skae.model._conditional.MOST_NUMBERS", 14)
    sizes = []
    whole = MixtureConditional.draws

    def counted(self, n, generator):
        sizes.append(n)
        return whole(self, n, generator)

    monkeypatch.setattr(MixtureConditional, "draws", counted)
    rows = draw_given(CORRELATED, X, SEEN, 17, np.random.default_rng(0))
    assert rows.shape == (17, 2)
    assert (rows[:, 0] == 0.5).all()
    assert len(np.unique(rows[:, 1])) == 17
    assert sizes[-3:] == [7, 7, 3]


@dataclass(frozen=True)
class Told:
    """What a density says at some points, of which one in a share counts."""

    known: MixtureConditional
    effective_draws: np.ndarray

    def __getattr__(self, name):
        return getattr(self.known, name)


@dataclass(frozen=True)
class Looked:
    """The same density, as if it were looked for at points."""

    share: float
    n_points: int = 100

    def at(self, n_points):
        return replace(self, n_points=n_points)

    def given(self, X, seen):
        n_draws = np.full(len(X), self.share * self.n_points)
        return Told(CORRELATED.given(X, seen), n_draws)

    def sample(self, n_rows, generator):
        return CORRELATED.sample(n_rows, generator)


@pytest.mark.parametrize("share", [0.5, 2e-3, 3e-4])
def test_a_value_that_few_points_tell_of_is_looked_for_at_more(share):
    rows = draw_given(Looked(share), X, SEEN, 4_000, np.random.default_rng(0))
    assert rows[:, 1].mean() == pytest.approx(0.45, abs=0.03)


def test_a_value_that_hardly_any_point_tells_of_is_refused():
    with pytest.raises(ValueError, match="too rare together"):
        draw_given(Looked(1e-4), X, SEEN, 10, np.random.default_rng(0))


def test_of_wide_rows_no_more_points_are_looked_at_than_memory_holds(monkeypatch):
    monkeypatch.setattr("skae.model._conditional.MOST_NUMBERS", 40_000)
    rows = draw_given(Looked(1e-3), X, SEEN, 10, np.random.default_rng(0))
    assert rows.shape == (10, 2)  # 20,000 points are enough
    with pytest.raises(ValueError, match="too rare together"):
        draw_given(Looked(9e-4), X, SEEN, 10, np.random.default_rng(0))
