"""People: what answers know of somebody."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from msgspec import Struct

from molar_retrieval.data.event_parsing import DESCRIBE, EVENT_TYPES, IDENTIFY, OF_ITEMS
from molar_retrieval.data.live_events import WANTED, EventLogReader, fits
from molar_retrieval.errors import shown, suggestion
from molar_retrieval.privacy.pseudonyms import StoredName
from molar_retrieval.ranking.query import Id
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.problems import ProblemError
from molar_serving.wire import Strict

if TYPE_CHECKING:
    from molar_indexes.privacy.forgetting import Forgotten
    from molar_retrieval.data.event_log import AppendResult
    from molar_serving.service import Service

READ = 1_000
"""Items of a history, and lines of the event log, that are told: the latest ones."""
_NAMED = 100  # people that the audit log names
_OF_PEOPLE = tuple(kind for kind in EVENT_TYPES if kind not in OF_ITEMS)


class UserParameters(Strict):
    """Whether the id is that of somebody anonymous."""

    anonymous: bool = False


class HistoryItem(Struct, kw_only=True):
    """An item of a history, and when, in UTC; null where that is not known."""

    item_id: str
    time: str | None


class UserEvent(Struct, kw_only=True):
    """A line of the event log."""

    seq: int
    event: str
    item_id: str | None
    time: str


class UserAnswer(Struct, kw_only=True):
    """Somebody as the next answer reads them.

    Attributes:
        id: The id that was asked for.
        anonymous: Whether it is that of somebody anonymous.
        known: Whether there is a history.
        in_generation: Whether the generation has them; else they are known by events alone.
        interactions: How many the history has.
        history: The latest 1,000 of them, oldest first.
        log: The latest 1,000 lines of the event log by them that are not sealed, oldest first.
        attributes: By which rules choose people.
        notes: What answers say of them.
        generation: That answers.
        events: The last event that is known, by ``seq``.
    """

    id: str
    anonymous: bool
    known: bool
    in_generation: bool
    interactions: int
    history: list[HistoryItem]
    log: list[UserEvent]
    attributes: dict[str, Any]
    notes: list[str]
    generation: str
    events: int


class UserBody(Strict):
    """Attributes of somebody; null takes one away."""

    attributes: dict[str, Any]


class ChangedUserAnswer(Struct, kw_only=True):
    """Attributes of somebody as the next answer reads them; ``seq`` is the last line of the log, for ``wait_for``."""

    user_id: str
    attributes: dict[str, Any]
    seq: int


class MergeAnswer(Struct, kw_only=True):
    """Who somebody anonymous is, and whether that was known; ``seq`` is the last line of the log, for ``wait_for``."""

    anonymous_id: str
    user_id: str
    repeated: bool
    seq: int


class MergeBody(Strict):
    """Somebody anonymous, and who that is."""

    anonymous_id: Id
    user_id: Id


class ObjectBody(Strict):
    """Somebody who objects, or with ``withdraw`` does so no more; ``reason`` is a sentence without a name."""

    user_id: Id
    withdraw: bool = False
    reason: str = ""


class HeededAnswer(Struct, kw_only=True):
    """What was done for somebody who is to be forgotten, or objects.

    Attributes:
        kind: What was asked for.
        people: How many it concerns.
        at: Since when it holds; null of an objection that ended.
        withdrawn: Whether an objection ended.
        known: Whether anybody has the id. It is on the list in any case.
        identified: Whether it is the id of a session that is a user's: events of that user have it until the user is
            forgotten.
        removed: What was removed, by kind.
        failed: What could not be, with the reason: the same request again carries it out.
        pending: What is to be made anew, or removed, later.
        source_rows: Rows that the shop's own files still have, which are not read.
    """

    kind: Literal["forgotten", "objected"]
    people: int
    at: str | None = None
    withdrawn: bool = False
    known: bool = True
    identified: bool = False
    removed: dict[str, int] = {}
    failed: dict[str, str] = {}
    pending: list[str] = []
    source_rows: dict[str, int] = {}


async def user(call: Call) -> Reply:
    """The history of somebody as it is read now, with their events; nothing of it where they are not known."""
    name, anonymous = call.path["user_id"], call.query.anonymous
    return Reply(await call.service.answers.do(lambda: _user(call.service, name, anonymous)))


async def patch_user(call: Call) -> Reply:
    """Say some of what somebody is, by which rules choose people; the rest stays. The next answer knows it."""
    return Reply(await call.service.appends.do(lambda: _described(call, whole=False)))


async def put_user(call: Call) -> Reply:
    """Say all that somebody is: what is not named, they are not any more."""
    return Reply(await call.service.appends.do(lambda: _described(call, whole=True)))


async def forget_user(call: Call) -> Reply:
    """Forget somebody: from now on nothing is answered by their past, and what names them is removed.

    With ``anonymous`` the id is that of a session, as in ``anonymous_id``.
    """
    name, privacy = call.path["user_id"], call.service.shop.privacy
    call.audit["people"] = [name]
    if call.query.anonymous:
        return await _heeded(call, lambda: privacy.forget(session_ids=name, later=True))
    return await _heeded(call, lambda: privacy.forget(name, later=True))


async def object_user(call: Call) -> Reply:
    """Heed an objection, or end it: until then this person's lists are what most people took."""
    body = call.body
    assert isinstance(body, ObjectBody)
    name, privacy = str(body.user_id), call.service.shop.privacy
    call.audit |= {"people": [name], "withdraw": body.withdraw}
    if body.withdraw:
        ended = await call.service.appends.do(lambda: privacy.withdraw(name))
        return Reply(HeededAnswer(kind="objected", people=ended, withdrawn=True))
    return await _heeded(call, lambda: privacy.object(name, reason=body.reason, later=True))


