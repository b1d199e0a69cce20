"""Find odd rows in a table, and say which cells make each of them odd.

The table holds 30 measurements of the cell nuclei of 569 breast tumours (Wolberg et
al., 1995). A VAE says how likely each row is, and how likely each of its cells is given
the others, with what these let expect. The five oddest rows go to the screen and the
picture to `odd_rows.png`, beside this file. It takes half a minute::

    python examples/odd_rows.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skae import VAETransformer

N_ODD = 5
N_REASONS = 3
PICTURE = Path(__file__).with_name("odd_rows.png")


def reasons(cells: pd.Series, row: pd.Series, expected: pd.Series) -> str:
    """Name the least likely cells of a row, with what they have."""
    return ", ".join(
        f"{name} {row[name]:.3g} (expected {expected[name]:.3g}, {nats:.0f} nats)"
        for name, nats in cells.nsmallest(N_REASONS).items()
    )


def plot(scores: pd.Series, cells: pd.DataFrame) -> None:
    """Draw the scores of all rows, and those of the oddest cell by cell."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 5), width_ratios=[1, 2], layout="constrained"
    )
    left.hist(scores.clip(lower=scores.quantile(0.005)), bins=40, color="0.6")
    left.axvline(scores[cells.index].max(), color="C3", label="the oddest")
    left.set(
        xlabel="log-likelihood (nats)", ylabel="rows", title="held-out benign rows"
    )
    left.legend(loc="upper left")
    columns = cells.min().nsmallest(12).index
    image = right.imshow(cells[columns].clip(upper=0), cmap="Reds_r", aspect="auto")
    right.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    right.set_yticks(range(len(cells)), [f"row {row}" for row in cells.index])
    right.set_title("the oddest rows: how likely each cell is, given the others")
    figure.colorbar(image, label="log-density (nats)")
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
    cells, expected = vae.score_cells(odd, return_expected=True)
    print(f"The oddest benign rows ({benign_scores.median():.0f} nats is usual):")
    for row in odd.index:
        why = reasons(cells.loc[row], odd.loc[row], expected.loc[row])
        print(f"row {row:3d} {scores[row]:8.0f} nats: {why}")
    plot(benign_scores, cells)
    print(f"\nthe picture is in {PICTURE}")


if __name__ == "__main__":
    main()
