"""What people of a shop bought so far, who came, and when: read from its log with what each purchase brought."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_eval.kpi.daily.attribution import IMPRESSION, LOOKS, OF_PEOPLE, PURCHASE
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
