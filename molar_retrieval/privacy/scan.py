"""Looking for a person in every file of some folders.

Each file is read as what it is, in blocks: tables, databases, arrays, documents, archives and the files of the embedded
engine. A file that cannot be read so is looked through as bytes and is *not proven*, never clean.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molar_retrieval.privacy.blocks import look_at_bytes
from molar_retrieval.privacy.found import FileFindings, UndecodableError
from molar_retrieval.privacy.needles import Needles
from molar_retrieval.privacy.packed import look_at_packed, look_at_zip
from molar_retrieval.privacy.parquet import look_at_parquet
from molar_retrieval.privacy.points import CONFIG, KNOWN, look_at_points
from molar_retrieval.privacy.sqlite import look_at_sqlite
from molar_retrieval.privacy.tensors import look_at_npy, look_at_safetensors
from molar_retrieval.privacy.texts import is_text, look_at_csv, look_at_json, look_at_lines, look_at_text
from molar_retrieval.progress import SILENT, Progress

_MAGIC = {
    b"PAR1": "parquet",
    b"SQLite format 3\0": "sqlite",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xff\xd8\xff": "photo",
    b"\x89PNG\r\n": "photo",
    b"GIF8": "photo",
    b"RIFF": "photo",
}
_SUFFIXES = {
    ".parquet": "parquet",
    ".sqlite": "sqlite",
    ".safetensors": "safetensors",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".npy": "npy",
    ".zip": "zip",
    ".npz": "zip",
    ".gz": "gzip",
    ".zst": "zstd",
}
_BESIDE_SQLITE = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class ScanReport:
    """Where a person lies.

    Attributes:
        files: What each file holds of them, those that are clean as well.
        looked_for: How many names, stretches of a history, of vectors were looked for, by kind.
        notes: What the scan could not know, as sentences.
        server: The same of the collections of a server.
    """

    files: Sequence[FileFindings]
    looked_for: dict[str, int]
    notes: Sequence[str] = ()
    server: Sequence[FileFindings] = ()

    @property
    def found(self) -> list[FileFindings]:
        """Files and collections that hold something of the person."""
        return [one for one in (*self.files, *self.server) if one.state == "found"]

    @property
    def not_proven(self) -> list[FileFindings]:
        """Those of which nobody can say that they do not."""
        return [one for one in (*self.files, *self.server) if one.state == "not proven"]

    @property
    def decoders(self) -> dict[str, int]:
        """Files by what they were read as."""
        return dict(Counter(one.decoder for one in (*self.files, *self.server)).most_common())

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; names of the person are not in it, unless a file or a folder is called so."""
        return {
            "found": [
                {
                    "file": one.file,
                    "decoder": one.decoder,
                    "findings": [vars(finding) for finding in one.findings],
                    "doubts": one.doubts,
                }
                for one in self.found
            ],
            "not_proven": [{"file": one.file, "decoder": one.decoder, "doubts": one.doubts} for one in self.not_proven],
            "clean": len(self.files) + len(self.server) - len(self.found) - len(self.not_proven),
            "decoders": self.decoders,
            "looked_for": self.looked_for,
            "notes": list(self.notes),
        }


def scan(folders: Sequence[Path], needles: Needles, progress: Progress = SILENT) -> list[FileFindings]:
    """Look for a person in all files of some folders, and in some files."""
    every = {path: f"{folder.name}/{path.relative_to(folder)}" for folder in folders for path in _files(folder)}
    known: dict[tuple[int, int], FileFindings] = {}
    progress.start("files", len(every))
    found = []
    for path, name in every.items():
        one = FileFindings(name)
        try:
            there = path.stat()
            same = known.get((there.st_dev, there.st_ino))
            if same is None:
                look_at_file(path, path.name, needles, one)
                known[there.st_dev, there.st_ino] = one
            else:  # another name of the same file
                one.decoder, one.findings, one.doubts = same.decoder, list(same.findings), list(same.doubts)
        except OSError as error:
            if not path.exists():
                progress.advance(1)
                continue  # what works beside the scan has removed it
            one.decoder = one.decoder or "unread"
            one.doubt(f"it cannot be read: {error.strerror}")
        one.add_all(needles.text(name), "its name")
        found.append(one)
        progress.advance(1)
    progress.finish()
    return found


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from (path for name in sorted(names) if not (path := Path(root, name)).is_socket())


def look_at_file(path: Path, name: str, needles: Needles, found: FileFindings) -> None:
    """Look through one file, which is, or was when it was packed, called ``name``."""
    decoder = _decoder(path, name)
    found.decoder = found.decoder or decoder
    try:
        _look_as(decoder, path, needles, found)
    except OSError:
        raise
    except Exception as error:  # whatever is wrong with one file, the others are looked through
        known = isinstance(error, UndecodableError)
        found.doubt(str(error) if known else f"it is damaged: {type(error).__name__}: {error}")
        look_at_bytes(path, needles, found)


def _decoder(path: Path, name: str) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        return "empty"
    suffix = Path(name).suffix.lower()
    magic = next((kind for start, kind in _MAGIC.items() if head.startswith(start)), None)
    if magic or suffix in _SUFFIXES:
        return magic or _SUFFIXES[suffix]
    if name.endswith(_BESIDE_SQLITE):
        return "log of SQLite"
    if suffix in KNOWN and any((above / CONFIG).exists() for above in path.parents):
        return "index"
    return "text" if is_text(path) else "unknown"


def _look_as(decoder: str, path: Path, needles: Needles, found: FileFindings) -> None:
    def inside(unpacked: Path, name: str, there: FileFindings) -> None:
        look_at_file(unpacked, name, needles, there)

    match decoder:
        case "empty":
            pass
        case "parquet":
            look_at_parquet(path, needles, found, path.parent)
        case "zip":
            look_at_zip(path, found, inside)
        case "gzip" | "zstd":
            look_at_packed(path, decoder, found, inside)
        case "unknown":
            raise UndecodableError("its format is not known")
        case "photo" | "log of SQLite":
            look_at_bytes(path, needles, found)
        case _:
            _LOOKS[decoder](path, needles, found)


_LOOKS = {
    "sqlite": look_at_sqlite,
    "safetensors": look_at_safetensors,
    "npy": look_at_npy,
    "json": look_at_json,
    "jsonl": look_at_lines,
    "csv": look_at_csv,
    "text": look_at_text,
    "index": look_at_points,
}
