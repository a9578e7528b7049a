"""Photos that an encoder cannot read, that tell it nothing or something wrong, or that several items share.

Each photo is measured once, in several processes, and its measurements are kept in the workspace under the stamp of its
file and the hash of its bytes. The checks decide by these alone: a second check decodes no photo again, and limits can
change. A photo whose path, size and time are known is not even read.

Candidates for near duplicates are found without comparing all pairs: 256 bits are cut into 16 bands, and two
photos are compared where one band is equal (Manku, Jain and Das Sarma 2007, doi:10.1145/1242572.1242592). Up to 15
different bits no pair can be missed; bits are dealt to bands twice, so that hardly one in 10,000 of those with 24 is.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
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
from molar_retrieval.data import image_decoder
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

RULES = 2  # Number of the rules by which photos are measured; a change of them makes kept measurements stale
BITS = 256  # Length of a perceptual hash
CROPS = (0.0, 0.02, 0.04, 0.06)  # Cut off at each side before hashing: one cut closer equals another one's middle
GRID = 4  # A photo's colours are kept as the means of a grid of 4 by 4 fields

MEASURED: np.dtype[Any] = np.dtype(
    [
        ("hash", "S16"),
        ("state", "u1"),
        ("format", "u1"),
        ("frames", "<u2"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("bytes", "<i8"),
        ("detail", "<f4"),
        ("uniform", "<f4"),
        ("bits", "u1", (len(CROPS), BITS // 8)),
        ("colours", "u1", (GRID * GRID * 3,)),
    ]
)
"""What is kept of a photo.

