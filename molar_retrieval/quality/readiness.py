"""What can be expected of a catalogue and a log as they are, in a few honest sentences."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from molar_retrieval.embedding.forecast import EmbedForecast
from molar_retrieval.pages import words

if TYPE_CHECKING:
    from molar_retrieval.quality.log import LogSummary

FEW_USERS, ENOUGH_USERS = 100, 1_000
"""Users with two interactions below which collaborative factors are noise, and from which they are sound."""
ITEMS_KNOWN = 0.3  # Share of the items with five interactions below which collaborative filtering reaches few of them
SEQUENCES = 500  # Users with five interactions that a sequence model needs
UNORDERED = 0.5  # Share of steps without an order from which on there is no sequence to learn


@dataclass(frozen=True)
class Content:
    """What the items bring along: numbers of items, and the mean of a text's characters.

    ``photos`` can be used: readable, not blank, no placeholder, not only writing; of ``nothing``, nothing can be
    embedded.
    """

    items: int
    photos: int
    texts: int
    both: int
    nothing: int
    characters: float


@dataclass(frozen=True)
class Readiness:
    """What can be expected; a verdict is ``enough``, ``thin``, ``no`` or ``none``: there is no log."""

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
    """Say what can be expected; ``log`` is None where there is none, ``embedding`` where that was not asked."""
    verdicts, said = {"collaborative": "none", "sequence": "none"}, [_of_content(content)]
    if log is None or not log.interactions:
        said.append(
            "There is no log of interactions: items can be found by likeness, words and photos (`molar query "
            "--similar`, `--text`, `--image`), but nobody gets recommendations of their own."
        )
    else:
        told = {"collaborative": _collaborative(log), "sequence": _sequence(log)}
        verdicts = {name: verdict for name, (verdict, _) in told.items()}
        share = log.cold_items / max(content.items, 1)
        said += [sentence for _, sentence in told.values()]
        if log.cold_items:
            said.append(f"{log.cold_items:,} items ({share:.0%}) have no interaction and depend on content alone.")
    if embedding is not None and embedding.to_encode:
        said.append(
            f"Embedding {embedding.to_encode:,} items takes about {words.duration(embedding.seconds)} on this machine "
            f"(measured: {embedding.items_per_second:,.0f} items/s) and {words.size(embedding.disk_bytes)} of disk."
        )
    elif embedding is not None:
        said.append("All items are embedded already; nothing has to be encoded.")
    return Readiness(content, verdicts, tuple(said), embedding)


def _collaborative(log: "LogSummary") -> tuple[str, str]:
    """The verdict, and what it is for people."""
    users = f"{log.users_with_two:,} users with two interactions or more"
    if log.users_with_two < FEW_USERS:
        rest = "Recommendations will rest on content and on what sells."
        return "no", f"The log is too small for collaborative filtering: {users}. {rest}"
    users += f", {log.items_with_five:,} items with five or more."
    if log.users_with_two >= ENOUGH_USERS and log.items_with_five >= ITEMS_KNOWN * max(log.items, 1):
        return "enough", f"The log is enough for collaborative filtering: {users}"
    said = f"The log is thin for collaborative filtering: {users} Expect content to carry much of the score."
    return "thin", said


def _sequence(log: "LogSummary") -> tuple[str, str]:
    users = f"{log.users_with_five:,} users with five interactions or more"
    if log.users_with_five < FEW_USERS:
        return "no", f"A sequence model has little to learn: only {log.users_with_five:,} users have five interactions."
    unordered = log.ties - log.ties_placed
    if unordered > UNORDERED:
        why = f"{unordered:.0%} of the steps from one interaction of a user to the next have no order in time."
        return "no", f"A sequence model has little to learn: {why}"
    if log.users_with_five >= SEQUENCES:
        return "enough", f"The log is enough for a sequence model: {users}."
    return "thin", f"A sequence model may help a little: {users}."


def _of_content(content: Content) -> str:
    n = max(content.items, 1)
    parts = [
        f"{content.photos:,} of {content.items:,} items ({content.photos / n:.0%}) have a usable photo, "
        f"{content.texts:,} ({content.texts / n:.0%}) have words"
    ]
    for count, what in (
        (content.texts - content.both, "{:,} are known by their words alone"),
        (content.photos - content.both, "{:,} by their photo alone"),
        (content.nothing, "of {:,} nothing can be embedded"),
    ):
        if count:
            parts.append(what.format(count))
    return "; ".join(parts) + "."
