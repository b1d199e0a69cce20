"""
Holes within a pipeline
=======================

``AutoencoderImputer`` fills holes as a step of a pipeline, where a ``SimpleImputer``
would stand. The model that follows then sees what the other cells of a row let expect,
and not the mean of the column.
"""

# %%
# Measures of tumours of which more and more cells are lost. The regression predicts a
# column that is left out, the area; its score is R² in folds.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderImputer, AutoencoderTransformer

measures = load_breast_cancer(as_frame=True).data.iloc[:, :10]
y = np.log(measures["mean area"])
X = measures.drop(columns=["mean area", "mean perimeter"])
lost = np.random.default_rng(0).random(X.shape)

imputers = {
    "mean of the column": SimpleImputer(),
    "AutoencoderImputer": AutoencoderImputer(
        AutoencoderTransformer(n_components=3, max_iter=30), random_state=0
    ),
}
shares = [0.0, 0.2, 0.4]
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, imputer in imputers.items():
    pipeline = make_pipeline(imputer, StandardScaler(), RidgeCV())
    scores = [
        cross_val_score(pipeline, X.mask(lost < share), y, cv=2).mean()
        for share in shares
    ]
    ax.plot(shares, scores, marker="o", label=name)
ax.set(xlabel="share of cells that are lost", ylabel="R² of the regression in folds")
ax.set_xticks(shares)
ax.legend()
plt.show()
