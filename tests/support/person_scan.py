"""Looking for one person in every file: ids, and what is theirs without an id: history, vectors, rows, test cases.

The oracle of the tests of forgetting, which prove more than ``molar privacy scan`` reports: that looks for ids alone.
"""

import csv
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_indexes.privacy.stored import KnownPerson, id_patterns, ids_of
from molar_indexes.users import UserStore
from molar_retrieval.columns import USER_ID
from molar_retrieval.data.interactions import ITEM, LOG_FILE, USER, USERS_FILE
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.privacy.id_scan import (
    BLOCK,
    FileMatches,
    Hit,
    IdPatterns,
    decoder_of,
    files_of,
    leaves,
    scan,
    unpacked,
)
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.tensors import mapped

HISTORY, AS_IDS = "their history, as rows", "their history, as item ids"
VECTOR, FACTORS = "their vector", "their ALS factors"
ROW, CASE = "their row number, as users.parquet counts", "a list for a test case of theirs"
LENGTH = 4
"""Items that follow each other: a stretch of a history that one person alone has."""
_ROWS = 65_536
_ITEM_KEYS = ("item_id", "id", "item")
SIZE = 16
"""Bytes of a stretch of a vector: four numbers of 32 bits."""
_ODD = np.uint64(0x9E3779B97F4A7C15)
_ZEROS = 18
"""No stretch begins with so many zeros, which files have in long rows."""
_AT_ONCE = 100_000


class ByteWindows:
    """Byte strings of 16 bytes or more, looked for all at once: by their first two bytes, then by a hash of 16.

    Args:
        meanings: What each of them is, as a report calls it.
    """

    def __init__(self, meanings: Mapping[bytes, str]) -> None:
        self.counts = dict(Counter(meanings.values()))
        self.longest = max(map(len, meanings), default=0)
        self._by_hash: dict[int, list[tuple[bytes, str]]] = {}
        self._begins = np.zeros(1 << 16, bool)
        for needle, what in meanings.items():
            self._by_hash.setdefault(int(_hashes(needle, np.zeros(1, np.int64))[0]), []).append((needle, what))
            self._begins[int.from_bytes(needle[:2], "little")] = True
        self._hashes = np.array(sorted(self._by_hash), dtype=np.uint64)

    def find(self, data: bytes, step: int = 1) -> Iterator[tuple[int, str, int]]:
        """Where they are: offset, what it is, how many bytes; ``step``: they begin at its multiples only."""
        count = len(data) - SIZE + 1
        if not self._by_hash or count < 1:
            return
        places = np.flatnonzero(self._begins[np.ndarray(count, "<u2", data, strides=1)[::step]]) * step
        if self._begins[0]:
            filled = np.concatenate([[0], np.cumsum(np.frombuffer(data, np.uint8) != 0, dtype=np.int64)])
            places = places[filled[np.minimum(places + _ZEROS, len(data))] > filled[places]]
        for begin in range(0, len(places), _AT_ONCE):
            some = places[begin : begin + _AT_ONCE]
            hashes = _hashes(data, some)
            known = np.isin(hashes, self._hashes)
            for at, one in zip(some[known].tolist(), hashes[known].tolist(), strict=True):
                for needle, what in self._by_hash[one]:
                    if data.startswith(needle, at):
                        yield at, what, len(needle)


