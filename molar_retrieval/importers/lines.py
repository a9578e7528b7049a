"""Text files of one record a line, plain or gzip: JSON objects, Python literals, fields between ``::``."""

import ast
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows
from molar_retrieval.errors import DataError

_CHUNK = 65_536
Parse = Callable[[bytes], Any]


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1, in bounded memory; ``.gz`` is unpacked on the way.

    Raises:
        DataError: If the file cannot be read to its end.
    """
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if bare := line.strip():
                    yield number, bare
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read to its end: {error}", "fetch the file again") from error


def _open(path: Path) -> gzip.GzipFile | BinaryIO:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def parse_json(line: bytes) -> Any:
    """The value of a line of JSON.

    Raises:
        ValueError: If it is none.
    """
    return json.loads(line)


def parse_loose(line: bytes) -> Any:
    """The value of a line that is JSON or a Python literal, as in the Amazon files of 2014; nothing is evaluated.

    Raises:
        ValueError: If it is neither.
    """
    try:
        return json.loads(line)
    except ValueError:
        pass
    try:
        return ast.literal_eval(line.decode("utf-8"))
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from error


def objects(path: Path, parse: Parse, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with their line numbers; other lines are rejected."""
    for number, line in lines(path):
        try:
            value = parse(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield number, value
        else:
            rejects.add(path.name, number, None, "line is no object", repr(line[:60])[1:])


def fields(path: Path, pattern: str, rejects: Rejects) -> Iterator[Rows]:
    """The named groups of a pattern as columns of strings; lines that do not match are rejected.

    A line is UTF-8 or, as in MovieLens-1M, Latin-1. Empty groups are null.
    """
    source = lines(path)
    while chunk := list(islice(source, _CHUNK)):
        numbers = np.array([number for number, _ in chunk], np.int64)
        found = pc.extract_regex(pa.array([_decoded(line) for _, line in chunk], pa.string()), pattern)
        good = np.asarray(pc.is_valid(found))
        for i in np.flatnonzero(~good):
            rejects.add(path.name, int(numbers[i]), None, "line of another form", repr(_decoded(chunk[i][1])[:60]))
        found = found.filter(pa.array(good))
        columns = [pc.if_else(pc.equal(c, ""), pa.scalar(None, c.type), c) for c in found.flatten()]
        names = [found.type.field(i).name for i in range(found.type.num_fields)]
        yield Rows(numbers[good], pa.RecordBatch.from_arrays(columns, names))


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")
