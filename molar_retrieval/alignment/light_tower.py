"""One tower in NumPy, for a process that reads one history at a time: torch alone takes a second to import.

The same function as :class:`molar_retrieval.alignment.network.Tower` in float32, to 1e-4, for the last position of one
history. Nobody asks for the others there, so the last block computes a single row of queries.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from molar_retrieval.workspace.tensors import Array, Matrix, Rows, under

_EPSILON = np.float32(1e-5)  # of torch's LayerNorm


def time_gaps(timestamps: Rows, buckets: int) -> Rows:
    """Bucket of the time between positions i and j, as the network's ``time_gaps`` has it, shape (L,) → (L, L)."""
    gap = np.maximum(np.subtract.outer(timestamps, timestamps).astype(np.float32), 0) + 1
    bucket: Rows = np.minimum(((gap * gap).view(np.int32) >> 23) - 127, buckets - 1)
    return bucket


@dataclass(frozen=True, eq=False)
class _LightNorm:
    weight: Matrix
    bias: Matrix

    def __call__(self, x: Matrix) -> Matrix:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + _EPSILON)
        result: Matrix = centred / spread * self.weight + self.bias
        return result


@dataclass(frozen=True, eq=False)
class LightBlock:
    """A :class:`molar_retrieval.alignment.network.TowerBlock`, with its columns of the tower's biases."""

    norm_attention: _LightNorm
    qkvg: Matrix
    out: Matrix
    norm_ff: _LightNorm
    up: Matrix
    down: Matrix
    position: Matrix  # (heads, history)
    time: Matrix  # (heads, buckets)

    @classmethod
    def of(cls, tensors: Mapping[str, Array], position: Matrix, time: Matrix) -> Self:
        """From its part of the network's state."""
        attention, ff = (_norm(tensors, name) for name in ("norm_attention", "norm_ff"))
        qkvg, out, up, down = (tensors[f"{name}.weight"] for name in ("qkvg", "out", "up", "down"))
        return cls(attention, qkvg, out, ff, up, down, position, time)

    def __call__(self, x: Matrix, gaps: Rows, asked: int) -> Matrix:
        """Map (L, d) to the last ``asked`` rows of what the block makes of it, shape (asked, d)."""
        d = x.shape[1]
        normed, x = self.norm_attention(x), x[-asked:]
        q, g = normed[-asked:] @ self.qkvg[:d].T, normed[-asked:] @ self.qkvg[3 * d :].T
        k, v = normed @ self.qkvg[d : 2 * d].T, normed @ self.qkvg[2 * d : 3 * d].T
        gated: Matrix = self._attended(q, k, v, gaps[-asked:]) * _silu(g)
        middle: Matrix = x + gated @ self.out.T
        a, b = np.split(self.norm_ff(middle) @ self.up.T, 2, axis=1)
        result: Matrix = middle + (_silu(a) * b) @ self.down.T
        return result

    def _attended(self, q: Matrix, k: Matrix, v: Matrix, gaps: Rows) -> Matrix:
        """Sums of the values, weighted by the softmax of products and biases, shape (asked, d)."""
        heads, asked = len(self.position), len(q)
        q, k, v = (t.reshape(len(t), heads, -1).transpose(1, 0, 2) for t in (q, k, v))
        scores = (q * np.float32(q.shape[2] ** -0.5)) @ k.transpose(0, 2, 1)
        scores += self.time[:, gaps]
        scores += self._positions(k.shape[1])[:, -asked:]
        scores -= scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores, out=scores)
        attended = (weights @ v) / weights.sum(axis=-1, keepdims=True)
        joined: Matrix = attended.transpose(1, 0, 2).reshape(asked, -1)
        return joined

    def _positions(self, length: int) -> Matrix:
        """The bias of the distance between two positions, minus infinity towards later ones, (heads, L, L)."""
        distance = np.arange(length - 1, -length, -1)
        far = self.position.shape[1] - 1
        along = np.where(distance >= 0, self.position[:, distance.clip(0, far)], np.float32(-np.inf))
        rows: Matrix = sliding_window_view(along, length, axis=1)[:, ::-1]  # the same numbers, one further each row
        return rows


@dataclass(frozen=True, eq=False)
class LightTower:
    """A tower for one history at a time; threads may share it.

    ``history`` is how many items it was trained to read at once, ``buckets`` how many time gaps it tells apart.
    """

    blocks: tuple[LightBlock, ...]
    norm: _LightNorm
    query: Matrix
    history: int
    buckets: int

    @classmethod
    def of(cls, tensors: Mapping[str, Array]) -> Self:
        """From the state of a tower of the network, by the names of its parameters; KeyError if one is missing."""
        position, time = tensors["position_bias"], tensors["time_bias"]
        count = len({name.split(".")[1] for name in tensors if re.match(r"blocks\.\d+\.", name)})
        columns = [np.ascontiguousarray(bias.T) for bias in (position, time)]
        each = [np.split(bias, max(1, count)) for bias in columns]
        blocks = (LightBlock.of(under(tensors, f"blocks.{n}."), each[0][n], each[1][n]) for n in range(count))
        return cls(tuple(blocks), _norm(tensors, "norm"), tensors["query.weight"], len(position), len(time))

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return len(self.query)

    def __call__(self, vectors: Matrix, timestamps: Rows) -> Matrix:
        """The user vector (dim,) after the last of L ≥ 1 items, by their vectors (L, dim) and seconds (L,)."""
        x, gaps = vectors, time_gaps(timestamps, self.buckets)
        for block in self.blocks[:-1]:
            x = block(x, gaps, len(x))
        for block in self.blocks[-1:]:
            x = block(x, gaps, 1)
        user: Matrix = self.norm(x[-1]) @ self.query.T
        return user


@dataclass(frozen=True, eq=False)
class LightEnsemble:
    """A :class:`molar_retrieval.alignment.network.TowerEnsemble`; as a :class:`LightTower`."""

    members: tuple[LightTower, ...]

    @property
    def dim(self) -> int:
        """Length of a vector, of all members together."""
        return sum(member.dim for member in self.members)

    @property
    def history(self) -> int:
        """How many items it was trained to read at once."""
        return self.members[0].history

    @property
    def buckets(self) -> int:
        """How many time gaps it tells apart."""
        return self.members[0].buckets

    def __call__(self, vectors: Matrix, timestamps: Rows) -> Matrix:
        """See :class:`LightTower`."""
        shares = np.split(vectors, len(self.members), axis=1)
        users = [member(own, timestamps) for member, own in zip(self.members, shares, strict=True)]
        return np.concatenate(users)


def light_tower(tensors: Mapping[str, Array]) -> LightTower | LightEnsemble:
    """From the state of a tower of the network, or of an ensemble; KeyError if a parameter is missing."""
    count = len({name.split(".")[1] for name in tensors if name.startswith("members.")})
    if not count:
        return LightTower.of(tensors)
    return LightEnsemble(tuple(LightTower.of(under(tensors, f"members.{n}.")) for n in range(count)))


def _norm(tensors: Mapping[str, Array], name: str) -> _LightNorm:
    return _LightNorm(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _silu(x: Matrix) -> Matrix:
    with np.errstate(over="ignore"):  # the exponential of what is far below zero
        result: Matrix = x / (1 + np.exp(-x))
    return result
