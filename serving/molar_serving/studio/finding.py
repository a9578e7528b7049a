"""Items and their titles, found by what somebody types."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from molar_retrieval.columns import ITEM_ID, TITLE
from molar_retrieval.workspace.artefacts import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 60
"""Items that are found at most."""


@dataclass(frozen=True)
class FoundItem:
    """An item of the catalogue: its id, and its title or None."""

    item_id: str
    title: str | None


def find_items(workspace: Workspace, typed: str, most: int = MOST) -> list[FoundItem]:
    """Items whose id or title has what was typed in it, in any case; those whose id it is come first."""
    import pyarrow.compute as pc

    if (version := workspace["catalogue"].current) is None:
        return []
    table, typed = _titles(version), typed.strip()
    ids, titles = table[ITEM_ID], table[TITLE]
    if typed:
        exact = pc.equal(ids, typed)
        near = [pc.match_substring(column, typed, ignore_case=True) for column in (ids, titles)]
        like = pc.and_not(pc.or_(near[0], pc.fill_null(near[1], False)), exact)
        rows = [*table.filter(exact).to_pylist(), *table.filter(like).slice(0, most).to_pylist()]
    else:
        rows = table.slice(0, most).to_pylist()
    return [FoundItem(row[ITEM_ID], row[TITLE]) for row in rows[:most]]


@lru_cache(maxsize=2)
def _titles(version: Path) -> "pa.Table":
    import pyarrow.parquet as pq

    from molar_retrieval.data.catalogue import ITEMS_FILE

    return pq.read_table(version / ITEMS_FILE, columns=[ITEM_ID, TITLE])
