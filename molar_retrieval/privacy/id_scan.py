"""Search for the ids of one user in every file of some folders.

Tables and databases are read value by value, archives are unpacked, everything else is searched as bytes in all ways
in which an id may be written. A file of an unknown format, or a damaged one, is *not proven*, never clean. Histories
and vectors without an id are not looked for.
"""

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple
from urllib.parse import quote, quote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.data.interactions import USER, USERS_FILE
from molar_retrieval.progress import SILENT, Progress

BLOCK = 1 << 20
"""Bytes that are read at once."""
_PLACES = 5  # of a match, and doubts of a file
_USER_COLUMN = re.compile(r"user|person|people|customer|client|session|visitor|member|unit|account", re.IGNORECASE)
_KEY = re.compile(rb'"([^"\\]*)"\s*:\s*"?$')  # of JSON, right before a value
_KEY_AROUND = re.compile(rb'"([^"\\]*)"\s*:\s*[\[{][^\[\]{}]*$')
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_AROUND = 256  # bytes beside an id by which it is judged
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
_SUFFIXES = {".arrow": "arrow", ".safetensors": "safetensors"}
_BESIDE_SQLITE = ("-wal", "-shm", "-journal")
_EDGE_CONFIG = "edge_config.json"
"""The file that marks an index of the embedded engine."""
_EDGE_SUFFIXES = (".dat", ".bin", ".mappings", ".deleted", ".versions", ".info")
_EDGE_NUMBERS = ("matrix.dat", "graph.bin", "links_compressed.bin", "inverted_index.dat", "tracker.dat", "deleted.dat")
_EDGE_POINTER = struct.Struct("<IIII")  # whether there is one, page, block, bytes

State = Literal["found", "not proven", "clean"]
Kind = Literal["text", "binary", "numbers"]
"""What bytes are: in a text, ids are words of their own."""


class Hit(NamedTuple):
    """An id that was seen: what kind of id it is, and whether nothing else can be meant."""

    what: str
    certain: bool = True


Place = tuple[str, Hit]
"""Where in a file an id is, and which."""


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
        """How it may be written: as it is, escaped for JSON, for CSV, for an address or for HTML."""
        own, escaped = self.text, (json.dumps(self.text), json.dumps(self.text, ensure_ascii=False))
        written = [own, *(one[1:-1] for one in escaped), own.replace('"', '""'), quote(own, safe=""), quote_plus(own)]
        return tuple(dict.fromkeys([*written, html.escape(own)]))

    @cached_property
    def raw(self) -> tuple[bytes, ...]:
        """It as bytes: UTF-8 in all variants, UTF-16 and UTF-32 in both orders."""
        wide = [self.text.encode(code, "surrogatepass") for code in _WIDE]
        return (*(one.encode("utf-8", "surrogatepass") for one in self.variants), *wide)

    def in_text(self, data: bytes, at: int, end: int) -> Hit | None:
        """What a place in a text is: the user's id, a doubt, or None: a part of a word, or the number of something.

        A key of JSON before it says of a vague one whether it is a user's.
        """
        before, after = data[max(0, at - 1) : at], data[end : end + 1]
        if (_letter(before) and _letter(data[at : at + 1])) or (_letter(after) and _letter(data[end - 1 : end])):
            return None
        if not self.vague:
            return Hit(self.what)
        head = data[max(0, at - _AROUND) : at]
        key = _KEY.search(head)
        near = key or _KEY_AROUND.search(head)
        certain = near is not None and _of_users(near[1].decode("utf-8", "replace"))
        number = self.text.isdigit() and key is not None and before != b'"'
        return None if number and not certain else Hit(self.what, certain)

    def in_binary(self, data: bytes, at: int, end: int) -> Hit | None:
        """The same of a place in a file that is no text, where letters may stand beside an id; None: a longer id."""
        for longer in (one.encode(code) for one in self.longer for code in ("utf-8", *_WIDE)):
            if any(data.startswith(longer, at - inside) for inside in _places(longer, data[at:end]) if inside <= at):
                return None
        digits = self.text.isdigit() and (data[max(0, at - 1) : at].isdigit() or data[end : end + 1].isdigit())
        return Hit(self.what, not (self.vague or digits))


def _of_users(column: str) -> bool:
    return _USER_COLUMN.search(column) is not None


