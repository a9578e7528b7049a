"""What a query answers: plain records, the same in Python and as JSON."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from molar_retrieval.index import SparseVector, Vector

Spans = Mapping[str, tuple[int, int]]
"""First and one past the last dimension of each part of a score, by its name."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One recommended item.

    Attributes:
        rank: Place in the answer, from 1.
        item_id: The item.
        title: Its title, or None where the catalogue has none.
        score: Dot products of the user's and the item's vectors; that of a newcomer is lifted, see
            :mod:`molar_retrieval.ranking.newcomers`.
        parts: Addends of the score, by name; the lift is ``newcomer``.
        reasons: Why, in words.
        payload: Its attributes.
    """

    rank: int
    item_id: str
    title: str | None
    score: float
    parts: Mapping[str, float]
    reasons: Sequence[str] = ()
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A ranked list, and how it came about.

    Attributes:
        user_id: Whom it is for, or None for a session or a question about items.
        k: How many items were asked for.
        generation: The generation that answered.
        basis: What ranked the items: ``aligned``, ``content`` or ``popularity``.
        items: At most ``k`` items, best first.
        shortfall: Why there are fewer than ``k``, or None.
        timings_ms: Milliseconds of each stage.
    """

    user_id: str | None
    k: int
    generation: str
    basis: str
    items: Sequence[Recommendation]
    shortfall: str | None
    timings_ms: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON-able values; payloads are left out."""
        result = asdict(self)
        for item in result["items"]:
            del item["payload"]
        return result


NOTHING = SparseVector((), ())


def split_score(
    user: Vector,
    item: Vector,
    spans: Spans,
    sparse_user: SparseVector = NOTHING,
    sparse_item: SparseVector = NOTHING,
    sparse_spans: Spans | None = None,
) -> dict[str, float]:
    """The score's addends: the dot product over each range of dimensions, 0 where there is nothing.

    Args:
        user: Dense user vector.
        item: Dense item vector of the same length.
        spans: First and one past the last dimension of each part.
        sparse_user: Sparse user vector.
        sparse_item: Sparse item vector.
        sparse_spans: The ranges of its parts.
    """
    parts = {
        name: sum(u * v for u, v in zip(user[start:stop], item[start:stop], strict=True))
        for name, (start, stop) in spans.items()
    }
    found = dict(zip(sparse_item.indices, sparse_item.values, strict=True))
    for name, (start, stop) in (sparse_spans or {}).items():
        first, last = bisect_left(sparse_user.indices, start), bisect_left(sparse_user.indices, stop)
        own = zip(sparse_user.indices[first:last], sparse_user.values[first:last], strict=True)
        parts[name] = sum((value * found[index] for index, value in own if index in found), 0.0)
    return parts
