"""
Drawing digits
==============

A variational autoencoder is a density, and one can draw from it. The table has 64
columns of pixels and one that says which digit it is; drawn rows come with both, and
``given`` asks for one digit. ``density="networks"`` draws from the networks alone, and
saves the time of fitting mixtures to 64 columns.
"""

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from skae import VAETransformer

digits = load_digits(as_frame=True)
table = digits.data.assign(digit=digits.target.astype(str))
vae = VAETransformer(
    n_components=8, density="networks", max_iter=40, random_state=0
).fit(table)

# %%
# Five hundred rows are drawn, and six of each digit shown.
drawn = vae.sample(500, random_state=0)
figure, axes = plt.subplots(6, 10, figsize=(8, 5.2), layout="constrained")
for (digit, rows), column in zip(drawn.groupby("digit"), axes.T, strict=True):
    column[0].set_title(digit, fontsize=11)
    images = rows[digits.data.columns].to_numpy()
    for ax, image in zip(column, images, strict=False):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
plt.show()

# %%
# A dozen of one digit.
threes = vae.sample(12, random_state=0, given={"digit": "3"})
figure, axes = plt.subplots(1, 12, figsize=(8, 0.9), layout="constrained")
for ax, image in zip(axes, threes[digits.data.columns].to_numpy(), strict=True):
    ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
    ax.set(xticks=[], yticks=[])
plt.show()
