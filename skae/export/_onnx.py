"""Fitted transformers as ONNX graphs, alone and in scikit-learn's pipelines."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .._autoencoder import AutoencoderTransformer
from .._vae import VAETransformer
from ._graphs import CodeToTable, Columns, TableToCode

PARTS = ("encoder", "decoder")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
OLDEST_OPSET = 18  # that torch writes
LOGGERS = ("torch.onnx._internal.exporter", "onnx_ir", "onnxscript")
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


def register_onnx() -> None:
    """Let `skl2onnx` convert both transformers, in pipelines and alone.

    Needs ``pip install "skae[onnx]"``. The graph holds all of `transform`: scales,
    normal scores, levels of text, and the networks, in the precision of its input.

    Notes
    -----
    The graph has no EM: a row with a missing cell (NaN) has NaN for its code, and so
    has a row with a level that the fit did not have, unless the fit had rare levels,
    which such a level then counts as.

    Examples
    --------
    >>> import skl2onnx
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> import skae
    >>> X, y = load_iris(return_X_y=True)
    >>> reduce = skae.AutoencoderTransformer(max_iter=3, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), reduce, LogisticRegression())
    >>> skae.register_onnx()
    >>> graph = skl2onnx.to_onnx(pipeline.fit(X, y), X[:1].astype("float32"))
    >>> [output.name for output in graph.graph.output]
    ['output_label', 'output_probability']
    """
    from skl2onnx import update_registered_converter

    for transformer in (AutoencoderTransformer, VAETransformer):
        name = f"Skae{transformer.__name__}"
        update_registered_converter(
            transformer, name, _code_shape, _convert_encoder, overwrite=True
        )
    update_registered_converter(
        Part, "SkaePart", _keep_shape, _convert_part, parser=_parse_part
    )


def to_onnx(
    estimator: Any,
    *,
    part: str = "encoder",
    dtype: str = "float32",
    target_opset: int | None = None,
) -> Any:
    """Write the encoder or the decoder of a fitted transformer as an ONNX graph.

    Needs ``pip install "skae[onnx]"``.

    Parameters
    ----------
    estimator : AutoencoderTransformer or VAETransformer
        Fitted on a table without missing cells.
    part : {"encoder", "decoder"}, default="encoder"
        What `transform` computes, or what `inverse_transform` does.
    dtype : {"float32", "float64"}, default="float32"
        Precision of the graph. Single precision is what most runtimes are fast in.
    target_opset : int, default=None
        Version of ONNX' operators, 18 or later; None is the latest that skl2onnx
        knows.

    Returns
    -------
    graph : onnx.ModelProto
        The encoder takes the table as ``"X"``, of shape (n_samples, n_features), and
        gives ``"codes"``. If it has columns of text, it takes every column alone, by
        its name and of shape (n_samples, 1). The decoder takes ``"codes"`` and gives
        the same: ``"X"``, or every column by its name.

    Raises
    ------
    ValueError
        If the table of the fit had missing cells, or a column of texts and other
        levels, or if an argument is not as expected.

    See Also
    --------
    register_onnx : The same within a pipeline.

    Notes
    -----
    The graph has no EM: a row with a missing cell (NaN) has NaN for its code, and so
    has a row with a level that the fit did not have, unless the fit had rare levels,
    which such a level then counts as. Numbers leave the decoder as they are computed,
    those of columns of whole numbers too. The runtime of onnxruntime has no GELU in
    double precision.

    Examples
    --------
    >>> import onnxruntime
    >>> from sklearn.datasets import load_iris
    >>> import skae
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = skae.VAETransformer(max_iter=3, random_state=0).fit(X)
    >>> graph = skae.to_onnx(vae, dtype="float64").SerializeToString()
    >>> (codes,) = onnxruntime.InferenceSession(graph).run(None, {"X": X})
    >>> bool(abs(codes - vae.transform(X)).max() < 1e-10)
    True
    """
    from skl2onnx import convert_sklearn

    if not isinstance(estimator, AutoencoderTransformer | VAETransformer):
        raise ValueError(
            f"got a {type(estimator).__name__}, but expected an AutoencoderTransformer "
            "or a VAETransformer: call register_onnx, and convert a pipeline by "
            "skl2onnx.to_onnx."
        )
    check_is_fitted(estimator)
    for name, value, expected in (("part", part, PARTS), ("dtype", dtype, DTYPES)):
        if value not in expected:
            raise ValueError(
                f"got {name}={value!r}, but expected one of {sorted(expected)}."
            )
    register_onnx()
    inputs = _table_types if part == "encoder" else _code_types
    return convert_sklearn(
        Part(estimator, part, dtype),
        f"{type(estimator).__name__} {part}",
        inputs(estimator, dtype),
        target_opset=target_opset,
    )


# ------------------------------------------------------------------ what skl2onnx asks


def _code_shape(operator: Any) -> None:
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
    ((_, kind),) = _code_types(estimator, dtype)
    operator.outputs[0].type = kind


def _keep_shape(operator: Any) -> None:
    """Leave the types, which the parser has set."""


def _parse_part(scope: Any, part: Part, inputs: Any, custom_parsers: Any = None) -> Any:
    operator = scope.declare_local_operator("SkaePart", part)
    operator.inputs.extend(inputs)
    outputs = _code_types if part.part == "encoder" else _table_types
    for name, kind in outputs(part.estimator, part.dtype):
        operator.outputs.append(scope.declare_local_variable(name, kind))
    return operator.outputs


def _convert_part(scope: Any, operator: Any, container: Any) -> None:
    part = operator.raw_operator
    convert = {"encoder": _convert_encoder, "decoder": _convert_decoder}[part.part]
    convert(scope, operator, container)


def _convert_encoder(scope: Any, operator: Any, container: Any) -> None:
    estimator = _whole(operator.raw_operator)
    dtype = _dtype_of(operator.outputs[0])
    columns = Columns(estimator._table)
    made = _Nodes(scope, container)
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
    made = _Nodes(scope, container)
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


def _code_types(estimator: Any, dtype: str) -> list[tuple[str, Any]]:
    return [("codes", _tensor_type(dtype)([None, estimator._n_features_out]))]


def _table_types(estimator: Any, dtype: str) -> list[tuple[str, Any]]:
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


class _Nodes:
    """Nodes that are added to a graph, each method returning the name of its result."""

    def __init__(self, scope: Any, container: Any) -> None:
        self.scope = scope
        self.container = container

    def name(self, stem: str) -> str:
        return str(self.scope.get_unique_variable_name(stem))

    def cast(self, source: str, dtype: str) -> str:
        from onnx import TensorProto

        kinds = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
        return self._add("Cast", [source], to=kinds[dtype])

    def column(self, source: str, place: int, n_columns: int) -> str:
        if n_columns == 1:
            return source
        from onnx import TensorProto

        index = self.name("place")
        self.container.add_initializer(index, TensorProto.INT64, [1], [place])
        return self._add("Gather", [source, index], axis=1)

    def joined(self, parts: list[str]) -> str:
        return parts[0] if len(parts) == 1 else self._add("Concat", parts, axis=1)

    def copy(self, source: str, target: str) -> None:
        self._add("Identity", [source], target)

    def places(self, column: str, levels: list[str]) -> str:
        """Turn texts into their places among the levels, -1 where they are none."""
        return self._add(
            "LabelEncoder",
            [column],
            op_domain="ai.onnx.ml",
            op_version=2,
            keys_strings=levels,
            values_int64s=list(range(len(levels))),
            default_int64=-1,
        )

    def levels(self, column: str, levels: list[str], target: str) -> None:
        """Turn places into texts."""
        self._add(
            "LabelEncoder",
            [column],
            target,
            op_domain="ai.onnx.ml",
            op_version=2,
            keys_int64s=list(range(len(levels))),
            values_strings=levels,
        )

    def graft(
        self,
        module: nn.Module,
        examples: dict[str, torch.Tensor],
        sources: list[str],
        targets: list[str],
    ) -> None:
        """Add all nodes of a module, by the rows of its example inputs."""
        from skl2onnx.helpers import add_onnx_graph

        graph = _exported(module, examples, self.container.target_opset)
        _name_anew(graph.graph)
        ends = SimpleNamespace(
            inputs=[SimpleNamespace(onnx_name=name) for name in sources],
            outputs=[SimpleNamespace(onnx_name=name) for name in targets],
        )
        add_onnx_graph(self.scope, ends, self.container, graph)

    def _add(
        self, kind: str, sources: list[str], target: str | None = None, **options: Any
    ) -> str:
        target = target or self.name(kind.lower())
        name = self.scope.get_unique_operator_name(kind)
        self.container.add_node(kind, sources, target, name=name, **options)
        return target


def _exported(module: nn.Module, examples: dict[str, torch.Tensor], opset: int) -> Any:
    """Write a module as a graph of any number of rows."""
    if opset < OLDEST_OPSET:
        raise ValueError(
            f"got target_opset={opset}, but expected at least {OLDEST_OPSET}: torch "
            "writes no older operators."
        )
    rows = torch.export.Dim("rows")
    shapes = {name: {0: rows} for name in examples}
    with _quiet():
        # By itself the exporter would take a module that counts rows for one of three.
        program = torch.export.export(
            module.eval(), (), kwargs=examples, dynamic_shapes=shapes
        )
        written = torch.onnx.export(
            program.run_decompositions(_plain_activations()),
            dynamo=True,
            opset_version=opset,
            verbose=False,
        )
    return written.model_proto


def _plain_activations() -> dict[Any, Any]:
    """Write activations by operators that runtimes have in double precision too."""
    from torch._decomp import get_decompositions

    aten = torch.ops.aten

    def leaky_relu(x: torch.Tensor, slope: float = 0.01) -> torch.Tensor:
        # Numbers pass through single precision, which holds 100 but not 0.01.
        return torch.where(x > 0, x, x / (1 / slope) if slope else 0 * x)

    plain = get_decompositions([aten.elu, aten.softplus])
    return {**plain, aten.leaky_relu.default: leaky_relu}


def _name_anew(graph: Any) -> None:
    """Let `add_onnx_graph` find names that no number after them makes equal.

    It counts weights and other values apart, and knows no input that is left out, as
    that of a minimum is where `Clip` has none.
    """
    weights = {tensor.name for tensor in graph.initializer}

    def name(old: str) -> str:
        return f"{old}_weight" if old in weights else f"{old}_value"

    for node in graph.node:
        if node.op_type == "Clip" and not node.input[1]:
            node.op_type = "Min"
            del node.input[1]
        node.input[:] = map(name, node.input)
        node.output[:] = map(name, node.output)
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = name(value.name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch's exporter says of itself from the user."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
