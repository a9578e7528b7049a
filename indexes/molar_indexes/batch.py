"""`molar recommend`: the lists of all users, or of some, as one Parquet file.

Users are taken in shards of a few hundred, each a file of its own, which a :class:`Runner` makes. A run that was killed
goes on with the shards that are missing; at last they are joined, and only then the result appears.

Unfinished work lies in a folder named by everything that shapes a list, with the rules as they were and the moment from
which freshness counts. Work of another request is thrown away, as is work that was begun more than a day ago::

    tonight.parquet.partial/5c0e…/request.json     when it was begun
    tonight.parquet.partial/5c0e…/rules.toml       the rules, if there are any
    tonight.parquet.partial/5c0e…/00000003.parquet a shard
    .tonight.parquet.lock                          held while somebody writes

Lists of many users as one table, column by column.

Columns are made of buffers: ``pyarrow.array`` loads pandas wherever it is installed, half a second for each process,
and ``take`` all functions of ``pyarrow.compute``.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import compress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import structs

from molar_indexes.generations import open_own_index
from molar_indexes.hot_reload import answering
from molar_indexes.item_store import OpenItemStore
from molar_indexes.recommender import RULES_FILE, Recommender
from molar_retrieval import __version__, limits
from molar_retrieval.errors import DataError, RequestError, SettingsError
from molar_retrieval.frames import TableWriter, ending_of
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.filters import Expression, matches
from molar_retrieval.ranking.index_protocol import Index, IndexSpec, Search, SparseVector, StoredItem, Vector
from molar_retrieval.ranking.query import BATCH_OPTIONS, BatchQuery, Query, QueryOptions, combined
from molar_retrieval.ranking.ranked_list import ADDED_LATE, RankedList
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.discovery import file_beside
from molar_retrieval.workspace.files import for_owner, lock_beside, require_space, write_atomically
from molar_retrieval.workspace.jobs import ProcessRunner, Runner, Shard, ShardWork, atomic_file

if TYPE_CHECKING:
    from molar_indexes.server.config import ServerConfig

Array = npt.NDArray[Any]
_SHARD = 250
_ROWS = 100_000  # recommended items that are held at a time
_REQUEST = "request.json"
_RESUMED = timedelta(days=1)  # work that was begun longer ago is begun anew: its moment is no longer now
_OF_LINE = 80  # bytes of a line of the lists, which are on disk twice when they are joined


class LaterIndex(Index):
    """What ``made`` opens, at the first question that its ``spec`` does not answer; an error comes up there."""

    def __init__(self, spec: IndexSpec, made: Callable[[], Index]) -> None:
        self._spec, self._made, self._lock = spec, made, Lock()
        self._opened: Index | None = None

    @property
    def _index(self) -> Index:
        with self._lock:
            if self._opened is None:
                self._opened = self._made()
            return self._opened

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""
        return self._spec

    @property
    def graphs(self) -> Collection[str]:
        """See :class:`molar_retrieval.ranking.index_protocol.Index`, as for all that follows."""
        return self._index.graphs

    def searching(self, efs: Mapping[str, int]) -> Self:
        """The same index with other candidate lists."""
        spec = replace(self._spec, efs={**self._spec.efs, **efs})
        return type(self)(spec, lambda: self._index.searching(efs))

    def __len__(self) -> int:
        return len(self._index)

    def top(
        self,
        name: str,
        query: Vector | SparseVector,
        k: int,
        *,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
    ) -> list[tuple[int, float]]:
        """Rows and scores of the best."""
        return self._index.top(name, query, k, exclude=exclude, where=where)

    def tops(
        self, searches: Sequence[Search], *, exclude: Iterable[int] = (), where: Expression | None = None
    ) -> list[list[tuple[int, float]]]:
        """The answers to several searches."""
        return self._index.tops(searches, exclude=exclude, where=where)

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[StoredItem]:
        """The stored items at ``rows``."""
        return self._index.fetch(rows, vectors=vectors)

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id."""
        return self._index.rows(item_ids)

    def close(self) -> None:
        """Release files, if it was opened; the index cannot be used afterwards."""
        if self._opened is not None:
            self._opened.close()


def open_when_asked(folder: Path, backend: str, spec: IndexSpec) -> Index:
    """The index in a generation's folder, for :func:`molar_indexes.generations.open_generation`."""
    return LaterIndex(spec, partial(open_own_index, folder, backend, spec))


def schema_of(names: Sequence[str]) -> pa.Schema:
    """The columns of a table of lists; ``names`` are those of the store's parts of a score."""
    last = {"rule": pa.string(), "propensity": pa.float64()}
    first = {"user_id": pa.string(), "rank": pa.int32(), "item_id": pa.string(), "score": pa.float32()}
    return pa.schema({**first, "parts": pa.struct([(name, pa.float32()) for name in (*names, *ADDED_LATE)]), **last})


