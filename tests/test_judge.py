"""Which weights are kept, against a t-test."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from regressions import Network, flattened, free_part
from scipy import stats

from skae.training._judge import Best
from skae.training._rows import Rows


def best_of(start, losses, weight=None):
    """Return which epoch's weights are kept: of the start 0, of the losses 1."""
    module, weights = flattened()
    rows = Rows.all_of(torch.zeros(len(start), 1), weight)
    best = Best(weights, rows, torch.as_tensor(start))
    free_part(weights.vector, weights).fill_(1)
    best.update(1, torch.as_tensor(losses))
    free_part(weights.vector, weights).fill_(2)
    best.restore(prefer_start=True)
    kept_start = torch.equal(module.layer.bias, Network().layer.bias)
    assert kept_start or (module.layer.bias == 1).all()
    assert best.epoch == (0 if kept_start else 1)
    assert best.loss == (best.start_loss if kept_start else rows.mean(best.losses))
    return best.epoch


def test_identical_losses_keep_the_start():
    assert best_of([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 0


def test_worse_losses_keep_the_start():
    assert best_of([1.0, 2.0, 3.0], [1.5, 2.5, 3.5]) == 0


def test_an_even_gain_is_taken_however_small():
    assert best_of([1.0, 2.0, 3.0], [0.75, 1.75, 2.75]) == 1


def test_a_single_row_proves_nothing():
    assert best_of([1.0], [0.0]) == 0


@given(seed=st.integers(0, 10_000), n_rows=st.integers(2, 40))
@settings(max_examples=60, deadline=None)
def test_the_start_is_kept_unless_a_t_test_at_one_standard_error_speaks(seed, n_rows):
    rng = np.random.default_rng(seed)
    start = rng.normal(size=n_rows)
    losses = start - rng.normal(0.2, 1, size=n_rows)
    test = stats.ttest_rel(start, losses, alternative="greater")
    assert best_of(start, losses) == (test.pvalue < 1 - 0.8413)


def test_the_gain_of_weighted_rows_is_weighted():
    start, losses = torch.zeros(4), torch.tensor([-1.0, -1.1, -0.9, 2.0])
    assert best_of(start, losses) == 0
    assert best_of(start, losses, torch.tensor([1.3, 1.3, 1.3, 0.1])) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_losses_that_are_not_finite_are_never_best(bad):
    assert best_of([1.0, 2.0], [bad, 0.0]) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_anything_finite_beats_a_start_that_is_not(bad):
    assert best_of([bad, 1.0], [5.0, 5.0]) == 1


def test_best_follows_the_lowest_loss():
    _, weights = flattened()
    rows = Rows.all_of(torch.zeros(3, 1))
    best = Best(weights, rows, torch.full((3,), 5.0))
    for epoch, loss in enumerate([4.0, 2.0, 3.0, math.nan], start=1):
        free_part(weights.vector, weights).fill_(epoch)
        found = best.update(epoch, torch.full((3,), loss))
        assert found == loss or math.isnan(loss)
    best.restore(prefer_start=False)
    assert (best.epoch, best.loss, best.start_loss) == (2, 2.0, 5.0)
    assert free_part(weights.vector, weights).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("prefer_start", [True, False])
@pytest.mark.parametrize(("later", "kept"), [(2.5, 0), (1.0, 3)])
def test_judged_anew_what_came_before_is_forgotten_but_the_start(
    prefer_start, later, kept
):
    _, weights = flattened()
    rows = Rows.all_of(torch.zeros(20, 1))
    best = Best(weights, rows, torch.full((20,), 2.0))
    best.update(1, torch.full((20,), 0.5))
    assert best.begin_anew(2, torch.full((20,), 3.0)) == best.loss == 3.0
    assert best.update(3, torch.full((20,), later)) == best.loss == later
    best.restore(prefer_start=prefer_start)
    assert best.epoch == kept
    assert best.loss == min(2.0, later)


def test_judged_anew_a_loss_that_is_not_finite_counts_for_nothing():
    _, weights = flattened()
    best = Best(weights, Rows.all_of(torch.zeros(5, 1)), torch.ones(5))
    assert math.isnan(best.begin_anew(1, torch.full((5,), math.nan)))
    assert (best.loss, best.epoch) == (1.0, 0)
