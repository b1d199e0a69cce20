"""What is about a run and not about the model: many processes, and checkpoints."""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist

from ._schema import Encoded
from ._state import VERSION, all_or_nothing
from ._torch import derive_seeds, resolve_device
from .table._large import LargeTable, as_large
from .table._parts import Part, check_same
from .training._checkpoint import Checkpoint, Files
from .training._group import ALONE, Alone, Group

MOST_BYTES = 2**29  # of a table that every process holds whole
PLAIN = (str, Real, type(None), np.generic, np.dtype, torch.device)
SAID_OF_A_RUN = ("verbose", "device")  # and not of what is fitted
THINNED = (
    "The table has {} bytes in all processes together: {:.2g} of its rows, drawn at "
    "random, are fitted. Raise max_bytes of data_parallel if each process has memory "
    "for several times as much."
)
Fit = TypeVar("Fit", bound=Callable[..., Any])


@dataclass(frozen=True)
class Run:
    """What fits share with other processes, and where they keep their state.

    Attributes
    ----------
    group : Alone or Group
    max_bytes : int
        Of a table that every process holds.
    files : Files or None
        Of checkpoints.
    every : float
        Seconds from one checkpoint to the next, at least.
    identity : dict
        What tells one fit from another, by what that is.
    """

    group: Alone = ALONE
    max_bytes: int = MOST_BYTES
    files: Files | None = None
    every: float = 60.0
    identity: dict[str, Any] | None = None

    def device(self, wanted: str | torch.device) -> torch.device:
        """Resolve a device; what processes share names the current one of each."""
        device = resolve_device(wanted)
        return device if self.group is ALONE else torch.device(device.type)

    def seeds(self, random_state: Any, *purposes: str) -> dict[str, int]:
        """Derive seeds, those of the first process; of None those in the file."""

        def derive() -> dict[str, int]:
            if random_state is None and self.files is not None:
                content = self.files.read()
                if content is not None:
                    found = torch.load(io.BytesIO(content), "cpu", weights_only=True)
                    return found["identity"]["seeds"]
            return derive_seeds(random_state, *purposes)

        return self.group.first(derive)

    def of(
        self,
        estimator: Any,
        encoded: Encoded,
        seeds: dict[str, int],
    ) -> Run:
        """Return the run of one fit, which its checkpoints know."""
        if self.files is None:
            return self
        begun = getattr(estimator, "loss_curve_", None) if estimator.warm_start else ()
        identity = {
            "rows": _digest(
                encoded.matrix, encoded.cells_seen, encoded.relative_weight
            ),
            "parameters": _digest(repr((_parameters(estimator), begun))),
            "versions": f"skae {VERSION}, torch {torch.__version__}",
            "seeds": seeds,
        }
        return replace(self, identity=identity)

    def checkpoint(self, generators: list[torch.Generator]) -> Checkpoint | None:
        """Make the checkpoint of a fit that draws from some generators."""
        if self.files is None or self.identity is None:
            return None
        return Checkpoint(self.files, self.every, self.identity, generators, self.group)


_CURRENT: ContextVar[Run] = ContextVar("skae_run")


def current_run() -> Run:
    """Return what the contexts around say of a run."""
    return _CURRENT.get(Run())


