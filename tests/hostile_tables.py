"""Small catalogues made of hostile columns, and the way of them through every step that reads tables."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.errors import MolarError
from molar_retrieval.models.als import factorise
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings

N, ROWS = 30, 240


def write_items(folder, n=N, **columns):
    """``n`` items with ids ``i0`` …; further columns, or other ids and titles."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {"item_id": [f"i{k}" for k in range(n)], "title": [f"thing {k}" for k in range(n)]}
    pq.write_table(pa.table({**plain, **columns}), folder / "items.parquet")


def write_log(folder, n=N, rows=ROWS, **columns):
    """Interactions of 40 users with ``n`` items; further columns, or other ones."""
    random = np.random.default_rng(1)
    plain = {
        "user_id": [f"u{k % 40}" for k in range(rows)],
        "item_id": [f"i{k}" for k in random.integers(0, n, rows)],
        "timestamp": 1_600_000_000 + np.arange(rows) * 3600,
    }
    pq.write_table(pa.table({**plain, **columns}), folder / "interactions.parquet")


class Way:
    """A catalogue on its way; every step succeeds or raises a MolarError."""

    def __init__(self, folder):
        self.folder = folder
        self.workspace = Workspace.for_catalogue(folder.parent / f".{folder.name}", folder)
        instant = {"preset": "instant", "device": "cpu", "threads": 1}
        self.settings = MolarSettings.load(folder.parent, environ={}, flags={"align": instant})

    def catalogue(self):
        return prepare_catalogue(self.folder, self.workspace)

    def log(self):
        return prepare_interactions(self.folder, self.workspace)

    def check(self):
        from molar_retrieval.quality.check import check

        return check(self.folder, self.workspace, self.settings, photos=False)

    def factors(self):
        return factorise(self.workspace, self.settings.als, self.settings.split)

    def instant(self):
        from molar_retrieval.embedding import embed
        from molar_retrieval.models.alignment import align

        ids = Catalogue.open(self.workspace["catalogue"].require()[0]).ids.array.cast(pa.string())
        vectors = np.random.default_rng(0).normal(size=(len(ids), 8)).astype(np.float32)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8)
        file = self.folder.parent / "vectors.parquet"
        pq.write_table(pa.table({"item_id": ids, "vector": lists}), file)
        embed(self.workspace, self.settings.embed, vectors=file)
        return align(self.workspace, self.settings)

    def all(self):
        """What each step said: None, or the error meant for people, after which no further step is taken."""
        said = {}
        for step in (self.check, self.catalogue, self.log, self.factors, self.instant):
            said[step.__name__] = None
            try:
                step()
            except MolarError as error:
                said[step.__name__] = error
                break
        assert all(error is None or (error.message and error.hint) for error in said.values())
        return said

    def rejects(self, kind):
        """File, row and reason of what was set aside."""
        table = pq.read_table(self.workspace[kind].require()[0] / "rejects.parquet")
        return [(row["file"], row["row"], row["reason"]) for row in table.to_pylist()]


def garbled(count, values=b"\xff\xfe"):
    """Strings that are not UTF-8."""
    offsets = pa.py_buffer(np.arange(count + 1, dtype=np.int32) * len(values))
    return pa.Array.from_buffers(pa.string(), count, [None, offsets, pa.py_buffer(values * count)])
