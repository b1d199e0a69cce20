"""What both transformers are: fit, transform and back, score, tags, fitted state."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.callback import CallbackSupportMixin
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils import Tags, check_array, gen_batches
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)
from torch import Tensor

from ._progress import Progress
from ._schema import Block
from ._torch import (
    derive_seeds,
    fallback_device,
    make_generator,
    resolve_device,
    seeded_globally,
    to_numpy,
    to_tensor,
    widest_dtype,
)
from .model._conditional import PROPOSALS, codes_given
from .model._holes import principal_components_of
from .network._autoencoders import Autoencoder
from .network._build import Architecture, network_weights
from .network._cells import Cells
from .network._layers import ACTIVATIONS, seed_dropout
from .table._distinct import canonical_rows
from .table._frames import TableReader, as_frame, explain_text, to_container
from .table._margins import Margins
from .table._matrix import TableEncoder
from .training._folds import split_rows
from .training._loop import History, Objective, Training
from .training._rows import Rows
from .training._solvers import LEARNING_RATES

FLOATS = [np.float64, np.float32]
AUTO = StrOptions({"auto"})
DEFAULT_SHARE = 0.9  # of the variance, that n_components="auto" explains linearly
WIDEST_WITH_HOLES = 50  # components of a spectrum that is learned by EM
FEWEST_DRAWN, MOST_DRAWN = 1_000, 5_000  # rows that show what the model draws
MARGIN_ROWS = 20_000  # rows that the margins of a table are read from
SUMMARY_ROWS = 5_000  # training rows that a fitted summary is computed from


class BaseAutoencoder(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    CallbackSupportMixin,
    BaseEstimator,
):
    """Base of the transformers: all but the model, its objective and its scores."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            AUTO,
        ],
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "l1_penalty": [Interval(Real, 0, None, closed="left")],
        "linear_path": ["boolean"],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "scaling": [StrOptions({"auto", "standard", "minmax", "quantile"}), None],
        "solver": [StrOptions(set(LEARNING_RATES))],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), AUTO],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), AUTO],
        "max_iter": [Interval(Integral, 0, None, closed="left"), AUTO],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), AUTO],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "encoder": [callable, None],
        "decoder": [callable, None],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "device": [str, torch.device],
        "verbose": ["verbose"],
    }

    loss_curve_: np.ndarray
    validation_curve_: np.ndarray

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
            numbers, dates and lists are refused. The estimator is then as it was
            before.
        """
        with _all_or_nothing(self):
            device = resolve_device(self.device)
            seeds = derive_seeds(
                self.random_state, "split", "weights", "training", "summary"
            )
            table, weight, table_val = self._check_input(X, sample_weight, X_val)
            table, weight = canonical_rows(table, weight)
            self._fit_encoder(table, weight)
            with self._users_randomness(seeds["weights"], device):
                start = self._start(seeds["weights"])
                module = copy.deepcopy(start).to(device, torch.float32)
                rows, judges = self._rows(
                    table, weight, table_val, device, seeds["split"]
                )
                objective = self._objective(
                    module, rows, make_generator(seeds["training"], device)
                )
                history = self._train(objective, rows, judges, Progress(self, X, y))
            self._rank_components(module, rows, trained=history.best_epoch > 0)
            self._keep(module if history.best_epoch else start, history, device)
            self._summarise(module, rows, judges, seeds["summary"])
            self._remember_holes(module, rows, seeds["summary"])
            self._learn_margins(table, weight, seeds["summary"])
        return self

    # ------------------------------------------------------- what a subclass says

    @abstractmethod
    def _numeric_kinds(self) -> dict[int | str, str]:
        """Say what kind of numbers columns hold; "" is for those not named."""

    @abstractmethod
    def _scaling_of(self, kind: str) -> str | None:
        """Return how columns of a kind are brought to one scale."""

    @abstractmethod
    def _design(
        self, blocks: tuple[Block, ...], incomplete: tuple[int, ...]
    ) -> Architecture:
        """Collect what the networks are made of."""

    @abstractmethod
    def _build(self, generator: torch.Generator) -> Autoencoder:
        """Make the model at its start, in double precision on the CPU."""

    @abstractmethod
    def _objective(
        self, module: Any, rows: Rows, generator: torch.Generator
    ) -> Objective:
        """Make what training minimises."""

    @abstractmethod
    def _summarise(self, module: Any, rows: Rows, judges: Rows, seed: int) -> None:
        """Set the fitted attributes that are computed from the trained model."""

    @abstractmethod
    def _draw_codes(
        self, module: Any, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        """Draw new codes."""

    @abstractmethod
    def _draw_rows(
        self, module: Any, codes: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw the scaled row of each code."""

    @abstractmethod
    def _log_chance(self, module: Any, codes: Tensor, cells: Cells) -> Tensor:
        """Log-density of one row's seen cells given each code."""

    # ------------------------------------------------------------- steps of fit

    def _check_input(
        self, X: Any, sample_weight: Any, X_val: Any
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        continues = self._continues()
        if not continues:
            self._reader = TableReader(self.categorical_features).fit(X)
        table = self._read(X, reset=not continues, ensure_min_samples=2)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, table, dtype=np.float64, ensure_non_negative=True
            )
            if (n_weighted := np.count_nonzero(sample_weight)) < 2:
                raise ValueError(
                    f"got {n_weighted} row with a sample_weight above zero, but "
                    "expected at least 2."
                )
            if not continues:
                self._reader.keep_levels(table, sample_weight > 0)
        if not continues and self._reader.is_typed(X, table):
            self._reader.remember_dtypes(X, table)
        return table, sample_weight, None if X_val is None else self._read(X_val)

    def _read(self, X: Any, *, reset: bool = False, **checks: Any) -> np.ndarray:
        """Validate a table; return its numbers and level codes, NaN where missing."""
        reader = self._reader
        checks |= {"dtype": FLOATS, "ensure_all_finite": "allow-nan"}
        if as_frame(X) is None and reader.is_numeric:
            with explain_text():
                return validate_data(self, X, reset=reset, **checks)
        validate_data(self, X, reset=reset, skip_check_array=True)
        reader.check_dtypes(X)
        if reader.is_numeric:
            return validate_data(self, X, reset=reset, **checks)
        if reset:
            reader.learn_levels(X)
        return check_array(reader.read(X), **checks)

    def _continues(self) -> bool:
        return bool(self.warm_start) and hasattr(self, "_weights")

    def _fit_encoder(self, table: np.ndarray, weight: np.ndarray | None) -> None:
        """Learn how the table is encoded, and the linear model of what comes out."""
        if not self._continues():
            kinds = self._kinds()
            scalings = [self._scaling_of(kind) for kind in kinds]
            self._encoder = TableEncoder(kinds, scalings).fit(table, weight)
        encoded, seen = self._encoder.encode(table)
        self._encoder.check_range(table, encoded)
        if self._continues():
            self._check_design()
            return
        incomplete: tuple[int, ...] = ()
        if seen is not None:
            incomplete = tuple(np.flatnonzero(~seen.all(axis=0)).tolist())
        known = None if seen is None else self._encoder.columns_of(seen)
        self.n_components_ = self._width(encoded, known, weight)
        self._fitted_architecture = self._design(self._encoder.blocks_, incomplete)
        self._principal = principal_components_of(
            encoded, known, self.n_components_, weight
        )

    def _width(
        self, encoded: np.ndarray, seen: np.ndarray | None, weight: np.ndarray | None
    ) -> int:
        """Return the width of the code: as given, or by the linear spectrum."""
        if isinstance(self.n_components, Integral):
            return int(self.n_components)
        share = DEFAULT_SHARE if self.n_components == "auto" else self.n_components
        widest = min(encoded.shape)
        if seen is not None:
            widest = min(widest, WIDEST_WITH_HOLES)
        spectrum = principal_components_of(encoded, seen, widest, weight)
        total = (spectrum.column_scales**2).sum()
        explained = spectrum.variances.cumsum()
        return 1 + min(int(np.searchsorted(explained, share * total)), widest - 1)

    def _check_design(self) -> None:
        earlier = self._fitted_architecture
        if isinstance(self.n_components, Integral):
            self.n_components_ = int(self.n_components)
        design = self._design(self._encoder.blocks_, earlier.incomplete)
        if design != earlier:
            raise ValueError(
                "got warm_start=True, but expected the networks of the earlier fit:"
                f" {design.differences(earlier)}."
            )

    def _kinds(self) -> list[str]:
        """Name the kind of every column: categorical, or what its numbers are."""
        wanted = self._numeric_kinds()
        default = wanted.pop("")
        names = list(getattr(self, "feature_names_in_", range(self.n_features_in_)))
        kinds = [default] * self.n_features_in_
        for column, kind in wanted.items():
            if column not in names:
                raise ValueError(
                    f"got likelihood={wanted!r} with a column {column!r}, but expected "
                    f"one of {names}."
                )
            feature = names.index(column)
            if self._reader.categorical_[feature]:
                raise ValueError(
                    f"got likelihood={wanted!r} for the categorical column {column!r}, "
                    "but expected columns of numbers."
                )
            kinds[feature] = kind
        for feature in np.flatnonzero(self._reader.categorical_).tolist():
            kinds[feature] = "categorical"
        return kinds

    def _start(self, seed: int) -> Autoencoder:
        """Make the model that training starts from: at PCA, or where it last ended."""
        if self._continues():
            return self._rebuild()
        return self._build(make_generator(seed, torch.device("cpu"))).double()

    def _rows(
        self,
        table: np.ndarray,
        weight: np.ndarray | None,
        table_val: np.ndarray | None,
        device: torch.device,
        seed: int,
    ) -> tuple[Rows, Rows]:
        """Put the table on the device; return rows to learn from and rows to judge."""

        def to_device(array: np.ndarray) -> Tensor:
            return to_tensor(array, device, torch.float32)

        cells = self._training_cells(table).map(to_device)
        weights = None if weight is None else to_device(weight)
        if table_val is None:
            return split_rows(cells, weights, self.validation_fraction, seed)
        judges = self._training_cells(table_val).map(to_device)
        return Rows.all_of(cells, weights), Rows.all_of(judges)

    def _cells(self, table: np.ndarray) -> Cells:
        """Encode rows, and fill holes with what the linear model expects there."""
        values, seen = self._encoder.encode(table)
        if seen is None:
            return Cells(values)
        linear = self._principal.probabilistic()
        known = linear.given(values, self._encoder.columns_of(seen))
        log_variances = None
        if self._fitted_architecture.linear_path:
            log_variances = np.log(known.variances / linear.variances)
        filled = known.filled.astype(values.dtype)
        return Cells(filled, seen.astype(values.dtype), log_variances)

    def _training_cells(self, table: np.ndarray) -> Cells:
        """Encode rows with all that a loss of them needs."""
        return self._cells(table)

    def _train(
        self, objective: Objective, rows: Rows, judges: Rows, progress: Progress
    ) -> History:
        seed_dropout(objective.module, objective.generator)
        penalised = network_weights(objective.module)
        prefer_start = self.linear_path or self._continues()
        return Training(
            objective,
            rows,
            judges,
            penalised,
            progress,
            prefer_start=prefer_start and self._are_held_out(judges, rows),
            **{name: getattr(self, name) for name in TRAINING_PARAMETERS},
        ).run()

    def _are_held_out(self, judges: Rows, rows: Rows) -> bool:
        """Tell whether the gradient never sees the rows that judge."""
        return judges.cells is not rows.cells or bool(self.validation_fraction)

    def _rank_components(
        self, module: Autoencoder, rows: Rows, *, trained: bool
    ) -> None:
        """Put the components that carry most first; share what they explain."""
        cells, weight = rows.spread(SUMMARY_ROWS)
        with torch.no_grad():
            importances = module.importances(cells, weight)
            explained = max(float(module.explained(cells, weight)), 0.0)
            if trained:
                order = importances.argsort(descending=True, stable=True)
                module.order.copy_(order)
        carried = to_numpy(importances[module.order]).astype(np.float64)
        self.explained_variance_ratio_ = explained * carried / (carried.sum() or 1.0)

    def _keep(self, best: Autoencoder, history: History, device: torch.device) -> None:
        """Set the fitted attributes that every model has."""
        curves = [history.loss_curve, history.validation_curve]
        if self._continues():
            earlier = [self.loss_curve_, self.validation_curve_]
            curves = [[*a, *b] for a, b in zip(earlier, curves, strict=True)]
        self._weights = {
            name: to_numpy(tensor).copy() for name, tensor in best.state_dict().items()
        }
        self._device_name = str(device)
        self._modules: dict[Any, Autoencoder] = {}
        self.loss_curve_, self.validation_curve_ = map(np.array, curves)
        self.n_iter_ = len(self.loss_curve_)
        self.best_iter_ = history.best_epoch
        self.best_loss_ = history.best_loss
        self.start_loss_ = history.start_loss

    def _remember_holes(self, module: Any, rows: Rows, seed: int) -> None:
        """Keep codes of training rows with their patterns of missing cells."""
        self._holes: tuple[np.ndarray, np.ndarray] | None = None
        if rows.cells.seen is None:
            return
        with torch.no_grad():
            cells = rows.first(SUMMARY_ROWS)
            codes = to_numpy(self._typical_codes(module, cells, seed))
        holes = np.zeros((len(codes), self.n_features_in_), dtype=bool)
        holes[:, self._encoder.order_] = to_numpy(cells.seen) == 0
        self._holes = codes, holes

    def _learn_margins(
        self, table: np.ndarray, weight: np.ndarray | None, seed: int
    ) -> None:
        """Learn how the numbers that the model draws are spread, and those it should.

        A network draws smooth margins; tables have spikes, edges and gaps.
        """
        n_rows = min(max(len(table), FEWEST_DRAWN), MOST_DRAWN)
        _, drawn = self._draw(n_rows, None, seed)
        decoded = self._encoder.decode(drawn, np.random.default_rng(seed))
        numbers = self._encoder.numeric_
        step = -(-len(table) // MARGIN_ROWS)
        self._margins = Margins(
            table[::step, numbers],
            None if weight is None else weight[::step],
            drawn[:, : len(numbers)],
            decoded[:, numbers],
        )

    def _typical_codes(self, module: Any, cells: Cells, seed: int) -> Tensor:
        """Return a code for each row that the model might have drawn it from."""
        return module.latent(cells)

    # ------------------------------------------------------------ fitted models

    def _rebuild(self) -> Autoencoder:
        """Make the fitted model anew, in double precision on the CPU."""
        cpu = torch.device("cpu")
        with self._users_randomness(0, cpu):
            module = self._build(make_generator(0, cpu)).double()
        state = {name: torch.tensor(array) for name, array in self._weights.items()}
        module.load_state_dict(state)
        return module.eval()

    def _users_randomness(
        self, seed: int, device: torch.device
    ) -> AbstractContextManager[None]:
        """Make modules that the user brought repeatable; skae's own need no care."""
        design = self._fitted_architecture
        own = design.encoder is None and design.decoder is None
        return nullcontext() if own else seeded_globally(seed, device)

    def _module(self, dtype: torch.dtype) -> Autoencoder:
        """Return the fitted model in a precision on the device, made once."""
        device = self.device_
        key = str(device), str(dtype)
        if key not in self._modules:
            with torch.inference_mode(False):
                self._modules[key] = self._rebuild().to(device, dtype)
        return self._modules[key]

    @property
    def device_(self) -> torch.device:
        """Device of the fitted model: where it was trained, or the CPU without it."""
        check_is_fitted(self)
        return fallback_device(self._device_name)

    @property
    def module_(self) -> Autoencoder:
        """The fitted torch network, between scaled columns, in single precision."""
        check_is_fitted(self)
        return self._module(torch.float32)

    @property
    def _n_features_out(self) -> int:
        return self._fitted_architecture.n_components

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_weights")

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        state.pop("_modules", None)  # torch modules are made anew from `_weights`
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "_weights"):
            self._modules = {}

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
        return self._map_table(X, _code)

    def inverse_transform(self, X: Any) -> Any:
        """Decode codes to rows in the units of the table that was fitted.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        rows : ndarray or dataframe of shape (n_samples, n_features)
            A dataframe like that of the fit, with its dtypes and levels, if it had
            columns of levels or missing cells, or where `set_output` asked for one. The
            likeliest level stands for its column.

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
        rows = self._map(codes, _decode, finish=self._encoder.decode)
        return self._as_table(rows, X)

    def reconstruction_error(self, X: Any) -> pd.DataFrame:
        """Compute how far each cell is from its reconstruction.

        Large cells say why a row is odd: each is what its column adds to the error of
        the row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit.

        Returns
        -------
        errors : DataFrame of shape (n_samples, n_features)
            Squared errors in scaled units, where a column's variance is about one, with
            the column names of the fit and the index of `X` if it is a pandas
            dataframe. A categorical column has the sum over its levels. NaN where a
            cell is missing; 0 in a column that was all missing or of one level in the
            fit.
        """
        check_is_fitted(self)
        table = self._read(X)
        errors = np.where(np.isnan(table), np.nan, 0.0)
        columns = self._encoder.order_
        if len(columns):
            cells = self._map(table, _squared_errors, self._cells)
            errors[:, columns] += cells
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(errors, index=index, columns=self._column_names())

    def impute(self, X: Any) -> Any:
        """Fill the missing cells of a table with their reconstruction.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit; NaN, None and NA are missing.

        Returns
        -------
        filled : array or dataframe of shape (n_samples, n_features)
            The same table in the same container: seen cells are as they were, bit for
            bit. A column that was all missing in the fit stays as it is.
        """
        check_is_fitted(self)
        table = self._read(X)
        holed = np.isnan(table).any(axis=1)
        rows = self._reconstruct(table[holed]) if holed.any() else table[holed]
        return self._fill(X, holed, rows)

    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        given: Mapping[Any, Any] | None = None,
        missing: bool = False,
    ) -> Any:
        """Draw new rows that resemble the table that was fitted.

        What the model draws is then brought, column by column and by rank, to the
        margins of the table: a column of whole numbers gets whole numbers, one of many
        zeros as many, and no number is outside the range of the fit.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            An int makes the draw repeatable; None draws anew each time.
        given : dict of column to value, default=None
            Values that all rows shall have, such as ``{"sex": "female"}``; columns by
            name, or by index where there are no names. The codes are drawn by
            importance resampling.
        missing : bool, default=False
            Whether cells are missing as they are in the table: a row takes the holes
            of the training row whose code is nearest to its own. By default rows are
            whole.

        Returns
        -------
        rows : ndarray or dataframe of shape (n_samples, n_features)
            In the units of the table. A dataframe like that of the fit if it had
            categorical columns or missing cells, or where `set_output` asked for one.

        Raises
        ------
        ValueError
            If `n_samples` is not a positive integer, if `given` names a column or a
            level that the fit did not have, or if so few draws of the code agree with
            `given` that rows drawn from them could not be trusted.
        """
        check_is_fitted(self)
        check_count("n_samples", n_samples)
        fixed = None if given is None else self._given_row(given)
        seed = derive_seeds(random_state, "sample")["sample"]
        codes, encoded = self._draw(n_samples, fixed, seed)
        rows = self._encoder.decode(encoded, np.random.default_rng(seed))
        numbers = self._encoder.numeric_
        rows[:, numbers] = self._margins.match(
            encoded[:, : len(numbers)], rows[:, numbers]
        )
        rows = self._encoder.within_range(rows, whole=True)
        if fixed is not None:
            rows = np.where(np.isnan(fixed), rows, fixed)
        if missing and self._holes is not None:
            nearest = pairwise_distances_argmin(codes, self._holes[0])
            rows[self._holes[1][nearest]] = np.nan
        return self._as_table(rows)

    # ------------------------------------------------------------------- helpers

    def _given_row(self, given: Mapping[Any, Any]) -> np.ndarray:
        """Write given values as a row of numbers and level codes, NaN elsewhere."""
        names = list(getattr(self, "feature_names_in_", range(self.n_features_in_)))
        row = np.full((1, len(names)), np.nan)
        for column, value in given.items():
            if column not in names:
                raise ValueError(
                    f"got given={dict(given)!r} with a column {column!r}, but expected "
                    f"one of {names}."
                )
            feature = names.index(column)
            row[0, feature] = self._reader.code_of(feature, column, value)
        return row

    def _draw(
        self, n_samples: int, fixed: np.ndarray | None, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw codes and the encoded rows that they stand for."""
        module = self._module(widest_dtype(np.dtype(np.float64), self.device_))
        generator = make_generator(seed, self.device_)
        with torch.no_grad():
            if fixed is None:
                codes = self._draw_codes(module, n_samples, generator)
            else:
                like = next(module.parameters())
                cells = self._cells(fixed).map(
                    lambda a: to_tensor(a, like.device, like.dtype)
                )
                codes = codes_given(self, module, cells, n_samples, generator)
            rows = [
                to_numpy(self._draw_rows(module, part, generator))
                for part in codes.split(self._chunk_rows())
            ]
        return to_numpy(codes), np.concatenate(rows).astype(np.float64, copy=False)

    def _propose(
        self, module: Any, cells: Cells, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw codes, and the logarithms of their weights given one row's cells."""
        codes = self._draw_codes(module, PROPOSALS, generator)
        return codes, self._log_chance(module, codes, cells)

    def _fill(self, X: Any, holed: np.ndarray, rows: np.ndarray) -> Any:
        """Return `X` with the missing cells of some rows taken from completed ones."""
        whole = np.full((len(holed), self.n_features_in_), np.nan)
        whole[holed] = rows
        return self._reader.fill(X, whole)

    def _reconstruct(self, table: np.ndarray) -> np.ndarray:
        """Return rows of the table as the model reconstructs them."""

        def reconstruction(module: Autoencoder, cells: Cells) -> Tensor:
            return module.reconstruction(module.code(cells))

        rows = self._map(
            table, reconstruction, self._cells, finish=self._encoder.decode
        )
        return self._encoder.within_range(rows, whole=False)

    def _map_table(
        self, X: Any, function: Callable[[Any, Cells], Tensor]
    ) -> np.ndarray:
        """Validate new rows and apply a function of the model to them, encoded."""
        check_is_fitted(self)
        return self._map(self._read(X), function, self._cells)

    def _as_table(self, rows: np.ndarray, original: Any = None) -> Any:
        if self._reader.template_ is not None:
            return self._reader.write(rows, original)
        return to_container(rows, self._column_names(), self, original)

    def _column_names(self) -> np.ndarray:
        numbered = np.array([f"x{i}" for i in range(self.n_features_in_)], dtype=object)
        return getattr(self, "feature_names_in_", numbered)

    def _chunk_rows(self) -> int:
        """Rows at a time: a few megabytes of activations on the CPU, more on a GPU."""
        return 1024 if self.device_.type == "cpu" else 65536

    def _map(
        self,
        rows: np.ndarray,
        function: Callable[[Any, Any], Tensor],
        prepare: Callable[[Any], Cells] = Cells,
        *,
        finish: Callable[[np.ndarray], np.ndarray] = np.asarray,
    ) -> np.ndarray:
        """Apply a function of the model to rows, a chunk at a time, in their dtype."""
        device = self.device_
        dtype = widest_dtype(rows.dtype, device)
        module = self._module(dtype)
        result = np.empty(0)
        with torch.inference_mode(False), torch.no_grad():  # densities need slopes
            for part in gen_batches(len(rows), self._chunk_rows()):
                cells = prepare(rows[part]).map(lambda a: to_tensor(a, device, dtype))
                output = finish(to_numpy(function(module, cells)))
                if part.start == 0:
                    result = np.empty((len(rows), *output.shape[1:]), rows.dtype)
                result[part] = output
        return result


TRAINING_PARAMETERS = (
    "solver",
    "learning_rate",
    "momentum",
    "weight_decay",
    "l1_penalty",
    "batch_size",
    "max_iter",
    "tol",
    "n_iter_no_change",
    "early_stopping",
)


def check_count(name: str, count: Any) -> None:
    """Refuse a number of draws that is none."""
    if not isinstance(count, Integral) or count < 1:
        raise ValueError(
            f"got {name}={count!r}, but expected an integer of at least 1."
        )


def _code(module: Autoencoder, cells: Cells) -> Tensor:
    return module.code(cells)


def _squared_errors(module: Autoencoder, cells: Cells) -> Tensor:
    return module.squared_errors(cells)


def _decode(module: Autoencoder, codes: Cells) -> Tensor:
    return module.reconstruction(codes.values)


@contextmanager
def _all_or_nothing(estimator: BaseEstimator) -> Iterator[None]:
    """Leave an estimator as it was if the block raises or is interrupted."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        # What scikit-learn has set up for callbacks it still has to take down.
        callbacks = {k: v for k, v in vars(estimator).items() if "callback" in k}
        estimator.__dict__ = before | callbacks
        raise
