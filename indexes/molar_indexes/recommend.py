"""`molar recommend`: the lists of all users, or of some, as one Parquet file.

Users are taken in shards of a few hundred, each of which a process writes as a file of its own. A run that was killed
goes on with the shards that are missing; at last they are joined, and only then the result appears.
"""

import json
import shutil
from collections.abc import Generator, Sequence
from concurrent.futures import as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from molar_indexes.options import Options
from molar_indexes.recommender import Recommender
from molar_indexes.server.place import Server
from molar_indexes.users import UserRecord
from molar_retrieval import fingerprint
from molar_retrieval.allocator import keep_freed_memory
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.expressions import Expression, matches
from molar_retrieval.filter_language import parse
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.wishes import RERANK, RULES, Listing
from molar_retrieval.workers import Workers

_SHARD = 500
_NEWCOMER = "newcomer"


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
    """

    path: Path
    generation: str
    users: int
    skipped: int
    rows: int
    short: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self) | {"path": str(self.path), "notes": list(self.notes)}


@dataclass(frozen=True)
class _Job:
    """What every shard is made by."""

    workspace: Path
    generation: str
    rules: Path | None
    folder: Path
    k: int
    options: Options
    segment: Expression | None
    server: Server | None

    def path(self, shard: int) -> Path:
        return self.folder / f"{shard:08d}.parquet"


def recommend(
    workspace: Path,
    target: Path,
    k: int = 10,
    *,
    users: Sequence[str] | None = None,
    segment: str | None = None,
    rules: Path | None = None,
    processes: int = 1,
    options: Options | None = None,
    server: Server | None = None,
    progress: Progress = SILENT,
) -> RecommendReport:
    """Write the lists of many users.

    The file has the columns ``user_id``, ``rank``, ``item_id``, ``score``, ``parts`` (a struct of the score's addends)
    and ``rule``; users come in the order of the store or as they are named, ranks ascend.

    Args:
        workspace: With a live generation.
        target: The Parquet file, overwritten if it is there.
        k: Items per user.
        users: Whose lists; None: all.
        segment: Only people whose attributes fulfil this condition; None: all.
        rules: See :meth:`Recommender.open`.
        processes: How many work at once.
        options: As for :meth:`Recommender.query`; reasons are left out.
        server: See :meth:`Recommender.open`.
        progress: Told of users.

    Raises:
        MissingArtefactError: If there is no generation.
        RequestError: If an option is wrong.
        DataError: If the target cannot be written.
        BackendError: If the server does not answer.
    """
    chosen: Options = options or {}
    with Recommender.open(workspace, rules=rules, server=server) as recommender:
        notes = tuple(recommender.generation.notes)
        next(recommender.rank_many([], k, **chosen), None)  # what is wrong with the options comes up before any work
        name, count = recommender.generation.name, len(recommender.generation.users)
        schema = _schema(recommender)
        condition = None if segment is None else _condition(recommender, segment)
        partial = _partial(target, [name, k, users if users is None else list(users), segment], rules, chosen)
        asked = None if notes else server  # of a run, all lists come from one place
        job = _Job(workspace, name, rules, partial, k, chosen, condition, asked)
    total = count if users is None else len(users)
    shards = range(-(-total // _SHARD))
    named = [None if users is None else list(users[n * _SHARD : (n + 1) * _SHARD]) for n in shards]
    missing = [n for n in shards if not job.path(n).exists()]
    progress.start("recommending", total)
    progress.advance(sum(min(_SHARD, total - n * _SHARD) for n in shards if n not in set(missing)))
    told = list(notes)
    with closing(_worked(job, missing, named, processes)) as shards_made:
        for shard, more in shards_made:
            told += [note for note in more if note not in told]
            progress.advance(min(_SHARD, total - shard * _SHARD))
    progress.finish()
    report = _join(job, target, shards, schema, total)
    shutil.rmtree(job.folder)
    return replace(report, notes=tuple(told))


def _condition(recommender: Recommender, segment: str) -> Expression:
    known: dict[str, str] = recommender.generation.manifest.facts.get("segments", {})
    if not known:
        raise RequestError(
            "nothing is known of the users to choose by",
            'name columns of the users file in molar.toml, [index] segments = ["country"], and run `molar align`',
        )
    return parse(segment, known)


def _partial(target: Path, request: Sequence[Any], rules: Path | None, options: Options) -> Path:
    """The folder of the shards; emptied where it holds those of another request."""
    written = None if rules is None else fingerprint.of_file(rules)
    wanted = fingerprint.of_json([*request, written, repr(options)])
    folder = target.with_name(f"{target.name}.partial")
    try:
        noted = folder / "request.json"
        if noted.exists() and json.loads(noted.read_text("utf-8")) != wanted:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        noted.write_text(json.dumps(wanted), "utf-8")
    except OSError as error:
        raise DataError(
            f"{target} cannot be written: {error}", "name a file in a folder that you may write to"
        ) from error
    return folder


def _worked(
    job: _Job, missing: Sequence[int], named: Sequence[list[str] | None], processes: int
) -> Generator[tuple[int, Sequence[str]]]:
    """Make the missing shards; yields each that is done, with notes about where its answers come from."""
    if processes <= 1 or len(missing) <= 1:
        with _opened(job) as recommender:
            for shard in missing:
                _write(recommender, job, shard, named[shard])
                yield shard, recommender.generation.notes
        return
    with Workers(min(processes, len(missing)), _open, job) as pool:
        yield from (done.result() for done in as_completed(pool.submit(_shard, n, named[n]) for n in missing))


_worker: tuple[Recommender, _Job] | None = None
"""Of a process of the pool: opened once, used for all of its shards."""


def _open(job: _Job) -> None:
    global _worker
    keep_freed_memory()
    threadpool_limits(1)  # as many processes as cores work already
    _worker = _opened(job), job


def _opened(job: _Job) -> Recommender:
    return Recommender.open(job.workspace, job.generation, rules=job.rules, server=job.server)


def _shard(shard: int, named: list[str] | None) -> tuple[int, Sequence[str]]:
    assert _worker is not None
    recommender, job = _worker
    _write(recommender, job, shard, named)
    return shard, recommender.generation.notes


def _write(recommender: Recommender, job: _Job, shard: int, named: list[str] | None) -> None:
    store = recommender.generation.users
    if named is None:
        found = store.between(shard * _SHARD, (shard + 1) * _SHARD)
    else:
        found = [user for user in map(store.get, named) if user is not None]
    chosen = job.segment
    users = [u for u in found if len(u.history) and (chosen is None or matches(chosen, u.attributes))]
    table = _table(recommender, users, list(recommender.rank_many(users, job.k, **job.options)))
    partial = job.path(shard).with_suffix(".tmp")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(job.path(shard))


def _table(recommender: Recommender, users: Sequence[UserRecord], lists: Sequence[Listing]) -> pa.Table:
    schema, opened = _schema(recommender), recommender.generation.table
    places = [placed for listing in lists for placed in listing.places]
    names = [field.name for field in schema.field("parts").type]
    parts = [pa.array([placed.parts.get(name, 0.0) for placed in places], pa.float32()) for name in names]
    return pa.table(
        [
            pa.array([user.user_id for user, one in zip(users, lists, strict=True) for _ in one.places], pa.string()),
            pa.array([rank for one in lists for rank, _ in enumerate(one.places, 1)], pa.int32()),
            pa.array([opened.item_id(placed.row) for placed in places], pa.string()),
            pa.array([placed.score for placed in places], pa.float32()),
            pa.StructArray.from_arrays(parts, names),
            pa.array([", ".join(placed.causes) or None for placed in places], pa.string()),
        ],
        schema=schema,
    )


def _schema(recommender: Recommender) -> pa.Schema:
    names = [*recommender.ranker.table.names, _NEWCOMER, RERANK, RULES]
    return pa.schema(
        {
            "user_id": pa.string(),
            "rank": pa.int32(),
            "item_id": pa.string(),
            "score": pa.float32(),
            "parts": pa.struct([(name, pa.float32()) for name in names]),
            "rule": pa.string(),
        }
    )


def _join(job: _Job, target: Path, shards: Sequence[int], schema: pa.Schema, total: int) -> RecommendReport:
    """All shards as one file."""
    partial, users, rows, short = job.folder / "joined.tmp", 0, 0, 0
    with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for shard in shards:
            table = pq.read_table(job.path(shard), schema=schema)
            counts = table.group_by("user_id").aggregate([("rank", "count")])
            users, rows = users + len(counts), rows + len(table)
            short += sum(count < job.k for count in counts["rank_count"].to_pylist())
            writer.write_table(table)
    partial.replace(target)
    return RecommendReport(target, job.generation, users, total - users, rows, short)
