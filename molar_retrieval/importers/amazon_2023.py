"""Amazon Reviews, 2023: ``X.jsonl`` and ``meta_X.jsonl``, each perhaps ``.gz``; an item is a ``parent_asin``.

Source: Hou, Li, He, Yan, Chen and McAuley, Bridging Language and Items for Retrieval and Recommendation, arXiv
2403.03952.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows
from molar_retrieval.catalog.values import STRING_LIST
from molar_retrieval.importers.amazon import as_id, find_pair, item_rows, number, review_rows, text, texts
from molar_retrieval.importers.lines import objects, parse_json
from molar_retrieval.importers.published import Common

_REVIEW = {"user_id": "user_id", "item_id": "parent_asin", "rating": "rating", "timestamp": "timestamp"}
_ITEM = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("description", pa.string()),
        ("store", pa.string()),
        ("main_category", pa.string()),
        ("categories", STRING_LIST),
        ("price", pa.float64()),
        ("average_rating", pa.float64()),
        ("rating_number", pa.float64()),
        ("image_url", pa.string()),
    ]
)


class Amazon2023(Common):
    """See :class:`~molar_retrieval.importers.published.Published`."""

    attributes: Sequence[str] = ("store", "main_category", "categories")
    time_unit = "ms"
    notes: Sequence[str] = (
        "review texts tell the future and are left out; average_rating and rating_number are for display only",
    )

    def __init__(self, folder: Path) -> None:
        self.items_file, self.log_file = find_pair(folder, "amazon-2023", ".jsonl", ("{}",))
        self.photos = folder / "images"

    def items(self, rejects: Rejects) -> Iterator[Rows]:
        """``item_id``, texts, store, categories, price, ratings, image URL."""
        return item_rows(objects(self.items_file, parse_json, rejects), _item, _ITEM)

    def interactions(self, rejects: Rejects) -> Iterator[Rows]:
        """``user_id``, ``item_id``, ``rating``, ``timestamp``."""
        return review_rows(objects(self.log_file, parse_json, rejects), _REVIEW)


def _item(raw: dict[str, Any]) -> dict[str, Any]:
    described = [text(raw.get("description")), text(raw.get("features"))]
    return {
        "item_id": as_id(raw.get("parent_asin")),
        "title": text(raw.get("title")),
        "description": "\n".join(part for part in described if part) or None,
        "store": text(raw.get("store")),
        "main_category": text(raw.get("main_category")),
        "categories": texts(raw.get("categories")),
        "price": number(raw.get("price")),
        "average_rating": number(raw.get("average_rating")),
        "rating_number": number(raw.get("rating_number")),
        "image_url": _image_url(raw.get("images")),
    }


def _image_url(images: Any) -> str | None:
    """The largest size of the main photo, else of the first one."""
    found = [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    found.sort(key=lambda image: image.get("variant") != "MAIN")  # stable
    urls = [as_id(image.get(size)) for image in found[:1] for size in ("hi_res", "large", "thumb")]
    return next((url for url in urls if url), None)
