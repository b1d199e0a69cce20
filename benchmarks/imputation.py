"""How well hidden cells are filled, beside scikit-learn's imputers.

Two protocols, both on the CPU. In each the model is fitted on the table with the holes
and fills that same table; only the cells that were hidden are scored::

    python benchmarks/imputation.py --data FOLDER [--tables A,B] [--seeds N]
    python benchmarks/imputation.py --data FOLDER --protocol miwae

``mixed``: every NAME.csv or NAME.csv.gz of the folder, read as `pandas.read_csv` reads
it, without the target column. A fifth of the seen cells is hidden at random. Numeric
columns: the root of the mean squared error over the standard deviation of the column's
seen cells (NRMSE). Categorical columns: the share of wrong levels. Each is averaged
over the columns. The code has a third of the columns, at least 1 and at most 10.

``miwae`` (Mattei and Frellsen, 2019): every NAME.npz of the folder, with a complete
array X, and two tables of scikit-learn. Columns are standardised, half of all cells is
hidden completely at random, the code has ten components. The mean squared error, of
all hidden cells together, and its ratio to that of the column means.

The peers see numbers standardised by the seen cells, and a categorical column as
indicators of its 30 most frequent levels, all missing where the cell is; the largest
indicator is the level on the way back. `IterativeImputer` gets an indicator less per
column, because indicators that sum to one foretell each other, and then none ever
leaves its mean. It takes 5 rounds and the 30 nearest columns where it would see more
than 100 (of ours: ames, about 250), and else is as it comes; "bounded" keeps it, in
every round, within the range of each column's seen cells. `KNNImputer` is as it comes.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from _common import (
    TARGETS,
    TextTable,
    code_width,
    ignore_convergence,
)
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from skae import AutoencoderTransformer, VAETransformer

BUILT_IN = {"breast_cancer": load_breast_cancer, "wine": load_wine}
MAX_LEVELS = 30  # that the peers see of a categorical column
WIDE = 100  # columns beyond which IterativeImputer is kept short


@dataclass(frozen=True)
class Case:
    """What a model is given: a table with holes, code, seed."""

    table: pd.DataFrame
    n_components: int
    seed: int


Model = Callable[[Case], pd.DataFrame]  # returns the table without holes


# --------------------------------------------------------------------------- tables


def mixed_tables(folder: Path) -> dict[str, Callable[[], pd.DataFrame]]:
    """List how to read each table of numbers and categories."""
    paths = sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")])
    return {path.name.split(".")[0]: partial(read_mixed, path) for path in paths}


def read_mixed(path: Path) -> pd.DataFrame:
    """Read a table; integers become floats, which can be missing."""
    target = TARGETS.get(path.name.split(".")[0])
    table = pd.read_csv(path).drop(columns=[target] if target else [])
    return table.astype(dict.fromkeys(numeric_columns(table), np.float64))


def numeric_tables(folder: Path) -> dict[str, Callable[[], pd.DataFrame]]:
    """List how to read each complete table of numbers."""
    readers = {path.stem: partial(read_numeric, path) for path in folder.glob("*.npz")}
    readers |= {name: partial(read_built_in, name) for name in BUILT_IN}
    return dict(sorted(readers.items()))


def read_numeric(path: Path) -> pd.DataFrame:
    with np.load(path) as arrays:
        return standardised(arrays["X"])


def read_built_in(name: str) -> pd.DataFrame:
    return standardised(BUILT_IN[name]().data)


def standardised(X: np.ndarray) -> pd.DataFrame:
    """Centre and scale the columns; constant ones become zero."""
    X = X.astype(np.float64)
    scale = X.std(axis=0)
    scale[scale < 1e-12] = 1.0
    columns = [f"x{i}" for i in range(X.shape[1])]
    return pd.DataFrame((X - X.mean(axis=0)) / scale, columns=columns)


def numeric_columns(table: pd.DataFrame) -> list[str]:
    return list(table.select_dtypes("number"))


def hide(table: pd.DataFrame, share: float, seed: int) -> np.ndarray:
    """Choose a share of the seen cells at random, and return where they are."""
    seen = np.flatnonzero(table.notna())
    chosen = np.random.default_rng(seed).permutation(seen)[: round(share * len(seen))]
    hidden = np.zeros(table.shape, dtype=bool)
    hidden.flat[chosen] = True
    return hidden


# --------------------------------------------------------------------------- models


class Encoding:
    """A table as a matrix of scaled numbers and indicators, and back."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        numbers = table[numeric_columns(table)]
        self.centre = numbers.mean()
        self.scale = numbers.std(ddof=0).where(lambda scale: scale > 1e-12, 1.0)
        self.levels = {
            name: table[name].value_counts().index[:MAX_LEVELS]
            for name in table.columns.difference(numbers.columns, sort=False)
        }
        ends = numbers.shape[1] + np.cumsum([len(ls) for ls in self.levels.values()])
        self.blocks = {
            name: slice(end - len(self.levels[name]), end)
            for name, end in zip(self.levels, ends, strict=True)
        }

    def matrix(self) -> np.ndarray:
        """Encode the table: numbers first, then the indicators column by column."""
        numbers = (self.table[self.centre.index] - self.centre) / self.scale
        parts = [self._indicators(name) for name in self.levels]
        return np.hstack([numbers.to_numpy(), *parts])

    def _indicators(self, name: str) -> np.ndarray:
        column = self.table[name]
        codes = self.levels[name].get_indexer(column)
        indicators = (codes[:, None] == range(len(self.levels[name]))).astype(float)
        indicators[column.isna()] = np.nan
        return indicators

    def redundant_blocks(self) -> list[slice]:
        """Return the places of the indicators that sum to one: no level left out."""
        return [
            block
            for name, block in self.blocks.items()
            if 0 < self.table[name].nunique() <= MAX_LEVELS
        ]

    def fill(self, matrix: np.ndarray) -> pd.DataFrame:
        """Fill the holes of the table from a matrix without holes."""
        numbers = matrix[:, : len(self.centre)] * self.scale.to_numpy()
        numbers += self.centre.to_numpy()
        columns = dict(zip(self.centre.index, numbers.T, strict=True))
        for name, levels in self.levels.items():
            if len(levels):
                largest = matrix[:, self.blocks[name]].argmax(axis=1)
                columns[name] = levels.to_numpy()[largest]
        return self.table.fillna(pd.DataFrame(columns, index=self.table.index))


