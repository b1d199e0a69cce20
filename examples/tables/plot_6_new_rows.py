"""
New rows, and how to judge them
===============================

``sample`` draws rows that resemble the table, ``sample(given=...)`` around values that
all of them shall have. ``SampleDisplay`` sets them beside rows that the fit has not
seen: column by column, correlation by correlation, and by a classifier that tries to
tell the two apart.
"""

# %%
import matplotlib.pyplot as plt
from palmerpenguins import load_penguins
from sklearn.model_selection import train_test_split

from skae import SampleDisplay, VAETransformer

birds = load_penguins().drop(columns="year")
train, test = train_test_split(birds, test_size=0.4, random_state=0)
vae = VAETransformer(n_components=3, random_state=0).fit(train)
vae.sample(5, random_state=0)

# %%
# Margins and correlations beside held-out birds.
SampleDisplay.from_estimator(vae, test, n_samples=400, random_state=0)
plt.show()

# %%
# Females of the island Dream: the share of each species, drawn and in the table.
given = {"sex": "female", "island": "Dream"}
drawn = vae.sample(500, random_state=0, given=given)["species"]
real = birds.query("sex == 'female' and island == 'Dream'")["species"]
for species in sorted(real.unique()):
    print(
        f"{species}: {(drawn == species).mean():.2f} drawn, "
        f"{(real == species).mean():.2f} in the table"
    )
