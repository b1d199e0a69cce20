"""What must not grow: costs of a fit and of its answers, each beside its bound.

A line is a function that returns a figure, with the bound that it must not exceed::

    python benchmarks/growth.py [--lines threads,budget]

Seconds are of the process, on one thread where nothing else is said. Or seconds and
peaks of memory of a fit and of each verb, against rows, columns, levels and holes::

    python benchmarks/growth.py --sweeps rows,columns,levels,holes
        [--of AutoencoderTransformer] [--picture growth.png]
"""

from __future__ import annotations

import time
import tracemalloc
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _common import TextTable, split_rows, train_textbook
from _sweeps import SWEEPS, VERBS, draw, sweep
from reconstruction import code_width, r_squared
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderTransformer, VAETransformer
from skae.model._holes import principal_components_of_seen
from skae.model._pca import principal_components
from skae.network._likelihoods import Categorical

Line = tuple[str, Callable[[], float], float]  # what, figure, bound


def cpu_seconds(function: Callable[[], Any]) -> float:
    """Return the seconds that the process computes, on all its threads."""
    began = time.process_time()
    function()
    return time.process_time() - began


def curved(n_rows: int, n_columns: int, seed: int = 0) -> np.ndarray:
    """Draw rows around a curved surface of two dimensions."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n_rows, 2))
    waves = np.sin(
        latent @ rng.normal(size=(2, n_columns)) + rng.normal(size=n_columns)
    )
    return waves + 0.1 * rng.normal(size=waves.shape)


def autoencoder(**options: Any) -> AutoencoderTransformer:
    return AutoencoderTransformer(2, random_state=0, device="cpu", **options)


# -------------------------------------------------------------------------- training


def threads() -> float:
    """CPU seconds of a fit with four threads at hand, over those with one."""
    X, seconds = curved(1_500, 7), {}
    usual = torch.get_num_threads()
    for n_threads in (1, 4):
        torch.set_num_threads(n_threads)
        seconds[n_threads] = cpu_seconds(lambda: autoencoder().fit(X))
    torch.set_num_threads(usual)
    return seconds[4] / seconds[1]


def share_beside_steps(cls: type) -> float:
    """Seconds of a fit that takes no step, over those of one that does."""
    X = curved(1_500, 7)
    times = [
        cpu_seconds(lambda n=n: cls(2, random_state=0, device="cpu", max_iter=n).fit(X))
        for n in (0, "auto")
    ]
    return times[0] / times[1]


def folds() -> float:
    """Seconds of steps judged by a fold, over those judged by a tenth of the rows."""
    X = curved(1_000, 20)
    steps = {"max_iter": 38, "batch_size": 128, "early_stopping": False}
    auto, tenth = (
        cpu_seconds(lambda f=f: autoencoder(validation_fraction=f, **steps).fit(X))
        for f in ("auto", 0.1)
    )
    return auto / tenth


def time_to_quality() -> float:
    """Seconds of default fits over those of the textbook loop.

    Four tables of one to four thousand training rows. With a few hundred rows the
    hundred epochs of the loop are few steps: it takes 0.1 to 0.4 seconds there, and a
    default fit, whose folds judge, 0.6.
    """
    ours = textbook = 0.0
    tables = load_digits().data, *[curved(5_000, width) for width in (10, 20, 50)]
    _textbook(split_rows(curved(300, 5), 2, 0, 0.0))  # what it imports is not measured
    for X in tables:
        split = split_rows(X, code_width(X.shape[1]), 0, 0.0)
        textbook += cpu_seconds(lambda s=split: _textbook(s))
        ours += cpu_seconds(lambda s=split: _default(s).fit(s.train))
    return ours / textbook


def lost_in_a_third() -> float:
    """Share of the textbook loop's R² that a third of its time does not reach.

    The mean over scikit-learn's tables; the number of epochs is what fits in.
    """
    lost = []
    for load in (load_digits, load_breast_cancer):
        split = split_rows(load().data, code_width(load().data.shape[1]), 0, 0.0)
        began = time.process_time()
        network = _textbook(split)
        third = (time.process_time() - began) / 3
        rows = torch.from_numpy(split.test.astype(np.float32))
        with torch.no_grad():
            goal = r_squared(split.test, network(rows).numpy())
        lost.append(max(1 - _best_within(third, split) / goal, 0.0))
    return float(np.mean(lost))


def _textbook(split: Any) -> Any:
    options = {"batch_size": 256, "n_epochs": 100, "seed": split.seed}
    return train_textbook(split.train, split.n_components, **options)


def _default(split: Any, **options: Any) -> AutoencoderTransformer:
    width = split.n_components
    return AutoencoderTransformer(width, random_state=0, device="cpu", **options)


def _best_within(seconds: float, split: Any) -> float:
    """Return the best held-out R² of fits that take no longer."""
    best = 0.0
    for n_epochs in (0, 2, 5, 10, 20, 40):
        model = _default(split, max_iter=n_epochs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            if cpu_seconds(lambda m=model: m.fit(split.train)) > seconds:
                break
        rows = model.inverse_transform(model.transform(split.test))
        best = max(best, r_squared(split.test, rows))
    return best


def silent_budgets() -> float:
    """Fits of a long table that end too early and do not say so, of one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        autoencoder(max_iter=3).fit(curved(12_000, 20))
    return float(not any("max_iter" in str(warning.message) for warning in caught))


