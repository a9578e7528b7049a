"""Towers of the user encoder as one ONNX model: from the vectors of a history to a user's.

The graph is written node by node, as :class:`molar_retrieval.models.towers.inference.NumpyTower` computes: one history,
of which the last block asks about the last position alone. Tracing the network that trains would bring batches, masks
and every position, and take seconds. A test compares both for towers of every shape.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from molar_retrieval.models.towers.inference import LightBlock, LightEnsemble, NumpyTower
from molar_retrieval.workspace.tensors import Array, Matrix

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

OPSET, IR = 17, 8
"""Of the operators the first version that has layer normalisation; of the format one that runtimes since 2022 read."""
_NORM_EPSILON = 1e-5  # of torch's LayerNorm
_END = 2**31 - 1


def onnx_model(towers: Mapping[str, NumpyTower | LightEnsemble]) -> bytes:
    """The towers as one model, serialised.

    Inputs are, for each tower, ``NAME.vectors``, the vectors of L ≥ 1 items, oldest first, shape (L, dim), and
    ``NAME.gaps``, as :func:`molar_retrieval.models.towers.inference.time_gaps` has them, int32, shape (L, L);
    outputs are ``NAME.user``, shape (1, dim).
    """
    from onnx import TensorProto, helper

    graph = _Graph()
    inputs, outputs = [], []
    for name, tower in towers.items():
        vectors, gaps, user, length = f"{name}.vectors", f"{name}.gaps", f"{name}.user", f"{name}.length"
        inputs.append(helper.make_tensor_value_info(vectors, TensorProto.FLOAT, [length, tower.dim]))
        inputs.append(helper.make_tensor_value_info(gaps, TensorProto.INT32, [length, length]))
        outputs.append(helper.make_tensor_value_info(user, TensorProto.FLOAT, [1, tower.dim]))
        graph.node("Identity", _tower(graph, tower, vectors, gaps), to=user)
    made = helper.make_graph(graph.nodes, "user encoder", inputs, outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


class _Graph:
    """Nodes and constants, named as they come."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def node(self, operator: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """The name of what an operator makes of its inputs."""
        from onnx import helper

        name = to or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def columns(self, value: str, start: int, stop: int) -> str:
        """Some columns of a matrix."""
        return self.node("Slice", value, self.whole([start]), self.whole([stop]), self.whole([1]))

    def last(self, value: str) -> str:
        """The last row of a matrix, as a matrix."""
        return self.node("Slice", value, self.whole([-1]), self.whole([_END]), self.whole([0]))

    def constant(self, values: Array) -> str:
        """The name of some numbers."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def floats(self, values: Matrix) -> str:
        """The name of some numbers in single precision."""
        return self.constant(np.asarray(values, np.float32))

    def whole(self, values: list[int]) -> str:
        """The name of some whole numbers."""
        return self.constant(np.array(values, np.int64))


def _tower(graph: _Graph, tower: NumpyTower | LightEnsemble, vectors: str, gaps: str) -> str:
    if isinstance(tower, LightEnsemble):
        ends = np.cumsum([0, *(member.dim for member in tower.members)]).tolist()
        shares = [graph.columns(vectors, *span) for span in pairwise(ends)]
        users = [_tower(graph, member, own, gaps) for member, own in zip(tower.members, shares, strict=True)]
        return graph.node("Concat", *users, axis=1)
    x, last = vectors, len(tower.blocks) - 1
    distances = _distances(graph, vectors, tower.history) if tower.blocks else ""
    for number, block in enumerate(tower.blocks):
        x = _block(graph, block, x, gaps, distances, asked_last=number == last)
    x = x if tower.blocks else graph.last(x)
    return graph.node("MatMul", _norm(graph, x, tower.norm.weight, tower.norm.bias), graph.floats(tower.query.T))


def _distances(graph: _Graph, vectors: str, history: int) -> str:
    """How far back position j lies from position i, plus 1; 0 for what is later, shape (L, L)."""
    length = graph.node("Squeeze", graph.node("Shape", vectors, start=0, end=1))
    place = graph.node("Range", graph.constant(np.array(0)), length, graph.constant(np.array(1)))
    back = graph.node(
        "Sub", graph.node("Unsqueeze", place, graph.whole([1])), graph.node("Unsqueeze", place, graph.whole([0]))
    )
    bounded = graph.node("Clip", back, graph.constant(np.array(-1)), graph.constant(np.array(history - 1)))
    return graph.node("Add", bounded, graph.constant(np.array(1)))


def _block(graph: _Graph, block: LightBlock, x: str, gaps: str, distances: str, *, asked_last: bool) -> str:
    d, heads = block.out.shape[0], len(block.position)
    normed = _norm(graph, x, block.norm_attention.weight, block.norm_attention.bias)
    asked = normed
    if asked_last:
        x, asked, gaps, distances = (graph.last(value) for value in (x, normed, gaps, distances))
    q, g = (graph.node("MatMul", asked, graph.floats(block.qkvg[n * d : (n + 1) * d].T)) for n in (0, 3))
    k, v = (graph.node("MatMul", normed, graph.floats(block.qkvg[n * d : (n + 1) * d].T)) for n in (1, 2))
    scaled = graph.node("Mul", q, graph.floats(np.array((d // heads) ** -0.5)))
    per_head = graph.whole([-1, heads, d // heads])
    q, k, v = (graph.node("Reshape", value, per_head) for value in (scaled, k, v))
    q, v = (graph.node("Transpose", value, perm=[1, 0, 2]) for value in (q, v))
    scores = graph.node("MatMul", q, graph.node("Transpose", k, perm=[1, 2, 0]))
    never = np.full((heads, 1), -np.inf, np.float32)
    position = graph.floats(np.concatenate([never, block.position], axis=1))
    for table, index in ((graph.floats(block.time), gaps), (position, distances)):
        scores = graph.node("Add", scores, graph.node("Gather", table, index, axis=1))
    attended = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), v)
    joined = graph.node("Reshape", graph.node("Transpose", attended, perm=[1, 0, 2]), graph.whole([-1, d]))
    gated = graph.node("Mul", joined, _silu(graph, g))
    middle = graph.node("Add", x, graph.node("MatMul", gated, graph.floats(block.out.T)))
    upper = _norm(graph, middle, block.norm_ff.weight, block.norm_ff.bias)
    wide, half = graph.node("MatMul", upper, graph.floats(block.up.T)), len(block.up) // 2
    a, b = graph.columns(wide, 0, half), graph.columns(wide, half, 2 * half)
    inner = graph.node("Mul", _silu(graph, a), b)
    return graph.node("Add", middle, graph.node("MatMul", inner, graph.floats(block.down.T)))


def _norm(graph: _Graph, x: str, weight: Matrix, bias: Matrix) -> str:
    return graph.node("LayerNormalization", x, graph.floats(weight), graph.floats(bias), axis=-1, epsilon=_NORM_EPSILON)


def _silu(graph: _Graph, x: str) -> str:
    return graph.node("Mul", x, graph.node("Sigmoid", x))
