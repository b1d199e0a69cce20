"""The state of a run of training in a file, from which it goes on."""

from __future__ import annotations

import hashlib
import io
import os
import time
import warnings
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ._group import Alone

MARK = b"skae checkpoint 1\n"
DIGEST_BYTES = 32
CLOSE = 1e-3  # what another processor may round otherwise in the start of the networks
NOT_WRITTEN = (
    "got {error!r} when a checkpoint was to be written to {path}: training goes on "
    "without it, and an earlier checkpoint is as it was. Make room there."
)
CUT_SHORT = (
    "got {path} cut short or damaged: training goes on from {instead}. Look whether "
    "the disk is full or broken."
)


class Resumable(Protocol):
    """A run that says where it is, at the end of an epoch, and goes on from there."""

    @property
    def device(self) -> torch.device: ...

    @property
    def module(self) -> nn.Module: ...

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: dict[str, Any]) -> None: ...


class Checkpoint:
    """A file of the state of a run, and the one before it.

    Files hold tensors and plain values, and a digest that tells if they are whole. A
    new one is written beside the others and put in their place once it is on the disk.

    Parameters
    ----------
    files : Files
    every : float
        Seconds from one file to the next, at least.
    identity : dict
        Plain values that tell this run from others, by what they are of.
    generators : list of torch.Generator
        What the run draws from.
    group : Alone or Group
        The first process of it writes and reads for all.
    """

    def __init__(
        self,
        files: Files,
        every: float,
        identity: dict[str, Any],
        generators: list[torch.Generator],
        group: Alone,
    ) -> None:
        self.files = files
        self.every = every
        self.identity = identity
        self.generators = generators
        self.group = group
        self.written = time.monotonic()

    def resume(self, training: Resumable) -> None:
        """Bring a run that has just begun to where it was, if it was anywhere.

        Raises
        ------
        ValueError
            If the file is that of another run.
        """
        content = self.group.first(self.files.read)
        if content is None:
            return
        found = torch.load(io.BytesIO(content), training.device, weights_only=True)
        others = [k for k, v in self.identity.items() if found["identity"].get(k) != v]
        if not others and not _are_close(fixed_of(training.module), found["fixed"]):
            others = ["networks"]
        if others:
            raise ValueError(
                f"got {self.files.path}, the checkpoint of a fit with other "
                f"{' and '.join(others)}, but expected one of this fit: pass what that "
                "fit was given, another path, or remove the file."
            )
        training.load_state(found["state"])
        for generator, state in zip(self.generators, found["draws"], strict=True):
            generator.set_state(state.cpu())

    def epoch(self, training: Resumable) -> None:
        """Write where a run is, if it is time to."""
        if self.group.rank or time.monotonic() - self.written < self.every:
            return
        content = {
            "identity": self.identity,
            "fixed": fixed_of(training.module),
            "state": training.state(),
            "draws": [generator.get_state() for generator in self.generators],
        }
        stream = io.BytesIO()
        torch.save(content, stream)
        try:
            self.files.write(stream.getvalue())
        except OSError as error:
            message = NOT_WRITTEN.format(error=error, path=self.files.path)
            warnings.warn(message, UserWarning, stacklevel=2)
        self.written = time.monotonic()


class Files:
    """The newest content under a name, and the one before it.

    Parameters
    ----------
    path : Path
        Of the newest; the one before it, and one that is being written, are beside.

    Attributes
    ----------
    stays : bool
        Whether content is still wanted when all is done.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stays = False
        self.before = path.with_name(f"{path.name}.before")
        self.coming = path.with_name(f"{path.name}.new")

    def write(self, content: bytes) -> None:
        """Write content; what there was becomes the one before."""
        with self.coming.open("wb") as file:
            file.write(MARK + hashlib.sha256(content).digest() + content)
            file.flush()
            os.fsync(file.fileno())
        if self.path.exists():
            self.path.replace(self.before)
        self.coming.replace(self.path)
        _sync(self.path.parent)

    def read(self) -> bytes | None:
        """Return the newest content that is whole; None where there is none.

        Raises
        ------
        ValueError
            If a file of that name is something else.
        """
        if (content := self._read(self.path)) is not None:
            return content
        content = self._read(self.before)
        if self.path.exists():
            instead = "its start" if content is None else "the one before it"
            message = CUT_SHORT.format(path=self.path, instead=instead)
            warnings.warn(message, UserWarning, stacklevel=2)
        return content

    def done(self) -> None:
        """Remove what is not wanted any more."""
        stays, self.stays = self.stays, False
        if stays:
            return
        for path in (self.coming, self.before, self.path):
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> bytes | None:
        try:
            written = path.read_bytes()
        except FileNotFoundError:
            return None
        if not (written.startswith(MARK) or MARK.startswith(written)):
            raise ValueError(
                f"got {path}, which is no checkpoint of skae, but expected one, or no "
                "file of that name: it is left as it is. Pass another path."
            )
        start = len(MARK) + DIGEST_BYTES
        digest, content = written[len(MARK) : start], written[start:]
        return content if hashlib.sha256(content).digest() == digest else None


def fixed_of(module: nn.Module) -> dict[str, Tensor]:
    """Return weights that training leaves as they are, and of others the shape."""
    return {
        name: torch.tensor(weight.shape) if weight.requires_grad else weight.detach()
        for name, weight in module.named_parameters()
    }


def _are_close(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        tensor.shape == others[name].shape
        and torch.allclose(tensor, others[name].to(tensor.device), CLOSE, CLOSE)
        for name, tensor in some.items()
    )


def _sync(folder: Path) -> None:
    """Have the names of files on the disk, where a folder can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
