"""Vectors of users that the live generation has, for those of whom nothing has changed since.

A user's dense vector follows from the towers, the way a history is read, and what the model knows of the history's
items. Where towers and reading are what they were, who had the same items at the same times, none of which looks
different now, has the same vector.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from molar_indexes.encoder import carried
from molar_indexes.generations import Generation, open_generation
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import MissingArtefactError, StaleArtefactError
from molar_retrieval.ids import IdMap
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.store import open_model
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

_SAME = 1e-5
"""Numbers that differ by less are the same, computed in another order."""
_TABLE = "items.collaborative.weight"


@dataclass(frozen=True, eq=False)
class FormerUsers:
    """The users of the live generation, over the items of the present catalogue.

    ``rows`` says where each item of the generation is now, -1 where it is gone; ``same`` which items of now look as
    they did, shape (n_items,).
    """

    generation: Generation
    rows: Rows
    same: Mask

    @classmethod
    def of(cls, workspace: Workspace, model: Ensemble, ids: IdMap) -> Self | None:
        """Those of the live generation; None where there is none, or users are read in another way now."""
        with ExitStack() as stack:
            try:
                generation = stack.enter_context(open_generation(workspace))
                own = carried(generation.folder)
                if own is None or not _reads_as(former := open_model(own), model):
                    return None
                former_ids = IdMap(generation.table.item_ids())
            except (MissingArtefactError, StaleArtefactError):  # none, of another molar, or damaged
                return None
            same = _same(former, model, former_ids.rows(ids.array).astype(np.int64))
            stack.pop_all()
        return cls(generation, ids.rows(former_ids.array).astype(np.int64), same)

    def close(self) -> None:
        """Let the generation go."""
        self.generation.close()

    def vectors(self, log: Interactions, rows: Rows, ids: Sequence[str]) -> dict[int, Any]:
        """The vectors that some users had and have, by their rows in the log."""
        found: dict[int, Any] = {}
        for row, user_id in zip(rows.tolist(), ids, strict=True):
            own = slice(log.offsets[row], log.offsets[row + 1])
            record = self.generation.users.keyed(user_id)
            if record is None or len(record.history) != own.stop - own.start:
                continue
            items = log.item[own]
            had, times = np.asarray(record.history, np.int64), np.asarray(record.times, np.int64)
            if (self.rows[had] == items).all() and (times == log.timestamp[own]).all() and self.same[items].all():
                found[row] = np.asarray(record.vector, np.float32)
        return found


def _reads_as(former: Ensemble, model: Ensemble) -> bool:
    """Whether both read a history in the same way, whatever they know of its items."""
    if former.own or model.own:  # what they make of a history may depend on all items
        return False
    before, now = former.network.state_dict(), model.network.state_dict()
    if before.keys() != now.keys() or former.network.shapes != model.network.shapes:
        return False
    towers = all(torch.equal(before[name], now[name]) for name in now if name != _TABLE)
    one, other = former.content_knn, model.content_knn
    taste = (None if k is None else (k.decay, k.last, k.dim) for k in (one, other))
    return towers and len(set(taste)) == 1 and former.dense_parts == model.dense_parts


def _same(former: Ensemble, model: Ensemble, rows: Rows) -> Mask:
    """Which items of now look as they did; ``rows`` says where each was, -1 where it was not, shape (n_items,)."""
    same: Mask = rows >= 0
    for before, now in zip(_items(former), _items(model), strict=True):
        same &= np.abs(before[rows] - now).max(axis=1, initial=0) <= _SAME
    return same


def _items(model: Ensemble) -> list[Matrix]:
    """All that a model knows of items when it reads a history."""
    table = model.network.state_dict().get(_TABLE)
    found = [model.features] + ([] if table is None else [table.numpy()])
    return found + ([] if model.content_knn is None else [model.content_knn.items])