def _letter(one: bytes) -> bool:
    return one.isalnum() or one == b"_"


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

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """Texts of which a value has one that holds an id."""
        return tuple(dict.fromkeys(one for name in self.names for one in name.variants))

    def in_value(self, column: str, value: object) -> Iterator[Hit]:
        """Ids in a value of a column of this name; numbers count in columns of users alone."""
        users = _of_users(column)
        if isinstance(value, bytes):
            yield from (hit for *_, hit in self.in_bytes(value))
        elif isinstance(value, str) or (users and isinstance(value, int)):
            text = str(value)
            if any(one in text for one in self.variants):
                for what, certain in {hit for *_, hit in self.in_bytes(text.encode("utf-8", "replace"), "text")}:
                    yield Hit(what, certain or users)

    def in_bytes(self, data: bytes, kind: Kind = "binary") -> Iterator[tuple[int, int, Hit]]:
        """Where ids are in bytes, where they end, and what they are; numbers have texts by chance, so none counts."""
        for name in self.names:
            for packed in name.packed:
                yield from ((at, at + len(packed), Hit(name.what)) for at in _places(data, packed))
            for raw in name.raw if kind != "numbers" else ():
                for at in _places(data, raw):
                    end = at + len(raw)
                    hit = name.in_text(data, at, end) if kind == "text" else name.in_binary(data, at, end)
                    if hit is not None:
                        yield at, end, hit

    @property
    def around(self) -> int:
        """Bytes beside an id by which it is judged."""
        return max([_AROUND, *(4 * len(one) for name in self.names for one in name.longer)])

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
            "found": [vars(one) | {"findings": [vars(match) for match in one.findings]} for one in self.found],
            "not_proven": [{"file": one.file, "decoder": one.decoder, "doubts": one.doubts} for one in self.not_proven],
            "clean": len(self.files) + len(self.server) - len(self.found) - len(self.not_proven),
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
            _look(path, path.name, patterns, one)
        except OSError as error:
            one.decoder = one.decoder or "unread"
            one.doubt(f"it cannot be read: {error.strerror}")
        progress.advance(1)
        if path.exists():  # else what works beside the scan has removed it
            for hit in patterns.in_value("", name):
                one.add(hit, "its name")
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


def _look(path: Path, name: str, patterns: IdPatterns, found: FileMatches) -> None:
    """Search one file, which is, or was when it was packed, called ``name``."""
    decoder = decoder_of(path, name)
    found.decoder = found.decoder or decoder
    try:
        if decoder == "unknown":
            raise ValueError("its format is not known")
        if decoder in ("zip", "gzip", "zstd"):
            for inside, inner in unpacked(path, decoder):
                _look(inside, inner, patterns, found)
            return
        for where, hit in _SEARCHES.get(decoder, _in_file)(path, patterns):
            found.add(hit, where)
    except Exception as error:  # whatever is wrong with one file, the others are searched
        found.doubt(f"it cannot be decoded ({decoder}): {type(error).__name__}: {error}")
        for where, hit in _in_file(path, patterns):
            found.add(hit, where)


def decoder_of(path: Path, name: str) -> str:
    """What a file is read as, by its first bytes or its name."""
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        return "empty"
    suffix = Path(name).suffix.lower()
    decoder = next((kind for start, kind in _MAGIC.items() if head.startswith(start)), _SUFFIXES.get(suffix))
    if decoder:
        return decoder
    if name.endswith(_BESIDE_SQLITE):
        return "log of SQLite"
    if suffix in _EDGE_SUFFIXES and any((above / _EDGE_CONFIG).exists() for above in path.parents):
        return "index"
    try:
        with path.open(encoding="utf-8") as text:
            is_text = not any(_CONTROL.search(block) for block in iter(lambda: text.read(BLOCK), ""))
    except UnicodeDecodeError:
        is_text = False
    return "text" if is_text else "unknown"


def _in_file(path: Path, patterns: IdPatterns, kind: Kind = "binary") -> Iterator[Place]:
    with path.open("rb") as file:
        yield from _in_bytes(file, patterns, kind)


def _in_bytes(file: BinaryIO, patterns: IdPatterns, kind: Kind, where: str = "") -> Iterator[Place]:
    """Search bytes, block by block; see :meth:`IdPatterns.in_bytes`."""
    start, tail, block = 0, b"", file.read(BLOCK)
    while block:
        following = file.read(BLOCK)
        data = tail + block
        for at, end, hit in patterns.in_bytes(data, kind):
            # What stands around an id is needed to judge it, so one at the end is left to the next block.
            last = end + patterns.around
            if last > len(tail) and (not following or last <= len(data)):
                yield f"{where}byte {start + at:,}", hit
        tail = data[-patterns.overlap :]
        start, block = start + len(data) - len(tail), following


def unpacked(path: Path, decoder: str) -> Iterator[tuple[Path, str]]:
    """Each file of an archive, or what one file was packed from, as a file that goes afterwards, with its name."""
    with tempfile.TemporaryDirectory(prefix="molar-scan-") as folder:  # 0700

        def written(stream: Any, name: str) -> Path:
            inside = Path(folder) / f"inside{Path(name).suffix}"
            with inside.open("wb") as file:
                shutil.copyfileobj(stream, file, BLOCK)
            return inside

        if decoder == "zip":
            with zipfile.ZipFile(path) as archive:
                for name in (one.filename for one in archive.infolist() if not one.is_dir()):
                    with archive.open(name) as stream:
                        yield written(stream, name), name
        else:
            with pa.OSFile(str(path)) as raw, pa.CompressedInputStream(raw, decoder) as stream:
                yield written(stream, path.stem), path.stem


