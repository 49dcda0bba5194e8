"""An ONNX graph under construction: nodes that are called like functions on names of tensors."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
IR_VERSION = 10  # the one that came with opset 21

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
INT32, INT64, UINT8 = TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8
Tensor = str  # the name of a tensor in the graph
Operand = Tensor | np.ndarray | np.generic  # arrays become constants of the graph


class Graph:
    """Collects nodes and constants; `graph("Add", a, b)` adds a node and names its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._name_of: dict[Any, str] = {}  # of constants, by given name or content
        self._scopes: list[str] = []

    def __call__(self, op: str, *operands: Operand, **attributes: Any) -> Tensor:
        """Adds a node with one output and returns the output's name."""
        return self.several(op, 1, *operands, **attributes)[0]

    def several(self, op: str, outputs: int, *operands: Operand, **attributes: Any) -> list[Tensor]:
        """Adds a node with several outputs and returns their names."""
        name = "/".join([*self._scopes, f"{op}_{len(self.nodes)}"])
        names = [name] if outputs == 1 else [f"{name}:{i}" for i in range(outputs)]
        inputs = [
            operand if isinstance(operand, str) else self.constant(operand) for operand in operands
        ]
        self.nodes.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return names

    def constant(self, value: np.ndarray | np.generic, name: str = "") -> Tensor:
        """A constant. Those of one given name are one, and so are nameless ones of one content."""
        array = np.asarray(value)
        key = name or (array.dtype.str, array.shape, array.tobytes())
        if key not in self._name_of:
            name = name or f"constant_{len(self.constants)}"
            self.constants[name] = numpy_helper.from_array(np.array(array, order="C"), name)
            self._name_of[key] = name
        return self._name_of[key]

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Puts `name/` before the names of what is added inside."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()


def ints(*values: int) -> np.ndarray:
    """A constant vector of int64: axes, shapes, counts."""
    return np.array(values, np.int64)
