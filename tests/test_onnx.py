"""Graphs that onnxruntime runs, against the transformers that they come from."""

from __future__ import annotations

import logging

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import skl2onnx
from numpy.testing import assert_allclose, assert_array_equal
from settings import UsersNetwork
from sklearn import datasets
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skae
from skae import AutoencoderTransformer, VAETransformer

TABLES = {
    "digits": datasets.load_digits,
    "diabetes": datasets.load_diabetes,
}
CLOSE = {"float32": 1e-5, "float64": 1e-10}
WINE = datasets.load_wine().data


@pytest.fixture(params=[AutoencoderTransformer, VAETransformer])
def estimator(request):
    return request.param(
        n_components=3, hidden_layer_sizes=(16, 8), max_iter=5, random_state=0
    )


# An export takes seconds: what both classes share is asked of the richer one.
OF_VAE = pytest.mark.parametrize("estimator", [VAETransformer], indirect=True)


def mixed_table(n_rows=150):
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(n_rows, 2)) @ [[1, 0.5], [0, 1]]
    towns = np.where(numbers[:, 0] > 0, "Ulm", "Köln").astype(object)
    towns[::7], towns[:2] = "Bonn", ("Rust", "Au")
    return pd.DataFrame(
        {
            "length": numbers[:, 0],
            "town": towns,
            "price": np.exp(3 * numbers[:, 1]),
            "sex": rng.choice(["f", "m"], n_rows),
            "age": rng.integers(0, 90, n_rows),
            "member": rng.random(n_rows) < 0.3,
            "country": ["DE"] * n_rows,
        }
    )


MIXED = mixed_table()
NUMPY_TYPES = {
    "tensor(string)": object,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(bool)": bool,
}


def run(graph, rows):
    """Run a graph on an array, or on a frame whose columns are inputs each."""
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    inputs = session.get_inputs()
    if len(inputs) == 1:
        return session.run(None, {inputs[0].name: rows})
    given = {
        i.name: rows[i.name].to_numpy(NUMPY_TYPES[i.type])[:, None] for i in inputs
    }
    return session.run(None, given)


# --------------------------------------------------------------------------- pipelines


@pytest.mark.parametrize(
    ("estimator", "name", "dtype"),
    [
        (AutoencoderTransformer, "digits", "float32"),
        (VAETransformer, "diabetes", "float64"),
    ],
    indirect=["estimator"],
)
def test_a_pipeline_agrees_on_bundled_tables(estimator, name, dtype):
    X, y = TABLES[name](return_X_y=True)
    model = Ridge() if name == "diabetes" else LogisticRegression()
    pipeline = make_pipeline(StandardScaler(), estimator, model).fit(X, y)
    skae.register_onnx()
    rows = X.astype(dtype)
    options = {} if name == "diabetes" else {"zipmap": False}
    graph = skl2onnx.to_onnx(pipeline, rows[:1], options=options)
    found = run(graph, rows)[-1]
    expected = (
        pipeline.predict(rows)[:, None]
        if name == "diabetes"
        else pipeline.predict_proba(rows)
    )
    assert found.dtype == dtype
    assert_allclose(found, expected, rtol=CLOSE[dtype], atol=CLOSE[dtype])


@pytest.mark.parametrize(
    ("estimator", "scaling"),
    [(AutoencoderTransformer, "quantile"), (VAETransformer, "auto")],
    indirect=["estimator"],
)
def test_a_pipeline_on_a_table_with_texts_agrees(estimator, scaling):
    labels = MIXED["length"] > 0.5
    pipeline = make_pipeline(
        estimator.set_params(scaling=scaling), LogisticRegression()
    )
    pipeline.fit(MIXED, labels)
    skae.register_onnx()
    graph = skl2onnx.to_onnx(pipeline, MIXED[:1], options={"zipmap": False})
    found = run(graph, MIXED)[1]
    assert_allclose(found, pipeline.predict_proba(MIXED), atol=CLOSE["float64"])


@OF_VAE
def test_two_transformers_stand_in_one_pipeline(estimator):
    first, second = estimator, clone(estimator).set_params(n_components=2)
    pipeline = make_pipeline(first, second).fit(WINE)
    skae.register_onnx()
    (found,) = run(skl2onnx.to_onnx(pipeline, WINE[:1]), WINE)
    assert_allclose(found, pipeline.transform(WINE), atol=CLOSE["float64"])


# ------------------------------------------------------------------ encoder and decoder


