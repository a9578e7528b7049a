"""Which items are known already: keys from texts and photos, looked up among earlier vectors."""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval import columns, fingerprint
from molar_retrieval.embedding.earlier import Earlier
from molar_retrieval.embedding.plan import TextWriter
from molar_retrieval.embedding.records import (
    NO_HASH,
    RECORD,
    UNREADABLE,
    Hashes,
    Status,
    digest,
    hashes,
    image_stamp,
    item_key,
)
from molar_retrieval.embedding.rowfile import Rows
from molar_retrieval.embedding.source import TEXT, Scan, Source, sees
from molar_retrieval.encoders.base import EncoderInfo
from molar_retrieval.progress import Progress

_THREADS = 4


@dataclass(frozen=True)
class Resolved:
    """What is known of each row before anything is encoded; some 50 bytes per item.

    Attributes:
        keys: Zeros where the photo has to be read first.
        image_hashes: Zeros where there is no photo, or it has to be read first.
        stamps: One number for each photo's place, size and time; 0 without photo.
        places: Where the row's vector is among the earlier ones, -1 where it has none.
        pending: Which rows have to be encoded.
    """

    keys: Hashes
    image_hashes: Hashes
    stamps: npt.NDArray[np.uint64]
    places: Rows
    pending: npt.NDArray[np.bool_]

    @classmethod
    def empty(cls, count: int) -> Self:
        """Nothing known of ``count`` rows."""
        pairs = np.zeros((2, count, 2), np.uint64)
        places = np.full(count, -1, np.int64)
        return cls(pairs[0], pairs[1], np.zeros(count, np.uint64), places, np.zeros(count, bool))

    def records(self, look: Scan, start: int, stop: int) -> npt.NDArray[Any]:
        """The records of rows that need no encoding."""
        here = slice(start, stop)
        records = np.zeros(stop - start, RECORD)
        records["key"], records["image_hash"] = self.keys[here], self.image_hashes[here]
        records["stamp"], records["status"] = self.stamps[here], Status.DONE
        records["image_size"], records["image_mtime"] = look.sizes[here], look.mtimes[here]
        return records


def resolve(
    source: Source, look: Scan, info: EncoderInfo, earlier: Earlier, progress: Progress, texts: TextWriter | None
) -> Resolved:
    """Find the vector of every item among the earlier ones.

    Photos are read only where there are earlier vectors to compare with and their stamp is unknown; a first run reads
    them once, on the way to the encoder.

    Args:
        source: The catalogue.
        look: Of the same catalogue.
        info: The encoder.
        earlier: Vectors that it made before.
        progress: Told of each item.
        texts: Takes what the pending rows need, or None.
    """
    out = Resolved.empty(source.count)
    progress.start("compare", source.count)
    with ThreadPoolExecutor(_THREADS, "molar-hash") as pool:
        for first, (read, named) in source.lists(TEXT, columns.IMAGE):
            here = slice(first, first + len(read))
            seen = [(text or None) if sees(info)[0] else None for text in read]
            images = [image if looked else None for image, looked in zip(named, look.has_image[here], strict=True)]
            _fill(out, here, images, look, earlier, source.folder, pool)
            triples = zip(seen, images, out.image_hashes[here], strict=True)
            out.keys[here] = hashes([key_of(info, *triple) for triple in triples])
            out.places[here] = earlier.find(out.keys[here])
            content = np.array([text is not None for text in seen]) | look.has_image[here]
            out.pending[here] = content & (out.places[here] < 0)
            if texts is not None:
                for text, image, pending in zip(seen, images, out.pending[here].tolist(), strict=True):
                    texts.add(text, image, pending=pending)
            progress.advance(len(read))
    progress.finish()
    return out


def _fill(
    out: Resolved,
    here: slice,
    images: Sequence[str | None],
    look: Scan,
    earlier: Earlier,
    folder: Path,
    pool: Executor,
) -> None:
    """Stamps and, as far as they are known or wanted, hashes of one batch's photos."""
    triples = zip(images, look.sizes[here].tolist(), look.mtimes[here].tolist(), strict=True)
    stamps = [image_stamp(i, size, mtime) if i is not None and size >= 0 else 0 for i, size, mtime in triples]
    out.stamps[here] = stamps
    if not earlier:
        return
    known = earlier.image_hashes(out.stamps[here])
    unknown = np.flatnonzero(look.has_image[here] & ~known.any(axis=1))
    if len(unknown):
        read = pool.map(lambda i: hash_image(folder, str(images[i]), exists=stamps[i] > 0), unknown.tolist())
        known[unknown] = hashes(list(read))
    out.image_hashes[here] = known


def hash_image(folder: Path, image: str, *, exists: bool) -> bytes:
    """Hash of a photo's bytes; all that cannot be read have the same one."""
    if not exists:
        return UNREADABLE
    try:
        return bytes.fromhex(fingerprint.of_file(folder / image))
    except OSError:
        return UNREADABLE


def key_of(info: EncoderInfo, text: str | None, image: str | None, image_hash: npt.NDArray[np.uint64]) -> bytes:
    """The key of an item as the encoder sees it; nothing where its photo has to be read first."""
    if image is None:
        return item_key(info.fingerprint, text, None)
    return item_key(info.fingerprint, text, digest(image_hash)) if image_hash.any() else NO_HASH
