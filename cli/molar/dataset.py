"""A data set in memory: interactions and, where there is a table of items, what their texts and attributes say."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from molar.base import plain_errors

if TYPE_CHECKING:
    from molar_eval.cases import Scores
    from molar_retrieval.data import interactions as log
    from molar_retrieval.models.protocol import Histories
    from molar_retrieval.workspace.artefacts import Workspace

_COMPONENTS = 256  # of the lexical features


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Interactions in memory, as :func:`molar.evaluate` and splits take them.

    Made of tables by :meth:`from_frames`, of a shop by ``shop.dataset()``.

    Attributes:
        log: All interactions by user, oldest first, with the ids of users and items.
        content: Content vectors, one row per item, of length 1 or 0, shape (n_items, dim); None: there are none.
        words: Lexical features of the items' texts and attributes, likewise; None: there is no table of items.
    """

    log: "log.Interactions"
    content: "Scores | None" = None
    words: "Scores | None" = None

    @classmethod
    @plain_errors
    def from_frames(cls, interactions: Any, items: Any = None, *, columns: Mapping[str, str] | None = None) -> Self:
        """A data set of tables: pandas, polars or pyarrow, rows as dictionaries, a dictionary of columns, or a file.

        Tables are read as those of a shop are: exact repetitions count once; rows that cannot be used are left out, and
        a warning says how many and why.

        Args:
            interactions: One row per interaction: ``user_id``, ``item_id``, ``timestamp`` and perhaps ``weight``.
            items: One row per item: ``item_id`` and its texts and attributes, which models of content read. Items
                without interactions are ranked as well. None: the items that occur in the interactions.
            columns: Names of the interactions' columns where they are others, by role:
                ``{"user_id": "customer", "timestamp": "ordered_at"}``.

        Raises:
            DataError: If a table cannot be read, has no ids, or none of its rows can be used.
        """
        from molar.tables import INTERACTIONS, ITEMS, write_catalogue
        from molar_retrieval.models.content_features import words_alone
        from molar_retrieval.workspace.artefacts import scratch_workspace

        named = dict(columns or {})
        with tempfile.TemporaryDirectory(prefix="molar-dataset-") as place:
            folder = Path(place, "catalog")
            tables = {ITEMS: _items_of(interactions, named) if items is None else items, INTERACTIONS: interactions}
            write_catalogue(folder, tables, None, {INTERACTIONS: named} if named else None)
            with scratch_workspace(Path(place, ".molar"), folder) as workspace:
                log = _read(workspace)
                words = None if items is None else words_alone(_catalogue(workspace), _COMPONENTS)
        return cls(log, words=words)

    @property
    def interactions(self) -> "Histories":
        """The interactions as arrays, as models see them; ``len`` is the number of users."""
        from molar_retrieval.models.protocol import Histories

        return Histories.of(self.log)

    @property
    def item_ids(self) -> Sequence[str]:
        """The items' ids, in the order of their rows."""
        ids: list[str] = self.log.items.array.to_pylist()
        return ids

    @property
    def user_ids(self) -> Sequence[str]:
        """The users' ids, in the order of their rows."""
        ids: list[str] = self.log.users.array.to_pylist()
        return ids

    def __repr__(self) -> str:
        log = self.log
        return f"Dataset({len(log):,} interactions, {log.n_users:,} users, {log.n_items:,} items)"


def _read(workspace: "Workspace") -> "log.Interactions":
    from molar_retrieval.data.prepare import prepare_catalogue
    from molar_retrieval.data.prepare_interactions import prepare_interactions
    from molar_retrieval.models.als import open_log

    made = (prepare_catalogue(workspace.catalogue, workspace), prepare_interactions(workspace.catalogue, workspace))
    for table, manifest in zip(("items", "interactions"), made, strict=True):
        if manifest.facts.get("rejects"):
            kinds = ", ".join(f"{n:,} × {kind}" for kind, n in manifest.facts["rejects_by_kind"].items())
            warnings.warn(f"{table}: rows left out: {kinds}", stacklevel=4)
    return open_log(workspace)


def of_workspace(workspace: "Workspace", components: int) -> "tuple[log.Interactions, Scores, Scores]":
    """Interactions of the strongest kind, content vectors and lexical features of a workspace."""
    from molar_retrieval.embedding import ContentVectors
    from molar_retrieval.models import content_features
    from molar_retrieval.models.als import open_log

    found = ContentVectors.open(workspace["content"].require()[0])
    fitted = content_features.fit(found.vectors, found.blocks, components, ready=found.conditioned)
    words = content_features.words_alone(_catalogue(workspace), components)
    return open_log(workspace).strongest, fitted(found.vectors), words


def _catalogue(workspace: "Workspace") -> Any:
    from molar_retrieval.data.catalogue import Catalogue

    return Catalogue(*workspace["catalogue"].require())


def _items_of(interactions: Any, columns: Mapping[str, str]) -> Any:
    """A table of the items that occur in a table of interactions."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from molar.tables import INTERACTIONS, as_table
    from molar_retrieval.data.column_names import LOG_ITEM_ID, well_known
    from molar_retrieval.data.schema import open_source
    from molar_retrieval.data.values import as_strings
    from molar_retrieval.errors import DataError

    file = open_source(Path(interactions)) if isinstance(interactions, str | Path) else None
    table = None if file is not None else as_table(interactions, INTERACTIONS)
    names = table.column_names if table is not None else file.names if file is not None else []
    name = columns.get("item_id") or well_known(LOG_ITEM_ID, names)
    if name is None or name not in names:
        raise DataError(
            f"the interactions have no column {name or 'item_id'!r}; their columns are {', '.join(names)}",
            'say which it is: columns={"item_id": "…"}',
        )
    read = [] if table is None else table[name].chunks
    if file is not None:
        read = [rows.batch[0] for rows in file.batches([name], 100_000, None, [name])]
    ids = pc.unique(pa.chunked_array([as_strings(part).cast(pa.large_string()) for part in read], pa.large_string()))
    return pa.table({"item_id": ids.drop_null()})
