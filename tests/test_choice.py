"""Which mixtures are chosen, by rows that they were not fitted to."""

from __future__ import annotations

import numpy as np
import pytest
from mixtures import NO_LEVELS, clusters, combinations, draws, parameters, whole
from numpy.testing import assert_allclose

from skae.model import _em
from skae.model._choice import Trial, choose_mixture
from skae.model._em import WeightedRows, frequencies_of
from skae.model._linear_density import linear_density
from skae.model._network_stack import with_heavy_tails


def chosen(
    X, seen, levels, n_rows, weight=None, floor=0.0, seed=0, safeguard=None, scales=None
):
    weight = np.ones(len(X)) if weight is None else weight
    one, other = slice(n_rows), slice(n_rows, None)
    if scales is None:
        scales = X[one, : X.shape[1] - levels.width].std(axis=0)
    rows, judges = (
        WeightedRows.distinct(X[part], seen[part], weight[part])
        for part in (one, other)
    )
    trial = Trial(rows, judges, safeguard)
    return choose_mixture([trial], levels, scales, floor * scales, seed)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_the_chosen_mixture_is_likelier_than_independent_levels(share):
    X, seen, levels = clusters(500, share=share)
    test, test_seen, _ = clusters(1000, seed=1, share=share)
    choice = chosen(X, seen, levels, 400)
    numbers = chosen(X[:, :2], seen[:, :2], NO_LEVELS, 400).final
    chances = frequencies_of(X, seen, np.ones(500), levels)
    alone = numbers.given(test[:, :2], test_seen[:, :2]).log_density
    alone += levels.log_chances(test[:, 2:], test_seen[:, 2:], chances[None])[:, 0]
    found = choice.final.given(test, test_seen).log_density
    assert found.mean() > alone.mean() + 0.5


def test_levels_that_tell_nothing_of_numbers_cost_nothing():
    X, seen, levels = clusters(1300)
    X[:, 2:] = X[np.random.default_rng(0).permutation(1300), 2:]
    X, test = X[:300], X[300:]
    choice = chosen(X, seen[:300], levels, 240)
    numbers = chosen(X[:, :2], seen[:300, :2], NO_LEVELS, 240).final
    chances = frequencies_of(X, seen[:300], np.ones(300), levels)
    alone = numbers.given(test[:, :2], whole(test[:, :2])).log_density
    alone += levels.log_chances(test[:, 2:], whole(test[:, 2:]), chances[None])[:, 0]
    found = choice.final.given(test, whole(test)).log_density
    assert found.mean() > alone.mean() - 0.1


def test_a_wild_judge_does_not_choose_beside_a_safeguard():
    X, _, _ = clusters(500)
    X, test = X[:400, :2], X[400:, :2]
    wild = np.r_[X, [[0.0, 300.0]]]
    safeguard = with_heavy_tails(
        linear_density(np.zeros(2), np.ones((2, 1)), 1.0, np.empty(0), NO_LEVELS)
    )
    found = [
        chosen(rows, whole(rows), NO_LEVELS, 300, safeguard=safeguard).judged[0]
        for rows in (X, wild)
    ]
    usual, beside_wild = (m.given(test, whole(test)).log_density.mean() for m in found)
    assert beside_wild > usual - 0.05


def test_levels_alone_can_be_chosen():
    X, seen, levels = clusters(400)
    choice = chosen(X[:, 2:], seen[:, 2:], levels, 300)
    every = combinations(levels)
    found = choice.final.given(every, whole(every)).log_density
    assert np.exp(found).sum() == pytest.approx(1)


