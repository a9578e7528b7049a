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
from molar_retrieval.data.schema import find_table, items_source, resolve
from molar_retrieval.data.values import as_strings
from molar_retrieval.data.variants import ItemIds, of_items
from molar_retrieval.ids import IdMap
from molar_retrieval.progress import SILENT

ROWS = 10
_BATCH = 65_536


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
    reader = ItemReader(source, spec, folder, Rejects(Path()))
    head = reader.head(ROWS)
    columns = [name for name in head.schema.names if name != "text"]
    items = head.select(columns).to_pylist()
    kinds = {field.name: _kind(field.type) for field in head.schema if field.name not in _FIXED}
    kept = {name: kind for name, kind in kinds.items() if name not in spec.items.attributes}
    rows = _log_rows(proposal, spec.items.item_id, spec.items.title)
    return Preview(items, rows, spec.items.attributes, kept, dict(spec.ambiguous_columns))


_FIXED = (ITEM_ID, TITLE, DESCRIPTION, IMAGE, "text")


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return "several words"
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return "numbers" if numbers else "yes or no" if pa.types.is_boolean(kind) else "words"


def _log_rows(proposal: InferredSchema, item_id: str, title: str | None) -> list[dict[str, Any]]:
    settings, folder = proposal.settings, proposal.folder
    source = find_table(folder, "interactions", settings)
    if source is None:
        return []
    asked = settings.interactions
    columns = log_columns(asked, source, item_id)
    ids, titles = _ids(items_source(folder, settings), item_id, title)
    reader = InteractionReader(source, columns, asked, ids, Rejects(Path()))
    shown: list[dict[str, Any]] = []
    for rows, values in reader.batches(SILENT):
        users = rows.batch[columns.user_id].to_pylist()
        taken = of_items(rows.batch[columns.item_id], ids).to_pylist()
        for place in range(min(len(users), ROWS - len(shown))):
            row: dict[str, Any] = {"row": int(rows.numbers[place]), "user_id": users[place], "item_id": taken[place]}
            row["title"] = titles.get(taken[place])
            if columns.timestamp is not None:
                row["written"] = as_strings(rows.batch[columns.timestamp].slice(place, 1))[0].as_py()
                row["time"] = datetime.fromtimestamp(int(values["micros"][place]) / 1e6, UTC).isoformat()
            if columns.weight is not None:
                row["weight"] = float(values["weight"][place])
            if columns.event is not None:
                row["event"] = as_strings(rows.batch[columns.event].slice(place, 1))[0].as_py()
            shown.append(row)
        if len(shown) >= ROWS:
            break
    return shown


def _ids(source: TableReader, item_id: str, title: str | None) -> tuple[ItemIds, dict[str, str | None]]:
    """The ids of items and variants, and the titles of items; of an id that comes twice the first."""
    rows: dict[str, int] = {}
    titles: dict[str, str | None] = {}
    variants: dict[str, int] = {}
    columns = [name for name in (item_id, source.variants, title) if name is not None]
    for read in source.batches(list(dict.fromkeys(columns)), _BATCH, None, [item_id]):
        nothing = [None] * len(read)
        lists = nothing if source.variants is None else read.batch[source.variants].to_pylist()
        names = nothing if title is None else as_strings(read.batch[title]).to_pylist()
        for own, others, name in zip(read.batch[item_id].to_pylist(), lists, names, strict=True):
            if own is not None:
                titles.setdefault(own, name)
                row = rows.setdefault(own, len(rows))
                variants.update((one, row) for one in others or () if one not in variants)
    return ItemIds(IdMap(rows), list(variants), list(variants.values())), titles
