"""The autoencoder: its start, what it learns, what its scores and samples mean."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from settings import curved_table
from sklearn.compose import ColumnTransformer
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from skae import AutoencoderTransformer

X = curved_table()
QUICK = {"hidden_layer_sizes": (32,), "random_state": 0}
LOADERS = [load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine]


@pytest.fixture(scope="module")
def trained():
    """Fit the default to the curved table, once."""
    return AutoencoderTransformer(2, random_state=0).fit(X)


def r_squared(X, reconstructed):
    return 1 - np.square(X - reconstructed).sum() / np.square(X - X.mean(axis=0)).sum()


def reconstruction(estimator, X):
    return estimator.inverse_transform(estimator.transform(X))


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    n_rows=st.integers(3, 80),
    n_columns=st.integers(1, 12),
    n_components=st.integers(1, 12),
    linear_rank=st.integers(1, 12),
    seed=st.integers(0, 10_000),
)
def test_the_start_reconstructs_as_pca_does(
    n_rows, n_columns, n_components, linear_rank, seed
):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n_rows, linear_rank)) @ rng.normal(
        size=(linear_rank, n_columns)
    )
    table = table * 10.0 ** rng.integers(-3, 4, size=n_columns) + 5
    scaler = StandardScaler().fit(table)
    pca = PCA(min(n_components, n_rows, n_columns)).fit(scaler.transform(table))
    fitted = AutoencoderTransformer(n_components, max_iter=0).fit(table)
    scaled = scaler.transform(table)
    np.testing.assert_allclose(
        scaler.transform(reconstruction(fitted, table)),
        pca.inverse_transform(pca.transform(scaled)),
        atol=1e-6,
    )


def test_the_codes_of_the_start_are_those_of_pca():
    fitted = AutoencoderTransformer(3, max_iter=0).fit(X)
    scaled = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(
        fitted.transform(X), PCA(3).fit_transform(scaled), atol=1e-8
    )


def test_without_scaling_the_start_is_pca_of_the_raw_table():
    fitted = AutoencoderTransformer(2, max_iter=0, scaling=None).fit(X)
    pca = PCA(2).fit(X)
    np.testing.assert_allclose(
        reconstruction(fitted, X), pca.inverse_transform(pca.transform(X)), atol=1e-8
    )


@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
def test_held_out_rows_are_never_reconstructed_worse_than_by_pca(load):
    table = load().data
    train, test = train_test_split(table, test_size=0.3, random_state=0)
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    width = max(1, table.shape[1] // 4)
    pca = PCA(width).fit(train)
    fitted = AutoencoderTransformer(width, max_iter=100, random_state=0).fit(train)
    linear = r_squared(test, pca.inverse_transform(pca.transform(test)))
    assert r_squared(test, reconstruction(fitted, test)) >= linear - 0.001


def test_a_curved_surface_is_flattened():
    test = curved_table(seed=1)
    trained = AutoencoderTransformer(2, legibility=0, random_state=0).fit(X)
    linear = AutoencoderTransformer(2, max_iter=0).fit(X).score(test)
    assert linear < 0.5
    assert trained.score(test) > 0.9


def test_outliers_are_reconstructed_about_as_well_as_by_pca(trained):
    """The network's part is bounded: its share of a far row's error vanishes."""
    far = X.mean(axis=0) + 1e6 * X.std(axis=0) * np.random.default_rng(0).normal(
        size=(50, 5)
    )
    start = AutoencoderTransformer(2, max_iter=0).fit(X)
    assert trained.best_iter_ > 0
    np.testing.assert_allclose(
        trained.score_samples(far), start.score_samples(far), rtol=1e-3
    )


def test_noise_of_full_rank_is_left_to_pca():
    rng = np.random.default_rng(0)
    noise, test = rng.normal(size=(2, 200, 10))
    fitted = AutoencoderTransformer(3, random_state=0).fit(noise)
    start = AutoencoderTransformer(3, max_iter=0).fit(noise)
    assert fitted.score(test) >= start.score(test) - 0.001


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_each_loss_is_lowered_on_rows_that_training_has_not_seen(loss):
    fitted = AutoencoderTransformer(2, loss=loss, max_iter=100, **QUICK).fit(X)
    assert fitted.best_loss_ < 0.8 * fitted.start_loss_


def test_absolute_error_is_drawn_less_to_outliers_than_squared_error():
    table = X.copy()
    table[::20] += np.random.default_rng(0).normal(size=(15, 5)) * 30 * X.std(axis=0)
    errors = {}
    for loss in ("squared_error", "absolute_error"):
        fitted = AutoencoderTransformer(
            1, loss=loss, max_iter=200, early_stopping=False, **QUICK
        ).fit(table)
        errors[loss] = np.abs(reconstruction(fitted, X) - X).mean()
    assert errors["absolute_error"] < errors["squared_error"]


def test_cross_entropy_learns_binary_columns():
    rng = np.random.default_rng(0)
    hidden = rng.integers(0, 2, size=(400, 2))
    binary = np.c_[hidden, hidden[:, 0] ^ hidden[:, 1], hidden, 1 - hidden]
    fitted = AutoencoderTransformer(
        2, loss="binary_cross_entropy", max_iter=300, **QUICK
    ).fit(binary)
    back = reconstruction(fitted, binary)
    assert ((back >= 0) & (back <= 1)).all()
    np.testing.assert_array_equal(back.round(), binary)
    assert set(np.unique(fitted.sample(50, random_state=0))) == {0.0, 1.0}


@dataclass(frozen=True)
class UsualDecoder:
    """What is typed in first: layers that end in a sigmoid, or do not."""

    ends_in_sigmoid: bool

    def __call__(self, n_inputs, n_outputs):
        last = [nn.Sigmoid()] if self.ends_in_sigmoid else []
        inner, outer = nn.Linear(n_inputs, 32), nn.Linear(32, n_outputs)
        return nn.Sequential(inner, nn.ReLU(), outer, *last)


@pytest.mark.parametrize("linear_path", [True, False])
def test_a_decoder_that_ends_in_a_sigmoid_means_chances(linear_path):
    options = {"loss": "binary_cross_entropy", "linear_path": linear_path, **QUICK}
    options["validation_fraction"] = 0.1
    chances, logits = (
        AutoencoderTransformer(
            2, decoder=UsualDecoder(ends), max_iter=200, **options
        ).fit(X)
        for ends in (True, False)
    )
    assert chances.score(X) > 0.75
    assert chances.score(X) == pytest.approx(logits.score(X), abs=0.05)


class CountsRows(nn.Module):
    """A layer that notes how many rows it learns from."""

    def __init__(self, n_inputs, n_outputs, noted):
        super().__init__()
        self.layer, self.noted = nn.Linear(n_inputs, n_outputs), noted

    def forward(self, x):
        if self.training:
            self.noted.append(len(x))
        return self.layer(x)


@pytest.mark.parametrize(
    ("n_rows", "sizes"), [(60, {60, 40}), (500, {500, 400}), (1600, {1440})]
)
@pytest.mark.parametrize("options", [{}, {"sparsity": 0.3}], ids=["dense", "sparse"])
def test_own_modules_learn_from_all_rows_beside_some_that_judge(n_rows, sizes, options):
    noted = []
    fitted = AutoencoderTransformer(2, max_iter=3, batch_size=2000, **QUICK)
    fitted.set_params(encoder=lambda *shape: CountsRows(*shape, noted), **options)
    fitted.fit(curved_table(n_rows))
    assert set(noted) == sizes


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_own_modules_explain_more_of_held_out_rows_than_pca(load):
    train, test = train_test_split(load().data, test_size=0.3, random_state=0)
    start = AutoencoderTransformer(3, max_iter=0, **QUICK).fit(train)
    networks = {"encoder": UsualDecoder(False), "decoder": UsualDecoder(False)}
    fitted = AutoencoderTransformer(3, **networks, **QUICK).fit(train)
    assert fitted.score(test) > start.score(test) + 0.01


def test_without_hidden_layers_the_code_is_affine_whatever_the_activation():
    options = {"hidden_layer_sizes": (), "activation": "relu", "max_iter": 50}
    fitted = AutoencoderTransformer(2, linear_path=False, **options).fit(X)
    left, right = X[:50], X[50:100]
    middle = fitted.transform((left + right) / 2)
    ends = fitted.transform(left) + fitted.transform(right)
    np.testing.assert_allclose(middle, ends / 2, atol=1e-9)


def test_cross_entropy_asks_for_the_unit_interval():
    fitted = AutoencoderTransformer(loss="binary_cross_entropy", scaling=None)
    with pytest.raises(ValueError, match=r"scaling=None.*\[0, 1\].*'minmax'"):
        fitted.fit(X)


@pytest.mark.parametrize("corruption", [{"noise": 0.8}, {"masking": 0.4}])
def test_denoising_restores_corrupted_rows_better(corruption):
    rng = np.random.default_rng(0)
    train = np.repeat(curved_table(1000), 2, axis=1)
    test = np.repeat(curved_table(500, seed=1), 2, axis=1)
    scale = train.std(axis=0)
    corrupted = test + corruption.get("noise", 0.0) * scale * rng.normal(
        size=test.shape
    )
    hidden = rng.uniform(size=test.shape) < corruption.get("masking", 0.0)
    corrupted = np.where(hidden, train.mean(axis=0), corrupted)

    def restored(parameters):
        fitted = AutoencoderTransformer(
            4, max_iter=150, early_stopping=False, **parameters, **QUICK
        ).fit(train)
        return r_squared(test / scale, reconstruction(fitted, corrupted) / scale)

    assert restored(corruption) > restored({"noise": 0.0})


def spoiled(rows, corruption, rng):
    noise = corruption.get("noise", 0.0) * rng.normal(size=rows.shape)
    hidden = rng.uniform(size=rows.shape) < corruption.get("masking", 0.0)
    return np.where(hidden, 0.0, rows + noise)


def denoising_error(fitted, test, corruption):
    rng = np.random.default_rng(0)
    copies = [(test, spoiled(test, corruption, rng)) for _ in range(4)]
    return np.mean([(reconstruction(fitted, s) - rows) ** 2 for rows, s in copies])


@pytest.mark.parametrize(
    ("n_samples", "corruption"),
    [
        (120, {"noise": 0.3}),
        (120, {"masking": 0.5}),
        (500, {"noise": 1.0}),
        (500, {"masking": 0.2}),
    ],
    ids=repr,
)
def test_asked_to_denoise_it_beats_the_best_linear_denoiser(n_samples, corruption):
    train, test = curved_table(n_samples), curved_table(1000, seed=1)
    centre, scale = train.mean(axis=0), train.std(axis=0)
    train, test = (train - centre) / scale, (test - centre) / scale
    options = {"scaling": None, **QUICK, **corruption}
    fitted = AutoencoderTransformer(2, **options).fit(train)
    linear = AutoencoderTransformer(2, max_iter=0, **options).fit(train)
    pca = AutoencoderTransformer(2, max_iter=0, scaling=None).fit(train)
    assert fitted.best_iter_ > 0
    found, best, plain = (
        denoising_error(made, test, corruption) for made in (fitted, linear, pca)
    )
    assert found < best
    assert best < plain + 1e-3


def test_noise_of_full_rank_is_denoised_as_well_as_by_ridge_regression():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(2, 300, 6)) * [3, 2, 1, 1, 0.5, 0.3]
    options = {"scaling": None, "noise": 1.0, "random_state": 0}
    fitted = AutoencoderTransformer(6, **options).fit(train)
    ridge = Ridge(alpha=299).fit(train, train)
    noisy = test + np.random.default_rng(1).normal(size=test.shape)
    error = ((reconstruction(fitted, noisy) - test) ** 2).mean()
    assert error <= 1.02 * ((ridge.predict(noisy) - test) ** 2).mean()


def test_noisy_digits_are_cleaned_far_better_than_linearly():
    rows = load_digits().data / 16
    train, test = rows[:1200], rows[1200:]
    options = {"scaling": None, "noise": 0.3, "random_state": 0}
    fitted = AutoencoderTransformer(16, max_iter=100, **options).fit(train)
    linear = AutoencoderTransformer(16, max_iter=0, **options).fit(train)
    found, best = (denoising_error(m, test, {"noise": 0.3}) for m in (fitted, linear))
    assert found < 0.8 * best


@pytest.mark.parametrize("scaling", ["standard", "minmax", None])
def test_noise_is_in_the_units_that_columns_are_scaled_to(scaling):
    table = curved_table(200)
    units = {"standard": table.std(axis=0), "minmax": np.ptp(table, axis=0), None: 1.0}
    scaled = table / units[scaling]
    options = {"max_iter": 0, "noise": 0.4}
    found = AutoencoderTransformer(3, scaling=scaling, **options).fit(table)
    same = AutoencoderTransformer(3, scaling=None, **options).fit(scaled)
    restored = reconstruction(found, table) / units[scaling]
    np.testing.assert_allclose(restored, reconstruction(same, scaled), rtol=1e-6)


@pytest.mark.parametrize("options", [{"max_iter": 0}, {"max_iter": 100}], ids=str)
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_sparsity_is_the_share_of_a_code_that_is_zero(share, options):
    codes = AutoencoderTransformer(4, sparsity=share, **QUICK, **options)
    zeros = codes.fit_transform(X) == 0
    assert zeros.mean() == pytest.approx(share, abs=0.01)
    assert len(np.unique(zeros.sum(axis=1))) > 1  # rows need different numbers


@pytest.mark.parametrize("load", [load_breast_cancer, load_digits])
@pytest.mark.parametrize("twice", [False, True])
def test_sparse_codes_reconstruct_about_as_well_as_dense_ones(load, twice):
    table = load().data
    train, test = train_test_split(table, test_size=0.3, random_state=0)
    options = {"n_components": table.shape[1] * (2 if twice else 1), "random_state": 0}
    dense = AutoencoderTransformer(max_iter=0, **options).fit(train)
    sparse = AutoencoderTransformer(sparsity=0.55, max_iter=50, **options).fit(train)
    assert sparse.score(test) > dense.score(test) - 0.03
    assert (sparse.transform(test) == 0).mean() > 0.5


def test_legibility_keeps_codes_near_those_of_pca(trained):
    free = AutoencoderTransformer(2, legibility=0, random_state=0).fit(X)
    start = AutoencoderTransformer(2, max_iter=0).fit(X)

    def departure(fitted):
        read = LinearRegression().fit(fitted.transform(X), start.transform(X))
        return 1 - read.score(fitted.transform(X), start.transform(X))

    assert departure(trained) < 0.5 * departure(free)
    assert start.score(X) < trained.score(X) < free.score(X)


def test_penalties_shrink_the_networks_and_spare_the_linear_path():
    def norms(**penalty):
        fitted = AutoencoderTransformer(
            2, max_iter=100, learning_rate=0.01, **penalty, **QUICK
        ).fit(X)
        network = fitted.module_.decoder.network[0].weight
        return network.norm().item(), fitted.module_.decoder.weight.norm().item()

    free, decayed = norms(weight_decay=0.0), norms(weight_decay=1.0)
    assert decayed[0] < 0.7 * free[0]
    assert decayed[1] == free[1]
    assert norms(l1_penalty=1.0)[0] < free[0]


def test_the_textbook_network_has_no_linear_path():
    fitted = AutoencoderTransformer(2, linear_path=False, max_iter=1, **QUICK).fit(X)
    kinds = [type(layer).__name__ for layer in fitted.module_.decoder]
    assert kinds == ["Linear", "SiLU", "Linear"]
    assert fitted.start_loss_ > AutoencoderTransformer(2, max_iter=0).fit(X).start_loss_


def test_score_is_the_explained_variance_of_scaled_columns():
    fitted = AutoencoderTransformer(2, max_iter=5, **QUICK).fit(X)
    scale = X.std(axis=0)
    by_hand = r_squared(X / scale, reconstruction(fitted, X) / scale)
    assert fitted.score(X) == pytest.approx(by_hand, rel=1e-9)


def test_score_samples_is_minus_the_mean_squared_error():
    fitted = AutoencoderTransformer(2, max_iter=5, **QUICK).fit(X)
    errors = (reconstruction(fitted, X) - X) / X.std(axis=0)
    np.testing.assert_allclose(
        fitted.score_samples(X), -np.square(errors).mean(axis=1), rtol=1e-9
    )


def test_the_score_of_one_row_and_of_constants_is_a_number():
    fitted = AutoencoderTransformer(2, max_iter=0).fit(X)
    assert fitted.score(X[:1]) == 0.0
    constant = np.full((5, 3), 2.0)
    assert AutoencoderTransformer(1, max_iter=0).fit(constant).score(constant) == 1.0


def test_samples_resemble_the_table(trained):
    drawn = trained.sample(5000, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), X.mean(axis=0), atol=0.2 * X.std())
    np.testing.assert_allclose(drawn.std(axis=0), X.std(axis=0), rtol=0.2)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(X.T), atol=0.2)


def test_the_seed_of_a_sample_repeats_it_and_none_does_not():
    fitted = AutoencoderTransformer(2, max_iter=1, **QUICK).fit(X)
    one, same = fitted.sample(3, random_state=7), fitted.sample(3, random_state=7)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(fitted.sample(3), fitted.sample(3))
    generator = np.random.RandomState(7)
    assert not np.array_equal(
        fitted.sample(3, random_state=generator),
        fitted.sample(3, random_state=generator),
    )


def test_more_components_than_columns_explain_everything():
    fitted = AutoencoderTransformer(8, max_iter=20, **QUICK).fit(X)
    assert fitted.score(X) == pytest.approx(1.0, abs=1e-9)


def test_single_precision_in_single_precision_out():
    table = X.astype(np.float32)
    fitted = AutoencoderTransformer(2, max_iter=5, **QUICK).fit(table)
    codes = fitted.transform(table)
    assert codes.dtype == fitted.inverse_transform(codes).dtype == np.float32
    np.testing.assert_allclose(codes, fitted.transform(X), atol=1e-4)


def test_columns_far_from_zero_keep_their_digits_in_single_precision():
    rng = np.random.default_rng(0)
    table = (rng.normal(size=(500, 3)) * 100 + 1e5).astype(np.float32)
    fitted = AutoencoderTransformer(3, max_iter=0).fit(table)
    np.testing.assert_allclose(reconstruction(fitted, table), table, atol=0.02)


# ------------------------------------------------------- mixed tables, missing cells


def mixed_frame(n_rows=300, seed=0):
    """Make a table of two numbers, two, three and five levels that hang together."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n_rows)
    return pd.DataFrame(
        {
            "size": 20 * u + 3 * rng.normal(size=n_rows),
            "group": np.array(["a", "b", "c"])[np.digitize(u, [-0.5, 0.5])],
            "square": u**2 + 0.3 * rng.normal(size=n_rows),
            "big": u + rng.normal(size=n_rows) > 0,
            "town": rng.choice(list("vwxyz"), n_rows),
        }
    )


