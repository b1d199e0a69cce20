import copy
import functools
import itertools

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


def surveyed(chunks, most_rows=1000, weights=None, survey=None, seed=0, frames=None):
    survey, known = survey or Survey(most_rows, seed), frames
    for i, chunk in enumerate(chunks):
        frames = copy.copy(known or TableReader("from_dtype").fit(chunk))
        frames.levels_ = {}
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


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    seeds=st.lists(st.integers(0, 3), min_size=60, max_size=60),
    library=st.sampled_from(["object", "category", "polars"]),
)
def test_surveys_merge_to_the_survey_of_all_chunks(cuts, seeds, library):
    table = mixed(60, 0, "cab")
    table["level"] = table["level"].where(np.array(seeds) > 0)
    table["late"] = np.where(np.arange(60) < 40, None, table["level"])
    table["late"] = table["late"].astype(object)
    bounds = sorted({0, 60, *cuts})
    parts = [table.iloc[a:b] for a, b in itertools.pairwise(bounds)]
    if library == "category":
        parts = [part.astype({"level": "category"}) for part in parts]
    if library == "polars":
        dtypes = {"level": pl.String, "late": pl.String}
        parts = [pl.from_pandas(p, schema_overrides=dtypes) for p in parts]
    frames = TableReader(["level", "late"]).fit(parts[0])
    whole = surveyed(parts, frames=frames)
    surveys = [surveyed([part], seed=k, frames=frames) for k, part in enumerate(parts)]
    assert_same_survey(functools.reduce(Survey.merged, surveys), whole)


def assert_same_survey(ours, whole):
    numbers = ~whole.frames.categorical_
    for name, value in vars(whole.statistics).items():
        of_ours = vars(ours.statistics)[name]
        np.testing.assert_allclose(of_ours[numbers], value[numbers], rtol=1e-12)
    assert ours.n_rows == whole.n_rows
    assert ours.has_holes == whole.has_holes
    for feature, levels in whole.frames.levels_.items():
        assert ours.frames.levels_[feature].tolist() == levels.tolist()
        np.testing.assert_array_equal(ours.known[1][feature], whole.known[1][feature])
    assert ours.frames.template_ == whole.frames.template_
    rows, expected = (one.rows(one.frames) for one in (ours, whole))
    np.testing.assert_array_equal(rows, expected)
    one, other = (s.frames.write(expected) for s in (ours, whole))
    assert one.equals(other)
    np.testing.assert_array_equal(
        ours.newest(ours.frames), expected[-len(ours.newest(ours.frames)) :]
    )


def test_merging_leaves_both_surveys_as_they_were():
    one, other = surveyed([mixed(20, 0, "ab")]), surveyed([mixed(20, 1, "xa")], seed=1)
    before = [copy.deepcopy(vars(survey)) for survey in (one, other)]
    one.merged(other)
    for state, survey in zip(before, (one, other), strict=True):
        assert state["_mass"] == survey._mass
        assert state["_cells"] == survey._cells
        np.testing.assert_array_equal(state["_rows"], survey._rows)
        np.testing.assert_array_equal(state["_has_holes"], survey._has_holes)


def test_merged_surveys_learn_on_as_the_one_of_all_chunks():
    parts = [mixed(20, seed, levels) for seed, levels in enumerate(["ab", "xa", "ya"])]
    two = surveyed(parts[:1]).merged(surveyed(parts[1:2], seed=1))
    assert_same_survey(surveyed(parts[2:], survey=two), surveyed(parts))


@pytest.mark.parametrize("n_first", [3600, 2000, 100])
def test_thinned_surveys_merge_to_a_sample_of_all_rows(n_first):
    X = np.arange(4000.0)[:, None]
    parts = [X[:n_first], X[n_first:]]
    thin = [surveyed([p], 500, seed=k).thinned(4000) for k, p in enumerate(parts)]
    assert sum(len(one.rows(one.frames)) for one in thin) <= 501
    merged = thin[0].merged(thin[1])
    rows = merged.rows(merged.frames)[:, 0]
    assert len(rows) == len(np.unique(rows)) == 500
    assert abs((rows < n_first).sum() - n_first / 8) <= 1
    assert abs(rows.mean() - 1999.5) < 4 * 1155 * (1 / 500 - 1 / 4000) ** 0.5
    assert merged.statistics.mean[0] == pytest.approx(1999.5)


def test_a_survey_of_few_rows_is_not_thinned():
    survey = surveyed([np.arange(40.0)[:, None]], 50)
    assert len(survey.thinned(50).rows(survey.frames)) == 40
    assert survey.thinned(50).is_whole
    assert not surveyed([np.arange(40.0)[:, None]], 30).is_whole


def test_names_of_rows_are_not_merged_without_end(monkeypatch):
    monkeypatch.setattr(_survey, "MOST_LEVELS", 5)
    parts = [
        pd.DataFrame({"name": [f"row {i}" for i in some], "x": 1.0})
        for some in (range(3), range(2, 7))
    ]
    merged = surveyed(parts[:1]).merged(surveyed(parts[1:], seed=1))
    assert merged.frames.levels_[0].tolist() == [f"row {i}" for i in range(5)]
    codes = merged.rows(merged.frames)[:, 0]
    assert codes.tolist() == [0, 1, 2, 2, 3, 4, -1, -1]
    assert merged.frames.write(merged.rows(merged.frames)[:6])["name"].tolist() == [
        "row 0", "row 1", "row 2", "row 2", "row 3", "row 4"
    ]  # fmt: skip


def test_text_in_one_survey_and_numbers_in_the_other_are_refused():
    numbers = surveyed([pd.DataFrame({"a": [1, 2, 1]}, dtype="category")])
    words = surveyed([pd.DataFrame({"a": ["1", "2", "1"]}, dtype="category")])
    with pytest.raises(ValueError, match=r"'a' of text .* expected numbers such as"):
        numbers.merged(words)
