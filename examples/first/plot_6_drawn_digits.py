"""
Drawing digits
==============

A variational autoencoder is a density, and one can draw from it. The table has 64
columns of pixels and one that says which digit it is; drawn rows come with both, and
``given`` asks for one digit. A code of 64 pixels holds nearly all that a mixture of
Gaussians could add, so that ``density="networks"`` saves the time of fitting one.
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
# Six drawn images of each digit.
figure, axes = plt.subplots(6, 10, figsize=(8, 5), layout="constrained")
for digit, column in enumerate(axes.T):
    drawn = vae.sample(6, random_state=digit, given={"digit": str(digit)})
    images = drawn[digits.data.columns].to_numpy()
    for ax, image in zip(column, images, strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
    column[0].set_title(f"given {digit}", fontsize=9)
plt.show()
