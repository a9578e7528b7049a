"""What items say of themselves: as an index stores it, and what is too ordinary to be told."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow.compute as pc

from molar_retrieval import columns
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.values import is_list

_BATCH = 4096


def payloads(catalogue: Catalogue) -> Iterator[tuple[str, dict[str, Any]]]:
    """The id and the payload of every item, in order; what is missing is left out."""
    shown = [columns.ITEM_ID, columns.TITLE, *(f for f in catalogue.fields if f != columns.TITLE)]
    for batch in catalogue.batches(shown, _BATCH):
        for record in batch.to_pylist():
            item_id = record.pop(columns.ITEM_ID)
            yield item_id, {name: value for name, value in record.items() if value is not None and value != []}


def ordinary(catalogue: Catalogue) -> dict[str, list[str]]:
    """Values that most items have, by keyword field."""
    fields = [name for name, kind in catalogue.fields.items() if kind == "keyword"]
    counts: dict[str, Counter[str]] = {name: Counter() for name in fields}
    for batch in catalogue.batches(fields, _BATCH) if fields else ():
        for name, column in zip(fields, batch.columns, strict=True):
            flat = pc.list_flatten(column) if is_list(column.type) else column
            counts[name].update({entry["values"].as_py(): entry["counts"].as_py() for entry in pc.value_counts(flat)})
    most = len(catalogue) / 2
    return {name: [value for value, count in found.items() if value and count > most] for name, found in counts.items()}