async def _heeded(call: Call, how: "Callable[[], Forgotten]") -> Reply:
    done = await call.service.appends.do(how)
    call.audit |= {"removed": dict(done.removed), "failed": list(done.failed)}
    if done.failed:
        words = "; ".join(f"{step}: {reason}" for step, reason in done.failed.items())
        remedy = "send the same request again; who is on the list is not served by their past meanwhile"
        raise ProblemError(503, f"not all could be removed: {words}", remedy, headers={"Retry-After": "5"})
    answer = HeededAnswer(
        kind=done.kind,
        people=done.people,
        at=_time(done.at / 1e6),
        known=not done.unknown,
        identified=bool(done.identified),
        removed=dict(done.removed),
        failed=dict(done.failed),
        pending=list(done.pending),
        source_rows=dict(done.source_rows),
    )
    return Reply(answer)


async def merge_users(call: Call) -> Reply:
    """Say which user somebody anonymous is: what they did, before and after, is the user's from the next answer on."""
    body = call.body
    assert isinstance(body, MergeBody)
    session, name = str(body.anonymous_id), str(body.user_id)
    report, problem = await merged(call, [(session, name)])
    if problem is not None:
        raise problem
    return Reply(MergeAnswer(anonymous_id=session, user_id=name, repeated=report.repeated > 0, seq=report.seq))


async def merged(call: Call, pairs: Sequence[tuple[str, str]]) -> "tuple[AppendResult, ProblemError | None]":
    """Say of anonymous ids, each with its user, who they are: what became of it, and what is wrong with any of them.

    The first event that says so counts: ids that are known to be other users stay these. They keep no other pair out.
    """
    call.audit["people"] = [name for pair in pairs for name in pair][:_NAMED]
    report, others = await call.service.appends.do(lambda: _merged(call.service, pairs))
    problem = None
    for one in report.refusals[:1]:
        problem = ProblemError(422, one.problem, one.remedy, field=one.field)
    if others:
        problem = ProblemError(
            409, "the anonymous id is known to be another user", "give visitors another one when somebody logs out"
        )
    return report, problem


def _merged(service: "Service", asked: Sequence[tuple[str, str]]) -> "tuple[AppendResult, bool]":
    """What became of pairs, and whether some were, or are by now, of another user."""
    now, names = datetime.now(UTC).isoformat(), service.names
    pairs = [(names.session(session), names.user(name)) for session, name in asked]
    free = _free(service, pairs)
    report = service.append([_identify(*pair, now) for pair in free])
    return report, len(free) < len(pairs) or len(_free(service, free)) < len(free)  # somebody may have been faster


