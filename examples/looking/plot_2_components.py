"""
What a component means
======================

Components of a code come in the order of what they carry. ``ComponentsDisplay`` shows
what each of them moves, and ``traverse`` decodes rows along one of them. At the start
both are those of PCA: its loadings, and straight lines.
"""

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer

from skae import AutoencoderTransformer, ComponentsDisplay, traverse

tumours = load_breast_cancer(as_frame=True).data
autoencoder = AutoencoderTransformer(n_components=3, random_state=0).fit(tumours)
print("share of the variance:", autoencoder.explained_variance_ratio_.round(2))

# %%
figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
ComponentsDisplay.from_estimator(autoencoder, tumours, n_columns=14, ax=axes[0])

# Along the first component, in standard deviations of each column.
walk = traverse(autoencoder, tumours, component=0, n_steps=30)
scaled = (walk - tumours.mean()) / tumours.std()
for column in [
    "mean area",
    "mean concavity",
    "mean smoothness",
    "mean fractal dimension",
]:
    axes[1].plot(scaled.index, scaled[column], label=column)
axes[1].set(xlabel="component 0", ylabel="standard deviations from the mean")
axes[1].set_title("rows along the first component")
axes[1].legend()
plt.show()
