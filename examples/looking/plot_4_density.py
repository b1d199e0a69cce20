"""
The density of a variational autoencoder
========================================

``score_samples`` is the log-density of a row. At the start it is that of probabilistic
PCA, one Gaussian; after training it follows the table.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.model_selection import train_test_split

from skae import VAETransformer

X, _ = make_moons(800, noise=0.07, random_state=0)
train, test = train_test_split(X, random_state=0)
start = VAETransformer(n_components=1, max_iter=0).fit(train)
vae = VAETransformer(n_components=1, random_state=0).fit(train)

# %%
# The log-density over the plane, and its mean over held-out rows.
grid = np.meshgrid(np.linspace(-1.7, 2.7, 80), np.linspace(-1.2, 1.7, 60))
plane = np.column_stack([axis.ravel() for axis in grid])
figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
axes[0].scatter(*test.T, s=8, color="0.4")
axes[0].set_title("held-out rows")
for ax, (name, model) in zip(
    axes[1:], {"probabilistic PCA, the start": start, "VAE": vae}.items(), strict=True
):
    density = model.score_samples(plane).reshape(grid[0].shape)
    image = ax.contourf(*grid, density, levels=np.linspace(-8, 0, 17), extend="both")
    ax.set_title(f"{name}: {model.score(test):.2f} nats a row")
figure.colorbar(image, ax=axes, label="log-density (nats)")
for ax in axes:
    ax.set(xlim=(-1.7, 2.7), ylim=(-1.2, 1.7))
plt.show()