def encoded(frame, like=None):
    """Standardise numbers and leave indicators as they are, as users of PCA do."""
    numbers, levels = ["size", "square"], ["big", "group", "town"]
    one_hot = ("levels", OneHotEncoder(sparse_output=False), levels)
    both = ColumnTransformer([("numbers", StandardScaler(), numbers), one_hot])
    return both.fit(frame if like is None else like).transform(frame)


def holes_in(frame, share=0.25, seed=0):
    hidden = np.random.default_rng(seed).random(frame.shape) < share
    return frame.astype({"big": "boolean"}).mask(hidden)


@pytest.mark.parametrize("width", [1, 3, 6])
def test_the_codes_of_a_mixed_start_are_those_of_pca_of_its_indicators(width):
    frame = mixed_frame()
    fitted = AutoencoderTransformer(width, max_iter=0).fit(frame)
    pca = PCA(width).fit(encoded(frame))
    expected = pca.transform(encoded(frame))
    np.testing.assert_allclose(
        np.abs(fitted.transform(frame)), np.abs(expected), atol=1e-7
    )
    explained = pca.explained_variance_ratio_.sum()
    assert fitted.score(frame) == pytest.approx(explained, rel=1e-6)


def test_a_mixed_row_scores_by_its_columns_and_not_by_their_levels():
    frame, test = mixed_frame(), mixed_frame(100, seed=1)
    fitted = AutoencoderTransformer(2, max_iter=0).fit(frame)
    pca = PCA(2).fit(encoded(frame))
    rows = encoded(test, frame)
    errors = rows - pca.inverse_transform(pca.transform(rows))
    np.testing.assert_allclose(
        fitted.score_samples(test), -np.square(errors).sum(axis=1) / 5, rtol=1e-6
    )


