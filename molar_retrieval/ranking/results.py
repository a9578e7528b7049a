"""What a query gives: a ranked list as columns, and plain records, the same in Python and as JSON."""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molar_retrieval import limits
from molar_retrieval.data.availability import moment
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.workspace.config_files import ObjectiveName

if TYPE_CHECKING:
    import pandas as pd

    from molar_retrieval.frames import Frame


_ID = re.compile(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}")


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One recommended item.

    Attributes:
        rank: Place in the answer, from 1.
        item_id: The item.
        title: Its title, or None where the catalogue has none.
        score: The sum of ``parts``, dot products of the user's and the item's vectors; a cold item's is lifted, see
            :mod:`molar_retrieval.ranking.candidates`.
        parts: Addends of the score, by name; the lift is ``cold_start``, and what rules add is ``rules``.
        rank_by_score: Its place without rules, diversity and calibration.
        propensity: The probability of its being among the first ten, or in a shorter list, see
            :mod:`molar_retrieval.ranking.exploration`; None: nobody can tell.
        rule: Names of the rules that put it where it stands, or ``diversity`` or ``calibration``; None: the score did.
        similarity: Of a search by words, how like them the item is: 1 where it has all of them or is as near as its own
            text, 0 where it is no nearer than words for anything come; else None.
        reasons: Why, in words; empty unless asked for.
        evidence: What they rest on, see :class:`molar_indexes.answerer.Explained`; None unless asked for.
        payload: Its attributes.
    """

    rank: int
    item_id: str
    title: str | None
    score: float
    parts: Mapping[str, float]
    rank_by_score: int
    rule: str | None = None
    similarity: float | None = None
    propensity: float | None = 1.0
    reasons: Sequence[str] = ()
    evidence: Mapping[str, Any] | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)


def new_id(at: datetime | None = None) -> str:
    """The id of an answer, which says when it was made: a UUID of version 7 (RFC 9562) as hexadecimal digits.

    ``at`` is that moment, of which milliseconds count; None: now.
    """
    bits = int.from_bytes(os.urandom(10))
    milliseconds = time.time_ns() // 1_000_000 if at is None else moment(at) // 1000
    return f"{milliseconds:012x}7{bits >> 68:03x}{8 | bits & 3:x}{bits >> 2 & (1 << 60) - 1:015x}"


def made_at(answer_id: str) -> float | None:
    """When an answer was made, by its id, in seconds since 1970; None: this is no id of an answer."""
    return int(answer_id[:12], 16) / 1000 if _ID.fullmatch(answer_id) else None


def _no_photo(item_id: str) -> Path | None:
    return None


@dataclass(frozen=True, slots=True)
class Recommendations:
    """A ranked list, and how it came about.

    Attributes:
        user_id: Whom it is for, or None for a session or a question about items.
        k: How many items were asked for.
        generation: The generation that answered.
        basis: What ranked the items: ``aligned``, ``content`` or ``popularity``.
        items: At most ``k`` items, best first.
        shortfall: Why there are fewer than ``k``, or None.
        notes: What rules could not do, in sentences.
        timings_ms: Milliseconds of each stage.
        request_id: Of this answer alone, for the events that come of it; :func:`made_at` says from it for which moment
            the list was made.
        events: The last event that the answer knows, by its ``seq``; 0 where there are none.
        objective: ``future_items`` where the list is for all future items; None: for the next item.
        fields: Attributes of the items that were asked for.
        photo_of: The photo of an item by its id, for a notebook.
    """

    user_id: str | None
    k: int
    generation: str
    basis: str
    items: Sequence[Recommendation]
    shortfall: str | None
    notes: Sequence[str]
    timings_ms: Mapping[str, float]
    request_id: str = ""
    events: int = 0
    objective: ObjectiveName | None = None
    fields: Sequence[str] = ()
    photo_of: Callable[[str], Path | None] = field(default=_no_photo, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON-able values; of an item's attributes those that were asked for."""
        result = asdict(replace(self, photo_of=_no_photo))
        del result["photo_of"]
        for item in result["items"]:
            payload = item.pop("payload")
            item["fields"] = {name: payload.get(name) for name in self.fields}
        return result

    def impression(self, *, session_id: str | None = None, at: datetime | None = None) -> dict[str, Any]:
        """The event that says that this list was shown, for the event log; what comes of it has its ``request_id``.

        Args:
            session_id: Who saw it, where no user is named.
            at: When; None: now.
        """
        return {
            "event_id": f"impression:{self.request_id}",
            "event": "impression",
            "user_id": self.user_id,
            "session_id": session_id,
            "timestamp": (at or datetime.now(UTC)).isoformat(),
            "request_id": self.request_id,
            "items": [
                {"item_id": item.item_id, "position": item.rank, "propensity": item.propensity}
                for item in self.items[: limits.EVENT_ITEMS]
            ],
        }

    def to_frame(self) -> "Frame":
        """One row per item: place, id, title, score, each addend as ``part.NAME``, the rest, each field by its name."""
        from molar_retrieval.frames import Frame

        names = list(dict.fromkeys(name for item in self.items for name in item.parts))
        asked = {
            name: next((_kind(item.payload[name]) for item in self.items if name in item.payload), "string")
            for name in self.fields
        }
        kinds = {"rank": "int32", "item_id": "string", "title": "string", "score": "double"}
        rows = [
            {name: getattr(item, name) for name in kinds}
            | {f"part.{name}": item.parts.get(name, 0.0) for name in names}
            | {"rule": item.rule, "similarity": item.similarity, "propensity": item.propensity}
            | {"reasons": list(item.reasons)}
            | {name: item.payload.get(name) for name in asked}
            for item in self.items
        ]
        parts = dict.fromkeys((f"part.{name}" for name in names), "double")
        beside = {"rule": "string", "similarity": "double", "propensity": "double", "reasons": "list<string>"}
        return Frame.of(rows, {**kinds, **parts, **beside, **asked})

    def to_pandas(self) -> "pd.DataFrame":
        """The table of :meth:`to_frame` as a pandas data frame; pandas must be installed."""
        return self.to_frame().to_pandas()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.to_frame().__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        return _html(self)