def mean_or_mode(case: Case) -> pd.DataFrame:
    """Fill with the column's mean, or its most frequent level."""
    encoding = Encoding(case.table)
    imputer = SimpleImputer(keep_empty_features=True)
    return encoding.fill(imputer.fit_transform(encoding.matrix()))


def neighbours(case: Case) -> pd.DataFrame:
    """Fill with the mean of the five nearest rows."""
    encoding = Encoding(case.table)
    imputer = KNNImputer(n_neighbors=5, keep_empty_features=True)
    return encoding.fill(imputer.fit_transform(encoding.matrix()))


def iterative(case: Case, bounded: bool = False) -> pd.DataFrame:
    """Fill by regressions of each column on the others, in rounds."""
    encoding = Encoding(case.table)
    matrix = encoding.matrix()
    blocks = encoding.redundant_blocks()
    kept = np.delete(np.arange(matrix.shape[1]), [block.start for block in blocks])
    options = iterative_options(matrix[:, kept], bounded)
    imputer = IterativeImputer(
        random_state=case.seed, keep_empty_features=True, **options
    )
    with ignore_convergence():
        matrix[:, kept] = imputer.fit_transform(matrix[:, kept])
    for block in blocks:
        others = matrix[:, block.start + 1 : block.stop]
        matrix[:, block.start] = 1 - others.sum(axis=1)
    return encoding.fill(matrix)


def iterative_options(matrix: np.ndarray, bounded: bool) -> dict[str, object]:
    """Keep the imputer short on a wide matrix, and within what was seen if bounded."""
    options: dict[str, object] = {}
    if matrix.shape[1] > WIDE:
        options |= {"n_nearest_features": 30, "max_iter": 5}
    if bounded:  # the two bounds must differ
        least, most = np.fmin.reduce(matrix), np.fmax.reduce(matrix)
        options["min_value"] = np.nan_to_num(least) - 1e-9
        options["max_value"] = np.nan_to_num(most) + 1e-9
    return options


def skae_model(
    kind: type[AutoencoderTransformer | VAETransformer], case: Case
) -> pd.DataFrame:
    """Take a model of skae as it comes; it is given the table as it is."""
    model = kind(case.n_components, random_state=case.seed, device="cpu")
    return model.fit(case.table).impute(case.table)


MODELS: dict[str, Model] = {
    "mean/mode": mean_or_mode,
    "KNN": neighbours,
    "Iterative": iterative,
    "Iterative bounded": partial(iterative, bounded=True),
    "skae AE": partial(skae_model, AutoencoderTransformer),
    "skae VAE": partial(skae_model, VAETransformer),
}


# -------------------------------------------------------------------------- protocols


def mixed_errors(
    table: pd.DataFrame, filled: pd.DataFrame, hidden: np.ndarray
) -> tuple[float, float]:
    """Return the NRMSE and the error rate, each the mean over columns."""
    numbers = numeric_columns(table)
    is_number = table.columns.isin(numbers)
    scale = table[numbers].std(ddof=0).where(lambda scale: scale > 1e-12)
    squares = (filled[numbers] - table[numbers]).where(hidden[:, is_number]) ** 2
    wrong = filled.ne(table).loc[:, ~is_number].astype(float)
    rates = wrong.where(hidden[:, ~is_number]).mean()
    return (np.sqrt(squares.mean()) / scale).mean(), rates.mean()


