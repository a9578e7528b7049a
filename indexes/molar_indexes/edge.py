"""The embedded Qdrant engine: a shard in the index folder, built once and then only read.

What the beta needs care for:

* Without a write-ahead log several processes may open one shard; with it the second one fails.
* Even a reader writes on opening and closing, so that readers are given a view, see below.
* It makes and removes hundreds of files on the way, and waits for the disk all the time; small ones are made in memory.
* It makes some files that nobody else may read, so that building ends with giving all files the folder's permissions.
* Its segment for new points is 200 MB of holes even when empty, of which readers map 50 MB; what is built has none.
* Equal scores come in no particular order, so ties are settled here.
* Vectors that are not finite are stored without a word; :func:`molar_indexes.records.batches` refuses them.
* A graph misses some of the best, so it is used only where scanning everything would take more than some milliseconds.

How an index lies in a shard of the embedded Qdrant engine: which vectors get a graph, where what is kept.

The Python binding 0.9 turns ``MatchValue(True)`` into the integer 1, which no boolean equals. So booleans are stored a
second time, as the keywords ``true`` and ``false`` under a shadow key, for filters only.

Reading a shard without writing to it: the engine is given a private view, for as long as it opens the files.

The engine, even where it is only asked, renames its JSON files onto themselves, cuts files to the length that they
have and maps them writable. So what it opens for writing is copied, and what it only reads is linked, in memory where
there is room. A published shard is thereby never touched: it may lie on read-only media, belong to somebody else, or
fill a disk.
"""

import errno
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

import qdrant_edge as engine

from molar_indexes import equal_lengths
from molar_indexes.filters import FilterConstructors, field_of, key_of, quoted
from molar_indexes.qdrant_index import Found, QdrantIndex
from molar_indexes.records import BATCH, ITEM_ID, batches, check_stored
from molar_retrieval.errors import BackendError, DiskError, StaleArtefactError
from molar_retrieval.progress import Progress
from molar_retrieval.ranking.index_protocol import SCAN, IndexItem, IndexSpec, SparseVector, StoredItem, Vector
from molar_retrieval.workspace.files import disk_error, require_space, reserve_space
from molar_retrieval.workspace.fingerprint import filled
from molar_retrieval.workspace.threads import give_freed_memory_back

SHARD = "shard"  # the shard's place in an index folder
FULL_SCAN_KB = 16_384
"""Vectors of up to this size together are scanned, exactly, in a millisecond or two; larger ones get a graph."""
_SPARSE_SCAN = 32
"""So many items are scored one by one (17 µs each); the engine's own limit of 5,000 costs 27 ms where the inverted
index takes 0.7 ms."""
_SHADOW = "%bool:"
OF_GRAPHS = engine.TurboQuantQuantizationConfig(bits=engine.TurboQuantBitSize.Bits8, memory=engine.Memory.Cold)
"""Vectors that have a graph are kept once more in a byte a number, turned so that all numbers are of one size (the one
that brings them to one length is not). By these a graph is built and walked, in half the time and as well; what it
finds is scored by the whole ones."""
_PREFIX = "molar-view-"
_ABANDONED = 3600  # seconds after which a view is that of a process which was killed while it opened a shard
_LINKED = {"matrix.dat", "quantized.data", "inverted_index.dat", "id_tracker.mappings"}
_LINKED_KIND = ".bin"
"""What the engine opens for reading only, by name or by the end of it; all else may be opened for writing."""
_PAGE = "page_"
"""Files of values, of any size; the engine opens them for writing, but writes nothing where nothing is changed."""
_LARGE = 32 << 20
"""Bytes of pages that are copied; of more the folders are linked, where the engine may open what is in there."""
_MEMORY = Path("/dev/shm")
_LITTLE = 128 << 20  # bytes that an index may take in memory while it is made
_SPARE = 8 << 20  # bytes that a view leaves free
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
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


def path(field: str, kind: str = "keyword") -> str:
    """The engine's JSON path of a field; that of its shadow for ``bool``."""
    return quoted(field, _SHADOW if kind == "bool" else "")


