"""What a query answers: plain records, the same in Python and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from molar_retrieval.index import SparseVector

Spans = Mapping[str, tuple[int, int]]
"""First and one past the last dimension of each part of a score, by its name."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One recommended item.

    Attributes:
        rank: Place in the answer, from 1.
        item_id: The item.
        title: Its title, or None where the catalogue has none.
        score: The sum of ``parts``, dot products of the user's and the item's vectors; a newcomer's is lifted, see
            :mod:`molar_retrieval.ranking.newcomers`.
        parts: Addends of the score, by name; the lift is ``newcomer``, and what rules add is ``rules``.
        rank_by_score: Its place without rules, diversity and calibration.
        rule: Names of the rules that put it where it stands, or ``diversity`` or ``calibration``; None: the score did.
        reasons: Why, in words; empty unless asked for.
        evidence: What they rest on, see :class:`molar_indexes.explain.Explained`; None unless asked for.
        payload: Its attributes.
    """

    rank: int
    item_id: str
    title: str | None
    score: float
    parts: Mapping[str, float]
    rank_by_score: int
    rule: str | None = None
    reasons: Sequence[str] = ()
    evidence: Mapping[str, Any] | None = None
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
        notes: What rules could not do, in sentences.
        timings_ms: Milliseconds of each stage.
    """

    user_id: str | None
    k: int
    generation: str
    basis: str
    items: Sequence[Recommendation]
    shortfall: str | None
    notes: Sequence[str]
    timings_ms: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON-able values; payloads are left out."""
        result = asdict(self)
        for item in result["items"]:
            del item["payload"]
        return result


NOTHING = SparseVector((), ())
