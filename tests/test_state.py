"""What is saved of a fitted estimator, and which versions of skae can load it."""

from __future__ import annotations

import copy
import io
import json
import pickle
import re
import zipfile
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
from skae._state import FORMAT, KEYS, VERSION, digest, loaded, saved

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
    marked = saved(state, "Name", "1.2.3")
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


@CLASSES
@OF_TRIPS
@pytest.mark.parametrize("library", ["pandas", "pyarrow"])
def test_a_model_that_learns_by_chunks_comes_back_and_learns_on(cls, trip, library):
    table = chunk_of(library)
    model = cls(**QUICK, n_components=2, random_state=0, device="cpu")
    model.partial_fit(table)
    again = trip(model)
    found, expected = (m.partial_fit(table).transform(table) for m in (again, model))
    np.testing.assert_array_equal(found, expected)


def chunk_of(library):
    frame = mixed_table().assign(flag=np.arange(80) % 2 == 0)
    if library == "pandas":
        return frame
    return pytest.importorskip("pyarrow").Table.from_pandas(frame, preserve_index=False)


# ------------------------------------------------------------------- damaged states


@cache
def skops_file(cls):
    return skops.io.dumps(fitted(cls))


def read_skops(cls, text):
    trusted = skops.io.get_untrusted_types(data=skops_file(cls))
    return skops.io.loads(text, trusted=trusted)


def members(text):
    with zipfile.ZipFile(io.BytesIO(text)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return file.getvalue()


def flip_a_bit(text, rng):
    place = rng.integers(len(text))
    return text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]


def cut_the_end(text, rng):
    return text[: rng.integers(len(text))]


def clear_a_block(text, rng):
    place = rng.integers(len(text) - 512)
    return text[:place] + bytes(512) + text[place + 512 :]


def flip_a_bit_of_an_array(text, rng):
    files = members(text)
    name = rng.choice([name for name in files if name.endswith(".npy")])
    return zipped(files | {name: flip_a_bit(files[name], rng)})


def swap_two_arrays(text, rng):
    files = members(text)
    arrays = [name for name in files if name.endswith(".npy")]
    one, other = rng.choice(arrays, 2, replace=False)
    return zipped(files | {one: files[other], other: files[one]})


def change_a_digit(text, rng):
    files = members(text)
    schema = files["schema.json"].decode()
    digits = [found.start() for found in re.finditer(r"\d", schema)]
    place = rng.choice(digits)
    digit = str((int(schema[place]) + 1) % 10)
    return zipped(files | {"schema.json": schema[:place] + digit + schema[place + 1 :]})


@CLASSES
@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        cut_the_end,
        clear_a_block,
        flip_a_bit_of_an_array,
        swap_two_arrays,
        change_a_digit,
    ],
)
def test_a_damaged_skops_file_is_an_error_or_harmless(cls, damage):
    for seed in range(5):
        text = damage(skops_file(cls), np.random.default_rng(seed))
        try:
            found = read_skops(cls, text)
        except Exception:  # noqa: S112 - zip, JSON, numpy and skops have their own
            continue
        assert digest(found.__dict__) == digest(fitted(cls).__dict__)
        codes = [model.transform(mixed_table()) for model in (found, fitted(cls))]
        np.testing.assert_array_equal(*codes)


@CLASSES
def test_a_number_changed_by_hand_is_an_error(cls):
    files = members(skops_file(cls))
    schema = json.loads(files["schema.json"])
    seed = schema["content"]["content"]["_summary_seed"]
    seed["content"] = str(int(seed["content"]) + 1)
    text = zipped(files | {"schema.json": json.dumps(schema)})
    with pytest.raises(ValueError, match="is not what was saved"):
        read_skops(cls, text)


@CLASSES
def test_a_fitted_state_without_its_digest_is_an_error(cls):
    state = state_of(cls)
    del state["_saved_digest"]
    with pytest.raises(ValueError, match=f"got a state of {cls.__name__} that is not"):
        load(cls, state)


@CLASSES
def test_the_state_of_the_other_class_is_an_error(cls):
    (other,) = {AutoencoderTransformer, VAETransformer} - {cls}
    with pytest.raises(ValueError, match="is not what was saved"):
        load(other, state_of(cls))


def test_a_weight_that_has_changed_is_an_error():
    state = copy.deepcopy(state_of(AutoencoderTransformer))
    weights = state["_model"].weights
    weight = weights[max(weights, key=lambda name: weights[name].size)]
    weight.flat[0] = np.nextafter(weight.flat[0], np.inf)
    with pytest.raises(ValueError, match="is not what was saved"):
        load(AutoencoderTransformer, state)


# ---------------------------------------------------------------------- the digest


DIFFERENT = {
    "kinds": [0, False, 0.0, None, "0", b"0", [], (), {}, [0], (0,), {0: 0}],
    "nesting": [[1, 2], [[1], 2], [1, [2]], [[1, 2]], {1: 2}, ["1, 2"], [1, 2, None]],
    "numbers": [0.1, 0.1 + 1e-16, 0.1 + 1e-9, -0.0, np.nan, np.inf],
    "arrays": [
        np.zeros(4),
        np.zeros((4, 1)),
        np.zeros(4, dtype=np.float32),
        np.zeros(4, dtype=np.int64),
        np.array([0.0, 0.0, 0.0, -0.0]),
        np.array([0.0] * 4, dtype=object),
        np.array(["0.0"] * 4, dtype=object),
        np.zeros(0),
    ],
    "where a number is": [{"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": [1, 2]}],
}


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_has_another_digest(values):
    found = [digest(value) for value in values]
    expected = len({repr(value) for value in values})
    assert len(set(found)) == expected


def test_a_digest_does_not_depend_on_how_a_value_lies_in_memory():
    table = np.arange(12.0).reshape(3, 4)
    for other in (np.asfortranarray(table), np.tile(table, 2)[:, :4], table.copy()):
        assert digest(other) == digest(table)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(np.float64(0.5)) == digest(0.5)
    assert digest(np.str_("a")) == digest("a")


def test_of_foreign_objects_only_the_type_counts():
    assert digest([np.random.default_rng(0)]) == digest([np.random.default_rng(1)])
    assert digest([np.random.default_rng(0)]) != digest([np.random.RandomState(0)])
