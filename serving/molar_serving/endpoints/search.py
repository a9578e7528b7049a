"""Searches by words, by a photo or by another item."""

from molar_retrieval import limits
from molar_serving.answering import answered
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.lists import given, list_of, reply
from molar_serving.problems import ProblemError
from molar_serving.wire import ListAnswer, SearchParameters, SearchRequest, SimilarRequest, SimpleParameters

_BASE64 = limits.PHOTO * 4 // 3 + (1 << 16)  # bytes of a body with a photo in it


async def search(call: Call) -> Reply:
    """What words, a photo or another item ask for; what suits somebody who is named comes first among equals."""
    asked: SearchRequest = call.body
    if asked.text is None and asked.image is None and asked.similar is None:
        raise ProblemError(422, "nothing is asked for", "send text, image or similar", field="text")
    told = list_of(call, asked, *await answered(call, asked))
    return reply(call, told, asked, asked if asked.image is None else None)


async def search_simply(call: Call) -> Reply:
    """The same for words, by the parameters of an address."""
    call.body = SearchRequest(**given(call.query))
    return await search(call)


async def search_by_photo(call: Call) -> Reply:
    """The same for a photo that is sent as it is, ``fetch(address, {method: "POST", body: file})``."""
    if not call.body:
        raise ProblemError(422, "the body is empty", "send the file of a photo", field="image")
    call.body = SearchRequest(**given(call.query), image=call.body)
    return await search(call)


async def similar(call: Call) -> Reply:
    """The items whose words and photo are most like those of an item."""
    asked = SimilarRequest(item_id=call.path["item_id"], **given(call.query))
    return reply(call, list_of(call, asked, *await answered(call, asked)), asked, asked)


ENDPOINTS = (
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
        query=SearchParameters,
        reply=ListAnswer,
    ),
    Endpoint(
        "POST",
        "/v1/search/photo",
        "answer",
        "Search by a photo, sent as it is",
        search_by_photo,
        query=SearchParameters,
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
        query=SimpleParameters,
        reply=ListAnswer,
    ),
)
