"""Normal scores of several columns in torch, against those of each by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skae.export._normal_scores import Scores
from skae.table._scores import SmoothScores


def columns(n_rows=400):
    rng = np.random.default_rng(0)
    x = rng.normal(size=n_rows)
    spiked = np.where(rng.random(n_rows) < 0.4, 0.0, np.exp(x))
    return np.column_stack([x, np.exp(2 * x), spiked, rng.integers(0, 3, n_rows)])


TABLE = columns()
MAPS = [SmoothScores(column, None) for column in TABLE.T]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_columns_have_the_scores_of_each(dtype):
    beyond = np.concatenate([TABLE, 30 * TABLE, -TABLE]).astype(dtype)
    expected = np.column_stack(
        [m.scores(c) for m, c in zip(MAPS, beyond.T, strict=True)]
    )
    found = Scores(MAPS)(torch.from_numpy(beyond)).numpy()
    assert found.dtype == dtype
    assert_allclose(found, expected, rtol=1e-6 if dtype == np.float32 else 1e-12)


def test_all_scores_lead_back_to_the_values_of_each():
    scores = np.random.default_rng(1).normal(scale=2, size=(500, 4))
    expected = np.column_stack(
        [m.inverse(s) for m, s in zip(MAPS, scores.T, strict=True)]
    )
    found = Scores(MAPS).inverse(torch.from_numpy(scores)).numpy()
    assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_holes_stay_holes():
    holed = torch.from_numpy(TABLE[:5].copy())
    holed[2, 1] = torch.nan
    assert Scores(MAPS)(holed).isnan().sum() == 1
