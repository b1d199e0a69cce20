"""Settings of both estimators that the contract is checked in, and shared tables."""

from __future__ import annotations

import numpy as np
from torch import nn

from skae import AutoencoderTransformer, VAETransformer


def users_network(n_inputs: int, n_outputs: int) -> nn.Module:
    """Make a network as a user would bring it, with layers of torch's own."""
    return nn.Sequential(
        nn.Linear(n_inputs, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, n_outputs)
    )


QUICK = {"max_iter": 3, "hidden_layer_sizes": (8, 4)}

DEFAULT = {"max_iter": 60, "hidden_layer_sizes": (128, 64)}

BOTH = {
    "default": DEFAULT,
    "sgd": {"solver": "sgd", "learning_rate": 0.01, "momentum": 0.5},
    "lbfgs": {"solver": "lbfgs", "l1_penalty": 0.1},
    "textbook networks": {"linear_path": False, "activation": "relu"},
    "mixed widths": {
        "hidden_layer_sizes": [7, 3, 5],
        "activation": "tanh",
        "dropout": 0.3,
        "weight_decay": 0.1,
    },
    "affine": {"hidden_layer_sizes": (), "n_components": 1},
    "all epochs": {"early_stopping": False, "validation_fraction": None},
    "small batches": {"batch_size": 4, "validation_fraction": 0.3, "l1_penalty": 0.1},
    "own modules": {"encoder": users_network, "decoder": users_network},
    "own modules alone": {"encoder": users_network, "linear_path": False},
    "min-max scaling": {
        "scaling": "minmax",
        "activation": "gelu",
        "n_components": "auto",
    },
    "normal scores": {"scaling": "quantile", "n_components": 0.5},
    "no scaling": {"scaling": None, "n_components": 3},
    "warm start": {"warm_start": True},
}

AUTOENCODER = {
    **BOTH,
    "absolute error": {"loss": "absolute_error", "sparsity": 0.1, "noise": 0.0},
    "Huber": {"loss": "huber", "noise": 0.5, "masking": 0.2},
    "cross-entropy": {"loss": "binary_cross_entropy"},
}

VAE = {
    **BOTH,
    "Laplace": {"likelihood": "laplace", "beta": 4.0, "kl_warmup": 2},
    "Bernoulli": {"likelihood": "bernoulli", "free_bits": 0.2},
    "few parts": {"n_prior_components": 3, "solver": "sgd"},
    "standard prior": {"prior": "normal"},
    "one particle": {"prior": "normal", "n_particles": 1},
}

ESTIMATORS = {
    f"{cls.__name__}, {name}": cls(**{**QUICK, **parameters})
    for cls, settings in ((AutoencoderTransformer, AUTOENCODER), (VAETransformer, VAE))
    for name, parameters in settings.items()
}


def curved_table(n_samples: int = 300, seed: int = 0) -> np.ndarray:
    """Draw a table of five columns that lie near a curved surface of two dimensions."""
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(-2, 2, size=(2, n_samples))
    columns = np.c_[u, v, u**2, u * v, np.sin(2 * v)]
    return 3 + columns * [1, 10, 100, 0.1, 1] + 0.05 * rng.normal(size=columns.shape)