def data_parallel(
    group: Any = None, *, max_bytes: int = MOST_BYTES
) -> AbstractContextManager[None]:
    """Fit one estimator in several processes, each of which has a share of the rows.

    Inside the block, ``fit`` takes the rows of its own process, and each process ends
    with the same fitted estimator, equal within float error to that of one process on
    all rows, those of the first process first. Everything else that `fit` is given is
    the same in all processes, seeds of None being those of the first. Of each batch
    every process computes the gradient of its part, however the rows were spread; what
    is in closed form, and tables of up to 1,500 rows that are judged by folds, or those
    fitted with ``solver="lbfgs"``, gain nothing from more processes.

    A table larger than memory stays where it is: where a process passes a `LargeTable`,
    a path, a Dask collection or a long `numpy.memmap`, each reads its own rows by
    chunks. Scales, levels, ranges and the start are those of all rows, exactly; of the
    rows that are kept each gives its share, and no others travel. With ``n_rows=None``
    the networks see every row, each process' own.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup, default=None
        The processes; None for all of `torch.distributed.init_process_group`. The
        backend is "gloo" for the CPU; with "nccl", call ``torch.cuda.set_device``
        first, and fit with ``device="cuda"``.
    max_bytes : int, default=2**29
        Of a whole table that is not read by chunks, or is sparse: every process comes
        to hold it, and fits in several times that memory. Of a larger one each process
        gives a share of its rows, drawn at random, with a warning.

    Returns
    -------
    context : context manager
        Inside it, fits are those of all processes.

    Raises
    ------
    RuntimeError
        If there is no such group. In ``fit``, if another process fails or ends: what
        went wrong there is said, and no process is left waiting longer than the
        ``timeout`` of ``init_process_group``. Every estimator is then as it was.
    ValueError
        In ``fit``, if processes have tables of unlike columns, containers or `n_rows`,
        or parameters that are not the same; if ``solver="lbfgs"`` is to see every row
        of a table that each reads by chunks.

    Warns
    -----
    UserWarning
        In ``fit``, if the table is larger than `max_bytes`.

    See Also
    --------
    checkpoint : Go on with a fit that was killed.

    Notes
    -----
    A process without rows passes None, or a table of no rows. One that has few rows at
    hand may pass them as they are where others read chunks. The first process with rows
    says which columns have levels. Who has read its rows waits for those that have
    more: let the `timeout` of ``init_process_group`` be longer than that. What networks
    see of chunks are not the batches of one process, so that the curves of two are
    alike, but not equal.

    Weights and validation rows are spread as the rows are. Ctrl-C in any process, or a
    callback that stops, ends training in all of them at the same epoch; the first
    process alone prints. What layers draw themselves (dropout), and the statistics of
    BatchNorm in networks of your own, are those of each process, so that with these the
    curves are not those of one process.

    Searches score candidates by the rows of each process, which may then choose
    differently: do not search inside. Within Dask's workers it works alike, where each
    calls ``init_process_group`` with the address of one of them.

    Examples
    --------
    Here there is one process. ``torchrun --nproc-per-node=2 script.py`` runs a script
    in two, where ``dist.init_process_group("gloo")`` needs no more arguments.

    >>> import numpy as np
    >>> import torch.distributed as dist
    >>> import skae
    >>> one = {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    >>> dist.init_process_group("gloo", **one)
    >>> X = np.random.default_rng(dist.get_rank()).normal(size=(50, 4))
    >>> reduce = skae.AutoencoderTransformer(2, random_state=0)
    >>> with skae.data_parallel(): codes = reduce.fit(X).transform(X)
    >>> dist.destroy_process_group()
    >>> codes.shape
    (50, 2)
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_rank(group) < 0:
        raise RuntimeError(
            "got data_parallel() in a process of no such group, but expected "
            "torch.distributed.init_process_group() before it, in a script that "
            "torchrun starts."
        )
    if not isinstance(max_bytes, Integral) or max_bytes < 1:
        raise ValueError(f"got max_bytes={max_bytes!r}, but expected 1 or more.")
    members = Group(group) if dist.get_world_size(group) > 1 else ALONE
    return _running(group=members, max_bytes=int(max_bytes))


def checkpoint(path: Any, *, every: float = 60.0) -> AbstractContextManager[None]:
    """Let a fit that was killed go on from where its last checkpoint was written.

    Run the same script again: a ``fit`` inside the block that finds a checkpoint of
    itself goes on from there, on the CPU to the same bits as if it had never been
    killed. The file is removed when the fit is done, and stays where Ctrl-C has ended
    it.

    Parameters
    ----------
    path : str or path-like
        Of the file, which is of one fit at a time. The checkpoint before is kept beside
        it, with the ending ".before", and used where the last one was cut short.
    every : float, default=60.0
        Seconds from one checkpoint to the next, at least; they are written at the ends
        of epochs, and a fit that takes less writes none.

    Returns
    -------
    context : context manager
        Inside it, fits write checkpoints, and go on from them.

    Raises
    ------
    ValueError
        If `every` is negative, or the folder does not exist. In ``fit``, if the file is
        no checkpoint of skae, or that of a fit of another table, with other parameters
        or by another version.

    Warns
    -----
    UserWarning
        In ``fit``, if a file was cut short, or cannot be written; training goes on.

    See Also
    --------
    data_parallel : Fit in several processes. The first of them writes and reads.

    Notes
    -----
    What the phases before and after training compute is computed again. Callbacks are
    told of the epochs that are still to come alone. The file holds tensors and plain
    values, so that a strange one runs no code.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import skae
    >>> folder = TemporaryDirectory()
    >>> X = np.random.default_rng(0).normal(size=(50, 4))
    >>> reduce = skae.AutoencoderTransformer(2, random_state=0)
    >>> with skae.checkpoint(f"{folder.name}/fit.ckpt"): codes = reduce.fit_transform(X)
    >>> folder.cleanup()
    >>> codes.shape
    (50, 2)
    """
    if not isinstance(every, Real) or not every >= 0:
        raise ValueError(f"got every={every!r}, but expected 0 seconds or more.")
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise ValueError(
            f"got path={str(path)!r}, but expected a file in a folder that exists."
        )
    return _running(files=Files(path), every=float(every))


@contextmanager
def _running(**changes: Any) -> Iterator[None]:
    token = _CURRENT.set(replace(current_run(), **changes))
    try:
        yield
    finally:
        _CURRENT.reset(token)


# ------------------------------------------------------------------- what fits do


def shared(fit: Fit) -> Fit:
    """Let a fit be that of all rows of a group of processes, and clear up after it."""

    @wraps(fit)
    def of_run(
        self: Any,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        X_val: Any = None,
    ) -> Any:
        run = current_run()
        if run.group is ALONE:
            fit(self, X, y, sample_weight=sample_weight, X_val=X_val)
        else:
            with all_or_nothing(self):
                _fit_together(run, fit, self, X, sample_weight, X_val)
        if run.files is not None and run.group.rank == 0:
            run.files.done()
        return self

    return cast("Fit", of_run)


def _fit_together(
    run: Run, fit: Callable[..., Any], estimator: Any, X: Any, weight: Any, X_val: Any
) -> None:
    """Fit all rows in every process; what the first one has learned counts."""
    with run.group.together():
        rows, judges = _gathered(run, estimator, X, weight, X_val)
        fit(estimator, rows.X, sample_weight=rows.weight, X_val=judges.X)
    learned = run.group.first(lambda: pickle.dumps(_learned(estimator)))
    vars(estimator).update(pickle.loads(learned))  # noqa: S301


def _gathered(
    run: Run, estimator: Any, X: Any, weight: Any, X_val: Any
) -> tuple[Part, Part]:
    """Return the rows of all processes, and those to validate on.

    Where a table is read by chunks each process keeps its own; but what is sparse is
    told in whole.
    """
    large = as_large(X)
    if large is not None and large.is_sparse:
        X, large = large.source, None
    parts: list[Part] = []

    def say() -> tuple[dict[str, Any], list[int]]:
        own = Part() if large is not None else Part.of(X, weight)
        parts.extend([own, Part.of(X_val)])
        same = {
            "parameters": _parameters(estimator) | {"max_bytes": run.max_bytes},
            "X_val": parts[1].form,
            "X": own.form,
            "LargeTable": None if large is None else {"n_rows": large.n_rows},
        }
        return same, [part.n_bytes for part in parts]

    said = run.group.gather(say)
    forms = {name: [same[name] for same, _ in said] for name in said[0][0]}
    n_bytes = [sum(sizes) for sizes in zip(*(sizes for _, sizes in said), strict=True)]
    sizes = [form["n_rows"] for form in forms["LargeTable"] if form is not None]
    if sizes:  # forms of chunks are compared where these are read
        del forms["X"]
    for name, values in forms.items():
        check_same(name, values)
    judges = _whole(run, parts[1], n_bytes[1])
    if sizes:
        large = large or _chunk(parts[0].X, sizes[0])
        return Part(large, weight), judges
    if all(form is None for form in forms["X"]):
        raise ValueError("got no rows in any process, but expected some.")
    return _whole(run, parts[0], n_bytes[0]), judges


def _chunk(X: Any, n_rows: int | None) -> LargeTable:
    """Make a table of a single chunk, or of none."""
    chunks = [] if X is None else [X]
    return LargeTable(lambda: iter(chunks), n_rows=n_rows)


def _whole(run: Run, part: Part, n_bytes: int) -> Part:
    """Put the parts of all processes together, or a share of them."""
    share = min(1.0, run.max_bytes / max(n_bytes, 1))
    if share < 1 and run.group.rank == 0:
        warnings.warn(THINNED.format(n_bytes, share), UserWarning, stacklevel=7)
    thin = run.group.gather(lambda: pickle.dumps(part.thinned(share, run.group.rank)))
    return Part.joined([pickle.loads(one) for one in thin])  # noqa: S301


def _parameters(estimator: Any) -> dict[str, str]:
    """Say what an estimator is, so that equal ones say the same in any process."""
    params = estimator.get_params(deep=False)
    said = {k: _said(v) for k, v in params.items() if k not in SAID_OF_A_RUN}
    is_fitted = estimator.warm_start and hasattr(estimator, "loss_curve_")
    return {"class": type(estimator).__name__, "fitted": str(is_fitted)} | said


def _said(value: Any) -> str:
    """Write plain values; of others, which may hold addresses, the type."""
    if isinstance(value, dict):
        return repr({key: _said(part) for key, part in value.items()})
    if isinstance(value, list | tuple | np.ndarray):
        return repr([_said(part) for part in value])
    return repr(value) if isinstance(value, PLAIN) else type(value).__qualname__


def _learned(estimator: Any) -> dict[str, Any]:
    """Return all that a fit has set."""
    params = estimator.get_params(deep=False)
    state = vars(estimator).items()
    return {k: v for k, v in state if k not in params and "callback" not in k}


def _digest(*parts: np.ndarray | str) -> str:
    """Return a short text that differs where the parts do."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
        else:
            digest.update(repr((part.shape, str(part.dtype))).encode())
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
