"""The picture of scores by width, by its artists."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from settings import curved_table
from sklearn.base import clone
from sklearn.model_selection import KFold

from skae import AutoencoderTransformer, VAETransformer, WidthDisplay

mpl.use("Agg")
X = curved_table(150)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_scores_are_those_of_held_out_rows():
    est = AutoencoderTransformer(max_iter=5, random_state=0)
    folds = KFold(2)
    display = WidthDisplay.from_estimator(est, X, n_components=[3, 1], cv=folds)
    assert display.n_components == [1, 3]
    for width, scores, of_pca in zip(
        display.n_components, display.scores, display.pca_scores, strict=True
    ):
        for fold, (train, test) in enumerate(folds.split(X)):
            tried = clone(est).set_params(n_components=width).fit(X[train])
            assert scores[fold] == tried.score(X[test])
            start = tried.set_params(max_iter=0).fit(X[train])
            assert of_pca[fold] == start.score(X[test])
    assert_array_equal(display.frame["model"], display.scores.mean(axis=1))
    errors = display.scores.std(axis=1, ddof=1) / np.sqrt(2)
    assert_allclose(display.frame["model_error"], errors)


def test_pca_stays_pca_whatever_the_network():
    plain = AutoencoderTransformer(
        max_iter=1, linear_path=False, noise=0.5, random_state=0
    )
    display = WidthDisplay.from_estimator(plain, X, n_components=[2], cv=3)
    linear = WidthDisplay.from_estimator(
        AutoencoderTransformer(max_iter=0), X, n_components=[2], cv=3
    )
    assert_allclose(display.pca_scores, linear.scores)


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ([[0.1, 0.2, 0.1], [0.5, 0.6, 0.5], [0.5, 0.59, 0.52]], 2),
        ([[0.1, 0.2, 0.1], [0.5, 0.6, 0.5], [0.6, 0.7, 0.6]], 4),
        ([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]], 1),
        # The difference of folds says more than how much they differ themselves.
        ([[0.0, 0.5, 0.9], [0.1, 0.6, 1.0], [0.1, 0.6, 1.0]], 2),
    ],
)
def test_the_least_width_within_a_standard_error_is_chosen(scores, chosen):
    display = WidthDisplay([1, 2, 4], scores).plot()
    assert display.chosen == chosen
    assert set(display.chosen_line_.get_xdata()) == {chosen}


def test_lines_are_mean_scores():
    est = VAETransformer(max_iter=0)
    display = WidthDisplay.from_estimator(est, X, cv=2)
    assert display.n_components == [1, 2, 4]
    for name, container in display.errorbars_.items():
        assert_array_equal(container.lines[0].get_xdata(), [1, 2, 4])
        assert_array_equal(container.lines[0].get_ydata(), display.frame[name])
    assert set(display.errorbars_) == {"model", "pca"}
    assert display.ax_.get_ylabel() == "held-out log-likelihood (nats)"
    assert display.ax_.get_title() == "VAETransformer"


def test_folds_mix_sorted_rows():
    rows = X[np.argsort(X[:, 0])]
    est = AutoencoderTransformer(max_iter=0)
    mixed = WidthDisplay.from_estimator(est, rows, n_components=[2], cv=3)
    sliced = WidthDisplay.from_estimator(est, rows, n_components=[2], cv=KFold(3))
    assert mixed.scores.mean() > sliced.scores.mean()


def test_axes_are_drawn_into_where_they_are_given():
    figure, ax = plt.subplots()
    display = WidthDisplay([1, 2], [[0.1, 0.2], [0.3, 0.4]]).plot(ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert set(display.errorbars_) == {"model"}


@pytest.mark.parametrize("widths", [[], [0, 2], [0.5], ["auto"]])
def test_widths_are_whole_numbers(widths):
    est = AutoencoderTransformer(max_iter=0)
    with pytest.raises(ValueError, match="but expected widths to try"):
        WidthDisplay.from_estimator(est, X, n_components=widths)
