"""What both estimators promise beyond scikit-learn's checks: real uses, bad input."""

from __future__ import annotations

import io
import pickle
import random
import re
import threading
import time
from decimal import Decimal

import joblib
import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn
import skops.io
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from settings import UsersNetwork, curved_table
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
from skae.table._matrix import TableEncoder

X = curved_table()
NAMES = ["length", "width", "area", "tilt", "wave"]
CLASSES = [AutoencoderTransformer, VAETransformer]


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def estimator(request):
    return request.param(
        n_components=2, hidden_layer_sizes=(16,), max_iter=5, random_state=0
    )


@pytest.fixture
def labels():
    return np.where(X[:, 0] > 3, "large", "small")


# ------------------------------------------------------------------ real uses


def test_grid_search_over_a_pipeline_step_in_two_processes(labels):
    estimator = AutoencoderTransformer(max_iter=5, random_state=0)
    pipeline = Pipeline(
        [("reduce", estimator), ("classify", LogisticRegression(max_iter=1000))]
    )
    search = GridSearchCV(pipeline, {"reduce__n_components": [1, 3]}, cv=3, n_jobs=2)
    search.fit(X, labels)
    assert search.best_score_ > 0.8
    assert search.best_estimator_["reduce"].n_iter_ == 5


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
    estimator.set_params(encoder=UsersNetwork(), decoder=UsersNetwork()).fit(X)
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
@pytest.mark.parametrize("network", [None, UsersNetwork()])
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
    estimator.set_params(max_iter=60).fit(X)
    assert len(estimator.loss_curve_) == estimator.n_iter_ <= 60
    assert len(estimator.validation_curve_) == estimator.n_iter_
    assert estimator.best_loss_ <= estimator.start_loss_
    assert estimator.best_loss_ == pytest.approx(estimator.validation_curve_.min())
    assert 0 < estimator.best_iter_ <= estimator.n_iter_


def test_training_ends_early_only_where_it_may(estimator):
    noise = np.random.default_rng(0).normal(size=(200, 5))
    estimator.set_params(max_iter=150, n_iter_no_change=5)
    assert clone(estimator).fit(noise).n_iter_ < 150
    estimator.set_params(early_stopping=False)
    assert clone(estimator).fit(noise).n_iter_ == 150


def test_a_large_tolerance_stops_soonest(estimator):
    estimator.set_params(max_iter=150, n_iter_no_change=15)
    eager = clone(estimator).set_params(tol=1e3).fit(X)
    assert eager.n_iter_ < clone(estimator).fit(X).n_iter_


def test_validation_rows_replace_the_split(estimator):
    held_out = X[:50]
    if isinstance(estimator, AutoencoderTransformer):
        estimator.set_params(legibility=0).fit(X[50:], X_val=held_out)
        scores = estimator.score_samples(held_out)
        assert estimator.best_loss_ == pytest.approx(-scores.mean(), rel=1e-4)
    else:
        estimator.fit(X[50:], X_val=held_out)
    assert estimator.best_loss_ <= estimator.start_loss_


def test_warm_start_goes_on_from_the_last_weights(estimator):
    estimator.set_params(warm_start=True, max_iter=60, validation_fraction=0.1).fit(X)
    first, start = estimator.best_loss_, estimator.start_loss_
    best, encoder = estimator.best_iter_, estimator._table.encoder
    estimator.set_params(max_iter=0).fit(X)
    assert estimator.best_loss_ == pytest.approx(first, rel=1e-4)
    assert (estimator.start_loss_, estimator.best_iter_) == (start, best)
    assert estimator._table.encoder is encoder
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 60


def test_what_is_told_of_warm_fits_is_told_of_all_together(estimator):
    estimator.set_params(
        warm_start=True, max_iter=30, validation_fraction=0.2, learning_rate=0.003
    )
    start = estimator.fit(X).start_loss_
    for n_fits in (2, 3, 4):
        estimator.fit(X)
        assert estimator.n_iter_ == len(estimator.validation_curve_) == 30 * n_fits
        assert estimator.start_loss_ == start
    assert estimator.best_iter_ > 30
    kept = estimator.validation_curve_[estimator.best_iter_ - 1]
    assert kept == pytest.approx(estimator.best_loss_, rel=1e-6)


def test_warm_fits_that_gain_nothing_do_not_repeat_themselves(estimator):
    noise = np.random.default_rng(0).normal(size=(300, 5))
    options = {"warm_start": True, "validation_fraction": 0.2, "max_iter": 4}

    def fitted():
        made = clone(estimator).set_params(**options).fit(noise)
        made.set_params(learning_rate=0.3)  # too fast to gain anything
        return [made.fit(noise).loss_curve_[-4:] for _ in range(3)], made.best_iter_

    curves, best = fitted()
    assert best <= 4
    assert len({curve.tobytes() for curve in curves}) == 3
    again, _ = fitted()
    np.testing.assert_array_equal(curves, again)


@pytest.mark.parametrize("linear_path", [True, False])
def test_a_first_fit_is_the_same_with_warm_start(estimator, linear_path):
    estimator.set_params(linear_path=linear_path)
    cold = clone(estimator).fit(X).transform(X)
    np.testing.assert_array_equal(
        estimator.set_params(warm_start=True).fit(X).transform(X), cold
    )


def test_warm_start_refuses_other_networks(estimator):
    estimator.set_params(warm_start=True).fit(X)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=\(3,\) \(not \(16,\)\)"):
        estimator.set_params(hidden_layer_sizes=(3,)).fit(X)


def test_verbose_prints_lines_that_a_log_can_hold(estimator, capsys):
    estimator.set_params(verbose=1, max_iter=100, early_stopping=False)
    began = time.perf_counter()
    estimator.fit(X)
    elapsed = time.perf_counter() - began
    lines = capsys.readouterr().out.splitlines()
    assert 10 < len(lines) < 32
    assert all(line.startswith(f"[{type(estimator).__name__}]") for line in lines)
    assert "\r" not in "".join(lines)
    phases = [re.search(r"\] (\w+): (\d+\.\d\d) s$", line) for line in lines]
    seconds = {found[1]: float(found[2]) for found in phases if found}
    assert list(seconds) == ["reading", "start", "training", "density", "fit"]
    whole = seconds.pop("fit")
    assert sum(seconds.values()) - 0.05 <= whole <= elapsed + 0.01
    assert whole >= 0.9 * elapsed - 0.05


def test_silence_is_the_default(estimator, capsys):
    estimator.fit(X)
    assert capsys.readouterr() == ("", "")


def test_learning_rates_and_solvers_reach_the_same_table(estimator):
    for solver in ("adam", "sgd", "lbfgs"):
        fitted = clone(estimator).set_params(solver=solver, max_iter=15).fit(X)
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
    assert estimator.set_params(device=torch.device("cpu")).fit(X).n_iter_ == 5


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.where(X > 4, np.inf, X), "infinity"),
        (X.astype(complex), "[Cc]omplex"),
        (X[:1], "1 sample"),
        (X[0], "2D array"),
        (X[:, :0], "0 feature"),
        (pd.DataFrame(X)[[]], "0 feature"),
        (pd.DataFrame({"a": [1, np.inf], "k": ["x", "y"]}), r"'a' with infinite"),
        (pd.DataFrame({"born": pd.to_datetime(["2020", "2021"])}), r"\['born'\].*days"),
        (pl.DataFrame({"tags": [["x"], ["y"]]}), r"\['tags'\].*drop"),
        (np.array([["a", "b"], ["c", "d"]]), "text in an array.*categorical_features"),
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


