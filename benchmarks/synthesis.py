"""How useful and how lifelike sampled rows are, beside the deep tabular synthesisers.

The tables are the ones users have: numbers, categories and missing cells, as files
NAME.csv or NAME.csv.gz, each with a target named below. Rows without a target are
dropped, classes that are numbers become text, and 30 % of the rows are held out. A
model is fitted on the other rows, the target column included. Per table and model:

- score: gradient boosting learns the target from as many sampled rows as there are
  training rows, and is tested on the held-out real rows; macro-F1 for classes, R² for
  numbers. The higher the better.
- AUC: gradient boosting tells sampled rows from held-out ones, in three folds. 0.5 if
  it cannot, 1 if it always can.
- s: seconds of fitting and sampling.

"real" is no model: it gives the training rows themselves, and a second random part of
them to be told from held-out rows. TVAE and CTGAN have their defaults. They and the
copula cannot take missing cells, so medians stand in for missing numbers, and the text
"missing", which is a missing cell again in their samples, for missing categories. The
copula sees the categories as integers. Peers that are not installed are skipped (they
are `ctgan` and `copulas`). All run on the CPU::

    python benchmarks/synthesis.py --data FOLDER [--models A,B] [--seeds N]
"""

from __future__ import annotations

import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _common import TARGETS, TextTable
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.metrics import f1_score, r2_score
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.preprocessing import OrdinalEncoder

from skae import AutoencoderTransformer, VAETransformer

MAX_CLASSES = 20  # a number with more levels is no class
MAX_LEVELS = 250  # of a category; gradient boosting here takes at most 255
MISSING = "missing"

Model = Callable[[pd.DataFrame, int, int], pd.DataFrame]  # training rows, size, seed


