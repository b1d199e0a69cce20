"""What is saved of a fitted estimator, and which versions of skae can load it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

VERSION = "0.2.0"
FORMAT = 1  # of the fitted state; to be raised whenever an older state would not do
KEYS = ("_saved_format", "_saved_by")
OTHER_FORMAT = (
    "got a fitted {name} that skae {by} saved in format {format}, but expected format "
    "{expected}, that of skae {version}: fit it again, or load it with "
    "`pip install skae=={by}`."
)


def saved(state: dict[str, Any], version: str) -> dict[str, Any]:
    """Mark a state with what wrote it."""
    return state | dict(zip(KEYS, (FORMAT, version), strict=True))


def loaded(state: dict[str, Any], name: str, version: str) -> dict[str, Any]:
    """Return a state without its mark.

    Raises
    ------
    ValueError
        If a fitted state has a format that this version does not read.
    """
    state = dict(state)
    written_as, by = state.pop(KEYS[0], 0), state.pop(KEYS[1], "0.1.0")
    is_fitted = any(key.endswith("_") and not key.endswith("__") for key in state)
    if is_fitted and written_as != FORMAT:
        message = OTHER_FORMAT.format(
            name=name, by=by, format=written_as, expected=FORMAT, version=version
        )
        raise ValueError(message)
    return state


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
