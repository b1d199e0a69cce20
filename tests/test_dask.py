"""Verbs of tables in partitions: what they are in memory, lazily; searches on workers.

All but the last test run by Dask's scheduler of this thread.
"""

from __future__ import annotations

import random
import warnings
from copy import deepcopy
from dataclasses import replace
from functools import cache

import dask
import dask.array as da
import dask.dataframe as dd
import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from dask._task_spec import GraphNode
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

import skae._torch
from skae import AutoencoderImputer, AutoencoderTransformer, VAETransformer

QUICK = {"max_iter": 2, "hidden_layer_sizes": (8,), "random_state": 0}
OF_BOTH = ["transform", "reconstruction_error", "score_samples", "score_cells"]
OF_VAES = ["log_evidence", "elbo", "posterior"]
CLASSES = [AutoencoderTransformer, VAETransformer]
SLOW = (VAETransformer, "score_cells")  # and as all others
VERBS = [(c, v) for c in CLASSES for v in [*OF_BOTH, "impute"] if (c, v) != SLOW]
VERBS += [(VAETransformer, verb) for verb in OF_VAES]


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def numbers(n_rows=70, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n_rows, 2)) @ rng.normal(size=(2, 5))
    table[rng.random(table.shape) < 0.1] = np.nan
    return table.astype(dtype)


def pets(n_rows=70, seed=0):
    frame = pd.DataFrame(numbers(n_rows, seed), columns=list("abcde"))
    rng = np.random.default_rng(seed)
    frame["legs"] = rng.integers(2, 9, n_rows)
    frame["kind"] = pd.Categorical(
        rng.choice(["cat", "dog"], n_rows), ["x", "cat", "dog"]
    )
    frame["name"] = pd.array(rng.choice(["Io", "Pan"], n_rows), "string[pyarrow]")
    frame.loc[::9, "kind"] = None
    return frame.set_index(np.arange(n_rows) * 10)


def unfitted(cls):
    alone = {"density": "networks"} if cls is VAETransformer else {}
    return cls(**QUICK, **alone)


@cache
def fitted(cls, table=numbers):
    return unfitted(cls).fit(table())


def each(found):
    return found if isinstance(found, list | tuple) else [found]


def assert_same(lazy, expected):
    """Assert that a lazy answer is as promised, and what is expected."""
    assert type(lazy) is type(expected) or dask.is_dask_collection(lazy)
    for promise, table in zip(each(lazy), each(expected), strict=True):
        assert dask.is_dask_collection(promise)
        got = promise.compute()
        if isinstance(table, pd.DataFrame):
            assert isinstance(promise, dd.DataFrame)
            assert_frame_equal(got, table, rtol=1e-6)
            assert_frame_equal(promise._meta, table[:0], check_index_type=False)
        else:
            assert isinstance(promise, da.Array)
            assert promise.dtype == got.dtype == table.dtype
            assert promise.shape[1:] == table.shape[1:]
            assert_allclose(got, table, rtol=1e-6, atol=1e-9)


# ------------------------------------------------------------------- by partition


@pytest.mark.parametrize(("cls", "verb"), VERBS)
def test_an_array_is_answered_by_an_array_of_the_same_chunks(cls, verb):
    X = numbers()
    ask = getattr(fitted(cls), verb)
    lazy = ask(da.from_array(X, chunks=(30, 2)))
    assert all(promise.chunks[0] == (30, 30, 10) for promise in each(lazy))
    assert_same(lazy, ask(X))


@pytest.mark.parametrize("output", ["default", "pandas"])
@pytest.mark.parametrize(("cls", "verb"), VERBS)
def test_a_frame_is_answered_like_a_frame(cls, verb, output):
    X = pets()
    ask = getattr(deepcopy(fitted(cls, pets)).set_output(transform=output), verb)
    lazy, expected = ask(dd.from_pandas(X, npartitions=3)), ask(X)
    assert_same(lazy, expected)
    if isinstance(expected, pd.DataFrame):
        assert lazy.divisions == dd.from_pandas(X, npartitions=3).divisions


@pytest.mark.parametrize("table", [numbers, pets])
@pytest.mark.parametrize("cls", CLASSES)
def test_codes_come_back_in_the_container_of_the_fit(cls, table):
    model = fitted(cls, table)
    codes = model.transform(table())
    lazy = model.inverse_transform(da.from_array(codes, chunks=(40, 1)))
    assert_same(lazy, model.inverse_transform(codes))


def test_an_answer_has_the_precision_of_the_table():
    X = numbers(dtype=np.float32)
    model = fitted(AutoencoderTransformer)
    for table in (da.from_array(X, chunks=(20, 5)), dd.from_pandas(pd.DataFrame(X), 2)):
        assert model.transform(table).dtype == np.float32
        assert model.transform(table).compute().dtype == np.float32


