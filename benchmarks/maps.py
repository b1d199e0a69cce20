"""How true a map of two components is, beside PCA's and UMAP's.

Labelled tables, standardised; 30 % of the rows held out, of which each model makes the
codes. Trustworthiness: whether neighbours on the map are neighbours in the table;
continuity: the reverse (both by ranks among 15 neighbours, at most 1). Accuracy: of 15
neighbours on the map, trained on the codes of the other rows::

    python benchmarks/maps.py --data FOLDER [--tables A,B] [--pictures PLACE]

FOLDER is that of `features.py`; "near" is the autoencoder with `neighborhood=3`, "free"
with `legibility=0`. UMAP needs umap-learn, and is left out where it is absent.
"""

from __future__ import annotations

import importlib.util
from argparse import ArgumentParser
from functools import partial
from pathlib import Path

import numpy as np
from _common import TextTable
from features import (
    Codes,
    Reduction,
    Task,
    autoencoder,
    labelled_tables,
    pca,
    prepared,
    tasks_of,
    umap,
    vae,
)
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier

TABLES = "digits,mfeat_fourier,mfeat_pixel,penguins,segmentation,texture"
N_NEIGHBOURS = 15

MODELS: dict[str, Reduction] = {
    "PCA": pca,
    "UMAP": umap,
    "skae": autoencoder,
    "near": partial(autoencoder, neighborhood=3),
    "free": partial(autoencoder, legibility=0),
    "VAE": vae,
}


def figures(task: Task, codes: Codes) -> tuple[float, float, float]:
    """Return trustworthiness, continuity and accuracy on the held-out rows."""
    train, test = codes
    _, rows = prepared(task)
    classify = KNeighborsClassifier(N_NEIGHBOURS).fit(train, task.y_train)
    return (
        trustworthiness(rows, test, n_neighbors=N_NEIGHBOURS),
        trustworthiness(test, rows, n_neighbors=N_NEIGHBOURS),
        classify.score(test, task.y_test),
    )


def draw(path: Path, maps: dict[str, np.ndarray], y: np.ndarray) -> None:
    """Draw the maps of one table side by side."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(maps), figsize=(4 * len(maps), 4))
    for ax, (name, codes) in zip(axes, maps.items(), strict=True):
        ax.scatter(*codes.T[:2], c=y, cmap="tab20", s=6)
        ax.set(title=name, xticks=[], yticks=[])
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tables")
    parser.add_argument("--tables", default=TABLES, help="names, with commas")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each")
    arguments = parser.parse_args()
    has_umap = importlib.util.find_spec("umap") is not None
    models = {n: m for n, m in MODELS.items() if n != "UMAP" or has_umap}
    heads = [(f"{f} {n}", ".3f") for n in models for f in ("trust", "cont", "acc")]
    table, means = TextTable("table", *heads), []
    for name, frame, y in labelled_tables(arguments.data):
        if name not in arguments.tables.split(","):
            continue
        (task,) = tasks_of(frame, y, 1)
        codes = {model: reduce(task, 2) for model, reduce in models.items()}
        means.append([figures(task, pair) for pair in codes.values()])
        table.row(name, *np.ravel(means[-1]))
        if arguments.pictures:
            maps = {model: test for model, (_, test) in codes.items()}
            draw(arguments.pictures / f"{name}.png", maps, task.y_test)
    table.row("mean", *np.ravel(np.mean(means, axis=0)))


if __name__ == "__main__":
    main()
