"""What people of an experiment did since the arms may have differed for them: read from the event log, piece by piece.

Only purchases, and what takes them back, are held as lines, some 60 bytes each; of all else there are sums by person.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_eval.experiments.population import Population
from molar_eval.kpi.daily.attribution import CART, IMPRESSION, LOOKS, OF_PEOPLE, PURCHASE
from molar_eval.kpi.lines import by_item
from molar_eval.prices import Prices
from molar_retrieval.data.event_history import InteractionEvent, undone
from molar_retrieval.data.event_log_reader import EventLogSnapshot
from molar_retrieval.data.event_store import DAY
from molar_retrieval.data.interaction_reader import Codes
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.pseudonyms import StoredName, person_keys

RETURN = "return"
AHEAD = DAY // 24
"""Microseconds by which the clocks of pages and servers may differ."""
HOUR = DAY // 24
_COLUMNS = (
    *("event", "user_id", "session_id", "item_id", "timestamp", "quantity", "value", "request_id", "transaction_id"),
    *("arm", "received", "seq"),
)
PERSON = "person"
DEEDS = tuple(kind for kind in OF_PEOPLE if kind != IMPRESSION)
"""Kinds of lines that say what somebody did; there are many times as many of what they were shown."""
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Observed:
    """What n people did, shape (n,) each.

    Attributes:
        clicks: Items of lists that they looked at.
        carts: What they put into carts.
        purchases: What they bought and kept, a line for each item of an order.
        revenue: The value of these; None where nothing that was bought has one.
        returns: What they sent back.
        seen: Whether any of the lines is of them.
        hours: Lines of all people by hour since 1970, also of those in no arm.
        lines: How many lines people of the experiment have.
        ahead: Of them those that are later than their arrival.
        early: Of them those that name an arm before their person was first seen.
        unpriced: Purchases without a value, whose items have no price either.
    """

    clicks: Floats
    carts: Floats
    purchases: Floats
    revenue: Floats | None
    returns: Floats
    seen: Mask
    hours: dict[int, int]
    lines: int
    ahead: int
    early: int
    unpriced: int

    def of(self, metric: str) -> Floats | None:
        """A metric of each person; None where it is not known."""
        if metric == "conversion":
            return (self.purchases > 0).astype(np.float64)
        found: Floats | None = getattr(self, metric)
        return found


def lines_of_people(
    state: EventLogSnapshot,
    identified: Mapping[StoredName, StoredName],
    since: int,
    until: int,
    columns: Sequence[str] = _COLUMNS,
    kinds: Sequence[str] = OF_PEOPLE,
) -> Iterator[pa.Table]:
    """Lines of people from one moment to before another, with the key of the ``person``, in pieces and no order.

    ``timestamp`` and ``received`` are in microseconds since 1970.
    """
    for day, files in state.sealed(since // DAY).items():
        if day * DAY < until:
            for file in files:
                for table in state.of_sealed(file, columns, kinds):
                    yield _of_people(by_item(state, table), identified, since, until)
    marks = ", ".join("?" * len(kinds))
    where = f"WHERE timestamp >= ? AND timestamp < ? AND event IN ({marks})"
    for table in state.of_database(columns, where, [since, until, *kinds]):
        yield _of_people(by_item(state, table), identified, since, until)


def _of_people(table: pa.Table, identified: Mapping[StoredName, StoredName], since: int, until: int) -> pa.Table:
    for name in ("timestamp", "received"):
        if name in table.column_names:
            at = table.column_names.index(name)
            table = table.set_column(at, name, table[name].cast(pa.int64()))
    inside = pc.and_(pc.greater_equal(table["timestamp"], since), pc.less(table["timestamp"], until))
    table = table.filter(inside)
    return table.append_column(PERSON, person_keys(table["user_id"], table["session_id"], identified))


@dataclass(frozen=True)
class ItemPrices:
    """What items cost by the catalogue: ``prices`` by the row of the id in ``ids``."""

    ids: IdMap
    prices: Prices


def values_of(table: pa.Table, prices: ItemPrices | None) -> Floats:
    """What lines brought: their value, else the price of their item times the quantity; NaN where neither is known."""
    value: Floats = pc.fill_null(table["value"], np.nan).to_numpy().copy()
    lacking = ~np.isfinite(value)
    if prices is not None and lacking.any():
        row = prices.ids.rows(table["item_id"])
        quantity = pc.fill_null(table["quantity"], 1.0).to_numpy()
        price = np.where(row >= 0, prices.prices[row], 0.0) * np.where(quantity > 0, quantity, 1.0)
        value[lacking] = np.where(price > 0, price, np.nan)[lacking]
    return value


@dataclass
class _BoughtLines:
    """Purchases and what takes them back, line by line."""

    orders: Codes = field(default_factory=Codes)
    items: Codes = field(default_factory=Codes)
    requests: Codes = field(default_factory=Codes)
    parts: list[Ints] = field(default_factory=list)  # returned or bought, who, item, order, request, moment, arrival
    values: list[Floats] = field(default_factory=list)

    def add(self, table: pa.Table, who: Ints, values: Floats) -> None:
        codes = [
            of.encode(table[name]).astype(np.int64)
            for of, name in (
                (self.items, "item_id"), (self.orders, "transaction_id"), (self.requests, "request_id")
            )
        ]  # fmt: skip
        back = np.asarray(pc.equal(table["event"], RETURN), bool)
        moments = table["timestamp"].to_numpy(), table["seq"].to_numpy()
        self.parts.append(np.stack([back.astype(np.int64), who, *codes, *moments]))
        self.values.append(values)

    def kept(self) -> tuple[Ints, Floats]:
        """Of each purchase that was not taken back, once however often it was told: by whom, and what it brought."""
        rows = np.concatenate([np.zeros((7, 0), np.int64), *self.parts], axis=1)
        values = np.concatenate([np.zeros(0), *self.values])
        rows, values = _once(rows, values)
        back, (who, item, order) = rows[0].astype(bool), rows[1:4]
        gone = np.zeros(len(who), bool)
        if back.any():
            pair = who * (int(item.max()) + 2) + item + 1
            concerned = np.flatnonzero(np.isin(pair, pair[back]) | (np.isin(order, order[back]) & (order >= 0)))
            columns = rows[:5, concerned].tolist()
            events = [
                InteractionEvent(RETURN if took else PURCHASE, person, _named(one), _named(bought), _named(request))
                for took, person, one, bought, request in zip(*columns, strict=True)
            ]
            gone[concerned[sorted(undone(events))]] = True
        stay = ~gone & ~back
        return who[stay], values[stay]


def _once(rows: Ints, values: Floats) -> tuple[Ints, Floats]:
    """In the order of time and arrival, without lines that say the same of the same person, item, order and moment."""
    order = np.lexsort((rows[6], rows[3], rows[2], rows[1], rows[0], rows[5]))
    rows, values = rows[:, order], values[order]
    same = (rows[[0, 1, 2, 3, 5], 1:] == rows[[0, 1, 2, 3, 5], :-1]).all(axis=0)
    new = np.r_[np.ones(min(1, len(values)), bool), ~same]
    rows, values = rows[:, new], values[new]
    order = np.lexsort((rows[6], rows[5]))
    return rows[:, order], values[order]


def _named(code: int) -> int | None:
    return None if code < 0 else code


class _PersonSums:
    def __init__(self, people: Population, prices: ItemPrices | None, *, of_lists: bool) -> None:
        self._people, self._prices, self._of_lists = people, prices, of_lists
        n = len(people)
        self.clicks, self.carts, self.returns = np.zeros(n), np.zeros(n), np.zeros(n)
        self.seen, self.bought = np.zeros(n, bool), _BoughtLines()
        self.hours: dict[int, int] = {}
        self.lines = self.ahead = self.early = self.priced = self.unpriced = 0

    def add(self, table: pa.Table, until: int) -> None:
        moment = table["timestamp"].to_numpy()
        self._count_hours(moment[moment < until])
        who = self._people.keys.rows(table[PERSON]).astype(np.int64)
        own = who >= 0
        table, who, moment = table.filter(pa.array(own)), who[own], moment[own]
        received = pc.fill_null(table["received"], np.iinfo(np.int64).max - AHEAD).to_numpy()
        named = np.asarray(pc.is_valid(table["arm"]), bool)
        self.lines += len(table)
        self.ahead += int(np.count_nonzero(moment > received + AHEAD))
        self.early += int(np.count_nonzero(named & (moment < self._people.first[who] - AHEAD)))
        counted = (moment >= self._people.since[who]) & (moment < until)
        table, who = table.filter(pa.array(counted)), who[counted]
        self.seen[who] = True
        looks = pc.is_in(table["event"], pa.array(LOOKS))
        if self._of_lists:
            looks = pc.and_(looks, pc.is_valid(table["request_id"]))
        for sums, of in (
            (self.clicks, looks),
            (self.carts, pc.equal(table["event"], CART)),
            (self.returns, pc.equal(table["event"], RETURN)),
        ):
            sums += np.bincount(who[np.asarray(of, bool)], minlength=len(sums))
        self._buy(table, who)

    def _count_hours(self, moment: Ints) -> None:
        for hour, count in zip(*np.unique(moment // HOUR, return_counts=True), strict=True):
            self.hours[int(hour)] = self.hours.get(int(hour), 0) + int(count)

    def _buy(self, table: pa.Table, who: Ints) -> None:
        mine = np.asarray(pc.is_in(table["event"], pa.array([PURCHASE, RETURN])), bool)
        if not mine.any():
            return
        table, who = table.filter(pa.array(mine)), who[mine]
        bought = np.asarray(pc.equal(table["event"], PURCHASE), bool)
        value = values_of(table, self._prices)
        self.priced += int(np.count_nonzero(bought & np.isfinite(value)))
        self.unpriced += int(np.count_nonzero(bought & ~np.isfinite(value)))
        self.bought.add(table, who, np.nan_to_num(value))

    def observed(self) -> Observed:
        who, value = self.bought.kept()
        n = len(self._people)
        revenue = np.bincount(who, value, minlength=n).astype(np.float64)
        return Observed(
            clicks=self.clicks,
            carts=self.carts,
            purchases=np.bincount(who, minlength=n).astype(np.float64),
            revenue=revenue if self.priced else None,
            returns=self.returns,
            seen=self.seen,
            hours=self.hours,
            lines=self.lines,
            ahead=self.ahead,
            early=self.early,
            unpriced=self.unpriced,
        )


def observe(
    people: Population,
    lines: Iterable[pa.Table],
    until: int,
    *,
    prices: ItemPrices | None = None,
    of_lists: bool = True,
) -> Observed:
    """What people did from when on the arms may have differed for them, before ``until``.

    A purchase brought what its event says, else the price of its item in the catalogue times the quantity. What was
    returned is taken off the purchase that it takes back, however late it is told.

    Args:
        people: Who.
        lines: As :func:`lines_of_people` gives them. Those that claim to be later than ``until`` are counted where they
            are later than their arrival, and else left out.
        until: Up to when events count, in microseconds since 1970.
        prices: What items cost.
        of_lists: Whether only looks count that name the list they come of; else all do, as where an arm shows no lists.
    """
    sums = _PersonSums(people, prices, of_lists=of_lists)
    for table in lines:
        sums.add(table, until)
    return sums.observed()
