"""Ids of points in databases that refuse strings: UUIDv5 of the ids outside, the same everywhere."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from molar_retrieval import columns
from molar_retrieval.ranking.filters import Expression, matches

_NAMESPACE = uuid.UUID("6d6f6c61-7200-5000-8000-726574726965")  # "molar" … "retrie"


def point_id(item_id: str) -> str:
    """The UUIDv5 under which such a database knows an item or a user; collections keep the two kinds apart."""
    return str(uuid.uuid5(_NAMESPACE, item_id))


Vector = Sequence[float]
Spans = Mapping[str, tuple[int, int]]  # first and one past the last dimension of each part of a score, by its name
SCAN = 0  # a candidate list of this length: no graph is used, everything is scanned
_WIDER = 2  # a graph's candidate list is at least so many times what is wanted of it


class SparseVector(NamedTuple):
    """The numbers of a long vector that are not zero.

    Attributes:
        indices: Their dimensions, ascending, each once, not negative.
        values: The numbers.
    """

    indices: Sequence[int]
    values: Sequence[float]


class Search(NamedTuple):
    """What :meth:`Index.top` is asked for: the name of a vector, a query for it, and how many are wanted."""

    name: str
    query: Vector | SparseVector
    k: int


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
class StoredItem:
    """What an index holds of an item.

    Attributes:
        row: The item's row in the generation.
        item_id: Its id outside.
        payload: What was stored with the item, without the id.
        vectors: The vectors that were asked for, by name.
        sparse: The sparse vectors that were asked for, by name.
    """

    row: int
    item_id: str
    payload: Mapping[str, Any]
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    sparse: Mapping[str, SparseVector] = field(default_factory=dict)

    def fulfils(self, condition: Expression) -> bool:
        """Whether it is one of the items that a condition means."""
        return matches(condition, {columns.ITEM_ID: self.item_id, **self.payload})


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
        lengths: The length of the longest vector of a name. A graph then finds what is best by dot product as well as
            what is nearest, see :mod:`molar_indexes.equal_lengths`. Vectors of names that are not here should be of
            one length.
        efs: By name, the candidate list while searching where that of ``ef`` does not find enough, or :data:`SCAN`;
            see :mod:`molar_indexes.publish_check`.
    """

    dims: Mapping[str, int]
    fields: Mapping[str, str] = field(default_factory=dict)
    m: int = 16
    ef_construct: int = 128
    ef: int = 512
    sparse: tuple[str, ...] = ()
    lengths: Mapping[str, float] = field(default_factory=dict)
    efs: Mapping[str, int] = field(default_factory=dict)

    @property
    def searched(self) -> set[str]:
        """Names of the dense vectors that are searched often: not ``aligned`` where ``whitened`` is."""
        instead = {columns.ALIGNED} if columns.WHITENED in self.dims else set()
        return set(self.dims) - instead

    def candidates(self, name: str, wanted: int) -> int:
        """The candidate list for a search of ``wanted`` items; :data:`SCAN`: the graph of that name is not used."""
        ef = self.efs.get(name, self.ef)
        return SCAN if ef == SCAN else max(ef, _WIDER * wanted)


@runtime_checkable
class Index(Protocol):
    """An immutable collection of items with named vectors. Thread-safe for reading."""

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""

    @property
    def graphs(self) -> Collection[str]:
        """Names of the vectors whose searches use a graph, and may miss some of the best."""

    def searching(self, efs: Mapping[str, int]) -> Self:
        """The same index with other candidate lists, see :attr:`IndexSpec.efs`; it is not closed by itself."""

    def __len__(self) -> int:
        """How many items it holds."""

    def top(
        self,
        name: str,
        query: Vector | SparseVector,
        k: int,
        *,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
    ) -> list[tuple[int, float]]:
        """Rows and scores of the ``k`` items with the largest dot product, best first, equal scores by row.

        Args:
            name: Which named vector to search, dense or sparse. Items without it are never found, nor are items that
                share no dimension with a sparse query.
            query: As many numbers as ``spec.dims[name]``, or a sparse vector for a sparse name.
            k: At most this many; fewer only if fewer items are left.
            exclude: Rows that must not be found.
            where: Condition on the payload, applied inside the search.

        Raises:
            RequestError: If the name or the query does not fit, a number in it is not finite, or k < 1.
        """

    def tops(
        self, searches: Sequence[Search], *, exclude: Iterable[int] = (), where: Expression | None = None
    ) -> list[list[tuple[int, float]]]:
        """The answers of :meth:`top` to several searches, which an index on a server is asked for at once."""

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[StoredItem]:
        """The stored items at ``rows``, in that order; unknown rows are left out."""

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, in their order; None for an unknown one."""

    def close(self) -> None:
        """Release files; the index cannot be used afterwards."""
