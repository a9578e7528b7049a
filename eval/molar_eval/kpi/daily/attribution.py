"""The lines of a day made into its figures; what people did is attributed to the lists that showed it to them.

What somebody did with an item is attributed to a list if its line carries the ``request_id`` of that list, and the log
has an impression of this item in this list for the same person, at most :data:`WINDOW` days before. Clocks of pages and
servers differ, so the impression may come an hour later. Who carries no ``request_id`` is attributed to nothing: how
much of what is bought a list has caused is a question for an experiment.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_eval.kpi.daily.figures import ArmFigures, DayFigures, Outcomes, PlacementFigures
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.data.event_store import DAY
from molar_retrieval.privacy.pseudonyms import StoredName, person_keys

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
