import copy

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skae.table import _survey
from skae.table._frames import TableReader
from skae.table._survey import Survey, judging


def surveyed(chunks, most_rows=1000, weights=None, survey=None):
    survey = survey or Survey(most_rows, 0)
    for i, chunk in enumerate(chunks):
        frames = TableReader("from_dtype").fit(chunk)
        frames.learn_levels(chunk)
        weight = None if weights is None else weights[i]
        survey = survey.updated(chunk, frames, frames.read(chunk), weight)
    return survey


def mixed(n_rows, seed, levels="abc"):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "number": rng.normal(size=n_rows) + 100,
            "level": rng.choice(list(levels), n_rows),
            "whole": rng.integers(0, 5, n_rows),
        }
    )
    table.loc[table.index[::7], "number"] = np.nan
    return table


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.randoms(use_true_random=False))
def test_what_all_rows_say_hangs_neither_on_chunks_nor_on_their_order(n_chunks, random):
    table = mixed(60, 0, "cab")
    whole = surveyed([table])
    parts = np.array_split(np.arange(60), n_chunks)
    random.shuffle(parts)
    pieces = surveyed([table.iloc[part] for part in parts])
    for name, value in vars(whole.statistics).items():
        np.testing.assert_allclose(
            vars(pieces.statistics)[name][[0, 2]], value[[0, 2]], rtol=1e-12
        )
    assert pieces.frames.levels_[1].tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(pieces.known[1][1], whole.known[1][1])
    order = np.argsort(np.concatenate(parts))
    np.testing.assert_array_equal(
        pieces.rows(pieces.frames)[order], whole.rows(whole.frames)
    )


def test_weights_count_as_copies_and_rows_without_weight_do_not_count():
    table = mixed(30, 1)
    weight = np.random.default_rng(0).integers(0, 3, 30)
    table["level"] = np.where(weight > 0, table["level"], "never")
    weighted = surveyed([table[:10], table[10:]], weights=[weight[:10], weight[10:]])
    repeated = surveyed([table.loc[table.index.repeat(weight)]])
    for name, value in vars(repeated.statistics).items():
        ours = vars(weighted.statistics)[name]
        np.testing.assert_allclose(ours[[0, 2]], value[[0, 2]], rtol=1e-12)
    assert weighted.n_rows == (weight > 0).sum()
    assert "never" not in weighted.frames.levels_[1]
    np.testing.assert_array_equal(weighted.known[1][1], repeated.known[1][1])


def test_kept_rows_are_a_sample_of_all_rows():
    X = np.arange(4000.0)[:, None]
    survey = surveyed(np.array_split(X, 40), most_rows=500)
    rows = survey.rows(survey.frames)[:, 0]
    assert len(rows) == len(np.unique(rows)) == 500
    assert not survey.is_whole
    # Four standard errors of the mean of 500 of 4,000 rows.
    assert abs(rows.mean() - 1999.5) < 4 * 1155 * (1 / 500 - 1 / 4000) ** 0.5
    counts = np.histogram(rows, 8, (0, 4000))[0]
    assert counts.min() > 30
    assert survey.statistics.mean[0] == pytest.approx(1999.5)


def test_a_survey_stays_as_it_was_when_another_learns_more():
    before = surveyed([mixed(20, 0)])
    state = copy.deepcopy(vars(before))
    surveyed([mixed(20, 1, "xyz")], survey=before)
    after = vars(before)
    assert state["_mass"] == after["_mass"]
    np.testing.assert_array_equal(state["_rows"], after["_rows"])
    assert [len(cells) for cells in state["_cells"]] == [
        len(cells) for cells in after["_cells"]
    ]


@pytest.mark.parametrize("library", ["pandas", "categories", "polars", "pyarrow"])
def test_rows_are_written_with_levels_and_holes_that_came_late(library):
    chunks = [mixed(12, 0, "b"), mixed(12, 1, "ca")]
    chunks[1].loc[chunks[1].index[3], "level"] = None
    convert = {
        "pandas": lambda x: x,
        "categories": lambda x: x.astype({"level": "category"}),
        "polars": pl.from_pandas,
        "pyarrow": lambda x: pa.Table.from_pandas(x, preserve_index=False),
    }[library]
    survey = surveyed([convert(chunk) for chunk in chunks])
    written = survey.frames.write(survey.rows(survey.frames))
    as_pandas = {"polars": "to_pandas", "pyarrow": "to_pandas"}
    if library in as_pandas:
        written = getattr(written, as_pandas[library])()
    if library == "categories":
        assert set(written["level"].dtype.categories) == set("abc")
    expected = pd.concat(chunks, ignore_index=True)
    pd.testing.assert_frame_equal(
        written.astype({"level": object, "number": float}),
        expected.astype({"level": object, "number": float}),
        check_dtype=False,
    )
    assert written["whole"].dtype.kind == "i"


def test_whole_numbers_become_floats_where_a_hole_comes_late():
    first = pd.DataFrame({"n": [1, 2, 3]})
    second = pd.DataFrame({"n": [4.0, np.nan]})
    survey = surveyed([first, second])
    written = survey.frames.write(survey.rows(survey.frames))
    pd.testing.assert_frame_equal(
        written, pd.concat([first, second]).reset_index(drop=True)
    )


def test_names_of_rows_are_not_collected_without_end(monkeypatch):
    monkeypatch.setattr(_survey, "MOST_LEVELS", 5)
    names = pd.DataFrame({"name": [f"row {i}" for i in range(12)], "x": range(12)})
    survey = surveyed([names[:4], names[4:8], names[8:]])
    assert len(survey.frames.levels_[0]) == 5
    codes = survey.rows(survey.frames)[:, 0]
    assert sorted(codes) == [-1] * 7 + [0, 1, 2, 3, 4]


def test_text_where_numbers_were_is_refused():
    numbers = pd.DataFrame({"a": [1, 2, 1]}, dtype="category")
    words = pd.DataFrame({"a": ["1", "2", "1"]}, dtype="category")
    with pytest.raises(
        ValueError, match=r"text such as '2'.* expected numbers such as"
    ):
        surveyed([numbers, words])


def test_a_survey_tells_when_the_table_has_changed():
    rng = np.random.default_rng(0)
    known = surveyed([rng.normal(size=(2000, 3))], most_rows=10_000).taken_in()
    few = surveyed([rng.normal(size=(20, 3))], survey=known)
    assert not few.has_changed
    assert surveyed([rng.normal(size=(1001, 3))], survey=known).has_changed
    assert surveyed([rng.normal(size=(20, 3)) * 20], survey=known).has_changed
    assert surveyed([rng.normal(size=(20, 3)) + 20], survey=known).has_changed


def test_a_new_level_changes_the_table_unless_it_is_rare():
    known = surveyed([mixed(400, 0)], most_rows=10_000).taken_in()
    more = mixed(20, 1)
    one = more.assign(level=["new", *more["level"].tolist()[1:]])
    assert not surveyed([one], survey=known).has_changed
    assert surveyed([more.assign(level="new")], survey=known).has_changed


def test_copies_of_a_row_all_judge_or_none_does():
    rows = np.random.default_rng(0).normal(size=(1000, 4))
    rows[5, 2] = np.nan
    chosen = judging(rows)
    assert 60 < chosen.sum() < 140
    np.testing.assert_array_equal(judging(rows[::-1]), chosen[::-1])
