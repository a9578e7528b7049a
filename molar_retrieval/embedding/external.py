"""``molar embed --vectors FILE``: vectors made elsewhere."""

from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval import columns
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.embedding.content_vectors import (
    KIND,
    NO_FILE,
    ROWS,
    TENSOR,
    VECTORS,
    EmbedReport,
    ItemTable,
    check_disk,
    hashes,
    publish,
    staging,
)
from molar_retrieval.embedding.vector_cache import item_key, kept_versions
from molar_retrieval.encoders.base import EncoderInfo, VectorBlock
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.ids import IdMap
from molar_retrieval.progress import Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.pinned import PinnedWorkspace
from molar_retrieval.workspace.settings import EmbedSettings
from molar_retrieval.workspace.tensors import MatrixWriter

FAMILY = "external"
_EXPECTED = "a Parquet file with the columns item_id and vector (a list of floats, equally long in every row) is needed"


def import_vectors(inputs: PinnedWorkspace, file: Path, settings: EmbedSettings, progress: Progress) -> EmbedReport:
    """Make the vectors of a Parquet file (item_id, vector) the content vectors, scaled to length 1.

    Items that the file lacks get a zero vector. A DataError says that it is no such file, or names the wrong row.
    """
    started = perf_counter()
    try:
        content, opened = fingerprint.of_file(file), pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}", _EXPECTED) from error
    info = EncoderInfo(
        name=file.name,
        family=FAMILY,
        revision=content,
        licence="unknown",
        modalities=(),
        fingerprint=fingerprint.of_json([FAMILY, content]),
        settings={"file": file.name},
    )
    catalogue = Catalogue(*inputs["catalogue"].require())
    with opened as table:
        dim = _dimension(table, file)
        check_disk(inputs[KIND].root, len(catalogue), dim)
        folder = staging(inputs)
        items = ItemTable(np.full(len(catalogue), NO_FILE), np.zeros(len(catalogue), np.int64))
        with MatrixWriter(folder / VECTORS, TENSOR, (len(catalogue), dim)) as out:
            given, unknown = _fill(out, items, catalogue.ids, table, file, info, progress)
        missing = len(catalogue) - given
        identity = fingerprint.of_json([catalogue.manifest.fingerprint, info.fingerprint])
        report = publish(
            inputs, folder, items, catalogue, encoder=info, blocks=(VectorBlock(columns.CONTENT, 0, dim),),
            settings=settings, facts={"missing": missing, "unknown": unknown, "identity": identity},
            keep=kept_versions(inputs[KIND], info.fingerprint),
        )  # fmt: skip
    notes = []
    if missing:
        notes.append(f"{missing} items of the catalogue have no vector in {file}; they count as items without content")
    if unknown:
        notes.append(f"{unknown} vectors of {file} are of items that are not in the catalogue")
    return replace(report, seconds={"total": round(perf_counter() - started, 3)}, notes=tuple(notes))


def as_brought(inputs: PinnedWorkspace, settings: EmbedSettings) -> EmbedReport | None:
    """What is live, where a file brought it for this catalogue and no encoder is named to take its place; else None.

    A SettingsError says that the catalogue has changed since.
    """
    if "model" in settings.model_fields_set or (live := inputs[KIND].live) is None:
        return None
    folder, manifest = live
    if manifest.settings["encoder"]["family"] != FAMILY:
        return None
    if manifest.inputs["catalogue"] != inputs["catalogue"].require()[1].fingerprint:
        file = manifest.settings["encoder"]["name"]
        raise SettingsError(
            f"the catalogue has changed, and no encoder made this workspace's vectors: they came from {file}",
            f"bring those of all items with --vectors {file}, or name an encoder, such as --model {settings.model}",
        )
    return EmbedReport.of(folder, manifest, up_to_date=True)


def _dimension(table: pq.ParquetFile, file: Path) -> int:
    """The length of the first vector, after a look at the columns."""
    if missing := {columns.ITEM_ID, columns.VECTOR}.difference(table.schema_arrow.names):
        raise DataError(f"{file} has no column {min(missing)}", _EXPECTED)
    kind = table.schema_arrow.field(columns.VECTOR).type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise DataError(f"{file}: the column {columns.VECTOR} holds {kind}", _EXPECTED)
    for batch in table.iter_batches(ROWS, columns=[columns.VECTOR]):
        lengths = pc.drop_null(pc.list_value_length(batch.column(0)))
        if len(lengths) and lengths[0].as_py():
            return int(lengths[0].as_py())
    raise DataError(f"{file} has no vectors", _EXPECTED)


def _fill(
    out: MatrixWriter, items: ItemTable, ids: IdMap, table: pq.ParquetFile, file: Path, info: EncoderInfo,
    progress: Progress,
) -> tuple[int, int]:  # fmt: skip
    """Write the vectors of known items; returns how many have one, and how many vectors are of unknown items."""
    given, unknown, first = np.zeros(len(ids), bool), 0, 1
    progress.start("vectors", table.metadata.num_rows)
    for batch in table.iter_batches(ROWS, columns=[columns.ITEM_ID, columns.VECTOR]):
        vectors = _matrix(batch.column(columns.VECTOR), out.shape[1], file, first)
        names = batch.column(columns.ITEM_ID).cast(pa.string())
        rows = ids.rows(names).astype(np.int64)
        known = np.flatnonzero(rows >= 0)
        order = known[np.unique(rows[known], return_index=True)[1]]
        for bad in np.setdiff1d(known, order[~given[rows[order]]]).tolist():
            what = f"the id {names[bad].as_py()!r} has a vector already"
            raise DataError(f"{file}, row {first + bad}: {what}", "keep one vector per item")
        given[rows[order]] = True
        unknown += len(rows) - len(known)
        rows, vectors = rows[order], vectors[order]
        out.write(rows, vectors)
        items.filled[rows] = vectors.any(axis=1)
        items.records["key"][rows] = hashes([item_key(info.fingerprint, None, vector.tobytes()) for vector in vectors])
        first += batch.num_rows
        progress.advance(batch.num_rows)
    progress.finish()
    if not given.any():
        raise DataError(
            f"{file}: none of its {unknown} item ids is in the catalogue", "use the ids of the catalogue, as strings"
        )
    return int(given.sum()), unknown


def _matrix(column: pa.Array, dim: int, file: Path, first: int) -> npt.NDArray[np.float32]:
    """The vectors of one batch at length 1; the first wrong one is named by its row, counted from 1."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), -1))
    for bad in np.flatnonzero(lengths != dim):
        found = "no vector" if lengths[bad] < 0 else f"{lengths[bad]} numbers, and the first row {dim}"
        raise DataError(f"{file}, row {first + bad}: it has {found}", "give every row a vector of the same length")
    values = np.asarray(pc.fill_null(pc.list_flatten(column).cast(pa.float64()), np.nan))
    matrix = values.reshape(len(column), dim)
    for bad in np.flatnonzero(~np.isfinite(matrix).all(axis=1)):
        raise DataError(
            f"{file}, row {first + bad}: the vector has a number that is missing, NaN or infinite", "remove the row"
        )
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(norms > 0, norms, 1), np.float32)