def assert_encoder_agrees(estimator, X, dtype):
    rows = X.astype(dtype)
    (found,) = run(skae.to_onnx(estimator, dtype=dtype), rows)
    assert found.dtype == dtype
    codes = estimator.transform(rows)
    assert_allclose(found, codes, rtol=CLOSE[dtype], atol=CLOSE[dtype])


def assert_decoder_agrees(estimator, X, dtype):
    codes = estimator.transform(X.astype(dtype))
    (back,) = run(skae.to_onnx(estimator, part="decoder", dtype=dtype), codes)
    assert back.dtype == dtype
    expected = estimator.inverse_transform(codes)
    assert_allclose(back, expected, rtol=CLOSE[dtype], atol=CLOSE[dtype])


def assert_both_parts_agree(estimator, X, dtype):
    assert_encoder_agrees(estimator, X, dtype)
    assert_decoder_agrees(estimator, X, dtype)


@pytest.mark.parametrize(
    ("estimator", "scaling", "dtype"),
    [
        (AutoencoderTransformer, "standard", "float32"),
        (VAETransformer, "quantile", "float64"),
    ],
    indirect=["estimator"],
)
def test_encoder_and_decoder_agree(estimator, scaling, dtype):
    assert_both_parts_agree(
        estimator.set_params(scaling=scaling).fit(WINE), WINE, dtype
    )


def test_sparse_codes_are_zero_in_the_same_places():
    codes = AutoencoderTransformer(13, sparsity=0.5, max_iter=5).fit(WINE)
    (found,) = run(skae.to_onnx(codes, dtype="float64"), WINE)
    assert_array_equal(found == 0, codes.transform(WINE) == 0)


@OF_VAE
def test_numbers_far_from_zero_keep_their_digits(estimator):
    far = 1e4 + WINE / WINE.std(axis=0)
    far = far.astype(np.float32).astype(np.float64)
    assert_encoder_agrees(estimator.fit(far), far, "float32")


@pytest.mark.parametrize(
    ("activation", "assert_agrees"),
    [("leaky_relu", assert_encoder_agrees), ("softplus", assert_decoder_agrees)],
)
def test_activations_agree_in_double_precision(activation, assert_agrees):
    estimator = AutoencoderTransformer(
        3, activation=activation, linear_path=False, max_iter=5, random_state=0
    )
    assert_agrees(estimator.fit(WINE), WINE, "float64")


def test_activations_in_place_agree_in_double_precision():
    def bent(n_inputs, n_outputs):
        return nn.Sequential(nn.Linear(n_inputs, n_outputs), nn.ELU(inplace=True))

    estimator = AutoencoderTransformer(
        3, encoder=bent, linear_path=False, max_iter=5, random_state=0
    )
    assert_encoder_agrees(estimator.fit(WINE), WINE, "float64")


@pytest.mark.parametrize("likelihood", ["poisson", "bernoulli"])
def test_likelihoods_agree(likelihood):
    counts = np.random.default_rng(0).poisson(np.arange(1, 7), (100, 6)).astype(float)
    X = counts > 2 if likelihood == "bernoulli" else counts
    estimator = VAETransformer(2, likelihood=likelihood, max_iter=5, random_state=0)
    assert_decoder_agrees(estimator.fit(X * 1.0), X * 1.0, "float32")


@OF_VAE
def test_networks_of_the_user_agree(estimator):
    own = UsersNetwork()
    estimator.set_params(encoder=own, decoder=own).fit(WINE)
    assert_both_parts_agree(estimator, WINE, "float64")


class CountsItsRows(nn.Module):
    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.layer = nn.Linear(n_inputs, n_outputs)

    def forward(self, x):
        return self.layer(x) + x.new_ones(len(x), 1)


def test_a_network_for_a_fixed_number_of_rows_is_refused():
    estimator = AutoencoderTransformer(
        2, encoder=CountsItsRows, linear_path=False, max_iter=2, random_state=0
    )
    with pytest.raises(Exception, match="rows"):
        skae.to_onnx(estimator.fit(WINE))


@OF_VAE
def test_levels_that_are_numbers_agree(estimator):
    X = WINE.copy()
    X[:, 1] = np.arange(len(X)) % 4
    estimator.set_params(categorical_features=[1]).fit(X)
    assert_both_parts_agree(estimator, X, "float64")


@OF_VAE
def test_texts_come_back_from_the_decoder(estimator):
    codes = estimator.fit(MIXED).transform(MIXED)
    graph = skae.to_onnx(estimator, part="decoder", dtype="float64")
    found = {
        output.name: column[:, 0]
        for output, column in zip(graph.graph.output, run(graph, codes), strict=True)
    }
    expected = estimator.inverse_transform(codes)
    assert list(found) == list(expected.columns)
    for name in ("town", "sex", "country", "member"):
        assert_array_equal(found[name], expected[name])
    for name in ("length", "price", "age"):
        assert_allclose(found[name], expected[name], rtol=1e-10)


