"""What contexts say of a run, and how fits are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import RandomState
from ranks import numbers
from sklearn.base import clone

import skae
from skae import AutoencoderTransformer, VAETransformer
from skae._progress import Progress
from skae._run import Run, _parameters, _running, _said, current_run
from skae._schema import Encoded
from skae._torch import derive_seeds
from skae.training._group import ALONE, Alone

MODEL = AutoencoderTransformer(2, random_state=0)
ROWS = numbers(20)


class Second(Alone):
    """The second of two processes."""

    rank = 1


def test_contexts_stand_within_each_other(tmp_path):
    path = tmp_path / "run.ckpt"
    other = Second()
    for first, second in (("files", "group"), ("group", "files")):
        contexts = {
            "files": lambda: skae.checkpoint(path, every=7),
            "group": lambda: _running(group=other),
        }
        with contexts[first](), contexts[second]():
            run = current_run()
            assert run.files.path == path
            assert (run.every, run.group) == (7.0, other)
        assert current_run() == Run()


def test_contexts_end_where_an_error_does(tmp_path):
    with pytest.raises(KeyError), skae.checkpoint(tmp_path / "run.ckpt"):
        raise KeyError
    assert current_run().files is None


@pytest.mark.parametrize("random_state", [0, 3])
def test_seeds_without_a_context_are_those_of_the_parameter(random_state):
    names = ("one", "two")
    assert Run().seeds(random_state, *names) == derive_seeds(random_state, *names)
    drawn = Run().seeds(RandomState(random_state), *names)
    assert drawn == derive_seeds(RandomState(random_state), *names)


def test_seeds_of_none_differ():
    assert Run().seeds(None, "one") != Run().seeds(None, "one")


def test_a_device_is_resolved_and_shared_by_its_kind():
    assert str(Run().device("cpu")) == str(Run(group=Second()).device("cpu")) == "cpu"
    with pytest.raises(ValueError, match="got device='vpu'"):
        Run().device("vpu")


def test_fits_without_files_have_no_checkpoint():
    run = Run().of(MODEL, encoded(ROWS), {})
    assert run == Run()
    assert run.checkpoint([]) is None


def encoded(rows, seen=None, weight=None):
    return Encoded(rows, [1] * rows.shape[1], seen, weight)


def identity(tmp_path, model=MODEL, rows=ROWS, **parts):
    with skae.checkpoint(tmp_path / "run.ckpt"):
        return current_run().of(model, encoded(rows, **parts), {"split": 1}).identity


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"rows": ROWS[::-1]}, "rows"),
        ({"rows": ROWS.astype(np.float32)}, "rows"),
        ({"rows": ROWS.reshape(-1, 2)}, "rows"),
        ({"weight": np.arange(20.0)}, "rows"),
        ({"seen": ROWS > 0}, "rows"),
        ({"model": clone(MODEL).set_params(dropout=0.1)}, "parameters"),
        ({"model": VAETransformer(2, random_state=0)}, "parameters"),
    ],
)
def test_fits_are_told_apart_by_what_differs(tmp_path, changes, what):
    one, other = identity(tmp_path), identity(tmp_path, **changes)
    assert [key for key in one if one[key] != other[key]] == [what]


def test_fits_are_the_same_whatever_they_print_and_wherever_they_run(tmp_path):
    quiet, loud = (clone(MODEL).set_params(verbose=v) for v in (0, 2))
    assert identity(tmp_path, quiet) == identity(tmp_path, loud)


def test_a_fit_that_goes_on_is_another(tmp_path):
    model = AutoencoderTransformer(2, max_iter=2, random_state=0, warm_start=True)
    before = identity(tmp_path, model)
    assert _parameters(model)["fitted"] == "False"
    model.fit(ROWS)
    assert identity(tmp_path, model) != before
    assert _parameters(model)["fitted"] == "True"


def test_parameters_are_said_without_addresses():
    assert _said(object()) == _said(object()) == "object"
    assert _said({"a": [1, (2.5, None)]}) == _said({"a": [1, (2.5, None)]})
    assert _said([1, 2]) != _said([1, 3])
    assert _said(np.array([True, False])) != _said(np.array([True, True]))


def test_one_of_several_processes_prints(capsys):
    model = clone(MODEL).set_params(verbose=1, max_iter=2)
    with _running(group=Second()):
        assert Progress(model, ROWS, None).verbose == 0
    assert Progress(model, ROWS, None).verbose == 1
    assert current_run().group is ALONE