@pytest.mark.parametrize("strategy", ["mode", None])
def test_cells_are_imputed_by_a_strategy_that_there_is(estimator, strategy):
    expected = f"strategy={strategy!r}, but expected one of ['mean', 'median']"
    with pytest.raises(ValueError, match=re.escape(expected)):
        estimator.fit(X).impute(X, strategy=strategy)


@pytest.mark.parametrize(
    "use",
    [
        lambda e: e.transform(X),
        lambda e: e.inverse_transform(X),
        lambda e: e.sample(),
        lambda e: e.score(X),
        lambda e: e.score_samples(X),
        lambda e: e.impute(X),
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


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_a_module_in_place_of_what_makes_one_is_refused(estimator, name):
    with torch.random.fork_rng():
        module = torch.nn.Linear(5, 2)
    with pytest.raises(TypeError, match=r"got a module, Linear.*callable \(n_inputs"):
        estimator.set_params(**{name: module}).fit(X)


def numpy_state():
    return np.random.get_state()  # noqa: NPY002 - the legacy state is what is tested


def test_a_module_of_the_wrong_width_is_refused(estimator):
    # The decoder of a VAE says of each number its mean and its spread.
    right = 10 if isinstance(estimator, VAETransformer) else 5
    message = rf"maps \(2, 2\) to \(2, {right + 1}\).*\(2, {right}\)"
    with pytest.raises(ValueError, match=message):
        estimator.set_params(decoder=_too_wide).fit(X)


def _too_wide(n_inputs, n_outputs):
    return torch.nn.Linear(n_inputs, n_outputs + 1)


def test_networks_without_weights_are_refused(estimator):
    estimator.set_params(encoder=_repeat, decoder=_repeat, linear_path=False)
    if isinstance(estimator, VAETransformer):
        estimator.set_params(likelihood="bernoulli", prior="normal")
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
    """A callback that presses Ctrl-C once, after an epoch or before any."""

    def __init__(self, after=3):
        self.n_left = after

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context):
        self.torn_down = True

    def on_fit_task_begin(self, estimator, context):
        if self.n_left == 0:
            self.n_left = -1
            raise KeyboardInterrupt

    def on_fit_task_end(self, estimator, context):
        self.n_left -= context.task_name == "epoch"


def test_ctrl_c_keeps_the_best_weights_so_far_with_a_warning(estimator):
    callback = Interrupt(after=3)
    whole = clone(estimator).set_params(max_iter=3, early_stopping=False).fit(X)
    estimator.set_params(early_stopping=False).set_callbacks(callback)
    with pytest.warns(
        ConvergenceWarning, match="interrupted after 4 epochs.*warm_start"
    ):
        estimator.fit(X)
    assert callback.torn_down
    assert estimator.n_iter_ == len(estimator.validation_curve_) == 4
    assert estimator.best_loss_ <= estimator.start_loss_
    assert estimator.transform(X).shape == whole.transform(X).shape
    assert np.isfinite(estimator.score(X))
    assert np.isfinite(estimator.sample(3)).all()
    more = estimator.set_params(warm_start=True).set_callbacks().fit(X)
    assert more.n_iter_ == 9


def test_ctrl_c_before_training_leaves_no_half_fitted_estimator(estimator):
    callback = Interrupt(after=0)
    with pytest.raises(KeyboardInterrupt):
        estimator.set_callbacks(callback).fit(X)
    assert callback.torn_down
    assert not [name for name in vars(estimator) if name.endswith("_")]
    with pytest.raises(NotFittedError):
        estimator.transform(X)


def test_ctrl_c_before_training_leaves_the_earlier_fit(estimator):
    codes = estimator.fit(X).transform(X)
    with pytest.raises(KeyboardInterrupt):
        estimator.set_callbacks(Interrupt(after=0)).fit(X[:, :3])
    np.testing.assert_array_equal(estimator.transform(X), codes)


def test_a_second_ctrl_c_leaves_the_earlier_fit(estimator, monkeypatch):
    codes = estimator.fit(X).transform(X)

    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(estimator, "_make_density", press)
    with (
        pytest.warns(ConvergenceWarning, match="interrupt"),
        pytest.raises(KeyboardInterrupt),
    ):
        estimator.set_callbacks(Interrupt()).fit(X[:, :3])
    np.testing.assert_array_equal(estimator.transform(X), codes)


def test_bad_input_leaves_the_earlier_fit(estimator):
    codes = estimator.fit(X).transform(X)
    with pytest.raises(ValueError, match="infinity"):
        estimator.fit(np.full((4, 2), np.inf))
    np.testing.assert_array_equal(estimator.transform(X), codes)


# Filters of warnings are not a thread's own: those that a fit sets may leak.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
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


# ---------------------------------------------------- mixed tables, missing cells


def mixed_frame(n_rows=120, seed=0, holes=0.15):
    """Make a pandas table of which all columns but the last depend on one number."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n_rows)
    group = np.digitize(u, [-0.7, 0.5])
    grades = ["low", "mid", "top", "never"]
    frame = pd.DataFrame(
        {
            "size": np.round(10 * u + rng.normal(size=n_rows), 2),
            "count": pd.array(rng.poisson(np.exp(u)), dtype="Int64"),
            "colour": np.array(["red", "green", "blue"])[group],
            "big": pd.array(u > 0.3, dtype="boolean"),
            "grade": pd.Categorical.from_codes(group, grades, ordered=True),
            "town": rng.choice(["A", "B", "C", "D"], n_rows),
        }
    )
    for name in frame:
        frame.loc[rng.random(n_rows) < holes, name] = None
    return frame


def to_polars(frame):
    grades = pl.Enum(frame["grade"].cat.categories.to_list())
    return pl.from_pandas(frame).with_columns(pl.col("grade").cast(grades))


def to_pyarrow(frame):
    return pa.Table.from_pandas(frame, preserve_index=False)


LIBRARIES = {"pandas": lambda f: f, "polars": to_polars, "pyarrow": to_pyarrow}
PLAIN_LIBRARIES = LIBRARIES | {"polars": pl.from_pandas}
IN_EACH_LIBRARY = pytest.mark.parametrize("library", LIBRARIES)


def assert_like(found, frame):
    """Check container, names, dtypes and levels."""
    assert type(found) is type(frame)
    if isinstance(frame, pd.DataFrame):
        pd.testing.assert_frame_equal(found.iloc[:0], frame.iloc[:0])
    else:
        assert found.schema == frame.schema


def cells(frame):
    """Return the cells of any dataframe, None where they are missing."""
    return [
        [None if pd.isna(cell) else cell for cell in row]
        for row in nw.from_native(frame).rows()
    ]


@pytest.fixture
def quick(estimator):
    return estimator.set_params(hidden_layer_sizes=(8,), max_iter=3)


@IN_EACH_LIBRARY
@pytest.mark.parametrize("holes", [0.0, 0.15])
def test_a_mixed_table_comes_back_as_the_table_that_it_was(quick, library, holes):
    pandas = mixed_frame(holes=holes)
    frame = LIBRARIES[library](pandas)
    codes = quick.fit_transform(frame)
    assert isinstance(codes, np.ndarray)
    assert codes.shape == (120, 2)
    assert np.isfinite(codes).all()
    assert np.isfinite(quick.score_samples(frame)).all()
    assert quick.score(frame) == pytest.approx(quick.score(pandas), rel=1e-12)
    back, drawn = quick.inverse_transform(codes), quick.sample(40, random_state=0)
    for rows, n_rows in ((back, 120), (drawn, 40), (quick.impute(frame), 120)):
        assert_like(rows, frame)
        rows = nw.from_native(rows)
        assert rows.shape == (n_rows, 6)
        for name in pandas:
            assert not rows[name].is_null().any()
        for name in ("colour", "big", "grade", "town"):
            assert set(rows[name].to_list()) <= set(pandas[name].dropna())


@IN_EACH_LIBRARY
def test_numbers_of_a_sample_are_like_those_of_the_table(quick, library):
    pandas = mixed_frame()
    drawn = quick.fit(LIBRARIES[library](pandas)).sample(400, random_state=0)
    for name in ("size", "count"):
        numbers = nw.from_native(drawn)[name].to_numpy().astype(float)
        assert numbers.min() >= pandas[name].min()
        assert numbers.max() <= pandas[name].max()
        np.testing.assert_allclose(numbers, numbers.round(2), atol=1e-9)


def test_a_fit_on_one_library_serves_the_others(quick):
    frame = mixed_frame()
    quick.fit(frame)
    codes, filled = quick.transform(frame), quick.impute(frame)
    for library in (to_polars, to_pyarrow):
        other = library(frame)
        np.testing.assert_array_equal(quick.transform(other), codes)
        rows = quick.impute(other)
        assert type(rows) is type(other)
        assert nw.from_native(rows).schema == nw.from_native(other).schema
        assert cells(rows) == cells(filled)


def test_libraries_are_fitted_alike(quick):
    codes = clone(quick).fit_transform(mixed_frame())
    for library in (to_polars, to_pyarrow):
        other = clone(quick).fit_transform(library(mixed_frame()))
        np.testing.assert_array_equal(other, codes)


def test_rows_do_not_depend_on_their_order_or_their_company(quick):
    frame = mixed_frame()
    quick.fit(frame)
    codes, scores = quick.transform(frame), quick.score_samples(frame)
    filled = quick.impute(frame)
    backward = frame[::-1]
    np.testing.assert_allclose(quick.transform(backward)[::-1], codes, rtol=1e-9)
    np.testing.assert_allclose(quick.score_samples(backward)[::-1], scores, rtol=1e-9)
    pd.testing.assert_frame_equal(quick.impute(backward)[::-1], filled, rtol=1e-9)
    for row in range(12):
        alone = frame.iloc[[row]]
        np.testing.assert_allclose(quick.transform(alone)[0], codes[row], rtol=1e-9)
        np.testing.assert_allclose(
            quick.score_samples(alone)[0], scores[row], rtol=1e-9
        )
        pd.testing.assert_frame_equal(
            quick.impute(alone), filled.iloc[[row]], rtol=1e-9
        )


def test_the_order_of_mixed_rows_does_not_matter_to_the_fit(quick):
    frame = mixed_frame()
    one, other = clone(quick).fit(frame), clone(quick).fit(frame[::-1])
    np.testing.assert_array_equal(one.transform(frame), other.transform(frame))


def test_weights_of_mixed_rows_are_repeated_rows(quick):
    frame, weight = mixed_frame(), np.random.default_rng(0).integers(0, 4, 120)
    one = clone(quick).fit(frame, sample_weight=weight)
    other = clone(quick).fit(frame.loc[np.repeat(np.arange(120), weight)])
    np.testing.assert_array_equal(one.transform(frame), other.transform(frame))
    pd.testing.assert_frame_equal(
        one.sample(9, random_state=0), other.sample(9, random_state=0)
    )


@pytest.mark.parametrize("level", ["blue", "green", "red"])  # first, second and last
def test_a_level_without_weight_does_no_harm(quick, level):
    frame = mixed_frame()
    quick.fit(frame, sample_weight=(frame["colour"] != level).astype(float))
    with pytest.warns(UserWarning, match=f"'colour' \\('{level}'\\)"):
        assert np.isfinite(quick.transform(frame)).all()
    with pytest.warns(UserWarning, match="did not have"):
        assert np.isfinite(quick.score_samples(frame)).all()
    assert level not in set(quick.sample(100, random_state=0)["colour"])


def test_validation_rows_may_be_mixed_and_have_levels_of_their_own(quick):
    held_out = mixed_frame(60, seed=1)
    held_out.loc[:5, "town"] = "elsewhere"
    with pytest.warns(UserWarning, match=r"6 cells of column 'town' \('elsewhere'\)"):
        quick.fit(mixed_frame(), X_val=held_out)
    assert quick.best_loss_ <= quick.start_loss_
    unknown = held_out.assign(
        town=held_out["town"].where(held_out["town"] != "elsewhere")
    )
    other = clone(quick).fit(mixed_frame(), X_val=unknown)
    assert other.best_loss_ == quick.best_loss_


@IN_EACH_LIBRARY
def test_a_level_that_the_fit_did_not_see_counts_as_missing(quick, library):
    convert = LIBRARIES[library]
    quick.fit(convert(mixed_frame()))
    new = mixed_frame(20, seed=1)
    unknown = convert(new.assign(town="elsewhere"))
    missing = convert(new.assign(town=pd.array([None] * 20, dtype="str")))
    told = pytest.warns(UserWarning, match=r"20 cells of column 'town' \('elsewhere'\)")
    with told as warned:
        codes = quick.transform(unknown)
    assert len(warned) == 1
    np.testing.assert_array_equal(codes, quick.transform(missing))
    with pytest.warns(UserWarning, match="did not have"):
        filled = quick.impute(unknown)
    assert set(nw.from_native(filled)["town"]) == {"elsewhere"}
    holes, others = (
        nw.from_native(quick.impute(t)).select(list(new.columns[:5]))
        for t in (missing, convert(new.assign(town="A")))
    )
    assert holes.shape == others.shape


def rare_levels(n_rows=200, seed=0):
    """Make a column of two levels, and of five that a row or two have."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n_rows)
    kind = np.where(x + rng.normal(size=n_rows) > 0, "up", "down").astype(object)
    kind[:7] = ["r1", "r2", "r2", "r3", "r4", "r5", "r5"]
    return pd.DataFrame(
        {"x": x, "y": x + rng.normal(size=n_rows), "kind": kind, "one": "same"}
    )


@pytest.mark.filterwarnings("ignore:got levels that the fit did not have")
def test_an_unseen_level_costs_what_a_level_of_one_row_would(quick):
    frame = rare_levels()
    quick.fit(frame)
    rows = frame[7:]
    kinds = ("up", "r1", "r2", "never")
    scores = {k: quick.score_samples(rows.assign(kind=k)) for k in kinds}
    assert (scores["never"] <= np.min([*scores.values()], axis=0) + 1e-9).all()
    assert scores["never"].mean() < quick.score_samples(rows.assign(kind=None)).mean()
    codes = [quick.transform(rows.assign(kind=k)) for k in ("r1", "never")]
    np.testing.assert_array_equal(*codes)
    same, other = (quick.score_samples(rows.assign(one=k)) for k in ("same", "other"))
    assert (other < same).all()
    if isinstance(quick, VAETransformer):
        # Seven rows of rare levels, and two hundred of the only one.
        costs = scores["never"] - scores["r1"]
        np.testing.assert_allclose(costs, np.log(7 / 8), rtol=1e-6)
        np.testing.assert_allclose(other - same, -np.log(201), rtol=1e-9)


@pytest.mark.filterwarnings("ignore:got levels that the fit did not have")
def test_an_unseen_level_is_an_error_of_its_cell(quick):
    frame = rare_levels()
    quick.fit(frame)
    errors = quick.reconstruction_error(frame[7:20].assign(one="other", kind=None))
    expected = 2 * (200 / 201) ** 2  # two hundred rows, and one of another level
    np.testing.assert_allclose(errors["one"], expected)
    assert errors["kind"].isna().all()


@IN_EACH_LIBRARY
@pytest.mark.parametrize("method", ["transform", "score_samples", "impute", "score"])
def test_a_column_of_levels_that_changes_its_dtype_is_refused(quick, library, method):
    convert = LIBRARIES[library]
    frame = mixed_frame(holes=0.0)
    quick.fit(convert(frame))
    wrong = convert(frame.assign(town=np.arange(120)))
    with pytest.raises(ValueError, match=r"'town' of numbers such as.*text such as"):
        getattr(quick, method)(wrong)


# ------------------------------------------------------------ filling missing cells


def holes_in(table, share=0.2, seed=0):
    return np.where(
        np.random.default_rng(seed).random(table.shape) < share, np.nan, table
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arrays_are_filled_where_they_have_holes_and_nowhere_else(quick, dtype):
    table = holes_in(X).astype(dtype)
    before = table.copy()
    filled = quick.fit(table).impute(table)
    assert isinstance(filled, np.ndarray)
    assert filled.dtype == dtype
    seen = ~np.isnan(table)
    assert filled[seen].tobytes() == table[seen].tobytes()
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(table, before)
    low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
    assert ((filled >= low) & (filled <= high)).all()


@IN_EACH_LIBRARY
def test_frames_are_filled_where_they_have_holes_and_nowhere_else(quick, library):
    pandas = mixed_frame()
    frame = LIBRARIES[library](pandas)
    quick.fit(frame)
    filled = nw.from_native(quick.impute(frame))
    again = nw.from_native(LIBRARIES[library](mixed_frame()))
    for name in pandas:
        seen = np.flatnonzero(pandas[name].notna()).tolist()
        before = nw.from_native(frame)[name]
        assert filled[name][seen].to_list() == before[seen].to_list()
        assert before.to_list()[:20] == again[name].to_list()[:20] or seen != list(
            range(120)
        )
        assert not filled[name].is_null().any()


@pytest.mark.parametrize(
    "index", [range(500, 620), [7] * 120, [f"row {i}" for i in range(120)]]
)
def test_the_index_of_a_pandas_table_is_kept(quick, index):
    frame = mixed_frame()
    plain = clone(quick).fit(frame).impute(frame)
    indexed = frame.set_axis(index)
    found = quick.fit(indexed).impute(indexed)
    pd.testing.assert_frame_equal(found, plain.set_axis(index))
    assert quick.sample(5, random_state=0).index.tolist() == list(range(5))


def test_a_complete_table_is_filled_with_nothing(quick):
    frame = mixed_frame(holes=0.0)
    pd.testing.assert_frame_equal(quick.fit(frame).impute(frame), frame)
    np.testing.assert_array_equal(clone(quick).fit(X).impute(X), X)


def test_what_depends_on_what_is_seen_is_filled_better_than_by_mean_and_mode(quick):
    whole = mixed_frame(400, holes=0.0)
    hidden = np.random.default_rng(0).random(whole.shape) < 0.2
    frame = whole.copy()
    for j, name in enumerate(frame):
        frame.loc[hidden[:, j], name] = None
    filled = quick.set_params(max_iter=30).fit(frame).impute(frame)
    for j, name in enumerate(whole.columns[:5]):
        truth, found = whole.loc[hidden[:, j], name], filled.loc[hidden[:, j], name]
        if name in ("size", "count"):
            error = np.square((found - truth).astype(float)).mean()
            plain = np.square((frame[name].mean() - truth).astype(float)).mean()
            assert error < (0.4 if name == "size" else 0.85) * plain
        else:
            error = np.mean((found != truth).to_numpy())
            plain = np.mean((truth != frame[name].mode()[0]).to_numpy())
            assert error < 0.7 * plain


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_numbers_are_filled_better_than_by_the_mean(quick, share):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 8)) + 0.3 * rng.normal(
        size=(300, 8)
    )
    holes = holes_in(table, share)
    error = quick.fit(holes).impute(holes) - table
    by_mean = np.nanmean(holes, axis=0) - table
    hidden = np.isnan(holes)
    assert np.square(error[hidden]).mean() < 0.4 * np.square(by_mean[hidden]).mean()


