"""Looking for the ids of one user in every file of some folders.

Each file is read as what it is: tables, databases, documents, arrays, archives and the files of the embedded engine.
A file that cannot be read so is looked through as bytes and is *not proven*, never clean. Histories and vectors without
an id are not looked for.
"""

import csv
import html
import json
import os
import re
import shutil
import sqlite3
import struct
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, quote_plus

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.data.interactions import USER, USERS_FILE
from molar_retrieval.progress import SILENT, Progress

BLOCK = 1 << 20
"""Bytes that are read at once."""
_LARGEST = 32 << 20
"""Bytes of a JSON document, or of a line, that are decoded at once; a larger one is text."""
_HEAD = 100 << 20  # bytes of the head of a safetensors file at most
_PLACES = 5  # of a match, and doubts of a file
_USER_COLUMN = re.compile(r"user|person|people|customer|client|session|visitor|member|unit|account", re.IGNORECASE)
_WORD = re.compile(r"[0-9A-Za-z_]")
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_WIDEST = 4  # bytes of a character
_SHORTEST, _SHORTEST_NUMBER = 4, 7
_DELIMITERS = (",", ";", "\t", "|")
_CONTROL = bytes(set(range(32)) - {7, 8, 9, 10, 12, 13, 27})
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
    ".arrow": "arrow",
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
_EDGE_CONFIG = "edge_config.json"
"""The file that marks an index of the embedded engine."""
_EDGE_SUFFIXES = (".dat", ".bin", ".mappings", ".deleted", ".versions", ".info")
_EDGE_NUMBERS = ("matrix.dat", "graph.bin", "links_compressed.bin", "inverted_index.dat", "tracker.dat", "deleted.dat")
_EDGE_POINTER = struct.Struct("<IIII")  # whether there is one, page, block, bytes

State = Literal["found", "not proven", "clean"]


class Hit(NamedTuple):
    """An id that was seen: what kind of id it is, and whether nothing else can be meant."""

    what: str
    certain: bool = True


@dataclass(frozen=True)
class Name:
    """One id of a user.

    Attributes:
        text: The id.
        what: What kind of id it is, as a report calls it.
        vague: Whether other things are called so too: it is short, or an item's id. It counts only where ids of
            users stand; elsewhere it is a doubt.
        longer: Ids of other users that contain it.
        packed: It as bytes of a number, which count wherever they are.
    """

    text: str
    what: str
    vague: bool = False
    longer: Sequence[str] = ()
    packed: Sequence[bytes] = ()

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """How it may be written: as it is, escaped for JSON, for an address or for HTML."""
        escaped = json.dumps(self.text), json.dumps(self.text, ensure_ascii=False)
        written = (self.text, *(one[1:-1] for one in escaped), quote(self.text, safe=""), quote_plus(self.text))
        return tuple(dict.fromkeys([*written, html.escape(self.text)]))

    @cached_property
    def word(self) -> re.Pattern[str]:
        """It as a word of its own."""
        return re.compile("|".join(_bounded(one) for one in self.variants))

    @cached_property
    def raw(self) -> tuple[bytes, ...]:
        """It as bytes: UTF-8 in all variants, UTF-16 and UTF-32 in both orders."""
        wide = [self.text.encode(code, "surrogatepass") for code in _WIDE]
        return (*(one.encode("utf-8", "surrogatepass") for one in self.variants), *wide)


def _bounded(text: str) -> str:
    before = r"(?<![0-9A-Za-z_])" if _WORD.match(text[0]) else ""
    after = r"(?![0-9A-Za-z_])" if _WORD.match(text[-1]) else ""
    return before + re.escape(text) + after


def is_vague(text: str) -> bool:
    """Whether so short an id may be anything."""
    return len(text) < (_SHORTEST_NUMBER if text.isdigit() else _SHORTEST)


def is_user_column(name: str) -> bool:
    """Whether a column or a key of this name holds ids of users."""
    return bool(_USER_COLUMN.search(name))


