"""Small ONNX graphs, put together node by node and run by ONNX Runtime in one call.

Every operation of PyTorch lets go of the interpreter and then waits for it behind whoever took it
meanwhile, which in a busy service is the loop that takes events. A graph lets go once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from isthmus.language.onnx_export import open_session

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
_OPSET, _FORMAT = 20, 9
"""The oldest operators with GELU, and the format of their time."""

Value = str
"""The name of what a node gives."""


class Graph:
    """Nodes in the order in which they are added; their values have made-up names."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: int, dims: Sequence[str | int]) -> Value:
        """What is given at every run, by name; a dimension in words may be of any size."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(dims)))
        return name

    def __call__(self, kind: str, *inputs: Value | NDArray[Any], **attributes: Any) -> Value:
        """Add a node of one value; arrays among its inputs become constants."""
        (value,) = self.several(1, kind, *inputs, **attributes)
        return value

    def several(
        self, n: int, kind: str, *inputs: Value | NDArray[Any], **attributes: Any
    ) -> list[Value]:
        """Add a node of `n` values."""
        values = [f"{kind}-{len(self._nodes)}-{i}" for i in range(n)]
        names = [x if isinstance(x, str) else self._constant(x) for x in inputs]
        self._nodes.append(helper.make_node(kind, names, values, **attributes))
        return values

    def _constant(self, value: NDArray[Any]) -> Value:
        name = f"constant-{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def session(self, outputs: dict[Value, int]) -> Any:
        """Ready to run: `session.run(None, inputs)` gives the `outputs`, kinds by value."""
        told = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
        graph = helper.make_graph(self._nodes, "graph", self._inputs, told, self._constants)
        opsets = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_FORMAT)
        return open_session(model.SerializeToString(), threads=1)
