"""Search for the ids of one user in every file of some folders.

Tables, databases and documents are read value by value, archives are unpacked, everything else is searched as bytes. A
file of an unknown format, or a damaged one, is *not proven*, never clean. Histories and vectors without an id are not
looked for.
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

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.data.interactions import USER, USERS_FILE
from molar_retrieval.progress import SILENT, Progress

BLOCK = 1 << 20
"""Bytes that are read at once."""
_LARGEST = 32 << 20
"""Bytes of a JSON document, or of a line, that are decoded at once; a larger one is text."""
_PLACES = 5  # of a match, and doubts of a file
_USER_COLUMN = re.compile(r"user|person|people|customer|client|session|visitor|member|unit|account", re.IGNORECASE)
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_WIDEST = 4  # bytes of a character
_SHORTEST, _SHORTEST_NUMBER = 4, 7
_CONTROL = re.compile("[\0-\6\16-\32\34-\37]")  # no text has these
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
Value = tuple[str, str, str | int | bytes]
"""Where a value stands, the column or the key that it belongs to, and the value."""


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
        packed: The id as bytes of a number, which count wherever they are.
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
        """It as a word of its own, in any of its variants."""
        return re.compile("|".join(_bounded(one) for one in self.variants))

    @cached_property
    def raw(self) -> tuple[bytes, ...]:
        """It as bytes: UTF-8 in all variants, UTF-16 and UTF-32 in both orders."""
        wide = [self.text.encode(code, "surrogatepass") for code in _WIDE]
        return (*(one.encode("utf-8", "surrogatepass") for one in self.variants), *wide)

    def in_bytes(self, data: bytes, at: int, raw: bytes, words: bool) -> Hit | None:
        """What its bytes at a place are: the user's id, a doubt, or a part of another word or id."""
        end = at + len(raw)
        before, after = data[max(0, at - 1) : at], data[end : end + 1]
        if words:
            inside = (_letter(before) and _letter(raw[:1])) or (_letter(after) and _letter(raw[-1:]))
            return None if inside else Hit(self.what, not self.vague)
        if any(_is_part(data, at, raw, one.encode(code)) for one in self.longer for code in ("utf-8", *_WIDE)):
            return None
        digits = self.text.isdigit() and (before.isdigit() or after.isdigit())
        return Hit(self.what, not (self.vague or digits))


def _bounded(text: str) -> str:
    before = r"(?<![0-9A-Za-z_])" if re.match(r"\w", text[0], re.ASCII) else ""
    after = r"(?![0-9A-Za-z_])" if re.match(r"\w", text[-1], re.ASCII) else ""
    return before + re.escape(text) + after


def _letter(one: bytes) -> bool:
    return one.isalnum() or one == b"_"


def _is_part(data: bytes, at: int, raw: bytes, longer: bytes) -> bool:
    """Whether what is at a place is a part of a longer id there."""
    starts = (at - inside for inside in _places(longer, raw))
    return any(start >= 0 and data.startswith(longer, start) for start in starts)


def _places(data: bytes, raw: bytes) -> Iterator[int]:
    at = data.find(raw)
    while at >= 0:
        yield at
        at = data.find(raw, at + 1)


def is_vague(text: str) -> bool:
    """Whether so short an id may be anything."""
    return len(text) < (_SHORTEST_NUMBER if text.isdigit() else _SHORTEST)


