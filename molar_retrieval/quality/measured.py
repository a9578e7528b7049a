"""Measurements of all photos of a catalogue, made in several processes and kept in the workspace by content.

A photo whose path, size and time are known is not even read; one whose bytes are known is read and hashed, but not
decoded. So a second run after a fix takes as long as what was changed.
"""

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from molar_retrieval import fingerprint
from molar_retrieval.catalog.decoding import MAX_BYTES
from molar_retrieval.embedding.records import image_stamp
from molar_retrieval.embedding.source import NO_FILE, stat_image
from molar_retrieval.progress import Progress
from molar_retrieval.quality.measure import MEASURED, RULES, State, measure
from molar_retrieval.workers import Workers
from molar_retrieval.workspace import Workspace

KIND = "check"
"""Folder of the workspace that holds what a check remembers."""
_FILE = f"photos.{fingerprint.of_json([RULES, MEASURED.descr])[:12]}.safetensors"
_DIGEST = "digest"
_CHUNK = 64  # photos in one task
_AHEAD = 4  # tasks for each process
_FEW = 256
"""Fewer new photos are measured in this process: starting others takes longer."""
_KEPT = 2048
"""So many photos are lost at most where a run is killed, or"""
_TIMES = 50
"""one of so many parts of a large catalogue, as everything is written each time."""

Measured = npt.NDArray[Any]


