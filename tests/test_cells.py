"""Rows of cells, field by field."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from skae._torch import make_generator, to_numpy, to_tensor
from skae.network._cells import Cells

CPU = torch.device("cpu")
NAMES = [field.name for field in fields(Cells)]
SOME = [(), ("seen",), ("seen", "log_variances"), ("log_density",), tuple(NAMES[1:])]


def cells_of(names):
    """Make six rows with the fields of some names."""
    generator = make_generator(0, CPU)
    shapes = {"seen": (6, 3), "log_variances": (6, 2), "log_density": (6,)}
    shapes["fold"] = (6,)
    known = {name: torch.rand(shapes[name], generator=generator) for name in names}
    return Cells(torch.rand(6, 4, generator=generator), **known)


@pytest.mark.parametrize("names", SOME, ids=str)
def test_cells_are_mapped_field_by_field_and_none_stays_none(names):
    cells = cells_of(names)
    doubled = cells.map(lambda tensor: 2 * tensor)
    for name in NAMES:
        found, before = getattr(doubled, name), getattr(cells, name)
        if name in ("values", *names):
            assert torch.equal(found, 2 * before)
        else:
            assert found is before is None


@pytest.mark.parametrize("names", SOME, ids=str)
@pytest.mark.parametrize("index", [[4, 1, 4], [], [0, 1, 2, 3, 4, 5]], ids=str)
def test_rows_of_cells_are_taken_from_every_field(names, index):
    cells = cells_of(names)
    found = cells.index_select(0, torch.tensor(index, dtype=torch.long))
    assert len(found) == len(index)
    for name in NAMES:
        if name in ("values", *names):
            assert torch.equal(getattr(found, name), getattr(cells, name)[index])
        else:
            assert getattr(found, name) is None


def test_cells_are_as_long_as_their_table_and_on_its_device():
    cells = cells_of(("seen",))
    assert len(cells) == 6
    assert cells.device == CPU


def test_cells_go_to_torch_and_back_field_by_field():
    before = cells_of(("seen", "log_density"))
    back = before.map(to_numpy).map(lambda array: to_tensor(array, CPU, torch.float64))
    for name in ("values", "seen", "log_density"):
        assert torch.equal(getattr(back, name), getattr(before, name).double())
    assert back.log_variances is None


@pytest.mark.parametrize("names", SOME)
def test_rows_are_joined_field_by_field(names):
    cells = cells_of(names)
    joined = cells.index_select(0, torch.tensor([0, 1])).joined(
        cells.index_select(0, torch.tensor([2, 3, 4, 5]))
    )
    for name, tensor in vars(joined).items():
        whole = getattr(cells, name)
        assert (tensor is None) == (whole is None)
        assert tensor is None or torch.equal(tensor, whole)


@pytest.mark.parametrize("first", [True, False])
def test_rows_without_holes_are_seen_whole_beside_others(first):
    holed, whole = cells_of(["seen", "log_variances"]), cells_of([])
    pair = (holed, whole) if first else (whole, holed)
    joined = pair[0].joined(pair[1])
    part = slice(6, None) if first else slice(6)
    assert (joined.seen[part] == 1).all()
    assert (joined.log_variances[part] == 0).all()


@pytest.mark.parametrize("names", SOME, ids=str)
def test_own_rows_are_side_by_side(names):
    cells = cells_of(names)
    assert cells.own(None) is cells
    own = cells.own(slice(2, 5))
    for name in ("values", *names):
        assert torch.equal(getattr(own, name), getattr(cells, name)[2:5])
