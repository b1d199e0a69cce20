"""Devices, seeds, the way between numpy and torch, and rows with holes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import global_states
from numpy.testing import assert_array_equal

from skae import _torch
from skae._torch import (
    THREADED_PRODUCTS,
    available_devices,
    derive_seeds,
    fallback_device,
    make_generator,
    resolve_device,
    seeded_globally,
    threads_that_pay,
    to_numpy,
    to_tensor,
    widest_dtype,
)

CPU = torch.device("cpu")


# ------------------------------------------------------------------------- devices


@pytest.fixture
def two_gpus(monkeypatch):
    devices = ["cpu", "cuda:0", "cuda:1"]
    monkeypatch.setattr(_torch, "available_devices", lambda: devices)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 1)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(_torch, "available_devices", lambda: ["cpu"])


def test_available_devices_hold_tensors_the_cpu_first():
    devices = available_devices()
    assert devices[0] == "cpu"
    assert len(set(devices)) == len(devices)
    for name in devices:
        assert str(torch.empty(1, device=name).device) == name


@pytest.mark.parametrize("device", ["cpu", "cpu:0", CPU, torch.device("cpu", 0)])
def test_the_cpu_is_always_there_and_has_no_index(device):
    assert resolve_device(device) == CPU


def test_auto_is_the_cpu_without_an_accelerator(no_gpu):
    assert resolve_device("auto") == CPU


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("auto", "cuda:1"),
        ("cuda", "cuda:1"),
        (torch.device("cuda"), "cuda:1"),
        ("cuda:0", "cuda:0"),
        (torch.device("cuda", 0), "cuda:0"),
        ("cpu", "cpu"),
    ],
)
def test_accelerators_get_their_index(two_gpus, device, name):
    assert str(resolve_device(device)) == name


@pytest.mark.parametrize(
    "device",
    ["cuda", "cuda:0", "mps", "meta", "gpu", "", "nonsense", torch.device("cuda", 3)],
    ids=repr,
)
def test_missing_devices_are_refused_with_those_that_are_there(no_gpu, device):
    message = f"got device='{device}', but this machine has only 'cpu' "
    with pytest.raises(ValueError, match=message):
        resolve_device(device)


@pytest.mark.parametrize("device", ["cuda:2", "mps", "xpu:0"])
def test_every_device_that_is_there_is_named(two_gpus, device):
    message = f"got device='{device}', .*'cpu', 'cuda:0', 'cuda:1'"
    with pytest.raises(ValueError, match=message):
        resolve_device(device)


def test_a_fitted_device_that_is_missing_falls_back_to_the_cpu(two_gpus):
    assert str(fallback_device("cuda:1")) == "cuda:1"
    assert fallback_device("cuda:2") == CPU
    assert fallback_device("cpu") == CPU
    assert str(fallback_device("cuda")) == "cuda"


@pytest.mark.parametrize(
    ("dtype", "device", "expected"),
    [
        (np.float64, "cpu", torch.float64),
        (np.float64, "cuda:0", torch.float64),
        (np.float64, "mps:0", torch.float32),
        (np.float32, "cpu", torch.float32),
        (np.dtype("f8"), "cpu", torch.float64),
    ],
)
def test_doubles_stay_doubles_where_the_device_has_them(dtype, device, expected):
    assert widest_dtype(dtype, torch.device(device)) == expected


# --------------------------------------------------------------------------- seeds


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, np.int64(7)])
def test_an_int_gives_the_same_seeds_every_time(seed):
    first = derive_seeds(seed, "split", "weights")
    assert first == derive_seeds(seed, "split", "weights")
    assert list(first) == ["split", "weights"]
    assert first["split"] != first["weights"]
    assert first != derive_seeds(int(seed) + 1, "split", "weights")
    assert all(type(value) is int for value in first.values())


def test_numpys_ints_are_ints():
    assert derive_seeds(np.int64(7), "split") == derive_seeds(7, "split")


def test_without_a_seed_every_draw_is_fresh():
    assert derive_seeds(None, "split") != derive_seeds(None, "split")


def test_a_random_state_moves_on():
    state = np.random.RandomState(0)
    first, second = (derive_seeds(state, "split") for _ in range(2))
    again = derive_seeds(np.random.RandomState(0), "split")
    assert first == again != second


def test_generators_draw_the_same_from_the_same_seed():
    first, second, other = (
        torch.rand(5, generator=make_generator(seed, CPU)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_global_draws_are_repeatable_inside_the_block():
    found = []
    for seed in (1, 1, 2):
        with seeded_globally(seed, CPU):
            found.append(torch.rand(5))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def interrupted_draw():
    with seeded_globally(1, CPU):
        torch.rand(5)
        raise KeyboardInterrupt


def test_global_generators_are_restored_after_an_interrupt():
    before = global_states()
    with pytest.raises(KeyboardInterrupt):
        interrupted_draw()
    assert global_states() == before


# ------------------------------------------------------------------------- threads


@pytest.fixture
def three_threads():
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(usual)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(("n_products", "n_threads"), [(1, 1), (THREADED_PRODUCTS, 3)])
def test_small_steps_use_one_thread_and_leave_the_others_after(n_products, n_threads):
    with threads_that_pay(n_products):
        assert torch.get_num_threads() == n_threads
    assert torch.get_num_threads() == 3
    with pytest.raises(KeyboardInterrupt), threads_that_pay(n_products):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 3


# -------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_arrays_come_back_as_they_went(dtype):
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    back = to_numpy(to_tensor(array, CPU))
    assert back.dtype == dtype
    assert_array_equal(back, array)


@pytest.mark.parametrize(
    "view",
    [
        lambda array: array.T,
        lambda array: array[::2],
        lambda array: array[::-1, ::-1],
        np.asfortranarray,
        lambda array: np.broadcast_to(array[0], (5, 4)),
    ],
    ids=["transposed", "every second row", "reversed", "Fortran", "broadcast"],
)
def test_any_layout_will_do(view):
    array = view(np.arange(24.0).reshape(6, 4))
    assert_array_equal(to_tensor(array, CPU).numpy(), array)


def test_an_array_is_not_copied_on_the_cpu():
    array = np.zeros(3)
    to_tensor(array, CPU)[0] = 7
    assert array[0] == 7


def test_memory_that_is_read_only_is_copied_without_a_warning():
    array = np.zeros(3)
    array.flags.writeable = False
    to_tensor(array, CPU)[0] = 7
    assert array[0] == 0


def test_precision_is_converted_on_request():
    array = np.array([0.1, 1e-3])
    tensor = to_tensor(array, CPU, torch.float32)
    assert tensor.dtype == torch.float32
    assert_array_equal(tensor.numpy(), array.astype(np.float32))


def test_tensors_that_need_gradients_become_arrays():
    tensor = torch.ones(3, requires_grad=True) * 2
    assert_array_equal(to_numpy(tensor), [2, 2, 2])
