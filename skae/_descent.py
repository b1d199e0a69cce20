"""A model at its start to the model as trained: where networks and training meet."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from ._run import Run
from ._schema import Encoded, Stream
from ._torch import global_generators, make_generator, threads_that_pay, to_tensor
from .model._crew import Crew
from .model._model import Model
from .network._layers import seed_dropout
from .training._folds import Folds, Split
from .training._group import ALONE, Alone
from .training._loop import History, Objective, Pace, Report, Settings, Training
from .training._rows import Rows, StreamedRows

SUMMARY_ROWS = 5_000  # training rows that a fitted summary is computed from
FEWEST_SUMMARY_ROWS = 500  # the same of wide tables and codes
SUMMARY_CELLS = 500_000_000  # decoded once for each component of the code
USUAL_WIDTH = 256  # of the widest layer that the usual learning rate suits
LEAST_GAIN = 0.01  # of the start's loss, that tells of a table of few rows
# A high rate that falls for long needs fewer steps; bounds are noisier and bear less.
BRISK = Pace(
    n_steps=1500,
    learning_rate=0.012,
    square_decay=0.99,
    fall_share=0.5,
    patience_steps=300,
)
OF_FEW = replace(
    BRISK,
    n_steps=1000,
    patience_steps=200,
    fall_patience_steps=100,
    least_gain=LEAST_GAIN,
)
# Very few rows need small steps, and do not profit from many.
OF_VERY_FEW = replace(
    OF_FEW,
    batch_rows=64,
    n_steps=600,
    check_steps=25,
    patience_steps=150,
    fall_patience_steps=50,
)
# A map shows all rows, and is drawn by many comparisons of them.
OF_MAPS = replace(BRISK, batch_rows=256, n_steps=3000, judging_share=None)
DIVERGED = (
    "The training loss became infinite or NaN and did not recover. The best weights "
    "seen before are kept. Lower learning_rate, or look for extreme values in the "
    "table."
)
SHORT = (
    "Training ended after {} epochs, while the loss of the rows that judge it was "
    "still falling. Raise max_iter."
)
INTERRUPTED = (
    "Training was interrupted after {} epochs. The best weights seen before are kept; "
    "fit again with warm_start=True to go on from them, or interrupt a second time to "
    "have the estimator as it was before."
)
UNFINISHED = (
    "Training ended after {} epochs, within the warm-up of {}: the objective was not "
    "yet the one that judges. Raise max_iter, or lower kl_warmup."
)


FoldModels = Callable[[], list[Model]]


@dataclass(frozen=True)
class Descent:
    """What became of a model.

    Attributes
    ----------
    model : Model
        With the best weights; the start where nothing was better.
    history : History
    carried : ndarray of shape (n_components,)
        Share of the table's variance that each component carries.
    judged : callable
        Returns what became of networks that have not seen the judges, where the model
        has; none elsewhere.
    """

    model: Model
    history: History
    carried: np.ndarray
    judged: FoldModels = list


class Spectator(Report, Protocol):
    """Who is told how training goes, and may ask for the model as it then is.

    Attributes
    ----------
    reached : callable of a History
        Returns what would become of the model if training ended now, with the weights
        that validation judges.
    """

    reached: Callable[[History], Descent]


def descend(
    model: Model,
    encoded: Encoded,
    split: Split,
    objective_of: Callable[[Any, Rows, torch.Generator], Objective],
    settings: Settings,
    report: Spectator,
    seeds: dict[str, int],
    stream: Stream | None = None,
    *,
    pace: Pace,
    prefer_start: bool,
    run: Run,
) -> Descent:
    """Descend from the start; keep the best weights, and the order of the code."""
    device = model.device
    cells = _on_device(model, encoded)
    fold = split.fold if isinstance(split, Folds) else None
    if fold is not None:
        cells = replace(cells, fold=torch.from_numpy(fold).to(device))
    rows, judges = split.rows(cells, encoded.weight)
    if stream is not None:
        more = partial(_cells_of_chunks, model, stream)
        n_rows, n_own = stream.n_rows, stream.n_own
        rows = StreamedRows(**vars(rows), more=more, n_rows=n_rows, n_own=n_own)
    crew = Crew.of(model, encoded, fold, seeds["weights"])
    generator = make_generator(seeds["training"], device)
    objective = objective_of(crew.module, rows, generator)
    # Steps of folds are too small to be shared, and a line search is no single sum.
    is_shared = fold is None and settings.solver != "lbfgs"
    group = run.group if is_shared else ALONE
    seed_dropout(crew.module, _generator_of_layers(objective, seeds, group))
    training = Training(
        objective,
        rows,
        judges,
        crew.penalised,
        report,
        prefer_start=prefer_start and split.is_held_out,
        settings=settings,
        pace=_pace(split, pace, max(model.design.hidden_layer_sizes, default=1)),
        group=group,
        checkpoint=run.checkpoint(_generators(objective, model)),
    )

    def reached(history: History) -> Descent:
        last, loss = len(history.loss_curve), history.validation_curve[-1]
        with training.as_judged():
            ended = replace(history, best_epoch=last, best_loss=loss)
            return _ended(model, encoded, crew, rows, ended)

    report.reached = reached
    with threads_that_pay(training.products_per_step):
        history = training.run()
    _warn(history, objective.warm_up_epochs)
    descent = _ended(model, encoded, crew, rows, history)
    # Without folds nothing is to keep the crew, as a density to come would.
    return replace(descent, judged=crew.judged) if crew.starts else descent


def _on_device(model: Model, encoded: Encoded) -> Any:
    cells = model.anchored_cells(encoded)
    return cells.map(lambda a: to_tensor(a, model.device, torch.float32))


def _cells_of_chunks(model: Model, stream: Stream, seed: int) -> Iterator[Any]:
    for encoded in stream.chunks(np.random.default_rng(seed)):
        yield _on_device(model, encoded)


def _ended(
    model: Model, encoded: Encoded, crew: Crew, rows: Rows, history: History
) -> Descent:
    """Take the weights from where they are; order the components by what they carry."""
    final = crew.final_member()
    importances, explained = final.carried(
        *rows.spread(_n_summary_rows(model, encoded))
    )
    best = model
    if history.best_epoch:
        best = model.learned(final, np.argsort(-importances, kind="stable"))
    carried = importances[best.order]
    carried = explained * carried / (carried.sum() or 1.0)
    best = best.settled(encoded.spread(SUMMARY_ROWS))
    return Descent(best, history, carried)


def _n_summary_rows(model: Model, encoded: Encoded) -> int:
    """Return how many rows tell what each component carries."""
    cells_per_row = model.design.n_components * encoded.matrix.shape[1]
    n_rows = max(SUMMARY_CELLS // cells_per_row, FEWEST_SUMMARY_ROWS)
    return min(n_rows, SUMMARY_ROWS)


def _generator_of_layers(
    objective: Objective, seeds: dict[str, int], group: Alone
) -> torch.Generator:
    """Return what layers draw from: in a group, as many numbers as there are rows."""
    if group is ALONE:
        return objective.generator
    seed = seeds["training"] + 1 + group.rank
    return make_generator(seed, objective.generator.device)


def _generators(objective: Objective, model: Model) -> list[torch.Generator]:
    """Name all that training draws from: users' modules do so globally."""
    own = model.design.encoder is None and model.design.decoder is None
    return [objective.generator, *([] if own else global_generators(model.device))]


def _warn(history: History, warm_up_epochs: int) -> None:
    """Tell the user of an end that is not a good one."""
    n_epochs = len(history.loss_curve)
    in_warm_up = 0 < n_epochs <= warm_up_epochs
    reasons = {
        DIVERGED: history.diverged,
        SHORT.format(n_epochs): history.is_short,
        INTERRUPTED.format(n_epochs): history.interrupted,
        UNFINISHED.format(n_epochs, warm_up_epochs): in_warm_up,
    }
    for reason, holds in reasons.items():
        if holds:
            warnings.warn(reason, ConvergenceWarning, stacklevel=6)


def _pace(split: Split, usual: Pace, widest: int) -> Pace:
    """Choose the size of steps, and patience, by rows and by the widest layer.

    Wide layers want a learning rate that falls with their width (Yang, G. et al.
    (2021). Tuning large neural networks via zero-shot hyperparameter transfer. NeurIPS)
    or, as measured here on layers of 512 and 1,000, a little faster.
    """
    pace = usual
    if isinstance(split, Folds):
        pace = OF_VERY_FEW if split.of_very_few else OF_FEW
    return replace(pace, width_factor=min(1.0, USUAL_WIDTH / widest) ** 1.5)