def table_of(opened: OpenItemStore, user_ids: Sequence[str], lists: Sequence[RankedList]) -> pa.Table:
    """The lists of some users, one after the other."""
    schema = schema_of(opened.items.names)
    if not lists:
        return schema.empty_table()
    sizes = np.array([len(one) for one in lists])
    ranks = np.arange(1, sizes.sum() + 1) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows, scores, parts, propensity = (
        np.concatenate([getattr(one, name) for one in lists]) for name in ("rows", "scores", "parts", "propensity")
    )
    addends = [numbers(part) for part in parts.T.astype(np.float32)]
    columns = {
        "user_id": _repeated(user_ids, sizes),
        "rank": numbers(ranks.astype(np.int32)),
        "item_id": _item_ids(opened, rows),
        "score": numbers(scores.astype(np.float32)),
        "parts": pa.StructArray.from_arrays(addends, list(lists[0].names)),
        "rule": _rule_column(lists),
        "propensity": numbers(propensity, ~np.isnan(propensity)),
    }
    return pa.table(list(columns.values()), schema=schema)


def _rule_column(lists: Sequence[RankedList]) -> pa.StringArray:
    """What put each item where it is, null where nothing did."""
    if not any(one.causes for one in lists):
        return pa.nulls(sum(map(len, lists)), pa.string())
    told = [", ".join(own).encode() for one in lists for own in (one.causes or [()] * len(one))]
    lengths = np.array([len(own) for own in told])
    return _texts(b"".join(told), lengths, lengths > 0)


def _repeated(values: Sequence[str], times: Array) -> pa.StringArray:
    """Each of some texts so many times."""
    encoded = [value.encode() for value in values]
    text = b"".join(own * count for own, count in zip(encoded, times.tolist(), strict=True))
    return _texts(text, np.repeat([len(own) for own in encoded], times))


def _item_ids(opened: OpenItemStore, rows: Array) -> pa.StringArray:
    text, ends = opened.ids
    lengths = ends[rows + 1] - ends[rows]
    places = np.arange(lengths.sum()) + np.repeat(ends[rows] - (np.cumsum(lengths) - lengths), lengths)
    return _texts(text[places], lengths)


def _texts(text: bytes | Array, lengths: Array, known: npt.NDArray[np.bool_] | None = None) -> pa.StringArray:
    """A column of texts that lie one after the other, null where they are not ``known``."""
    ends = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=ends[1:])
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(ends), pa.py_buffer(text), _bits(known))


def numbers(values: Array, known: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """A column of numbers, null where they are not ``known``."""
    buffers = [_bits(known), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def _bits(known: npt.NDArray[np.bool_] | None) -> pa.Buffer | None:
    return None if known is None or known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))


def ranks_of(table: pa.Table) -> npt.NDArray[np.int32]:
    """The ranks of a table of lists, shape (rows,)."""
    chunks = [np.frombuffer(own.buffers()[1], np.int32, len(own), 4 * own.offset) for own in table["rank"].chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int32)


@dataclass(frozen=True)
class RecommendReport:
    """What was written.

    Attributes:
        path: The file.
        generation: That answered.
        users: With a list.
        skipped: Users without a list: no history is known of them, or they are not of the segment.
        rows: Recommended items.
        short: Users with fewer items than were asked for.
        notes: About where the answers come from.
        shards: Of which the work was made up.
        made: How many of these this run made; a run that was interrupted had left the others.
    """

    path: Path
    generation: str
    users: int
    skipped: int
    rows: int
    short: int
    notes: tuple[str, ...] = ()
    shards: int = 0
    made: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self) | {"path": str(self.path), "notes": list(self.notes)}


@dataclass(frozen=True)
class _ListsJob:
    workspace: Path
    generation: str
    rules: Path | None
    folder: Path
    query: Query
    segment: Expression | None
    server: "ServerConfig | None"
    now: datetime
    task: str = "recommending"
    gpu: bool = False

    def path(self, shard: int) -> Path:
        return self.folder / f"{shard:08d}.parquet"

    def is_whole(self, shard: int) -> bool:
        try:
            pq.read_metadata(self.path(shard))
        except (OSError, pa.ArrowInvalid):
            return False
        return True

    @contextmanager
    def opened(self) -> Iterator[ShardWork]:
        with _opened(self.workspace, self.generation, self.rules, self.server) as recommender:
            recommender.now = self.now

            def work(shard: Shard) -> Sequence[str]:
                _write(recommender, self, shard.number, shard.given)
                return recommender.generation.notes

            yield work


