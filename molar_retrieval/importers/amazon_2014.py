"""Amazon product data, 2014: ``reviews_X_5.json`` or ``reviews_X.json``, and ``meta_X.json``, each perhaps ``.gz``.

Source: McAuley, Targett, Shi and van den Hengel, Image-based Recommendations on Styles and Substitutes, SIGIR 2015. The
metadata, and the reviews that are not 5-core, are lines of Python literals rather than JSON.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows
from molar_retrieval.catalog.values import STRING_LIST
from molar_retrieval.importers.amazon import as_id, find_pair, item_rows, number, review_rows, text, texts
from molar_retrieval.importers.lines import objects, parse_loose
from molar_retrieval.importers.published import Common

_REVIEW = {"user_id": "reviewerID", "item_id": "asin", "rating": "overall", "timestamp": "unixReviewTime"}
_ITEM = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("description", pa.string()),
        ("brand", pa.string()),
        ("categories", STRING_LIST),
        ("price", pa.float64()),
        ("sales_rank", pa.int64()),
        ("image_url", pa.string()),
    ]
)


class Amazon2014(Common):
    """See :class:`~molar_retrieval.importers.published.Published`."""

    attributes: Sequence[str] = ("brand", "categories")
    time_unit = "s"
    notes: Sequence[str] = (
        "review texts, also_bought and the like tell the future and are left out; sales_rank is for display only",
        "times are days: reviews of one user and day are in the order of the file",
    )

    def __init__(self, folder: Path) -> None:
        pair = find_pair(folder, "amazon-2014", ".json", ("reviews_{}_5", "reviews_{}"))
        self.items_file, self.log_file = pair
        self.photos = folder / "images"

    def items(self, rejects: Rejects) -> Iterator[Rows]:
        """``item_id``, texts, brand, categories, price, sales rank, image URL."""
        return item_rows(objects(self.items_file, parse_loose, rejects), _item, _ITEM)

    def interactions(self, rejects: Rejects) -> Iterator[Rows]:
        """``user_id``, ``item_id``, ``rating``, ``timestamp``."""
        return review_rows(objects(self.log_file, parse_loose, rejects), _REVIEW)


def _item(raw: dict[str, Any]) -> dict[str, Any]:
    ranks = raw.get("salesRank")
    rank = next((r for r in ranks.values() if isinstance(r, int)), None) if isinstance(ranks, dict) else None
    return {
        "item_id": as_id(raw.get("asin")),
        "title": text(raw.get("title")),
        "description": text(raw.get("description")),
        "brand": text(raw.get("brand")),
        "categories": texts(raw.get("categories")),
        "price": number(raw.get("price")),
        "sales_rank": rank if rank is not None and abs(rank) < 2**63 else None,
        "image_url": as_id(raw.get("imUrl")),
    }
