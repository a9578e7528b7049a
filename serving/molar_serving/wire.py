"""What goes over the wire: bodies, parameters and answers, as types that are checked on the way in."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from molar_retrieval import limits

_LARGEST = 2**63 - 1
Id = Annotated[str, Meta(min_length=1, max_length=limits.ID)] | Annotated[int, Meta(ge=-_LARGEST, le=_LARGEST)]
"""An id: a string. A number counts as its digits; one that takes more than 64 bits has to be sent as a string."""
Seq = Annotated[int, Meta(ge=0, le=_LARGEST)]
"""The number of a line of the event log."""
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
"""A number of an event, such as a price."""
Moment = Annotated[float, Meta(ge=-1e19, le=1e19)]
"""A time as seconds, milli-, micro- or nanoseconds since 1970; the event log has narrower bounds."""
Whole = Annotated[int, Meta(ge=-_LARGEST, le=_LARGEST)]
"""An integer of 64 bits, where what reads it has narrower bounds."""
Share = Annotated[float, Meta(ge=0, le=1)]
Many = Annotated[int, Meta(ge=1, le=limits.K)]
_Condition = Annotated[str, Meta(max_length=limits.CONDITION)]
_Objective = Literal["next_item", "future_items"]
_Placement = Annotated[str, Meta(max_length=limits.ID)]
_Arms = Annotated[dict[Id, Literal["control", "treatment"]], Meta(max_length=100)]
_Ids = Annotated[list[Id], Meta(max_length=limits.IDS)]


class Strict(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what comes in: what is not known is refused, by its name."""


class Among(Strict):
    """Which items may come, how many, and what is told of each; see docs/python.md."""

    k: Many = 10
    where: _Condition | None = None
    exclude: _Ids = []
    only: _Ids | None = None
    rules: bool = True
    fields: Annotated[list[str], Meta(max_length=100)] = []
    placement: _Placement | None = None
    dry_run: bool = False


class Wishes(Among):
    """What else a list should be like; see docs/python.md for each."""

    explain: bool = False
    language: str = "en"


class RecommendationRequest(Wishes):
    """A list for a user, for somebody anonymous, or for what somebody just looked at (``items``, oldest first).

    ``arms`` says by experiment which arm somebody has, where a service of the shop assigns them.
    """

    user_id: Id | None = None
    anonymous_id: Id | None = None
    items: Annotated[list[Id], Meta(min_length=1, max_length=limits.SESSION)] | None = None
    seen: Literal["hide", "show"] = "hide"
    objective: _Objective | None = None
    diversity: Share = 0.0
    calibrate: str | None = None
    calibration: Share = 0.5
    explore: bool = True
    wait_for: Seq | None = None
    arms: _Arms = {}


class SearchRequest(Among):
    """What words, a photo or another item ask for, or several of them; for somebody, if they are named.

    ``image`` is the content of a photo's file, as base64; no photo is fetched from an address.
    """

    text: Annotated[str, Meta(max_length=limits.TEXT)] | None = None
    image: Annotated[bytes, Meta(max_length=limits.PHOTO)] | None = None
    similar: Id | None = None
    user_id: Id | None = None
    anonymous_id: Id | None = None
    seen: Literal["hide", "show"] = "show"


class SimpleParameters(Strict):
    """What every list can be asked by its address; ``fields`` are names with commas between them."""

    k: Many = 10
    where: _Condition | None = None
    rules: bool = True
    fields: str = ""
    placement: _Placement | None = None
    dry_run: bool = False


class RecommendationParameters(SimpleParameters):
    """A list for a simple GET."""

    user_id: str | None = None
    anonymous_id: str | None = None
    explain: bool = False
    language: str = "en"
    objective: _Objective | None = None
    wait_for: Seq | None = None


class SimilarRequest(Among, kw_only=True):
    """What is like an item."""

    item_id: Id


