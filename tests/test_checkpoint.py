"""Runs that are killed go on from their last checkpoint, to the same bits."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from ranks import Killed, OnEpochs, answers, kill, numbers, pets, press_in_callback
from regressions import regression
from settings import UsersNetwork
from sklearn.base import clone
from test_loop import Regression, training

import skae
from skae import AutoencoderTransformer, VAETransformer
from skae.training._checkpoint import MARK, Checkpoint, Files
from skae.training._group import ALONE

QUICK = {"hidden_layer_sizes": (8, 4), "random_state": 0, "device": "cpu"}
X = numbers(1600)
SETTINGS = {
    "autoencoder": (AutoencoderTransformer(2, **QUICK, max_iter=9, dropout=0.2), X),
    "folds, sparse codes": (
        AutoencoderTransformer(2, **QUICK, max_iter=9, sparsity=0.3),
        pets(150),
    ),
    "lbfgs": (AutoencoderTransformer(2, **QUICK, solver="lbfgs", max_iter=9), X[:200]),
    "own networks": (
        AutoencoderTransformer(2, **QUICK, max_iter=9, encoder=UsersNetwork()),
        X[:200],
    ),
    "variational": (
        VAETransformer(2, **QUICK, max_iter=9, density="networks", kl_warmup=2),
        pets(150),
    ),
    "momentum": (
        VAETransformer(2, **QUICK, max_iter=9, density="networks", solver="sgd"),
        X[:200],
    ),
}
EVERY_SETTING = pytest.mark.parametrize(
    ("model", "table"), SETTINGS.values(), ids=SETTINGS
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.ckpt"


def cut_short(model, table, path, epoch, act=kill, every=0):
    """Fit until something happens at the end of an epoch."""
    model = clone(model).set_callbacks(OnEpochs(epoch, act))
    with skae.checkpoint(path, every=every):
        return model.fit(table)


def same_bits(one, other):
    for name, weight in one["weights"].items():
        assert_array_equal(other["weights"][name], weight)
    for name in ("loss_curve", "validation_curve", "codes", "scores"):
        assert_array_equal(one[name], other[name])
    assert one["ended"] == other["ended"]


# ------------------------------------------------------------------------- whole fits


@EVERY_SETTING
def test_a_killed_fit_goes_on_to_the_same_bits(model, table, path):
    whole = answers(clone(model).fit(table), table[:20])
    for epoch in np.random.default_rng(0).integers(1, 4, size=3):  # of those to come
        with pytest.raises(Killed):
            cut_short(model, table, path, epoch)
    state = torch.get_rng_state()
    with skae.checkpoint(path, every=0):
        again = answers(clone(model).fit(table), table[:20])
    assert torch.equal(torch.get_rng_state(), state)
    same_bits(whole, again)
    assert list(path.parent.iterdir()) == []


def test_a_checkpoint_tells_callbacks_of_the_epochs_to_come(path):
    model, _ = SETTINGS["autoencoder"]
    with pytest.raises(Killed):
        cut_short(model, X, path, 4)
    counts = OnEpochs(0, kill)
    with skae.checkpoint(path):
        clone(model).set_callbacks(counts).fit(X)
    assert counts.n == 9 - 3


def test_any_seed_goes_on_with_that_of_the_killed_fit(path):
    model, _ = SETTINGS["autoencoder"]
    model = clone(model).set_params(random_state=None, max_iter=4)
    with pytest.raises(Killed):
        cut_short(model, X, path, 3)
    first = torch.load(path_content(path), weights_only=True)["state"]["history"]
    with skae.checkpoint(path):
        found = clone(model).fit(X)
    assert found.loss_curve_[:2].tolist() == first["loss_curve"]


def test_a_warm_start_goes_on_too(path):
    model, _ = SETTINGS["autoencoder"]
    begun = [clone(model).set_params(warm_start=True).fit(X) for _ in range(2)]
    whole = answers(begun[0].fit(X), X[:20])
    with skae.checkpoint(path, every=0):
        with pytest.raises(Killed):
            begun[1].set_callbacks(OnEpochs(4, kill)).fit(X)
        same_bits(whole, answers(begun[1].set_callbacks().fit(X), X[:20]))


def test_short_fits_write_nothing(path):
    model, _ = SETTINGS["autoencoder"]
    with pytest.raises(Killed):
        cut_short(model, X, path, 4, every=60)
    assert list(path.parent.iterdir()) == []


def test_an_interrupted_fit_leaves_its_checkpoint(path):
    model, _ = SETTINGS["autoencoder"]
    with pytest.warns(match="interrupted"):
        cut_short(model, X, path, 4, press_in_callback)
    assert path.exists()
    with skae.checkpoint(path):
        again = clone(model).fit(X)
    same_bits(answers(clone(model).fit(X), X[:20]), answers(again, X[:20]))
    assert not path.exists()


# ------------------------------------------------------------------ files of others

OTHERS = {
    "rows": ({}, X + 1),
    "parameters": ({"weight_decay": 0.1}, X),
    "parameters and seeds": ({"random_state": 1}, X),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_fit_is_refused(path, what):
    changes, table = OTHERS[what]
    model, _ = SETTINGS["autoencoder"]
    with pytest.raises(Killed):
        cut_short(model, X, path, 3)
    content = path.read_bytes()
    other = clone(model).set_params(**changes)
    with (
        skae.checkpoint(path),
        pytest.raises(ValueError, match=f"of a fit with other {what}, but expected"),
    ):
        other.fit(table)
    assert path.read_bytes() == content
    assert not hasattr(other, "loss_curve_")


class Growing(UsersNetwork):
    """A network of the user whose code has changed between two fits."""

    now = 8

    def __call__(self, n_inputs, n_outputs):
        return UsersNetwork(self.now)(n_inputs, n_outputs)


def test_networks_of_another_shape_are_refused(path, monkeypatch):
    model = AutoencoderTransformer(2, **QUICK, max_iter=4, encoder=Growing())
    with pytest.raises(Killed):
        cut_short(model, X[:200], path, 3)
    monkeypatch.setattr(Growing, "now", 9)
    with skae.checkpoint(path), pytest.raises(ValueError, match="with other networks"):
        model.fit(X[:200])


def test_a_file_of_something_else_is_left_alone(path):
    path.write_text("name,age\nAda,36\n")
    model, _ = SETTINGS["autoencoder"]
    with (
        skae.checkpoint(path),
        pytest.raises(ValueError, match="no checkpoint of skae"),
    ):
        clone(model).fit(X)
    assert path.read_text() == "name,age\nAda,36\n"


@pytest.mark.parametrize("options", [{"every": -1}, {"every": "1"}])
def test_seconds_are_checked(path, options):
    with pytest.raises(ValueError, match="got every="):
        skae.checkpoint(path, **options)


def test_folders_have_to_be_there(path):
    with pytest.raises(ValueError, match="a folder that exists"):
        skae.checkpoint(path / "no" / "run.ckpt")


# ------------------------------------------------------------------------------ files


def path_content(path):
    return io.BytesIO(Files(path).read())


def written(path, *contents):
    files = Files(path)
    for content in contents:
        files.write(content)
    return files


def test_the_newest_content_is_read_and_the_one_before_is_kept(path):
    files = written(path, b"first", b"second", b"third")
    assert files.read() == b"third"
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "run.ckpt",
        "run.ckpt.before",
    ]
    assert Files(files.before).read() == b"second"
    files.done()
    assert files.read() is None
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("n_bytes", [0, 5, len(MARK), len(MARK) + 10, -1])
def test_a_file_cut_short_gives_way_to_the_one_before(path, n_bytes):
    files = written(path, b"first", b"second")
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.warns(UserWarning, match="goes on from the one before it"):
        assert files.read() == b"first"
    files.before.unlink()
    with pytest.warns(UserWarning, match="goes on from its start"):
        assert files.read() is None


def test_a_byte_that_is_wrong_is_found(path):
    files = written(path, b"first", b"second")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="cut short or damaged"):
        assert files.read() == b"first"


def test_a_kill_between_two_renames_loses_nothing(path):
    files = written(path, b"first", b"second")
    path.replace(files.before)
    assert files.read() == b"second"


def test_a_fit_goes_on_from_the_checkpoint_before(path):
    model, _ = SETTINGS["autoencoder"]
    with pytest.raises(Killed):
        cut_short(model, X, path, 6)
    path.write_bytes(path.read_bytes()[:-100])
    with skae.checkpoint(path), pytest.warns(UserWarning, match="cut short"):
        again = clone(model).fit(X)
    same_bits(answers(clone(model).fit(X), X[:20]), answers(again, X[:20]))


def test_a_full_disk_does_not_end_the_fit(path, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(Files, "write", fail)
    model, _ = SETTINGS["autoencoder"]
    with (
        skae.checkpoint(path, every=0),
        pytest.warns(UserWarning, match="No space left"),
    ):
        assert clone(model).fit(X).n_iter_ == 9


# ------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("epoch", [2, 60, 190])
def test_a_run_goes_on_from_any_epoch(path, solver, epoch):
    """Be it before a check, after one, or while the learning rate falls."""
    options = {"solver": solver, "batch_size": 8, "max_iter": 200}
    options |= {"early_stopping": False, "table": regression(40)}
    whole = training(Regression(), **options)
    history = whole.run()
    assert len(history.loss_curve) > epoch

    def told(n_epochs, _):
        loop.checkpoint.every = 0.0 if n_epochs == epoch - 1 else math.inf
        return kill() if n_epochs == dies_at else False

    for dies_at in (epoch, None):
        objective = Regression()
        loop = training(objective, **options)
        rest = {"rows": "x"}, [objective.generator], ALONE
        loop.checkpoint = Checkpoint(Files(path), math.inf, *rest)
        loop.report.epoch = told
        if dies_at:
            with pytest.raises(Killed):
                loop.run()
    assert loop.run() == history
    assert torch.equal(loop.weights.vector, whole.weights.vector)
