"""Measurements of all photos of a catalogue, made in several processes and kept in the workspace by content.

A photo whose path, size and time are known is not even read; one whose bytes are known is hashed, but not decoded.
"""

import hashlib
import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval import fingerprint
from molar_retrieval.catalog.decoding import MAX_BYTES
from molar_retrieval.embedding.catalogue import NO_FILE, stat_image
from molar_retrieval.embedding.keys import image_stamp
from molar_retrieval.progress import Progress
from molar_retrieval.quality.measure import MEASURED, RULES, Measured, PhotoState, measure
from molar_retrieval.workers import WorkerDied, Workers
from molar_retrieval.workspace import Workspace

KIND = "check"  # Folder of the workspace that holds what a check remembers
STAMPED = np.dtype([("stamp", "<u8"), ("measured", MEASURED)])
"""A measurement, and the stamp of the file that it was made of."""
_FILE = f"photos.{fingerprint.of_json([RULES, MEASURED.descr])[:12]}.bin"
_DIGEST = hashlib.sha256().digest_size
_CHUNK = 64  # photos in one task
_FEW = 256  # Fewer new photos are measured in this process: starting others takes longer
_KEPT = 2048  # So many photos are lost at most where a run is killed, or
_TIMES = 50  # one of so many parts of a large catalogue, as everything is written each time


class Known:
    """Measurements of earlier runs: records of :data:`STAMPED`, ordered by their stamps."""

    def __init__(self, records: npt.NDArray[Any]) -> None:
        self.records = records[np.argsort(records["stamp"], kind="stable")]
        # By the first half of the hash: all that have it follow each other.
        self._by_hash = np.argsort(self.records["measured"]["hash"][:, 0], kind="stable")
        self.hashes: npt.NDArray[np.uint64] = self.records["measured"]["hash"][self._by_hash]

    @classmethod
    def read(cls, workspace: Workspace) -> Self:
        """What the workspace remembers; nothing where that cannot be read, or is not what was written."""
        data = b""
        with suppress(OSError):
            data = (workspace[KIND].root / _FILE).read_bytes()
        digest, raw = data[:_DIGEST], data[_DIGEST:]
        whole = hashlib.sha256(raw).digest() == digest and len(raw) % STAMPED.itemsize == 0
        return cls(np.frombuffer(raw if whole else b"", STAMPED))

    def write(self, workspace: Workspace) -> None:
        """Remember this instead of what was there, measurements by earlier rules among it."""
        path = workspace[KIND].root / _FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, raw = path.with_name(f".{path.name}.{os.getpid()}"), self.records.tobytes()
        temporary.write_bytes(hashlib.sha256(raw).digest() + raw)
        temporary.replace(path)
        for earlier in set(path.parent.glob("photos.*")) - {path}:
            earlier.unlink(missing_ok=True)

    def by_stamp(self, stamps: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The place of each stamped file's record, -1 where it is unknown."""
        own = self.records["stamp"]
        places = np.minimum(np.searchsorted(own, stamps), len(own) - 1)
        return np.where((own[places] == stamps) & (stamps != 0), places, -1) if len(own) else places

    def by_hash(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The place of a record of each content, -1 where it is unknown."""
        found = [place_of(self.hashes, one) for one in hashes]
        return np.array([-1 if place < 0 else self._by_hash[place] for place in found], np.int64)


def place_of(hashes: npt.NDArray[np.uint64], wanted: npt.NDArray[np.uint64]) -> int:
    """The place of a hash (shape (2,)) among others (shape (n, 2)) ordered by their first halves; -1: it is none."""
    start, stop = (int(np.searchsorted(hashes[:, 0], wanted[0], side)) for side in ("left", "right"))
    same = np.flatnonzero(hashes[start:stop, 1] == wanted[1])
    return start + int(same[0]) if len(same) else -1


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
    known = Known.read(workspace)
    stamps = np.fromiter((_stamp(folder, photo) for photo in photos), np.uint64, len(photos))
    places = known.by_stamp(stamps)
    out = nothing(len(photos))
    out[places >= 0] = known.records["measured"][places[places >= 0]]
    # Items may share a file: one of each stamp is measured.
    new = np.flatnonzero((places < 0) & (stamps != 0))
    chosen, first, back = np.unique(stamps[new], return_index=True, return_inverse=True)
    if not len(chosen):
        _remember(known, workspace, stamps, out)
        return out
    fresh = np.zeros(len(chosen), MEASURED)
    done = kept = 0
    progress.start("looking at photos", len(chosen))
    paths = [str(photos[row]) for row in new[first]]
    with closing(_parts(folder, paths, known.hashes, processes, progress)) as parts:
        for part in parts:
            repeated = part["state"] == _SEEN
            part[repeated] = known.records["measured"][known.by_hash(part["hash"][repeated])]
            fresh[done : done + len(part)] = part
            done += len(part)
            progress.advance(len(part))
            if done == len(chosen) or done - kept >= max(_KEPT, len(stamps) // _TIMES):
                there, kept = back < done, done
                out[new[there]] = fresh[back[there]]
                _remember(known, workspace, stamps, out)
    progress.finish()
    return out


def _parts(
    folder: Path, photos: Sequence[str], hashes: npt.NDArray[np.uint64], processes: int | None, progress: Progress
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


def _begin(folder: str, hashes: npt.NDArray[np.uint64]) -> None:
    _place.update(folder=folder, hashes=hashes)


def _look(photos: Iterable[str]) -> Measured:
    return np.stack([_one(f"{_place['folder']}/{photo}", _place["hashes"]) for photo in photos])


def _one(path: str, known: npt.NDArray[np.uint64]) -> Measured:
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
    digest = np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), "<u8")
    if place_of(known, digest) >= 0:
        record["state"] = _SEEN
    else:
        record = measure(data)
    record["hash"] = digest
    return record


def _stamp(folder: Path, photo: str | None) -> int:
    size, modified = stat_image(folder, photo)
    return 0 if photo is None or size == NO_FILE else image_stamp(photo, size, modified)


def _remember(known: Known, workspace: Workspace, stamps: npt.NDArray[np.uint64], records: Measured) -> None:
    """Keep what belongs to photos of the catalogue as it is; what no photo has any more is forgotten."""
    kept = np.flatnonzero((stamps != 0) & records["hash"].any(axis=1))
    ordered, first = np.unique(stamps[kept], return_index=True)
    if not np.array_equal(ordered, known.records["stamp"]):
        made = np.zeros(len(ordered), STAMPED)
        made["stamp"], made["measured"] = ordered, records[kept][first]
        Known(made).write(workspace)
