"""Fits in two processes, against those in one, and what becomes of failures."""

from __future__ import annotations

import math
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from models import draws, generator
from numpy.testing import assert_allclose, assert_array_equal
from ranks import (
    FITS,
    LARGE,
    LONG,
    SHORT,
    answers,
    by_chunks,
    cut,
    numbers,
    pets,
    stated,
    weights,
    words,
)
from sklearn.base import clone
from torch.testing import assert_close

import skae
from skae import AutoencoderTransformer
from skae._run import _running, current_run
from skae.network._cells import Cells
from skae.table import _large
from skae.table._parts import Part
from skae.training._group import (
    ALONE,
    AgreedInterrupt,
    Group,
    LostError,
    PartedError,
    SharedRows,
    SharedStream,
)
from skae.training._rows import Rows, StreamedRows

RANKS = Path(__file__).with_name("ranks.py")
SECONDS = 240  # after which something hangs, on the busiest machine


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where two processes have left what came of their fits."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, str(RANKS), str(rank), str(folder)],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            process.wait(SECONDS)
    finally:
        for process in processes:
            process.kill()
    return folder


@pytest.fixture(scope="module")
def both(folder):
    files = [folder / f"found.{rank}" for rank in range(2)]
    return [pickle.loads(file.read_bytes()) for file in files]  # noqa: S301


@pytest.fixture(scope="module")
def spread(both):
    return [found[0] for found in both]


@pytest.fixture(scope="module")
def large(both):
    return [found[3] for found in both]


@pytest.fixture(scope="module")
def wrong(both):
    return [found[1] for found in both]


def assert_same(one, other, rtol=0.0, atol=0.0):
    """Compare answers; the scale of all is about one."""
    for name, value in one["weights"].items():
        assert_allclose(other["weights"][name], value, rtol, atol, err_msg=name)
    for name in ("loss_curve", "validation_curve", "codes", "scores"):
        assert_allclose(other[name], one[name], rtol, atol, err_msg=name)
    assert_allclose(other["ended"], one["ended"], rtol, atol)


# -------------------------------------------------------------- as in one process


@pytest.mark.parametrize("name", FITS)
def test_a_fit_in_two_processes_is_that_in_one(spread, name):
    model, make, _ = FITS[name]
    X = make()
    alone = answers(clone(model).fit(X), X[:50])
    for found in spread:
        assert_same(alone, found[name], 1e-4, 2e-4)
        assert type(found[name]["draws"]) is type(alone["draws"])


def test_weights_and_validation_rows_are_spread_as_rows_are(spread):
    X, model = numbers(), AutoencoderTransformer(2, **SHORT)
    judges = np.concatenate([X[:40][0::2], X[:40][1::2]])
    model.fit(X, sample_weight=weights(X), X_val=judges)
    for found in spread:
        assert_same(answers(model, X[:50]), found["weights"], 1e-4, 2e-4)


@pytest.mark.parametrize("name", [*FITS, "weights", "any seed"])
def test_every_process_ends_with_the_same_estimator(spread, name):
    first, second = (found[name] for found in spread)
    assert_same(first, second)
    draws = [np.asarray(found["draws"], dtype=object) for found in (first, second)]
    assert_array_equal(draws[0].astype(str), draws[1].astype(str))


def test_a_level_of_one_process_is_a_level_of_all(spread):
    for found in spread:
        frame = found["levels and holes"]["draws"]
        assert frame.dtypes.astype(str).equals(pets().dtypes.astype(str))


def test_of_a_large_table_a_share_is_fitted_and_the_user_is_told(spread):
    parts = [
        Part(part).thinned(0.5, rank).X for rank, part in enumerate(cut(numbers()))
    ]
    model = AutoencoderTransformer(2, **SHORT).fit(np.concatenate(parts))
    for found in spread:
        assert_same(answers(model, numbers()[:50]), found["thinned"], 1e-4, 2e-4)
    (told,), nothing = (found["thinned"]["told"] for found in spread)
    assert "0.5 of its rows" in told
    assert "max_bytes" in told
    assert nothing == []


@pytest.mark.parametrize("kind", [0, 1], ids=["at hand", "streamed"])
def test_a_checkpoint_of_two_processes_goes_on(both, kind):
    for _, _, resumed, _ in both:
        error, was_there, is_there, again, whole = resumed[kind]
        assert error == "Killed: "
        assert was_there
        assert not is_there
        assert_same(whole, again)


