"""Fits and answers of twelve settings, held to stored numbers.

`python tests/test_stored.py` writes the numbers anew, for a change that is meant to
move them.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from settings import UsersNetwork, curved_table

from skae import AutoencoderTransformer, VAETransformer

STORED = Path(__file__).with_name("stored.json")
TOLERANCE = 1e-3  # what other processors may round otherwise, after some steps
N_SHOWN = 6  # rows of each answer

SHORT = {
    "max_iter": 4,
    "hidden_layer_sizes": (16, 8),
    "random_state": 0,
    "device": "cpu",
}
OWN = {"encoder": UsersNetwork(), "decoder": UsersNetwork()}
SETTINGS: dict[str, tuple[type, dict[str, Any], str]] = {
    "autoencoder": (AutoencoderTransformer, {"n_components": 3}, "numbers"),
    "autoencoder, sgd": (AutoencoderTransformer, {"solver": "sgd"}, "counted rows"),
    "autoencoder, lbfgs": (
        AutoencoderTransformer,
        {"solver": "lbfgs", "scaling": "quantile", "loss": "huber"},
        "numbers",
    ),
    "autoencoder, levels and holes": (AutoencoderTransformer, {}, "mixed"),
    "autoencoder, own networks": (AutoencoderTransformer, OWN, "holes"),
    "autoencoder, textbook": (
        AutoencoderTransformer,
        {
            "linear_path": False,
            "dropout": 0.2,
            "masking": 0.1,
            "sparsity": 0.1,
            "loss": "binary_cross_entropy",
        },
        "numbers",
    ),
    "vae": (VAETransformer, {"n_components": 3}, "numbers"),
    "vae, sgd": (VAETransformer, {"solver": "sgd", "beta": 2.0}, "weighted rows"),
    "vae, lbfgs": (
        VAETransformer,
        {"solver": "lbfgs", "likelihood": "laplace", "prior": "normal"},
        "numbers",
    ),
    "vae, levels and holes": (VAETransformer, {}, "mixed"),
    "vae, own networks": (VAETransformer, {**OWN, "n_particles": 1}, "holes"),
    "vae, counts": (
        VAETransformer,
        {"likelihood": {4: "negative_binomial", 5: "poisson"}, "free_bits": 0.1},
        "counts",
    ),
}


def table_of(kind: str) -> tuple[Any, np.ndarray | None]:
    """Make a table and weights of its rows."""
    rng = np.random.default_rng(1)
    X = curved_table(200)
    if kind == "counted rows":
        return X, rng.integers(0, 3, size=len(X)).astype(float)
    if kind == "weighted rows":
        return X, rng.uniform(0.5, 2, size=len(X))
    if kind == "holes":
        return np.where(rng.random(X.shape) < 0.1, np.nan, X), None
    if kind == "counts":
        return np.c_[X[:, :4], rng.poisson(np.exp(0.4 * X[:, [0, 4]] % 3))], None
    if kind == "mixed":
        return mixed_table(X, rng), None
    return X, None


def mixed_table(X: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    words = np.array(["low", "middle", "high", "top"], dtype=object)
    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
    frame["word"] = words[np.digitize(X[:, 3], np.quantile(X[:, 3], [0.2, 0.5, 0.9]))]
    frame["yes"] = X[:, 4] > 3
    frame["whole"] = X[:, 0].round().astype(int)
    for column in ("a", "word"):
        frame.loc[rng.random(len(frame)) < 0.1, column] = None
    return frame


def answers_of(name: str) -> dict[str, Any]:
    """Fit, and ask every verb."""
    cls, parameters, kind = SETTINGS[name]
    X, weight = table_of(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = cls(**{**SHORT, **parameters}).fit(X, sample_weight=weight)
    shown = X[:N_SHOWN]
    codes = model.transform(shown)
    answers = {
        "transform": codes,
        "inverse_transform": model.inverse_transform(codes),
        "score": model.score(X),
        "score_samples": model.score_samples(shown),
        "reconstruction_error": model.reconstruction_error(shown),
        "sample": model.sample(N_SHOWN, random_state=0),
        "impute": model.impute(shown),
        "loss_curve_": model.loss_curve_,
        "validation_curve_": model.validation_curve_,
        "explained_variance_ratio_": model.explained_variance_ratio_,
    }
    if kind == "mixed":
        given = {"word": "high"}
        answers["given"] = model.sample(N_SHOWN, random_state=0, given=given)
    if cls is VAETransformer:
        answers["elbo"] = model.elbo(shown)
        answers["posterior"] = np.stack(model.posterior(shown))
        answers["shares"] = list(model.density_shares_.values())
    return {key: plain(value) for key, value in answers.items()}


def plain(answer: Any) -> list[Any]:
    """Write an answer as a flat list of numbers and words."""
    if isinstance(answer, pd.DataFrame):
        answer = answer.astype(object).to_numpy()
    flat = np.ravel(np.asarray(answer)).tolist()
    return [None if pd.isna(x) else x if isinstance(x, str) else float(x) for x in flat]


def split(cells: list[Any]) -> tuple[list[Any], np.ndarray]:
    """Split a flat answer into its words and its numbers."""
    words = [cell if isinstance(cell, str) else "" for cell in cells]
    numbers = [np.nan if isinstance(c, str) or c is None else c for c in cells]
    return words, np.array(numbers, dtype=float)


@pytest.mark.parametrize("name", SETTINGS)
def test_answers_are_the_stored_ones(name):
    stored = json.loads(STORED.read_text())[name]
    answers = answers_of(name)
    assert answers.keys() == stored.keys()
    for key, cells in answers.items():
        words, numbers = split(cells)
        expected_words, expected = split(stored[key])
        assert words == expected_words, key
        typical = np.nanmean(np.abs(expected)) if np.isfinite(expected).any() else 1.0
        np.testing.assert_allclose(
            numbers,
            expected,
            rtol=TOLERANCE,
            atol=TOLERANCE * typical,
            err_msg=f"{name}, {key}",
        )


if __name__ == "__main__":
    STORED.write_text(
        json.dumps({name: answers_of(name) for name in SETTINGS}, indent=1) + "\n"
    )
