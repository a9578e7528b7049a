"""A generation made of the workspace's artefacts, with nothing of a former one but vectors of users.

Dense vectors of users as a work in shards: a shard is some hundred people, its file their vectors.

What towers make of a history takes most of the time in which a generation's users are written. The files lie among
unfinished generations, where a run that was killed finds them again, and go with the next publication.

Items' vectors turned towards those who ask, so that a graph leads where queries go.

A graph joins items that are near each other, and a query is the vector of a user, which is like no item. Users differ
along few directions: what items have along others keeps neighbours apart and answers nothing. So items are multiplied
by the root of the users' second moments, and users by its inverse. All products stay what they are, all directions now
mean the same to users, and near items are those that the same users want (the metric is that of a query-aware loss, Guo
et al. 2020, arXiv 1908.10396).

Vectors of users that the live generation has, for those of whom nothing has changed since.

A user's dense vector follows from the towers, the way a history is read, and what the model knows of the history's
items. Where towers and reading are what they were, who had the same items at the same times, none of which looks
different now, has the same vector.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from molar_indexes.attributes import ordinary, payloads
from molar_indexes.equal_lengths import longest
from molar_indexes.generations import Generation, carried, open_generation, publish
from molar_indexes.item_store import Extras
from molar_indexes.query_maps import QueryMaps
from molar_indexes.records import sparse_rows
from molar_indexes.users import UserRecord
from molar_retrieval import __version__, columns
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions, of_tensors, to_tensors
from molar_retrieval.data.prepare import TEXT
from molar_retrieval.data.prepare_interactions import StoredEvents
from molar_retrieval.data.text_features import bm25
from molar_retrieval.data.users_file import Segments
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.encoders.builtin import image_block
from molar_retrieval.errors import MissingArtefactError, StaleArtefactError
from molar_retrieval.ids import IdMap
from molar_retrieval.models import content_features
from molar_retrieval.models.als import open_log
from molar_retrieval.models.cold_start import exploration
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.item_item import InteractionMatrix
from molar_retrieval.models.k_anonymity import had_by_few
from molar_retrieval.models.store import asked_for, open_model
from molar_retrieval.models.towers.distributed import threads
from molar_retrieval.models.vectors import ItemItemVectors, ItemVectors
from molar_retrieval.progress import Progress
from molar_retrieval.ranking.candidates import MOST_SCANNED
from molar_retrieval.ranking.explanations import ContentKNNWeights, Origins
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec, SparseVector
from molar_retrieval.ranking.item_store import LowSupportItems
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import ArtefactStore, Manifest, Workspace
from molar_retrieval.workspace.files import for_owner, require_space
from molar_retrieval.workspace.jobs import Runner, Shard, ShardWork, atomic_file
from molar_retrieval.workspace.pinned import PinnedWorkspace
from molar_retrieval.workspace.settings import ExplorationSettings, IndexSettings
from molar_retrieval.workspace.tensors import Array, Mask, Matrix, Rows, TensorsWriter, mapped, zeros_outside

SHARD = 1024
"""Users of a shard: some seconds of one processor."""
_VECTORS, _LOG, _ALIGNMENT = "vectors", "log.safetensors", "alignment"
SAMPLE = 1024  # so many users tell enough of their directions
_RIDGE = 0.01  # of the mean, in every direction: nobody may be asked for along one that no user has
_BLOCK = 4096
_POPULAR = 1000
_IMAGE = 256  # dimensions by which photos are searched for
_MANY = 1 << 23
"""Partner weights of which it is not held in memory how many people had both."""
_SAME = 1e-5
"""Numbers that differ by less are the same, computed in another order."""
_TABLE = "items.id_tower.weight"
_BATCH = 4096
_MOST_PARTNERS = 1 << 26
"""Partner weights that an index holds. While it is built its engine has each in memory several times over, and answers
read those of the table; only under a condition it is asked for them."""


@dataclass(frozen=True)
class UserVectorsJob:
    """Users of a log, by the alignment in a folder."""

    folder: Path
    alignment: Path
    n_items: int
    task: str = "user vectors"
    gpu: bool = False

    @classmethod
    def of(cls, store: ArtefactStore, alignment: tuple[Path, Manifest], log: Interactions) -> Self:
        """All users of a log; unfinished work of the same data, alignment and molar is found again in the store."""
        folder, manifest = alignment
        read = fingerprint.of_bytes(values.view(np.uint8).data for values in to_tensors(log).values())
        name = fingerprint.of_json(["user vectors", __version__, manifest.fingerprint, read, SHARD])
        return cls(store.partial(name[:16]).absolute(), folder.absolute(), log.n_items)

    @property
    def inputs(self) -> Path:
        """The log, as all shards read it."""
        return self.folder / _LOG

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{shard:08}.safetensors"

    def is_whole(self, shard: int) -> bool:
        """Whether the file is there, as long as it says."""
        try:
            return _VECTORS in mapped(self.path(shard))
        except (OSError, ValueError):
            return False

    @contextmanager
    def opened(self) -> Iterator[ShardWork]:
        """Open the model; sums are those of one thread."""
        model, log = open_model(self.alignment), of_tensors(mapped(self.inputs), self.n_items)

        def work(shard: Shard) -> Sequence[str]:
            rows = np.arange(shard.given.start, shard.given.stop)
            with atomic_file(self.path(shard.number)) as partial:
                save_file({_VECTORS: np.ascontiguousarray(model.dense_users(log, rows))}, partial)
                for_owner(partial)
            return ()

        with threads(1), threadpool_limits(1, "blas"):
            yield work

    def make(self, log: Interactions, runner: Runner, progress: Progress) -> None:
        """Have all shards made that are missing."""
        if not self.inputs.exists():
            with atomic_file(self.inputs) as partial:
                with TensorsWriter(partial) as writer:
                    for name, values in to_tensors(log).items():
                        writer.append(name, values)
                for_owner(partial)
        groups = [range(first, min(first + SHARD, log.n_users)) for first in range(0, log.n_users, SHARD)]
        runner.run(self, [Shard(number, len(group), group) for number, group in enumerate(groups)], progress)

    def read(self, rows: Rows) -> Matrix:
        """The vectors of some users, at ascending rows, shape (n, dim)."""
        shards = {int(shard): rows[rows // SHARD == shard] % SHARD for shard in np.unique(rows // SHARD)}
        return np.concatenate([mapped(self.path(shard))[_VECTORS][own] for shard, own in shards.items()])


@dataclass(frozen=True, eq=False)
class Whitened:
    """Vectors of items, turned."""

    vectors: Matrix  # as they were, shape (n, d)
    items: Matrix  # what these are multiplied by, from the right, shape (d, d)
    users: Matrix  # what those of users are, shape (d, d)

    @classmethod
    def of(cls, vectors: Matrix, users: Matrix) -> "Whitened | None":
        """Vectors (n, d) of items turned towards users (m, d); None where these are all zeros."""
        moments = users.T.astype(np.float64) @ users
        values, directions = np.linalg.eigh(moments)
        if not values.max(initial=0) > 0:
            return None
        values /= values.max()
        roots = np.sqrt(np.maximum(values, 0) + _RIDGE * values.mean())
        items, asked = (directions * roots) @ directions.T, (directions / roots) @ directions.T
        return cls(vectors, items.astype(np.float32), asked.astype(np.float32))

    def rows(self) -> Iterator[Matrix]:
        """The vectors, one by one."""
        for block in self._blocks():
            yield from block

    @cached_property
    def longest(self) -> float:
        """The length of the longest."""
        return max(map(longest, self._blocks()), default=0.0)

    def _blocks(self) -> Iterator[Matrix]:
        return (self.vectors[n : n + _BLOCK] @ self.items for n in range(0, len(self.vectors), _BLOCK))


@dataclass(frozen=True, eq=False)
class ItemSides:
    """What is told of items.

    Attributes:
        vectors: Of all items.
        popular: Rows and counts of those that most took, the most popular first.
        support: How many users had both items of each weight, by dimension, then by item; None: not known.
        explored: How new items are tried; None: they are not.
        low-support: Items with few interactions, as they are ranked among cold-start items; None: there are none.
    """

    vectors: ItemVectors
    popular: list[tuple[int, int]]
    support: Array | None = None
    explored: dict[str, Any] | None = None
    low_support: LowSupportItems | None = None

    @classmethod
    def counted(
        cls,
        model: Ensemble,
        log: Interactions,
        exploration_settings: ExplorationSettings,
        folder: Path | None = None,
    ) -> "ItemSides":
        """Those of a log. What is large lies in ``folder``; None: in memory."""
        vectors = model.items(log)
        plan, low_support = (
            exploration(model, vectors, log, exploration_settings) if exploration_settings.explore else (None, None)
        )
        counts = np.bincount(log.item, minlength=log.n_items)
        counts[had_by_few(log, model.least)] = 0
        told = None if plan is None else asdict(plan)
        return cls(vectors, _most(counts), support(log, vectors.neighbors, folder), told, low_support)

    @classmethod
    def released(cls, model: Ensemble) -> "ItemSides":
        """Those of a model of statistics with noise, which no log is asked for; nobody knows who had two items."""
        if model.demand is None:
            raise ValueError("the model is not one of statistics")
        return cls(model.items_now(), _most(np.rint(model.demand).astype(np.int64)))


def _most(counts: Array) -> list[tuple[int, int]]:
    order = np.argsort(-counts, kind="stable")[:_POPULAR]
    return [(int(row), int(counts[row])) for row in order if counts[row]]


def origins(model: Ensemble, catalogue: Catalogue) -> Origins:
    """How the vectors of a model came about; where content kNN have targets, no likeness is told of."""
    read, taste = model.content_knn, None
    if read is not None and read.targets is None:
        taste = ContentKNNWeights(read.decay, read.last)
    sources = {name.removeprefix("content_"): s for name, s in spans(model.conditioner.output_blocks).items()}
    return Origins(sources, model.content_maps, taste, ordinary(catalogue))


def support(log: Interactions, neighbors: ItemItemVectors, folder: Path | None = None) -> npt.NDArray[np.int32]:
    """How many people had both items of each item-item weight, by dimension, then by item.

    Where there are many weights, the numbers lie in ``folder``; None: in memory.
    """
    edges = np.concatenate([[0], np.cumsum([matrix.nnz for matrix in neighbors.matrices], dtype=np.int64)])
    if folder is None or edges[-1] <= _MANY:
        told = np.zeros(edges[-1], np.int32)
    else:
        told = zeros_outside(int(edges[-1]), np.int32, folder)
    taken = InteractionMatrix.of(log)
    for block in taken.blocks:
        both = taken.together(block)
        both.sort_indices()  # so that each pair is looked up by bisection
        for begin, matrix in zip(edges.tolist(), neighbors.matrices, strict=False):
            own = matrix.indptr[block.start : block.stop + 1]
            rows, items = np.repeat(np.arange(len(own) - 1), np.diff(own)), matrix.indices[own[0] : own[-1]]
            if len(items):
                told[begin + own[0] : begin + own[-1]] = np.asarray(both[rows, items]).ravel()
    return told


def spans(parts: Iterable[VectorBlock]) -> dict[str, tuple[int, int]]:
    """First and one past the last dimension of each part."""
    return {part.name: (part.start, part.stop) for part in parts}


def query_maps(
    model: Ensemble, content: ContentVectors, embedded: Manifest
) -> tuple[QueryMaps, npt.NDArray[np.float32] | None]:
    """How a text or a photo is brought into the items' spaces, and the vectors by which photos are searched for."""
    block, features, maps = image_block(content.info, content.blocks), None, None
    if block is not None:
        maps = content_features.fit(content.vectors, [block], _IMAGE)
        features = maps(content.vectors)
    settings = dict(embedded.settings)
    return QueryMaps(settings.get("embed", {}), dict(content.info), model.conditioner, maps), features