# ---------------------------------------------------------------------- wide tables


def around_factors(n_rows: int, n_columns: int) -> np.ndarray:
    """Draw rows around a plane of six dimensions."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(n_rows, 6)) @ rng.normal(size=(6, n_columns))
    return plane + 0.5 * rng.normal(size=plane.shape)


def wide_start() -> float:
    """Seconds of the linear start of a wide table, over those of PCA, best of three."""
    X = around_factors(1_010, 4_500)
    starts = (lambda: principal_components(X, 10), lambda: PCA(10).fit(X))
    ours, theirs = (min(cpu_seconds(start) for _ in range(3)) for start in starts)
    return ours / theirs


def wide_beside_steps() -> float:
    """Seconds of a fit of a wide table that takes no step."""
    X = around_factors(1_010, 4_500)
    return cpu_seconds(lambda: autoencoder(max_iter=0).fit(X))


def margins() -> float:
    """Seconds of learning a wide table of numbers and levels, without its networks."""
    rng = np.random.default_rng(0)
    X = np.c_[rng.normal(size=(120, 1_500)), rng.integers(0, 3, size=(120, 1_500))]
    levels = list(range(1_500, 3_000))
    fit = autoencoder(max_iter=0, categorical_features=levels).fit
    return cpu_seconds(lambda: fit(X))


def with_holes(X: np.ndarray, share: float) -> np.ndarray:
    return np.where(np.random.default_rng(1).random(X.shape) < share, np.nan, X)


@cache
def wide(cls: type) -> Any:
    """Fit 1,000 rows of 600 columns with holes, and learn the margins of draws."""
    model = cls(6, random_state=0, device="cpu", max_iter=3)
    model.fit(with_holes(around_factors(1_000, 600), 0.2)).sample(1)
    return model


def wide_given() -> float:
    """Megabytes of arrays, beyond the rows, that drawing around given cells takes."""
    model = wide(AutoencoderTransformer)
    tracemalloc.start()
    rows = model.sample(1_000, random_state=0, given={0: 0.3, 7: -0.5})
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (most - rows.nbytes) / 1e6


def wide_imputed(cls: type) -> float:
    """Seconds of imputing 50 rows of a wide table."""
    rows = with_holes(around_factors(1_000, 600), 0.2)[:50]
    model = wide(cls)
    return cpu_seconds(lambda: model.impute(rows))


def wide_cells(cls: type) -> float:
    """Seconds that the cells of a row of a wide table take to score."""
    rows = with_holes(around_factors(1_000, 600), 0.2)[:5]
    model = wide(cls)
    return cpu_seconds(lambda: model.score_cells(rows)) / len(rows)


def holed_fit(n_rows: int, n_columns: int) -> float:
    """Seconds of a fit with holes that takes a step or two, its density included."""
    X = with_holes(around_factors(n_rows, n_columns), 0.1)
    return cpu_seconds(lambda: autoencoder(max_iter=1).fit(X))


def holes(share: float, width: int) -> float:
    """Seconds of the linear start of 20,000 rows with holes."""
    X = around_factors(20_000, 48)
    seen = np.random.default_rng(1).random(X.shape) > share
    return cpu_seconds(lambda: principal_components_of_seen(X, seen, width))


def level_columns() -> float:
    """Seconds of a step for four times as many columns of levels, over four."""
    seconds = {}
    for n_columns in (300, 1_200):
        centre = torch.zeros(5 * n_columns)
        likelihood = Categorical((5,) * n_columns, centre, centre + 1)
        rows = torch.randn(256, 5 * n_columns)
        output = torch.randn(256, 5 * n_columns, requires_grad=True)
        loss = likelihood.per_cell
        step = partial(
            _steps, lambda o=output, x=rows, f=loss: f(o, x).sum().backward()
        )
        step()
        seconds[n_columns] = cpu_seconds(step)
    return seconds[1_200] / (4 * seconds[300])


def _steps(step: Callable[[], Any]) -> None:
    for _ in range(20):
        step()


def unique_names() -> float:
    """Seconds of `inverse_transform` of 20,000 rows, each with a name of its own."""
    X = pd.DataFrame(curved(20_000, 4)).rename(columns=str)
    X["name"] = [f"row {i}" for i in range(len(X))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names tell nothing
        fitted = autoencoder(max_iter=1).fit(X)
    codes = fitted.transform(X)
    return cpu_seconds(lambda: fitted.inverse_transform(codes))


LINES: list[Line] = [
    ("threads", threads, 1.3),
    ("beside steps, AE", lambda: share_beside_steps(AutoencoderTransformer), 0.15),
    ("beside steps, VAE", lambda: share_beside_steps(VAETransformer), 0.15),
    ("folds", folds, 2.0),
    ("time to quality", time_to_quality, 0.7),
    ("lost in a third", lost_in_a_third, 0.01),
    ("silent budgets", silent_budgets, 0.0),
    ("unique names", unique_names, 0.1),
    ("wide start", wide_start, 2.0),
    ("wide, beside steps", wide_beside_steps, 5.0),
    ("wide given MB", wide_given, 200.0),
    ("wide imputed AE", lambda: wide_imputed(AutoencoderTransformer), 5.0),
    ("wide imputed VAE", lambda: wide_imputed(VAETransformer), 5.0),
    ("wide cells per row AE", lambda: wide_cells(AutoencoderTransformer), 0.3),
    ("wide cells per row VAE", lambda: wide_cells(VAETransformer), 0.3),
    ("margins", margins, 5.0),
    ("holes, 10 %", lambda: holes(0.1, 8), 3.0),
    ("holes, 30 %", lambda: holes(0.3, 24), 3.0),
    ("holes in a long fit", lambda: holed_fit(20_000, 48), 10.0),
    ("holes in a wide fit", lambda: holed_fit(1_000, 600), 10.0),
    ("level columns", level_columns, 2.0),
]


def sweeps(directions: list[str], name: str, picture: Path | None) -> None:
    """Print what each direction costs, and draw it where a picture is asked for."""
    found = {}
    for direction in directions:
        columns = [(verb, ".2f") for verb in ["fit", *VERBS]]
        table = TextTable(direction, *columns, ("peak MB", ".0f"))
        found[direction] = sweep(name, direction)
        for value, costs in found[direction].items():
            peak = max(cost for verb, cost in costs.items() if verb.endswith("MB"))
            table.row(f"{value:,}", *(costs[verb] for verb, _ in columns), peak)
    if picture:
        draw(found, picture)


def main() -> None:
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [name for name, _, _ in LINES]
    parser.add_argument("--lines", help=f"with commas, of {', '.join(names)}")
    parser.add_argument("--sweeps", help=f"with commas, of {', '.join(SWEEPS)}")
    parser.add_argument("--of", default="AutoencoderTransformer")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    if arguments.sweeps:
        sweeps(arguments.sweeps.split(","), arguments.of, arguments.picture)
        return
    wanted = arguments.lines
    table = TextTable("line", ("figure", ".3f"), ("bound", ".3f"))
    autoencoder(max_iter=1).fit(curved(100, 5))  # what is imported late is not measured
    for name, figure, bound in LINES:
        if wanted is None or name in wanted.split(","):
            table.row(name, figure(), bound)


if __name__ == "__main__":
    main()