def _identify(session: StoredName, name: StoredName, now: str) -> dict[str, str]:
    digest = sha256(f"{session}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
    event_id = f"{IDENTIFY}:{digest}"
    return {"event_id": event_id, "event": IDENTIFY, "user_id": name, "session_id": session, "timestamp": now}


def _free(service: "Service", pairs: Sequence[tuple[StoredName, StoredName]]) -> list[tuple[StoredName, StoredName]]:
    """The pairs whose session is not known to be another user, nor said to be one by a pair before it."""
    said: dict[StoredName, StoredName] = {}
    with closing(EventLogReader(service.workspace)) as log:
        if log.mark is not None:
            last = log.last
            said = {session: known[0] for session, _ in pairs if (known := log.user_of(session, last)) is not None}
    return [(session, name) for session, name in pairs if said.setdefault(session, name) == name]


def _described(call: Call, *, whole: bool) -> ChangedUserAnswer:
    service, name, body = call.service, call.path["user_id"], call.body
    assert isinstance(body, UserBody)
    kinds: dict[str, str] = service.recommender.generation.manifest.facts.get("segments", {})
    for column, value in body.attributes.items():
        _check(kinds, column, value)
    data = ({column: None for column in kinds} if whole else {}) | body.attributes
    if not data:
        raise ProblemError(422, "nothing is to be changed", "name attributes", field="attributes")
    call.audit["people"] = [name]
    event = {"event_id": f"user:{uuid4().hex}", "event": DESCRIBE, "user_id": name, "data": data}
    report = service.append([{**event, "timestamp": datetime.now(UTC).isoformat()}])
    for one in report.refusals:
        raise ProblemError(422, one.problem, one.remedy, field=one.field)
    return ChangedUserAnswer(user_id=name, attributes=_user(service, name, False).attributes, seq=report.seq)


def _check(kinds: Mapping[str, str], column: str, value: Any) -> None:
    """Raise a ProblemError where an attribute is none that is kept of people, or has a value that it cannot have."""
    field = f"attributes.{column}"
    if column not in kinds:
        known = f"known are {', '.join(kinds)}" if kinds else "there are none"
        remedy = suggestion(column, kinds, f"{known}: name columns of users.* in [index] segments")
        raise ProblemError(422, f"of people no attribute {shown(column)} is kept", remedy, field=field)
    if value is not None and not fits(kinds[column], value):
        raise ProblemError(422, f"{column} = {shown(value)} is not taken", f"give {WANTED[kinds[column]]}", field=field)


def _user(service: "Service", name: str, anonymous: bool) -> UserAnswer:
    from molar_indexes.inspection import person_of

    key = service.names.key(None if anonymous else name, name)
    found = person_of(service.recommender, key)
    with closing(EventLogReader(service.workspace)) as log:
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
        "POST",
        "/v1/users/merge",
        "admin",
        "Say who somebody anonymous is",
        merge_users,
        body=MergeBody,
        reply=MergeAnswer,
        changes=True,
    ),
    Endpoint(
        "POST",
        "/v1/users/object",
        "admin",
        "Heed somebody's objection, or end it",
        object_user,
        body=ObjectBody,
        reply=HeededAnswer,
        changes=True,
    ),
    Endpoint("GET", _ONE, "admin", "What is known of somebody", user, query=UserParameters, reply=UserAnswer),
    Endpoint(
        "PATCH",
        _ONE,
        "admin",
        "Say some of what somebody is",
        patch_user,
        body=UserBody,
        reply=ChangedUserAnswer,
        changes=True,
    ),
    Endpoint(
        "PUT",
        _ONE,
        "admin",
        "Say all that somebody is",
        put_user,
        body=UserBody,
        reply=ChangedUserAnswer,
        changes=True,
    ),
    Endpoint(
        "DELETE",
        _ONE,
        "admin",
        "Forget somebody",
        forget_user,
        query=UserParameters,
        reply=HeededAnswer,
        changes=True,
    ),
)
