"""
Sparse codes
============

``sparsity`` is the share of the codes that is exactly zero. Each row uses the few
components that tell it, and a code may have more components than the table has columns.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer

train, test = train_test_split(load_digits().data / 16, random_state=0)
settings = {"n_components": 64, "scaling": None, "legibility": 0.0, "random_state": 0}
figure, axes = plt.subplots(1, 3, figsize=(12, 3.3), layout="constrained")
for ax, sparsity in zip(axes, [0.0, 0.55, 0.85], strict=True):
    model = AutoencoderTransformer(sparsity=sparsity, **settings).fit(train)
    codes = model.transform(test)
    scaled = np.abs(codes[:40]) / np.abs(codes).max()
    ax.imshow(np.where(codes[:40] == 0, np.nan, scaled), cmap="viridis_r", vmax=0.5)
    ax.set(xlabel="component", ylabel="held-out row")
    ax.set_title(
        f"sparsity={sparsity}: {np.mean(codes == 0):.0%} zero (white)\n"
        f"R² {model.score(test):.3f}"
    )
plt.show()
