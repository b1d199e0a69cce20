"""A density that is made when it is first asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ._conditional import Conditional, Density


class Deferred:
    """A density that is made when it is first asked, and as it then is when saved.

    Parameters
    ----------
    make : callable
        Returns the density.
    """

    def __init__(self, make: Callable[[], Density]) -> None:
        self.make = make

    @cached_property
    def made(self) -> Density:
        return self.make()

    def at(self, n_points: int) -> Density:
        """Return the density itself, looked for at so many points."""
        return self.made.at(n_points)

    def given(self, X: np.ndarray, seen: np.ndarray) -> Conditional:
        """Condition on the seen cells of each row."""
        return self.made.given(X, seen)

    def sample(self, n_rows: int, generator: np.random.Generator) -> np.ndarray:
        """Draw rows of shape (n_rows, n_columns)."""
        return self.made.sample(n_rows, generator)

    def __getstate__(self) -> dict[str, Any]:
        return {"made": self.made}
