"""Which rows train, and which judge."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from columns import weights
from hypothesis import given, settings
from hypothesis import strategies as st
from models import draws
from numpy.testing import assert_allclose, assert_array_equal
from torch.testing import assert_close

from skae.network._cells import Cells
from skae.training._folds import Folds, Split, choose_split


@pytest.mark.parametrize("n_rows", [12, 400, 401, 1_500])
def test_every_judge_is_among_the_judges_of_the_one_cut_that_has_not_seen_it(n_rows):
    folds = Folds.among(n_rows, 0)
    cuts = folds.cuts()
    assert len(cuts) == folds.fold.max() + 1
    for k, (training, judging) in enumerate(cuts):
        assert (folds.fold[judging] == k).all()
        assert sorted([*training, *judging]) == list(range(n_rows))
    judges = np.concatenate([judging for _, judging in cuts])
    assert sorted(judges.tolist()) == sorted(folds.judging.tolist())


def test_a_split_is_its_one_cut():
    split = Split.of(20, 0, 0.3, 0)
    ((training, judging),) = split.cuts()
    assert_array_equal(training, split.training)
    assert_array_equal(judging, split.judging)


@given(
    n_rows=st.integers(2, 60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 5)
)
@settings(max_examples=60, deadline=None)
def test_a_split_is_disjoint_and_complete(n_rows, fraction, seed):
    split = Split.of(n_rows, 0, fraction, seed)
    chosen = np.r_[split.training, split.judging]
    assert sorted(chosen.tolist()) == list(range(n_rows))
    assert len(split.training) >= 1
    assert len(split.judging) == min(max(round(fraction * n_rows), 1), n_rows - 1)
    assert split.is_held_out


def test_a_split_is_drawn_from_its_seed():
    first, second, other = (
        Split.of(50, 0, 0.3, seed).judging.tolist() for seed in (1, 1, 2)
    )
    assert first == second != other


def test_without_a_fraction_all_rows_train_and_some_of_them_judge(monkeypatch):
    monkeypatch.setattr("skae.training._folds.MOST_JUDGES", 7)
    split = Split.of(20, 0, None, 0)
    assert sorted(split.training.tolist()) == list(range(20))
    assert len(set(split.judging.tolist())) == len(split.judging) == 7
    assert not split.is_held_out


def test_a_long_table_has_no_more_judges_than_it_needs(monkeypatch):
    monkeypatch.setattr("skae.training._folds.MOST_JUDGES", 7)
    split = Split.of(100, 0, 0.3, 0)
    assert (len(split.training), len(split.judging)) == (93, 7)
    both = np.r_[split.training, split.judging]
    assert sorted(both.tolist()) == list(range(100))


@pytest.mark.parametrize("fraction", [0.3, None])
def test_rows_to_validate_on_come_after_the_others_and_are_never_trained_on(fraction):
    split = Split.of(20, 5, fraction, 0)
    assert split.training.tolist() == list(range(20))
    assert split.judging.tolist() == [20, 21, 22, 23, 24]
    assert split.is_held_out


@pytest.mark.parametrize("fraction", [0.3, None])
def test_a_single_row_trains_and_judges(fraction):
    split = Split.of(1, 0, fraction, 0)
    assert split.training.tolist() == split.judging.tolist() == [0]
    assert not split.is_held_out


@pytest.mark.parametrize("make", [lambda x: x, Cells], ids=["tensor", "cells"])
@pytest.mark.parametrize("n_val", [0, 4])
def test_rows_of_a_split_are_those_of_its_indices(make, n_val):
    x = draws(24, 3)
    split = Split.of(24 - n_val, n_val, 0.3, 0)
    pairs = zip(split.rows(make(x), None), (split.training, split.judging), strict=True)
    for rows, index in pairs:
        found = rows.values()
        found = found.values if isinstance(found, Cells) else found
        assert torch.equal(found, x[index])
        assert rows.weight is None


@pytest.mark.parametrize(("n_val", "fraction"), [(0, 0.3), (0, None), (12, None)])
@pytest.mark.parametrize("part", [0, 1], ids=["training", "judging"])
def test_rows_of_either_part_weigh_one_on_average(part, n_val, fraction):
    split = Split.of(40 - n_val, n_val, fraction, 0)
    rows = split.rows(torch.zeros(40, 1), weights())[part]
    mean = rows.mean(torch.ones(len(rows)))
    assert_close(mean, torch.tensor(1.0))
    ratio = rows.weight / torch.from_numpy(weights()).float()
    assert_close(ratio, ratio[0].expand(40))


def test_weights_are_left_as_they_were():
    weight = weights()
    weight.flags.writeable = False
    Split.of(40, 0, 0.3, 0).rows(torch.zeros(40, 1), weight)
    assert_array_equal(weight, weights())


# --------------------------------------------------------------------------- folds


@pytest.mark.parametrize("n_rows", [10, 33, 400])
def test_folds_are_of_nearly_equal_size_and_hold_each_row_once(n_rows):
    folds = Folds.among(n_rows, 0)
    sizes = np.bincount(folds.fold)
    assert len(sizes) == 3
    assert sizes.max() - sizes.min() <= 1
    assert sorted(folds.training) == sorted(folds.judging) == list(range(n_rows))


@pytest.mark.parametrize("n_rows", [401, 1500])
def test_a_fifth_of_the_rows_judges_where_that_is_many(n_rows):
    folds = Folds.among(n_rows, 0)
    assert sorted(folds.training) == list(range(n_rows))
    assert len(folds.judging) == math.ceil(n_rows / 5)
    assert set(folds.judging) == set(np.flatnonzero(folds.fold == 0))
    rows, judges = folds.rows(torch.zeros(n_rows, 2), None)
    assert rows.n_members == 2
    assert (rows.weight[0][judges.index] == 0).all()
    assert (rows.weight[1] == 1).all()
    weight = np.random.default_rng(0).uniform(0.5, 2, n_rows)
    _, judges = folds.rows(torch.zeros(n_rows, 2), weight)
    assert_close(judges.mean(torch.ones(len(judges))), torch.tensor(1.0))


def test_a_network_gives_no_weight_to_the_rows_that_it_judges():
    folds = Folds.among(23, 1)
    weight = np.random.default_rng(0).uniform(0.5, 2, 23)
    rows, judges = folds.rows(torch.zeros(23, 2), weight)
    assert rows.weight.shape == (4, 23)
    assert rows.n_members == 4
    assert_allclose(rows.weight.mean(dim=1), np.ones(4), rtol=1e-6)
    for member in range(3):
        own = folds.fold == member
        assert (rows.weight[member][own] == 0).all()
        ratio = rows.weight[member][~own].numpy() / weight[~own]
        assert_allclose(ratio, ratio[0], rtol=1e-6)
    assert (rows.weight[3] > 0).all()
    assert_array_equal(judges.member, folds.fold)


def test_a_row_is_judged_by_the_network_of_its_fold():
    folds = Folds.among(20, 0)
    _, judges = folds.rows(torch.arange(20.0)[:, None], None)

    def loss(cells):
        return cells[:, 0] + 100 * torch.arange(4.0)[:, None]

    expected = judges.index + 100 * torch.from_numpy(folds.fold)[judges.index]
    assert_allclose(judges.evaluate(loss), expected)


@pytest.mark.parametrize(
    ("shape", "n_val", "most_folded", "folds"),
    [
        ((300, 10), 0, 1_500, True),
        ((300, 10), 0, 299, False),
        ((300, 10), 5, 1_500, False),
        ((9, 10), 0, 1_500, False),
        ((1_501, 10), 0, 1_500, False),
        ((1_000, 300), 0, 1_500, False),
    ],
)
def test_folds_are_for_small_tables(shape, n_val, most_folded, folds):
    split = choose_split(shape, n_val, 0.1, 0, most_folded=most_folded)
    assert isinstance(split, Folds) == folds
    if not folds and not n_val:
        assert len(split.judging) == max(round(0.1 * shape[0]), 1)
