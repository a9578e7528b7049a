"""H&M Personalized Fashion Recommendations (Kaggle, 2022): articles, customers, transactions, photos.

An item is a product (all its colours together, as each has few purchases by itself) or an article.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows
from molar_retrieval.catalog.values import STRING_LIST
from molar_retrieval.columns import DESCRIPTION, ITEM_ID, TIMESTAMP, TITLE, USER_ID
from molar_retrieval.importers.published import Common
from molar_retrieval.importers.tables import OfficialCsv, as_numbers, with_columns

LEVELS = ("product", "article")
_WORDS = {
    "product_type_name": "product_type",
    "product_group_name": "product_group",
    "graphical_appearance_name": "graphical_appearance",
    "department_name": "department",
    "index_name": "index_name",
    "index_group_name": "index_group",
    "section_name": "section",
    "garment_group_name": "garment_group",
    "colour_group_name": "colour",
}
_ARTICLES = {
    "article_id": "article_id",
    "product_code": "product_code",
    "prod_name": TITLE,
    "detail_desc": DESCRIPTION,
    **_WORDS,
}
_CUSTOMERS = {
    "customer_id": USER_ID,
    "FN": "fn",
    "Active": "active",
    "club_member_status": "club_member_status",
    "fashion_news_frequency": "fashion_news_frequency",
    "age": "age",
}
_TRANSACTIONS = {
    "t_dat": TIMESTAMP,
    "customer_id": USER_ID,
    "article_id": "article_id",
    "price": "price",
    "sales_channel_id": "sales_channel",
}


class Hm(Common):
    """See :class:`~molar_retrieval.importers.published.Published`.

    Args:
        folder: With the files as Kaggle has them.
        level: ``product`` or ``article``.
    """

    time_unit = "s"
    notes: Sequence[str] = (
        "times are days (midnight UTC): prefer a split by day; baskets are in the order of the file",
        "postal_code is left out",
    )

    def __init__(self, folder: Path, level: str) -> None:
        self._articles = OfficialCsv(folder / "articles.csv", _ARTICLES, "hm")
        self._transactions = OfficialCsv(folder / "transactions_train.csv", _TRANSACTIONS, "hm")
        self._customers = OfficialCsv(folder / "customers.csv", _CUSTOMERS, "hm")
        self.items_file, self.log_file = self._articles.path, self._transactions.path
        self.users_file: Path | None = self._customers.path
        self.photos = folder / "images"
        self._by_product = level == "product"
        colour = ("colours",) if self._by_product else ("colour",)
        self.attributes: Sequence[str] = (*[name for name in _WORDS.values() if name != "colour"], *colour)
        self._codes: tuple[pa.Array, pa.Array] | None = None  # the articles, and the product of each
        self._of_product: dict[str, dict[str, None]] = {}

    def items(self, rejects: Rejects) -> Iterator[Rows]:
        """``item_id``, title, description, attributes; the articles of a product are told by its first one."""
        if self._by_product:
            yield from self._products(rejects)
            return
        for rows in self._articles.rows(rejects):
            names = [ITEM_ID if name == "article_id" else name for name in rows.batch.schema.names]
            yield Rows(rows.numbers, rows.batch.rename_columns(names))

    def interactions(self, rejects: Rejects) -> Iterator[Rows]:
        """``user_id``, ``item_id``, ``timestamp``, ``price``, ``sales_channel``; one row per unit."""
        for rows in self._transactions.rows(rejects):
            columns = {
                ITEM_ID: self._item_ids(rows.batch["article_id"]),
                "price": as_numbers(rows.batch["price"], pa.float64()),
                "sales_channel": as_numbers(rows.batch["sales_channel"], pa.int32()),
            }
            batch = with_columns(rows.batch, columns)
            yield Rows(rows.numbers, batch if self._by_product else batch.drop_columns(["article_id"]))

    def users(self, rejects: Rejects) -> Iterator[Rows]:
        """``user_id`` and what is known of a customer."""
        for rows in self._customers.rows(rejects):
            numbers = {name: as_numbers(rows.batch[name], pa.float64()) for name in ("fn", "active", "age")}
            yield Rows(rows.numbers, with_columns(rows.batch, numbers))

    def photo_names(self, item_id: str) -> Sequence[str]:
        """``010/0108775015``: those of the articles of a product, in the order of the file."""
        articles = self._of_product.get(item_id, {}) if self._by_product else (item_id,)
        return [f"{article[:3]}/{article}" for article in articles]

    def _item_ids(self, articles: pa.Array) -> pa.Array:
        """The products of articles; an unknown article stands for itself, and is then no known item."""
        if self._codes is None:
            return articles
        known, products = self._codes
        return pc.coalesce(products.take(pc.index_in(articles, value_set=known)), articles)

    def _products(self, rejects: Rejects) -> Iterator[Rows]:
        parts = list(self._articles.rows(rejects))
        if not parts:
            return
        batch = pa.concat_batches([rows.batch for rows in parts])
        self._codes = batch["article_id"], batch["product_code"]
        first: dict[str | None, int] = {}
        colours: dict[str | None, dict[str, None]] = {}
        columns = (batch[name].to_pylist() for name in ("article_id", "product_code", "colour"))
        for row, (article, product, colour) in enumerate(zip(*columns, strict=True)):
            first.setdefault(product, row)
            colours.setdefault(product, {}).update({} if colour is None else {colour: None})
            if product is not None and article is not None:
                self._of_product.setdefault(product, {})[article] = None
        numbers = np.concatenate([rows.numbers for rows in parts])
        told = batch.take(pa.array(list(first.values()), pa.int64()))
        products = {
            ITEM_ID: told["product_code"],
            **{name: told[name] for name in (TITLE, DESCRIPTION, *_WORDS.values()) if name != "colour"},
            "colours": pa.array([list(found) for found in colours.values()], STRING_LIST),
            "n_articles": pa.array([len(self._of_product.get(str(product), {})) for product in first], pa.int32()),
        }
        yield Rows(numbers[list(first.values())], pa.RecordBatch.from_pydict(products))
