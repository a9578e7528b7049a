"""The protocol that every index backend speaks, and the records that travel through it.

Ranking knows this module only; the backends live in ``molar_indexes``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from molar_retrieval.expressions import Expression

Vector = Sequence[float]


class SparseVector(NamedTuple):
    """The numbers of a long vector that are not zero.

    Attributes:
        indices: Their dimensions, ascending, each once, not negative.
        values: The numbers.
    """

    indices: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class IndexItem:
    """One item on its way into an index.

    Attributes:
        row: Its row in the generation's item map; the key inside the index. Items come in ascending order of rows.
        item_id: Its id outside.
        vectors: By vector name; a name may be missing (an item without a content vector).
        payload: Attributes for filters and display, without the id.
        sparse: By name of a sparse vector; an item without one scores 0 there.
    """

    row: int
    item_id: str
    vectors: Mapping[str, Vector]
    payload: Mapping[str, Any]
    sparse: Mapping[str, SparseVector] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of an index, or one stored item.

    Attributes:
        row: The item's row in the generation.
        item_id: Its id outside.
        score: Dot product of the query with the named vector, plus those with sparse ones (0 for a fetched item).
        payload: What was stored with the item, without the id.
        vectors: The vectors that were asked for, by name.
        sparse: The sparse vectors that were asked for, by name.
    """

    row: int
    item_id: str
    score: float
    payload: Mapping[str, Any]
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    sparse: Mapping[str, SparseVector] = field(default_factory=dict)


@dataclass(frozen=True)
class IndexSpec:
    """What an index holds, as data.

    Attributes:
        dims: Dimension of each named vector; scores are dot products.
        fields: Kind of each payload field that can be filtered: ``keyword``, ``integer``, ``float`` or ``bool``.
        m: HNSW edges per node.
        ef_construct: HNSW candidate list while building.
        ef: HNSW candidate list while searching.
        sparse: Names of the sparse vectors.
    """

    dims: Mapping[str, int]
    fields: Mapping[str, str] = field(default_factory=dict)
    m: int = 16
    ef_construct: int = 128
    ef: int = 256
    sparse: tuple[str, ...] = ()


@runtime_checkable
class Index(Protocol):
    """An immutable collection of items with named vectors. Thread-safe for reading."""

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""
        ...

    def __len__(self) -> int:
        """How many items it holds."""
        ...

    def search(
        self,
        name: str,
        query: Vector,
        k: int,
        *,
        plus: Mapping[str, SparseVector] | None = None,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
        vectors: Sequence[str] = (),
    ) -> list[Hit]:
        """The ``k`` items with the largest score, best first, equal scores by row.

        The score is the dot product with the named vector plus those with the sparse vectors in ``plus``.

        Args:
            name: Which named vector to search; items without it are never found.
            query: As many numbers as ``spec.dims[name]``.
            k: At most this many hits; fewer only if fewer items are left.
            plus: Sparse queries by the name of a sparse vector.
            exclude: Rows that must not be found.
            where: Condition on the payload, applied inside the search.
            vectors: Named vectors, dense or sparse, to return with each hit.

        Raises:
            RequestError: If a name or the query's dimension is wrong, a number in it is not finite, or k < 1.
        """
        ...

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[Hit]:
        """The stored items at ``rows``, in that order; unknown rows are left out."""
        ...

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, in their order; None for an unknown one."""
        ...

    def close(self) -> None:
        """Release files; the index cannot be used afterwards."""
        ...
