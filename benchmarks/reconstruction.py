"""How much of held-out rows an autoencoder reconstructs, beside PCA and two networks.

Per table: R² over all cells of the 30 % of rows held out, and the seconds of fitting
and reconstructing. Columns are standardised by the training rows; the code has a
quarter of the columns, at least 1 and at most 16. The peers are PCA, `MLPRegressor`
trained to return its input (its ReLU is on the code too), and the loop of torch's
tutorials, 100 epochs with Adam. "free" is skae with `legibility=0`, for compression.
All run on the CPU::

    python benchmarks/reconstruction.py --data FOLDER [--tables A,B] [--seeds N]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _common import (
    Model,
    Split,
    TextTable,
    compare,
    ignore_convergence,
    mirrored,
    table_arguments,
    train_textbook,
)
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPRegressor

from skae import AutoencoderTransformer

TOLERANCE = 0.001  # of R²


def code_width(n_features: int) -> int:
    return min(16, max(1, n_features // 4))


def r_squared(X: np.ndarray, reconstructed: np.ndarray) -> float:
    """Return the share of the variance that is reconstructed, all cells together."""
    error = np.square(X - reconstructed).sum()
    return float(1 - error / np.square(X - X.mean(axis=0)).sum())


def pca(split: Split) -> float:
    """Reconstruct from as many principal components."""
    model = PCA(split.n_components, random_state=split.seed).fit(split.train)
    codes = model.transform(split.test)
    return r_squared(split.test, model.inverse_transform(codes))


def mlp(split: Split) -> float:
    """Give `MLPRegressor` a bottleneck, and single precision as the others have."""
    model = MLPRegressor(
        hidden_layer_sizes=mirrored(split.n_components),
        max_iter=100,
        random_state=split.seed,
    )
    rows = split.train.astype(np.float32)
    with ignore_convergence():
        model.fit(rows, rows)
    reconstructed = model.predict(split.test.astype(np.float32))
    return r_squared(split.test, reconstructed.reshape(split.test.shape))


def textbook(split: Split) -> float:
    """Run the loop of torch's tutorials for 100 epochs."""
    model = train_textbook(
        split.train, split.n_components, batch_size=256, n_epochs=100, seed=split.seed
    )
    with torch.no_grad():
        rows = torch.from_numpy(split.test.astype(np.float32))
        return r_squared(split.test, model(rows).numpy())


def skae(split: Split, **options: Any) -> float:
    """Take `AutoencoderTransformer` as it comes."""
    model = AutoencoderTransformer(
        split.n_components, random_state=split.seed, device="cpu", **options
    )
    codes = model.fit(split.train).transform(split.test)
    return r_squared(split.test, model.inverse_transform(codes))


def free(split: Split) -> float:
    """Let the encoder be nonlinear at no price."""
    return skae(split, legibility=0)


MODELS: dict[str, Model] = {
    "PCA": pca,
    "MLPRegressor": mlp,
    "textbook": textbook,
    "free": free,
    "skae": skae,
}


def summarise(names: list[str], scores: np.ndarray, seconds: np.ndarray) -> None:
    """Print the means, the totals and how each model stands to PCA."""
    print(f"\n{len(scores)} splits; worse than PCA: by more than {TOLERANCE} R²")
    table = TextTable(
        "model",
        ("mean R²", ".4f"),
        ("s", ".1f"),
        "worse than PCA",
        ("worst gap to PCA", ".4f"),
    )
    gaps = scores - scores[:, [names.index("PCA")]]
    worse = gaps < -TOLERANCE
    means, totals = scores.mean(axis=0), seconds.sum(axis=0)
    for i, name in enumerate(names):
        table.row(name, means[i], totals[i], worse[:, i].sum(), gaps[:, i].min())
    ratio = totals[names.index("skae")] / totals[names.index("textbook")]
    print(f"\nseconds, skae / textbook: {ratio:.2f}")


def main() -> None:
    parser = table_arguments(__doc__)
    parser.add_argument("--skip-mlp", action="store_true", help="without MLPRegressor")
    arguments = parser.parse_args()
    models = dict(MODELS)
    if arguments.skip_mlp:
        del models["MLPRegressor"]
    summarise(list(models), *compare(models, arguments, code_width))


if __name__ == "__main__":
    main()