def test_held_out_mixed_rows_are_never_reconstructed_worse_than_by_pca():
    frame, test = mixed_frame(), mixed_frame(seed=1)
    for share in (0.0, 0.25):
        rows, others = holes_in(frame, share), holes_in(test, share, seed=1)
        start = AutoencoderTransformer(2, max_iter=0).fit(rows)
        fitted = AutoencoderTransformer(2, max_iter=100, **QUICK).fit(rows)
        assert fitted.score(others) >= start.score(others) - 0.001


def test_levels_that_tell_each_other_are_learned():
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 4, size=(2, 400))
    words = np.array(["n", "e", "s", "w"])
    frame = pd.DataFrame(
        {"a": words[one], "b": words[two], "c": words[(one + two) % 4]}
    )
    fitted = AutoencoderTransformer(2, max_iter=300, **QUICK).fit(frame)
    start = AutoencoderTransformer(2, max_iter=0).fit(frame)
    right = [
        (reconstruction(e, frame) == frame).to_numpy().mean() for e in (start, fitted)
    ]
    assert right[1] > max(right[0], 0.7)


def test_a_row_with_holes_scores_by_the_cells_that_it_has():
    fitted = AutoencoderTransformer(2, max_iter=20, **QUICK).fit(X)
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.3, np.nan, X)
    errors = (reconstruction(fitted, holes) - holes) / X.std(axis=0)
    seen = np.maximum((~np.isnan(holes)).sum(axis=1), 1)
    by_hand = -np.nansum(np.square(errors), axis=1) / seen
    np.testing.assert_allclose(fitted.score_samples(holes), by_hand, rtol=1e-9)
    deviation = (holes - np.nanmean(holes, axis=0)) / X.std(axis=0)
    explained = 1 - np.nansum(np.square(errors)) / np.nansum(np.square(deviation))
    assert fitted.score(holes) == pytest.approx(explained, rel=1e-9)


