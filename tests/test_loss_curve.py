"""The pictures, by their artists."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from settings import curved_table
from sklearn.exceptions import NotFittedError

from skae import AutoencoderTransformer, LossCurveDisplay, VAETransformer

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


def test_the_epoch_that_was_kept_is_a_point(fitted):
    display = LossCurveDisplay.from_estimator(fitted)
    (epoch,), (loss,) = display.kept_.get_data()
    assert epoch == fitted.best_iter_
    losses = [fitted.start_loss_, *fitted.validation_curve_]
    assert loss == losses[fitted.best_iter_]


def test_a_start_that_was_kept_is_at_epoch_zero():
    start = AutoencoderTransformer(max_iter=0).fit(curved_table())
    display = LossCurveDisplay.from_estimator(start)
    assert display.kept_.get_xdata() == [0]
    assert display.kept_.get_ydata() == [start.start_loss_]
    assert display.kept_.get_label() == "kept: start"


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (AutoencoderTransformer(max_iter=0), "PCA"),
        (AutoencoderTransformer(max_iter=0, noise=0.0), "PCA"),
        (AutoencoderTransformer(max_iter=0, noise=0.1), "linear denoiser"),
        (AutoencoderTransformer(max_iter=0, masking=0.1), "linear denoiser"),
        (AutoencoderTransformer(max_iter=0, linear_path=False), "untrained networks"),
        (VAETransformer(max_iter=0), "probabilistic PCA"),
    ],
)
def test_the_start_is_called_what_it_is(estimator, name):
    display = LossCurveDisplay.from_estimator(estimator.fit(curved_table()))
    assert display.lines_[2].get_label() == f"start: {name}"
