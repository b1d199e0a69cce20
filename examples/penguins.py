"""Penguins: numbers, categories and missing cells, through a variational autoencoder.

The table is that of palmerpenguins: measures of 344 birds of three species, with holes.
It goes in as it was read. What comes out: a map of the birds, the table with its holes
filled, new birds, and new birds of a given sex and island. The figures go to the
screen and the pictures to `penguins.png`, beside this file. It takes a minute::

    pip install "skae[plot,examples]"
    python examples/penguins.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from palmerpenguins import load_penguins

from skae import VAETransformer

PICTURE = Path(__file__).with_name("penguins.png")
MEASURES = ["bill_length_mm", "flipper_length_mm"]
COLOURS = {"Adelie": "tab:orange", "Chinstrap": "tab:purple", "Gentoo": "tab:cyan"}


def draw(ax: Axes, points: np.ndarray, species: pd.Series, title: str) -> None:
    """Draw one point per bird in the colour of its species."""
    for name, colour in COLOURS.items():
        chosen = points[(species == name).to_numpy()]
        ax.scatter(*chosen.T, s=12, alpha=0.6, color=colour, label=name)
    ax.set_title(title)


def hide(birds: pd.DataFrame, column: str, share: float) -> pd.DataFrame:
    """Blank a share of a column's cells, at random."""
    hidden = np.random.default_rng(0).random(len(birds)) < share
    return birds.assign(**{column: birds[column].mask(hidden)})


def main() -> None:
    birds = load_penguins()
    vae = VAETransformer(n_components=2, random_state=0).fit(birds)
    codes = vae.transform(birds)
    print(f"missing cells: {birds.isna().sum().sum()}")
    print(f"after impute:  {vae.impute(birds).isna().sum().sum()}\n")

    column = "bill_length_mm"
    holed = hide(birds, column, share=0.3)
    filled = VAETransformer(n_components=2, random_state=0).fit(holed).impute(holed)
    hidden = holed[column].isna() & birds[column].notna()
    error = (filled[column] - birds[column])[hidden]
    print(f"{hidden.sum()} bill lengths hidden and filled: mean error")
    print(f"{error.abs().mean():.1f} mm, against {spread(birds[column]):.1f} mm")
    print("with the mean of the column\n")

    new = vae.sample(len(birds), random_state=0)
    print("new birds:")
    print(new.head(3).to_string(index=False))
    given = {"sex": "female", "island": "Dream"}
    chosen = vae.sample(200, random_state=0, given=given)
    print(f"\nspecies of 200 new birds with {given}:")
    print(chosen["species"].value_counts(normalize=True).round(2).to_string())
    print("and in the table:")
    rows = birds[(birds["sex"] == "female") & (birds["island"] == "Dream")]
    print(rows["species"].value_counts(normalize=True).round(2).to_string())

    figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    draw(axes[0], codes, birds["species"], "map: the codes of the birds")
    axes[0].set(xlabel="code 0", ylabel="code 1")
    draw(axes[1], birds[MEASURES].to_numpy(), birds["species"], "the birds")
    draw(axes[2], new[MEASURES].to_numpy(), new["species"], "new birds")
    for ax in axes[1:]:
        ax.set(xlabel=MEASURES[0], ylabel=MEASURES[1], xlim=(30, 62), ylim=(168, 235))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(PICTURE, dpi=120)
    print(f"\nthe pictures are in {PICTURE}")


def spread(column: pd.Series) -> float:
    """Mean absolute deviation from the mean."""
    return float((column - column.mean()).abs().mean())


if __name__ == "__main__":
    main()
