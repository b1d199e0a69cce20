"""Verbs of tables that Dask holds in partitions: one by one, not before asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from .table._containers import refuse_collection

OF_ANOTHER = (
    "got a Dask {}, of which {} would make a {}, but Dask has partitions of numpy and "
    'pandas alone: call set_output(transform="pandas") first.'
)
OUTPUT = "_sklearn_output_config"  # a dict that `set_output` changes


@dataclass(frozen=True)
class Question:
    """A verb to ask an estimator of a partition.

    Attributes
    ----------
    verb : str
    options : dict
        What it takes beside the table.
    of_array : bool
        Whether the partition is the frame of an array, whose rows it only counts.
    nothing : object
        The answer of no rows, which a verb refuses and a partition may have.
    """

    verb: str
    options: dict[str, Any]
    of_array: bool = False
    nothing: Any = None

    def __call__(
        self,
        part: Any,
        estimator: Any,
        block_id: tuple[int, ...] = (),
        partition_info: Any = None,
    ) -> Any:
        """Answer; by one of the last two Dask says which partition this is."""
        if not len(part):
            return self.nothing
        options = dict(self.options)
        if "random_state" in options:  # else each partition would draw the same
            place = block_id[0] if block_id else partition_info["number"]
            seeds = np.random.SeedSequence([options["random_state"], place])
            options["random_state"] = int(seeds.generate_state(1)[0])
        ask = getattr(estimator, self.verb)
        if not self.of_array:
            return ask(part, **options)
        return _each(ask(part.to_numpy(), **options), lambda x: x.set_axis(part.index))


def lazily(estimator: Any, question: Question, X: Any) -> Any:
    """Return a lazy answer that is like the answer to made-up rows."""
    from dask.delayed import delayed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of levels that are made up too
        found = getattr(estimator, question.verb)(_made_up(X), **question.options)
    nothing = _each(found, lambda x: _without_rows(x, question.verb, X))
    likes = nothing if isinstance(nothing, list | tuple) else [nothing]
    if of_array := _is_array(X):
        X = X.rechunk({1: -1})
        if of_array := isinstance(likes[0], pd.DataFrame):
            X = _counted(X)
    question = replace(question, of_array=of_array, nothing=nothing)
    # One key of the graph, to which all partitions refer.
    kept = delayed(_as_it_is(estimator), pure=True, traverse=False)
    answers = _mapped(X, question, likes[0], kept)
    if likes is not nothing:
        return answers
    items = (partial(_item, index) for index in range(len(likes)))
    pairs = zip(items, likes, strict=True)
    return type(nothing)(_mapped(answers, *pair) for pair in pairs)


def _is_array(X: Any) -> bool:
    """Tell an array from a frame; of its class, since a `Delayed` has any attribute."""
    return hasattr(type(X), "map_blocks")


def _made_up(X: Any) -> Any:
    """Return two rows with the columns and dtypes of a collection."""
    if _is_array(X):
        fill = np.nan if X.dtype.kind == "O" else 1
        return np.full((2, *X.shape[1:]), fill, X.dtype)
    if not hasattr(type(X), "divisions"):  # of a frame
        refuse_collection(X)
    return X._meta_nonempty


def _without_rows(found: Any, verb: str, X: Any) -> Any:
    """Return no rows of an answer; categories that `X` does not know are unknown."""
    if isinstance(found, np.ndarray):
        return found[:0]
    if not isinstance(found, pd.DataFrame):
        library = type(found).__module__.partition(".")[0]
        raise TypeError(OF_ANOTHER.format(type(X).__name__, verb, f"{library} frame"))
    from dask.dataframe.utils import clear_known_categories, has_known_categories

    names = [] if _is_array(X) else list(X._meta)
    categories = found.select_dtypes("category").columns.intersection(names)
    unknown = [n for n in categories if not has_known_categories(X._meta[n])]
    return clear_known_categories(found[:0], cols=unknown)


def _counted(X: Any) -> Any:
    """Return an array as a frame, which has an index."""
    from dask.dataframe import from_dask_array

    return from_dask_array(X)


def _as_it_is(estimator: Any) -> Any:
    """Return a copy that no later fit, and no `set_output`, changes."""
    kept = copy(estimator)
    if OUTPUT in vars(kept):
        setattr(kept, OUTPUT, dict(vars(kept)[OUTPUT]))
    return kept


def _mapped(X: Any, function: Callable[..., Any], like: Any, *others: Any) -> Any:
    """Apply a function to each partition; `like` is what it gives for no rows."""
    if not _is_array(X):
        return X.map_partitions(function, *others, meta=like, enforce_metadata=False)
    return X.map_blocks(
        function,
        *others,
        dtype=like.dtype,
        chunks=(X.chunks[0], *((width,) for width in like.shape[1:])),
        drop_axis=list(range(like.ndim, 2)),
        meta=like,
    )


def _each(found: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to an answer, or to each of several."""
    if isinstance(found, list | tuple):
        return type(found)(function(one) for one in found)
    return function(found)


def _item(index: int, answers: Any) -> Any:
    return answers[index]