def test_arrays_and_frames_of_unknown_length_are_answered():
    X = numbers()
    model = fitted(VAETransformer)
    chosen = X[:, 0] > 0  # leaves no row of the last partition
    chosen[60:] = False
    array = da.from_array(X, chunks=(30, 5))[da.from_array(chosen, chunks=30)]
    rows = dd.from_pandas(pd.DataFrame(X), npartitions=7)
    frame = rows[dd.from_pandas(pd.Series(chosen), npartitions=7)]
    for table in (array, frame):
        assert_allclose(model.transform(table).compute(), model.transform(X[chosen]))
        expected = model.score_samples(X[chosen])
        assert_allclose(model.score_samples(table).compute(), expected)
    means, deviations = dask.compute(*model.posterior(array))
    assert means.shape == deviations.shape == (chosen.sum(), 2)


def test_both_answers_to_one_question_come_from_one_partition(monkeypatch):
    X = pets()
    model = fitted(AutoencoderTransformer, pets)
    scores, expected = model.score_cells(dd.from_pandas(X, 3), return_expected=True)
    ask, asked = AutoencoderTransformer.score_cells, []
    monkeypatch.setattr(
        AutoencoderTransformer,
        "score_cells",
        lambda self, part, **options: (
            asked.append(len(part)) or ask(self, part, **options)
        ),
    )
    both = dask.compute(scores, expected)
    assert sorted(asked) == [23, 23, 24]
    for got, wanted in zip(
        both, model.score_cells(X, return_expected=True), strict=True
    ):
        assert_frame_equal(got, wanted)


def test_draws_are_repeatable_and_of_each_partition_its_own():
    row = np.array([[0.4, np.nan, -1.0, np.nan, 0.3]])
    model = fitted(VAETransformer)
    X = da.from_array(row.repeat(6, axis=0), chunks=(2, 5))
    draw = dask.compute(*model.impute(X, n_draws=2, random_state=3))
    again = dask.compute(*model.impute(X, n_draws=2, random_state=3))
    assert_array_equal(draw, again)
    drawn = np.stack(draw)[:, :, 1].ravel()
    assert len(np.unique(drawn)) > 9  # of 12: their column has few decimals
    fresh = model.impute(X, n_draws=1)[0]
    assert_array_equal(fresh.compute(), fresh.compute())
    assert (fresh.compute() != model.impute(X, n_draws=1)[0].compute()).any()


def test_an_imputer_fills_by_partition():
    X = pets()
    fill = AutoencoderImputer(AutoencoderTransformer(**QUICK)).fit(X)
    for output in ("default", "pandas"):
        fill.set_output(transform=output)
        assert_same(fill.transform(dd.from_pandas(X, npartitions=3)), fill.transform(X))


def test_an_array_becomes_a_frame_with_the_rows_counted():
    X = numbers()
    model = deepcopy(fitted(AutoencoderTransformer)).set_output(transform="pandas")
    lazy = model.transform(da.from_array(X, chunks=(30, 5)))
    assert lazy.divisions == (0, 30, 60, 69)
    assert_frame_equal(lazy.compute(), model.transform(X))


def test_categories_that_are_unknown_stay_so():
    X = pets()
    parts = dd.from_pandas(X, npartitions=2)
    parts["kind"] = parts["kind"].cat.as_unknown()
    filled = fitted(AutoencoderTransformer, pets).impute(parts)
    assert not filled["kind"].cat.known
    assert filled.compute()["kind"].isna().sum() == 0


def test_the_score_of_a_density_is_the_mean_over_partitions():
    X = numbers()
    model = fitted(VAETransformer)
    score = model.score(da.from_array(X, chunks=(30, 5)))
    assert score == pytest.approx(model.score(X))


# --------------------------------------------------------------- nothing before asked


@dask.delayed
def never():
    raise AssertionError("computed")


def uncomputed(table):
    if isinstance(table, np.ndarray):
        return da.from_delayed(never(), table.shape, table.dtype)
    return dd.from_delayed([never(), never()], meta=table[:0])


@pytest.mark.parametrize("table", [numbers, pets])
def test_a_verb_computes_nothing(table):
    model = fitted(VAETransformer, table)
    for verb in [*OF_BOTH, "impute", *OF_VAES]:
        lazy = getattr(model, verb)(uncomputed(table()))
        with pytest.raises(AssertionError, match="computed"):
            dask.compute(lazy)


@pytest.mark.parametrize("table", [numbers, pets])
@pytest.mark.parametrize("cls", CLASSES)
def test_rows_to_validate_on_are_to_be_in_memory(cls, table):
    X = table()
    model = unfitted(cls)
    with pytest.raises(TypeError, match=r"got a Dask .*Parquet.*compute"):
        model.fit(X, X_val=uncomputed(X))
    assert not hasattr(model, "n_iter_")