def test_neighbourhoods_draw_apart_what_is_apart():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(15, 8)) * 3
    groups = rng.integers(15, size=500)
    table = centres[groups] + rng.normal(size=(500, 8))
    fresh = centres[groups] + rng.normal(size=(500, 8))
    found = []
    for weight in (0.0, 3.0):
        map_ = AutoencoderTransformer(2, neighborhood=weight, max_iter=100, **QUICK)
        codes = map_.fit_transform(table)
        classify = KNeighborsClassifier(15).fit(codes, groups)
        found.append(classify.score(map_.transform(fresh), groups))
        assert map_.score(fresh) > PCA(2).fit(table).explained_variance_ratio_.sum()
    assert found[1] > 0.9
    assert found[1] > found[0] + 0.03


def test_neighbourhoods_of_equal_rows_leave_the_start():
    fitted = AutoencoderTransformer(2, neighborhood=3.0, max_iter=5, **QUICK)
    assert (fitted.fit_transform(np.ones((50, 4))) == 0).all()
    assert fitted.best_iter_ == 0


@pytest.fixture(scope="module")
def filled():
    fitted = AutoencoderTransformer(2, max_iter=20, **QUICK).fit(X)
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.3, np.nan, X)[:60]
    points = {"n_importance_samples": 400}
    draws = fitted.impute(holes, n_draws=400, random_state=0, **points)
    rows = [fitted.impute(holes, strategy=s, **points) for s in ("mean", "median")]
    return np.isnan(holes), np.stack(draws), *rows


