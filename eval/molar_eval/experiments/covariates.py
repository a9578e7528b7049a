"""What users did before an experiment: past purchases, windows, covariates of CUPED."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_eval.experiments.ab_test import UnchangedOutcome, explained
from molar_eval.experiments.exposure import Population
from molar_eval.kpi.by_day import IMPRESSION, LOOKS, OF_PEOPLE, PURCHASE
from molar_eval.prices import PRICE, item_prices
from molar_retrieval import columns
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.column_names import well_known
from molar_retrieval.data.event_log_reader import EventLogSnapshot, opened
from molar_retrieval.data.event_parsing import EVENT_TYPES
from molar_retrieval.data.event_store import DAY
from molar_retrieval.data.interaction_events import with_events
from molar_retrieval.data.interaction_reader import (
    Codes,
    InteractionColumns,
    InteractionReader,
    as_floats,
    log_columns,
)
from molar_retrieval.data.interactions import RawInteractions, ordered, repetitions
from molar_retrieval.data.rows import FILE_NAME, Rejects, RowBatch
from molar_retrieval.data.schema import CatalogueConfig, find_table
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, person_keys, user_keys
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.artefacts import Workspace

QUANTITY = ("quantity", "qty", "units")
_LOOKED = (*LOOKS, IMPRESSION, "search")
"""Kinds of events by which a shop knows people who buy nothing."""
_BOUGHT = EVENT_TYPES.index(PURCHASE)
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PastPurchases:
    """Purchases of numbered people, in no order, and the days on which they came.

    Attributes:
        person: Who bought, shape (n,).
        micros: When, in microseconds since 1970, shape (n,).
        value: What it brought, shape (n,); None: there are no prices.
        visitor: Who came, once for each of their days, shape (m,).
        day: On which day, since 1970, shape (m,).
        visits_since: The first day of which it is known who came; None: of none.
        notes: What to know of how this was read.
        keys: Of each number, the key of the person.
    """

    person: Ints
    micros: Ints
    value: Floats | None
    visitor: Ints
    day: Ints
    visits_since: int | None = None
    notes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def where(self, keep: npt.NDArray[np.bool_]) -> "PastPurchases":
        """Only some of the purchases, by a mask."""
        value = None if self.value is None else self.value[keep]
        return replace(self, person=self.person[keep], micros=self.micros[keep], value=value)


def past_purchases(workspace: Workspace, progress: Progress = SILENT) -> PastPurchases:
    """Read the interactions file of a workspace's catalogue and the events beside it.

    A purchase is counted once where both have it, and not where it was taken back. It brought what its event says
    (``value``), else its price in the file, else that of its item, times the quantity, where there is one.

    Raises:
        MissingArtefactError: If the workspace has no catalogue.
        DataError: If there is no purchase of a known item, or the file has no times.
    """
    catalogue = Catalogue(*workspace["catalogue"].require())
    settings = CatalogueConfig.read(catalogue.folder)
    zone = settings.interactions.time_zone
    names, suppressed = Pseudonymiser.of(workspace.root), SuppressionList.of(workspace.root)
    file = _read(catalogue, settings, progress, names, suppressed)
    prices = item_prices(catalogue, columns.ITEM_ID if file is None else file.columns.item_id)
    with opened(workspace) as state:
        happened, keys = (None, []) if file is None else (file.log, file.keys)
        if state is not None:
            joined = with_events(happened, keys, catalogue.lookup, state, {PURCHASE: 1.0}, zone, suppressed)
            if joined is not None:
                happened, keys = joined.log, joined.users
        if happened is None or not len(happened):
            raise _nothing(catalogue)
        value = _values(happened, file, state, prices)
        visits = _Visits(keys)
        if state is not None:
            visits.read(state)
    bought, notes = _bought(happened, file)
    if not bought.any():
        raise _nothing(catalogue)
    assert happened.micros is not None
    who = happened.user.astype(np.int64)
    found = PastPurchases(who, happened.micros, value, *visits.arrays(), visits.since, notes, visits.keys)
    return found.where(bought)


def _nothing(catalogue: Catalogue) -> DataError:
    hint = "put interactions.parquet, .csv or .jsonl there, or append purchases: `molar events append FILE`"
    return DataError(f"{catalogue.folder} has no purchases of known items, by file or events", hint)


@dataclass(frozen=True, eq=False)
class _PricedFile:
    """The interactions file, ordered and without repetitions.

    Price and quantity, NaN where unknown, are those of the rows as they were read; ``log.position`` is the place in
    them.
    """

    log: RawInteractions
    keys: list[str]
    columns: InteractionColumns
    price: Floats
    quantity: Floats


@dataclass(frozen=True)
class _PricedColumns(InteractionColumns):
    """Columns of a log, with what is read of money."""

    price: str | None = None
    quantity: str | None = None


class _PricedReader(InteractionReader):
    """Reads prices and quantities as well; the position of a row in its user's history is that in the file."""

    money: tuple[list[Floats], list[Floats]]

    def batches(self, progress: Progress) -> Iterator[tuple[RowBatch, dict[str, npt.NDArray[Any]]]]:
        """See :meth:`InteractionReader.batches`."""
        self.money, count = ([], []), 0
        assert isinstance(self._columns, _PricedColumns)
        names = self._columns.price, self._columns.quantity
        for rows, values in super().batches(progress):
            size = len(values["user"])
            values["position"] = np.arange(count, count + size, dtype=np.float64)
            count += size
            for kept, name in zip(self.money, names, strict=True):
                kept.append(np.full(size, np.nan) if name is None else as_floats(rows.batch[name])[0])
            yield rows, values


