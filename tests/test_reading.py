import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from pyarrow import parquet
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimators_partial_fit_n_features

from skae import AutoencoderTransformer, LargeTable, VAETransformer
from skae._run import _running
from skae.table import _large
from skae.training._group import Alone

BOTH = pytest.mark.parametrize("cls", [AutoencoderTransformer, VAETransformer])


def curved(n_rows, seed=0):
    """Rows about a curved surface of two dimensions."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(1).normal(size=(2, 6))
    return np.tanh(rng.normal(size=(n_rows, 2)) @ mix) + 0.05 * rng.normal(
        size=(n_rows, 6)
    )


def with_levels(n_rows, seed=0):
    X = curved(n_rows, seed)
    table = pd.DataFrame(X, columns=list("abcdef"))
    table["sign"] = np.where(X[:, 0] > 0, "plus", "minus")
    return table


def in_parts(table, n_rows=400):
    return (table.iloc[i : i + n_rows] for i in range(0, len(table), n_rows))


# ------------------------------------------------------------------- large tables


@BOTH
def test_a_table_of_which_all_rows_are_kept_is_fitted_as_at_once(cls):
    X = curved(400)
    settings = {"random_state": 0, "max_iter": 3}
    at_once = cls(2, **settings).fit(X)
    by_chunks = cls(2, **settings).fit(LargeTable(X, chunk_rows=90))
    np.testing.assert_allclose(
        by_chunks.transform(X), at_once.transform(X), rtol=1e-6, atol=1e-8
    )
    np.testing.assert_array_equal(by_chunks.loss_curve_, at_once.loss_curve_)


@BOTH
def test_the_start_is_that_of_all_rows(cls):
    X = curved(3000) * 10.0 ** np.arange(6)
    model = cls(2, max_iter=0).fit(LargeTable(X, n_rows=100, chunk_rows=500))
    at_once = cls(2, max_iter=0).fit(X)
    np.testing.assert_allclose(
        model.transform(X), at_once.transform(X), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(
        model.inverse_transform(model.transform(X)),
        at_once.inverse_transform(at_once.transform(X)),
        rtol=1e-6,
    )


def test_the_start_is_pca_of_the_standardised_table_on_disk(tmp_path):
    X = curved(3000) * 10.0 ** np.arange(6)
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table(list(X.T), names=list("abcdef")), path)
    model = AutoencoderTransformer(2, max_iter=0).fit(
        LargeTable(path, n_rows=50, chunk_rows=1000)
    )
    codes = PCA(2).fit_transform(StandardScaler().fit_transform(X))
    ours = model.transform(parquet.read_table(path))
    np.testing.assert_allclose(np.abs(ours), np.abs(codes), atol=1e-6)


def test_levels_dtypes_and_holes_of_rows_that_are_not_kept_are_known(tmp_path):
    table = with_levels(2000)
    table["n"] = np.arange(2000) % 7
    table.loc[1777, "sign"] = "rare"
    table.loc[1778, "a"] = np.nan
    table["b"] = table["b"].round(2)
    table.loc[1779, "c"] = 99.5
    path = tmp_path / "table.parquet"
    table.to_parquet(path, row_group_size=500)
    model = AutoencoderTransformer(2, max_iter=0).fit(LargeTable(path, n_rows=100))
    frames, scaler = model._table.frames, model._table.encoder.scaler_
    assert frames.levels_[6].tolist() == ["minus", "plus", "rare"]
    assert scaler.high_[2] == 99.5
    np.testing.assert_allclose(scaler.scale_[1], table["b"].std(ddof=0))
    drawn = model.sample(20, random_state=0)
    assert isinstance(drawn, pa.Table)
    assert drawn.schema.field("n").type == pa.int64()
    assert np.isfinite(model.score_samples(table[1770:1790])).all()


@BOTH
def test_networks_may_see_every_row(cls, monkeypatch):
    monkeypatch.setattr(_large, "KEPT_ROWS", 300)
    table = with_levels(2000)
    seen = LargeTable(lambda: in_parts(table), n_rows=None)
    model = cls(2, random_state=0, max_iter=2).fit(seen)
    again = cls(2, random_state=0, max_iter=2).fit(seen)
    codes = model.transform(table)
    assert model.n_iter_ == 2
    assert np.isfinite(model.validation_curve_).all()
    np.testing.assert_array_equal(codes, again.transform(table))
    # Two epochs of 2,000 rows teach more than two of 300.
    score = "elbo" if cls is VAETransformer else "score_samples"
    few = cls(2, random_state=0, max_iter=2).fit(
        LargeTable(lambda: in_parts(table), n_rows=300)
    )
    fresh = with_levels(500, 9)
    means = [getattr(one, score)(fresh).mean() for one in (model, few)]
    assert means[0] > means[1]


@pytest.mark.parametrize("n_rows", [500, 200])
def test_rows_that_judge_are_not_in_the_stream(monkeypatch, n_rows):
    monkeypatch.setattr(_large, "KEPT_ROWS", 300)
    X = np.repeat(curved(n_rows), 2, axis=0)
    seen = []
    fit = AutoencoderTransformer._objective

    def spied(self, module, rows, generator):
        matrix = rows.cells.values  # noqa: PD011
        judges = {tuple(row) for row in matrix[len(rows.index) :].tolist()}
        for batch in rows.batches(50, generator):
            matrix = batch.values().values  # noqa: PD011
            seen.append(judges.isdisjoint(map(tuple, matrix.tolist())))
        return fit(self, module, rows, generator)

    monkeypatch.setattr(AutoencoderTransformer, "_objective", spied)
    AutoencoderTransformer(2, max_iter=1, random_state=0).fit(
        LargeTable(X, n_rows=None, chunk_rows=100)
    )
    assert seen
    assert all(seen)


def test_what_cannot_be_read_by_chunks_is_refused():
    X = curved(50)
    with pytest.raises(ValueError, match="got sample_weight with a table that is read"):
        AutoencoderTransformer(2).fit(LargeTable(X), sample_weight=np.ones(50))
    with pytest.raises(ValueError, match="of less than 2 rows"):
        AutoencoderTransformer(2).fit(LargeTable(X[:1]))
    warm = AutoencoderTransformer(2, max_iter=0, warm_start=True).fit(X)
    with pytest.raises(ValueError, match="use partial_fit"):
        warm.fit(LargeTable(X))


# -------------------------------------------------------------------- partial_fit


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_chunks_in_any_order_end_where_a_fit_does(order):
    X, fresh = curved(2400), curved(1000, 9)
    X = X[np.argsort(X[:, 0])]  # chunks are unlike
    settings = {"random_state": 0, "max_iter": 30}
    whole = AutoencoderTransformer(2, **settings).fit(X).score(fresh)
    model = AutoencoderTransformer(2, **settings)
    for chunk in np.array_split(X, 6)[order]:
        model.partial_fit(chunk)
    assert model.score(fresh) > whole - 0.01
    assert model._survey.n_rows == 2400


@BOTH
def test_one_chunk_is_as_a_fit(cls):
    X = load_wine().data
    settings = {"random_state": 0, "max_iter": 3}
    one = cls(2, **settings).partial_fit(X)
    other = cls(2, **settings).fit(X)
    np.testing.assert_allclose(one.transform(X), other.transform(X), rtol=1e-9)


def test_networks_go_on_where_the_table_has_not_changed():
    X = curved(2300)
    model = AutoencoderTransformer(2, random_state=0, max_iter=2).partial_fit(X[:2000])
    table, n_iter, loss = model._table, model.n_iter_, model.best_loss_
    model.partial_fit(X[2000:2150])
    assert model._table is table
    assert model.n_iter_ == n_iter + 1
    model.partial_fit(X[2150:])
    assert model.n_iter_ == n_iter + 2
    assert model.score(X) > 0.9
    assert model.best_loss_ < loss * 1.1


def test_levels_and_columns_may_come_late():
    first, second = with_levels(300), with_levels(300, 1)
    first["a"], first["sign"] = 5.0, "plus"  # constant until then
    second.loc[5, "b"] = np.nan
    model = AutoencoderTransformer(2, random_state=0, max_iter=2)
    model.partial_fit(first).partial_fit(second)
    assert model._table.frames.levels_[6].tolist() == ["minus", "plus"]
    both = pd.concat([first, second])
    np.testing.assert_allclose(
        model._table.encoder.scaler_.scale_[0], both["a"].std(ddof=0)
    )
    drawn = model.sample(300, random_state=0)
    assert set(drawn["sign"]) == {"minus", "plus"}


@BOTH
def test_a_fit_is_gone_on_from(cls):
    X = curved(600)
    model = cls(2, random_state=0, max_iter=1).fit(X[:300]).partial_fit(X[300:])
    assert model._survey.n_rows == 600
    model.fit(X[:300])
    assert model._survey is None


def test_other_columns_are_refused_and_change_nothing():
    table = with_levels(100)
    model = AutoencoderTransformer(2, max_iter=1, random_state=0).partial_fit(table)
    codes = model.transform(table)
    with pytest.raises(ValueError, match="feature names"):
        model.partial_fit(table.rename(columns={"a": "z"}))
    with pytest.raises(ValueError, match="columns of text"):
        model.partial_fit(table.astype({"a": str}))
    with pytest.raises(ValueError, match="dropout"):
        model.set_params(dropout=2).partial_fit(table)
    model.set_params(dropout=0.0)
    np.testing.assert_array_equal(model.transform(table), codes)
    assert model._survey.n_rows == 100


def test_processes_have_no_chunks_in_common():
    model = AutoencoderTransformer(2)
    with _running(group=Alone()), pytest.raises(RuntimeError, match="but expected fit"):
        model.partial_fit(curved(10))


def test_a_first_chunk_of_one_row_is_refused():
    with pytest.raises(ValueError, match="first chunk of 1 row"):
        AutoencoderTransformer(2).partial_fit([[1.0, 2.0]])


@pytest.mark.parametrize("by", ["pickle", "skops"])
def test_a_stream_goes_on_after_it_was_stored(by):
    table = with_levels(400)
    model = AutoencoderTransformer(2, random_state=0, max_iter=2)
    model.partial_fit(table[:200])
    if by == "pickle":
        stored = pickle.loads(pickle.dumps(model))  # noqa: S301
    else:
        data = skops.io.dumps(model)
        names = skops.io.get_untrusted_types(data=data)
        assert all(name.startswith("skae.") for name in names)
        stored = skops.io.loads(data, trusted=names)
    for one in (model, stored):
        one.partial_fit(table[200:])
    np.testing.assert_array_equal(model.transform(table), stored.transform(table))


@BOTH
def test_scikit_learns_check_of_partial_fit(cls):
    name = cls.__name__
    check_estimators_partial_fit_n_features(name, cls(max_iter=2))
