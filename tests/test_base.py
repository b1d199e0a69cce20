"""What both estimators promise beyond scikit-learn's checks: real uses, bad input."""

from __future__ import annotations

import io
import pickle
import random
import re
import threading

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import skops.io
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import sparse
from settings import curved_table, users_network
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_score,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAETransformer
from skae._torch import available_devices

X = curved_table()
NAMES = ["length", "width", "area", "tilt", "wave"]
CLASSES = [AutoencoderTransformer, VAETransformer]


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def estimator(request):
    return request.param(
        n_components=2, hidden_layer_sizes=(16,), max_iter=30, random_state=0
    )


@pytest.fixture
def labels():
    return np.where(X[:, 0] > 3, "large", "small")


# ------------------------------------------------------------------ real uses


def test_grid_search_over_a_pipeline_step_in_two_processes(estimator, labels):
    pipeline = Pipeline(
        [("reduce", estimator), ("classify", LogisticRegression(max_iter=1000))]
    )
    search = GridSearchCV(pipeline, {"reduce__n_components": [1, 3]}, cv=3, n_jobs=2)
    search.fit(X, labels)
    assert search.best_score_ > 0.8
    assert search.best_estimator_["reduce"].n_iter_ == 30


def test_halving_search_spends_epochs(estimator):
    search = HalvingGridSearchCV(
        estimator,
        {"n_components": [1, 2, 3]},
        resource="max_iter",
        min_resources=2,
        max_resources=18,
        cv=2,
        random_state=0,
    ).fit(X)
    assert search.best_params_["max_iter"] > 2


def test_cross_val_score_needs_no_scoring(estimator):
    assert np.isfinite(cross_val_score(estimator, X, cv=3)).all()


def test_column_transformer_and_feature_union(estimator):
    frame = pd.DataFrame(X, columns=NAMES)
    parts = ColumnTransformer(
        [("code", estimator, NAMES[:4]), ("rest", StandardScaler(), NAMES[4:])]
    )
    assert parts.fit_transform(frame).shape == (300, 3)
    union = FeatureUnion([("code", estimator), ("scaled", StandardScaler())])
    assert union.fit_transform(X).shape == (300, 7)


def test_sample_weight_and_validation_rows_are_routed_through_a_pipeline(estimator):
    weight = np.arange(300.0)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator.set_fit_request(sample_weight=True, X_val=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, estimator, transform_input=["X_val"])
        pipeline.fit(X[:200], sample_weight=weight[:200], X_val=X[200:])
    direct = clone(estimator).fit(
        scaler.transform(X[:200]),
        sample_weight=weight[:200],
        X_val=scaler.transform(X[200:]),
    )
    np.testing.assert_array_equal(
        pipeline.transform(X), direct.transform(scaler.transform(X))
    )


def test_a_clone_of_a_fitted_estimator_is_unfitted(estimator):
    copy = clone(estimator.fit(X))
    with pytest.raises(NotFittedError):
        copy.transform(X)
    assert copy.get_params() == estimator.get_params()


def test_a_frozen_estimator_stays_as_it_is(estimator):
    codes = estimator.fit(X).transform(X)
    frozen = FrozenEstimator(estimator).fit(X[:10], None)
    np.testing.assert_array_equal(frozen.transform(X), codes)


def _pickled(estimator):
    return pickle.loads(pickle.dumps(estimator))  # noqa: S301


def _joblibbed(estimator):
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return joblib.load(buffer)


def _skopsed(estimator):
    data = skops.io.dumps(estimator)
    untrusted = skops.io.get_untrusted_types(data=data)
    assert all(name.startswith("skae.") for name in untrusted), untrusted
    return skops.io.loads(data, trusted=untrusted)


@pytest.mark.parametrize("round_trip", [_pickled, _joblibbed, _skopsed])
def test_a_fitted_estimator_survives_a_round_trip(estimator, round_trip):
    estimator.fit(X)
    copy = round_trip(estimator)
    np.testing.assert_array_equal(copy.transform(X), estimator.transform(X))
    np.testing.assert_array_equal(
        copy.sample(3, random_state=0), estimator.sample(3, random_state=0)
    )
    assert copy.score(X) == estimator.score(X)


def test_own_modules_survive_a_round_trip(estimator):
    estimator.set_params(encoder=users_network, decoder=users_network).fit(X)
    np.testing.assert_array_equal(
        _pickled(estimator).transform(X), estimator.transform(X)
    )


