"""The map of codes, by its artists."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from settings import curved_table
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, LatentDisplay, VAETransformer

mpl.use("Agg")
X = curved_table()


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted():
    return AutoencoderTransformer(3, max_iter=10, random_state=0).fit(X)


@pytest.fixture(scope="module")
def vae():
    return VAETransformer(2, max_iter=5, random_state=0).fit(X)


def test_points_are_codes(fitted):
    display = LatentDisplay.from_estimator(fitted, X, components=(2, 0))
    assert_array_equal(display.points_[0].get_offsets(), fitted.transform(X)[:, [2, 0]])
    assert display.ax_.get_xlabel() == "component 2"
    assert display.ax_.get_ylabel() == "component 0"
    assert display.figure_ is display.ax_.figure


def test_numbers_colour_points_and_have_a_bar(fitted):
    y = pd.Series(X[:, 1], name="the second column")
    y[3] = np.nan
    display = LatentDisplay.from_estimator(fitted, X, y)
    colours = display.points_[0].get_array()
    assert_array_equal(np.ma.filled(colours, np.nan), y)
    assert display.figure_.axes[-1].get_ylabel() == "the second column"
    assert display.ax_.get_legend() is None


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (np.repeat(["b", "a"], 150), ["a", "b"]),
        (np.repeat([True, False], 150), ["False", "True"]),
        (np.tile([0, 10, 2], 100), ["0", "2", "10"]),
        (np.tile([0.0, np.nan, 2.0], 100), ["0", "2", "(missing)"]),
        (pd.Series(["a", None, "b"] * 100), ["a", "b", "(missing)"]),
        (pd.Series(["x", "y"] * 150, dtype="category"), ["x", "y"]),
        (np.repeat([["b"], ["a"]], 150, axis=0), ["a", "b"]),
    ],
)
def test_classes_have_a_legend(fitted, y, names):
    display = LatentDisplay.from_estimator(fitted, X, y)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == names
    offsets = np.concatenate([p.get_offsets() for p in display.points_])
    assert_array_equal(
        np.sort(offsets, axis=0), np.sort(fitted.transform(X)[:, :2], axis=0)
    )
    first = pd.Series(np.ravel(y)).astype(str).isin([names[0], f"{names[0]}.0"])
    assert_array_equal(display.points_[0].get_offsets(), fitted.transform(X)[first, :2])


def test_rare_classes_are_grey_together(fitted):
    y = np.array([f"class {k**2 % 40}" for k in range(len(X))])
    y = np.where(np.arange(len(X)) < 40, [f"rare {k}" for k in range(len(X))], y)
    display = LatentDisplay.from_estimator(fitted, X, y)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels[-1] == "(others)"
    assert len(labels) <= 19
    colours = {tuple(p.get_facecolor()[0]) for p in display.points_}
    assert len(colours) == len(labels)


def test_pca_is_beside_the_map(fitted):
    display = LatentDisplay.from_estimator(fitted, X, pca=True)
    assert [ax.get_title() for ax in display.axes_] == ["AutoencoderTransformer", "PCA"]
    codes = PCA(2).fit_transform(StandardScaler().fit_transform(X))
    drawn = display.points_[1].get_offsets()
    signs = np.sign((codes * drawn).sum(axis=0))
    assert_allclose(drawn, codes * signs, atol=1e-6)


def test_pca_of_a_plain_noisy_network_is_pca_as_well():
    plain = AutoencoderTransformer(
        2, max_iter=2, linear_path=False, noise=0.5, random_state=0
    )
    plain.set_output(transform="pandas").fit(X)
    display = LatentDisplay.from_estimator(plain, X, pca=True)
    start = AutoencoderTransformer(2, max_iter=0).fit_transform(X)
    assert_allclose(display.points_[1].get_offsets(), start)


def test_ellipses_are_two_deviations_of_the_posterior(vae):
    display = LatentDisplay.from_estimator(vae, X, ellipses=True)
    mean, deviation = vae.posterior(X)
    assert_array_equal(display.ellipses_.get_offsets(), mean)
    assert_allclose(display.ellipses_.get_widths(), 4 * deviation[:, 0])
    assert_allclose(display.ellipses_.get_heights(), 4 * deviation[:, 1])
    assert display.ax_.get_xlim()[1] >= (mean + 2 * deviation)[:, 0].max()


def test_a_walk_is_straight_and_decoded(vae):
    display = LatentDisplay.from_estimator(vae, X, walk=(3, 8), n_steps=5)
    codes = vae.transform(X)
    assert_allclose(
        np.transpose(display.ax_.lines[0].get_data()),
        np.linspace(codes[3], codes[8], 5),
    )
    ends = vae.inverse_transform(codes[[3, 8]])
    assert_allclose(display.walk.iloc[[0, -1]], ends)
    assert display.walk.shape == (5, 5)


def test_axes_are_drawn_into_where_they_are_given(fitted):
    figure, axes = plt.subplots(1, 2)
    display = LatentDisplay.from_estimator(fitted, X, pca=True, ax=axes)
    assert display.axes_ == list(axes)
    assert display.figure_ is figure
    with pytest.raises(ValueError, match="got ax with 1 axes, but expected 2"):
        display.plot(ax=axes[0])


def test_what_is_not_there_is_refused(fitted):
    with pytest.raises(ValueError, match=r"got components=\(0, 3\)"):
        LatentDisplay.from_estimator(fitted, X, components=(0, 3))
    with pytest.raises(ValueError, match="got ellipses=True for Autoencoder"):
        LatentDisplay.from_estimator(fitted, X, ellipses=True)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LatentDisplay.from_estimator(fitted, X, np.arange(5))
    with pytest.raises(NotFittedError):
        LatentDisplay.from_estimator(AutoencoderTransformer(), X)
