"""Items and their changes over the wire."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from molar_retrieval import limits
from molar_serving.wire import Id, Strict

MOST = 1_000
"""Items of a batch."""
_Attributes = Annotated[dict[str, Any], Meta(max_length=1_000)]


class ItemBody(Strict):
    """Attributes of an item by name."""

    attributes: _Attributes


class ItemInBatch(Strict):
    """One item of a batch: what changes, or that it is withdrawn; ``event_id`` makes sending again harmless."""

    item_id: Id
    attributes: _Attributes = field(default_factory=dict)
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
        newcomer: Whether nobody's interactions with it are in the generation.
        attributes: What is known of it now.
        generation: That answers.
        events: The last event that is known, by ``seq``.
    """

    item_id: str
    state: Literal["known", "queued"]
    shown: bool
    obstacles: list[ObstacleAnswer]
    newcomer: bool
    attributes: dict[str, Any]
    generation: str
    events: int