def test_holes_are_filled_with_the_mean_of_what_is_drawn_for_them(filled):
    missing, draws, means, _ = filled
    apart = (means - draws.mean(axis=0)) / X.std(axis=0)
    assert np.abs(apart).max() < 0.4  # about five standard errors of the draws
    assert np.abs(apart)[missing].mean() < 0.05


def test_holes_are_filled_with_the_median_of_what_is_drawn_for_them(filled):
    # Between two heaps of draws a median may lie anywhere: what counts is the shares.
    missing, draws, _, medians = filled
    below, up_to = (draws < medians).mean(axis=0), (draws <= medians).mean(axis=0)
    assert (below[missing] < 0.5 + 0.125).all()  # five standard errors
    assert (up_to[missing] > 0.5 - 0.125).all()


def test_rows_with_holes_have_the_codes_of_their_conditional_mean():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4))
    scaled = StandardScaler().fit_transform(table)
    pca = PCA(2).fit(scaled)
    covariance, filled = pca.get_covariance(), scaled.copy()
    hidden = rng.random(table.shape) < 0.3
    for row, holes in zip(filled, hidden, strict=True):
        within = covariance[np.ix_(~holes, ~holes)]
        row[holes] = covariance[np.ix_(holes, ~holes)] @ np.linalg.solve(
            within, row[~holes]
        )
    fitted = AutoencoderTransformer(2, max_iter=0).fit(table)
    codes = fitted.transform(np.where(hidden, np.nan, table))
    np.testing.assert_allclose(codes, pca.transform(filled), atol=1e-6)


