"""Items: put, changed, withdrawn, and why one is not shown. Every change is an event in the log."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from uuid import uuid4

import msgspec
from msgspec import Meta, Struct

from molar_retrieval import limits
from molar_retrieval.columns import IMAGE
from molar_retrieval.data.availability import ACTIVE
from molar_retrieval.data.live_events import EventLogReader
from molar_retrieval.errors import MolarError, shown
from molar_retrieval.ranking.query import Id
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.problems import ProblemError
from molar_serving.wire import Strict

if TYPE_CHECKING:
    from molar_retrieval.data.event_log import AppendResult
    from molar_retrieval.data.item_changes import AttributeMistake, ItemSchema
    from molar_serving.service import Service

MOST = 1_000
"""Items of a batch."""
_Attributes = Annotated[dict[str, Any], Meta(max_length=1_000)]
_UNDO_BYTES = 1 << 16  # bytes that the audit log keeps of what items were
_BATCH_BYTES = 4 << 20  # bytes of a batch
_UPDATE = "run `molar update`"
State = Literal["known", "queued"]


class ItemBody(Strict):
    """Attributes of an item by name."""

    attributes: _Attributes


class ItemInBatch(Strict):
    """One item of a batch: what changes, or that it is withdrawn; ``event_id`` makes sending again harmless."""

    item_id: Id
    attributes: _Attributes = msgspec.field(default_factory=dict)
    withdrawn: bool = False
    event_id: Annotated[str, Meta(min_length=1, max_length=limits.ID)] | None = None


class ItemsBody(Strict):
    """Up to 1,000 items."""

    items: Annotated[list[ItemInBatch], Meta(min_length=1, max_length=MOST)]


class ChangedItemAnswer(Struct, kw_only=True):
    """What became of the change of an item; it is on the disk.

    Attributes:
        item_id: The item.
        state: ``known``: the change acts in the next answer; ``queued``: the item is new, or has not been in an update,
            and is in answers after the next `molar update`.
        later: Attributes that act in searches and vectors after the next `molar update`.
    """

    item_id: str
    state: Literal["known", "queued"]
    later: list[str]


class ItemAnswer(ChangedItemAnswer, kw_only=True):
    """The same for one item.

    Attributes:
        repeated: Whether the change was there already.
        seq: The last line of the event log, for ``wait_for``.
    """

    repeated: bool
    seq: int


class PhotoAnswer(Struct, kw_only=True):
    """A photo that was kept.

    Attributes:
        item_id: The item.
        state: As of a change; the photo acts in searches and vectors after the next `molar update`.
        image: Its path below the catalogue's folder.
    """

    item_id: str
    state: Literal["known", "queued"]
    image: str


class RejectedItem(Struct, kw_only=True):
    """An item of a batch that was not taken: its place from 0, the attribute, what is wrong and what to do."""

    index: int
    item_id: str
    field: str
    problem: str
    remedy: str


class ItemsAnswer(Struct, kw_only=True):
    """What became of a batch of items; those accepted are on the disk."""

    accepted: int
    repeated: int
    items: list[ChangedItemAnswer]
    rejected: list[RejectedItem]
    seq: int


class ObstacleAnswer(Struct, kw_only=True):
    """What keeps an item out of lists; ``segment`` is the part of the users for whom a rule does."""

    kind: Literal["withdrawn", "sold_out", "not_yet", "rule", "queued"]
    problem: str
    remedy: str
    segment: str | None = None


class ItemStandingAnswer(Struct, kw_only=True):
    """How an item stands.

    Attributes:
        item_id: The item.
        state: ``known``, or ``queued`` where only events know it yet.
        shown: Whether it can be in everybody's lists.
        obstacles: What keeps it out, of all lists or those of a part of the users.
        cold_start: Whether nobody's interactions with it are in the generation.
        attributes: What is known of it now.
        generation: That answers.
        events: The last event that is known, by ``seq``.
    """

    item_id: str
    state: Literal["known", "queued"]
    shown: bool
    obstacles: list[ObstacleAnswer]
    cold_start: bool
    attributes: dict[str, Any]
    generation: str
    events: int


class ItemChange(NamedTuple):
    """An item, and what is said of it: attributes, or that it is withdrawn."""

    item_id: str
    attributes: Mapping[str, Any]
    withdrawn: bool


def former_items(
    service: "Service", schema: "ItemSchema", changes: Sequence[ItemChange], known: Sequence[bool]
) -> list[dict[str, Any]] | None:
    """What some items say before a change, by the attributes that it names; to be asked before it is made.

    Of each item ``before`` has these attributes, None for what it has not; ``before`` is None where the item was not
    known (``known``), so that withdrawing it undoes the change; ``lost`` names attributes of which nothing is kept that
    could be put back. None where the former state of an item is not to be had, or it is too much to be kept.
    """
    try:
        with service.recommender.answering() as answerer:
            index = answerer.present()[1].items.index
            rows = answerer.generation.index.rows([one.item_id for one in changes])
            stored = {item.row: item.payload for item in index.fetch(sorted({row for row in rows if row is not None}))}
    except MolarError:  # nothing is published, or it cannot be read
        return None
    found = []
    for one, row, was in zip(changes, rows, known, strict=True):
        if row is None and was:
            return None  # it waits for the next generation; what it said is in events alone
        found.append({"item_id": one.item_id, **_former(schema, one, None if row is None else stored[row])})
    return found if len(msgspec.json.encode(found)) <= _UNDO_BYTES else None


def _former(schema: "ItemSchema", change: ItemChange, payload: Mapping[str, Any] | None) -> dict[str, Any]:
    if payload is None:
        return {"before": None}
    if change.withdrawn:
        return {"before": {ACTIVE: payload.get(schema.fields.availability.active) is not False}}
    fields = {name: schema.fields.field(name) for name in change.attributes}
    before = {name: _plain(payload.get(field)) for name, field in fields.items() if field is not None}
    if fields.get(ACTIVE) is not None and before[ACTIVE] is None:
        before[ACTIVE] = True  # what says nothing is for sale
    lost = [name for name, field in fields.items() if field is None]
    return {"before": before, **({"lost": lost} if lost else {})}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value


def changed_since(service: "Service", items: Sequence[str], seq: int) -> list[str]:
    """Those of some items that events after a number change."""
    with closing(EventLogReader(service.workspace)) as log:
        changed = set() if log.mark is None else {one["item_id"] for one in log.changes_of_items(seq, log.last)}
    return [item for item in items if item in changed]


def _new_id() -> str:
    return f"item:{uuid4().hex}"


@dataclass(frozen=True)
class AppendedChange:
    """A change that is to be appended."""

    item_id: str
    attributes: Mapping[str, Any]
    withdrawn: bool = False
    event_id: str = field(default_factory=_new_id)

    def event(self) -> dict[str, Any]:
        """As the log takes it, of now."""
        now = datetime.now(UTC).isoformat()
        kind = "item_withdraw" if self.withdrawn else "item_upsert"
        event = {"event_id": self.event_id, "event": kind, "item_id": self.item_id, "timestamp": now}
        return event if self.withdrawn else {**event, "data": dict(self.attributes)}


async def put_item(call: Call) -> Reply:
    """Say all that an item has: what is not named, it has not any more; it is for sale unless it says otherwise."""
    return Reply(await call.service.appends.do(lambda: _changed(call, whole=True)))


async def patch_item(call: Call) -> Reply:
    """Change some attributes of an item; the others stay. The next answer knows it."""
    return Reply(await call.service.appends.do(lambda: _changed(call, whole=False)))


async def withdraw_item(call: Call) -> Reply:
    """Withdraw an item: no answer has it from now on. It stays in histories, and comes back when it is put again."""
    return Reply(await call.service.appends.do(lambda: _withdrawn(call)))


async def change_items(call: Call) -> Reply:
    """Change or add up to 1,000 items; one that cannot be taken is named, and keeps no other one out."""
    answer = await call.service.appends.do(lambda: _batch(call))
    call.audit |= {"accepted": answer.accepted, "duplicates": answer.repeated, "rejected": len(answer.rejected)}
    return Reply(answer, 200 if answer.items else 422)


async def item(call: Call) -> Reply:
    """What is known of an item now, whether it can be shown, and if not, what keeps it out."""
    return Reply(await call.service.answers.do(lambda: standing(call.service, call.path["item_id"])))


def _changed(call: Call, *, whole: bool) -> ItemAnswer:
    service, item_id, body = call.service, call.path["item_id"], call.body
    assert isinstance(body, ItemBody)
    schema, attributes = schema_of(service), dict(body.attributes)
    _check(schema, item_id, attributes)
    state = state_of(service, item_id)
    if whole:
        attributes = _whole(service, schema, item_id, attributes)
    elif state is None:
        raise unknown(item_id)
    elif not attributes:
        raise ProblemError(422, "nothing is to be changed", "name attributes", field="attributes")
    change = AppendedChange(item_id, attributes, False, _event_id(call, item_id))
    return _answered(call, schema, change, body.attributes, state)


def _withdrawn(call: Call) -> ItemAnswer:
    service, item_id = call.service, call.path["item_id"]
    state = state_of(service, item_id)
    if state is None:
        raise unknown(item_id)
    return _answered(call, schema_of(service), AppendedChange(item_id, {}, True, _event_id(call, item_id)), {}, state)


def _answered(
    call: Call, schema: "ItemSchema", change: AppendedChange, given: Mapping[str, Any], state: State | None
) -> ItemAnswer:
    report = _append(call, schema, [change], [state is not None])
    for one in report.refusals:
        raise ProblemError(422, one.problem, one.remedy, field=one.field)
    later = _later(schema, given)
    repeated = report.repeated > 0
    return ItemAnswer(item_id=change.item_id, state=state or "queued", later=later, repeated=repeated, seq=report.seq)


def _batch(call: Call) -> ItemsAnswer:
    service, body = call.service, call.body
    assert isinstance(body, ItemsBody)
    schema = schema_of(service)
    states = _states(service, [str(one.item_id) for one in body.items])
    rejected: list[RejectedItem] = []
    changes: list[tuple[int, AppendedChange]] = []
    for index, one in enumerate(body.items):
        mistakes = _mistakes(schema, one, states[index])
        rejected += [_rejected(index, str(one.item_id), *found) for found in mistakes[:1]]
        if not mistakes:
            event_id = one.event_id or _new_id()
            changes.append((index, AppendedChange(str(one.item_id), one.attributes, one.withdrawn, event_id)))
    known = [states[index] is not None for index, _ in changes]
    report = _append(call, schema, [change for _, change in changes], known)
    refused = {one.row: one for one in report.refusals}
    taken: list[ChangedItemAnswer] = []
    for row, (index, change) in enumerate(changes):
        if (refusal := refused.get(row)) is not None:
            rejected.append(_rejected(index, change.item_id, refusal.field, refusal.problem, refusal.remedy))
            continue
        later = _later(schema, change.attributes)
        state: State = states[index] or "queued"
        taken.append(ChangedItemAnswer(item_id=change.item_id, state=state, later=later))
    return ItemsAnswer(
        accepted=report.accepted,
        repeated=report.repeated,
        items=taken,
        rejected=sorted(rejected, key=lambda one: one.index),
        seq=report.seq,
    )


def standing(service: "Service", item_id: str) -> ItemStandingAnswer:
    """How an item stands; a ProblemError where it is unknown."""
    from molar_indexes.inspection import standing_of

    recommender = service.recommender
    found = standing_of(recommender, item_id)
    if found is None:
        return _queued(service, item_id, recommender.generation.name)
    obstacles = [
        ObstacleAnswer(kind=one.kind, problem=one.problem, remedy=one.remedy, segment=one.segment)
        for one in found.obstacles
    ]
    return ItemStandingAnswer(
        item_id=item_id,
        state="known",
        shown=all(one.segment is not None for one in obstacles),
        obstacles=obstacles,
        cold_start=found.cold_start,
        attributes=dict(found.attributes),
        generation=found.generation,
        events=found.events,
    )


def _queued(service: "Service", item_id: str, generation: str) -> ItemStandingAnswer:
    """How an item stands that the generation does not have; a ProblemError where events do not know it either."""
    changes, last = _events_of(service, item_id)
    if not changes:
        raise unknown(item_id)
    attributes: dict[str, Any] = {}
    for change in changes:
        attributes |= json.loads(change["data"] or "{}")
    problem = f"generation {generation} does not have it yet"
    return ItemStandingAnswer(
        item_id=item_id,
        state="queued",
        shown=False,
        obstacles=[ObstacleAnswer(kind="queued", problem=problem, remedy=_UPDATE)],
        cold_start=True,
        attributes={name: value for name, value in attributes.items() if value is not None},
        generation=generation,
        events=last,
    )


def _events_of(service: "Service", item_id: str) -> tuple[list[dict[str, Any]], int]:
    """Events that change an item, and the last event of all."""
    with closing(EventLogReader(service.workspace)) as log:
        return ([], 0) if log.mark is None else (log.changes_of_item(item_id), log.last)


def state_of(service: "Service", item_id: str) -> State | None:
    """Whether an item is in the live generation, or in events; None where it is unknown."""
    return _states(service, [item_id])[0]


def _states(service: "Service", item_ids: Sequence[str]) -> list[State | None]:
    try:
        with service.recommender.answering() as answerer:
            known = [row is not None for row in answerer.generation.index.rows(item_ids)]
    except MolarError:  # nothing is published, or it cannot be read: events are taken all the same
        return ["queued"] * len(item_ids)
    if all(known):
        return ["known"] * len(item_ids)
    with closing(EventLogReader(service.workspace)) as log:
        waiting = set() if log.mark is None else log.changed_items()
    pairs = zip(item_ids, known, strict=True)
    return ["known" if there else "queued" if item_id in waiting else None for item_id, there in pairs]


def schema_of(service: "Service") -> "ItemSchema":
    """The attributes of the shop's catalogue."""
    return _schema_of(service.workspace["catalogue"].require()[0])