# ---------------------------------------------------------- where nothing is seen


def test_a_column_that_was_all_missing_stays_so_and_does_no_harm(quick):
    frame = mixed_frame()
    empty = frame.assign(size=np.nan, town=pd.array([None] * 120, dtype="str"))
    without = frame.drop(columns=["size", "town"])
    quick.fit(empty)
    for rows in (
        quick.impute(empty),
        quick.inverse_transform(quick.transform(empty)),
        quick.sample(120, random_state=0),
        quick.sample(120, random_state=0, missing=True),
    ):
        assert_like(rows, empty)
        assert rows[["size", "town"]].isna().all(axis=None)
    assert not quick.impute(empty)[list(without)].isna().any(axis=None)
    scores = quick.score_samples(empty)
    assert np.isfinite(scores).all()
    codes = quick.transform(empty)
    with pytest.warns(UserWarning, match="column 'town'"):
        np.testing.assert_allclose(quick.transform(frame), codes, rtol=1e-9, atol=1e-12)
    with pytest.warns(UserWarning, match="column 'town'"):
        np.testing.assert_allclose(quick.score_samples(frame), scores, rtol=1e-9)


def test_a_row_with_nothing_in_it_is_an_average_row_that_scores_zero(quick):
    frame = mixed_frame()
    quick.fit(frame)
    nothing = frame.reindex([-3, -2, -1])
    assert_like(nothing, frame)
    assert np.isfinite(quick.transform(nothing)).all()
    np.testing.assert_array_equal(quick.score_samples(nothing), 0)
    filled = quick.impute(nothing)
    assert not filled.isna().any(axis=None)
    first = filled.iloc[[0, 0, 0]].set_axis(filled.index)
    pd.testing.assert_frame_equal(filled, first)


