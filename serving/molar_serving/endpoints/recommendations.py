"""Lists: recommendations, their next pages, search, and rankings of given items."""

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from molar_retrieval import limits
from molar_serving.asking import Question, ask, popular, who, with_photos
from molar_serving.auth import check_reasons, redact_for_pages
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.lists import answered, list_answer, list_in_time, list_of, reply
from molar_serving.problems import ProblemError
from molar_serving.response_store import SOON, Shown
from molar_serving.wire import (
    AnsweredItem,
    ListAnswer,
    NextRequest,
    RankingsRequest,
    RecommendationRequest,
    SearchRequest,
    SimilarRequest,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from molar_eval.experiments.arms import OpenArm
    from molar_indexes.recommender import Recommender
    from molar_retrieval.ranking.results import Recommendations

_EVENT_LOOK, _LONGER = 0.005, 1.5
"""Seconds until a second look for events that an answer must know, and how much longer than that until each next one:
they are there within milliseconds or may never come, and a look costs an answer."""
_ANSWER_LOOK = 0.02  # seconds between two looks for what another process writes
_BASE64 = limits.PHOTO * 4 // 3 + (1 << 16)  # bytes of a body with a photo in it


async def recommend(call: Call) -> Reply:
    """The list of somebody; who is not known gets the popular one, with a note."""
    asked: RecommendationRequest = call.body
    answer, notes = await answered(call, asked)
    look = _EVENT_LOOK
    while asked.wait_for is not None and answer.events < asked.wait_for and _left(call, look):
        await asyncio.sleep(look)
        look *= _LONGER
        answer, notes = await answered(call, asked)
    told = list_of(asked, answer, notes)
    if asked.wait_for is not None and answer.events < asked.wait_for:
        told.notes.append(f"events up to {answer.events:,} are known, not yet up to {asked.wait_for:,}")
    return reply(call, told, asked, asked)


async def recommend_simply(call: Call) -> Reply:
    """The same by the parameters of an address."""
    call.body = call.query
    return await recommend(call)


def _left(call: Call, seconds: float) -> bool:
    return call.deadline is None or time.perf_counter() + seconds < call.deadline


async def shown_again(call: Call) -> Reply:
    """What was answered, byte by byte; a browser's key sees what it would have been told."""
    shown = await _shown(call, call.path["answer_id"])
    if not call.key.of_browsers or shown.of_browsers:
        return Reply(shown.body)
    told = redact_for_pages(msgspec.json.decode(shown.body, type=ListAnswer))
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

    def listed(explain: bool, rerank: bool) -> "Recommendations":
        if arm is not None and arm.arm.shows == "popular":
            return most_popular(hide=True)

        def of(recommender: "Recommender") -> "Recommendations":
            return ask(recommender, asked, explain=explain, rerank=rerank, k=count, last_event=shown.events)

        return _of(call, shown.generation, of, arm)

    def most_popular(hide: bool) -> "Recommendations":
        return _of(call, shown.generation, lambda recommender: popular(recommender, asked, count, hide=hide), arm)

    answer, notes = await list_in_time(call, listed, most_popular, explain=getattr(asked, "explain", False))
    told = list_of(asked, _behind(answer, shown, asked.k), notes)
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
    call: Call, generation: str, asked: "Callable[[Recommender], Recommendations]", arm: "OpenArm | None" = None
) -> "Recommendations":
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


def _behind(answer: "Recommendations", shown: Shown, k: int) -> "Recommendations":
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
        await asyncio.sleep(_ANSWER_LOOK)
    return found