@lru_cache(maxsize=4)
def _schema_of(version: Path) -> "ItemSchema":
    from molar_retrieval.data.catalogue import Catalogue
    from molar_retrieval.data.item_changes import ItemSchema

    return ItemSchema.of(Catalogue.open(version))


def _check(schema: "ItemSchema", item_id: str, attributes: Mapping[str, Any]) -> None:
    """Refuse attributes that the catalogue does not have or cannot hold."""
    for name, problem, remedy in [*_other_id(schema, item_id, attributes), *schema.mistakes(attributes)]:
        raise ProblemError(422, problem, remedy, field=f"attributes.{name}")


def _other_id(schema: "ItemSchema", item_id: str, attributes: Mapping[str, Any]) -> "list[AttributeMistake]":
    from molar_retrieval.data.item_changes import AttributeMistake

    return [
        AttributeMistake(name, f"{name} = {shown(value)} is another item than {shown(item_id)}", "leave it out")
        for name, value in attributes.items()
        if name in ("item_id", schema.item_id) and str(value) != item_id
    ]


def _mistakes(schema: "ItemSchema", one: ItemInBatch, state: State | None) -> "list[AttributeMistake]":
    from molar_retrieval.data.item_changes import AttributeMistake

    if one.withdrawn and one.attributes:
        return [AttributeMistake("withdrawn", "the item is withdrawn and changed", "do one of these")]
    if one.withdrawn and state is None:
        return [AttributeMistake("item_id", f"the item {shown(str(one.item_id))} is unknown", "check the id")]
    if not one.withdrawn and not one.attributes:
        return [AttributeMistake("attributes", "nothing is said of the item", "name attributes")]
    return [*_other_id(schema, str(one.item_id), one.attributes), *schema.mistakes(one.attributes)]


