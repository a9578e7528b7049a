"""From a recommender to a folder for devices: gathered, the user encoder proved, written.

Towers of the user encoder as one ONNX model: from the vectors of a history to a user's.

The graph is written node by node, as :class:`molar_retrieval.models.towers.inference.NumpyTower` computes: one history,
of which the last block asks about the last position alone. Tracing the network that trains would bring batches, masks
and every position, and take seconds. A test compares both for towers of every shape.

Writes a shop for a device into a folder that any server of static files can give out.

Files of data are named by what is in them, and ``device.json`` names them. It is replaced at last, so that a page sees
the former shop or the new one, whenever it loads and wherever the writing was cut off.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from molar_indexes.answerer import Answerer
from molar_indexes.constraints import Constraints
from molar_indexes.recommender import Recommender
from molar_indexes.sessions import SessionReader
from molar_retrieval import columns
from molar_retrieval.data.catalogue import photos_of
from molar_retrieval.errors import BackendError, DataError
from molar_retrieval.models.repeat_consumption import REPEAT_CONSUMPTION
from molar_retrieval.models.towers.inference import (
    HistoryReading,
    NumpyBlock,
    NumpyTower,
    NumpyTowerEnsemble,
    UserEncoder,
    time_gaps,
)
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.diversity import dated, values_of
from molar_retrieval.ranking.index_protocol import StoredItem
from molar_retrieval.ranking.item_store import ItemStore
from molar_retrieval.ranking.objectives import SESSION_START, VISIT
from molar_retrieval.ranking.query import Query, ResolvedQuery
from molar_retrieval.ranking.ranker import Ranker
from molar_retrieval.ranking.reranker import Reranker
from molar_retrieval.rng import generator
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.files import lock_beside, sync_folder, sync_tree, write_atomically
from molar_retrieval.workspace.tensors import Array, Mask, Matrix, TensorsWriter

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

    from molar_retrieval.ranking.rules import ActiveRule

OPSET, IR = 17, 8
"""Of the operators the first version that has layer normalisation; of the format one that runtimes since 2022 read."""
_NORM_EPSILON = 1e-5  # of torch's LayerNorm
_END = 2**31 - 1
_DAY = 86_400
MOST_ITEMS = 20_000
"""Items of a shop that a device is given: all are scored for every list, and all are loaded before the first one."""
MANIFEST = "device.json"
FORMAT = 1
"""Of the folder; raised with every change of what a page has to read."""
_PARTIAL = ".partial"
_SIZE = (320, 320)
"""Pixels of a photo's copy at most."""
_TRIED = (1, 2, 7, 1_000)
"""Lengths of made-up histories by which the model is compared with the encoder; a tower reads the last ones."""
_LONG = 10**9  # seconds over which these are spread
_NEAR = 1e-4
"""How far numbers of the two may be apart: as NumPy's encoder may be from the network that was trained."""


