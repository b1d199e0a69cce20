"""How much a grid search gains from a second process, or from two workers of Dask.

The same search over a pipeline runs with `n_jobs=1` on one thread and with `n_jobs=2`,
whose workers have a thread each. A ratio near one half means that nothing is lost to
oversubscribed cores::

    python benchmarks/search.py [--dask]
"""

from __future__ import annotations

from argparse import ArgumentParser

import joblib
import numpy as np
import torch
from _common import TextTable, seconds_of
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

N_ROWS, N_COLUMNS, N_FOLDS = 4000, 20, 3
GRID = {
    "autoencodertransformer__n_components": [2, 4, 6, 8],
    "autoencodertransformer__dropout": [0.0, 0.1],
}


def curved_rows() -> np.ndarray:
    """Draw columns that are smooth functions of four hidden ones."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(N_ROWS, 4))
    columns = np.sin(hidden @ rng.normal(size=(4, N_COLUMNS)))
    return columns + 0.1 * rng.normal(size=columns.shape)


def search(X: np.ndarray, n_jobs: int) -> None:
    model = AutoencoderTransformer(random_state=0, early_stopping=False, device="cpu")
    pipeline = make_pipeline(StandardScaler(), model)
    GridSearchCV(pipeline, GRID, cv=N_FOLDS, n_jobs=n_jobs, refit=False).fit(X)


def seconds_on_workers(X: np.ndarray) -> float:
    """Search on two workers of a thread each, which have started already."""
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        client.run(lambda: bool(__import__("skae")))
        with joblib.parallel_config(backend="dask"):
            return seconds_of(lambda: search(X, -1))


def main() -> None:
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dask", action="store_true")
    on_dask = parser.parse_args().dask
    X = curved_rows()
    torch.set_num_threads(1)
    table = TextTable("search", ("s", ".1f"))
    one = seconds_of(lambda: search(X, 1))
    table.row("n_jobs=1, one thread", one)
    two = seconds_of(lambda: search(X, 2))
    table.row("n_jobs=2", two)
    ratios = f"{two / one:.2f}"
    if on_dask:
        three = seconds_on_workers(X)
        table.row("two workers of Dask", three)
        ratios += f", Dask {three / one:.2f}"
    print(f"\nratio: {ratios}")


if __name__ == "__main__":
    main()