@dataclass(frozen=True, eq=False)
class FormerUsers:
    """The users of the live generation, over the items of the present catalogue.

    ``rows`` says where each item of the generation is now, -1 where it is gone; ``same`` which items of now look as
    they did, shape (n_items,).
    """

    generation: Generation
    rows: Rows
    same: Mask

    @classmethod
    def of(cls, workspace: Workspace, model: Ensemble, ids: IdMap) -> Self | None:
        """Those of the live generation; None where there is none, or users are read in another way now."""
        with ExitStack() as stack:
            try:
                generation = stack.enter_context(open_generation(workspace))
                own = carried(generation.folder)
                if own is None or not _reads_as(former := open_model(own), model):
                    return None
                former_ids = IdMap(generation.table.item_ids())
            except (MissingArtefactError, StaleArtefactError):  # none, of another molar, or damaged
                return None
            same = _same(former, model, former_ids.rows(ids.array).astype(np.int64))
            stack.pop_all()
        return cls(generation, ids.rows(former_ids.array).astype(np.int64), same)

    def close(self) -> None:
        """Let the generation go."""
        self.generation.close()

    def vectors(self, log: Interactions, rows: Rows, ids: Sequence[str]) -> dict[int, Any]:
        """The vectors that some users had and have, by their rows in the log."""
        found: dict[int, Any] = {}
        for row, user_id in zip(rows.tolist(), ids, strict=True):
            own = slice(log.offsets[row], log.offsets[row + 1])
            record = self.generation.users.keyed(user_id)
            if record is None or len(record.history) != own.stop - own.start:
                continue
            items = log.item[own]
            had, times = np.asarray(record.history, np.int64), np.asarray(record.times, np.int64)
            if (self.rows[had] == items).all() and (times == log.timestamp[own]).all() and self.same[items].all():
                found[row] = np.asarray(record.vector, np.float32)
        return found


