"""Effects of components: loadings at the start, derivatives afterwards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose
from settings import curved_table
from sklearn.datasets import load_diabetes, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAETransformer, component_effects, traverse

BOTH = pytest.mark.parametrize("cls", [AutoencoderTransformer, VAETransformer])


def whole_numbers(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5)) * [1, 3, 10, 30, 100]
    return pd.DataFrame(np.round(X), columns=list("abcde")).astype(int)


def with_levels(seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=300)
    kinds = np.where(z > 0.5, "c", np.where(z > -0.5, "b", "a")).astype(object)
    kinds[:2] = ["rare", "rarer"]
    return pd.DataFrame(
        {
            "size": z * 10 + rng.normal(size=300),
            "kind": kinds,
            "sex": np.where(z + rng.normal(size=300) > 0, "male", "female"),
            "noise": rng.normal(size=300),
        }
    )


@pytest.mark.parametrize(
    "make", [lambda: load_wine().data, lambda: load_diabetes().data, whole_numbers]
)
def test_effects_are_the_loadings_of_pca_at_the_start(make):
    X = make()
    start = AutoencoderTransformer(3, max_iter=0).fit(X)
    scaler = StandardScaler().fit(X)
    components = PCA(3).fit(scaler.transform(X)).components_
    effects = component_effects(start, X).to_numpy()
    signs = np.sign((effects * components).sum(axis=1))[:, None]
    loadings = components * signs * scaler.scale_
    assert_allclose(effects, loadings, rtol=1e-6, atol=1e-6)
    assert_allclose(effects / scaler.scale_, components * signs, atol=1e-6)


def test_effects_of_raw_numbers_are_components():
    X = curved_table()
    start = AutoencoderTransformer(2, max_iter=0, scaling=None).fit(X)
    components = PCA(2).fit(X).components_
    effects = component_effects(start, X).to_numpy()
    signs = np.sign((effects * components).sum(axis=1))[:, None]
    assert_allclose(effects, components * signs, atol=1e-6)


def test_effects_of_a_vae_are_loadings_of_probabilistic_pca():
    X = curved_table()
    start = VAETransformer(2, max_iter=0).fit(X)
    scaler = StandardScaler().fit(X)
    pca = PCA(2).fit(scaler.transform(X))
    signal = np.sqrt(pca.explained_variance_ - pca.noise_variance_)
    loadings = signal[:, None] * pca.components_
    effects = component_effects(start, X).to_numpy() / scaler.scale_
    signs = np.sign((effects * loadings).sum(axis=1))[:, None]
    assert_allclose(effects, loadings * signs, atol=1e-6)


@BOTH
def test_effects_are_the_slope_of_what_is_decoded(cls):
    X = curved_table()
    fitted = cls(2, max_iter=30, random_state=0).fit(X)
    codes, step = fitted.transform(X), 1e-2 * fitted.transform(X).std(axis=0)
    effects = component_effects(fitted, X)
    assert list(effects.index) == list(fitted.get_feature_names_out())
    for k in range(2):
        shift = step * (np.arange(2) == k)
        ahead = fitted.inverse_transform(codes + shift)
        back = fitted.inverse_transform(codes - shift)
        slope = (ahead - back).mean(axis=0) / (2 * step[k])
        scale = X.std(axis=0) / codes[:, k].std()
        assert_allclose(effects.iloc[k] / scale, slope / scale, atol=1e-3)


def test_standardized_effects_do_not_know_units():
    X = curved_table()
    units = np.array([1e-3, 1, 1e3, 1, 10])
    first, second = (
        component_effects(
            AutoencoderTransformer(2, max_iter=0).fit(T), T, standardize=True
        )
        for T in (X, X * units)
    )
    assert_allclose(first, second, atol=1e-6)
    # Of one standard deviation of the column, a component explains at most all.
    assert (first.pow(2).sum() <= 1 + 1e-9).all()


@BOTH
def test_levels_have_chances_that_add_up(cls):
    X = with_levels()
    fitted = cls(2, max_iter=20, random_state=0).fit(X)
    effects = component_effects(fitted, X)
    assert list(effects) == [
        "size",
        "kind=a",
        "kind=b",
        "kind=c",
        "kind=(rare)",
        "sex=male",
        "noise",
    ]
    kinds = effects[[name for name in effects if name.startswith("kind")]]
    if cls is VAETransformer:  # whose chances are a softmax
        assert_allclose(kinds.sum(axis=1), 0, atol=1e-9)
    first = effects.iloc[0]
    assert first["kind=c"] * first["size"] > 0
    assert first["kind=a"] * first["size"] < 0
    assert first["sex=male"] * first["size"] > 0


def test_holes_and_columns_without_numbers_have_effects():
    X = with_levels().assign(none=np.nan, same=3.0)
    X = X.mask(np.random.default_rng(1).uniform(size=X.shape) < 0.2)
    fitted = AutoencoderTransformer(2, max_iter=0).fit(X)
    effects = component_effects(fitted, X, standardize=True)
    assert np.isfinite(effects.to_numpy()).all()
    assert (effects[["none", "same"]] == 0).all(axis=None)


def test_effects_do_not_hang_on_the_container():
    X = whole_numbers()
    fitted = AutoencoderTransformer(2, max_iter=0).fit(X)
    expected = component_effects(fitted, X)
    for library, T in {"pandas": X, "polars": pl.DataFrame(X.to_dict("list"))}.items():
        fitted.set_output(transform=library)
        assert_allclose(component_effects(fitted, T), expected, rtol=1e-12)
    floats = AutoencoderTransformer(2, max_iter=0).fit(X.to_numpy(np.float64))
    of_array = component_effects(floats, X.to_numpy(np.float64))
    assert list(of_array) == ["x0", "x1", "x2", "x3", "x4"]
    assert_allclose(of_array, expected, rtol=1e-9, atol=1e-9)


def test_a_walk_at_the_start_is_straight():
    X = curved_table()
    start = AutoencoderTransformer(2, max_iter=0).fit(X)
    rows = traverse(start, X, 1, values=[-2, 0, 3])
    effect = component_effects(start, X).iloc[1].to_numpy()
    assert rows.index.tolist() == [-2, 0, 3]
    assert rows.index.name == "autoencodertransformer1"
    # The codes of PCA have the mean zero, which is the mean of the table.
    assert_allclose(rows, X.mean(axis=0) + np.outer([-2, 0, 3], effect), rtol=1e-6)


def test_a_walk_keeps_the_other_components_of_a_row():
    X = pd.DataFrame(curved_table(), columns=list("abcde"))
    fitted = AutoencoderTransformer(3, max_iter=20, random_state=0).fit(X)
    codes = fitted.transform(X)
    rows = traverse(fitted, X, 0, row=4, values=codes[[4, 9], 0])
    code = np.r_[codes[9, 0], codes[4, 1:]]
    assert_allclose(rows.iloc[0], fitted.inverse_transform(codes[[4]]).iloc[0])
    assert_allclose(rows.iloc[1], fitted.inverse_transform(code[None]).iloc[0])


def test_a_walk_stays_where_the_codes_are():
    X = with_levels()
    fitted = VAETransformer(2, max_iter=5, random_state=0).fit(X)
    rows = traverse(fitted, X, 0, n_steps=6)
    ends = np.quantile(fitted.transform(X)[:, 0], [0.05, 0.95])
    assert_allclose(rows.index[[0, -1]], ends)
    assert rows.shape == (6, 4)
    assert set(rows["sex"]) == {"female", "male"}


@pytest.mark.parametrize("component", [2, -1, 0.5, "first"])
def test_components_that_are_not_there_are_refused(component):
    X = curved_table()
    fitted = AutoencoderTransformer(2, max_iter=0).fit(X)
    with pytest.raises(ValueError, match=r"got component=.* an index below 2"):
        traverse(fitted, X, component)


@pytest.mark.parametrize("ask", [component_effects, lambda e, X: traverse(e, X, 0)])
def test_unfitted_estimators_have_no_effects(ask):
    with pytest.raises(NotFittedError):
        ask(AutoencoderTransformer(), curved_table())
