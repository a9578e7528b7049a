"""Checks the log of a catalogue."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from molar_retrieval.catalog.sources import find_file, open_source
from molar_retrieval.catalog.spec import CatalogueSpec
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.clean import repetitions
from molar_retrieval.interactions.columns import log_columns
from molar_retrieval.interactions.times import TimeParser
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.quality.bounded import LIMIT, Bounded
from molar_retrieval.quality.findings import Finding, Kind
from molar_retrieval.quality.log import kinds, moments
from molar_retrieval.quality.log.days import bursts, gaps
from molar_retrieval.quality.log.items import unknown_items
from molar_retrieval.quality.log.order import order_test
from molar_retrieval.quality.log.read import RawReader, Read
from molar_retrieval.quality.log.robots import Robots
from molar_retrieval.quality.log.rows import Block, NumberedLog, blocks, by_user
from molar_retrieval.quality.log.shares import tell_shares
from molar_retrieval.quality.log.summary import LogSummary, resolution_of, summarise
from molar_retrieval.quality.log.tally import Tally
from molar_retrieval.quality.log.users import check_users_file
from molar_retrieval.quality.log.zones import jumps


@dataclass(frozen=True)
class LogReport:
    """What was found in a log.

    Attributes:
        findings: Faults; of each kind a bounded number.
        counts: How many there are of each kind, by its name.
        summary: What the log is like; None: there is none, or nothing of it can be used.
    """

    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    summary: LogSummary | None


def check_log(
    folder: Path,
    spec: CatalogueSpec,
    items: IdMap,
    progress: Progress = SILENT,
    *,
    now: float | None = None,
    seed: int = 0,
    limit: int = LIMIT,
) -> LogReport:
    """Check the interactions file of a catalogue, and its users file.

    Memory holds some 20 bytes for each interaction, and the ids of users.

    Args:
        folder: The catalogue.
        spec: What its columns mean.
        items: Ids of its usable items.
        progress: Hears of rows read.
        now: The present time in seconds; None: the clock's.
        seed: Of what is drawn at random.
        limit: How many findings of a kind are kept.

    Returns:
        The findings; a log that cannot be read is one of them.
    """
    found = Bounded(limit)
    summary = None
    try:
        path = find_file(folder, "interactions")
        if path is not None:
            read = _read(path, spec, items, found, progress)
            summary = _Check(path.name, items, found, seed).run(read, time.time() if now is None else now)
            check_users_file(folder, spec.users, read.users, found)
    except DataError as error:
        found.add(Finding(kinds.UNREADABLE, f"{error.message}; {error.hint}"))
    return LogReport(found.findings, dict(found.counts), summary)


def _read(path: Path, spec: CatalogueSpec, items: IdMap, found: Bounded, progress: Progress) -> Read:
    source = open_source(path)
    columns = log_columns(spec.interactions, source, spec.items.item_id)
    times = TimeParser(spec.interactions.time_unit, spec.interactions.time_format)
    progress.start("reading the log", source.total)
    read = RawReader(source, columns, items, times, found).read(progress)
    progress.finish()
    return read


class _Check:
    """One log that has been read."""

    def __init__(self, file: str, items: IdMap, found: Bounded, seed: int) -> None:
        self._file, self._items, self._found, self._seed = file, items, found, seed

    def run(self, read: Read, now: float) -> LogSummary | None:
        """Report everything; None where no row is usable."""
        unknown = unknown_items(read, self._items, self._file, self._found)
        known_share = 1 - unknown / max(len(read.held.log), 1)
        dates, stuck = self._leave_out(read, now)
        if not len(read.held.log):
            self._found.add(Finding(kinds.NOTHING_USABLE, f"none of {read.rows:,} rows", file=self._file, amount=1.0))
            return None
        users = read.users
        offsets = by_user(read.held, len(users))
        log = read.held.log
        resolution = None if log.micros is None else resolution_of(log.micros)
        span = (int(log.micros.min()), int(log.micros.max())) if dates and log.micros is not None else None
        tally = Tally(len(users), len(self._items), span, stuck)
        robots = Robots(len(users), coarse=resolution in {"days", "hours", "minutes"})
        duplicates = 0
        for piece in blocks(log, offsets):
            block = Block.of(self._distinct(piece, users))
            duplicates += len(piece) - len(block.log)
            if len(block.log):
                tally.add(block)
                if dates:
                    robots.add(block)
        calendar = tally.calendar
        if calendar is not None:
            robots.report(tally.users, users, self._file, self._found)
            gaps(calendar, self._file, self._found)
            bursts(calendar, self._file, self._found)
            jumps(calendar, self._file, self._found)
        order = order_test(log, offsets, self._seed)
        summary = summarise(
            tally,
            order,
            rows=read.rows,
            known_share=known_share,
            duplicates=duplicates,
            span=span,
            resolution=resolution,
        )
        tell_shares(summary, self._file, self._found)
        return summary

    def _leave_out(self, read: Read, now: float) -> tuple[bool, moments.Micros]:
        """Leave out unknown items and impossible times; returns whether the times are dates, and which are none."""
        log, dates, stuck = read.held.log, False, np.zeros(0, np.int64)
        good = log.item < len(self._items)
        if log.micros is None and len(log):
            self._found.add(Finding(kinds.NO_TIMES, "no column of times", file=self._file, amount=1.0))
        if log.micros is not None and len(log):
            dates = moments.are_dates(log.micros)
            if dates:
                good &= moments.impossible(log.micros, now, self._found, self._row(log, read))
                stuck = moments.stuck(log.micros[good], self._file, self._found)
            else:
                words = f"most lie before 1990 when read as {read.times}"
                self._found.add(Finding(kinds.NOT_DATES, words, file=self._file, amount=1.0))
        del log
        if not good.all():
            read.held.take(good)
        return dates, stuck

    def _row(self, log: NumberedLog, read: Read) -> moments.Row:
        known = len(self._items)

        def finding(kind: Kind, detail: str, i: int) -> Finding:
            item = int(log.item[i])
            return Finding(
                kind,
                detail,
                item_id=self._items.id(item) if item < known else read.unknown[item - known],
                user_id=read.users[log.user[i]],
                file=self._file,
                row=int(log.number[i]),
            )

        return finding

    def _distinct(self, log: NumberedLog, users: list[str]) -> NumberedLog:
        """A block without its exact repetitions, which are reported."""
        repeated = repetitions(log)
        if not len(repeated):
            return log

        def finding(i: int) -> Finding:
            when = "" if log.micros is None else f" at {moments.written(int(log.micros[i]))}"
            return Finding(
                kinds.DUPLICATE,
                f"the same user, item and event{when} as a row before",
                item_id=self._items.id(int(log.item[i])),
                user_id=users[log.user[i]],
                file=self._file,
                row=int(log.number[i]),
            )

        self._found.each(kinds.DUPLICATE, repeated, finding)
        return log.chosen(np.delete(np.arange(len(log)), repeated))
