"""Searches by words, by a photo or by another item."""

from typing import TYPE_CHECKING, Any

from molar_indexes.answers import POPULARITY
from molar_indexes.search import PERSONAL
from molar_retrieval import bounds
from molar_retrieval.ranking.answer import Answer
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.endpoints.recommendations import list_answer
from molar_serving.problems import ProblemError
from molar_serving.wire import Among, ListAnswer, SearchParameters, SearchRequest, SimpleParameters

if TYPE_CHECKING:
    from PIL.Image import Image

_POPULAR = "so these are the items that most people took"
_BASE64 = bounds.PHOTO * 4 // 3 + (1 << 16)  # bytes of a body with a photo in it


async def search(call: Call) -> Reply:
    """What words, a photo or another item ask for; what suits somebody who is named comes first among equals."""
    asked: SearchRequest = call.body
    if asked.text is None and asked.image is None and asked.similar is None:
        raise ProblemError(422, "nothing is asked for", "send text, image or similar", field="text")
    answer = await call.service.answers.do(lambda: _found(call, asked))
    notes = ["nothing is left to search by, " + _POPULAR] if answer.basis == POPULARITY else []
    known = any(PERSONAL in item.parts for item in answer.items)
    if not known and (asked.user_id is not None or asked.anonymous_id is not None):
        notes.append("nothing is known of who asks, so the list is as it is for anybody")
    return Reply(list_answer(call, answer, asked.fields, notes, known=known))


async def search_simply(call: Call) -> Reply:
    """The same for words, by the parameters of an address."""
    call.body = SearchRequest(**_given(call.query))
    return await search(call)


async def search_by_photo(call: Call) -> Reply:
    """The same for a photo that is sent as it is, ``fetch(address, {method: "POST", body: file})``."""
    if not call.body:
        raise ProblemError(422, "the body is empty", "send the file of a photo", field="image")
    call.body = SearchRequest(**_given(call.query), image=call.body)
    return await search(call)


async def similar(call: Call) -> Reply:
    """The items whose words and photo are most like those of an item."""
    item_id, given = call.path["item_id"], _given(call.query)
    asked = Among(**given)
    options = _options(asked)
    answer = await call.service.answers.do(lambda: call.service.recommender.similar(item_id, asked.k, **options))
    notes = ["nothing is known of the item, " + _POPULAR] if answer.basis == POPULARITY else []
    return Reply(list_answer(call, answer, asked.fields, notes))


def _given(parameters: SimpleParameters) -> dict[str, Any]:
    """The parameters of an address as those of a body."""
    given = {name: getattr(parameters, name) for name in parameters.__struct_fields__}
    return given | {"fields": [name.strip() for name in parameters.fields.split(",") if name.strip()]}


def _options(asked: Among) -> dict[str, Any]:
    return {
        "where": asked.where,
        "rules": asked.rules,
        "exclude": [str(item) for item in asked.exclude],
        "only": None if asked.only is None else [str(item) for item in asked.only],
        "fallback": "popular",
    }


def _found(call: Call, asked: SearchRequest) -> Answer:
    image = None if asked.image is None else _opened(asked.image)
    user_id = None if asked.user_id is None else str(asked.user_id)
    session_id = None if asked.anonymous_id is None or user_id is not None else str(asked.anonymous_id)
    nobody = user_id is None and session_id is None
    return call.service.recommender.search(
        asked.text,
        image,
        asked.k,
        similar=None if asked.similar is None else str(asked.similar),
        user_id=user_id,
        session_id=session_id,
        seen="show" if nobody else asked.seen,
        **_options(asked),
    )


def _opened(content: bytes) -> "Image":
    """A photo, opened by a process of its own within its bounds."""
    from molar_retrieval.catalog.images import ImageError, open_bytes  # brings Pillow

    try:
        return open_bytes(content)
    except ImageError as error:
        raise ProblemError(
            422, f"the image is no photo to search by: {error.reason}", "send a JPEG, PNG or WebP file", field="image"
        ) from error


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
        most=bounds.PHOTO,
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