def miwae_errors(
    table: pd.DataFrame, filled: pd.DataFrame, hidden: np.ndarray
) -> tuple[float, float]:
    """Return the mean squared error, and its ratio to that of the column means."""
    means = np.broadcast_to(table.mask(hidden).mean(), table.shape)
    error, reference = [
        np.mean((np.asarray(guess) - table.to_numpy())[hidden] ** 2)
        for guess in (filled, means)
    ]
    return error, error / reference


class Protocol(NamedTuple):
    """Which tables, how many cells to hide, what code, how to score."""

    tables: Callable[[Path], dict[str, Callable[[], pd.DataFrame]]]
    share: float
    code_width: Callable[[int], int]
    errors: Callable[[pd.DataFrame, pd.DataFrame, np.ndarray], tuple[float, float]]
    headings: tuple[str, str]


PROTOCOLS = {
    "mixed": Protocol(
        mixed_tables, 0.2, code_width, mixed_errors, ("NRMSE", "error rate")
    ),
    "miwae": Protocol(
        numeric_tables, 0.5, lambda _: 10, miwae_errors, ("MSE", "ratio to mean")
    ),
}


# ------------------------------------------------------------------------- comparison


def compare(arguments: Namespace) -> dict[str, np.ndarray]:
    """Run the models on the tables, and print a line per table and model.

    Returns
    -------
    results : dict of str to ndarray of shape (n_seeds, n_models, 3)
        Per table the two errors, NaN where there is no such column, and the seconds.
    """
    protocol = PROTOCOLS[arguments.protocol]
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    results = {}
    for name, read in chosen(protocol.tables(arguments.data), arguments.tables).items():
        table = read()
        n_columns, n_numeric = table.shape[1], len(numeric_columns(table))
        print(
            f"\n{name}: {len(table)} rows, {n_numeric} numeric and "
            f"{n_columns - n_numeric} categorical columns, "
            f"code {protocol.code_width(n_columns)}"
        )
        runs = [run(arguments.models, table, protocol, seed) for seed in seeds]
        results[name] = np.array(runs)
        print_lines(arguments, results[name].mean(axis=0))
    return results


def chosen(
    readers: dict[str, Callable[[], pd.DataFrame]], names: str | None
) -> dict[str, Callable[[], pd.DataFrame]]:
    """Return the readers of the tables that were asked for."""
    wanted = names.split(",") if names else list(readers)
    unknown = [name for name in wanted if name not in readers]
    if unknown or not readers:
        raise SystemExit(f"got tables {unknown}, but found {list(readers)}")
    return {name: readers[name] for name in wanted}


def run(
    models: list[str], table: pd.DataFrame, protocol: Protocol, seed: int
) -> list[tuple[float, float, float]]:
    """Hide cells, and return the two errors and the seconds of each model."""
    hidden = hide(table, protocol.share, seed)
    width = protocol.code_width(table.shape[1])
    results = []
    for name in models:
        case = Case(table.mask(hidden), width, seed)
        began = time.perf_counter()
        filled = MODELS[name](case)
        seconds = time.perf_counter() - began
        results.append((*protocol.errors(table, filled, hidden), seconds))
    return results


def print_lines(arguments: Namespace, numbers: np.ndarray) -> None:
    """Print a line per model; an error that a table does not have stays empty."""
    first, second = PROTOCOLS[arguments.protocol].headings
    lines = TextTable("model", (first, ".4f"), (second, ".4f"), ("s", ".2f"))
    for name, values in zip(arguments.models, numbers, strict=True):
        lines.row(name, *[None if np.isnan(value) else value for value in values])


def summarise(arguments: Namespace, results: dict[str, np.ndarray]) -> None:
    """Print the means over the tables that have such an error, and total seconds."""
    runs = np.array(list(results.values()))
    means = runs.mean(axis=1)
    has_error = ~np.isnan(means)
    numbers = np.where(has_error, means, 0).sum(axis=0) / has_error.sum(axis=0)
    numbers[:, 2] = runs[..., 2].sum(axis=(0, 1))
    print(f"\nmean over {len(runs)} tables of {runs.shape[1]} seeds, total seconds")
    print_lines(arguments, numbers)


# ---------------------------------------------------------------------------- command


def model_names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise ArgumentTypeError(f"got {unknown}, but know {list(MODELS)}")
    return names


def parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the tables")
    add("--protocol", choices=list(PROTOCOLS), default="mixed", help="see the file")
    add("--tables", help="names of tables, with commas; all if absent")
    add("--seed", type=int, default=0, help="first seed")
    add("--seeds", type=int, default=5, help="number of seeds")
    add("--models", type=model_names, default=list(MODELS), help=",".join(MODELS))
    return parser


def main() -> None:
    arguments = parser().parse_args()
    summarise(arguments, compare(arguments))


if __name__ == "__main__":
    main()
