"""What both transformers are: fit, transform and back, sample, tags, fitted state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import fields
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import Tags, check_array
from sklearn.utils.validation import check_is_fitted

from ._descent import BRISK, Descent, descend
from ._progress import Progress
from ._schema import Encoded, Kind
from ._state import VERSION, all_or_nothing, loaded, saved
from ._statistics import by_chunks
from ._table_density import TableDensity
from ._torch import derive_seeds, resolve_device
from ._validation import FLOATS, PARAMETERS, check_count, read_rows, read_weight
from .model._conditional import Density
from .model._denoiser import linear_model
from .model._holes import code_width
from .model._model import Model
from .network._autoencoders import Autoencoder
from .network._design import Design, hidden_widths, users_randomness
from .table._containers import in_output
from .table._distinct import distinct_rows, recur
from .table._frames import TableReader
from .table._table import Table
from .training._folds import Split, choose_split
from .training._loop import Objective, Pace, Settings
from .training._rows import Rows

PURPOSES = ("split", "weights", "training", "summary")  # that seeds of a fit have
HOLE_ROWS, HOLE_POINTS = 1_000, 20  # of the fit, that samples take their holes from


class BaseAutoencoder(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    CallbackSupportMixin,
    BaseEstimator,
):
    """Base of the transformers: all but the model, its objective and its density."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = PARAMETERS
    # Whether small tables are judged by folds: dear where a step is.
    _folds: ClassVar[bool] = True
    _pace: ClassVar[Pace] = BRISK
    # How "auto" scales numbers of any sign where the table has columns of levels too.
    _scaling_beside_levels: ClassVar[str] = "standard"
    # Noise on numbers, and the share of cells masked, that a fit learns to undo.
    _corruption: tuple[float, float] = (0.0, 0.0)

    _model: Model
    _table: Table
    _density: Density
    loss_curve_: np.ndarray
    validation_curve_: np.ndarray
    best_iter_: int
    start_loss_: float

    @_fit_context(prefer_skip_nested_validation=True)
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
        """
        with all_or_nothing(self), Progress(self, X, y) as progress:
            device = resolve_device(self.device)
            seeds = derive_seeds(self.random_state, *PURPOSES)
            if self._continues():  # by the same judges, but with other draws
                later = seeds["training"] + self.n_iter_
                seeds |= derive_seeds(later, "weights", "training")
            with progress.phase("reading"):
                rows, weight, n_val = self._learn_table(X, sample_weight, X_val)
                encoded = self._table.encode(rows, weight)
                self._table.check(rows, encoded)
            n_rows = len(encoded) - n_val
            fraction = None if recur(rows, weight) else self.validation_fraction
            few = fraction == "auto" and self._can_fold()
            shape = n_rows, encoded.matrix.shape[1]
            split = choose_split(shape, n_val, fraction, seeds["split"], can_fold=few)
            with users_randomness(self.encoder, self.decoder, seeds["weights"], device):
                with progress.phase("start"):
                    self._start(encoded.take(slice(n_rows)), seeds["weights"], device)
                with progress.phase("training"):
                    descent = self._descend(encoded, split, seeds, progress)
            self._keep(descent)
            with progress.phase("density"):
                self._density = self._make_density(encoded, split, seeds["summary"])
                self._remember_holes(encoded.take(split.training), seeds["summary"])
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

    def _read(self, X: Any) -> np.ndarray:
        return read_rows(self, self._table.frames, X)

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
        self, encoded: Encoded, split: Split, seeds: dict[str, int], report: Progress
    ) -> Descent:
        """Train from the start."""
        settings = Settings(**{f.name: getattr(self, f.name) for f in fields(Settings)})
        prefer_start = self.linear_path or self._continues()
        start = self._model, encoded, split, self._objective, settings, report, seeds
        return descend(*start, pace=self._pace, prefer_start=prefer_start)

    def _keep(self, descent: Descent) -> None:
        """Set the fitted attributes that every model has."""
        history = descent.history
        curves = [history.loss_curve, history.validation_curve]
        best, start = history.best_epoch, history.start_loss
        if self._continues():
            earlier = [self.loss_curve_, self.validation_curve_]
            curves = [[*a, *b] for a, b in zip(earlier, curves, strict=True)]
            best = len(self.loss_curve_) + best if best else self.best_iter_
            start = self.start_loss_
        self._model = descent.model
        self.explained_variance_ratio_ = descent.carried
        self.loss_curve_, self.validation_curve_ = map(np.array, curves)
        self.n_iter_, self.best_iter_ = len(self.loss_curve_), best
        self.best_loss_, self.start_loss_ = history.best_loss, start

    def _remember_holes(self, encoded: Encoded, seed: int) -> None:
        """Let the table keep some rows, completed, with their patterns of holes."""
        self._summary_seed = seed
        if encoded.seen is not None:
            some = encoded.take(slice(HOLE_ROWS))
            known = self._density.at(HOLE_POINTS).given(some.matrix, some.cells_seen)
            (whole,) = known.draws(1, np.random.default_rng(seed))
            self._table.remember_holes(some, whole)

    # ------------------------------------------------------------ fitted models

    @property
    def device_(self) -> torch.device:
        """Device of the fitted model: where it was trained, or the CPU without it."""
        check_is_fitted(self)
        return self._model.device

    @property
    def module_(self) -> Autoencoder:
        """The fitted torch network, between scaled columns, in single precision."""
        check_is_fitted(self)
        return self._model.module(torch.float32)

    @property
    def _n_features_out(self) -> int:
        return self._model.design.n_components

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_model")

    def __getstate__(self) -> dict[str, Any]:
        return saved(super().__getstate__(), VERSION)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(loaded(state, type(self).__name__, VERSION))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags

    # ------------------------------------------------------------- public verbs

    def transform(self, X: Any) -> Any:
        """Compute the codes of a table.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit.

        Returns
        -------
        codes : ndarray or dataframe of shape (n_samples, n_components)
            In single precision for float32 input, else in double.
        """
        check_is_fitted(self)
        return self._of_rows(self._read(X), lambda rows, of: self._model.codes(of))

    def inverse_transform(self, X: Any) -> Any:
        """Decode codes to rows in the units of the table that was fitted.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        rows : ndarray or dataframe of shape (n_samples, n_features)
            In the container of the fit, with its names, dtypes and levels, unless
            `set_output` asked for another. The likeliest level stands for its column.

        Raises
        ------
        ValueError
            If the codes have another number of components than the fit.
        """
        check_is_fitted(self)
        codes = check_array(X, dtype=FLOATS, input_name="X")
        if codes.shape[1] != self._n_features_out:
            raise ValueError(
                f"got codes of shape {codes.shape}, but expected "
                f"{self._n_features_out} columns, the n_components of the fit."
            )
        table, model = self._table, self._model
        rows = by_chunks(
            lambda part: table.decode(model.rows_of(part)), codes, model.chunk_rows
        )
        return self._as_table(rows, X)

    def reconstruction_error(self, X: Any) -> Any:
        """Compute how far each cell is from its reconstruction.

        Large cells say why a row is odd: each is what its column adds to the error of
        the row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit.

        Returns
        -------
        errors : ndarray or dataframe of shape (n_samples, n_features)
            Squared errors in scaled units, where a column's variance is about one, in
            the container of the fit. A categorical column has the sum over its levels.
            NaN where a cell is missing; 0 in a column that was all missing or of one
            level in the fit.
        """
        check_is_fitted(self)

        def errors(rows: np.ndarray, encoded: Encoded) -> np.ndarray:
            return self._table.by_column(self._model.cell_errors(encoded), rows)

        cells = self._of_rows(self._read(X), errors)
        return self._in_output(self._table.frames.write_numbers(cells, X), X)

    def impute(
        self,
        X: Any,
        *,
        strategy: str = "mean",
        n_draws: int | None = None,
        n_importance_samples: int = 100,
        random_state: Any = None,
    ) -> Any:
        """Fill the missing cells of a table by what its seen cells tell of them.

        What comes in is the mean of the density of rows given the seen cells, as
        `sample(given=...)` draws from it: a missing number becomes its mean, which
        minimises the squared error, with the decimals of its column, and a missing
        level the most likely one. Codes are weighted by importance [1]_.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit; NaN, None and NA are missing.
        strategy : {"mean", "median"}, default="mean"
            What a missing number becomes: the mean of what would be drawn, which has
            the least squared error, or the median, a value that the column has.
        n_draws : int, default=None
            Number of tables to draw for multiple imputation [2]_: each has its missing
            cells drawn at random, so that they vary as much as they are uncertain.
        n_importance_samples : int, default=100
            Codes per row, at least 1. The same points serve every row.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws; without `n_draws` nothing is random.

        Returns
        -------
        filled : array or dataframe of shape (n_samples, n_features), or list of them
            The same table in its own container, or what `set_output` asked for. Seen
            cells, and columns that were all missing in the fit, are as they were, bit
            for bit. With `n_draws`, a list of so many tables.

        References
        ----------
        .. [1] Mattei, P.-A. and Frellsen, J. (2019). MIWAE: Deep generative modelling
           and imputation of incomplete data sets. ICML.
        .. [2] Rubin, D. B. (1987). Multiple imputation for nonresponse in surveys.
           Wiley.
        """
        check_is_fitted(self)
        told = self._told(n_importance_samples)
        seed = derive_seeds(random_state, "impute")["impute"]
        rows = self._read(X)
        if n_draws is None:
            filled = self._table.fill(X, told.completed(rows, strategy))
            return self._in_output(filled, X)
        check_count("n_draws", n_draws)
        drawn = told.completions(rows, n_draws, seed)
        return [self._in_output(self._table.fill(X, one), X) for one in drawn]

    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        given: Mapping[Any, Any] | None = None,
        missing: bool = False,
    ) -> Any:
        """Draw new rows that resemble the table that was fitted.

        Draws are brought, column by column and by rank, to the margins of the table: a
        column of whole numbers gets whole numbers, one of many zeros as many, and no
        number is outside the range of the fit.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            An int makes the draw repeatable; None draws anew each time.
        given : dict of column to value, default=None
            Values that all rows shall have, such as ``{"sex": "female"}``; columns by
            name, or by index where there are no names.
        missing : bool, default=False
            Whether cells are missing as they are in the table: a row takes the holes
            of the training row whose code is nearest to its own. By default rows are
            whole.

        Returns
        -------
        rows : ndarray or dataframe of shape (n_samples, n_features)
            In the units of the table and in the container of the fit, unless
            `set_output` asked for another one.

        Raises
        ------
        ValueError
            If `n_samples` is not a positive integer, if `given` names a column or a
            level that the fit did not have, or values too rare to be drawn around.
        """
        check_is_fitted(self)
        check_count("n_samples", n_samples)
        seed = derive_seeds(random_state, "sample")["sample"]
        told = self._told()
        rows = told.sample(n_samples, seed, given or {}, missing=missing)
        return self._as_table(rows)

    # ------------------------------------------------------------------- helpers

    def _told(
        self, n_points: int = 100, density: Density | None = None
    ) -> TableDensity:
        """Return a density, or that of rows, in the units of the table."""
        check_count("n_importance_samples", n_points)
        density = (density or self._density).at(n_points)
        return TableDensity(self._table, density, n_points, self._summary_seed)

    def _of_rows(
        self, rows: np.ndarray, function: Callable[[np.ndarray, Encoded], np.ndarray]
    ) -> np.ndarray:
        """Apply a function to rows and what they are encoded as, a chunk at a time."""

        def of_chunk(part: np.ndarray) -> np.ndarray:
            return function(part, self._table.encode(part))

        return by_chunks(of_chunk, rows, self._model.chunk_rows)

    def _as_table(self, rows: np.ndarray, like: Any = None) -> Any:
        return self._in_output(self._table.frames.write(rows, like), like)

    def _in_output(self, table: Any, original: Any) -> Any:
        return in_output(table, self._table.column_names, self, original)