@dataclass(frozen=True)
class IdPatterns:
    """All ids of one user: the shop's, a pseudonym, sessions, the point ids of a server."""

    names: Sequence[Name]

    def in_value(self, column: str, value: object) -> Iterator[Hit]:
        """Ids in a value of a column, or under a key, of this name; numbers count in columns of users alone."""
        users = bool(_USER_COLUMN.search(column))
        if isinstance(value, bytes):
            yield from (hit for *_, hit in self.in_bytes(value))
        elif isinstance(value, str) or (users and isinstance(value, int)):
            text = str(value)
            for name in self.names:
                if any(one in text for one in name.variants) and name.word.search(text):
                    yield Hit(name.what, users or not name.vague)

    def in_bytes(self, data: bytes, *, words: bool = False, text: bool = True) -> Iterator[tuple[int, int, Hit]]:
        """Where ids are in bytes, and how long: with ``words`` as words of their own only, as in a text.

        Without ``text`` only packed ids count: numbers alone have text by chance.
        """
        for name in self.names:
            for packed in name.packed:
                yield from ((at, len(packed), Hit(name.what)) for at in _places(data, packed))
            for raw in name.raw if text else ():
                for at in _places(data, raw):
                    if (hit := name.in_bytes(data, at, raw, words)) is not None:
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
        file: Its name, from the folder that was searched.
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

    def add_values(self, values: Iterable[Value], patterns: IdPatterns) -> None:
        """Record the ids in values."""
        for where, column, value in values:
            for hit in patterns.in_value(column, value):
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

    def in_state(self, state: State) -> list[FileMatches]:
        """Files and collections in a state."""
        return [one for one in (*self.files, *self.server) if one.state == state]

    @property
    def found(self) -> list[FileMatches]:
        """Files and collections that hold something of the user."""
        return self.in_state("found")

    @property
    def not_proven(self) -> list[FileMatches]:
        """Those of which nobody can say that they do not."""
        return self.in_state("not proven")

    @property
    def decoders(self) -> dict[str, int]:
        """Files by what they were read as."""
        return dict(Counter(one.decoder for one in (*self.files, *self.server)).most_common())

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; ids of the user are not in it, unless a file or a folder is called so."""
        return {
            "found": [vars(one) | {"findings": [vars(match) for match in one.findings]} for one in self.found],
            "not_proven": [{"file": one.file, "decoder": one.decoder, "doubts": one.doubts} for one in self.not_proven],
            "clean": len(self.in_state("clean")),
            "decoders": self.decoders,
            "looked_for": self.looked_for,
            "notes": list(self.notes),
        }


def scan(folders: Sequence[Path], patterns: IdPatterns, progress: Progress = SILENT) -> list[FileMatches]:
    """Search for a user's ids in all files of some folders, and in some files."""
    every = {path: f"{folder.name}/{path.relative_to(folder)}" for folder in folders for path in files_of(folder)}
    progress.start("files", len(every))
    found = []
    for path, name in every.items():
        one = FileMatches(name)
        try:
            _look_at_file(path, path.name, patterns, one)
        except OSError as error:
            one.decoder = one.decoder or "unread"
            one.doubt(f"it cannot be read: {error.strerror}")
        progress.advance(1)
        if path.exists():  # else what works beside the scan has removed it
            one.add_values([("its name", "", name)], patterns)
            found.append(one)
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
    """Search one file, which is, or was when it was packed, called ``name``."""
    decoder = decoder_of(path, name)
    found.decoder = found.decoder or decoder
    try:
        if decoder == "unknown":
            raise ValueError("its format is not known")
        if decoder in ("zip", "gzip", "zstd"):
            for inside, inner in unpacked(path, decoder):
                _look_at_file(inside, inner, patterns, found)
        elif decoder in ("parquet", "arrow"):
            _look_at_table(path, decoder, patterns, found)
        elif decoder in _VALUES:
            before = len(found.findings)
            found.add_values(_VALUES[decoder](path), patterns)
            if decoder == "sqlite" and len(found.findings) == before:  # what was deleted may still be there
                _look_at_bytes(path, patterns, found)
        if decoder in ("safetensors", "npy", "index"):
            _look_at_bytes(path, patterns, found, text=_holds_text(path, decoder))
        elif decoder in ("text", "photo", "log of SQLite"):
            _look_at_bytes(path, patterns, found, words=decoder == "text")
    except Exception as error:  # whatever is wrong with one file, the others are searched
        found.doubt(f"it cannot be decoded ({decoder}): {type(error).__name__}: {error}")
        _look_at_bytes(path, patterns, found)


