"""An autoencoder in the place of PCA, on the handwritten digits of scikit-learn.

A pipeline scales 64 pixels, reduces them to a code and classifies the code by its
nearest neighbours. A grid search chooses the width of the code, once with PCA and once
with an autoencoder. The held-out scores go to the screen and the maps of the
two-dimensional codes to `quickstart.png`, beside this file. It takes a minute::

    python examples/quickstart.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import AutoencoderTransformer, LossCurveDisplay

WIDTHS = [2, 4]
PICTURE = Path(__file__).with_name("quickstart.png")


def search(reduce: PCA | AutoencoderTransformer) -> GridSearchCV:
    """Make a pipeline around a reduction and search over the width of its code."""
    pipeline = Pipeline(
        [
            ("scale", MinMaxScaler()),
            ("reduce", reduce),
            ("classify", KNeighborsClassifier()),
        ]
    )
    return GridSearchCV(pipeline, {"reduce__n_components": WIDTHS}, cv=3)


def explained(pipeline: Pipeline, X: np.ndarray) -> float:
    """Return the R² of held-out pixels, decoded from their codes."""
    scaled = pipeline["scale"].transform(X)
    codes = pipeline["reduce"].transform(scaled)
    error = scaled - pipeline["reduce"].inverse_transform(codes)
    return 1 - np.square(error).sum() / np.square(scaled - scaled.mean(axis=0)).sum()


def draw_map(ax: Axes, codes: np.ndarray, digits: np.ndarray, title: str) -> None:
    """Write each held-out digit where its code lies."""
    colours = plt.colormaps["tab10"].colors
    for digit in range(10):
        chosen = codes[digits == digit]
        ax.scatter(*chosen.T, s=6, color=colours[digit], alpha=0.5)
        ax.text(*np.median(chosen, axis=0), str(digit), weight="bold", size=13)
    ax.set(title=title, xlabel="code 0", ylabel="code 1")


def main() -> None:
    X, digits = load_digits(return_X_y=True)
    train, test, train_digits, test_digits = train_test_split(
        X, digits, stratify=digits, random_state=0
    )
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
    print("held-out digits        width of the code   R²      accuracy")
    reductions = {
        "PCA": PCA(),
        "autoencoder": AutoencoderTransformer(scaling=None, random_state=0),
    }
    for ax, (name, reduction) in zip(axes, reductions.items(), strict=False):
        searched = search(reduction).fit(train, train_digits)
        for width in WIDTHS:
            pipeline = searched.estimator.set_params(reduce__n_components=width)
            pipeline.fit(train, train_digits)
            r2, accuracy = explained(pipeline, test), pipeline.score(test, test_digits)
            print(f"{name:22} {width:17}   {r2:.3f}   {accuracy:.3f}", flush=True)
            if width == 2:
                codes = pipeline[:-1].transform(test)
                draw_map(ax, codes, test_digits, f"{name}: accuracy {accuracy:.2f}")
        best = searched.best_params_["reduce__n_components"]
        print(f"{name:22} the search chose {best}, {searched.best_score_:.3f} in folds")
    LossCurveDisplay.from_estimator(searched.best_estimator_["reduce"], ax=axes[2])
    figure.savefig(PICTURE, dpi=100)
    print(f"the maps are in {PICTURE}")


if __name__ == "__main__":
    main()