@dataclass(frozen=True)
class IdPatterns:
    """All ids of one user: the shop's, a pseudonym, sessions, the point ids of a server."""

    names: Sequence[Name]

    def in_text(self, text: str, *, users: bool = False) -> Iterator[Hit]:
        """Ids in a text; ``users``: whether it stands where ids of users stand."""
        for name in self.names:
            if any(one in text for one in name.variants) and name.word.search(text):
                yield Hit(name.what, users or not name.vague)

    def in_number(self, value: int) -> Iterator[Hit]:
        """Ids that a number is which stands where ids of users stand."""
        text = str(value)
        yield from (Hit(name.what) for name in self.names if name.text == text)

    def in_bytes(self, data: bytes, *, words: bool = False, text: bool = True) -> Iterator[tuple[int, int, Hit]]:
        """Where ids are in bytes, and how long: with ``words`` as words of their own only, as in a text.

        Without ``text`` only packed ids count: numbers alone have text by chance.
        """
        for name in self.names:
            for packed in name.packed:
                yield from ((at, len(packed), Hit(name.what)) for at in _places(data, packed))
            for raw in name.raw if text else ():
                for at in _places(data, raw):
                    hit = _judged(name, data, at, raw, words)
                    if hit is not None:
                        yield at, len(raw), hit

    @property
    def around(self) -> int:
        """Bytes beside an id by which it is told from a part of another one."""
        return max([_WIDEST, *(_WIDEST * len(one) for name in self.names for one in name.longer)])

    @property
    def overlap(self) -> int:
        """Bytes that two blocks must have in common, so that nothing is missed where they meet."""
        lengths = (len(raw) for name in self.names for raw in (*name.raw, *name.packed))
        return max(lengths, default=0) + 2 * self.around


def _places(data: bytes, raw: bytes) -> Iterator[int]:
    at = data.find(raw)
    while at >= 0:
        yield at
        at = data.find(raw, at + 1)


def _judged(name: Name, data: bytes, at: int, raw: bytes, words: bool) -> Hit | None:
    """What an id in bytes is: the user's, a doubt, or a part of another word."""
    end = at + len(raw)
    before, after = data[max(0, at - 1) : at], data[end : end + 1]
    if words:
        inside = (_letter(before) and _letter(raw[:1])) or (_letter(after) and _letter(raw[-1:]))
        return None if inside else Hit(name.what, not name.vague)
    if any(_around(data, at, end, raw, one) for one in name.longer):
        return None
    digits = name.text.isdigit() and (before.isdigit() or after.isdigit())
    return Hit(name.what, not (name.vague or digits))


def _letter(one: bytes) -> bool:
    return one.isalnum() or one == b"_"


def _around(data: bytes, at: int, end: int, raw: bytes, longer: str) -> bool:
    """Whether an id in bytes is a part of another user's longer one."""
    for code in ("utf-8", *_WIDE):
        whole = longer.encode(code, "surrogatepass")
        for inside in _places(whole, raw):
            start = at - inside
            if start >= 0 and data[start : start + len(whole)] == whole and start + len(whole) >= end:
                return True
    return False


class UndecodableError(Exception):
    """A file is not what its name or its first bytes say."""


@dataclass
class Match:
    """An id of the user in a file: what kind of id, the first places, and how often."""

    what: str
    where: list[str] = field(default_factory=list)
    times: int = 0


@dataclass
class FileMatches:
    """What was found in one file.

    Attributes:
        file: Its name, from the folder that was looked through.
        decoder: What it was read as.
        findings: What of the user it holds.
        doubts: Why it is not proven that this is all, as sentences.
    """

    file: str
    decoder: str = ""
    findings: list[Match] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def state(self) -> State:
        """``found``, ``not proven`` or ``clean``."""
        return "found" if self.findings else "not proven" if self.doubts else "clean"

    def add(self, hit: Hit, where: str) -> None:
        """Record what was seen in a place."""
        if not hit.certain:
            self.doubt(f"{where} holds {hit.what}, or another thing that is called so")
            return
        match = next((one for one in self.findings if one.what == hit.what), None)
        if match is None:
            match = Match(hit.what)
            self.findings.append(match)
        match.times += 1
        if len(match.where) < _PLACES and where not in match.where:
            match.where.append(where)

    def add_all(self, hits: Iterable[Hit], where: str) -> None:
        """Record several."""
        for hit in hits:
            self.add(hit, where)

    def doubt(self, why: str) -> None:
        """Say why it is not proven that nothing else is in the file."""
        if len(self.doubts) < _PLACES and why not in self.doubts:
            self.doubts.append(why)


