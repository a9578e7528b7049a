"""Vectors of a fine-tuned encoder from those of the encoder beneath it, which need no photo to be read again.

They are written into a shard of the fine-tuned encoder; what is missing there or has changed is encoded as usual.
"""

import numpy as np

from molar_retrieval import columns
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.embedding.catalogue import TEXT, lists, scan
from molar_retrieval.embedding.contents import TENSOR, VECTORS
from molar_retrieval.embedding.former import version_by
from molar_retrieval.embedding.keys import digest
from molar_retrieval.embedding.known import KnownVectors
from molar_retrieval.embedding.publish import check_disk
from molar_retrieval.embedding.resolve import key_of, resolve
from molar_retrieval.embedding.shards import ShardWriter, shard_folder
from molar_retrieval.encoders.base import EncoderInfo
from molar_retrieval.encoders.head import FusionHead
from molar_retrieval.progress import Progress
from molar_retrieval.workspace import tensors
from molar_retrieval.workspace.artefacts import ArtefactStore

_SHARD = "moved"


def move_vectors(
    artefacts: ArtefactStore,
    catalogue: Catalogue,
    info: EncoderInfo,
    beneath: EncoderInfo,
    head: FusionHead,
    progress: Progress,
) -> None:
    """Bring the vectors of the encoder beneath, as far as their items are as they were, to fine-tuned ones.

    Nothing happens where there are none; nor where they are not live and the fine-tuned encoder has its own version.
    """
    source = version_by(artefacts, beneath.fingerprint)
    if source is None or (source != artefacts.current and version_by(artefacts, info.fingerprint) is not None):
        return
    scanned = scan(catalogue, beneath)
    check_disk(artefacts.root, len(catalogue), head.dim, len(catalogue))
    known = KnownVectors(artefacts, beneath.fingerprint, work=_SHARD)
    if known.version is None:
        return
    items = resolve(catalogue, scanned, beneath, known, progress)
    items.explain(known)
    vectors = tensors.mapped(known.version / VECTORS)[TENSOR]
    folder = shard_folder(artefacts, info.fingerprint)
    with ShardWriter(folder, head.output_blocks, head.dim, _SHARD) as shard:
        for number, (first, (texts, images)) in enumerate(lists(catalogue, TEXT, columns.IMAGE)):
            places = items.places[first : first + len(texts)]
            there = np.flatnonzero((places >= 0) & (places < known.published)).tolist()
            shown = [images[i] if scanned.has_image[first + i] else None for i in there]
            rows = [first + i for i in there]
            hashes = items.image_hashes[rows]
            triples = zip((texts[i] or None for i in there), shown, hashes, strict=True)
            told = {
                "key": [key_of(info, *triple) for triple in triples],
                "image": shown,
                "image_size": items.image_sizes[rows],
                "image_mtime": items.image_mtimes[rows],
                "image_hash": [digest(one) if one.any() else None for one in hashes],
                "reason": [items.reasons.get(row) for row in rows],
            }
            shard.append(_SHARD, number, told, head(vectors[places[there]], [texts[i] for i in there]))
