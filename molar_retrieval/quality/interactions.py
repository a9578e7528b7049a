"""What is wrong with an interaction log and the users file, and what the log is like.

The log is read once into arrays, 20 bytes for each interaction; counts are made of some users' histories at a time.
"""

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_retrieval import rng
from molar_retrieval.data.interaction_reader import (
    NOT_POSITIVE,
    WEIGHT_OUTSIDE,
    InteractionColumns,
    InteractionReader,
    log_columns,
    user_column,
)
from molar_retrieval.data.interactions import RawInteractions, counts, ordered, repetitions, whole_users
from molar_retrieval.data.rows import Rejects
from molar_retrieval.data.schema import CatalogueSchema, UserSettings, find_table
from molar_retrieval.data.times import EARLY, LATE, impossible, written
from molar_retrieval.data.variants import present_values
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
        return [
            f"{self.interactions:,} interactions of {self.users:,} users with {self.items:,} of "
            f"{self.catalogue_items:,} items{when}.",
            f"The median user has {self.median_history:,.0f}; {self.users_with_one:,} users have one, "
            f"{self.users_with_five:,} five or more; {self.items_with_five:,} items have five or more.",
        ]


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
        columns = log_columns(spec.interactions, source, spec.items.item_id)
        rejects = _Rejects(columns, found)
        progress.start("reading the log", source.total)
        reader = InteractionReader(source, columns, spec.interactions, items, rejects, suppressed=suppressed)
        log = reader.read_columns(progress)
        log.pop("weight", None)  # it was checked
        log["number"] = log.pop("row")
        progress.finish()
        checked = _Log(source.path.name, items, reader.users, rejects, found)
        first = np.zeros(len(checked.users), np.int32)
        first[log["user"][::-1]] = log["number"][::-1]  # of several values for one place the last one stays
        summary = checked.check(log, reader, time.time() if now is None else now, part=part)
        _check_users_file(folder, spec.users, checked, first, suppressed)
    except DataError as error:
        found.add("log.unreadable", f"{error.message}; {error.hint}")
        return None
    return summary


class _Rejects(Rejects):
    """Takes rows that cannot be used, as findings; of items that the catalogue lacks the first row and how many."""

    def __init__(self, columns: InteractionColumns, found: FindingCollector) -> None:
        super().__init__(Path())
        self.unknown: dict[str, tuple[int, int]] = {}
        self._columns, self._found = columns, found

    def add(self, file: str, row: int, item_id: str | None, kind: str, detail: str = "") -> None:
        """Count one, and keep it as an example."""
        self.counts[kind] += 1
        if kind == "unknown item":
            first, times = self.unknown.get(str(item_id), (int(row), 0))
            self.unknown[str(item_id)] = first, times + 1
        elif kind in _REASONS:
            name, role = _REASONS[kind]
            column = getattr(self._columns, role)
            words = f"the {column} is {detail or 'empty'}"
            self._found.add(name, words, item_id=item_id, file=file, row=int(row), column=column)
        else:
            words = f"{kind}: {detail}" if detail else kind
            self._found.add("log.broken_row", words, item_id=item_id, file=file, row=int(row))