def test_the_fitted_state_holds_no_tensor(estimator):
    def leaves(value):
        if isinstance(value, dict):
            for item in value.values():
                yield from leaves(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from leaves(item)
        elif hasattr(value, "__dict__") and not isinstance(value, type):
            yield from leaves(vars(value))
        else:
            yield value

    estimator.fit(X).transform(X)
    state = estimator.__getstate__()
    found = [
        leaf
        for leaf in leaves(state)
        if isinstance(leaf, (torch.Tensor, torch.nn.Module))
    ]
    assert found == []


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_dataframes_come_back_where_they_were_asked_for(estimator, library):
    frame = pd.DataFrame(X, columns=NAMES)
    given = frame if library == "pandas" else pl.from_pandas(frame)
    codes = estimator.set_output(transform=library).fit_transform(given)
    back = estimator.inverse_transform(codes)
    drawn = estimator.sample(4, random_state=0)
    assert list(codes.columns) == list(estimator.get_feature_names_out())
    assert list(back.columns) == list(drawn.columns) == NAMES
    assert type(back) is type(drawn) is type(codes) is type(given)
    if library == "pandas":
        assert back.index.equals(frame.index)


def test_a_string_target_or_none_is_ignored(estimator, labels):
    one = clone(estimator).fit_transform(X, labels)
    other = clone(estimator).fit_transform(X, None)
    np.testing.assert_array_equal(one, other)


def test_a_progress_bar_follows_the_epochs(estimator, capsys):
    estimator.set_params(max_iter=3).set_callbacks(ProgressBar()).fit(X)
    assert "epoch" in capsys.readouterr().out or estimator.n_iter_ == 3


class StopAfter:
    """A scikit-learn callback that stops the fit after a number of epochs."""

    def __init__(self, n_epochs):
        self.n_left = n_epochs

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        self.n_left -= context.task_name == "epoch"
        return self.n_left == 0


def test_a_callback_can_stop_the_fit(estimator):
    assert estimator.set_callbacks(StopAfter(4)).fit(X).n_iter_ == 4


# ------------------------------------------------------- what fit leaves behind


def test_two_fits_of_one_seed_agree_bit_for_bit(estimator):
    one, other = clone(estimator).fit(X), clone(estimator).fit(X)
    np.testing.assert_array_equal(one.transform(X), other.transform(X))
    np.testing.assert_array_equal(one.loss_curve_, other.loss_curve_)
    different = clone(estimator).set_params(random_state=1).fit(X)
    assert not np.array_equal(one.loss_curve_, different.loss_curve_)


def test_the_order_of_the_rows_does_not_matter(estimator):
    order = np.random.default_rng(0).permutation(len(X))
    one, other = clone(estimator).fit(X), clone(estimator).fit(X[order])
    np.testing.assert_array_equal(one.transform(X), other.transform(X))


@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize("network", [None, users_network])
def test_global_generators_are_left_alone(estimator, seed, network):
    before = random.getstate(), numpy_state(), torch.get_rng_state()
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    estimator.set_params(random_state=seed, encoder=network, dropout=0.1).fit(X)
    estimator.sample(3)
    _pickled(estimator).transform(X)
    after = random.getstate(), numpy_state(), torch.get_rng_state()
    assert before[0] == after[0]
    assert all(np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    assert torch.equal(before[2], after[2])
    assert (threads, dtype) == (torch.get_num_threads(), torch.get_default_dtype())


def test_the_curves_have_a_value_per_epoch_and_the_best_is_kept(estimator):
    estimator.set_params(max_iter=200).fit(X)
    assert len(estimator.loss_curve_) == estimator.n_iter_ <= 200
    assert len(estimator.validation_curve_) == estimator.n_iter_
    assert estimator.best_loss_ <= estimator.start_loss_
    assert estimator.best_loss_ == pytest.approx(estimator.validation_curve_.min())
    assert 0 < estimator.best_iter_ <= estimator.n_iter_


def test_training_ends_early_only_where_it_may(estimator):
    noise = np.random.default_rng(0).normal(size=(200, 5))
    estimator.set_params(max_iter=400, n_iter_no_change=5)
    assert clone(estimator).fit(noise).n_iter_ < 400
    estimator.set_params(early_stopping=False)
    assert clone(estimator).fit(noise).n_iter_ == 400


def test_a_large_tolerance_stops_soonest(estimator):
    estimator.set_params(max_iter=500, n_iter_no_change=50)
    eager = clone(estimator).set_params(tol=1e3).fit(X)
    assert eager.n_iter_ < clone(estimator).fit(X).n_iter_


def test_validation_rows_replace_the_split(estimator):
    held_out = X[:50]
    estimator.fit(X[50:], X_val=held_out)
    if isinstance(estimator, AutoencoderTransformer):
        scores = estimator.score_samples(held_out)
        assert estimator.best_loss_ == pytest.approx(-scores.mean(), rel=1e-4)
    assert estimator.best_loss_ <= estimator.start_loss_


def test_warm_start_goes_on_from_the_last_weights(estimator):
    estimator.set_params(warm_start=True, max_iter=60).fit(X)
    first, scaler = estimator.best_loss_, estimator._scaler
    estimator.fit(X)
    assert estimator.start_loss_ == pytest.approx(first, rel=1e-4)
    assert estimator._scaler is scaler
    assert estimator.n_iter_ == len(estimator.loss_curve_) > 60


def test_warm_start_refuses_other_networks(estimator):
    estimator.set_params(warm_start=True).fit(X)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=\(3,\) \(not \(16,\)\)"):
        estimator.set_params(hidden_layer_sizes=(3,)).fit(X)


def test_verbose_prints_lines_that_a_log_can_hold(estimator, capsys):
    estimator.set_params(verbose=1, max_iter=100, early_stopping=False).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert 10 < len(lines) < 30
    assert all(line.startswith(f"[{type(estimator).__name__}]") for line in lines)
    assert "\r" not in "".join(lines)
    assert "kept" in lines[-1]


def test_silence_is_the_default(estimator, capsys):
    estimator.fit(X)
    assert capsys.readouterr() == ("", "")


def test_learning_rates_and_solvers_reach_the_same_table(estimator):
    for solver in ("adam", "sgd", "lbfgs"):
        fitted = clone(estimator).set_params(solver=solver, max_iter=300).fit(X)
        assert fitted.best_loss_ < fitted.start_loss_


# -------------------------------------------------------------------- devices


@pytest.mark.parametrize("device", available_devices())
def test_every_device_of_the_machine_fits_and_agrees_with_the_cpu(estimator, device):
    estimator.set_params(device=device).fit(X)
    assert str(estimator.device_) == device
    codes = estimator.transform(X)
    elsewhere = _pickled(estimator)
    elsewhere._device_name = "cpu"
    tolerance = 1e-3 if device.startswith("mps") else 1e-9
    np.testing.assert_allclose(elsewhere.transform(X), codes, atol=tolerance)


def test_a_device_that_is_missing_is_named_with_those_that_are_there(estimator):
    with pytest.raises(ValueError, match=r"device='cuda:97'.* 'cpu'"):
        estimator.set_params(device="cuda:97").fit(X)
    with pytest.raises(ValueError, match="device='gpu'"):
        estimator.set_params(device="gpu").fit(X)


def test_a_fit_from_a_missing_device_works_on_the_cpu(estimator):
    codes = estimator.fit(X).transform(X)
    estimator._device_name = "cuda:97"
    travelled = _pickled(estimator)
    assert travelled.device_ == torch.device("cpu")
    np.testing.assert_array_equal(travelled.transform(X), codes)


def test_a_torch_device_is_taken_too(estimator):
    assert estimator.set_params(device=torch.device("cpu")).fit(X).n_iter_ == 30


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.where(X > 4, np.nan, X), "NaN"),
        (np.where(X > 4, np.inf, X), "infinity"),
        (X.astype(complex), "[Cc]omplex"),
        (X[:1], "1 sample"),
        (X[0], "2D array"),
        (X[:, :0], "0 feature"),
        (sparse.csr_array(X), "[Ss]parse"),
        (pd.DataFrame({"a": [1, 2], "city": ["x", "y"]}), r"\['city'\].*OneHotEncoder"),
        (pl.DataFrame({"a": [1, 2], "city": ["x", "y"]}), r"\['city'\].*OneHotEncoder"),
        (np.array([["a", "b"], ["c", "d"]]), "string"),
    ],
)
def test_a_table_that_cannot_be_fitted_says_why(estimator, table, message):
    with pytest.raises((ValueError, TypeError), match=message):
        estimator.fit(table)


