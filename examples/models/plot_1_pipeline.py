"""
Codes as features, and a search over their width
================================================

Write the autoencoder where PCA stands in a pipeline, and search over its width with the
score of the model that follows.
"""

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

from skae import AutoencoderTransformer

X, digits = load_digits(return_X_y=True)
X, digits = X[::3], digits[::3]
widths = [1, 2, 4, 8]
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, reduce in {
    "PCA": PCA(),
    "AutoencoderTransformer": AutoencoderTransformer(scaling=None, random_state=0),
}.items():
    pipeline = Pipeline([("reduce", reduce), ("classify", KNeighborsClassifier())])
    search = GridSearchCV(pipeline, {"reduce__n_components": widths}, cv=2, refit=False)
    scores = search.fit(X, digits).cv_results_["mean_test_score"]
    ax.plot(widths, scores, marker="o", label=name)
ax.set(xscale="log", xlabel="components", ylabel="accuracy of neighbours in folds")
ax.set_xticks(widths, widths)
ax.minorticks_off()
ax.legend()
plt.show()
