"""A fitted model: its linear core, its weights and the order of its codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._schema import Encoded
from .._torch import (
    fallback_device,
    make_generator,
    no_gradients,
    to_numpy,
    to_tensor,
    widest_dtype,
)
from ..network._autoencoders import Autoencoder
from ..network._build import LinearStart, build
from ..network._cells import Cells
from ..network._design import Design, users_randomness
from ..network._normal import gaussian_kl
from ._level_columns import level_columns
from ._linear_density import LinearDensity, linear_density
from ._pca import PrincipalComponents

CPU = torch.device("cpu")
BEYOND = 1.5  # times as far as the codes of the fit, the decoder's network goes


@dataclass(frozen=True)
class Model:
    """What turns encoded rows into codes and back, on any device, in any precision.

    Codes that leave and enter have the component that carries most first; those within
    have the order of the encoder's outputs, and nothing but this class knows of both.

    Attributes
    ----------
    design : Design
    linear : PrincipalComponents
        Where training started from, and what fills holes.
    weights : dict of str to ndarray
    order : ndarray of int of shape (n_components,)
        Of the components that leave, by outputs of the encoder.
    device_name : str
        Of the fit.
    is_trained : bool
        Or the weights are those of the start.
    """

    design: Design
    linear: PrincipalComponents
    weights: dict[str, np.ndarray]
    order: np.ndarray
    device_name: str
    is_trained: bool = False
    _modules: dict[tuple[str, str], Autoencoder] = field(
        default_factory=dict, compare=False, repr=False
    )

    @classmethod
    def start(
        cls,
        design: Design,
        linear: PrincipalComponents,
        seed: int,
        device: torch.device,
    ) -> Model:
        """Make the model that training starts from."""
        module = build(design, linear_start(design, linear), make_generator(seed, CPU))
        order = np.arange(design.n_components)
        return cls(design, linear, _arrays(module), order, str(device))

    def learned(self, module: Autoencoder, order: np.ndarray) -> Model:
        """Return the model with the weights of a trained module."""
        weights = _arrays(module)
        of_fit = self.design, self.linear, weights, order, self.device_name
        return Model(*of_fit, is_trained=True)

    def settled(self, encoded: Encoded) -> Model:
        """Return the model with as many zeros in the codes of rows as it promises."""
        if not self.design.sparsity:
            return self
        module = self.new_module()
        cells = self.cells(encoded).map(torch.from_numpy)
        weight = torch.from_numpy(encoded.relative_weight)
        module.settle(cells.map(torch.Tensor.double), weight)
        return self.learned(module, self.order)

    def untrained(self) -> Autoencoder:
        """Make the network that training started from, but for its first weights."""
        start = Model.start(self.design, self.linear, 0, self.device)
        return start.new_module().to(self.device, torch.float32)

    def going_on(self, design: Design, device: torch.device) -> Model:
        """Return the model for a fit that goes on from it, on a device."""
        if design != self.design:
            raise ValueError(
                "got warm_start=True, but expected the networks of the earlier fit:"
                f" {design.differences(self.design)}."
            )
        return replace(self, device_name=str(device), _modules={})

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_modules": {}}  # made anew from the weights

    @property
    def device(self) -> torch.device:
        """Where the model is: the CPU if the device of the fit is missing."""
        return fallback_device(self.device_name)

    @property
    def chunk_rows(self) -> int:
        """Rows at a time: a few megabytes of activations on the CPU, more on a GPU."""
        return 1024 if self.device.type == "cpu" else 65536

    def new_module(self) -> Autoencoder:
        """Make the network anew, in double precision on the CPU."""
        design, start = self.design, linear_start(self.design, self.linear)
        with users_randomness(design.encoder, design.decoder, 0, CPU):
            module = build(design, start, make_generator(0, CPU))
        state = {name: torch.tensor(array) for name, array in self.weights.items()}
        module.load_state_dict(state)
        return module.eval()

    def module(self, dtype: torch.dtype) -> Autoencoder:
        """Return the network in a precision on the device, made once."""
        device = self.device
        key = str(device), str(dtype)
        if key not in self._modules:
            with torch.inference_mode(False):
                self._modules[key] = self.new_module().to(device, dtype)
        return self._modules[key]

    # ------------------------------------------------------------ rows as cells

    def cells(self, encoded: Encoded) -> Cells:
        """Fill holes with what the linear model expects there; arrays, not tensors."""
        values, seen, columns = encoded.matrix, encoded.seen, encoded.columns_seen
        if seen is None or columns is None:
            return Cells(values)
        ppca = self.linear.probabilistic()
        filled, variances = ppca.filled(values, columns)
        log_variances = None
        if self.design.linear_path:
            log_variances = np.log(variances / ppca.variances)
        return Cells(filled, seen.astype(values.dtype), log_variances)

    def anchored_cells(self, encoded: Encoded) -> Cells:
        """Fill holes, and say how likely rows are at the start, if that is known."""
        cells = self.cells(encoded)
        if (start := self.start_density) is None:
            return cells
        known = start.given(encoded.matrix, encoded.cells_seen)
        return replace(cells, log_density=known.log_density)

    @property
    def start_density(self) -> LinearDensity | None:
        """Probabilistic PCA of the numbers times levels that are independent.

        None where the likelihood of the numbers, or the plain networks of the
        textbooks, have no such start.
        """
        design = self.design
        kinds = {block.kind.name for block in design.blocks if block.is_numeric}
        if not (design.is_variational and design.linear_path and kinds <= {"gaussian"}):
            return None
        ppca, numbers = self.linear.probabilistic(), slice(design.n_numbers)
        levels = level_columns(design.blocks)
        return linear_density(
            ppca.mean[numbers],
            ppca.loadings[numbers],
            ppca.noise_variance,
            levels.centre,
            levels,
        )

    # ------------------------------------------------------------------ answers

    def codes(self, encoded: Encoded) -> np.ndarray:
        """Compute codes, the component that carries most first."""
        return self.answer(encoded, _latent)[:, self.order]

    def latent(self, encoded: Encoded) -> np.ndarray:
        """Compute codes in the order of the encoder's outputs, in double precision."""
        return self.answer(encoded, _latent).astype(np.float64)

    def decoded(self, latent: np.ndarray) -> np.ndarray:
        """Compute scaled rows from such codes, in double precision."""
        codes = self.tensor(latent)
        with no_gradients():
            rows = self.module(codes.dtype).decoded(codes)
        return to_numpy(rows).astype(np.float64)

    def filled(self, encoded: Encoded) -> np.ndarray:
        """Return rows with what the linear model expects in their holes."""
        return np.asarray(self.cells(encoded).values)

    def posterior(self, encoded: Encoded) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of the Gaussian over codes of each row."""
        moments = self.answer(encoded, _moments)
        return moments[:, 0, self.order], moments[:, 1, self.order]

    def divergences(self, encoded: Encoded) -> np.ndarray:
        """KL divergence of each component's posterior from the prior, in nats."""
        return self.answer(encoded, _divergences).astype(np.float64)[:, self.order]

    def rows_of(self, codes: np.ndarray) -> np.ndarray:
        """Compute the scaled rows that codes stand for."""
        latent = self.tensor(codes[:, np.argsort(self.order)])
        with no_gradients():
            return to_numpy(self.module(latent.dtype).decoded(latent))

    def cell_errors(self, encoded: Encoded) -> np.ndarray:
        """Squared error of each seen cell, of shape (n_rows, n_features)."""
        return self.answer(encoded, _squared_errors)

    def answer(
        self, encoded: Encoded, function: Callable[[Any, Cells], Tensor]
    ) -> np.ndarray:
        """Apply a function of the network to rows, in their precision."""
        cells = self.tensors(self.cells(encoded))
        with no_gradients():
            return to_numpy(function(self.module(cells.values.dtype), cells))

    def encoded(self, X: np.ndarray, seen: np.ndarray) -> Encoded:
        """Return rows of the matrix as encoded rows, by the cells that are seen."""
        widths = self.design.widths
        first = np.cumsum([0, *widths[:-1]])
        of_features = seen[:, first]
        return Encoded(X, widths, None if of_features.all() else of_features)

    def tensor(self, array: np.ndarray) -> Tensor:
        """Put an array on the device, in the precision that it has there."""
        device = self.device
        return to_tensor(array, device, widest_dtype(array.dtype, device))

    def tensors(self, cells: Cells) -> Cells:
        like = self.tensor(cells.values)
        return cells.map(lambda a: to_tensor(a, like.device, like.dtype))


