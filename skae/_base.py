"""How both transformers are fitted."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import fields
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import (
    _fit_context,
)
from sklearn.callback import CallbackSupportMixin

from ._descent import BRISK, Descent, descend
from ._fitted import FittedAutoencoder
from ._passing import passing_attributes
from ._progress import Progress
from ._run import Run, current_run, shared
from ._schema import Encoded, Kind
from ._state import all_or_nothing
from ._torch import derive_seeds
from ._validation import PARAMETERS, read_rows, read_weight
from .model._conditional import Density
from .model._denoiser import linear_model
from .model._holes import code_width
from .model._model import Model
from .network._design import Design, hidden_widths, users_randomness
from .table._distinct import distinct_rows, recur
from .table._frames import TableReader
from .table._table import Table
from .training._folds import Split, choose_split
from .training._loop import Objective, Pace, Settings
from .training._rows import Rows

PURPOSES = ("split", "weights", "training", "summary")  # that seeds of a fit have
HOLE_POINTS = 20  # of the density that fills the holes of rows to be remembered


class BaseAutoencoder(CallbackSupportMixin, FittedAutoencoder):
    """Fit: all but the model, its objective and its density."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = PARAMETERS
    # Whether small tables are judged by folds: dear where a step is.
    _folds: ClassVar[bool] = True
    _pace: ClassVar[Pace] = BRISK
    # How "auto" scales numbers of any sign where the table has columns of levels too.
    _scaling_beside_levels: ClassVar[str] = "standard"
    # Noise on numbers, and the share of cells masked, that a fit learns to undo.
    _corruption: tuple[float, float] = (0.0, 0.0)

    loss_curve_: np.ndarray
    validation_curve_: np.ndarray
    best_iter_: int
    start_loss_: float

    @_fit_context(prefer_skip_nested_validation=True)
    @shared
    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, X_val: Any = None
    ) -> Self:
        """Learn the encoder and the decoder from a table.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features)
            The table: numbers, and in dataframes of any library that narwhals knows
            (pandas, polars, pyarrow) columns of levels too. NaN, None and NA are
            missing cells.
        y : object, default=None
            Ignored; here for the scikit-learn API.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows. On tables of up to 10,000 rows an integer
            weight is exactly a row repeated.
        X_val : array-like of shape (n_validation_samples, n_features), default=None
            Rows to validate on, in place of a random share of `X`.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the table, a parameter or the device is not as expected: infinite
            numbers, dates and lists are refused. The estimator is then as it was, as
            it is where the fit is interrupted (Ctrl-C) before training.

        Warns
        -----
        ConvergenceWarning
            If training is interrupted or diverges: the best weights are kept.

        See Also
        --------
        checkpoint : Let a fit that was killed go on.
        data_parallel : Fit in several processes, each of which has some of the rows.
        """
        with all_or_nothing(self), Progress(self, X, y, sample_weight) as progress:
            run = current_run()
            device = run.device(self.device)
            seeds = drawn = run.seeds(self.random_state, *PURPOSES)
            if self._continues():  # by the same judges, but with other draws
                later = drawn["training"] + self.n_iter_
                seeds = drawn | derive_seeds(later, "weights", "training")
            with progress.phase("reading"):
                rows, weight, n_val = self._learn_table(X, sample_weight, X_val)
                encoded = self._table.encode(rows, weight)
                self._table.check(rows, encoded)
                run = run.of(self, rows, weight, drawn)
            n_rows = len(encoded) - n_val
            fraction = None if recur(rows, weight) else self.validation_fraction
            few = fraction == "auto" and self._can_fold()
            shape = n_rows, encoded.matrix.shape[1]
            split = choose_split(shape, n_val, fraction, seeds["split"], can_fold=few)
            with users_randomness(self.encoder, self.decoder, seeds["weights"], device):
                with progress.phase("start"):
                    self._start(encoded.take(slice(n_rows)), seeds["weights"], device)
                with progress.phase("training"):
                    descent = self._descend(encoded, split, seeds, progress, run)
            self.__dict__ |= self._learned(descent)
            with progress.phase("density"):
                self._summary_seed = seeds["summary"]
                self._density = self._make_density(encoded, split, seeds["summary"])
                self._told(HOLE_POINTS).remember_holes(encoded.take(split.training))
        return self

    # ------------------------------------------------------- what a subclass says

    @abstractmethod
    def _kinds(self) -> tuple[Kind, dict[int | str, Kind]]:
        """Say what kind numbers are: in general, and in columns that are named."""

    @abstractmethod
    def _design(self, parts: dict[str, Any]) -> Design:
        """Complete what the networks are made of."""

    @abstractmethod
    def _objective(
        self, module: Any, rows: Rows, generator: torch.Generator
    ) -> Objective:
        """Make what training minimises."""

    @abstractmethod
    def _make_density(self, encoded: Encoded, split: Split, seed: int) -> Density:
        """Make the density of rows; set what else is learned from a trained model."""

    # ------------------------------------------------------------- steps of fit

    def _learn_table(
        self, X: Any, sample_weight: Any, X_val: Any
    ) -> tuple[np.ndarray, np.ndarray | None, int]:
        """Read rows, those to validate on after the others, and learn their table."""
        continues = self._continues()
        if not continues:
            self._table = Table(TableReader(self.categorical_features).fit(X))
        frames = self._table.frames
        rows = read_rows(self, frames, X, reset=not continues, ensure_min_samples=2)
        weight = read_weight(sample_weight, rows)
        if not continues:
            frames.remember(X, rows, weight)
        rows, weight = distinct_rows(rows, weight)
        if not continues:
            kinds = self._table.kinds(*self._kinds())
            beside = self._scaling_beside_levels
            self._table.learn(rows, weight, kinds, self.scaling, beside)
        if X_val is None:
            return rows, weight, 0
        rows_val = self._read(X_val)
        if weight is not None:
            weight = np.concatenate([weight, np.ones(len(rows_val))])
        return np.concatenate([rows, rows_val]), weight, len(rows_val)

    def _continues(self) -> bool:
        return bool(self.warm_start) and hasattr(self, "loss_curve_")

    def _can_fold(self) -> bool:
        """Tell whether several networks could train side by side, from PCA."""
        own = self.encoder is not None or self.decoder is not None
        alone = own or self.solver == "lbfgs" or self.max_iter == 0
        return self._folds and not (alone or self._continues())

    def _start(self, encoded: Encoded, seed: int, device: torch.device) -> None:
        """Make the model that training starts from: at PCA, or where it last ended."""
        continues = self._continues()
        if not continues or isinstance(self.n_components, Integral):
            self.n_components_ = code_width(self.n_components, encoded)
        earlier = self._model.design.incomplete if continues else ()
        design = self._design(
            {
                "blocks": self._table.blocks,
                "n_components": self.n_components_,
                "hidden_layer_sizes": hidden_widths(self.hidden_layer_sizes),
                "activation": self.activation,
                "dropout": float(self.dropout),
                "linear_path": bool(self.linear_path),
                "encoder": self.encoder,
                "decoder": self.decoder,
                "incomplete": earlier if continues else encoded.incomplete,
            }
        )
        if continues:
            self._model = self._model.going_on(design, device)
            return
        linear = linear_model(encoded, design, *self._corruption)
        self._model = Model.start(design, linear, seed, device)

    def _descend(
        self,
        encoded: Encoded,
        split: Split,
        seeds: dict[str, int],
        report: Progress,
        run: Run,
    ) -> Descent:
        """Train from the start."""
        report.attributes_of = lambda reached: (
            self._learned(reached)
            | passing_attributes(
                self._table, reached.model, encoded, split.training, seeds["summary"]
            )
        )
        settings = Settings(**{f.name: getattr(self, f.name) for f in fields(Settings)})
        prefer_start = self.linear_path or self._continues()
        start = self._model, encoded, split, self._objective, settings, report, seeds
        return descend(*start, pace=self._pace, prefer_start=prefer_start, run=run)

    def _learned(self, descent: Descent) -> dict[str, Any]:
        """Return the fitted attributes that every model has."""
        history = descent.history
        curves = [history.loss_curve, history.validation_curve]
        best, start = history.best_epoch, history.start_loss
        if self._continues():
            earlier = [self.loss_curve_, self.validation_curve_]
            curves = [[*a, *b] for a, b in zip(earlier, curves, strict=True)]
            best = len(self.loss_curve_) + best if best else self.best_iter_
            start = self.start_loss_
        return {
            "_model": descent.model,
            "explained_variance_ratio_": descent.carried,
            "loss_curve_": np.array(curves[0]),
            "validation_curve_": np.array(curves[1]),
            "n_iter_": len(curves[0]),
            "best_iter_": best,
            "best_loss_": history.best_loss,
            "start_loss_": start,
        }
