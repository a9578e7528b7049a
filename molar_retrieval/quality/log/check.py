"""Checks the log of a catalogue."""

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molar_retrieval.catalog.sources import find_table
from molar_retrieval.catalog.spec import CatalogueSpec
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.columns import log_columns
from molar_retrieval.interactions.order_status import OrderStatus
from molar_retrieval.interactions.suppressed import NOBODY, SuppressedPeople
from molar_retrieval.interactions.times import TimeParser, written
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.quality.collector import Collector
from molar_retrieval.quality.findings import Finding, fault
from molar_retrieval.quality.log import moments
from molar_retrieval.quality.log.days import bursts, gaps
from molar_retrieval.quality.log.read import RawReader, ReadLog
from molar_retrieval.quality.log.rows import LogRows, UserBlock, blocks
from molar_retrieval.quality.log.strangers import check_items, check_users_file
from molar_retrieval.quality.log.summary import LogSummary, resolution_of, summarise, tell_shares
from molar_retrieval.quality.log.tally import Tally


def check_log(
    folder: Path,
    spec: CatalogueSpec,
    items: IdMap,
    found: Collector,
    progress: Progress = SILENT,
    *,
    now: float | None = None,
    part: bool = False,
    suppressed: SuppressedPeople = NOBODY,
) -> LogSummary | None:
    """Check the interactions file of a catalogue, and its users file; 20 bytes of memory for each interaction.

    A log that cannot be read is a finding. ``now`` is in seconds, None: the clock's; with ``part``, the items are a
    part of the catalogue, and interactions with others are no fault. None: there is no log, or nothing of it can be
    used. ``suppressed`` people are as if they were in no file.
    """
    summary = None
    try:
        source = find_table(folder, "interactions")
        if source is not None:
            columns = log_columns(spec.interactions, source, spec.items.item_id)
            asked = spec.interactions
            times = TimeParser(asked.time_unit, asked.time_format, asked.time_zone)
            progress.start("reading the log", source.total)
            orders = OrderStatus(asked, vars(columns))
            read = RawReader(source, columns, items, times, found, suppressed, orders).read(progress)
            progress.finish()
            first, file = read.log.first_rows(len(read.users)), source.path.name
            checked = _LogCheck(file, items, read, first, found, part=part)
            summary = checked(time.time() if now is None else now)
            check_users_file(folder, spec.users, read.users, first, file, found, suppressed)
    except DataError as error:
        found.add("log.unreadable", f"{error.message}; {error.hint}")
    return summary


class _LogCheck:
    def __init__(
        self,
        file: str,
        items: IdMap,
        read: ReadLog,
        first: npt.NDArray[np.uint32],
        found: Collector,
        *,
        part: bool,
    ) -> None:
        self._file, self._items, self._read, self._found, self._part = file, items, read, found, part
        self._log, self._first = read.log, first

    def __call__(self, now: float) -> LogSummary | None:
        """Report everything; None where no row is usable."""
        log, users, found = self._log, self._read.users, self._found
        unknown = check_items(self._read, self._items, self._file, found, part=self._part)
        known_share = 1 - unknown / max(len(log), 1)
        dates, stuck = self._leave_out(now)
        if not len(log):
            found.add("log.nothing_usable", f"none of {self._read.rows:,} rows", file=self._file, amount=1.0)
            return None
        offsets = log.order_by_user(len(users))
        resolution = None if log.micros is None else resolution_of(log.micros)
        span = (int(log.micros.min()), int(log.micros.max())) if dates and log.micros is not None else None
        tally = Tally(len(users), len(self._items), span, stuck)
        duplicates = 0
        for piece in blocks(log, offsets):
            block = UserBlock.of(self._distinct(piece))
            duplicates += len(piece) - len(block.log)
            if len(block.log):
                tally.add(block)
        calendar = tally.calendar
        if calendar is not None:
            gaps(calendar, self._file, found)
            bursts(calendar, self._file, found)
        rows = self._read.rows
        summary = summarise(tally, span, resolution, rows=rows, known_share=known_share, duplicates=duplicates)
        tell_shares(summary, self._file, found)
        return summary

    def _leave_out(self, now: float) -> tuple[bool, moments.Micros]:
        """Leave out unknown items and impossible times; returns whether the times are dates, and which are none."""
        log, dates, stuck = self._log, False, np.zeros(0, np.int64)
        good = log.item < len(self._items)
        if log.micros is None and len(log):
            self._found.add("log.no_times", "no column of times", file=self._file, amount=1.0)
        if log.micros is not None and len(log):
            dates = self._read.dates
            if dates:
                good = moments.report_impossible(log.micros, good, now, self._found, self._about_row)
            else:
                words = f"most lie before 1990 when read as {self._read.times}"
                self._found.add("log.not_dates", words, file=self._file, amount=1.0)
        if not good.all():
            log.keep(good)
        if log.micros is not None and dates:
            stuck = moments.stuck(log.micros, log.number, self._file, self._found)
        return dates, stuck

    def _about_row(self, kind: str, detail: str, i: int, log: LogRows | None = None) -> Finding:
        log, known = log or self._log, len(self._items)
        item = int(log.item[i])
        item_id = self._items.id(item) if item < known else self._read.unknown[item - known]
        user_id = self._read.users[log.user[i]]
        return fault(kind, detail, item_id=item_id, user_id=user_id, file=self._file, row=int(log.number[i]))

    def _distinct(self, log: LogRows) -> LogRows:
        repeated = log.repeated()
        if not len(repeated):
            return log

        def finding(i: int) -> Finding:
            when = "" if log.micros is None else f" at {written(int(log.micros[i]))}"
            return self._about_row("log.duplicate", f"the same user, item and event{when} as a row before", i, log)

        self._found.each("log.duplicate", repeated, finding)
        return log.chosen(np.delete(np.arange(len(log)), repeated))
