"""
What training did
=================

``LossCurveDisplay`` shows the losses of a fit over its epochs, the loss of the start,
and the epoch whose weights were kept. Where held-out rows do not prove a gain the start
is kept, and ``best_iter_`` is 0.
"""

# %%
# Columns that depend on each other, and columns that do not.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer, LossCurveDisplay

noise = np.random.default_rng(0).normal(size=(1_797, 64))
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for ax, (name, X) in zip(
    axes, {"digits": load_digits().data, "noise": noise}.items(), strict=True
):
    autoencoder = AutoencoderTransformer(n_components=8, random_state=0).fit(X)
    LossCurveDisplay.from_estimator(autoencoder, ax=ax)
    ax.set_title(f"{name}: kept is epoch {autoencoder.best_iter_}")
plt.show()
