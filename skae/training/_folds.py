"""Which rows the gradient sees, and which judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ._rows import Cells, Rows

MOST_JUDGES = 5000
N_FOLDS = 3  # that all judge, where there are very few rows
ONE_OF = 5  # folds, that judges alone where there are more
FEWEST_ROWS = 10
VERY_FEW_ROWS = 400  # up to which every fold judges: beyond, one has rows enough
MOST_CELLS = 250_000  # of which several networks train in twice the time of one


@dataclass(frozen=True)
class Split:
    """The rows that the gradient sees and those that judge the weights, as indices.

    Attributes
    ----------
    training, judging : ndarray of int
    is_held_out : bool
        Whether the gradient never sees the rows that judge.
    """

    training: np.ndarray
    judging: np.ndarray
    is_held_out: bool

    @classmethod
    def of(cls, n_rows: int, n_val: int, fraction: float | None, seed: int) -> Split:
        """Split rows at random, or by the validation rows that come after them.

        Up to 5,000 rows judge. Without a fraction every row is for training, theirs
        too.
        """
        if n_val:
            return cls(np.arange(n_rows), np.arange(n_rows, n_rows + n_val), True)
        if n_rows == 1:  # copies of one row: nothing to learn, and nothing to judge by
            return cls(np.zeros(1, dtype=int), np.zeros(1, dtype=int), False)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(n_rows, generator=generator).numpy()
        if fraction is None:
            return cls(order, order[:MOST_JUDGES], False)
        n_judging = min(max(round(fraction * n_rows), 1), n_rows - 1, MOST_JUDGES)
        return cls(order[n_judging:], order[:n_judging], True)

    def cuts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the rows that each judged network learns from, and its judges."""
        return [(self.training, self.judging)]

    def rows(self, cells: Cells, weight: np.ndarray | None) -> tuple[Rows, Rows]:
        """Cut cells of all rows into those to learn from and those that judge."""
        training, judging = (
            torch.from_numpy(index).to(cells.device)
            for index in (self.training, self.judging)
        )
        if weight is None:
            return Rows(cells, training), Rows(cells, judging)
        relative = torch.from_numpy(weight / weight[self.training].mean())
        weights = relative.to(cells.device, torch.float32)
        of_judges = weights / weights[judging].mean()
        return Rows(cells, training, weights), Rows(cells, judging, of_judges)


@dataclass(frozen=True)
class Folds(Split):
    """All rows train, and some or all are judged by a network that has not seen them.

    Networks train side by side: one on all rows, which is what is kept, and others
    without a fold each, which only say for how long to train it, and whether at all.

    Attributes
    ----------
    fold : ndarray of int of shape (n_rows,)
        Which of the networks judges a row; -1 where none does.
    """

    fold: np.ndarray

    @classmethod
    def among(cls, n_rows: int, seed: int) -> Folds:
        """Cut rows into folds of nearly equal size at random.

        Of very few rows all folds judge, else one does.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(n_rows, generator=generator).numpy()
        is_very_few = n_rows <= VERY_FEW_ROWS
        fold = np.empty(n_rows, dtype=int)
        fold[order] = np.arange(n_rows) % (N_FOLDS if is_very_few else ONE_OF)
        if not is_very_few:
            fold[fold > 0] = -1
        return cls(order, order[fold[order] >= 0], True, fold)

    def cuts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the rows that each judged network learns from, and its judges."""
        order, fold = self.training, self.fold[self.training]
        return [(order[fold != k], order[fold == k]) for k in range(fold.max() + 1)]

    @property
    def of_very_few(self) -> bool:
        """Whether there are so few rows that they want small steps and more noise."""
        return len(self.fold) <= VERY_FEW_ROWS

    def rows(self, cells: Cells, weight: np.ndarray | None) -> tuple[Rows, Rows]:
        """Weigh all rows for each network: those of its fold have no weight."""
        index, judging, fold = (
            torch.from_numpy(array).to(cells.device)
            for array in (self.training, self.judging, self.fold)
        )
        mass = np.ones(len(self.fold)) if weight is None else weight
        members = np.arange(self.fold.max() + 2)[:, None]  # the last has no fold
        of_members = mass * (self.fold != members)
        of_members = of_members / of_members.mean(axis=1, keepdims=True)
        weights = torch.from_numpy(of_members).to(cells.device, torch.float32)
        of_judges = torch.from_numpy(mass / mass[self.judging].mean())
        of_judges = of_judges.to(cells.device, torch.float32)
        return Rows(cells, index, weights), Rows(cells, judging, of_judges, fold)


def choose_split(
    shape: tuple[int, int],
    n_val: int,
    fraction: float | None,
    seed: int,
    *,
    most_folded: int,
) -> Split:
    """Choose who judges: validation rows, a share of the rows, or folds of few.

    Of up to `most_folded` rows there are folds, where there are at least ten.
    """
    n_rows, n_columns = shape
    is_small = FEWEST_ROWS <= n_rows <= most_folded and n_rows * n_columns <= MOST_CELLS
    if is_small and not n_val:
        return Folds.among(n_rows, seed)
    return Split.of(n_rows, n_val, fraction, seed)