def _arrays(module: Autoencoder) -> dict[str, np.ndarray]:
    return {
        name: to_numpy(tensor).copy() for name, tensor in module.state_dict().items()
    }


def linear_start(design: Design, linear: PrincipalComponents) -> LinearStart:
    """Give closed forms to the networks: PCA, a denoiser, or probabilistic PCA."""
    tensor = torch.from_numpy
    scales = tensor(linear.column_scales)
    limits = torch.full((design.n_components,), torch.inf, dtype=torch.float64)
    if linear.reach is not None:
        limits = BEYOND * tensor(linear.reach)
    if design.is_variational:
        ppca = linear.probabilistic()
        return LinearStart(
            mean=tensor(ppca.mean),
            column_scales=scales,
            projection=tensor(ppca.projection),
            loadings=tensor(ppca.loadings),
            code_scales=torch.ones(design.n_components, dtype=torch.float64),
            code_limits=limits,
            log_variances=tensor(ppca.variances).log(),
            noise_variance=ppca.noise_variance,
        )
    return LinearStart(
        mean=tensor(linear.mean),
        column_scales=scales,
        input_scales=tensor(linear.input_scales),
        projection=tensor(linear.projection),
        loadings=tensor(linear.directions).T,
        code_scales=tensor(linear.code_scales()),
        code_limits=limits,
        log_variances=None,
        noise_variance=linear.noise_variance,
    )


def _latent(module: Any, cells: Cells) -> Tensor:
    return module.latent(cells)


def _moments(module: Any, cells: Cells) -> Tensor:
    mean, log_variance = module.posterior(cells)
    return torch.stack([mean, (0.5 * log_variance).exp()], dim=1)


def _squared_errors(module: Any, cells: Cells) -> Tensor:
    return module.squared_errors(cells)


def _divergences(module: Any, cells: Cells) -> Tensor:
    return gaussian_kl(*module.posterior(cells), *module.prior.moments())
