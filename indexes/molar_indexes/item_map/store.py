"""The map of a generation: made beside it, kept as an artefact of its own under the generation's name."""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_indexes.generations import Generation, open_generation
from molar_indexes.item_map.disagreements import Disagreement, judged
from molar_indexes.item_map.hidden import ImpressionCounts
from molar_indexes.item_map.layout import Places, first_map, second_map
from molar_indexes.item_map.views import NEAR, Views
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.tensors import Array, Rows, TensorsWriter, mapped

KIND = "map"
FORMAT = 3
"""Raised with every change of what a map holds."""
_ARRAYS, _FOUND = "map.safetensors", "found.json"
_KEEP = 2
_PLACED = 3  # people who took an item for it to have a place of its own by behaviour
_SCALE = 65_535
_NEIGHBOURS = 6
_TAKEN = ("click", "view", "add_to_cart", "purchase")
_FETCHED = 4096


@dataclass(frozen=True, eq=False)
class ItemMap:
    """Two maps of the n items of a generation, and where they disagree.

    Attributes:
        generation: Of which it is, by name.
        rows: The items' rows in the generation, ascending, shape (n,).
        places: Where they are by content and by behaviour: x, y, x, y from 0 to 65,535, shape (n, 4), int32.
        placed: Whether they have a place of their own by behaviour; if not it is that by content; shape (n,), 0 or 1.
        category: The number of each item's category, -1 for none, shape (n,).
        names: The categories by number.
        field: The field that the categories are of; None: no field groups the items.
        people: How many people took each item, and something else, shape (n,).
        level: How far behaviour agrees with content, 0 as by chance, 1 as usual; NaN where one cannot tell; shape (n,).
        alike: The rows that each is most like, shape (n, 6), -1 for none.
        together: The rows that are taken most with each, likewise.
        found: Where the views disagree, the surest of each kind first.
        in_common: How many times chance people take with the median item what is like it; 0: not known.
        impressions: How many impressions told what was shown; 0: nothing did.
        items: How many items the generation has.
    """

    generation: str
    rows: Rows
    places: Array
    placed: Array
    category: Array
    names: tuple[str, ...]
    field: str | None
    people: Array
    level: Array
    alike: Array
    together: Array
    found: tuple[Disagreement, ...]
    in_common: float
    impressions: int
    items: int

    def __len__(self) -> int:
        return len(self.rows)


def item_map(workspace: Workspace, generation: str) -> ItemMap | None:
    """The map of a generation; None where none is made yet, or it is damaged and must be made again."""
    folder, facts = _kept(workspace, generation)
    if folder is None:
        return None
    try:
        arrays = mapped(folder / _ARRAYS)
        told = json.loads((folder / _FOUND).read_text("utf-8"))
    except (OSError, ValueError):  # it has just been removed
        return None
    found = tuple(Disagreement.of(one) for one in told["found"])
    known: dict[str, Any] = {name: facts[name] for name in ("field", "in_common", "impressions", "items")}
    return ItemMap(generation=generation, names=tuple(told["names"]), found=found, **known | arrays)


def _kept(workspace: Workspace, generation: str) -> tuple[Path | None, Mapping[str, Any]]:
    """The newest whole map of a generation, and its facts."""
    for folder in reversed(workspace[KIND].versions()):
        with suppress(StaleArtefactError):
            manifest = Manifest.read(folder)
            own = manifest.fingerprint == generation and manifest.facts.get("format") == FORMAT
            if own and not artefacts.check_inventory(folder, digests=True):
                return folder, manifest.facts
    return None, {}