def decoder_of(path: Path, name: str) -> str:
    """What a file is read as, by its first bytes or its name."""
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        return "empty"
    suffix = Path(name).suffix.lower()
    decoder = next((kind for start, kind in _MAGIC.items() if head.startswith(start)), _SUFFIXES.get(suffix))
    if decoder == "json" and path.stat().st_size > _LARGEST:
        return "text"
    if decoder:
        return decoder
    if name.endswith(_BESIDE_SQLITE):
        return "log of SQLite"
    if suffix in _EDGE_SUFFIXES and any((above / _EDGE_CONFIG).exists() for above in path.parents):
        return "index"
    return "text" if _is_text(path) else "unknown"


def _is_text(path: Path) -> bool:
    """Whether a file is text: UTF-8 without characters that no text has."""
    try:
        with path.open(encoding="utf-8") as file:
            return not any(_CONTROL.search(block) for block in iter(lambda: file.read(BLOCK), ""))
    except UnicodeDecodeError:
        return False


def _holds_text(path: Path, decoder: str) -> bool:
    """Whether a file of numbers may hold text as well."""
    if decoder == "index":
        return path.name not in _EDGE_NUMBERS
    if decoder == "safetensors":
        return any(name != "__metadata__" and one["dtype"] in ("U8", "I8") for name, one in _head(path).items())
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if b"'descr': '|O'" in head:
        raise ValueError("its values are pickled")
    return b"'descr': '<f" not in head and b"'descr': '<i" not in head


def _look_at_bytes(
    path: Path, patterns: IdPatterns, found: FileMatches, *, words: bool = False, text: bool = True
) -> None:
    """Search a file as bytes; see :meth:`IdPatterns.in_bytes`."""
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


def unpacked(path: Path, decoder: str) -> Iterator[tuple[Path, str]]:
    """Each file of an archive, or what one file was packed from, as a file that goes afterwards, with its name."""
    if decoder == "zip":
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    with archive.open(member) as stream:
                        yield from _as_file(stream, member.filename)
    else:
        with pa.OSFile(str(path)) as raw, pa.CompressedInputStream(raw, decoder) as stream:
            yield from _as_file(stream, path.stem)


def _as_file(stream: Any, name: str) -> Iterator[tuple[Path, str]]:
    with tempfile.TemporaryDirectory(prefix="molar-scan-") as folder:  # 0700
        inside = Path(folder) / f"inside{Path(name).suffix}"
        with inside.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        yield inside, name


def _look_at_table(path: Path, decoder: str, patterns: IdPatterns, found: FileMatches) -> None:
    """Search every value of every column of a Parquet file or an Arrow stream, and whole dictionaries."""
    rows = Counter[str]()
    for name, values in _columns(path, decoder):
        _look_at_column(name, values, rows[name], patterns, found)
        rows[name] += len(values)


def _columns(path: Path, decoder: str) -> Iterator[tuple[str, Any]]:
    """Names and values of columns, piece by piece."""
    if decoder == "arrow":
        with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                yield from zip(batch.schema.names, batch.columns, strict=True)
        return
    with pq.ParquetFile(path) as file:
        yield "metadata", pa.array([str(file.metadata.metadata)])
        texts = [one.name for one in file.schema_arrow if is_text(one.type)]
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        numbers = {USER} if (path.parent / USERS_FILE).exists() else set()  # of rows there, no ids
        for name in (one for one in file.schema_arrow.names if one not in numbers):
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[name], use_threads=False)
                yield from ((name, chunk) for chunk in table.column(0).chunks)


