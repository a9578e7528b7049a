"""To which items of the catalogue the places of lists went: how many are shown at all, how evenly, and how many new."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_eval.kpi.daily.attribution import DayFacts
from molar_eval.metrics.whole_run import concentration
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import LOG_FILE
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace.artefacts import Workspace

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