``hash`` of its bytes; ``state`` (:class:`PhotoState`); ``format`` as a place in :data:`FORMATS`; number of ``frames``;
``width`` and ``height`` in pixels, as stored; size in ``bytes``; ``detail``: how large steps in brightness it has
(0 … 255); ``uniform``: share of its area that has one colour; ``bits``: perceptual hashes of it and of its middles;
``colours``: of its fields, red, green and blue.
"""

Measured = npt.NDArray[Any]  # Records of :data:`MEASURED`
FORMATS = ("", *image_decoder.FORMATS)  # Names that Pillow gives to formats; the first one stands for any other

_GRAIN, _HASHED = 48, 64  # sides of what steps and hashes are seen in
_SAME = 12  # levels by which one colour may differ from itself

TINY = 64  # Pixels of the shorter side below which a photo counts as tiny; encoders look at 224 and more
LARGE_PIXELS = 40_000_000  # Pixels from which a photo counts as needlessly large …
LARGE_BYTES = 20 << 20  # … or bytes
ASPECT = 4.0  # How many times the longer side may be as long as the shorter one
BLANK = 3.5  # Largest steps in brightness (0 … 255) of a blank photo; white goods on white have larger ones
SHARED = 5  # So many items with one photo, most of them with titles of their own, share a placeholder
_OWN_TITLES = 0.5
_NAMED = 12  # items that a finding names beside its own

Mask = npt.NDArray[np.bool_]

Bits = npt.NDArray[np.uint8]

CLOSE = 24  # Bits of 256 by which two perceptual hashes of one picture may differ …
COLOURS = 14.0  # … and the mean difference of their colours (0 … 255)
_BAND = 16
_DEALS = 2
_CROWD = 64  # in a band's crowd, each is compared with so many that follow it
_PAIRS = 1 << 20  # compared at once

KIND = "check"  # Folder of the workspace that holds what a check remembers
STAMPED = np.dtype([("stamp", "<u8"), ("measured", MEASURED)])
"""A measurement, and the stamp of the file that it was made of."""
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
    """Measure the bytes of a photo: a record of :data:`MEASURED` (shape ()), without the hash."""
    record = np.zeros((), MEASURED)
    facts, small = looked_at(data)
    record["bytes"], record["state"] = len(data), PhotoState[facts["state"]]
    record["width"], record["height"], record["frames"] = facts["width"], facts["height"], facts["frames"]
    record["format"] = FORMATS.index(facts["format"])
    if small is not None:
        _describe(record, small)
    return record


def _describe(record: npt.NDArray[Any], image: Image.Image) -> None:
    pixels = np.asarray(image, np.float32)
    grey = np.asarray(image.convert("L").resize((_GRAIN, _GRAIN), Image.Resampling.BOX), np.float32)
    across, down = np.abs(np.diff(grey, axis=1))[:-1], np.abs(np.diff(grey, axis=0))[:, :-1]
    record["detail"] = np.percentile(np.maximum(across, down), 99)  # noise and vignettes have no large steps
    # The most frequent of 4,096 colours, and how much lies near it.
    coarse = (np.asarray(image) >> 4).astype(np.int32) @ np.array([256, 16, 1], np.int32)
    ground = pixels[coarse == np.bincount(coarse.ravel(), minlength=4096).argmax()].mean(axis=0)
    record["uniform"] = (np.abs(pixels - ground).max(axis=2) <= _SAME).mean()
    record["bits"] = perceptual_bits(image)
    record["colours"] = np.asarray(image.resize((GRID, GRID), Image.Resampling.BOX), np.uint8).ravel()


def perceptual_bits(image: Image.Image) -> npt.NDArray[np.uint8]:
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


def places_of(ordered: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> Rows:
    """The place of each value in an ascending array, -1 where it is not there."""
    if not len(ordered):
        return np.full(len(wanted), -1)
    places = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return np.where(ordered[places] == wanted, places, -1)


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
    known = remembered(workspace)
    by_hash = np.argsort(known["measured"]["hash"])
    hashes = known["measured"]["hash"][by_hash]
    stamps = np.fromiter((_stamp(folder, photo) for photo in photos), np.uint64, len(photos))
    places = np.where(stamps != 0, places_of(known["stamp"], stamps), -1)
    out = nothing(len(photos))
    out[places >= 0] = known["measured"][places[places >= 0]]
    # Items may share a file: one of each stamp is measured.
    new = np.flatnonzero((places < 0) & (stamps != 0))
    chosen, first, back = np.unique(stamps[new], return_index=True, return_inverse=True)
    if not len(chosen):
        _remember_current(known, workspace, stamps, out)
        return out
    fresh = np.zeros(len(chosen), MEASURED)
    done = kept = 0
    progress.start("looking at photos", len(chosen))
    paths = [str(photos[row]) for row in new[first]]
    with closing(_parts(folder, paths, hashes, processes, progress)) as parts:
        for part in parts:
            repeated = part["state"] == _SEEN
            part[repeated] = known["measured"][by_hash[places_of(hashes, part["hash"][repeated])]]
            fresh[done : done + len(part)] = part
            done += len(part)
            progress.advance(len(part))
            if done == len(chosen) or done - kept >= max(_KEPT, len(stamps) // _TIMES):
                out[new], kept = fresh[back], done  # what is not measured yet has no hash, and is not kept
                _remember_current(known, workspace, stamps, out)
    progress.finish()
    return out


def _parts(
    folder: Path, photos: Sequence[str], hashes: npt.NDArray[Any], processes: int | None, progress: Progress
) -> Generator[Measured]:
    """Measurements of some photos at a time, in their order."""
    chunks = [list(photos[start : start + _CHUNK]) for start in range(0, len(photos), _CHUNK)]
    workers = min(processes or os.cpu_count() or 1, len(chunks))
    done = 0
    if workers > 1 and len(photos) >= _FEW:
        try:
            with Workers(workers, _begin, str(folder), hashes) as pool:
                for part in pool.map(_look, chunks):
                    yield part
                    done += 1
        except WorkerDied as error:
            progress.note(f"measuring photos: {error}; going on in this process")
    _begin(str(folder), hashes)
    yield from map(_look, chunks[done:])


_SEEN = 255  # State of a photo whose content was measured before; only inside of this module
_place: dict[str, Any] = {}


def _begin(folder: str, hashes: npt.NDArray[Any]) -> None:
    _place.update(folder=folder, hashes=hashes)


def _look(photos: Iterable[str]) -> Measured:
    return np.stack([_one(f"{_place['folder']}/{photo}", _place["hashes"]) for photo in photos])


def _one(path: str, known: npt.NDArray[Any]) -> Measured:
    record = np.zeros((), MEASURED)
    try:
        size = os.stat(path).st_size  # noqa: PTH116 (a million paths)
        if size > MAX_BYTES:
            record["state"], record["bytes"] = PhotoState.TOO_LARGE, size
            return record
        with open(path, "rb") as file:  # noqa: PTH123
            data = file.read(MAX_BYTES)
    except (OSError, ValueError):
        record["state"] = PhotoState.UNREADABLE
        return record
    digest = np.array([hashlib.blake2b(data, digest_size=16).digest()], "S16")
    if places_of(known, digest)[0] >= 0:
        record["state"] = _SEEN
    else:
        record = measure(data)
    record["hash"] = digest[0]
    return record


def _stamp(folder: Path, photo: str | None) -> int:
    size, modified = stat_image(folder, photo)
    return 0 if photo is None or size == NO_FILE else image_stamp(photo, size, modified)


def _remember_current(
    known: npt.NDArray[Any], workspace: Workspace, stamps: npt.NDArray[np.uint64], records: Measured
) -> None:
    """Keep what belongs to photos of the catalogue as it is; what no photo has any more is forgotten."""
    kept = np.flatnonzero((stamps != 0) & (records["hash"] != b""))
    ordered, first = np.unique(stamps[kept], return_index=True)
    if not np.array_equal(ordered, known["stamp"]):
        made = np.zeros(len(ordered), STAMPED)
        made["stamp"], made["measured"] = ordered, records[kept][first]
        remember(workspace, made)


def check_photos(items: Items, records: Measured) -> Iterator[Finding]:
    """What is wrong with single photos, by their measurements."""
    for row in np.flatnonzero(~items.has_photo & ~items.bad_photo).tolist():
        yield items.finding("photo.absent", row, "no photo is named", photo=True)
    for kind, faulty, amount, detail in _faults(items, records):
        for row in np.flatnonzero(items.has_photo & faulty).tolist():
            yield items.finding(kind, row, f"{items.photos[row]}: {detail(row)}", float(amount[row]), photo=True)


def _faults(
    items: Items, records: Measured
) -> Iterator[tuple[str, Mask, npt.NDArray[np.floating], Callable[[int], str]]]:
    """Each fault: which photos have it, how bad it is, and what is seen of it."""
    state, size, frames, uniform = (records[name] for name in ("state", "bytes", "frames", "uniform"))
    width, height = records["width"].astype(np.int64), records["height"].astype(np.int64)
    long, short = np.maximum(width, height), np.maximum(np.minimum(width, height), 1)
    good, none = state == PhotoState.GOOD, np.zeros(len(records))

    def shape(row: int) -> str:
        return f"{width[row]:,} × {height[row]:,} pixels"

    def too_large(row: int) -> str:
        if width[row]:
            return shape(row)
        return f"{size[row] / 1e6:,.0f} MB" if size[row] > MAX_BYTES else "it takes too much memory or time to open"

    yield "photo.missing", state == PhotoState.MISSING, none, lambda row: "there is no such file"
    yield "photo.unreadable", state == PhotoState.UNREADABLE, none, lambda row: "it is not an image that can be read"
    cut = "it ends before the picture does, or is damaged"
    yield "photo.truncated", state == PhotoState.TRUNCATED, none, lambda row: cut
    yield "photo.too_large", state == PhotoState.TOO_LARGE, none, too_large
    large = good & ((width * height > LARGE_PIXELS) | (size > LARGE_BYTES))
    yield "photo.large", large, size, lambda row: f"{shape(row)}, {size[row] / 1e6:,.1f} MB"
    animated = good & (frames > 1) & (records["format"] != FORMATS.index("TIFF"))
    yield "photo.animated", animated, frames, lambda row: f"{frames[row]} frames"
    yield "photo.tiny", good & (short < TINY), TINY / short, shape
    yield "photo.extreme_aspect", good & (long > ASPECT * short), long / short, shape
    yield (
        "photo.blank",
        good & is_blank(records),
        uniform,
        lambda row: f"{float(uniform[row]):.1%} of it has one colour",
    )


def is_blank(records: Measured) -> Mask:
    """Which photos show nothing."""
    return np.asarray(records["detail"] <= BLANK)


def usable_photos(items: Items, records: Measured) -> Mask:
    """Which items have a photo of their own that shows something: neither blank nor a placeholder."""
    good = readable(items, records) & ~is_blank(records)
    for rows in _groups(items, records):
        good[rows] &= not _is_placeholder(items, rows)
    return good


def check_shared(items: Items, records: Measured) -> Iterator[Finding]:
    """Photos that several items have."""
    blank = is_blank(records)
    alone = readable(items, records) & ~blank
    for rows in _groups(items, records):
        alone[rows[1:]] = False  # one of a group stands for it among the near duplicates
        words, kind = f"the photo of {len(rows):,} items", "photo.duplicate"
        if _is_placeholder(items, rows):
            words, kind = f"{items.photos[int(rows[0])]}: {words}", "photo.placeholder"
        elif blank[rows[0]]:
            continue
        for row in rows.tolist():
            others = _named(items, rows, row)
            yield items.finding(kind, row, words, float(len(rows)), others=others, photo=True)
    yield from _near(items, records, np.flatnonzero(alone))


def readable(items: Items, records: Measured) -> Mask:
    """Which items have a photo that can be read."""
    return np.asarray(items.has_photo & (records["state"] == PhotoState.GOOD))


def _groups(items: Items, records: Measured) -> list[Rows]:
    """Rows of items that have the same photo, byte for byte."""
    return equal_groups(np.where(readable(items, records), records["hash"], b""))


def _is_placeholder(items: Items, rows: Rows) -> bool:
    """Whether a photo belongs to many items with other titles."""
    return len(rows) >= SHARED and len(np.unique(items.titles[rows])) >= _OWN_TITLES * len(rows)


def _near(items: Items, records: Measured, rows: Rows) -> Iterator[Finding]:
    left, right, bits = near_photos(records["bits"][rows], records["colours"][rows])
    closest = np.full(len(rows), 256, np.int64)
    np.minimum.at(closest, left, bits)
    np.minimum.at(closest, right, bits)
    for group in near_groups(left, right, len(rows)):
        for place in group:
            row, apart = int(rows[place]), int(closest[place])
            detail = f"{items.photos[row]}: {apart} of 256 bits differ from the nearest"
            others = _named(items, rows[group], row)
            yield items.finding("photo.near_duplicate", row, detail, 1 - apart / 256, others=others, photo=True)


def _named(items: Items, rows: Rows, own: int) -> tuple[str, ...]:
    return tuple(items.ids.id(int(row)) for row in rows[: _NAMED + 1] if row != own)[:_NAMED]


def close_pairs(bits: Bits, most: int, seed: int = 0, *, versions: int = 1) -> tuple[Rows, Rows, npt.NDArray[np.int64]]:
    """Pairs of rows whose bits differ little: two arrays of rows, the first below the second, and the differences.

    Bits are packed, shape (n, 32), and ``most`` of them may differ. As many rows as there are ``versions`` follow one
    another that show one thing, the first as it is; these are not compared, nor are two of which none is a first.
    """
    found = [np.zeros(0, np.int64)]
    random = rng.generator(seed, "bands")
    for _ in range(_DEALS if len(bits) else 0):
        dealt = _dealt(bits, random.permutation(BITS))
        bands = dealt.view(np.uint16).reshape(len(bits), BITS // _BAND)
        for number in range(bands.shape[1]):
            for left, right in _neighbours(bands[:, number], dealt):
                if versions > 1:
                    first = (left % versions == 0) | (right % versions == 0)
                    strangers = first & (left // versions != right // versions)
                    left, right = left[strangers], right[strangers]
                near = differences(bits, left, right) <= most
                low, high = np.minimum(left[near], right[near]), np.maximum(left[near], right[near])
                found.append(low * len(bits) + high)
    both = np.unique(np.concatenate(found))
    left, right = np.divmod(both, max(len(bits), 1))
    return left, right, differences(bits, left, right)


def _dealt(bits: Bits, order: Rows) -> Bits:
    """The bits in another order, some rows at a time: unpacked they take eight times the memory."""
    parts = [
        np.packbits(np.unpackbits(bits[start : start + (_PAIRS >> 3)], axis=1)[:, order], axis=1)
        for start in range(0, len(bits), _PAIRS >> 3)
    ]
    return np.ascontiguousarray(np.concatenate(parts))


def _neighbours(band: npt.NDArray[np.uint16], bits: Bits) -> Iterator[tuple[Rows, Rows]]:
    """Pairs with equal bands, some at a time; in a crowd, those whose whole bits are next to each other in order."""
    whole = np.ascontiguousarray(bits).view(">u8")
    order = np.lexsort((whole[:, 1], whole[:, 0], band))
    ordered = band[order]
    for step in range(1, min(_CROWD + 1, len(order))):
        same = ordered[step:] == ordered[:-step]
        if not same.any():
            return
        yield order[:-step][same], order[step:][same]


def differences(bits: Bits, left: Rows, right: Rows) -> npt.NDArray[np.int64]:
    """In how many bits the rows of pairs differ (as many as pairs)."""
    return _of_pairs(lambda a, b: np.bitwise_count(bits[a] ^ bits[b]).sum(axis=1, dtype=np.int64), left, right)


def _of_pairs(
    value: Callable[[Rows, Rows], npt.NDArray[Any]], left: Rows, right: Rows, size: int = _PAIRS
) -> npt.NDArray[Any]:
    starts = range(0, max(len(left), 1), size)
    return np.concatenate([value(left[start : start + size], right[start : start + size]) for start in starts])


def near_photos(bits: Bits, colours: npt.NDArray[np.uint8]) -> tuple[Rows, Rows, npt.NDArray[np.int64]]:
    """Pairs of photos that show nearly the same picture: recompressed, resized, brightened, cut a little closer.

    ``bits`` are hashes of each photo and of its middles, shape (n, 4, 32), ``colours`` of its fields, shape (n, 48).
    Returns two arrays of rows, the first below the second, and in how many bits of 256 they differ at best.
    """
    crops = bits.shape[1]
    left, right, apart = close_pairs(bits.reshape(-1, BITS // 8), CLOSE, versions=crops)
    low, high = np.minimum(left // crops, right // crops), np.maximum(left // crops, right // crops)
    pairs, first = np.unique(low * len(bits) + high, return_inverse=True)
    closest = np.full(len(pairs), BITS, np.int64)
    np.minimum.at(closest, first, apart)
    left, right = np.divmod(pairs, max(len(bits), 1))
    same = colour_difference(colours, left, right) <= COLOURS
    return left[same], right[same], closest[same]


def near_groups(left: Rows, right: Rows, n: int) -> list[Rows]:
    """Those of n rows that pairs connect, as groups ordered by their first row."""
    pairs = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(n, n))
    _, label = connected_components(pairs, directed=False)
    return equal_groups(label + 1)


def colour_difference(colours: npt.NDArray[np.uint8], left: Rows, right: Rows) -> npt.NDArray[np.float64]:
    """Mean absolute difference (0 … 255) of the colours of pairs, shape (n, 48), overall brightness left out."""

    def apart(left: Rows, right: Rows) -> npt.NDArray[Any]:
        steps = colours[left].astype(np.float32) - colours[right]
        return np.asarray(np.abs(steps - 0.7 * steps.mean(axis=1, keepdims=True)).mean(axis=1))

    return _of_pairs(apart, left, right)