@dataclass(frozen=True)
class Known:
    """Measurements of earlier runs: of photos by their content, and contents by the stamps of files.

    Attributes:
        records: Of :data:`~molar_retrieval.quality.measure.MEASURED`, ordered by the first half of the hash.
        stamps: Of files (uint64), ascending.
        hashes: Of the bytes of each stamped file (shape (n, 2)).
    """

    records: Measured
    stamps: npt.NDArray[np.uint64]
    hashes: npt.NDArray[np.uint64]

    @classmethod
    def read(cls, workspace: Workspace) -> Self:
        """What the workspace remembers; nothing where that cannot be read, or is not what was written."""
        with suppress(OSError, ValueError, KeyError, SafetensorError):
            found = load_file(workspace[KIND].root / _FILE)
            stamps, hashes, raw = found["stamps"], found["hashes"], found["records"]
            whole = found[_DIGEST].tobytes().decode("ascii", "replace") == _digest(raw, stamps, hashes)
            if whole and raw.shape[1:] == (MEASURED.itemsize,) and len(stamps) == len(hashes):
                return cls(raw.view(MEASURED).reshape(-1), stamps, hashes)
        return cls(np.zeros(0, MEASURED), np.zeros(0, np.uint64), np.zeros((0, 2), np.uint64))

    def write(self, workspace: Workspace) -> None:
        """Remember this instead of what was there."""
        path = workspace[KIND].root / _FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        raw = np.ascontiguousarray(self.records).view(np.uint8).reshape(len(self.records), MEASURED.itemsize)
        digest = np.frombuffer(_digest(raw, self.stamps, self.hashes).encode(), np.uint8)
        save_file({"records": raw, "stamps": self.stamps, "hashes": self.hashes, _DIGEST: digest}, temporary)
        temporary.replace(path)

    def by_stamp(self, stamps: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The place of each stamped file's record, -1 where it is unknown."""
        if not len(self.stamps):
            return np.full(len(stamps), -1, np.int64)
        places = np.minimum(np.searchsorted(self.stamps, stamps), len(self.stamps) - 1)
        found = self.by_hash(self.hashes[places])
        return np.where((self.stamps[places] == stamps) & (stamps != 0), found, -1)

    def by_hash(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The place of the record of each content, -1 where it is unknown."""
        if not len(self.records):
            return np.full(len(hashes), -1, np.int64)
        own = self.records["hash"]
        places = np.minimum(np.searchsorted(own[:, 0], hashes[:, 0]), len(own) - 1)
        return np.where((own[places] == hashes).all(axis=1), places, -1)


def _digest(*arrays: npt.NDArray[Any]) -> str:
    return fingerprint.of_bytes(np.ascontiguousarray(array).tobytes() for array in arrays)


def nothing(n: int) -> Measured:
    """Records of items without photos."""
    out = np.zeros(n, MEASURED)
    out["state"] = State.MISSING
    return out


def measured(
    folder: Path,
    photos: Sequence[str | None],
    workspace: Workspace,
    progress: Progress,
    *,
    processes: int | None = None,
) -> Measured:
    """Measure the photos of some items.

    Args:
        folder: The catalogue's folder.
        photos: Path of each item's photo in it, or None; paths may repeat.
        workspace: Where measurements are kept.
        progress: Is told of every photo that is not known by its stamp.
        processes: How many; None: as many as there are cores.

    Returns:
        A record of :data:`~molar_retrieval.quality.measure.MEASURED` for each item; its ``state`` is ``MISSING`` where
        there is no photo or no such file.
    """
    known = Known.read(workspace)
    stamps = np.fromiter((_stamp(folder, photo) for photo in photos), np.uint64, len(photos))
    places = known.by_stamp(stamps)
    out = nothing(len(photos))
    out[places >= 0] = known.records[places[places >= 0]]
    # Items may share a file: one of each stamp is measured.
    new = np.flatnonzero((places < 0) & (stamps != 0))
    chosen, first, back = np.unique(stamps[new], return_index=True, return_inverse=True)
    rows = new[first]
    if len(chosen):
        fresh = np.zeros(len(chosen), MEASURED)
        done = kept = 0
        progress.start("looking at photos", len(chosen))
        paths = [str(photos[row]) for row in rows]
        with closing(_parts(folder, paths, known.records["hash"], processes, progress)) as parts:
            for part in parts:
                fresh[done : done + len(part)] = _resolved(part, known)
                done += len(part)
                progress.advance(len(part))
                if done == len(chosen) or done - kept >= max(_KEPT, len(stamps) // _TIMES):
                    there, kept = back < done, done
                    out[new[there]] = fresh[back[there]]
                    _remember(known, workspace, stamps, out)
        progress.finish()
    else:
        _remember(known, workspace, stamps, out)
    return out


def _resolved(part: Measured, known: Known) -> Measured:
    """With the measurements of contents that were seen before."""
    seen = known.by_hash(part["hash"])
    repeated = (part["state"] == _SEEN) & (seen >= 0)
    part[repeated] = known.records[seen[repeated]]
    return part


def _parts(
    folder: Path, photos: Sequence[str], hashes: npt.NDArray[np.uint64], processes: int | None, progress: Progress
) -> Generator[Measured]:
    """Measurements of some photos at a time, in their order."""
    chunks = [list(photos[start : start + _CHUNK]) for start in range(0, len(photos), _CHUNK)]
    workers = min(processes or os.cpu_count() or 1, len(chunks))
    done = 0
    if workers > 1 and len(photos) >= _FEW:
        try:
            with closing(_by_others(folder, chunks, hashes, workers)) as parts:
                for part in parts:
                    yield part
                    done += 1
        except BrokenProcessPool:  # one was killed, or the caller's script starts anew when it is imported
            progress.note("a process that measures photos ended: going on in this one")
    _begin(str(folder), hashes)
    yield from map(_look, chunks[done:])


def _by_others(
    folder: Path, chunks: Sequence[list[str]], hashes: npt.NDArray[np.uint64], workers: int
) -> Generator[Measured]:
    coming = iter(chunks)
    with Workers(workers, _begin, str(folder), hashes) as pool:
        waiting: deque[Future[Measured]] = deque(
            pool.submit(_look, chunk) for chunk in islice(coming, workers * _AHEAD)
        )
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(_look, chunk) for chunk in islice(coming, 1))


_SEEN = 255
"""State of a photo whose content was measured before; only inside of this module."""
_place: dict[str, Any] = {}


def _begin(folder: str, hashes: npt.NDArray[np.uint64]) -> None:
    """What a process needs for its tasks."""
    _place.update(folder=folder, hashes=hashes)


def _look(photos: Iterable[str]) -> Measured:
    """Measure some photos."""
    found = [_one(f"{_place['folder']}/{photo}", _place["hashes"]) for photo in photos]
    return np.stack(found) if found else np.zeros(0, MEASURED)


def _one(path: str, known: npt.NDArray[np.uint64]) -> Measured:
    record = np.zeros((), MEASURED)
    try:
        size = os.stat(path).st_size  # noqa: PTH116 (a million paths)
        if size > MAX_BYTES:
            record["state"], record["bytes"] = State.TOO_LARGE, size
            return record
        with open(path, "rb") as file:  # noqa: PTH123
            data = file.read(MAX_BYTES)
    except (OSError, ValueError):
        record["state"] = State.UNREADABLE
        return record
    digest = np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), "<u8")
    place = np.searchsorted(known[:, 0], digest[0]) if len(known) else 0
    if place < len(known) and (known[place] == digest).all():
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
    kept = (stamps != 0) & records["hash"].any(axis=1)
    ordered, places = np.unique(stamps[kept], return_index=True)
    hashes = records["hash"][kept][places]
    _, first = np.unique(hashes, axis=0, return_index=True)
    contents = records[kept][places][first]
    contents = contents[np.lexsort((contents["hash"][:, 1], contents["hash"][:, 0]))]
    if len(ordered) == len(known.stamps) and (ordered == known.stamps).all() and len(contents) == len(known.records):
        return
    Known(contents, ordered, hashes).write(workspace)
