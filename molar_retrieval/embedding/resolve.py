"""Which items are known already: keys from texts and photos, looked up among earlier vectors."""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from molar_retrieval import columns
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.embedding.batches import PendingTexts
from molar_retrieval.embedding.catalogue import TEXT, ContentScan, lists, sees
from molar_retrieval.embedding.keys import NO_HASH, UNREADABLE, Hashes, Rows, digest, hashes, image_stamp, item_key
from molar_retrieval.embedding.known import KnownVectors
from molar_retrieval.encoders.base import EncoderInfo
from molar_retrieval.progress import Progress
from molar_retrieval.workspace import fingerprint

_THREADS = 4


@dataclass(frozen=True)
class ItemFacts:
    """What is known of each item beside its vector, in the order of the catalogue; some 60 bytes per item."""

    keys: Hashes  # zeros where the photo has to be read first
    image_hashes: Hashes  # zeros where there is no photo, or it has to be read first
    image_sizes: npt.NDArray[np.int64]  # bytes; -1 where there is no such file
    image_mtimes: npt.NDArray[np.int64]  # in ns
    places: Rows  # where the vector is among the known ones, -1 where it has none
    pending: npt.NDArray[np.bool_]  # which items have to be encoded
    failed: npt.NDArray[np.bool_]  # which items the encoder could not do
    filled: npt.NDArray[np.bool_]  # which vectors are not zero
    reasons: dict[int, str] = field(default_factory=dict)  # why an item's photo, or the whole item, was left out

    @classmethod
    def unknown(cls, sizes: npt.NDArray[np.int64], mtimes: npt.NDArray[np.int64]) -> Self:
        """Nothing is known but the photos' sizes and times."""
        count = len(sizes)
        return cls(
            keys=np.zeros((count, 2), np.uint64),
            image_hashes=np.zeros((count, 2), np.uint64),
            image_sizes=sizes.copy(),
            image_mtimes=mtimes.copy(),
            places=np.full(count, -1, np.int64),
            pending=np.zeros(count, bool),
            failed=np.zeros(count, bool),
            filled=np.zeros(count, bool),
        )

    def take(self, rows: Rows, first: int, known: KnownVectors) -> None:
        """Note what a finished batch tells of some rows: their places follow one another from ``first``."""
        places = np.arange(first, first + len(rows))
        found = known.records[first : first + len(rows)]
        self.places[rows] = places
        self.keys[rows], self.image_hashes[rows] = found["key"], found["image_hash"]
        self.image_sizes[rows], self.image_mtimes[rows] = found["image_size"], found["image_mtime"]
        self.failed[rows] = ~found["key"].any(axis=1)

    def explain(self, known: KnownVectors) -> None:
        """Bring the reasons of all places to the rows that have them."""
        if known.reasons:
            reasons = map(known.reasons.get, self.places.tolist())
            self.reasons.update((row, reason) for row, reason in enumerate(reasons) if reason is not None)


def resolve(
    catalogue: Catalogue,
    scan: ContentScan,
    info: EncoderInfo,
    known: KnownVectors,
    progress: Progress,
    texts: PendingTexts | None = None,
) -> ItemFacts:
    """Find the vector of every item among the known ones; ``texts`` takes what has to be read of the others.

    Photos are read only where there are vectors to compare with and their stamp is unknown; a first run reads them
    once, on the way to the encoder.
    """
    out = ItemFacts.unknown(scan.sizes, scan.mtimes)
    progress.start("compare", len(catalogue))
    with ThreadPoolExecutor(_THREADS, "molar-hash") as pool:
        for first, (read, named) in lists(catalogue, TEXT, columns.IMAGE):
            here = slice(first, first + len(read))
            seen = [(text or None) if sees(info)[0] else None for text in read]
            images = [image if looked else None for image, looked in zip(named, scan.has_image[here], strict=True)]
            if known:
                out.image_hashes[here] = _image_hashes(here, images, scan, known, catalogue.folder, pool)
            triples = zip(seen, images, out.image_hashes[here], strict=True)
            out.keys[here] = hashes([key_of(info, *triple) for triple in triples])
            out.places[here] = known.find(out.keys[here])
            content = np.array([text is not None for text in seen]) | scan.has_image[here]
            out.pending[here] = content & (out.places[here] < 0)
            if texts is not None:
                for i in np.flatnonzero(out.pending[here]).tolist():
                    texts.add(first + i, seen[i], images[i])
            progress.advance(len(read))
    progress.finish()
    return out


def _image_hashes(
    here: slice, images: Sequence[str | None], scan: ContentScan, known: KnownVectors, folder: Path, pool: Executor
) -> Hashes:
    """The hashes of some items' photos, which are read where their stamp is unknown."""
    triples = zip(images, scan.sizes[here].tolist(), scan.mtimes[here].tolist(), strict=True)
    stamps = [image_stamp(i, size, mtime) if i is not None and size >= 0 else 0 for i, size, mtime in triples]
    found = known.image_hashes(np.array(stamps, np.uint64))
    unknown = np.flatnonzero(scan.has_image[here] & ~found.any(axis=1))
    if len(unknown):
        read = pool.map(lambda i: hash_image(folder, str(images[i]), exists=stamps[i] > 0), unknown.tolist())
        found[unknown] = hashes(list(read))
    return found


def hash_image(folder: Path, image: str, *, exists: bool) -> bytes:
    """Hash of a photo's bytes; all that cannot be read have the same one."""
    try:
        return bytes.fromhex(fingerprint.of_file(folder / image)) if exists else UNREADABLE
    except OSError:
        return UNREADABLE


def key_of(info: EncoderInfo, text: str | None, image: str | None, image_hash: npt.NDArray[np.uint64]) -> bytes:
    """The key of an item as the encoder sees it; nothing where its photo has to be read first."""
    if image is None:
        return item_key(info.fingerprint, text, None)
    return item_key(info.fingerprint, text, digest(image_hash)) if image_hash.any() else NO_HASH