def test_another_number_or_order_of_columns_is_refused(estimator):
    frame = pd.DataFrame(X, columns=NAMES)
    with pytest.raises(ValueError, match="4 features"):
        clone(estimator).fit(X).transform(X[:, :4])
    estimator.fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        estimator.transform(frame[NAMES[::-1]])


def test_codes_of_the_wrong_width_are_refused(estimator):
    with pytest.raises(ValueError, match=r"shape \(3, 4\).*2 columns"):
        estimator.fit(X).inverse_transform(np.zeros((3, 4)))


@pytest.mark.parametrize("n_samples", [0, -1, 2.5, "many"])
def test_a_sample_needs_a_positive_number_of_rows(estimator, n_samples):
    with pytest.raises(ValueError, match=re.escape(f"n_samples={n_samples!r}")):
        estimator.fit(X).sample(n_samples)


@pytest.mark.parametrize(
    "use",
    [
        lambda e: e.transform(X),
        lambda e: e.inverse_transform(X),
        lambda e: e.sample(),
        lambda e: e.score(X),
        lambda e: e.score_samples(X),
        lambda e: e.module_,
        lambda e: e.device_,
        lambda e: e.get_feature_names_out(),
    ],
)
def test_nothing_works_before_fit(estimator, use):
    with pytest.raises(NotFittedError):
        use(estimator)


