"""Tables that are read a chunk at a time, from whatever gives them again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import sparse

from ._containers import as_frame, is_collection

CHUNK_ROWS = 65_536
CHUNK_BYTES = 64_000_000  # of a chunk's cells, as doubles
MOST_ROWS = 1_000_000  # that networks learn from, where they do not see them all
KEPT_ROWS = 200_000  # of chunks that come but once, and of rows that judge
KEPT_BYTES = 100_000_000  # of the rows kept, as doubles: a fit takes ten times that
FEWEST_KEPT = 1_250  # of wide tables


class LargeTable:
    """A table that is read a chunk at a time, however long it is.

    `fit` takes one wherever it takes a table, and reads it in two passes: the first
    learns scales, levels and ranges and keeps some rows, the second computes principal
    components, both exactly. The networks then learn from the rows kept, a million at
    most: a small network has learned nearly all it can long before. With
    ``n_rows=None`` it sees every row, in shuffled order.

    Parameters
    ----------
    source : path-like, array, sparse matrix, Dask collection or callable
        A Parquet file or a folder of such (which needs pyarrow), anything with rows
        that can be cut out by a slice, such as a `numpy.memmap`, a SciPy sparse matrix
        or array, an array or dataframe of Dask, or a callable that returns an iterator
        over chunks of rows, the same ones each time.
    n_rows : int or None, default=1_000_000
        Rows to learn the networks from, drawn at random; fewer where they have so many
        columns that they would take more than 100 MB. None is every row, which takes
        a pass over the table for each epoch.
    chunk_rows : int, default=65_536
        Rows read at a time; fewer where there are many columns. Chunks of a callable
        or of Dask are as they come.
    columns : list of str, default=None
        Columns of a Parquet table to read. None is all of them.

    Raises
    ------
    ValueError
        If the path does not exist, or a parameter is not as expected.
    ImportError
        If pyarrow is missing and the source is a path.

    See Also
    --------
    AutoencoderTransformer.partial_fit : For chunks that come only once.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderTransformer, LargeTable
    >>> days = [np.random.default_rng(day).normal(size=(500, 3)) for day in range(7)]
    >>> table = LargeTable(lambda: iter(days))
    >>> model = AutoencoderTransformer(1, max_iter=0).fit(table)
    >>> model.transform(table).shape
    (3500, 1)
    """

    def __init__(
        self,
        source: Any,
        *,
        n_rows: int | None = MOST_ROWS,
        chunk_rows: int = CHUNK_ROWS,
        columns: list[str] | None = None,
    ) -> None:
        for name, value in {"n_rows": n_rows, "chunk_rows": chunk_rows}.items():
            if value is not None and not (isinstance(value, Integral) and value > 1):
                raise ValueError(
                    f"got {name}={value!r}, but expected an integer of at least 2."
                )
        self.source = source
        self.n_rows = n_rows
        self.chunk_rows = chunk_rows
        self.columns = columns
        if not (self._is_path or callable(source) or hasattr(source, "shape")):
            raise ValueError(
                f"got source={source!r}, but expected a path of Parquet, an array or "
                "sparse matrix, a Dask collection, or a callable that returns chunks."
            )
        if self._is_path and not Path(source).exists():
            raise ValueError(
                f"got source={str(source)!r}, but expected a Parquet file or a folder "
                "of such: there is nothing there."
            )

    def __repr__(self) -> str:
        shown = f"{self.source!r}" if self._is_path else type(self.source).__name__
        return f"LargeTable({shown}, n_rows={self.n_rows})"

    # ------------------------------------------------------------------- reading

    def chunks(self) -> Iterator[Any]:
        """Iterate over the rows in their order.

        Yields
        ------
        chunk : array or dataframe of shape (n_chunk_rows, n_features)
            Of Parquet a pyarrow table; of a sparse matrix a dense array.
        """
        for part in self._parts:
            yield from self._of_part(part)

    def shuffled(self, generator: np.random.Generator) -> Iterator[Any]:
        """Iterate over the chunks in random order, as far as the source allows it.

        Parameters
        ----------
        generator : numpy.random.Generator
            That draws the order.

        Yields
        ------
        chunk : array or dataframe of shape (n_chunk_rows, n_features)
        """
        parts = self._parts
        for place in generator.permutation(len(parts)):
            yield from self._of_part(parts[place])

    def _of_part(self, part: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        for chunk in part():
            if chunk.shape[0]:
                yield chunk

    def n_kept(self, n_features: int) -> int:
        """Return how many rows are kept of a table of so many columns.

        Parameters
        ----------
        n_features : int
            Number of columns.

        Returns
        -------
        n_rows : int
            At most so many.
        """
        wanted = self.n_rows if self.n_rows and not self.is_sparse else KEPT_ROWS
        return min(wanted, _room(n_features))

    @property
    def is_seen_whole(self) -> bool:
        """Whether the networks are to see every row: of sparse tables few are kept."""
        return self.n_rows is None or self.is_sparse

    @property
    def is_sparse(self) -> bool:
        return bool(sparse.issparse(self.source))

    @cached_property
    def n_total(self) -> int | None:
        """Number of rows, None where only reading tells."""
        if self._is_path:
            return int(self._dataset.count_rows())
        n_rows: Any = getattr(self.source, "shape", (None,))[0]
        return int(n_rows) if isinstance(n_rows, int | np.integer) else None

    @property
    def _is_path(self) -> bool:
        return isinstance(self.source, str | PathLike)

    @property
    def _parts(self) -> list[Callable[[], Iterator[Any]]]:
        """What can be read in any order, each an iterator over chunks once called."""
        if self._is_path:
            groups = [
                group
                for fragment in self._dataset.get_fragments()
                for group in fragment.split_by_row_group()
            ]
            return [partial(self._of_row_group, group) for group in groups]
        if is_collection(self.source):
            return [partial(_computed, part) for part in _partitions(self.source)]
        if callable(self.source):
            return [self.source]
        source = self.source.tocsr() if sparse.issparse(self.source) else self.source
        n_rows = self._chunk_rows(source.shape[1])
        starts = range(0, source.shape[0], n_rows)
        return [partial(_sliced, source, start, start + n_rows) for start in starts]

    def _chunk_rows(self, n_features: int) -> int:
        room = CHUNK_BYTES // (8 * max(n_features, 1))
        return max(min(self.chunk_rows, room), 1)

    # ------------------------------------------------------------------- Parquet

    @property
    def _dataset(self) -> Any:
        try:
            from pyarrow import dataset
        except ImportError as error:
            raise ImportError(
                "got a path, but pyarrow, which reads Parquet, is not installed: "
                "`pip install pyarrow`."
            ) from error
        return dataset.dataset(self.source, format="parquet")

    def _of_row_group(self, group: Any) -> Iterator[Any]:
        import pyarrow

        names = self.columns or group.physical_schema.names
        batches = group.to_batches(
            columns=names,
            batch_size=self._chunk_rows(len(names)),
            batch_readahead=1,
            fragment_readahead=1,
        )
        for batch in batches:
            yield pyarrow.Table.from_batches([batch])

    def apply(self, function: Callable[[Any], Any], path: str | PathLike[str]) -> Self:
        """Apply a verb of a fitted model to every chunk, and write what it returns.

        Parameters
        ----------
        function : callable
            Takes a chunk and returns an array or a dataframe with a row for each of its
            rows, such as `model.transform` or `model.impute`.
        path : path-like
            Parquet file to write. It is there only once it is whole.

        Returns
        -------
        table : LargeTable
            What has been written.

        Raises
        ------
        ValueError
            If the table has no rows.

        Examples
        --------
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from skae import AutoencoderTransformer, LargeTable
        >>> X = np.random.default_rng(0).normal(size=(500, 4))
        >>> model = AutoencoderTransformer(2, max_iter=0).fit(X)
        >>> folder = TemporaryDirectory()
        >>> path = Path(folder.name) / "codes.parquet"
        >>> LargeTable(X).apply(model.transform, path).n_total
        500
        >>> folder.cleanup()
        """
        from pyarrow import parquet

        target = Path(path)
        unfinished = target.with_name(target.name + ".unfinished")
        writer = None
        try:
            for chunk in self.chunks():
                table = _as_arrow(function(chunk), function)
                writer = writer or parquet.ParquetWriter(unfinished, table.schema)
                writer.write_table(table.cast(writer.schema))
            if writer is None:
                raise ValueError("got a table without rows, but expected at least one.")
            writer.close()
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        return type(self)(target, n_rows=self.n_rows, chunk_rows=self.chunk_rows)


def n_kept(n_features: int) -> int:
    """Return how many rows of so many columns are kept of chunks that come once."""
    return min(KEPT_ROWS, _room(n_features))


def _room(n_features: int) -> int:
    return max(KEPT_BYTES // (8 * max(n_features, 1)), FEWEST_KEPT)


def as_large(X: Any) -> LargeTable | None:
    """Return a table that is to be read by chunks; None for one that is at hand.

    Paths, Dask collections, and arrays that are sparse or on disk and have more rows
    than are kept.
    """
    if isinstance(X, LargeTable):
        return X
    if isinstance(X, str | PathLike) or is_collection(X):
        return LargeTable(X)
    is_apart = sparse.issparse(X) or isinstance(X, np.memmap)
    if is_apart and X.ndim == 2 and X.shape[0] > n_kept(X.shape[1]):
        return LargeTable(X)
    return None


def _partitions(collection: Any) -> list[Any]:
    if hasattr(collection, "rechunk"):
        collection = collection.rechunk({1: -1})
    return np.ravel(collection.to_delayed()).tolist()


def _computed(part: Any) -> Iterator[Any]:
    yield part.compute()


def _sliced(source: Any, start: int, stop: int) -> Iterator[np.ndarray]:
    rows = source[start:stop]
    yield rows.toarray() if sparse.issparse(rows) else np.array(rows)


def _as_arrow(rows: Any, function: Callable[[Any], Any]) -> Any:
    """Return what a verb has returned as a pyarrow table."""
    import pyarrow

    if (frame := as_frame(rows)) is not None:
        return frame.to_arrow()
    rows = np.asarray(rows)
    rows = rows[:, None] if rows.ndim == 1 else rows
    names = [f"x{i}" for i in range(rows.shape[1])]
    model = getattr(function, "__self__", None)
    if getattr(function, "__name__", "") == "transform" and model is not None:
        names = list(model.get_feature_names_out())
    return pyarrow.table(list(rows.T), names=names)