async def rank(call: Call) -> Reply:
    """The items that are sent, each once: ranked for somebody, then those that nothing ranks, as they were sent.

    These are unknown, sold out, or left out by rules; for somebody unknown also those that few people took.
    """
    asked: RankingsRequest = call.body
    if asked.session is None and asked.user_id is None and asked.anonymous_id is None:
        raise ProblemError(422, "it is not said for whom", "send user_id, anonymous_id or session", field="user_id")
    ids = list(dict.fromkeys(str(item) for item in asked.items))

    def popular(_: bool) -> "Recommendations":
        recommender = call.service.recommender
        answer = recommender.popular(k=len(ids), candidates=ids, rules=asked.rules, fields=asked.fields)
        return with_photos(answer, recommender)

    answer, notes = await list_in_time(
        call, lambda _, rerank: _ranked(call, asked, ids, rerank), popular, explain=False
    )
    told = list_answer(answer, notes)
    told.shortfall = None
    if not told.known and not notes:
        told.notes.append("nothing is known of who asks, so the order is that of most people")
    ranked = {item.item_id for item in told.items}
    rest = [item_id for item_id in ids if item_id not in ranked]
    told.items += [
        AnsweredItem(item_id=item_id, rank=place, title=None, score=None)
        for place, item_id in enumerate(rest, len(ranked) + 1)
    ]
    if rest:
        told.notes.append(f"the last {len(rest):,} of the items are as they were sent, as nothing ranks them")
    return reply(call, told, asked)


def _ranked(call: Call, asked: RankingsRequest, ids: list[str], rerank: bool) -> "Recommendations":
    recommender, session = call.service.recommender, tuple(str(item) for item in asked.session or ())
    user_id, anonymous_id = (None, None) if session else who(asked)
    answer = recommender.query(
        user_id, anonymous_id=anonymous_id, session=session, k=len(ids), candidates=ids, rules=asked.rules,
        rerank=rerank, filter_seen=False, explore=False, objective=asked.objective, fields=asked.fields,
    )  # fmt: skip
    return with_photos(answer, recommender)


async def search(call: Call) -> Reply:
    """What words, a photo or another item ask for; what suits somebody who is named comes first among equals."""
    asked: SearchRequest = call.body
    if asked.text is None and asked.image is None and asked.similar_to is None:
        raise ProblemError(422, "nothing is asked for", "send text, image or similar_to", field="text")
    told = list_of(asked, *await answered(call, asked))
    return reply(call, told, asked, asked if asked.image is None else None)


async def search_simply(call: Call) -> Reply:
    """The same for words, by the parameters of an address."""
    call.body = call.query
    return await search(call)


async def search_by_photo(call: Call) -> Reply:
    """The same for a photo that is sent as it is, ``fetch(address, {method: "POST", body: file})``."""
    if not call.body:
        raise ProblemError(422, "the body is empty", "send the file of a photo", field="image")
    call.body = msgspec.structs.replace(call.query, image=call.body)
    return await search(call)


async def similar(call: Call) -> Reply:
    """The items whose words and photo are most like those of an item."""
    asked: SimilarRequest = call.query
    return reply(call, list_of(asked, *await answered(call, asked)), asked, asked)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/recommendations",
        "answer",
        "What somebody should see next",
        recommend,
        body=RecommendationRequest,
        reply=ListAnswer,
    ),
    Endpoint(
        "GET",
        "/v1/recommendations",
        "answer",
        "What somebody should see next, by a simple address",
        recommend_simply,
        query=RecommendationRequest,
        reply=ListAnswer,
    ),
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
    Endpoint(
        "POST",
        "/v1/rankings",
        "answer",
        "Put items of one's own in order for somebody",
        rank,
        body=RankingsRequest,
        reply=ListAnswer,
    ),
    Endpoint(
        "POST",
        "/v1/search",
        "answer",
        "Search by words, a photo or another item",
        search,
        body=SearchRequest,
        reply=ListAnswer,
        most=_BASE64,
    ),
    Endpoint(
        "GET",
        "/v1/search",
        "answer",
        "Search by words, by a simple address",
        search_simply,
        query=SearchRequest,
        reply=ListAnswer,
    ),
    Endpoint(
        "POST",
        "/v1/search/photo",
        "answer",
        "Search by a photo, sent as it is",
        search_by_photo,
        query=SearchRequest,
        reply=ListAnswer,
        media=("image/*",),
        most=limits.PHOTO,
    ),
    Endpoint(
        "GET",
        "/v1/items/{item_id:path}/similar",
        "answer",
        "Items like an item",
        similar,
        query=SimilarRequest,
        reply=ListAnswer,
    ),
)
