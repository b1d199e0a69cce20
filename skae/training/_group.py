"""One process or many that train one model: sum, agree, fail together.

A process that fails while others compute must not leave them waiting. Before and after
training all wait for each other in the same kind of message, a text of what went wrong
or none; while training, in sums of one length, the last number of which says whether
somebody has failed. So whoever fails knows what the others wait for.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ._rows import EVALUATION_ROWS, Rows, StreamedRows

N_COUNTS = 2  # of a batch in a stream: rows, and who has more
SEEDS = 2**24  # that messages in single precision tell apart
Value = TypeVar("Value")


class PartedError(RuntimeError):
    """Other processes have failed, or cannot be reached."""


class LostError(PartedError):
    """Other processes cannot be reached, and no message is to be sent any more."""


class ToldError(PartedError):
    """Other processes have failed, which all know."""


class AgreedInterrupt(KeyboardInterrupt):
    """Ctrl-C in any process, told to all at the same epoch."""


# ------------------------------------------------------------------ one that is alone


class Alone:
    """A process that agrees with itself."""

    rank = 0
    n_ranks = 1

    def gather(self, make: Callable[[], Value]) -> list[Value]:
        """Return what every process makes."""
        return [make()]

    def first(self, make: Callable[[], Value]) -> Value:
        """Return what the first process makes."""
        return make()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Fail in the block if any process does."""
        yield

    def channel(self, vector: Tensor, n_judges: int) -> Solo:
        """Open what gradients of the size of a vector are summed by."""
        return SOLO


ALONE = Alone()


class Solo:
    """A training that shares nothing."""

    interrupt: type[KeyboardInterrupt] = KeyboardInterrupt

    @contextmanager
    def open(self) -> Iterator[None]:
        """Train in the block."""
        yield

    def align(self, vector: Tensor) -> None:
        """Give a vector the values that it has in the first process."""

    def share(self, rows: Rows) -> Rows:
        """Return rows of which each process computes a part."""
        return rows

    def stops(self, ask: Callable[[], bool]) -> bool:
        """Tell whether anybody stops here."""
        return ask()


SOLO = Solo()

# ------------------------------------------------------------------------------ many