def _reads_as(former: Ensemble, model: Ensemble) -> bool:
    """Whether both read a history in the same way, whatever they know of its items."""
    if former.own or model.own:  # what they make of a history may depend on all items
        return False
    before, now = former.network.state_dict(), model.network.state_dict()
    if before.keys() != now.keys() or former.network.shapes != model.network.shapes:
        return False
    towers = all(torch.equal(before[name], now[name]) for name in now if name != _TABLE)
    one, other = former.content_knn, model.content_knn
    taste = (None if k is None else (k.decay, k.last, k.dim) for k in (one, other))
    return towers and len(set(taste)) == 1 and former.dense_parts == model.dense_parts


def _same(former: Ensemble, model: Ensemble, rows: Rows) -> Mask:
    """Which items of now look as they did; ``rows`` says where each was, -1 where it was not, shape (n_items,)."""
    same: Mask = rows >= 0
    for before, now in zip(_known_of_items(former), _known_of_items(model), strict=True):
        same &= np.abs(before[rows] - now).max(axis=1, initial=0) <= _SAME
    return same


def _known_of_items(model: Ensemble) -> list[Matrix]:
    """All that a model knows of items when it reads a history."""
    table = model.network.state_dict().get(_TABLE)
    found = [model.features] + ([] if table is None else [table.numpy()])
    return found + ([] if model.content_knn is None else [model.content_knn.items])