def _in_table(path: Path, patterns: IdPatterns) -> Iterator[Place]:
    """Search the different values of all columns, dictionaries as a whole."""
    rows = Counter[str]()
    for name, values in _columns(path):
        for column, leaf in leaves(name, values):
            if pa.types.is_floating(leaf.type):
                continue
            of_dictionary = pa.types.is_dictionary(leaf.type)
            different, plain = (leaf.dictionary, leaf.dictionary_decode()) if of_dictionary else (leaf.unique(), leaf)
            if pa.types.is_string(different.type):
                holds = (pc.match_substring(different, one) for one in patterns.variants)
                different = different.filter(reduce(pc.or_, holds))
            for value in different.to_pylist():
                for hit in patterns.in_value(column, value):
                    at = pc.index(plain, pa.scalar(value, plain.type)).as_py()
                    yield f"{column}, dictionary" if at < 0 else f"{column}, row {rows[name] + at:,}", hit
        rows[name] += len(values)


def _columns(path: Path) -> Iterator[tuple[str, Any]]:
    """Names and values of columns, piece by piece, texts as the dictionaries of the file."""
    if decoder_of(path, path.name) == "arrow":
        with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                yield from zip(batch.schema.names, batch.columns, strict=True)
        return
    with pq.ParquetFile(path) as file:
        yield "metadata", pa.array([str(file.metadata.metadata)])
        texts = [one.name for one in file.schema_arrow if one.type in (pa.string(), pa.large_string())]
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        numbers = {USER} if (path.parent / USERS_FILE).exists() else set()  # of rows there, no ids
        for name in (one for one in file.schema_arrow.names if one not in numbers):
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[name], use_threads=False)
                yield from ((name, chunk) for chunk in table.column(0).chunks)


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


def _in_sqlite(path: Path, patterns: IdPatterns) -> Iterator[Place]:
    """Search all tables of a database as it is on the disk, then its bytes, where what was deleted may still be."""
    certain = False
    # immutable: nothing is written beside it, no write-ahead log is taken in, nobody waits.
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            quoted = table.replace('"', '""')
            cursor = database.execute(f'SELECT * FROM "{quoted}"')
            columns = [one[0] for one in cursor.description]
            for row, values in enumerate(cursor):
                for column, value in zip(columns, values, strict=True):
                    for hit in patterns.in_value(column, value) if isinstance(value, str | int) else ():
                        certain |= hit.certain
                        yield f"{table}.{column}, row {row:,}", hit
    if not certain:
        yield from _in_file(path, patterns)


def _in_safetensors(path: Path, patterns: IdPatterns) -> Iterator[Place]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise ValueError("it is no whole safetensors file")
        head = json.loads(file.read(size))
    yield from _in_bytes(BytesIO(json.dumps(head).encode()), patterns, "text", "head, ")
    texts = any(name != "__metadata__" and one["dtype"] in ("U8", "I8") for name, one in head.items())
    yield from _in_file(path, patterns, "binary" if texts else "numbers")


def _in_npy(path: Path, patterns: IdPatterns) -> Iterator[Place]:
    with path.open("rb") as file:
        if b"'descr': '|O'" in file.read(BLOCK):
            raise ValueError("its values are pickled")
    yield from _in_file(path, patterns)


def _in_index(path: Path, patterns: IdPatterns) -> Iterator[Place]:
    """Search a file of the embedded engine, whose pages of payloads are packed."""
    for where, payload in _payloads(path) if path.name.startswith("page_") else ():
        yield from _in_bytes(BytesIO(payload), patterns, "text", where)
    yield from _in_file(path, patterns, "numbers" if path.name in _EDGE_NUMBERS else "binary")


def _payloads(path: Path) -> Iterator[tuple[str, bytes]]:
    """Payloads in a page of the embedded engine, unpacked, and where they are."""
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
        json.loads(plain)  # else the page is of another layout
        yield f"payload of point {point:,}, ", plain


_SEARCHES: dict[str, Callable[[Path, IdPatterns], Iterator[Place]]] = {
    "parquet": _in_table,
    "arrow": _in_table,
    "sqlite": _in_sqlite,
    "safetensors": _in_safetensors,
    "npy": _in_npy,
    "index": _in_index,
    "text": partial(_in_file, kind="text"),
}
"""How a file is searched, by its format; any other is searched as bytes."""