def _read(
    catalogue: Catalogue,
    settings: CatalogueConfig,
    progress: Progress,
    names: Pseudonymiser,
    suppressed: SuppressionList,
) -> _PricedFile | None:
    source = find_table(catalogue.folder, "interactions", settings)
    if source is None:
        return None
    named = log_columns(settings.interactions, source, catalogue.manifest.settings["items"]["item_id"])
    if named.timestamp is None:
        hint = "an experiment goes by weeks: add the times, or name their column in catalog.toml"
        raise DataError(f"{source.path.name} has no times", hint)
    read = _PricedColumns(
        **vars(named) | {"position": None, "weight": None},
        price=well_known(PRICE, source.names),
        quantity=well_known(QUANTITY, source.names),
    )
    asked = settings.interactions
    with TemporaryDirectory(prefix="molar-") as folder, Rejects(Path(folder) / FILE_NAME) as rejects:
        chosen = catalogue.manifest.settings.get("where") is not None
        reader = _PricedReader(source, read, asked, catalogue.lookup, rejects, chosen=chosen, suppressed=suppressed)
        progress.start("reading the interactions", source.total)
        raw, ids = reader.read(progress)
        progress.finish()
    log = ordered(raw)
    log = log.without(repetitions(log))
    price, quantity = (np.concatenate([np.zeros(0), *kept]) for kept in reader.money)
    return _PricedFile(log, user_keys(names.users(ids)).to_pylist(), named, price, quantity)


def _of_file(happened: RawInteractions) -> tuple[npt.NDArray[np.bool_], Ints]:
    """Which interactions the file has, and the place of each of them among its rows as they were read."""
    of_file = np.ones(len(happened), bool) if happened.number is None else happened.number == 0
    position = np.zeros(len(happened)) if happened.position is None else happened.position
    return of_file, position[of_file].astype(np.int64)


def _bought(happened: RawInteractions, file: _PricedFile | None) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    """Which interactions are purchases, and what to know of that."""
    bought, notes = np.ones(len(happened), bool), []
    if happened.event is not None:
        bought = happened.event == _BOUGHT
        if not bought.any():
            bought[:] = True
            notes.append("no kind of event in the log is a purchase: each of its rows counts as one")
    if file is not None:
        returned = np.zeros(len(happened), bool)
        of_file, place = _of_file(happened)
        returned[of_file] = file.quantity[place] < 0
        if count := int((bought & returned).sum()):
            bought &= ~returned
            notes.append(f"{count:,} rows of the log with a negative quantity are left out, not taken off")
    return bought, tuple(notes)


def _values(
    happened: RawInteractions, file: _PricedFile | None, state: EventLogSnapshot | None, prices: Floats | None
) -> Floats | None:
    """What each interaction brought; None where nothing says so."""
    value, count = np.full(len(happened), np.nan), np.ones(len(happened))
    if file is not None:
        of_file, place = _of_file(happened)
        value[of_file], count[of_file] = file.price[place], file.quantity[place]
    if state is not None and happened.number is not None:
        _of_events(happened.number, state, value, count)
    count[np.isnan(count)] = 1.0
    of_item = np.full(len(happened), np.nan) if prices is None else prices[happened.item]
    value = np.where(np.isfinite(value) & (value >= 0), value, of_item) * count
    if not np.isfinite(value).any():
        return None
    known: Floats = np.nan_to_num(value)
    return known


