"""Losses and likelihoods of every kind, with outputs and rows for each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from models import draws, generator

from skae.network._likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Binary,
    Categorical,
    NegativeBinomial,
    Poisson,
)
from skae.network._losses import LOSSES, SquaredErrorOfBinary, SquaredErrorOfLevels
from skae.network._outputs import Mixed

SPREAD = [0.5, 1.0, 2.0]
FLOOR = 0.01
CENTRE = torch.tensor([0.3, 0.5, 0.8]).double()
SCALE = torch.tensor([0.5, 2.0, 1.5]).double()
WIDTHS = (3, 2, 4)
FREQUENCIES = torch.tensor([0.5, 0.3, 0.2, 0.9, 0.1, 0.4, 0.3, 0.2, 0.1]).double()
LEVEL_SCALE = torch.tensor([0.8, 0.4, 0.7]).double()[[0, 0, 0, 1, 1, 2, 2, 2, 2]]
COUNT_CENTRE = torch.tensor([1.0, 3.0, 10.0]).double()


def shares(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(size=shape))


def likelihood(name, spread=SPREAD, floor=FLOOR):
    """Make one with learned noise."""
    spread = torch.tensor(spread, dtype=torch.float64)
    return LIKELIHOODS[name](spread, torch.full_like(spread, floor))


def negative_binomial(size=(0.5, 2.0, 20.0)):
    found = NegativeBinomial(COUNT_CENTRE, SCALE)
    found.log_size.data = torch.tensor(size).double().log()
    return found


PARTS = ["gaussian", "negative_binomial", "laplace", "binary", "categorical"]
SIZES = [3, 3, 3, 3, 9]


def mixed():
    return Mixed([(KINDS[kind](), n) for kind, n in zip(PARTS, SIZES, strict=True)])


OF_LOSSES = {
    **LOSSES,
    "binary levels": lambda: SquaredErrorOfBinary(CENTRE, SCALE),
    "levels": lambda: SquaredErrorOfLevels(WIDTHS, FREQUENCIES, LEVEL_SCALE),
}
OF_NOISE = {
    name: lambda name=name: likelihood(name) for name in ("gaussian", "laplace")
}
OF_COUNTS = {
    "poisson": lambda: Poisson(COUNT_CENTRE, SCALE),
    "negative_binomial": negative_binomial,
}
OF_LIKELIHOODS = {
    **OF_NOISE,
    **OF_COUNTS,
    "bernoulli": Bernoulli,
    "binary": lambda: Binary(CENTRE, SCALE),
    "categorical": lambda: Categorical(WIDTHS, FREQUENCIES, LEVEL_SCALE),
    "mixed": mixed,
}
KINDS = OF_LOSSES | OF_LIKELIHOODS
N_COLUMNS = dict.fromkeys(KINDS, 3) | {"levels": 9, "categorical": 9, "mixed": 21}
N_EXTRA = dict.fromkeys(KINDS, 0) | {"gaussian": 3, "laplace": 3, "mixed": 6}


def indicators(n_rows, seed=0):
    """Draw raw indicators of columns of three, two and four levels."""
    rng = np.random.default_rng(seed)
    levels = [np.eye(width)[rng.integers(width, size=n_rows)] for width in WIDTHS]
    return torch.from_numpy(np.concatenate(levels, axis=1))


def rows_of(kind, n_rows=6, seed=0):
    """Draw rows of a kind as the matrix holds them."""
    rng = np.random.default_rng(seed)
    if kind == "mixed":
        return torch.cat([rows_of(part, n_rows, seed) for part in PARTS], dim=1)
    if kind in ("levels", "categorical"):
        return (indicators(n_rows, seed) - FREQUENCIES) / LEVEL_SCALE
    if kind in OF_COUNTS:
        counts = torch.from_numpy(rng.poisson(5.0, size=(n_rows, 3)))
        return (counts - COUNT_CENTRE) / SCALE
    if kind in ("binary", "binary levels"):
        return ((shares(n_rows, 3, seed=seed) > 0.4).double() - CENTRE) / SCALE
    if kind in ("bernoulli", "binary_cross_entropy"):
        return shares(n_rows, 3, seed=seed)
    return 2 * draws(n_rows, 3, seed=seed)


def outputs_of(kind, *shape, seed=9):
    return draws(*shape, N_COLUMNS[kind] + N_EXTRA[kind], seed=seed)


def padded(kind, output):
    """Add the outputs that come after those of the columns, at zero."""
    return torch.nn.functional.pad(output, (0, N_EXTRA[kind]))


def of(kinds):
    return pytest.mark.parametrize("kind", kinds)


SOME_WIDTHS = st.lists(st.integers(1, 5), min_size=1, max_size=6)


def raw_of(kind, x):
    return SCALE * x + (COUNT_CENTRE if kind in OF_COUNTS else CENTRE)


N_DRAWS = 4000


def samples_of(kind, output, seed=0):
    found = KINDS[kind]().sample(output.expand(N_DRAWS, -1), generator(seed))
    return found.detach()


def assert_frequencies(drawn, chances):
    """Assert that shares of ones differ from their chances by chance alone."""
    error = (chances * (1 - chances) / len(drawn)).sqrt()
    assert ((drawn.mean(dim=0) - chances).abs() <= 4 * error).all()
