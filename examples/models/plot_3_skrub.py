"""
A table of many kinds of columns, by skrub
==========================================

``TableVectorizer`` of `skrub <https://skrub-data.org>`_ makes dates and texts of many
values into numbers. skae then reduces them, and takes the columns of few levels as they
are: leave their encoding to it.
"""

# %%
# Orders of a shop that does not exist.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline
from skrub import TableVectorizer, ToCategorical

from skae import AutoencoderTransformer, LatentDisplay

rng = np.random.default_rng(0)
n = 600
day = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 365, n), unit="D")
summer = np.cos((day.day_of_year - 200) / 365 * 2 * np.pi)
goods = np.where(rng.random(n) < (1 + summer) / 2, "garden", "heating")
orders = pd.DataFrame(
    {
        "day": day,
        "goods": goods,
        "paid": rng.choice(["card", "cash", "invoice"], n),
        "price": np.exp(rng.normal(np.where(goods == "garden", 3, 5), 0.3)),
        "weight": np.exp(rng.normal(np.where(goods == "garden", 1, 3), 0.3)),
    }
)
orders.head(3)

# %%
# Columns of few levels become categorical and stay whole (``ToCategorical``); the date
# becomes its parts.
pipeline = make_pipeline(
    TableVectorizer(low_cardinality=ToCategorical()),
    AutoencoderTransformer(n_components=2, random_state=0),
)
pipeline.fit(orders)
vectorized = pipeline[:-1].transform(orders)
print(vectorized.dtypes.to_string())

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
LatentDisplay.from_estimator(pipeline[-1], vectorized, orders["goods"], ax=axes[0])
LatentDisplay.from_estimator(pipeline[-1], vectorized, orders["paid"], ax=axes[1])
axes[0].set_title("by goods")
axes[1].set_title("by payment")
plt.show()
