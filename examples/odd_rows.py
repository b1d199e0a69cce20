"""Find odd rows in a table, and say which columns make each of them odd.

The table holds 30 measurements of the cell nuclei of 569 breast tumours (Wolberg et
al., 1995). A VAE says how likely each row is; the reconstruction errors of its cells
say why a row is not.

    python examples/odd_rows.py [FOLDER]

prints the five oddest rows and writes `odd_rows.png` to the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skae import VAETransformer

N_ODD = 5
N_REASONS = 3


def reasons(errors: pd.Series, deviations: pd.Series) -> str:
    """Name the columns that add most to the error of a row."""
    largest = errors.sort_values(ascending=False).index[:N_REASONS]
    return ", ".join(f"{name} ({deviations[name]:+.1f} sd)" for name in largest)


def plot(scores: pd.Series, errors: pd.DataFrame, path: Path) -> None:
    """Draw the scores of all rows, and the errors of the oddest cell by cell."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 5), width_ratios=[1, 2], layout="constrained"
    )
    left.hist(scores.clip(lower=scores.quantile(0.005)), bins=40, color="0.6")
    left.axvline(scores[errors.index].max(), color="C3")
    left.set(xlabel="log-likelihood (nats)", ylabel="rows", title="held-out rows")
    columns = errors.max().sort_values(ascending=False).index[:12]
    image = right.imshow(np.sqrt(errors[columns]), cmap="Reds", aspect="auto")
    right.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    right.set_yticks(range(len(errors)), [f"row {row}" for row in errors.index])
    right.set_title("the oddest rows: distance of each cell from its reconstruction")
    figure.colorbar(image, label="standard deviations")
    figure.savefig(path, dpi=110)


def main(folder: Path) -> None:
    data = load_breast_cancer(as_frame=True)
    table, is_benign = data.data, data.target == 1
    normal, held_out = train_test_split(table[is_benign], test_size=0.3, random_state=0)
    others = pd.concat([held_out, table[~is_benign]])
    vae = VAETransformer(n_components=8, random_state=0).fit(normal)

    scores = pd.Series(vae.score_samples(others), index=others.index)
    area = roc_auc_score(is_benign[others.index], scores)
    print(f"Malignant tumours found by a fit to benign ones: AUC {area:.2f}\n")

    benign_scores = scores[held_out.index]
    odd = held_out.loc[benign_scores.nsmallest(N_ODD).index]
    errors = vae.reconstruction_error(odd)
    deviations = (odd - normal.mean()) / normal.std()
    print(f"The oddest benign rows ({benign_scores.median():.0f} nats is usual):")
    for row in odd.index:
        why = reasons(errors.loc[row], deviations.loc[row])
        print(f"row {row:3d} {scores[row]:8.0f} nats: {why}")
    plot(benign_scores, errors, folder / "odd_rows.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
