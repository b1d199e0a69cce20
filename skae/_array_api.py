"""Arrays of other libraries, such as tensors, where scikit-learn dispatches on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from sklearn import config_context, get_config
from sklearn.utils._array_api import (
    check_same_namespace,
    get_namespace_and_device,
    move_to,
)

from .table._containers import is_collection

FITS = ("fit", "partial_fit")
FITTED = "loss_curve_"  # an array that every fit leaves, in the library of its table


def through_numpy(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Let a verb take arrays of any library, and answer arrays like its table.

    In the library of the table and on its device, where scikit-learn's
    `array_api_dispatch` is on; else everything is as numpy makes it. The same holds for
    the public arrays that a fit leaves; the model itself is on the device of the
    estimator's parameter, whatever table it takes.
    """

    @wraps(verb)
    def answer(self: Any, X: Any, *args: Any, **options: Any) -> Any:
        if not get_config()["array_api_dispatch"]:
            return verb(self, X, *args, **options)
        if verb.__name__ not in FITS:
            _check_like_fitted(X, self, verb.__name__)
        others = [in_numpy(other) for other in args]
        options = {name: in_numpy(option) for name, option in options.items()}
        with config_context(array_api_dispatch=False):
            found = verb(self, in_numpy(X), *others, **options)
        if verb.__name__ in FITS:
            self.__dict__ |= _like(arrays_of(self), X)
            return found
        return _like(found, X)

    return answer


def arrays_of(estimator: Any) -> dict[str, Any]:
    """Return the public fitted arrays, those of numbers, in numpy."""
    return {
        name: in_numpy(value)
        for name, value in vars(estimator).items()
        if name.endswith("_") and not name.startswith("_")
        if isinstance(value, np.ndarray) or _is_foreign(value)
    }


def in_numpy(X: Any) -> Any:
    """Return an array of another library in numpy; anything else stays what it is."""
    return move_to(X, xp=np, device="cpu") if _is_foreign(X) else X


def _check_like_fitted(X: Any, estimator: Any, verb: str) -> None:
    """Refuse a table of another library than that of the fit, as scikit-learn does."""
    if hasattr(estimator, FITTED) and (_is_foreign(X) or isinstance(X, np.ndarray)):
        check_same_namespace(X, estimator, attribute=FITTED, method=verb)


def _is_foreign(X: Any) -> bool:
    if isinstance(X, torch.Tensor):  # which does not tell its namespace, as others do
        return True
    is_other = not (isinstance(X, np.ndarray | np.generic) or is_collection(X))
    return is_other and hasattr(type(X), "__array_namespace__")


def _like(found: Any, X: Any) -> Any:
    """Return arrays of numbers where a table is; dataframes stay what they are."""
    if not _is_foreign(X):
        return found
    if isinstance(found, list | tuple):
        return type(found)(_like(one, X) for one in found)
    if isinstance(found, dict):
        return {name: _like(one, X) for name, one in found.items()}
    if not isinstance(found, np.ndarray) or found.dtype == object:
        return found
    space, _, device = get_namespace_and_device(X)
    return move_to(found, xp=space, device=device)
