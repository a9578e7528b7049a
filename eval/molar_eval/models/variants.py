"""Content vectors with something taken away: what ablations and controls train on.

Every variant is a workspace with a catalogue and content vectors of its own. Where the encoder keeps image and text in
blocks of their own, leaving one out is leaving out its dimensions, as the encoder itself would; otherwise, and for
attributes, the items are embedded again with less to say. Words and attributes, which are read beside the encoder too,
are shuffled with the vectors, and are taken away with the text or where vectors are random.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval import columns, rng
from molar_retrieval.data.catalogue import ITEMS_FILE, Catalogue
from molar_retrieval.data.values import join_present
from molar_retrieval.embedding import ContentVectors, embed
from molar_retrieval.embedding.contents import ITEMS, TENSOR, VECTORS
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.encoders.fusion import unit
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import EmbedSettings
from molar_retrieval.workspace.tensors import Matrix, MatrixWriter, Rows

Variant = Literal["full", "no image", "no text", "no attributes", "shuffled content", "random content"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
_TEXT = "text"
_BLOCK = {"no image": "content_image", "no text": "content_text"}
_SEED = 0
_VERSION = 2
"""Raised with every change of what a variant is."""


def content_workspace(
    base: Workspace, variant: Variant, root: Path, settings: EmbedSettings, progress: Progress = SILENT
) -> Workspace:
    """The workspace of a variant below ``root``, made where it does not exist; ``full`` is the base itself.

    Folders are named by what they were made from: the content, and the files of the catalogue as they were read.
    """
    if variant == "full":
        return base
    folder, manifest = base["content"].require()
    made_from = [manifest.fingerprint, base["catalogue"].require()[1].facts.get("sources"), _VERSION]
    name = f"{variant.replace(' ', '-')}-{fingerprint.of_json(made_from)[:16]}"
    workspace = Workspace.for_catalogue(root / name, base.catalogue)
    if workspace["content"].current is not None:
        return workspace
    content = ContentVectors.open(folder)
    separate = {b.name for b in content.blocks} >= set(_BLOCK.values())
    _write_catalogue(base, workspace, variant)
    if variant == "no attributes" or (variant in _BLOCK and not separate):
        embed(workspace, settings, progress=progress)
    else:
        write_content(base, workspace, variant, *_changed(content, variant))
    return workspace


def link(base: Workspace, workspace: Workspace, kind: str) -> None:
    """Let the workspace use the base's live version of one kind, and stay with it."""
    version, _ = base[kind].require()
    place = workspace.root / kind
    if place.is_symlink():  # of an earlier version of molar, which followed the base to its next one
        place.unlink()
    place.mkdir(exist_ok=True)
    if not (place / version.name).exists():
        (place / version.name).unlink(missing_ok=True)
        (place / version.name).symlink_to(version.resolve())
    workspace[kind].switch(version.name)


def _changed(content: ContentVectors, variant: Variant) -> tuple[Matrix, tuple[VectorBlock, ...]]:
    vectors = np.asarray(content.vectors, np.float32)
    if variant == "shuffled content":
        return vectors[_shuffle(len(vectors))], content.blocks
    if variant == "random content":
        return unit(rng.generator(_SEED, variant).standard_normal(vectors.shape, np.float32)), content.blocks
    kept = [b for b in content.blocks if b.name != _BLOCK[variant]]
    vectors = np.concatenate([vectors[:, b.start : b.stop] for b in kept], axis=1)
    return unit(vectors), VectorBlock.side_by_side((b.name, b.stop - b.start) for b in kept)


def _shuffle(count: int) -> Rows:
    return rng.generator(_SEED, "shuffled content").permutation(count)


def write_content(
    base: Workspace,
    workspace: Workspace,
    variant: str,
    vectors: Matrix,
    blocks: tuple[VectorBlock, ...],
    encoder: Mapping[str, Any] | None = None,
) -> None:
    """Publish other vectors of the base's items, shape (n, dim).

    The workspace has the same catalogue, or a variant of it; ``variant`` tells these vectors from others made of the
    same ones; ``encoder`` is what the encoder says of itself, where that is not what the base's said.
    """
    folder, manifest = base["content"].require()
    name = fingerprint.of_json([manifest.fingerprint, variant])
    partial = workspace["content"].partial(name)
    (partial / ITEMS).write_bytes((folder / ITEMS).read_bytes())
    count, dim = vectors.shape
    with MatrixWriter(partial / VECTORS, TENSOR, (count, dim)) as file:
        file.write(np.arange(count), vectors)
    settings = {**manifest.settings, "blocks": [asdict(b) for b in blocks], "variant": variant}
    settings["encoder"] = {**manifest.settings["encoder"], **(encoder or {})}
    inputs = {**manifest.inputs, "catalogue": workspace["catalogue"].require()[1].fingerprint}
    workspace["content"].publish(partial, replace(manifest, fingerprint=name, inputs=inputs, settings=settings))


def _write_catalogue(base: Workspace, workspace: Workspace, variant: Variant) -> None:
    """The base's catalogue with less, or other things, for the encoder and the alignment to read."""
    version, manifest = base["catalogue"].require()
    table = pq.read_table(version / ITEMS_FILE)
    attributes = list(Catalogue(version, manifest).attribute_fields)
    if variant == "no image":
        table = _with(table, columns.IMAGE, pa.nulls(len(table), pa.string()))
    elif variant in ("no text", "random content"):
        table = _with(table, _TEXT, pa.nulls(len(table), pa.string()))
    elif variant == "no attributes":
        parts = [table[name].combine_chunks() for name in (columns.TITLE, columns.DESCRIPTION)]
        table = _with(table, _TEXT, join_present(parts, "\n"))
    elif variant == "shuffled content":
        for name in (*attributes, _TEXT):
            table = _with(table, name, table[name].take(pa.array(_shuffle(len(table)))))
    facts = dict(manifest.facts)
    if variant in ("no text", "no attributes", "random content"):
        facts["attributes"] = []
    name = fingerprint.of_json([manifest.fingerprint, variant])
    partial = workspace["catalogue"].partial(name)
    pq.write_table(table, partial / ITEMS_FILE, compression="zstd")
    workspace["catalogue"].publish(partial, replace(manifest, fingerprint=name, facts=facts))


def _with(table: pa.Table, column: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.schema.get_field_index(column), column, values)
