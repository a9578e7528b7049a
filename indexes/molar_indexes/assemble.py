"""From the workspace's artefacts to a published generation."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from scipy.sparse import csc_matrix, csr_matrix

from molar_indexes.generations import FORMAT, Generation, open_generation, publish
from molar_indexes.sparse import sparse_rows
from molar_indexes.table import Extras
from molar_indexes.users import UserRecord
from molar_retrieval import columns
from molar_retrieval.alignment.model import AlignedModel
from molar_retrieval.alignment.store import open_model
from molar_retrieval.alignment.vectors import ItemVectors
from molar_retrieval.catalog import Catalogue
from molar_retrieval.catalog.values import is_list
from molar_retrieval.collaborative.factors import open_factors, open_log
from molar_retrieval.config import IndexSettings
from molar_retrieval.encoders.base import Block
from molar_retrieval.experts.histories import binary
from molar_retrieval.index import IndexItem, IndexSpec
from molar_retrieval.interactions import InteractionLog
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.evidence import Origins, Taste
from molar_retrieval.workspace import Workspace

Matrix = npt.NDArray[np.float32]
_BATCH = 4096
_POPULAR = 1000
_BLOCK = 512
"""Items whose company is counted at a time."""


def publish_generation(workspace: Workspace, settings: IndexSettings, progress: Progress = SILENT) -> Generation:
    """Publish the workspace's alignment as a new live generation; the present one where it is that already.

    Items with training interactions carry the vector ``aligned`` and their ``partners``, the others ``newcomers``; all
    carry ``content`` (conditioned, unit length), ``cf`` and their attributes. Users carry their vectors and their whole
    history.

    Raises:
        MissingArtefactError: If a step before is missing.
    """
    folder, alignment = workspace["alignment"].require()
    inputs = {kind: workspace[kind].require()[1].fingerprint for kind in ("catalogue", "interactions", "content", "cf")}
    inputs["alignment"] = alignment.fingerprint
    chosen = settings.model_dump()
    live = workspace["generations"].manifest
    present = None if live is None else (dict(live.inputs), dict(live.settings), live.facts.get("format"))
    if present == (inputs, chosen, FORMAT):
        return open_generation(workspace)
    model = open_model(folder)
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    log = open_log(workspace)
    vectors = model.items(log)
    others = {columns.CONTENT: model.features, columns.CF: open_factors(workspace["cf"].require()[0]).items}
    return publish(
        workspace,
        backend=settings.backend,
        spec=_spec(settings, catalogue, vectors, others),
        items=_items(catalogue, vectors, others),
        users=_users(model, log, progress),
        popular=_popular(log),
        parts=_spans(model.dense_parts),
        sparse_parts=_spans(model.sparse_parts),
        slots=model.slots,
        extras=Extras(
            origins=_origins(model, catalogue),
            support=_support(log, vectors.sparse),
            numbers=model.numbers,
            reranker=model.reranker,
        ),
        inputs=inputs,
        settings=chosen,
        keep=settings.keep,
        progress=progress,
    )


def _spec(settings: IndexSettings, catalogue: Catalogue, vectors: ItemVectors, others: dict[str, Matrix]) -> IndexSpec:
    aligned = [columns.ALIGNED, columns.NEWCOMERS] if vectors.newcomer.any() else [columns.ALIGNED]
    return IndexSpec(
        dims=dict.fromkeys(aligned, vectors.dense.shape[1]) | {name: m.shape[1] for name, m in others.items()},
        fields=catalogue.fields,
        m=settings.m,
        ef_construct=settings.ef_construct,
        ef=settings.ef,
        sparse=(columns.PARTNERS,) if vectors.sparse.shape[1] else (),
    )


def _origins(model: AlignedModel, catalogue: Catalogue) -> Origins:
    taste = None if model.taste is None else Taste(model.taste.decay, model.taste.last)
    sources = {name.removeprefix("content_"): s for name, s in _spans(model.conditioner.output_blocks).items()}
    return Origins(sources, model.content_maps, taste, _ordinary(catalogue))


def _ordinary(catalogue: Catalogue) -> dict[str, list[str]]:
    """Values that most items have, by keyword field."""
    fields = [name for name, kind in catalogue.fields.items() if kind == "keyword"]
    counts: dict[str, Counter[str]] = {name: Counter() for name in fields}
    for batch in catalogue.batches(fields, _BATCH) if fields else ():
        for name, column in zip(fields, batch.columns, strict=True):
            flat = pc.list_flatten(column) if is_list(column.type) else column
            counts[name].update({entry["values"].as_py(): entry["counts"].as_py() for entry in pc.value_counts(flat)})
    most = len(catalogue) / 2
    return {name: [value for value, count in found.items() if value and count > most] for name, found in counts.items()}


def _support(log: InteractionLog, partners: csr_matrix) -> npt.NDArray[np.int32]:
    """How many people had both items of each partner weight, by dimension, then by item."""
    weights = partners.tocsc()
    weights.eliminate_zeros()
    items, dimensions = weights.indices, np.repeat(np.arange(weights.shape[1]), np.diff(weights.indptr))
    taken = csc_matrix(binary(log))
    support = np.zeros(len(items), np.int32)
    for begin in range(0, log.n_items, _BLOCK):
        both = (taken[:, begin : begin + _BLOCK].T @ taken).tocsr()
        own = np.flatnonzero((dimensions % log.n_items) // _BLOCK == begin // _BLOCK)
        rows = dimensions[own] % log.n_items - begin
        support[own] = np.asarray(both[rows, items[own]]).ravel()
    return support


def _spans(parts: Iterable[Block]) -> dict[str, tuple[int, int]]:
    return {part.name: (part.start, part.stop) for part in parts}


def _items(catalogue: Catalogue, vectors: ItemVectors, others: dict[str, Matrix]) -> Iterator[IndexItem]:
    """Every item; of the ``others`` a vector of zeros is left out, while it is a score in the first ones."""
    shown = [columns.ITEM_ID, columns.TITLE, *(f for f in catalogue.fields if f != columns.TITLE)]
    records = (record for batch in catalogue.batches(shown, _BATCH) for record in batch.to_pylist())
    for row, (record, partners) in enumerate(zip(records, sparse_rows(vectors.sparse), strict=True)):
        item_id = record.pop(columns.ITEM_ID)
        own = {columns.NEWCOMERS if vectors.newcomer[row] else columns.ALIGNED: vectors.dense[row].tolist()}
        own |= {name: matrix[row].tolist() for name, matrix in others.items() if matrix[row].any()}
        sparse = {columns.PARTNERS: partners} if len(partners.indices) else {}
        yield IndexItem(row, item_id, own, _payload(record), sparse)


def _payload(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None and value != []}


def _users(model: AlignedModel, log: InteractionLog, progress: Progress) -> Iterator[UserRecord]:
    progress.start("user vectors", log.n_users)
    for begin in range(0, log.n_users, _BATCH):
        rows = np.arange(begin, min(begin + _BATCH, log.n_users))
        vectors = model.users(log, rows, progress)
        together = zip(log.users.ids(rows), rows, vectors.dense, sparse_rows(vectors.sparse), strict=True)
        for user_id, row, vector, sparse in together:
            yield UserRecord(user_id, vector, log.history(int(row)), sparse)
    progress.finish()


def _popular(log: InteractionLog) -> list[tuple[int, int]]:
    """The most popular items and how many interactions each has, most popular first."""
    counts = np.bincount(log.item, minlength=log.n_items)
    order = np.argsort(-counts, kind="stable")[:_POPULAR]
    return [(int(row), int(counts[row])) for row in order if counts[row]]
