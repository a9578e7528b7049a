"""From a history to a user's vectors in NumPy: what :meth:`molar_retrieval.alignment.model.AlignedModel.users` makes.

Publishing computes the vectors of all users at once, with torch; this is for one user at a time, in a process that
answers. The weights are mapped into memory from the file of the alignment, and of the tables of items only the rows of
the history are read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from molar_retrieval.alignment.light_tower import LightEnsemble, LightTower, light_tower
from molar_retrieval.encoders.fusion import unit
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.experts.fading import faded
from molar_retrieval.experts.habits import HABITS, Habits
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.workspace.artefacts import Manifest
from molar_retrieval.workspace.tensors import Array, Matrix, Rows, mapped, under

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from molar_retrieval.data.interactions import Interactions

FILE, NETWORK = "model.safetensors", "network."
"""The arrays of an alignment, and what the names of the network's parameters begin with there."""
NEIGHBOURS, TREND = "neighbours", "trend"
"""The parts of a dense vector beside those of towers."""


@dataclass(frozen=True, eq=False)
class UserVectors:
    """Vectors of U users; the sparse ones say how much each item of a history counts, once per expert."""

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
        """From the tensor ``memory`` of an item-to-item expert."""
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
            powers = powers * faded(seconds[-1:] - seconds, self.fade)
        return rows, np.bincount(place, powers, minlength=len(rows)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class UserEncoder:
    """Vectors of users by their histories, as those of the model to 1e-4; threads may share it.

    Attributes:
        towers: By name, in their order.
        items: The table of the collaborative tower, shape (n_items, dim), or the map of the content tower, (dim, f).
        features: Conditioned content of all items, shape (n_items, f).
        parts: The parts of the dense vector, in their order.
        taste: What content neighbours compare, shape (n_items, t), and how they read a history; None: they do not.
        reads: How each counting expert reads a history, in the order of their ranges of the sparse vector.
        habits: What people take again, which has the last range; None: nothing is known of it.
    """

    towers: Mapping[str, LightTower | LightEnsemble]
    items: Mapping[str, Matrix]
    features: Matrix
    parts: tuple[str, ...]
    taste: tuple[Matrix, HistoryReading] | None
    reads: tuple[HistoryReading, ...]
    habits: Habits | None = None

    @classmethod
    def open(cls, folder: Path) -> Self:
        """That of an ``alignment`` artefact, as generations carry it; StaleArtefactError if it cannot be read."""
        try:
            manifest, tensors = Manifest.read(folder), mapped(folder / FILE)
            facts = manifest.facts
            names = facts.get("towers", manifest.settings["align"]["towers"])
            weights, taste = facts["weights"], facts["taste"]
            counting = {name for w in (weights, facts["newcomer_weights"]) for name, weight in w.items() if weight}
            dense = [name for name in (*names, *([] if taste is None else [NEIGHBOURS])) if name in counting]
            again = facts.get("habits")
            side = {"collaborative": "weight", "content": "project.weight"}
            return cls(
                {name: light_tower(under(tensors, f"{NETWORK}towers.{name}.")) for name in names},
                {name: tensors[f"{NETWORK}items.{name}.{side[name]}"] for name in names},
                tensors["features"],
                (*dense, TREND),
                None if taste is None else (tensors["taste"], HistoryReading(taste["decay"], taste["last"])),
                tuple(HistoryReading.of(tensors[f"partners.{n}.memory"]) for n in facts["partners"] if weights.get(n)),
                Habits.of(again, tensors) if again is not None and weights.get(HABITS) else None,
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
        shape = len(made), (len(self.reads) + (self.habits is not None)) * len(self.features)
        return UserVectors(dense, csr_matrix((values, indices.astype(np.int64), borders), shape=shape))

    def _block(self, part: str, items: Rows, times: Rows) -> Matrix:
        if part == TREND:
            return np.ones(1, np.float32)
        if part == NEIGHBOURS and self.taste is not None:
            table, reading = self.taste
            rows, weights = reading(items, times)
            read: Matrix = unit((weights @ table[rows])[None])[0]
            return read
        tower = self.towers[part]
        if not len(items):
            return np.zeros(tower.dim, np.float32)
        window = slice(-tower.history, None)
        return tower(self.vectors(part, items[window]), times[window])

    def vectors(self, tower: str, rows: Rows) -> Matrix:
        """The vectors in which a tower reads items, (L, dim)."""
        side = self.items[tower]
        if tower != "content":
            return side[rows]
        scaled: Matrix = self.features[rows] * np.float32(self.features.shape[1] ** 0.5)  # as the network's ContentMap
        vectors: Matrix = scaled @ side.T
        return vectors

    def _sparse(self, items: Rows, times: Rows) -> SparseVector:
        found = [reading(items, times) for reading in self.reads]
        if self.habits is not None:
            found.append(self.habits(items, times))
        indices = [rows + number * len(self.features) for number, (rows, _) in enumerate(found)]
        values = [weights for _, weights in found]
        return SparseVector(
            np.concatenate([np.zeros(0, np.int64), *indices]).tolist(),
            np.concatenate([np.zeros(0, np.float32), *values]).tolist(),
        )
