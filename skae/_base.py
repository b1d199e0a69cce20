"""What both transformers are: fit, transform and back, score, tags, fitted state."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from numbers import Integral, Real
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
from sklearn.utils import Tags, check_array, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)
from torch import Tensor

from ._linear import PrincipalComponents, principal_components
from ._networks import (
    ACTIVATIONS,
    Architecture,
    Autoencoder,
    network_weights,
    seed_dropout,
)
from ._progress import Progress
from ._table import (
    ColumnScaler,
    canonical_rows,
    explain_text,
    standardise,
    to_container,
)
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
from ._training import (
    LEARNING_RATES,
    History,
    Objective,
    Rows,
    Training,
    split_rows,
)

FLOATS = [np.float64, np.float32]
AUTO = StrOptions({"auto"})
SUMMARY_ROWS = 5_000  # training rows that a fitted summary is computed from


class BaseAutoencoder(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    CallbackSupportMixin,
    BaseEstimator,
):
    """Base of the transformers: all but the model, its objective and its scores."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "l1_penalty": [Interval(Real, 0, None, closed="left")],
        "linear_path": ["boolean"],
        "scaling": [StrOptions({"auto", "standard", "minmax"}), None],
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
        X : array-like of shape (n_samples, n_features)
            The table, of finite numbers.
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
            If the table, a parameter or the device is not as expected. The estimator is
            then as it was before.
        """
        with _all_or_nothing(self):
            device = resolve_device(self.device)
            seeds = derive_seeds(
                self.random_state, "split", "weights", "training", "summary"
            )
            table, weight, table_val = self._check_input(X, sample_weight, X_val)
            table, weight = canonical_rows(table, weight)
            scaler = self._make_scaler(table, weight)
            encoded = scaler.encode(table)
            encoded_val = None if table_val is None else scaler.encode(table_val)
            self._check_range(encoded)
            architecture = self._architecture(encoded.shape[1])
            with _users_randomness(architecture, seeds["weights"], device):
                start = self._start(architecture, encoded, weight, seeds["weights"])
                rows, judges = self._rows(
                    encoded, weight, encoded_val, device, seeds["split"]
                )
                module = copy.deepcopy(start).to(device, torch.float32)
                objective = self._objective(
                    module, rows, make_generator(seeds["training"], device)
                )
                history = self._train(objective, rows, judges, Progress(self, X, y))
            self._keep(start, module, history, architecture, scaler, device)
            self._summarise(module, rows, seeds["summary"])
        return self

    # ------------------------------------------------------- what a subclass says

    @abstractmethod
    def _loss_class(self) -> Any:
        """Return the class of the loss or likelihood that the parameters ask for."""

    @abstractmethod
    def _architecture(self, n_features: int) -> Architecture:
        """Collect what the networks are made of."""

    @abstractmethod
    def _build(
        self,
        architecture: Architecture,
        start: PrincipalComponents,
        generator: torch.Generator,
    ) -> Autoencoder:
        """Make the model at its start, in double precision on the CPU."""

    @abstractmethod
    def _objective(
        self, module: Any, rows: Rows, generator: torch.Generator
    ) -> Objective:
        """Make what training minimises."""

    @abstractmethod
    def _summarise(self, module: Any, rows: Rows, seed: int) -> None:
        """Set the fitted attributes that are computed from the trained model."""

    @abstractmethod
    def _draw(self, module: Any, n_samples: int, generator: torch.Generator) -> Tensor:
        """Draw new scaled rows."""

    # ------------------------------------------------------------- steps of fit

    def _check_input(
        self, X: Any, sample_weight: Any, X_val: Any
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        with explain_text(X):
            array = validate_data(
                self,
                X,
                dtype=FLOATS,
                ensure_min_samples=2,
                reset=not self._continues(),
            )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, array, dtype=np.float64, ensure_non_negative=True
            )
            if (n_weighted := np.count_nonzero(sample_weight)) < 2:
                raise ValueError(
                    f"got {n_weighted} row with a sample_weight above zero, but "
                    "expected at least 2."
                )
        if X_val is not None:
            with explain_text(X_val):
                X_val = validate_data(self, X_val, dtype=FLOATS, reset=False)
        return array, sample_weight, X_val

    def _continues(self) -> bool:
        return bool(self.warm_start) and hasattr(self, "_weights")

    def _make_scaler(
        self, X: np.ndarray, sample_weight: np.ndarray | None
    ) -> ColumnScaler:
        if self._continues():
            return self._scaler
        scaling = self.scaling
        if scaling == "auto":
            unit_interval = self._loss_class().expects_unit_interval
            scaling = "minmax" if unit_interval else "standard"
        return ColumnScaler(scaling).fit(X, sample_weight)

    def _check_range(self, encoded: np.ndarray) -> None:
        low, high = encoded.min(), encoded.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(
                f"got columns that overflow {encoded.dtype} with "
                f"scaling={self.scaling!r}; divide them by a constant first."
            )
        unit_interval = low >= -1e-6 and high <= 1 + 1e-6
        if self._loss_class().expects_unit_interval and not unit_interval:
            raise ValueError(
                f"got values from {low:.3g} to {high:.3g} with "
                f"scaling={self.scaling!r}, but a binary likelihood expects values in "
                "[0, 1]: set scaling='minmax' or scaling='auto'."
            )

    def _start(
        self,
        architecture: Architecture,
        encoded: np.ndarray,
        sample_weight: np.ndarray | None,
        seed: int,
    ) -> Autoencoder:
        """Make the model that training starts from: at PCA, or where it last ended."""
        if self._continues():
            if architecture != self._fitted_architecture:
                raise ValueError(
                    "got warm_start=True, but expected the networks of the earlier fit:"
                    f" {architecture.differences(self._fitted_architecture)}."
                )
            return self._rebuild()
        start = principal_components(encoded, architecture.n_components, sample_weight)
        generator = make_generator(seed, torch.device("cpu"))
        return self._build(architecture, start, generator).double()

    def _rows(
        self,
        encoded: np.ndarray,
        sample_weight: np.ndarray | None,
        encoded_val: np.ndarray | None,
        device: torch.device,
        seed: int,
    ) -> tuple[Rows, Rows]:
        """Put the table on the device; return rows to learn from and rows to judge."""
        matrix = to_tensor(encoded, device, torch.float32)
        weight = None
        if sample_weight is not None:
            weight = to_tensor(sample_weight, device, torch.float32)
        if encoded_val is None:
            return split_rows(matrix, weight, self.validation_fraction, seed)
        judges = to_tensor(encoded_val, device, torch.float32)
        return Rows.all_of(matrix, weight), Rows.all_of(judges)

    def _train(
        self, objective: Objective, rows: Rows, judges: Rows, progress: Progress
    ) -> History:
        seed_dropout(objective.module, objective.generator)
        penalised = network_weights(objective.module)
        held_out = judges.matrix is not rows.matrix or self.validation_fraction
        return Training(
            objective,
            rows,
            judges,
            penalised,
            progress,
            prefer_start=bool(held_out) and (self.linear_path or self._continues()),
            **{name: getattr(self, name) for name in TRAINING_PARAMETERS},
        ).run()

    def _keep(
        self,
        start: Autoencoder,
        module: Autoencoder,
        history: History,
        architecture: Architecture,
        scaler: ColumnScaler,
        device: torch.device,
    ) -> None:
        """Set the fitted attributes that every model has."""
        best = module if history.best_epoch else start
        curves = [history.loss_curve, history.validation_curve]
        if self._continues():
            earlier = [self.loss_curve_, self.validation_curve_]
            curves = [[*a, *b] for a, b in zip(earlier, curves, strict=True)]
        self._weights = {
            name: to_numpy(tensor).copy() for name, tensor in best.state_dict().items()
        }
        self._fitted_architecture = architecture
        self._scaler = scaler
        self._device_name = str(device)
        self._modules: dict[Any, Autoencoder] = {}
        self.loss_curve_, self.validation_curve_ = map(np.array, curves)
        self.n_iter_ = len(self.loss_curve_)
        self.best_iter_ = history.best_epoch
        self.best_loss_ = history.best_loss
        self.start_loss_ = history.start_loss

    # ------------------------------------------------------------ fitted models

    def _rebuild(self) -> Autoencoder:
        """Make the fitted model anew, in double precision on the CPU."""
        architecture = self._fitted_architecture
        blank = PrincipalComponents.blank(
            architecture.n_features, architecture.n_components
        )
        cpu = torch.device("cpu")
        with _users_randomness(architecture, 0, cpu):
            module = self._build(architecture, blank, make_generator(0, cpu)).double()
        state = {name: torch.tensor(array) for name, array in self._weights.items()}
        module.load_state_dict(state)
        return module.eval()

    def _module(self, dtype: torch.dtype) -> Autoencoder:
        """Return the fitted model in a precision on the device, made once."""
        device = self.device_
        key = str(device), str(dtype)
        if key not in self._modules:
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
            A dataframe where `set_output` asked for one.

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
        rows = self._map(codes, _decode, finish=self._scaler.decode)
        return self._as_table(rows, X)

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Any:
        """Draw new rows that resemble the table that was fitted.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            An int makes the draw repeatable; None draws anew each time.

        Returns
        -------
        rows : ndarray or dataframe of shape (n_samples, n_features)
            In the units of the table; a dataframe where `set_output` asked for one.

        Raises
        ------
        ValueError
            If `n_samples` is not a positive integer.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(
                f"got n_samples={n_samples!r}, but expected an integer of at least 1."
            )
        module = self._module(widest_dtype(np.float64, self.device_))
        seed = derive_seeds(random_state, "sample")["sample"]
        generator = make_generator(seed, self.device_)
        with torch.no_grad():
            parts = [
                to_numpy(self._draw(module, len(range(n_samples)[rows]), generator))
                for rows in gen_batches(n_samples, self._chunk_rows())
            ]
        encoded = np.concatenate(parts).astype(np.float64, copy=False)
        return self._as_table(self._scaler.decode(encoded))

    # ------------------------------------------------------------------- helpers

    def _map_table(
        self,
        X: Any,
        function: Callable[[Any, Tensor], Tensor],
        chunk_rows: int | None = None,
    ) -> np.ndarray:
        """Validate new rows and apply a function of the model to them, scaled."""
        check_is_fitted(self)
        with explain_text(X):
            rows = validate_data(self, X, dtype=FLOATS, reset=False)
        device = self.device_
        constants = [
            to_tensor(array, device, widest_dtype(rows.dtype, device))
            for array in self._scaler.constants(rows.dtype)
        ]

        def of_scaled(module: Autoencoder, chunk: Tensor) -> Tensor:
            return function(module, standardise(chunk, *constants))

        return self._map(rows, of_scaled, chunk_rows=chunk_rows)

    def _as_table(self, rows: np.ndarray, original: Any = None) -> Any:
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = np.array([f"x{i}" for i in range(rows.shape[1])], dtype=object)
        return to_container(rows, names, self, original)

    def _chunk_rows(self) -> int:
        """Rows at a time: a few megabytes of activations on the CPU, more on a GPU."""
        return 1024 if self.device_.type == "cpu" else 65536

    def _map(
        self,
        rows: np.ndarray,
        function: Callable[[Any, Tensor], Tensor],
        *,
        finish: Callable[[np.ndarray], np.ndarray] = np.asarray,
        chunk_rows: int | None = None,
    ) -> np.ndarray:
        """Apply a function of the model to rows, a chunk at a time, in their dtype."""
        device = self.device_
        dtype = widest_dtype(rows.dtype, device)
        module = self._module(dtype)
        parts = gen_batches(len(rows), chunk_rows or self._chunk_rows())
        result = np.empty(0)
        with torch.inference_mode():
            for part in parts:
                chunk = to_tensor(rows[part], device, dtype)
                output = finish(to_numpy(function(module, chunk)))
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


def _code(module: Autoencoder, encoded: Tensor) -> Tensor:
    return module.code(encoded)


def _decode(module: Autoencoder, codes: Tensor) -> Tensor:
    return module.reconstruction(codes)


def _users_randomness(
    architecture: Architecture, seed: int, device: torch.device
) -> AbstractContextManager[None]:
    """Make modules that the user brought repeatable; skae's own need no such care."""
    own = architecture.encoder is None and architecture.decoder is None
    return nullcontext() if own else seeded_globally(seed, device)


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