def to_payload(item_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored for a cleaned payload."""
    stored: dict[str, Any] = {ITEM_ID: item_id}
    for field, value in payload.items():
        key = key_of(field)
        stored[key] = value
        truths = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, bool)]
        if truths:
            stored[_SHADOW + key] = [_word(v) for v in truths]
    return stored


def from_payload(stored: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The item's id and its payload, as they were given."""
    fields = dict(stored)
    item_id = fields.pop(ITEM_ID)
    if "%" in "".join(fields):  # of a shadow, or of a name that had to be escaped
        fields = {field_of(k): v for k, v in fields.items() if not k.startswith(_SHADOW)}
    return item_id, fields


def _equals(field: str, value: str | bool | int) -> engine.FieldCondition:
    if isinstance(value, bool):
        return engine.FieldCondition(path(field, "bool"), match=engine.MatchValue(_word(value)))
    return engine.FieldCondition(path(field), match=engine.MatchValue(value))


def _word(value: bool) -> str:
    return "true" if value else "false"


EMBEDDED = FilterConstructors(
    filter=engine.Filter,
    equals=_equals,
    among=lambda field, words: engine.FieldCondition(path(field), match=engine.MatchAny(words)),
    within=lambda field, bounds: engine.FieldCondition(path(field), range=engine.RangeFloat(**bounds)),
    contains=lambda field, part: engine.FieldCondition(path(field), match=engine.MatchSubstring(part)),
    empty=lambda field: engine.IsEmptyCondition(path(field)),
    rows=lambda rows: engine.HasIdCondition(set(rows)),
    largest=inf,
)
"""Conditions of the embedded engine."""


def graphs(spec: IndexSpec, count: int) -> set[str]:
    """Names of the vectors that are too many to be scanned for every query, of those that are searched often."""
    dims = equal_lengths.dims(spec)
    return {name for name in spec.searched if count * dims[name] * 4 > FULL_SCAN_KB * 1024}


def config(spec: IndexSpec, count: int) -> engine.EdgeConfig:
    """The shard's configuration for ``count`` items.

    The graph has no links of its own for values of the payload: they take several times as long to build as all else,
    and a filtered search finds as much without them. Cold memory is mapped and read on demand, so that a process that
    asks once stays small. A graph is built whatever ``full_scan_threshold`` says, unless it is to have no edges.
    """
    with_graph, cold = graphs(spec, count), engine.Memory.Cold

    def hnsw(m: int) -> engine.HnswIndexConfig:
        return engine.HnswIndexConfig(
            m=m, payload_m=0, ef_construct=spec.ef_construct, full_scan_threshold=FULL_SCAN_KB, memory=cold
        )

    return engine.EdgeConfig(
        vectors={
            name: engine.EdgeVectorParams(
                size=size,
                distance=engine.Distance.Dot,
                hnsw_config=hnsw(spec.m if name in with_graph else 0),
                quantization_config=OF_GRAPHS if name in with_graph else None,
                memory=cold,
            )
            for name, size in equal_lengths.dims(spec).items()
        },
        sparse_vectors={
            name: engine.EdgeSparseVectorParams(full_scan_threshold=_SPARSE_SCAN, memory=cold) for name in spec.sparse
        },
        hnsw_config=hnsw(spec.m),
        # From 1 kB on everything moves into one immutable segment.
        optimizers=engine.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=1),
        payload_memory=cold,
        max_search_threads=1,
        wal_enabled=False,
    )


