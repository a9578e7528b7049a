"""Lists for people: known ones, anonymous ones, sessions."""

import asyncio
import time

from molar_serving.answering import answered
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.lists import given, list_of, reply
from molar_serving.wire import ListAnswer, RecommendationParameters, RecommendationRequest

_LOOK, _LONGER = 0.005, 1.5
"""Seconds until a second look for events that an answer must know, and how much longer than that until each next one:
they are there within milliseconds or may never come, and a look costs an answer."""


async def recommend(call: Call) -> Reply:
    """The list of somebody; who is not known gets the popular one, with a note."""
    asked: RecommendationRequest = call.body
    answer, notes = await answered(call, asked)
    look = _LOOK
    while asked.wait_for is not None and answer.events < asked.wait_for and _left(call, look):
        await asyncio.sleep(look)
        look *= _LONGER
        answer, notes = await answered(call, asked)
    told = list_of(call, asked, answer, notes)
    if asked.wait_for is not None and answer.events < asked.wait_for:
        told.notes.append(f"events up to {answer.events:,} are known, not yet up to {asked.wait_for:,}")
    return reply(call, told, asked, asked)


async def recommend_simply(call: Call) -> Reply:
    """The same by the parameters of an address."""
    call.body = RecommendationRequest(**given(call.query))
    return await recommend(call)


def _left(call: Call, seconds: float) -> bool:
    return call.deadline is None or time.perf_counter() + seconds < call.deadline


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