def _look_at_column(name: str, values: Any, row: int, patterns: IdPatterns, found: FileMatches) -> None:
    """Search the different values of a column, the first of which is in a row, dictionaries as a whole."""
    for path, leaf in leaves(name, values):
        if pa.types.is_floating(leaf.type):
            continue
        of_dictionary = pa.types.is_dictionary(leaf.type)
        different, plain = (leaf.dictionary, leaf.dictionary_decode()) if of_dictionary else (leaf.unique(), leaf)
        for value in different.to_pylist():
            for hit in patterns.in_value(path, value):
                at = pc.index(plain, pa.scalar(value, plain.type)).as_py()
                found.add(hit, f"{path}, dictionary" if at < 0 else f"{path}, row {row + at:,}")


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of Arrow has texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


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


def _of_sqlite(path: Path) -> Iterator[Value]:
    """Values of all tables of a database as it is on the disk; its write-ahead log is a file of its own."""
    # immutable: nothing is written beside it, no log is taken in, nobody waits.
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            quoted = table.replace('"', '""')
            cursor = database.execute(f'SELECT * FROM "{quoted}"')
            columns = [one[0] for one in cursor.description]
            for row, values in enumerate(cursor):
                for column, value in zip(columns, values, strict=True):
                    if isinstance(value, str | int):
                        yield f"{table}.{column}, row {row:,}", column, value


def _of_json(path: Path) -> Iterator[Value]:
    yield from _of_document(json.loads(path.read_bytes()), "")


def _of_lines(path: Path) -> Iterator[Value]:
    """Values of JSON lines; one that is no JSON is text."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LARGEST), b""), 1):
            try:
                document = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):
                document = line.decode("utf-8", "replace")
            yield from _of_document(document, f"line {number:,}")


def _of_document(value: Any, where: str, key: str = "") -> Iterator[Value]:
    """Values and keys of what JSON holds; ``key`` is what the value is called."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{where}, a key" if key else f"{where}.{name}", key, name
            yield from _of_document(inner, f"{where}.{name}".lstrip("."), name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _of_document(inner, f"{where}[{number}]", key)
    elif isinstance(value, str | int):
        yield where, key, value


def _of_csv(path: Path) -> Iterator[Value]:
    """Cells of comma-separated values with a head."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline(BLOCK)
        file.seek(0)
        head: list[str] = []
        for number, row in enumerate(csv.reader(file, delimiter=max(",;\t|", key=first.count))):
            head = head or row
            for place, value in enumerate(row):
                name = head[place] if place < len(head) else ""
                yield f"{name or place + 1}, row {number:,}", name, value


def _of_safetensors(path: Path) -> Iterator[Value]:
    yield from _of_document(_head(path), "head")


def _head(path: Path) -> dict[str, Any]:
    """The head of a safetensors file."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise ValueError("it is no whole safetensors file")
        head: dict[str, Any] = json.loads(file.read(size))
    return head


def _of_index(path: Path) -> Iterator[Value]:
    """Payloads in a page of the embedded engine, unpacked."""
    if not path.name.startswith("page_"):
        return
    config = json.loads((path.parent / "config.json").read_bytes())
    packing, block = config["compression"], int(config["block_size_bytes"])
    tracker = (path.parent / "tracker.dat").read_bytes()
    if packing == "None":
        return
    if packing != "LZ4":
        raise ValueError(f"it is packed by {packing}")
    page, codec, data = int(path.stem.removeprefix("page_")), pa.Codec("lz4_raw"), path.read_bytes()
    for point in range(int.from_bytes(tracker[:4], "little")):
        there, of, begin, size = _EDGE_POINTER.unpack_from(tracker, 4 + point * _EDGE_POINTER.size)
        if not there or of != page:
            continue
        packed = data[begin * block : begin * block + size]
        plain = codec.decompress(packed[4:], int.from_bytes(packed[:4], "little"), asbytes=True)
        yield from _of_document(json.loads(plain), f"payload of point {point:,}")


_VALUES: dict[str, Callable[[Path], Iterator[Value]]] = {
    "sqlite": _of_sqlite,
    "safetensors": _of_safetensors,
    "json": _of_json,
    "jsonl": _of_lines,
    "csv": _of_csv,
    "index": _of_index,
}
"""What reads the values of a file, by its format."""
