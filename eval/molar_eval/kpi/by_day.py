"""Key figures by day from the event log: visits, attribution, exposure.

What somebody did with an item is attributed to a list if its line carries the ``request_id`` of that list, and the log
has an impression of this item in this list for the same person, at most :data:`WINDOW` days before. Clocks of pages and
servers differ, so the impression may come an hour later. Who carries no ``request_id`` is attributed to nothing: how
much of what is bought a list has caused is a question for an experiment.

``events/figures/DAY.parquet`` has the counts by item of a day, and its figures with the names of the sealed files that
they are of: those of the day, and of the days before in which lists may have shown what was taken. Lines that are not
sealed yet are read each time.
"""

import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import date, timedelta
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_eval.metrics import concentration
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.event_log_reader import SCHEMA, EventLogSnapshot, opened
from molar_retrieval.data.event_parsing import IDENTIFY
from molar_retrieval.data.event_store import DAY, FIGURES, KIND
from molar_retrieval.data.interactions import LOG_FILE
from molar_retrieval.data.variants import FILE_NAME, VariantFile
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.pseudonyms import StoredName, person_keys
from molar_retrieval.workspace.artefacts import Workspace

HOLDOUT = "holdout"
"""The arm of an experiment whose people see no lists of molar."""


class _Sums:
    """Counts that are added name by name."""

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """All of them together."""
        found = list(parts)
        return cls(**{one.name: sum(getattr(part, one.name) for part in found) for one in fields(cls)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Outcomes(_Sums):
    """What people did with items, by lines of the log.

    Attributes:
        looks: Clicks and views.
        carts: What was put into a cart.
        purchases: What was bought, a line for each item of an order.
        revenue: Sum of the values of these, in the shop's currency; returns are not taken off.
        priced: Purchases that have a value.
    """

    looks: int = 0
    carts: int = 0
    purchases: int = 0
    revenue: float = 0.0
    priced: int = 0


@dataclass(frozen=True)
class PlacementFigures:
    """Lists of one placement, and what is attributed to them.

    Attributes:
        lists: Lists that were shown.
        places: Items on them.
        used: Lists of which something was looked at, put into a cart or bought on the day itself.
        attributed: What people did with what these lists showed, whenever the list was shown.
    """

    lists: int = 0
    places: int = 0
    used: int = 0
    attributed: Outcomes = Outcomes()

    @classmethod
    def total(cls, parts: Iterable["PlacementFigures"]) -> "PlacementFigures":
        """All of them together."""
        found = list(parts)
        counts = {name: sum(getattr(part, name) for part in found) for name in ("lists", "places", "used")}
        return cls(**counts, attributed=Outcomes.total(part.attributed for part in found))


@dataclass(frozen=True)
class ArmFigures(_Sums):
    """People of one arm of an experiment; whoever has two on a day is in none.

    Attributes:
        people: Who came; over several days, each counts once a day.
        buyers: Who of them bought something.
        purchases: What they bought.
        revenue: For how much.
    """

    people: int = 0
    buyers: int = 0
    purchases: int = 0
    revenue: float = 0.0


@dataclass(frozen=True)
class DayFigures:
    """What the event log says of a day (UTC), or of several days together.

    Attributes:
        day: Days since 1970; of several days, the first.
        people: Who came: users, or sessions that are no user's; over several days, each counts once a day.
        buyers: Who of them bought something.
        everything: What people did, however they came to it.
        returns: What came back.
        placements: Lists and what is attributed to them, by the placement where one is known, else under ``""``.
        arms: People by the arm of an experiment.
    """

    day: int
    people: int = 0
    buyers: int = 0
    everything: Outcomes = Outcomes()
    returns: int = 0
    placements: Mapping[str, PlacementFigures] = field(default_factory=dict)
    arms: Mapping[str, ArmFigures] = field(default_factory=dict)

    @property
    def date(self) -> date:
        """The day."""
        return date(1970, 1, 1) + timedelta(days=self.day)

    @property
    def shown(self) -> PlacementFigures:
        """All lists, wherever they were shown."""
        return PlacementFigures.total(self.placements.values())

    @property
    def is_empty(self) -> bool:
        """Whether nobody came and nothing was shown."""
        return not self.people

    @classmethod
    def total(cls, days: Iterable["DayFigures"]) -> "DayFigures":
        """Several days together."""
        found = list(days)
        counts = {name: sum(getattr(day, name) for day in found) for name in ("people", "buyers", "returns")}
        everything = Outcomes.total(day.everything for day in found)
        placements = {k: PlacementFigures.total(v) for k, v in _by_name(day.placements for day in found).items()}
        arms = {k: ArmFigures.total(v) for k, v in _by_name(day.arms for day in found).items()}
        first = min((day.day for day in found), default=0)
        return cls(first, **counts, everything=everything, placements=placements, arms=arms)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def of_dict(cls, told: Mapping[str, Any]) -> Self:
        """From what :meth:`to_dict` gave; a TypeError or KeyError where it is something else."""
        placements = {
            name: PlacementFigures(**{**one, "attributed": Outcomes(**one["attributed"])})
            for name, one in told["placements"].items()
        }
        arms = {name: ArmFigures(**one) for name, one in told["arms"].items()}
        return cls(**{**told, "everything": Outcomes(**told["everything"]), "placements": placements, "arms": arms})


def _by_name(tables: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for table in tables:
        for name, one in table.items():
            found[name].append(one)
    return dict(sorted(found.items()))


WINDOW = 7
"""Days between an impression and what is attributed to it."""
COLUMNS = (
    *("event", "user_id", "session_id", "item_id", "timestamp", "value", "list_id", "request_id", "arm"),
    *("event_id", "seq"),
)
"""Columns of the log that are read."""
OF_PEOPLE = (
    *("purchase", "add_to_cart", "view", "click", "impression", "remove_from_cart", "return", "rating", "search"),
)
"""Kinds of lines that say that somebody came."""
LOOKS, CART, PURCHASE, IMPRESSION = ("click", "view"), "add_to_cart", "purchase", "impression"
TAKEN = (*LOOKS, CART, PURCHASE)
_COUNTED = {"looks": LOOKS, "carts": (CART,), "purchases": (PURCHASE,)}
CLOCKS = DAY // 24
"""Microseconds by which a list may seem to be shown after what came of it."""
_BETWEEN = "\0"  # no id has it
_PERSON = "person"
_ITEMS = pa.schema(
    [(ITEM_ID, pa.string()), *((name, pa.int64()) for name in ("places", "looks", "carts", "purchases")),
     ("revenue", pa.float64())]
)  # fmt: skip
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DayFacts:
    """The figures of a day, and what they are by item: how often it was shown, looked at, … in the columns of a table.

    ``items`` has the columns ``item_id``, ``places``, ``looks``, ``carts``, ``purchases``, ``revenue``, a row for each
    item that occurs.
    """

    figures: DayFigures
    items: pa.Table

    @classmethod
    def empty(cls, day: int) -> "DayFacts":
        """A day of which the log has nothing."""
        return cls(DayFigures(day), _ITEMS.empty_table())


def day_facts(
    day: int, lines: pa.Table, earlier: Iterable[pa.Table], identified: Mapping[StoredName, StoredName] | None = None
) -> DayFacts:
    """What the lines of a day come to.

    Args:
        day: Days since 1970.
        lines: Those of the day, of the kinds :data:`OF_PEOPLE`, with the columns :data:`COLUMNS`.
        earlier: Those of days before, the latest first, at least their impressions; read as far as they are needed.
        identified: Which user a session is, by session id.
    """
    if not len(lines):
        return DayFacts.empty(day)
    known = _with_people(lines.sort_by([("timestamp", "ascending"), ("seq", "ascending")]), identified)
    shown = _impressions(known)
    done = known.filter(pc.is_in(known["event"], pa.array(TAKEN)))
    attributed = _Attributed(done)
    attributed.explain(shown)
    used = pc.unique(pc.drop_null(done["request_id"].filter(pa.array(attributed.found))))
    for table in earlier:  # only read for lists that the day itself has not shown
        if not len(lists := attributed.open_lists):
            break
        table = table.filter(pc.and_(pc.equal(table["event"], IMPRESSION), pc.is_in(table["request_id"], lists)))
        attributed.explain(_with_people(table, identified))
    bought = done.filter(pc.equal(done["event"], PURCHASE))
    figures = DayFigures(
        day=day,
        people=len(pc.unique(known[_PERSON])),
        buyers=len(pc.unique(bought[_PERSON])),
        everything=_outcomes(done),
        returns=int(np.count_nonzero(_is(known, "return"))),
        placements=_placements(shown, used, attributed),
        arms=_arms(known, bought),
    )
    return DayFacts(figures, _by_item(shown, done))


def _with_people(lines: pa.Table, identified: Mapping[StoredName, StoredName] | None) -> pa.Table:
    people = person_keys(lines["user_id"], lines["session_id"], identified)
    return lines.append_column(_PERSON, people)


def _is(lines: pa.Table, *kinds: str) -> Mask:
    found: Mask = pc.is_in(lines["event"], pa.array(kinds)).to_numpy().astype(bool)
    return found


def _impressions(lines: pa.Table) -> pa.Table:
    """The first line of each item of each list, with the list as ``list`` and the place where it was shown."""
    shown = lines.filter(pc.and_(pc.equal(lines["event"], IMPRESSION), pc.is_valid(lines["item_id"])))
    shown = shown.append_column("list", pc.coalesce(shown["request_id"], shown["event_id"]))
    numbered = shown.append_column("row", pa.array(np.arange(len(shown))))
    rows = numbered.group_by(["list", "item_id", _PERSON]).aggregate([("row", "min")])["row_min"].to_numpy()
    return shown.take(np.sort(rows))


def _keys(lines: pa.Table) -> pa.ChunkedArray:
    """Which item of which list was shown to whom; missing where the line names no list."""
    return pc.binary_join_element_wise(lines["request_id"], lines["item_id"], lines[_PERSON], _BETWEEN)


class _Attributed:
    """What people did, ``done``, and which lists brought it about.

    Attributes:
        found: Of each line, whether a list did.
        placement: Where that list was shown, ``""`` where nobody said.
    """

    def __init__(self, done: pa.Table) -> None:
        self.done = done
        self.found: Mask = np.zeros(len(done), bool)
        self.placement = np.full(len(done), "", object)
        self._keys = _keys(done)
        self._when = done["timestamp"].cast(pa.int64()).to_numpy()

    @property
    def open_lists(self) -> pa.Array:
        """Lists that lines name which are not explained yet."""
        return pc.unique(pc.drop_null(self.done["request_id"].filter(pa.array(~self.found))))

    def explain(self, shown: pa.Table) -> None:
        """Look among impressions, the first line of each item of each list coming first."""
        if not len(shown):
            return
        at = pc.fill_null(pc.index_in(self._keys, _keys(shown).combine_chunks(), skip_nulls=True), -1).to_numpy()
        since = self._when - shown["timestamp"].cast(pa.int64()).to_numpy()[at]
        new = (at >= 0) & (since >= -CLOCKS) & (since <= WINDOW * DAY) & ~self.found
        names = pc.fill_null(shown["list_id"], "").to_numpy()
        self.placement[new], self.found[new] = names[at[new]], True


def _outcomes(done: pa.Table) -> Outcomes:
    bought = done.filter(pc.equal(done["event"], PURCHASE))["value"]
    counts = {name: int(np.count_nonzero(_is(done, *kinds))) for name, kinds in _COUNTED.items()}
    return Outcomes(**counts, revenue=float(pc.sum(bought).as_py() or 0.0), priced=len(bought) - bought.null_count)


def _placements(shown: pa.Table, used: pa.Array, attributed: _Attributed) -> dict[str, PlacementFigures]:
    """Lists that were shown, and what is attributed, by placement."""
    where = pc.fill_null(shown["list_id"], "")
    names = sorted({*pc.unique(where).to_pylist(), *attributed.placement[attributed.found].tolist()})
    found = {}
    for name in names:
        here = shown.filter(pc.equal(where, name))
        lists = pc.unique(here["list"])
        own = attributed.done.filter(pa.array(attributed.found & (attributed.placement == name)))
        count = int(np.count_nonzero(pc.is_in(lists, used).to_numpy(zero_copy_only=False)))
        found[name] = PlacementFigures(len(lists), len(here), count, _outcomes(own))
    return found


def _arms(known: pa.Table, bought: pa.Table) -> dict[str, ArmFigures]:
    """People by the arm that their lines of the day name; who has two is in none."""
    named = known.filter(pc.is_valid(known["arm"]))
    arms: dict[str, set[str]] = defaultdict(set)
    for person, arm in set(zip(named[_PERSON].to_pylist(), named["arm"].to_pylist(), strict=True)):
        arms[person].add(arm)
    people: dict[str, list[str]] = defaultdict(list)
    for person, own in arms.items():
        if len(own) == 1:
            people[next(iter(own))].append(person)
    found = {}
    for arm, members in sorted(people.items()):
        own = bought.filter(pc.is_in(bought[_PERSON], pa.array(members)))
        revenue = float(pc.sum(own["value"]).as_py() or 0.0)
        found[arm] = ArmFigures(len(members), len(pc.unique(own[_PERSON])), len(own), revenue)
    return found


def _by_item(shown: pa.Table, done: pa.Table) -> pa.Table:
    """How often each item was shown, looked at, put into carts and bought, and for how much."""
    done = done.filter(pc.is_valid(done["item_id"]))
    counts: dict[str, Any] = {"places": np.r_[np.ones(len(shown), int), np.zeros(len(done), int)]}
    nothing = np.zeros(len(shown), int)
    counts |= {name: np.r_[nothing, _is(done, *kinds).astype(int)] for name, kinds in _COUNTED.items()}
    value = np.where(_is(done, PURCHASE), pc.fill_null(done["value"], 0.0).to_numpy(), 0.0)
    ids = pa.chunked_array([*shown["item_id"].chunks, *done["item_id"].chunks], pa.string())
    whole = pa.table({ITEM_ID: ids, **counts, "revenue": np.r_[nothing.astype(float), value]})
    grouped = whole.group_by(ITEM_ID).aggregate([(name, "sum") for name in _ITEMS.names[1:]])
    renamed = grouped.rename_columns([name.removesuffix("_sum") for name in grouped.column_names])
    return renamed.select(_ITEMS.names).cast(_ITEMS).sort_by(ITEM_ID)


_opened = lru_cache(maxsize=2)(VariantFile)


def by_item(state: EventLogSnapshot, table: pa.Table) -> pa.Table:
    """Lines with the id of an item in place of that of its variant, by the workspace's catalogue of now."""
    version: Path | None = Workspace(state.root)["catalogue"].current
    if version is None or not (version / FILE_NAME).exists() or "item_id" not in table.column_names:
        return table
    ids = table["item_id"].combine_chunks()
    known = pc.unique(ids.drop_null())
    items = pa.array(_opened(version / FILE_NAME).items(known.to_pylist()), pa.string())
    found = pc.coalesce(items.take(pc.index_in(ids, known)), ids)
    return table.set_column(table.column_names.index("item_id"), "item_id", found)


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


_SECONDS = 86_400
_NEVER = 2**31 - 1
Days = npt.NDArray[np.int32]


@dataclass(frozen=True)
class ItemsTaken:
    """The items of the live catalogue, and the day on which each was first taken, shape (n,), in days since 1970."""

    ids: IdMap
    first: Days


@dataclass(frozen=True)
class CatalogueExposure:
    """How places of lists were spread over a catalogue.

    Attributes:
        items: Items of the catalogue.
        shown: How many of them were shown.
        places: Places that they had.
        gini: Gini coefficient of the places of all items: 0, all equally often; near 1, one has all of them; None
            without places.
        new_places: Places of items that nobody had taken before the day on which they were shown.
    """

    items: int
    shown: int
    places: int
    gini: float | None
    new_places: int


def items_taken(workspace: Workspace) -> ItemsTaken | None:
    """When each item was first taken, by the interactions that the last update counted; None before the first one."""
    catalogue, log = workspace["catalogue"].live, workspace["interactions"].live
    if catalogue is None or log is None:
        return None
    ids = Catalogue(*catalogue).ids
    first = np.full(len(ids), _NEVER, np.int32)
    table = pq.read_table(log[0] / LOG_FILE, columns=["item", "timestamp"], use_threads=False)
    item, day = table["item"].to_numpy(), (table["timestamp"].to_numpy() // _SECONDS).astype(np.int32)
    if len(item) and int(item.max()) >= len(ids):  # an update is between its two
        return None
    np.minimum.at(first, item, day)
    return ItemsTaken(ids, first)


def exposure(days: Sequence[DayFacts], taken: ItemsTaken) -> CatalogueExposure:
    """Where the places of some days went; what is in the catalogue no more is left out."""
    counts, new = np.zeros(len(taken.ids), np.int64), 0
    for facts in days:
        rows = taken.ids.rows(facts.items[ITEM_ID])
        known, places = rows >= 0, facts.items["places"].to_numpy()
        counts += np.bincount(rows[known], places[known], len(counts)).astype(np.int64)
        new += int(places[known][taken.first[rows[known]] >= facts.figures.day].sum())
    total = int(counts.sum())
    return CatalogueExposure(
        items=len(counts),
        shown=int(np.count_nonzero(counts)),
        places=total,
        gini=concentration(counts) if total else None,
        new_places=new,
    )


def totals_by_item(days: Sequence[DayFacts]) -> pa.Table:
    """The counts of some days by item, see :class:`DayFacts`, in the order of ids."""
    whole = pa.concat_tables([DayFacts.empty(0).items, *(facts.items for facts in days)])
    names = whole.column_names[1:]
    grouped = whole.group_by(ITEM_ID).aggregate([(name, "sum") for name in names])
    renamed = grouped.rename_columns([name.removesuffix("_sum") for name in grouped.column_names])
    return renamed.select([ITEM_ID, *names]).sort_by(ITEM_ID)
