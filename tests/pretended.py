"""Accelerators without the hardware: tensors that only say where they are.

Inside the mode, whatever is moved to the pretended device stays in the memory of the
CPU, but answers with that device, and is refused what it would be refused there:
company from elsewhere, numpy, generators of another device and, as "mps", doubles.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from skae import _torch

CPU = torch.device("cpu")
MOVES = {Tensor.to, Tensor.cpu, Tensor.copy_}
# An index may be on the CPU; a tensor may be given the memory of another.
MIXES = {
    Tensor.__getitem__,
    Tensor.__setitem__,
    Tensor.data.__set__,
    torch._has_compatible_shallow_copy_type,
}
AS_THEY_ARE = {torch.device, torch._C._nn._parse_to}  # what reads arguments alone
TO_NUMPY = {Tensor.numpy, Tensor.__array__}
RealGenerator = torch.Generator


def place(tensor: Tensor) -> torch.device:
    """Return where a tensor says to be: its memory remembers."""
    return getattr(tensor.untyped_storage(), "pretended", CPU)


def leaves(value: Any) -> Iterator[Any]:
    """Yield what a call is given or answers, out of its tuples, lists and dicts."""
    if isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    else:
        yield value


class PretendedGenerator(RealGenerator):
    """A generator of the CPU that says to be elsewhere."""

    def __new__(cls, device: Any = "cpu") -> PretendedGenerator:
        made = super().__new__(cls, "cpu")
        made.pretended = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.pretended


class Pretending(TorchFunctionMode):
    """Run everything on the CPU and hold tensors to where they say to be."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func == Tensor.device.__get__:
            return place(args[0])
        if func in AS_THEY_ARE or str(kwargs.get("device")) == "meta":
            return func(*args, **kwargs)
        given = list(leaves((args, kwargs)))
        tensors = [value for value in given if isinstance(value, Tensor)]
        wanted = self._wanted(func, args, kwargs)
        at = wanted or self._common_place(func, tensors)
        for generator in given:
            if isinstance(generator, PretendedGenerator) and generator.device != at:
                raise RuntimeError(
                    f"Expected a {at} generator but found {generator.device}"
                )
        if func in TO_NUMPY and at != CPU:
            raise TypeError(f"can't convert {at} device type tensor to numpy")
        here = self._on_the_cpu(func, args, kwargs)
        before = {id(tensor) for tensor in tensors}
        result = func(*here[0], **here[1])
        if wanted is not None and func in MOVES:
            result = result.clone()
        for tensor in leaves(result):
            if isinstance(tensor, Tensor) and id(tensor) not in before:
                self._put(tensor, at)
        return result

    @staticmethod
    def _wanted(func: Any, args: Any, kwargs: Any) -> torch.device | None:
        """Return the device that a call asks for, if it does."""
        if func is Tensor.cpu:
            return CPU
        if func is Tensor.to:
            for value in (*args[1:], *kwargs.values()):
                if isinstance(value, Tensor):
                    return place(value)
                if isinstance(value, (torch.device, str)):
                    return torch.device(value)
            return None
        device = kwargs.get("device")
        return None if device is None else torch.device(device)

    @staticmethod
    def _common_place(func: Any, tensors: list[Tensor]) -> torch.device:
        """Return where all tensors are; those of no dimension may be elsewhere."""
        if func in MOVES | MIXES:
            return place(tensors[0])
        places = {place(tensor) for tensor in tensors}
        away = places - {CPU}
        if len(away) > 1 or (away and any(t.ndim and place(t) == CPU for t in tensors)):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found "
                f"{sorted(map(str, places))} in {resolve_name(func) or func}"
            )
        return away.pop() if away else CPU

    @staticmethod
    def _on_the_cpu(func: Any, args: Any, kwargs: Any) -> Any:
        def moved(value: Any) -> Any:
            is_name = func is Tensor.to and isinstance(value, str)
            return CPU if is_name or isinstance(value, torch.device) else value

        kwargs = {name: moved(value) for name, value in kwargs.items()}
        if kwargs.get("device") is not None:
            kwargs["device"] = CPU
        return tuple(map(moved, args)), kwargs

    @staticmethod
    def _put(tensor: Tensor, at: torch.device) -> None:
        if at.type == "mps" and tensor.dtype == torch.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework "
                "doesn't support float64."
            )
        if at != CPU:
            tensor.untyped_storage().pretended = at


@contextmanager
def pretended(device: str, monkeypatch: Any) -> Iterator[None]:
    """Let this machine have another device inside the block."""
    with monkeypatch.context() as patch, Pretending():
        patch.setattr(_torch, "available_devices", lambda: ["cpu", device])
        patch.setattr(torch.accelerator, "current_device_index", lambda: 0)
        patch.setattr(torch, "Generator", PretendedGenerator)
        patch.setattr(torch.random, "fork_rng", lambda **_: torch_state_kept())
        yield


@contextmanager
def torch_state_kept() -> Iterator[None]:
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