# ------------------------------------------------------- tables larger than memory


@pytest.fixture(scope="module")
def in_one():
    """What comes of large tables in one process."""
    found = {}
    for name, (model, make, _, n_rows) in LARGE.items():
        X = make()
        model = clone(model).fit(by_chunks(X, n_rows))
        found[name] = answers(model, X[:50]) | stated(model, X)
    return found


ON_DISK = ("Parquet", "sparse", "LargeTable of it", "one at hand")


@pytest.mark.parametrize("name", [*LARGE, *ON_DISK])
def test_of_tables_by_chunks_every_process_ends_with_the_same(large, name):
    assert_same(*(found[name] for found in large))


@pytest.mark.parametrize("name", LARGE)
def test_what_all_rows_of_all_processes_say_is_known_exactly(large, in_one, name):
    alone = in_one[name]
    for found in large:
        for what, values in alone["of all rows"].items():
            assert_allclose(found[name]["of all rows"][what], values, 1e-12, 1e-14)
        for what in ("levels", "names", "dtypes"):
            assert found[name][what] == alone[what]


@pytest.mark.parametrize("name", [n for n in LARGE if not n.startswith("streamed, v")])
def test_chunks_of_many_processes_teach_as_much_as_those_of_one(large, in_one, name):
    for found in large:
        assert abs(found[name]["score"] - in_one[name]["score"]) < 0.01


def test_the_start_of_a_sample_is_that_of_all_rows(large):
    X = numbers()
    whole = AutoencoderTransformer(2, **SHORT).set_params(max_iter=0).fit(X)
    for found in large:
        scale = found["the start"]["of all rows"]["scale"]
        assert_allclose(scale, X.std(axis=0), 1e-12)
        assert_allclose(
            found["the start"]["codes"], whole.transform(X[:50]), 1e-6, 1e-6
        )
        assert found["a sample"]["score"] > whole.score(X)


def test_a_table_of_which_all_rows_are_kept_is_fitted_as_at_once(large):
    X = numbers(250)
    model = AutoencoderTransformer(2, **SHORT).fit(X)
    for found in large:
        assert_same(answers(model, X[:50]), found["all kept"], 1e-4, 2e-4)


def test_each_process_may_have_its_file(large, in_one):
    for found in large:
        for what, values in in_one["pets"]["of all rows"].items():
            assert_allclose(found["Parquet"]["of all rows"][what], values, 1e-12, 1e-14)
        assert found["Parquet"]["levels"] == in_one["pets"]["levels"]
        assert abs(found["Parquet"]["score"] - in_one["pets"]["score"]) < 0.01


def test_some_processes_may_have_their_rows_at_hand(large):
    X = numbers()
    model = AutoencoderTransformer(2, **SHORT).fit(by_chunks(X, 300))
    levels = [found["one at hand"]["codes"] for found in large]
    assert np.corrcoef(levels[0][:, 0], model.transform(X[:50])[:, 0])[0, 1] ** 2 > 0.9


def test_sparse_matrices_stream_to_each_process_its_share(large, monkeypatch):
    monkeypatch.setattr(_large, "KEPT_ROWS", 300)
    X = words()
    model = AutoencoderTransformer(2, **LONG, max_iter=8).fit(X)
    for found in large:
        assert_array_equal(found["LargeTable of it"]["codes"], found["sparse"]["codes"])
        assert abs(found["sparse"]["score"] - model.score(X.toarray())) < 0.02


# ------------------------------------------------------------------- what goes wrong

ON_ALL = {
    "columns": "ValueError: got columns of X .* in process 0 .* in process 1",
    "container": "ValueError: got container of X 'pandas' in process 0 and 'array'",
    "infinity": "ValueError: got infinite values in the columns",
    "parameters": "ValueError: got max_iter '3' in process 0 and '4' in process 1",
    "no rows": "ValueError: got no rows in any process",
}
ON_ALL_BY_CHUNKS = {
    "large columns": r"ValueError: got columns of X .*'x'\] in process 0 .*'y'\] in",
    "large container": "ValueError: got container of X 'pandas' in process 0 and 'arr",
    "large text": "ValueError: got column 'kind' of numbers such as 1.5, but expected",
    "n_rows": "ValueError: got n_rows of LargeTable 200 in process 0 and 201 in",
    "n_rows of a path": "ValueError: got n_rows of LargeTable 1000000 in process 0 ",
    "no chunks": "ValueError: got LargeTable.* of less than 2 rows",
    "line search": "ValueError: got solver='lbfgs' with n_rows=None",
}
ON_THE_SECOND_BY_CHUNKS = {
    "large infinity": "ValueError: got infinite values in the columns",
    "large weights": "ValueError: got sample_weight with a table that is read by chunk",
}
ON_THE_SECOND = {
    "device": "ValueError: got device='vpu'",
    "weights": "ValueError: got sample_weight of shape",
    "network": "ZeroDivisionError: an error of one process",
    "callback": "ZeroDivisionError: an error of one process",
}


