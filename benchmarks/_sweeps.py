"""Seconds and memory of a fit and of each verb, as a table grows in one direction."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import skae

ASKED = 1_000  # rows that verbs answer
USUAL = {"rows": 5_000, "columns": 20, "levels": 0, "holes": 0.0}
SWEEPS: dict[str, list[float]] = {
    "rows": [1_000, 10_000, 100_000, 1_000_000],
    "columns": [10, 100, 1_000, 5_000],
    "levels": [2, 10, 100, 1_000],  # of a fifth of the columns
    "holes": [0.0, 0.05, 0.2, 0.5],
}
FEWER = {"columns": {"rows": 2_000}}  # of a wide table, which would not fit otherwise
VERBS = ["transform", "inverse_transform", "score_samples", "impute", "sample"]


def grown(rows: int, columns: int, levels: int, holes: float, seed: int) -> Any:
    """Draw rows around a curved surface of three dimensions."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(1).normal(size=(3, columns))
    X = np.tanh(rng.normal(size=(rows, 3)) @ mix) + 0.1 * rng.normal(size=(1, columns))
    X += 0.1 * rng.normal(size=X.shape)
    X[rng.random(X.shape) < holes] = np.nan
    if not levels:
        return X
    table = pd.DataFrame(X, columns=[f"x{i}" for i in range(columns)])
    for name in table.columns[::5]:
        cuts = np.tanh(np.linspace(-2, 2, levels + 1)[1:-1])
        codes = np.digitize(table[name], cuts)
        table[name] = pd.Series(codes).map("level {}".format)
    return table


def measure(name: str, table: dict[str, Any]) -> dict[str, float]:
    """Return seconds of the processor, and the peak of memory in MB after each verb."""
    X, fresh = (
        grown(**table | {"rows": n_rows}, seed=seed)
        for seed, n_rows in enumerate((int(table["rows"]), ASKED))
    )
    model = getattr(skae, name)(3, random_state=0, device="cpu")
    found: dict[str, float] = {}

    def timed(verb: str, asked: Any) -> None:
        began = time.process_time()
        getattr(model, verb)(asked)
        found[verb] = time.process_time() - began
        found[f"{verb}, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

    timed("fit", X)
    asked = {"inverse_transform": model.transform(fresh), "sample": ASKED}
    for verb in VERBS:
        timed(verb, asked.get(verb, fresh))
    return found


def sweep(name: str, direction: str) -> dict[float, dict[str, float]]:
    """Measure tables that differ in one thing, each in a process of its own."""
    found = {}
    for value in SWEEPS[direction]:
        table = USUAL | FEWER.get(direction, {}) | {direction: value}
        command = [sys.executable, "-W", "ignore", __file__, name, json.dumps(table)]
        done = subprocess.run(  # noqa: S603
            command, check=True, capture_output=True, text=True
        )
        found[value] = json.loads(done.stdout)
    return found


def draw(found: dict[str, dict[float, dict[str, float]]], path: Path) -> None:
    """Plot seconds above memory, a column of axes for each direction."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2,
        len(found),
        figsize=(3.2 * len(found), 5.5),
        sharey="row",
        sharex="col",
        squeeze=False,
        layout="constrained",
    )
    for column, (direction, points) in zip(axes.T, found.items(), strict=True):
        for verb in ["fit", *VERBS]:
            seconds = [point[verb] for point in points.values()]
            peaks = [point[f"{verb}, MB"] for point in points.values()]
            column[0].plot(list(points), seconds, "o-", label=verb, markersize=3)
            column[1].plot(list(points), peaks, "o-", markersize=3)
        scale = "linear" if direction == "holes" else "log"
        column[0].set(xscale=scale, yscale="log")
        column[1].set(xlabel=direction, xscale=scale, ylim=(0, None))
    axes[0, 0].set_ylabel(f"seconds (verbs: of {ASKED:,} rows)")
    axes[1, 0].set_ylabel("peak of memory until then, MB")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6
    )
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], json.loads(sys.argv[2]))))
