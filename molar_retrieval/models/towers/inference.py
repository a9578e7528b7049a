"""User vectors without torch: towers in NumPy, histories read by the other models; equal to the network's to 1e-4."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from molar_retrieval.encoders.base import unit
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.models.repeat_consumption import REPEAT_CONSUMPTION, RepeatConsumption
from molar_retrieval.models.time_decay import time_decay
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.workspace.artefacts import Manifest
from molar_retrieval.workspace.tensors import Array, Matrix, Rows, mapped, under

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from molar_retrieval.data.interactions import Interactions
    from molar_retrieval.models.own_block import OwnBlock

_EPSILON = np.float32(1e-5)  # of torch's LayerNorm


def time_gaps(timestamps: Rows, buckets: int) -> Rows:
    """Bucket of the time between positions i and j, as the network's ``time_gaps`` has it, shape (L,) → (L, L)."""
    gap = np.maximum(np.subtract.outer(timestamps, timestamps).astype(np.float32), 0) + 1
    bucket: Rows = np.minimum(((gap * gap).view(np.int32) >> 23) - 127, buckets - 1)
    return bucket


@dataclass(frozen=True, eq=False)
class _LayerNorm:
    weight: Matrix
    bias: Matrix

    def __call__(self, x: Matrix) -> Matrix:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + _EPSILON)
        result: Matrix = centred / spread * self.weight + self.bias
        return result


@dataclass(frozen=True, eq=False)
class NumpyBlock:
    """A :class:`molar_retrieval.models.towers.network.TowerBlock`, with its columns of the tower's biases."""

    norm_attention: _LayerNorm
    qkvg: Matrix
    out: Matrix
    norm_ff: _LayerNorm
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
class NumpyTower:
    """A tower for one history at a time; threads may share it.

    ``history`` is how many items it was trained to read at once, ``buckets`` how many time gaps it tells apart.
    """

    blocks: tuple[NumpyBlock, ...]
    norm: _LayerNorm
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
        blocks = (NumpyBlock.of(under(tensors, f"blocks.{n}."), each[0][n], each[1][n]) for n in range(count))
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
class NumpyTowerEnsemble:
    """A :class:`molar_retrieval.models.towers.network.TowerEnsemble`; as a :class:`NumpyTower`."""

    members: tuple[NumpyTower, ...]

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
        """See :class:`NumpyTower`."""
        shares = np.split(vectors, len(self.members), axis=1)
        users = [member(own, timestamps) for member, own in zip(self.members, shares, strict=True)]
        return np.concatenate(users)


def numpy_tower(tensors: Mapping[str, Array]) -> NumpyTower | NumpyTowerEnsemble:
    """From the state of a tower of the network, or of an ensemble; KeyError if a parameter is missing."""
    count = len({name.split(".")[1] for name in tensors if name.startswith("members.")})
    if not count:
        return NumpyTower.of(tensors)
    return NumpyTowerEnsemble(tuple(NumpyTower.of(under(tensors, f"members.{n}.")) for n in range(count)))


def _own(names: Sequence[str], tensors: Mapping[str, Array]) -> dict[str, "OwnBlock"]:
    if not names:
        return {}
    from molar_retrieval.models.own_block import of_tensors

    return {one.name: one for one in of_tensors(names, tensors, len(tensors["known"]))}