def recommend(
    workspace: Path,
    target: Path,
    query: Query | None = None,
    *,
    users: Sequence[str] | None = None,
    segment: str | None = None,
    rules_file: Path | None = None,
    processes: int = 1,
    runner: Runner | None = None,
    server: "ServerConfig | None" = None,
    progress: Progress = SILENT,
    **options: Unpack[QueryOptions],
) -> RecommendReport:
    """Write the lists of many users; their options are those of :class:`~molar_retrieval.ranking.query.BatchQuery`.

    The file, .parquet, .csv or .jsonl, has the columns ``user_id``, ``rank``, ``item_id``, ``score``, ``parts`` (a
    struct of the addends, in CSV columns ``parts.NAME``), ``rule`` and ``propensity``; users come in the order of the
    store or as they are named, ranks ascend. ``target`` is overwritten; ``segment`` is a condition on people's
    attributes; ``rules_file`` and ``server`` are those of :meth:`Recommender.open`. The ``runner`` does the work; None:
    that many ``processes`` of this machine.

    Raises:
        MissingArtefactError: If there is no generation.
        RequestError: If an option is wrong, or beyond its bound.
        SettingsError: If the rules are wrong.
        DataError: If the target cannot be written, another process is writing it, or the disk is too small.
        BackendError: If the server does not answer.
    """
    limits.path("the file to write", target)
    ending = ending_of(target)
    limits.whole("processes", processes, limits.PROCESSES)
    if users is not None:
        limits.ids("users", users, limits.USERS)
    if not target.name or target.is_dir():
        raise DataError(f"{target} is a folder and cannot be written", "name a file")
    query = combined(query, options, "recommend", used=BATCH_OPTIONS, kind=BatchQuery)
    ruled = _rules(workspace, rules_file, query)
    with _opened(workspace, None, rules_file, server) as recommender:
        notes = tuple(recommender.generation.notes)
        recommender.rank_many([], query)  # what is wrong with the options comes up before any work
        name, count = recommender.generation.name, len(recommender.generation.users)
        total = count if users is None else len(users)
        require_space(target.absolute().parent, total * query.k * _OF_LINE, "the lists take about")
        schema = schema_of(recommender.ranker.store.names)
        condition = None if segment is None else _condition(recommender, segment)
        asked = None if notes else server  # of a run, all lists come from one place
    names = Pseudonymiser.of(workspace)
    whose = None if users is None else [names.key(one) for one in users]
    place = None if asked is None else [asked.url, asked.collection, asked.users]
    known = None if ruled is None else fingerprint.of_bytes([ruled])
    wanted = fingerprint.of_json([__version__, name, whose, segment, _written(query), known, place, _SHARD])
    with lock_beside(target):
        folder, now = _partial(target, wanted, ruled)
        pinned = None if ruled is None else folder / RULES_FILE
        own = structs.replace(query, rules=pinned is not None)  # none that turn up meanwhile
        job = _ListsJob(workspace.absolute(), name, pinned, folder, own, condition, asked, now)
        made = (runner or ProcessRunner(processes)).run(job, _shards(whose, total), progress)
        notes = tuple(dict.fromkeys((*notes, *made.notes)))
        ids = _given(recommender.workspace, whose, users) if names.keys else {}
        report = _join(job, target, schema, total, ending, ids)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()
    return replace(report, notes=(*notes, *report.notes), shards=made.shards, made=made.made)


def _opened(workspace: Path, generation: str | None, rules: Path | None, server: "ServerConfig | None") -> Recommender:
    """What makes the lists; it opens the index when it asks it for something, as lists by scans of all items do not."""
    place = Workspace.open(workspace)
    file = file_beside(place.root, RULES_FILE) if rules is None else rules
    needed, trust = rules is not None, False
    following = answering(
        place, generation, file, rules_needed=needed, follow=False, server=server, trust=trust, indexed=open_when_asked
    )
    return Recommender(place, following)


def _shards(whose: Sequence[str] | None, total: int) -> list[Shard]:
    """Places of people in the store, or the people who were named."""
    starts = range(0, total, _SHARD)
    given = [range(begin, begin + _SHARD) if whose is None else whose[begin : begin + _SHARD] for begin in starts]
    return [Shard(n, min(_SHARD, total - n * _SHARD), one) for n, one in enumerate(given)]


def _rules(workspace: Path, rules: Path | None, query: Query) -> bytes | None:
    """The rules that hold, as they are now; None where there are none."""
    if not query.rules:
        return None
    file = file_beside(workspace, RULES_FILE) if rules is None else rules
    try:
        with file.open("rb") as opened:
            return opened.read(limits.TOML + 1)
    except FileNotFoundError:
        if rules is None:
            return None
        raise SettingsError(f"there is no file of rules {file}", "name an existing file") from None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error}", "name a file of rules") from error


