"""What the tests of the importers share: a catalogue folder as the next steps of molar see it."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.workspace.artefacts import Workspace


@dataclass(frozen=True)
class Prepared:
    """A catalogue after `prepare_catalogue` and `prepare_interactions`.

    `items` are its rows by id, `histories` the (item, second) pairs of each user in the order of the log.
    """

    items: dict
    histories: dict
    facts: dict
    log_facts: dict
    attributes: tuple


def prepared(folder: Path) -> Prepared:
    """Run both steps on a catalogue, in a workspace beside it."""
    workspace = Workspace.for_catalogue(folder.parent / f"work-{folder.name}", folder)
    facts = prepare_catalogue(folder, workspace).facts
    log_facts = prepare_interactions(folder, workspace).facts
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    columns = ["item_id", "title", "description", "image", "text", *catalogue.payload]
    rows = [row for batch in catalogue.batches(columns, 100) for row in batch.to_pylist()]
    log = Interactions.open(workspace["interactions"].require()[0], catalogue.ids)
    histories = defaultdict(list)
    for user, item, second in zip(log.user.tolist(), log.item.tolist(), log.timestamp.tolist(), strict=True):
        histories[log.users.id(user)].append((catalogue.ids.id(item), second))
    return Prepared({r["item_id"]: r for r in rows}, dict(histories), facts, log_facts, catalogue.attributes)


def rejects(folder: Path) -> list:
    """(file, row, item, reason) of each row that an import left out."""
    return [tuple(row.values()) for row in pq.read_table(folder / "rejects.parquet").to_pylist()]


def photo(path: Path, colour: str = "red") -> Path:
    """Draw a small photo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path)
    return path
