"""What the benchmarks share: tables, splits, the textbook network, timing, printing."""

from __future__ import annotations

import itertools
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass(frozen=True)
class Split:
    """What a model is given: rows to learn from, rows to be scored on, code, seed."""

    train: np.ndarray
    test: np.ndarray
    n_components: int
    seed: int


Model = Callable[[Split], float]  # returns a held-out score


# The column to be predicted of each mixed table.
TARGETS = {
    "penguins": "species",
    "titanic": "Survived",
    "mpg": "mpg",
    "german_credit": "bad",
    "horse_colic": "c23",
    "ames": "SalePrice",
    "telco_churn": "Churn",
}


# --------------------------------------------------------------------------- tables


def code_width(n_features: int) -> int:
    """Return a third of the columns, at least 1 and at most 10."""
    return min(10, max(1, n_features // 3))


def table_arguments(documentation: str, needs_data: bool = True) -> ArgumentParser:
    """Make a parser of the options that say which tables and which splits."""
    parser = ArgumentParser(description=documentation.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        required=needs_data,
        help="folder of NAME.npz files, each with an array X of shape (rows, columns)",
    )
    parser.add_argument("--tables", help="names of tables, with commas; all if absent")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    return parser


def read_tables(folder: Path, names: str | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the matrix of each table that was asked for."""
    paths = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    wanted = names.split(",") if names else list(paths)
    unknown = [name for name in wanted if name not in paths]
    if unknown or not paths:
        raise SystemExit(f"got tables {unknown} in {folder}, but found {list(paths)}")
    for name in wanted:
        with np.load(paths[name]) as arrays:
            yield name, arrays["X"].astype(np.float64)


def split_rows(X: np.ndarray, n_components: int, seed: int, noise: float) -> Split:
    """Hold out 30 % of the rows; standardise by the others; add Gaussian noise."""
    train, test = train_test_split(X, test_size=0.3, random_state=seed)
    centre, scale = centre_and_scale(train)
    generator = np.random.default_rng(seed)
    parts = [(part - centre) / scale for part in (train, test)]
    train, test = [part + noise * generator.normal(size=part.shape) for part in parts]
    return Split(train, test, n_components, seed)


def centre_and_scale(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the deviation of each column, 1 where it is constant."""
    centre, scale = train.mean(axis=0), train.std(axis=0)
    scale[scale < 1e-12] = 1.0
    return centre, scale


# ----------------------------------------------------------------------- comparison


def compare(
    models: dict[str, Model],
    arguments: Namespace,
    code_width: Callable[[int], int],
    noise: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Run all models on all tables and seeds, and print a line per table.

    Returns
    -------
    scores, seconds : ndarray of shape (n_tables * n_seeds, n_models)
    """
    columns = [column for name in models for column in ((name, ".4f"), ("s", ".2f"))]
    table = TextTable("table", "rows", "columns", "code", *columns)
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    results = []
    for name, X in read_tables(arguments.data, arguments.tables):
        width = code_width(X.shape[1])
        runs = [run(models, split_rows(X, width, seed, noise)) for seed in seeds]
        table.row(name, *X.shape, width, *np.mean(runs, axis=0).ravel())
        results += runs
    scores, seconds = np.moveaxis(np.array(results), 2, 0)
    footer = np.stack([scores.mean(axis=0), seconds.sum(axis=0)], axis=1)
    table.row("mean, total s", None, None, None, *footer.ravel())
    return scores, seconds


def run(models: dict[str, Model], split: Split) -> list[tuple[float, float]]:
    """Return the score and the seconds of each model."""
    results = []
    for model in models.values():
        began = time.perf_counter()
        score = model(split)
        results.append((score, time.perf_counter() - began))
    return results


@contextmanager
def ignore_convergence() -> Iterator[None]:
    """Silence a peer that would have liked more iterations than it was given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


# -------------------------------------------------------------- the textbook network


def mirrored(n_components: int) -> tuple[int, ...]:
    """Hidden widths of the network that every neural model here has."""
    return 128, 64, n_components, 64, 128


def network(n_features: int, n_components: int) -> nn.Sequential:
    """Make the autoencoder of the textbooks, ReLU between its layers but at the code.

    It is a sequence of two, the encoder and the decoder.
    """
    first, second, *_ = mirrored(n_components)
    return nn.Sequential(
        _perceptron(n_features, first, second, n_components),
        _perceptron(n_components, second, first, n_features),
    )


def _perceptron(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_inputs, n_outputs in itertools.pairwise(widths):
        layers += [nn.Linear(n_inputs, n_outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train_textbook(
    X: np.ndarray, n_components: int, *, batch_size: int, n_epochs: int, seed: int
) -> nn.Module:
    """Train an autoencoder with the loop of torch's tutorials."""
    torch.manual_seed(seed)
    model = network(X.shape[1], n_components)
    dataset = TensorDataset(torch.from_numpy(X.astype(np.float32, copy=False)))
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(n_epochs):
        for (batch,) in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(batch), batch).backward()
            optimizer.step()
    return model.eval()


# ------------------------------------------------------------------- timing, printing


def seconds_of(function: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


class TextTable:
    """A table of fixed widths, printed line by line as the numbers come.

    Parameters
    ----------
    label : str
        Heading of the first column, which holds text.
    *columns : str or tuple of (str, str)
        Headings of the others, each with the format of its numbers if not an integer's.
    """

    LABEL_WIDTH = 20
    WIDTH = 7

    def __init__(self, label: str, *columns: str | tuple[str, str]) -> None:
        pairs = [(c, "d") if isinstance(c, str) else c for c in columns]
        self.formats = [form for _, form in pairs]
        self.widths = [max(self.WIDTH, len(heading)) for heading, _ in pairs]
        self._print(label, [heading for heading, _ in pairs])
        print("-" * (self.LABEL_WIDTH + sum(self.widths) + 2 * len(self.widths)))

    def row(self, label: str, *values: float | None) -> None:
        """Print a line; None leaves a cell empty."""
        cells = [
            "" if value is None else format(int(value) if form == "d" else value, form)
            for value, form in zip(values, self.formats, strict=True)
        ]
        self._print(label, cells)

    def _print(self, label: str, cells: Sequence[str]) -> None:
        aligned = [
            cell.rjust(width) for cell, width in zip(cells, self.widths, strict=True)
        ]
        print("  ".join([label.ljust(self.LABEL_WIDTH), *aligned]), flush=True)
