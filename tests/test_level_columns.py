"""Columns of levels as standardised indicators, and chances of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mixtures import WIDTHS, combinations, level_columns
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from skae._schema import KINDS, Block
from skae.model import _level_columns
from skae.model._level_columns import ROWS_OF_TABLE, LevelColumns, draw_index

SOME_WIDTHS = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def chances_of(levels, n_rows=1, seed=0):
    """Draw chances of each level that add up to one in each column."""
    rng = np.random.default_rng(seed)
    each = [rng.dirichlet(np.ones(max(m, 2)), n_rows)[:, -m:] for m in levels.widths]
    return np.concatenate(each, axis=1)


def raw_of(levels, Z):
    return Z * levels.scale + levels.centre


@given(widths=SOME_WIDTHS)
def test_spans_are_the_columns_side_by_side(widths):
    levels = level_columns(widths)
    spans = [np.arange(levels.width)[span] for span in levels.spans]
    assert [len(span) for span in spans] == list(widths)
    assert_array_equal(np.concatenate(spans), np.arange(sum(widths)))
    expected = [max(width, 2) for width in widths for _ in range(width)]
    assert levels.n_levels.tolist() == expected


def test_indicators_are_standardised_and_back():
    levels = level_columns()
    every = combinations(levels)
    indicators = levels.indicators(every)
    assert_allclose(indicators, indicators.round(), atol=1e-12)
    assert_allclose(levels.standardised(indicators), every)
    assert_array_equal(levels.indicators(np.full((1, 6), 1e9)), 1)
    assert_array_equal(levels.indicators(np.full((1, 6), -1e9)), 0)


@given(widths=SOME_WIDTHS, seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_chances_of_all_combinations_add_up_to_one(widths, seed):
    levels = LevelColumns(widths, np.zeros(sum(widths)), np.ones(sum(widths)))
    every = combinations(levels)
    chances = chances_of(levels, 3, seed)
    found = levels.log_chances(every, np.ones(every.shape, dtype=bool), chances)
    assert_allclose(np.exp(found).sum(axis=0), 1)


def test_unseen_levels_add_nothing():
    levels = level_columns()
    every = combinations(levels)
    chances = chances_of(levels, 2)
    nothing = levels.log_chances(every, np.zeros(every.shape, dtype=bool), chances)
    assert_array_equal(nothing, 0)
    each = []
    for span in levels.spans:
        seen = np.zeros(every.shape, dtype=bool)
        seen[:, span] = True
        each.append(levels.log_chances(every, seen, chances))
    whole = levels.log_chances(every, np.ones(every.shape, dtype=bool), chances)
    assert_allclose(np.sum(each, axis=0), whole)


def test_chances_of_cells_are_those_of_each_column_alone():
    levels = level_columns()
    every, chances = combinations(levels), chances_of(level_columns(), 2)
    seen = np.ones(every.shape, dtype=bool)
    seen[::2, levels.spans[1]] = False
    found = levels.log_chances_of_cells(every, seen, chances)
    for column, span in enumerate(levels.spans):
        alone = np.zeros(every.shape, dtype=bool)
        alone[:, span] = seen[:, span]
        expected = levels.log_chances(every, alone, chances)
        assert_allclose(found[:, :, column], expected.T, atol=1e-12)
    none = LevelColumns()
    nothing = np.zeros((4, 0))
    found = none.log_chances_of_cells(nothing, nothing > 0, np.zeros((3, 0)))
    assert found.shape == (3, 4, 0)


def test_the_log_chance_is_linear_between_levels():
    levels = level_columns((1, 3))
    every, seen = combinations(levels), np.ones((6, 4), dtype=bool)
    chances = chances_of(levels, 2)
    one, other = every[:1], every[-1:]
    found = levels.log_chances(0.3 * one + 0.7 * other, seen[:1], chances)
    ends = (levels.log_chances(row, seen[:1], chances) for row in (one, other))
    assert_allclose(found, np.dot([0.3, 0.7], np.concatenate([*ends]))[None])


def test_normalised_chances_are_positive_and_add_up_to_one():
    levels = level_columns()
    Z = 3 * np.random.default_rng(0).normal(size=(50, levels.width))
    chances = levels.normalised(Z)
    assert (chances > 0).all()
    assert (chances < 1).all()
    for span, width in zip(levels.spans, levels.widths, strict=True):
        if width > 1:
            assert_allclose(chances[:, span].sum(axis=1), 1)
    fair = chances_of(levels, 5)
    assert_allclose(levels.normalised(levels.standardised(fair)), fair, atol=1e-5)


def test_moments_are_those_of_the_draws():
    levels = level_columns()
    chances = chances_of(levels)
    mean, variance = levels.moments(chances)
    tiled = np.broadcast_to(chances, (20_000, levels.width))
    rows = levels.draw(tiled, np.random.default_rng(0))
    raw = raw_of(levels, rows)
    assert_allclose(raw, raw.round(), atol=1e-12)
    assert_allclose(raw.mean(axis=0), chances[0], atol=0.02)
    assert_allclose(rows.mean(axis=0), mean[0], atol=0.06)
    assert_allclose(rows.var(axis=0), variance[0], rtol=0.05)
    for width, span in zip(WIDTHS, levels.spans, strict=True):
        assert width == 1 or (raw[:, span].round().sum(axis=1) == 1).all()


def test_an_index_is_drawn_by_chances_that_need_not_add_up_to_one():
    uniform = np.linspace(0, 1, 10_001)[:, None]
    chances = np.broadcast_to([1.0, 0.0, 3.0], (len(uniform), 3))
    found = np.bincount(draw_index(chances, uniform), minlength=3) / len(uniform)
    assert_allclose(found, [0.25, 0, 0.75], atol=1e-3)


@pytest.mark.parametrize("kinds", [("categorical",), ("binary", "categorical")])
def test_the_columns_of_levels_among_blocks_are_found(kinds):
    widths = {"binary": (1, 1), "categorical": (3, 2)}
    blocks = [Block(KINDS["gaussian"], (1, 1))]
    for kind in kinds:
        count = sum(widths[kind])
        centre, scale = np.full(count, 0.2), np.full(count, 0.5)
        blocks.append(Block(KINDS[kind], widths[kind], centre, scale))
    found = _level_columns.level_columns(blocks)
    assert found.widths == sum((widths[kind] for kind in kinds), ())
    assert len(found.centre) == len(found.scale) == found.width


def test_numbers_alone_have_no_levels():
    found = _level_columns.level_columns([Block(KINDS["gaussian"], (1, 1))])
    assert found.width == 0
    assert found.spans == []
    empty = np.empty((4, 0))
    assert_array_equal(found.log_chances(empty, empty > 0, np.empty((2, 0))), 0)


# ------------------------------------------------------------------ empirical Bayes


def shrunk(counts, two_levels=False):
    """Chances in parts by counts of shape (n_parts, n_levels)."""
    counts = np.asarray(counts, dtype=float)
    frequencies = (counts.sum(axis=0) + 0.5) / (counts.sum() + counts.shape[1] / 2)
    present = np.tile(counts.sum(axis=1, keepdims=True), counts.shape[1])
    columns = slice(1, 2) if two_levels else slice(None)
    levels = LevelColumns((1 if two_levels else counts.shape[1],))
    arguments = counts[:, columns], present[:, columns], frequencies[columns]
    return levels.shrunk(*arguments), frequencies[columns]


@given(counts=arrays(int, (4, 3), elements=st.integers(0, 60)))
@example(counts=np.eye(4, 3, dtype=int))  # any prior is as likely as any other
def test_shrinkage_is_that_of_the_likeliest_dirichlet(counts):
    found, frequencies = shrunk(counts)
    likelihoods = np.array(
        [
            stats.dirichlet_multinomial.logpmf(
                counts, c * frequencies, counts.sum(1)
            ).sum()
            for c in ROWS_OF_TABLE
        ]
    )
    pseudo = ROWS_OF_TABLE[np.isclose(likelihoods, likelihoods.max(), 1e-9, 1e-9)][-1]
    expected = counts + pseudo * frequencies
    expected /= counts.sum(axis=1, keepdims=True) + pseudo
    assert_allclose(found, expected)
    assert_allclose(found.sum(axis=1), 1)


@given(counts=arrays(int, (3, 2), elements=st.integers(0, 60)))
def test_one_indicator_of_two_levels_says_the_same_as_two(counts):
    one, two = shrunk(counts, two_levels=True)[0], shrunk(counts)[0]
    assert_allclose(one[:, 0], two[:, 1])


def test_parts_with_levels_of_their_own_keep_them():
    found, _ = shrunk(100 * np.eye(3))
    assert (found.diagonal() > 0.999).all()


def test_parts_that_are_alike_have_the_frequencies_of_the_table():
    found, frequencies = shrunk([[10, 20, 30], [11, 20, 29], [9, 21, 30]])
    assert_allclose(found, np.tile(frequencies, (3, 1)), atol=2e-3)
