"""Progress in lines and in scikit-learn's callbacks, without a fit and in fits."""

from __future__ import annotations

import pickle
import re
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from settings import UsersNetwork, curved_table
from sklearn.base import BaseEstimator, clone
from sklearn.callback import CallbackSupportMixin, ScoringMonitor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAETransformer, _progress
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
        self.told.append(("teardown", context.task_name, context.max_subtasks))

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.told.append(("begin", context.task_name, context.task_id, X, y, metadata))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None):
        self.told.append(("end", context.task_name, context.task_id, X, y, metadata))
        return context.task_name == "epoch" and context.task_id == self.stop_at

    def tasks(self):
        """What began and ended, in this order."""
        return [told[:3] for told in self.told if told[0] in ("begin", "end")]


def follow(n_epochs, *, verbose=0, callbacks=(), best_epoch=0, max_epochs=None):
    """Report epochs as a fit would; return what the report answered."""
    estimator = Estimator(verbose).set_callbacks(*callbacks)
    history = History(start_loss=2.5, best_loss=1.25, best_epoch=best_epoch)
    answers = []
    with Progress(estimator, "X", "y", "weight") as progress:
        with progress.phase("start"):
            pass
        with progress.phase("training"):
            progress.begin(max_epochs or n_epochs)
            for epoch in range(1, n_epochs + 1):
                history.loss_curve.append(epoch / 8)
                history.validation_curve.append(epoch / 4)
                answers.append(progress.epoch(epoch, history))
            progress.end(history)
        with progress.phase("density"):
            pass
    return answers


# --------------------------------------------------------------------------- lines


def test_nothing_is_printed_by_default(capsys):
    follow(30)
    assert capsys.readouterr() == ("", "")


def epochs_told(capsys):
    lines = capsys.readouterr().out.splitlines()
    found = [re.search(r"epoch +(\d+)/", line) for line in lines]
    return [int(match[1]) for match in found if match]


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
    assert re.fullmatch(expected, lines[2])


@pytest.mark.parametrize(("best_epoch", "kept"), [(0, "the start"), (2, "epoch 2")])
def test_the_last_line_of_training_says_what_was_kept(capsys, best_epoch, kept):
    follow(3, verbose=1, best_epoch=best_epoch)
    last = capsys.readouterr().out.splitlines()[-4]
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


def test_callbacks_hear_of_the_fit_of_its_phases_and_of_every_epoch():
    callback = Recorder()
    follow(3, callbacks=[callback])
    assert callback.told[0] == ("setup", "fit", 4)
    epochs = [(when, "epoch", i) for i in range(3) for when in ("begin", "end")]
    assert callback.tasks() == [
        ("begin", "fit", 0),
        ("begin", "start", 0),
        ("end", "start", 0),
        ("begin", "training", 1),
        *epochs,
        ("end", "training", 1),
        ("begin", "density", 2),
        ("end", "density", 2),
        ("end", "fit", 0),
    ]


def test_callbacks_get_what_fit_was_called_with():
    callback = Recorder()
    follow(2, callbacks=[callback])
    told = [of_task[3:] for of_task in callback.told[1:]]
    assert told == [("X", "y", {"sample_weight": "weight"})] * len(told)


def test_the_table_is_its_own_target_where_there_is_none():
    callback = Recorder()
    with Progress(Estimator().set_callbacks(callback), "X", None):
        pass
    assert [told[3:] for told in callback.told[1:]] == [("X", "X", None)] * 2


def test_a_fit_that_fails_does_not_end():
    callback = Recorder()
    with (
        pytest.raises(ValueError, match="no"),
        Progress(Estimator().set_callbacks(callback), "X", "y") as progress,
        progress.phase("start"),
    ):
        raise ValueError("no")
    assert callback.tasks() == [("begin", "fit", 0), ("begin", "start", 0)]


def test_a_callback_stops_the_fit_at_the_epoch_it_chooses():
    answers = follow(4, callbacks=[Recorder(), Recorder(stop_at=2)])
    assert answers == [False, False, True, False]


def test_without_callbacks_nothing_stops_the_fit():
    assert follow(3) == [False, False, False]


def test_callbacks_print_nothing(capsys):
    follow(3, callbacks=[Recorder()])
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------ callbacks in fits

TABLE = curved_table()
LABELS = np.where(TABLE[:, 0] > 3, "large", "small")
OWN = {"encoder": UsersNetwork(), "decoder": UsersNetwork(), "linear_path": False}


@pytest.fixture(params=[AutoencoderTransformer, VAETransformer])
def estimator(request):
    return request.param(
        n_components=2, hidden_layer_sizes=(16,), max_iter=6, random_state=0
    )


class Album:
    """A callback that keeps what the fit would be if it ended with each task."""

    def __init__(self):
        self.fitted = []

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            self.fitted.append(fitted_estimator)


def own_score(estimator, X, y, sample_weight=None):
    return {"score": estimator.score(X)}


def scores_of(monitor, n_fits, n_epochs):
    """Scores of all epochs, of shape (n_fits, n_epochs)."""
    log = monitor.get_logs().data_as_pandas
    assert log["score"].notna().all()
    assert (log["task_name"] == "fit").sum() == n_fits
    epochs = log[log["task_name"] == "epoch"]
    return epochs["score"].to_numpy().reshape(n_fits, n_epochs)


