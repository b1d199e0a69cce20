"""How drawn rows differ from real ones, in figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import linalg
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.utils import Bunch

from ._pictures import as_pandas, holds_numbers

MOST_LEVELS = 30  # of a column in correlations; the others are taken together
MOST_CATEGORIES = 200  # the same in trees, which take up to 255
MOST_ROWS = 10_000  # of each table, for the classifier
EVENLY = 1e-9  # of the largest singular value, below which a direction is none


def compare_tables(
    real: Any, drawn: Any, *, cv: int = 5, random_state: int = 0
) -> Bunch:
    """Compare drawn rows with real ones: margins, correlations, and as a whole.

    There is no single score: a table can have each margin right and no correlation,
    or look right in all of these and be told apart at once.

    Parameters
    ----------
    real : array-like or dataframe of shape (n_real, n_features)
        Rows that the model should resemble, best such as `fit` has not seen.
    drawn : array-like or dataframe of shape (n_drawn, n_features)
        Rows to judge, for instance by `sample`.
    cv : int, default=5
        Folds in which a classifier tells rows apart.
    random_state : int, default=0
        Seed of the folds, of the classifier, and of the choice of up to 10,000 rows of
        each table for it.

    Returns
    -------
    comparison : Bunch
        `columns` : DataFrame with a row per column of the tables.
            `distance` is the largest difference of the distribution functions of
            numbers (Kolmogorov-Smirnov) and the total variation of levels, from 0 to 1.
            `outside` is the share of drawn cells beyond the range, or the levels, of
            the real ones, `covered` the share of that range, or of levels, that drawn
            cells cover. `spike` is the share of the most frequent value of the real
            cells, `spike_drawn` of the same value in the drawn ones. `missing` and
            `missing_drawn` are shares of missing cells. `correlation` is the largest
            difference of a correlation with another column.
        `correlations` : DataFrame of shape (n_features, n_features)
            Drawn less real: of two numbers the correlation, of levels and a number the
            correlation ratio, of two columns of levels Cramér's V.
        `auc` : ndarray of shape (cv,)
            Area under the curve of a `HistGradientBoostingClassifier` that tells drawn
            rows from real ones, in each fold: 1 if it always can, 0.5 if it cannot, or
            a little less where `real` are the rows whose margins `sample` matches.

    Raises
    ------
    ValueError
        If the tables have different columns, or fewer rows than folds.

    See Also
    --------
    SampleDisplay : A picture of the comparison.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import VAETransformer, compare_tables
    >>> X = load_wine(as_frame=True).data
    >>> vae = VAETransformer(n_components=4, max_iter=10, random_state=0).fit(X)
    >>> comparison = compare_tables(X, vae.sample(178, random_state=0))
    >>> comparison.columns.loc["alcohol", ["distance", "outside"]].round(1).tolist()
    [0.1, 0.0]
    """
    real, drawn = paired(real, drawn)
    fewest = min(len(real), len(drawn))
    if fewest < cv:
        raise ValueError(
            f"got tables of {len(real)} and {len(drawn)} rows, but expected at least "
            f"as many as folds, cv={cv}."
        )
    columns = pd.DataFrame({name: _figures(real[name], drawn[name]) for name in real})
    difference = _correlations(drawn) - _correlations(real)
    columns.loc["correlation"] = np.abs(difference).max(axis=1)
    return Bunch(
        columns=columns.T,
        correlations=pd.DataFrame(difference, real.columns, real.columns),
        auc=_tell_apart(real, drawn, cv, random_state),
    )


def paired(real: Any, drawn: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two tables as frames of the same columns, numbers or levels in both."""
    are_named = hasattr(real, "columns") and hasattr(drawn, "columns")
    real, drawn = as_pandas(real), as_pandas(drawn)
    is_wrong = drawn.shape[1] != real.shape[1]
    if is_wrong or (are_named and set(drawn.columns) != set(real.columns)):
        raise ValueError(
            f"got drawn rows with the columns {list(drawn.columns)}, but expected "
            f"those of the real ones, {list(real.columns)}."
        )
    drawn = drawn[[*real]] if are_named else drawn.set_axis(real.columns, axis=1)
    pairs = {
        name: _alike(real[name].reset_index(drop=True), drawn[name]) for name in real
    }
    frames = [pd.DataFrame({n: pair[k] for n, pair in pairs.items()}) for k in (0, 1)]
    return frames[0], frames[1]


def _alike(real: pd.Series, drawn: pd.Series) -> tuple[pd.Series, pd.Series]:
    drawn = drawn.reset_index(drop=True)
    if holds_numbers(real) and holds_numbers(drawn):
        return _floats(real), _floats(drawn)
    return real.astype(object), drawn.astype(object)


def _floats(column: pd.Series) -> pd.Series:
    return pd.Series(column.to_numpy(np.float64, na_value=np.nan))


# ------------------------------------------------------------------- of one column


