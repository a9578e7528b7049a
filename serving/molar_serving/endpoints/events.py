"""Events from shop pages and backends: answered when they are on the disk."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from molar_retrieval import limits
from molar_retrieval.data.event_parsing import DESCRIBE, IDENTIFY, OF_ITEMS, field_of
from molar_retrieval.errors import redacted
from molar_serving.endpoint import Call, Endpoint, Reply
from molar_serving.problems import ProblemError, read_json
from molar_serving.wire import EventsAnswer, RejectedEvent

_LINES = "application/x-ndjson"
_MOST = 1_000  # events of a request


async def append(call: Call) -> Reply:
    """Append one event, a batch, or JSON lines; each that cannot be taken is named, and keeps no other one out."""
    rows = _rows(call)
    if not 1 <= len(rows) <= _MOST:
        raise ProblemError(422, f"{len(rows):,} events are sent", f"send 1 to {_MOST:,} in a request", field="events")
    reply = await appended(call, rows)
    taken = reply.accepted + reply.duplicates
    return Reply(reply, 200 if taken else 400)


async def appended(call: Call, rows: list[Mapping[str, Any]]) -> EventsAnswer:
    """What became of events, which are of now where they do not say otherwise."""
    now = datetime.now(UTC).isoformat()
    timed = [row if not isinstance(row, Mapping) or _has_time(row) else {**row, "timestamp": now} for row in rows]
    report = await call.service.appends.do(lambda: call.service.append(timed, _barred(call)))
    rejected = [
        RejectedEvent(index=one.row, field=one.field, problem=redacted(one.problem), remedy=redacted(one.remedy))
        for one in report.refusals
    ]
    call.audit |= {"accepted": report.accepted, "duplicates": report.repeated, "rejected": len(rejected)}
    call.audit |= {"left_out": report.left_out} if report.left_out else {}
    taken = report.accepted + report.left_out  # who sends is not told of whom nothing is kept
    return EventsAnswer(accepted=taken, duplicates=report.repeated, rejected=rejected, seq=report.seq)


def _barred(call: Call) -> dict[str, str]:
    """Kinds of events that the key may not send, with the remedy: what says what items and people are, who is who."""
    barred = {} if "admin" in call.key.scopes else {DESCRIBE: "use a key with the scope admin"}
    if "catalogue" not in call.key.scopes:
        barred |= dict.fromkeys(OF_ITEMS, "use a key with the scope catalogue")
    return barred | ({IDENTIFY: "send it from a server, or POST /v1/users/merge"} if call.key.of_browsers else {})


def _has_time(row: Mapping[str, Any]) -> bool:
    return any(field_of(name) == "timestamp" for name in row)


def _line(line: bytes) -> Any:
    """The event of a line; of one that is no JSON its text, which is refused by its place like any other bad event."""
    try:
        return read_json(line)
    except ProblemError:
        return line.decode("utf-8", "replace")


def _rows(call: Call) -> list[Any]:
    kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _LINES:
        return [_line(line) for line in call.body.splitlines() if line.strip()]
    body = read_json(call.body)
    if isinstance(body, dict) and isinstance(body.get("events"), list) and "event" not in body:
        return list(body["events"])
    return body if isinstance(body, list) else [body]


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/events",
        "events",
        "Say what people did: one event, a batch of up to 1,000, or JSON lines",
        append,
        reply=EventsAnswer,
        media=("application/json", _LINES),
        most=max(1 << 20, 16 * limits.EVENT_DATA),
        changes=True,
    ),
)
