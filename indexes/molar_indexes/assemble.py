"""From the workspace's artefacts to a published generation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_indexes.generations import Generation, open_generation, publish
from molar_indexes.users import UserRecord
from molar_retrieval import columns
from molar_retrieval.alignment.model import AlignedModel
from molar_retrieval.catalog import Catalogue
from molar_retrieval.collaborative.factors import open_factors, open_log
from molar_retrieval.config import IndexSettings
from molar_retrieval.index import IndexItem, IndexSpec
from molar_retrieval.interactions import InteractionLog
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import Workspace

Matrix = npt.NDArray[np.float32]
_BATCH = 4096
_POPULAR = 1000


def publish_generation(workspace: Workspace, settings: IndexSettings, progress: Progress = SILENT) -> Generation:
    """Publish the workspace's alignment as a new live generation; the present one where it is that already.

    Items carry the vectors ``aligned``, ``content`` (conditioned, unit length) and ``cf``, and their attributes; users
    carry their aligned vector and their whole history.

    Raises:
        MissingArtefactError: If a step before is missing.
    """
    folder, alignment = workspace["alignment"].require()
    inputs = {kind: workspace[kind].require()[1].fingerprint for kind in ("catalogue", "interactions", "content", "cf")}
    inputs["alignment"] = alignment.fingerprint
    chosen = settings.model_dump()
    live = workspace["generations"].manifest
    if live is not None and dict(live.inputs) == inputs and dict(live.settings) == chosen:
        return open_generation(workspace)
    model = AlignedModel.open(folder)
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    log = open_log(workspace)
    vectors = {
        columns.ALIGNED: model.items(),
        columns.CONTENT: model.features,
        columns.CF: open_factors(workspace["cf"].require()[0]).items,
    }
    spec = IndexSpec(
        dims={name: matrix.shape[1] for name, matrix in vectors.items()},
        fields=catalogue.fields,
        m=settings.m,
        ef_construct=settings.ef_construct,
        ef=settings.ef,
    )
    return publish(
        workspace,
        backend=settings.backend,
        spec=spec,
        items=_items(catalogue, vectors),
        users=_users(model, log, progress),
        popular=_popular(log),
        parts={part.name: (part.start, part.stop) for part in model.parts},
        inputs=inputs,
        settings=chosen,
        keep=settings.keep,
        progress=progress,
    )


def _items(catalogue: Catalogue, vectors: dict[str, Matrix]) -> Iterator[IndexItem]:
    """Every item; a vector of zeros is left out, but for ``aligned``: an item with nothing scores zero there."""
    shown = [columns.ITEM_ID, columns.TITLE, *(f for f in catalogue.fields if f != columns.TITLE)]
    row = 0
    for batch in catalogue.batches(shown, _BATCH):
        for record in batch.to_pylist():
            item_id = record.pop(columns.ITEM_ID)
            own = {n: m[row] for n, m in vectors.items() if n == columns.ALIGNED or m[row].any()}
            yield IndexItem(row, item_id, {n: v.tolist() for n, v in own.items()}, _payload(record))
            row += 1


def _payload(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None and value != []}


def _users(model: AlignedModel, log: InteractionLog, progress: Progress) -> Iterator[UserRecord]:
    progress.start("user vectors", log.n_users)
    for begin in range(0, log.n_users, _BATCH):
        rows = np.arange(begin, min(begin + _BATCH, log.n_users))
        vectors = model.users(log, rows, progress)
        for user_id, row, vector in zip(log.users.ids(rows), rows, vectors, strict=True):
            yield UserRecord(user_id, vector, log.history(int(row)))
    progress.finish()


def _popular(log: InteractionLog) -> list[tuple[int, int]]:
    """The most popular items and how many interactions each has, most popular first."""
    counts = np.bincount(log.item, minlength=log.n_items)
    order = np.argsort(-counts, kind="stable")[:_POPULAR]
    return [(int(row), int(counts[row])) for row in order if counts[row]]
