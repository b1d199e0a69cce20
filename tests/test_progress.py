"""Progress in lines and in scikit-learn's callbacks, without a fit."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin

from skae import _progress
from skae._progress import Progress
from skae.training._loop import History


class Estimator(CallbackSupportMixin, BaseEstimator):
    def __init__(self, verbose=0):
        self.verbose = verbose


class Recorder:
    """A callback that remembers what it is told, and may ask to stop."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.told = []

    def setup(self, estimator, context):
        self.told.append(("setup", context.task_name, context.max_subtasks))

    def teardown(self, estimator, context):
        """Do nothing: this is for `fit` to call."""

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.told.append(("begin", context.task_name, context.task_id, X, y))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None):
        self.told.append(("end", context.task_name, context.task_id, X, y))
        return context.task_name == "epoch" and context.task_id == self.stop_at


def follow(n_epochs, *, verbose=0, callbacks=(), best_epoch=0, max_epochs=None):
    """Report epochs as a fit would; return what the report answered."""
    estimator = Estimator(verbose).set_callbacks(*callbacks)
    progress = Progress(estimator, "X", "y")
    history = History(start_loss=2.5, best_loss=1.25, best_epoch=best_epoch)
    progress.begin(max_epochs or n_epochs)
    answers = []
    for epoch in range(1, n_epochs + 1):
        history.loss_curve.append(epoch / 8)
        history.validation_curve.append(epoch / 4)
        answers.append(progress.epoch(epoch, history))
    progress.end(history)
    return answers


# --------------------------------------------------------------------------- lines


def test_nothing_is_printed_by_default(capsys):
    follow(30)
    assert capsys.readouterr() == ("", "")


def epochs_told(capsys):
    lines = capsys.readouterr().out.splitlines()[:-1]
    return [int(re.search(r"epoch +(\d+)/", line)[1]) for line in lines]


@pytest.mark.parametrize("verbose", [2, 3])
def test_loud_fits_print_a_line_per_epoch(capsys, verbose):
    follow(30, verbose=verbose)
    assert epochs_told(capsys) == list(range(1, 31))


@pytest.mark.parametrize("n_epochs", [20, 39, 40, 1000, 3000])
def test_verbose_fits_print_about_twenty_lines_evenly(capsys, n_epochs):
    follow(n_epochs, verbose=1)
    first, *others = epochs_told(capsys)
    assert first == 1
    assert 19 <= len(others) < 40
    assert len(set(np.diff(others))) == 1


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_first_epoch_is_always_told(capsys, verbose):
    follow(1, verbose=verbose, max_epochs=3000)
    assert "epoch    1/3000" in capsys.readouterr().out


def test_lines_hold_the_losses_of_the_epoch(capsys):
    follow(2, verbose=2, max_epochs=10)
    lines = capsys.readouterr().out.splitlines()
    expected = r"\[Estimator\] epoch  2/10  loss 0\.25  validation 0\.5  \d+\.\d s"
    assert re.fullmatch(expected, lines[1])


@pytest.mark.parametrize(("best_epoch", "kept"), [(0, "the start"), (2, "epoch 2")])
def test_the_last_line_says_what_was_kept(capsys, best_epoch, kept):
    follow(3, verbose=1, best_epoch=best_epoch)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"[Estimator] kept {kept}: validation 1.25 (start 2.5)")


def test_a_fit_without_epochs_tells_that_the_start_was_kept(capsys):
    follow(0, verbose=1)
    assert "kept the start" in capsys.readouterr().out


def seconds_of(line):
    return float(re.fullmatch(r"\[Estimator\] \w+: (\d+\.\d\d) s", line)[1])


def test_each_phase_is_told_with_its_time_and_the_fit_with_the_whole(capsys):
    with Progress(Estimator(1), "X", "y") as progress:
        with progress.phase("reading"):
            time.sleep(0.05)
        time.sleep(0.05)
        with progress.phase("training"):
            time.sleep(0.1)
    lines = capsys.readouterr().out.splitlines()
    assert [re.search(r"\] (\w+):", line)[1] for line in lines] == [
        "reading",
        "training",
        "fit",
    ]
    reading, training, whole = map(seconds_of, lines)
    assert 0.04 <= reading < training
    assert whole >= reading + training + 0.04


def test_a_phase_that_fails_is_not_told(capsys):
    with (
        pytest.raises(ValueError, match="no"),
        Progress(Estimator(1), "X", "y") as progress,
        progress.phase("reading"),
    ):
        raise ValueError("no")
    assert capsys.readouterr().out == ""
    assert not progress.watch.is_alive()


def test_no_silence_lasts(capsys, monkeypatch):
    monkeypatch.setattr(_progress, "QUIET_SECONDS", 0.05)
    with (
        Progress(Estimator(1), "X", "y") as progress,
        progress.phase("density"),
    ):
        time.sleep(0.5)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "density goes on" in line]) >= 4


def test_slow_epochs_are_told_though_they_are_between_two_that_would_be(
    capsys, monkeypatch
):
    follow(30, verbose=1, max_epochs=3000)
    assert len(epochs_told(capsys)) == 1
    monkeypatch.setattr(_progress, "QUIET_SECONDS", 0.0)
    follow(30, verbose=1, max_epochs=3000)
    assert epochs_told(capsys) == list(range(1, 31))


def test_silent_fits_start_no_thread(capsys):
    with Progress(Estimator(0), "X", "y") as progress, progress.phase("reading"):
        assert not progress.watch.is_alive()
    assert capsys.readouterr().out == ""


# ----------------------------------------------------------------------- callbacks


def test_callbacks_hear_of_the_fit_and_of_every_epoch():
    callback = Recorder()
    follow(3, callbacks=[callback])
    expected = [("setup", "fit", 3), ("begin", "fit", 0, "X", "y")]
    for epoch in range(3):
        expected += [(when, "epoch", epoch, "X", "y") for when in ("begin", "end")]
    assert callback.told == [*expected, ("end", "fit", 0, "X", "y")]


def test_a_callback_stops_the_fit_at_the_epoch_it_chooses():
    answers = follow(4, callbacks=[Recorder(), Recorder(stop_at=2)])
    assert answers == [False, False, True, False]


def test_without_callbacks_nothing_stops_the_fit():
    assert follow(3) == [False, False, False]


def test_callbacks_print_nothing(capsys):
    follow(3, callbacks=[Recorder()])
    assert capsys.readouterr().out == ""
