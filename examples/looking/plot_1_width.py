"""
How many components
===================

``WidthDisplay`` scores widths of the code on held-out folds, PCA's beside them, and
marks the least width that is as good as the best one.
"""

# %%
# Twelve columns that two hidden numbers make, along curves, with some noise. Two
# components of the autoencoder hold what five of PCA do.
import matplotlib.pyplot as plt
import numpy as np

from skae import AutoencoderTransformer, WidthDisplay

rng = np.random.default_rng(0)
hidden = rng.uniform(-2, 2, (400, 2))
waves = np.sin(hidden @ rng.normal(size=(2, 12)) + rng.uniform(0, 6, 12))
X = waves + rng.normal(0, 0.1, waves.shape)

autoencoder = AutoencoderTransformer(random_state=0)
widths = [1, 2, 3, 6]
display = WidthDisplay.from_estimator(autoencoder, X, n_components=widths, cv=3)
print(f"chosen: {display.chosen}")
plt.show()

# %%
# The same as a table.
display.frame.round(3)