class Group(Alone):
    """Processes of `torch.distributed` that fit one estimator together.

    Parameters
    ----------
    group : ProcessGroup or None
        None for all processes.
    """

    def __init__(self, group: Any = None) -> None:
        self.group = group
        self.rank = dist.get_rank(group)
        self.n_ranks = dist.get_world_size(group)
        self.told: BaseException | None = None  # what went wrong here, which all know

    def gather(self, make: Callable[[], Value]) -> list[Value]:
        with self.together():
            value = make()
        return self._gathered(value)

    def first(self, make: Callable[[], Value]) -> Value:
        with self.together():
            value = make() if self.rank == 0 else None
        values: list[Any] = [value]
        with _lost_is_told():
            dist.broadcast_object_list(values, group=self.group, group_src=0)
        return values[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except (LostError, ToldError):
            raise
        except BaseException as error:
            if error is not self.told:
                self.told = error
                self._tell(error)
            raise
        self._tell(None)

    def channel(self, vector: Tensor, n_judges: int) -> Solo:
        return Channel(self, vector, n_judges)

    def _gathered(self, value: Value) -> list[Value]:
        values: list[Any] = [None] * self.n_ranks
        with _lost_is_told():
            dist.all_gather_object(values, value, group=self.group)
        return values

    def _tell(self, error: BaseException | None) -> None:
        """Tell what went wrong here; raise what went wrong elsewhere."""
        text = None if error is None else f"{type(error).__name__}: {error}"
        texts = self._gathered(text)
        followed = isinstance(error, PartedError)
        wrong = [f"process {k}: {t}" for k, t in enumerate(texts) if t]
        if wrong and (followed or error is None):
            origins = [line for line in wrong if PartedError.__name__ not in line]
            raise ToldError(
                "got an error in another process of the group, but expected all to "
                f"fit: {'; '.join(origins or wrong)}"
            ) from None


class Channel(Solo):
    """Sums over processes while training, in messages of one length.

    Parameters
    ----------
    group : Group
    vector : Tensor
        Of all weights; gradients have its length.
    n_judges : int
        Number of losses of judges.
    """

    interrupt = AgreedInterrupt

    def __init__(self, group: Group, vector: Tensor, n_judges: int) -> None:
        self.group = group
        self.rank, self.n_ranks = group.rank, group.n_ranks
        length = max(len(vector) + 1, n_judges, 2) + 1  # the last one: who has failed
        device = _device_of(group.group, vector.device)
        self.message = torch.zeros(length, dtype=vector.dtype, device=device)
        self.pressed = threading.Event()
        self.goes_on = False  # whether rows are to come in this epoch, to anybody

    @contextmanager
    def open(self) -> Iterator[None]:
        with self.group.together():  # whoever failed before is not waited for
            pass
        try:
            with _noticed_interrupts(self.pressed):
                yield
            self._send()  # nobody leaves before all have ended
        except PartedError:
            raise
        except BaseException:
            self._fail()
            raise

    def align(self, vector: Tensor) -> None:
        vector.copy_(self.of_first(vector))

    def share(self, rows: Rows) -> Rows:
        shared = vars(rows)
        if not isinstance(rows, StreamedRows):
            return SharedRows(**shared, channel=self)
        self.message = self.message.new_zeros(len(self.message) + N_COUNTS)
        own = shared | {"index": rows.index[self.rank :: self.n_ranks]}
        return SharedStream(**own, channel=self)

    def merge(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """Sum the gradient in place; return the sum of the losses."""
        summed = self.sum(gradient, loss.reshape(1))
        gradient.copy_(summed[:-1])
        return summed[-1].to(loss.device)

    def average(
        self, loss: Tensor, gradient: Tensor, n_own: int, *, goes_on: bool
    ) -> tuple[Tensor, int]:
        """Average sums over the rows of all; return the loss, and how many these are.

        Whether rows are to come to anybody is then known.
        """
        counts = torch.tensor([n_own, goes_on], dtype=gradient.dtype)
        summed = self.sum(gradient, loss.reshape(1), counts)
        n_rows, n_going_on = map(int, summed[-N_COUNTS:].tolist())
        self.goes_on = n_going_on > 0
        gradient.copy_(summed[: -1 - N_COUNTS] / n_rows)
        return (summed[-1 - N_COUNTS] / n_rows).to(loss.device), n_rows

    def stops(self, ask: Callable[[], bool]) -> bool:
        stop = False
        try:
            stop = ask()
        except KeyboardInterrupt:
            self.pressed.set()
        mine = torch.tensor([float(stop), float(self.pressed.is_set())])
        stops, presses = self.sum(mine).tolist()
        if presses:
            raise AgreedInterrupt
        return bool(stops)

    def sum(self, *parts: Tensor) -> Tensor:
        """Sum numbers over the processes."""
        start = 0
        for part in parts:
            self.message[start : start + len(part)] = part.detach()
            start += len(part)
        self._send(start)
        return self.message[:start].to(parts[0].device, parts[0].dtype, copy=True)

    def of_first(self, tensor: Tensor) -> Tensor:
        """Return the numbers of the first process."""
        mine = tensor.detach().reshape(-1)
        mine = mine if self.rank == 0 else torch.zeros_like(mine)
        return self.sum(mine).reshape(tensor.shape)

    def _send(self, n_numbers: int = 0, failures: float = 0.0) -> None:
        self.message[n_numbers:].zero_()
        self.message[-1] = failures
        with _lost_is_told():
            dist.all_reduce(self.message, group=self.group.group)
        if self.message[-1] != failures:
            raise PartedError("training was given up.")

    def _fail(self) -> None:
        try:
            self._send(failures=1.0)
        except PartedError:  # they know
            return


@dataclass(frozen=True)
class SharedRows(Rows):
    """Rows of which each process computes a part.

    What is drawn at random is drawn for all of them by every process, so that the draws
    of a row are those that it has where one process computes all.

    Attributes
    ----------
    channel : Channel
    """

    channel: Channel = field(kw_only=True)

    def loss(self, losses: Callable[..., Tensor]) -> Tensor:
        """Return the part of the mean loss that is of the rows of this process."""
        own, n_counted = self._own(len(self))
        found = losses(self.values(), own)[..., :n_counted]
        index = self.index[own][:n_counted]
        if self.weight is not None:
            found = found * self.weight[..., index]
        return found.sum() / (self.n_members * len(self))

    def merge(self, loss: Tensor, gradient: Tensor) -> tuple[Tensor, int]:
        return self.channel.merge(loss, gradient), len(self)

    def mean(self, losses: Tensor) -> Tensor:
        """Average losses of all these rows, as the first process does."""
        return self.channel.of_first(super().mean(losses))

    def evaluate(self, loss: Callable[..., Tensor]) -> Tensor:
        parts = self.index.split(EVALUATION_ROWS)
        return self.channel.sum(torch.cat([self._losses(p, loss) for p in parts]))

    def _losses(self, part: Tensor, loss: Callable[..., Tensor]) -> Tensor:
        """Compute the losses of rows of this process; those of others are zero."""
        own, n_counted = self._own(len(part))
        found = loss(self.cells.index_select(0, part), own)
        losses = found.new_zeros(len(part))
        losses[own][:n_counted] = found[:n_counted]
        return losses

    def _own(self, n_rows: int) -> tuple[slice, int]:
        """Return which rows to compute, a row at least, and how many of them count."""
        rank, n_ranks = self.channel.rank, self.channel.n_ranks
        start, stop = rank * n_rows // n_ranks, (rank + 1) * n_rows // n_ranks
        return slice(start, max(stop, start + 1)), stop - start


@dataclass(frozen=True, kw_only=True)
class SharedStream(StreamedRows):
    """Rows that come in chunks, to each process its own.

    All take the same number of steps in an epoch: each has batches of as many rows as
    are its share of the table, and where its rows have ended it adds none to a step.
    What an epoch draws hangs on one number of the first process, so that its state is
    that of all.

    Attributes
    ----------
    channel : Channel
    """

    channel: Channel

    def batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Rows]:
        """Cut the rows of this process into its parts of the batches of all."""
        seed = torch.randint(SEEDS, (1,), generator=generator, device=self.index.device)
        seed = self.channel.of_first(seed.to(torch.float32))
        generator.manual_seed(int(seed) * self.channel.n_ranks + self.channel.rank)
        size = math.ceil(batch_size * self.n_own / self.n_rows)
        own = super().batches(max(size, 1), generator)
        part = next(own, None)
        self.channel.goes_on = True
        while self.channel.goes_on:
            following = next(own, None)
            cells = self.cells if part is None else part.cells
            index = self.index[:0] if part is None else part.index
            goes_on = following is not None
            yield SharedPart(cells, index, channel=self.channel, goes_on=goes_on)
            part = following


@dataclass(frozen=True, kw_only=True)
class SharedPart(Rows):
    """Rows of one process, or none, in a batch to which every process adds some.

    Attributes
    ----------
    channel : Channel
    goes_on : bool
        Whether more are to come to this process in this epoch.
    """

    channel: Channel
    goes_on: bool

    def loss(self, losses: Callable[..., Tensor]) -> Tensor:
        """Return the sum of the losses."""
        if len(self) == 0:
            return torch.zeros((), device=self.index.device, requires_grad=True)
        return losses(self.values()).sum()

    def merge(self, loss: Tensor, gradient: Tensor) -> tuple[Tensor, int]:
        return self.channel.average(loss, gradient, len(self), goes_on=self.goes_on)


@contextmanager
def _lost_is_told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostError(
            "got no answer from another process of the group, but expected all to fit: "
            f"it has ended, or waited longer than its timeout ({error})."
        ) from error


@contextmanager
def _noticed_interrupts(pressed: threading.Event) -> Iterator[None]:
    """Note the first Ctrl-C inside the block; a second one is what it always is."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where no signal can be caught
        return
    usual = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _device_of(group: Any, device: torch.device) -> torch.device:
    """Return where messages have to be: nccl knows GPUs alone."""
    if "gloo" in dist.get_backend(group):
        return torch.device("cpu")
    return device if device.type != "cpu" else torch.device("cuda")
