"""
A map of texts
==============

The table of TF-IDF is sparse, and goes in as it is: rows become dense a batch at a
time. The texts are what scikit-learn says of its own functions and classes, so that
there is nothing to download.
"""

# %%
import inspect
from importlib import import_module

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier

from skae import AutoencoderTransformer

PARTS = ["cluster", "datasets", "ensemble", "linear_model", "metrics", "preprocessing"]


def described(part):
    """Return what a part of scikit-learn says of its classes, methods and functions."""
    module = import_module(f"sklearn.{part}")
    objects = [getattr(module, name) for name in module.__all__]
    of_classes = [vars(one).values() for one in objects if inspect.isclass(one)]
    methods = [m for found in of_classes for m in found if inspect.isfunction(m)]
    return {inspect.getdoc(one) or "" for one in [*objects, *methods]}


texts = {part: sorted(t for t in described(part) if len(t) > 300) for part in PARTS}
labels = np.repeat(PARTS, [len(texts[part]) for part in PARTS])
X = TfidfVectorizer(stop_words="english", sublinear_tf=True, min_df=3).fit_transform(
    [text for part in PARTS for text in texts[part]]
)
train, test, of_train, of_test = train_test_split(X, labels, random_state=0)
print(
    f"{X.shape[0]} texts, {X.shape[1]} words, {X.nnz / np.prod(X.shape):.1%} not zero"
)

# %%
# On a sparse table ``scaling="auto"`` leaves the columns as they are, so that the start
# is what PCA of the matrix would be, which is never made dense for it either.
models = {
    "PCA": PCA(2, svd_solver="arpack", random_state=0),
    "AutoencoderTransformer": AutoencoderTransformer(2, random_state=0),
}
figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    codes = model.fit(train).transform(test)
    right = cross_val_score(KNeighborsClassifier(10), codes, of_test).mean()
    for part in PARTS:
        ax.scatter(*codes[of_test == part].T, s=12, label=part)
    ax.set_title(f"{name}: neighbours {right:.0%} right")
    ax.set(xlabel="component 0", ylabel="component 1")
figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=6)
plt.show()
