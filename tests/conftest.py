"""What holds in every test: the array API is on, and no global generator is touched."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # before anything imports scipy
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run side by side already

import random

import numpy as np
import pytest
import torch

import skae

torch.set_num_threads(1)  # small tables gain nothing from a second one
if not torch.cuda.is_available():
    # scikit-learn's checks of tensors on a GPU ask whether torch was built for one, as
    # the usual wheels are, not whether one is here.
    torch.backends.cuda.is_built = lambda: False


def global_states():
    _, key, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), key.tobytes(), rest, torch.get_rng_state().tolist()


# Where a model of codes is chosen among many mixtures, and held to what it learns.
OF_ALL_MIXTURES = {
    "test_choice",
    "test_codes",
    "test_autoencoder",
    "test_vae",
    "test_stored",
    "test_documentation",
    "test_comparison",
    "test_network_stack",
}

# Where a VAE of few rows is held to what every row of a table may ask of it.
OF_FOLDS = {"test_contract", "test_table_density"}


@pytest.fixture(autouse=True)
def few_mixtures_where_they_are_not_the_matter(request, monkeypatch):
    module = request.module.__name__
    if module.startswith("test_") and module not in OF_ALL_MIXTURES:
        monkeypatch.setattr("skae.model._choice.SIZES", (1, 3))
        monkeypatch.setattr("skae.model._network_stack.STACKING_POINTS", 8)
        if module not in OF_FOLDS:
            monkeypatch.setattr(skae.VAETransformer, "_most_folded", 0)


@pytest.fixture(autouse=True)
def global_generators_stay_as_they_are(request):
    before = global_states()
    yield
    if request.module.__name__ != "test_contract":  # scikit-learn's checks seed numpy
        assert global_states() == before
