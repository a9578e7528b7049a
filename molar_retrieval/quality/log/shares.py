"""Findings about a log as a whole: one each, with a share."""

from molar_retrieval.quality.bounded import Bounded
from molar_retrieval.quality.findings import Finding, Kind
from molar_retrieval.quality.log import kinds
from molar_retrieval.quality.log.summary import LogSummary

TIES = 0.05
"""From this share of steps without an order on it is worth a finding."""
REPEATS = 0.05
"""From this share of interactions with an item of before on."""


def tell_shares(summary: LogSummary, file: str, found: Bounded) -> None:
    """Report shares of ties, of repeated consumption, of users with one interaction, of cold items; and of no order."""

    def tell(kind: Kind, share: float, detail: str, count: int | None = None) -> None:
        facts = {"share": share} if count is None else {"share": share, "count": count}
        found.add(Finding(kind, detail, file=file, amount=share, facts=facts))

    if summary.ties >= TIES:
        placed = (
            "" if not summary.ties_placed else f"; a position orders {summary.ties_placed / summary.ties:.0%} of them"
        )
        tell(kinds.TIES, summary.ties, f"{summary.ties:.0%} of the steps from one to the next take no time{placed}")
    if summary.repeats >= REPEATS:
        again = f"{summary.repeats:.0%} of the interactions are with an item that the user had before"
        tell(kinds.REPEATS, summary.repeats, f"{again}, {summary.repeats_at_once:.0%} with the one just before")
    if summary.users_with_one:
        share = summary.users_with_one / summary.users
        detail = f"{summary.users_with_one:,} of {summary.users:,} users ({share:.0%})"
        tell(kinds.ONE_EVENT, share, detail, summary.users_with_one)
    if summary.cold_items:
        share = summary.cold_items / summary.catalogue_items
        detail = f"{summary.cold_items:,} of {summary.catalogue_items:,} items ({share:.0%})"
        tell(kinds.COLD_ITEMS, share, detail, summary.cold_items)
    if summary.sequential is False:
        tell(kinds.NO_SEQUENCE, summary.order.share, summary.sequential_words)
