"""JSON, JSON lines, CSV and plain text."""

import csv
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from molar_retrieval.privacy.blocks import BLOCK, blocks, look_at_bytes
from molar_retrieval.privacy.found import FileFindings, UndecodableError
from molar_retrieval.privacy.needles import LENGTH, Match, Needles, of_people
from molar_retrieval.privacy.parquet import HISTORY

_LARGEST = 32 << 20
"""Bytes of a JSON document, or of a line, that are read at once; a larger one is text."""
_ITEM = ("item_id", "id", "item")
_DELIMITERS = (",", ";", "\t", "|")
_CONTROL = bytes(set(range(32)) - {7, 8, 9, 10, 12, 13, 27})


def look_at_json(path: Path, needles: Needles, found: FileFindings) -> None:
    """Look through a JSON document."""
    if path.stat().st_size > _LARGEST:
        look_at_text(path, needles, found)
        return
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UndecodableError(f"it is no JSON: {error}") from error
    look_at_document(document, "", "", needles, found)


def look_at_lines(path: Path, needles: Needles, found: FileFindings) -> None:
    """Look through JSON lines; one that is none is text."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LARGEST), b""), 1):
            where = f"line {number:,}"
            try:
                document = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):
                found.add_all((match for *_, match in needles.data(line, words=True)), where)
            else:
                look_at_document(document, where, "", needles, found)


def look_at_document(value: Any, where: str, key: str, needles: Needles, found: FileFindings) -> None:
    """Look through what JSON holds; ``key`` is what the value is called."""
    if isinstance(value, dict):
        for name, inner in value.items():
            found.add_all(
                needles.text(name, people=of_people(key)), f"{where}.{name}" if not key else f"{where}, a key"
            )
            look_at_document(inner, f"{where}.{name}".lstrip("."), name, needles, found)
    elif isinstance(value, list):
        _look_at_list(value, where, needles, found)
        for place, inner in enumerate(value):
            look_at_document(inner, f"{where}[{place}]", key, needles, found)
    elif isinstance(value, str):
        found.add_all(needles.text(value, people=of_people(key)), where)
    elif isinstance(value, int) and not isinstance(value, bool) and of_people(key):
        found.add_all(needles.number(value), where)


def _look_at_list(value: list[Any], where: str, needles: Needles, found: FileFindings) -> None:
    if len(value) < LENGTH:
        return
    if all(type(one) is int and abs(one) < 1 << 62 for one in value):
        data = np.array(value, "<i8").tobytes()
    elif all(type(one) in (int, float) and abs(one) < 1e30 for one in value):
        data = np.array(value, "<f4").tobytes()
    else:
        items = [_item(one) for one in value]
        found.add_all((Match(HISTORY) for _ in needles.in_order(items)), where)
        return
    found.add_all((Match(what) for _, what, _ in needles.windows.find(data)), where)


def _item(value: Any) -> str:
    if isinstance(value, dict):
        value = next((value[name] for name in _ITEM if name in value), "")
    return value if isinstance(value, str) else ""


def look_at_csv(path: Path, needles: Needles, found: FileFindings) -> None:
    """Look through comma-separated values with a head."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline(BLOCK)
            file.seek(0)
            _look_at_rows(csv.reader(file, delimiter=max(_DELIMITERS, key=head.count)), needles, found)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UndecodableError(f"it is no CSV in UTF-8: {error}") from error


def _look_at_rows(rows: Iterator[list[str]], needles: Needles, found: FileFindings) -> None:
    head = next(rows, [])
    last: list[list[str]] = [[] for _ in head]
    for number, row in enumerate(chain([head], rows)):
        for place, value in enumerate(row):
            name = head[place] if place < len(head) else ""
            where = f"{name or place + 1}, row {number:,}"
            found.add_all(needles.text(value, people=of_people(name)), where)
            if needles.sequences and place < len(last):
                last[place] = [*last[place], value][-LENGTH:]
                found.add_all((Match(HISTORY) for _ in needles.in_order(last[place])), where)


def look_at_text(path: Path, needles: Needles, found: FileFindings) -> None:
    """Look through text of any kind."""
    look_at_bytes(path, needles, found, words=True)


def is_text(path: Path) -> bool:
    """Whether a file is text: UTF-8 without characters that no text has."""
    kept = b""
    for block in blocks(path, 0):
        whole = kept + block.data
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