def make_item_map(workspace: Workspace, name: str) -> None:
    """Make the map of a generation and keep it, and the two that were made before it.

    Raises:
        DataError: If another process is making one.
        MissingArtefactError: If there is no such generation.
        StaleArtefactError: If it is damaged.
    """
    with workspace.lock(KIND, "making a map in"), open_generation(workspace, name) as generation:
        if item_map(workspace, name) is not None:
            return
        store = workspace[KIND]
        for left in store.partials():
            shutil.rmtree(left, ignore_errors=True)
        folder = store.partial(name)
        try:
            facts = _written(folder, generation, _exposure(workspace, generation))
            inputs = {"generations": generation.manifest.fingerprint}
            store.publish(folder, Manifest(KIND, name, inputs, {}, facts), keep=_KEEP)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _written(folder: Path, generation: Generation, exposure: ImpressionCounts | None) -> dict[str, object]:
    views = Views.of(generation)
    shown = None if exposure is None else ImpressionCounts(exposure.shown[views.rows], exposure.taken[views.rows])
    found = judged(views, _fields(generation, views.rows), shown)
    alike, together = views.alike(NEAR), views.together(NEAR)
    placed = (views.takes >= _PLACED) & (together[:, 0] >= 0)
    content = first_map(views.content, alike)
    places = np.concatenate([content, second_map(content, together, placed)], axis=1)
    agree, categories = found.agree, found.categories
    none = np.full(len(views), -1, np.int32)
    arrays: dict[str, Array] = {
        "rows": views.rows.astype(np.int64),
        "places": _whole(places),
        "placed": placed.astype(np.uint8),
        "category": none if categories is None else categories.first.astype(np.int32),
        "people": agree.people.astype(np.int32),
        "level": np.where(agree.known, agree.level, np.nan).astype(np.float32),
        "alike": _named(alike, views.rows),
        "together": _named(together, views.rows),
    }
    with TensorsWriter(folder / _ARRAYS) as tensors:
        for name, values in arrays.items():
            tensors.append(name, values)
    told = {"names": () if categories is None else categories.names, "found": [one.to_dict() for one in found.found]}
    (folder / _FOUND).write_text(json.dumps(told, ensure_ascii=False), "utf-8")
    impressions = 0 if exposure is None else int(exposure.shown.sum())
    field = None if categories is None else categories.field
    counts = {"items": len(generation.table.items), "impressions": impressions}
    return {"format": FORMAT, "field": field, "in_common": agree.in_common, **counts}


def _named(near: Rows, rows: Rows) -> npt.NDArray[np.int32]:
    """The nearest neighbours by the generation's rows."""
    few = near[:, :_NEIGHBOURS]
    return np.asarray(np.where(few < 0, -1, rows[np.maximum(few, 0)]), np.int32)


def _whole(places: Places) -> npt.NDArray[np.int32]:
    """Places of both maps in one square, as whole numbers."""
    corners = places.reshape(-1, 2)
    if not len(corners):
        return np.zeros((0, 4), np.int32)
    low = corners.min(axis=0)
    extent = max(float((corners.max(axis=0) - low).max()), 1e-12)
    margin = (extent - (corners.max(axis=0) - low)) / 2
    return np.asarray(np.rint((corners - low + margin) / extent * _SCALE), np.int32).reshape(-1, 4)


def _fields(generation: Generation, rows: Rows) -> dict[str, list[object]]:
    """What each item has in the fields of keywords."""
    names = [name for name, kind in generation.spec.fields.items() if kind == "keyword"]
    found: dict[str, list[object]] = {name: [] for name in names}
    for begin in range(0, len(rows), _FETCHED):
        for item in generation.index.fetch(rows[begin : begin + _FETCHED].tolist()):
            for name in names:
                found[name].append(item.payload.get(name))
    return found


def _exposure(workspace: Workspace, generation: Generation) -> ImpressionCounts | None:
    """How often items were shown, and what came of it, by the event log; None where no impression has a request."""
    n = len(generation.table.items)
    row_of = {item_id: row for row, item_id in enumerate(generation.table.item_ids()) if item_id}
    shown: set[tuple[str, str]] = set()
    taken: set[tuple[str, str]] = set()
    with opened(workspace) as state:
        if state is None:
            return None
        for pairs, kinds in ((shown, ("impression",)), (taken, _TAKEN)):
            for table in state.tables(("request_id", "item_id"), kinds):
                both = zip(table["request_id"].to_pylist(), table["item_id"].to_pylist(), strict=True)
                pairs.update((request, item) for request, item in both if request and item in row_of)
    if not shown:
        return None
    counts = [np.bincount([row_of[item] for _, item in pairs], minlength=n) for pairs in (shown, shown & taken)]
    return ImpressionCounts(counts[0].astype(np.int64), counts[1].astype(np.int64))