@pytest.mark.parametrize("table", [numbers, pets])
def test_a_fit_reads_partition_by_partition(table):
    X = table()
    lazy = da.from_array(X, chunks=(7, 2)) if table is numbers else dd.from_pandas(X, 3)
    model = unfitted(AutoencoderTransformer).fit(lazy)
    at_once = unfitted(AutoencoderTransformer).fit(X)
    np.testing.assert_allclose(model.transform(X), at_once.transform(X), rtol=1e-6)
    assert model.score(lazy) == pytest.approx(at_once.score(X))


def test_wrong_tables_are_refused_when_asked_and_not_when_computed():
    X = pets()
    model = fitted(AutoencoderTransformer, pets)
    parts = dd.from_pandas(X, npartitions=2)
    with pytest.raises(ValueError, match="feature names"):
        model.transform(parts[["b", "a"]])
    texts = parts.assign(a=parts["name"])
    with pytest.raises(ValueError, match="columns of text"):
        model.transform(texts)
    with pytest.raises(NotFittedError):
        AutoencoderTransformer().transform(parts)
    with pytest.raises(TypeError, match="got a Dask Delayed"):
        model.transform(dask.delayed(X))
    with pytest.raises(TypeError, match=r"transform would make a polars frame.*pandas"):
        deepcopy(model).set_output(transform="polars").transform(parts)
    of_polars = fitted(AutoencoderTransformer, lambda: pl.from_numpy(numbers()))
    with pytest.raises(TypeError, match="inverse_transform would make a polars frame"):
        of_polars.inverse_transform(da.ones((4, 2)))


def test_levels_that_are_made_up_are_not_warned_of():
    X = pets()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(AutoencoderTransformer, pets).transform(dd.from_pandas(X, 2))


# --------------------------------------------------------------------------- the graph


def held(graph, cls):
    """Count the tasks of a graph that hold an estimator."""
    pending, found = list(graph.values()), 0
    while pending:
        task = pending.pop()
        if isinstance(task, cls):
            found += 1
        elif isinstance(task, dict):
            pending += task.values()
        elif isinstance(task, list | tuple):
            pending += task
        elif isinstance(task, GraphNode):
            names = ("args", "kwargs", "value")
            pending += [getattr(task, name) for name in names if hasattr(task, name)]
    return found


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("n_parts", [1, 7])
def test_a_graph_holds_the_estimator_once(n_parts, optimized):
    X = pets()
    model = fitted(VAETransformer, pets)
    parts = dd.from_pandas(X, npartitions=n_parts)
    codes = model.transform(parts)
    answers = [codes, model.score_samples(parts), model.impute(parts)]
    answers += [model.inverse_transform(codes), *model.posterior(parts)]
    for lazy in answers[:3]:
        (lazy,) = dask.optimize(lazy) if optimized else (lazy,)
        assert held(dict(lazy.__dask_graph__()), VAETransformer) == 1
    names = {
        k for a in answers for k in a.__dask_graph__() if "VAETransformer" in str(k)
    }
    assert len(names) == 1  # of all that is asked of one fit


def test_what_was_asked_is_answered_as_it_was_then():
    X = numbers()
    model = deepcopy(fitted(AutoencoderTransformer))
    lazy, expected = (
        model.transform(da.from_array(X, chunks=(30, 5))),
        model.transform(X),
    )
    model.set_output(transform="pandas").fit(numbers(seed=1))
    assert_array_equal(lazy.compute(), expected)
    assert type(lazy.compute()) is np.ndarray


# ------------------------------------------------------------------------- two workers


@pytest.fixture
def client():
    """Start two workers, and keep them from the global generator of Python."""
    from distributed import Client, LocalCluster

    state = random.getstate()
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(processes=True, **options) as cluster, Client(cluster) as client:
        yield client
    random.setstate(state)


def not_here():
    raise AssertionError("devices of this process")


def test_two_workers_search_and_answer_like_one_process(client, monkeypatch):
    X = np.nan_to_num(numbers(200))
    model = AutoencoderTransformer(**QUICK)
    grid = {"n_components": [1, 2], "dropout": [0.0, 0.1]}
    search = GridSearchCV(model, grid, cv=2, refit=False)
    here = clone(search).fit(X).cv_results_
    scatter, sent = client.scatter, []
    monkeypatch.setattr(
        type(client),
        "scatter",
        lambda _, data, **options: sent.append(data) or scatter(data, **options),
    )
    with monkeypatch.context() as patch:
        patch.setattr(skae._torch, "available_devices", not_here)
        with pytest.raises(AssertionError, match="devices of this process"):
            model.fit(X)
        with joblib.parallel_config(backend="dask"):
            there = search.fit(X).cv_results_
    assert sum(data is X for data in sent) == 1
    for name in here:
        if "test_score" in name:
            assert_array_equal(here[name], there[name])

    model.fit(X)
    model._model = replace(model._model, device_name="cuda:7")  # which no worker has
    codes = model.transform(da.from_array(X, chunks=(50, 5)))
    with dask.config.set(scheduler=client):
        assert_allclose(codes.compute(), model.transform(X), rtol=1e-12)
