"""Items of the log that the catalogue lacks."""

import re
from collections.abc import Callable

import numpy as np

from molar_retrieval.ids import IdMap
from molar_retrieval.quality.bounded import Bounded
from molar_retrieval.quality.findings import Finding
from molar_retrieval.quality.log import kinds
from molar_retrieval.quality.log.read import Read

SPELLED_ALIKE = 0.5
"""From which share of the unknown ids on, a way of writing that makes them known is named as the cause."""
_SAMPLE = 10_000

_WAYS: dict[str, Callable[[str], str]] = {
    "blanks around them are dropped": str.strip,
    "upper and lower case count the same": str.casefold,
    "leading zeros are dropped": lambda text: text.lstrip("0"),
    "“.0” at the end is dropped": lambda text: re.sub(r"\.0+$", "", text),
    "all but letters and digits is dropped": lambda text: re.sub(r"[\W_]+", "", text).casefold(),
}


def unknown_items(read: Read, items: IdMap, file: str, found: Bounded) -> int:
    """Report items that the catalogue lacks.

    Returns:
        How many interactions they have.
    """
    if not read.unknown:
        return 0
    log, known = read.held.log, len(items)
    rows = np.flatnonzero(log.item >= known)
    codes = log.item[rows] - known
    counts = np.bincount(codes, minlength=len(read.unknown))
    first = np.zeros(len(counts), np.int64)
    first[codes[::-1]] = rows[::-1]  # of several values for one place the last one stays
    met = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]

    def finding(code: int) -> Finding:
        return Finding(
            kinds.UNKNOWN_ITEM,
            f"{counts[code]:,} interaction{'s' if counts[code] > 1 else ''}",
            item_id=read.unknown[code],
            file=file,
            row=int(log.number[first[code]]),
            amount=float(counts[code]),
        )

    found.each(kinds.UNKNOWN_ITEM, met, finding)
    way = _other_spelling(read.unknown, items)
    if way is not None:
        found.add(_misspelt(way, read.unknown, items, file))
    return len(rows)


def _other_spelling(unknown: list[str], items: IdMap) -> str | None:
    """The way of writing by which most of the unknown ids would be known."""
    some = unknown[:: max(1, len(unknown) // _SAMPLE)]
    ids = items.array.to_pylist()
    for words, rewrite in _WAYS.items():
        known = {rewrite(item_id) for item_id in ids}
        if np.mean([rewrite(item_id) in known for item_id in some]) >= SPELLED_ALIKE:
            return words
    return None


def _misspelt(way: str, unknown: list[str], items: IdMap, file: str) -> Finding:
    rewrite = _WAYS[way]
    known = {rewrite(item_id): item_id for item_id in items.array.to_pylist()}
    mine, theirs = next((item_id, known[rewrite(item_id)]) for item_id in unknown if rewrite(item_id) in known)
    detail = f"{len(unknown):,} unknown ids; most are known once {way}, such as {mine!r} in the log and {theirs!r}"
    return Finding(kinds.ITEM_SPELLING, detail, item_id=theirs, file=file, others=(mine,), amount=float(len(unknown)))