@dataclass(frozen=True)
class ScanReport:
    """Where a user's ids lie.

    Attributes:
        files: What each file holds of them, those that are clean as well.
        looked_for: How many ids were looked for, by kind.
        notes: What the scan could not know, as sentences.
        server: The same of the collections of a server.
    """

    files: Sequence[FileMatches]
    looked_for: dict[str, int]
    notes: Sequence[str] = ()
    server: Sequence[FileMatches] = ()

    @property
    def found(self) -> list[FileMatches]:
        """Files and collections that hold something of the user."""
        return [one for one in (*self.files, *self.server) if one.state == "found"]

    @property
    def not_proven(self) -> list[FileMatches]:
        """Those of which nobody can say that they do not."""
        return [one for one in (*self.files, *self.server) if one.state == "not proven"]

    @property
    def decoders(self) -> dict[str, int]:
        """Files by what they were read as."""
        return dict(Counter(one.decoder for one in (*self.files, *self.server)).most_common())

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; ids of the user are not in it, unless a file or a folder is called so."""
        return {
            "found": [
                {
                    "file": one.file,
                    "decoder": one.decoder,
                    "findings": [vars(match) for match in one.findings],
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


def scan(folders: Sequence[Path], patterns: IdPatterns, progress: Progress = SILENT) -> list[FileMatches]:
    """Look for a user's ids in all files of some folders, and in some files."""
    every = {path: f"{folder.name}/{path.relative_to(folder)}" for folder in folders for path in files_of(folder)}
    known: dict[tuple[int, int], FileMatches] = {}
    progress.start("files", len(every))
    found = []
    for path, name in every.items():
        one = FileMatches(name)
        try:
            there = path.stat()
            same = known.get((there.st_dev, there.st_ino))
            if same is None:
                _look_at_file(path, path.name, patterns, one)
                known[there.st_dev, there.st_ino] = one
            else:  # another name of the same file
                one.decoder, one.findings, one.doubts = same.decoder, list(same.findings), list(same.doubts)
        except OSError as error:
            if not path.exists():
                progress.advance(1)
                continue  # what works beside the scan has removed it
            one.decoder = one.decoder or "unread"
            one.doubt(f"it cannot be read: {error.strerror}")
        one.add_all(patterns.in_text(name), "its name")
        found.append(one)
        progress.advance(1)
    progress.finish()
    return found


def files_of(folder: Path) -> Iterator[Path]:
    """All files below a folder, or a file itself."""
    if folder.is_file():
        yield folder
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from (path for name in sorted(names) if not (path := Path(root, name)).is_socket())


def _look_at_file(path: Path, name: str, patterns: IdPatterns, found: FileMatches) -> None:
    """Look through one file, which is, or was when it was packed, called ``name``."""
    decoder = decoder_of(path, name)
    found.decoder = found.decoder or decoder
    try:
        if decoder == "unknown":
            raise UndecodableError("its format is not known")
        if decoder in ("zip", "gzip", "zstd"):
            for inside, inner in unpacked(path, decoder):
                _look_at_file(inside, inner, patterns, found)
        elif decoder != "empty":
            _LOOKS.get(decoder, _look_at_bytes)(path, patterns, found)
    except OSError:
        raise
    except Exception as error:  # whatever is wrong with one file, the others are looked through
        known = isinstance(error, UndecodableError)
        found.doubt(str(error) if known else f"it is damaged: {type(error).__name__}: {error}")
        _look_at_bytes(path, patterns, found)


def decoder_of(path: Path, name: str) -> str:
    """What a file is read as, by its first bytes or its name."""
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
    if suffix in _EDGE_SUFFIXES and any((above / _EDGE_CONFIG).exists() for above in path.parents):
        return "index"
    return "text" if _is_text(path) else "unknown"


def _is_text(path: Path) -> bool:
    """Whether a file is text: UTF-8 without characters that no text has."""
    kept = b""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            whole = kept + block
            if whole.translate(None, _CONTROL) != whole:
                return False
            try:
                whole.decode("utf-8")
                kept = b""
            except UnicodeDecodeError as error:
                if len(whole) - error.start > 3:
                    return False
                kept = whole[error.start :]
    return not kept


