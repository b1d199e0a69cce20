"""Names, frames and counts that all pictures share."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from matplotlib.text import Text

from skae import (
    AutoencoderTransformer,
    ComponentsDisplay,
    LatentDisplay,
    LossCurveDisplay,
    ReconstructionErrorDisplay,
    SampleDisplay,
    WidthDisplay,
)
from skae.inspection._pictures import (
    as_pandas,
    check_columns,
    column_names_of,
    holds_numbers,
    linear_start,
    make_axes,
    shortened,
)

mpl.use("Agg")


def test_short_names_stay_and_long_ones_lose_their_middle():
    names = ["age", "the first of two long names", "x" * 24, 7]
    short = shortened(names, 24)
    assert short[0] == "age"
    assert short[1].startswith("the first of")
    assert short[1].endswith("long names")
    assert short[2:] == ["x" * 24, "7"]


@pytest.mark.parametrize(
    "pattern",
    [
        "a_very_long_name_of_a_column_{}",
        "{}_a_very_long_name_of_a_column",
        "a long beginning before {} and a long end after it",
    ],
)
def test_names_that_differ_still_do(pattern):
    short = shortened([pattern.format(k) for k in range(200)], 20)
    assert len(set(short)) == 200
    assert max(map(len, short)) <= 20


def test_a_name_is_no_formula():
    assert shortened(["price in $"]) == [r"price in \$"]


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_frames_of_any_library_are_frames_of_pandas(library):
    columns = {"size": [1.5, None, 3.0], "kind": ["a", "b", None]}
    frame = as_pandas(library(columns))
    assert list(frame) == ["size", "kind"]
    assert [holds_numbers(frame[name]) for name in frame] == [True, False]
    assert frame.isna().to_numpy().tolist() == [[0, 0], [1, 0], [0, 1]]


def test_columns_of_arrays_have_names():
    frame = as_pandas(np.array([[1, "a"], [2.5, "b"]], dtype=object))
    assert list(frame) == ["x0", "x1"]
    assert holds_numbers(frame["x0"])
    assert not holds_numbers(frame["x1"])


def test_booleans_are_levels():
    assert not holds_numbers(pd.Series([True, False]))
    assert not holds_numbers(pd.Series([True, None], dtype="boolean"))


@pytest.mark.parametrize(("asked", "shown"), [(None, 7), (3, 3), (9, 7)])
def test_as_many_columns_are_shown_as_there_are(asked, shown):
    assert check_columns(asked, 7) == shown


def test_less_than_one_column_is_refused():
    with pytest.raises(ValueError, match="got n_columns=0, but expected"):
        check_columns(0, 7)


def test_axes_that_are_given_are_kept():
    given = object()
    assert make_axes(given) is given


def test_the_linear_start_has_no_noise_to_undo():
    est = AutoencoderTransformer(3, noise=0.5, masking=0.2, linear_path=False)
    start = linear_start(est)
    assert (start.noise, start.masking, start.linear_path) == ("auto", 0.0, True)
    assert (start.n_components, start.max_iter) == (3, 0)
    assert est.noise == 0.5


def test_columns_without_names_are_numbered():
    X = np.random.default_rng(0).normal(size=(20, 3))
    fitted = AutoencoderTransformer(1, max_iter=0).fit(X)
    assert column_names_of(fitted).tolist() == ["x0", "x1", "x2"]
    fitted.fit(pd.DataFrame(X, columns=list("abc")))
    assert column_names_of(fitted).tolist() == ["a", "b", "c"]


@cache
def fitted(n_columns):
    """Fit a table of long names and many levels, at the start."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(90, n_columns - 2)) * 10.0 ** (
        np.arange(n_columns - 2) % 8
    )
    names = [f"a_long_name_of_a_measurement_{j:03d}" for j in range(n_columns - 2)]
    levels = np.array(["a level of a long name", "another such level", "b"])
    X = pd.DataFrame(numbers, columns=names).assign(
        **{"a column of levels with $ in its name": levels[np.arange(90) % 3]},
        truth=np.arange(90) % 2 == 0,
    )
    X.iloc[4, 1] = 1e9
    return AutoencoderTransformer(3, max_iter=0).fit(X), X


PICTURES = {
    "classes": lambda est, X: LatentDisplay.from_estimator(
        est, X, [f"a class of a long name, {k % 30}" for k in range(90)], pca=True
    ),
    "numbers": lambda est, X: LatentDisplay.from_estimator(est, X, X.iloc[:, 2]),
    "components": ComponentsDisplay.from_estimator,
    "odd row": lambda est, X: ReconstructionErrorDisplay.from_estimator(
        est, X, rows=4, n_importance_samples=1
    ),
    "usual row": lambda est, X: ReconstructionErrorDisplay.from_estimator(
        est, X, rows=5, n_importance_samples=1
    ),
    "odd rows": lambda est, X: ReconstructionErrorDisplay.from_estimator(
        est, X, n_importance_samples=1
    ),
    "samples": SampleDisplay.from_estimator,
    "losses": lambda est, _: LossCurveDisplay.from_estimator(est),
    "widths": lambda est, X: WidthDisplay.from_estimator(
        est, X, n_components=[1, 2, 4, 8, 9], cv=2
    ),
}


def drawn_texts(figure, monkeypatch):
    """Return the texts that a figure draws, with their corners."""
    texts, draw = [], Text.draw

    def record(text, renderer):
        texts.append(text)
        draw(text, renderer)

    monkeypatch.setattr(Text, "draw", record)
    figure.canvas.draw()
    return {text: text.get_window_extent() for text in texts if text.get_text()}


@pytest.mark.parametrize("n_columns", [10, 200])
@pytest.mark.parametrize("name", list(PICTURES))
def test_no_text_is_cut_or_covers_another(name, n_columns, monkeypatch):
    figure = PICTURES[name](*fitted(n_columns)).figure_
    boxes = drawn_texts(figure, monkeypatch)
    width, height = figure.bbox.size
    plt.close("all")
    upright = [(t, box) for t, box in boxes.items() if t.get_rotation() in (0, 90)]
    assert len(upright) > 4
    cut = [
        text.get_text()
        for text, box in boxes.items()
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]
    covered = [
        (one.get_text(), other.get_text())
        for (one, a), (other, b) in combinations(upright, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1
        and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]
    assert cut == []
    assert covered == []
