"""What is wrong with an interaction log and the users file, and what the log is like.

The log is read once into arrays, 20 bytes for each interaction; counts are made of some users' histories at a time.
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_retrieval import rng
from molar_retrieval.data.interaction_reader import (
    NOT_POSITIVE,
    WEIGHT_OUTSIDE,
    Codes,
    InteractionColumns,
    InteractionReader,
    log_columns,
    user_column,
)
from molar_retrieval.data.interactions import RawInteractions, counts, ordered, repetitions, whole_users
from molar_retrieval.data.readers import TableReader
from molar_retrieval.data.rows import Rejects, RowBatch, RowChecks
from molar_retrieval.data.schema import CatalogueSchema, InteractionSettings, UserSettings, find_table
from molar_retrieval.data.times import EARLY, LATE, impossible, written
from molar_retrieval.data.values import shown
from molar_retrieval.data.variants import of_items, present_values
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.suppression import NEVER, NOBODY, SuppressionList
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.quality.findings import Finding, FindingCollector, finding

SPELLED_ALIKE = 0.5  # Share of the unknown ids that a way of writing must make known to be named as the cause
STUCK = 20  # A moment is suspicious that has so many times the interactions of the busiest hundredth of moments,
STUCK_ROWS = 50  # at least so many interactions,
STUCK_SHARE = 0.001  # and this share of the log
AROUND = 28  # Days before and after that say what is usual
EXPECTED = 15.0  # A gap is one where so many users would have come, were all as usual
BURST_TIMES = 4.0  # A burst has so many times the usual interactions of a day,
BURST_SPREADS = 8.0  # so many spreads more than usual,
BURST_ROWS = 50  # and so many interactions more
TIES = 0.05  # From this share of steps without an order on it is worth a finding
REPEATS = 0.05  # From this share of interactions with an item of before on
BLOCK = 1 << 22  # About how many interactions are looked at together
SECOND = 1_000_000
DAY = 86_400 * SECOND
_RESOLUTIONS = ((86_400, "days"), (3_600, "hours"), (60, "minutes"), (1, "seconds"))
_SAMPLE_TIMES, _SAMPLE_IDS, _BATCH = 200_000, 10_000, 65_536
_BROKEN_ROW = "log.broken_row"
_REASONS = {
    "missing user id": ("log.missing_user", "user_id"),
    "missing item id": ("log.missing_item", "item_id"),
    "missing time": ("log.missing_time", "timestamp"),
    "unparsable time": ("log.bad_time", "timestamp"),
    "position is not a number": ("log.bad_position", "position"),
    NOT_POSITIVE: ("log.bad_weight", "weight"),
    WEIGHT_OUTSIDE: ("log.bad_weight", "weight"),
}
"""Kinds of findings by the reason for which a row is set aside, and the column that is at fault."""
_SPELLINGS: dict[str, Callable[[str], str]] = {
    "blanks around them are dropped": str.strip,
    "upper and lower case count the same": str.casefold,
    "leading zeros are dropped": lambda text: text.lstrip("0"),
    "“.0” at the end is dropped": lambda text: re.sub(r"\.0+$", "", text),
    "all but letters and digits is dropped": lambda text: re.sub(r"[\W_]+", "", text).casefold(),
}

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LogSummary:
    """What a log is like, once rows that cannot be used and duplicates are left out.

    Attributes:
        rows: Rows of the file.
        interactions: Usable ones; each of the ``users`` and ``items`` has one.
        first: The first time, for people; None: the log has no dates.
        days: From the first to the last day, both counted; 0: the log has no dates.
        resolution: How fine the times are: ``days``, ``hours``, ``minutes``, ``seconds`` or ``fractions of a second``;
            None: the log has no times.
        median_history: Interactions of the median user.
        users_with_one: Users with exactly one interaction; the others have at least so many.
        cold_items: Items of the catalogue without any.
        ties: Share of the steps from one interaction of a user to the next that take no time; 0: no times.
        ties_placed: Share of the steps that take no time but are put in order by a position.
        repeats: Share of the interactions with an item that the user had before.
        repeats_at_once: Share of the steps to the same item.
    """

    rows: int
    interactions: int
    users: int
    items: int
    catalogue_items: int
    first: str | None
    last: str | None
    days: int
    resolution: str | None
    median_history: float
    users_with_one: int
    users_with_two: int
    users_with_five: int
    items_with_five: int
    cold_items: int
    ties: float
    ties_placed: float
    repeats: float
    repeats_at_once: float

    def lines(self) -> list[str]:
        """For people, a sentence each."""
        when = f", {self.first} to {self.last} ({self.days:,} days), times in {self.resolution}" if self.first else ""
        said = [
            f"{self.interactions:,} interactions of {self.users:,} users with {self.items:,} of "
            f"{self.catalogue_items:,} items{when}.",
            f"The median user has {self.median_history:,.0f}; {self.users_with_one:,} users have one, "
            f"{self.users_with_five:,} five or more; {self.items_with_five:,} items have five or more.",
        ]
        if self.repeats >= 0.01 or self.ties >= 0.01:
            said.append(
                f"{self.ties:.0%} of the steps take no time; {self.repeats:.0%} of the interactions are with an item "
                "that the user had before."
            )
        return said


def check_log(
    folder: Path,
    spec: CatalogueSchema,
    items: IdMap,
    found: FindingCollector,
    progress: Progress = SILENT,
    *,
    now: float | None = None,
    part: bool = False,
    suppressed: SuppressionList = NOBODY,
) -> LogSummary | None:
    """Check the interactions file of a catalogue, and its users file; 20 bytes of memory for each interaction.

    A log that cannot be read is a finding. ``now`` is in seconds, None: the clock's; with ``part``, the items are a
    part of the catalogue, and interactions with others are no fault. None: there is no log, or nothing of it can be
    used. ``suppressed`` people are as if they were in no file.
    """
    try:
        source = find_table(folder, "interactions")
        if source is None:
            return None
        asked = spec.interactions
        columns = log_columns(asked, source, spec.items.item_id)
        progress.start("reading the log", source.total)
        reader = _Reader(source, columns, asked, items, found, suppressed)
        log = reader.read_columns(progress)
        progress.finish()
        # The row of the file in which each user comes first; of several values for one place the last one stays.
        first = np.zeros(len(reader.user_ids), np.uint32)
        first[log["user"][::-1]] = log["file_row"][::-1]
        summary = _check(log, reader, items, time.time() if now is None else now, found, part=part)
        _check_users_file(folder, spec.users, reader, first, found, suppressed)
    except DataError as error:
        found.add("log.unreadable", f"{error.message}; {error.hint}")
        return None
    return summary


class _BrokenRows(Rejects):
    """Takes the rows that a source cannot read, as findings."""

    def __init__(self, found: FindingCollector) -> None:
        super().__init__(Path())
        self._found = found

    def add(self, file: str, row: int, item_id: str | None, kind: str, detail: str = "") -> None:
        """Count one, and keep it as an example."""
        words = f"{kind}: {detail}" if detail else kind
        self._found.add(_BROKEN_ROW, words, item_id=item_id, file=file, row=int(row))


class _Reader(InteractionReader):
    """Reads one interactions file; rows with items that the catalogue lacks are kept.

    Users are numbered by first appearance; unknown items have the numbers after those of the catalogue.
    """

    def __init__(
        self,
        source: TableReader,
        columns: InteractionColumns,
        settings: InteractionSettings,
        items: IdMap,
        found: FindingCollector,
        suppressed: SuppressionList,
    ) -> None:
        super().__init__(source, columns, settings, items, _BrokenRows(found), suppressed=suppressed)
        self.file = source.path.name
        self.user_ids: list[str] = []
        self.item_ids: list[str] = []
        self._found = found

    def read_columns(self, progress: Progress) -> dict[str, npt.NDArray[Any]]:
        """Columns of all usable rows in the order of the file: those of :class:`_Log`."""
        codes = Codes(self._known.array.to_pylist())
        none, no_rows = np.zeros(0, np.int32), np.zeros(0, np.uint32)
        parts: dict[str, list[npt.NDArray[Any]]] = defaultdict(list, user=[none], item=[none], file_row=[no_rows])
        for rows, values in self.batches(progress):
            values["file_row"] = rows.numbers.astype(np.uint32)
            values["item"] = codes.encode(of_items(rows.batch[self._columns.item_id], self._known))
            values.pop("weight", None)  # it was checked
            for name, array in values.items():
                parts[name].append(array)
        self.user_ids, self.item_ids = list(self._users.rows), list(codes.rows)
        return {name: np.concatenate(parts.pop(name)) for name in list(parts)}

    @property
    def total(self) -> int:
        """Rows of the file, so far."""
        return self.rows + self._found.counts[_BROKEN_ROW]

    def _items(self, ids: pa.Array, checks: RowChecks) -> None:
        return None

    def _report(self, rows: RowBatch, checks: RowChecks) -> None:
        users, ids = rows.batch[self._columns.user_id], rows.batch[self._columns.item_id]
        for places, reason, _ in checks.failed:
            kind, role = _REASONS[reason]
            column = getattr(self._columns, role)

            def about(i: int, kind: str = kind, column: str = column) -> Finding:
                value = shown(rows.batch[column], i)
                detail = f"the {column} is empty" if value in ("None", "''") else f"the {column} is {value}"
                whose = {"item_id": ids[i].as_py(), "user_id": users[i].as_py(), "column": column}
                return finding(kind, detail, **whose, file=self.file, row=int(rows.numbers[i]))

            self._found.each(kind, places, about)


@dataclass(frozen=True)
class _Log(RawInteractions):
    """A log with the number of each row in its file, from 1."""

    file_row: npt.NDArray[np.uint32] | None = None


def _check(
    log: dict[str, npt.NDArray[Any]],
    reader: _Reader,
    items: IdMap,
    now: float,
    found: FindingCollector,
    *,
    part: bool,
) -> LogSummary | None:
    """Report everything but the users file; None where no row is usable."""
    file, read = reader.file, len(log["user"])

    def row(kind: str, detail: str, i: int) -> Finding:
        about = {"item_id": reader.item_ids[log["item"][i]], "user_id": reader.user_ids[log["user"][i]]}
        return finding(kind, detail, **about, file=file, row=int(log["file_row"][i]))

    _check_items(log, reader.item_ids, items, file, found, part=part)
    good, dates = log["item"] < len(items), False
    if read and "micros" not in log:
        found.add("log.no_times", "no column of times", file=file, amount=1.0)
    elif read and not reader.dates:
        words = f"most lie before 1990 when read as {reader.times.read_as}"
        found.add("log.not_dates", words, file=file, amount=1.0)
    elif read:
        dates = True
        for reason, mask in impossible(log["micros"], now).items():
            kind, rows = {EARLY: "log.zero_time", LATE: "log.future_time"}[reason], np.flatnonzero(good & mask)
            found.each(kind, rows, lambda i, kind=kind: row(kind, written(int(log["micros"][i])), i))  # type: ignore[misc]
            good[rows] = False
    if not good.all():
        for name in log:  # memory never holds two of more than one column
            log[name] = log[name][good]
    stuck = _report_stuck(log["micros"], log["file_row"], file, found) if dates else np.zeros(0, np.int64)
    if not len(log["user"]):
        found.add("log.nothing_usable", f"none of {reader.total:,} rows", file=file, amount=1.0)
        return None
    missing: dict[str, Any] = dict.fromkeys(("micros", "position", "weight", "event"))
    raw = ordered(_Log(**(missing | log)))
    again = repetitions(raw)

    def duplicate(i: int) -> Finding:
        when = "" if raw.micros is None else f" at {written(int(raw.micros[i]))}"
        return row("log.duplicate", f"the same user, item and event{when} as a row before", i)

    found.each("log.duplicate", again, duplicate)
    days = _Days.of(raw.micros) if dates and raw.micros is not None else None
    summary = _summary(raw, again, reader, len(items), days, stuck)
    if days is not None:
        _report_gaps(days, file, found)
        _report_bursts(days, file, found)
    _report_shares(summary, file, found)
    return summary


def _check_items(
    log: dict[str, npt.NDArray[Any]], ids: list[str], items: IdMap, file: str, found: FindingCollector, *, part: bool
) -> None:
    """Report items that the catalogue lacks, unless it is only a ``part``."""
    known, unknown = len(items), ids[len(items) :]
    if not unknown:
        return
    rows = np.flatnonzero(log["item"] >= known)
    codes = log["item"][rows] - known
    times = np.bincount(codes, minlength=len(unknown))
    first = np.zeros(len(times), np.int64)
    first[codes[::-1]] = rows[::-1]  # of several values for one place the last one stays
    numbers = log["file_row"][first]

    def about(code: int) -> Finding:
        detail = f"{times[code]:,} interaction{'s' if times[code] > 1 else ''}"
        where = {"item_id": unknown[code], "file": file, "row": int(numbers[code])}
        return finding("log.unknown_item", detail, **where, amount=float(times[code]))

    if not part:
        found.each("log.unknown_item", np.argsort(-times, kind="stable")[: np.count_nonzero(times)], about)
    # The way of writing by which most of the unknown ids would be known.
    some = unknown[:: max(1, len(unknown) // _SAMPLE_IDS)]
    for way, rewrite in _SPELLINGS.items():
        rewritten = {rewrite(item_id): item_id for item_id in ids[:known]}
        if np.mean([rewrite(item_id) in rewritten for item_id in some]) >= SPELLED_ALIKE:
            at = next(at for at, one in enumerate(unknown) if rewrite(one) in rewritten)
            mine, theirs = unknown[at], rewritten[rewrite(unknown[at])]
            detail = f"{len(unknown):,} unknown ids; most are known once {way}, such as {mine!r} in the log and "
            more = {"item_id": theirs, "others": (mine,), "amount": float(len(unknown))}
            found.add("log.item_spelling", f"{detail}{theirs!r}", file=file, row=int(numbers[at]), **more)
            break


def _report_stuck(micros: Ints, numbers: npt.NDArray[np.uint32], file: str, found: FindingCollector) -> Ints:
    """Report moments that very many interactions share, and a log with a single one; the moments are returned.

    ``numbers`` are the rows of the file, in its order.
    """
    if len(micros) < 2:
        return micros[:0]
    if micros[0] == micros[-1] and bool((micros == micros[0]).all()):
        found.add("log.constant_time", f"{len(micros):,} × {written(int(micros[0]))}", file=file, amount=1.0)
        return micros[:1].copy()
    small = len(micros) <= _SAMPLE_TIMES
    some = micros if small else micros[rng.generator(0, "check", "moments").integers(0, len(micros), _SAMPLE_TIMES)]
    moments, times = np.unique(some, return_counts=True)
    usual = np.sort(times)[: max(1, int(0.99 * len(times)))][-1]
    least = max(STUCK * int(usual), STUCK_ROWS if small else 1, STUCK_SHARE * len(some))
    suspects = moments[times >= least]
    for moment in suspects[np.argsort(-times[times >= least], kind="stable")]:
        n = sum(int((micros[i : i + BLOCK] == moment).sum()) for i in range(0, len(micros), BLOCK))
        share = n / len(micros)
        detail = f"{n:,} interactions ({share:.1%}) at {written(int(moment))}"
        first = int(numbers[np.argmax(micros == moment)])
        found.add("log.stuck_time", detail, file=file, row=first, amount=share)
    return suspects


@dataclass(frozen=True)
class _Days:
    """Interactions and active users of each day (UTC) from ``first`` on, in days since 1970; stuck times left out."""

    first: int
    interactions: Ints
    users: Ints

    @classmethod
    def of(cls, micros: Ints) -> Self:
        """Empty ones of a log with these times."""
        first = int(micros.min()) // DAY
        n = int(micros.max()) // DAY - first + 1
        return cls(first, np.zeros(n, np.int64), np.zeros(n, np.int64))

    def date(self, number: int) -> str:
        """The date of a day."""
        return (date(1970, 1, 1) + timedelta(days=self.first + number)).isoformat()


def _summary(
    log: RawInteractions, again: Ints, reader: _Reader, n_items: int, days: _Days | None, stuck: Ints
) -> LogSummary:
    """Count an ordered log without its repetitions ``again``, some users at a time, and fill in its days."""
    of_user, of_item = np.zeros(len(reader.user_ids), np.int64), np.zeros(n_items, np.int64)
    steps = ties = placed = repeats = at_once = 0
    offsets = np.append(0, np.cumsum(counts(log.user, len(reader.user_ids))))
    for begin, end in whole_users(offsets, BLOCK):
        left, right = np.searchsorted(again, (begin, end))
        part = log.take(slice(begin, end)).without(again[left:right] - begin)
        user, item, micros = part.user, part.item, part.micros
        of_user += np.bincount(user, minlength=len(of_user))
        of_item += np.bincount(item, minlength=n_items)
        pairs = np.sort(user.astype(np.int64) * n_items + item)
        repeats += int((pairs[1:] == pairs[:-1]).sum())
        step = user[1:] == user[:-1]
        steps += int(step.sum())
        at_once += int((step & (item[1:] == item[:-1])).sum())
        if micros is None:
            continue
        tied = step & (micros[1:] == micros[:-1])
        ties += int(tied.sum())
        if part.position is not None:
            placed += int((tied & (part.position[1:] > part.position[:-1])).sum())
        if days is not None and len(user):
            day, real = micros // DAY - days.first, ~np.isin(micros, stuck)
            first = np.append(True, ~step | (day[1:] != day[:-1]))
            days.interactions[:] += np.bincount(day[real], minlength=len(days.users))
            days.users[:] += np.bincount(day[real & first], minlength=len(days.users))
    own, total = of_user[of_user > 0], int(of_user.sum())
    return LogSummary(
        rows=reader.total,
        interactions=total,
        users=len(own),
        items=int((of_item > 0).sum()),
        catalogue_items=n_items,
        first=days.date(0) if days else None,
        last=days.date(len(days.users) - 1) if days else None,
        days=len(days.users) if days else 0,
        resolution=None if log.micros is None else resolution_of(log.micros),
        median_history=float(np.median(own)) if len(own) else 0.0,
        users_with_one=int((own == 1).sum()),
        users_with_two=int((own >= 2).sum()),
        users_with_five=int((own >= 5).sum()),
        items_with_five=int((of_item >= 5).sum()),
        cold_items=int((of_item == 0).sum()),
        ties=ties / max(steps, 1),
        ties_placed=placed / max(steps, 1),
        repeats=repeats / max(total, 1),
        repeats_at_once=at_once / max(steps, 1),
    )


def resolution_of(micros: Ints) -> str:
    """The coarsest unit of which all times are multiples."""
    for seconds, name in _RESOLUTIONS:
        unit = seconds * SECOND
        if not (micros[: 1 << 16] % unit).any() and not (micros % unit).any():
            return name
    return "fractions of a second"


def _report_gaps(log: _Days, file: str, found: FindingCollector) -> None:
    """Report runs of days without interactions on which some would be expected.

    What is expected follows from the same days of the week in the four weeks before and after, so that a shop which
    is closed on Sundays has no gaps; users are counted, not interactions, which come in heaps.
    """
    users = log.users
    borders = np.flatnonzero(np.diff(np.concatenate([[False], users == 0, [False]]).astype(np.int8)))
    for start, end in zip(borders[::2].tolist(), borders[1::2].tolist(), strict=True):
        expected = _expected(users, start, end)
        if expected < EXPECTED:
            continue
        first, last, days = log.date(start), log.date(end - 1), end - start
        which = first if days == 1 else f"{first} to {last}, {days:,} days"
        detail = f"{which}: nothing, where some {expected:,.0f} users would be expected"
        found.add("log.gap", detail, file=file, amount=float(days))


def _expected(users: Ints, start: int, end: int) -> float:
    days = np.concatenate([np.arange(max(0, start - AROUND), start), np.arange(end, min(len(users), end + AROUND))])
    total = 0.0
    for weekday in range(7):
        wanted = int((np.arange(start, end) % 7 == weekday).sum())
        same = users[days[days % 7 == weekday]]
        if wanted and len(same) > 1:
            total += wanted * float(np.sort(same)[:-1].mean())  # without the largest, which may be a burst
    return total


def _report_bursts(log: _Days, file: str, found: FindingCollector) -> None:
    """Report days with far more interactions than those around them."""
    n = log.interactions.astype(np.float64)
    if len(n) < 7:
        return
    padded = np.pad(n, AROUND // 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, AROUND + 1)
    usual = np.nanmedian(windows, axis=1)
    spread = np.maximum(1.4826 * np.nanmedian(np.abs(windows - usual[:, None]), axis=1), np.sqrt(usual) + 1)
    more = n - usual
    days = np.flatnonzero((n >= BURST_TIMES * usual) & (more >= BURST_SPREADS * spread) & (more >= BURST_ROWS))

    def about(d: int) -> Finding:
        seen = f"{int(n[d]):,} interactions of {log.users[d]:,} users"
        detail = f"{log.date(d)}: {seen}, usual are {usual[d]:,.0f}"
        return finding("log.burst", detail, file=file, amount=float(n[d] / max(usual[d], 1)))

    found.each("log.burst", days[np.argsort(-more[days], kind="stable")], about)


def _report_shares(log: LogSummary, file: str, found: FindingCollector) -> None:
    """Report shares of ties and of repeated consumption."""
    if log.ties >= TIES:
        placed = f"; a position orders {log.ties_placed / log.ties:.0%} of them" if log.ties_placed else ""
        detail = f"{log.ties:.0%} of the steps from one to the next take no time{placed}"
        found.add("log.ties", detail, file=file, amount=log.ties)
    if log.repeats >= REPEATS:
        again = f"{log.repeats:.0%} of the interactions are with an item that the user had before"
        detail = f"{again}, {log.repeats_at_once:.0%} with the one just before"
        found.add("log.repeats", detail, file=file, amount=log.repeats)


def _check_users_file(
    folder: Path,
    settings: UserSettings,
    reader: _Reader,
    first: npt.NDArray[np.uint32],
    found: FindingCollector,
    suppressed: SuppressionList,
) -> None:
    """Report users of the log that the users file lacks, and ids that it has twice or not at all.

    Each user of the log comes ``first`` in a row of it. ``suppressed`` people are as if they were not there.

    Raises:
        DataError: If there is a users file that cannot be read.
    """
    source = find_table(folder, "users")
    if source is None:
        return
    file, column = source.path.name, user_column(settings, source)
    every = source.batches([column], _BATCH, _BrokenRows(found), [column])
    parts = [part.where(suppressed.users(part.batch[column]) == NEVER) for part in every]
    ids = pa.chunked_array([part.batch[column] for part in parts], pa.string()).combine_chunks()
    numbers = np.concatenate([np.zeros(0, np.int64), *(part.numbers for part in parts)])
    codes = np.asarray(ids.dictionary_encode().indices.fill_null(-1))
    again = np.ones(len(codes), bool)
    again[np.unique(codes, return_index=True)[1]] = False

    def report(kind: str, detail: str, rows: npt.NDArray[np.bool_]) -> None:
        def about(i: int) -> Finding:
            return finding(kind, detail, user_id=ids[i].as_py(), file=file, row=int(numbers[i]), column=column)

        found.each(kind, np.flatnonzero(rows), about)

    there = present_values(ids)
    report("user.missing_id", "no id", ~there)
    report("user.twice", "the same id as a row before", there & again)
    known, in_log = set(ids.unique().to_pylist()), reader.user_ids
    missing = [user for user, user_id in enumerate(in_log) if user_id not in known]

    def unknown(user: int) -> Finding:
        lacks, row = f"{file} does not have it", int(first[user]) or None
        return finding("user.unknown", lacks, user_id=in_log[user], file=reader.file, row=row)

    found.each("user.unknown", missing, unknown)