def _look_at_bytes(
    path: Path, patterns: IdPatterns, found: FileMatches, *, words: bool = False, text: bool = True
) -> None:
    """Look through a file as bytes; see :meth:`IdPatterns.in_bytes`."""
    around, overlap = patterns.around, patterns.overlap
    start, tail = 0, b""
    with path.open("rb") as file:
        block = file.read(BLOCK)
        while block:
            following = file.read(BLOCK)
            data = tail + block
            for at, size, hit in patterns.in_bytes(data, words=words, text=text):
                # What stands around an id is needed to judge it, so one at the end is left to the next block.
                if at + size + around > len(tail) and (not following or at + size + around <= len(data)):
                    found.add(hit, f"byte {start + at:,}")
            tail = data[-overlap:]
            start, block = start + len(data) - len(tail), following


def _look_at_text(path: Path, patterns: IdPatterns, found: FileMatches) -> None:
    _look_at_bytes(path, patterns, found, words=True)


def unpacked(path: Path, decoder: str) -> Iterator[tuple[Path, str]]:
    """Each file of an archive, or what one file was packed from, as a file that goes afterwards, with its name."""
    try:
        if decoder == "zip":
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if not member.is_dir():
                        with archive.open(member) as stream:
                            yield from _as_file(stream, member.filename)
        else:
            with pa.OSFile(str(path)) as raw, pa.CompressedInputStream(raw, decoder) as stream:
                yield from _as_file(stream, path.stem)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, pa.ArrowException, OSError) as error:
        raise UndecodableError(f"it cannot be unpacked: {error}") from error


def _as_file(stream: Any, name: str) -> Iterator[tuple[Path, str]]:
    with tempfile.TemporaryDirectory(prefix="molar-scan-") as folder:  # 0700
        inside = Path(folder) / f"inside{Path(name).suffix}"
        with inside.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        yield inside, name


def _look_at_parquet(path: Path, patterns: IdPatterns, found: FileMatches) -> None:
    """Look at every value of every column, dictionaries, statistics and metadata included."""
    try:
        with pq.ParquetFile(path) as file:
            _look_at_metadata(file.metadata, patterns, found)
            plain = (pa.types.is_string, pa.types.is_large_string)
            texts = [one.name for one in file.schema_arrow if any(kind(one.type) for kind in plain)]
        rows = {USER} if (path.parent / USERS_FILE).exists() else set()  # numbers of rows there, no ids
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            for name in (one for one in file.schema_arrow.names if one not in rows):
                row = 0
                for group in range(file.num_row_groups):
                    for chunk in file.read_row_group(group, columns=[name], use_threads=False).column(0).chunks:
                        _look_at_column(name, chunk, row, patterns, found)
                        row += len(chunk)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UndecodableError(f"it is no whole Parquet file: {error}") from error


def _look_at_metadata(metadata: pq.FileMetaData, patterns: IdPatterns, found: FileMatches) -> None:
    for key, value in (metadata.metadata or {}).items():
        if key != b"ARROW:schema":
            found.add_all((hit for *_, hit in patterns.in_bytes(key + b" " + value, words=True)), "metadata")
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            stats, name = column.statistics, column.path_in_schema
            for value in (stats.min, stats.max) if stats is not None and stats.has_min_max else ():
                if isinstance(value, str):
                    found.add_all(patterns.in_text(value, users=is_user_column(name)), f"{name}, statistics")


def _look_at_arrow(path: Path, patterns: IdPatterns, found: FileMatches) -> None:
    """Look at a stream of record batches."""
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            row = 0
            for batch in stream:
                for name in batch.schema.names:
                    _look_at_column(name, batch[name], row, patterns, found)
                row += len(batch)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UndecodableError(f"it is no whole Arrow stream: {error}") from error


def _look_at_column(name: str, values: Any, row: int, patterns: IdPatterns, found: FileMatches) -> None:
    """Look at values of a column that begin at a row."""
    for path, leaf in leaves(name, values):
        kind = leaf.type
        if is_text(kind):
            _look_at_words(path, leaf, row, patterns, found)
        elif pa.types.is_integer(kind):
            _look_at_integers(path, leaf, row, patterns, found)
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            for place, value in enumerate(leaf.to_pylist()):
                if value:
                    found.add_all((hit for *_, hit in patterns.in_bytes(value)), f"{path}, row {row + place:,}")
        elif pa.types.is_dictionary(kind):
            _look_at_column(path, leaf.dictionary_decode(), row, patterns, found)
        elif not any(one(kind) for one in _NAMELESS):
            found.doubt(f"the column {path} has the type {kind}, which is not looked into")


