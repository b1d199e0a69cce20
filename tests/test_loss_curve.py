"""The pictures, by their artists."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from settings import curved_table
from sklearn.exceptions import NotFittedError

from skae import AutoencoderTransformer, LossCurveDisplay

mpl.use("Agg")


@pytest.fixture
def fitted():
    yield AutoencoderTransformer(max_iter=12, random_state=0).fit(curved_table())
    plt.close("all")


def test_the_lines_are_the_curves(fitted):
    display = LossCurveDisplay.from_estimator(fitted)
    training, validation, start = display.lines_
    np.testing.assert_array_equal(training.get_ydata(), fitted.loss_curve_)
    np.testing.assert_array_equal(validation.get_ydata(), fitted.validation_curve_)
    np.testing.assert_array_equal(training.get_xdata(), np.arange(1, 13))
    assert set(start.get_ydata()) == {fitted.start_loss_}
    assert display.ax_.get_title() == "AutoencoderTransformer"


def test_axes_are_drawn_into_where_they_are_given(fitted):
    figure, ax = plt.subplots()
    display = LossCurveDisplay.from_estimator(fitted, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure


def test_an_unfitted_estimator_has_no_curves():
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(AutoencoderTransformer())
