"""
L1, L2 and dropout
==================

Three ways to keep a network from learning its few training rows by heart. Each acts on
the weights in its own way: L2 leaves none of them large, L1 leaves most of them at zero
and a few large, and dropout leaves out units at random, so that no other unit can rely
on them.
"""

# %%
# Forty rows of 30 columns, and networks without a linear path and without a judge, so
# that nothing but the penalty holds them back.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer

X = load_breast_cancer().data
train, test = train_test_split(X, train_size=40, random_state=0)
plain = {
    "n_components": 6,
    "hidden_layer_sizes": (64,),
    "linear_path": False,
    "noise": 0.0,
    "validation_fraction": None,
    "random_state": 0,
}
penalties = {
    "none": {"weight_decay": 0.0},
    "L2 (weight_decay=3)": {"weight_decay": 3.0},
    "L1 (l1_penalty=0.2)": {"weight_decay": 0.0, "l1_penalty": 0.2},
    "dropout of 0.2": {"weight_decay": 0.0, "dropout": 0.2},
}

# %%
# The weights of the first layer, a row for each of its 64 units. What the penalty does
# to held-out rows is in the titles.
figure, axes = plt.subplots(1, 4, figsize=(13, 5), layout="constrained")
for ax, (name, penalty) in zip(axes, penalties.items(), strict=True):
    model = AutoencoderTransformer(**plain, **penalty).fit(train)
    weights = next(p for p in model.module_.parameters() if p.shape == (64, 30))
    weights = weights.detach().cpu().numpy()
    image = ax.imshow(weights, cmap="RdBu_r", vmin=-0.6, vmax=0.6, aspect="auto")
    small, largest = np.mean(np.abs(weights) < 0.01), np.abs(weights).max()
    ax.set_title(
        f"{name}\nR² {model.score(train):.2f} on the training rows,\n"
        f"{model.score(test):.2f} on held-out ones",
        fontsize=10,
    )
    ax.set_xlabel(f"column\n{small:.0%} below 0.01, largest {largest:.2f}")
axes[0].set_ylabel("hidden unit")
figure.colorbar(image, ax=axes, label="weight", shrink=0.7)
plt.show()
