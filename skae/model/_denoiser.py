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
    deviations_of,
    directions_of_product,
    is_large,
    leading_directions,
    orthonormal,
)

Found = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

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

    @property
    def kept(self) -> float:
        """Chance that a cell is not masked."""
        return 1 - self.masking

    def covariances(self, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return that of clean with corrupted rows, and that of corrupted rows."""
        kept = self.kept
        cell = np.repeat(np.arange(len(self.widths)), self.widths)
        within = np.equal.outer(cell, cell) * clean
        spoiled = kept**2 * clean + kept * self.masking * within
        spoiled[np.diag_indices_from(spoiled)] += kept * self.noise**2
        return kept * clean, spoiled

    def spoiled_variances(self, clean: np.ndarray) -> np.ndarray:
        """Variances of corrupted columns by those of clean ones."""
        return self.kept * (clean + self.noise**2)

    def over_own(self, rows: np.ndarray, slack: float) -> np.ndarray:
        """Divide rows by what the covariance of corrupted ones has within cells alone.

        With C the covariance of the rows, divided by their number already, that is its
        difference from kept² C.
        """
        own = self.kept * self.noise**2 + slack
        within = self.kept * self.masking
        result = rows / (within * np.einsum("nj,nj->j", rows, rows) + own)
        start = 0
        for width in self.widths:
            columns = slice(start, start + width)
            start = columns.stop
            if width > 1:
                some = rows[:, columns]
                matrix = within * some.T @ some + np.diag(own[columns])
                result[:, columns] = linalg.solve(matrix, some.T, assume_a="pos").T
        return result


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
        shape = linear.components.shape
        n_kept = min(*shape, len(X)) if seen is None else min(shape)
        if seen is None and len(X) < X.shape[1]:
            rows = deviations_of(X, linear.mean, sample_weight)
            found = _by_rows(rows, corruption, n_kept)
        else:
            if seen is None:
                clean = covariance_of(X, linear.mean, sample_weight)
            else:
                clean = linear.probabilistic().covariance
            found = _by_columns(clean, corruption, n_kept)
        encoder, decoder = np.zeros((2, *shape))
        variances = np.zeros(len(encoder))
        spoiled, variances[:n_kept], decoder[:n_kept], encoder[:n_kept] = found
        scales = np.sqrt(spoiled) * (linear.column_scales > 0)
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


def _by_columns(clean: np.ndarray, corruption: Corruption, n_kept: int) -> Found:
    """Find the map by the covariance of the clean rows.

    Returns
    -------
    spoiled_variances : ndarray of shape (n_columns,)
    variances : ndarray of shape (n_kept,)
    decoder, encoder : ndarray of shape (n_kept, n_columns)
    """
    both, spoiled = corruption.covariances(clean)
    variances = spoiled.diagonal().copy()
    spoiled[np.diag_indices_from(spoiled)] += SLACK * variances.mean() or 1.0
    factor = linalg.cho_factor(spoiled, lower=True, overwrite_a=True)

    def product(V: np.ndarray) -> np.ndarray:
        return both @ linalg.cho_solve(factor, both @ V)

    if is_large(len(both), n_kept):
        decoder, found = directions_of_product(product, len(both), n_kept)
    else:
        whole = both @ linalg.cho_solve(factor, both)
        decoder, found = leading_directions(whole, n_kept)
    decoder = decoder[:n_kept]
    encoder = linalg.cho_solve(factor, both @ decoder.T).T
    return variances, found[:n_kept], decoder, encoder


def _by_rows(rows: np.ndarray, corruption: Corruption, n_kept: int) -> Found:
    """Find the same by rows whose products are the covariance, where these are fewer.

    With R the rows, k the share that is kept and B what the corruption adds within
    cells, S is k² RᵀR + B, and by Woodbury's identity K S⁻¹ = k Rᵀ M⁻¹ R B⁻¹, of which
    M = I + k² R B⁻¹Rᵀ has a row for each of R. K S⁻¹ Kᵀ is Rᵀ (I - M⁻¹) R.
    """
    kept = corruption.kept
    variances = corruption.spoiled_variances(np.einsum("nj,nj->j", rows, rows))
    over_own = corruption.over_own(rows, SLACK * variances.mean() or 1.0)
    told = kept**2 * over_own @ rows.T
    whole = told + np.eye(len(rows))
    factor = linalg.cho_factor(whole, lower=True, overwrite_a=True)

    def product(V: np.ndarray) -> np.ndarray:
        return rows.T @ linalg.cho_solve(factor, told @ (rows @ V))

    if is_large(len(rows), n_kept):
        decoder, found = directions_of_product(product, rows.shape[1], n_kept)
    else:
        ratios, vectors = np.linalg.eigh(told)
        ratios = np.maximum(ratios, 0.0)
        root = vectors * np.sqrt(ratios / (1 + ratios))
        products = root.T @ (rows @ rows.T) @ root
        left, found = leading_directions(products, n_kept)
        decoder = orthonormal(left[:n_kept] @ root.T @ rows)
    encoder = kept * linalg.cho_solve(factor, rows @ decoder.T).T @ over_own
    return variances, found[:n_kept], decoder, encoder


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
