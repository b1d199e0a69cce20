"""Verbs of tables that are not asked at once: chunk by chunk, or when Dask computes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import narwhals.stable.v2 as nw
import numpy as np

from ._array_api import through_numpy
from ._dask import Question, lazily
from ._torch import derive_seeds
from .table._containers import as_frame, is_collection
from .table._large import LargeTable, as_large

Class = TypeVar("Class", bound=type)


def piecewise(*verbs: str) -> Callable[[Class], Class]:
    """Let verbs of an estimator answer tables that are read piece by piece.

    Dask collections lazily, by partition, and others chunk by chunk. The class is
    decorated, not its methods: scikit-learn wraps `transform` when the class is made,
    and to put a lazy answer into a container it would compute it.
    """

    def decorate(cls: Class) -> Class:
        for verb in verbs:
            setattr(cls, verb, _of_pieces_too(getattr(cls, verb)))
        return cls

    return decorate


def _of_pieces_too(verb: Callable[..., Any]) -> Callable[..., Any]:
    @through_numpy
    @wraps(verb)
    def answer(self: Any, X: Any, *args: Any, **options: Any) -> Any:
        is_lazy = is_collection(X)
        large = None if is_lazy else as_large(X)
        if not is_lazy and large is None:
            return verb(self, X, *args, **options)
        if options.keys() & {"random_state", "n_draws"}:
            seeds = derive_seeds(options.get("random_state"), "partitions")
            options["random_state"] = seeds["partitions"]
        question = Question(verb.__name__, options)
        return _eagerly(self, question, large) if large else lazily(self, question, X)

    return answer


def _eagerly(estimator: Any, question: Question, large: LargeTable) -> Any:
    """Answer chunk by chunk; no more is in memory than a chunk and the answers."""
    answers = [
        question(chunk, estimator, block_id=(i,))
        for i, chunk in enumerate(large.chunks())
    ]
    if not answers:
        raise ValueError(f"got {large!r} without rows, but expected at least one.")
    if isinstance(answers[0], list | tuple):
        return type(answers[0])(map(_in_one, zip(*answers, strict=True)))
    return _in_one(answers)


def _in_one(parts: Any) -> Any:
    """Return arrays or dataframes one after another."""
    frames = [as_frame(part) for part in parts]
    if frames[0] is None:
        return np.concatenate(list(parts))
    whole = nw.concat([frame for frame in frames if frame is not None])
    return nw.maybe_reset_index(whole).to_native()
