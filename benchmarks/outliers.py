"""How well rows of other classes stand out, beside scikit-learn's outlier detectors.

A class of a labelled table is taken to be normal. A model is fitted on 70 % of its
rows, and scores the other 30 % and as many rows, drawn at random, of the other classes
(all of them if there are fewer). Per table and model: the area under the ROC curve of
telling normal rows from the others, 0.5 by chance and 1 at best, and the seconds of
fitting and scoring, both the mean over the classes taken in turn and over the seeds.
These are the three most frequent classes, of those with at least 100 rows.

The tables are three of scikit-learn, and with `--data` those of the folder that have an
array y of at most 30 classes, one of them so large. Of breast_cancer the benign rows
are normal, and of wine, whose classes are small, the most frequent one.

Columns are standardised by the training rows, unless they are constant there. PCA
scores by minus its squared error, and as probabilistic PCA. The code has a third of the
columns, at least 1 and at most 10. All run on the CPU::

    python benchmarks/outliers.py [--data FOLDER] [--tables A,B] [--seeds N]
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from _common import (
    Split,
    TextTable,
    centre_and_scale,
    code_width,
    run,
    table_arguments,
)
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor

from skae import AutoencoderTransformer, VAETransformer

BUILT_IN = {
    "breast_cancer": load_breast_cancer,
    "digits": load_digits,
    "wine": load_wine,
}
NORMAL = {"breast_cancer": [1], "wine": [1]}
FEWEST_ROWS = 100  # of a class taken to be normal
MOST_NORMAL = 3  # classes of a table
MOST_CLASSES = 30  # of labels; more are numbers

Model = Callable[[Split], np.ndarray]  # scores test rows; higher is more normal


# --------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Table:
    """A labelled table, and its classes that are taken to be normal in turn."""

    name: str
    X: np.ndarray
    y: np.ndarray
    normal: list[int]


@dataclass(frozen=True)
class LabelledSplit(Split):
    """Rows to learn from, all normal, and labelled rows to be scored."""

    is_normal: np.ndarray


def read_tables(folder: Path | None, names: str | None) -> list[Table]:
    """Read the tables that were asked for, and name those without classes."""
    paths = sorted(folder.glob("*.npz")) if folder else []
    readers = {name: partial(read_built_in, name) for name in BUILT_IN}
    readers |= {path.stem: partial(read_file, path) for path in paths}
    wanted = names.split(",") if names else list(readers)
    unknown = [name for name in wanted if name not in readers]
    if unknown:
        raise SystemExit(f"got tables {unknown}, but found {list(readers)}")
    tables = [readers[name]() for name in wanted]
    skipped = [table.name for table in tables if not table.normal]
    if skipped:
        print(f"skipped, without a class of {FEWEST_ROWS} rows: {', '.join(skipped)}\n")
    return [table for table in tables if table.normal]


def read_built_in(name: str) -> Table:
    X, y = BUILT_IN[name](return_X_y=True)
    return Table(name, X, y, NORMAL.get(name) or frequent(y))


def read_file(path: Path) -> Table:
    with np.load(path) as arrays:
        X = arrays["X"].astype(np.float64)
        y = arrays["y"] if "y" in arrays else np.arange(len(X))
    return Table(path.stem, X, y, frequent(y))


def frequent(y: np.ndarray) -> list[int]:
    """List the most frequent classes; none if the labels are numbers."""
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) > MOST_CLASSES:
        return []
    order = np.argsort(-counts, kind="stable")[:MOST_NORMAL]
    return [classes[i] for i in order if counts[i] >= FEWEST_ROWS]


def splits(table: Table, arguments: Namespace) -> Iterator[LabelledSplit]:
    """Yield a split for each seed and each class that is taken to be normal."""
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        for label in table.normal:
            yield hold_out(table.X, table.y == label, seed)


def hold_out(X: np.ndarray, is_normal: np.ndarray, seed: int) -> LabelledSplit:
    """Hold out 30 % of the normal rows, and draw as many of the others."""
    train, normal = train_test_split(X[is_normal], test_size=0.3, random_state=seed)
    others = np.random.default_rng(seed).permutation(X[~is_normal])[: len(normal)]
    centre, scale = centre_and_scale(train)
    test = (np.concatenate([normal, others]) - centre) / scale
    labels = np.repeat([True, False], [len(normal), len(others)])
    width = code_width(X.shape[1])
    return LabelledSplit((train - centre) / scale, test, width, seed, labels)


# --------------------------------------------------------------------------- models


def forest(split: Split) -> np.ndarray:
    """Fit the isolation forest."""
    model = IsolationForest(random_state=split.seed)
    return model.fit(split.train).score_samples(split.test)


def neighbours(split: Split) -> np.ndarray:
    """Compare the density of a row with that of its neighbours."""
    model = LocalOutlierFactor(novelty=True)
    return model.fit(split.train).score_samples(split.test)


def pca_error(split: Split) -> np.ndarray:
    """Reconstruct from principal components."""
    model = PCA(split.n_components, random_state=split.seed).fit(split.train)
    reconstructed = model.inverse_transform(model.transform(split.test))
    return -np.square(split.test - reconstructed).mean(axis=1)


def pca_likelihood(split: Split) -> np.ndarray:
    """Fit probabilistic PCA."""
    model = PCA(split.n_components, random_state=split.seed)
    return model.fit(split.train).score_samples(split.test)


def autoencoder(split: Split) -> np.ndarray:
    """Take `AutoencoderTransformer` as it comes: minus its squared error."""
    model = AutoencoderTransformer(
        split.n_components, random_state=split.seed, device="cpu"
    )
    return model.fit(split.train).score_samples(split.test)


def vae(split: Split) -> np.ndarray:
    """Take `VAETransformer` as it comes: its log-likelihood."""
    model = VAETransformer(split.n_components, random_state=split.seed, device="cpu")
    return model.fit(split.train).score_samples(split.test)


MODELS: dict[str, Model] = {
    "forest": forest,
    "LOF": neighbours,
    "PCA": pca_error,
    "pPCA": pca_likelihood,
    "skae AE": autoencoder,
    "skae VAE": vae,
}


def area(model: Model, split: LabelledSplit) -> float:
    """Return the area under the curve of a model's scores."""
    return float(roc_auc_score(split.is_normal, model(split)))


def main() -> None:
    arguments = table_arguments(__doc__, needs_data=False).parse_args()
    tables = read_tables(arguments.data, arguments.tables)
    models = {name: partial(area, model) for name, model in MODELS.items()}
    columns = [column for name in models for column in ((name, ".3f"), ("s", ".2f"))]
    lines = TextTable("table", "rows", "columns", "code", "normal", *columns)
    means = []
    for table in tables:
        runs = [run(models, split) for split in splits(table, arguments)]
        means.append(np.mean(runs, axis=0).ravel())
        shape = *table.X.shape, code_width(table.X.shape[1]), len(table.normal)
        lines.row(table.name, *shape, *means[-1])
    if means:
        lines.row("mean", None, None, None, None, *np.mean(means, axis=0))


if __name__ == "__main__":
    main()