def _kind(value: Any) -> str:
    """The type of a column with an attribute of items."""
    if isinstance(value, list | tuple):
        return "list<string>"
    return "bool" if isinstance(value, bool) else "double" if isinstance(value, int | float) else "string"


NOTHING = SparseVector((), ())
_SIDE = 72
_BAR = 120
_COLOURS = ("#3b6ea5", "#d08a2e", "#5b9a68", "#a3527f", "#7a6bb0", "#8c8c8c", "#c05a4a")


def _html(answer: Recommendations) -> str:
    names = list(dict.fromkeys(name for item in answer.items for name in item.parts))
    colours = {name: _COLOURS[n % len(_COLOURS)] for n, name in enumerate(names)}
    widest = max((sum(map(abs, item.parts.values())) for item in answer.items), default=1.0) or 1.0
    rows = "".join(_row(item, colours, widest, answer.photo_of(item.item_id)) for item in answer.items)
    legend = " ".join(f"<span style='color:{colour}'>■</span> {escape(name)}" for name, colour in colours.items())
    notes = "".join(f"<p><small>{escape(note)}</small></p>" for note in [*answer.notes, answer.shortfall] if note)
    whom = f"for {escape(answer.user_id)}" if answer.user_id is not None else f"by {escape(answer.basis)}"
    return (
        f"<table><caption>{len(answer.items)} items {whom} &nbsp; <small>{legend}</small></caption>"
        f"<thead><tr><th>#</th><th></th><th>item</th><th>score</th><th>why</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>{notes}"
    )


def _row(item: Recommendation, colours: dict[str, str], widest: float, photo: Path | None) -> str:
    bars = "".join(
        f"<span title='{escape(name)} {value:.3f}' style='display:inline-block;height:10px;"
        f"width:{_BAR * abs(value) / widest:.1f}px;background:{colours[name]};"
        f"opacity:{1 if value >= 0 else 0.4}'></span>"
        for name, value in item.parts.items()
    )
    why = "<br>".join(escape(reason) for reason in item.reasons) or escape(item.rule or "")
    title = escape(item.title or "")
    return (
        f"<tr><td>{item.rank}</td><td>{_picture(photo)}</td>"
        f"<td style='text-align:left'>{title}<br><small>{escape(item.item_id)}</small></td>"
        f"<td style='text-align:left;white-space:nowrap'>{item.score:.3f}<br>{bars}</td>"
        f"<td style='text-align:left'>{why}</td></tr>"
    )


def _picture(photo: Path | None) -> str:
    if photo is None:
        return ""
    from molar_retrieval.reports.html import photo_uri

    uri = photo_uri(photo.parent, photo.name, (2 * _SIDE, 2 * _SIDE), 80)
    return f"<img alt='' style='max-width:{_SIDE}px;max-height:{_SIDE}px' src='{uri}'>" if uri else ""
