"""How much of held-out rows is reconstructed where there are few rows to learn from.

Subsamples of 60 to 400 rows (by the logarithm, at random) of the tables of a folder;
R² on up to 1,000 of the other rows, columns standardised by the subsample, a quarter of
the columns (at most 16) as code. With `--copies` a third of the rows is given twice.
"free" is skae with `legibility=0`, for compression; the peers are PCA and the loop of
torch's tutorials, with batches of 64 and of 256 rows::

    python benchmarks/small_tables.py --data FOLDER [--subsamples 200] [--copies]
"""

from __future__ import annotations

import numpy as np
import torch
from _common import (
    Model,
    Split,
    TextTable,
    centre_and_scale,
    read_tables,
    run,
    table_arguments,
    train_textbook,
)
from reconstruction import code_width, free, pca, r_squared, skae

FEWEST, MOST, MOST_TEST = 60, 400, 1_000
AHEAD, TOLERANCE = 0.01, 0.001  # of R²


def subsample(X: np.ndarray, seed: int, *, copies: bool) -> Split:
    """Draw some rows to learn from and others to be scored on."""
    rng = np.random.default_rng(seed)
    n_rows = round(np.exp(rng.uniform(np.log(FEWEST), np.log(MOST))))
    order = rng.permutation(len(X))
    n_rows = min(n_rows, len(X) - FEWEST)
    train, test = X[order[:n_rows]], X[order[n_rows : n_rows + MOST_TEST]]
    if copies:
        train = np.concatenate([train, train[rng.permutation(n_rows)[: n_rows // 3]]])
    centre, scale = centre_and_scale(train)
    parts = [(part - centre) / scale for part in (train, test)]
    return Split(*parts, code_width(X.shape[1]), seed)


def textbook(batch_size: int) -> Model:
    """Make a model of the loop of torch's tutorials."""

    def model(split: Split) -> float:
        network = train_textbook(
            split.train,
            split.n_components,
            batch_size=batch_size,
            n_epochs=100,
            seed=split.seed,
        )
        with torch.no_grad():
            rows = torch.from_numpy(split.test.astype(np.float32))
            return r_squared(split.test, network(rows).numpy())

    return model


MODELS: dict[str, Model] = {
    "PCA": pca,
    "textbook, 64 rows": textbook(64),
    "textbook, 256 rows": textbook(256),
    "free": free,
    "skae": skae,
}


def main() -> None:
    parser = table_arguments(__doc__ or "")
    parser.add_argument("--subsamples", type=int, default=200)
    parser.add_argument("--copies", action="store_true", help="a third of the rows")
    arguments = parser.parse_args()
    tables = [X for _, X in read_tables(arguments.data, arguments.tables)]
    chosen = np.random.default_rng(arguments.seed)
    splits = [
        subsample(tables[chosen.integers(len(tables))], seed, copies=arguments.copies)
        for seed in range(arguments.seed, arguments.seed + arguments.subsamples)
    ]
    scores, seconds = np.moveaxis([run(MODELS, split) for split in splits], 2, 0)
    linear, ours = scores[:, 0], scores[:, -1]
    at_no_price = scores[:, -2]
    columns = (("R²", ".4f"), ("not below PCA", ".3f"), ("worst gap", ".4f"))
    ahead_of = ("ahead of skae", ".3f"), ("ahead of free", ".3f")
    table = TextTable("model", *columns, *ahead_of, ("s", ".1f"))
    for i, name in enumerate(MODELS):
        gap = scores[:, i] - linear
        share = np.mean(gap >= -TOLERANCE)
        ahead = [np.mean(scores[:, i] > s + AHEAD) for s in (ours, at_no_price)]
        seconds_all = seconds[:, i].sum()
        table.row(name, scores[:, i].mean(), share, gap.min(), *ahead, seconds_all)


if __name__ == "__main__":
    main()
