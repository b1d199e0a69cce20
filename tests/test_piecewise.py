"""Verbs of tables that are read chunk by chunk, against those of the table at once."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV

from skae import AutoencoderTransformer, LargeTable, VAETransformer
from skae.table import _large

CLASSES = [AutoencoderTransformer, VAETransformer]
BOTH = pytest.mark.parametrize("cls", CLASSES)
VERBS = ["transform", "score_samples", "reconstruction_error", "impute"]


def counts(n_rows=120, seed=0):
    """A table of mostly zeros about two topics."""
    rng = np.random.default_rng(seed)
    topics = np.array([[1.5, 1, 0.5, 0, 0, 0.2], [0, 0, 0.2, 1, 2, 0.5]])
    return rng.poisson(rng.dirichlet([0.4, 0.4], n_rows) @ topics).astype(float)


@cache
def fitted(cls):
    return cls(2, max_iter=2, random_state=0).fit(counts())


@cache
def fitted_to_a_frame(cls):
    frame = pd.DataFrame(counts(), columns=list("abcdef"))
    frame["k"] = np.where(frame["a"] > 0, "yes", "no")
    return cls(2, max_iter=2, random_state=0).fit(frame), frame


@BOTH
@pytest.mark.parametrize("verb", VERBS)
def test_answers_to_chunks_are_those_to_the_table(cls, verb):
    X = counts(40, 1)
    X[3, 2] = np.nan
    at_once = getattr(fitted(cls), verb)(X)
    by_chunks = getattr(fitted(cls), verb)(LargeTable(X, chunk_rows=7))
    np.testing.assert_allclose(by_chunks, at_once, rtol=1e-9, atol=1e-12)


@BOTH
@pytest.mark.parametrize("verb", ["transform", "reconstruction_error", "impute"])
def test_answers_to_chunks_of_frames_are_frames(cls, verb):
    model, frame = fitted_to_a_frame(cls)
    frame = frame[:40].copy()
    frame.loc[frame.index[5], "a"] = np.nan
    at_once = getattr(model, verb)(frame)
    source = LargeTable(lambda: (frame.iloc[i : i + 9] for i in range(0, 40, 9)))
    by_chunks = getattr(model, verb)(source)
    if verb == "transform":
        np.testing.assert_allclose(by_chunks, at_once, rtol=1e-9)
    else:
        pd.testing.assert_frame_equal(by_chunks, at_once, rtol=1e-9)


def test_cells_are_scored_by_chunks():
    X, model = counts(20, 1), fitted(AutoencoderTransformer)
    by_chunks = model.score_cells(LargeTable(X, chunk_rows=7))
    np.testing.assert_allclose(by_chunks, model.score_cells(X), rtol=1e-9)


def test_codes_are_decoded_by_chunks():
    model = fitted(AutoencoderTransformer)
    codes = model.transform(counts(40, 1))
    np.testing.assert_allclose(
        model.inverse_transform(LargeTable(codes, chunk_rows=9)),
        model.inverse_transform(codes),
    )


def test_several_answers_come_back_as_several():
    X = counts(20, 1)
    model = fitted(VAETransformer)
    source = LargeTable(X, chunk_rows=6)
    for one, other in zip(model.posterior(source), model.posterior(X), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    X[2, 1] = np.nan
    drawn = model.impute(LargeTable(X, chunk_rows=6), n_draws=2, random_state=0)
    assert len(drawn) == 2
    assert all(np.isfinite(table).all() for table in drawn)


@BOTH
def test_scores_of_chunks_are_those_of_the_table(cls):
    X = counts(50, 1)
    assert fitted(cls).score(LargeTable(X, chunk_rows=8)) == pytest.approx(
        fitted(cls).score(X)
    )


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="without rows"):
        fitted(AutoencoderTransformer).transform(LargeTable(lambda: iter(())))


# ------------------------------------------------------------------------ sparse


@BOTH
@pytest.mark.parametrize("form", ["csr_array", "csc_matrix", "coo_array"])
@pytest.mark.parametrize("most", [20, 1000], ids=["by chunks", "at once"])
def test_sparse_tables_are_as_dense_ones_without_scaling(cls, form, most, monkeypatch):
    monkeypatch.setattr(_large, "KEPT_ROWS", most)
    X = counts()
    table = getattr(sparse, form)(X)
    model = cls(2, max_iter=0).fit(table)
    dense = cls(2, max_iter=0, scaling=None).fit(X)
    for verb in ("transform", "score_samples"):
        ours = getattr(model, verb)(table)
        theirs = getattr(dense, verb)(X)
        if most == 1000 or verb == "transform":
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(model.transform(table), model.transform(X), atol=1e-9)


def test_the_start_of_a_sparse_table_is_its_pca(monkeypatch):
    monkeypatch.setattr(_large, "KEPT_ROWS", 20)
    X = counts(300)
    model = AutoencoderTransformer(2, max_iter=0).fit(sparse.csr_array(X))
    codes = PCA(2).fit_transform(X)
    np.testing.assert_allclose(np.abs(model.transform(X)), np.abs(codes), atol=1e-6)


def test_networks_learn_from_all_rows_of_a_sparse_table(monkeypatch):
    monkeypatch.setattr(_large, "KEPT_ROWS", 100)
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(2, 8))
    X, fresh = np.split(np.tanh(rng.normal(size=(2500, 2)) @ mix).clip(0), [2000])
    model = AutoencoderTransformer(2, random_state=0, max_iter=20)
    model.fit(sparse.csr_array(X))
    linear = PCA(2).fit(X)
    error = np.square(fresh - linear.inverse_transform(linear.transform(fresh)))
    ours = np.square(fresh - model.inverse_transform(model.transform(fresh)))
    assert ours.mean() < 0.8 * error.mean()


def test_chunks_may_be_sparse():
    X = counts(300)
    model = AutoencoderTransformer(2, random_state=0, max_iter=2)
    for part in np.array_split(np.arange(300), 3):
        model.partial_fit(sparse.csr_array(X[part]))
    assert (model._table.encoder.scaler_.scale_ == 1).all()
    assert model._survey.n_rows == 300


def test_a_search_takes_a_sparse_table():
    search = GridSearchCV(
        AutoencoderTransformer(max_iter=0), {"n_components": [1, 3]}, cv=2
    )
    search.fit(sparse.csr_array(counts()))
    assert search.best_params_ == {"n_components": 3}
