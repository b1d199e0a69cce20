"""
How sure a code is
==================

The encoder of a variational autoencoder gives each row a Gaussian over codes. Where
cells are missing it is wider, and a row of which little is known lies near the middle.
"""

# %%
# The same birds, whole and with half of their measures lost.
import matplotlib.pyplot as plt
import numpy as np
from palmerpenguins import load_penguins

from skae import LatentDisplay, VAETransformer

birds = load_penguins().drop(columns="year").dropna()
measures = birds.columns[2:6]
vae = VAETransformer(n_components=2, random_state=0).fit(birds[measures])

some = birds.sample(40, random_state=0)
lost = np.random.default_rng(0).random((40, 4)) < 0.5
holed = some[measures].mask(lost)

figure, axes = plt.subplots(
    1, 2, figsize=(11, 4.6), layout="constrained", sharex=True, sharey=True
)
for ax, table in zip(axes, [some[measures], holed], strict=True):
    LatentDisplay.from_estimator(vae, table, some["species"], ellipses=True, ax=ax)
axes[0].set_title("all measures: ellipses of two standard deviations")
axes[1].set_title("half of the measures lost")
plt.show()