def test_a_row_with_nothing_in_it_may_be_fitted(quick):
    frame = mixed_frame()
    frame = frame.mask(np.arange(120)[:, None] % 7 == np.zeros(6))
    codes = quick.fit_transform(frame)
    assert np.isfinite(codes).all()
    np.testing.assert_allclose(codes[::7], codes[:1].repeat(18, axis=0), atol=1e-12)
    assert np.isfinite(quick.score(frame))


@pytest.mark.parametrize("name", list(mixed_frame()))
def test_a_column_may_be_missing_at_transform_alone(quick, name):
    frame, new = mixed_frame(holes=0.0), mixed_frame(20, seed=1, holes=0.0)
    quick.fit(frame)
    hidden = new.copy()
    hidden[name] = None
    typed = hidden.astype({name: new[name].dtype})
    codes = quick.transform(typed)
    assert np.isfinite(codes).all()
    np.testing.assert_array_equal(quick.transform(hidden), codes)
    np.testing.assert_array_equal(
        quick.transform(hidden.assign(**{name: np.nan})), codes
    )
    assert np.isfinite(quick.score_samples(typed)).all()
    filled = quick.impute(typed)
    assert_like(filled, frame)
    others = [other for other in new if other != name]
    pd.testing.assert_frame_equal(filled[others], new[others])
    assert not filled[name].isna().any()
    again = quick.impute(hidden)[name]
    if name == "count":  # the given column does not say that it is whole
        again = again.astype(float).round()
    assert filled[name].to_list() == again.to_list()


