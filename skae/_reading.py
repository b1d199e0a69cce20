"""From what a user gives to the rows that a fit learns from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import chain, islice
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
from .table._parts import Part, check_same
from .table._summaries import ColumnStatistics
from .table._survey import Survey, judging
from .table._table import Table
from .training._folds import MOST_JUDGES
from .training._group import ALONE, Alone

NAMES = ("n_features_in_", "feature_names_in_")
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
    estimator: Any,
    X: Any,
    sample_weight: Any,
    X_val: Any,
    seed: int,
    tell: Tell,
    group: Alone = ALONE,
) -> Reading:
    """Read rows, and learn the table that they are of unless a fit goes on.

    The rows are those of all processes of a group, but for a table that is read by
    chunks and is not sparse: of such each process has its own.
    """
    if (large := as_large(X)) is not None:
        source = _Source(large, tell, group)
        return _read_by_chunks(estimator, source, sample_weight, X_val, seed)
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


@dataclass(frozen=True)
class _Source:
    """Where chunks come from, who is told of them, and who has others.

    Attributes
    ----------
    large : LargeTable
    tell : callable
    group : Alone or Group
        Processes of which each reads its own table, or all the same sparse matrix.
    """

    large: LargeTable
    tell: Tell
    group: Alone

    @property
    def others(self) -> Alone:
        """The processes that have other rows."""
        return ALONE if self.large.is_sparse else self.group

    @property
    def own(self) -> LargeTable:
        """The table, or of a sparse one, which all have, this process' share."""
        if not self.large.is_sparse or self.group is ALONE:
            return self.large
        rows = slice(self.group.rank, None, self.group.n_ranks)
        share = self.large.source.tocsr()[rows]
        return LargeTable(share, n_rows=None, chunk_rows=self.large.chunk_rows)

    def told(self, done: str) -> Iterator[Any]:
        """Iterate over chunks, and tell how far that is."""
        n_rows, total, began = 0, self.large.n_total, time.perf_counter()
        for chunk in self.large.chunks():
            yield chunk
            n_rows += chunk.shape[0]
            told = f"{done} {n_rows:,} rows"
            if total:
                left = (time.perf_counter() - began) * (total / n_rows - 1)
                told = f"{done} {n_rows:,} of {total:,} rows, {left:.0f} s left"
            self.tell(told)


def _read_by_chunks(
    estimator: Any, source: _Source, sample_weight: Any, X_val: Any, seed: int
) -> Reading:
    """Learn what all rows say; keep some of them."""
    large = source.large
    if sample_weight is not None or estimator._continues():
        came = "sample_weight" if sample_weight is not None else "warm_start=True"
        raise ValueError(
            f"got {came} with a table that is read by chunks, but expected neither "
            "weights nor a fit to go on from: use partial_fit, chunk by chunk."
        )
    survey, n_own = _survey(estimator, source, seed)
    if survey is None or survey.n_rows < 2:
        raise ValueError(f"got {large!r} of less than 2 rows, but expected more.")
    apart = large.is_seen_whole and not survey.is_whole
    reading = read_survey(estimator, survey, X_val, apart=apart)
    if survey.is_whole:
        return reading
    stream = None
    if large.is_seen_whole:
        stream = _stream(estimator, source, survey.n_rows, n_own, apart=X_val is None)
    components = _components(estimator, source, survey)
    return replace(reading, principal_components=components, stream=stream)


def _survey(estimator: Any, source: _Source, seed: int) -> tuple[Survey | None, int]:
    """Learn of all rows, None where there are none, and how many are one's own."""
    large, group = source.large, source.others
    if large.is_sparse and not np.isnan(large.source.data).any():
        whole = _survey_of_sparse(estimator, large, seed)
        return whole, whole.n_rows
    survey: Survey | None = None
    seed += group.rank  # other rows have other random keys
    chunks = source.told("read")
    first = list(islice(chunks, 1))
    frames = _agreed(estimator, first, group)
    for chunk in chain(first, chunks):
        survey = surveyed(estimator, survey, chunk, None, large.n_kept, seed, frames)
    if survey is not None:
        survey.is_sparse = large.is_sparse
    n_own = 0 if survey is None else survey.n_rows
    return _of_all(estimator, survey, group), n_own


def _agreed(estimator: Any, first: list[Any], group: Alone) -> TableReader | None:
    """Return what reads the table of all; the first to have a chunk decides."""

    def say() -> tuple[dict[str, Any] | None, TableReader | None]:
        if not first:
            return None, None
        frames = TableReader(estimator.categorical_features).fit(first[0])
        return Part.of(first[0]).form, frames

    said = group.gather(say)
    check_same("X", [form for form, _ in said])
    return next((frames for _, frames in said if frames is not None), None)


def _of_all(estimator: Any, own: Survey | None, group: Alone) -> Survey | None:
    """Merge the surveys of all processes, each of which gives its share of rows."""
    n_rows = sum(group.gather(lambda: 0 if own is None else own.n_rows))

    def give() -> tuple[Survey, dict[str, Any]] | None:
        if own is None:
            return None
        return own.thinned(n_rows), {
            k: v for k, v in vars(estimator).items() if k in NAMES
        }

    given = [pair for pair in group.gather(give) if pair is not None]
    if not given:
        return None
    vars(estimator).update(given[0][1])
    return reduce(Survey.merged, [survey for survey, _ in given])


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
    frames: TableReader | None = None,
) -> Survey:
    """Return a survey that knows of a chunk too; the one before stays as it was.

    The first chunk decides what reads the table, unless that is known.
    """
    if survey is None:
        frames = frames or TableReader(estimator.categorical_features).fit(X)
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
    estimator: Any, source: _Source, survey: Survey
) -> Callable[[int], PrincipalComponents] | None:
    """Compute moments of all rows; None where holes or many columns forbid it."""
    table = estimator._table
    large = source.large
    if large.is_sparse and (scaled := table.encode_sparse(large.source)):
        return partial(principal_components_of_sparse, *scaled)
    n_columns = sum(table.encoder.widths)
    if survey.has_holes or n_columns > LARGEST_PRODUCTS:
        return None

    def compute() -> Moments | None:
        chunks = source.told("computed moments of")
        rows = (read_rows(estimator, table.frames, chunk) for chunk in chunks)
        found = (Moments.of(table.encode(some).matrix) for some in rows)
        first = next(found, None)
        return None if first is None else reduce(Moments.merge, found, first)

    found = [moments for moments in source.others.gather(compute) if moments]
    return reduce(Moments.merge, found).principal_components


def _stream(
    estimator: Any, source: _Source, n_rows: int, n_own: int, *, apart: bool
) -> Stream:
    """Let rows come in each epoch; those that judge not, if they are apart."""
    own, is_shared = source.large, source.group is not ALONE
    if estimator.solver != "lbfgs":
        own = source.own
    elif is_shared and not own.is_sparse:
        raise ValueError(
            "got solver='lbfgs' with n_rows=None in several processes, but expected "
            "solver='adam', or some rows: a line search needs all rows at hand."
        )
    n_own = own.source.shape[0] if own.is_sparse else n_own
    return Stream(partial(_shuffled, estimator, own, apart), n_rows, n_own)


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
