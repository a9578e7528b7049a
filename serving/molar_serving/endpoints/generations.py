"""Generations: which there are, which is live, what another one would change, and going back."""

import asyncio
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from molar_retrieval import limits
from molar_retrieval.errors import DataError, DiskError, MissingArtefactError, StaleArtefactError
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.overload import alone
from molar_serving.problems import ProblemError
from molar_serving.wire import Strict

if TYPE_CHECKING:
    from molar_eval.version_comparison import SinceBoth
    from molar_indexes.comparison import Causes, ExposureChange, ListComparison
    from molar_indexes.generations import GenerationInfo
    from molar_serving.service import Service

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


async def generations(call: Call) -> Reply:
    """All generations, oldest first."""
    return Reply(await asyncio.to_thread(listed, call.service))


async def activate(call: Call) -> Reply:
    """Make a generation the live one; answers come from it from the next question on. The former one stays."""
    return Reply(await asyncio.to_thread(switched, call, call.path["generation"]))


async def rollback(call: Call) -> Reply:
    """Make the generation before the live one live."""
    return Reply(await asyncio.to_thread(switched, call, None))


async def diff(call: Call) -> Reply:
    """What changes for a sample of people from one generation to another; a few seconds for 500 of them."""
    asked: DiffParameters = call.query
    began = time.perf_counter()
    try:
        found = await alone(lambda: call.service.shop.diff(asked.a, asked.b, users=asked.users))
    except MissingArtefactError as error:
        raise ProblemError(404, error.message, error.hint) from error
    except StaleArtefactError as error:
        raise ProblemError(409, error.message, error.hint) from error
    seconds = round(time.perf_counter() - began, 3)
    lists, quality = lists_compared(found.lists), _judged(found.quality)
    return Reply(DiffAnswer(a=found.before, b=found.after, lists=lists, quality=quality, seconds=seconds))


def lists_compared(found: "ListComparison") -> ListsCompared:
    """A comparison as it goes over the wire."""
    examples = [
        ComparedList(
            user_id=None if one.session else one.person,
            anonymous_id=one.person if one.session else None,
            before=list(one.before),
            after=list(one.after),
        )
        for one in found.examples
    ]
    return ListsCompared(
        users=found.people,
        changed=found.changed,
        exchanged=round(found.exchanged, 4),
        moved=round(found.moved, 4),
        gained=[_exposure(one) for one in found.gained],
        lost=[_exposure(one) for one in found.lost],
        examples=examples,
        groups=[
            GroupCompared(
                dimension=one.dimension,
                value=one.value,
                users=one.people,
                changed=one.changed,
                exchanged=round(one.exchanged, 4),
            )
            for one in found.groups
        ],
        causes=None if found.causes is None else _causes(found.causes),
    )


def _judged(found: "SinceBoth") -> QualityCompared:
    groups = [
        GroupJudged(
            dimension=one.dimension,
            value=one.value,
            users=one.people,
            outcome=one.outcome,
            metrics=[MetricCompared(**asdict(metric)) for metric in one.metrics],
        )
        for one in found.groups
    ]
    return QualityCompared(events=found.events, users=found.people, taken=found.taken, groups=groups)


def _causes(found: "Causes") -> CausesCompared:
    parts = [PartCompared(part=one.part, change=round(one.change, 6), share=round(one.share, 4)) for one in found.parts]
    return CausesCompared(exchanges=found.exchanges, parts=parts, absent=found.absent, untold=found.untold)


def _exposure(one: "ExposureChange") -> Exposure:
    return Exposure(item_id=one.item_id, title=one.title, before=one.before, after=one.after)


def listed(service: "Service") -> GenerationsAnswer:
    """All generations, oldest first, and what a server has of them."""
    shop = service.shop
    found, served = shop.generations(), shop.server() is not None
    there = [
        ListedCollection(
            collection=one.name,
            generation=one.metadata.generation,
            holds=one.metadata.holds,
            points=one.points,
            live=one.live,
            whole=one.metadata.whole,
        )
        for one in shop.collections()
    ]
    live = {one.generation for one in there if one.live} if served else {one.name for one in found if one.live}
    return GenerationsAnswer(
        live=next(iter(sorted(live)), None),
        generations=[_described(one, one.name in live) for one in found],
        collections=there if served else None,
    )


def _described(one: "GenerationInfo", live: bool) -> ListedGeneration:
    return ListedGeneration(
        generation=one.name,
        live=live,
        made=one.created,
        age=age(one.created),
        items=one.items,
        users=one.users,
        bytes=one.bytes,
        backend=one.backend,
        inputs=dict(one.inputs),
        events=int(one.events.get("interactions", 0)),
        problem=one.problem,
    )


def age(made: str) -> float | None:
    """Seconds since a moment, None where it cannot be read."""
    try:
        return round((datetime.now(UTC) - datetime.fromisoformat(made)).total_seconds(), 1)
    except (ValueError, TypeError):
        return None


def switched(call: Call, name: str | None) -> Activated:
    """Make a generation the live one, or the one before it; answers come from it when this returns."""
    service = call.service
    former = live_name(service)
    try:
        live = service.shop.rollback(name)
        service.catch_up()
    except MissingArtefactError as error:
        raise ProblemError(409 if name is None else 404, error.message, error.hint) from error
    except DiskError:
        raise
    except (StaleArtefactError, DataError) as error:  # it is damaged, or somebody publishes
        raise ProblemError(409, error.message, error.hint) from error
    if former != live.generation:
        call.audit["undo"] = {"kind": "generation", "before": former, "after": live.generation}
    return Activated(generation=live.generation, collection=live.collection, here=live.kept_here)


def live_name(service: "Service") -> str | None:
    """The live generation, here or on the server that answers; None where there is none."""
    shop = service.shop
    if shop.server() is None:
        return service.workspace["generations"].pointer
    return next((one.metadata.generation for one in shop.collections() if one.live), None)


ENDPOINTS = (
    Endpoint("GET", "/v1/generations", "admin", "Which generations there are", generations, reply=GenerationsAnswer),
    Endpoint(
        "GET",
        "/v1/generations/diff",
        "admin",
        "What changes for people from one generation to another",
        diff,
        query=DiffParameters,
        reply=DiffAnswer,
    ),
    Endpoint(
        "POST",
        "/v1/generations/{generation}/activate",
        "admin",
        "Make a generation the live one",
        activate,
        reply=Activated,
        changes=True,
    ),
    Endpoint(
        "POST",
        "/v1/rollback",
        "admin",
        "Go back to the generation before the live one",
        rollback,
        reply=Activated,
        changes=True,
    ),
)