def test_numbers_that_miss_at_transform_alone_are_filled(quick):
    quick.fit(X)
    holes = holes_in(X)
    assert np.isfinite(quick.transform(holes)).all()
    assert np.isfinite(quick.score(holes))
    assert np.isfinite(quick.impute(holes)).all()


def test_a_table_of_levels_alone_is_fitted(quick):
    frame = mixed_frame()[["colour", "town"]]
    assert np.isfinite(quick.fit_transform(frame)).all()
    assert_like(quick.sample(5, random_state=0), frame)
    assert np.isfinite(quick.score(frame))


def test_a_column_of_one_level_comes_back(quick):
    frame = pd.DataFrame({"x": np.arange(30.0), "k": ["only"] * 30})
    back = quick.fit(frame).inverse_transform(quick.transform(frame))
    assert set(back["k"]) == set(quick.sample(9, random_state=0)["k"]) == {"only"}
    with pytest.warns(UserWarning, match=r"30 cells of column 'k' \('other'\)"):
        assert np.isfinite(quick.score_samples(frame.assign(k="other"))).all()


@pytest.mark.parametrize(
    "table",
    [
        np.full((9, 2), np.nan),
        pd.DataFrame({"k": ["only"] * 9}),
        pd.DataFrame({"k": [f"row {i}" for i in range(9)]}),
        pd.DataFrame({"k": [None] * 9, "x": [np.nan] * 9}),
    ],
    ids=["empty array", "one level", "names alone", "empty frame"],
)
def test_a_table_with_nothing_to_learn_from_is_refused(quick, table):
    with pytest.raises(ValueError, match=r"got a table .* but expected"):
        quick.fit(table)


@pytest.mark.filterwarnings("ignore:got columns in which no level has three")
@pytest.mark.parametrize("n_rows", [2, 5])
def test_mixed_tables_may_be_tiny(quick, n_rows):
    frame = mixed_frame(n_rows)
    assert np.isfinite(quick.fit_transform(frame)).all()
    assert_like(quick.sample(3, random_state=0), frame)


def test_names_that_are_all_different_neither_dominate_nor_get_lost(quick):
    frame = mixed_frame(holes=0.0).assign(name=[f"row {i}" for i in range(120)])
    with pytest.warns(UserWarning, match=r"no level.*\['name'\]"):
        quick.fit(frame)
    assert (
        quick.module_(torch.zeros(1, quick._table.encoder.centre_.size)).shape[1] < 20
    )
    drawn = quick.sample(100, random_state=0)["name"]
    assert set(drawn) <= set(frame["name"])
    assert drawn.nunique() > 30


# ----------------------------------------------------- what is categorical in arrays


@pytest.mark.parametrize("features", [[0, 2], [True, False, True], [0, -1]])
def test_levels_in_an_array_are_named_by_the_parameter(quick, features):
    rng = np.random.default_rng(0)
    table = np.c_[
        rng.choice([3, 5, 8], 60), rng.normal(size=60), rng.integers(0, 2, 60)
    ]
    quick.set_params(categorical_features=features).fit(table)
    for rows in (quick.inverse_transform(quick.transform(table)), quick.sample(60)):
        assert isinstance(rows, np.ndarray)
        assert set(rows[:, 0]) <= {3, 5, 8}
        assert set(rows[:, 2]) <= {0, 1}
    holes = holes_in(table)
    filled = quick.fit(holes).impute(holes)
    np.testing.assert_array_equal(filled[~np.isnan(holes)], holes[~np.isnan(holes)])
    assert set(filled[:, 0]) == {3, 5, 8}


@pytest.mark.parametrize("make", [np.asarray, list], ids=["array", "list"])
def test_text_in_arrays_and_lists_is_taken_where_it_is_named(quick, make):
    rows = [["a", 1.5, 3], ["b", 2.5, np.nan], ["a", np.nan, 1], [None, 0.5, 2]] * 9
    table = make(rows) if make is list else np.array(rows, dtype=object)
    quick.set_params(categorical_features=[0])
    with pytest.warns(UserWarning, match=r"no level has three different rows, \[0\]"):
        quick.fit(table)
    assert np.isfinite(quick.transform(table)).all()
    drawn = quick.sample(20, random_state=0)
    assert isinstance(drawn, np.ndarray)
    assert set(drawn[:, 0]) == {"a", "b"}
    assert np.isfinite(drawn[:, 1:].astype(float)).all()
    filled = np.array(quick.impute(table), dtype=object)
    assert filled[3, 0] in ("a", "b")
    assert filled[0].tolist() == ["a", 1.5, 3]


def test_frames_without_levels_said_to_be_numeric_are_refused_by_name(quick):
    with pytest.raises(ValueError, match=r"\['colour', 'town'\].*from_dtype"):
        quick.set_params(categorical_features=None).fit(mixed_frame())


@pytest.mark.parametrize("features", ["all", ["nope"], [99]])
def test_features_that_are_not_there_are_refused(quick, features):
    with pytest.raises(ValueError, match="categorical_features"):
        quick.set_params(categorical_features=features).fit(mixed_frame())


def test_numbers_may_be_levels_and_come_back_as_numbers(quick):
    frame = pd.DataFrame({"x": np.arange(60.0), "k": np.arange(60) % 3 * 10})
    quick.set_params(categorical_features=["k"]).fit(frame)
    drawn = quick.sample(50, random_state=0)
    assert_like(drawn, frame)
    assert set(drawn["k"]) == {0, 10, 20}


