"""
A 2-2-2 network by gradient descent
===================================

The smallest autoencoder: two columns, two hidden units, two outputs, trained for 1,000
steps of stochastic gradient descent. Two units can hold two columns, so that the net
only has to learn to hand them on. With one unit something has to be left out, and there
a curve beats a straight line.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from torch import nn

from skae import AutoencoderTransformer

X, moon = make_moons(600, noise=0.06, random_state=0)
X = X[moon == 0]  # one arc of 300 rows

# %%
# One batch holds all rows, so that an epoch is a step and ``loss_curve_`` has a value
# for each of the 1,000. Without a linear path and without held-out rows this is plain
# gradient descent on the two layers.


def tanh_layer(n_inputs, n_outputs):
    return nn.Sequential(nn.Linear(n_inputs, n_outputs), nn.Tanh())


net = AutoencoderTransformer(
    n_components=2,
    encoder=tanh_layer,
    decoder=nn.Linear,
    linear_path=False,
    noise=0.0,
    solver="sgd",
    learning_rate=0.05,
    batch_size=len(X),
    max_iter=1_000,
    early_stopping=False,
    validation_fraction=None,
    random_state=0,
).fit(X)
print(f"{net.n_iter_} steps, R² {net.score(X):.3f}")

# %%
# One component: PCA's line, and the curve that starts there. Both columns have one
# unit, so that ``scaling=None`` is right: the line is that of PCA of the raw table.
one = {"n_components": 1, "scaling": None, "random_state": 0}
line = AutoencoderTransformer(max_iter=0, **one).fit(X)
curve = AutoencoderTransformer(**one).fit(X)

figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
axes[0].semilogy(np.arange(1, 1_001), net.loss_curve_)
axes[0].set(xlabel="step", ylabel="squared error", title="2-2-2 by gradient descent")
back = net.inverse_transform(net.transform(X))
axes[1].scatter(*X.T, s=14, color="0.75", label="rows")
axes[1].scatter(*back.T, s=5, color="C0", label="through two units")
axes[1].set(title=f"2-2-2: R² {net.score(X):.3f}")
axes[2].scatter(*X.T, s=14, color="0.75", label="rows")
for model, name, colour in [(line, "PCA", "C1"), (curve, "autoencoder", "C0")]:
    codes = np.linspace(*np.quantile(model.transform(X), [0, 1]), 200)
    way = model.inverse_transform(codes[:, None])
    label = f"{name}: R² {model.score(X):.3f}"
    axes[2].plot(*way.T, color=colour, label=label, linewidth=2.5)
axes[2].set(title="one component")
for ax in axes[1:]:
    ax.set_ylim(-0.75, 1.2)
    ax.legend(loc="lower center", frameon=False)
plt.show()