def _written(query: Query) -> dict[str, Any]:
    """What a query says, whatever the order of ids in a set."""
    values = {name: repr(getattr(query, name)) for name in query.__struct_fields__}
    candidates = None if query.candidates is None else sorted(query.candidates)
    return values | {"exclude": sorted(query.exclude), "candidates": candidates}


def _condition(recommender: Recommender, segment: str) -> Expression:
    known: dict[str, str] = recommender.generation.manifest.facts.get("segments", {})
    if not known:
        raise RequestError(
            "nothing is known of the users to choose by",
            'name columns of the users file in molar.toml, [index] segments = ["country"], and run `molar align`',
        )
    from molar_retrieval.ranking.filter_language import parse  # loads a parser, which most runs do without

    return parse(segment, known)


def _partial(target: Path, wanted: str, rules: bytes | None) -> tuple[Path, datetime]:
    """The folder of a request's unfinished work, and when that was begun; what others have left is removed."""
    root = target.absolute().with_name(f"{target.name}.partial")
    folder = root / wanted
    try:
        for other in root.iterdir() if root.exists() else ():
            if other != folder:
                shutil.rmtree(other) if other.is_dir() else other.unlink()
        begun = _begun(folder)
        if begun is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if rules is not None:
                (folder / RULES_FILE).write_bytes(rules)
            begun = datetime.now(UTC)
            write_atomically(folder / _REQUEST, json.dumps({"begun": begun.isoformat()}))
    except OSError as error:
        raise DataError(
            f"{target} cannot be written: {error}", "name a file in a folder that you may write to"
        ) from error
    return folder, begun


def _begun(folder: Path) -> datetime | None:
    """When the work in a folder was begun; None where there is none to go on with."""
    try:
        begun = datetime.fromisoformat(json.loads((folder / _REQUEST).read_text("utf-8"))["begun"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return begun if timedelta() <= datetime.now(UTC) - begun < _RESUMED else None


def _write(recommender: Recommender, job: _ListsJob, shard: int, whose: range | Sequence[str]) -> None:
    store = recommender.generation.users
    if isinstance(whose, range):
        found = store.between(whose.start, whose.stop)
    else:
        found = [user for user in map(store.keyed, whose) if user is not None]
    chosen = job.segment
    users = [u for u in found if len(u.history) and (chosen is None or matches(chosen, u.attributes))]
    size = max(1, _ROWS // job.query.k)
    opened = recommender.generation.table
    with atomic_file(job.path(shard)) as partial:
        with pq.ParquetWriter(partial, schema_of(opened.items.names), compression="zstd") as writer:
            for some in (users[begin : begin + size] for begin in range(0, len(users), size)):
                with recommender.answering() as answerer:
                    lists = list(answerer.rank_many(some, job.query, recommender.now))
                listed = [(user.user_id, one) for user, one in zip(some, lists, strict=True) if one is not None]
                writer.write_table(table_of(opened, [user_id for user_id, _ in listed], [one for _, one in listed]))
        for_owner(partial)


def _given(workspace: Workspace, whose: Sequence[str] | None, users: Sequence[str] | None) -> dict[str, str]:
    """The ids that the shop gives people, by key."""
    from molar_retrieval.privacy.pseudonymisation import original_ids  # reads tables of every kind

    return original_ids(workspace) if whose is None else dict(zip(whose, users or (), strict=True))


def _join(
    job: _ListsJob, target: Path, schema: pa.Schema, total: int, ending: str, ids: Mapping[str, str]
) -> RecommendReport:
    """All lists in one file, people by the ids that the shop gives them: ``ids`` has them by key, where they differ."""
    partial, users, rows, short, unnamed = job.folder / "joined.tmp", 0, 0, 0, 0
    with TableWriter(partial, schema, ending) as writer:
        for shard in range(-(-total // _SHARD)):
            with pq.ParquetFile(job.path(shard)) as file:
                for table in map(file.read_row_group, range(file.num_row_groups)):  # a user is in one of them
                    ranks = ranks_of(table)
                    found = int(np.count_nonzero(ranks == 1))
                    users, rows = users + found, rows + len(table)
                    short += found - int(np.count_nonzero(ranks == job.query.k))
                    if ids:
                        keys = table["user_id"].to_pylist()
                        unnamed += sum(key not in ids for key in compress(keys, ranks == 1))
                        own = pa.array([ids.get(key, key) for key in keys], pa.string())
                        table = table.set_column(0, table.schema.field("user_id"), own)
                    writer.write(table)
    for_owner(partial)
    partial.replace(target)
    notes = (f"{unnamed:,} people are known by events alone: the file has their pseudonyms",) if ids and unnamed else ()
    return RecommendReport(target, job.generation, users, total - users, rows, short, notes)
