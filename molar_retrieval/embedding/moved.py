"""Vectors of a fine-tuned encoder from those of the encoder beneath it, which need no photo to be read again.

They are written as if an interrupted run of the fine-tuned encoder had left them, so that everything else goes its
usual way: what is missing or has changed is encoded, the rest is there.
"""

from contextlib import closing

import numpy as np

from molar_retrieval import columns, fingerprint
from molar_retrieval.embedding.earlier import Earlier
from molar_retrieval.embedding.plan import Head
from molar_retrieval.embedding.records import RECORD, Status, hashes
from molar_retrieval.embedding.resolve import key_of, resolve
from molar_retrieval.embedding.source import TEXT, Source, scan
from molar_retrieval.embedding.store import Store
from molar_retrieval.embedding.work import check_disk
from molar_retrieval.encoders.base import EncoderInfo
from molar_retrieval.encoders.head import FusionHead
from molar_retrieval.progress import Progress
from molar_retrieval.workspace import ArtefactStore


def move(
    artefacts: ArtefactStore,
    source: Source,
    info: EncoderInfo,
    beneath: EncoderInfo,
    head: FusionHead,
    progress: Progress,
) -> int:
    """Bring the live vectors of the encoder beneath, as far as their items are as they were, to fine-tuned ones.

    Args:
        artefacts: Of the kind ``content``.
        source: The catalogue.
        info: The fine-tuned encoder.
        beneath: The one that it moves.
        head: Moves its vectors.
        progress: Told of each item.

    Returns:
        How many rows are there now; 0 where the live vectors are of another encoder.
    """
    manifest = artefacts.manifest
    if manifest is None or manifest.settings.get("encoder", {}).get("fingerprint") != beneath.fingerprint:
        return 0
    look = scan(source, beneath)
    folder = artefacts.partial(fingerprint.of_json([look.identity, info.fingerprint]))
    check_disk(folder, source.count, head.dim)
    moved = 0
    with (
        closing(Earlier.collect(artefacts, beneath.fingerprint)) as earlier,
        closing(Store.create(folder, source.count, head.dim)) as store,
    ):
        known = resolve(source, look, beneath, earlier, progress, None)
        for first, (texts, images) in source.lists(TEXT, columns.IMAGE):
            last = first + len(texts)
            rows = np.flatnonzero(known.places[first:last] >= 0)
            records = np.zeros(len(texts), RECORD)
            records[rows] = known.records(look, first, last)[rows]
            for row in rows.tolist():
                text = texts[row] or None
                image = images[row] if look.has_image[first + row] else None
                key = key_of(info, text, image, known.image_hashes[first + row])
                records["key"][row] = hashes([key])[0]
            records["status"][rows] = Status.DONE
            reasons = {first + row: earlier.reason(int(known.places[first + row])) for row in rows.tolist()}
            told = {row: reason for row, reason in reasons.items() if reason is not None}
            moving = earlier.vectors(known.places[first:last][rows])
            store.write(first + rows, head(moving, [texts[row] for row in rows.tolist()]), records[rows], told)
            moved += len(rows)
    Head(look.identity, info.fingerprint, 1, source.count, head.dim, head.output_blocks).write(folder)
    return moved
