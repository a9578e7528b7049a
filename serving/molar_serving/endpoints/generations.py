"""Generations: which there are, which is live, what another one would change, and going back."""

import asyncio
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from molar_retrieval.errors import DataError, DiskError, MissingArtefactError, StaleArtefactError
from molar_serving.comparing import alone
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.problems import ProblemError
from molar_serving.wire_generations import (
    Activated,
    CausesCompared,
    ComparedList,
    DiffAnswer,
    DiffParameters,
    Exposure,
    GenerationsAnswer,
    GroupCompared,
    GroupJudged,
    ListedCollection,
    ListedGeneration,
    ListsCompared,
    MetricCompared,
    PartCompared,
    QualityCompared,
)

if TYPE_CHECKING:
    from molar_eval.since_both import SinceBoth
    from molar_indexes.causes import Causes
    from molar_indexes.comparison import ExposureChange, ListComparison
    from molar_indexes.generations import GenerationInfo
    from molar_serving.service import Service


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