@pytest.mark.parametrize("loss", ["absolute_error", "huber", "binary_cross_entropy"])
def test_every_loss_takes_mixed_tables_with_holes(loss):
    frame = holes_in(mixed_frame())
    fitted = AutoencoderTransformer(2, loss=loss, max_iter=30, **QUICK).fit(frame)
    assert fitted.best_loss_ <= fitted.start_loss_
    assert np.isfinite(fitted.score(frame))
    drawn = fitted.sample(200, random_state=0)
    assert (drawn.dtypes == frame.dtypes).all()
    assert drawn["size"].between(frame["size"].min(), frame["size"].max()).all()
    assert not drawn.isna().any(axis=None)


@pytest.mark.parametrize("corruption", [{"noise": 0.5}, {"masking": 0.3}])
def test_corruption_takes_mixed_tables_with_holes(corruption):
    frame = holes_in(mixed_frame())
    fitted = AutoencoderTransformer(2, max_iter=30, **corruption, **QUICK).fit(frame)
    assert np.isfinite(fitted.score(frame))
    assert fitted.best_loss_ <= fitted.start_loss_


def test_samples_of_a_mixed_table_keep_shares_and_dependence():
    frame = mixed_frame(600)
    fitted = AutoencoderTransformer(3, max_iter=100, **QUICK).fit(frame)
    drawn = fitted.sample(3000, random_state=0)
    for name in ("group", "big", "town"):
        found = drawn[name].value_counts(normalize=True)
        expected = frame[name].value_counts(normalize=True)
        np.testing.assert_allclose(found.reindex(expected.index), expected, atol=0.1)
    by_group = drawn.groupby("group")["size"].mean()
    expected = frame.groupby("group")["size"].mean()
    np.testing.assert_allclose(by_group, expected, atol=0.4 * frame["size"].std())
    assert drawn["size"].std() == pytest.approx(frame["size"].std(), rel=0.2)


# --------------------------------------------------------------------- costs of a fit


def waves(n_rows):
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(n_rows, 2))
    return np.sin(latent @ rng.normal(size=(2, 8))) + 0.1 * rng.normal(size=(n_rows, 8))


def test_a_long_table_that_is_still_being_learned_says_so():
    model = AutoencoderTransformer(2, max_iter=3, random_state=0, device="cpu")
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        model.fit(waves(8_000))


@pytest.mark.parametrize("n_rows", [30, 600, 2_000])
@pytest.mark.parametrize("max_iter", [3, 20])
def test_small_tables_are_silent(n_rows, max_iter):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoencoderTransformer(2, max_iter=max_iter, random_state=0, device="cpu").fit(
            waves(n_rows)
        )


def test_a_fit_leaves_the_number_of_threads():
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        AutoencoderTransformer(2, max_iter=2, device="cpu").fit(waves(50))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(usual)
