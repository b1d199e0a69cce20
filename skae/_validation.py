"""What users pass, checked: tables, weights, counts, and the parameters of both."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import _check_sample_weight, validate_data

from .network._layers import ACTIVATIONS
from .table._frames import TableReader, as_frame, explain_text
from .training._solvers import LEARNING_RATES

FLOATS = [np.float64, np.float32]
AUTO = StrOptions({"auto"})

PARAMETERS: dict[str, list[Any]] = {
    "n_components": [
        Interval(Integral, 1, None, closed="left"),
        Interval(RealNotInt, 0, 1, closed="neither"),
        AUTO,
    ],
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
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
    "validation_fraction": [Interval(Real, 0, 1, closed="neither"), AUTO, None],
    "encoder": [callable, None],
    "decoder": [callable, None],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "device": [str, torch.device],
    "verbose": ["verbose"],
}


def read_rows(
    estimator: Any, frames: TableReader, X: Any, *, reset: bool = False, **checks: Any
) -> np.ndarray:
    """Validate a table; return its numbers and level codes, NaN where missing.

    With `reset` the estimator, and the levels, are those of this table from now on.
    """
    checks |= {"dtype": FLOATS, "ensure_all_finite": "allow-nan"}
    if as_frame(X) is None and frames.is_numeric:
        with explain_text():
            return validate_data(estimator, X, reset=reset, **checks)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    frames.check_dtypes(X)
    if frames.is_numeric:
        return validate_data(estimator, X, reset=reset, **checks)
    if reset:
        frames.learn_levels(X)
    return check_array(frames.read(X), **checks)


def read_weight(sample_weight: Any, rows: np.ndarray) -> np.ndarray | None:
    """Validate weights of rows."""
    if sample_weight is None:
        return None
    weight = _check_sample_weight(
        sample_weight, rows, dtype=np.float64, ensure_non_negative=True
    )
    if (n_weighted := np.count_nonzero(weight)) < 2:
        raise ValueError(
            f"got {n_weighted} row with a sample_weight above zero, but expected at "
            "least 2."
        )
    return weight


def check_count(name: str, count: Any) -> None:
    """Refuse a number of draws that is none."""
    if not isinstance(count, Integral) or count < 1:
        raise ValueError(
            f"got {name}={count!r}, but expected an integer of at least 1."
        )