def _figures(real: pd.Series, drawn: pd.Series) -> dict[str, float]:
    """Compare one column, over its seen cells."""
    missing = {"missing": real.isna().mean(), "missing_drawn": drawn.isna().mean()}
    real, drawn = real.dropna(), drawn.dropna()
    if real.empty or drawn.empty:
        nothing = dict.fromkeys(["distance", "outside", "covered"], np.nan)
        return nothing | {"spike": np.nan, "spike_drawn": np.nan} | missing
    shares = real.value_counts(normalize=True)
    compare = _compare_numbers if holds_numbers(real) else _compare_levels
    return {
        **compare(real, drawn),
        "spike": shares.iloc[0],
        "spike_drawn": (drawn == shares.index[0]).mean(),
        **missing,
    }


def _compare_numbers(real: pd.Series, drawn: pd.Series) -> dict[str, float]:
    both = np.sort(np.concatenate([real, drawn]))
    below = [
        np.searchsorted(np.sort(column), both, side="right") / len(column)
        for column in (real, drawn)
    ]
    low, high = real.min(), real.max()
    reached = np.clip([drawn.min(), drawn.max()], low, high)
    return {
        "distance": np.abs(below[0] - below[1]).max(),
        "outside": ((drawn < low) | (drawn > high)).mean(),
        "covered": np.ptp(reached) / (high - low) if high > low else 1.0,
    }


def _compare_levels(real: pd.Series, drawn: pd.Series) -> dict[str, float]:
    shares = [column.value_counts(normalize=True) for column in (real, drawn)]
    difference = shares[0].subtract(shares[1], fill_value=0.0)
    return {
        "distance": difference.abs().sum() / 2,
        "outside": (~drawn.isin(shares[0].index)).mean(),
        "covered": shares[0].index.isin(shares[1].index).mean(),
    }


# ------------------------------------------------------------------- of all columns


def _correlations(table: pd.DataFrame) -> np.ndarray:
    """Return the correlation of each two columns, whatever they hold.

    With an orthonormal basis of what a column tells, for each, the norm of the product
    of two bases over the root of the lesser rank is the absolute correlation of two
    numbers, the correlation ratio of levels and a number, and Cramér's V of levels.
    """
    bases = [_basis(table[name]) for name in table]
    ranks = np.array([basis.shape[1] for basis in bases])
    starts = np.cumsum(ranks) - ranks
    whole = np.concatenate(bases, axis=1)
    products = whole.T @ whole
    squares = np.add.reduceat(np.add.reduceat(products**2, starts, 0), starts, 1)
    result = np.sqrt(squares / np.minimum.outer(ranks, ranks))
    numbers = np.flatnonzero([holds_numbers(table[name]) for name in table])
    signs = np.sign(products[np.ix_(starts[numbers], starts[numbers])])
    result[np.ix_(numbers, numbers)] *= signs
    return result


def _basis(column: pd.Series) -> np.ndarray:
    """Return orthonormal columns with the mean zero; zeros if the column is constant.

    Holes of numbers are at their mean, those of levels a level.
    """
    if holds_numbers(column):
        numbers = column.to_numpy(np.float64)
        mean = np.nanmean(numbers) if not np.isnan(numbers).all() else 0.0
        cells = np.nan_to_num(numbers - mean)[:, None]
        norm = linalg.norm(cells)
        is_constant = norm <= EVENLY * np.abs(mean) * np.sqrt(len(cells))
        return 0.0 * cells if is_constant else cells / norm
    codes = _codes(column, column, MOST_LEVELS)
    indicators = np.eye(codes.max() + 1)[codes]
    left, values, _ = linalg.svd(indicators - indicators.mean(0), full_matrices=False)
    kept = left[:, values > EVENLY * max(values[0], 1.0)]
    return kept if kept.shape[1] else np.zeros((len(column), 1))


def _codes(column: pd.Series, like: pd.Series, n_levels: int) -> np.ndarray:
    """Return numbers for levels, one for the rarest and the missing ones together."""
    frequent = like.value_counts().index[: n_levels - 1]
    codes = pd.Index(frequent).get_indexer(column)
    return np.where(codes < 0, len(frequent), codes)


def _whole(column: pd.Series) -> np.ndarray:
    """Put holes below all numbers: trees want some number in every fold."""
    numbers = column.to_numpy(np.float64)
    seen = numbers[~np.isnan(numbers)]
    below = seen.min() - np.ptp(seen) - 1 if len(seen) else 0.0
    return np.where(np.isnan(numbers), below, numbers)


def _tell_apart(
    real: pd.DataFrame, drawn: pd.DataFrame, cv: int, seed: int
) -> np.ndarray:
    """Measure how well a classifier tells the rows of two tables apart."""
    generator = np.random.default_rng(seed)
    some = [
        table.iloc[generator.permutation(len(table))[:MOST_ROWS]]
        for table in (real, drawn)
    ]
    both = pd.concat(some, ignore_index=True)
    is_level = [not holds_numbers(both[name]) for name in both]
    columns = [
        _codes(both[name], both[name], MOST_CATEGORIES) if level else _whole(both[name])
        for name, level in zip(both, is_level, strict=True)
    ]
    matrix = np.column_stack(columns).astype(np.float64)
    of = np.repeat([0, 1], [len(table) for table in some])
    classifier = HistGradientBoostingClassifier(
        categorical_features=is_level, random_state=seed
    )
    folds = StratifiedKFold(cv, shuffle=True, random_state=seed)
    return cross_val_score(classifier, matrix, of, cv=folds, scoring="roc_auc")
