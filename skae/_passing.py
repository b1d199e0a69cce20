"""What callbacks may ask of a model that trains on."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any

import numpy as np

from ._schema import Encoded
from .model._conditional import Density
from .model._deferred import Deferred
from .model._model import Model
from .model._network_stack import density_of_networks
from .model._reconstruction import ReconstructionDensity
from .table._table import Table


def passing_attributes(
    table: Table, model: Model, encoded: Encoded, training: np.ndarray, seed: int
) -> dict[str, Any]:
    """Return what verbs need beside the model; the density is made when asked."""
    return {
        "_table": copy(table),  # which will learn what the density draws
        "_density": Deferred(partial(_density, model, encoded, training, seed)),
        "_summary_seed": seed,
    }


def _density(
    model: Model, encoded: Encoded, training: np.ndarray, seed: int
) -> Density:
    """Make a density at little cost: of a VAE the networks and their safeguard."""
    rows = encoded.take(training)
    if not model.design.is_variational:
        return ReconstructionDensity.learn(model, rows, seed)
    return density_of_networks(
        model, [], seed, alone=True, trained=True, can_judge=False
    )
