"""How well codes serve the model after them, beside PCA of the one-hot table.

The target of each table is predicted from codes of all its other columns, standardised:
by logistic or ridge regression, by 15 nearest neighbours and by
`HistGradientBoosting*`. AUC (one against the rest) or R² on the 30 % of rows held out,
the mean of the splits. The code never sees the target::

    python benchmarks/features.py --data FOLDER [--tables A,B] [--splits 5]

Every NAME.npz of FOLDER/numeric with an array y, every table of FOLDER/mixed, and five
that scikit-learn bundles; of long ones, 3,000 rows drawn at random. PCA sees the usual
`ColumnTransformer`: numbers with their median in holes and standardised, levels
one-hot. So do the textbook autoencoder (100 epochs), UMAP (two components; needs
umap-learn) and the next models without any reduction ("raw"). "free" is the
autoencoder with `legibility=0`. A cell is one table, one width and one next model.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _common import TARGETS, TextTable, train_textbook
from sklearn.base import TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import AutoencoderTransformer, VAETransformer

BUNDLED = {
    "breast_cancer": load_breast_cancer,
    "diabetes": load_diabetes,
    "digits": load_digits,
    "iris": load_iris,
    "wine": load_wine,
}
MOST_ROWS = 3_000
MOST_CLASSES = 30  # a target of more values is a number
TOLERANCE = 0.01  # of AUC or R², within which codes are as good as PCA's
NEXT_MODELS = ("linear", "neighbours", "trees")


@dataclass(frozen=True)
class Task:
    """Rows to learn from, rows to be scored on, their targets, width, seed."""

    train: pd.DataFrame
    test: pd.DataFrame
    y_train: np.ndarray
    y_test: np.ndarray
    seed: int


Codes = tuple[np.ndarray, np.ndarray]  # of the training rows and of the others
Reduction = Callable[[Task, int], Codes]


# --------------------------------------------------------------------------- tables


def labelled_tables(folder: Path) -> Iterator[tuple[str, pd.DataFrame, np.ndarray]]:
    """Yield the name, the columns and the target of each table."""
    for name, load in BUNDLED.items():
        bunch = load(as_frame=True)
        yield name, bunch.data.astype(np.float64), bunch.target.to_numpy()
    for path in sorted((folder / "mixed").glob("*.csv*")):
        name = path.name.split(".")[0]
        table = pd.read_csv(path).dropna(subset=[TARGETS[name]])
        y = table.pop(TARGETS[name]).to_numpy()
        numbers = table.select_dtypes("number").columns
        yield name, table.astype(dict.fromkeys(numbers, np.float64)), y
    for path in sorted((folder / "numeric").glob("*.npz")):
        with np.load(path) as arrays:
            if "y" in arrays:
                X = pd.DataFrame(arrays["X"].astype(np.float64))
                yield path.stem, X.rename(columns=str), arrays["y"]


def is_classes(y: np.ndarray) -> bool:
    return y.dtype.kind not in "iuf" or len(np.unique(y)) <= MOST_CLASSES


def tasks_of(table: pd.DataFrame, y: np.ndarray, n_splits: int) -> Iterator[Task]:
    """Hold out 30 % of the rows, as many times as asked."""
    classes = is_classes(y)
    if classes:
        counts = pd.Series(y).map(pd.Series(y).value_counts())
        kept = np.flatnonzero(counts > 9)
        table, y = table.iloc[kept], np.unique(y[kept], return_inverse=True)[1]
    chosen = np.random.default_rng(0).permutation(len(y))[:MOST_ROWS]
    table, y = table.iloc[chosen].reset_index(drop=True), y[chosen]
    for seed in range(n_splits):
        rows = np.arange(len(y))
        strata = y if classes else None
        train, test = train_test_split(
            rows, test_size=0.3, random_state=seed, stratify=strata
        )
        yield Task(table.iloc[train], table.iloc[test], y[train], y[test], seed)


# ----------------------------------------------------------------------- reductions


def one_hot() -> ColumnTransformer:
    """Make the preparation that users of PCA write."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    levels = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    is_number = make_column_selector(dtype_include="number")
    others = make_column_selector(dtype_exclude="number")
    return ColumnTransformer([("n", numbers, is_number), ("l", levels, others)])


def prepared(task: Task) -> Codes:
    encoder = one_hot().fit(task.train)
    return encoder.transform(task.train), encoder.transform(task.test)


def by(model: TransformerMixin, train: Any, test: Any) -> Codes:
    return model.fit(train).transform(train), model.transform(test)


def pca(task: Task, k: int) -> Codes:
    train, test = prepared(task)
    k = min(k, *train.shape)
    return by(PCA(k, random_state=task.seed), train, test)


def raw(task: Task, k: int) -> Codes:
    return prepared(task)


def textbook(task: Task, k: int) -> Codes:
    train, test = prepared(task)
    network = train_textbook(train, k, batch_size=256, n_epochs=100, seed=task.seed)
    with torch.no_grad():
        codes = [
            network[0](torch.tensor(X, dtype=torch.float32)) for X in (train, test)
        ]
    return codes[0].numpy(), codes[1].numpy()


