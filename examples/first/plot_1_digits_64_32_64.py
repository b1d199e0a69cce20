"""
64-32-64 with ReLU, sigmoid and cross-entropy
=============================================

Many introductions begin with this network: 64 pixels, 32 hidden units with ReLU, 64
outputs with a sigmoid, and the cross-entropy of the pixels as loss. Here it is as a
scikit-learn transformer, and beside it the default of the same width, which needs no
choice of a network.
"""

# %%
# Half of the digits train, the other half are reconstructed.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skae import AutoencoderTransformer

pixels = load_digits().data / 16
train, test = train_test_split(pixels, test_size=0.5, random_state=0)

# %%
# The network of the tutorial. ``encoder`` and ``decoder`` take any function that makes
# a module; ``linear_path=False`` leaves out the linear path, so that nothing but these
# two layers is trained. A decoder for cross-entropy may return logits or, as this one,
# chances.


def relu_encoder(n_inputs, n_outputs):
    return nn.Sequential(nn.Linear(n_inputs, n_outputs), nn.ReLU())


def sigmoid_decoder(n_inputs, n_outputs):
    return nn.Sequential(nn.Linear(n_inputs, n_outputs), nn.Sigmoid())


textbook = AutoencoderTransformer(
    n_components=32,
    encoder=relu_encoder,
    decoder=sigmoid_decoder,
    linear_path=False,
    loss="binary_cross_entropy",
    random_state=0,
).fit(train)

# %%
# The same width with the defaults. The pixels have one unit already, so that
# ``scaling=None`` makes PCA of the raw pixels the start.
default = AutoencoderTransformer(n_components=32, scaling=None, random_state=0)
default.fit(train)
start = AutoencoderTransformer(n_components=32, scaling=None, max_iter=0).fit(train)

# %%
# Reconstructions of digits that no model has seen, and the mean squared error of a
# pixel over all of them.
rows = {"held-out digits": test}
for name, model in {"64-32-64": textbook, "PCA": start, "default": default}.items():
    back = model.inverse_transform(model.transform(test))
    rows[f"{name}: {np.square(test - back).mean():.4f}"] = back

figure, axes = plt.subplots(4, 10, figsize=(9, 4.4), layout="constrained")
for line, (title, images) in zip(axes, rows.items(), strict=True):
    for ax, image in zip(line, images, strict=False):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    line[0].set_title(title, loc="left", fontsize=10)
plt.show()