@pytest.mark.parametrize("name", ON_ALL_BY_CHUNKS)
def test_tables_by_chunks_that_do_not_go_together_are_refused(large, name):
    for found in large:
        assert re.match(ON_ALL_BY_CHUNKS[name], found[name]["error"])
        assert found[name]["left"] == []


@pytest.mark.parametrize("name", ON_THE_SECOND_BY_CHUNKS)
def test_an_error_in_chunks_of_one_process_ends_the_others(large, name):
    first, second = (found[name]["error"] for found in large)
    assert second.startswith(ON_THE_SECOND_BY_CHUNKS[name])
    assert "process 1: " + ON_THE_SECOND_BY_CHUNKS[name] in first
    assert [found[name]["left"] for found in large] == [[], []]


@pytest.mark.parametrize("name", ON_ALL)
def test_what_does_not_go_together_is_an_error_of_all(wrong, name):
    for found in wrong:
        assert re.match(ON_ALL[name], found[name]["error"])
        assert found[name]["left"] == []


@pytest.mark.parametrize("name", ON_THE_SECOND)
def test_an_error_of_one_process_ends_the_others(wrong, name):
    first, second = (found[name]["error"] for found in wrong)
    assert second.startswith(ON_THE_SECOND[name])
    assert "process 1" in first
    assert ON_THE_SECOND[name] in first
    assert [found[name]["left"] for found in wrong] == [[], []]


@pytest.mark.parametrize("name", ["stop", "Ctrl-C", "Ctrl-C in a callback"])
def test_whoever_stops_stops_all_at_the_same_epoch(wrong, name):
    first, second = (found[name] for found in wrong)
    assert first["ended"][0] == second["ended"][0] == 2
    assert_same(first, second)


def test_after_all_that_a_fit_is_as_if_nothing_had_been(wrong, spread):
    assert_same(wrong[0]["in the end"], spread[0]["autoencoder"])


def test_a_process_that_dies_ends_the_others_with_an_error(folder):
    assert not (folder / "died.1").exists()
    found = pickle.loads((folder / "died.0").read_bytes())  # noqa: S301
    assert found["error"].startswith("LostError: got no answer from another process")
    assert found["left"] == []


# ------------------------------------------------------------------ a group of one


@pytest.fixture
def group():
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield Group()
    dist.destroy_process_group()


def test_without_a_group_there_is_an_error():
    with pytest.raises(RuntimeError, match="no such group"):
        skae.data_parallel()


def test_a_group_of_one_is_no_group(group):
    with skae.data_parallel():
        assert current_run().group is ALONE
    with pytest.raises(ValueError, match="got max_bytes=0"):
        skae.data_parallel(max_bytes=0)


def test_fits_share_nothing_unless_they_are_asked_to(group):
    assert current_run().group is ALONE
    with _running(group=group):
        assert current_run().group is group
    assert current_run().group is ALONE


@pytest.mark.parametrize(
    "name", ["denoising", "variational, holes", "levels and holes"]
)
def test_the_way_of_a_group_changes_nothing(group, name):
    model, make, _ = FITS[name]
    X = make()
    alone = answers(clone(model).fit(X), X[:50])
    with _running(group=group):
        shared = answers(clone(model).fit(X), X[:50])
    assert_same(alone, shared, 1e-5, 1e-5)


def test_a_line_search_is_not_shared(group, monkeypatch):
    monkeypatch.setattr(Group, "channel", None)  # whoever asks for it fails
    model, X = AutoencoderTransformer(2, **SHORT, solver="lbfgs"), numbers(300)
    alone = answers(clone(model).fit(X), X[:50])
    with _running(group=group):
        assert_same(alone, answers(clone(model).fit(X), X[:50]))