def _norm(tensors: Mapping[str, Array], name: str) -> _LayerNorm:
    return _LayerNorm(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _silu(x: Matrix) -> Matrix:
    with np.errstate(over="ignore"):  # the exponential of what is far below zero
        result: Matrix = x / (1 + np.exp(-x))
    return result


FILE, NETWORK = "model.safetensors", "network."
"""The arrays of an alignment, and what the names of the network's parameters begin with there."""
CONTENT_KNN, POPULARITY = "content_knn", "popularity"
"""The parts of a dense vector beside those of towers."""


@dataclass(frozen=True, eq=False)
class UserVectors:
    """Vectors of U users; the sparse ones say how much each item of a history counts, once per model."""

    dense: Matrix
    sparse: "csr_matrix"

    def of(self, rows: Rows) -> "UserVectors":
        """Those of some of the users."""
        return UserVectors(self.dense[rows], self.sparse[rows])


@dataclass(frozen=True)
class HistoryReading:
    """How much each item of a history counts: of its ``last`` items ``decay`` less per place from the end.

    With a ``fade`` its time before the end counts as well. Without these every item counts once, in a long history
    less, by the square root of its length.
    """

    decay: float | None = None
    last: int | None = None
    fade: float = 0.0

    @classmethod
    def of(cls, memory: Array) -> Self:
        """From the tensor ``memory`` of an item-item model."""
        return cls(float(memory[0]), int(memory[1]), *memory[2:].tolist()) if len(memory) else cls()

    def __call__(self, items: Rows, times: Rows) -> tuple[Rows, Matrix]:
        """The different items of a history, taken at ``times``, in seconds, ascending, and how much each counts."""
        if self.decay is None or self.last is None:
            rows = np.unique(items)
            return rows, np.full(len(rows), 1 / np.sqrt(max(1, len(rows))), np.float32)
        recent = items[-self.last :]
        rows, place = np.unique(recent, return_inverse=True)
        powers = np.power(self.decay, np.arange(len(recent) - 1, -1, -1))
        if self.fade:
            seconds = times[-len(recent) :]
            powers = powers * time_decay(seconds[-1:] - seconds, self.fade)
        return rows, np.bincount(place, powers, minlength=len(rows)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class UserEncoder:
    """Vectors of users by their histories, as those of the model to 1e-4; threads may share it.

    Attributes:
        towers: By name, in their order.
        items: The table of the ID tower, shape (n_items, dim), or the map of the content tower, (dim, f).
        features: Conditioned content of all items, shape (n_items, f).
        parts: The parts of the dense vector, in their order.
        taste: What content kNN compares, shape (n_items, t), and how it reads a history; None: there is none.
        reads: How each count-based model reads a history, in the order of their ranges of the sparse vector.
        habits: What people take again, which has the last range; None: nothing is known of it.
        own: Models of the user's own, by name.
    """

    towers: Mapping[str, NumpyTower | NumpyTowerEnsemble]
    items: Mapping[str, Matrix]
    features: Matrix
    parts: tuple[str, ...]
    taste: tuple[Matrix, HistoryReading] | None
    reads: tuple[HistoryReading, ...]
    repeats: RepeatConsumption | None = None
    own: Mapping[str, "OwnBlock"] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """That of an ``alignment`` artefact, as generations carry it; StaleArtefactError if it cannot be read."""
        try:
            manifest, tensors = Manifest.read(folder), mapped(folder / FILE)
            facts = manifest.facts
            names = facts["towers"]
            weights, taste = facts["weights"], facts["content_knn"]
            counting = {name for w in (weights, facts["cold_start_weights"]) for name, weight in w.items() if weight}
            own = _own(facts["own"], tensors)
            beside = ([] if taste is None else [CONTENT_KNN]) + list(own)
            dense = [name for name in (*names, *beside) if name in counting]
            again = facts.get("repeat_consumption")
            side = {"id_tower": "weight", "content_tower": "project.weight"}
            return cls(
                {name: numpy_tower(under(tensors, f"{NETWORK}towers.{name}.")) for name in names},
                {name: tensors[f"{NETWORK}items.{name}.{side[name]}"] for name in names},
                tensors["features"],
                (*dense, POPULARITY),
                None if taste is None else (tensors["content_knn"], HistoryReading(taste["decay"], taste["last"])),
                tuple(
                    HistoryReading.of(tensors[f"item_item.{n}.memory"]) for n in facts["item_item"] if weights.get(n)
                ),
                RepeatConsumption.of(again, tensors) if again is not None and weights.get(REPEAT_CONSUMPTION) else None,
                own,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StaleArtefactError(
                f"the user encoder in {folder} cannot be opened: {error!r}",
                "run `molar align` to publish a new generation",
            ) from error

    def encode(self, items: Sequence[int] | Array, times: Sequence[int] | Array) -> tuple[Matrix, SparseVector]:
        """The dense and the sparse vector of who took ``items``, oldest first, at ``times``, in seconds; (L,) each."""
        rows, seconds = np.asarray(items, np.int64), np.asarray(times, np.int64)
        return np.concatenate([self._block(part, rows, seconds) for part in self.parts]), self._sparse(rows, seconds)

    def users(self, log: "Interactions", rows: Rows) -> UserVectors:
        """Vectors of the users at ``rows`` after all of their history in ``log``."""
        from scipy.sparse import csr_matrix

        spans = [slice(int(log.offsets[row]), int(log.offsets[row + 1])) for row in rows]
        made = [self.encode(log.item[span], log.timestamp[span]) for span in spans]
        dense = np.array([vector for vector, _ in made], np.float32).reshape(len(made), -1)
        borders = np.cumsum([0, *(len(sparse.indices) for _, sparse in made)])
        indices = np.concatenate([np.zeros(0, np.int64), *(sparse.indices for _, sparse in made)])
        values = np.concatenate([np.zeros(0, np.float32), *(sparse.values for _, sparse in made)], dtype=np.float32)
        shape = len(made), (len(self.reads) + (self.repeats is not None)) * len(self.features)
        return UserVectors(dense, csr_matrix((values, indices.astype(np.int64), borders), shape=shape))

    def _block(self, part: str, items: Rows, times: Rows) -> Matrix:
        if part == POPULARITY:
            return np.ones(1, np.float32)
        if part == CONTENT_KNN and self.taste is not None:
            table, reading = self.taste
            rows, weights = reading(items, times)
            read: Matrix = unit((weights @ table[rows])[None])[0]
            return read
        if part in self.own:
            return self.own[part].user(items, times)
        tower = self.towers[part]
        if not len(items):
            return np.zeros(tower.dim, np.float32)
        window = slice(-tower.history, None)
        return tower(self.vectors(part, items[window]), times[window])

    def vectors(self, tower: str, rows: Rows) -> Matrix:
        """The vectors in which a tower reads items, (L, dim)."""
        side = self.items[tower]
        if tower != "content_tower":
            return side[rows]
        scaled: Matrix = self.features[rows] * np.float32(self.features.shape[1] ** 0.5)  # as the network's ContentMap
        vectors: Matrix = scaled @ side.T
        return vectors

    def _sparse(self, items: Rows, times: Rows) -> SparseVector:
        found = [reading(items, times) for reading in self.reads]
        if self.repeats is not None:
            found.append(self.repeats(items, times))
        indices = [rows + number * len(self.features) for number, (rows, _) in enumerate(found)]
        values = [weights for _, weights in found]
        return SparseVector(
            np.concatenate([np.zeros(0, np.int64), *indices]).tolist(),
            np.concatenate([np.zeros(0, np.float32), *values]).tolist(),
        )
