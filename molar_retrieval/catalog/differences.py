"""What one prepared catalogue has that another has not: items that came, went or have other values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.catalog.catalogue import ITEMS_FILE
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.reports.wording import plural

_DERIVED = (ITEM_ID, "text")


@dataclass(frozen=True)
class Differences:
    """Between two states of a catalogue.

    Attributes:
        new: Items that came.
        gone: Items that are not there any more.
        changed: How many of the others have another value, by column.
        moved: Whether any of the others stands at another place.
    """

    new: int = 0
    gone: int = 0
    changed: Mapping[str, int] = field(default_factory=dict)
    moved: bool = False

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.changed or self.moved)

    def in_words(self) -> str:
        """What has changed, or nothing."""
        said = [plural(self.new, "new item")] if self.new else []
        said += [f"{plural(self.gone, 'item')} gone"] if self.gone else []
        said += [f"another {name} of {plural(count, 'item')}" for name, count in self.changed.items()]
        return ", ".join(said) or ("another order of items" if self.moved else "")


def items_of(version: Path) -> pa.Table:
    """The table of a version of the ``catalogue`` artefact, read into memory: the version may go meanwhile."""
    return pq.read_table(version / ITEMS_FILE, use_threads=False, memory_map=False)


def differences(before: pa.Table, after: pa.Table) -> Differences:
    """Compare two tables of items by their ids; columns that only one has differ where they have values."""
    place = pc.index_in(after[ITEM_ID].combine_chunks(), value_set=before[ITEM_ID].combine_chunks())
    old_rows = place.drop_null()
    new_rows = np.flatnonzero(np.asarray(pc.is_valid(place)))
    left, right = before.take(old_rows), after.take(pa.array(new_rows))
    changed = {}
    for name in dict.fromkeys([*before.column_names, *after.column_names]):
        if name not in _DERIVED and (count := _differing(name, left, right)):
            changed[name] = count
    order = np.asarray(old_rows)
    counts = len(after) - len(order), len(before) - len(order)
    return Differences(*counts, changed, bool((np.diff(order) < 0).any()))


def _differing(name: str, left: pa.Table, right: pa.Table) -> int:
    one, other = (table[name] if name in table.column_names else None for table in (left, right))
    if one is None or other is None:
        only = other if one is None else one
        return 0 if only is None else len(only) - only.null_count
    if one.equals(other):
        return 0
    pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
    return sum(old != new for old, new in pairs)
