"""Nodes of an ONNX graph that `skl2onnx` builds, and modules of torch among them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

OLDEST_OPSET = 18  # that torch writes
LOGGERS = ("torch.onnx._internal.exporter", "onnx_ir", "onnxscript")


class Nodes:
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
        plain = _plain_activations()
        if _uses(program, plain):
            program = program.run_decompositions(plain)
        written: Any = torch.onnx.export(
            program,
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


def _uses(program: Any, operators: dict[Any, Any]) -> bool:
    """Return whether a program calls any of the operators, or the same in place."""
    sought = {operator.overloadpacket.__name__ for operator in operators}
    called = {str(node.target) for node in program.graph.nodes}
    return any(
        name.split(".")[1].rstrip("_") in sought for name in called if "." in name
    )


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