def test_names_that_are_numbers_are_taken(quick):
    frame = mixed_frame().set_axis(range(6), axis=1)
    codes = quick.fit_transform(frame)
    assert_like(quick.inverse_transform(codes), frame)
    assert_like(quick.impute(frame), frame)
    assert set(quick.sample(5, random_state=0, given={2: "red"})[2]) == {"red"}


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_narrow_integers_come_back_from_far_codes(quick, library, dtype):
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 100, 60)
    frame = pd.DataFrame({"n": numbers, "x": 3.0 * numbers, "k": ["a", "b", "c"] * 20})
    frame = frame.astype({"n": dtype})
    frame = frame if library == "pandas" else pl.from_pandas(frame)
    codes = quick.fit_transform(frame)
    far = np.r_[codes[:1], 1e3 * codes]
    found = quick.inverse_transform(far)
    assert_like(found, frame)
    rows = nw.from_native(found)
    n, x = (rows[name].to_numpy().astype(float) for name in ("n", "x"))
    assert (np.diff(n[np.argsort(x, kind="stable")]) >= 0).all()


# ----------------------------------------------------------------- arrays or frames


def rows_of(quick, table):
    """Ask for rows in every way that there is."""
    return [
        quick.inverse_transform(quick.transform(table)),
        quick.sample(3, random_state=0),
        quick.sample(3, random_state=0, missing=True),
        quick.impute(table),
        *quick.impute(table, n_draws=2),
        quick.reconstruction_error(table),
    ]


@pytest.mark.parametrize("holes", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arrays_go_in_and_come_out(quick, holes, dtype):
    table = holes_in(X, holes).astype(dtype)
    assert all(type(rows) is np.ndarray for rows in rows_of(quick.fit(table), table))


@IN_EACH_LIBRARY
@pytest.mark.parametrize("holes", [0.0, 0.1])
@pytest.mark.parametrize("names", [["size"], ["size", "count"], ["size", "colour"]])
def test_a_dataframe_goes_in_and_dataframes_come_out(quick, library, holes, names):
    pandas = mixed_frame(holes=holes)[names].assign(other=np.arange(120.0))
    frame = PLAIN_LIBRARIES[library](pandas)
    assert isinstance(quick.fit_transform(frame), np.ndarray)
    *tables, errors = rows_of(quick, frame)
    for rows in tables:
        assert_like(rows, frame)
    assert type(errors) is type(frame)
    assert nw.from_native(errors).columns == nw.from_native(frame).columns


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "array"])
@pytest.mark.parametrize("mixed", [False, True])
def test_set_output_decides_otherwise(quick, library, mixed):
    frame = mixed_frame()[["size", "count", "colour", "town"]]
    frame = frame if mixed else frame[["size", "count"]].astype(float)
    names = [f"x{i}" for i in range(4)] if library == "array" else list(frame)
    if library == "array":
        quick.set_params(categorical_features=[2, 3] if mixed else None)
        table = frame.astype(object if mixed else float).to_numpy()
    else:
        table = PLAIN_LIBRARIES[library](frame)
    expected = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "default": type(table)}
    quick.fit(table)
    for output, kind in expected.items():
        codes = quick.set_output(transform=output).transform(table)
        assert type(codes) is (np.ndarray if output == "default" else kind)
        for rows in rows_of(quick, table):
            assert type(rows) is kind
            if output != "default":
                assert list(rows.columns) == names[: frame.shape[1]]


def test_a_pipeline_hands_on_what_its_steps_make(quick):
    frame = pd.DataFrame(X, columns=NAMES)
    for output, kind in (("default", np.ndarray), ("pandas", pd.DataFrame)):
        scale = StandardScaler().set_output(transform=output)
        pipeline = Pipeline([("scale", scale), ("reduce", clone(quick))]).fit(frame)
        assert type(pipeline.transform(frame)) is np.ndarray
        assert type(pipeline["reduce"].sample(2)) is kind


def test_single_precision_beside_levels_gives_codes_in_single_precision(quick):
    frame = mixed_frame()[["size", "colour"]]
    for convert in PLAIN_LIBRARIES.values():
        single = convert(frame.astype({"size": np.float32}))
        assert quick.fit_transform(single).dtype == np.float32
        assert quick.transform(convert(frame)).dtype == np.float64


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_sparse_columns_of_pandas_are_taken_and_drawn(quick, fill):
    frame = pd.DataFrame(X[:, :2], columns=["a", "b"])
    frame["s"] = pd.arrays.SparseArray(np.maximum(X[:, 2] - 3, 0), fill_value=fill)
    quick.fit(frame)
    for rows in rows_of(quick, frame)[:-1]:
        assert_like(rows, frame)


def test_columns_of_decimals_come_back_as_such(quick):
    cells = [None, *map(Decimal, np.char.mod("%.2f", X[1:, 0]))]
    for frame in (
        pl.DataFrame({"d": pl.Series(cells, dtype=pl.Decimal(8, 2)), "x": X[:, 1]}),
        pa.table({"d": pa.array(cells, pa.decimal128(8, 2)), "x": X[:, 1]}),
    ):
        quick.fit(frame)
        for rows in rows_of(quick, frame)[:-1]:
            assert_like(rows, frame)


def test_whole_numbers_are_filled_with_whole_numbers(quick):
    whole = np.random.default_rng(0).poisson(np.exp(X[:, [3]] / 2), (len(X), 3))
    table = holes_in(np.c_[whole, X[:, 0].round(1), X[:, 1]])
    filled = quick.fit(table).impute(table)
    assert (filled[:, :3] % 1 == 0).all()
    np.testing.assert_allclose(filled[:, 3], filled[:, 3].round(1), atol=1e-12)
    assert (filled[:, 4] != filled[:, 4].round(2)).any()


# --------------------------------------------------------------- sampling with more


def dependent_frame(n_rows=400):
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, n_rows)
    return pd.DataFrame(
        {
            "x": 10.0 * group + rng.normal(size=n_rows),
            "group": np.array(["a", "b", "c"])[group],
            "sign": rng.random(n_rows) < np.array([0.1, 0.5, 0.9])[group],
            "other": rng.normal(size=n_rows),
        }
    )


@pytest.fixture(scope="module", params=CLASSES, ids=lambda cls: cls.__name__)
def dependent(request):
    return request.param(2, hidden_layer_sizes=(16,), max_iter=60, random_state=0).fit(
        dependent_frame()
    )


@pytest.mark.parametrize("level", ["a", "b", "c"])
def test_rows_with_a_given_level_are_like_those_that_have_it(dependent, level):
    frame = dependent_frame()
    rows = frame[frame["group"] == level]
    drawn = dependent.sample(2000, random_state=0, given={"group": level})
    assert_like(drawn, frame)
    assert set(drawn["group"]) == {level}
    assert drawn["x"].mean() == pytest.approx(rows["x"].mean(), abs=2)
    assert drawn["x"].std() < 0.6 * frame["x"].std()
    assert drawn["sign"].mean() == pytest.approx(rows["sign"].mean(), abs=0.15)
    assert drawn["other"].mean() == pytest.approx(rows["other"].mean(), abs=0.3)
    assert drawn["other"].std() == pytest.approx(rows["other"].std(), rel=0.3)


def test_rows_with_a_given_number_are_like_those_near_it(dependent):
    drawn = dependent.sample(1000, random_state=0, given={"x": 20.0})
    assert set(drawn["x"]) == {20.0}
    assert np.mean(drawn["group"] == "c") > 0.8
    assert drawn["sign"].mean() == pytest.approx(0.9, abs=0.15)