def code_width(n_features: int) -> int:
    return min(16, max(2, n_features // 2))


# --------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Table:
    """A table of mixed columns, one of which is to be predicted."""

    name: str
    rows: pd.DataFrame
    target: str

    @property
    def has_classes(self) -> bool:
        return self.target in categories(self.rows)


def read_tables(folder: Path, names: str | None) -> Iterator[Table]:
    """Yield each table that was asked for."""
    paths = {path.name.split(".")[0]: path for path in sorted(folder.glob("*.csv*"))}
    wanted = names.split(",") if names else list(paths)
    unknown = [name for name in wanted if name not in paths or name not in TARGETS]
    if unknown or not paths:
        raise SystemExit(f"got tables {unknown} in {folder}, but found {list(paths)}")
    for name in wanted:
        yield Table(name, read_rows(paths[name], TARGETS[name]), TARGETS[name])


def read_rows(path: Path, target: str) -> pd.DataFrame:
    """Read the rows that have a target; make it text if it has classes."""
    rows = pd.read_csv(path).dropna(subset=target, ignore_index=True)
    if rows[target].nunique() <= MAX_CLASSES:
        rows[target] = rows[target].astype(str)
    return rows


def categories(rows: pd.DataFrame) -> list[str]:
    """List the columns that are not numbers."""
    return list(rows.select_dtypes(exclude="number").columns)


def filled(rows: pd.DataFrame) -> pd.DataFrame:
    """Put medians into the holes of numbers, and a text into those of categories."""
    numbers = rows.select_dtypes("number").columns
    values = {**rows[numbers].median(), **dict.fromkeys(categories(rows), MISSING)}
    return rows.fillna(values)


def unfilled(rows: pd.DataFrame, texts: list[str]) -> pd.DataFrame:
    """Make holes of the text that stands for them."""
    holes = rows[texts] == MISSING
    return rows.assign(**rows[texts].mask(holes))


# --------------------------------------------------------------------------- models


def real(train: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    """Give the training rows themselves, then a random part of them."""
    return pd.concat([train, train.sample(n_rows - len(train), random_state=seed)])


def autoencoder(train: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    """Take `AutoencoderTransformer` as it comes."""
    width = code_width(train.shape[1])
    model = AutoencoderTransformer(width, random_state=seed, device="cpu")
    return model.fit(train).sample(n_rows, random_state=seed, missing=True)


def vae(train: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    """Take `VAETransformer` as it comes."""
    width = code_width(train.shape[1])
    model = VAETransformer(width, random_state=seed, device="cpu")
    return model.fit(train).sample(n_rows, random_state=seed, missing=True)


def tvae(train: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    """Take the variational autoencoder of `ctgan` as it comes."""
    from ctgan import TVAE

    return deep_peer(TVAE, train, n_rows, seed)


def ctgan(train: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    """Take the adversarial network of `ctgan` as it comes."""
    from ctgan import CTGAN

    return deep_peer(CTGAN, train, n_rows, seed)


def deep_peer(kind: type, train: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    """Fit and sample a model of `ctgan`, which draws from the global generators."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    texts, model = categories(train), kind(enable_gpu=False)
    model.fit(filled(train), discrete_columns=texts)
    return unfilled(model.sample(n_rows), texts)


def copula(train: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    """Fit a Gaussian copula to medians and integer codes, and round what was whole."""
    from copulas.multivariate import GaussianMultivariate

    texts, encoder, numbers = categories(train), OrdinalEncoder(), filled(train)
    numbers[texts] = encoder.fit_transform(numbers[texts]).astype(int)
    model = GaussianMultivariate(random_state=seed)
    with warnings.catch_warnings():  # of distributions tried and given up
        warnings.simplefilter("ignore", RuntimeWarning)
        model.fit(numbers)
        rows = model.sample(n_rows).clip(numbers.min(), numbers.max(), axis=1)
    whole = numbers.select_dtypes("integer").columns
    rows = rows.round(dict.fromkeys(whole, 0)).astype(numbers.dtypes)
    decoded = pd.DataFrame(encoder.inverse_transform(rows[texts]), columns=texts)
    return unfilled(rows.assign(**decoded), texts)


MODELS: dict[str, Model] = {
    "real": real,
    "Gaussian copula": copula,
    "TVAE": tvae,
    "CTGAN": ctgan,
    "skae AE": autoencoder,
    "skae VAE": vae,
}
PACKAGES = {"Gaussian copula": "copulas", "TVAE": "ctgan", "CTGAN": "ctgan"}


def chosen(names: str | None) -> list[str]:
    """List the models that were asked for and can run, and name those that cannot."""
    wanted = names.split(",") if names else list(MODELS)
    unknown = [name for name in wanted if name not in MODELS]
    if unknown:
        raise SystemExit(f"got models {unknown}, but there are {list(MODELS)}")
    absent = [n for n in wanted if n in PACKAGES and find_spec(PACKAGES[n]) is None]
    for name in absent:
        print(f"{name} skipped: {PACKAGES[name]} is not installed")
    return [name for name in wanted if name not in absent]


# -------------------------------------------------------------------------- measures


def measure(model: str, table: Table, seed: int) -> tuple[float, float, float]:
    """Return the score, the AUC and the seconds of a model on a split."""
    train, test = train_test_split(table.rows, test_size=0.3, random_state=seed)
    began = time.perf_counter()
    rows = MODELS[model](train, len(train) + len(test), seed)
    seconds = time.perf_counter() - began
    rows = rows[table.rows.columns]
    first, second = rows[: len(train)], rows[len(train) :]
    return usefulness(first, test, table), detection(second, test, seed), seconds


def usefulness(rows: pd.DataFrame, test: pd.DataFrame, table: Table) -> float:
    """Learn the target from sampled rows, and score it on real ones."""
    X, X_test = alike(rows.drop(columns=table.target), test.drop(columns=table.target))
    y, y_test = rows[table.target], test[table.target]
    if not table.has_classes:
        model = HistGradientBoostingRegressor(random_state=0)
        return r2_score(y_test, model.fit(X, y).predict(X_test))
    model = HistGradientBoostingClassifier(random_state=0)
    if len(y.unique()) == 1:
        model = DummyClassifier()
    return f1_score(y_test, model.fit(X, y).predict(X_test), average="macro")


def detection(rows: pd.DataFrame, test: pd.DataFrame, seed: int) -> float:
    """Tell sampled rows from real ones."""
    X = pd.concat(alike(rows, test), ignore_index=True)
    y = np.repeat([0, 1], [len(rows), len(test)])
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    return cross_val_score(model, X, y, cv=folds, scoring="roc_auc").mean()


def alike(*parts: pd.DataFrame) -> list[pd.DataFrame]:
    """Give tables the same categories, the most frequent ones."""
    whole = pd.concat(parts, keys=range(len(parts)))
    for name in categories(whole):
        levels = whole[name].value_counts().index[:MAX_LEVELS]
        whole[name] = pd.Categorical(whole[name], sorted(levels))
    return [whole.loc[i] for i in range(len(parts))]


# -------------------------------------------------------------------------- printing

COLUMNS = ("score", ".4f"), ("AUC", ".4f"), ("s", ".2f")


def compare(models: list[str], arguments: Namespace) -> np.ndarray:
    """Run all models on all tables and seeds, and print a line for each.

    Returns
    -------
    ndarray of shape (n_models, n_tables, 3)
        Scores, AUCs and seconds, each a mean over the seeds.
    """
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    means = []
    for table in read_tables(arguments.data, arguments.tables):
        kind = "macro-F1" if table.has_classes else "R²"
        n_rows, n_columns = table.rows.shape
        print(f"\n{table.name}: {n_rows} rows, {n_columns} columns, ", end="")
        print(f"score is {kind} of {table.target}")
        lines = TextTable("model", *COLUMNS)
        means.append([])
        for model in models:
            runs = [measure(model, table, seed) for seed in seeds]
            means[-1].append(np.mean(runs, axis=0))
            lines.row(model, *means[-1][-1])
    return np.array(means).swapaxes(0, 1)


def summarise(models: list[str], means: np.ndarray) -> None:
    """Print the means over the tables."""
    print(f"\nmean over {means.shape[1]} tables")
    score, *others = COLUMNS
    lines = TextTable("model", score, ("gap to real", ".4f"), *others)
    scores = dict(zip(models, means[:, :, 0].mean(axis=1), strict=True))
    for model, (_, auc, seconds) in zip(models, means.mean(axis=1), strict=True):
        gap = scores[model] - scores["real"] if "real" in scores else None
        lines.row(model, scores[model], gap, auc, seconds)


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of NAME.csv or NAME.csv.gz"
    )
    parser.add_argument("--tables", help="names of tables, with commas; all if absent")
    parser.add_argument("--models", help="names of models, with commas; all if absent")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    arguments = parser.parse_args()
    models = chosen(arguments.models)
    summarise(models, compare(models, arguments))


if __name__ == "__main__":
    main()
