"""Noised statistics of a log, and how they lie on disk: nothing in them is of one person."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from molar_retrieval.arrays import Array, Matrix, Rows
from molar_retrieval.experts.item_item import moved
from molar_retrieval.statistics.mechanism import Mechanism

PEOPLE, POPULARITY, TRANSITIONS, PAIRS = "people", "popularity", "transitions", "pairs"
THRESHOLD = 4.0
"""Pairs whose noised sum is so many standard deviations of the noise are read."""
_TENSORS, _FACTS = "statistics.safetensors", "statistics.json"


@dataclass(frozen=True, eq=False)
class Released:
    """Sums over people with noise on them, in units of one person's contribution, and public parameters.

    Attributes:
        mechanism: What is promised, and the noise for it.
        people: About how many there are.
        popularity: How many had each item, as far as each counts, shape (n_items,); may be below 0.
        transitions: What items look like after which each one was taken, shape (n_items, d); (n_items, 0) where there
            are too few people for it.
        pairs: What came soon after each item, shape (n_items, n_items); only sums above the threshold are kept, and
            none where there are too few people for any.
        deviations: Standard deviation of the noise on each number, by the names of these.
        threshold: Of pairs, in standard deviations.
    """

    mechanism: Mechanism
    people: float
    popularity: Matrix
    transitions: Matrix
    pairs: csr_matrix
    deviations: dict[str, float]
    threshold: float

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.popularity)

    def moved(self, rows: Rows, n_items: int) -> Self:
        """The same over other items: row n is at ``rows[n]`` now, -1 where it is gone; nobody had new ones."""
        here = rows >= 0
        popularity = np.zeros(n_items, np.float32)
        transitions = np.zeros((n_items, self.transitions.shape[1]), np.float32)
        popularity[rows[here]], transitions[rows[here]] = self.popularity[here], self.transitions[here]
        return replace(self, popularity=popularity, transitions=transitions, pairs=moved(self.pairs, rows, n_items))

    def facts(self) -> dict[str, Any]:
        """What may be told of it, as JSON: ε, δ, noise, sizes."""
        return asdict(self.mechanism) | {
            "deviations": self.deviations,
            "threshold": self.threshold,
            "people": round(self.people, 1),
            "items": self.n_items,
            "pairs": int(self.pairs.nnz),
        }

    def save(self, folder: Path) -> None:
        """Write two files into a folder that is there."""
        save_file(self.tensors(), folder / _TENSORS)
        (folder / _FACTS).write_text(json.dumps(self.facts(), indent=2) + "\n", "utf-8")

    def tensors(self) -> dict[str, Array]:
        """Its sums as arrays, by name."""
        tensors = {
            POPULARITY: self.popularity,
            TRANSITIONS: self.transitions,
            f"{PAIRS}.data": self.pairs.data,
            f"{PAIRS}.indices": self.pairs.indices.astype(np.int32),
            f"{PAIRS}.indptr": self.pairs.indptr.astype(np.int64),
        }
        return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The inverse of :meth:`save`."""
        return cls.of(json.loads((folder / _FACTS).read_text("utf-8")), load_file(folder / _TENSORS))

    @classmethod
    def of(cls, facts: Mapping[str, Any], tensors: Mapping[str, Array]) -> Self:
        """The inverse of :meth:`facts` and :meth:`tensors`."""
        n_items = len(tensors[POPULARITY])
        arrays = tuple(tensors[f"{PAIRS}.{part}"] for part in ("data", "indices", "indptr"))
        return cls(
            Mechanism(facts["epsilon"], facts["delta"], facts["sigma"]),
            facts["people"],
            tensors[POPULARITY],
            tensors[TRANSITIONS],
            csr_matrix(arrays, shape=(n_items, n_items)),
            facts["deviations"],
            facts["threshold"],
        )
