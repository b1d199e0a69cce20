"""What both classes make of tensors where scikit-learn dispatches on arrays.

A process of its own: SciPy takes ``SCIPY_ARRAY_API`` when it is imported, alone.
"""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pandas as pd
import torch
from settings import QUICK, curved_table
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import (
    check_array_api_input,
    check_array_api_input_and_values,
)

from skae import AutoencoderImputer, AutoencoderTransformer, VAETransformer

VERBS = ["transform", "score_samples", "reconstruction_error", "score_cells", "impute"]


def check(model):
    """Pass scikit-learn's own checks, and answer tensors by tensors."""
    pipeline = make_pipeline(model)  # whose attributes are no arrays
    for dtype in ("float64", "float32"):
        check_array_api_input_and_values(
            "Pipeline", pipeline, "torch", device_name="cpu", dtype_name=dtype
        )
    check_array_api_input("model", model, "numpy", check_sample_weight=True)
    imputer = AutoencoderImputer(model)
    check_array_api_input("AutoencoderImputer", imputer, "torch", device_name="cpu")
    X = curved_table(60)
    fitted = model.fit(X, sample_weight=np.ones(60))
    expected = answers(fitted, X)
    frame = fitted_to_a_frame(model)
    tensor = torch.from_numpy(X)
    with config_context(array_api_dispatch=True):
        again = type(model)(**model.get_params())
        again.fit(tensor, sample_weight=torch.ones(60), X_val=None)
        found = answers(again, tensor)
        assert all(isinstance(vars(again)[name], np.ndarray) for name in ARRAYS)
        of_codes = frame.inverse_transform(torch.zeros(3, 2))
        chunk = type(model)(**model.get_params()).partial_fit(tensor)
        assert isinstance(chunk.transform(tensor), torch.Tensor)
    assert isinstance(of_codes, pd.DataFrame)
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, torch.Tensor)
        np.testing.assert_array_equal(one.numpy(), other)
    pickle.loads(pickle.dumps(again))  # noqa: S301


ARRAYS = ["loss_curve_", "explained_variance_ratio_"]


def answers(model, X):
    """Return what is answered, also where it is more than an array."""
    several = model.score_cells(X, return_expected=True)
    several += tuple(model.impute(X, n_draws=2, random_state=0))
    several += (model.inverse_transform(model.transform(X)),)
    return [*(getattr(model, verb)(X) for verb in VERBS), *several]


def fitted_to_a_frame(model):
    """Fit a copy to a table with names."""
    table = pd.DataFrame(curved_table(60), columns=list("abcde"))
    return type(model)(**model.get_params()).fit(table)


if __name__ == "__main__":
    classes = {cls.__name__: cls for cls in (AutoencoderTransformer, VAETransformer)}
    check(classes[sys.argv[1]](2, **QUICK, random_state=0, device="cpu"))