def test_the_choice_does_not_depend_on_order_or_copies():
    X, seen, levels = clusters(150, share=0.1)
    order = np.r_[np.random.default_rng(0).permutation(100), np.arange(100, 150)]
    scales = np.ones(2)
    counts = np.r_[np.random.default_rng(1).integers(1, 3, 150)]
    rows = [np.repeat(np.arange(100), counts[:100]), np.arange(100, 150)]
    rows[1] = np.repeat(rows[1], counts[100:])
    parts = order[:100], order[100:]
    one = [WeightedRows.distinct(X[r], seen[r], counts[r].astype(float)) for r in parts]
    other = [WeightedRows.distinct(X[r], seen[r], np.ones(len(r))) for r in rows]
    found = [
        choose_mixture([Trial(*data)], levels, scales, 0 * scales, 0)
        for data in (one, other)
    ]
    for first, second in zip(*[[c.final, *c.judged] for c in found], strict=True):
        assert_allclose(parameters(second), parameters(first), atol=1e-8)


def test_every_trial_has_its_own_mixture_and_a_say():
    X, seen, _ = clusters(120)
    X, seen = X[:, :2], seen[:, :2]
    fold = np.arange(120) % 3
    trials = [
        Trial(*[WeightedRows.distinct(X[r], seen[r], np.ones(r.sum())) for r in parts])
        for parts in [(fold != k, fold == k) for k in range(3)]
    ]
    scales = X.std(axis=0)
    choice = choose_mixture(trials, NO_LEVELS, scales, 0 * scales, 0)
    assert len({parameters(mixture).tobytes() for mixture in choice.judged}) == 3
    alone = [
        choose_mixture([trial], NO_LEVELS, scales, 0 * scales, 0) for trial in trials
    ]
    pairs = zip(trials, choice.judged, strict=True)
    together = [trial.scores(mixture).mean() for trial, mixture in pairs]
    pairs = zip(trials, alone, strict=True)
    selfish = [trial.scores(own.judged[0]).mean() for trial, own in pairs]
    assert np.mean(together) <= np.mean(selfish)


def test_the_choice_does_not_depend_on_the_units():
    X, seen, levels = clusters(200)
    units = np.r_[2.0**10, 2.0**-8, np.ones(4)]
    one, other = (chosen(X * u, seen, levels, 150).final for u in (1, units))
    expected = one.given(X, seen).log_density - np.log(units).sum()
    assert_allclose(other.given(X * units, seen).log_density, expected)


def test_a_floor_holds_in_every_part_of_the_choice():
    X, seen, levels = clusters(200)
    X[:, 0] = np.repeat([0.0, 1.0], 100)
    choice = chosen(X, seen, levels, 150, floor=0.4)
    for density in (*choice.judged, choice.final):
        deviations = np.sqrt(density.covariances.diagonal(axis1=1, axis2=2))
        assert (deviations >= 0.4 * X[:150, :2].std(axis=0) * (1 - 1e-9)).all()


def test_tables_too_small_or_too_wide_get_no_mixture():
    X, seen, levels = clusters(8)
    assert chosen(X, seen, levels, 4) is None
    X = draws(30, 2500)
    assert chosen(X, whole(X), NO_LEVELS, 25) is None


def test_many_rows_are_thinned(monkeypatch):
    monkeypatch.setattr(_em, "MOST_ROWS", 60)
    X, seen, levels = clusters(400)
    choice = chosen(X, seen, levels, 300)
    assert np.isfinite(parameters(choice.final)).all()
    assert len(choice.final.weights) <= 3 * 60 // _em.LEAST_ROWS


@pytest.mark.parametrize("wild", [-999_999_999.0, 1e9, 1e15, 1e100])
@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_wild_cell_leaves_the_mixtures_of_the_others(wild, share):
    X, seen, _ = clusters(500, share=share)
    X, seen = X[:, :2], seen[:, :2]
    test = clusters(1000, seed=1)[0][:, :2]
    far = X.copy()
    far[0, 0] = wild
    expected, found = (
        chosen(rows, seen, NO_LEVELS, 400, floor=0.01, scales=X.std(axis=0)).final
        for rows in (X, far)
    )
    mean = expected.given(test, whole(test)).log_density.mean()
    assert found.given(test, whole(test)).log_density.mean() == pytest.approx(
        mean, abs=0.05
    )
