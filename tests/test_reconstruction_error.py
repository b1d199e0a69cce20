"""The pictures of odd rows, by their artists."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from settings import curved_table

from skae import (
    AutoencoderTransformer,
    ReconstructionErrorDisplay,
    VAETransformer,
)

mpl.use("Agg")
NAMES = ["u", "v", "square", "product", "wave", "kind"]


def table():
    frame = pd.DataFrame(curved_table(), columns=NAMES[:5])
    return frame.assign(kind=np.where(frame["u"] > 3, "high", "low"))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted():
    return VAETransformer(2, max_iter=5, random_state=0).fit(table())


def texts(labels):
    return [label.get_text() for label in labels]


def names_of(display):
    return [text.split(" = ")[0] for text in texts(display.ax_.get_yticklabels())]


def test_the_heat_map_is_the_scores_of_cells(fitted):
    X = table()
    display = ReconstructionErrorDisplay.from_estimator(fitted, X, rows=[4, 2, 9])
    scores = fitted.score_cells(X.iloc[[4, 2, 9]])
    columns = texts(display.ax_.get_xticklabels())
    assert_array_equal(display.image_.get_array(), scores[columns])
    assert (np.diff(scores[columns].min()) >= 0).all()
    assert texts(display.ax_.get_yticklabels()) == ["4", "2", "9"]
    assert display.cells_ is None


def test_the_oddest_rows_are_taken_unless_some_are_named(fitted):
    X = table()
    display = ReconstructionErrorDisplay.from_estimator(
        fitted, X, n_rows=3, n_columns=2, n_importance_samples=20
    )
    odd = np.argsort(fitted.score_samples(X))[:3]
    assert list(display.scores.index) == list(odd)
    assert display.image_.get_array().shape == (3, 2)


def test_a_row_lies_in_the_band_of_the_table(fitted):
    X = table()
    X.loc[5, "wave"] = 40.0
    display = ReconstructionErrorDisplay.from_estimator(
        fitted, X, rows=5, quantiles=(0.1, 0.9)
    )
    scores, expected = fitted.score_cells(X.iloc[[5]], return_expected=True)
    worst = scores.iloc[0].sort_values().index
    assert names_of(display) == list(worst)
    assert worst[0] == "wave"
    low, median, high = (X.iloc[:, :5].quantile(q) for q in (0.1, 0.5, 0.9))
    half = (high - low) / 2
    numbers = [name for name in worst if name != "kind"]
    places = [names_of(display).index(name) for name in numbers]
    for line, row in (
        (display.cells_, X.loc[5, numbers].astype(float)),
        (display.expected_, expected.iloc[0][numbers].astype(float)),
    ):
        distances = (row - median[numbers]) / half[numbers]
        assert_allclose(np.asarray(line.get_xdata())[places], distances)
    bars = [display.band_[k] for k in places]
    assert_allclose([bar.get_width() for bar in bars], 2)
    assert_allclose([bar.get_x() for bar in bars], ((low - median) / half)[numbers])


def test_what_is_missing_and_what_is_expected_are_told(fitted):
    X = table()
    X.loc[5, "u"] = np.nan
    X["kind"] = X["kind"].astype(object)
    X.loc[6, "kind"] = None
    for row, name in ((5, "u"), (6, "kind")):
        display = ReconstructionErrorDisplay.from_estimator(fitted, X, rows=row)
        _, expected = fitted.score_cells(X.iloc[[row]], return_expected=True)
        (right,) = (ax for ax in display.figure_.axes if ax is not display.ax_)
        place = names_of(display).index(name)
        label = texts(right.get_yticklabels())[place]
        value = expected.iloc[0][name]
        value = value if isinstance(value, str) else f"{value:.4g}"
        assert label == f"missing (expected {value})"
        # What is known comes first.
        assert place == 5


@pytest.mark.parametrize("make", [np.asarray, pl.DataFrame])
def test_tables_come_in_any_container(make):
    X = make(curved_table())
    fitted = AutoencoderTransformer(2, max_iter=3, random_state=0).fit(X)
    one = ReconstructionErrorDisplay.from_estimator(fitted, X, rows=0)
    assert len(one.cells_.get_xdata()) == 5
    many = ReconstructionErrorDisplay.from_estimator(fitted, X, rows=[3, 1])
    scores = np.asarray(fitted.score_cells(X[[3, 1]]))
    assert_array_equal(many.scores, scores)
    assert many.scores.index.tolist() == [3, 1]


def test_axes_are_drawn_into_where_they_are_given(fitted):
    figure, ax = plt.subplots()
    display = ReconstructionErrorDisplay.from_estimator(fitted, table(), rows=3, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure


def test_a_band_without_a_middle_is_refused(fitted):
    with pytest.raises(ValueError, match=r"got quantiles=\(0.6, 0.9\), but expected"):
        ReconstructionErrorDisplay.from_estimator(
            fitted, table(), rows=3, quantiles=(0.6, 0.9)
        )
