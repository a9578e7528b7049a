"""The Amazon releases: one file of reviews and one of metadata per category, one object a line, each perhaps ``.gz``.

2014: ``reviews_X_5.json`` or ``reviews_X.json``, and ``meta_X.json``. Source: McAuley, Targett, Shi and van den Hengel,
Image-based Recommendations on Styles and Substitutes, SIGIR 2015. The metadata, and the reviews that are not 5-core,
are lines of Python literals rather than JSON.

2023: ``X.jsonl`` and ``meta_X.jsonl``; an item is a ``parent_asin``. Source: Hou, Li, He, Yan, Chen and McAuley,
Bridging Language and Items for Retrieval and Recommendation, arXiv 2403.03952.
"""

import html
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from molar_retrieval.catalog.values import STRING_LIST
from molar_retrieval.errors import DataError
from molar_retrieval.importers.tables import (
    LAYOUTS,
    Parse,
    PublishedData,
    PublishedTable,
    described,
    object_table,
    parse_loose,
)

_ITEMS = 4_096
_REVIEWS = 262_144
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>")


def open_amazon(format_: str, folder: Path) -> PublishedData:
    """Open the one category in a folder; a DataError if a file is missing, or it is not clear which is meant."""
    layout = LAYOUTS[format_]
    paths = _find_pair(folder, format_, layout["ending"], layout["reviews"])

    def table(name: str, path: Path, size: int) -> PublishedTable:
        columns = {column: (keys, *_WAYS[way]) for column, (way, *keys) in layout[name].items()}
        return object_table(path, _PARSERS[format_], columns, size)

    items, log = table("items", paths[0], _ITEMS), table("log", paths[1], _REVIEWS)
    return PublishedData(items, log, folder / "images", **described(format_))


def _find_pair(folder: Path, format_: str, ending: str, reviews: Sequence[str]) -> tuple[Path, Path]:
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


def as_id(value: Any) -> str | None:
    """A string as it is; None for anything else, and for what no file could hold."""
    return value if isinstance(value, str) and _is_unicode(value) else None


def text(value: Any) -> str | None:
    """A text of a web page without its markup and entities; the elements of a list become lines."""
    if isinstance(value, list):
        return "\n".join(plain for plain in map(text, value) if plain) or None
    if not isinstance(value, str):
        return None
    plain = _MARKUP.sub(" ", html.unescape(_MARKUP.sub(" ", value))) if {"&", "<"} & set(value) else value
    plain = plain if _is_unicode(plain) else plain.encode("utf-8", "replace").decode("utf-8")
    return plain.strip() or None


def texts(values: Any) -> list[str]:
    """The texts in lists, at any depth, each once."""
    return list(dict.fromkeys(plain for plain in map(text, _flat(values)) if plain))


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


def _sales_rank(ranks: Any) -> int | None:
    """The rank in the first category that has one."""
    rank = next((r for r in ranks.values() if isinstance(r, int)), None) if isinstance(ranks, dict) else None
    return rank if rank is not None and abs(rank) < 2**63 else None


def _image_url(images: Any) -> str | None:
    """The largest size of the main photo, else of the first one."""
    found = [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    found.sort(key=lambda image: image.get("variant") != "MAIN")  # stable
    urls = [as_id(image.get(size)) for image in found[:1] for size in ("hi_res", "large", "thumb")]
    return next((url for url in urls if url), None)


_PARSERS: dict[str, Parse] = {"amazon-2014": parse_loose, "amazon-2023": json.loads}
_WAYS: dict[str, tuple[Callable[[Any], Any], pa.DataType]] = {
    "id": (as_id, pa.string()),
    "text": (text, pa.string()),
    "texts": (texts, STRING_LIST),
    "number": (number, pa.float64()),
    "rating": (number, pa.float32()),
    "rank": (_sales_rank, pa.int64()),
    "image": (_image_url, pa.string()),
}
"""What makes a value of what the file has, and the type of the column, by the names in ``layouts.toml``."""
