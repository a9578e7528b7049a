"""What can be expected of a catalogue and a log as they are, in a few honest sentences."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from molar_retrieval.embedding.forecast import EmbedForecast

if TYPE_CHECKING:
    from molar_retrieval.quality.log import LogSummary

FEW_USERS, ENOUGH_USERS = 100, 1_000
"""Users with two interactions below which collaborative factors are noise, and from which they are sound."""
ITEMS_KNOWN = 0.3
"""Share of the items with five interactions below which collaborative filtering reaches few of them."""
SEQUENCES = 500
"""Users with five interactions that a sequence model needs."""


@dataclass(frozen=True)
class Content:
    """What the items bring along.

    Attributes:
        items: How many.
        photos: Items with a photo that can be used: readable, not blank, no placeholder, not only writing.
        texts: Items with a text.
        both: Items with both.
        nothing: Items with neither: nothing can be embedded of them.
        characters: Of an item's text, on average.
    """

    items: int
    photos: int
    texts: int
    both: int
    nothing: int
    characters: float


@dataclass(frozen=True)
class Readiness:
    """What can be expected.

    Attributes:
        content: What the items bring along.
        verdicts: ``collaborative`` and ``sequence``: ``enough``, ``thin``, ``no`` or ``none`` (no log).
        sentences: For people, one thing each.
        embedding: What embedding takes here, if that was found out.
    """

    content: Content
    verdicts: Mapping[str, str]
    sentences: tuple[str, ...]
    embedding: EmbedForecast | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            **asdict(self.content),
            "verdicts": dict(self.verdicts),
            "sentences": list(self.sentences),
            "embedding": None if self.embedding is None else self.embedding.to_dict(),
        }


def readiness(content: Content, log: "LogSummary | None", embedding: EmbedForecast | None) -> Readiness:
    """Say what can be expected.

    Args:
        content: What the items bring along.
        log: What the log is like, or None where there is none.
        embedding: What embedding takes here, or None where that was not asked.
    """
    verdicts = {"collaborative": _collaborative(log), "sequence": _sequence(log)}
    said = [_said_content(content)]
    said += _said_log(log, verdicts, content) if log is not None and log.interactions else [_NO_LOG]
    if embedding is not None:
        said.append(_said_cost(embedding))
    return Readiness(content, verdicts, tuple(said), embedding)


_NO_LOG = (
    "There is no log of interactions: items can be found by likeness, words and photos (`molar query --similar`, "
    "`--text`, `--image`), but nobody gets recommendations of their own."
)


def _collaborative(log: "LogSummary | None") -> str:
    if log is None or not log.interactions:
        return "none"
    if log.users_with_two < FEW_USERS:
        return "no"
    enough = log.users_with_two >= ENOUGH_USERS and log.items_with_five >= ITEMS_KNOWN * max(log.items, 1)
    return "enough" if enough else "thin"


def _sequence(log: "LogSummary | None") -> str:
    if log is None or not log.interactions:
        return "none"
    if log.users_with_five < FEW_USERS or log.order.sequential is False:
        return "no"
    return "enough" if log.users_with_five >= SEQUENCES and log.order.sequential else "thin"


def _said_content(content: Content) -> str:
    n = max(content.items, 1)
    words = (
        f"{content.photos:,} of {content.items:,} items ({content.photos / n:.0%}) have a usable photo, "
        f"{content.texts:,} ({content.texts / n:.0%}) have words"
    )
    alone = content.texts - content.both
    if alone:
        words += f"; {alone:,} are known by their words alone"
    if content.photos - content.both:
        words += f"; {content.photos - content.both:,} by their photo alone"
    if content.nothing:
        words += f"; of {content.nothing:,} nothing can be embedded"
    return words + "."


def _said_log(log: "LogSummary", verdicts: Mapping[str, str], content: Content) -> list[str]:
    said = {
        "enough": f"The log is enough for collaborative filtering: {log.users_with_two:,} users with two interactions "
        f"or more, {log.items_with_five:,} items with five or more.",
        "thin": f"The log is thin for collaborative filtering: {log.users_with_two:,} users with two interactions or "
        f"more, {log.items_with_five:,} items with five or more. Expect content to carry much of the score.",
        "no": f"The log is too small for collaborative filtering: {log.users_with_two:,} users with two interactions "
        "or more. Recommendations will rest on content and on what sells.",
    }[verdicts["collaborative"]]
    order = {
        "enough": f"A sequence model has something to learn: {log.users_with_five:,} users with five interactions or "
        "more, and their order tells something.",
        "thin": f"A sequence model may help a little: {log.users_with_five:,} users with five interactions or more.",
        "no": "A sequence model has little to learn: "
        + (
            f"only {log.users_with_five:,} users have five interactions."
            if log.users_with_five < FEW_USERS
            else "the order of the interactions tells nothing that their counts do not."
        ),
    }[verdicts["sequence"]]
    cold = (
        f"{log.cold_items:,} items ({log.cold_items / max(content.items, 1):.0%}) have no interaction and depend on "
        "content alone."
    )
    return [said, order, cold]


def _said_cost(embedding: EmbedForecast) -> str:
    if not embedding.to_encode:
        return "All items are embedded already; nothing has to be encoded."
    return (
        f"Embedding {embedding.to_encode:,} items takes about {duration(embedding.seconds)} on this machine "
        f"(measured: {embedding.items_per_second:,.0f} items/s) and {size(embedding.disk_bytes)} of disk."
    )


def duration(seconds: float) -> str:
    """A duration for people."""
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """A number of bytes for people."""
    return (
        f"{count / 1e6:,.1f} MB"
        if count < 1e7
        else f"{count / 1e6:,.0f} MB"
        if count < 1e9
        else f"{count / 1e9:,.1f} GB"
    )