@contextmanager
def view(shard: Path) -> Iterator[Path]:
    """A folder that the engine may open instead of ``shard``; it is removed when the context is left.

    Raises:
        DiskError: If there is no room for it, or a file may not be read.
        OSError: If there is no such shard.
    """
    shard = shard.absolute()
    place = _made(shard, *_listing(shard))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def workshop(need: float) -> Iterator[Path | None]:
    """An empty folder in memory that is removed in the end; None where ``need`` bytes are too many there."""
    if not os.access(_MEMORY, os.W_OK) or need > min(_LITTLE, shutil.disk_usage(_MEMORY).free / 2):
        yield None
        return
    _sweep(_MEMORY)
    place = _MEMORY / f"{_PREFIX}{os.urandom(8).hex()}"
    place.mkdir(0o700)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def copied(shard: Path, place: Path) -> None:
    """Copy all files of a shard into a folder, without the holes that they have or could have; OSError if it fails."""
    folders, files = _listing(shard)
    for name in folders:
        (place / name).mkdir()
    for name in files:
        _copy(shard / name, place / name)


def _listing(shard: Path) -> tuple[list[str], list[str]]:
    """The names of a shard's folders, outer ones first, and of its files."""
    folders: list[str] = []
    files: list[str] = []
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(shard / inside) as entries:
            for entry in entries:
                name = f"{inside}/{entry.name}" if inside else entry.name
                (folders if entry.is_dir() else files).append(name)
                waiting += [name] if entry.is_dir() else []
    return folders, files


def _made(shard: Path, folders: list[str], files: list[str]) -> Path:
    """A view in memory, or among the temporary files where there is no room."""
    for root in _roots():
        _sweep(root)
        place = root / f"{_PREFIX}{os.urandom(8).hex()}"
        try:
            place.mkdir(0o700)
            _fill(place, shard, folders, files)
        except BaseException as error:
            shutil.rmtree(place, ignore_errors=True)
            if not isinstance(error, OSError) or error.errno not in _NO_ROOM:
                raise
        else:
            return place
    raise DiskError(
        f"there is no room to open {shard}, neither in {_MEMORY} nor among the temporary files",
        "make room there, or name another folder in the environment variable TMPDIR",
    )


def _fill(place: Path, shard: Path, folders: list[str], files: list[str]) -> None:
    for name in folders:
        (place / name).mkdir()
    stores = {_folder(name) for name in files if name.rpartition("/")[2].startswith(_PAGE)}
    stored = [name for name in files if _folder(name) in stores]
    budget = _LARGE if all(os.access(shard / name, os.W_OK) for name in stored) else sys.maxsize
    for name in stored:
        budget -= _bring(shard / name, place / name)
        if budget < 0:
            for store in stores:
                shutil.rmtree(place / store)
                (place / store).symlink_to(shard / store)
            break
    for name in files:
        if _folder(name) not in stores:
            _bring(shard / name, place / name)


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _roots() -> Iterator[Path]:
    if _MEMORY.is_dir():
        yield _MEMORY
    import tempfile  # takes a while, and there is room in memory nearly always

    with suppress(FileNotFoundError):  # there is none that can be written to
        yield Path(tempfile.gettempdir())


def _sweep(place: Path) -> None:
    """Remove one's own views that a killed process left."""
    with suppress(OSError):
        for left in place.glob(f"{_PREFIX}*"):
            facts = left.lstat()
            old = time.time() - facts.st_mtime > _ABANDONED
            if old and stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid():
                shutil.rmtree(left, ignore_errors=True)


def _bring(source: Path, target: Path) -> int:
    """Link or copy a file; returns how many bytes that took."""
    link = source.suffix == _LINKED_KIND or source.name in _LINKED
    try:
        if not link:
            return _copy(source, target)
        source.open("rb").close()  # else the engine says it, in its own words
    except PermissionError as error:
        if error.filename != str(source):
            raise
        raise DiskError(
            f"{source} may not be read by this user",
            "let its owner run `chmod -R a+rX` on the workspace, or ask as its owner",
        ) from error
    target.symlink_to(source)
    return 0


def _copy(source: Path, target: Path) -> int:
    """Copy a file with its holes, and make holes of zeros; returns how many bytes are left."""
    copied = 0
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as write:
        write.truncate(os.fstat(read.fileno()).st_size)
        for place, block in filled(read.fileno()):
            copied += os.pwrite(write.fileno(), block, place)
        room = os.fstatvfs(write.fileno())
        if copied and room.f_bavail * room.f_frsize < _SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
    return copied