def test_several_values_may_be_given(dependent):
    drawn = dependent.sample(500, random_state=0, given={"sign": True, "group": "b"})
    assert set(drawn["sign"]) == {True}
    assert set(drawn["group"]) == {"b"}
    assert drawn["x"].mean() == pytest.approx(10, abs=2)


def test_nothing_given_is_the_table(dependent):
    drawn = dependent.sample(1000, random_state=0, given={})
    shares = drawn["group"].value_counts(normalize=True)
    np.testing.assert_allclose(shares[["a", "b", "c"]], 1 / 3, atol=0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nope": 1}, r"column 'nope'.*\['x', 'group', 'sign', 'other'\]"),
        ({"group": "z"}, r"'group': 'z'.*level.*\['a', 'b', 'c'\]"),
        ({"group": None}, "'group': None"),
        ({"x": "a"}, "'x': 'a'.*finite number"),
        ({"x": np.nan}, "'x': nan.*finite number"),
        ({"x": 1e4, "group": "a"}, "too rare together.*Give fewer"),
        ("group", "given of type str.*dict of column to value"),
        ([("group", "a")], "given of type list"),
        (pd.DataFrame({"group": ["a"]}), "given of type DataFrame.*Series"),
    ],
)
def test_given_values_that_cannot_be_met_are_refused(dependent, given, message):
    with pytest.raises(ValueError, match=message):
        dependent.sample(3, random_state=0, given=given)


def test_cells_of_a_row_of_a_dataframe_are_given_as_a_dict_is(dependent):
    cells = {"group": "a", "sign": True}
    row = pd.DataFrame([cells]).iloc[0]
    drawn = dependent.sample(5, random_state=0, given=row)
    like = dependent.sample(5, random_state=0, given=cells)
    pd.testing.assert_frame_equal(drawn, like)


def test_given_values_repeat_by_their_seed(dependent):
    one, same, other = (
        dependent.sample(5, random_state=seed, given={"group": "a"})
        for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)


def test_numbers_are_given_in_tables_of_numbers_too(quick):
    drawn = quick.set_params(n_components=3).fit(X).sample(5, given={1: 2.5})
    assert isinstance(drawn, np.ndarray)
    np.testing.assert_array_equal(drawn[:, 1], 2.5)


@pytest.mark.parametrize("value", [1e3, -1e6])
def test_numbers_far_from_the_table_cannot_be_given(quick, value):
    with pytest.raises(ValueError, match="too rare together"):
        quick.fit(X).sample(5, random_state=0, given={1: value})


@IN_EACH_LIBRARY
def test_samples_may_miss_cells_as_the_table_does(quick, library):
    frame = mixed_frame(600, holes=0.0)
    rng = np.random.default_rng(0)
    for name, share in zip(frame, (0.4, 0.2, 0.3, 0.1, 0.05, 0.0), strict=True):
        frame.loc[rng.random(600) < share, name] = None
    quick.fit(LIBRARIES[library](frame))
    drawn = quick.sample(2000, random_state=0, missing=True)
    assert_like(drawn, LIBRARIES[library](frame))
    drawn = nw.from_native(drawn)
    found = [drawn[name].is_null().mean() for name in frame]
    np.testing.assert_allclose(found, frame.isna().mean(), atol=0.15)
    assert found[-1] == 0
    whole = nw.from_native(quick.sample(2000, random_state=0))
    assert not any(whole[name].is_null().any() for name in frame)


def test_holes_of_a_sample_are_where_the_table_has_them(quick):
    frame = dependent_frame().drop(columns="sign")
    frame.loc[frame["group"] == "a", "other"] = np.nan
    drawn = (
        quick.set_params(max_iter=30)
        .fit(frame)
        .sample(2000, random_state=0, missing=True)
    )
    share = drawn["other"].isna().groupby(drawn["x"] < 5).mean()
    assert share[True] > 0.7
    assert share[False] < 0.3


def test_samples_of_numbers_may_miss_cells_too(quick):
    drawn = quick.fit(holes_in(X, 0.3)).sample(2000, random_state=0, missing=True)
    np.testing.assert_allclose(np.isnan(drawn).mean(axis=0), 0.3, atol=0.12)


# ------------------------------------------------------- mixed tables in real uses


def test_a_pipeline_and_a_grid_search_take_a_mixed_table(quick):
    frame = mixed_frame()
    labels = np.where(frame["size"].fillna(0) > 0, "yes", "no")
    pipeline = make_pipeline(quick, LogisticRegression())
    name = type(quick).__name__.lower()
    search = GridSearchCV(pipeline, {f"{name}__n_components": [1, 2]}, cv=3)
    assert search.fit(frame, labels).best_score_ > 0.7
    alone = GridSearchCV(quick, {"n_components": [1, 2]}, cv=3).fit(frame)
    assert np.isfinite(alone.cv_results_["mean_test_score"]).all()


def test_a_column_transformer_takes_a_mixed_table(quick):
    frame = mixed_frame()
    parts = ColumnTransformer(
        [("code", quick, ["size", "colour", "grade"])], remainder="drop"
    )
    codes = parts.fit_transform(frame)
    expected = clone(quick).fit_transform(frame[["size", "colour", "grade"]])
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("round_trip", [_pickled, _joblibbed])
def test_a_fit_on_a_mixed_table_survives_a_round_trip(quick, round_trip, library):
    frame = LIBRARIES[library](mixed_frame())
    copy = round_trip(quick.fit(frame))
    np.testing.assert_array_equal(copy.transform(frame), quick.transform(frame))
    for rows in (
        lambda e: e.sample(5, random_state=0, missing=True),
        lambda e: e.sample(5, random_state=0, given={"colour": "red"}),
        lambda e: e.impute(frame),
    ):
        assert_like(rows(copy), frame)
        assert cells(rows(copy)) == cells(rows(quick))
    with pytest.raises(NotFittedError):
        clone(copy).transform(frame)


def test_a_fit_on_an_array_with_holes_survives_skops(quick):
    table = holes_in(X)
    copy = _skopsed(quick.fit(table))
    np.testing.assert_array_equal(copy.impute(table), quick.impute(table))
    np.testing.assert_array_equal(
        copy.sample(9, random_state=0, missing=True),
        quick.sample(9, random_state=0, missing=True),
    )


def test_warm_start_goes_on_with_the_levels_of_the_first_fit(quick):
    frame, new = mixed_frame(holes=0.0), mixed_frame(seed=1)
    new.loc[:9, "town"] = "elsewhere"
    quick.set_params(warm_start=True).fit(frame)
    encoder = quick._table.encoder
    with pytest.warns(UserWarning, match=r"10 cells of column 'town' \('elsewhere'\)"):
        quick.fit(new)
    assert quick._table.encoder is encoder
    assert quick.n_iter_ == 6
    assert set(quick.sample(200, random_state=0)["town"]) == {"A", "B", "C", "D"}


def test_the_tags_say_that_holes_and_levels_are_taken(quick):
    tags = quick.__sklearn_tags__().input_tags
    assert tags.allow_nan
    assert tags.categorical
    assert tags.sparse