_NAMELESS: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_boolean,
    pa.types.is_temporal,
    pa.types.is_null,
    pa.types.is_decimal,
    pa.types.is_floating,
)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of Arrow has texts, plain or by a dictionary."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def leaves(name: str, values: Any) -> Iterator[tuple[str, Any]]:
    """A column's values without what nests them."""
    kind = values.type
    if pa.types.is_struct(kind):
        for inner in kind:
            yield from leaves(f"{name}.{inner.name}", pc.struct_field(values, inner.name))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from leaves(name, values.flatten())
    elif pa.types.is_map(kind):
        yield from leaves(f"{name}.key", values.keys)
        yield from leaves(name, values.items)
    else:
        yield name, values


def _look_at_words(name: str, values: Any, row: int, patterns: IdPatterns, found: FileMatches) -> None:
    """Look at the different texts of a column, and say in which row each is, if it is in one."""
    codes = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    for place, text in enumerate(codes.dictionary.to_pylist()):
        for hit in patterns.in_text(text, users=is_user_column(name)) if text is not None else ():
            at = pc.index(codes.indices, pa.scalar(place, codes.indices.type)).as_py()
            found.add(hit, f"{name}, dictionary" if at < 0 else f"{name}, row {row + at:,}")


def _look_at_integers(name: str, values: Any, row: int, patterns: IdPatterns, found: FileMatches) -> None:
    if not is_user_column(name):
        return
    if pa.types.is_uint64(values.type):
        values = values.cast(pa.int64(), safe=False)
    numbers = pc.fill_null(values.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    for one in patterns.names:
        if one.text.isdigit() and len(one.text) < 19:
            for at in np.flatnonzero(numbers == int(one.text))[:1].tolist():
                found.add_all(patterns.in_number(int(one.text)), f"{name}, row {row + at:,}")


def _look_at_sqlite(path: Path, patterns: IdPatterns, found: FileMatches) -> None:
    """Look at every value of every table, and where none has the user at all bytes, what was deleted included.

    The database is read as it is on the disk; its write-ahead log is a file of its own.
    """
    before = len(found.findings)
    try:
        # immutable: nothing is written beside it, no log is taken in, nobody waits.
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            for (table,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                quoted = table.replace('"', '""')
                cursor = database.execute(f'SELECT * FROM "{quoted}"')
                columns = [one[0] for one in cursor.description]
                for row, values in enumerate(cursor):
                    for column, value in zip(columns, values, strict=True):
                        users = is_user_column(column)
                        if isinstance(value, str):
                            hits = patterns.in_text(value, users=users)
                        elif isinstance(value, int) and users:
                            hits = patterns.in_number(value)
                        else:
                            continue
                        found.add_all(hits, f"{table}.{column}, row {row:,}")
    except sqlite3.Error as error:
        raise UndecodableError(f"SQLite cannot read it: {error}") from error
    if len(found.findings) == before:
        _look_at_bytes(path, patterns, found)


def _look_at_json(path: Path, patterns: IdPatterns, found: FileMatches) -> None:
    if path.stat().st_size > _LARGEST:
        _look_at_text(path, patterns, found)
        return
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UndecodableError(f"it is no JSON: {error}") from error
    _look_at_document(document, "", "", patterns, found)


def _look_at_lines(path: Path, patterns: IdPatterns, found: FileMatches) -> None:
    """Look through JSON lines; one that is none is text."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LARGEST), b""), 1):
            where = f"line {number:,}"
            try:
                document = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):
                found.add_all((hit for *_, hit in patterns.in_bytes(line, words=True)), where)
            else:
                _look_at_document(document, where, "", patterns, found)


def _look_at_document(value: Any, where: str, key: str, patterns: IdPatterns, found: FileMatches) -> None:
    """Look through what JSON holds; ``key`` is what the value is called."""
    if isinstance(value, dict):
        for name, inner in value.items():
            place = f"{where}, a key" if key else f"{where}.{name}"
            found.add_all(patterns.in_text(name, users=is_user_column(key)), place)
            _look_at_document(inner, f"{where}.{name}".lstrip("."), name, patterns, found)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _look_at_document(inner, f"{where}[{number}]", key, patterns, found)
    elif isinstance(value, str):
        found.add_all(patterns.in_text(value, users=is_user_column(key)), where)
    elif isinstance(value, int) and not isinstance(value, bool) and is_user_column(key):
        found.add_all(patterns.in_number(value), where)


def _look_at_csv(path: Path, patterns: IdPatterns, found: FileMatches) -> None:
    """Look through comma-separated values with a head."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(BLOCK)
            file.seek(0)
            head: list[str] = []
            for number, row in enumerate(csv.reader(file, delimiter=max(_DELIMITERS, key=first.count))):
                head = head or row
                for place, value in enumerate(row):
                    name = head[place] if place < len(head) else ""
                    users = is_user_column(name)
                    found.add_all(patterns.in_text(value, users=users), f"{name or place + 1}, row {number:,}")
    except (csv.Error, UnicodeDecodeError) as error:
        raise UndecodableError(f"it is no CSV in UTF-8: {error}") from error


def _look_at_safetensors(path: Path, patterns: IdPatterns, found: FileMatches) -> None:
    """Look at the head as JSON, and at the tensors as numbers, or as bytes where they are such."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(_HEAD, path.stat().st_size):
            raise UndecodableError("it is no whole safetensors file")
        try:
            head = json.loads(file.read(size))
        except ValueError as error:
            raise UndecodableError(f"its head is no JSON: {error}") from error
    _look_at_document(head, "head", "", patterns, found)
    kinds = {one["dtype"] for name, one in head.items() if name != "__metadata__"}
    _look_at_bytes(path, patterns, found, text=not kinds.isdisjoint({"U8", "I8"}))


def _look_at_npy(path: Path, patterns: IdPatterns, found: FileMatches) -> None:
    """Look through an array of NumPy: text in it as bytes, objects not at all."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if b"'descr': '|O'" in head:
        found.doubt("its values are pickled")
    _look_at_bytes(path, patterns, found, text=b"'descr': '<f" not in head and b"'descr': '<i" not in head)


def _look_at_index(path: Path, patterns: IdPatterns, found: FileMatches) -> None:
    """Look through a file of the embedded engine; payloads, which are packed, are unpacked."""
    _look_at_bytes(path, patterns, found, text=path.name not in _EDGE_NUMBERS)
    if not path.name.startswith("page_"):
        return
    config = path.parent / "config.json"
    try:
        told = json.loads(config.read_bytes())
        packing, block = told["compression"], int(told["block_size_bytes"])
        tracker = (path.parent / "tracker.dat").read_bytes()
    except (OSError, ValueError, KeyError) as error:
        raise UndecodableError(f"nothing says where its payloads are, and how they are packed: {error}") from error
    if packing == "None":
        return
    if packing != "LZ4":
        raise UndecodableError(f"it is packed by {packing}")
    page, codec = int(path.stem.removeprefix("page_")), pa.Codec("lz4_raw")
    with path.open("rb") as file:
        for point in range(int.from_bytes(tracker[:4], "little")):
            there, of, begin, size = _EDGE_POINTER.unpack_from(tracker, 4 + point * _EDGE_POINTER.size)
            if not there or of != page:
                continue
            file.seek(begin * block)
            packed = file.read(size)
            try:
                plain = codec.decompress(packed[4:], int.from_bytes(packed[:4], "little"), asbytes=True)
                payload = json.loads(plain)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise UndecodableError(f"the payload of point {point:,} cannot be unpacked: {error}") from error
            _look_at_document(payload, f"payload of point {point:,}", "", patterns, found)


_LOOKS: dict[str, Callable[[Path, IdPatterns, FileMatches], None]] = {
    "parquet": _look_at_parquet,
    "arrow": _look_at_arrow,
    "sqlite": _look_at_sqlite,
    "safetensors": _look_at_safetensors,
    "npy": _look_at_npy,
    "json": _look_at_json,
    "jsonl": _look_at_lines,
    "csv": _look_at_csv,
    "text": _look_at_text,
    "index": _look_at_index,
}
"""By what a file is read as; another one is looked through as bytes."""
