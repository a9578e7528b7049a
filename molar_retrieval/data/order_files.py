"""Order lines: a file in the format of the catalogue's interactions log, as events.

A shop's system exports what was bought today in the columns, encoding, times and numbers of the log that it exported
before, and ``catalog.toml`` describes that format once for both. Each row is the event of an order line, whose id is
made of what the row says, so that a file that comes again, or overlaps with another one, adds nothing twice.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_retrieval.columns import ITEM_ID
from molar_retrieval.data import column_names
from molar_retrieval.data.event_log import AppendResult
from molar_retrieval.data.event_parsing import FieldError, event_type, field_of, parse_event
from molar_retrieval.data.interaction_reader import (
    KNOWN_COLUMNS,
    OrderStatus,
    as_floats,
    signs_of_numbers,
    written_numbers,
)
from molar_retrieval.data.readers import JsonLinesReader, TableReader
from molar_retrieval.data.rows import Mask, Rejects, RowBatch
from molar_retrieval.data.schema import FILE_NAME, CatalogueConfig, columns_by_role, find_table, open_source
from molar_retrieval.data.times import TimeParser
from molar_retrieval.data.values import as_strings, is_string, shown
from molar_retrieval.data.variants import present_values
from molar_retrieval.errors import DataError
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.workspace import fingerprint

_BATCH = 65_536
_JSON = JsonLinesReader.form
_NEEDED = ("user_id", "item_id", "timestamp")
_TEXTS = ("user_id", "item_id", "event", "order_id")
_NUMBERS = ("quantity", "price", "value")
_NO_TIME = f"correct it; {FILE_NAME} says how times are written: [interactions] time_format"
_NEGATIVE = "append returns as events of the kind return, with the order's id as transaction_id"
_KNOWN = {role: names for role, names in KNOWN_COLUMNS.items() if role not in ("position", "weight")} | {
    "order_id": column_names.ORDER_ID,
    "quantity": column_names.QUANTITY,
    "price": column_names.PRICE,
    "value": ("value",),
}
_AS_CALLED = ("session_id", "request_id", "list_id", "arm")
"""Fields of events that are read where a column has their name; ``catalog.toml`` does not name them."""
_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def order_lines(path: Path, catalogue: Callable[[], Path], names: Pseudonymiser) -> "OrderFile | None":
    """The order lines of a file in the format of a catalogue's log; None where its rows are events as they stand.

    Args:
        path: The file.
        catalogue: Says the catalogue's folder, where it has to be known.
        names: What people are called in the workspace.

    Raises:
        DataError: If the file cannot be read, or has neither the columns of events nor those of the log.
    """
    if (plain := _opened(path, None)) is not None and _fields(plain) >= {"event", "event_id"}:
        return None
    folder = catalogue()
    settings = CatalogueConfig.read(folder)
    encoding = settings.interactions.encoding
    source = _opened(path, encoding) or open_source(path, encoding)  # which says what is wrong
    fields, described = _fields(source), bool(settings.interactions.model_fields_set)
    if "event" in fields and fields & ({"event_id"} if described else {"event_id", "transaction_id"}):
        return None
    columns, missing = _columns(settings, source)
    of_events = "event" in fields
    if not missing and not (of_events and source.form == _JSON):
        return OrderFile(source, settings, columns, names, folder)
    if of_events or source.form == _JSON:
        return None
    words = f"{path} has no column of the kind of event, and none of {' or '.join(missing)}"
    raise DataError(
        f"{words}; its columns are {', '.join(source.names)[:400]}",
        f"write it in the format of the interactions that {FILE_NAME} describes, name its columns there"
        f' ([interactions] {missing[0]} = "…"), or write events (docs/events.md)',
    )


def _opened(path: Path, encoding: str | None) -> TableReader | None:
    """The reader of a file, by its byte order mark or an encoding; None where its column names cannot be read so."""
    with path.open("rb") as file:
        begin = file.read(3)
    mark = next((one for start, one in _MARKS.items() if begin.startswith(start)), None)
    try:
        return open_source(path, mark or encoding or "utf-8")
    except DataError:
        return None


def _fields(source: TableReader) -> set[str]:
    """The fields of events that columns are called like; in a table, ``name`` may be that of a product."""
    found = {name: field for name in source.names if (field := field_of(name))}
    if source.form != _JSON and "event_id" not in found.values():
        found = {name: field for name, field in found.items() if name.strip().lower() != "name"}
    return set(found.values())


def _columns(settings: CatalogueConfig, source: TableReader) -> tuple[dict[str, str], list[str]]:
    """The column of each role, and what is needed and not there.

    A DataError names a column that ``catalog.toml`` names and the file lacks, where it has all that is needed.
    """
    asked = settings.interactions
    known = {**_KNOWN, "item_id": (*_KNOWN["item_id"], settings.items.item_id or ITEM_ID)}
    named = {role: column for role in _NEEDED if (column := getattr(asked, role))}
    if missing := [f"{role} ({column!r})" for role, column in named.items() if column not in source.names]:
        return {}, missing
    found = columns_by_role(asked, known, source, "interactions", ())
    return found, [role for role in _NEEDED if role not in found]


class _Line(NamedTuple):
    """A row that can be used: its number, a digest of what tells it from others, and the event without an id."""

    number: int
    identity: str
    event: dict[str, Any]

    @property
    def short(self) -> int:
        """The first bytes of the identity."""
        return int(self.identity[:16], 16)


class OrderFile:
    """The rows of a file of order lines, as events for :meth:`molar_retrieval.data.event_log.EventLog.append`.

    A row is told from others by kind, order, user and item, or, where there is no order, by kind, user, item and time.
    Rows that are the same in that are numbered in the order of the file. Those of one order are one event of several
    lines, since of an order an item that another event brought does not count again.
    """

    def __init__(
        self,
        source: TableReader,
        settings: CatalogueConfig,
        columns: dict[str, str],
        names: Pseudonymiser,
        folder: Path,
    ) -> None:
        self._source, self._settings, self._columns, self._names = source, settings, columns, names
        self._folder = folder
        asked = settings.interactions
        self._times = TimeParser(asked.time_unit, asked.time_format, asked.time_zone)
        self._times.look_through(self._time_columns)
        self._more = {
            field: name
            for name in source.names
            if (field := field_of(name)) in _AS_CALLED and name not in columns.values()
        }

    def events(self, report: AppendResult, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
        """Row numbers and events; ``rejects`` takes rows that are none, ``report`` those that cannot be used."""
        found, counts = np.unique(np.fromiter((one.short for one in self._lines()), np.uint64), return_counts=True)
        several, seen = set(found[counts > 1].tolist()), Counter[str]()
        together: defaultdict[str, list[_Line]] = defaultdict(list)
        for line in self._lines(report, rejects):
            event = {**line.event, "event_id": self._names.order_line(line.identity)}
            if line.short in several and "transaction_id" in event:
                together[event["event_id"]].append(line)
                continue
            if line.short in several:
                event["line"] = seen[event["event_id"]]
                seen[event["event_id"]] += 1
            yield line.number, event
        of_line = ("item_id", "quantity", "price", "value")
        for event_id, lines in together.items():  # those of one item of one order
            items = [{name: line.event[name] for name in of_line if name in line.event} for line in lines]
            whole = {name: value for name, value in lines[0].event.items() if name not in of_line}
            yield lines[0].number, {**whole, "event_id": event_id, "items": items}

    @cached_property
    def _decimal(self) -> str:
        """The decimal sign of the numbers: as the settings say, else as the numbers tell."""
        columns = [self._columns[role] for role in _NUMBERS if role in self._columns]
        said, file = self._settings.interactions.decimal, self._source.path.name
        if said is not None or not columns:
            return said or "."
        first = signs_of_numbers(self._source, columns)
        hint = f'say it in {FILE_NAME}: [interactions] decimal = "," or "."'
        doubt, signs = first.pop("", None), list(first)
        if len(signs) == 2:
            both_ways = " and ".join(map(repr, first.values()))
            raise DataError(f"{file} has numbers with a decimal point and with a decimal comma: {both_ways}", hint)
        if not signs and doubt is not None and self._settings.items.decimal is None:
            raise DataError(f"{file}: point or comma may be the decimal sign, as in {doubt!r}", hint)
        return next(iter(signs), self._settings.items.decimal or ".")

    def _time_columns(self) -> Iterator[pa.Array]:
        """The times of the file, then those of the catalogue's log: which of day and month comes first they tell."""
        column = self._columns["timestamp"]
        yield from (rows.batch[column] for rows in self._source.batches([column], _BATCH, None, [column]))
        log = find_table(self._folder, "interactions", self._settings)
        if log is not None and column in log.names and log.untyped:
            yield from (rows.batch[column] for rows in log.batches([column], _BATCH, None, [column]))

    def _lines(self, report: AppendResult | None = None, rejects: Rejects | None = None) -> Iterator[_Line]:
        """The rows that can be used; the others are refused, where somebody wants to know."""
        columns = list(dict.fromkeys([*self._columns.values(), *self._more.values()]))
        typed = {self._columns["timestamp"], *(self._columns.get(role) for role in _NUMBERS)}
        texts = columns if self._source.untyped else [name for name in columns if name not in typed]
        status = OrderStatus(self._settings.interactions, self._columns)
        for rows in status.filled(self._source.batches(columns, _BATCH, rejects, texts)):
            yield from self._of_batch(status.purchases(rows), report)
        if report is not None:
            report.excluded = status.excluded.total()

    def _of_batch(self, rows: RowBatch, report: AppendResult | None) -> Iterator[_Line]:
        batch, columns, now = rows.batch, self._columns, time.time_ns() // 1000
        micros, timed = self._times.parse(batch[columns["timestamp"]])
        numbers = {role: self._number(batch[columns[role]]) for role in _NUMBERS if role in columns}
        faults = [("timestamp", ~timed, "no time", _NO_TIME)]
        for role, (found, readable) in numbers.items():
            faults.append((role, ~readable, "no number", f"write one with the decimal sign {self._decimal!r}"))
            if role != "value":
                faults.append((role, found < 0, "negative", _NEGATIVE))
        nothing = [None] * len(rows)
        texts = [batch[columns[role]].to_pylist() if role in columns else nothing for role in _TEXTS]
        more = {field: batch[name].to_pylist() for field, name in self._more.items()}
        for place, (number, user, item, kind, order) in enumerate(zip(rows.numbers.tolist(), *texts, strict=True)):
            kind = (event_type(kind) or kind) if kind and kind.strip() else "purchase"
            order, moment = (order or "").strip(), int(micros[place])
            event = {"event": kind, "user_id": user, "item_id": item, "timestamp": moment}
            event |= {"transaction_id": order} if order else {}
            event |= {role: float(found[place]) for role, (found, _) in numbers.items() if not np.isnan(found[place])}
            try:
                for role, bad, problem, remedy in faults:
                    if bad[place]:
                        value = shown(batch[columns[role]], place)
                        raise FieldError(role, f"{columns[role]} is {value}: it is {problem}", remedy)
                parse_event(event | {"event_id": "-"}, now)
            except FieldError as error:
                if report is not None:
                    report.refuse(number, error.field, error.message, error.hint)
                continue
            event |= {field: values[place] for field, values in more.items()}
            same = [kind, order, user, item] if order else [kind, user, item, moment]
            yield _Line(number, fingerprint.of_json(same), event)

    def _number(self, array: pa.Array) -> tuple[npt.NDArray[np.float64], Mask]:
        """Numbers, NaN where there is none, and which are missing or finite ones."""
        if not is_string(array.type):
            return as_floats(array)
        found = written_numbers(as_strings(array), self._decimal)
        return found, ~present_values(array) | np.isfinite(found)
