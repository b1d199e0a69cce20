"""What `skl2onnx` asks of a transformer: types, and the nodes of its graph."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from ._graphs import CodeToTable, Columns, TableToCode
from ._nodes import Nodes

DTYPES = {"float32": torch.float32, "float64": torch.float64}
HOLES = (
    "got an estimator that was fitted on a table with missing cells, but expected a "
    "fit on a whole table: the EM that fills holes is not in an ONNX graph. Impute "
    "first, in the pipeline, and fit again."
)


class Part(TransformerMixin, BaseEstimator):
    """Half of a fitted transformer, for `skl2onnx` to convert alone."""

    def __init__(self, estimator: Any, part: str, dtype: str) -> None:
        self.estimator = estimator
        self.part = part
        self.dtype = dtype

    def __sklearn_is_fitted__(self) -> bool:
        return True


def code_shape(operator: Any) -> None:
    """Set the type of codes: single where all numbers are, as in `transform`."""
    from skl2onnx.common.data_types import FloatTensorType

    estimator = operator.raw_operator
    categorical = estimator._table.frames.categorical_
    numeric = [
        type(variable.type)
        for variable, features in _features(operator.inputs, len(categorical))
        if not categorical[features].all()
    ]
    dtype = "float32" if set(numeric) == {FloatTensorType} else "float64"
    ((_, kind),) = code_types(estimator, dtype)
    operator.outputs[0].type = kind


def keep_shape(operator: Any) -> None:
    """Leave the types, which the parser has set."""


def parse_part(scope: Any, part: Part, inputs: Any, custom_parsers: Any = None) -> Any:
    operator = scope.declare_local_operator("SkaePart", part)
    operator.inputs.extend(inputs)
    outputs = code_types if part.part == "encoder" else table_types
    for name, kind in outputs(part.estimator, part.dtype):
        operator.outputs.append(scope.declare_local_variable(name, kind))
    return operator.outputs


def convert_part(scope: Any, operator: Any, container: Any) -> None:
    part = operator.raw_operator
    convert = {"encoder": convert_encoder, "decoder": _convert_decoder}[part.part]
    convert(scope, operator, container)


def convert_encoder(scope: Any, operator: Any, container: Any) -> None:
    estimator = _whole(operator.raw_operator)
    dtype = _dtype_of(operator.outputs[0])
    columns = Columns(estimator._table)
    made = Nodes(scope, container)
    numbers, texts = [], []
    for variable, features in _features(operator.inputs, len(estimator._table.names)):
        is_text = _is_text(variable, columns, features)
        if not is_text:
            numbers.append(made.cast(variable.onnx_name, dtype))
            continue
        for place, feature in enumerate(range(features.start, features.stop)):
            column = made.column(variable.onnx_name, place, len(columns.texts))
            levels = estimator._table.frames.levels_[feature].tolist()
            texts.append(made.places(column, levels))
    examples = {}
    if numbers:
        shape = 3, len(columns.numbers)
        examples["numbers"] = torch.zeros(shape, dtype=DTYPES[dtype])
    if texts:
        examples["texts"] = torch.zeros(3, len(columns.texts), dtype=torch.long)
    graph = TableToCode(estimator._table, estimator._model, DTYPES[dtype])
    sources = [made.joined(parts) for parts in (numbers, texts) if parts]
    targets = [operator.outputs[0].onnx_name]
    made.graft(graph, examples, sources, targets)


def _convert_decoder(scope: Any, operator: Any, container: Any) -> None:
    estimator = _whole(operator.raw_operator)
    dtype = operator.raw_operator.dtype
    columns = Columns(estimator._table)
    made = Nodes(scope, container)
    graph = CodeToTable(estimator._table, estimator._model, DTYPES[dtype])
    examples = {"codes": torch.zeros(3, estimator._n_features_out, dtype=DTYPES[dtype])}
    sources = [operator.inputs[0].onnx_name]
    outputs = [variable.onnx_name for variable in operator.outputs]
    if not columns.texts:
        made.graft(graph, examples, sources, outputs)
        return
    kinds = [columns.numbers, columns.texts]
    parts = [made.name("part") for features in kinds if features]
    made.graft(graph, examples, sources, parts)
    for features, part in zip(filter(None, kinds), parts, strict=True):
        for place, feature in enumerate(features):
            column = made.column(part, place, len(features))
            if feature in columns.texts:
                levels = estimator._table.frames.levels_[feature].tolist()
                made.levels(column, levels, outputs[feature])
            else:
                made.copy(column, outputs[feature])


# ----------------------------------------------------------------------------- helpers


def _whole(estimator: Any) -> Any:
    """Return the fitted transformer, and refuse one that has learned of holes."""
    if isinstance(estimator, Part):
        estimator = estimator.estimator
    encoder = estimator._table.encoder
    n_known = len(encoder.numeric_) + sum(
        len(level.position) > 0 for level in encoder.levels_.values()
    )
    if estimator._model.design.incomplete or n_known < len(estimator._table.names):
        raise ValueError(HOLES)
    return estimator


def _tensor_type(dtype: str) -> Any:
    from skl2onnx.common import data_types

    names = {"float32": "FloatTensorType", "float64": "DoubleTensorType"}
    return getattr(data_types, names[dtype])


def _dtype_of(variable: Any) -> str:
    kinds = {_tensor_type(dtype): dtype for dtype in DTYPES}
    return kinds[type(variable.type)]


def code_types(estimator: Any, dtype: str) -> list[tuple[str, Any]]:
    return [("codes", _tensor_type(dtype)([None, estimator._n_features_out]))]


def table_types(estimator: Any, dtype: str) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import StringTensorType

    table, number = estimator._table, _tensor_type(dtype)
    texts = Columns(table).texts
    if not texts:
        return [("X", number([None, len(table.names)]))]
    return [
        (name, (StringTensorType if feature in texts else number)([None, 1]))
        for feature, name in enumerate(table.column_names)
    ]


def _features(variables: Any, n_features: int) -> list[tuple[Any, slice]]:
    """Pair inputs with the columns of the table that they hold."""
    widths = [variable.type.shape[-1] or n_features for variable in variables]
    if sum(widths) != n_features:
        raise ValueError(
            f"got inputs of {sum(widths)} columns, but expected {n_features}, those of "
            "the fit."
        )
    starts = np.cumsum([0, *widths])
    parts = [slice(*pair) for pair in itertools.pairwise(starts.tolist())]
    return list(zip(variables, parts, strict=True))


def _is_text(variable: Any, columns: Columns, features: slice) -> bool:
    from skl2onnx.common.data_types import StringTensorType

    is_text = isinstance(variable.type, StringTensorType)
    expected = columns.texts if is_text else columns.numbers
    wrong = set(range(features.start, features.stop)) - set(expected)
    if wrong:
        came = "text" if is_text else "numbers"
        raise ValueError(
            f"got an input {variable.raw_name!r} of {came} for the columns "
            f"{sorted(wrong)}, counted from 0, but expected the types of the fit."
        )
    return is_text
