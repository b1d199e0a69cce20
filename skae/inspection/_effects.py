"""What the components of a code do to the columns of a table."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from ._pictures import as_pandas, column_names_of

STEP = 1e-3  # of a deviation of the code, either way
WALKED = (0.05, 0.95)  # quantiles of the component that a walk goes between


def component_effects(
    estimator: Any, X: Any, *, standardize: bool = False
) -> pd.DataFrame:
    """Measure how much each column changes when a component of the code grows by one.

    The mean Jacobian of the decoder over the codes of a table. Before training
    (``max_iter=0``) it is the loadings of PCA; in a trained model the effect differs
    from row to row, and :func:`traverse` shows how.

    Parameters
    ----------
    estimator : AutoencoderTransformer or VAETransformer
        A fitted one.
    X : array-like of shape (n_samples, n_features)
        The table whose codes the mean is taken over, with the columns of the fit.
    standardize : bool, default=False
        Whether to measure components and columns by their standard deviations in `X`,
        so that effects on columns of other units stand beside each other.

    Returns
    -------
    effects : DataFrame of shape (n_components, n_columns)
        In the units of the table per unit of the component, before any rounding. A
        column of levels has one column for each level but the first of two, named as in
        ``"sex=female"``: the change of its chance. Levels that share an indicator
        are together as ``"kind=(rare)"``.

    See Also
    --------
    ComponentsDisplay : A picture of the effects.
    traverse : Rows along a component.

    Notes
    -----
    Central differences in double precision, over a thousandth of the standard deviation
    of the component either way.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer, component_effects
    >>> X = load_iris(as_frame=True).data
    >>> start = AutoencoderTransformer(max_iter=0).fit(X)
    >>> component_effects(start, X).round(2).iloc[0].tolist()
    [0.43, -0.12, 1.02, 0.43]
    """
    check_is_fitted(estimator)
    codes = np.asarray(estimator.transform(X), dtype=np.float64)
    deviations = _or_one(codes.std(axis=0))
    effects = []
    for shift in np.diag(STEP * deviations):
        ahead, back = (_mean_decoded(estimator, codes + s) for s in (shift, -shift))
        effects.append((ahead - back) / (2 * shift.sum()))
    frame = pd.DataFrame(effects).set_axis(estimator.get_feature_names_out())
    if standardize:
        frame = frame.mul(deviations, axis=0) / _column_deviations(estimator, X)
    return frame


# `inverse_transform` gives the dtypes of the fit, which may be whole numbers, and the
# likeliest levels: neither has a derivative. So two questions go to the model itself.


def _mean_decoded(estimator: Any, codes: np.ndarray) -> pd.Series:
    """Return the mean of decoded rows, as numbers before any rounding."""
    total = 0.0
    for part in gen_batches(len(codes), estimator._model.chunk_rows):
        matrix = estimator._model.rows_of(codes[part])
        names, values = estimator._table.as_numbers(matrix)
        total = total + values.sum(axis=0)
    return pd.Series(total / len(codes), index=names)


def _column_deviations(estimator: Any, X: Any) -> np.ndarray:
    """Return the standard deviation of each such number over the seen cells."""
    encoded = estimator._table.encode(estimator._read(X))
    matrix = np.where(encoded.cells_seen, encoded.matrix, np.nan)
    _, values = estimator._table.as_numbers(matrix.astype(np.float64))
    n_seen = np.maximum((~np.isnan(values)).sum(axis=0), 1)
    centred = np.nan_to_num(values - np.nansum(values, axis=0) / n_seen)
    return _or_one(np.sqrt(np.square(centred).sum(axis=0) / n_seen))


def _or_one(deviations: np.ndarray) -> np.ndarray:
    return np.where(deviations > 0, deviations, 1.0)


def traverse(
    estimator: Any,
    X: Any,
    component: int,
    *,
    values: Any = None,
    n_steps: int = 9,
    row: int | None = None,
) -> pd.DataFrame:
    """Decode rows along one component of the code, the others as they are.

    Parameters
    ----------
    estimator : AutoencoderTransformer or VAETransformer
        A fitted one.
    X : array-like of shape (n_samples, n_features)
        A table, with the columns of the fit.
    component : int
        Index of the component that moves.
    values : array-like of shape (n_steps,), default=None
        What the component is set to. None goes from the 5 % to the 95 % quantile of
        that component in `X`, where the decoder knows its way.
    n_steps : int, default=9
        Number of rows, unless `values` are given.
    row : int, default=None
        Position of the row of `X` whose other components are kept; None keeps those of
        the mean code.

    Returns
    -------
    rows : DataFrame of shape (n_steps, n_features)
        As `inverse_transform` gives them, with the value of the component as index.

    Raises
    ------
    ValueError
        If the code has no such component.

    See Also
    --------
    component_effects : The mean effect of each component in one number.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer, traverse
    >>> X = load_iris(as_frame=True).data
    >>> autoencoder = AutoencoderTransformer(random_state=0).fit(X)
    >>> rows = traverse(autoencoder, X, 0, n_steps=5)
    >>> rows["petal length (cm)"].is_monotonic_increasing
    True
    """
    check_is_fitted(estimator)
    codes = np.asarray(estimator.transform(X), dtype=np.float64)
    n_components = codes.shape[1]
    if not isinstance(component, Integral) or not 0 <= component < n_components:
        raise ValueError(
            f"got component={component!r}, but expected an index below {n_components},"
            " the n_components of the fit."
        )
    if values is None:
        values = np.linspace(*np.quantile(codes[:, component], WALKED), n_steps)
    values = np.asarray(values, dtype=np.float64)
    kept = codes.mean(axis=0) if row is None else codes[row]
    moved = np.repeat(kept[None], len(values), axis=0)
    moved[:, component] = values
    name = estimator.get_feature_names_out()[component]
    return decoded(estimator, moved).set_axis(pd.Index(values, name=name))


def decoded(estimator: Any, codes: np.ndarray) -> pd.DataFrame:
    """Return what codes stand for as a frame with the names of the table."""
    rows = as_pandas(estimator.inverse_transform(codes))
    return rows.set_axis(column_names_of(estimator), axis=1)
