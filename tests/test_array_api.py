"""Arrays of other libraries, where scikit-learn dispatches on them and where not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from settings import QUICK, curved_table

from skae import AutoencoderTransformer, VAETransformer

CLASSES = pytest.mark.parametrize("cls", [AutoencoderTransformer, VAETransformer])


@CLASSES
def test_tensors_are_answered_by_tensors_where_scikit_learn_dispatches(cls):
    script = Path(__file__).with_name("arrays.py")
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "ignore", script, cls.__name__],
        env=os.environ | {"SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@CLASSES
def test_tensors_are_answered_by_arrays_where_it_does_not(cls):
    X = curved_table(60)
    model = cls(2, **QUICK, random_state=0, device="cpu").fit(torch.from_numpy(X))
    codes = model.transform(torch.from_numpy(X))
    assert type(codes) is np.ndarray
    np.testing.assert_array_equal(codes, model.fit(X).transform(X))
