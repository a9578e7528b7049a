"""What a query answers: plain records, the same in Python and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One recommended item.

    Attributes:
        rank: Place in the answer, from 1.
        item_id: The item.
        title: Its title, or None where the catalogue has none.
        score: Dot product of user and item vector.
        parts: Addends of the score, by name.
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


def split_score(user: Sequence[float], item: Sequence[float], spans: Mapping[str, tuple[int, int]]) -> dict[str, float]:
    """The score's addends: the dot product over each range of dimensions.

    Args:
        user: Aligned user vector.
        item: Aligned item vector of the same length.
        spans: First and one past the last dimension of each part.
    """
    return {
        name: sum(u * v for u, v in zip(user[start:stop], item[start:stop], strict=True))
        for name, (start, stop) in spans.items()
    }