def umap(task: Task, k: int) -> Codes:
    from umap import UMAP

    return by(UMAP(n_components=k, random_state=task.seed), *prepared(task))


def autoencoder(task: Task, k: int, **options: Any) -> Codes:
    """Take `AutoencoderTransformer` as it comes."""
    model = AutoencoderTransformer(k, random_state=task.seed, device="cpu", **options)
    return by(model, task.train, task.test)


def vae(task: Task, k: int) -> Codes:
    """Take `VAETransformer` as it comes."""
    model = VAETransformer(k, random_state=task.seed, device="cpu")
    return by(model, task.train, task.test)


REDUCTIONS: dict[str, Reduction] = {
    "PCA": pca,
    "raw": raw,
    "textbook": textbook,
    "UMAP": umap,
    "autoencoder": autoencoder,
    "free": partial(autoencoder, legibility=0),
    "VAE": vae,
}


# ------------------------------------------------------------------- the next models


def scores(task: Task, codes: Codes) -> tuple[float, ...]:
    """Return how well each of `NEXT_MODELS` predicts from codes."""
    scaler = StandardScaler().fit(codes[0])
    train, test = (scaler.transform(part).astype(np.float64) for part in codes)
    if not is_classes(task.y_train):
        models = Ridge(), KNeighborsRegressor(15), HistGradientBoostingRegressor()
        fitted = [model.fit(train, task.y_train) for model in models]
        return tuple(r2_score(task.y_test, model.predict(test)) for model in fitted)
    models = (
        LogisticRegression(max_iter=1000),
        KNeighborsClassifier(15),
        HistGradientBoostingClassifier(),
    )
    return tuple(
        auc(task.y_test, model.fit(train, task.y_train).predict_proba(test))
        for model in models
    )


def auc(y: np.ndarray, chances: np.ndarray) -> float:
    if chances.shape[1] == 2:
        return float(roc_auc_score(y, chances[:, 1]))
    return float(roc_auc_score(y, chances, multi_class="ovr"))


# -------------------------------------------------------------------------- the table


def measure(
    folder: Path,
    names: list[str] | None,
    widths: list[int],
    reductions: dict[str, Reduction],
    n_splits: int,
) -> pd.DataFrame:
    """Return a row per table, width, reduction and next model, printed on the way."""
    heads = [(f"{m[:6]} {n[:6]}", ".3f") for n in reductions for m in NEXT_MODELS]
    text = TextTable("table", "code", *heads)
    cells = []
    for name, table, y in labelled_tables(folder):
        if names and name not in names:
            continue
        tasks = list(tasks_of(table, y, n_splits))
        for k in widths:
            line: list[float] = []
            for reduction, reduce in reductions.items():
                began = time.perf_counter()
                codes = [reduce(task, k) for task in tasks]
                seconds = (time.perf_counter() - began) / len(tasks)
                pairs = zip(tasks, codes, strict=True)
                means = np.mean([scores(*pair) for pair in pairs], axis=0)
                line += means.tolist()
                for model, score in zip(NEXT_MODELS, means, strict=True):
                    cells.append((name, k, reduction, model, score, seconds))
            text.row(name, k, *line)
    columns = ["table", "k", "reduction", "model", "score", "seconds"]
    return pd.DataFrame(cells, columns=columns)


def summarise(cells: pd.DataFrame) -> None:
    """Print means, gaps to PCA and how many cells are as good as PCA's."""
    index = ["table", "k", "model"]
    wide = cells.pivot_table("score", index, "reduction", sort=False)
    gaps = wide.sub(wide["PCA"], axis=0)
    seconds = cells.groupby("reduction")["seconds"].mean()
    print(f"\nas good as PCA: not more than {TOLERANCE} below")
    heads = [(f"{m} {k}", "+.3f") for k in cells.k.unique() for m in NEXT_MODELS]
    text = TextTable("gap to PCA", *heads, ("as good", ".0%"), ("s", ".2f"))
    for name in wide.columns:
        means = [
            gaps[name].xs((k, m), level=("k", "model")).mean()
            for k in cells.k.unique()
            for m in NEXT_MODELS
        ]
        text.row(name, *means, (gaps[name] >= -TOLERANCE).mean(), seconds[name])


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tables")
    parser.add_argument("--tables", help="names of tables, with commas; all if absent")
    parser.add_argument("--widths", default="2,4,8,16", help="of the code")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--reductions", default="autoencoder,VAE", help="beside PCA")
    arguments = parser.parse_args()
    names = arguments.tables.split(",") if arguments.tables else None
    widths = [int(k) for k in arguments.widths.split(",")]
    wanted = dict.fromkeys(["PCA", *arguments.reductions.split(",")])
    chosen = {name: REDUCTIONS[name] for name in wanted}
    summarise(measure(arguments.data, names, widths, chosen, arguments.splits))


if __name__ == "__main__":
    main()