class RankingsRequest(Strict):
    """Items of one's own, to be put in order for a user, for somebody anonymous, or after what somebody looked at."""

    items: Annotated[list[Id], Meta(min_length=1, max_length=limits.K)]
    user_id: Id | None = None
    anonymous_id: Id | None = None
    session: Annotated[list[Id], Meta(min_length=1, max_length=limits.SESSION)] | None = None
    objective: _Objective | None = None
    rules: bool = True
    fields: Annotated[list[str], Meta(max_length=100)] = []
    placement: _Placement | None = None
    dry_run: bool = False
    wait_for: Seq | None = None


class NextRequest(Strict):
    """The next page of a list."""

    k: Many = 10


class SearchParameters(SimpleParameters):
    """A search by words for a simple GET; of one by a photo, what is not in its body."""

    text: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None


class AnsweredItem(Struct, kw_only=True):
    """One item of a list; score, parts, rule and propensity are null for a browser's key.

    Attributes:
        item_id: The item.
        rank: Its place, from 1.
        title: Its title.
        score: What put it there, the sum of ``parts``; null where nothing did.
        parts: Addends of the score, by name.
        rule: What else put it there: rules by name, ``diversity`` or ``calibration``.
        reasons: Why, in words, if asked for.
        propensity: The probability that it is among the first ten; null where nobody can tell.
        similarity: Of a search by words, how like them it is, 0 to 1.
        fields: The attributes that were asked for.
    """

    item_id: str
    rank: int
    title: str | None
    score: float | None
    parts: dict[str, float] | None = None
    rule: str | None = None
    reasons: list[str] = []
    propensity: float | None = None
    similarity: float | None = None
    fields: dict[str, Any] = {}


class InExperiment(Struct, kw_only=True):
    """The experiment that a list is of, and the arm; ``interleaved``: it is of both."""

    name: str
    arm: Literal["control", "treatment", "interleaved"]


class ListAnswer(Struct, kw_only=True):
    """A list of items; a browser's key is not told ``basis``, ``known``, notes, shortfall and milliseconds.

    Attributes:
        recommendation_id: Of this answer alone: events that come of it bring it back. Null in a dry run.
        generation: What answered.
        basis: What ranked the items: ``aligned``, ``content``, ``search`` or ``popularity``; ``nothing``: the arm of an
            experiment shows none.
        known: Whether anything is known of who asks; of a list like an item, whether the item is known.
        items: Best first.
        notes: What somebody should know who looks after the shop.
        shortfall: Why there are fewer items than asked for.
        events: The last event that the answer knows, by its ``seq``.
        milliseconds: Of each stage.
        placement: As it was asked for.
        next: Where the next page of this list is; null where there is none.
        experiment: Which one it is of, and the arm; null: none.
        objective: ``future_items`` where the list is for all future items; null: for the next item.
    """

    recommendation_id: str | None
    generation: str
    basis: str | None
    known: bool | None
    items: list[AnsweredItem]
    notes: list[str]
    shortfall: str | None
    events: int
    milliseconds: dict[str, float]
    placement: str | None = None
    next: str | None = None
    experiment: InExperiment | None = None
    objective: _Objective | None = None


class RejectedEvent(Struct, kw_only=True):
    """An event that was not taken: its place in the batch from 0, the field, what is wrong and what to do."""

    index: int
    field: str
    problem: str
    remedy: str


class EventsAnswer(Struct, kw_only=True):
    """What became of events; those accepted are on the disk, but for those of people of whom nothing is kept.

    ``seq`` is the last line of the log, for ``wait_for``.
    """

    accepted: int
    duplicates: int
    rejected: list[RejectedEvent]
    seq: int


class Alive(Struct, kw_only=True, omit_defaults=True):
    """Whether it lives, or is ready, and if not why."""

    status: Literal["ok", "unavailable"]
    generation: str | None = None
    reason: str | None = None


def plain(value: Any) -> Any:
    """Numbers of NumPy, which attributes of items may be."""
    if hasattr(value, "item"):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} is not sent")


_encoder = msgspec.json.Encoder(enc_hook=plain)


def encode(value: Any) -> bytes:
    """A value as JSON."""
    return _encoder.encode(value)
