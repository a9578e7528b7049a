"""A caller's own items, in order."""

from typing import TYPE_CHECKING, Any

from molar_serving.asking import who, with_photos
from molar_serving.deadlines import list_in_time
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.lists import list_answer, reply
from molar_serving.problems import ProblemError
from molar_serving.wire import AnsweredItem, ListAnswer, RankingsRequest

if TYPE_CHECKING:
    from molar_retrieval.ranking.results import Answer


async def rank(call: Call) -> Reply:
    """The items that are sent, each once: ranked for somebody, then those that nothing ranks, as they were sent.

    These are unknown, sold out, or left out by rules; for somebody unknown also those that few people took.
    """
    asked: RankingsRequest = call.body
    if asked.session is None and asked.user_id is None and asked.anonymous_id is None:
        raise ProblemError(422, "it is not said for whom", "send user_id, anonymous_id or session", field="user_id")
    ids = list(dict.fromkeys(str(item) for item in asked.items))

    def popular(_: bool) -> "Answer":
        recommender = call.service.recommender
        return with_photos(recommender.popular(len(ids), only=ids, rules=asked.rules), recommender, asked.fields)

    answer, notes = await list_in_time(
        call, lambda _, rerank: _ranked(call, asked, ids, rerank), popular, explain=False
    )
    told = list_answer(call, answer, asked.fields, notes)
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


def _ranked(call: Call, asked: RankingsRequest, ids: list[str], rerank: bool) -> "Answer":
    recommender, k = call.service.recommender, len(ids)
    options: dict[str, Any] = {"only": ids, "rules": asked.rules, "rerank": rerank, "seen": "show", "explore": False}
    options["objective"] = asked.objective
    if asked.session is not None:
        session = [str(item) for item in asked.session]
        answer = recommender.session(session, k, fallback="popular", **options)
    else:
        user_id, session_id = who(asked)
        answer = recommender.query(user_id, k, session_id=session_id, fallback="popular", **options)
    return with_photos(answer, recommender, asked.fields)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/rankings",
        "answer",
        "Put items of one's own in order for somebody",
        rank,
        body=RankingsRequest,
        reply=ListAnswer,
    ),
)
