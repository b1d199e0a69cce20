"""Rows on the device, and what their batches hold."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import draws, generator
from torch.testing import assert_close

from skae.network._cells import Cells
from skae.training._rows import Rows, StreamedRows

SIZES = {"n_rows": st.integers(1, 60), "batch_size": st.integers(1, 70)}


@given(**SIZES, seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_batches_partition_the_rows_evenly(n_rows, batch_size, seed):
    index = torch.arange(100, 100 + n_rows)
    rows = Rows(torch.zeros(200, 1), index)
    batches = list(rows.batches(batch_size, generator(seed)))
    together = torch.cat([batch.index for batch in batches])
    assert together.sort().values.tolist() == index.tolist()
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == math.ceil(n_rows / batch_size)


def test_batches_are_shuffled_by_the_generator():
    rows = Rows.all_of(draws(40, 2), torch.arange(40.0))
    first, second, other = (
        [batch.index.tolist() for batch in rows.batches(8, generator(seed))]
        for seed in (1, 1, 2)
    )
    assert first == second != other


def test_batches_keep_the_weights_with_their_rows():
    matrix = torch.arange(40.0)[:, None]
    rows = Rows.all_of(matrix, torch.arange(40.0) + 1)
    for batch in rows.batches(7, generator()):
        value = batch.mean(torch.ones(len(batch)))
        assert_close(value, (batch.values()[:, 0] + 1).mean())


def test_chosen_rows_come_in_their_order():
    matrix = draws(6, 2)
    rows = Rows(matrix, torch.tensor([4, 1, 5]))
    assert len(rows) == 3
    assert torch.equal(rows.values(), matrix[[4, 1, 5]])


def cells_with_holes(n_rows=10):
    seen = (draws(n_rows, 2, seed=1) > 0).double()
    return Cells(draws(n_rows, 2), seen, log_density=draws(n_rows, seed=2))


def test_rows_of_cells_carry_what_is_known_of_their_holes():
    cells, index = cells_with_holes(), torch.tensor([4, 1, 4, 9, 0])
    rows = Rows(cells, index)
    assert len(Rows.all_of(cells)) == 10
    found = rows.values()
    assert torch.equal(found.values, cells.values[index])
    assert torch.equal(found.seen, cells.seen[index])
    assert torch.equal(found.log_density, cells.log_density[index])
    assert found.log_variances is None


def test_batches_of_cells_hold_every_row_once_with_its_holes():
    cells = cells_with_holes(10)
    parts = [batch.values() for batch in Rows.all_of(cells).batches(4, generator())]
    values = torch.cat([part.values for part in parts])
    order = values[:, 0].argsort()
    whole = cells.values[:, 0].argsort()
    assert torch.equal(values[order], cells.values[whole])
    for name in ("seen", "log_density"):
        together = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(together[order], getattr(cells, name)[whole])


def test_mean_of_losses_is_weighted():
    losses, weight = draws(6), draws(6).exp()
    weight = weight / weight.mean()
    matrix = torch.zeros(6, 1)
    expected = np.average(losses, weights=weight)
    assert_close(Rows.all_of(matrix, weight).mean(losses).item(), expected)
    assert_close(Rows.all_of(matrix).mean(losses), losses.mean())


def test_evaluation_in_chunks_is_evaluation_at_once(monkeypatch):
    rows = Rows(draws(10, 2), torch.tensor([9, 2, 3, 3, 1, 0, 8]))
    whole = rows.evaluate(lambda x: x.sum(dim=1))
    assert_close(whole, rows.values().sum(dim=1))
    monkeypatch.setattr("skae.training._rows.EVALUATION_ROWS", 3)
    assert torch.equal(rows.evaluate(lambda x: x.sum(dim=1)), whole)
    cells = Cells(rows.cells, seen=draws(10, 2, seed=1))
    found = Rows(cells, rows.index).evaluate(lambda c: (c.values * c.seen).sum(dim=1))
    assert_close(found, (cells.values * cells.seen).sum(dim=1)[rows.index])


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    n_kept=st.integers(1, 15),
    batch_size=st.integers(1, 25),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_a_stream_gives_as_many_rows_as_come_by_way_of_a_pool(
    sizes, n_kept, batch_size, seed
):
    total = sum(sizes)
    kept = Cells(-1.0 - torch.arange(n_kept)[:, None])
    chunks = Cells(torch.arange(float(total))[:, None])
    starts = np.cumsum([0, *sizes])

    def more(_):
        for start, size in zip(starts, sizes, strict=False):
            yield chunks.index_select(0, torch.arange(start, start + size))

    rows = StreamedRows(
        kept, torch.arange(n_kept), more=more, n_rows=total, n_own=total
    )
    batches = [
        batch.values().values for batch in rows.batches(batch_size, generator(seed))
    ]
    assert len(rows) == total
    assert len(batches) == math.ceil(total / batch_size)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    seen = torch.cat(batches).ravel()
    assert len(seen) == total
    assert len(seen.unique()) == total  # each row at most once


def test_neighbours_of_a_stream_are_in_different_batches():
    kept = Cells(torch.zeros(500, 1))
    chunks = [Cells(torch.full((50, 1), float(i))) for i in range(1, 11)]
    rows = StreamedRows(
        kept, torch.arange(500), more=lambda _: iter(chunks), n_rows=500, n_own=500
    )
    first, *_ = rows.batches(50, generator(0))
    assert (first.values().values == 1).float().mean() < 0.3
