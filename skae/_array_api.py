"""Arrays of other libraries, such as tensors, where scikit-learn dispatches on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from sklearn import get_config
from sklearn.utils._array_api import get_namespace_and_device, move_to

from .table._containers import is_collection


def through_numpy(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Let a verb take arrays of any library, and answer arrays like its table.

    In the library of the table and on its device, where scikit-learn's
    `array_api_dispatch` is on; else everything is as numpy makes it. What is fitted
    stays numpy's, so that it loads anywhere.
    """

    @wraps(verb)
    def answer(self: Any, X: Any, *args: Any, **options: Any) -> Any:
        if not get_config()["array_api_dispatch"]:
            return verb(self, X, *args, **options)
        others = [_in_numpy(other) for other in args]
        options = {name: _in_numpy(option) for name, option in options.items()}
        found = verb(self, _in_numpy(X), *others, **options)
        return _like(found, X) if _is_foreign(X) else found

    return answer


def _is_foreign(X: Any) -> bool:
    if isinstance(X, torch.Tensor):  # which does not tell its namespace, as others do
        return True
    is_other = not (isinstance(X, np.ndarray | np.generic) or is_collection(X))
    return is_other and hasattr(type(X), "__array_namespace__")


def _in_numpy(X: Any) -> Any:
    return move_to(X, xp=np, device="cpu") if _is_foreign(X) else X


def _like(found: Any, X: Any) -> Any:
    """Return arrays of numbers where another one is; dataframes stay what they are."""
    if isinstance(found, list | tuple):
        return type(found)(_like(one, X) for one in found)
    if not isinstance(found, np.ndarray) or found.dtype == object:
        return found
    space, _, device = get_namespace_and_device(X)
    return move_to(found, xp=space, device=device)
