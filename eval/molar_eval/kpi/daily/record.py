"""The days of an event log in figures; what is sealed is kept beside the log and made anew where it is missing.

``events/figures/DAY.parquet`` has the counts by item of a day, and its figures with the names of the sealed files that
they are of: those of the day, and of the days before in which lists may have shown what was taken. Lines that are not
sealed yet are read each time.
"""

import json
import os
import threading
from contextlib import suppress
from datetime import date, timedelta
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from molar_eval.kpi.daily.attribution import COLUMNS, IMPRESSION, OF_PEOPLE, WINDOW, DayFacts, day_facts
from molar_eval.kpi.daily.figures import DayFigures
from molar_eval.kpi.lines import by_item
from molar_retrieval.data.event_log_reader import SCHEMA, EventLogSnapshot, opened
from molar_retrieval.data.event_parsing import IDENTIFY
from molar_retrieval.data.event_store import DAY, FIGURES, KIND
from molar_retrieval.privacy.pseudonyms import StoredName
from molar_retrieval.workspace.artefacts import Workspace

_FORMAT = 1
_ABOUT = b"molar"
_MOST_LATELY = 128
_LATELY_MADE = threading.Lock()
_lately: dict[tuple[object, ...], DayFacts] = {}  # of days that are not sealed, the last used last


def daily(workspace: Workspace, days: int, until: int) -> list[DayFacts]:
    """The facts of as many days, the last of them ``until`` (days since 1970), oldest first; empty ones without a log.

    Who is which user is as the log knew it at the end of each day.
    """
    wanted = range(until - days + 1, until + 1)
    with opened(workspace) as state:
        if state is None:
            return [DayFacts.empty(day) for day in wanted]
        record = _Record(workspace.root / KIND, state, wanted)
        return [record.facts(day) for day in wanted]


class _Record:
    def __init__(self, folder: Path, state: EventLogSnapshot, wanted: range) -> None:
        self._state, self._folder = state, folder / FIGURES
        self._sealed = state.sealed(wanted.start - WINDOW)
        self._open = state.unsealed(wanted.start - WINDOW, OF_PEOPLE)
        self._identified = _identified(state)
        new = [day for day in wanted if self._is_open(day) and self._key(day) not in _lately]
        self._read = _of_database(state, new[0], new[-1]) if new else {}

    def facts(self, day: int) -> DayFacts:
        """Those of a day; kept where all that they are of is sealed."""
        if not self._sealed.get(day) and day not in self._open:
            return DayFacts.empty(day)
        if self._is_open(day):
            return self._of_now(day)
        key = json.dumps([_FORMAT, *chain.from_iterable(self._sealed.get(one, ()) for one in _window(day))])
        path = self._folder / f"{date(1970, 1, 1) + timedelta(days=day)}.parquet"
        if (kept := _read(path, key)) is not None:
            return kept
        facts = self._made(day)
        with suppress(OSError):  # a workspace on read-only media: it is made again the next time
            _write(path, key, facts)
        return facts

    def _is_open(self, day: int) -> bool:
        """Whether not all that the facts of a day are of is sealed."""
        return any(one in self._open for one in _window(day))

    def _key(self, day: int) -> tuple[object, ...]:
        """What changes when lines come, of a day or of those before, or it is told who somebody is."""
        lines = ((self._sealed.get(one), self._open.get(one)) for one in _window(day))
        return (str(self._folder), day, len(self._identified), *lines)

    def _of_now(self, day: int) -> DayFacts:
        """Those of a day whose lines are not all sealed; made anew where lines came."""
        key = self._key(day)
        found = _lately.get(key) or self._made(day)
        with _LATELY_MADE:
            _lately.pop(key, None)
            _lately[key] = found
            while len(_lately) > _MOST_LATELY:
                del _lately[next(iter(_lately))]
        return found

    def _made(self, day: int) -> DayFacts:
        earlier = (self._lines(one, (IMPRESSION,)) for one in reversed(_window(day)[:-1]))
        known = {session: user for session, (user, since) in self._identified.items() if since < (day + 1) * DAY}
        return day_facts(day, self._lines(day, OF_PEOPLE), earlier, known)

    def _lines(self, day: int, kinds: tuple[str, ...]) -> pa.Table:
        """The lines of a day, sealed or not."""
        files = chain.from_iterable(self._state.of_sealed(name, COLUMNS, kinds) for name in self._sealed.get(day, ()))
        if day in self._open and day not in self._read:
            self._read |= _of_database(self._state, day, day)
        return by_item(self._state, pa.concat_tables([*files, self._read.get(day, _nothing())]))


def _window(day: int) -> range:
    """The days that the facts of a day are of."""
    return range(day - WINDOW, day + 1)


def _nothing() -> pa.Table:
    return pa.schema([SCHEMA.field(name) for name in COLUMNS]).empty_table()


def _of_database(state: EventLogSnapshot, first: int, last: int) -> dict[int, pa.Table]:
    """The lines of people that are not sealed yet, of some days."""
    where = f"WHERE timestamp >= ? AND timestamp < ? AND event IN ({', '.join('?' * len(OF_PEOPLE))})"
    tables = state.of_database(COLUMNS, where, [first * DAY, (last + 1) * DAY, *OF_PEOPLE])
    lines = pa.concat_tables([_nothing(), *tables])
    days = lines["timestamp"].cast(pa.int64()).to_numpy() // DAY
    return {int(day): lines.filter(pa.array(days == day)) for day in np.unique(days)}


def _identified(state: EventLogSnapshot) -> dict[StoredName, tuple[StoredName, int]]:
    """Which user a session is, and since when, by session id; the first line that arrived counts."""
    columns = ("session_id", "user_id", "timestamp")
    found: dict[StoredName, tuple[StoredName, int]] = {}
    for table in state.of_database(columns, f"WHERE event = '{IDENTIFY}' ORDER BY seq"):
        since = table["timestamp"].cast(pa.int64()).to_pylist()
        for session, *told in zip(table["session_id"].to_pylist(), table["user_id"].to_pylist(), since, strict=True):
            found.setdefault(session, (told[0], told[1]))
    return found


def _read(path: Path, key: str) -> DayFacts | None:
    """Kept facts; None where there are none, or they are of other files."""
    try:
        table = pq.read_table(path, use_threads=False)
        about = json.loads((table.schema.metadata or {}).get(_ABOUT, b"{}"))
        if about.get("key") != key:
            return None
        return DayFacts(DayFigures.of_dict(about["figures"]), table.replace_schema_metadata())
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):  # it is made anew
        return None


def _write(path: Path, key: str, facts: DayFacts) -> None:
    about = json.dumps({"key": key, "figures": facts.figures.to_dict()})
    path.parent.mkdir(exist_ok=True)
    own = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    pq.write_table(facts.items.replace_schema_metadata({_ABOUT: about}), own, compression="zstd")
    own.replace(path)
