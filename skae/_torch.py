"""Devices, seeded randomness, rows of a table as tensors, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
import torch

THREADED_PRODUCTS = 100_000_000  # of a gradient step, above which threads pay


def available_devices() -> list[str]:
    """Name every device that this machine has, the CPU first."""
    names = ["cpu"]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        count = torch.accelerator.device_count()
        names += [f"{accelerator.type}:{index}" for index in range(count)]
    return names


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn the parameter `device` into a device of this machine, with its index.

    ``"auto"`` is the current accelerator where there is one, else the CPU.
    """
    present = available_devices()
    if isinstance(device, str) and device == "auto":
        device = present[-1].split(":")[0]
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = None
    if wanted is not None and wanted.type == "cpu":
        return torch.device("cpu")
    if wanted is not None and wanted.index is None and len(present) > 1:
        wanted = torch.device(wanted.type, torch.accelerator.current_device_index())
    if wanted is None or str(wanted) not in present:
        raise ValueError(
            f"got device={str(device)!r}, but this machine has only "
            f"{', '.join(map(repr, present))} (device='auto' takes the best of them)."
        )
    return wanted


def fallback_device(name: str) -> torch.device:
    """Take the device of that name, or the CPU on a machine that lacks it.

    A name without an index stands for the current device.
    """
    names = available_devices()
    present = {*names, *(one.split(":")[0] for one in names)}
    return torch.device(name if name in present else "cpu")


def widest_dtype(dtype: np.dtype, device: torch.device) -> torch.dtype:
    """Return the torch precision of a numpy dtype; Apple's GPUs have no float64."""
    wide = np.dtype(dtype) == np.float64 and device.type != "mps"
    return torch.float64 if wide else torch.float32


def derive_seeds(random_state: Any, *purposes: str) -> dict[str, int]:
    """Derive one seed per purpose from the parameter `random_state`.

    None takes fresh entropy: numpy's global generator is left alone.
    """
    entropy: int | None = None
    if isinstance(random_state, Integral):
        entropy = int(random_state)
    elif random_state is not None:
        entropy = random_state.randint(2**31 - 1)
    state = np.random.SeedSequence(entropy).generate_state(len(purposes))
    return dict(zip(purposes, map(int, state), strict=True))


def make_generator(seed: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(seed)


def global_generators(device: torch.device) -> list[torch.Generator]:
    """Return torch's own generators that modules on a device may draw from."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    return generators


@contextmanager
def seeded_globally(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them after it.

    Modules that users bring draw their first weights and their dropout from the
    global generators; this makes them repeatable and leaves no trace.
    """
    accelerated = device.type != "cpu"
    with torch.random.fork_rng(
        devices=[device] if accelerated else [],
        device_type=device.type if accelerated else "cuda",
    ):
        torch.manual_seed(seed)
        yield


@contextmanager
def threads_that_pay(n_products: int) -> Iterator[None]:
    """Let torch use one thread inside the block where steps are small.

    Several threads wait for each other at the end of every operation, the longer the
    busier the machine is; they pay where a step multiplies many millions of numbers.
    """
    usual = torch.get_num_threads()
    if n_products < THREADED_PRODUCTS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def to_tensor(
    array: np.ndarray, device: torch.device, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Move an array to a device; on the CPU, in its own dtype, without a copy."""
    if not array.flags.writeable:  # torch warns of tensors over read-only memory
        array = array.copy()
    return torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)


@contextmanager
def no_gradients() -> Iterator[None]:
    """Compute without gradients, but so that a block within may ask for them."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