def _of_events(number: Ints, state: EventLogSnapshot, value: Floats, count: Floats) -> None:
    """Write the prices and quantities of events beside those of the file, by their ascending numbers."""
    order = np.flatnonzero(number)
    seqs = number[order]
    for table in state.tables(("seq", "value", "quantity"), (PURCHASE,)) if len(seqs) else ():
        seq = table["seq"].to_numpy()
        at = np.minimum(np.searchsorted(seqs, seq), len(seqs) - 1)
        own = seqs[at] == seq
        amount, many = (as_floats(table[name].combine_chunks())[0][own] for name in ("value", "quantity"))
        many[~(many > 0)] = 1.0
        value[order[at[own]]], count[order[at[own]]] = amount / many, many


class _Visits:
    """The days on which somebody came, by the event log, whatever they did."""

    def __init__(self, keys: list[str]) -> None:
        self._codes, self._days = Codes(keys), [np.zeros((0, 2), np.int64)]
        self.since: int | None = None

    def read(self, state: EventLogSnapshot) -> None:
        identified = state.identified()
        for table in state.tables(("event", "user_id", "session_id", "timestamp"), OF_PEOPLE):
            people = person_keys(table["user_id"], table["session_id"], identified)
            known = pc.is_valid(people)
            table, people = table.filter(known), people.filter(known)
            if not len(table):
                continue
            days = table["timestamp"].cast(pa.int64()).to_numpy() // DAY
            who = self._codes.encode(pa.array(people.to_pylist(), pa.string())).astype(np.int64)
            self._days.append(np.unique(np.stack([who, days], axis=1), axis=0))
            looked = days[np.asarray(pc.is_in(table["event"], pa.array(_LOOKED)))]
            if len(looked):
                self.since = int(looked.min()) if self.since is None else min(self.since, int(looked.min()))

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each number."""
        return tuple(self._codes.rows)

    def arrays(self) -> tuple[Ints, Ints]:
        """People and days, each pair once."""
        both = np.unique(np.concatenate(self._days), axis=0)
        return both[:, 0], both[:, 1]


Metric = Literal["conversion", "revenue"]
Who = Literal["buyers", "visitors"]
METRICS: tuple[Metric, ...] = ("conversion", "revenue")
BEFORE = 26
"""Weeks before an experiment that CUPED reads; who bought in them counts where visitors are not known."""
_OF_PEOPLE, _OF_BUYERS = 0.01, 0.1  # of whom at most what is spent is cut, the fewer of both
_WEEK = 7


@dataclass(frozen=True, eq=False)
class PastOutcomes:
    """Outcomes of n people in a window, shape (n,) each, and what they did in the weeks before it.

    Attributes:
        weeks: How long the window is.
        before: Weeks before it that are read, at most :data:`BEFORE`.
        converted: Whether somebody bought, 0 or 1.
        spent: What somebody spent, large sums cut; None: there are no prices.
        bought_before: On how many days somebody bought before, large numbers cut.
        spent_before: What somebody spent before, cut likewise; None: there are no prices.
    """

    weeks: int
    before: int
    converted: Floats
    spent: Floats | None
    bought_before: Floats
    spent_before: Floats | None

    @property
    def people(self) -> int:
        """How many people."""
        return len(self.converted)

    def of(self, metric: Metric) -> tuple[Floats, Floats] | None:
        """The outcome of a metric and what CUPED takes out of it; None: it is not known."""
        if metric == "conversion":
            return self.converted, self.bought_before
        return None if self.spent is None or self.spent_before is None else (self.spent, self.spent_before)

    def baseline(self, metric: Metric) -> tuple[UnchangedOutcome, float] | None:
        """Mean and variance, and the share of the latter that CUPED takes out; None without people or prices."""
        found = self.of(metric)
        if found is None or not self.people:
            return None
        outcome, before = found
        baseline = UnchangedOutcome(float(outcome.mean()), float(outcome.var()), binary=metric == "conversion")
        return baseline, explained(outcome, before)


def first_day(past: PastPurchases) -> int:
    """The day of the first purchase, since 1970."""
    return int(past.micros.min()) // DAY


def end_of(past: PastPurchases) -> int:
    """The day after the last purchase or visit."""
    return max(int(past.micros.max()) // DAY, int(past.day.max(initial=0))) + 1


def history_weeks(past: PastPurchases, weeks: int, end: int, who: Who) -> int | None:
    """How many weeks before a window are read, at most :data:`BEFORE`; None: the log is too short for the window.

    Of buyers there must be as many weeks before it as in it; visitors must be known from its beginning on.
    """
    begin = end - _WEEK * weeks
    there = (begin - first_day(past)) // _WEEK
    if who == "visitors":
        known = past.visits_since is not None and past.visits_since <= begin
        return min(BEFORE, max(there, 0)) if known else None
    return min(BEFORE, there) if there >= weeks else None


def outcomes(past: PastPurchases, weeks: int, end: int, who: Who) -> PastOutcomes | None:
    """What people did in so many weeks before the day ``end``, since 1970; None: the log is too short.

    Of ``visitors`` who came in the window counts, of ``buyers`` who bought in the :data:`BEFORE` weeks before it. What
    is spent is cut for the hundredth of people who spend most, or a tenth of those who spend, if these are fewer.
    """
    before = history_weeks(past, weeks, end, who)
    if before is None:
        return None
    begin = end - _WEEK * weeks
    day = past.micros // DAY
    within, earlier = (day >= begin) & (day < end), (day >= begin - _WEEK * before) & (day < begin)
    if who == "buyers":
        people = np.unique(past.person[earlier])
    else:
        came = past.visitor[(past.day >= begin) & (past.day < end)]
        people = np.unique(np.concatenate([came, past.person[within]]))
    value = past.value
    return PastOutcomes(
        weeks=weeks,
        before=before,
        converted=(sums_of(people, past.person[within]) > 0).astype(np.float64),
        spent=None if value is None else cut(sums_of(people, past.person[within], value[within])),
        bought_before=cut(days_bought(people, past.person[earlier], day[earlier])),
        spent_before=None if value is None else cut(sums_of(people, past.person[earlier], value[earlier])),
    )


def sums_of(people: Ints, person: Ints, value: Floats | None = None) -> Floats:
    """What the lines of some people add up to, in the order of ``people``, who ascend."""
    if not len(people):
        return np.zeros(0)
    at = np.minimum(np.searchsorted(people, person), len(people) - 1)
    own = people[at] == person
    sums: Floats = np.bincount(at[own], None if value is None else value[own], len(people)).astype(np.float64)
    return sums


def days_bought(people: Ints, person: Ints, day: Ints) -> Floats:
    """On how many days each bought."""
    pairs = np.unique(np.stack([person, day], axis=1), axis=0)
    return sums_of(people, pairs[:, 0])


def cut(sums: Floats) -> Floats:
    """Without the rare large ones, of which an experiment would hang: no sum is above the quantile."""
    positive = float(np.mean(sums > 0)) if len(sums) else 0.0
    if not positive:
        return sums
    cut: Floats = np.minimum(sums, np.quantile(sums, 1 - min(_OF_PEOPLE, _OF_BUYERS * positive)))
    return cut


_KEPT = 4  # experiments whose people's past is kept in memory


@dataclass(frozen=True, eq=False)
class PastOfPeople:
    """What n people did in the :data:`BEFORE` weeks before an experiment, shape (n,); large figures are cut.

    Attributes:
        days: On how many days each bought.
        spent: What each spent; None: there are no prices.
    """

    days: Floats
    spent: Floats | None

    def of(self, metric: str) -> Floats | None:
        """What goes with a metric: of revenue what was spent, of others the days on which somebody bought."""
        return self.spent if metric == "revenue" else self.days


def past_of(people: Population, workspace: Workspace, begun: int) -> PastOfPeople | None:
    """What people bought by file and events before the experiment began; None: it is not known of anybody.

    It is read once in a process for each experiment and state of the catalogue. What comes late to a log that was read
    is left out: that makes the figures no less valid, as it is of both arms.
    """
    pointer = workspace["catalogue"].pointer
    found = None if pointer is None else _purchases(workspace.root, pointer, begun)
    if found is None:
        return None
    keys, days, spent = found
    rows = keys.rows(people.keys.array)
    known = rows >= 0
    if not known.any():
        return None
    of_days, of_money = (None if each is None else cut(np.where(known, each[rows], 0.0)) for each in (days, spent))
    assert of_days is not None
    return PastOfPeople(of_days, of_money)


@lru_cache(maxsize=_KEPT)
def _purchases(root: Path, catalogue: str, begun: int) -> tuple[IdMap, Floats, Floats | None] | None:
    """Who bought in the weeks before a moment, on how many days and for how much."""
    try:
        past = past_purchases(Workspace(root))
    except DataError:  # nobody bought anything, or nobody knows when
        return None
    day = past.micros // DAY
    earlier = (past.micros < begun) & (day >= begun // DAY - 7 * BEFORE)
    who = np.unique(past.person[earlier])
    if not len(who):
        return None
    days = days_bought(who, past.person[earlier], day[earlier])
    spent = None if past.value is None else sums_of(who, past.person[earlier], past.value[earlier])
    return IdMap([past.keys[number] for number in who.tolist()]), days, spent
