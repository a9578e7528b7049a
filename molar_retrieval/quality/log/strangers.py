"""Items of the log that the catalogue lacks, and users that the users file lacks."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_retrieval.catalog.sources import find_table
from molar_retrieval.catalog.spec import UserSettings
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.columns import user_column
from molar_retrieval.interactions.read import present
from molar_retrieval.interactions.suppressed import NEVER, NOBODY, SuppressedPeople
from molar_retrieval.quality.collector import Collector
from molar_retrieval.quality.findings import Finding, fault
from molar_retrieval.quality.log.read import BrokenRows, ReadLog

SPELLED_ALIKE = 0.5  # Share of the unknown ids that a way of writing must make known to be named as the cause
_SAMPLE = 10_000
_BATCH = 65_536

_WAYS: dict[str, Callable[[str], str]] = {
    "blanks around them are dropped": str.strip,
    "upper and lower case count the same": str.casefold,
    "leading zeros are dropped": lambda text: text.lstrip("0"),
    "“.0” at the end is dropped": lambda text: re.sub(r"\.0+$", "", text),
    "all but letters and digits is dropped": lambda text: re.sub(r"[\W_]+", "", text).casefold(),
}


def check_items(read: ReadLog, items: IdMap, file: str, found: Collector, *, part: bool) -> int:
    """Report items that the catalogue lacks, unless it is only a ``part``; returns how many interactions they have."""
    if not read.unknown:
        return 0
    log, known = read.log, len(items)
    rows = np.flatnonzero(log.item >= known)
    codes = log.item[rows] - known
    counts = np.bincount(codes, minlength=len(read.unknown))
    first = np.zeros(len(counts), np.int64)
    first[codes[::-1]] = rows[::-1]  # of several values for one place the last one stays
    met = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]

    def finding(code: int) -> Finding:
        detail = f"{counts[code]:,} interaction{'s' if counts[code] > 1 else ''}"
        where = {"item_id": read.unknown[code], "file": file, "row": int(log.number[first[code]])}
        return fault("log.unknown_item", detail, **where, amount=float(counts[code]))

    if not part:
        found.each("log.unknown_item", met, finding)
    _check_spelling(read.unknown, log.number[first], items, file, found)
    return len(rows)


def _check_spelling(
    unknown: list[str], rows: npt.NDArray[np.uint32], items: IdMap, file: str, found: Collector
) -> None:
    """Report the way of writing by which most of the unknown ids would be known; ``rows``: where each comes first."""
    some = unknown[:: max(1, len(unknown) // _SAMPLE)]
    ids = items.array.to_pylist()
    for way, rewrite in _WAYS.items():
        known = {rewrite(item_id): item_id for item_id in ids}
        if np.mean([rewrite(item_id) in known for item_id in some]) >= SPELLED_ALIKE:
            at = next(at for at, one in enumerate(unknown) if rewrite(one) in known)
            mine, theirs = unknown[at], known[rewrite(unknown[at])]
            detail = f"{len(unknown):,} unknown ids; most are known once {way}, such as {mine!r} in the log and "
            more = {"item_id": theirs, "others": (mine,), "amount": float(len(unknown))}
            found.add("log.item_spelling", f"{detail}{theirs!r}", file=file, row=int(rows[at]), **more)
            return


def check_users_file(
    folder: Path,
    settings: UserSettings,
    in_log: list[str],
    first: npt.NDArray[np.uint32],
    log: str,
    found: Collector,
    suppressed: SuppressedPeople = NOBODY,
) -> None:
    """Report users of the log that the users file lacks, and ids that it has twice or not at all.

    Each of ``in_log`` comes first in a row (``first``) of the file ``log``. ``suppressed`` people are as if
    they were not there.

    Raises:
        DataError: If there is a users file that cannot be read.
    """
    source = find_table(folder, "users")
    if source is None:
        return
    path = source.path
    column = user_column(settings, source)
    every = source.batches([column], _BATCH, BrokenRows(found), [column])
    parts = [part.where(suppressed.users(part.batch[column]) == NEVER) for part in every]
    ids = pa.chunked_array([part.batch[column] for part in parts], pa.string()).combine_chunks()
    numbers = np.concatenate([np.zeros(0, np.int64), *(part.numbers for part in parts)])
    there = present(ids)
    codes = np.asarray(ids.dictionary_encode().indices.fill_null(-1))
    again = np.ones(len(codes), bool)
    again[np.unique(codes, return_index=True)[1]] = False
    for kind, detail, rows in (
        ("user.missing_id", "no id", ~there),
        ("user.twice", "the same id as a row before", there & again),
    ):

        def finding(i: int, kind: str = kind, detail: str = detail) -> Finding:
            where = {"file": path.name, "row": int(numbers[i]), "column": column}
            return fault(kind, detail, user_id=ids[i].as_py(), **where)

        found.each(kind, np.flatnonzero(rows), finding)
    known = set(ids.unique().to_pylist())
    missing = [row for row, user_id in enumerate(in_log) if user_id not in known]
    lacks = f"{path.name} does not have it"

    def unknown(user: int) -> Finding:
        return fault("user.unknown", lacks, user_id=in_log[user], file=log, row=int(first[user]) or None)

    found.each("user.unknown", missing, unknown)
