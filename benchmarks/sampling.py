"""How well sampled rows pass for real ones, beside Gaussian mixtures and TVAE.

Tables of numbers alone; `synthesis.py` does the same to mixed ones. 30 % of the rows
are held out, and each model is fitted on the others, in the units of the table, and
draws as many rows as were held out. Per table and model: the area under the curve of
gradient boosting that tells drawn rows from held-out ones, the mean of three folds,
which is 0.5 if it cannot and 1 if it always can; and the seconds of fitting and
drawing. "real" is no model: it draws from the training rows.

The peers are a Gaussian and a mixture of ten, of full covariance, on columns
standardised by the training rows, and with `--tvae` the variational autoencoder of the
package `ctgan`, as it comes. The code of ours has a third of the columns, at least 1
and at most 10. All run on the CPU::

    python benchmarks/sampling.py --data FOLDER [--tables A,B] [--seeds N] [--tvae]

Real columns have repeated values, which give smooth samples away. With ``--noise 0.1``
columns are standardised and get Gaussian noise of a tenth of a standard deviation
first, as in `likelihood.py`, and it is the shape of the density that counts.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pandas as pd
import torch
from _common import (
    Split,
    TextTable,
    centre_and_scale,
    code_width,
    ignore_convergence,
    read_tables,
    split_rows,
    table_arguments,
)
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split

from skae import AutoencoderTransformer, VAETransformer

Model = Callable[[Split], np.ndarray]  # returns as many rows as there are test rows


# --------------------------------------------------------------------------- models


def gaussian(split: Split) -> np.ndarray:
    """Fit one Gaussian."""
    return from_mixture(GaussianMixture(random_state=split.seed), split)


def mixture(split: Split) -> np.ndarray:
    """Fit ten Gaussians."""
    model = GaussianMixture(10, reg_covar=1e-3, random_state=split.seed)
    return from_mixture(model, split)


def from_mixture(model: GaussianMixture, split: Split) -> np.ndarray:
    """Fit a mixture to standardised columns, and draw in the units of the table."""
    centre, scale = centre_and_scale(split.train)
    with ignore_convergence():
        model.fit((split.train - centre) / scale)
    rows, _ = model.sample(len(split.test))
    return centre + scale * rows


def tvae(split: Split) -> np.ndarray:
    """Take TVAE of `ctgan`, which draws from the global generators, as it comes."""
    from ctgan import TVAE

    torch.manual_seed(split.seed)
    np.random.seed(split.seed)  # noqa: NPY002
    model = TVAE(enable_gpu=False)
    model.fit(pd.DataFrame(split.train).rename(columns=str))
    return model.sample(len(split.test)).to_numpy()


def autoencoder(split: Split) -> np.ndarray:
    """Take `AutoencoderTransformer` as it comes."""
    model = AutoencoderTransformer(
        split.n_components, random_state=split.seed, device="cpu"
    )
    return model.fit(split.train).sample(len(split.test), random_state=split.seed)


def vae(split: Split) -> np.ndarray:
    """Take `VAETransformer` as it comes."""
    model = VAETransformer(split.n_components, random_state=split.seed, device="cpu")
    return model.fit(split.train).sample(len(split.test), random_state=split.seed)


MODELS: dict[str, Model] = {
    "Gaussian": gaussian,
    "mixture": mixture,
    "TVAE": tvae,
    "skae AE": autoencoder,
    "skae VAE": vae,
}


def chosen(arguments: Namespace) -> dict[str, Model]:
    """Return the models that were asked for."""
    if not arguments.tvae:
        return {name: model for name, model in MODELS.items() if name != "TVAE"}
    if find_spec("ctgan") is None:
        raise SystemExit('--tvae needs ctgan: pip install -e ".[synthesis]"')
    return MODELS


# -------------------------------------------------------------------------- measures


def measure(models: dict[str, Model], split: Split) -> list[float]:
    """Return the AUC of real rows, then the AUC and the seconds of each model."""
    real, _ = train_test_split(
        split.train, train_size=len(split.test), random_state=split.seed
    )
    results = [detection(real, split)]
    for model in models.values():
        began = time.perf_counter()
        rows = model(split)
        seconds = time.perf_counter() - began
        results += [detection(rows, split), seconds]
    return results


def detection(rows: np.ndarray, split: Split) -> float:
    """Tell drawn rows from held-out ones."""
    X = np.concatenate([rows, split.test])
    y = np.repeat([0, 1], [len(rows), len(split.test)])
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    folds = StratifiedKFold(3, shuffle=True, random_state=split.seed)
    return float(cross_val_score(model, X, y, cv=folds, scoring="roc_auc").mean())


def hold_out(X: np.ndarray, seed: int, noise: float) -> Split:
    """Hold out 30 % of the rows, as they are or with noise on standardised columns."""
    if noise > 0:
        return split_rows(X, code_width(X.shape[1]), seed, noise)
    train, test = train_test_split(X, test_size=0.3, random_state=seed)
    return Split(train, test, code_width(X.shape[1]), seed)


def main() -> None:
    parser = table_arguments(__doc__)
    parser.add_argument("--tvae", action="store_true", help="fit TVAE of ctgan too")
    parser.add_argument(
        "--noise", type=float, default=0.0, help="on standardised columns, 0 for none"
    )
    arguments = parser.parse_args()
    models = chosen(arguments)
    columns = [column for name in models for column in ((name, ".3f"), ("s", ".2f"))]
    table = TextTable("table", "rows", "columns", "code", ("real", ".3f"), *columns)
    means = []
    for name, X in read_tables(arguments.data, arguments.tables):
        seeds = range(arguments.seed, arguments.seed + arguments.seeds)
        runs = [measure(models, hold_out(X, seed, arguments.noise)) for seed in seeds]
        means.append(np.mean(runs, axis=0))
        table.row(name, *X.shape, code_width(X.shape[1]), *means[-1])
    table.row("mean", None, None, None, *np.mean(means, axis=0))


if __name__ == "__main__":
    main()
