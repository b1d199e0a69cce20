"""The picture of components, by its artists."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from settings import curved_table

from skae import AutoencoderTransformer, ComponentsDisplay, component_effects

mpl.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_heat_map_is_the_effects():
    X = curved_table()
    fitted = AutoencoderTransformer(2, max_iter=10, random_state=0).fit(X)
    display = ComponentsDisplay.from_estimator(fitted, X)
    effects = component_effects(fitted, X, standardize=True)
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert_array_equal(display.image_.get_array(), effects[names].T)
    largest = effects[names].abs().max().to_numpy()
    assert (np.diff(largest) <= 0).all()
    low, high = display.image_.get_clim()
    assert (low, high) == (-largest[0], largest[0])
    shares = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert shares[0] == f"0\n{fitted.explained_variance_ratio_[0]:.0%}"


def test_one_component_has_bars():
    X = curved_table()
    fitted = AutoencoderTransformer(1, max_iter=0).fit(X)
    display = ComponentsDisplay.from_estimator(fitted, X, n_columns=3)
    effects = component_effects(fitted, X, standardize=True).iloc[0]
    largest = effects[effects.abs().sort_values(ascending=False).index[:3]]
    assert_allclose([bar.get_width() for bar in display.bars_], largest)
    assert display.image_ is None


def test_axes_are_drawn_into_where_they_are_given():
    X = curved_table()
    _, ax = plt.subplots()
    fitted = AutoencoderTransformer(2, max_iter=0).fit(X)
    display = ComponentsDisplay(component_effects(fitted, X)).plot(ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1"]