def test_hidden_layers_are_positive_integers(estimator):
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=\(8, -2\)"):
        estimator.set_params(hidden_layer_sizes=(8, -2)).fit(X)


def test_an_encoder_that_makes_no_module_is_refused(estimator):
    with pytest.raises(TypeError, match="torch\\.nn\\.Module"):
        estimator.set_params(encoder=_no_module).fit(X)


def numpy_state():
    return np.random.get_state()  # noqa: NPY002 - the legacy state is what is tested


def test_a_module_of_the_wrong_width_is_refused(estimator):
    with pytest.raises(ValueError, match=r"maps \(2, 2\) to \(2, 6\).*\(2, 5\)"):
        estimator.set_params(decoder=_too_wide).fit(X)


def _too_wide(n_inputs, n_outputs):
    return torch.nn.Linear(n_inputs, n_outputs + 1)


def test_networks_without_weights_are_refused(estimator):
    estimator.set_params(encoder=_repeat, decoder=_repeat, linear_path=False)
    if isinstance(estimator, VAETransformer):
        estimator.set_params(likelihood="bernoulli")
    with pytest.raises(ValueError, match="trainable"):
        estimator.fit(X)


class Repeat(torch.nn.Module):
    """Outputs that are the first input, many times."""

    def __init__(self, n_outputs):
        super().__init__()
        self.n_outputs = n_outputs

    def forward(self, x):
        return x[..., :1].repeat(*[1] * (x.ndim - 1), self.n_outputs)


def _repeat(n_inputs, n_outputs):
    return Repeat(n_outputs)


def _no_module(n_inputs, n_outputs):
    return "a network"


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint32, bool])
def test_every_real_dtype_is_taken(estimator, dtype):
    table = np.random.default_rng(0).integers(0, 2, size=(60, 4)).astype(dtype)
    assert estimator.fit_transform(table).dtype == np.float64


@pytest.mark.parametrize("exponent", [-900, -100, 100, 900])
def test_the_units_of_the_table_do_not_matter(estimator, exponent):
    unit = 2.0**exponent  # exact in floating point
    ordinary = clone(estimator).fit(X)
    extreme = clone(estimator).fit(X * unit)
    np.testing.assert_allclose(extreme.transform(X * unit), ordinary.transform(X))
    np.testing.assert_allclose(
        extreme.sample(3, random_state=0) / unit, ordinary.sample(3, random_state=0)
    )


def test_constant_columns_come_back_constant(estimator):
    table = np.c_[X, np.full(300, 0.1), np.zeros(300)]
    estimator.fit(table)
    back = estimator.inverse_transform(estimator.transform(table))
    drawn = estimator.sample(20, random_state=0)
    for rows in (back, drawn):
        np.testing.assert_array_equal(rows[:, 5], 0.1)
        np.testing.assert_array_equal(rows[:, 6], 0.0)


