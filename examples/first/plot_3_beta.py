"""
A grid search chooses beta
==========================

``beta`` weighs how far a code may be from its prior. Large values give simple codes,
in the end none; small ones codes that hold more of a row. Since ``score`` is the
log-likelihood of held-out rows, a grid search can choose it. Take
``density="networks"`` for that: the score is then the likelihood of the networks,
which beta is about, and not that of the mixtures that are stacked with them.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, KFold

from skae import VAETransformer

X, species = load_iris(return_X_y=True)
vae = VAETransformer(n_components=2, density="networks", max_iter=60, random_state=0)
betas = [0.1, 0.5, 1.0, 2.0]
folds = KFold(5, shuffle=True, random_state=0)
search = GridSearchCV(vae, {"beta": betas}, cv=folds).fit(X)
print("chosen:", search.best_params_)

# %%
# The score of each value, and the codes at both ends and at the choice. A title says
# how many nats each component tells of a row. Where beta is larger still components
# die: they tell nothing any more, and ``fit`` warns of it.
figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
scores = search.cv_results_["mean_test_score"]
errors = search.cv_results_["std_test_score"] / np.sqrt(folds.n_splits)
axes[0].errorbar(betas, scores, yerr=errors, marker="o")
axes[0].axvline(search.best_params_["beta"], color="C3", linestyle=":")
axes[0].set(xscale="log", xlabel="beta", ylabel="log-likelihood (nats a row)")
axes[0].set_title("held-out rows")
for ax, beta in zip(axes[1:], [0.1, search.best_params_["beta"], 2.0], strict=True):
    fitted = vae.set_params(beta=beta).fit(X)
    ax.scatter(*fitted.transform(X).T, c=species, s=12, cmap="viridis")
    nats = fitted.kl_per_component_
    ax.set(title=f"beta {beta:g}: {nats[0]:.1f} and {nats[1]:.1f} nats")
    ax.set(xlabel="code 0", ylabel="code 1")
plt.show()
