"""The linear map that undoes noise and masks best: where a denoising fit starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy import linalg

from .._schema import Encoded
from ..network._design import Design
from ._holes import principal_components_of
from ._pca import (
    PrincipalComponents,
    covariance_of,
    leading_directions,
)

SLACK = 1e-9  # of the mean variance: masks alone leave columns collinear


@dataclass(frozen=True)
class Corruption:
    """What inputs suffer, to be undone.

    Attributes
    ----------
    noise : ndarray of shape (n_columns,)
        Standard deviation of Gaussian noise on each column of the matrix.
    masking : float
        Chance that a cell of the table is replaced by the mean of its column.
    widths : tuple of int
        Columns of the matrix for each of the table's.
    """

    noise: np.ndarray
    masking: float
    widths: tuple[int, ...]

    def covariances(self, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return that of clean with corrupted rows, and that of corrupted rows."""
        kept = 1 - self.masking
        cell = np.repeat(np.arange(len(self.widths)), self.widths)
        within = np.equal.outer(cell, cell) * clean
        spoiled = kept**2 * clean + kept * self.masking * within
        spoiled[np.diag_indices_from(spoiled)] += kept * self.noise**2
        return kept * clean, spoiled


@dataclass(frozen=True, kw_only=True)
class Denoiser(PrincipalComponents):
    """Principal components, and beside them the linear map that undoes a corruption.

    With S the covariance of corrupted rows and K that of clean with corrupted ones, the
    best map is K S⁻¹, Wiener's filter. The best one through a code of few components is
    its projection on the leading eigenvectors of K S⁻¹ Kᵀ (reduced-rank regression,
    [1]_). Without a corruption these are the principal components.

    Attributes
    ----------
    corruption : Corruption
    encoder, decoder : ndarray of shape (n_components, n_features)
        The rows of the decoder are orthonormal.
    code_variances : ndarray of shape (n_components,)
        Of the codes of corrupted rows, in descending order.
    spoiled_scales : ndarray of shape (n_features,)
        Deviations of corrupted columns; zero where a column is constant.

    References
    ----------
    .. [1] Izenman, A. J. (1975). Reduced-rank regression for the multivariate linear
       model. Journal of Multivariate Analysis 5, 248-264.
    """

    corruption: Corruption
    encoder: np.ndarray
    decoder: np.ndarray
    code_variances: np.ndarray
    spoiled_scales: np.ndarray

    @classmethod
    def of(
        cls,
        linear: PrincipalComponents,
        corruption: Corruption,
        X: np.ndarray,
        seen: np.ndarray | None,
        sample_weight: np.ndarray | None,
    ) -> Self:
        """Find the map; for rows with holes, by the covariance that their PCA says."""
        if seen is None:
            clean = covariance_of(X, linear.mean, sample_weight)
        else:
            clean = linear.probabilistic().covariance
        both, spoiled = corruption.covariances(clean)
        scales = np.sqrt(spoiled.diagonal()) * (linear.column_scales > 0)
        slack = SLACK * spoiled.diagonal().mean() or 1.0
        spoiled[np.diag_indices_from(spoiled)] += slack
        wiener = linalg.solve(spoiled, both, assume_a="pos").T
        encoder, decoder = np.zeros((2, *linear.components.shape))
        variances = np.zeros(len(encoder))
        n_kept = min(decoder.shape)
        directions, found = leading_directions(wiener @ both.T, n_kept)
        decoder[:n_kept], variances[:n_kept] = directions[:n_kept], found[:n_kept]
        encoder[:n_kept] = decoder[:n_kept] @ wiener
        made = cls(
            **vars(linear),
            corruption=corruption,
            encoder=encoder,
            decoder=decoder,
            code_variances=variances,
            spoiled_scales=scales,
        )
        if seen is not None:
            return made
        return replace(made, reach=made.reach_in(X, sample_weight))

    @property
    def projection(self) -> np.ndarray:
        return self.encoder

    @property
    def directions(self) -> np.ndarray:
        return self.decoder

    @property
    def input_scales(self) -> np.ndarray:
        return self.spoiled_scales

    def code_scales(self) -> np.ndarray:
        return self.deviations(self.code_variances)

    def of_rows(
        self, X: np.ndarray, sample_weight: np.ndarray | None
    ) -> PrincipalComponents:
        linear = super().of_rows(X, sample_weight)
        return self.of(linear, self.corruption, X, None, sample_weight)


def linear_model(
    encoded: Encoded,
    design: Design,
    noise: float,
    masking: float,
    of_all: Callable[[int], PrincipalComponents] | None = None,
) -> PrincipalComponents:
    """Find the linear model that networks of a design start from.

    Parameters
    ----------
    encoded : Encoded
    design : Design
    noise, masking : float
        To be undone: noise in the units of the matrix, and the share of cells that are
        masked.
    of_all : callable or None
        Computes so many principal components of all rows, where these are but some.
    """
    if of_all is None:
        linear = principal_components_of(
            encoded.matrix, encoded.columns_seen, design.n_components, encoded.weight
        )
    else:
        linear = of_all(design.n_components)
        reach = linear.reach_in(encoded.matrix, encoded.weight)
        linear = replace(linear, reach=reach)
    if noise == masking == 0:
        return linear
    scales = noise_scales(noise, linear.column_scales, design.n_numbers)
    corruption = Corruption(scales, masking, tuple(design.widths))
    rows = encoded.matrix, encoded.columns_seen, encoded.weight
    return Denoiser.of(linear, corruption, *rows)


def noise_scales(noise: float, deviations: Any, n_numbers: int) -> Any:
    """Return the noise of each column: of levels, in deviations of their indicators."""
    scales = noise * deviations
    scales[:n_numbers] = noise
    return scales
