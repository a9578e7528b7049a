"""What of a generation goes to a device: what ranks its items and names them, and nothing of anybody who took them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from molar_indexes.answerer import Answerer
from molar_indexes.constraints import Constraints
from molar_indexes.device.rules import shaping_rules
from molar_indexes.sessions import SessionReader
from molar_retrieval import columns
from molar_retrieval.errors import DataError
from molar_retrieval.models.repeat_consumption import REPEAT_CONSUMPTION
from molar_retrieval.models.towers.inference import HistoryReading, LightEnsemble, NumpyTower, UserEncoder
from molar_retrieval.ranking.index_protocol import StoredItem
from molar_retrieval.ranking.item_store import ItemStore
from molar_retrieval.ranking.objectives import ARRIVING, VISIT
from molar_retrieval.ranking.query import Query
from molar_retrieval.ranking.reranker import Reranker
from molar_retrieval.workspace.tensors import Array, Mask

if TYPE_CHECKING:
    from molar_retrieval.ranking.query import ResolvedQuery

MOST_ITEMS = 20_000
"""Items of a shop that a device is given: all are scored for every list, and all are loaded before the first one."""


@dataclass(frozen=True, eq=False)
class DeviceContents:
    """What a device is given.

    Attributes:
        tensors: All numbers of items, by name; n rows each where they are of items.
        facts: How these are read, JSON-able.
        towers: Those of the user encoder that count.
        ids: Of the items by row; empty where no item has the row, or one that nobody had and that may not come.
        payload: Attributes of the items by name, None where one has none; the title among them.
        left_out: What the server heeds and the device does not, in sentences.
    """

    tensors: Mapping[str, Array]
    facts: Mapping[str, Any]
    towers: Mapping[str, NumpyTower | LightEnsemble]
    ids: Sequence[str]
    payload: Mapping[str, Sequence[Any]]
    left_out: Sequence[str]


def gather(answerer: Answerer, fields: Sequence[str], rerank: bool, now: datetime) -> DeviceContents:
    """All that an answer to a session reads, as it is ``now``.

    Args:
        answerer: What answers.
        fields: Attributes that are shown beside the title.
        rerank: Whether what the second stage reads is among it.
        now: From when on an item may be shown that is on sale by then.

    Raises:
        DataError: If there are more than :data:`MOST_ITEMS`.
        RequestError: If there is no such field.
        SettingsError: If the rules are wrong.
    """
    generation, (constraints, state) = answerer.generation, answerer.present()
    ranker, encoder = answerer.ranker, SessionReader(answerer.workspace, generation).encoder
    store, second = ranker.store, ranker.reranker if rerank else None
    if len(store) > MOST_ITEMS:
        raise DataError(
            f"the shop has {len(store):,} items, more than the {MOST_ITEMS:,} that a device is given: it loads all of"
            " them, and scores all of them for a list",
            "answer with `molar serve`, or export a shop of the items that people of a device can have",
        )
    if encoder.own:
        raise DataError(
            f"a device cannot run a model of your own: {', '.join(encoder.own)}",
            "answer with `molar serve`, or leave [align] models empty",
        )
    for name in fields:
        constraints.check_field(name)
    request = constraints.for_user(constraints.request(Query(explore=False), state.items, now), state.items, None)
    shown = _shown(store, request)
    if request.where is not None:
        rows = np.flatnonzero(shown)
        shown[rows] = ranker.fulfilling(request.where, rows)
    told = shown | store.known
    stored = state.items.index.fetch(np.flatnonzero(told).tolist())
    rules, shaping = shaping_rules(request, ranker, [item for item in stored if shown[item.row]], len(store))
    popular = {"popular": np.array([row for row, _ in generation.popular if shown[row]], np.int32)}
    left_out = _left_out(constraints)
    if second is None and ranker.reranker is not None:
        left_out.append("the second stage: lists are those of rerank=False")
    return DeviceContents(
        tensors=_tensors(store, encoder, second, shown, told) | shaping | popular,
        facts=_facts(store, encoder)
        | {"arriving": generation.aims.get(ARRIVING.name), "visit": VISIT}
        | {"places": generation.places, "second_stage": None if second is None else second.parts, "rules": rules},
        towers={name: tower for name, tower in encoder.towers.items() if name in encoder.parts},
        ids=[item_id if told[row] else "" for row, item_id in enumerate(generation.table.item_ids())],
        payload=_payload(stored, len(store), fields),
        left_out=left_out,
    )


def _tensors(
    store: ItemStore, encoder: UserEncoder, second: Reranker | None, shown: Mask, told: Mask
) -> dict[str, Array]:
    """What ranks items; of those that are not told there are zeros."""
    own = _items(store, shown) | _reading(encoder) | ({} if second is None else _read_by_second_stage(store))
    found = {name: _without(values, ~told) for name, values in own.items()} | _partners(store)
    return found if second is None else found | {f"second.{n}": values for n, values in second.to_tensors().items()}


def _facts(store: ItemStore, encoder: UserEncoder) -> dict[str, Any]:
    return {
        "parts": {name: list(span) for name, span in store.parts.items()},
        "sparse_parts": {name: list(span) for name, span in store.sparse_parts.items() if name != REPEAT_CONSUMPTION},
        "factors": dict(store.factors),
        "encoder": _described(encoder),
    }


def _shown(store: ItemStore, request: "ResolvedQuery") -> Mask:
    """Which items may come, but for conditions."""
    shown = store.known | store.cold
    hidden = np.fromiter(request.hidden, np.int64, len(request.hidden))
    shown[hidden[hidden < len(store)]] = False
    return shown


def _items(store: ItemStore, shown: Mask) -> dict[str, Array]:
    """What every item is scored by beside its partners."""
    marks = {"known": store.known, "cold": store.cold, "shown": shown}
    return {"dense": store.dense} | {name: np.asarray(mark, np.uint8) for name, mark in marks.items()}


def _partners(store: ItemStore) -> dict[str, Array]:
    """The sparse vectors by dimension, each with the items that have it; how many people stand behind them stays."""
    own = store.sparse
    starts, items = own.starts.astype(np.int32), own.items.astype(np.uint16)
    return {"partners.starts": starts, "partners.items": items, "partners.values": own.values}


def _reading(encoder: UserEncoder) -> dict[str, Array]:
    """The vectors in which the user encoder reads items."""
    rows = np.arange(len(encoder.features))
    found = {f"tower.{name}": encoder.vectors(name, rows) for name in encoder.towers if name in encoder.parts}
    return found if encoder.taste is None else found | {"taste": encoder.taste[0]}


def _read_by_second_stage(store: ItemStore) -> dict[str, Array]:
    return {"content": store.content, "cf": store.cf, "numbers": store.numbers}


def _without(values: Array, rows: Mask) -> Array:
    """The same with zeros in some rows."""
    if not rows.any():
        return values
    emptied = np.array(values)
    emptied[rows] = 0
    return emptied


def _described(encoder: UserEncoder) -> dict[str, Any]:
    """How histories are read."""
    return {
        "parts": list(encoder.parts),
        "towers": {
            name: {"history": tower.history, "buckets": tower.buckets, "dim": tower.dim}
            for name, tower in encoder.towers.items()
            if name in encoder.parts
        },
        "taste": None if encoder.taste is None else _powers(encoder.taste[1]),
        "partners": [{"powers": _powers(one), "fade": one.fade} for one in encoder.reads],
    }


def _powers(reading: HistoryReading) -> list[float] | None:
    """How much the last item of a history counts, the one before and so on; None: all alike.

    They are told as they are, so that no other power function rounds them otherwise.
    """
    if reading.decay is None or reading.last is None:
        return None
    powers: list[float] = np.power(reading.decay, np.arange(reading.last)).tolist()
    return powers


def _payload(stored: Sequence[StoredItem], count: int, fields: Sequence[str]) -> dict[str, list[Any]]:
    names = list(dict.fromkeys([columns.TITLE, *fields]))
    found: dict[str, list[Any]] = {name: [None] * count for name in names}
    for item in stored:
        for name in names:
            found[name][item.row] = item.payload.get(name)
    return found


def _left_out(constraints: Constraints) -> list[str]:
    """Rules for some people only."""
    rules = constraints.rules
    if rules is None:
        return []
    people = sum(segment is not None for segment in rules.segments)
    return [f"rules for some people, as a device knows nobody: {people:,}"] if people else []
