"""Which rows train, and which judge."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import draws
from torch.testing import assert_close

from skae.training._folds import split_rows


@given(
    n_rows=st.integers(2, 60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 5)
)
@settings(max_examples=60, deadline=None)
def test_a_split_is_disjoint_and_complete(n_rows, fraction, seed):
    training, judging = split_rows(torch.zeros(n_rows, 1), None, fraction, seed)
    chosen = torch.cat([training.index, judging.index])
    assert chosen.sort().values.tolist() == list(range(n_rows))
    assert len(training) >= 1
    assert len(judging) == min(max(round(fraction * n_rows), 1), n_rows - 1)


def test_a_split_is_drawn_from_its_seed():
    first, second, other = (
        split_rows(torch.zeros(50, 1), None, 0.3, seed)[1].index.tolist()
        for seed in (1, 1, 2)
    )
    assert first == second != other


def test_without_a_fraction_all_rows_train_and_some_of_them_judge(monkeypatch):
    monkeypatch.setattr("skae.training._folds.MOST_JUDGES", 7)
    training, judging = split_rows(torch.zeros(20, 1), None, None, 0)
    assert sorted(training.index.tolist()) == list(range(20))
    assert len(set(judging.index.tolist())) == len(judging) == 7


def test_a_long_table_has_no_more_judges_than_it_needs(monkeypatch):
    monkeypatch.setattr("skae.training._folds.MOST_JUDGES", 7)
    training, judging = split_rows(torch.zeros(100, 1), None, 0.3, 0)
    assert (len(training), len(judging)) == (93, 7)
    both = torch.cat([training.index, judging.index])
    assert both.sort().values.tolist() == list(range(100))


@pytest.mark.parametrize("fraction", [0.3, None])
def test_judges_weigh_one_on_average(fraction):
    weight = draws(40).exp()
    training, judging = split_rows(torch.zeros(40, 1), weight, fraction, 0)
    assert_close(judging.mean(torch.ones(len(judging)).double()).item(), 1.0)
    ratio = judging.weight / weight
    assert_close(ratio, ratio[0].expand(40))
    assert torch.equal(training.weight, weight)
