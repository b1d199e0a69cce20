"""What is saved of a fitted estimator, and which versions of skae can load it."""

from __future__ import annotations

import copy
import io
import pickle
from functools import cache

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from settings import QUICK, curved_table
from sklearn.base import clone

import skae
from skae import AutoencoderTransformer, VAETransformer
from skae._state import FORMAT, KEYS, VERSION, loaded, saved

CLASSES = pytest.mark.parametrize("cls", [AutoencoderTransformer, VAETransformer])


@cache
def fitted(cls):
    return cls(**QUICK, n_components=2, random_state=0, device="cpu").fit(mixed_table())


@cache
def mixed_table():
    frame = pd.DataFrame(curved_table(80)[:, :3], columns=list("abc"))
    frame["word"] = np.array(["low", "high", "top"], dtype=object)[np.arange(80) % 3]
    frame.loc[::7, "a"] = np.nan
    return frame


def state_of(cls):
    return fitted(cls).__getstate__()


def load(cls, state):
    model = cls()
    model.__setstate__(state)
    return model


def through_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


def through_skops(model):
    text = skops.io.dumps(model)
    return skops.io.loads(text, trusted=skops.io.get_untrusted_types(data=text))


TRIPS = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),  # noqa: S301
    "copy": copy.deepcopy,
    "joblib": through_joblib,
    "skops": through_skops,
}
OF_TRIPS = pytest.mark.parametrize("trip", TRIPS.values(), ids=TRIPS)


# ------------------------------------------------------------------------- the mark


@CLASSES
def test_a_saved_estimator_carries_its_format_and_version(cls):
    state = state_of(cls)
    assert state["_saved_format"] == FORMAT
    assert state["_saved_by"] == VERSION == skae.__version__


@CLASSES
def test_a_loaded_estimator_has_no_mark(cls):
    found = vars(load(cls, state_of(cls)))
    assert not set(KEYS) & set(found)
    assert set(found) == set(vars(fitted(cls)))


@CLASSES
def test_marks_are_of_the_saved_state_alone(cls):
    state_of(cls)
    assert not set(KEYS) & set(vars(fitted(cls)))


def test_states_are_left_as_they_were():
    state = {"a_": 1}
    marked = saved(state, "1.2.3")
    assert state == {"a_": 1}
    before = dict(marked)
    assert loaded(marked, "Name", "1.2.3") == state
    assert marked == before


# -------------------------------------------------------------------- other formats


@CLASSES
@pytest.mark.parametrize("written_as", [0, FORMAT + 1, 99])
def test_another_format_is_refused_with_both_versions_and_advice(cls, written_as):
    state = state_of(cls) | {"_saved_format": written_as, "_saved_by": "7.8.9"}
    with pytest.raises(ValueError, match="saved in format") as raised:
        load(cls, state)
    message = str(raised.value)
    for part in (
        f"got a fitted {cls.__name__} that skae 7.8.9 saved in format {written_as}",
        f"expected format {FORMAT}, that of skae {VERSION}",
        "fit it again",
        "pip install skae==7.8.9",
    ):
        assert part in message


@CLASSES
def test_a_fitted_state_without_a_mark_is_of_the_first_version(cls):
    state = {name: v for name, v in state_of(cls).items() if name not in KEYS}
    with pytest.raises(ValueError, match=r"skae 0\.1\.0 saved .* skae==0\.1\.0"):
        load(cls, state)


@CLASSES
def test_another_format_is_refused_when_it_is_unpickled(cls, monkeypatch):
    monkeypatch.setattr("skae._state.FORMAT", FORMAT + 1)
    monkeypatch.setattr("skae._fitted.VERSION", "7.8.9")
    written = pickle.dumps(fitted(cls))
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"skae 7\.8\.9 saved in format"):
        pickle.loads(written)  # noqa: S301


@CLASSES
@pytest.mark.parametrize("mark", [{}, {"_saved_format": 99, "_saved_by": "7.8.9"}])
def test_unfitted_estimators_of_any_format_load(cls, mark):
    state = cls(n_components=3).__getstate__()
    state = {name: v for name, v in state.items() if name not in KEYS} | mark
    model = load(cls, state)
    assert model.get_params() == cls(n_components=3).get_params()
    assert not set(KEYS) & set(vars(model))


@CLASSES
def test_another_version_of_the_same_format_loads(cls):
    model = load(cls, state_of(cls) | {"_saved_by": "0.2.9"})
    expected = fitted(cls).transform(mixed_table())
    np.testing.assert_array_equal(model.transform(mixed_table()), expected)


# ------------------------------------------------------------------- there and back


@CLASSES
@OF_TRIPS
def test_a_fitted_estimator_comes_back_with_all_its_answers(cls, trip):
    model, X = fitted(cls), mixed_table()
    again = trip(model)
    assert type(again) is cls
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    codes = model.transform(X)
    for verb in ("inverse_transform", "impute", "sample", "score_samples"):
        found, expected = (
            m.inverse_transform(codes)
            if verb == "inverse_transform"
            else m.sample(20, random_state=0)
            if verb == "sample"
            else getattr(m, verb)(X)
            for m in (again, model)
        )
        if isinstance(expected, pd.DataFrame):
            pd.testing.assert_frame_equal(found, expected)
        else:
            np.testing.assert_array_equal(found, expected)


@CLASSES
@OF_TRIPS
def test_an_unfitted_estimator_comes_back_with_its_parameters(cls, trip):
    model = cls(n_components=3, hidden_layer_sizes=(5, 4))
    again = trip(model)
    assert again.get_params() == model.get_params()
    assert not again.__sklearn_is_fitted__()


@CLASSES
def test_a_clone_of_a_loaded_estimator_is_unfitted_and_can_be_fitted(cls):
    again = clone(TRIPS["pickle"](fitted(cls)))
    assert not again.__sklearn_is_fitted__()
    assert again.get_params() == fitted(cls).get_params()