@OF_VAE
def test_a_table_of_texts_alone_agrees(estimator):
    texts = MIXED[["town", "sex"]]
    codes = estimator.set_params(n_components=2).fit(texts).transform(texts)
    (found,) = run(skae.to_onnx(estimator, dtype="float32"), texts)
    assert found.dtype == np.float32
    assert_allclose(found, codes, atol=CLOSE["float32"])


# -------------------------------------------------------------------------------- holes


def test_a_fit_with_holes_is_refused(estimator):
    holed = WINE.copy()
    holed[3, 2] = np.nan
    for table in (holed, np.c_[WINE, np.full(len(WINE), np.nan)]):
        with pytest.raises(ValueError, match="missing cells"):
            skae.to_onnx(estimator.fit(table))
        skae.register_onnx()
        with pytest.raises(ValueError, match="missing cells"):
            skl2onnx.to_onnx(make_pipeline(estimator), table[:1])


def test_rows_with_holes_have_no_code():
    estimator = AutoencoderTransformer(
        3,
        linear_path=False,
        activation="relu",
        scaling="quantile",
        max_iter=5,
        random_state=0,
    )
    graph = skae.to_onnx(estimator.fit(WINE), dtype="float64")
    holed = WINE.copy()
    holed[[0, 5], [1, 12]] = np.nan
    (found,) = run(graph, holed)
    assert np.isnan(found[[0, 5]]).all()
    others = np.delete(np.arange(len(WINE)), [0, 5])
    assert_allclose(found[others], estimator.transform(WINE[others]), atol=1e-10)


@OF_VAE
def test_new_levels_count_as_rare_ones_or_leave_no_code(estimator):
    graph = skae.to_onnx(estimator.fit(MIXED), dtype="float64")
    rare, unknown = MIXED[:9].copy(), MIXED[:9].copy()
    rare.loc[0, "town"] = "Celle"
    (found,) = run(graph, rare)
    with pytest.warns(UserWarning, match="Celle"):
        assert_allclose(found, estimator.transform(rare), atol=1e-10)
    unknown.loc[0, "sex"] = "x"
    (found,) = run(graph, unknown)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:]).all()


# ------------------------------------------------------------------------------- errors


def test_wrong_arguments_are_refused(estimator):
    with pytest.raises(NotFittedError):
        skae.to_onnx(estimator)
    estimator.fit(WINE)
    with pytest.raises(ValueError, match=r"part='middle'.*decoder"):
        skae.to_onnx(estimator, part="middle")
    with pytest.raises(ValueError, match=r"dtype='float16'.*float32"):
        skae.to_onnx(estimator, dtype="float16")
    with pytest.raises(ValueError, match=r"target_opset=15.*18"):
        skae.to_onnx(estimator, target_opset=15)
    with pytest.raises(ValueError, match=r"Pipeline.*register_onnx"):
        skae.to_onnx(make_pipeline(estimator))


def test_inputs_unlike_the_fit_are_refused(estimator):
    skae.register_onnx()
    estimator.fit(MIXED)
    numbers = MIXED.assign(town=1.0)
    with pytest.raises(ValueError, match=r"'town' of numbers.*\[1\]"):
        skl2onnx.to_onnx(estimator, numbers[:1])
    with pytest.raises(ValueError, match="3 columns, but expected 7"):
        skl2onnx.to_onnx(estimator, MIXED[:1].iloc[:, :3])


def test_texts_among_other_levels_are_refused():
    table = pd.DataFrame({"a": WINE[:, 0], "b": [1, "x"] * (len(WINE) // 2)})
    estimator = AutoencoderTransformer(1, max_iter=1, random_state=0).fit(table)
    with pytest.raises(ValueError, match="'b' of texts and other levels"):
        skae.to_onnx(estimator)


def test_the_exporter_is_quiet_and_leaves_nothing_behind(capfd, caplog):
    estimator = AutoencoderTransformer(max_iter=2, random_state=0).fit(MIXED)
    logger = logging.getLogger("torch.onnx._internal.exporter")
    before = estimator.transform(MIXED), logger.level
    skae.to_onnx(estimator)
    skae.to_onnx(estimator, part="decoder")
    assert capfd.readouterr() == ("", "")
    assert all(record.levelno < logging.WARNING for record in caplog.records)
    assert_array_equal(estimator.transform(MIXED), before[0])
    assert logger.level == before[1]
