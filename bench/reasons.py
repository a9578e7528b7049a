"""Are the reasons true? The deletion test, on a workspace with a live generation.

For the first recommended item of each of some users, the history item that the reason names first is taken out of the
history, the user is encoded anew, and the item's score falls by some amount; likewise for another item of the history
drawn at random. A reason that names what carried the item makes the score fall more.

    python bench/reasons.py path/to/workspace --cases 1000
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molar_indexes.recommender import Recommender
from molar_retrieval import rng
from molar_retrieval.alignment.model import AlignedModel
from molar_retrieval.alignment.store import open_model
from molar_retrieval.collaborative.factors import open_log
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions import InteractionLog
from molar_retrieval.ranking.evidence import gather
from molar_retrieval.workspace import Workspace

Rows = npt.NDArray[np.int64]
_FEWEST = 5
_BATCH = 500


def without(log: InteractionLog, users: Rows, items: Sequence[int | None]) -> InteractionLog:
    """The users' histories, each without one item wherever it occurs; all asked now."""
    kept = []
    for user, item in zip(users, items, strict=True):
        rows = np.arange(log.offsets[user], log.offsets[user + 1])
        kept.append(rows[log.item[rows] != item] if item is not None else rows)
    rows = np.concatenate(kept)
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in kept])])
    names = IdMap([str(number) for number in range(len(users))])
    return replace(
        log,
        users=names,
        offsets=offsets,
        item=log.item[rows],
        timestamp=log.timestamp[rows],
        weight=None,
        asked_at=None,
    )


def scores(model: AlignedModel, log: InteractionLog, wanted: Rows) -> npt.NDArray[np.float32]:
    """The score of one item for each history."""
    found = []
    for begin in range(0, log.n_users, _BATCH):
        rows = np.arange(begin, min(begin + _BATCH, log.n_users))
        found.append(model.scores(log.of_users(rows))[np.arange(len(rows)), wanted[rows]])
    return np.concatenate(found)


def deletion(path: Path, count: int, seed: int = 0) -> dict[str, float]:
    """Share of the cases in which the named item matters more than a random one, and by how much scores fall."""
    workspace = Workspace.open(path)
    log = open_log(workspace)
    model = open_model(workspace["alignment"].require()[0]).seeing(log)
    random = rng.generator(seed, "deletion test")
    able = np.flatnonzero(np.diff(log.offsets) >= _FEWEST)
    users = np.sort(random.choice(able, min(count, len(able)), replace=False))
    named, others, wanted, kept = [], [], [], []
    with Recommender.open(path) as recommender:
        table, store = recommender.generation.table, recommender.generation.users
        for user in users:
            record = store.get(log.users.id(int(user)))
            (listing,) = recommender.rank_many([record], 1, rerank=False, rules=False)
            row = listing.places[0].row
            (evidence,) = gather(table.items, table.origins, record.vector, record.sparse, record.history, [row])
            rest = [
                item
                for item in set(log.history(int(user)).tolist())
                if evidence.history and item != evidence.history[0][0]
            ]
            if evidence.history and rest:
                kept.append(user)
                named.append(evidence.history[0][0])
                others.append(int(random.choice(rest)))
                wanted.append(row)
    chosen, items = np.array(kept), np.array(wanted)
    whole = scores(model, without(log, chosen, [None] * len(chosen)), items)
    falls = whole - scores(model, without(log, chosen, named), items)
    by_chance = whole - scores(model, without(log, chosen, others), items)
    last = [item == log.history(int(user))[-1] for user, item in zip(chosen, named, strict=True)]
    return {
        "users": len(users),
        "with a named item": len(chosen),
        "named matters more": float((falls > by_chance).mean()),
        "mean fall, named": float(falls.mean()),
        "mean fall, random": float(by_chance.mean()),
        "named is the last item": float(np.mean(last)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--cases", type=int, default=1000)
    given = parser.parse_args()
    print(json.dumps(deletion(given.workspace, given.cases), indent=2))
