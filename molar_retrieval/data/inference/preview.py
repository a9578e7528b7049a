"""The first rows of somebody's tables as molar reads them, by the readers that prepare a catalogue and a log."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.data.inference.infer import InferredSchema
from molar_retrieval.data.interaction_reader import InteractionReader, log_columns
from molar_retrieval.data.prepare import ItemReader
from molar_retrieval.data.readers import TableReader
from molar_retrieval.data.rows import Rejects
from molar_retrieval.data.schema import CatalogueConfig, ItemColumns, find_table, items_source, resolve
from molar_retrieval.data.values import as_strings
from molar_retrieval.data.variants import ItemIds, of_items
from molar_retrieval.ids import IdMap
from molar_retrieval.progress import SILENT

ROWS = 10
_BATCH = 65_536
_FIXED = (ITEM_ID, TITLE, DESCRIPTION, IMAGE, "text")


@dataclass(frozen=True)
class Preview:
    """Rows as they are read, by the names of columns; times as written and in UTC, weights as numbers.

    ``attributes`` enter the vectors, ``kept`` are columns for filters and display, each with its kind; ``doubtful``
    columns have numbers that can be read in two ways, with the reason, and are kept as words.
    """

    items: list[dict[str, Any]]
    interactions: list[dict[str, Any]]
    attributes: tuple[str, ...]
    kept: dict[str, str]
    doubtful: dict[str, str]


def preview(proposal: InferredSchema) -> Preview:
    """Read the first rows; a DataError where the tables cannot be read as proposed."""
    folder, settings = proposal.folder, proposal.settings
    source = items_source(folder, settings)
    spec = resolve(settings, source)
    head = ItemReader(source, spec, folder, Rejects(Path())).head(ROWS)
    items = head.select([name for name in head.schema.names if name != "text"]).to_pylist()
    others = [field for field in head.schema if field.name not in (*_FIXED, *spec.items.attributes)]
    kept = {field.name: _kind(field.type) for field in others}
    log = find_table(folder, "interactions", settings)
    rows = [] if log is None else _log_rows(log, items_source(folder, settings), settings, spec.items)
    return Preview(items, rows, spec.items.attributes, kept, dict(spec.ambiguous_columns))


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return "several words"
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return "numbers" if numbers else "yes or no" if pa.types.is_boolean(kind) else "words"


def _log_rows(
    log: TableReader, items: TableReader, settings: CatalogueConfig, named: ItemColumns
) -> list[dict[str, Any]]:
    """The first interactions with their items, whose titles the whole items file is read for."""
    rows, variants = dict[str, int](), dict[str, int]()
    titles: dict[str, str | None] = {}
    wanted = [name for name in (named.item_id, items.variants, named.title) if name is not None]
    for read in items.batches(list(dict.fromkeys(wanted)), _BATCH, None, [named.item_id]):
        nothing = [None] * len(read)
        lists = nothing if items.variants is None else read.batch[items.variants].to_pylist()
        names = nothing if named.title is None else as_strings(read.batch[named.title]).to_pylist()
        for own, others, name in zip(read.batch[named.item_id].to_pylist(), lists, names, strict=True):
            if own is not None:  # of an id that comes twice the first
                titles.setdefault(own, name)
                row = rows.setdefault(own, len(rows))
                for one in others or ():
                    variants.setdefault(one, row)
    ids = ItemIds(IdMap(rows), list(variants), list(variants.values()))
    columns = log_columns(settings.interactions, log, named.item_id)
    shown: list[dict[str, Any]] = []
    for read, values in InteractionReader(log, columns, settings.interactions, ids, Rejects(Path())).batches(SILENT):
        batch = read.batch.slice(0, ROWS - len(shown))
        bought = of_items(batch[columns.item_id], ids).to_pylist()
        found: dict[str, list[Any]] = {"row": read.numbers[: len(batch)].tolist()}
        found |= {"user_id": batch[columns.user_id].to_pylist(), "item_id": bought}
        found["title"] = [titles.get(item) for item in bought]
        if columns.timestamp is not None:
            moments = (datetime.fromtimestamp(int(micros) / 1e6, UTC) for micros in values["micros"][: len(batch)])
            found["written"] = as_strings(batch[columns.timestamp]).to_pylist()
            found["time"] = [moment.isoformat() for moment in moments]
        if columns.weight is not None:
            found["weight"] = values["weight"][: len(batch)].tolist()
        if columns.event is not None:
            found["event"] = as_strings(batch[columns.event]).to_pylist()
        shown += [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
        if len(shown) >= ROWS:
            break
    return shown