def test_a_table_of_constants_is_fitted(estimator):
    table = np.full((20, 3), 7.0)
    estimator.fit(table)
    np.testing.assert_array_equal(
        estimator.inverse_transform(estimator.transform(table)), 7
    )


@pytest.mark.parametrize("shape", [(2, 3), (3, 1), (5, 40), (30, 2)])
def test_small_and_wide_tables_are_fitted(estimator, shape):
    table = np.random.default_rng(0).normal(size=shape)
    estimator.set_params(n_components=4)
    codes = estimator.fit_transform(table)
    assert codes.shape == (shape[0], 4)
    assert np.isfinite(estimator.inverse_transform(codes)).all()
    assert np.isfinite(estimator.score(table))


def test_duplicate_rows_are_fitted(estimator):
    assert np.isfinite(estimator.fit_transform(np.repeat(X[:3], 20, axis=0))).all()


def test_an_outlier_does_not_break_the_fit(estimator):
    table = X.copy()
    table[7] += 1000 * X.std(axis=0)
    estimator.fit(table)
    assert np.isfinite(estimator.transform(table)).all()
    scores = estimator.score_samples(table)
    assert np.isfinite(scores).all()
    if isinstance(estimator, VAETransformer):
        assert scores.argmin() == 7


def test_a_loss_that_explodes_warns_and_leaves_the_start(estimator):
    estimator.set_params(solver="sgd", learning_rate=1e30, max_iter=50)
    with pytest.warns(ConvergenceWarning, match="learning_rate"):
        estimator.fit(X)
    assert np.isfinite(estimator.transform(X)).all()
    assert estimator.best_iter_ == 0


def test_memory_mapped_tables_are_fitted(estimator, tmp_path):
    joblib.dump(X, tmp_path / "table.joblib")
    mapped = joblib.load(tmp_path / "table.joblib", mmap_mode="r")
    np.testing.assert_array_equal(
        clone(estimator).fit_transform(mapped), clone(estimator).fit_transform(X)
    )


class Interrupt:
    """A scikit-learn callback that presses Ctrl-C in the middle of a fit."""

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context):
        self.torn_down = True

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            raise KeyboardInterrupt


def test_ctrl_c_leaves_no_half_fitted_estimator(estimator):
    callback = Interrupt()
    with pytest.raises(KeyboardInterrupt):
        estimator.set_callbacks(callback).fit(X)
    assert callback.torn_down
    assert not [name for name in vars(estimator) if name.endswith("_")]
    with pytest.raises(NotFittedError):
        estimator.transform(X)


def test_ctrl_c_leaves_the_earlier_fit(estimator):
    codes = estimator.fit(X).transform(X)
    with pytest.raises(KeyboardInterrupt):
        estimator.set_callbacks(Interrupt()).fit(X[:, :3])
    np.testing.assert_array_equal(estimator.transform(X), codes)


def test_bad_input_leaves_the_earlier_fit(estimator):
    codes = estimator.fit(X).transform(X)
    with pytest.raises(ValueError, match="NaN"):
        estimator.fit(np.full((4, 2), np.nan))
    np.testing.assert_array_equal(estimator.transform(X), codes)


def test_fits_in_threads_do_not_disturb_each_other(estimator):
    alone = clone(estimator).fit(X).transform(X)
    fitted = [clone(estimator) for _ in range(3)]
    threads = [threading.Thread(target=each.fit, args=(X,)) for each in fitted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in fitted:
        np.testing.assert_array_equal(each.transform(X), alone)


@hypothesis_settings(max_examples=15, deadline=None)
@given(
    n_rows=st.integers(2, 40),
    n_columns=st.integers(1, 6),
    n_components=st.integers(1, 8),
    exponent=st.integers(-20, 20),
    seed=st.integers(0, 1000),
)
def test_any_finite_table_goes_through_and_back(
    n_rows, n_columns, n_components, exponent, seed
):
    rng = np.random.default_rng(seed)
    table = rng.standard_t(1.5, size=(n_rows, n_columns)) * 10.0**exponent
    for cls in CLASSES:
        fitted = cls(n_components, hidden_layer_sizes=(4,), max_iter=2).fit(table)
        codes = fitted.transform(table)
        assert np.isfinite(codes).all()
        assert fitted.inverse_transform(codes).shape == table.shape
        assert np.isfinite(fitted.score(table))
        assert np.isfinite(fitted.sample(3)).all()