def test_a_monitor_logs_a_score_per_epoch_and_that_of_the_fit(estimator):
    monitor = ScoringMonitor(scoring=own_score)
    estimator.set_callbacks(monitor).fit(TABLE)
    scores_of(monitor, 1, estimator.n_iter_)
    log = monitor.get_logs().data_as_pandas
    (whole,) = log.loc[log["task_name"] == "fit", "score"]
    assert whole == estimator.score(TABLE)


def test_a_monitor_takes_weights(estimator):
    monitor = ScoringMonitor(scoring=own_score)
    weight = np.ones(len(TABLE))
    estimator.set_callbacks(monitor).fit(TABLE, sample_weight=weight)
    scores_of(monitor, 1, estimator.n_iter_)


def test_a_monitor_logs_the_epochs_of_a_step_of_a_pipeline(estimator):
    monitor = ScoringMonitor(scoring=own_score)
    steps = StandardScaler(), estimator.set_callbacks(monitor), LogisticRegression()
    make_pipeline(*steps).fit(TABLE, LABELS)
    scores_of(monitor, 1, estimator.n_iter_)


def test_a_monitor_logs_the_epochs_of_a_search_in_two_processes(estimator):
    monitor = ScoringMonitor(scoring=own_score)
    grid = {"n_components": [1, 2]}
    estimator.set_params(early_stopping=False).set_callbacks(monitor)
    GridSearchCV(estimator, grid, cv=2, n_jobs=2).fit(TABLE)
    scores_of(monitor, 5, 6)


def test_a_bar_is_full_at_the_end_and_not_before(estimator):
    callback = Recorder()
    estimator.set_callbacks(callback).fit(TABLE)
    phases = ["reading", "start", "training", "density"]
    ends = [name for when, name, _ in callback.tasks() if when == "end"]
    assert callback.told[0] == ("setup", "fit", len(phases))
    assert callback.tasks()[0] == ("begin", "fit", 0)
    assert [name for name in ends if name != "epoch"] == [*phases, "fit"]
    assert callback.tasks()[-2:] == [("end", "density", 3), ("end", "fit", 0)]
    assert callback.told[-1][0] == "teardown"


def test_callbacks_are_taken_down_after_a_chunk(estimator):
    callback = Recorder()
    names = set(vars(clone(estimator).partial_fit(TABLE)))
    estimator.set_callbacks(callback).partial_fit(TABLE)
    assert callback.told[-1][0] == "teardown"
    assert set(vars(estimator)) - names == {"_skl_callbacks"}
    assert "_callback_fit_ctx" not in names


@pytest.mark.parametrize("options", [{}, OWN, {"solver": "lbfgs"}, {"dropout": 0.2}])
def test_being_asked_for_the_model_changes_nothing(estimator, options):
    plain = clone(estimator).set_params(**options).fit(TABLE)
    asked = estimator.set_params(**options).set_callbacks(Album()).fit(TABLE)
    assert_array_equal(asked.loss_curve_, plain.loss_curve_)
    assert_array_equal(asked.transform(TABLE), plain.transform(TABLE))
    assert_array_equal(asked.sample(5, random_state=0), plain.sample(5, random_state=0))


def assert_judged_weights_are_what_callbacks_get(estimator, table):
    album = Album()
    estimator.set_params(linear_path=False, max_iter=30)
    estimator.set_callbacks(album).fit(table)
    chosen = album.fitted[estimator.best_iter_ - 1]
    assert estimator.best_iter_ > 0
    assert len(album.fitted) == estimator.n_iter_
    assert_array_equal(chosen.transform(table), estimator.transform(table))
    assert chosen.n_iter_ == chosen.best_iter_ == estimator.best_iter_
    assert chosen.best_loss_ == estimator.best_loss_


def test_callbacks_get_the_weights_that_are_judged(estimator):
    assert_judged_weights_are_what_callbacks_get(estimator, TABLE)


def test_callbacks_get_the_network_of_all_rows_where_folds_judge():
    estimator = AutoencoderTransformer(2, hidden_layer_sizes=(16,), random_state=0)
    assert_judged_weights_are_what_callbacks_get(estimator, TABLE[:60])


def test_what_callbacks_get_answers_as_a_fitted_estimator(estimator):
    album = Album()
    holed = TABLE.copy()
    holed[::7, 1] = np.nan
    estimator.set_callbacks(album).fit(holed)
    first, last = album.fitted[0], album.fitted[-1]
    first = pickle.loads(pickle.dumps(first))  # noqa: S301
    for fitted in (first, last):
        assert np.isfinite(fitted.score(holed))
        assert np.isfinite(fitted.score_samples(holed)).all()
        assert np.isfinite(fitted.impute(holed)).all()
        assert np.isfinite(fitted.sample(5, random_state=0)).all()
        codes = fitted.transform(holed)
        assert fitted.inverse_transform(codes).shape == TABLE.shape
    assert first.n_iter_ == 1
    assert not np.array_equal(first.transform(holed), last.transform(holed))


def test_an_earlier_fit_goes_on_under_the_eyes_of_callbacks(estimator):
    album = Album()
    estimator.set_params(warm_start=True, early_stopping=False).fit(TABLE)
    estimator.set_callbacks(album).fit(TABLE)
    assert [fitted.n_iter_ for fitted in album.fitted] == list(range(7, 13))
