"""The embedded Qdrant engine: a shard in the index folder, built once and then only read.

What the beta needs care for:

* Without a write-ahead log several processes may open one shard; with it the second one fails.
* Even a reader writes on opening and closing, so that readers are given a view, see :mod:`molar_indexes.edge_view`.
* It makes and removes hundreds of files on the way, and waits for the disk all the time; small ones are made in memory.
* It makes some files that nobody else may read, so that building ends with giving all files the folder's permissions.
* Its segment for new points is 200 MB of holes even when empty, of which readers map 50 MB; what is built has none.
* Equal scores come in no particular order, so ties are settled here.
* Vectors that are not finite are stored without a word; :func:`molar_indexes.records.batches` refuses them.
* A graph misses some of the best, so it is used only where scanning everything would take more than some milliseconds.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from math import inf
from pathlib import Path

import qdrant_edge as engine

from molar_indexes import equal_lengths
from molar_indexes.edge_layout import SHARD, config, graphs, path, to_payload
from molar_indexes.edge_search import EdgeIndex
from molar_indexes.edge_view import copied, workshop
from molar_indexes.records import BATCH, ITEM_ID, batches
from molar_retrieval.errors import BackendError
from molar_retrieval.progress import Progress
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec, StoredItem
from molar_retrieval.workspace.files import disk_error, require_space, reserve_space
from molar_retrieval.workspace.threads import give_freed_memory_back

_EMPTY, _OF_FIELD, _OF_ITEM = 64 << 20, 2 << 20, 256
"""Bytes that an index takes before it has items, where a disk knows no holes; for each field more; and an item for
itself."""
_POINTS = "*id_tracker.*"  # which points a segment has, in files that one without points lacks
_FIELD_INDEXES = {
    "keyword": engine.KeywordIndexParams,
    "integer": engine.IntegerIndexParams,
    "float": engine.FloatIndexParams,
    "bool": engine.KeywordIndexParams,  # of the shadow words
}


def build(folder: Path, spec: IndexSpec, items: Iterable[IndexItem], progress: Progress) -> None:
    """Build the shard in ``folder``: points, then the graph, then payload indexes.

    A map that is written to on a full disk ends the process without a word, so there must be room before every step.

    Raises:
        DataError: If an item does not fit the spec.
        DiskError: If the disk is too small.
        BackendError: If the engine fails.
    """
    target = folder / SHARD
    target.mkdir(parents=True)
    empty = _EMPTY + _OF_FIELD * len(spec.fields)
    reserve_space(target, empty, "an index takes at least")
    stream = batches(spec, items)
    first = next(stream, [])
    # A batch that is not full is the last one; of more nobody knows yet how many they are.
    need = empty + 3 * sum(map(_bytes, first)) if len(first) < BATCH else inf
    with _made_in(target, need) as place:
        count, size = _insert(place, spec, chain([first] if first else [], stream), progress)
        reserve_space(place, 2 * size, "the index takes another")
        give_freed_memory_back()
        # Only now it is known which vectors deserve a graph.
        if graphs(spec, count):
            progress.finish()
            progress.start("graphs", None)
        with _named(target):
            shard = engine.EdgeShard.load(str(place), config(spec, count))
            try:
                shard.optimize()
                _index_fields(shard, spec)
                shard.flush()
            finally:
                shard.close()
        _drop_empty(place)
    progress.finish()


def restate(former: Path, folder: Path, spec: IndexSpec, items: Sequence[StoredItem]) -> None:
    """The shard of another folder with other payloads of some items.

    These move into the segment that takes new points, where everything is scanned: there should be few of them.

    Raises:
        DiskError: If the disk is too small.
        BackendError: If the engine fails.
    """
    source, target = former / SHARD, folder / SHARD
    target.mkdir(parents=True)
    size = sum(512 * file.stat().st_blocks for file in source.rglob("*") if file.is_file())
    reserve_space(target, size + _EMPTY + len(items) * _OF_ITEM, "the index takes another")
    with _made_in(target, size + _EMPTY) as place, _named(target):
        copied(source, place)
        shard = engine.EdgeShard.load(str(place))
        try:
            for item in items:
                payload = to_payload(item.item_id, item.payload)
                shard.update(engine.UpdateOperation.overwrite_payload([item.row], payload))
            shard.flush()
        finally:
            shard.close()


@contextmanager
def _made_in(target: Path, need: float) -> Iterator[Path]:
    """A folder to make a shard of about ``need`` bytes; in the end it is in ``target``, for all who may read it."""
    with workshop(need) as place:
        yield place or target
        if place is not None:
            with _named(target):
                copied(place, target)
    _share(target)


def _drop_empty(target: Path) -> None:
    """Remove segments that have no points, if any has some; the engine makes one where it needs one for new points."""
    segments = list((target / "segments").iterdir())
    filled = {segment for segment in segments if any(segment.glob(_POINTS))}
    for segment in segments:
        if filled and segment not in filled:
            shutil.rmtree(segment)


def _share(target: Path) -> None:
    """Let everybody read the files who may read their folder; the engine makes some for itself alone."""
    mode = target.stat().st_mode & 0o666
    for file in target.rglob("*"):
        if file.is_file() and file.stat().st_mode & 0o666 != mode:
            file.chmod(mode)


@contextmanager
def _named(target: Path) -> Iterator[None]:
    """Say in molar's words what goes wrong in the engine, which may panic, and a panic is no Exception."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise disk_error(error) or BackendError(
            f"the embedded engine could not build {target}: {error}", "run `molar align` again"
        ) from error


def _insert(target: Path, spec: IndexSpec, stream: Iterable[list[IndexItem]], progress: Progress) -> tuple[int, int]:
    """Create the shard and insert the items; returns how many they are, and their bytes."""
    count = size = 0
    with _named(target):
        shard = engine.EdgeShard.create(str(target), config(spec, count))
    try:
        progress.start("index", None)
        for batch in stream:
            own = sum(map(_bytes, batch))
            require_space(target, 2 * own, "the next items of the index take")
            points = [_point(spec, item) for item in batch]
            with _named(target):
                shard.update(engine.UpdateOperation.upsert_points(points))
            progress.advance(len(points))
            count, size = count + len(points), size + own
        with _named(target):
            shard.flush()
    finally:
        with _named(target):
            shard.close()
    return count, size


def _index_fields(shard: engine.EdgeShard, spec: IndexSpec) -> None:
    """Index the payloads, once all points are where they stay: before, each is indexed in memory, and then again."""
    for field, kind in {ITEM_ID: "keyword", **spec.fields}.items():
        schema = _FIELD_INDEXES[kind](memory=engine.Memory.Cold)
        shard.update(engine.UpdateOperation.create_field_index(path(field, kind), schema))


def _bytes(item: IndexItem) -> int:
    numbers = sum(map(len, item.vectors.values())) + 2 * sum(len(vector.indices) for vector in item.sparse.values())
    return 4 * numbers + 2 * len(repr(item.payload)) + _OF_ITEM


def _point(spec: IndexSpec, item: IndexItem) -> engine.Point:
    dense = {name: equal_lengths.stored(spec, name, vector) for name, vector in item.vectors.items()}
    sparse = {name: engine.SparseVector(list(v.indices), list(v.values)) for name, v in item.sparse.items()}
    return engine.Point(item.row, {**dense, **sparse}, to_payload(item.item_id, item.payload))


open_folder = EdgeIndex  # opens what :func:`build` left in a folder
