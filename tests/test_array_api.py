"""Arrays of other libraries, where scikit-learn dispatches on them and where not."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from settings import QUICK, curved_table
from sklearn import config_context
from sklearn.utils._array_api import get_namespace_and_device, move_estimator_to
from sklearn.utils.estimator_checks import (
    check_array_api_input,
    check_array_api_input_and_values,
    check_array_api_same_namespace,
)

from skae import AutoencoderImputer, AutoencoderTransformer, VAETransformer

CLASSES = pytest.mark.parametrize("cls", [AutoencoderTransformer, VAETransformer])
VERBS = ["transform", "score_samples", "reconstruction_error", "score_cells", "impute"]
X = curved_table(60)
TENSOR = torch.from_numpy(X)


@pytest.fixture
def dispatch():
    with config_context(array_api_dispatch=True):
        yield


def model_of(cls, **parameters):
    return cls(2, **QUICK, **parameters, random_state=0, device="cpu")


def answers(model, X):
    """Return what is answered, also where it is more than an array."""
    several = model.score_cells(X, return_expected=True)
    several += tuple(model.impute(X, n_draws=2, random_state=0))
    several += (model.inverse_transform(model.transform(X)),)
    return [*(getattr(model, verb)(X) for verb in VERBS), *several]


@CLASSES
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values_of_tensors_are_those_of_numpy(cls, dtype):
    check_array_api_input_and_values(
        cls.__name__, model_of(cls), "torch", "cpu", dtype, check_sample_weight=True
    )


@CLASSES
@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
def test_strict_arrays_are_taken_on_each_device(cls, device):
    name = cls.__name__
    check_array_api_input(name, model_of(cls), "array_api_strict", device, "float32")
    check_array_api_same_namespace(name, model_of(cls), "array_api_strict", device)


def test_an_imputer_answers_tensors_by_tensors():
    imputer = AutoencoderImputer(model_of(AutoencoderTransformer))
    check_array_api_input("AutoencoderImputer", imputer, "torch", device_name="cpu")


@CLASSES
def test_every_verb_answers_in_the_library_of_the_fit(cls, dispatch):
    fitted = model_of(cls).fit(X, sample_weight=np.ones(60))
    expected = answers(fitted, X)
    again = model_of(cls).fit(TENSOR, sample_weight=torch.ones(60), X_val=None)
    for one, other in zip(answers(again, TENSOR), expected, strict=True):
        assert isinstance(one, torch.Tensor)
        np.testing.assert_array_equal(one.numpy(), other)
    assert isinstance(again.explained_variance_ratio_, torch.Tensor)
    assert isinstance(again.score(TENSOR), float)


@CLASSES
def test_a_table_of_another_library_is_refused_until_the_model_is_moved(cls, dispatch):
    model = model_of(cls).fit(X)
    with pytest.raises(ValueError, match=rf"{cls.__name__}\.transform\(\) must use"):
        model.transform(TENSOR)
    moved = move_estimator_to(model, *get_namespace_and_device(TENSOR)[::2])
    codes = moved.transform(TENSOR)
    np.testing.assert_array_equal(codes.numpy(), model.transform(X))
    with pytest.raises(ValueError, match="must use the same namespace"):
        moved.score_samples(X)


@CLASSES
def test_what_is_saved_is_of_numpy(cls, dispatch):
    model = model_of(cls).fit(TENSOR)
    loaded = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert isinstance(model.loss_curve_, torch.Tensor)
    assert isinstance(loaded.loss_curve_, np.ndarray)
    np.testing.assert_array_equal(loaded.transform(X), model.transform(TENSOR).numpy())


def test_a_fit_that_goes_on_takes_tensors(dispatch):
    model = model_of(AutoencoderTransformer, warm_start=True)
    first = len(model.fit(TENSOR).loss_curve_)
    assert len(model.fit(TENSOR).loss_curve_) > first
    chunk = model_of(AutoencoderTransformer).partial_fit(TENSOR).partial_fit(TENSOR)
    assert isinstance(chunk.loss_curve_, torch.Tensor)


@CLASSES
def test_codes_of_a_dataframe_become_a_dataframe(cls, dispatch):
    model = model_of(cls).fit(pd.DataFrame(X, columns=list("abcde")))
    assert isinstance(model.inverse_transform(np.zeros((3, 2))), pd.DataFrame)


@CLASSES
def test_tensors_are_answered_by_arrays_where_nothing_dispatches(cls):
    model = model_of(cls).fit(TENSOR)
    codes = model.transform(TENSOR)
    assert type(codes) is np.ndarray
    assert type(model.loss_curve_) is np.ndarray
    np.testing.assert_array_equal(codes, model.fit(X).transform(X))