def _hashes(data: bytes, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """A hash of the 16 bytes at each place."""
    numbers: npt.NDArray[np.uint64] = np.ndarray(len(data) - 7, np.dtype("<u8"), data, strides=1)
    hashes: npt.NDArray[np.uint64] = numbers[places] * _ODD + numbers[places + 8]
    return hashes


def stretches(numbers: npt.NDArray[np.float32]) -> Iterable[bytes]:
    """The stretches of a vector of 32-bit numbers that tell it from others: four numbers, all but one different."""
    for at in range(len(numbers) - 3):
        if len(set(numbers[at : at + 4].tolist())) >= 3:
            yield numbers[at : at + 4].astype("<f4").tobytes()


def own_stretches(
    items: npt.NDArray[np.integer], offsets: npt.NDArray[np.int64], row: int, length: int = 4
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Stretches of a history that nobody else has, and those that others have too, shape (n, length) each.

    Left out are those that any table of numbers may hold: fewer than three different rows, or rows that count up or
    down by one.

    Args:
        items: Item rows of all people, grouped by person, in the order of time.
        offsets: Where each person's begin, shape (n_people + 1,).
        row: Whose.
        length: Rows of a stretch.
    """
    begin, end = int(offsets[row]), int(offsets[row + 1])
    if end - begin < length:
        none = np.empty((0, length), np.int64)
        return none, none
    mixed = np.zeros(len(items) - length + 1, np.uint64)
    for place in range(length):
        part = items[place : len(items) - length + 1 + place].astype(np.uint64)
        mixed = mixed * np.uint64(6364136223846793005) + part + np.uint64(1442695040888963407)
    others = np.ones(len(mixed), bool)  # no stretch goes from one person to the next
    for border in offsets[1:-1].tolist():
        others[max(0, border - length + 1) : border] = False
    others[begin : end - length + 1] = False
    places = np.arange(begin, end - length + 1)
    shared = np.isin(mixed[places], mixed[others])
    found = items[places[:, None] + np.arange(length)].astype(np.int64)
    steps = np.diff(found, axis=1)
    counted = (np.abs(steps) == 1).all(axis=1) & (steps == steps[:, :1]).all(axis=1)
    different = np.array([len(set(one)) >= 3 for one in found.tolist()], bool)
    telling = different & ~counted
    return found[telling & ~shared], found[telling & shared]


class CasesOfTest(NamedTuple):
    """Which cases of a test are somebody's: the test's name in file names, how many cases it has, which are theirs."""

    test: str
    cases: int
    theirs: Sequence[int]


class PersonScan:
    """What one person is recognised by, gathered while the workspace knows them; it may be looked for later.

    Args:
        patterns: Their ids.
        windows: Bytes that are theirs alone, with what each is: stretches of their history as rows, of their vectors.
        sequences: Stretches of their history as item ids.
        rows: Their row in the ``users.parquet`` of a folder.
        tested: Test cases of theirs, by the folder of an evaluation.
    """

    def __init__(
        self,
        patterns: IdPatterns,
        windows: Mapping[bytes, str] | None = None,
        sequences: Iterable[tuple[str, ...]] = (),
        rows: Mapping[Path, int] | None = None,
        tested: Mapping[Path, Sequence[CasesOfTest]] | None = None,
    ) -> None:
        self.patterns, self.windows = patterns, ByteWindows(windows or {})
        self.sequences, self.rows, self.tested = frozenset(sequences), rows or {}, tested or {}

    @classmethod
    def of(cls, workspace: Workspace, user_id: str) -> "PersonScan":
        """Of what a workspace knows of somebody, in all versions."""
        patterns, known = id_patterns(workspace, user_id)
        assert not known.unread, known.unread
        own, shared, sequences = set(), set(), set()
        for path in workspace.root.rglob(LOG_FILE):
            if (path.parent / USERS_FILE).exists():
                _add_history(path.parent, known, own, shared, sequences)
        windows = {np.array(one, size).tobytes(): HISTORY for one in own - shared for size in ("<i4", "<i8")}
        for path in workspace.root.rglob("factors.safetensors"):
            windows |= dict.fromkeys(_factors(path, known), FACTORS)
        for path in workspace.root.rglob("users.sqlite"):
            windows |= dict.fromkeys(_vectors(path, known), VECTOR)
        tested: dict[Path, list[CasesOfTest]] = {}
        for path in workspace.root.rglob("splits/*/test-*.parquet"):
            users = pq.read_table(path, columns=[USER_ID], use_threads=False)[USER_ID]
            theirs = np.flatnonzero(pc.is_in(users, pa.array(known.keys, pa.string())).to_numpy()).tolist()
            case = CasesOfTest(path.stem.removeprefix("test-"), len(users), theirs)
            tested.setdefault(path.parents[2], []).append(case)
        return cls(patterns, windows, sequences, known.rows, tested)

    def scan(self, folders: Sequence[Path]) -> list[FileMatches]:
        """Look for the person in all files of some folders, and in some files."""
        found = scan(folders, self.patterns)
        paths = [(folder, path) for folder in folders for path in files_of(folder)]
        for one, (folder, path) in zip(found, paths, strict=True):
            assert one.file == f"{folder.name}/{path.relative_to(folder)}"
            self._look(path, path.name, path.parent, one)
        return found

    def _look(self, path: Path, name: str, home: Path, found: FileMatches) -> None:
        try:
            decoder = decoder_of(path, name)
            if decoder in ("zip", "gzip", "zstd"):
                for inside, inner in unpacked(path, decoder):
                    self._look(inside, inner, home, found)
                return
            match decoder:
                case "parquet":
                    self._look_at_parquet(path, home, found)
                case "text" if name.endswith((".json", ".jsonl")):
                    for document in _documents(path, name):
                        self._look_at_document(document, found)
                case "text" if name.endswith(".csv"):
                    with path.open(encoding="utf-8-sig", newline="") as file:
                        for column in zip(*csv.reader(file), strict=False):
                            self._add_sequences(column, found)
                case "sqlite":
                    self._look_at_sqlite(path, found)
                case "safetensors":
                    self._look_at_trial(path, found)
        except Exception:  # the scan for ids has doubts then, too
            if found.state == "clean":
                raise
        self._look_at_bytes(path, found)

    def _look_at_bytes(self, path: Path, found: FileMatches) -> None:
        start, tail = 0, b""
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                data = tail + block
                for at, what, size in self.windows.find(data):
                    if at + size > len(tail):
                        found.add(Hit(what), f"byte {start + at:,}")
                tail = data[-max(1, self.windows.longest) :]
                start += len(data) - len(tail)

    def _add_windows(self, data: bytes, found: FileMatches, where: str, step: int = 1) -> None:
        for _, what, _ in self.windows.find(data, step):
            found.add(Hit(what), where)

    def _add_sequences(self, texts: Sequence[Any], found: FileMatches, where: str = "items") -> None:
        if self.sequences:
            for at in range(len(texts) - LENGTH + 1):
                if tuple(texts[at : at + LENGTH]) in self.sequences:
                    found.add(Hit(AS_IDS), f"{where}, row {at:,}")

    def _look_at_parquet(self, path: Path, home: Path, found: FileMatches) -> None:
        with pq.ParquetFile(path) as file:
            for name in file.schema_arrow.names:
                last: dict[str, Any] = {}
                for batch in file.iter_batches(_ROWS, columns=[name], use_threads=False):
                    for place, values in leaves(name, batch.column(0)):
                        last[place] = self._look_at_leaf(place, values, last.get(place), home, found)

    def _look_at_leaf(self, name: str, values: Any, last: Any, home: Path, found: FileMatches) -> Any:
        """Look at values; what is returned may begin a stretch that goes on in the next ones."""
        kind = values.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            texts = [*(last or []), *values.to_pylist()] if self.sequences else []
            self._add_sequences(texts, found, name)
            return texts[-LENGTH + 1 :]
        if pa.types.is_integer(kind):
            if pa.types.is_uint64(kind):
                values = values.cast(pa.int64(), safe=False)
            numbers = pc.fill_null(values.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
            if name == USER and (home / USERS_FILE).exists() and (numbers == self.rows.get(home, -2)).any():
                found.add(Hit(ROW), f"{name}, row {int(np.argmax(numbers == self.rows[home])):,}")
            data = (last or b"") + numbers.astype("<i8").tobytes()
            self._add_windows(data, found, name, 8)
            return data[-8 * (LENGTH - 1) :]
        if pa.types.is_floating(kind):
            data = pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False).astype("<f4").tobytes()
            self._add_windows((last or b"") + data, found, name, 4)
            return data[-4 * (LENGTH - 1) :]
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            for value in values.to_pylist():
                self._add_windows(value or b"", found, name)
        return None

    def _look_at_document(self, value: Any, found: FileMatches) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                self._look_at_document(inner, found)
        elif isinstance(value, list):
            if all(type(one) is int and abs(one) < 1 << 62 for one in value):
                self._add_windows(np.array(value, "<i8").tobytes(), found, "a list")
            elif all(type(one) in (int, float) and abs(one) < 1e30 for one in value):
                self._add_windows(np.array(value, "<f4").tobytes(), found, "a list")
            else:
                self._add_sequences([_item(one) for one in value], found)
                for inner in value:
                    self._look_at_document(inner, found)

    def _look_at_sqlite(self, path: Path, found: FileMatches) -> None:
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            for (table,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                quoted = table.replace('"', '""')
                rows = database.execute(f'SELECT * FROM "{quoted}"').fetchall()
                for column in zip(*rows, strict=True):
                    self._add_sequences(column, found, table)
                    for value in column:
                        if isinstance(value, bytes):
                            self._add_windows(value, found, table)

    def _look_at_trial(self, path: Path, found: FileMatches) -> None:
        """Lists that a model made in an evaluation lie by the number of a test case; its split says whose each is."""
        if path.parent.parent.name != "trials" or path.parents[2] not in self.tested:
            return
        names = list(json.loads((path.parent / "trial.json").read_bytes())["score_seconds"])
        test, cases = names[int(path.stem.removeprefix("test-"))], len(mapped(path)["items"])
        for one in self.tested[path.parents[2]]:
            if (one.test, one.cases) == (test.replace(" ", "-"), cases):
                for _ in one.theirs:
                    found.add(Hit(CASE), "items")


def _documents(path: Path, name: str) -> Iterator[Any]:
    """A document, or those of lines; a line that is none is text."""
    if name.endswith(".json"):
        yield json.loads(path.read_bytes())
        return
    for line in path.read_bytes().splitlines():
        with suppress(ValueError):
            yield json.loads(line)


def _item(value: Any) -> str:
    if isinstance(value, dict):
        value = next((value[name] for name in _ITEM_KEYS if name in value), "")
    return value if isinstance(value, str) else ""


def _add_history(
    folder: Path,
    known: KnownPerson,
    own: set[tuple[int, ...]],
    shared: set[tuple[int, ...]],
    sequences: set[tuple[str, ...]],
) -> None:
    """Add the stretches of somebody's history in a log that they have alone, and those that others have too."""
    users = pq.read_table(folder / USERS_FILE, use_threads=False)[USER_ID].combine_chunks()
    table = pq.read_table(folder / LOG_FILE, columns=[USER, ITEM], use_threads=False)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(table[USER].to_numpy(), minlength=len(users)))])
    for place in (place for key in known.keys if (place := pc.index(users, key).as_py()) >= 0):
        alone, others = own_stretches(table[ITEM].to_numpy(), offsets.astype(np.int64), place, LENGTH)
        own |= set(map(tuple, alone.tolist()))
        shared |= set(map(tuple, others.tolist()))
        with suppress(StaleArtefactError):  # a copy that says nowhere which items its rows mean
            if (ids := ids_of(folder)) is not None:
                sequences |= {tuple(ids[row].as_py() for row in one) for one in alone.tolist()}


def _factors(path: Path, known: KnownPerson) -> Iterator[bytes]:
    """Factors have one row per person of a log; a log that is gone had those of one that is there, or as many."""
    users = np.asarray(mapped(path).get("users", np.empty((0, 0))), np.float32)
    for folder, row in known.rows.items():
        log = pq.ParquetFile(folder / USERS_FILE)
        theirs = path.parents[2] in folder.parents and log.metadata.num_rows == len(users) > 0
        if theirs and (users == users[row]).all(axis=1).sum() == 1:  # people who took the same have the same
            yield from stretches(users[row])


def _vectors(path: Path, known: KnownPerson) -> Iterator[bytes]:
    """Vectors of a generation, but for one that somebody else has too, as people do who took the same."""
    with UserStore(path) as store:
        every = {user.user_id: np.asarray(user.vector, np.float32) for batch in store.batches() for user in batch}
        for user in filter(None, map(store.keyed, known.keys)):
            vector = np.asarray(user.vector, np.float32)
            if sum(np.array_equal(vector, one) for one in every.values()) <= 1:
                yield from stretches(vector)
