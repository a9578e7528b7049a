"""Lists that were given already: shown again, and gone on with."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from molar_retrieval import limits
from molar_serving.asking import Question, ask, popular
from molar_serving.deadlines import list_in_time
from molar_serving.discretion import check_reasons, discreet
from molar_serving.endpoint import Call, Endpoint, Reply, encode
from molar_serving.lists import list_of, reply
from molar_serving.problems import ProblemError
from molar_serving.shown import SOON, Shown
from molar_serving.wire import ListAnswer, NextRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from molar_indexes.experiments.arms import OpenArm
    from molar_indexes.recommender import Recommender
    from molar_retrieval.ranking.results import Answer

_LOOK = 0.02  # seconds between two looks for what another process writes


async def shown_again(call: Call) -> Reply:
    """What was answered, byte by byte; a browser's key sees what it would have been told."""
    shown = await _shown(call, call.path["answer_id"])
    if not call.key.of_browsers or shown.of_browsers:
        return Reply(shown.body)
    told = discreet(msgspec.json.decode(shown.body, type=ListAnswer))
    for item in told.items:
        item.reasons = []
    return Reply(encode(told))


async def next_page(call: Call) -> Reply:
    """The next items of the same list: by the same generation and the same question, nothing twice.

    The list is as what its person did up to the first page made it, whatever came since; what may not be shown any more
    does not come.
    """
    wanted = call.body if call.body is not None else call.query
    return await page_behind(call, call.path["answer_id"], wanted.k)


async def page_behind(call: Call, answer_id: str, k: int) -> Reply:
    """The next ``k`` items of an answer's list."""
    shown = await _shown(call, answer_id)
    if shown.question is None:
        remedy = (
            "follow `next` where it is not null; rankings, photos and lists of both arms of an experiment have none"
        )
        raise ProblemError(422, "this list has no next page", remedy)
    check_reasons(call.key, shown.question)
    asked, count = _longer(shown, k)

    arm = _arm(call, shown)

    def listed(explain: bool, rerank: bool) -> "Answer":
        if arm is not None and arm.arm.shows == "popular":
            return most_popular(hide=True)
        second = rerank and (arm is None or bool(arm.arm.options.get("rerank", True)))

        def of(recommender: "Recommender") -> "Answer":
            return ask(recommender, asked, explain=explain, rerank=second, k=count, as_of=shown.events)

        return _of(call, shown.generation, of, arm)

    def most_popular(hide: bool) -> "Answer":
        return _of(call, shown.generation, lambda recommender: popular(recommender, asked, count, hide=hide), arm)

    answer, notes = await list_in_time(call, listed, most_popular, explain=getattr(asked, "explain", False))
    told = list_of(call, asked, _behind(answer, shown, asked.k), notes)
    if told.generation != shown.generation:
        told.notes.append(f"generation {shown.generation} is gone, so the list goes on as {told.generation} has it")
    if arm is None and shown.experiment is not None:
        told.notes.append(f"experiment {shown.experiment.name} is over, so the list goes on without it")
    return reply(call, told, asked, asked, shown)


async def next_page_simply(call: Call) -> Reply:
    """The same by a simple address."""
    return await next_page(call)


def _longer(shown: Shown, k: int) -> tuple[Question, int]:
    """The question with the length of the page, and how long the list is to its end."""
    assert shown.question is not None
    return msgspec.structs.replace(shown.question, k=k, dry_run=False), min(len(shown.items) + k, limits.K)


def _arm(call: Call, shown: Shown) -> "OpenArm | None":
    """The arm of an experiment that a list is of, while it runs."""
    experiments, of = call.service.experiments, shown.experiment
    return None if experiments is None or of is None else experiments.arm(of.name, of.arm)


def _of(
    call: Call, generation: str, asked: "Callable[[Recommender], Answer]", arm: "OpenArm | None" = None
) -> "Answer":
    """An answer of a generation while it can be opened, by its arm if there is one, else of the live one."""
    if arm is not None and arm.recommender.generation.name == generation:
        answer = asked(arm.recommender)
        if answer.generation == generation:
            return answer
    live = call.service.recommender
    if live.generation.name == generation:
        answer = asked(live)
        if answer.generation == generation:  # another one may have gone live meanwhile
            return answer
    with call.service.former.lent(generation) as former:
        return asked(live if former is None else former)


def _behind(answer: "Answer", shown: Shown, k: int) -> "Answer":
    """What of a longer list was not shown yet."""
    before = set(shown.items)
    items = [item for item in answer.items if item.item_id not in before][:k]
    ranked = [replace(item, rank=place) for place, item in enumerate(items, len(shown.items) + 1)]
    short = answer.shortfall
    if len(items) < k and short is None:
        short = f"a list ends with its {limits.K:,}th item"
    return replace(answer, items=ranked, k=k, shortfall=short if len(items) < k else None)


async def _shown(call: Call, answer_id: str) -> Shown:
    """The answer that is asked about, which another process may be about to write."""
    kept = call.service.shown
    if kept.expired(answer_id):
        raise ProblemError(410, f"answers are kept for {kept.seconds / 60:g} minutes", "ask for a new list")
    end = asyncio.get_running_loop().time() + SOON
    while (found := await call.service.answers.do(lambda: kept.find(answer_id))) is None:
        if not kept.awaited(answer_id) or asyncio.get_running_loop().time() > end:
            remedy = (
                "name one that was given, not in a dry run"
                if kept.seconds
                else "[serve] response_ttl_minutes keeps them"
            )
            raise ProblemError(404, "there is no answer of this id", remedy)
        await asyncio.sleep(_LOOK)
    return found


ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/recommendations/{answer_id}",
        "answer",
        "What was answered, again",
        shown_again,
        reply=ListAnswer,
    ),
    Endpoint(
        "POST",
        "/v1/recommendations/{answer_id}/next",
        "answer",
        "The next page of a list",
        next_page,
        body=NextRequest,
        reply=ListAnswer,
    ),
    Endpoint(
        "GET",
        "/v1/recommendations/{answer_id}/next",
        "answer",
        "The next page of a list, by a simple address",
        next_page_simply,
        query=NextRequest,
        reply=ListAnswer,
    ),
)
