"""What the Amazon releases share: one file of reviews and one of metadata per category, one object a line."""

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from molar_retrieval.catalog.sources import Rows
from molar_retrieval.errors import DataError

_ITEMS = 4_096
_REVIEWS = 262_144
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>")
Objects = Iterator[tuple[int, dict[str, Any]]]


def find_pair(folder: Path, format_: str, ending: str, reviews: Sequence[str]) -> tuple[Path, Path]:
    """The metadata and the reviews of the one category in a folder.

    Args:
        folder: Where they lie, plain or with ``.gz``.
        format_: For messages.
        ending: Of both names.
        reviews: What the reviews may be called, ``{}`` being the category.

    Raises:
        DataError: If one is missing, or it is not clear which is meant.
    """
    wanted = f"meta_<category>{ending}.gz and {reviews[0].format('<category>')}{ending}.gz, or the same unpacked"
    metas = sorted([*folder.glob(f"meta_*{ending}"), *folder.glob(f"meta_*{ending}.gz")])
    if not metas:
        raise DataError(f"{folder} has no meta_<category>{ending} or .gz", f"{format_} is read from {wanted}")
    if len(metas) > 1:
        found = ", ".join(path.name for path in metas)
        raise DataError(f"{folder} has {found}", "put each category into a folder of its own, packed or unpacked")
    category = metas[0].name.removesuffix(".gz").removesuffix(ending).removeprefix("meta_")
    names = [f"{pattern.format(category)}{ending}{packed}" for pattern in reviews for packed in ("", ".gz")]
    found_reviews = [folder / name for name in names if (folder / name).is_file()]
    if not found_reviews:
        raise DataError(f"{folder} has {metas[0].name} but none of {', '.join(names)}", "put the reviews beside it")
    if len(found_reviews) > 1:
        found = " and ".join(path.name for path in found_reviews)
        raise DataError(f"{folder} has {found}", "keep the one that is meant and move the other away")
    return metas[0], found_reviews[0]


def item_rows(source: Objects, row: Callable[[dict[str, Any]], dict[str, Any]], schema: pa.Schema) -> Iterator[Rows]:
    """Metadata as batches.

    Args:
        source: The objects with their line numbers.
        row: From an object to the values of the schema.
        schema: Of the batches.
    """
    while chunk := list(islice(source, _ITEMS)):
        batch = pa.RecordBatch.from_pylist([row(value) for _, value in chunk], schema)
        yield Rows(np.array([number for number, _ in chunk], np.int64), batch)


def review_rows(source: Objects, columns: Mapping[str, str]) -> Iterator[Rows]:
    """Reviews as batches of ``user_id``, ``item_id``, ``rating`` and ``timestamp``.

    Args:
        source: The objects with their line numbers.
        columns: What each of the four is called in the file.
    """
    kinds: dict[str, tuple[Callable[[Any], Any], pa.DataType]] = {
        "user_id": (as_id, pa.string()),
        "item_id": (as_id, pa.string()),
        "rating": (number, pa.float32()),
        "timestamp": (number, pa.float64()),
    }
    while chunk := [(n, [row.get(key) for key in columns.values()]) for n, row in islice(source, _REVIEWS)]:
        values = zip(*(values for _, values in chunk), strict=True)
        read = [(*kinds[name], column) for name, column in zip(columns, values, strict=True)]
        arrays = [pa.array([convert(value) for value in column], kind) for convert, kind, column in read]
        numbers = np.array([n for n, _ in chunk], np.int64)
        yield Rows(numbers, pa.RecordBatch.from_arrays(arrays, list(columns)))


def as_id(value: Any) -> str | None:
    """A string as it is; None for anything else, and for what no file could hold."""
    return value if isinstance(value, str) and _is_unicode(value) else None


def text(value: Any) -> str | None:
    """A text of a web page without its markup and entities; the elements of a list become lines."""
    if isinstance(value, list):
        return "\n".join(part for part in map(text, value) if part) or None
    if not isinstance(value, str):
        return None
    plain = _MARKUP.sub(" ", html.unescape(_MARKUP.sub(" ", value))) if {"&", "<"} & set(value) else value
    plain = plain if _is_unicode(plain) else plain.encode("utf-8", "replace").decode("utf-8")
    return plain.strip() or None


def texts(values: Any) -> list[str]:
    """The texts in lists, at any depth, each once."""
    return list(dict.fromkeys(part for part in map(text, _flat(values)) if part))


def number(value: Any) -> float | None:
    """A number, also one written as a string ("12.99", "$12.99"); None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value.strip().lstrip("$").replace(",", "") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return found if np.isfinite(found) else None


def _flat(values: Any) -> Iterable[Any]:
    for value in values if isinstance(values, list) else [values]:
        yield from _flat(value) if isinstance(value, list) else [value]


def _is_unicode(value: str) -> bool:
    """Whether there is no half of a surrogate pair in it."""
    try:
        return value.isascii() or bool(value.encode("utf-8"))
    except UnicodeEncodeError:
        return False
