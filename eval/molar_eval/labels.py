"""Labels of the cases of a test: by what was known of the item and the user, and by columns of the catalogue."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_eval import slices
from molar_eval.cases import Cases, Mask, Rows
from molar_eval.slice_columns import by_column
from molar_eval.slices import Labels
from molar_retrieval import columns as names
from molar_retrieval.catalog import Catalogue
from molar_retrieval.catalog.catalogue import ITEMS_FILE
from molar_retrieval.catalog.sources import find_file, open_source
from molar_retrieval.catalog.spec import CatalogueSettings
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.errors import SettingsError, nearest
from molar_retrieval.interactions.columns import user_column
from molar_retrieval.interactions.log import InteractionLog


def labels(
    cases: Cases, training: InteractionLog, catalogue: Catalogue, columns: Sequence[str], readable: Mask | None
) -> list[Labels]:
    """One label per case and dimension; dimensions of items apply to cases with one target only.

    Args:
        cases: The cases.
        training: What models were fitted on.
        catalogue: The items.
        columns: Item or user columns asked for.
        readable: Items that inputs may have, shape (n_items,); None: all.

    Raises:
        SettingsError: If neither the items nor the users have such a column.
    """
    target = cases.single_target
    found = [slices.by_popularity(target, np.bincount(training.item, minlength=training.n_items))]
    if training.timestamp.any():
        first = slices.first_times(training.item, training.timestamp, training.n_items)
        found.append(slices.by_item_age(target, cases.times(), first))
    found.append(slices.by_history(_read(cases, readable)))
    table = pq.read_table(catalogue.version / ITEMS_FILE)
    photo, described = (np.asarray(pc.is_valid(table[name])) for name in (names.IMAGE, names.DESCRIPTION))
    found.append(slices.by_content(target, photo, described))
    return found + [_column(name, cases, target, table, catalogue) for name in columns]


def _read(cases: Cases, readable: Mask | None) -> Rows:
    """How many interactions of each case's input a model may read."""
    if readable is None:
        return cases.length
    log = cases.history
    before = np.concatenate([[0], np.cumsum(readable[log.item])])
    start = log.offsets[cases.user]
    read: Rows = before[start + cases.length] - before[start]
    return read


def _column(name: str, cases: Cases, target: Rows, items: pa.Table, catalogue: Catalogue) -> Labels:
    if name in items.column_names:
        return by_column(name, items[name].combine_chunks(), target)
    path = find_file(catalogue.folder, "users")
    source = None if path is None else open_source(path)
    if source is None or name not in source.names:
        known = [*items.column_names, *(source.names if source else [])]
        close = nearest(name, known, n=1)
        raise SettingsError(
            f"neither items nor users have a column {name!r}",
            f"did you mean {close[0]!r}?" if close else f"name one of {', '.join(known)}",
        )
    return by_column(name, _user_values(source, name, cases, catalogue), cases.user)


def _user_values(source: TableSource, name: str, cases: Cases, catalogue: Catalogue) -> pa.Array:
    """The column's value for each user of the log."""
    key = user_column(CatalogueSettings.read(catalogue.folder).users, source)
    batches = [rows.batch for rows in source.batches([key, name], 65_536, None, {key})]
    table = pa.Table.from_batches(batches)
    row = cases.history.users.rows(table[key].cast(pa.string()))
    place = np.full(cases.history.n_users, -1)
    place[row[row >= 0]] = np.flatnonzero(row >= 0)
    return table[name].combine_chunks().take(pa.array(place, mask=place < 0))
