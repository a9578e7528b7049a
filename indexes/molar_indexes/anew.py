"""A generation made of the workspace's artefacts, with nothing of a former one but vectors of users."""

from collections.abc import Iterator, Mapping
from itertools import chain, repeat
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_indexes.attributes import payloads
from molar_indexes.background import origins, query_maps, spans
from molar_indexes.equal_lengths import longest
from molar_indexes.former_users import FormerUsers
from molar_indexes.generations import Generation, publish
from molar_indexes.item_sides import ItemSides
from molar_indexes.sparse import sparse_rows
from molar_indexes.table import Extras
from molar_indexes.user_vectors import SHARD, UserVectorsJob
from molar_indexes.users import UserRecord
from molar_indexes.whitening import SAMPLE, Whitened
from molar_retrieval import columns
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.prepare import TEXT
from molar_retrieval.data.prepare_interactions import StoredEvents
from molar_retrieval.data.text_features import bm25
from molar_retrieval.data.users_file import Segments
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.models.als import open_log
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.store import asked_for, open_model
from molar_retrieval.models.vectors import ItemVectors
from molar_retrieval.progress import Progress
from molar_retrieval.ranking.candidates import MOST_SCANNED
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec, SparseVector
from molar_retrieval.ranking.item_store import LowSupportItems
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import require_space
from molar_retrieval.workspace.jobs import Runner
from molar_retrieval.workspace.pinned import PinnedWorkspace
from molar_retrieval.workspace.settings import ExplorationSettings, IndexSettings

Matrix = npt.NDArray[np.float32]
_BATCH = 4096
_MOST_PARTNERS = 1 << 26
"""Partner weights that an index holds. While it is built its engine has each in memory several times over, and answers
read those of the table; only under a condition it is asked for them."""


def publish_anew(
    workspace: Workspace,
    read: PinnedWorkspace,
    settings: IndexSettings,
    newcomers: ExplorationSettings,
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
    explored, of_items = _of_items(read, settings, newcomers, model, catalogue, log)
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
    newcomers: ExplorationSettings,
    model: Ensemble,
    catalogue: Catalogue,
    log: Interactions,
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """How new items are tried, and what :func:`publish` is told of items.

    The matrices are held by the items alone: with the last of these they are given up, before graphs take memory.
    """
    content, embedded = read["content"].require()
    noisy = model.demand is not None
    sides = ItemSides.released(model) if noisy else ItemSides.counted(model, log, newcomers, read.root)
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
    """Every item, by its dense vector, whether it is a cold-start item, and its partners.

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