def test_an_error_leaves_the_earlier_fit(group):
    X, model = numbers(), AutoencoderTransformer(2, **SHORT)
    codes = model.fit(X).transform(X)
    with _running(group=group), pytest.raises(ValueError, match="infinite"):
        model.fit(np.full_like(X, np.inf))
    assert_array_equal(model.transform(X), codes)


# ------------------------------------------------------------------- shared rows


class Fake:
    """A channel of one of several processes, which remembers what it was given."""

    def __init__(self, rank, n_ranks):
        self.rank, self.n_ranks = rank, n_ranks
        self.sum = self.of_first = lambda tensor: tensor


def shared(rows, n_ranks):
    return [SharedRows(**vars(rows), channel=Fake(k, n_ranks)) for k in range(n_ranks)]


def losses(cells, own=None):
    """Losses with noise that is drawn for all rows."""
    found = cells.square().sum(dim=1) + draws(len(cells), seed=3)
    return found if own is None else found[own]


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("n_rows", [1, 2, 5, 12])
@pytest.mark.parametrize("weighted", [False, True])
def test_parts_of_a_loss_sum_to_the_whole(n_ranks, n_rows, weighted):
    weight = torch.arange(1.0, 31).double() if weighted else None
    rows = Rows(draws(30, 2), torch.arange(3, 3 + n_rows), weight)
    parts = shared(rows, n_ranks)
    assert_close(sum(part.loss(losses) for part in parts), rows.loss(losses))
    together = sum(part.evaluate(losses) for part in parts)
    assert torch.equal(together, rows.evaluate(losses))


def test_batches_of_shared_rows_are_those_of_one_process():
    rows = Rows.all_of(draws(30, 2))
    for part in shared(rows, 2):
        pairs = zip(
            part.batches(7, generator()), rows.batches(7, generator()), strict=True
        )
        for one, other in pairs:
            assert isinstance(one, SharedRows)
            assert one.index.tolist() == other.index.tolist()


def test_a_process_without_rows_in_a_batch_adds_nothing_to_the_gradient():
    weight = torch.ones(2, requires_grad=True)

    def of(cells, own):
        return (cells[own] @ weight.double()).square()

    first, second = shared(Rows(draws(5, 2), torch.tensor([4])), 2)
    for part, is_empty in ((first, True), (second, False)):
        (slope,) = torch.autograd.grad(part.loss(of), weight)
        assert (not slope.any()) is is_empty


# ---------------------------------------------------------------- shared streams


class Meeting(Fake):
    """A channel of one of several processes whose messages are summed by a test."""

    def average(self, loss, gradient, n_own, *, goes_on):
        self.said = loss, n_own, goes_on
        return loss, n_own


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=4).filter(sum),
    batch_size=st.integers(1, 40),
    n_kept=st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_streams_of_all_take_equal_steps_and_give_every_row(sizes, batch_size, n_kept):
    kept, total = -1.0 - torch.arange(n_kept)[:, None], sum(sizes)
    channels = [Meeting(rank, len(sizes)) for rank in range(len(sizes))]
    streams, ends = [], np.cumsum(sizes)
    for channel, size, end in zip(channels, sizes, ends, strict=True):
        own = Cells(torch.arange(float(end - size), float(end))[:, None])
        parts = own.split(7) if size else []
        counts = {"n_rows": total, "n_own": size, "channel": channel}
        rows = torch.arange(n_kept)[channel.rank :: len(sizes)]
        streams.append(
            SharedStream(Cells(kept), rows, more=lambda _, p=parts: iter(p), **counts)
        )
    all_batches = [stream.batches(batch_size, generator()) for stream in streams]
    seen, n_steps = [], 0
    for step in zip(*all_batches, strict=True):  # all end at the same step
        n_steps += 1
        for part in step:
            part.merge(part.loss(lambda cells: cells.values[:, 0]), None)
            seen.append(part.values().values[:, 0])
        for channel in channels:
            channel.goes_on = any(other.said[2] for other in channels)
    assert n_steps <= math.ceil(total / batch_size)
    assert len(torch.cat(seen)) == len(torch.cat(seen).unique()) == total