def _whole(service: "Service", schema: "ItemSchema", item_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given and, of all other attributes, that there is none; what was withdrawn is for sale again."""
    attributes = {**dict.fromkeys(schema.missing(given)), **given}
    if not schema.has_active and ACTIVE not in given:
        changes, _ = _events_of(service, item_id)
        if any(change["event"] == "item_withdraw" for change in changes):
            attributes[ACTIVE] = True
    return attributes


def _later(schema: "ItemSchema", attributes: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in attributes if name in schema.words)


def _event_id(call: Call, item_id: str) -> str:
    """The same for the same ``Idempotency-Key``; without one, every request is an event of its own."""
    key = call.request.headers.get("idempotency-key")
    if key is None:
        return _new_id()
    said = "\0".join([call.key.name, call.request.method, item_id, key])
    return f"item:{sha256(said.encode('utf-8', 'surrogatepass')).hexdigest()}"


def put_back(call: Call, items: Sequence[Mapping[str, Any]]) -> None:
    """Say of items what they said before a change, see :mod:`molar_serving.endpoints.items`."""
    changes = [AppendedChange(one["item_id"], one["before"] or {}, one["before"] is None) for one in items]
    report = _append(call, schema_of(call.service), changes, [True] * len(changes))
    for one in report.refusals:
        raise ProblemError(422, one.problem, one.remedy, field=one.field)


def _append(
    call: Call, schema: "ItemSchema", changes: Sequence[AppendedChange], known: Sequence[bool]
) -> "AppendResult":
    """Append changes, and say in the audit log what would undo them; ``known`` says which items were there before."""
    said = [ItemChange(one.item_id, one.attributes, one.withdrawn) for one in changes]
    former = former_items(call.service, schema, said, known) if said else None
    report = call.service.append([change.event() for change in changes])
    if former is not None and report.accepted:
        refused = {one.row for one in report.refusals}
        kept = [one for row, one in enumerate(former) if row not in refused]
        call.audit["undo"] = {"kind": "items", "seq": report.seq, "items": kept}
    return report


def _rejected(index: int, item_id: str, field: str, problem: str, remedy: str) -> RejectedItem:
    return RejectedItem(index=index, item_id=item_id[:200], field=field, problem=problem, remedy=remedy)


def unknown(item_id: str) -> ProblemError:
    """The problem of an item that neither the generation nor events know."""
    return ProblemError(404, f"the item {shown(item_id)} is unknown", "check the id, or PUT the item whole")


_ONE = "/v1/items/{item_id:path}"


async def put_photo(call: Call) -> Reply:
    """Keep the photo of an item; searches and vectors have it after the next `molar update`."""
    return Reply(await call.service.appends.do(lambda: _kept(call)))


def _kept(call: Call) -> PhotoAnswer:
    from molar_retrieval.data.images import ImageError, keep_photo

    service, item_id = call.service, call.path["item_id"]
    state = state_of(service, item_id)
    if state is None:
        raise unknown(item_id)
    if not call.body:
        raise ProblemError(422, "the body is empty", "send the file of a photo")
    try:
        image = keep_photo(service.workspace.catalogue, item_id, call.body)
    except ImageError as error:
        raise ProblemError(422, error.reason, "send another photo") from error
    if IMAGE in schema_of(service).names:  # else photos are looked for by the ids of items
        service.append([AppendedChange(item_id, {IMAGE: image}).event()])
    call.audit |= {"image": image}
    return PhotoAnswer(item_id=item_id, state=state, image=image)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/items",
        "catalogue",
        "Change, add or withdraw up to 1,000 items",
        change_items,
        body=ItemsBody,
        reply=ItemsAnswer,
        most=_BATCH_BYTES,
        changes=True,
    ),
    Endpoint("GET", _ONE, "catalogue", "How an item stands, and what keeps it out", item, reply=ItemStandingAnswer),
    Endpoint(
        "PUT", _ONE, "catalogue", "Say all that an item has", put_item, body=ItemBody, reply=ItemAnswer, changes=True
    ),
    Endpoint(
        "PATCH",
        _ONE,
        "catalogue",
        "Change attributes of an item",
        patch_item,
        body=ItemBody,
        reply=ItemAnswer,
        changes=True,
    ),
    Endpoint("DELETE", _ONE, "catalogue", "Withdraw an item", withdraw_item, reply=ItemAnswer, changes=True),
    Endpoint(
        "PUT",
        "/v1/photos/{item_id:path}",
        "catalogue",
        "The photo of an item, sent as it is",
        put_photo,
        reply=PhotoAnswer,
        media=("image/*",),
        most=limits.PHOTO,
        changes=True,
    ),
)
