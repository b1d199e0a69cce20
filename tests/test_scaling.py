"""Whether a column of numbers is better told by normal scores, or on its own scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from skae.table._scaling import FEWEST_VALUES, likelier_scaling


def gaussian(rng):
    return rng.normal(size=1000)


def clusters(rng):
    return rng.choice([-3.0, 0.0, 4.0], 1000) + 0.8 * rng.normal(size=1000)


def lognormal(rng):
    return np.exp(rng.normal(size=1000))


def exponential(rng):
    return rng.exponential(size=1000)


def zeros_and_numbers(rng):
    return np.where(rng.random(1000) < 0.3, 0.0, rng.normal(size=1000))


def grades(rng):
    return rng.integers(1, 6, 1000).astype(float)


def decades(rng):
    level = rng.choice([1e-5, 600.0, 9e4], 1000)
    return level * np.exp(0.25 * rng.normal(size=1000))


def heavy_tails(rng):
    return rng.standard_t(2, size=1000)


OF_ITS_OWN = [gaussian, clusters]
BY_SCORES = [lognormal, exponential, zeros_and_numbers, grades, decades, heavy_tails]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", OF_ITS_OWN, ids=lambda make: make.__name__)
def test_humps_keep_their_own_scale(make, seed):
    assert likelier_scaling(make(np.random.default_rng(seed)), None) == "standard"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", BY_SCORES, ids=lambda make: make.__name__)
def test_spikes_edges_and_heavy_tails_have_scores(make, seed):
    assert likelier_scaling(make(np.random.default_rng(seed)), None) == "quantile"


def test_few_values_have_scores():
    column = np.random.default_rng(0).normal(size=FEWEST_VALUES - 1)
    assert likelier_scaling(column, None) == "quantile"


@hypothesis_settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    exponent=st.integers(-600, 600),
    power=st.sampled_from([0.5, 1.0, 1.5]),
)
def test_order_copies_units_and_holes_say_nothing(seed, exponent, power):
    rng = np.random.default_rng(seed)
    column = np.exp(power * 0.4 * rng.normal(size=120))
    counts = rng.integers(1, 4, 120)
    chosen = likelier_scaling(column, counts.astype(float))
    other = rng.permutation(np.repeat(column, counts)) * 2.0**exponent
    assert likelier_scaling(np.r_[other, np.nan, np.nan], None) == chosen
