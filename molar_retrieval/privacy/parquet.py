"""Parquet files: every value of every column, dictionaries and statistics included."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.interactions.log import USER, USERS_FILE
from molar_retrieval.privacy.found import FileFindings, UndecodableError
from molar_retrieval.privacy.needles import LENGTH, Match, Needles, of_people

_ROWS = 65_536
_NAMELESS = (pa.types.is_boolean, pa.types.is_temporal, pa.types.is_null, pa.types.is_decimal)
HISTORY = "their history, as item ids"
ROW = "their row number, as users.parquet counts"


def look_at_parquet(path: Path, needles: Needles, found: FileFindings, home: Path) -> None:
    """Look through a Parquet file that lies, or lay packed, in the folder ``home``."""
    try:
        with pq.ParquetFile(path) as file:
            _look_at_metadata(file.metadata, needles, found)
            plain = (pa.types.is_string, pa.types.is_large_string)
            words = [one.name for one in file.schema_arrow if any(kind(one.type) for kind in plain)]
        with pq.ParquetFile(path, read_dictionary=words) as file:
            for name in file.schema_arrow.names:
                _look_at_column(file, name, needles, found, home)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UndecodableError(f"it is no whole Parquet file: {error}") from error


def _look_at_metadata(metadata: pq.FileMetaData, needles: Needles, found: FileFindings) -> None:
    for key, value in (metadata.metadata or {}).items():
        if key != b"ARROW:schema":
            found.add_all((match for *_, match in needles.data(key + b" " + value, words=True)), "metadata")
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            stats = column.statistics
            if stats is None or not stats.has_min_max:
                continue
            name = column.path_in_schema
            for value in (stats.min, stats.max):
                if isinstance(value, str):
                    found.add_all(needles.text(value, people=of_people(name)), f"{name}, statistics")


def _look_at_column(file: pq.ParquetFile, name: str, needles: Needles, found: FileFindings, home: Path) -> None:
    row = 0
    before: dict[str, list[str]] = {}
    coded: set[tuple[str, Match]] = set()  # in a dictionary, and in no row so far
    there: set[tuple[str, Match]] = set()
    numbers: dict[str, bytes] = {}
    for group in range(file.num_row_groups):
        for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[name], use_threads=False):
            for path, values in _leaves(name, batch.column(0)):
                if _is_words(values.type):
                    before[path] = _look_at_words(path, values, row, before.get(path, []), needles, found)
                    _look_at_dictionary(path, values, row, needles, found, coded, there)
                elif pa.types.is_integer(values.type):
                    last = numbers.get(path, b"")
                    numbers[path] = _look_at_integers(path, values, row, last, needles, found, home)
                else:
                    _look_at_rest(path, values, row, needles, found)
            row += len(batch)
    for path, match in sorted(coded - there):
        found.add(match, f"{path}, dictionary")


def _is_words(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def _leaves(name: str, values: Any) -> Iterator[tuple[str, Any]]:
    """A column's values without what nests them."""
    kind = values.type
    if pa.types.is_struct(kind):
        for inner in kind:
            yield from _leaves(f"{name}.{inner.name}", pc.struct_field(values, inner.name))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(name, values.flatten())
    elif pa.types.is_map(kind):
        yield from _leaves(f"{name}.key", values.keys)
        yield from _leaves(name, values.items)
    else:
        yield name, values


def _look_at_dictionary(
    name: str,
    values: Any,
    row: int,
    needles: Needles,
    found: FileFindings,
    coded: set[tuple[str, Match]],
    there: set[tuple[str, Match]],
) -> None:
    """Look at the different texts of a column, and say in which row each is, if it is in one."""
    codes = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    for place, said in enumerate(codes.dictionary.to_pylist()):
        for match in needles.text(said, people=of_people(name)) if said is not None else ():
            at = pc.index(codes.indices, pa.scalar(place, codes.indices.type)).as_py()
            if at < 0:
                coded.add((name, match))
            else:
                there.add((name, match))
                found.add(match, f"{name}, row {row + at:,}")


def _look_at_words(
    name: str, values: Any, row: int, before: list[str], needles: Needles, found: FileFindings
) -> list[str]:
    """Look for stretches of item ids; returns the last texts, with which one may begin that goes on in the next."""
    if not needles.sequences:
        return []
    texts = [*before, *values.to_pylist()]
    for at in needles.in_order(texts):
        found.add(Match(HISTORY), f"{name}, row {row + at - len(before):,}")
    return texts[-LENGTH + 1 :]


def _look_at_integers(
    name: str, values: Any, row: int, before: bytes, needles: Needles, found: FileFindings, home: Path
) -> bytes:
    if pa.types.is_uint64(values.type):
        values = values.cast(pa.int64(), safe=False)
    numbers = pc.fill_null(values.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    are_rows = name == USER and (home / USERS_FILE).exists()
    if of_people(name) and not are_rows:
        for one in needles.names:
            if one.text.isdigit() and len(one.text) < 19:
                for at in np.flatnonzero(numbers == int(one.text))[:1].tolist():
                    found.add_all(needles.number(int(one.text)), f"{name}, row {row + at:,}")
    own = needles.rows.get(home)
    if are_rows and own is not None:
        for at in np.flatnonzero(numbers == own)[:1].tolist():
            found.add(Match(ROW), f"{name}, row {row + at:,}")
    data: bytes = before + numbers.astype("<i8").tobytes()
    for at, what, size in needles.windows.find(data, 8):
        if at + size > len(before):
            found.add(Match(what), f"{name}, row {row + (at - len(before)) // 8:,}")
    return data[-8 * (LENGTH - 1) :]


def _look_at_rest(name: str, values: Any, row: int, needles: Needles, found: FileFindings) -> None:
    kind = values.type
    if pa.types.is_floating(kind):
        data = pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False).astype("<f4").tobytes()
        for at, what, _ in needles.windows.find(data, 4):
            found.add(Match(what), f"{name}, value {at // 4:,} from row {row:,}")
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        for place, value in enumerate(values.to_pylist()):
            if value:
                found.add_all((Match(what) for _, what, _ in needles.windows.find(value)), f"{name}, row {row + place}")
                found.add_all((match for *_, match in needles.data(value)), f"{name}, row {row + place:,}")
    elif pa.types.is_dictionary(kind):
        _look_at_rest(name, values.dictionary_decode(), row, needles, found)
    elif not any(one(kind) for one in _NAMELESS):
        found.doubt(f"the column {name} has the type {kind}, which is not looked into")
