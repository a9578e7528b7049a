"""Vectors brought to one length, so that a graph finds the largest dot products.

A graph's edges lead to neighbours, and the dot product is no likeness of neighbours: long vectors are everybody's best,
edges lead to them only, and most of what a query wants is never reached. One more number beside each vector gives all
the same length (Bachrach et al. 2014, doi:10.1145/2645710.2645741). A query has 0 there, so that no score changes,
while the nearest vectors and those with the largest dot products are now the same.
"""

from math import hypot, sqrt
from typing import TYPE_CHECKING

from molar_retrieval.ranking.index_protocol import IndexSpec, Vector

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def longest(vectors: "npt.NDArray[np.floating]") -> float:
    """The length of the longest row; 0 where there is none."""
    import numpy as np

    return float(np.linalg.norm(vectors, axis=1).max(initial=0.0))


def stored(spec: IndexSpec, name: str, vector: Vector) -> list[float]:
    """A vector as it is kept: with what it lacks in length, where the spec knows how long it should be."""
    length = spec.lengths.get(name)
    return list(vector) if length is None else [*vector, sqrt(max(0.0, length**2 - hypot(*vector) ** 2))]


def asked(spec: IndexSpec, name: str, query: Vector) -> list[float]:
    """A query for such vectors."""
    return [*query, 0.0] if name in spec.lengths else list(query)


def given(spec: IndexSpec, name: str, vector: list[float]) -> list[float]:
    """The vector that was put in."""
    return vector[:-1] if name in spec.lengths else vector


def dims(spec: IndexSpec) -> dict[str, int]:
    """How many numbers are kept of each vector, by name."""
    return {name: dim + (name in spec.lengths) for name, dim in spec.dims.items()}
