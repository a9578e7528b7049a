"""H&M Personalized Fashion Recommendations (Kaggle, 2022): articles, customers, transactions, photos.

An item is a product (all its colours together, as each has few purchases by itself) or an article.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.rows import Rows
from molar_retrieval.catalog.values import STRING_LIST
from molar_retrieval.columns import DESCRIPTION, ITEM_ID, TITLE
from molar_retrieval.importers.tables import LAYOUTS, PublishedData, PublishedTable, csv_table, described

HM_LEVELS = ("product", "article")


class _Products:
    """Articles gathered into products: the articles of a product are told by its first one."""

    def __init__(self, articles: PublishedTable) -> None:
        self._articles = articles
        self._codes: tuple[pa.Array, pa.Array] | None = None  # the articles, and the product of each
        self._of_product: dict[str, dict[str, None]] = {}

    def photo_names(self, item_id: str) -> Sequence[str]:
        """``010/0108775015``: those of the articles of a product, in the order of the file, or that of an article."""
        articles: Collection[str] = (item_id,) if self._codes is None else self._of_product.get(item_id, {})
        return [f"{article[:3]}/{article}" for article in articles]

    def of(self, articles: pa.Array) -> pa.Array:
        """The products of articles; an unknown article stands for itself, and is then no known item."""
        if self._codes is None:
            return articles
        known, products = self._codes
        return pc.coalesce(products.take(pc.index_in(articles, value_set=known)), articles)

    def rows(self, rejects: Rejects) -> Iterator[Rows]:
        pieces = list(self._articles.rows(rejects))
        if not pieces:
            return
        batch = pa.concat_batches([rows.batch for rows in pieces])
        self._codes = batch["article_id"], batch["product_code"]
        first: dict[str | None, int] = {}
        colours: dict[str | None, dict[str, None]] = {}
        columns = (batch[name].to_pylist() for name in ("article_id", "product_code", "colour"))
        for row, (article, product, colour) in enumerate(zip(*columns, strict=True)):
            first.setdefault(product, row)
            colours.setdefault(product, {}).update({} if colour is None else {colour: None})
            if product is not None and article is not None:
                self._of_product.setdefault(product, {})[article] = None
        numbers = np.concatenate([rows.numbers for rows in pieces])
        told = batch.take(pa.array(list(first.values()), pa.int64()))
        products = {
            ITEM_ID: told["product_code"],
            **{name: told[name] for name in (TITLE, DESCRIPTION, *LAYOUTS["hm"]["attributes"])},
            "colours": pa.array([list(found) for found in colours.values()], STRING_LIST),
            "n_articles": pa.array([len(self._of_product.get(str(product), {})) for product in first], pa.int32()),
        }
        yield Rows(numbers[list(first.values())], pa.RecordBatch.from_pydict(products))


def open_hm(folder: Path, level: str) -> PublishedData:
    """Open the files as Kaggle has them, a DataError if one is unfit; an item is a ``product`` or an ``article``."""
    names = ("articles", "transactions_train", "customers")
    articles, log, users = (csv_table(folder / f"{name}.csv", LAYOUTS["hm"][name], "hm") for name in names)
    about, products = described("hm"), _Products(articles)
    if level == "article":
        items, log = articles.then(_named_items), log.then(_named_items)
    else:
        items = PublishedTable(articles.path, products.rows)
        log = log.then(lambda rows: rows.with_columns({ITEM_ID: products.of(rows.batch["article_id"])}))
    about["attributes"] = [*about["attributes"], "colour" if level == "article" else "colours"]
    return PublishedData(items, log, folder / "images", users=users, photo_names=products.photo_names, **about)


def _named_items(rows: Rows) -> Rows:
    names = [ITEM_ID if name == "article_id" else name for name in rows.batch.schema.names]
    return Rows(rows.numbers, rows.batch.rename_columns(names))
