"""Several densities as one, by the share of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import logsumexp, softmax

from ._conditional import Conditional, Density, OfParts, Part
from ._leave_one_out import leave_one_out_of
from ._level_columns import draw_index

EM_STEPS = 300
SMALLEST_SHARE = 1e-9
CHANCE_GAIN = 1.0  # nats, of one more parameter


@dataclass(frozen=True)
class Stack:
    """A mixture of densities.

    Attributes
    ----------
    parts : dict of str to Density
    shares : dict of str to float
        They add up to one.
    """

    parts: Mapping[str, Any]
    shares: Mapping[str, float]

    def at(self, n_points: int) -> Stack:
        """Return the same density, looked for at another number of points."""
        parts = {name: part.at(n_points) for name, part in self.parts.items()}
        return replace(self, parts=parts)

    def given(self, X: np.ndarray, seen: np.ndarray) -> StackConditional:
        """Condition each part, and weigh it by its density of the seen cells."""
        parts = [part.given(X, seen) for part in self.parts.values()]
        shares = [self.shares[name] for name in self.parts]
        each = np.column_stack([part.log_density for part in parts]) + np.log(shares)
        log_density = np.where(seen.any(axis=1), logsumexp(each, axis=1), 0.0)
        return StackConditional(X, seen, parts, log_density, each)

    def sample(self, n_rows: int, generator: np.random.Generator) -> np.ndarray:
        """Draw rows of shape (n_rows, n_columns), in an order that tells nothing."""
        counts = generator.multinomial(n_rows, list(self.shares.values()))
        pairs = zip(self.parts.values(), counts.tolist(), strict=True)
        drawn = [part.sample(count, generator) for part, count in pairs if count]
        return generator.permutation(np.concatenate(drawn))

    def joined_by(
        self,
        name: str,
        part: Density,
        log_densities: np.ndarray,
        weight: np.ndarray,
        least: Mapping[str, float],
    ) -> Stack:
        """Add a part with the share that makes held-out rows likeliest.

        It joins if all rows together gain more than the one nat that another share is
        expected to gain by chance [1]_.

        Parameters
        ----------
        name : str
        part : Density
        log_densities : ndarray of shape (n_rows, n_parts + 1)
            Of rows that no part was fitted to, the new part last.
        weight : ndarray of shape (n_rows,)
        least : dict of str to float
            Smallest shares.

        References
        ----------
        .. [1] Akaike, H. (1974). A new look at the statistical model identification.
           IEEE Transactions on Automatic Control 19, 716-723.
        """
        names = [*self.parts, name]
        floor = np.array([least.get(n, 0.0) for n in names])
        shares = stack(log_densities, floor, weight)
        before = np.array(list(self.shares.values()))
        gains = logsumexp(log_densities, axis=1, b=shares)
        gains -= logsumexp(log_densities[:, :-1], axis=1, b=before)
        if gains @ (weight / weight.mean()) <= CHANCE_GAIN:
            return self
        kept = [i for i, share in enumerate(shares) if share > 0]
        parts = [*self.parts.values(), part]
        return Stack(
            {names[i]: parts[i] for i in kept},
            {names[i]: float(shares[i]) for i in kept},
        )


@dataclass(frozen=True)
class StackConditional(OfParts):
    """What a stack of densities says of rows by their seen cells.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_columns)
    seen : ndarray of bool of shape (n_rows, n_columns)
    conditionals : list of Conditional
    log_density : ndarray of shape (n_rows,)
        Of the seen cells, in nats.
    log_parts : ndarray of shape (n_rows, n_parts)
        Log-density of each row and of its part.
    """

    X: np.ndarray
    seen: np.ndarray
    conditionals: list[Conditional]
    log_density: np.ndarray
    log_parts: np.ndarray

    @cached_property
    def memberships(self) -> np.ndarray:
        """Chance that each row is of each part, of shape (n_rows, n_parts)."""
        return np.asarray(softmax(self.log_parts, axis=1))

    @property
    def effective_draws(self) -> np.ndarray:
        """How many draws carry the answers for each row, on the mean of the parts."""
        each = np.column_stack([part.effective_draws for part in self.conditionals])
        return (self.memberships * np.minimum(each, MANY)).sum(axis=1)

    def parts(self) -> Iterator[Part]:
        """Yield the parts of each, by the chance that a row is of it."""
        pairs = zip(self.memberships.T, self.conditionals, strict=True)
        for chance, known in pairs:
            for part in known.parts():
                yield part._replace(chance=chance * part.chance)

    def leave_one_out(self) -> np.ndarray:
        """Log-density of each cell given the others of its row."""
        cells = np.stack([known.leave_one_out() for known in self.conditionals])
        return leave_one_out_of(self.log_parts.T, cells)

    def draws(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw whole rows, of shape (n, n_rows, n_columns), around the seen cells."""
        uniform = generator.random((n, len(self.X), 1))
        chosen = draw_index(self.memberships, uniform)
        drawn = self.conditionals[0].draws(n, generator)
        for i, part in enumerate(self.conditionals[1:], start=1):
            if (chosen == i).any():
                drawn = np.where(
                    (chosen == i)[..., None], part.draws(n, generator), drawn
                )
        return drawn


MANY = 1e6  # draws: closed forms have no end of them


def stack(
    log_densities: np.ndarray, least: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Weigh densities so that held-out rows are likeliest under their mixture.

    Parameters
    ----------
    log_densities : ndarray of shape (n_rows, n_densities)
        Of rows that none of the densities was fitted to.
    least : ndarray of shape (n_densities,)
        Smallest share of each.
    weight : ndarray of shape (n_rows,)
        Mass of each row.

    Returns
    -------
    shares : ndarray of shape (n_densities,)
        They add up to one.

    References
    ----------
    Smyth, P. and Wolpert, D. (1999). Linearly combining density estimators via
    stacking. Machine Learning 36, 59-83.
    """
    free = np.full(len(least), 1 / len(least))  # of what is left above the least
    likelihoods = np.exp(log_densities - log_densities.max(axis=1, keepdims=True))
    weight = weight / weight.sum()
    for _ in range(EM_STEPS):
        shares = least + (1 - least.sum()) * free
        total = (likelihoods * shares).sum(axis=1, keepdims=True)
        free = free * (weight @ (likelihoods / total))
        free = free / free.sum()
        free[free < SMALLEST_SHARE] = 0.0
    return np.asarray(least + (1 - least.sum()) * free)
