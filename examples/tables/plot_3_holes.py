"""
Filling the holes of a table
============================

Penguins: numbers, levels and missing cells go in as they were read, and come back with
the same names, dtypes and levels. Cells that were hidden on purpose show how far off
the fill is.
"""

# %%
# Two measures of a fifth of the birds are hidden.
import matplotlib.pyplot as plt
import numpy as np
from palmerpenguins import load_penguins

from skae import VAETransformer

birds = load_penguins().drop(columns="year")
measures = ["bill_length_mm", "flipper_length_mm"]
hidden = np.random.default_rng(0).random((len(birds), 2)) < 0.2
holed = birds.copy()
holed[measures] = birds[measures].mask(hidden)

vae = VAETransformer(n_components=2, random_state=0).fit(holed)
filled = vae.impute(holed)

# %%
# The first rows with a hole, as they were and as they are.
rows = holed.index[holed.isna().any(axis=1)][:6]
holed.loc[rows]

# %%
filled.loc[rows]

# %%
# What was hidden, against what the other cells of the row let expect. The mean of the
# column, which a ``SimpleImputer`` would fill in, is the dashed line.
figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.4), layout="constrained")
for ax, column, mask in zip(axes, measures, hidden.T, strict=True):
    for colour, (name, group) in enumerate(birds[mask].groupby("species")):
        ax.scatter(
            group[column],
            filled.loc[group.index, column],
            s=22,
            color=f"C{colour}",
            label=name,
            alpha=0.8,
        )
    ends = [birds[column].min(), birds[column].max()]
    ax.plot(ends, ends, color="0.6", linewidth=1)
    ax.axhline(holed[column].mean(), color="0.6", linestyle="--", linewidth=1)
    error = np.sqrt(np.square(filled[column] - birds[column])[mask].mean())
    spread = birds[column].std()
    ax.set(xlabel=f"{column}, hidden", ylabel="filled in")
    ax.set_title(
        f"off by {error:.1f} mm; by the mean of the column {spread:.1f} mm", fontsize=10
    )
axes[0].legend(loc="upper left")
plt.show()
