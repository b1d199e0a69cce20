"""What is saved of a fitted estimator, and which versions of skae can load it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np

VERSION = "0.2.0"
FORMAT = 1  # of the fitted state; to be raised whenever an older state would not do
KEYS = ("_saved_format", "_saved_by", "_saved_digest")
OTHER_FORMAT = (
    "got a fitted {name} that skae {by} saved in format {format}, but expected format "
    "{expected}, that of skae {version}: fit it again, or load it with "
    "`pip install skae=={by}`."
)
DAMAGED = (
    "got a state of {name} that is not what was saved, but expected the same values: "
    "the file is damaged, or was changed by hand. Load another copy, or fit again."
)
PLAIN = {bool, int, float, str, bytes, type(None)}  # whose `repr` tells all


def saved(state: dict[str, Any], name: str, version: str) -> dict[str, Any]:
    """Mark a state with what wrote it, and with a digest of what it holds."""
    marks = FORMAT, version, _digest_of(state, name)
    return state | dict(zip(KEYS, marks, strict=True))


def loaded(state: dict[str, Any], name: str, version: str) -> dict[str, Any]:
    """Return a state without its mark.

    Raises
    ------
    ValueError
        If a fitted state has a format that this version does not read, or anything in
        a state is not what was saved.
    """
    state = dict(state)
    written_as, by = state.pop(KEYS[0], 0), state.pop(KEYS[1], "0.1.0")
    of_saved = state.pop(KEYS[2], None)
    is_fitted = any(key.endswith("_") and not key.endswith("__") for key in state)
    if is_fitted and written_as != FORMAT:
        message = OTHER_FORMAT.format(
            name=name, by=by, format=written_as, expected=FORMAT, version=version
        )
        raise ValueError(message)
    if written_as == FORMAT and of_saved != _digest_of(state, name):
        raise ValueError(DAMAGED.format(name=name))
    return state


def _digest_of(state: dict[str, Any], name: str) -> str:
    # Callbacks may hold the estimator itself, whose state is then read before theirs.
    own = {key: value for key, value in state.items() if "callback" not in key}
    return digest((name, own))


def digest(value: Any) -> str:
    """Return a checksum of plain values, arrays, and objects of skae that hold them.

    It is the same after any way of saving and loading. Of other objects, such as users'
    networks, only the type counts: what they become when loaded is theirs.
    """
    checksum = blake2b(digest_size=16)
    for part in _parts(value):
        checksum.update(part)
    return checksum.hexdigest()


def _parts(value: Any) -> Iterator[Any]:
    """Yield buffers that tell a value from any other."""
    if isinstance(value, str | float):  # also numpy's, which files give back as these
        yield repr(str(value) if isinstance(value, str) else float(value)).encode()
    elif isinstance(value, np.ndarray | np.generic):
        yield from _parts_of_array(np.asarray(value))
    elif isinstance(value, list | tuple):
        yield f"{type(value).__name__} of {len(value)}:".encode()
        yield from _parts_of_items(value)
    elif isinstance(value, dict):
        yield f"dict of {len(value)}:".encode()
        for key in sorted(value, key=repr):
            yield from _parts_of_items((key, value[key]))
    elif type(value) in PLAIN:
        yield repr(value).encode()
    else:
        yield type(value).__qualname__.encode()
        if type(value).__module__.startswith("skae."):
            yield from _parts(value.__getstate__())


def _parts_of_items(items: list[Any] | tuple[Any, ...]) -> Iterator[bytes]:
    if set(map(type, items)) <= PLAIN:  # at once: there may be a million
        yield "".join(f"{item!r}," for item in items).encode()
        return
    for item in items:
        yield from _parts(item)
        yield b","


def _parts_of_array(array: np.ndarray) -> Iterator[Any]:
    yield f"array of {array.dtype.str} {array.shape}:".encode()
    if array.dtype.hasobject:
        yield from _parts_of_items(array.ravel().tolist())
    else:
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8)


@contextmanager
def all_or_nothing(estimator: Any) -> Iterator[None]:
    """Leave an estimator as it was if the block raises or is interrupted."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        # What scikit-learn has set up for callbacks it still has to take down.
        callbacks = {k: v for k, v in vars(estimator).items() if "callback" in k}
        estimator.__dict__ = before | callbacks
        raise
