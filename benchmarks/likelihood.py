"""How likely held-out rows are under a VAE, beside scikit-learn's density models.

Per table: mean log-likelihood in nats of the 30 % of rows held out, and the seconds of
fitting and scoring. Columns are standardised by the training rows, then Gaussian noise
of a tenth of a standard deviation is added, so that constant and integer columns have a
density; the code has a third of the columns, at least 1 and at most 10. The peers are
probabilistic PCA, factor analysis, and the Gaussian mixture that validation rows choose
from 14 (from 4, all diagonal, on more than 200 columns). All run on the CPU::

    python benchmarks/likelihood.py --data FOLDER [--tables A,B] [--seeds N]
"""

from __future__ import annotations

import itertools

import numpy as np
from _common import (
    Model,
    Split,
    TextTable,
    code_width,
    compare,
    ignore_convergence,
    table_arguments,
)
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split

from skae import VAETransformer

NOISE = 0.1  # of a standard deviation
TOLERANCE = 0.1  # nats
WIDE = 200  # columns beyond which mixtures are few and diagonal


def pca(split: Split) -> float:
    """Fit probabilistic PCA: one noise variance for all columns."""
    model = PCA(split.n_components, random_state=split.seed)
    return model.fit(split.train).score(split.test)


def factors(split: Split) -> float:
    """Fit factor analysis: a noise variance per column."""
    model = FactorAnalysis(split.n_components, random_state=split.seed)
    with ignore_convergence():
        return model.fit(split.train).score(split.test)


def mixture(split: Split) -> float:
    """Fit the Gaussian mixture that a fifth of the training rows chooses."""
    seen, judging = train_test_split(
        split.train, test_size=0.2, random_state=split.seed
    )
    with ignore_convergence():
        candidates = mixtures(*seen.shape, split.seed)
        best = max(candidates, key=lambda model: model.fit(seen).score(judging))
        return best.fit(split.train).score(split.test)


def mixtures(n_rows: int, n_columns: int, seed: int) -> list[GaussianMixture]:
    """List the mixtures to choose from."""
    kinds, sizes = ("diag", "full"), (1, 2, 3, 5, 8, 12, 20)
    if n_columns > WIDE:
        kinds, sizes = ("diag",), (1, 2, 3, 5)
    return [
        GaussianMixture(size, covariance_type=kind, reg_covar=1e-3, random_state=seed)
        for kind, size in itertools.product(kinds, sizes)
        if size <= n_rows
    ]


def vae(split: Split) -> float:
    """Take `VAETransformer` as it comes."""
    model = VAETransformer(split.n_components, random_state=split.seed, device="cpu")
    return model.fit(split.train).score(split.test)


MODELS: dict[str, Model] = {
    "PCA": pca,
    "FactorAnalysis": factors,
    "mixture": mixture,
    "skae": vae,
}


def summarise(names: list[str], scores: np.ndarray, seconds: np.ndarray) -> None:
    """Print the means, the totals and how often each model is about the best."""
    print(f"\n{len(scores)} splits; best: or within {TOLERANCE} nats of it")
    table = TextTable(
        "model", ("mean nats", ".3f"), ("s", ".1f"), "best", ("worst gap to PCA", ".3f")
    )
    near = scores >= scores.max(axis=1, keepdims=True) - TOLERANCE
    gaps = scores - scores[:, [names.index("PCA")]]
    means, totals = scores.mean(axis=0), seconds.sum(axis=0)
    for i, name in enumerate(names):
        table.row(name, means[i], totals[i], near[:, i].sum(), gaps[:, i].min())


def main() -> None:
    arguments = table_arguments(__doc__).parse_args()
    summarise(list(MODELS), *compare(MODELS, arguments, code_width, NOISE))


if __name__ == "__main__":
    main()