def publish_anew(
    workspace: Workspace,
    read: PinnedWorkspace,
    settings: IndexSettings,
    exploration_settings: ExplorationSettings,
    segments: Segments,
    *,
    inputs: Mapping[str, str],
    chosen: Mapping[str, Any],
    facts: Mapping[str, Any],
    runner: Runner | None,
    progress: Progress,
) -> Generation:
    """Publish a generation of the artefacts that are ``read``; ``facts`` are told beside what follows from these.

    Where towers read many people anew, the ``runner`` makes their vectors; None: this process.
    """
    alignment = read["alignment"].require()[0]
    model = open_model(alignment)
    catalogue = Catalogue(*read["catalogue"].require())
    log, events = open_log(read), StoredEvents(read["interactions"].require()[0])
    explored, of_items = _of_items(read, settings, exploration_settings, model, catalogue, log)
    former = FormerUsers.of(workspace, model, catalogue.ids)
    job: UserVectorsJob | None = None
    if runner is not None and former is None and model.network.shapes and log.n_users > SHARD:
        job = UserVectorsJob.of(workspace["generations"], read["alignment"].require(), log)
        require_space(
            job.folder, 4 * model.dense_parts[-1].stop * log.n_users, "vectors of users, which are made apart, take"
        )
    return publish(
        workspace,
        backend=settings.backend,
        **of_items,
        users=_users(model, log, events, segments, former, job, runner, progress),
        parts=spans(model.dense_parts),
        sparse_parts=spans(model.sparse_parts),
        slots=model.slots,
        encoder=alignment,
        variants=catalogue.variants_file,
        inputs=inputs,
        settings=chosen,
        facts={**facts, "exploration": explored, **asked_for(model)},
        keep=settings.keep,
        activate=settings.activate,
        confirm=read.confirm,
        unfinished=[] if job is None else [job.folder],
        progress=progress,
    )


