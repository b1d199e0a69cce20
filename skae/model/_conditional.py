"""What a density is, and what it says of rows by their seen cells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, Self

import numpy as np
from sklearn.utils import gen_batches

GIVEN_POINTS = 10_000  # of importance sampling, for one row of given values
MORE_POINTS = 100_000  # the same, where few of them carry the answer
REFERENCE_ROWS = 100
MOST_NUMBERS = 2_000_000  # of rows, at all points, in memory
LARGEST_RARITY = 10_000  # how many times less likely than usual given values may be
TINY = np.finfo(float).tiny
LEAST_DRAWS = 20  # effective number of draws below which given values are too rare
TOO_RARE = (
    "got values in given that are too rare together: they are {} times less likely "
    "than what the model draws in these columns, so that rows drawn around them could "
    "not be trusted. Give fewer columns, or values nearer to those of the table."
)


class Part(NamedTuple):
    """One part of what is known of rows, in which cells have a mean and a variance.

    Attributes
    ----------
    chance : ndarray of shape (n_rows,)
        Of the part; over the parts they add up to one.
    mean, variance : ndarray of shape (n_rows, n_columns)
        Seen cells are as they are.
    """

    chance: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


class Conditional(Protocol):
    """What a density says of rows by their seen cells."""

    @property
    def log_density(self) -> np.ndarray:
        """Of the seen cells of each row, in nats; of nothing, exactly zero."""

    @property
    def effective_draws(self) -> np.ndarray:
        """How many draws carry the answers for each row; infinite in closed form."""

    def parts(self) -> Iterator[Part]:
        """Yield the parts of a mixture; what is Gaussian in each need not be in all."""

    def draws(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw whole rows, of shape (n, n_rows, n_columns), around the seen cells."""

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each cell; the seen ones are as they are."""

    def leave_one_out(self) -> np.ndarray:
        """Log-density of each cell given the others of its row, (n_rows, n_features).

        Features are numbers and, after these, columns of levels with all of their
        indicators. It is zero where a cell is not seen.
        """


class OfParts(ABC):
    """A conditional with the moments of its parts."""

    X: np.ndarray
    seen: np.ndarray

    @abstractmethod
    def parts(self) -> Iterator[Part]:
        """Yield the parts of a mixture."""

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each cell; the seen ones are as they are."""
        mean, variance = moments_of(self.parts())
        return np.where(self.seen, self.X, mean), np.where(self.seen, 0.0, variance)


def moments_of(parts: Iterable[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each cell in a mixture of parts, taken one at a time [1]_.

    References
    ----------
    .. [1] Chan, T. F., Golub, G. H. and LeVeque, R. J. (1983). Algorithms for computing
       the sample variance. The American Statistician 37(3), 242-247.
    """
    total = mean = variance = np.zeros(())
    for part in parts:
        chance, total = part.chance[:, None], total + part.chance[:, None]
        step = part.mean - mean
        mean = mean + chance / np.maximum(total, TINY) * step
        variance = variance + chance * (part.variance + step * (part.mean - mean))
    return mean, variance


class Density(Protocol):
    """A density of rows of the matrix."""

    def at(self, n_points: int) -> Self:
        """Return the same, looked for at so many points; closed forms need none."""

    def given(self, X: np.ndarray, seen: np.ndarray) -> Conditional:
        """Condition on the seen cells of each row.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_columns)
            Cells that are not seen may hold anything.
        seen : ndarray of bool of shape (n_rows, n_columns)
            The indicators of one column are seen together.
        """

    def sample(self, n_rows: int, generator: np.random.Generator) -> np.ndarray:
        """Draw rows of shape (n_rows, n_columns)."""


def draw_given(
    density: Density,
    X: np.ndarray,
    seen: np.ndarray,
    n_rows: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Draw rows that have the seen cells of one row, `X` of shape (1, n_columns).

    Raises
    ------
    ValueError
        If the cells are far less likely than what the density itself draws there.
    """
    own = density.sample(REFERENCE_ROWS, generator)
    usual = density.given(own, np.broadcast_to(seen, own.shape)).log_density.mean()
    more = np.clip(MOST_NUMBERS // X.shape[1], GIVEN_POINTS, MORE_POINTS)
    for n_points in sorted({GIVEN_POINTS, int(more)}):
        known = density.at(n_points).given(X, seen)
        rarity = float(usual - known.log_density[0])
        is_rare = rarity > np.log(LARGEST_RARITY)
        is_told = known.effective_draws[0] >= LEAST_DRAWS
        if is_rare or is_told:
            break
    if is_rare or not is_told:
        digits = max(round(rarity / np.log(10)), 1)
        raise ValueError(TOO_RARE.format(f"10^{digits}"))
    drawn = np.empty((n_rows, X.shape[1]))
    for some in gen_batches(n_rows, max(1, MOST_NUMBERS // X.shape[1])):
        drawn[some] = known.draws(some.stop - some.start, generator)[:, 0]
    return drawn
