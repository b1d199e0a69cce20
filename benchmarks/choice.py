"""Whether a grid search finds the best VAE by the networks' own likelihood.

`GridSearchCV` over `n_components` and `beta` of `VAETransformer(density="networks")`,
five folds of 70 % of up to 3,000 rows. The score of each setting on the other 30 % says
which was best: "lost" is what the chosen one has less, in nats a row::

    python benchmarks/choice.py --data FOLDER [--tables A,B]
"""

from __future__ import annotations

import numpy as np
from _common import TextTable, read_tables, split_rows, table_arguments
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ParameterGrid

from skae import VAETransformer

NOISE = 0.1  # on standardised columns, without which densities have no bound
N_FOLDS, MOST_ROWS = 5, 3_000


def grid_of(n_columns: int) -> dict[str, list[float]]:
    """Return widths and weights of the KL term."""
    widths = sorted({max(1, n_columns // 6), n_columns // 3, n_columns // 2})
    return {"n_components": widths, "beta": [1.0, 4.0]}


def main() -> None:
    arguments = table_arguments(__doc__ or "").parse_args()
    columns = (("chosen", ".3f"), ("best", ".3f"), ("lost", ".3f"), ("worst", ".3f"))
    table = TextTable("table", "rows", "columns", *columns)
    for name, X in read_tables(arguments.data, arguments.tables):
        split = split_rows(X[:MOST_ROWS], 1, arguments.seed, NOISE)
        model = VAETransformer(density="networks", random_state=0, device="cpu")
        grid = grid_of(X.shape[1])
        search = GridSearchCV(model, grid, cv=N_FOLDS, refit=False).fit(split.train)
        scores = [
            clone(model).set_params(**setting).fit(split.train).score(split.test)
            for setting in ParameterGrid(grid)
        ]
        chosen, best = scores[search.best_index_], max(scores)
        table.row(name, *X.shape, chosen, best, best - chosen, np.min(scores) - best)


if __name__ == "__main__":
    main()
