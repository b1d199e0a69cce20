"""
Denoising
=========

Given ``noise``, an autoencoder learns to take noisy rows to clean ones. It starts at
the linear map that does this best, and what is kept is judged by how well it denoises.
"""

# %%
# Digits whose pixels are between 0 and 1, with noise of 0.3 a pixel. ``noise`` is in
# the units of ``scaling``; with ``scaling=None`` those are the units of the table.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer

clean = load_digits().data / 16
train, test = train_test_split(clean, test_size=0.25, random_state=0)
noisy = test + np.random.default_rng(0).normal(0, 0.3, test.shape)

settings = {"n_components": 16, "noise": 0.3, "scaling": None, "random_state": 0}
autoencoder = AutoencoderTransformer(legibility=0.0, **settings).fit(train)
linear = AutoencoderTransformer(max_iter=0, **settings).fit(train)
pca = PCA(16).fit(train)

# %%
# The numbers are mean squared errors of a pixel, against the clean images.
rows = {"clean": test, "noisy": noisy}
for name, model in {
    "PCA": pca,
    "best linear map": linear,
    "autoencoder": autoencoder,
}.items():
    rows[name] = model.inverse_transform(model.transform(noisy))

figure, axes = plt.subplots(5, 10, figsize=(9, 5.4), layout="constrained")
for line, (name, images) in zip(axes, rows.items(), strict=True):
    error = np.square(images - test).mean()
    title = name if name == "clean" else f"{name}: {error:.3f}"
    line[0].set_title(title, loc="left", fontsize=10)
    for ax, image in zip(line, images, strict=False):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
plt.show()
