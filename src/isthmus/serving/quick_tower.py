"""The user tower as one graph: packed histories in, what each asks of a domain's items out.

The formulas are those of `model.user_tower`; a test holds both together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.model.heads import DomainAdapter
from isthmus.model.user_tower import GAP_ENDS, Block, UserTower
from isthmus.scoring import Float, Requests
from isthmus.serving.graph import BOOL, FLOAT, INT, Graph, Value

_ENDS = GAP_ENDS.numpy()


@dataclass(frozen=True, eq=False)
class QuickTower:
    """A user tower, laid out.

    Attributes:
        session: a graph of ONNX Runtime, see `_graph`.
        heads: the tower's, where they are of a user's own; None: the graph has them.
    """

    session: Any
    heads: nn.ModuleList | None

    @classmethod
    def of(cls, users: UserTower) -> Self:
        """Lay out a trained tower."""
        plain = all(isinstance(head, DomainAdapter) for head in users.adapters)
        return cls(_graph(users, with_heads=plain), None if plain else users.adapters)

    def queries(self, items: Float, requests: Requests, domain: int) -> Float:
        """One query to the items of a domain for each history, float32 [batch, dim].

        Args:
            items: float32 [total, dim] item vectors of all histories.
            requests: the histories, none of them empty or longer than the tower reads.
            domain: that is asked about.
        """
        lengths, start = requests.lengths, requests.offsets[:-1]
        step = np.arange(lengths.max())
        place = lengths[requests.rows] - 1 - requests.age
        told = {
            "items": items,
            "domain": requests.domain.astype(np.int64),
            "gap": _gaps(requests),
            "place": place,
            "padded": start[:, None] + np.minimum(step, lengths[:, None] - 1),
            "packed": requests.rows * len(step) + place,
            "last": requests.offsets[1:] - 1,
            "filled": (step < lengths[:, None])[:, None, None],
            "asked": np.array(domain),
        }
        queries: Float
        (queries,) = self.session.run(None, told)
        if self.heads is not None:
            queries = self.heads[domain](torch.from_numpy(queries)).numpy()
        return queries


def _gaps(requests: Requests) -> NDArray[np.int64]:
    """As `user_tower.gap_buckets`."""
    gap = np.diff(requests.time, prepend=np.nan)
    gap[requests.offsets[:-1]] = np.nan
    bucket = np.searchsorted(_ENDS, gap, side="right") + 1
    bucket[np.isnan(gap)] = 0
    return bucket


def _graph(users: UserTower, *, with_heads: bool) -> Any:
    """Inputs: of each token its item vector, domain, gap and place in the history; for attention,
    which token stands where in the padded view [n, length] and where each is found there again; of
    each history its last token, and where the view is filled, [n, 1, 1, length]; the domain that is
    asked about. Without heads the states are all that is given."""
    graph = Graph()
    x = graph.input("items", FLOAT, ("tokens", users.place.embedding_dim))
    for name, table in (("place", users.place), ("domain", users.domain), ("gap", users.gap)):
        row = graph.input(name, INT, ("tokens",))
        if table is not None:
            x = graph("Add", x, graph("Gather", _array(table.weight), row))
    padded = graph.input("padded", INT, ("n", "length"))
    packed = graph.input("packed", INT, ("tokens",))
    last = graph.input("last", INT, ("n",))
    filled = graph.input("filled", BOOL, ("n", 1, 1, "length"))
    length = graph("Squeeze", graph("Shape", padded, start=1))
    step = graph("Range", np.array(0), length, np.array(1))
    before = graph("LessOrEqual", step, graph("Unsqueeze", step, np.array([1])))
    *blocks, final = users.blocks
    for block in blocks:
        assert isinstance(block, Block)
        normed = _normed(graph, block.norm_attention, x)
        three = graph("Gather", _linear(graph, block.qkv, normed), padded)
        query, key, value = _heads(graph, three, 3, block)
        mixed = graph("Gather", _mixed(graph, block, query, key, value, before), packed)
        x = _fed(graph, block, graph("Add", x, _linear(graph, block.out, mixed)))
    assert isinstance(final, Block)
    x = _last(graph, final, x, padded, last, filled)
    query = _normed(graph, users.norm, x)
    asked = graph.input("asked", INT, ())
    if with_heads and len(users.adapters):
        down, up = (
            graph(
                "Gather",
                np.stack([_array(getattr(head, name).weight).T for head in users.adapters]),
                asked,
            )
            for name in ("down", "up")
        )
        query = graph("Add", query, graph("MatMul", graph("MatMul", query, down), up))
    return graph.session({query: FLOAT})


def _last(graph: Graph, block: Block, x: Value, padded: Value, last: Value, filled: Value) -> Value:
    """A block for each history's last token alone, [n, dim]."""
    dim = block.out.in_features
    weight, bias = _array(block.qkv.weight), _array(block.qkv.bias)
    normed = _normed(graph, block.norm_attention, x)
    asking = graph(
        "Add", graph("MatMul", graph("Gather", normed, last), weight[:dim].T), bias[:dim]
    )
    seen = graph("Add", graph("MatMul", normed, weight[dim:].T), bias[dim:])
    (query,) = _heads(graph, graph("Unsqueeze", asking, np.array([1])), 1, block)
    key, value = _heads(graph, graph("Gather", seen, padded), 2, block)
    mixed = _linear(graph, block.out, _mixed(graph, block, query, key, value, filled))
    return _fed(graph, block, graph("Add", graph("Gather", x, last), mixed))


def _heads(graph: Graph, padded: Value, n: int, block: Block) -> list[Value]:
    """[windows, length, n * dim] → n times [windows, heads, length, dim per head]."""
    apart = graph("Reshape", padded, np.array([0, 0, n * block.heads, -1]))
    turned = graph("Transpose", apart, perm=[0, 2, 1, 3])
    return graph.several(n, "Split", turned, axis=1, num_outputs=n)


def _mixed(
    graph: Graph, block: Block, query: Value, key: Value, value: Value, seen: Value
) -> Value:
    """What attention brings, [windows * asking, dim]; `seen` is true where it may look."""
    dim = block.out.in_features
    scale = np.array((dim // block.heads) ** -0.5, np.float32)
    logits = graph("MatMul", query, graph("Transpose", key, perm=[0, 1, 3, 2]))
    logits = graph("Where", seen, graph("Mul", logits, scale), np.array(-np.inf, np.float32))
    found = graph("MatMul", graph("Softmax", logits, axis=-1), value)
    return graph("Reshape", graph("Transpose", found, perm=[0, 2, 1, 3]), np.array([-1, dim]))


def _fed(graph: Graph, block: Block, x: Value) -> Value:
    up = graph("Gelu", _linear(graph, block.up, _normed(graph, block.norm_feed, x)))
    return graph("Add", x, _linear(graph, block.down, up))


def _linear(graph: Graph, layer: nn.Linear, x: Value) -> Value:
    return graph("Add", graph("MatMul", x, _array(layer.weight).T), _array(layer.bias))


def _normed(graph: Graph, layer: nn.LayerNorm, x: Value) -> Value:
    weight, bias = _array(layer.weight), _array(layer.bias)
    return graph("LayerNormalization", x, weight, bias, axis=-1, epsilon=layer.eps)


def _array(weight: Tensor) -> Float:
    return np.asarray(weight.detach().cpu().numpy(), np.float32)
