"""From what a user gives to the rows that a fit learns from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from ._schema import Encoded, Stream
from ._statistics import FEW_ROWS
from ._validation import FLOATS, read_rows, read_weight
from .model._pca import (
    LARGEST_PRODUCTS,
    Moments,
    PrincipalComponents,
    principal_components_of_sparse,
)
from .table._distinct import distinct_rows, recur
from .table._frames import TableReader
from .table._large import LargeTable, as_large, n_kept
from .table._summaries import ColumnStatistics
from .table._survey import Survey, judging
from .table._table import Table
from .training._folds import MOST_JUDGES

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Reading:
    """What a fit has read.

    Attributes
    ----------
    encoded : Encoded
        Rows at hand, those to validate on after the others.
    n_val : int
        Number of these.
    recurs : bool
        Whether the rows at hand are a small population that was drawn many times.
    principal_components : callable or None
        Computes so many of all rows, where those at hand are but some.
    stream : Stream or None
        Of all rows but those that judge, where the networks are to see them.
    """

    encoded: Encoded
    n_val: int
    recurs: bool
    principal_components: Callable[[int], PrincipalComponents] | None = None
    stream: Stream | None = None


def read_table(
    estimator: Any, X: Any, sample_weight: Any, X_val: Any, seed: int, tell: Tell
) -> Reading:
    """Read rows, and learn the table that they are of unless a fit goes on."""
    if (large := as_large(X)) is not None:
        return _read_by_chunks(estimator, large, sample_weight, X_val, seed, tell)
    continues = estimator._continues()
    if not continues:
        estimator._table = Table(TableReader(estimator.categorical_features).fit(X))
    frames = estimator._table.frames
    rows = read_rows(estimator, frames, X, reset=not continues, ensure_min_samples=2)
    weight = read_weight(sample_weight, rows)
    if not continues:
        frames.remember(X, rows, weight)
    rows, weight = distinct_rows(rows, weight)
    if not continues:
        _learn(estimator, rows, weight, is_sparse=bool(sparse.issparse(X)))
    return _encoded(estimator, rows, weight, _rows_val(estimator, X_val))


def _rows_val(estimator: Any, X_val: Any) -> np.ndarray | None:
    if X_val is None:
        return None
    return read_rows(estimator, estimator._table.frames, X_val)


def _learn(
    estimator: Any,
    rows: np.ndarray,
    weight: np.ndarray | None,
    known: Any = None,
    *,
    is_sparse: bool = False,
) -> None:
    """Learn the table of an estimator; "auto" leaves the scales of a sparse one."""
    table, scaling = estimator._table, estimator.scaling
    if is_sparse and scaling == "auto":
        scaling = None
    kinds = table.kinds(*estimator._kinds())
    table.learn(rows, weight, kinds, scaling, estimator._scaling_beside_levels, known)


def _encoded(
    estimator: Any,
    rows: np.ndarray,
    weight: np.ndarray | None,
    rows_val: np.ndarray | None = None,
) -> Reading:
    """Encode rows, and those to validate on after them."""
    n_val = 0
    if rows_val is not None:
        rows, n_val = np.concatenate([rows, rows_val]), len(rows_val)
        if weight is not None:
            weight = np.concatenate([weight, np.ones(n_val)])
    encoded = estimator._table.encode(rows, weight)
    estimator._table.check(rows, encoded)
    return Reading(encoded, n_val, recur(rows, weight))


# ----------------------------------------------------------------- chunk by chunk


def _read_by_chunks(
    estimator: Any,
    large: LargeTable,
    sample_weight: Any,
    X_val: Any,
    seed: int,
    tell: Tell,
) -> Reading:
    """Learn what all rows say; keep some of them."""
    if sample_weight is not None or estimator._continues():
        came = "sample_weight" if sample_weight is not None else "warm_start=True"
        raise ValueError(
            f"got {came} with a table that is read by chunks, but expected neither "
            "weights nor a fit to go on from: use partial_fit, chunk by chunk."
        )
    survey = _survey(estimator, large, seed, tell)
    if survey is None or survey.n_rows < 2:
        raise ValueError(f"got {large!r} of less than 2 rows, but expected more.")
    apart = large.is_seen_whole and not survey.is_whole
    reading = read_survey(estimator, survey, X_val, apart=apart)
    if survey.is_whole:
        return reading
    stream = None
    if large.is_seen_whole:
        chunks = partial(_shuffled, estimator, large, X_val is None)
        stream = Stream(chunks, survey.n_rows)
    components = _components(estimator, large, survey, tell)
    return replace(reading, principal_components=components, stream=stream)


def _survey(estimator: Any, large: LargeTable, seed: int, tell: Tell) -> Survey | None:
    """Learn of all rows; None where there are none."""
    if large.is_sparse and not np.isnan(large.source.data).any():
        return _survey_of_sparse(estimator, large, seed)
    survey = None
    for chunk in _told(large, tell, "read"):
        survey = surveyed(estimator, survey, chunk, None, large.n_kept, seed)
    if survey is not None:
        survey.is_sparse = large.is_sparse
    return survey


def _survey_of_sparse(estimator: Any, large: LargeTable, seed: int) -> Survey:
    """Learn of all rows of a sparse matrix at once; only those kept are made dense."""
    X = check_array(large.source, accept_sparse="csr", dtype=FLOATS, input_name="X")
    n_rows, n_columns = X.shape
    generator = np.random.default_rng(seed)
    kept = generator.permutation(n_rows)[: large.n_kept(n_columns)]
    survey = surveyed(estimator, None, X[np.sort(kept)], None, large.n_kept, seed)
    return survey.of_more(n_rows, ColumnStatistics.of_sparse(X))


def read_more(estimator: Any, X: Any, sample_weight: Any, seed: int) -> Reading | None:
    """Learn of one more chunk; return what is to be fitted, if anything is.

    That is all that has been kept where the table has changed since the last fit; the
    estimator's table is then learned anew.
    """
    before = estimator._survey or _survey_of_fit(estimator, seed)
    survey = surveyed(estimator, before, X, sample_weight, n_kept, seed)
    if survey.n_rows < 2:
        raise ValueError(
            f"got a first chunk of {survey.n_rows} row, but expected at least 2."
        )
    anew = before is None or survey.has_changed
    estimator._survey = survey.taken_in() if anew else survey
    estimator._takes_steps = not anew
    has_folds = survey.n_rows <= FEW_ROWS
    if anew:
        return read_survey(estimator, survey, apart=not has_folds)
    return None if has_folds else _steps(estimator, survey, seed)


def _survey_of_fit(estimator: Any, seed: int) -> Survey | None:
    """Return a survey of the rows that a fit at once has kept."""
    if not hasattr(estimator, "_model"):
        return None
    table = estimator._table
    rows, weight = table.kept_rows
    X = table.frames.write(rows)
    return surveyed(estimator, None, X, weight, n_kept, seed).taken_in()


def _steps(estimator: Any, survey: Survey, seed: int) -> Reading:
    """Return the newest rows with as many older ones, and those that judge."""
    frames = estimator._table.frames
    kept, newest = survey.rows(frames), survey.newest(frames)
    judge = judging(kept)
    older, newest = kept[~judge], newest[~judging(newest)]
    generator = np.random.default_rng([seed, survey.n_rows])
    some = generator.permutation(len(older))[: len(newest)]
    rows = np.concatenate([older[some], newest])
    return _encoded(estimator, rows, None, kept[judge][:MOST_JUDGES])


def surveyed(
    estimator: Any,
    survey: Survey | None,
    X: Any,
    sample_weight: Any,
    n_kept: Callable[[int], int],
    seed: int,
) -> Survey:
    """Return a survey that knows of a chunk too; the one before stays as it was."""
    if survey is None:
        frames = TableReader(estimator.categorical_features).fit(X)
        rows = read_rows(estimator, frames, X, reset=True)
        is_sparse = bool(sparse.issparse(X))
        survey = Survey(n_kept(rows.shape[1]), seed, is_sparse=is_sparse)
    else:
        frames = copy(survey.frames)
        frames.levels_ = {}
        if not frames.is_numeric:
            validate_data(estimator, X, reset=False, skip_check_array=True)
            frames.check_dtypes(X, is_fit=False)
            frames.learn_levels(X)
        rows = read_rows(estimator, frames, X)
    weight = read_weight(sample_weight, rows, fewest=0)
    return survey.updated(X, frames, rows, weight)


def read_survey(
    estimator: Any,
    survey: Survey,
    X_val: Any = None,
    *,
    apart: bool = False,
) -> Reading:
    """Learn the table of a survey; return the rows that it has kept.

    Where others will come, those of them that judge are set apart: by what they hold,
    so that they are known again.
    """
    estimator._table = Table(survey.frames)
    rows = survey.rows(estimator._table.frames)
    rows, weight = distinct_rows(rows, survey.weight)
    _learn(estimator, rows, weight, survey.known, is_sparse=survey.is_sparse)
    if not apart or X_val is not None:
        return _encoded(estimator, rows, weight, _rows_val(estimator, X_val))
    judge = judging(rows)
    return _encoded(
        estimator,
        rows[~judge],
        None if weight is None else weight[~judge],
        rows[judge][:MOST_JUDGES],
    )


def _components(
    estimator: Any, large: LargeTable, survey: Survey, tell: Tell
) -> Callable[[int], PrincipalComponents] | None:
    """Compute moments of all rows; None where holes or many columns forbid it."""
    table = estimator._table
    if large.is_sparse and (scaled := table.encode_sparse(large.source)):
        return partial(principal_components_of_sparse, *scaled)
    n_columns = sum(table.encoder.widths)
    if survey.has_holes or n_columns > LARGEST_PRODUCTS:
        return None
    moments: Moments | None = None
    for chunk in _told(large, tell, "computed moments of"):
        rows = read_rows(estimator, table.frames, chunk)
        found = Moments.of(table.encode(rows).matrix)
        moments = found if moments is None else moments.merge(found)
    return None if moments is None else moments.principal_components


def _shuffled(
    estimator: Any, large: LargeTable, apart: bool, generator: np.random.Generator
) -> Iterator[Encoded]:
    """Iterate over encoded chunks, without the rows that judge if they are apart."""
    table = estimator._table
    for chunk in large.shuffled(generator):
        rows = read_rows(estimator, table.frames, chunk)
        if apart:
            rows = rows[~judging(rows)]
        rows = rows[generator.permutation(len(rows))]
        yield table.encode(rows)


def _told(large: LargeTable, tell: Tell, done: str) -> Iterator[Any]:
    """Iterate over chunks, and tell how far that is."""
    n_rows, total, began = 0, large.n_total, time.perf_counter()
    for chunk in large.chunks():
        yield chunk
        n_rows += chunk.shape[0]
        told = f"{done} {n_rows:,} rows"
        if total:
            left = (time.perf_counter() - began) * (total / n_rows - 1)
            told = f"{done} {n_rows:,} of {total:,} rows, {left:.0f} s left"
        tell(told)
