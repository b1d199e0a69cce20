"""Progress of a fit, in lines that read well in a terminal, a notebook and a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, Self

from ._run import current_run
from .training._loop import History

PHASES = ("reading", "start", "training", "density")
QUIET_SECONDS = 9.0  # after which a line is printed, whatever there is to tell


class Progress:
    """Tell the user and scikit-learn's callbacks how a fit goes.

    As a context it lasts for the whole fit, whose time it tells. Callbacks see a task
    "fit" with one for each phase, and those of the epochs within that of training.

    Parameters
    ----------
    estimator : estimator with `set_callbacks` and a parameter `verbose`
        With `verbose` 0 nothing is printed; with 1 each phase with its time, about
        twenty lines of training and a line at least every ten seconds; with 2 or more
        a line per epoch.
    X, y, sample_weight : object
        What `fit` was called with, for the callbacks. `X` stands for a `y` of None:
        it is what an autoencoder is to give back, and callbacks score nothing without.

    Attributes
    ----------
    reached : callable of a History
        Returns what would become of the model if training ended now.
    attributes_of : callable
        Returns the fitted attributes that go with that.
    """

    reached: Callable[[History], Any]
    attributes_of: Callable[[Any], dict[str, Any]]

    def __init__(
        self, estimator: Any, X: Any, y: Any, sample_weight: Any = None
    ) -> None:
        self.estimator = estimator
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.told_of = {
            "estimator": estimator,
            "X": X,
            "y": X if y is None else y,
            "metadata": metadata,
        }
        # Of processes that fit together, one prints.
        self.verbose = estimator.verbose if current_run().group.rank == 0 else 0
        self.called_back = hasattr(estimator, "_skl_callbacks")
        self.began = self.told = time.perf_counter()
        self.doing = "fit"
        self.is_over = Event()
        self.watch = Thread(target=self._break_silence, daemon=True)

    def __enter__(self) -> Self:
        self.fit = self.estimator._init_callback_context(max_subtasks=len(PHASES))
        self.fit.call_on_fit_task_begin(**self.told_of)
        if self.verbose:
            self.watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.is_over.set()
        if self.verbose:
            self.watch.join()
        if kind is None:
            self.fit.call_on_fit_task_end(**self.told_of, reconstruction_attributes={})
            self._print(f"fit: {self._seconds():.2f} s")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Tell how long a part of the fit takes.

        That of training is told to callbacks once it is known how long it may take.
        """
        self.doing, began = name, self._seconds()
        if name == "training":
            yield
        else:
            task = self._begin(self.fit, name)
            yield
            task.call_on_fit_task_end(**self.told_of)
        self._print(f"{name}: {self._seconds() - began:.2f} s")

    def tell(self, text: str) -> None:
        """Print a line if it has been quiet for long."""
        if self._is_quiet():
            self._print(text)

    def begin(self, max_epochs: int) -> None:
        self.max_epochs = max_epochs
        self.stride = max(1, max_epochs // 20) if self.verbose == 1 else 1
        self.training = self._begin(self.fit, "training", max_epochs)

    def epoch(self, epoch: int, history: History) -> bool:
        stop = False
        if self.called_back:
            task = self._begin(self.training, "epoch")
            stop = task.call_on_fit_task_end(
                **self.told_of,
                reconstruction_attributes=lambda: self.attributes_of(
                    self.reached(history)
                ),
            )
        if epoch == 1 or epoch % self.stride == 0 or self._is_quiet():
            self._print(
                f"epoch {epoch:>{len(str(self.max_epochs))}}/{self.max_epochs}"
                f"  loss {history.loss_curve[-1]:.5g}"
                f"  validation {history.validation_curve[-1]:.5g}"
                f"  {self._seconds():.1f} s"
            )
        return stop

    def end(self, history: History) -> None:
        self.training.call_on_fit_task_end(**self.told_of)
        kept = f"epoch {history.best_epoch}" if history.best_epoch else "the start"
        self._print(
            f"kept {kept}: validation {history.best_loss:.5g}"
            f" (start {history.start_loss:.5g})"
        )

    def _begin(self, parent: Any, name: str, max_subtasks: int = 0) -> Any:
        task = parent.subcontext(task_name=name, max_subtasks=max_subtasks)
        return task.call_on_fit_task_begin(**self.told_of)

    def _break_silence(self) -> None:
        """Print a line where a phase, or an epoch, takes long."""
        while not self.is_over.wait(self.told + QUIET_SECONDS - time.perf_counter()):
            if self._is_quiet():
                self._print(f"{self.doing} goes on  {self._seconds():.1f} s")

    def _is_quiet(self) -> bool:
        return time.perf_counter() - self.told >= QUIET_SECONDS

    def _seconds(self) -> float:
        return time.perf_counter() - self.began

    def _print(self, text: str) -> None:
        self.told = time.perf_counter()
        if self.verbose:
            print(f"[{type(self.estimator).__name__}] {text}", flush=True)
