"""What goes over the wire: bodies, parameters and answers, as types that are checked on the way in."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from molar_retrieval import limits
from molar_retrieval.ranking.query import AsOf, FilterSeen, Id, ItemQuery, Names, Query
from molar_retrieval.workspace.config_files import ObjectiveName

_LARGEST = 2**63 - 1
Seq = Annotated[int, Meta(ge=0, le=_LARGEST)]
"""The number of a line of the event log."""
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
"""A number of an event, such as a price."""
Moment = Annotated[float, Meta(ge=-1e19, le=1e19)]
"""A time as seconds, milli-, micro- or nanoseconds since 1970; the event log has narrower bounds."""
Whole = Annotated[int, Meta(ge=-_LARGEST, le=_LARGEST)]
"""An integer of 64 bits, where what reads it has narrower bounds."""
Many = Annotated[int, Meta(ge=1, le=limits.K)]
_Placement = Annotated[
    Annotated[str, Meta(max_length=limits.ID)] | None, Meta(description="Where on the site the list is shown.")
]
_DryRun = Annotated[bool, Meta(description="Keep nothing of the answer, and give it no id.")]
_User = Annotated[Id | None, Meta(description="The user.")]
_Visitor = Annotated[Id | None, Meta(description="An anonymous visitor of the event log, where no user is named.")]
_Session = Annotated[
    Annotated[tuple[Id, ...], Meta(min_length=1, max_length=limits.SESSION)] | None,
    Meta(description="The items of a session, oldest first."),
]
_WaitFor = Annotated[Seq | None, Meta(description="The answer is to know events up to this `seq`.")]
_Arms = Annotated[dict[Id, Literal["control", "treatment"]], Meta(max_length=100)]


class Strict(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what comes in: what is not known is refused, by its name."""


class RecommendationRequest(Query, frozen=True, kw_only=True):
    """A list for a user, for an anonymous visitor, or for what somebody just looked at."""

    user_id: _User = None
    anonymous_id: _Visitor = None
    session: _Session = None
    placement: _Placement = None
    dry_run: _DryRun = False
    wait_for: _WaitFor = None
    arms: Annotated[
        _Arms, Meta(description="Arms by experiment, where a service of the shop assigns them; in a body alone.")
    ] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        _as_text(self, "user_id", "anonymous_id", "session", "exclude", "candidates")
        super().__post_init__()


class SearchRequest(ItemQuery, frozen=True, kw_only=True):
    """What words, a photo or another item ask for, or several of them; for somebody, if they are named."""

    text: Annotated[
        Annotated[str, Meta(max_length=limits.TEXT)] | None, Meta(description="Items that these words describe.")
    ] = None
    image: Annotated[
        Annotated[bytes, Meta(max_length=limits.PHOTO)] | None,
        Meta(description="The content of a photo's file, as base64; none is fetched from an address. In a body alone."),
    ] = None
    similar_to: Annotated[Id | None, Meta(description="Items whose content is similar to this one's.")] = None
    user_id: _User = None
    anonymous_id: _Visitor = None
    filter_seen: FilterSeen = False
    as_of: AsOf = None
    placement: _Placement = None
    dry_run: _DryRun = False

    def __post_init__(self) -> None:
        _as_text(self, "user_id", "anonymous_id", "similar_to", "exclude", "candidates")
        super().__post_init__()


class SimilarRequest(ItemQuery, frozen=True, kw_only=True):
    """What is like an item."""

    item_id: Id
    placement: _Placement = None
    dry_run: _DryRun = False

    def __post_init__(self) -> None:
        _as_text(self, "item_id", "exclude", "candidates")
        super().__post_init__()


class RankingsRequest(Strict):
    """Items of one's own, to be put in order for a user, for an anonymous visitor, or after a session."""

    items: Annotated[list[Id], Meta(min_length=1, max_length=limits.K)]
    user_id: _User = None
    anonymous_id: _Visitor = None
    session: _Session = None
    objective: ObjectiveName | None = None
    rules: bool = True
    fields: Names = ()
    placement: _Placement = None
    dry_run: _DryRun = False
    wait_for: _WaitFor = None


class NextRequest(Strict):
    """The next page of a list."""

    k: Many = 10


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
    objective: ObjectiveName | None = None


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


def _as_text(asked: ItemQuery, *names: str) -> None:
    """Ids that came as numbers, as their digits."""
    for name in names:
        value: Any = getattr(asked, name)
        text = tuple(map(str, value)) if isinstance(value, tuple) else None if value is None else str(value)
        if text != value:
            msgspec.structs.force_setattr(asked, name, text)


def plain(value: Any) -> Any:
    """Numbers of NumPy, which attributes of items may be."""
    if hasattr(value, "item"):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} is not sent")


_encoder = msgspec.json.Encoder(enc_hook=plain)


def encode(value: Any) -> bytes:
    """A value as JSON."""
    return _encoder.encode(value)