def test_a_stream_draws_what_the_first_process_says_and_nothing_else():
    cells = [Cells(torch.arange(50.0)[:, None])]
    rows = StreamedRows(
        cells[0], torch.arange(50), more=lambda _: iter(cells), n_rows=50, n_own=50
    )
    found = []
    for earlier in (0, 9):  # what was drawn before
        channel = Meeting(1, 2)
        channel.of_first = lambda tensor: torch.full_like(tensor, 5)
        shared_rows = SharedStream(**vars(rows), channel=channel)
        draw = generator(earlier)
        found.append(next(shared_rows.batches(20, draw)).values().values)
        found.append(torch.rand(3, generator=draw))
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])


def test_averages_are_those_of_all_rows(group):
    rows = StreamedRows(draws(5, 2), torch.arange(5), more=iter, n_rows=5, n_own=5)
    channel = group.channel(torch.zeros(3), 2)
    assert isinstance(channel.share(rows), SharedStream)
    gradient = torch.arange(3.0)
    loss, n_rows = channel.average(torch.tensor(6.0), gradient, 4, goes_on=True)
    assert (loss.item(), n_rows, channel.goes_on) == (1.5, 4, True)
    assert gradient.tolist() == [0, 0.25, 0.5]
    channel.average(torch.tensor(6.0), gradient, 4, goes_on=False)
    assert not channel.goes_on


def test_a_process_without_rows_in_a_step_adds_nothing():
    rows = StreamedRows(
        draws(5, 2), torch.arange(5), more=lambda _: iter(()), n_rows=9, n_own=0
    )
    stream = SharedStream(**vars(rows), channel=Meeting(0, 2))
    part = next(stream.batches(4, generator()))
    loss = part.loss(lambda cells: 1 / 0)  # nothing is computed
    loss.backward()
    assert (loss.item(), len(part), part.goes_on) == (0, 0, False)


# -------------------------------------------------------------- agreement of one


def test_errors_in_a_block_are_told_once(group, monkeypatch):
    told = []
    monkeypatch.setattr(group, "_gathered", lambda text: told.append(text) or [text])
    with pytest.raises(KeyError), group.together(), group.together():
        raise KeyError("x")
    assert told == ["KeyError: 'x'"]


def test_errors_of_others_are_said_with_their_origin(group, monkeypatch):
    others = [None, "PartedError: training was given up.", "ValueError: bad"]
    monkeypatch.setattr(group, "_gathered", lambda text: others)
    with pytest.raises(PartedError, match=r"process 2: ValueError: bad$"):
        group.gather(lambda: 1)
    with pytest.raises(PartedError, match="ValueError"), group.together():
        raise PartedError("training was given up.")


def test_a_lost_process_is_said(group, monkeypatch):
    def lose(*_, **__):
        raise RuntimeError("Connection closed by peer")

    channel = group.channel(torch.zeros(3), 2)
    monkeypatch.setattr(dist, "all_reduce", lose)
    with pytest.raises(LostError, match=r"ended.*closed by peer"):
        channel.sum(torch.ones(2))


def test_who_fails_answers_in_the_length_of_any_message(group, monkeypatch):
    sent = []
    monkeypatch.setattr(dist, "all_reduce", lambda m, group: sent.append(m.clone()))
    channel = group.channel(torch.zeros(3), 9)
    channel.sum(torch.ones(2))
    with pytest.raises(ZeroDivisionError), channel.open():
        raise ZeroDivisionError
    assert [len(message) for message in sent] == [10, 10]
    assert [message[-1].item() for message in sent] == [0, 1]


def test_a_failure_elsewhere_ends_training_here(group, monkeypatch):
    def fail(message, group):
        message[-1] += 1

    channel = group.channel(torch.zeros(3), 2)
    monkeypatch.setattr(dist, "all_reduce", fail)
    with pytest.raises(PartedError), channel.open():
        channel.merge(torch.tensor(1.0), torch.ones(3))


def test_messages_sum_gradients_and_losses(group):
    channel = group.channel(torch.zeros(3), 2)
    gradient = torch.arange(3.0)
    assert channel.merge(torch.tensor(2.5), gradient).item() == 2.5
    assert gradient.tolist() == [0, 1, 2]
    vector = torch.arange(3.0)
    channel.align(vector)
    assert vector.tolist() == [0, 1, 2]


def test_ctrl_c_is_told_at_the_end_of_an_epoch(group):
    channel = group.channel(torch.zeros(3), 2)
    assert channel.stops(lambda: True)
    assert not channel.stops(lambda: False)

    def press():
        raise KeyboardInterrupt

    with pytest.raises(AgreedInterrupt):
        channel.stops(press)