class EdgeIndex(QdrantIndex):
    """An index on a shard of the embedded Qdrant engine."""

    constructors = EMBEDDED

    def __init__(self, folder: Path, spec: IndexSpec) -> None:
        try:
            with view(folder / SHARD) as readable:
                self._shard = engine.EdgeShard.load(str(readable))
            count: int = self._shard.info().points_count
        except DiskError:
            raise
        except BaseException as error:  # the engine panics on some damages, and a panic is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise StaleArtefactError(
                f"the index in {folder} cannot be opened: {error}", "run `molar align` to publish a new one"
            ) from error
        super().__init__(spec, count, graphs(spec, count))

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[StoredItem]:
        """The stored items at ``rows``, in that order; unknown rows are left out."""
        check_stored(self._spec, vectors)
        wanted = [int(row) for row in rows if row >= 0]
        records = self._shard.retrieve(list(set(wanted)), with_payload=True, with_vector=list(vectors) or False)
        found = {record.id: _stored(self._spec, record) for record in records}
        return [found[row] for row in wanted if row in found]

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, in their order; None for an unknown one."""
        found: dict[str, int] = {}
        for begin in range(0, len(item_ids), BATCH):
            wanted = list(set(item_ids[begin : begin + BATCH]))
            condition = engine.Filter(must=[engine.FieldCondition(path(ITEM_ID), match=engine.MatchAny(wanted))])
            request = engine.ScrollRequest(limit=len(wanted), filter=condition, with_payload=[path(ITEM_ID)])
            records: list[Any] = self._shard.scroll(request)[0]
            found |= {record.payload[ITEM_ID]: record.id for record in records}
        return [found.get(item_id) for item_id in item_ids]

    def close(self) -> None:
        """Release files; the index cannot be used afterwards."""
        with suppress(Exception):  # closing flushes into the view, which is gone; there is nothing to lose
            self._shard.close()

    def _sparse(self, vector: SparseVector) -> engine.SparseVector:
        return engine.SparseVector(list(vector.indices), list(vector.values))

    def _search(self, name: str, asked: Any, limit: int, condition: Any, candidates: int) -> Found:
        params = None
        if name in self._graph:
            params = engine.SearchParams(
                hnsw_ef=candidates or None,
                exact=candidates == SCAN,
                # All that a graph finds is scored by whole vectors; what was published before has no others.
                quantization=engine.QuantizationSearchParams(
                    ignore=candidates == SCAN, rescore=True, oversampling=max(1.0, candidates / limit)
                ),
                # Looks past what the condition leaves out, where that is more than four items in ten.
                acorn=engine.AcornSearchParams(enable=True, max_selectivity=0.6) if condition is not None else None,
            )
        nearest = engine.Query.Nearest(asked, using=name)
        request = engine.SearchRequest(query=nearest, limit=limit, filter=condition, params=params)
        try:
            points: list[Any] = self._shard.search(request)
        except Exception as error:
            raise BackendError(f"the embedded index failed: {error}", "run `molar index verify`") from error
        return [(point.id, point.score) for point in points]

    def _first(self, name: str, k: int, condition: Any) -> Found:
        must: list[Any] = [engine.HasVectorCondition(name), *([condition] if condition else [])]
        request = engine.ScrollRequest(limit=k, filter=engine.Filter(must=must), with_payload=False)
        records: list[Any] = self._shard.scroll(request)[0]
        return [(record.id, 0.0) for record in records]


def _stored(spec: IndexSpec, record: Any) -> StoredItem:
    item_id, payload = from_payload(record.payload)
    if not record.vector:
        return StoredItem(record.id, item_id, payload)
    dense: dict[str, Vector] = {}
    sparse: dict[str, SparseVector] = {}
    for name, vector in record.vector.items():
        if isinstance(vector, engine.SparseVector):
            sparse[name] = SparseVector(vector.indices, vector.values)
        else:
            dense[name] = equal_lengths.given(spec, name, vector)
    return StoredItem(record.id, item_id, payload, dense, sparse)


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
