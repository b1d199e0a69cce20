"""How both transformers are fitted."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import fields, replace
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import (
    _fit_context,
)
from sklearn.callback import CallbackSupportMixin

from ._array_api import in_numpy, through_numpy
from ._descent import BRISK, Descent, FoldModels, descend
from ._fitted import FittedAutoencoder
from ._passing import passing_attributes
from ._progress import Progress
from ._reading import Reading, read_more, read_table
from ._run import Run, current_run, shared
from ._schema import Encoded, Kind
from ._state import all_or_nothing
from ._statistics import FEW_ROWS
from ._torch import derive_seeds, resolve_device
from ._validation import PARAMETERS
from .model._conditional import Density
from .model._deferred import Deferred
from .model._denoiser import linear_model
from .model._holes import code_width
from .model._model import Model
from .network._design import Design, hidden_widths, users_randomness
from .table._survey import Survey
from .training._folds import Split, choose_split
from .training._group import ALONE
from .training._loop import Objective, Pace, Settings
from .training._rows import Rows

PURPOSES = ("split", "weights", "training", "summary")  # that seeds of a fit have
HOLE_POINTS = 20  # of the density that fills the holes of rows to be remembered


class BaseAutoencoder(CallbackSupportMixin, FittedAutoencoder):
    """Fit: all but the model, its objective and its density."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = PARAMETERS
    # Whether small tables are judged by folds: dear where a step is.
    _pace: ClassVar[Pace] = BRISK
    _most_folded: ClassVar[int] = FEW_ROWS
    # How "auto" scales numbers of any sign where the table has columns of levels too.
    _scaling_beside_levels: ClassVar[str] = "standard"
    _survey: Survey | None = None  # of the chunks that came to `partial_fit`
    _takes_steps: bool = False  # from where the networks are, by a chunk
    # Noise on numbers, and the share of cells masked, that a fit learns to undo.
    _corruption: tuple[float, float] = (0.0, 0.0)

    loss_curve_: np.ndarray
    validation_curve_: np.ndarray
    best_iter_: int
    start_loss_: float

    @through_numpy
    @_fit_context(prefer_skip_nested_validation=True)
    @shared
    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, X_val: Any = None
    ) -> Self:
        """Learn the encoder and the decoder from a table.

        Parameters
        ----------
        X : array-like, dataframe or LargeTable of shape (n_samples, n_features)
            The table: numbers, and in dataframes of any library that narwhals knows
            (pandas, polars, pyarrow) columns of levels too. NaN, None and NA are
            missing cells. A path of Parquet, an array or dataframe of Dask, and a
            sparse matrix or `numpy.memmap` of many rows are read as a `LargeTable`.
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
            drawn = run.seeds(self.random_state, *PURPOSES)
            seeds = _later(self, drawn)
            with progress.phase("reading"):
                passed = X, sample_weight, X_val
                told = progress.tell, run.group
                reading = read_table(self, *passed, seeds["split"], *told)
                run = run.of(self, reading.encoded, drawn)
            self._survey = None
            self._fit(reading, seeds, device, progress, run)
        return self

    @through_numpy
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn from a chunk of a table, beside those that came before.

        What columns are (scales, ranges, levels) is that of all rows so far, whatever
        their order. Up to 200,000 rows, drawn at random from all that came, are kept,
        and the networks are fitted anew to them once there are half as many rows again
        as the last time (a quarter, up to 1,500 rows; twice as many, where not all are
        kept), once the mean or deviation of a column has moved by a twentieth of a
        deviation, or once there is a level that they do not know. In between they go on
        from where they are, by a pass over the chunk and as many older rows, if that is
        better for the rows that judge.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features)
            The chunk, of the same columns each time. A level may come late, and a
            column may be constant, or missing, until then.
        y : object, default=None
            Ignored; here for the scikit-learn API.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows.

        Returns
        -------
        self : object
            The fitted estimator. After `fit` it goes on from the rows that this has
            kept, at most 20,000.

        Raises
        ------
        ValueError
            If the chunk has other columns, or a parameter is not as expected. The
            estimator is then as it was.
        RuntimeError
            Inside `data_parallel`.

        See Also
        --------
        LargeTable : For tables that can be read again and again.

        Examples
        --------
        >>> import numpy as np
        >>> from skae import AutoencoderTransformer
        >>> days = [np.random.default_rng(day).normal(size=(50, 3)) for day in range(3)]
        >>> model = AutoencoderTransformer(n_components=1, random_state=0)
        >>> for chunk in days: _ = model.partial_fit(chunk)
        >>> model.transform(days[0]).shape
        (50, 1)
        """
        with all_or_nothing(self), Progress(self, X, y, sample_weight) as progress:
            self._validate_params()  # which the context leaves out once it is fitted
            if current_run().group is not ALONE:
                raise RuntimeError(
                    "got partial_fit inside data_parallel, but expected fit: processes "
                    "have no chunks in common."
                )
            device = resolve_device(self.device)
            seeds = _later(self, derive_seeds(self.random_state, *PURPOSES))
            with progress.phase("reading"):
                reading = read_more(self, X, sample_weight, seeds["split"])
            if reading is not None:
                self._fit(reading, seeds, device, progress, Run())
            self._takes_steps = False
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
    def _make_density(
        self, encoded: Encoded, split: Split, judged: FoldModels, seed: int
    ) -> Density:
        """Make the density of rows; set what else is learned from a trained model.

        Models that have not seen the judges are to be had where the model has.
        """

    # ------------------------------------------------------------- steps of fit

    def _fit(
        self,
        reading: Reading,
        seeds: dict[str, int],
        device: torch.device,
        progress: Progress,
        run: Run,
    ) -> None:
        """Fit the model, and make the density, of what has been read."""
        encoded, split = reading.encoded, _split(self, reading, seeds["split"])
        with users_randomness(self.encoder, self.decoder, seeds["weights"], device):
            with progress.phase("start"):
                self._start(reading, seeds["weights"], device)
            with progress.phase("training"):
                descent = self._descend(reading, split, seeds, progress, run)
        self.__dict__ |= self._learned(descent)
        with progress.phase("density"):
            self._summary_seed = seeds["summary"]
            of_split = encoded, split, descent.judged
            make = partial(self._make_density, *of_split, seeds["summary"])
            if self._takes_steps:  # a chunk need not pay for what is seldom asked
                self._density = Deferred(make)
                return
            self._density = make()
            self._told(HOLE_POINTS).remember_holes(encoded.take(split.training))

    def _continues(self) -> bool:
        goes_on = self.warm_start or self._takes_steps
        return bool(goes_on) and hasattr(self, "loss_curve_")

    def _start(self, reading: Reading, seed: int, device: torch.device) -> None:
        """Make the model that training starts from: at PCA, or where it last ended."""
        encoded = reading.encoded.take(slice(len(reading.encoded) - reading.n_val))
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
        of_all = reading.principal_components
        linear = linear_model(encoded, design, *self._corruption, of_all)
        self._model = Model.start(design, linear, seed, device)

    def _descend(
        self,
        reading: Reading,
        split: Split,
        seeds: dict[str, int],
        report: Progress,
        run: Run,
    ) -> Descent:
        """Train from the start."""
        encoded = reading.encoded
        report.attributes_of = lambda reached: (
            self._learned(reached)
            | passing_attributes(
                self._table, reached.model, encoded, split.training, seeds["summary"]
            )
        )
        settings = Settings(**{f.name: getattr(self, f.name) for f in fields(Settings)})
        if self._takes_steps:
            settings = replace(settings, max_iter=1)
        prefer_start = self.linear_path or self._continues()
        start = self._model, encoded, split, self._objective, settings, report, seeds
        pace = self._pace
        return descend(
            *start, reading.stream, pace=pace, prefer_start=prefer_start, run=run
        )

    def _learned(self, descent: Descent) -> dict[str, Any]:
        """Return the fitted attributes that every model has."""
        history = descent.history
        curves = [history.loss_curve, history.validation_curve]
        best, start = history.best_epoch, history.start_loss
        if self._continues():
            earlier = [in_numpy(self.loss_curve_), in_numpy(self.validation_curve_)]
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


def _later(estimator: BaseAutoencoder, drawn: dict[str, int]) -> dict[str, int]:
    """Return the seeds of a fit; one that goes on has the same judges, other draws."""
    if not estimator._continues():
        return drawn
    later = drawn["training"] + estimator.n_iter_
    return drawn | derive_seeds(later, "weights", "training")


def _split(estimator: BaseAutoencoder, reading: Reading, seed: int) -> Split:
    """Choose who judges; several networks may train side by side, from PCA."""
    alone = estimator.solver == "lbfgs" or estimator.max_iter == 0
    fraction = None if reading.recurs else estimator.validation_fraction
    most_folded = 0
    if fraction == "auto":
        fraction = estimator._pace.judging_share
        if not (fraction is None or alone or estimator._continues()):
            most_folded = estimator._most_folded
    shape = len(reading.encoded) - reading.n_val, reading.encoded.matrix.shape[1]
    return choose_split(shape, reading.n_val, fraction, seed, most_folded=most_folded)
