"""What both transformers answer once they are fitted: codes, tables, rows, cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import Tags, check_array
from sklearn.utils.validation import check_is_fitted

from ._array_api import arrays_of
from ._piecewise import piecewise
from ._schema import Encoded
from ._state import VERSION, loaded, saved
from ._statistics import by_chunks
from ._table_density import STRATEGIES, TableDensity
from ._torch import derive_seeds
from ._validation import FLOATS, check_choice, check_count, read_given, read_rows
from .model._conditional import Density
from .model._deferred import Deferred
from .model._model import Model
from .network._autoencoders import Autoencoder
from .table._containers import in_output
from .table._table import Table


@piecewise(
    "transform", "inverse_transform", "reconstruction_error", "score_cells", "impute"
)
class FittedAutoencoder(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Verbs of a fitted model: of its table, its networks and its density."""

    _model: Model
    _table: Table
    _density: Density | Deferred
    _summary_seed: int

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
        state = super().__getstate__() | arrays_of(self)
        return saved(state, type(self).__name__, VERSION)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(loaded(state, type(self).__name__, VERSION))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = True
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.sparse = True
        return tags

    # ------------------------------------------------------------- public verbs

    def transform(self, X: Any) -> Any:
        """Compute the codes of a table.

        This verb, and every other that takes rows and answers with rows, answers a Dask
        array or dataframe lazily, by partition, and a `LargeTable`, a path of Parquet
        or a sparse matrix chunk by chunk.

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

    def score_cells(
        self, X: Any, *, return_expected: bool = False, n_importance_samples: int = 100
    ) -> Any:
        """Compute how likely each cell is, given the other cells of its row.

        The lowest cells say why a row is odd. A reconstruction error does not: the code
        follows an odd cell, and then the others look wrong.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, with the columns of the fit.
        return_expected : bool, default=False
            Whether to say what the others let expect: of a number the median, of levels
            the likeliest.
        n_importance_samples : int, default=100
            Codes per row, at least 1. The time is that of `score_samples` once for each
            column; of more than 100 columns (`VAETransformer`: 50) it is that for up to
            16 times as many codes, which all columns share, and once for each of the
            few cells that these do not serve. What is expected takes it once for each
            column, however many.

        Returns
        -------
        log_densities : ndarray or dataframe of shape (n_samples, n_features)
            In nats, numbers in scaled units, where a column's variance is about one, so
            that cells stand beside each other in any units. NaN where a cell is
            missing; 0 in a column that was all missing or of one level in the fit.
        expected : array or dataframe of shape (n_samples, n_features)
            Only with `return_expected`; in the units of the table.
        """
        check_is_fitted(self)
        told = self._told(n_importance_samples)
        scores, expected = told.cells(self._read(X), expect=return_expected)
        scores = self._in_output(self._table.frames.write_numbers(scores, X), X)
        return (scores, self._as_table(expected, X)) if return_expected else scores

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

        What comes in is the middle of what would be drawn given the seen cells, as
        `sample(given=...)` draws it, with the decimals of its column; a missing level
        becomes the likeliest one. Codes are weighted by importance [1]_.

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
        check_choice("strategy", strategy, STRATEGIES)
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
        given: Any = None,
        missing: bool = False,
    ) -> Any:
        """Draw new rows that resemble the table that was fitted.

        Draws are brought, column by column and by rank, to the margins of the table: a
        column of whole numbers gets whole numbers, one of many zeros as many, and no
        number is outside the range of the fit, or in a gap far wider than what lies
        beside it, as between -999 and other numbers.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            An int makes the draw repeatable; None draws anew each time.
        given : dict of column to value or Series, default=None
            Values that all rows shall have, such as ``{"sex": "female"}``; columns by
            name, or by index where there are no names. A row of a pandas dataframe,
            or some of its cells, will do.
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
        rows = told.sample(n_samples, seed, read_given(given), missing=missing)
        return self._as_table(rows)

    # ------------------------------------------------------------------- helpers

    def _read(self, X: Any) -> np.ndarray:
        return read_rows(self, self._table.frames, X)

    def _told(
        self, n_points: int = 100, density: Density | Deferred | None = None
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
