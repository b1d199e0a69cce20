"""
A map of digits, beside PCA's
=============================

Two components of 64 pixels: where PCA lays the ten digits over each other, the
autoencoder's map of the same width keeps most of them apart. The rows on both maps are
held out.
"""

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from skae import AutoencoderTransformer

X, digits = load_digits(return_X_y=True)
train, test, train_digits, test_digits = train_test_split(
    X, digits, stratify=digits, random_state=0
)

# %%
# Pixels have one unit, so that ``scaling=None`` is right: the start is PCA of the
# pixels. Without steps of training (``max_iter=0``) the model is exactly that.
settings = {"n_components": 2, "scaling": None, "random_state": 0}
models = {
    "PCA": AutoencoderTransformer(max_iter=0, **settings),
    "AutoencoderTransformer": AutoencoderTransformer(**settings),
}
figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    model.fit(train)
    codes = model.transform(test)
    neighbours = KNeighborsClassifier().fit(model.transform(train), train_digits)
    accuracy = neighbours.score(codes, test_digits)
    for digit in range(10):
        chosen = codes[test_digits == digit]
        ax.scatter(*chosen.T, s=36, color=f"C{digit}", marker=f"${digit}$")
    ax.set(xticks=[], yticks=[], xlabel="component 0", ylabel="component 1")
    ax.set_title(f"{name}\nR² {model.score(test):.2f}, neighbours {accuracy:.0%} right")
plt.show()
