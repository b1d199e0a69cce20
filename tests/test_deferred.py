"""A density that is made when it is first asked."""

from __future__ import annotations

import pickle

import numpy as np
from numpy.testing import assert_array_equal

from skae.model._deferred import Deferred
from skae.model._level_columns import LevelColumns
from skae.model._mixture import Mixture

NORMAL = Mixture(
    np.ones(1), np.zeros((1, 2)), np.eye(2)[None], np.empty((1, 0)), LevelColumns()
)


class Maker:
    def __init__(self):
        self.n_calls = 0

    def __call__(self):
        self.n_calls += 1
        return NORMAL


def test_it_is_made_once_and_not_before_it_is_asked():
    maker = Maker()
    density = Deferred(maker)
    assert maker.n_calls == 0
    X, seen = np.ones((3, 2)), np.ones((3, 2), dtype=bool)
    known = density.given(X, seen).log_density
    assert_array_equal(known, NORMAL.given(X, seen).log_density)
    draws = [d.sample(4, np.random.default_rng(0)) for d in (density, NORMAL)]
    assert_array_equal(*draws)
    assert density.at(7).at(3) is not density
    assert maker.n_calls == 1


def test_it_is_saved_as_made():
    saved = pickle.dumps(Deferred(lambda: NORMAL))
    density = pickle.loads(saved)  # noqa: S301
    draws = [d.sample(4, np.random.default_rng(0)) for d in (density, NORMAL)]
    assert_array_equal(*draws)
