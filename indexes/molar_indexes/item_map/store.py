"""The map of a generation: made beside it, kept as an artefact of its own under the generation's name.

Two maps of the same items, each of which puts neighbours side by side, in which an item has about the same place.

A map is made as t-SNE makes it: items attract their nearest neighbours, and all push each other away. Neighbours count
alike, which gives the maps that weights by distance give (Böhm, Berens and Kobak 2022, arXiv:2007.08902); what pushes
is summed on a grid by Fourier transforms, so that a step costs O(n) (Linderman et al. 2019,
doi:10.1038/s41592-018-0308-4). Nothing is drawn at random: the first map begins at the principal axes, the second one
where the first one ended, and is turned, mirrored, moved and scaled onto it at the end (Procrustes).
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.sparse import csr_matrix

from molar_indexes.generations import Generation, open_generation
from molar_indexes.item_map.outliers import Disagreement, ImpressionCounts, judged
from molar_indexes.item_map.views import NEAR, Views
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.tensors import Array, Mask, Matrix, Rows, TensorsWriter, mapped

Places = npt.NDArray[np.float64]
"""Places of n items on a map, shape (n, 2)."""
STEPS = 300
_EARLY, _EXAGGERATED = 80, 12.0  # first steps of the first map, and how much stronger neighbours attract in them
_MOMENTUM, _FARTHEST = 0.8, 5.0  # of a step; who attracts very many would be flung away
_SPACING, _FEWEST_CELLS, _MOST_CELLS = 0.7, 50, 512  # of the grid; 1 is the distance over which items push
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


def first_map(vectors: Matrix, neighbours: Rows, steps: int = STEPS) -> Places:
    """The map of n items by their vectors, (n, d), and nearest neighbours, (n, k) rows."""
    return _arranged(_leading(vectors), _graph(neighbours), steps, early=_EARLY)


def second_map(first: Places, neighbours: Rows, placed: Mask, steps: int = STEPS) -> Places:
    """The map of the same items by other neighbours, (n, k) rows, with -1 where there are fewer.

    Items that are not ``placed``, shape (n,), have no neighbours of their own and stay where they are on the first map.
    """
    found = first.copy()
    rows = np.flatnonzero(placed)
    if len(rows) < 3:
        return found
    there = np.full(len(first), -1, np.int64)
    there[rows] = np.arange(len(rows))
    among = np.where(neighbours[rows] < 0, -1, there[neighbours[rows]])
    found[rows] = _turned(_arranged(first[rows], _graph(among), steps), first[rows])
    return found


def _leading(vectors: Matrix) -> Places:
    """Places along the two leading principal axes, 0.01 wide."""
    centred = np.asarray(vectors - vectors.mean(axis=0), np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])  # it is arbitrary
    found = np.zeros((len(vectors), 2))
    found[:, : axes.shape[1]] = centred @ axes
    return found * 0.01 / max(float(found[:, 0].std()), 1e-12)


def _graph(neighbours: Rows) -> csr_matrix:
    """Who attracts whom, shape (n, n), symmetric; all entries together are 1."""
    n, k = neighbours.shape
    known = neighbours.ravel() >= 0
    own = np.repeat(np.arange(n), k)[known]
    graph = csr_matrix((np.ones(len(own)), (own, neighbours.ravel()[known])), shape=(n, n))
    graph = csr_matrix(graph + graph.T)
    graph.data /= max(float(graph.data.sum()), 1.0)
    return graph


def _arranged(start: Places, graph: csr_matrix, steps: int, early: int = 0) -> Places:
    """Gradient descent with momentum and a gain for each number; in ``early`` steps items attract more strongly."""
    n, places = len(start), start
    moved, gains = np.zeros_like(places), np.ones_like(places)
    edges = np.repeat(np.arange(n), np.diff(graph.indptr)), graph.indices, graph.data
    for step in range(steps):
        pull, momentum = (_EXAGGERATED, 0.5) if step < early else (1.0, _MOMENTUM)
        gradient = pull * _attraction(places, edges) - _repulsion(places)
        gains = np.where(np.sign(gradient) != np.sign(moved), gains + 0.2, np.maximum(gains * 0.8, 0.01))
        moved = np.clip(momentum * moved - max(n / pull, 50.0) * gains * gradient, -_FARTHEST, _FARTHEST)
        places = places + moved
        places -= places.mean(axis=0)
    return places


def _attraction(places: Places, edges: tuple[Rows, Rows, npt.NDArray[np.float64]]) -> Places:
    own, others, weights = edges
    towards = places[own] - places[others]
    towards *= (weights / (1 + (towards**2).sum(axis=1)))[:, None]
    n = len(places)
    return np.stack([np.bincount(own, towards[:, axis], n) for axis in range(2)], axis=1)


def _repulsion(places: Places) -> Places:
    """What pushes each item, of all others, by a grid onto whose corners their weights are shared out."""
    low = places.min(axis=0)
    extent = float((places.max(axis=0) - low).max())
    spacing = min(_SPACING, extent / _FEWEST_CELLS)
    spacing = max(spacing, extent / (_MOST_CELLS - 2), 1e-9)
    size = fft.next_fast_len(int(extent / spacing) + 2, real=True)
    at = (places - low) / spacing
    cell = at.astype(np.int64)
    right, up = (at - cell).T
    corner = cell[:, 0] * size + cell[:, 1]
    corners = np.stack([corner, corner + 1, corner + size, corner + size + 1])
    shares = np.stack([(1 - right) * (1 - up), (1 - right) * up, right * (1 - up), right * up])
    near, nearer = _kernels(size, spacing)
    charges = np.stack([np.ones(len(places)), *(places - low).T])
    grids = [np.bincount(corners.ravel(), (shares * charge).ravel(), size * size) for charge in charges]
    padded = fft.rfft2(np.stack(grids).reshape(3, size, size), (2 * size, 2 * size))
    fields = fft.irfft2(np.concatenate([near * padded[:1], nearer * padded]), (2 * size, 2 * size))[:, :size, :size]
    values = (fields.reshape(4, -1)[:, corners] * shares).sum(axis=1)
    apart = spacing * np.array([[0, 1, 1, 2], [1, 0, 2, 1], [1, 2, 0, 1], [2, 1, 1, 0]]) ** 0.5
    itself = float(np.einsum("an,ab,bn->", shares, 1 / (1 + apart**2), shares))
    total = max(float(values[0].sum()) - itself, 1e-12)
    pushed: Places = (((places - low).T * values[1] - values[2:]) / total).T
    return pushed


@lru_cache(maxsize=8)
def _kernels(size: int, spacing: float) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
    """Transforms of 1 / (1 + d²) and of its square over a grid that is twice as wide, so that it does not wrap."""
    steps = np.minimum(np.arange(2 * size), 2 * size - np.arange(2 * size)) * spacing
    near = 1 / (1 + steps[:, None] ** 2 + steps[None] ** 2)
    return fft.rfft2(near), fft.rfft2(near**2)


def _turned(places: Places, onto: Places) -> Places:
    """Places turned, mirrored, moved and scaled so that they are as near to others as can be."""
    middle, other = places.mean(axis=0), onto.mean(axis=0)
    centred = places - middle
    left, singular, right = np.linalg.svd(centred.T @ (onto - other))
    scale = float(singular.sum()) / max(float((centred**2).sum()), 1e-12)
    turned: Places = centred @ (left @ right) * scale + other
    return turned


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
