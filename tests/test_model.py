"""A fitted model: the order of its codes, its precision, and what it is saved as."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skae import AutoencoderTransformer, VAETransformer
from skae._schema import Encoded

N_CODES = 3
CPU = torch.device("cpu")
TRAINED = {
    "max_iter": 5,
    "hidden_layer_sizes": (8,),
    "validation_fraction": None,
    "random_state": 0,
    "device": "cpu",
}
CLASSES = (AutoencoderTransformer, VAETransformer)
BOTH = pytest.mark.parametrize("cls", CLASSES)
ORDERS = pytest.mark.parametrize("order", [*itertools.permutations(range(N_CODES))])


def table(n_rows=120, seed=0):
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(n_rows, 3)) * [3, 2, 1]
    mixing = np.random.default_rng(9).normal(size=(3, 5))
    return np.tanh(signal @ mixing) + 0.3 * rng.normal(size=(n_rows, 5)) + 2


def with_holes(seed=0):
    rows = table(seed=seed)
    return np.where(
        np.random.default_rng(seed).uniform(size=rows.shape) < 0.2, np.nan, rows
    )


@cache
def fitted(cls, holes=False, **parameters):
    est = cls(N_CODES, **{**TRAINED, **parameters})
    rows = with_holes() if holes else table()
    est.fit(rows)
    return est._model, est._table.encode(rows)


def reordered(model, order):
    return replace(model, order=np.array(order))


# --------------------------------------------------------------- the order of codes


@BOTH
@ORDERS
@pytest.mark.parametrize("holes", [False, True])
def test_codes_go_back_to_the_reconstruction_in_any_order(cls, order, holes):
    model, encoded = fitted(cls, holes)
    moved = reordered(model, order)
    codes = moved.codes(encoded)
    rows = model.decoded(model.latent(encoded))
    assert_allclose(moved.rows_of(codes), rows, atol=1e-9)
    assert_array_equal(moved.decoded(moved.latent(encoded)), rows)
    assert_array_equal(moved.cell_errors(encoded), model.cell_errors(encoded))


@BOTH
@ORDERS
def test_codes_leave_in_the_order_of_the_model(cls, order):
    model, encoded = fitted(cls)
    moved, latent = reordered(model, order), model.latent(encoded)
    assert_array_equal(moved.latent(encoded), latent)
    assert_array_equal(moved.codes(encoded), latent[:, list(order)])
    assert_allclose(moved.decoded(latent), moved.rows_of(latent[:, list(order)]))


@ORDERS
def test_posteriors_and_divergences_leave_in_the_same_order(order):
    model, encoded = fitted(VAETransformer)
    moved, plain = reordered(model, order), reordered(model, range(N_CODES))
    mean, deviation = moved.posterior(encoded)
    assert_array_equal(mean, moved.codes(encoded))
    assert_array_equal(deviation, plain.posterior(encoded)[1][:, list(order)])
    divergences = plain.divergences(encoded)[:, list(order)]
    assert_array_equal(moved.divergences(encoded), divergences)


@BOTH
def test_the_first_code_carries_most(cls):
    model, encoded = fitted(cls, linear_path=False, max_iter=20)
    codes = model.codes(encoded)
    rows = model.rows_of(codes)
    carried = []
    for k in range(N_CODES):
        without = codes.copy()
        without[:, k] = codes[:, k].mean()
        carried.append(((model.rows_of(without) - rows) ** 2).sum())
    assert (np.diff(carried) <= 1e-4 * max(carried)).all()


@BOTH
def test_the_start_has_the_order_of_principal_components(cls):
    model, encoded = fitted(cls, max_iter=0)
    assert_array_equal(model.order, range(N_CODES))
    components = model.linear.components
    codes = (encoded.matrix - model.linear.mean) @ components.T
    for k in range(N_CODES):
        assert abs(np.corrcoef(codes[:, k], model.codes(encoded)[:, k])[0, 1]) > 0.999


# ------------------------------------------------------------- learning and going on


@BOTH
def test_a_model_that_has_learned_has_the_weights_of_the_module(cls):
    model, encoded = fitted(cls)
    module = model.new_module()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.01
    before = model.codes(encoded)
    learned = model.learned(module, np.array([2, 0, 1]))
    assert_array_equal(learned.order, [2, 0, 1])
    assert learned.linear is model.linear
    for name, tensor in module.state_dict().items():
        assert_array_equal(learned.weights[name], tensor.numpy())
    assert (learned.codes(encoded) != before).any()
    assert_array_equal(model.codes(encoded), before)
    frozen = learned.codes(encoded)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 1.0
    learned._modules.clear()
    assert_array_equal(learned.codes(encoded), frozen)


@BOTH
def test_a_fit_that_goes_on_starts_where_the_other_ended(cls):
    model, encoded = fitted(cls)
    found = model.going_on(model.design, CPU)
    assert found.device_name == "cpu"
    assert found.weights is model.weights
    assert_array_equal(found.codes(encoded), model.codes(encoded))
    assert found.module(torch.float64) is not model.module(torch.float64)


@BOTH
@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_layer_sizes": (9,)},
        {"activation": "tanh"},
        {"n_components": 4},
        {"linear_path": False, "dropout": 0.5},
    ],
    ids=str,
)
def test_a_fit_with_another_design_is_refused_by_name(cls, changes):
    model, _ = fitted(cls)
    other = replace(model.design, **changes)
    with pytest.raises(ValueError, match="warm_start=True") as told:
        model.going_on(other, CPU)
    message = str(told.value)
    for name, value in changes.items():
        assert f"{name}={value!r} (not {getattr(model.design, name)!r})" in message
    unchanged = {"activation", "dropout", "n_components"} - set(changes)
    assert not any(f"{name}=" in message for name in unchanged)


# --------------------------------------------------------------------- being saved


@BOTH
@pytest.mark.parametrize("holes", [False, True])
def test_a_pickled_model_gives_the_same_bits_without_its_modules(cls, holes):
    model, encoded = fitted(cls, holes)
    codes = model.codes(encoded)
    assert model._modules
    twin = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert not twin._modules
    assert model._modules
    assert_array_equal(twin.codes(encoded), codes)
    assert_array_equal(twin.rows_of(codes), model.rows_of(codes))
    assert twin.design == model.design


def test_what_is_pickled_has_no_tensors():
    state = fitted(VAETransformer)[0].__getstate__()
    assert all(isinstance(array, np.ndarray) for array in state["weights"].values())
    assert b"torch" not in pickle.dumps(state | {"design": None})


# ---------------------------------------------------------------------------- holes


@BOTH
def test_holes_are_filled_with_what_the_linear_model_expects(cls):
    model, encoded = fitted(cls, holes=True)
    ppca, seen = model.linear.probabilistic(), encoded.cells_seen
    covariance = ppca.loadings @ ppca.loadings.T
    covariance += ppca.noise_variance * np.eye(5)
    cells = model.cells(encoded)
    for row, known, found in zip(encoded.matrix, seen, cells.values, strict=True):
        block = covariance[np.ix_(known, known)]
        gain = covariance[:, known] @ np.linalg.pinv(block)
        expected = ppca.mean + gain @ (row - ppca.mean)[known]
        assert_allclose(found[~known], expected[~known], atol=1e-7)
        assert_array_equal(found[known], row[known])
    assert_array_equal(cells.seen, encoded.seen)
    assert_array_equal(model.filled(encoded), cells.values)


def test_holes_make_codes_less_sure_by_the_linear_model():
    model, encoded = fitted(VAETransformer, holes=True, max_iter=0)
    cells = model.cells(encoded)
    assert (cells.log_variances >= -1e-9).all()
    holed = ~encoded.seen.all(axis=1)
    assert (cells.log_variances[holed] > 0).any(axis=1).all()
    assert_allclose(cells.log_variances[~holed], 0, atol=1e-9)
    _, deviation = model.posterior(encoded)
    ppca = model.linear.probabilistic()
    known = ppca.given(encoded.matrix, encoded.cells_seen)
    assert_allclose(deviation, np.sqrt(known.variances), rtol=1e-6)


@BOTH
def test_whole_rows_are_cells_as_they_are(cls):
    model, encoded = fitted(cls)
    cells = model.cells(encoded)
    assert_array_equal(model.filled(encoded), encoded.matrix)
    assert cells.seen is None
    assert cells.log_variances is None
    assert cells.log_density is None


def test_plain_networks_are_not_told_of_variances():
    model, encoded = fitted(VAETransformer, holes=True, linear_path=False)
    assert model.cells(encoded).log_variances is None


def test_anchored_cells_know_how_likely_they_are_at_the_start():
    model, encoded = fitted(VAETransformer, holes=True)
    found = model.anchored_cells(encoded).log_density
    known = model.linear.probabilistic().given(encoded.matrix, encoded.cells_seen)
    assert_allclose(found, known.log_density)


@pytest.mark.parametrize(
    ("cls", "parameters"),
    [
        (AutoencoderTransformer, {}),
        (VAETransformer, {"linear_path": False}),
        (VAETransformer, {"likelihood": "laplace"}),
    ],
)
def test_without_a_linear_start_there_is_no_density_of_it(cls, parameters):
    model, encoded = fitted(cls, **parameters)
    assert model.start_density is None
    assert model.anchored_cells(encoded).log_density is None


# ------------------------------------------------------------- rows and precision


@BOTH
def test_rows_are_encoded_by_the_cells_that_are_seen(cls):
    model, encoded = fitted(cls, holes=True)
    found = model.encoded(encoded.matrix, encoded.cells_seen)
    assert_array_equal(found.seen, encoded.seen)
    assert list(found.widths) == list(encoded.widths)
    assert_array_equal(model.codes(found), model.codes(encoded))
    whole = model.encoded(encoded.matrix, np.ones(encoded.matrix.shape, dtype=bool))
    assert whole.seen is None


def test_indicators_of_a_column_are_seen_together():
    frame = pd.DataFrame({"a": table()[:, 0], "kind": list("abcd") * 30})
    frame.loc[::5, "kind"] = None
    est = VAETransformer(2, **TRAINED).fit(frame)
    encoded = est._table.encode(est._read(frame))
    found = est._model.encoded(encoded.matrix, encoded.cells_seen)
    assert encoded.matrix.shape[1] == 5
    assert_array_equal(found.seen, encoded.seen)


@BOTH
@pytest.mark.parametrize("holes", [False, True])
def test_codes_have_the_precision_of_the_rows(cls, holes):
    model, encoded = fitted(cls, holes)
    single = replace(encoded, matrix=encoded.matrix.astype(np.float32))
    for function in (model.codes, model.cell_errors):
        found, expected = function(single), function(encoded)
        assert found.dtype == np.float32
        assert expected.dtype == np.float64
        assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    codes = model.codes(encoded)
    assert model.rows_of(codes.astype(np.float32)).dtype == np.float32
    assert model.rows_of(codes).dtype == np.float64
    assert model.latent(single).dtype == np.float64
    assert model.decoded(codes.astype(np.float32)).dtype == np.float64


@BOTH
def test_a_module_is_made_once_for_each_precision(cls):
    model, _ = fitted(cls)
    for dtype in (torch.float32, torch.float64):
        module = model.module(dtype)
        assert module is model.module(dtype)
        assert {p.dtype for p in module.parameters()} == {dtype}
        assert not module.training
    assert model.module(torch.float32) is not model.module(torch.float64)


@BOTH
def test_answers_to_rows_do_not_depend_on_their_company(cls):
    model, encoded = fitted(cls, holes=True)
    codes = model.codes(encoded)
    order = np.arange(len(encoded))[::-1]
    assert_allclose(model.codes(encoded.take(order)), codes[order], atol=1e-9)
    alone = model.codes(encoded.take(slice(3, 4)))
    assert_allclose(alone, codes[3:4], atol=1e-9)


@BOTH
def test_codes_ask_for_no_gradients_in_inference_mode(cls):
    model, encoded = fitted(cls)
    expected = model.codes(encoded)
    with torch.inference_mode():
        fresh = replace(model, _modules={})
        assert_array_equal(fresh.codes(encoded), expected)
    module = fresh.module(torch.float64)
    assert not any(p.is_inference() for p in module.parameters())


def test_the_device_of_a_fit_that_is_missing_is_the_cpu():
    model, encoded = fitted(VAETransformer)
    elsewhere = replace(model, device_name="cuda:99", _modules={})
    assert elsewhere.device == CPU
    assert_array_equal(elsewhere.codes(encoded), model.codes(encoded))
    assert isinstance(encoded, Encoded)
