"""
Several fills, for what they leave open
=======================================

One fill hides how unsure it is. ``n_draws`` gives several tables, each with its missing
cells drawn at random given the seen ones, and what is computed from all of them shows
the spread (multiple imputation).
"""

# %%
# Forty per cent of the body masses of penguins are lost.
import matplotlib.pyplot as plt
import numpy as np
from palmerpenguins import load_penguins

from skae import VAETransformer

birds = load_penguins().drop(columns="year").dropna(subset="body_mass_g")
lost = np.random.default_rng(0).random(len(birds)) < 0.4
holed = birds.assign(body_mass_g=birds["body_mass_g"].mask(lost))
vae = VAETransformer(n_components=2, random_state=0).fit(holed)
tables = vae.impute(holed, n_draws=20, random_state=0)

# %%
# Left: ten of the lost cells, drawn twenty times. Right: the mean mass of each species,
# once for each of the twenty tables, less what it was before cells were lost.
drawn = np.array([table["body_mass_g"] for table in tables])
truth = birds["body_mass_g"].to_numpy()
figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for place, row in enumerate(np.flatnonzero(lost)[::13][:10]):
    axes[0].scatter(drawn[:, row], [place] * 20, s=14, color="C0", alpha=0.4)
    axes[0].scatter(truth[row], place, marker="|", s=250, color="C3")
chosen = birds.iloc[np.flatnonzero(lost)[::13][:10]]
axes[0].set_yticks(
    range(10), chosen["species"] + ", " + chosen["sex"].fillna("unknown")
)
axes[0].set(xlabel="body mass (g)", title="lost cells: draws, and the truth (red)")
for place, rows in enumerate(birds.groupby("species").indices.values()):
    means = drawn[:, rows].mean(axis=1) - truth[rows].mean()
    axes[1].scatter(means, [place] * 20, s=20, alpha=0.4, color="C0")
axes[1].axvline(0, color="C3")
axes[1].set_yticks(range(3), birds.groupby("species").indices)
axes[1].set(xlim=(-120, 120), ylim=(-0.7, 2.7), title="means of twenty tables")
axes[1].set(xlabel="mean body mass less the true one (g)")
plt.show()
