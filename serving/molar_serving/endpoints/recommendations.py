"""Lists for people: known ones, anonymous ones, sessions."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from molar_indexes.answers import POPULARITY
from molar_retrieval.ranking.answer import Answer, Recommendation
from molar_serving.deadlines import list_in_time
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.wire import AnsweredItem, ListAnswer, RecommendationParameters, RecommendationRequest

_LOOK, _LONGER = 0.005, 1.5
"""Seconds until a second look for events that an answer must know, and how much longer than that until each next one:
they are there within milliseconds or may never come, and a look costs an answer."""


async def recommend(call: Call) -> Reply:
    """The list of somebody; who is not known gets the popular one, with a note."""
    asked: RecommendationRequest = call.body
    answer, notes = await _in_time(call, asked)
    look = _LOOK
    while asked.wait_for is not None and answer.events < asked.wait_for and _left(call, look):
        await asyncio.sleep(look)
        look *= _LONGER
        answer, notes = await _in_time(call, asked)
    if answer.basis == POPULARITY and not notes:
        notes = ["nothing is known of who asks, so these are the items that most people took"]
    if asked.wait_for is not None and answer.events < asked.wait_for:
        notes += [f"events up to {answer.events:,} are known, not yet up to {asked.wait_for:,}"]
    return Reply(list_answer(call, answer, asked.fields, notes))


async def recommend_simply(call: Call) -> Reply:
    """The same by the parameters of an address."""
    given = {name: getattr(call.query, name) for name in call.query.__struct_fields__}
    call.body = RecommendationRequest(**given)
    return await recommend(call)


def list_answer(
    call: Call,
    answer: Answer,
    fields: Sequence[str] = (),
    notes: Sequence[str] = (),
    *,
    known: bool | None = None,
) -> ListAnswer:
    """An answer as it goes over the wire; keys for browsers do not get the parts of scores.

    ``known`` None: as ``basis`` says.
    """
    parts = not call.key.of_browsers
    return ListAnswer(
        recommendation_id=answer.request_id,
        generation=answer.generation,
        basis=answer.basis,
        known=answer.basis != POPULARITY if known is None else known,
        items=[_item(item, fields, parts) for item in answer.items],
        notes=[*answer.notes, *notes],
        shortfall=answer.shortfall,
        events=answer.events,
        milliseconds=dict(answer.timings_ms),
    )


def _item(item: Recommendation, fields: Sequence[str], parts: bool) -> AnsweredItem:
    return AnsweredItem(
        item_id=item.item_id,
        rank=item.rank,
        title=item.title,
        score=item.score,
        parts=dict(item.parts) if parts else None,
        rule=item.rule,
        reasons=list(item.reasons),
        propensity=item.propensity,
        similarity=item.similarity,
        fields={name: item.payload.get(name) for name in fields},
    )


def _left(call: Call, seconds: float) -> bool:
    return call.deadline is None or time.perf_counter() + seconds < call.deadline


async def _in_time(call: Call, asked: RecommendationRequest) -> tuple[Answer, list[str]]:
    return await list_in_time(call, partial(_list, call, asked), partial(_popular, call, asked), explain=asked.explain)


def _popular(call: Call, asked: RecommendationRequest) -> Answer:
    limits = _limits(asked)
    return call.service.recommender.popular(asked.k, where=asked.where, rules=asked.rules, **limits)


def _limits(asked: RecommendationRequest) -> dict[str, Any]:
    only = None if asked.only is None else [str(item) for item in asked.only]
    return {"exclude": [str(item) for item in asked.exclude], "only": only}


def _list(call: Call, asked: RecommendationRequest, explain: bool, rerank: bool) -> Answer:
    options: dict[str, Any] = {
        name: getattr(asked, name)
        for name in (
            "where",
            "rules",
            "seen",
            "diversity",
            "calibrate",
            "calibration",
            "explore",
            "language",
        )
    }
    options |= {"explain": explain, "rerank": rerank, **_limits(asked)}
    recommender = call.service.recommender
    if asked.items is not None:
        return recommender.session([str(item) for item in asked.items], asked.k, fallback="popular", **options)
    user_id = None if asked.user_id is None else str(asked.user_id)
    session_id = None if asked.anonymous_id is None or user_id is not None else str(asked.anonymous_id)
    return recommender.query(user_id, asked.k, session_id=session_id, fallback="popular", **options)


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
        query=RecommendationParameters,
        reply=ListAnswer,
    ),
)
