"""How often the oddest cell of a row is the wrong one, by likelihood and by error.

A model is fitted on 70 % of the rows of a table. Of the others, 200 at most, every row
gets one wrong cell: that of a random column is replaced by the value of another random
row in the same column, one that differs; with `--by D` it is moved by D standard
deviations instead, up or down. The wrong cell has been found where it is the
least likely of its row given the others (`score_cells`), or the one with the largest
squared error (`reconstruction_error`), in standardised units. Printed is the share of
rows in which it has been found, of all rows and of those whose cell has moved by at
least one standard deviation: who could see the others, even knowing the table?

Beside them stand the squared error of PCA, and chance. Columns that are constant in the
training rows get no wrong cell. The code has a third of the columns, at least 1 and at
most 10. All run on the CPU::

    python benchmarks/planted.py --data FOLDER [--tables A,B] [--seeds N] [--by D]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from _common import (
    Split,
    TextTable,
    code_width,
    read_tables,
    split_rows,
    table_arguments,
)
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, VAETransformer

MOST_ROWS = 200  # that get a wrong cell
FAR = 1.0  # standard deviations
WHO = ["AE", "AE err", "VAE", "VAE err", "PCA err", "chance"]


@dataclass(frozen=True)
class Planted:
    """Rows with one wrong cell each.

    Attributes
    ----------
    rows : ndarray of shape (n_rows, n_columns)
    column : ndarray of int of shape (n_rows,)
        Of the wrong cell.
    moved : ndarray of shape (n_rows,)
        How far the cell has moved, in standard deviations of the training rows.
    """

    rows: np.ndarray
    column: np.ndarray
    moved: np.ndarray


def plant(split: Split, by: float | None) -> Planted:
    """Replace a cell of each row by another value of its column, or move it."""
    generator = np.random.default_rng(split.seed)
    vary = np.flatnonzero(np.ptp(split.test, axis=0) * np.ptp(split.train, axis=0))
    rows = split.test[:MOST_ROWS].copy()
    column = generator.choice(vary, len(rows))
    for row, j in zip(rows, column, strict=True):
        others = split.test[:, j]
        if by is None:
            row[j] = generator.choice(others[others != row[j]])
        else:
            row[j] += by * split.train[:, j].std() * generator.choice([-1, 1])
    index = np.arange(len(rows))
    moved = np.abs(rows[index, column] - split.test[index, column])
    return Planted(rows, column, moved)


def scores_of(split: Split, rows: np.ndarray) -> list[np.ndarray]:
    """Score cells by each model; the least is the oddest."""
    scores = []
    classes: list[Callable[..., AutoencoderTransformer | VAETransformer]] = [
        AutoencoderTransformer,
        VAETransformer,
    ]
    for cls in classes:
        model = cls(split.n_components, random_state=split.seed, device="cpu")
        model.fit(split.train)
        scores += [model.score_cells(rows), -model.reconstruction_error(rows)]
    pca = PCA(split.n_components, random_state=split.seed).fit(split.train)
    back = pca.inverse_transform(pca.transform(rows))
    return [*scores, -np.square(rows - back)]


def found(split: Split, by: float | None) -> np.ndarray:
    """Return the shares of rows whose wrong cell is found.

    Returns
    -------
    shares : ndarray of shape (2 * len(WHO),)
        Of all rows, then of those with a cell that has moved far.
    """
    planted = plant(split, by)
    scores = scores_of(split, planted.rows)
    hits = [score.argmin(axis=1) == planted.column for score in scores]
    hits.append(np.full(len(planted.rows), 1 / planted.rows.shape[1]))
    shares = np.array(hits, dtype=float)
    far = planted.moved >= FAR
    return np.r_[shares.mean(axis=1), shares[:, far].mean(axis=1)]


def main() -> None:
    parser = table_arguments(__doc__)
    parser.add_argument("--by", type=float, help="deviations; swapped if absent")
    arguments = parser.parse_args()
    headings = [*WHO, *(f"far: {name}" for name in WHO)]
    lines = TextTable("table", "columns", "code", *((name, ".2f") for name in headings))
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    means = []
    for name, X in read_tables(arguments.data, arguments.tables):
        width = code_width(X.shape[1])
        splits = [split_rows(X, width, seed, noise=0.0) for seed in seeds]
        means.append(np.mean([found(split, arguments.by) for split in splits], axis=0))
        lines.row(name, X.shape[1], width, *means[-1])
    lines.row("mean", None, None, *np.mean(means, axis=0))


if __name__ == "__main__":
    main()
