"""Imputation as a step of a pipeline."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import (
    BaseEstimator,
    OneToOneFeatureMixin,
    TransformerMixin,
    _fit_context,
    clone,
)
from sklearn.utils import Tags, get_tags
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted

from ._array_api import through_numpy
from ._piecewise import piecewise
from ._vae import VAETransformer
from .table._containers import in_output


@piecewise("transform")
class AutoencoderImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fill the missing cells of a table by an autoencoder, as a step of a pipeline.

    `fit` learns the table with its holes, and `transform` fills them by what the seen
    cells tell of them: :meth:`VAETransformer.impute` in the form of scikit-learn's
    imputers.

    Parameters
    ----------
    estimator : VAETransformer or AutoencoderTransformer, default=None
        What learns the table; a clone of it is fitted. None stands for
        ``VAETransformer()``, which fills numbers best.
    random_state : int, RandomState instance or None, default=None
        Seed of the fit. None leaves the estimator its own.

    Attributes
    ----------
    estimator_ : VAETransformer or AutoencoderTransformer
        As fitted. Its `impute` draws tables for multiple imputation (`n_draws`).
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in,)
        Names of the columns, where `X` had names that are all strings.

    See Also
    --------
    VAETransformer.impute : What fills the cells.
    sklearn.impute.IterativeImputer : A regression of each column on the others.

    Notes
    -----
    A missing number becomes what is expected of it, with the decimals of its column: a
    column of whole numbers gets whole numbers. A missing level becomes the likeliest
    one. Columns that were all missing in the fit stay as they are.

    A dataframe comes back as a dataframe of its library, with its dtypes, and an array
    as an array, unless `set_output` asks for something else.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skae import AutoencoderImputer, VAETransformer
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 1)) + 0.1 * rng.normal(size=(100, 4))
    >>> y = X.sum(axis=1)
    >>> X[rng.random(X.shape) < 0.2] = np.nan
    >>> fill = AutoencoderImputer(VAETransformer(1, max_iter=20), random_state=0)
    >>> pipeline = make_pipeline(fill, LinearRegression()).fit(X, y)
    >>> pipeline.score(X, y) > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "impute"]), None],
        "random_state": ["random_state"],
    }

    def __init__(self, estimator: Any = None, *, random_state: Any = None) -> None:
        self.estimator = estimator
        self.random_state = random_state

    @through_numpy
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> Self:
        """Learn a table with missing cells.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features)
            The table; NaN, None and NA are missing cells.
        y : object, default=None
            Ignored; here for the scikit-learn API.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows.

        Returns
        -------
        self : object
            The fitted imputer.
        """
        estimator = clone(self._unfitted)
        if self.random_state is not None:
            estimator.set_params(random_state=self.random_state)
        self.estimator_ = estimator.fit(X, sample_weight=sample_weight)
        return self

    def transform(self, X: Any) -> Any:
        """Fill the missing cells of a table.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features)
            The table, with the columns of the fit.

        Returns
        -------
        filled : ndarray or dataframe of shape (n_samples, n_features)
            The same table; seen cells are as they were, bit for bit.
        """
        check_is_fitted(self)
        filled = self.estimator_.impute(X)
        return in_output(filled, self.get_feature_names_out(), self, X)

    @property
    def n_features_in_(self) -> int:
        """Number of columns."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns, where all of them are strings."""
        return self.estimator_.feature_names_in_

    @property
    def _unfitted(self) -> Any:
        return VAETransformer() if self.estimator is None else self.estimator

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        inner = get_tags(self._unfitted)
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        tags.input_tags.categorical = inner.input_tags.categorical
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
