"""Lines of the event log as figures read them: what is said of a variant counts for its item."""

from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data.event_log_reader import EventLogSnapshot
from molar_retrieval.data.variants import FILE_NAME, VariantFile
from molar_retrieval.workspace.artefacts import Workspace

_opened = lru_cache(maxsize=2)(VariantFile)


def by_item(state: EventLogSnapshot, table: pa.Table) -> pa.Table:
    """Lines with the id of an item in place of that of its variant, by the workspace's catalogue of now."""
    version: Path | None = Workspace(state.root)["catalogue"].current
    if version is None or not (version / FILE_NAME).exists() or "item_id" not in table.column_names:
        return table
    ids = table["item_id"].combine_chunks()
    known = pc.unique(ids.drop_null())
    items = pa.array(_opened(version / FILE_NAME).items(known.to_pylist()), pa.string())
    found = pc.coalesce(items.take(pc.index_in(ids, known)), ids)
    return table.set_column(table.column_names.index("item_id"), "item_id", found)