@pytest.mark.parametrize("method", ["transform", "score_samples", "impute"])
def test_new_rows_are_checked_as_those_of_the_fit(quick, method):
    frame = mixed_frame()
    use = getattr(quick.fit(frame), method)
    with pytest.raises(ValueError, match=r"'size' with infinite values"):
        use(frame.assign(size=np.inf))
    with pytest.raises(ValueError, match=r"dates, \['size'\]"):
        use(frame.assign(size=pd.Timestamp("2020-02-29")))
    with pytest.raises(ValueError, match=r"text, \['size'\]"):
        use(frame.assign(size="large"))
    with pytest.raises(ValueError, match="feature names"):
        use(frame[frame.columns[::-1]])


@pytest.mark.filterwarnings("ignore:got columns in which no level has three")
@hypothesis_settings(max_examples=12, deadline=None)
@given(
    n_rows=st.integers(2, 30),
    kinds=st.lists(
        st.sampled_from(["number", "count", 1, 2, 5]), min_size=1, max_size=5
    ),
    holes=st.sampled_from([0.0, 0.2, 0.8]),
    seed=st.integers(0, 1000),
)
def test_any_mixed_table_goes_through_and_back(n_rows, kinds, holes, seed):
    rng = np.random.default_rng(seed)
    columns = {}
    for j, kind in enumerate(kinds):
        if kind == "number":
            cells = rng.standard_t(1.5, size=n_rows).astype(object)
        elif kind == "count":
            cells = rng.poisson(2, size=n_rows).astype(object)
        else:
            cells = np.array(list("vwxyz"), dtype=object)[rng.integers(0, kind, n_rows)]
        cells[1:][rng.random(n_rows - 1) < holes] = None
        columns[f"{kind} {j}"] = cells
    columns["level"] = rng.choice(["p", "q"], n_rows)
    columns["always"] = np.arange(n_rows, dtype=float)
    frame = pl.DataFrame({name: list(cells) for name, cells in columns.items()})
    for cls in CLASSES:
        fitted = cls(2, hidden_layer_sizes=(4,), max_iter=2, random_state=0).fit(frame)
        codes = fitted.transform(frame)
        assert np.isfinite(codes).all()
        assert np.isfinite(fitted.score_samples(frame)).all()
        for rows in (
            fitted.inverse_transform(codes),
            fitted.impute(frame),
            fitted.sample(n_rows, random_state=seed),
        ):
            assert rows.schema == frame.schema
            assert sum(rows.null_count().row(0)) == 0


# ------------------------------------------------------------------- one encoding


@pytest.fixture
def encoded_rows(monkeypatch):
    """Count the rows that are encoded."""
    counts = []
    encode = TableEncoder.encode

    def counted(self, rows, *args):
        counts.append(len(rows))
        return encode(self, rows, *args)

    monkeypatch.setattr(TableEncoder, "encode", counted)
    return counts


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_rows_are_encoded_once_in_fit_and_once_in_every_verb(
    quick, encoded_rows, share
):
    frame = mixed_frame(holes=share)
    quick.fit(frame)
    assert sum(encoded_rows) == len(frame.drop_duplicates())
    verbs = [quick.transform, quick.score_samples, quick.score]
    verbs.append(quick.reconstruction_error)
    if isinstance(quick, VAETransformer):
        verbs += [quick.elbo, quick.log_evidence, quick.posterior]
    for verb in verbs:
        encoded_rows.clear()
        verb(frame)
        assert sum(encoded_rows) == len(frame), verb
    encoded_rows.clear()
    quick.impute(frame)
    assert sum(encoded_rows) == frame.isna().any(axis=1).sum()
    encoded_rows.clear()
    quick.sample(50, random_state=0)
    assert sum(encoded_rows) == 0
    quick.sample(50, random_state=0, given={"big": True})
    assert sum(encoded_rows) == 1


# --------------------------------------------------------------------- one answer


def correlated_pairs(n_rows, seed):
    """Three independent pairs of correlation 0.9, which a code of two cannot hold."""
    rng = np.random.default_rng(seed)
    factor = np.linalg.cholesky([[1, 0.9], [0.9, 1]])
    pairs = [rng.normal(size=(n_rows, 2)) @ factor.T for _ in range(3)]
    return np.concatenate(pairs, axis=1)


@pytest.fixture(scope="module", params=CLASSES, ids=lambda cls: cls.__name__)
def of_pairs(request):
    estimator = request.param(2, max_iter=20, random_state=0)
    return estimator.fit(correlated_pairs(2_000, 0))


def test_a_partner_is_drawn_filled_and_sampled_by_one_correlation(of_pairs):
    given = of_pairs.sample(4_000, random_state=0, given={4: 1.5})
    assert (given[:, 4] == 1.5).all()
    assert given[:, 5].mean() == pytest.approx(1.35, abs=0.1)
    drawn = of_pairs.sample(8_000, random_state=1)
    for one in (0, 2, 4):
        slope = np.polyfit(drawn[:, one], drawn[:, one + 1], 1)[0]
        assert slope == pytest.approx(0.9, abs=0.05)
    truth = correlated_pairs(600, 1)
    hidden = np.arange(6) == (np.arange(600) % 6)[:, None]
    filled = of_pairs.impute(np.where(hidden, np.nan, truth))
    errors, deviations = (filled - truth)[hidden], truth[hidden]
    assert 1 - np.square(errors).sum() / np.square(deviations).sum() > 0.75


@pytest.mark.parametrize("of_pairs", [VAETransformer], indirect=True)
def test_a_row_with_a_hole_scores_the_mean_over_its_completions(of_pairs):
    grid = np.linspace(-6, 6, 1_201)
    for row in correlated_pairs(3, 1):
        holed, whole = row.copy(), np.tile(row, (len(grid), 1))
        holed[5], whole[:, 5] = np.nan, grid
        step = np.log(grid[1] - grid[0])
        expected = logsumexp(of_pairs.score_samples(whole)) + step
        assert of_pairs.score_samples(holed[None])[0] == pytest.approx(
            expected, abs=0.05
        )


# -------------------------------------------------------------------------- copies


@pytest.mark.parametrize("copies", [2, 10])
def test_copies_of_every_row_change_no_fit(quick, copies):
    once = clone(quick).fit(X)
    again = clone(quick).fit(np.repeat(X, copies, axis=0))
    weighted = clone(quick).fit(X, sample_weight=np.full(len(X), copies))
    for other in (again, weighted):
        np.testing.assert_array_equal(other.transform(X), once.transform(X))


@pytest.mark.parametrize(("widest", "share"), [(256, 1.0), (1024, 0.125)])
@pytest.mark.parametrize(
    ("kind", "rate", "fraction"),
    [
        (AutoencoderTransformer, 0.012, "auto"),
        (VAETransformer, 0.012, "auto"),  # of few rows
        (VAETransformer, 0.005, 0.1),
    ],
)
def test_wide_layers_take_smaller_steps(kind, rate, fraction, widest, share):
    options = {"hidden_layer_sizes": (16, widest), "max_iter": 3, "random_state": 0}
    options["validation_fraction"] = fraction
    auto = kind(weight_decay=0.01, **options).fit(X)
    told = kind(weight_decay=0.01 / share, learning_rate=rate * share, **options).fit(X)
    np.testing.assert_array_equal(auto.transform(X), told.transform(X))
