"""
Which cells make a row odd
==========================

``score_samples`` says how odd a row is, ``score_cells`` in which cells, and what the
other cells let expect there. A reconstruction error does not say it: the code follows
an odd cell, and then the others look wrong.
"""

# %%
# Three rows of a table of wines are typed wrongly: a decimal point has slipped in two
# of them, and two columns are exchanged in the third.
import matplotlib.pyplot as plt
from sklearn.datasets import load_wine

from skae import ReconstructionErrorDisplay, VAETransformer

wines = load_wine(as_frame=True).data.rename(
    columns={"od280/od315_of_diluted_wines": "od280/od315"}
)
vae = VAETransformer(n_components=4, random_state=0).fit(wines)
typed = wines.copy()
typed.loc[20, "malic_acid"] *= 10
typed.loc[90, "hue"] /= 10
typed.loc[150, ["ash", "flavanoids"]] = wines.loc[150, ["flavanoids", "ash"]].to_numpy()

# %%
# The least likely rows of the table, and of one of them each cell against the band of
# its column and what the others let expect.
figure, axes = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
ReconstructionErrorDisplay.from_estimator(vae, typed, n_rows=8, ax=axes[0])
ReconstructionErrorDisplay.from_estimator(vae, typed, rows=90, ax=axes[1])
plt.show()

# %%
# The same as numbers.
cells, expected = vae.score_cells(typed.loc[[20, 90, 150]], return_expected=True)
for row in cells.index:
    column = cells.loc[row].idxmin()
    print(
        f"row {row}: {column} is {typed.loc[row, column]:g}, "
        f"expected {expected.loc[row, column]:g}"
    )