def onnx_model(towers: Mapping[str, NumpyTower | NumpyTowerEnsemble]) -> bytes:
    """The towers as one model, serialised.

    Inputs are, for each tower, ``NAME.vectors``, the vectors of L ≥ 1 items, oldest first, shape (L, dim), and
    ``NAME.gaps``, as :func:`molar_retrieval.models.towers.inference.time_gaps` has them, int32, shape (L, L);
    outputs are ``NAME.user``, shape (1, dim).
    """
    from onnx import TensorProto, helper

    graph = _Graph()
    inputs, outputs = [], []
    for name, tower in towers.items():
        vectors, gaps, user, length = f"{name}.vectors", f"{name}.gaps", f"{name}.user", f"{name}.length"
        inputs.append(helper.make_tensor_value_info(vectors, TensorProto.FLOAT, [length, tower.dim]))
        inputs.append(helper.make_tensor_value_info(gaps, TensorProto.INT32, [length, length]))
        outputs.append(helper.make_tensor_value_info(user, TensorProto.FLOAT, [1, tower.dim]))
        graph.node("Identity", _tower(graph, tower, vectors, gaps), to=user)
    made = helper.make_graph(graph.nodes, "user encoder", inputs, outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


class _Graph:
    """Nodes and constants, named as they come."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def node(self, operator: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """The name of what an operator makes of its inputs."""
        from onnx import helper

        name = to or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def columns(self, value: str, start: int, stop: int) -> str:
        """Some columns of a matrix."""
        return self.node("Slice", value, self.whole([start]), self.whole([stop]), self.whole([1]))

    def last(self, value: str) -> str:
        """The last row of a matrix, as a matrix."""
        return self.node("Slice", value, self.whole([-1]), self.whole([_END]), self.whole([0]))

    def constant(self, values: Array) -> str:
        """The name of some numbers."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def floats(self, values: Matrix) -> str:
        """The name of some numbers in single precision."""
        return self.constant(np.asarray(values, np.float32))

    def whole(self, values: list[int]) -> str:
        """The name of some whole numbers."""
        return self.constant(np.array(values, np.int64))


def _tower(graph: _Graph, tower: NumpyTower | NumpyTowerEnsemble, vectors: str, gaps: str) -> str:
    if isinstance(tower, NumpyTowerEnsemble):
        ends = np.cumsum([0, *(member.dim for member in tower.members)]).tolist()
        shares = [graph.columns(vectors, *span) for span in pairwise(ends)]
        users = [_tower(graph, member, own, gaps) for member, own in zip(tower.members, shares, strict=True)]
        return graph.node("Concat", *users, axis=1)
    x, last = vectors, len(tower.blocks) - 1
    distances = _distances(graph, vectors, tower.history) if tower.blocks else ""
    for number, block in enumerate(tower.blocks):
        x = _block(graph, block, x, gaps, distances, asked_last=number == last)
    x = x if tower.blocks else graph.last(x)
    return graph.node("MatMul", _norm(graph, x, tower.norm.weight, tower.norm.bias), graph.floats(tower.query.T))


def _distances(graph: _Graph, vectors: str, history: int) -> str:
    """How far back position j lies from position i, plus 1; 0 for what is later, shape (L, L)."""
    length = graph.node("Squeeze", graph.node("Shape", vectors, start=0, end=1))
    place = graph.node("Range", graph.constant(np.array(0)), length, graph.constant(np.array(1)))
    back = graph.node(
        "Sub", graph.node("Unsqueeze", place, graph.whole([1])), graph.node("Unsqueeze", place, graph.whole([0]))
    )
    bounded = graph.node("Clip", back, graph.constant(np.array(-1)), graph.constant(np.array(history - 1)))
    return graph.node("Add", bounded, graph.constant(np.array(1)))


def _block(graph: _Graph, block: NumpyBlock, x: str, gaps: str, distances: str, *, asked_last: bool) -> str:
    d, heads = block.out.shape[0], len(block.position)
    normed = _norm(graph, x, block.norm_attention.weight, block.norm_attention.bias)
    asked = normed
    if asked_last:
        x, asked, gaps, distances = (graph.last(value) for value in (x, normed, gaps, distances))
    q, g = (graph.node("MatMul", asked, graph.floats(block.qkvg[n * d : (n + 1) * d].T)) for n in (0, 3))
    k, v = (graph.node("MatMul", normed, graph.floats(block.qkvg[n * d : (n + 1) * d].T)) for n in (1, 2))
    scaled = graph.node("Mul", q, graph.floats(np.array((d // heads) ** -0.5)))
    per_head = graph.whole([-1, heads, d // heads])
    q, k, v = (graph.node("Reshape", value, per_head) for value in (scaled, k, v))
    q, v = (graph.node("Transpose", value, perm=[1, 0, 2]) for value in (q, v))
    scores = graph.node("MatMul", q, graph.node("Transpose", k, perm=[1, 2, 0]))
    never = np.full((heads, 1), -np.inf, np.float32)
    position = graph.floats(np.concatenate([never, block.position], axis=1))
    for table, index in ((graph.floats(block.time), gaps), (position, distances)):
        scores = graph.node("Add", scores, graph.node("Gather", table, index, axis=1))
    attended = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), v)
    joined = graph.node("Reshape", graph.node("Transpose", attended, perm=[1, 0, 2]), graph.whole([-1, d]))
    gated = graph.node("Mul", joined, _silu(graph, g))
    middle = graph.node("Add", x, graph.node("MatMul", gated, graph.floats(block.out.T)))
    upper = _norm(graph, middle, block.norm_ff.weight, block.norm_ff.bias)
    wide, half = graph.node("MatMul", upper, graph.floats(block.up.T)), len(block.up) // 2
    a, b = graph.columns(wide, 0, half), graph.columns(wide, half, 2 * half)
    inner = graph.node("Mul", _silu(graph, a), b)
    return graph.node("Add", middle, graph.node("MatMul", inner, graph.floats(block.down.T)))


def _norm(graph: _Graph, x: str, weight: Matrix, bias: Matrix) -> str:
    return graph.node("LayerNormalization", x, graph.floats(weight), graph.floats(bias), axis=-1, epsilon=_NORM_EPSILON)


def _silu(graph: _Graph, x: str) -> str:
    return graph.node("Mul", x, graph.node("Sigmoid", x))


def shaping_rules(
    request: ResolvedQuery, ranker: Ranker, items: Sequence[StoredItem], count: int
) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """What each rule of a request does, in their order, and by name which of the ``items`` that may come it means.

    Arrays are of ``count`` items, by row. What rules are called, and why they are, is not told: anybody may read it.
    """
    told, tensors = [], dict[str, Array]()
    for number, active in enumerate((*request.weighing, *request.caps, *request.pins)):
        name, rule = f"rule.{number}", active.rule
        own: dict[str, Any] = {"action": rule.action, "tensor": name}
        match rule.action:
            case "boost" | "bury" | "at_least":
                tensors[name] = _meant(active, ranker, items, count)
                own |= {"least": rule.at_least} if rule.action == "at_least" else {"by": rule.by}
            case "fresh":
                tensors[name] = _days(items, str(rule.fresh), count)
                own |= {"by": rule.by, "half_life_days": rule.half_life_days}
            case "at_most":
                tensors |= {f"{name}.{part}": values for part, values in _values(items, str(rule.per), count).items()}
                own |= {"most": rule.at_most}
            case _:
                tensors[name] = _pinned(rule.pin or (), items)
                own |= {"at": rule.at}
        told.append(own)
    return told, tensors


def _meant(active: "ActiveRule", ranker: Ranker, items: Sequence[StoredItem], count: int) -> Array:
    found, rows = np.zeros(count, np.uint8), np.array([item.row for item in items], np.int64)
    if active.condition is not None:
        found[rows] = ranker.fulfilling(active.condition, rows)
    return found


def _days(items: Iterable[StoredItem], field: str, count: int) -> Array:
    """From when an item counts as fresh, in days since 1970; nan where nothing says so."""
    found = np.full(count, np.nan)
    for item in items:
        begun = dated(item.payload.get(field))
        found[item.row] = np.nan if begun is None else begun.timestamp() / _DAY
    return found


def _values(items: Iterable[StoredItem], field: str, count: int) -> dict[str, Array]:
    """The values of a field as numbers, of one item after the other, and where those of each begin."""
    numbers: dict[str, int] = {}
    found = {item.row: [numbers.setdefault(value, len(numbers)) for value in values_of(item, field)] for item in items}
    starts = np.cumsum([0, *(len(found.get(row, ())) for row in range(count))])
    values = [value for row in range(count) for value in found.get(row, ())]
    return {"starts": starts.astype(np.int32), "values": np.array(values, np.int32)}


def _pinned(item_ids: Iterable[str], items: Iterable[StoredItem]) -> Array:
    """Rows of the items that are named and may come, in the order of the names."""
    rows = {item.item_id: item.row for item in items}
    return np.array([rows[item_id] for item_id in item_ids if item_id in rows], np.int32)


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
    towers: Mapping[str, NumpyTower | NumpyTowerEnsemble]
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
            "answer with `molar serve`, or leave [align] own_models empty",
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
        | {"session_start": generation.objectives.get(SESSION_START.name), "visit": VISIT}
        | {"slots": generation.slots, "second_stage": None if second is None else second.parts, "rules": rules},
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
    found = {name: _without(values, ~told) for name, values in own.items()} | _neighbors(store)
    return found if second is None else found | {f"second.{n}": values for n, values in second.to_tensors().items()}


def _facts(store: ItemStore, encoder: UserEncoder) -> dict[str, Any]:
    return {
        "parts": {name: list(span) for name, span in store.parts.items()},
        "sparse_parts": {name: list(span) for name, span in store.sparse_parts.items() if name != REPEAT_CONSUMPTION},
        "factors": dict(store.factors),
        "encoder": _described(encoder),
    }


def _shown(store: ItemStore, request: ResolvedQuery) -> Mask:
    """Which items may come, but for conditions."""
    shown = store.known | store.cold
    hidden = np.fromiter(request.hidden, np.int64, len(request.hidden))
    shown[hidden[hidden < len(store)]] = False
    return shown


def _items(store: ItemStore, shown: Mask) -> dict[str, Array]:
    """What every item is scored by beside its neighbors."""
    marks = {"known": store.known, "cold": store.cold, "shown": shown}
    return {"dense": store.dense} | {name: np.asarray(mark, np.uint8) for name, mark in marks.items()}


def _neighbors(store: ItemStore) -> dict[str, Array]:
    """The sparse vectors by dimension, each with the items that have it; how many people stand behind them stays."""
    own = store.sparse
    starts, items = own.starts.astype(np.int32), own.items.astype(np.uint16)
    return {"item_item.starts": starts, "item_item.items": items, "item_item.values": own.values}


def _reading(encoder: UserEncoder) -> dict[str, Array]:
    """The vectors in which the user encoder reads items."""
    rows = np.arange(len(encoder.features))
    found = {f"tower.{name}": encoder.vectors(name, rows) for name in encoder.towers if name in encoder.parts}
    return found if encoder.taste is None else found | {"content_knn": encoder.taste[0]}


def _read_by_second_stage(store: ItemStore) -> dict[str, Array]:
    return {"content": store.content, "als": store.als, "numbers": store.numbers}


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
        "content_knn": None if encoder.taste is None else _powers(encoder.taste[1]),
        "item_item": [{"powers": _powers(one), "fade": one.fade} for one in encoder.reads],
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


@dataclass(frozen=True)
class DeviceExport:
    """What was written.

    Attributes:
        folder: Where.
        generation: Whose items it has.
        digest: Of all that answers; another one means other answers.
        items: How many items may come.
        bytes: Of all files.
        left_out: What the server heeds and the device does not, in sentences.
    """

    folder: Path
    generation: str
    digest: str
    items: int
    bytes: int
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The export as JSON-able values."""
        return {**vars(self), "folder": str(self.folder), "left_out": list(self.left_out)}


def check_place(out: Path) -> None:
    """Refuse a folder that has something else in it; DataError."""
    if not out.parent.is_dir() or (out.exists() and not out.is_dir()):
        raise DataError(f"{out} cannot be written", "name a new folder in one that is there")
    others = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if others and _format_of(out) is None:
        raise DataError(f"{out} has something else in it", "name a new folder, or one that was exported before")


def write(
    out: Path,
    contents: DeviceContents,
    encoder: bytes | None,
    photos: Mapping[int, bytes],
    generation: str,
    now: datetime,
) -> DeviceExport:
    """Write everything; what an earlier export left and this one does not need goes.

    Args:
        out: The folder.
        contents: What is in it.
        encoder: The towers as an ONNX model; None: there are none, and the folder has no runtime either.
        photos: Small copies by row, ascending.
        generation: Whose items they are.
        now: When they were gathered.

    Raises:
        DataError: If the folder holds something else, cannot be written, or another process writes it.
    """
    made = {"generation": generation, "made": now.astimezone(UTC).isoformat(timespec="seconds")}
    shown = int(np.count_nonzero(contents.tensors["shown"]))
    with lock_beside(out):
        check_place(out)
        out.mkdir(exist_ok=True)
        if _format_of(out) is None:  # so that the folder is known for what it is, wherever this is cut off
            write_atomically(out / MANIFEST, json.dumps({"format": FORMAT, "files": {}}))
        partial = out / _PARTIAL
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        told = {"format": FORMAT, "files": _data(partial, contents, encoder, photos)}
        told |= {"facts": contents.facts, "left_out": list(contents.left_out)}
        digest = fingerprint.of_json(told)
        for name, content in _page(runtime=encoder is not None):
            (partial / name).write_bytes(content)
        _moved(partial, out, {**made, "digest": digest, "items": shown, **told})
    size = sum(path.stat().st_size for path in out.iterdir())
    return DeviceExport(out, generation, digest, shown, size, tuple(contents.left_out))


def _moved(partial: Path, out: Path, manifest: Mapping[str, Any]) -> None:
    """Bring what is finished to its place, then say so, then remove all that is not of it."""
    sync_tree(partial)
    names = {path.name for path in partial.iterdir()}
    for name in names:
        (partial / name).replace(out / name)
    sync_folder(out)
    write_atomically(out / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1))
    for path in [one for one in out.iterdir() if one.name not in {*names, MANIFEST}]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _data(folder: Path, contents: DeviceContents, encoder: bytes | None, photos: Mapping[int, bytes]) -> dict[str, str]:
    """The files of data, by what they are: their names, which begin so and have some digits of what is in them."""
    with TensorsWriter(folder / "index") as tensors:
        for name, values in sorted(contents.tensors.items(), key=lambda one: (-one[1].dtype.itemsize, one[0])):
            tensors.append(name, values)  # wide numbers first, so that each of them lies where it can be read
    titles, payload = contents.payload[columns.TITLE], dict(contents.payload)
    del payload[columns.TITLE]
    items = {"ids": list(contents.ids), "titles": list(titles), "payload": payload}
    (folder / "items").write_text(json.dumps(items, ensure_ascii=False, separators=(",", ":")), "utf-8")
    suffixes = {"index": "safetensors", "items": "json"}
    if encoder is not None:
        (folder / "encoder").write_bytes(encoder)
        suffixes["encoder"] = "onnx"
    if photos:
        _write_photos(folder / "photos", photos, len(contents.ids))
        suffixes["photos"] = "safetensors"
    named = {}
    for name, suffix in suffixes.items():
        with (folder / name).open("rb") as file:
            digits = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        named[name] = f"{name}-{digits}.{suffix}"
        (folder / name).rename(folder / named[name])
    return named


def _write_photos(path: Path, photos: Mapping[int, bytes], count: int) -> None:
    """All in one file: what photos somebody looks at is nobody's business."""
    ends = np.cumsum([len(photos.get(row, b"")) for row in range(count)])
    with TensorsWriter(path) as tensors:
        tensors.append("ends", ends.astype(np.int32))
        for photo in photos.values():
            tensors.append("bytes", np.frombuffer(photo, np.uint8))


def _page(*, runtime: bool) -> Iterator[tuple[str, bytes]]:
    """The files of the page as they are in the package, and ONNX Runtime where there is something to run."""
    for folder in ("static", *(["runtime"] if runtime else [])):
        for file in (resources.files(__package__) / folder).iterdir():
            yield file.name, file.read_bytes()


def _format_of(out: Path) -> int | None:
    """The format of what was exported into a folder; None: nothing was."""
    try:
        told: Mapping[str, Any] = json.loads((out / MANIFEST).read_text("utf-8"))
        return int(told["format"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def export_device(
    recommender: Recommender,
    out: Path,
    *,
    fields: Sequence[str] = (),
    photos: bool = False,
    rerank: bool = True,
    progress: Progress = SILENT,
) -> DeviceExport:
    """See :meth:`molar.Shop.export_device`."""
    check_place(out)
    now = recommender.now or datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)
    with recommender.answering() as answerer:
        contents = gather(answerer, fields, rerank, now)
        encoder = _proved(contents.towers, contents.tensors)
        copies = _photos(answerer, contents.ids, progress) if photos else {}
        return write(out, contents, encoder, copies, answerer.generation.name, now)


def _photos(answerer: Answerer, ids: Sequence[str], progress: Progress) -> dict[int, bytes]:
    """Small copies of the photos that can be read, by row."""
    from molar_retrieval.reports.html import small_copy

    copies, photo_of = {}, photos_of(answerer.workspace)
    progress.start("photos", len(ids))
    for row, item_id in enumerate(ids):
        path = photo_of(item_id) if item_id else None
        copy = None if path is None else small_copy(path.parent, path.name, _SIZE)
        if copy is not None:
            copies[row] = copy
        progress.advance()
    progress.finish()
    return copies


def _proved(towers: Mapping[str, NumpyTower | NumpyTowerEnsemble], tensors: Mapping[str, Array]) -> bytes | None:
    """The towers as a model that a runtime was seen to compute as NumPy does; None where there are none."""
    if not towers:
        return None
    try:
        import onnxruntime

        model = onnx_model(towers)
    except ImportError as error:
        raise BackendError(
            f"the user encoder cannot be exported: {error}", "install it: `pip install 'molar-retrieval[device]'`"
        ) from error
    _compare(onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]), towers, tensors)
    return model


def _compare(session: Any, towers: Mapping[str, NumpyTower | NumpyTowerEnsemble], tensors: Mapping[str, Array]) -> None:
    random = generator(0, "device")
    for length in _TRIED:
        given: dict[str, Array] = {}
        wanted: dict[str, Array] = {}
        for name, tower in towers.items():
            count, table = min(length, tower.history), tensors[f"tower.{name}"]
            vectors = table[random.integers(0, len(table), count)]
            seconds = np.sort(random.integers(0, _LONG, count))
            gaps = time_gaps(seconds, tower.buckets).astype(np.int32)
            given |= {f"{name}.vectors": vectors, f"{name}.gaps": gaps}
            wanted[f"{name}.user"] = tower(vectors, seconds)
        for (name, user), found in zip(wanted.items(), session.run(list(wanted), given), strict=True):
            apart = float(np.abs(found[0] - user).max())
            if not apart <= _NEAR:
                raise BackendError(
                    f"the exported user encoder differs by {apart:.2g} in {name} after {length} items",
                    "install another version of onnxruntime, and report this",
                )
