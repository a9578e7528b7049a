"""Photos that an encoder cannot read, that tell it nothing or something wrong, or that several items share.

Each photo is measured once, in several processes, and its measurements are kept in the workspace under its path, size
and time. The checks decide by these alone: a second check opens no photo again, and limits can change.

Candidates for near duplicates are found without comparing all pairs: 256 bits are cut into 16 bands, and two
photos are compared where one band is equal (Manku, Jain and Das Sarma 2007, doi:10.1145/1242572.1242592). Up to 15
different bits no pair can be missed; bits are dealt to bands twice, so that hardly one in 10,000 of those with 24 is.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from molar_retrieval import rng
from molar_retrieval.data.image_decoder import MAX_BYTES
from molar_retrieval.data.images import looked_at
from molar_retrieval.embedding.content_vectors import NO_FILE, stat_image
from molar_retrieval.embedding.vector_cache import image_stamp
from molar_retrieval.progress import Progress
from molar_retrieval.quality.findings import Finding
from molar_retrieval.quality.items import Items, Rows, equal_groups
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import WorkerDied, Workers

RULES = 3  # Number of the rules by which photos are measured; a change of them makes kept measurements stale
BITS = 256  # Length of a perceptual hash
CROPS = (0.0, 0.02, 0.04, 0.06)  # Cut off at each side before hashing: one cut closer equals another one's middle
GRID = 4  # A photo's colours are kept as the means of a grid of 4 by 4 fields

MEASURED: np.dtype[Any] = np.dtype(
    [
        ("hash", "S16"),
        ("state", "u1"),
        ("frames", "<u2"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("bytes", "<i8"),
        ("detail", "<f4"),
        ("bits", "u1", (len(CROPS), BITS // 8)),
        ("colours", "u1", (GRID * GRID * 3,)),
    ]
)
"""What is kept of a photo.