def _of_items(
    read: PinnedWorkspace,
    settings: IndexSettings,
    exploration_settings: ExplorationSettings,
    model: Ensemble,
    catalogue: Catalogue,
    log: Interactions,
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """How new items are tried, and what :func:`publish` is told of items.

    The matrices are held by the items alone: with the last of these they are given up, before graphs take memory.
    """
    content, embedded = read["content"].require()
    noisy = model.demand is not None
    sides = ItemSides.released(model) if noisy else ItemSides.counted(model, log, exploration_settings, read.root)
    others = {columns.CONTENT: model.features}
    queries, image_features = query_maps(model, ContentVectors.open(content), embedded)
    others |= {} if image_features is None else {columns.IMAGE_FEATURES: image_features}
    turned = _whitened(model, sides.vectors, log)
    words = bm25(text for batch in catalogue.batches([TEXT], _BATCH) for text in batch[TEXT].to_pylist())
    extras = Extras(
        origins=origins(model, catalogue),
        support=sides.support,
        factors=model.als,
        numbers=model.numbers,
        reranker=model.reranker,
        queries=queries,
        availability=catalogue.availability,
        low_support=sides.low_support,
        whitening=None if turned is None else turned.users,
    )
    vectors = sides.vectors
    neighbors = chain.from_iterable(map(sparse_rows, vectors.neighbors.by_item()))
    own = zip(vectors.dense, vectors.newcomer.tolist(), neighbors, strict=True)
    return sides.explored, {
        "spec": _spec(settings, catalogue, vectors, sides.low_support, others, turned),
        "items": _items(catalogue, own, sides.low_support, others, words, turned),
        "popular": sides.popular,
        "extras": extras,
    }


def _spec(
    settings: IndexSettings,
    catalogue: Catalogue,
    vectors: ItemVectors,
    low_support: LowSupportItems | None,
    others: dict[str, Matrix],
    turned: Whitened | None,
) -> IndexSpec:
    aligned = [columns.ALIGNED, *([columns.COLD_START] if vectors.newcomer.any() else [])]
    lengths = dict.fromkeys(aligned, longest(vectors.dense))
    if low_support is not None:
        lengths[columns.LOW_SUPPORT] = longest(low_support.dense)
    if turned is not None:
        lengths[columns.WHITENED] = turned.longest
    return IndexSpec(
        dims=dict.fromkeys(lengths, vectors.dense.shape[1]) | {name: m.shape[1] for name, m in others.items()},
        fields=catalogue.fields,
        m=settings.m,
        ef_construct=settings.ef_construct,
        ef=settings.ef,
        sparse=(columns.ITEM_WEIGHTS, columns.WORDS)
        if 0 < vectors.neighbors.nnz <= _MOST_PARTNERS
        else (columns.WORDS,),
        lengths=lengths,
    )


def _items(
    catalogue: Catalogue,
    vectors: Iterator[tuple[Matrix, bool, SparseVector]],
    low_support: LowSupportItems | None,
    others: dict[str, Matrix],
    words: csr_matrix,
    turned: Whitened | None,
) -> Iterator[IndexItem]:
    """Every item, by its dense vector, whether it is a cold-start item, and its neighbors.

    Of the ``others`` a vector of zeros is left out, while it is a score in the first ones.
    """
    few = {} if low_support is None else dict(zip(low_support.rows.tolist(), low_support.dense, strict=True))
    sparse_ones = zip(vectors, sparse_rows(words), strict=True)
    whitened = repeat(None) if turned is None else turned.rows()
    told = zip(payloads(catalogue), sparse_ones, whitened, strict=turned is not None)
    for row, ((item_id, payload), ((dense, newcomer, neighbors), own_words), near) in enumerate(told):
        own: dict[str, Any] = {columns.COLD_START if newcomer else columns.ALIGNED: dense}
        if near is not None and columns.ALIGNED in own:
            own[columns.WHITENED] = near
        if row in few:
            own[columns.LOW_SUPPORT] = few[row]
        own |= {name: matrix[row] for name, matrix in others.items() if matrix[row].any()}
        named = {columns.ITEM_WEIGHTS: neighbors, columns.WORDS: own_words}
        sparse = {name: vector for name, vector in named.items() if len(vector.indices)}
        yield IndexItem(row, item_id, own, payload, sparse)


def _whitened(model: Ensemble, vectors: ItemVectors, log: Interactions) -> Whitened | None:
    """The items' vectors turned towards users, where they are too many to be scanned; None: they are not.

    Nor are those of statistics with noise, as the turn is told by people's own vectors.
    """
    if vectors.dense.size <= MOST_SCANNED or not log.n_users or model.demand is not None:
        return None
    sample = np.unique(np.linspace(0, log.n_users - 1, SAMPLE).astype(np.int64))
    return Whitened.of(vectors.dense, model.dense_users(log, sample))


def _users(
    model: Ensemble,
    log: Interactions,
    events: StoredEvents,
    segments: Segments,
    former: FormerUsers | None,
    job: UserVectorsJob | None,
    runner: Runner | None,
    progress: Progress,
) -> Iterator[UserRecord]:
    """Everybody; whose vector the live generation has, and nothing has changed of it, keeps it."""
    if job is not None and runner is not None:
        job.make(log, runner, progress)
    else:
        progress.start("user vectors", log.n_users)
    for begin in range(0, log.n_users, _BATCH):
        rows = np.arange(begin, min(begin + _BATCH, log.n_users))
        ids = log.users.ids(rows)
        kept: dict[int, Any] = {} if former is None else former.vectors(log, rows, ids)
        fresh = rows[[row not in kept for row in rows.tolist()]]
        progress.advance(len(kept))
        made = model.dense_users(log, fresh, progress) if job is None else job.read(fresh)
        kept |= dict(zip(fresh.tolist(), made, strict=True))
        for user_id, row, sparse in zip(ids, rows.tolist(), sparse_rows(model.sparse_users(log, rows)), strict=True):
            own = slice(log.offsets[row], log.offsets[row + 1])
            attributes = segments.of.get(user_id, {})
            of_events = events.packed(own)
            yield UserRecord(user_id, kept[row], log.item[own], sparse, attributes, log.timestamp[own], of_events)
    progress.finish()
    if former is not None:
        former.close()
