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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from molar_retrieval.catalog.values import STRING_LIST
from molar_retrieval.columns import DESCRIPTION, ITEM_ID, TIMESTAMP, TITLE, USER_ID
from molar_retrieval.errors import DataError
from molar_retrieval.importers.published import PublishedData
from molar_retrieval.importers.text_tables import ObjectColumns, Parse, object_table, parse_loose

_ITEMS = 4_096
_REVIEWS = 262_144
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>")


@dataclass(frozen=True)
class AmazonLayout:
    """How a release is written.

    Attributes:
        name: Of the format.
        ending: Of both files, but for ``.gz``.
        reviews: What the reviews may be called, ``{}`` being the category.
        parse: Reads a line.
        items: Columns of the metadata, as in :func:`~molar_retrieval.importers.text_tables.object_table`.
        log: Keys of the reviews by column.
        attributes: The item columns that enter the vectors.
        time_unit: Of the times.
        notes: What whoever uses the data should know.
    """

    name: str
    ending: str
    reviews: Sequence[str]
    parse: Parse
    items: ObjectColumns
    log: dict[str, str]
    attributes: Sequence[str]
    time_unit: str
    notes: Sequence[str]

    def open(self, folder: Path, _: str = "") -> PublishedData:
        """Open the one category in a folder.

        Raises:
            DataError: If a file is missing, or it is not clear which is meant.
        """
        items, log = _find_pair(folder, self.name, self.ending, self.reviews)
        reviews: ObjectColumns = {
            USER_ID: (self.log[USER_ID], as_id, pa.string()),
            ITEM_ID: (self.log[ITEM_ID], as_id, pa.string()),
            "rating": (self.log["rating"], number, pa.float32()),
            TIMESTAMP: (self.log[TIMESTAMP], number, pa.float64()),
        }
        return PublishedData(
            object_table(items, self.parse, self.items, _ITEMS),
            object_table(log, self.parse, reviews, _REVIEWS),
            folder / "images",
            attributes=self.attributes,
            time_unit=self.time_unit,
            notes=self.notes,
        )


def _find_pair(folder: Path, format_: str, ending: str, reviews: Sequence[str]) -> tuple[Path, Path]:
    """The metadata and the reviews of the one category in a folder, plain or with ``.gz``."""
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


AMAZON_2014 = AmazonLayout(
    name="amazon-2014",
    ending=".json",
    reviews=("reviews_{}_5", "reviews_{}"),
    parse=parse_loose,
    items={
        ITEM_ID: ("asin", as_id, pa.string()),
        TITLE: ("title", text, pa.string()),
        DESCRIPTION: ("description", text, pa.string()),
        "brand": ("brand", text, pa.string()),
        "categories": ("categories", texts, STRING_LIST),
        "price": ("price", number, pa.float64()),
        "sales_rank": ("salesRank", _sales_rank, pa.int64()),
        "image_url": ("imUrl", as_id, pa.string()),
    },
    log={USER_ID: "reviewerID", ITEM_ID: "asin", "rating": "overall", TIMESTAMP: "unixReviewTime"},
    attributes=("brand", "categories"),
    time_unit="s",
    notes=(
        "review texts, also_bought and the like tell the future and are left out; sales_rank is for display only",
        "times are days: reviews of one user and day are in the order of the file",
    ),
)

AMAZON_2023 = AmazonLayout(
    name="amazon-2023",
    ending=".jsonl",
    reviews=("{}",),
    parse=json.loads,
    items={
        ITEM_ID: ("parent_asin", as_id, pa.string()),
        TITLE: ("title", text, pa.string()),
        DESCRIPTION: (("description", "features"), text, pa.string()),
        "store": ("store", text, pa.string()),
        "main_category": ("main_category", text, pa.string()),
        "categories": ("categories", texts, STRING_LIST),
        "price": ("price", number, pa.float64()),
        "average_rating": ("average_rating", number, pa.float64()),
        "rating_number": ("rating_number", number, pa.float64()),
        "image_url": ("images", _image_url, pa.string()),
    },
    log={USER_ID: "user_id", ITEM_ID: "parent_asin", "rating": "rating", TIMESTAMP: "timestamp"},
    attributes=("store", "main_category", "categories"),
    time_unit="ms",
    notes=("review texts tell the future and are left out; average_rating and rating_number are for display only",),
)
