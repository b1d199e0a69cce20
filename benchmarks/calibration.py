"""Whether fresh rows score as those of the fit do, on tables with columns of levels.

The scores of the training rows have a 5 % quantile, below which a row is called odd.
Printed is the share of fresh rows below it, and how likely fresh rows are on the mean,
in nats. Five per cent would be right; more says that the density knows the rows of the
fit better than others, as the likeliest one of few rows does. Five tables are generated
anew from each seed, with 5,000 fresh rows; of tables in a folder 30 % are held out. The
VAE has a code of two there, and of a third of the columns here, at most eight. Beside
it stand the same with stronger weight decay, and a Gaussian mixture, of as many parts
as BIC likes, of the standardised one-hot table without holes::

    python benchmarks/calibration.py [--rows N] [--data MIXED] [--seeds N]
"""

from __future__ import annotations

import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from _common import TextTable, ignore_convergence
from imputation import mixed_tables
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import VAETransformer

FRESH_ROWS = 5_000
QUANTILE = 0.05
SIZES = (1, 2, 3, 4, 6, 8, 10)  # parts of the Gaussian mixture
Case = tuple[pd.DataFrame, pd.DataFrame, int]  # training rows, fresh rows, code


# --------------------------------------------------------------------------- tables


def coin(n_rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Three Gaussian columns and a coin, all independent."""
    frame = pd.DataFrame(rng.normal(size=(n_rows, 3)), columns=["a", "b", "c"])
    return frame.assign(side=rng.choice(["heads", "tails"], n_rows))


def rules(n_rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Eight columns of three factors, and levels that rules make of two of them."""
    loadings = np.random.default_rng(9).normal(size=(3, 8))
    X = rng.normal(size=(n_rows, 3)) @ loadings + 0.5 * rng.normal(size=(n_rows, 8))
    low = np.where(X[:, 1] > 0, "middle", "low")
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    return frame.assign(kind=np.where(X[:, 0] > 0, "high", low))


def clusters(n_rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Five clusters with a name each, and a level that tells nothing."""
    centres = 3 * np.random.default_rng(3).normal(size=(5, 6))
    part = rng.integers(5, size=n_rows)
    X = centres[part] + rng.normal(size=(n_rows, 6))
    frame = pd.DataFrame(X, columns=list("abcdef"))
    rare = np.where(rng.random(n_rows) < 0.2, "rare", "usual")
    return frame.assign(name=np.array(list("ABCDE"))[part], rare=rare)


def skewed(n_rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Prices, times and counts that grow from level to level."""
    part = rng.integers(4, size=n_rows)
    return pd.DataFrame(
        {
            "price": np.exp(rng.normal(size=n_rows) + part),
            "time": rng.gamma(2, 1 + part),
            "count": rng.poisson(3 + part).astype(float),
            "kind": np.array(list("wxyz"))[part],
        }
    )


def answers(n_rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Eight answers of yes or no, a column that they hang on, and its square."""
    z = rng.normal(size=n_rows)
    said = {
        f"q{i}": np.where(z + rng.normal(size=n_rows) > 0.5, "yes", "no")
        for i in range(8)
    }
    numbers = {
        "v": 3 * z + rng.normal(size=n_rows),
        "w": z**2 + rng.normal(size=n_rows),
    }
    return pd.DataFrame(said | numbers)


GENERATED = {f.__name__: f for f in (coin, rules, clusters, skewed, answers)}


def drawn(
    make: Callable[[int, np.random.Generator], pd.DataFrame], n_rows: int, seed: int
) -> Case:
    """Generate rows to fit and fresh ones."""
    train, fresh = (
        make(n, np.random.default_rng([seed, n])) for n in (n_rows, FRESH_ROWS)
    )
    return train, fresh, 2


def held_out(read: Callable[[], pd.DataFrame], seed: int) -> Case:
    """Hold out 30 % of the rows of a table."""
    table = read()
    train, fresh = train_test_split(table, test_size=0.3, random_state=seed)
    return train, fresh, min(8, max(2, table.shape[1] // 3))


# --------------------------------------------------------------------------- models


Scores = tuple[np.ndarray, np.ndarray]  # of training rows and of fresh ones, in nats


def vae(case: Case, seed: int, **parameters: float) -> Scores:
    """Fit a VAE."""
    train, fresh, width = case
    model = VAETransformer(width, random_state=seed, device="cpu", **parameters)
    with ignore_convergence(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of levels that are new
        model.fit(train)
        return model.score_samples(train), model.score_samples(fresh)


def mixture(case: Case, seed: int) -> Scores:
    """Fit Gaussian mixtures to indicators and numbers; keep the one of best BIC."""
    train, fresh, _ = case
    encoder = make_column_transformer(
        (
            make_pipeline(SimpleImputer(), StandardScaler()),
            make_column_selector(dtype_include="number"),
        ),
        remainder=OneHotEncoder(
            min_frequency=3,
            max_categories=30,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
        ),
    )
    X, other = encoder.fit_transform(train), encoder.transform(fresh)
    fitted = [
        GaussianMixture(size, reg_covar=1e-3, random_state=seed).fit(X)
        for size in SIZES
    ]
    best = min(fitted, key=lambda model: model.bic(X))
    return best.score_samples(X), best.score_samples(other)


MODELS: dict[str, Callable[[Case, int], Scores]] = {
    "mixture": mixture,
    "VAE": vae,
    "VAE, decay 1": partial(vae, weight_decay=1.0),
}


# ----------------------------------------------------------------------- comparison


def below(scores: Scores) -> float:
    """Return the share of fresh rows below a quantile of those of the fit."""
    known, fresh = scores
    return float((fresh < np.quantile(known, QUANTILE)).mean())


def cases(
    folder: Path | None, n_rows: int
) -> Iterator[tuple[str, Callable[[int], Case]]]:
    """Yield the name of each table, and how to split it from a seed."""
    for name, make in GENERATED.items():
        yield name, partial(drawn, make, n_rows)
    for name, read in (mixed_tables(folder) if folder else {}).items():
        yield name, partial(held_out, read)


def main() -> None:
    """Print the shares of fresh rows that are called odd."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000, help="of generated tables")
    parser.add_argument("--data", type=Path, help="folder of NAME.csv files")
    parser.add_argument("--tables", help="names of tables, with commas; all if absent")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    arguments = parser.parse_args()
    wanted = arguments.tables.split(",") if arguments.tables else None
    nats = [f"{name}, nats" for name in MODELS if name != "mixture"]
    table = TextTable("table", "rows", *[(name, ".3f") for name in (*MODELS, *nats)])
    shares = []
    for name, case_of in cases(arguments.data, arguments.rows):
        if wanted and name not in wanted:
            continue
        runs = []
        for seed in range(arguments.seeds):
            case = case_of(seed)
            told = {who: model(case, seed) for who, model in MODELS.items()}
            fresh = [float(told[who][1].mean()) for who in MODELS if who != "mixture"]
            runs.append([*map(below, told.values()), *fresh])
        means = np.mean(runs, axis=0)
        shares.append(means[: len(MODELS)])
        table.row(name, len(case[0]), *means)
    table.row("mean", None, *np.mean(shares, axis=0), *[None] * len(nats))


if __name__ == "__main__":
    main()
