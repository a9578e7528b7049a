"""The item-item models of a trained alignment, fitted again to the present log; nothing is searched.

Which interactions count: validation has chosen settings and weights without those that it held out, so a model that
ships may count all of them, as the served popularity and the users' vectors do. Of a very large log it does not do so
before the next update: they are few there, and counting takes a quarter of the training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts import linear
from molar_retrieval.experts.company import FewPairs
from molar_retrieval.experts.fit import EASE, ITEM_KNN, REGRESSION, Setting, again
from molar_retrieval.experts.histories import countable, known_items
from molar_retrieval.experts.item_item import ItemItemWeights
from molar_retrieval.experts.taken import many_pairs
from molar_retrieval.workspace.tensors import Rows

_LITTLE = 1000
"""Of so many interactions one is little."""


@dataclass(frozen=True, eq=False)
class Recounted:
    """Item-item models over a log.

    ``left`` names those that stay as they were, with the reason, because the log is too large for their model by now.
    """

    item_item: tuple[ItemItemWeights, ...]
    left: Mapping[str, str]


def counts_nearly_all(log: Interactions, training: int) -> bool:
    """Whether models of so many ``training`` interactions of a log are not worth counting again.

    They are not where pairs are counted in blocks and less than a thousandth of the interactions is missing.
    """
    return (len(log) - training) * _LITTLE < len(log) and many_pairs(log)


def same_histories(before: Interactions, after: Interactions, rows: Rows) -> bool:
    """Whether the histories of two logs are equal; ``rows`` says where each item is now, -1 where it is gone."""
    if not (before.users.array.equals(after.users.array) and np.array_equal(before.offsets, after.offsets)):
        return False
    strengths = [np.float32(1) if log.strength is None else log.strength for log in (before, after)]
    same = np.array_equal(rows[before.item], after.item) and np.array_equal(before.timestamp, after.timestamp)
    return same and bool(np.all(strengths[0] == strengths[1]))


def recount(
    log: Interactions,
    chosen: Mapping[str, Setting],
    partners: int,
    former: Sequence[ItemItemWeights],
    rows: Rows,
    least: int = 1,
    folder: Path | None = None,
    *,
    unchanged: bool = False,
) -> Recounted:
    """Count the models with the settings ``chosen`` by name, keeping so many ``partners`` of each item.

    ``rows`` says where each item of the ``former`` models is now, -1 where it is gone. Where the histories are
    ``unchanged`` since these were counted, only item neighbours are counted again, as they weigh a history by its share
    of all items. No pair rests on fewer people than ``least``. Large weights are mapped from files in ``folder``,
    None: in memory.
    """
    left = {one.name: note for one in former if (note := _too_many(chosen[one.name], log))}
    same_items = np.array_equal(rows, np.arange(log.n_items))
    kept = {
        one.name
        for one in former
        if one.name in left or (unchanged and (same_items or chosen[one.name]["model"] != ITEM_KNN))
    }
    few = None if len(kept) == len(former) else FewPairs.of(countable(log), least)
    item_item = tuple(
        one.moved(rows, log.n_items)
        if one.name in kept
        else again(one.name, log, chosen[one.name], partners, few, folder)
        for one in former
    )
    return Recounted(item_item, left)


def _too_many(setting: Setting, log: Interactions) -> str | None:
    known = int(known_items(log).sum())
    if setting["model"] not in (EASE, REGRESSION) or known <= linear.MAX_ITEMS:
        return None
    return f"{known:,} items have interactions, and {setting['model']} takes {linear.MAX_ITEMS:,}"
