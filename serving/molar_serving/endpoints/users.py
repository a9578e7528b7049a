"""People: what answers know of somebody."""

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from molar_retrieval.events.event import KINDS, OF_ITEMS
from molar_retrieval.events.live import LiveLog
from molar_retrieval.interactions.users import session_key, user_key
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.problems import ProblemError
from molar_serving.wire_users import READ, HistoryItem, MergeBody, UserAnswer, UserEvent, UserParameters

if TYPE_CHECKING:
    from molar_serving.service import Service

_OF_PEOPLE = tuple(kind for kind in KINDS if kind not in OF_ITEMS)


async def user(call: Call) -> Reply:
    """The history of somebody as it is read now, with their events; nothing of it where they are not known."""
    name, anonymous = call.path["user_id"], call.query.anonymous
    return Reply(await call.service.answers.do(lambda: _user(call.service, name, anonymous)))


async def change_user(call: Call) -> Reply:
    """Not supported: attributes of people come from the catalogue's table of users."""
    raise ProblemError(501, "attributes of people are not changed here", "write them into users.* of the catalogue")


async def forget_user(call: Call) -> Reply:
    """Not supported yet."""
    raise ProblemError(
        501, "people are not forgotten one by one here", "`molar events compact --keep-days N` removes what is older"
    )


async def merge_users(call: Call) -> Reply:
    """Not supported yet."""
    raise ProblemError(
        501, "people are not merged here", "send events with user_id and session_id, both, from the login on"
    )


def _user(service: "Service", name: str, anonymous: bool) -> UserAnswer:
    from molar_indexes.standing import person_of

    key = session_key(name) if anonymous else user_key(name)
    found = person_of(service.recommender, key)
    with closing(LiveLog(service.workspace)) as log:
        lines = [] if log.mark is None else log.of_person(key, 0, found.events, _OF_PEOPLE)
    return UserAnswer(
        id=name,
        anonymous=anonymous,
        known=bool(found.history),
        in_generation=found.in_generation,
        interactions=len(found.history),
        history=[
            HistoryItem(item_id=item_id, time=_time(seconds) if seconds else None)
            for item_id, seconds in found.history[-READ:]
        ],
        log=[
            UserEvent(seq=line.seq, event=line.kind, item_id=line.item_id, time=_time(line.micros / 1e6))
            for line in lines[-READ:]
        ],
        attributes=dict(found.attributes),
        notes=list(found.notes),
        generation=found.generation,
        events=found.events,
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


_ONE = "/v1/users/{user_id:path}"
ENDPOINTS = (
    Endpoint(
        "POST", "/v1/users/merge", "admin", "Say who somebody anonymous is", merge_users, body=MergeBody, changes=True
    ),
    Endpoint("GET", _ONE, "admin", "What is known of somebody", user, query=UserParameters, reply=UserAnswer),
    Endpoint("PATCH", _ONE, "admin", "Not supported yet", change_user),
    Endpoint("DELETE", _ONE, "admin", "Not supported yet", forget_user),
)
