"""Fitted models around modules that are made by hand."""

from __future__ import annotations

import numpy as np
from models import N_FEATURES, rows_of_table

from skae._schema import KINDS, Block
from skae.model._evidence import NetworkBound, NetworkDensity
from skae.model._model import Model
from skae.model._pca import principal_components
from skae.network._design import Design

NUMBERS = (Block(KINDS["gaussian"], (1,) * N_FEATURES),)


def model_around(module, blocks=NUMBERS, *, linear_path=True, is_trained=False):
    """Return a model whose network is given, and which fills holes by the table."""
    n_codes = module.prior.n_components
    design = Design(blocks, n_codes, (), "silu", 0.0, linear_path, is_variational=True)
    linear = principal_components(rows_of_table().numpy(), n_codes)
    order = np.arange(n_codes)[::-1]  # of which no density may know
    key = "cpu", str(next(module.parameters()).dtype)
    of_fit = design, linear, {}, order, "cpu", is_trained
    return Model(*of_fit, _modules={key: module})


def rows_and_seen(cells):
    """Return cells as rows of the matrix, and which of those are seen."""
    X = cells.values.numpy()
    widths = [1] * X.shape[1]
    if cells.seen is None:
        return X, np.ones(X.shape, dtype=bool)
    if cells.seen.shape != cells.values.shape:
        widths = [1, X.shape[1] - 1]  # a column of two levels, and one of more
    return X, np.repeat(cells.seen.numpy() > 0, widths, axis=1)


def network_density(module, n_points, blocks=NUMBERS, *, linear_path=True):
    model = model_around(module, blocks, linear_path=linear_path)
    return NetworkDensity(model, n_points)


def bound_of(density, X, seen):
    """Return the ELBO of the seen cells of each row."""
    bound = NetworkBound(density.model, density.n_points)
    return bound.given(X, seen).log_density
