"""Generations, and what is going on, over the wire."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from molar_retrieval import limits
from molar_serving.wire import Strict

_Name = Annotated[str, Meta(min_length=1, max_length=255)]


class ListedGeneration(Struct, kw_only=True):
    """A generation of the workspace.

    Attributes:
        generation: Its name.
        live: Whether it answers: by the server's alias where the index is on a server.
        made: When, in UTC.
        age: Seconds since then; null where that is not known.
        items: How many it has.
        users: How many it has.
        bytes: What it takes on the disk.
        backend: The kind of its index.
        inputs: Fingerprints of what it was made from, by kind.
        events: The last event that it contains, by ``seq``.
        problem: Why it cannot be used, or null.
    """

    generation: str
    live: bool
    made: str
    age: float | None
    items: int
    users: int
    bytes: int
    backend: str
    inputs: dict[str, str]
    events: int
    problem: str | None


class ListedCollection(Struct, kw_only=True):
    """A collection on a Qdrant server: what it holds, of which generation, and whether it is live."""

    collection: str
    generation: str
    holds: str
    points: int
    live: bool
    whole: bool


class GenerationsAnswer(Struct, kw_only=True):
    """All generations, oldest first; the collections of a server where there is one."""

    live: str | None
    generations: list[ListedGeneration]
    collections: list[ListedCollection] | None


class Activated(Struct, kw_only=True):
    """What is live now; ``here`` is whether the workspace has it, without which a server's answers fail."""

    generation: str
    collection: str | None
    here: bool


class DiffParameters(Strict):
    """Two generations, by default the live one and the one before it, and of how many people lists are compared."""

    a: _Name | None = None
    b: _Name | None = None
    users: Annotated[int, Meta(ge=1, le=limits.COMPARED_PEOPLE)] = 500


class Exposure(Struct, kw_only=True):
    """An item, and in how many of the lists it is before and after."""

    item_id: str
    title: str | None
    before: int
    after: int


class ComparedList(Struct, kw_only=True):
    """The ids of somebody's list before and after."""

    user_id: str | None
    anonymous_id: str | None
    before: list[str]
    after: list[str]


class GroupCompared(Struct, kw_only=True):
    """How lists differ of those who are alike: ``new``, ``occasional`` or ``regular``, or in a field of people."""

    dimension: str
    value: str
    users: int
    changed: int
    exchanged: float


class PartCompared(Struct, kw_only=True):
    """By how much a part of the score brought items that enter up on those that leave, and its share of the whole."""

    part: str
    change: float
    share: float


class CausesCompared(Struct, kw_only=True):
    """What made items enter and leave lists.

    Attributes:
        exchanges: Places at which a score decided.
        parts: What each part of the score has done there; shares add up to 1.
        absent: Items that entered or left a list as the other generation does not have them, or may not show them.
        untold: People whose lists differ and of whom one generation knows no history.
    """

    exchanges: int
    parts: list[PartCompared]
    absent: int
    untold: int


class ListsCompared(Struct, kw_only=True):
    """How lists of the same people differ.

    Attributes:
        users: Whose lists were compared.
        changed: Of these, people whose list differs in its items or their order.
        exchanged: Share of places whose item is nowhere in the other list of the same person.
        moved: Share of places that have another item than before.
        gained: Items that more people see, at most 20.
        lost: Items that fewer people see, at most 20.
        examples: The people whose lists changed most, at most 20.
        groups: The same by what is known of people; of two generations.
        causes: Which part of the score did it; of two generations, else null.
    """

    users: int
    changed: int
    exchanged: float
    moved: float
    gained: list[Exposure]
    lost: list[Exposure]
    examples: list[ComparedList]
    groups: list[GroupCompared]
    causes: CausesCompared | None


class MetricCompared(Struct, kw_only=True):
    """A metric under both generations; the interval is that of the difference."""

    name: str
    before: float
    after: float
    low: float
    high: float


class GroupJudged(Struct, kw_only=True):
    """How good the lists of some people are; ``open``: it cannot be told, ``too_few``: less than 30 people."""

    dimension: str
    value: str
    users: int
    outcome: Literal["better", "worse", "open", "too_few"]
    metrics: list[MetricCompared]


class QualityCompared(Struct, kw_only=True):
    """Which generation foretold better what people took after both were made.

    Attributes:
        events: The last event that one of the two knows, by ``seq``.
        users: Who took something since that they had not.
        taken: How many items that are.
        groups: Everybody, then those who are alike.
    """

    events: int
    users: int
    taken: int
    groups: list[GroupJudged]


class DiffAnswer(Struct, kw_only=True):
    """What changes for people from generation ``a`` to ``b``."""

    a: str
    b: str
    lists: ListsCompared
    quality: QualityCompared
    seconds: float


class StatusAnswer(Struct, kw_only=True):
    """What is going on.

    Attributes:
        version: Of molar.
        versions: Of the libraries that answer.
        generation: That answers; null: none does.
        age: Seconds since it was made.
        items: How many it has.
        users: How many it knows.
        events: The last event of the log by ``seq``, which the next answer knows.
        events_since: How many came after those that the generation was made of.
        disk_free: Bytes that are free for the workspace.
        training: Why training is due, each with its command; empty: it is not.
        unavailable: Why nothing answers, or null.
        refused: Why what is live does not answer, but the generation before it; null: it does.
        settings: Of ``molar.toml`` and the environment, without secrets.
    """

    version: str
    versions: dict[str, str]
    generation: str | None
    age: float | None
    items: int
    users: int
    events: int
    events_since: int
    disk_free: int
    training: list[dict[str, str]]
    unavailable: str | None
    refused: str | None
    settings: dict[str, Any]
