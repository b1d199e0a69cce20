"""Find odd rows in a table, and say which columns make each of them odd.

The table holds 30 measurements of the cell nuclei of 569 breast tumours (Wolberg et
al., 1995). A VAE says how likely each row is; the reconstruction errors of its cells
say why a row is not, and the reconstruction what was expected there. The five oddest
rows go to the screen and the picture to `odd_rows.png`, beside this file. It takes half
a minute::

    python examples/odd_rows.py
"""

from __future__ import annotations

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
PICTURE = Path(__file__).with_name("odd_rows.png")


def reasons(errors: pd.Series, row: pd.Series, expected: pd.Series) -> str:
    """Name the columns that add most to the error of a row, with what they have."""
    largest = errors.sort_values(ascending=False).index[:N_REASONS]
    return ", ".join(
        f"{name} {row[name]:.3g} (expected {expected[name]:.3g})" for name in largest
    )


def plot(scores: pd.Series, errors: pd.DataFrame) -> None:
    """Draw the scores of all rows, and the errors of the oddest cell by cell."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 5), width_ratios=[1, 2], layout="constrained"
    )
    left.hist(scores.clip(lower=scores.quantile(0.005)), bins=40, color="0.6")
    left.axvline(scores[errors.index].max(), color="C3", label="the oddest")
    left.set(
        xlabel="log-likelihood (nats)", ylabel="rows", title="held-out benign rows"
    )
    left.legend(loc="upper left")
    columns = errors.max().sort_values(ascending=False).index[:12]
    image = right.imshow(np.sqrt(errors[columns]), cmap="Reds", aspect="auto")
    right.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    right.set_yticks(range(len(errors)), [f"row {row}" for row in errors.index])
    right.set_title("the oddest rows: distance of each cell from its reconstruction")
    figure.colorbar(image, label="standard deviations of the column")
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
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
    expected = vae.inverse_transform(vae.transform(odd)).set_index(odd.index)
    print(f"The oddest benign rows ({benign_scores.median():.0f} nats is usual):")
    for row in odd.index:
        why = reasons(errors.loc[row], odd.loc[row], expected.loc[row])
        print(f"row {row:3d} {scores[row]:8.0f} nats: {why}")
    plot(benign_scores, errors)
    print(f"\nthe picture is in {PICTURE}")


if __name__ == "__main__":
    main()
