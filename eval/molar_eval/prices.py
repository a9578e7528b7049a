"""What an item costs: a price column of the catalogue, or the mean price in the log."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.data.catalogue import ITEMS_FILE, Catalogue
from molar_retrieval.data.readers import TableReader
from molar_retrieval.data.schema import find_table

Prices = npt.NDArray[np.float64]
PRICE = ("price", "unit_price", "median_price", "mean_price")


def item_prices(catalogue: Catalogue, item_column: str) -> Prices | None:
    """The price of each item, shape (n_items,), 0 where it is unknown; None where neither file has a price.

    Of the log, which lies in the catalogue's folder, ``item_column`` has the items' ids.
    """
    prices = catalogue_prices(catalogue)
    if prices is not None:
        return prices
    source = find_table(catalogue.folder, "interactions")
    return None if source is None else _of_log(source, catalogue, item_column)


def catalogue_prices(catalogue: Catalogue) -> Prices | None:
    """The same by the items file alone."""
    path = catalogue.version / ITEMS_FILE
    schema = pq.read_schema(path)
    for name in PRICE:
        kind = schema.field(name).type if name in schema.names else pa.null()
        if pa.types.is_floating(kind) or pa.types.is_integer(kind):
            prices: Prices = np.nan_to_num(pq.read_table(path, columns=[name])[name].cast(pa.float64()).to_numpy())
            return prices
    return None


def _of_log(source: TableReader, catalogue: Catalogue, item_column: str) -> Prices | None:
    name = next((name for name in PRICE if name in source.names), None)
    if name is None:
        return None
    total, count = np.zeros(len(catalogue)), np.zeros(len(catalogue))
    for rows in source.batches([item_column, name], 1 << 18, None, {item_column}):
        price = pc.cast(rows.batch[name], pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        row = catalogue.rows(rows.batch[item_column].cast(pa.string()))
        good = (row >= 0) & np.isfinite(price)
        np.add.at(total, row[good], price[good])
        np.add.at(count, row[good], 1)
    mean: Prices = np.divide(total, count, out=np.zeros(len(total)), where=count > 0)
    return mean
