"""People over the wire."""

from typing import Any, Literal

from msgspec import Struct

from molar_serving.wire import Id, Strict

READ = 1_000
"""Items of a history, and lines of the event log, that are told: the latest ones."""


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
