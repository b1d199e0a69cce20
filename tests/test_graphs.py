"""Table to code and back as modules of torch, against the transformers' own verbs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from settings import curved_table

from skae import AutoencoderTransformer, VAETransformer
from skae.export._graphs import CodeToTable, TableToCode

X = curved_table()
BOTH = [AutoencoderTransformer, VAETransformer]


@pytest.mark.parametrize("transformer", BOTH)
@pytest.mark.parametrize("levels", [None, [3]])
def test_modules_compute_what_the_verbs_do(transformer, levels):
    table = X.copy()
    if levels:
        table[:, 3] = np.arange(len(X)) % 3
    estimator = transformer(
        3, categorical_features=levels, scaling="quantile", max_iter=3, random_state=0
    ).fit(table)
    parts = estimator._table, estimator._model, torch.float64
    codes = estimator.transform(table)
    with torch.no_grad():
        found = TableToCode(*parts)(numbers=torch.from_numpy(table))
        (rows,) = CodeToTable(*parts)(torch.from_numpy(codes))
    assert_allclose(found, codes, atol=1e-10)
    assert_allclose(rows, estimator.inverse_transform(codes), atol=1e-10)
