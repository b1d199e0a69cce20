"""
Why a row is odd, by shap
=========================

`shap <https://shap.readthedocs.io>`_ shares out a score among the columns of a row.
``score_samples`` is such a score. ``score_cells`` answers the same question without it,
by the density of each cell given the others.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import shap
from sklearn.datasets import load_wine

from skae import VAETransformer

wines = load_wine(as_frame=True).data.rename(
    columns={"od280/od315_of_diluted_wines": "od280/od315"}
)
vae = VAETransformer(n_components=4, random_state=0).fit(wines)
odd = wines.loc[[90]].assign(hue=0.2)  # less than any wine has


def score(rows):
    return vae.score_samples(pd.DataFrame(rows, columns=wines.columns))


# %%
# What each column takes from the log-likelihood of the row, against ten rows of the
# table; beside it the log-density of each cell given the others.
background = shap.sample(wines.to_numpy(), 10, random_state=0)
explainer = shap.PermutationExplainer(score, background, seed=0)
(explained,) = explainer(odd.to_numpy(), max_evals=27, silent=True)
values = explained.values
cells = vae.score_cells(odd).iloc[0]

order = np.argsort(values)[::-1]
figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", sharey=True)
axes[0].barh(wines.columns[order], values[order], color="C0")
axes[0].set(title="shap: share of the log-likelihood", xlabel="nats")
axes[1].barh(wines.columns[order], cells.iloc[order], color="C1")
axes[1].set(title="score_cells: density given the others", xlabel="nats")
plt.show()
