"""Exposed users of an experiment and what they did.

Only purchases, and what takes them back, are held as lines, some 60 bytes each; of all else there are sums by person.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_eval.kpi.by_day import CART, IMPRESSION, LOOKS, OF_PEOPLE, PURCHASE, by_item
from molar_eval.prices import Prices
from molar_retrieval.data.event_history import InteractionEvent, undone
from molar_retrieval.data.event_log_reader import EventLogSnapshot
from molar_retrieval.data.event_store import DAY
from molar_retrieval.data.interaction_reader import Codes
from molar_retrieval.experiments.assignment import bucket
from molar_retrieval.experiments.definition import AB, CANARY, CONTROL, EVERYBODY, TREATMENT, Experiment, Stage
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.pseudonyms import StoredName, person_keys, session_key, user_key

HOLDOUT = "holdout"
"""The source of an assignment of somebody who takes part in no experiment, and keeps the control arm to the end."""
NEVER = np.iinfo(np.int64).max
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Population:
    """People who have one arm, n of them, and how many had both.

    Attributes:
        keys: Their keys, in the order of the arrays.
        treated: Who has the treatment, shape (n,).
        first: When each was first seen, in microseconds since 1970, shape (n,).
        since: From when on the arms may differ for them, :data:`NEVER` of whom they never did, shape (n,).
        both: How many people had both arms; they are in none of the arrays.
    """

    keys: IdMap
    treated: Mask
    first: Ints
    since: Ints
    both: int

    def __len__(self) -> int:
        return len(self.treated)

    @property
    def met(self) -> Mask:
        """For whom the arms may have differed."""
        found: Mask = self.since != NEVER
        return found

    def where(self, keep: Mask) -> "Population":
        """Only some of them."""
        keys = IdMap(self.keys.array.filter(pa.array(keep)))
        return replace(self, keys=keys, treated=self.treated[keep], first=self.first[keep], since=self.since[keep])

    def counts(self, among: Mask | None = None) -> dict[str, int]:
        """How many there are of each arm."""
        chosen = self.treated if among is None else self.treated[among]
        treated = int(np.count_nonzero(chosen))
        return {CONTROL: len(chosen) - treated, TREATMENT: treated}


def population(units: pa.Table, identified: Mapping[StoredName, StoredName]) -> Population:
    """People of the units on record; sessions that turned out to be users are these users.

    Somebody with several units has the arm in which they met a difference. Who met one in both arms, or is marked as
    having done so, is counted as ``both``; where no unit met any, the first one counts.

    Args:
        units: ``unit``, ``arm``, ``first``, ``triggered``, ``both`` and ``source``, as the store has them.
        identified: Which user a session is, by session id.
    """
    keys = _people(units["unit"].to_pylist(), identified)
    encoded = pa.array(keys, pa.large_string()).dictionary_encode()
    who = np.asarray(encoded.indices).astype(np.int64)
    n = len(encoded.dictionary)
    treated = np.asarray(pc.equal(units["arm"], TREATMENT), bool)
    first = np.asarray(units["first"], np.int64)
    since = np.asarray(pc.fill_null(units["triggered"], NEVER), np.int64)
    met = since != NEVER
    marked = np.zeros(n, bool)
    marked[who[np.asarray(units["both"], bool)]] = True
    for_control, for_treatment = (np.bincount(who[met & of], minlength=n) > 0 for of in (~treated, treated))
    earliest = np.full(n, NEVER)
    np.minimum.at(earliest, who, first)
    moment = np.full(n, NEVER)
    np.minimum.at(moment, who, since)
    order = np.lexsort((first, who))  # of nobody who met a difference, the first unit counts
    begins = np.flatnonzero(np.diff(who[order], prepend=-1))
    arm = np.where(for_control | for_treatment, for_treatment, treated[order[begins]])
    both = marked | (for_control & for_treatment)
    whole = Population(IdMap(encoded.dictionary), arm, earliest, moment, int(both.sum()))
    return whole.where(~both)


def in_stage(
    found: Population, units: pa.Table, experiment: Experiment, stage: Stage, begun: int, *, canaried: bool
) -> Population:
    """Those whom a stage compares, none of them before it began.

    Where the arms of an A/B stage have unequal shares, whoever could have been in the canary is left out, as of these
    the shares were equal. When the treatment has reached everybody, those held out are the control arm, unless arms
    are assigned elsewhere, and whoever comes is compared, whether or not they met a difference.

    Args:
        found: Everybody on record.
        units: As for :func:`population`.
        experiment: Of which.
        stage: Which.
        begun: When it began.
        canaried: Whether there was a canary before.
    """
    if stage == EVERYBODY and experiment.assigned == "elsewhere":
        return replace(found, since=np.full(len(found), begun))
    if stage == EVERYBODY:
        held = pc.unique(units["unit"].filter(pc.equal(units["source"], HOLDOUT)))
        control = np.zeros(len(found), bool)
        rows = found.keys.rows(held)
        control[rows[rows >= 0]] = True
        return replace(found, treated=~control, since=np.full(len(found), begun))
    kept = replace(found, since=np.where(found.met, np.maximum(found.since, begun), NEVER))
    if not leaves_out_canary(experiment, stage, canaried=canaried):
        return kept
    draws = np.array([bucket(experiment.salt, key) for key in found.keys.array.to_pylist()])
    return kept.where((draws >= experiment.canary) & (draws < 1 - experiment.canary))


def leaves_out_canary(experiment: Experiment, stage: Stage, *, canaried: bool) -> bool:
    """Whether those who could have been in the canary are left out of a stage."""
    unequal = experiment.treated != 1 / 2 and experiment.treated > experiment.canary
    return stage == AB and canaried and unequal and experiment.assigned == "here"


def shares(experiment: Experiment, stage: Stage, *, canaried: bool) -> tuple[float, float] | None:
    """What shares of the people compared are meant to be in control and treatment; None: it is not known."""
    if stage == CANARY and experiment.assigned == "here":
        return 0.5, 0.5
    if stage != AB:
        return None
    out = experiment.canary if leaves_out_canary(experiment, stage, canaried=canaried) else 0.0
    return 1 - experiment.treated - out, experiment.treated - out


def told_elsewhere(lines: Iterable[pa.Table], name: str) -> pa.Table:
    """Units of an experiment that is assigned elsewhere: events name ``NAME:control`` or ``NAME:treatment`` as ``arm``.

    Args:
        lines: Tables with ``person``, ``timestamp`` in microseconds, and ``arm``.
        name: Of the experiment.
    """
    arms = {f"{name}:{arm}": arm for arm in (CONTROL, TREATMENT)}
    schema = pa.schema([("unit", pa.string()), ("arm", pa.string()), ("first", pa.int64())])
    parts = [schema.empty_table()]
    for table in lines:
        own = table.filter(pc.is_in(table["arm"], pa.array(list(arms))))
        grouped = own.group_by(["person", "arm"]).aggregate([("timestamp", "min")])
        parts.append(grouped.rename_columns(schema.names).cast(schema))
    grouped = pa.concat_tables(parts).group_by(["unit", "arm"]).aggregate([("first", "min")])
    found = grouped.rename_columns(schema.names)
    names = pa.array([arms[one] for one in found["arm"].to_pylist()], pa.string())
    return pa.table(
        {
            "unit": found["unit"],
            "arm": names,
            "first": found["first"],
            "triggered": found["first"],
            "both": pa.array(np.zeros(len(found), bool)),
            "source": pa.array(["elsewhere"] * len(found), pa.string()),
        }
    )


def _people(units: list[str], identified: Mapping[StoredName, StoredName]) -> list[str]:
    """The key of the person that each unit is."""
    if not identified:
        return units
    users = {session_key(session): user_key(user) for session, user in identified.items()}
    return [users.get(unit, unit) for unit in units]


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