@dataclass(frozen=True)
class _Log:
    """A log whose rows have been read: its file, the items of the catalogue, the ids of its users by number."""

    file: str
    items: IdMap
    users: list[str]
    rejects: _Rejects
    found: FindingCollector

    def report(self, kind: str, detail: str, amount: float = 1.0, **more: Any) -> None:
        """Report something of the whole log."""
        self.found.add(kind, detail, file=self.file, amount=amount, **more)

    def each(self, kind: str, rows: Ints, log: dict[str, npt.NDArray[Any]], detail: Callable[[int], str]) -> None:
        """Report some rows of a log."""

        def make(i: int) -> Finding:
            about = {"item_id": self.items.id(int(log["item"][i])), "user_id": self.users[log["user"][i]]}
            return finding(kind, detail(i), **about, file=self.file, row=int(log["number"][i]))

        self.found.each(kind, rows, make)

    def check(
        self, log: dict[str, npt.NDArray[Any]], reader: InteractionReader, now: float, *, part: bool
    ) -> LogSummary | None:
        """Report everything but the users file; None where no row is usable."""
        rows, dates = reader.rows + self.found.counts["log.broken_row"], False
        self._check_items(part=part)
        if len(log["user"]) and "micros" not in log:
            self.report("log.no_times", "no column of times")
        elif len(log["user"]) and not reader.dates:
            self.report("log.not_dates", f"most lie before 1990 when read as {reader.times.read_as}")
        elif len(log["user"]):
            dates, micros, reasons = True, log["micros"], impossible(log["micros"], now)
            for reason, kind in ((EARLY, "log.zero_time"), (LATE, "log.future_time")):
                self.each(kind, np.flatnonzero(reasons[reason]), log, lambda i: written(int(micros[i])))
            good = ~np.logical_or.reduce(list(reasons.values()))
            for name in log if not good.all() else ():  # memory never holds two of more than one column
                log[name] = log[name][good]
        stuck = self._check_moments(log["micros"], log["number"]) if dates else np.zeros(0, np.int64)
        if not len(log["user"]):
            self.report("log.nothing_usable", f"none of {rows:,} rows")
            return None
        raw = ordered(RawInteractions(**log))
        again = repetitions(raw)

        def duplicate(i: int) -> str:
            when = "" if raw.micros is None else f" at {written(int(raw.micros[i]))}"
            return f"the same user, item and event{when} as a row before"

        self.each("log.duplicate", again, raw.columns, duplicate)
        summary = self._summary(raw, again, rows, stuck, dates=dates)
        if summary.ties >= TIES:
            placed = f"; a position orders {summary.ties_placed / summary.ties:.0%} of them"
            words = f"{summary.ties:.0%} of the steps from one to the next take no time"
            self.report("log.ties", words + (placed if summary.ties_placed else ""), summary.ties)
        if summary.repeats >= REPEATS:
            words = f"{summary.repeats:.0%} of the interactions are with an item that the user had before"
            self.report(
                "log.repeats", f"{words}, {summary.repeats_at_once:.0%} with the one just before", summary.repeats
            )
        return summary

    def _check_items(self, *, part: bool) -> None:
        """Report items that the catalogue lacks, unless it is only a ``part``, and how they would be known."""
        unknown = sorted(self.rejects.unknown.items(), key=lambda one: -one[1][1])

        def about(place: int) -> Finding:
            item_id, (row, times) = unknown[place]
            detail = f"{times:,} interaction{'s' if times > 1 else ''}"
            return finding("log.unknown_item", detail, item_id=item_id, file=self.file, row=row, amount=float(times))

        if not part:
            self.found.each("log.unknown_item", range(len(unknown)), about)
        some = list(self.rejects.unknown)[:: max(1, len(unknown) // _SAMPLE_IDS)]
        for way, rewrite in _SPELLINGS.items() if some else ():
            rewritten = {rewrite(item_id): item_id for item_id in self.items.array.to_pylist()}
            if np.mean([rewrite(item_id) in rewritten for item_id in some]) >= SPELLED_ALIKE:
                mine = next(one for one in self.rejects.unknown if rewrite(one) in rewritten)
                theirs, (row, _) = rewritten[rewrite(mine)], self.rejects.unknown[mine]
                words = f"{len(unknown):,} unknown ids; most are known once {way}, such as {mine!r} in the log and "
                more = {"item_id": theirs, "others": (mine,), "row": row}
                self.report("log.item_spelling", f"{words}{theirs!r}", float(len(unknown)), **more)
                break

    def _check_moments(self, micros: Ints, rows: npt.NDArray[Any]) -> Ints:
        """Report moments that very many interactions share, and a log with a single one; the moments are returned."""
        if len(micros) < 2:
            return micros[:0]
        if bool((micros == micros[0]).all()):
            self.report("log.constant_time", f"{len(micros):,} × {written(int(micros[0]))}")
            return micros[:1].copy()
        small = len(micros) <= _SAMPLE_TIMES
        some = micros if small else micros[rng.generator(0, "check", "moments").integers(0, len(micros), _SAMPLE_TIMES)]
        moments, times = np.unique(some, return_counts=True)
        usual = int(np.quantile(times, 0.99, method="lower"))
        suspects = moments[times >= max(STUCK * usual, STUCK_ROWS if small else 1, STUCK_SHARE * len(some))]
        for moment in suspects:
            at = micros == moment
            detail = f"{at.sum():,} interactions ({at.mean():.1%}) at {written(int(moment))}"
            self.report("log.stuck_time", detail, float(at.mean()), row=int(rows[at.argmax()]))
        return suspects

    def _summary(self, log: RawInteractions, again: Ints, rows: int, stuck: Ints, *, dates: bool) -> LogSummary:
        """Count an ordered log without its repetitions ``again``, some users at a time, and report its days."""
        n_items, first, n_days = len(self.items), 0, 0
        if dates and log.micros is not None:
            first = int(log.micros.min()) // DAY
            n_days = int(log.micros.max()) // DAY - first + 1
        of_user, of_item = np.zeros(len(self.users), np.int64), np.zeros(n_items, np.int64)
        taken, people = np.zeros((2, n_days), np.int64)  # interactions and users of each day, but for stuck times
        n = Counter[str]()
        offsets = np.append(0, np.cumsum(counts(log.user, len(self.users))))
        for begin, end in whole_users(offsets, BLOCK):
            left, right = np.searchsorted(again, (begin, end))
            part = log.take(slice(begin, end)).without(again[left:right] - begin)
            user, item, micros = part.user, part.item, part.micros
            of_user += np.bincount(user, minlength=len(of_user))
            of_item += np.bincount(item, minlength=n_items)
            pairs = np.sort(user.astype(np.int64) * n_items + item)
            step = user[1:] == user[:-1]
            n["repeats"] += int((pairs[1:] == pairs[:-1]).sum())
            n["steps"] += int(step.sum())
            n["at_once"] += int((step & (item[1:] == item[:-1])).sum())
            if micros is None:
                continue
            tied = step & (micros[1:] == micros[:-1])
            n["ties"] += int(tied.sum())
            if part.position is not None:
                n["placed"] += int((tied & (part.position[1:] > part.position[:-1])).sum())
            if n_days and len(user):
                day, real = micros // DAY - first, ~np.isin(micros, stuck)
                new = np.append(True, ~step | (day[1:] != day[:-1]))
                taken += np.bincount(day[real], minlength=n_days)
                people += np.bincount(day[real & new], minlength=n_days)
        if n_days:
            self._check_days(first, taken, people)
        own, total, steps = of_user[of_user > 0], int(of_user.sum()), max(n["steps"], 1)
        return LogSummary(
            rows=rows,
            interactions=total,
            users=len(own),
            items=int((of_item > 0).sum()),
            catalogue_items=n_items,
            first=_date(first) if n_days else None,
            last=_date(first + n_days - 1) if n_days else None,
            days=n_days,
            resolution=None if log.micros is None else _resolution(log.micros),
            median_history=float(np.median(own)) if len(own) else 0.0,
            users_with_one=int((own == 1).sum()),
            users_with_two=int((own >= 2).sum()),
            users_with_five=int((own >= 5).sum()),
            items_with_five=int((of_item >= 5).sum()),
            cold_items=int((of_item == 0).sum()),
            ties=n["ties"] / steps,
            ties_placed=n["placed"] / steps,
            repeats=n["repeats"] / max(total, 1),
            repeats_at_once=n["at_once"] / steps,
        )

    def _check_days(self, first: int, taken: Ints, people: Ints) -> None:
        """Report days without interactions on which some would be expected, and those with far too many.

        What is expected follows from the same days of the week in the four weeks before and after, so that a shop
        which is closed on Sundays has no gaps; users are counted, not interactions, which come in heaps.
        """
        borders = np.flatnonzero(np.diff(np.concatenate([[0], people == 0, [0]])))
        for start, end in borders.reshape(-1, 2).tolist():
            expected, days = _expected(people, start, end), end - start
            if expected >= EXPECTED:
                until = "" if days == 1 else f" to {_date(first + end - 1)}, {days:,} days"
                words = f"{_date(first + start)}{until}: nothing, where some {expected:,.0f} users would be expected"
                self.report("log.gap", words, float(days))
        if len(taken) < 7:
            return
        padded = np.pad(taken.astype(np.float64), AROUND // 2, constant_values=np.nan)
        windows = np.lib.stride_tricks.sliding_window_view(padded, AROUND + 1)
        usual = np.nanmedian(windows, axis=1)
        spread = np.maximum(1.4826 * np.nanmedian(np.abs(windows - usual[:, None]), axis=1), np.sqrt(usual) + 1)
        more = taken - usual
        for d in np.flatnonzero(
            (taken >= BURST_TIMES * usual) & (more >= np.maximum(BURST_SPREADS * spread, BURST_ROWS))
        ):
            words = f"{taken[d]:,} interactions of {people[d]:,} users, usual are {usual[d]:,.0f}"
            self.report("log.burst", f"{_date(first + int(d))}: {words}", float(taken[d] / max(usual[d], 1)))


def _date(day: int) -> str:
    return str(np.datetime64(day, "D"))


def _resolution(micros: Ints) -> str:
    """The coarsest unit of which all times are multiples."""
    for seconds, name in _RESOLUTIONS:
        unit = seconds * SECOND
        if not (micros[: 1 << 16] % unit).any() and not (micros % unit).any():
            return name
    return "fractions of a second"


def _expected(users: Ints, start: int, end: int) -> float:
    """How many users would be expected on the days of a range, by those around it."""
    days = np.concatenate([np.arange(max(0, start - AROUND), start), np.arange(end, min(len(users), end + AROUND))])
    total = 0.0
    for weekday, wanted in enumerate(np.bincount(np.arange(start, end) % 7, minlength=7)):
        same = users[days[days % 7 == weekday]]
        if len(same) > 1:
            total += wanted * float(np.sort(same)[:-1].mean())  # without the largest, which may be a burst
    return total


def _check_users_file(
    folder: Path, settings: UserSettings, log: _Log, first: npt.NDArray[Any], suppressed: SuppressionList
) -> None:
    """Report users of the log that the users file lacks, and ids that it has twice or not at all.

    Each user of the log comes ``first`` in a row of it. A DataError if there is a users file that cannot be read.
    """
    source = find_table(folder, "users")
    if source is None:
        return
    file, column = source.path.name, user_column(settings, source)
    every = source.batches([column], _BATCH, log.rejects, [column])
    parts = [part.where(suppressed.users(part.batch[column]) == NEVER) for part in every]
    ids = pa.chunked_array([part.batch[column] for part in parts], pa.string()).combine_chunks()
    numbers = np.concatenate([np.zeros(0, np.int64), *(part.numbers for part in parts)])
    again = np.ones(len(ids), bool)
    again[np.unique(np.asarray(ids.dictionary_encode().indices.fill_null(-1)), return_index=True)[1]] = False
    there = present_values(ids)
    for kind, detail, rows in (
        ("user.missing_id", "no id", ~there),
        ("user.twice", "the same id as a row before", there & again),
    ):
        for i in np.flatnonzero(rows).tolist():
            log.found.add(kind, detail, user_id=ids[i].as_py(), file=file, row=int(numbers[i]), column=column)
    known = set(ids.unique().to_pylist())
    for user, user_id in enumerate(log.users):
        if user_id not in known:
            log.report("user.unknown", f"{file} does not have it", 0.0, user_id=user_id, row=int(first[user]) or None)
