"""Progress of a fit, in lines that read well in a terminal, a notebook and a log."""

from __future__ import annotations

import time
from typing import Any

from .training._loop import History


class Progress:
    """Tell the user and scikit-learn's callbacks how a fit goes.

    Parameters
    ----------
    estimator : estimator with `set_callbacks` and a parameter `verbose`
        With `verbose` 0 nothing is printed, with 1 about twenty lines a fit, with 2 or
        more a line per epoch.
    X, y : object
        What `fit` was called with, for the callbacks.
    """

    def __init__(self, estimator: Any, X: Any, y: Any) -> None:
        self.estimator = estimator
        self.data = {"X": X, "y": y}
        self.called_back = hasattr(estimator, "_skl_callbacks")

    def begin(self, max_epochs: int) -> None:
        self.began = time.perf_counter()
        self.max_epochs = max_epochs
        self.stride = max(1, max_epochs // 20) if self.estimator.verbose == 1 else 1
        self.context = self.estimator._init_callback_context(max_subtasks=max_epochs)
        self.context.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def epoch(self, epoch: int, history: History) -> bool:
        stop = False
        if self.called_back:
            task = self.context.subcontext(task_name="epoch")
            task.call_on_fit_task_begin(estimator=self.estimator, **self.data)
            stop = task.call_on_fit_task_end(estimator=self.estimator, **self.data)
        if epoch == 1 or epoch % self.stride == 0:
            self._print(
                f"epoch {epoch:>{len(str(self.max_epochs))}}/{self.max_epochs}"
                f"  loss {history.loss_curve[-1]:.5g}"
                f"  validation {history.validation_curve[-1]:.5g}"
            )
        return stop

    def end(self, history: History) -> None:
        self.context.call_on_fit_task_end(estimator=self.estimator, **self.data)
        kept = f"epoch {history.best_epoch}" if history.best_epoch else "the start"
        self._print(
            f"kept {kept}: validation {history.best_loss:.5g}"
            f" (start {history.start_loss:.5g})"
        )

    def _print(self, text: str) -> None:
        if self.estimator.verbose:
            seconds = time.perf_counter() - self.began
            name = type(self.estimator).__name__
            print(f"[{name}] {text}  {seconds:.1f} s", flush=True)
