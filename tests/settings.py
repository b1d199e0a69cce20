"""Settings of both estimators that the contract is checked in, and shared tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from skae import AutoencoderTransformer, VAETransformer


@dataclass(frozen=True)
class UsersNetwork:
    """A network as a user would bring it, with layers of torch's own."""

    width: int = 8

    def __call__(self, n_inputs: int, n_outputs: int) -> nn.Module:
        first, last = nn.Linear(n_inputs, self.width), nn.Linear(self.width, n_outputs)
        return nn.Sequential(first, nn.Tanh(), nn.Dropout(0.1), last)


QUICK = {"max_iter": 3, "hidden_layer_sizes": (8, 4)}

DEFAULT = {"max_iter": 5, "hidden_layer_sizes": (128, 64)}

# Each check runs in each setting: a setting has as much as goes together.
BOTH = {
    "default": DEFAULT,
    "lbfgs, normal scores": {
        "solver": "lbfgs",
        "l1_penalty": 0.1,
        "scaling": "quantile",
        "n_components": 0.5,
    },
    "sgd, no scaling, own modules, warm start": {
        "solver": "sgd",
        "learning_rate": 0.001,
        "momentum": 0.5,
        "scaling": None,
        "n_components": 3,
        "encoder": UsersNetwork(),
        "decoder": UsersNetwork(),
        "warm_start": True,
    },
}
MIXED_WIDTHS = {
    "hidden_layer_sizes": [7, 3, 5],
    "activation": "tanh",
    "dropout": 0.3,
    "weight_decay": 0.1,
    "scaling": "minmax",
    "n_components": "auto",
}
AFFINE = {
    "hidden_layer_sizes": (),
    "n_components": 1,
    "batch_size": 4,
    "validation_fraction": 0.3,
}
TEXTBOOK = {
    "encoder": UsersNetwork(),
    "linear_path": False,
    "activation": "relu",
    "early_stopping": False,
    "validation_fraction": None,
}

AUTOENCODER = {
    **BOTH,
    "absolute error, affine, small batches": {
        "loss": "absolute_error",
        "sparsity": 0.1,
        "noise": 0.0,
        **AFFINE,
    },
    "Huber, mixed widths, min-max scaling": {
        "loss": "huber",
        "noise": 0.5,
        "masking": 0.2,
        **MIXED_WIDTHS,
    },
    "cross-entropy, textbook networks, own encoder, all epochs": {
        "loss": "binary_cross_entropy",
        **TEXTBOOK,
    },
}

VAE = {
    **BOTH,
    "Laplace, few parts, mixed widths, min-max scaling": {
        "likelihood": "laplace",
        "beta": 4.0,
        "kl_warmup": 2,
        "n_prior_components": 3,
        **MIXED_WIDTHS,
    },
    "Bernoulli, textbook networks, own encoder, all epochs": {
        "likelihood": "bernoulli",
        "free_bits": 0.2,
        **TEXTBOOK,
    },
    "one particle, affine, small batches": {
        "prior": "normal",
        "n_particles": 1,
        **AFFINE,
    },
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