``hash`` of its bytes; ``state`` (:class:`PhotoState`); number of ``frames`` that move; ``width`` and ``height`` in
pixels, as stored; size in ``bytes``; ``detail``: how large steps in brightness it has (0 … 255); ``bits``: perceptual
hashes of it and of its middles; ``colours``: of its fields, red, green and blue.
"""
STAMPED = np.dtype([("stamp", "<u8"), ("measured", MEASURED)])
"""A measurement, and the stamp of the file that it was made of."""

Measured = npt.NDArray[Any]  # Records of :data:`MEASURED`
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

_GRAIN, _HASHED = 48, 64  # sides of what steps and hashes are seen in

TINY = 64  # Pixels of the shorter side below which a photo counts as tiny; encoders look at 224 and more
LARGE_PIXELS = 40_000_000  # Pixels from which a photo counts as needlessly large …
LARGE_BYTES = 20 << 20  # … or bytes
ASPECT = 4.0  # How many times the longer side may be as long as the shorter one
BLANK = 3.5  # Largest steps in brightness (0 … 255) of a blank photo; white goods on white have larger ones
SHARED = 5  # So many items with one photo, most of them with titles of their own, share a placeholder
_OWN_TITLES = 0.5
_NAMED = 12  # items that a finding names beside its own

CLOSE = 24  # Bits of 256 by which two perceptual hashes of one picture may differ …
COLOURS = 14.0  # … and the mean difference of their colours (0 … 255)
_BAND, _DEALS = 16, 2
_CROWD = 64  # in a band's crowd, each is compared with so many that follow it
_AT_ONCE = 1 << 17

KIND = "check"  # Folder of the workspace that holds what a check remembers
_FILE = f"photos.{fingerprint.of_json([RULES, MEASURED.descr])[:12]}.bin"
_DIGEST = hashlib.sha256().digest_size
_CHUNK = 64  # photos in one task
_FEW = 256  # Fewer new photos are measured in this process: starting others takes longer
_KEPT = 2048  # So many photos are lost at most where a run is killed, or
_TIMES = 50  # one of so many parts of a large catalogue, as everything is written each time


class PhotoState(IntEnum):
    """How far a photo can be read."""

    GOOD = 0
    MISSING = 1
    UNREADABLE = 2
    TRUNCATED = 3
    TOO_LARGE = 4


def measure(data: bytes) -> npt.NDArray[Any]:
    """Measure the bytes of a photo: a record of :data:`MEASURED` (shape ())."""
    record = np.zeros((), MEASURED)
    facts, small = looked_at(data)
    record["hash"] = hashlib.blake2b(data, digest_size=16).digest()
    record["bytes"], record["state"] = len(data), PhotoState[facts["state"]]
    record["width"], record["height"] = facts["width"], facts["height"]
    record["frames"] = 1 if facts["format"] == "TIFF" else facts["frames"]  # whose frames are pages
    if small is not None:
        grey = np.asarray(small.convert("L").resize((_GRAIN, _GRAIN), Image.Resampling.BOX), np.float32)
        across, down = np.abs(np.diff(grey, axis=1))[:-1], np.abs(np.diff(grey, axis=0))[:, :-1]
        record["detail"] = np.percentile(np.maximum(across, down), 99)  # noise and vignettes have no large steps
        record["bits"] = perceptual_bits(small)
        record["colours"] = np.asarray(small.resize((GRID, GRID), Image.Resampling.BOX), np.uint8).ravel()
    return record


def perceptual_bits(image: Image.Image) -> Bytes:
    """Perceptual hashes of a picture and of its middles: low frequencies against their median, packed, shape (4, 32).

    Those are the lowest 16 × 16 frequencies of 64 × 64 grey values; they survive other brightness, contrast, size and
    compression.
    """
    (width, height), grey = image.size, image.convert("L")
    boxes = [(width * cut, height * cut, width * (1 - cut), height * (1 - cut)) for cut in CROPS]
    small = np.array([grey.resize((_HASHED, _HASHED), Image.Resampling.LANCZOS, box=box) for box in boxes], np.float64)
    low = dctn(small, axes=(1, 2))[:, :16, :16].reshape(len(boxes), BITS)
    return np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)


def remembered(workspace: Workspace) -> npt.NDArray[Any]:
    """Records of :data:`STAMPED` of earlier runs, by stamp; none where the file is damaged or there is none."""
    data = b""
    with suppress(OSError):
        data = (workspace[KIND].root / _FILE).read_bytes()
    digest, raw = data[:_DIGEST], data[_DIGEST:]
    whole = hashlib.sha256(raw).digest() == digest and len(raw) % STAMPED.itemsize == 0
    return np.frombuffer(raw if whole else b"", STAMPED)


def remember(workspace: Workspace, records: npt.NDArray[Any]) -> None:
    """Keep records instead of what was there, measurements by earlier rules among it."""
    path = workspace[KIND].root / _FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, raw = path.with_name(f".{path.name}.{os.getpid()}"), records.tobytes()
    temporary.write_bytes(hashlib.sha256(raw).digest() + raw)
    temporary.replace(path)
    for earlier in set(path.parent.glob("photos.*")) - {path}:
        earlier.unlink(missing_ok=True)


def nothing(n: int) -> Measured:
    """Records of items without photos."""
    out = np.zeros(n, MEASURED)
    out["state"] = PhotoState.MISSING
    return out


def measured(
    folder: Path,
    photos: Sequence[str | None],
    workspace: Workspace,
    progress: Progress,
    *,
    processes: int | None = None,
) -> Measured:
    """Measure the photos of items by ``processes`` (None: as many as there are cores); paths may repeat.

    Returns a record of ``MEASURED`` for each item; its state is ``MISSING`` where there is no photo or no such file.
    """
    stamps = np.fromiter((_stamp(folder, photo) for photo in photos), np.uint64, len(photos))
    wanted, first = np.unique(stamps, return_index=True)  # items may share a file: one of each stamp is measured
    wanted, first = wanted[wanted != 0], first[wanted != 0]
    known, records = remembered(workspace), np.zeros(len(wanted), STAMPED)
    records["stamp"] = wanted
    _, here, there = np.intersect1d(wanted, known["stamp"], assume_unique=True, return_indices=True)
    records[here] = known[there]
    new = np.flatnonzero(~np.isin(wanted, known["stamp"]))
    progress.start("looking at photos", len(new))
    done = kept = 0
    with closing(_parts([f"{folder}/{photos[row]}" for row in first[new]], processes, progress)) as parts:
        for part in parts:
            records["measured"][new[done : done + len(part)]] = part
            done += len(part)
            progress.advance(len(part))
            if done - kept >= max(_KEPT, len(wanted) // _TIMES):
                kept = done
                remember(workspace, records[records["measured"]["hash"] != b""])
    progress.finish()
    if len(new) or len(known) != len(wanted):  # what no photo has any more is forgotten
        remember(workspace, records[records["measured"]["hash"] != b""])
    out = nothing(len(photos))
    out[stamps != 0] = records["measured"][np.searchsorted(wanted, stamps[stamps != 0])]
    return out


def _stamp(folder: Path, photo: str | None) -> int:
    size, modified = stat_image(folder, photo)
    return 0 if photo is None or size == NO_FILE else image_stamp(photo, size, modified)


def _parts(paths: Sequence[str], processes: int | None, progress: Progress) -> Generator[Measured]:
    """Measurements of some photos at a time, in their order."""
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    workers, done = min(processes or os.cpu_count() or 1, len(chunks)), 0
    if workers > 1 and len(paths) >= _FEW:
        try:
            with Workers(workers, _begin) as pool:
                for part in pool.map(_measured, chunks):
                    yield part
                    done += 1
        except WorkerDied as error:
            progress.note(f"measuring photos: {error}; going on in this process")
    yield from map(_measured, chunks[done:])


def _begin() -> None:
    """Nothing is needed before photos are measured."""


def _measured(paths: Sequence[str]) -> Measured:
    records = np.zeros(len(paths), MEASURED)
    records["state"] = PhotoState.UNREADABLE
    for place, path in enumerate(paths):
        with suppress(OSError, ValueError), open(path, "rb") as file:  # noqa: PTH123 (a million paths)
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                records[place]["state"], records[place]["bytes"] = PhotoState.TOO_LARGE, size
            else:
                records[place] = measure(file.read(MAX_BYTES))
    return records


def check_photos(items: Items, records: Measured) -> Iterator[Finding]:
    """What is wrong with single photos, by their measurements."""
    for row in np.flatnonzero(~items.has_photo & ~items.bad_photo).tolist():
        yield items.finding("photo.absent", row, "no photo is named", photo=True)
    for kind, faulty, amount, detail in _faults(records):
        for row in np.flatnonzero(items.has_photo & faulty).tolist():
            yield items.finding(kind, row, f"{items.photos[row]}: {detail(row)}", float(amount[row]), photo=True)


def _faults(records: Measured) -> Iterator[tuple[str, Mask, npt.NDArray[Any], Callable[[int], str]]]:
    """Each fault: which photos have it, how bad it is, and what is seen of it."""
    state, size, frames, steps = (records[name] for name in ("state", "bytes", "frames", "detail"))
    width, height = records["width"].astype(np.int64), records["height"].astype(np.int64)
    long, short = np.maximum(width, height), np.maximum(np.minimum(width, height), 1)
    good, none = state == PhotoState.GOOD, np.zeros(len(records))

    def shape(row: int) -> str:
        return f"{width[row]:,} × {height[row]:,} pixels, {size[row] / 1e6:,.1f} MB"

    for kind, bad, words in (
        ("photo.missing", PhotoState.MISSING, "there is no such file"),
        ("photo.unreadable", PhotoState.UNREADABLE, "it is not an image that can be read"),
        ("photo.truncated", PhotoState.TRUNCATED, "it ends before the picture does, or is damaged"),
    ):
        yield kind, state == bad, none, lambda row, words=words: words  # type: ignore[misc]
    costly = "it takes too much memory or time to open"
    too_large = state == PhotoState.TOO_LARGE
    yield "photo.too_large", too_large, size, lambda row: shape(row) if width[row] or size[row] > MAX_BYTES else costly
    yield "photo.large", good & ((width * height > LARGE_PIXELS) | (size > LARGE_BYTES)), size, shape
    yield "photo.animated", good & (frames > 1), frames, lambda row: f"{frames[row]} frames"
    yield "photo.tiny", good & (short < TINY), TINY / short, shape
    yield "photo.extreme_aspect", good & (long > ASPECT * short), long / short, shape
    yield "photo.blank", good & is_blank(records), -steps, lambda row: f"it has no steps above {steps[row]:.1f} of 255"


def is_blank(records: Measured) -> Mask:
    """Which photos show nothing."""
    return np.asarray(records["detail"] <= BLANK)


def readable(items: Items, records: Measured) -> Mask:
    """Which items have a photo that can be read."""
    return np.asarray(items.has_photo & (records["state"] == PhotoState.GOOD))


def usable_photos(items: Items, records: Measured) -> Mask:
    """Which items have a photo of their own that shows something: neither blank nor a placeholder."""
    good = readable(items, records) & ~is_blank(records)
    for rows, placeholder in _groups(items, records):
        good[rows] &= not placeholder
    return good


def _groups(items: Items, records: Measured) -> Iterator[tuple[Rows, bool]]:
    """Rows of items that have the same photo, byte for byte; and whether these are many items with other titles."""
    for rows in equal_groups(np.where(readable(items, records), records["hash"], b"")):
        yield rows, len(rows) >= SHARED and len(np.unique(items.titles[rows])) >= _OWN_TITLES * len(rows)


def check_shared(items: Items, records: Measured) -> Iterator[Finding]:
    """Photos that several items have."""
    blank = is_blank(records)
    alone = readable(items, records) & ~blank

    def shared(kind: str, group: Rows, row: int, words: str, amount: float) -> Finding:
        others = tuple(items.ids.id(other) for other in group[: _NAMED + 1].tolist() if other != row)[:_NAMED]
        return items.finding(kind, row, f"{items.photos[row]}: {words}", amount, others=others, photo=True)

    for group, placeholder in _groups(items, records):
        alone[group[1:]] = False  # one of a group stands for it among the near duplicates
        kind = "photo.placeholder" if placeholder else "photo.duplicate"
        for row in group.tolist() if placeholder or not blank[group[0]] else ():
            yield shared(kind, group, row, f"the photo of {len(group):,} items", float(len(group)))
    rows = np.flatnonzero(alone)
    left, right, bits = near_photos(records["bits"][rows], records["colours"][rows])
    closest = np.full(len(rows), BITS)
    np.minimum.at(closest, left, bits)
    np.minimum.at(closest, right, bits)
    pairs = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(len(rows), len(rows)))
    for places in equal_groups(connected_components(pairs, directed=False)[1] + 1):
        for row, apart in zip(rows[places].tolist(), closest[places].tolist(), strict=True):
            words = f"{apart} of 256 bits differ from the nearest"
            yield shared("photo.near_duplicate", rows[places], row, words, 1 - apart / BITS)


def near_photos(bits: Bytes, colours: Bytes, seed: int = 0) -> tuple[Rows, Rows, Rows]:
    """Pairs of photos that show nearly the same picture: recompressed, resized, brightened, cut a little closer.

    ``bits`` are hashes of each photo and of its middles, shape (n, 4, 32), of which two middles are not compared;
    ``colours`` are those of its fields, shape (n, 48). Returns two arrays of rows, the first below the second, and in
    how many bits of 256 they differ at best.
    """
    n, crops = bits.shape[:2]
    flat, random = bits.reshape(n * crops, BITS // 8), rng.generator(seed, "bands")
    keys, differing = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for _ in range(_DEALS if n else 0):
        bands = _dealt(flat, random.permutation(BITS)).view(np.uint16)
        for left, right in (pair for number in range(BITS // _BAND) for pair in _neighbours(bands, number)):
            first = ((left % crops == 0) | (right % crops == 0)) & (left // crops != right // crops)
            left, right = left[first], right[first]
            apart = np.bitwise_count(flat[left] ^ flat[right]).sum(axis=1, dtype=np.int64)
            left, right, apart = left[apart <= CLOSE] // crops, right[apart <= CLOSE] // crops, apart[apart <= CLOSE]
            keys.append(np.minimum(left, right) * n + np.maximum(left, right))
            differing.append(apart)
    pairs, place = np.unique(np.concatenate(keys), return_inverse=True)
    closest = np.full(len(pairs), BITS)
    np.minimum.at(closest, place, np.concatenate(differing))
    left, right = np.divmod(pairs, max(n, 1))
    steps = colours[left].astype(np.float32) - colours[right]
    # Overall brightness is left out.
    same = np.abs(steps - 0.7 * steps.mean(axis=1, keepdims=True)).mean(axis=1) <= COLOURS
    return left[same], right[same], closest[same]


def _dealt(bits: Bytes, order: Rows) -> Bytes:
    """The bits in another order, some rows at a time: unpacked they take eight times the memory."""
    parts = np.split(bits, range(_AT_ONCE, len(bits), _AT_ONCE))
    dealt = [np.packbits(np.unpackbits(part, axis=1)[:, order], axis=1) for part in parts]
    return np.ascontiguousarray(np.concatenate(dealt))


def _neighbours(bands: npt.NDArray[np.uint16], number: int) -> Iterator[tuple[Rows, Rows]]:
    """Pairs with one band equal, some at a time; in a crowd, those whose next bits are next to each other in order."""
    order = np.lexsort([bands[:, (number + step) % (BITS // _BAND)] for step in (4, 3, 2, 1, 0)])
    ordered = bands[order, number]
    for step in range(1, min(_CROWD + 1, len(order))):
        same = ordered[step:] == ordered[:-step]
        if not same.any():
            return
        yield order[:-step][same], order[step:][same]
