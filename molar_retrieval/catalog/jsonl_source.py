"""Reading JSON lines a piece at a time."""

import json
from collections.abc import Collection, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from molar_retrieval.catalog.bounds import check_names
from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.rows import Rows
from molar_retrieval.catalog.table_source import Kinds, TableSource
from molar_retrieval.catalog.values import STRING_LIST
from molar_retrieval.errors import DataError

_PEEK = 1000
_CHUNK = 4096
_LONGEST_LINE = 8 << 20
_MOST_ROWS = 131_072  # as Python objects they take far more memory than as a batch
_SIMPLE = (bool, float, str, type(None))
_OBJECT = pa.struct([])


class JsonlSource(TableSource):
    """A file with one JSON object a line, others are rejected; a missing key is a missing value."""

    form = "JSON lines"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with path.open("rb") as file:
                start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}", "check the file and its permissions") from error
        if start.startswith(b"["):
            raise DataError(f"{path} is one JSON array, not JSON lines", "write one object a line, without brackets")

    @property
    def names(self) -> list[str]:
        """The keys of the first 1,000 rows."""
        found: dict[str, None] = {}
        for _, row in islice(self._rows(None), _PEEK):
            found |= dict.fromkeys(row)
            check_names(self.path, found)
        return list(found)

    @cached_property
    def schema(self) -> pa.Schema:
        """Keys and types: what fits all values of a key; the file is read once for it."""
        kinds: dict[str, set[str]] = {}
        for _, row in self._rows(None):
            before = len(kinds)
            for key, value in row.items():
                kinds.setdefault(key, set()).add(_kind(value))
            if len(kinds) > before:
                check_names(self.path, kinds)
        return pa.schema([(key, _unified(found)) for key, found in kinds.items()])

    def _read(self, kinds: Kinds, size: int, rejects: Rejects | None, as_written: Collection[str]) -> Iterator[Rows]:
        rows = self._rows(rejects)
        while chunk := list(islice(rows, min(size, _MOST_ROWS))):
            arrays = [_array([row.get(name) for _, row in chunk], kind) for name, kind in kinds.items()]
            numbers = np.array([number for number, _ in chunk], np.int64)
            yield self._fitting(Rows(numbers, pa.RecordBatch.from_arrays(arrays, list(kinds))), rejects)

    def records(self, size: int, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row with its number, as it is written: objects within objects as well."""
        return self._rows(rejects)

    def _rows(self, rejects: Rejects | None) -> Iterator[tuple[int, dict[str, Any]]]:
        with self.path.open("rb") as file:
            yield from objects(file, self.path.name, rejects)


def objects(file: BinaryIO, name: str, rejects: Rejects | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of an open file or a pipe of JSON lines with their row numbers; ``name`` is what rejects call it."""
    first = 1
    while lines := _lines(file):
        for number, row in enumerate(map(_parse, lines), first):
            if isinstance(row, dict):
                yield number, row
            elif row and rejects is not None:
                rejects.add(name, number, None, row)
        first += len(lines)


def _lines(file: BinaryIO) -> list[bytes]:
    """The next lines, some megabytes at most; of one that is too long, no more than is needed to tell."""
    lines: list[bytes] = []
    size = 0
    while len(lines) < _CHUNK and size < _LONGEST_LINE and (line := file.readline(_LONGEST_LINE + 1)):
        lines.append(line)
        size += len(line)
        if len(line) > _LONGEST_LINE:
            while not line.endswith(b"\n") and (line := file.readline(_LONGEST_LINE)):
                pass
    return lines


def _parse(line: bytes) -> dict[str, Any] | str:
    """The object of a line, or what is wrong with it; empty for a blank line."""
    if len(line) > _LONGEST_LINE:
        return "line too long"
    try:
        row = json.loads(line.decode("utf-8-sig"))
        if b"\\ud" in line or b"\\uD" in line:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        return "not UTF-8"
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    except (ValueError, RecursionError):
        row = None
    if isinstance(row, dict):
        return row
    return "not a JSON object" if line.strip() else ""


def _kind(value: Any) -> str:
    if isinstance(value, _SIMPLE):
        return type(value).__name__
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "str"
    flat = isinstance(value, list) and not any(isinstance(element, list | dict) for element in value)
    return "list" if flat else "object"


def _unified(kinds: set[str]) -> pa.DataType:
    """The type that all values of a key fit in."""
    kinds = kinds - {"NoneType"}
    if not kinds:
        return pa.null()
    for several, kind in (({"object"}, _OBJECT), ({"list"}, STRING_LIST)):
        if kinds & several:
            return kind
    only = (({"bool"}, pa.bool_()), ({"int"}, pa.int64()), ({"int", "float"}, pa.float64()))
    return next((kind for several, kind in only if kinds <= several), pa.string())


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == _OBJECT:
        return pa.nulls(len(values), pa.null())
    if kind == pa.string():
        values = [_written(value) for value in values]
    elif kind == pa.float64():
        values = [None if value is None else float(value) for value in values]
    elif kind == STRING_LIST:
        values = [None if v is None else [_written(e) for e in (v if isinstance(v, list) else [v])] for v in values]
    return pa.array(values, kind)


def _written(value: Any) -> str | None:
    """A value as a person would write it; None for what is no single value."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if value is None or isinstance(value, list | dict) or value != value:
        return None
    return json.dumps(value)
