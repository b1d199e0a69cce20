"""The picture of drawn rows, by its artists."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from settings import curved_table

from skae import SampleDisplay, VAETransformer, compare_tables

mpl.use("Agg")


def table(seed=0):
    frame = pd.DataFrame(curved_table(200, seed), columns=list("abcde"))
    return frame.assign(kind=np.where(frame["a"] > 3.5, "high", "low"))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_margins_are_shares_of_cells():
    real, drawn = table(), table(1)
    drawn.iloc[:50, 0] = np.nan
    display = SampleDisplay.from_tables(real, drawn)
    numbers = zip(display.margins_["a"], (real["a"], drawn["a"].dropna()), strict=True)
    for artist, column in numbers:
        shares, edges, _ = artist.get_data()
        assert_allclose(shares, np.histogram(column, edges)[0] / len(column))
        assert shares.sum() == pytest.approx(1)
    bars = zip(display.margins_["kind"], (real["kind"], drawn["kind"]), strict=True)
    for artist, column in bars:
        shares = column.value_counts(normalize=True)[real["kind"].value_counts().index]
        assert_allclose([bar.get_width() for bar in artist], shares)


def test_the_farthest_margins_and_all_correlations_are_shown():
    real, drawn = table(), table(1)
    drawn["c"] += 1000
    display = SampleDisplay.from_tables(real, drawn, n_columns=3)
    comparison = compare_tables(real, drawn)
    distances = comparison.columns["distance"].astype(float)
    assert next(iter(display.margins_)) == "c"
    assert set(display.margins_) == set(distances.nlargest(3).index)
    assert len(display.axes_) == 3
    assert_array_equal(display.image_.get_array(), comparison.correlations)
    auc = f"{comparison.auc.mean():.2f}"
    assert auc in display.correlation_ax_.get_title()


def test_rows_are_drawn_from_an_estimator():
    X = table()
    vae = VAETransformer(2, max_iter=3, random_state=0).fit(X)
    display = SampleDisplay.from_estimator(vae, X, n_samples=90, random_state=4)
    expected = vae.sample(90, random_state=4, missing=True)
    pd.testing.assert_frame_equal(
        display.drawn, expected, check_dtype=False, check_column_type=False
    )
    assert display.correlation_ax_.get_title().startswith("VAETransformer")


def test_axes_are_filled_where_they_are_given():
    figure, axes = plt.subplots(1, 2)
    display = SampleDisplay.from_tables(table(), table(1), ax=axes[0])
    assert display.ax_ is axes[0]
    assert display.figure_ is figure
    assert not axes[0].axison
    assert axes[1].axison
    assert all(ax.get_position().x1 < 0.55 for ax in display.axes_)
