"""The counting experts of a trained alignment over the present log: with their settings, nothing is searched.

Which interactions count: validation has chosen settings and weights without those that it held out, so an expert that
ships may count all of them, as the served trend and the users' vectors do. Of a very large log it does not do so before
the next update: they are few there, and counting takes a quarter of the training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts import linear
from molar_retrieval.experts.block_ease import BlockEASE
from molar_retrieval.experts.column_blocks import FollowedInBlocks
from molar_retrieval.experts.column_shards import Counting
from molar_retrieval.experts.company import FewPairs
from molar_retrieval.experts.fit import (
    BLOCK_EASE,
    EASE,
    ITEM_KNN,
    REGRESSION,
    SEQUENCE,
    Setting,
    block_ease,
    ease,
    item_neighbours,
    order,
    sequence,
)
from molar_retrieval.experts.histories import countable, known_items
from molar_retrieval.experts.item_item import ItemItemWeights
from molar_retrieval.experts.linear import EASECounts
from molar_retrieval.experts.sums import PairSums, changed_users
from molar_retrieval.experts.taken import Taken, many_pairs
from molar_retrieval.workspace.tensors import Rows

SUMS = "sums.safetensors"
_LARGEST = 4 << 30
"""Bytes of sums that are kept; above, the log is counted anew."""
_LITTLE = 1000
"""Of so many interactions one is little."""


@dataclass(frozen=True, eq=False)
class Recounted:
    """Item-item experts over a log, what they were counted from, and whether by changes alone.

    ``left`` names those that stay as they were, with the reason, because the log is too large for their model by now.
    Where there may be too many pairs of items to have all of them in memory, there are no ``sums``: all is counted.
    """

    item_item: tuple[ItemItemWeights, ...]
    sums: PairSums
    changed: int | None  # users whose histories were counted; None: all of them
    left: Mapping[str, str]


def as_trained(
    log: Interactions, before: Interactions, training: int, former: Sequence[ItemItemWeights], rows: Rows
) -> Recounted | None:
    """The experts as training has counted them; None where counting again is worth it.

    It is not where pairs are counted in blocks, nothing has come since the log ``before``, which training has seen, and
    of the ``training`` interactions that were counted less than a thousandth is missing, which validation held out.
    ``rows`` as of :func:`recount`.
    """
    little = (len(log) - training) * _LITTLE < len(log)
    if not (little and many_pairs(log)) or any(map(len, changed_users(before, log, rows))):
        return None
    return Recounted(tuple(one.moved(rows, log.n_items) for one in former), PairSums(), 0, {})


def recount(
    log: Interactions,
    chosen: Mapping[str, Setting],
    partners: int,
    former: Sequence[ItemItemWeights],
    base: tuple[PairSums, Interactions] | None,
    rows: Rows,
    least: int = 1,
    counting: Counting | None = None,
) -> Recounted:
    """Count the experts with the settings ``chosen`` by name, keeping so many ``partners`` of each item.

    ``base`` are sums and the log that they are of, of which only changes are counted; None: everything is. ``rows``
    says where each item of that log, and of the ``former`` experts, is now, -1 where it is gone. No pair rests on fewer
    people than ``least``. ``counting`` makes what is made in blocks, None: this process.
    """
    if base is not None and not any(map(len, changed_users(base[1], log, rows))):
        return _moved(log, chosen, partners, former, base[0], rows, least, counting)
    names = [one.name for one in former]
    left = {name: note for name in names if (note := _too_many(chosen[name], log))}
    sums, changed = _summed(log, {n: chosen[n] for n in names if n not in left}, base, rows, together=least > 1)
    few = FewPairs.of(countable(log), least, sums)

    @cache
    def whole() -> EASECounts:
        pairs = sums.together
        return EASECounts.of(countable(log)) if pairs is None else EASECounts.of_sums(pairs, known_items(log))

    item_item = []
    for one in former:
        setting = chosen[one.name]
        if one.name in left:
            item_item.append(one.moved(rows, log.n_items))
        elif one.name == SEQUENCE:
            counted = sums.followed
            if counted is None:
                counted = FollowedInBlocks(log, *order(setting))
            item_item.append(sequence(log, counted, setting, partners, few, counting))
        elif setting["model"] == EASE:
            item_item.append(ease(whole(), setting, partners, log.n_items, few))
        elif setting["model"] == BLOCK_EASE:
            blocks = BlockEASE.of(Taken.of(countable(log)), setting["neighbours"])
            item_item.append(block_ease(blocks, setting, partners, least, counting))
        else:
            item_item.append(item_neighbours(countable(log), setting, partners, few, counting))
    return Recounted(tuple(item_item), sums, changed, left)


def _moved(
    log: Interactions,
    chosen: Mapping[str, Setting],
    partners: int,
    former: Sequence[ItemItemWeights],
    sums: PairSums,
    rows: Rows,
    least: int,
    counting: Counting | None,
) -> Recounted:
    """The experts where no history has changed: only items with interactions enter, and these are what they were.

    Item neighbours are the exception, as they weigh a history by its share of all items.
    """
    if len(rows) == log.n_items and (rows == np.arange(log.n_items)).all():
        return Recounted(tuple(former), sums, 0, {})
    now = sums.moved(rows, log.n_items)
    again = any(chosen[one.name]["model"] == ITEM_KNN for one in former)
    few = FewPairs.of(countable(log), least, now) if again else None
    item_item = [
        item_neighbours(countable(log), chosen[one.name], partners, few, counting)
        if chosen[one.name]["model"] == ITEM_KNN
        else one.moved(rows, log.n_items)
        for one in former
    ]
    return Recounted(tuple(item_item), now, 0, {})


def _too_many(setting: Setting, log: Interactions) -> str | None:
    known = int(known_items(log).sum())
    if setting["model"] not in (EASE, REGRESSION) or known <= linear.MAX_ITEMS:
        return None
    return f"{known:,} items have interactions, and {setting['model']} takes {linear.MAX_ITEMS:,}"


def _summed(
    log: Interactions,
    chosen: Mapping[str, Setting],
    base: tuple[PairSums, Interactions] | None,
    rows: Rows,
    *,
    together: bool,
) -> tuple[PairSums, int | None]:
    together = together or any(setting["model"] == EASE for setting in chosen.values())
    window, decay, fade = order(chosen.get(SEQUENCE, {"window": 0, "decay": 0.0}))
    if (window and many_pairs(log, window)) or (together and many_pairs(log)):
        return PairSums(), None
    if base is not None:
        sums, before = base
        asked = (window, decay, fade, bool(window), together)
        has = (sums.window, sums.decay, sums.fade, sums.followed is not None, sums.together is not None)
        if asked == has and all(len(countable(one)) == len(one) for one in (before, log)):
            old, new = changed_users(before, log, rows)
            return sums.with_changes(before.of_users(old), log.of_users(new), rows), len(new)
    return PairSums.of(log, window=window, decay=decay, fade=fade, together=together), None


def save_sums(sums: PairSums, version: Path) -> None:
    """Keep the sums with the alignment, unless they are very large."""
    if sums.size <= _LARGEST:
        save_file(sums.to_tensors(), version / SUMS)


def open_sums(version: Path) -> PairSums | None:
    """The sums that an alignment was counted from, where they were kept."""
    path = version / SUMS
    return PairSums.of_tensors(load_file(path)) if path.exists() else None
