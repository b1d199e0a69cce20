"""
A code that others can read
===========================

An encoder that is free bends the code as it likes, if that tells more of a row. A model
that follows must then undo the bending. ``legibility`` is the price of what is
nonlinear in a code: at its default of 0.25 the code stays near a linear one, and the
decoder is free. ``legibility=0`` frees the encoder too, for compression, and
``neighborhood=3`` draws a map: what is near in the table is to be near on it, as in
t-SNE, with a way back to rows, and a place for rows that are new.
"""

# %%
# Digits on two components. The titles say how much of the table the code explains, and
# how many digits a linear model reads from it.
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from skae import AutoencoderTransformer

X, digits = load_digits(return_X_y=True)
figure, axes = plt.subplots(1, 4, figsize=(15, 4), layout="constrained")
for ax, (name, settings) in zip(
    axes,
    {
        "PCA": {"max_iter": 0},
        "as it comes": {},
        "legibility=0": {"legibility": 0.0},
        "neighborhood=3": {"neighborhood": 3.0},
    }.items(),
    strict=True,
):
    model = AutoencoderTransformer(2, random_state=0, **settings).fit(X)
    codes = model.transform(X)
    read = cross_val_score(LogisticRegression(max_iter=2_000), codes, digits).mean()
    ax.scatter(*codes.T, c=digits, s=5, cmap="tab10")
    ax.set(xticks=[], yticks=[], xlabel="component 0", ylabel="component 1")
    ax.set_title(f"{name}\nR² {model.score(X):.2f}, a linear model reads {read:.0%}")
plt.show()
