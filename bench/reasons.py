"""Are the reasons true? The deletion test, on a workspace with a live generation.

For the first recommended item of each of some users, the history item that the reason names first is taken out of the
history, the user is encoded anew, and the item's score falls by some amount; likewise for another item of the history
drawn at random. A reason that names what carried the item makes the score fall more.

And the swap test, where items have photos: of recommended items whose likeness is said to be in the photo, or in the
words, that source is exchanged for another item's. The content parts of the score fall more than with the other source.

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
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.ids import IdMap
from molar_retrieval.models.als import open_log
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.store import open_model
from molar_retrieval.ranking.explanations import Origins, attributions, named_source
from molar_retrieval.ranking.item_store import ItemStore
from molar_retrieval.ranking.query import Query
from molar_retrieval.workspace.artefacts import Workspace

Rows = npt.NDArray[np.int64]
_FEWEST = 5
_BATCH = 500


def without(log: Interactions, users: Rows, items: Sequence[int | None]) -> Interactions:
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


def scores(model: Ensemble, log: Interactions, wanted: Rows) -> npt.NDArray[np.float32]:
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
            (listing,) = recommender.rank_many([record], Query(k=1, rerank=False, rules=False))
            row = listing.places[0].row
            (evidence,) = attributions(table.items, table.origins, record.vector, record.sparse, record.history, [row])
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


def swap(path: Path, count: int, seed: int = 0) -> dict[str, float]:
    """Share of the claims of a photo, and of words, under which that source matters more than the other one."""
    random = rng.generator(seed, "swap test")
    right: dict[str, list[bool]] = {"image": [], "text": []}
    with Recommender.open(path) as recommender:
        table, origins = recommender.generation.table.items, recommender.generation.table.origins
        if not {"image", "text"} <= set(origins.blocks):
            return {}
        whole = [user for batch in recommender.generation.users.batches() for user in batch if len(user.history)]
        chosen = [whole[n] for n in random.permutation(len(whole))[:count]]
        for user, listing in zip(chosen, recommender.rank_many(chosen, Query(rerank=False, rules=False)), strict=True):
            rows = [placed.row for placed in listing.places]
            found = attributions(table, origins, user.vector, user.sparse, user.history, rows)
            for row, evidence in zip(rows, found, strict=True):
                claimed = {"photo": "image", "text": "text"}.get(named_source(evidence.sources) or "")
                if claimed is not None:
                    other = int(random.integers(len(table)))
                    falls = {name: _fall(table, origins, user.vector, row, other, name) for name in right}
                    right[claimed].append(falls[claimed] > falls["text" if claimed == "image" else "image"])
    return {
        f"{name}: {what}": float(value)
        for name, found in right.items()
        for what, value in (("claims", len(found)), ("right", np.mean(found) if found else np.nan))
    }


def _fall(table: ItemStore, origins: Origins, user: Sequence[float], row: int, other: int, source: str) -> float:
    """How far the content parts of an item's score fall with another item's photo or words."""
    before = np.asarray(table.content[row], np.float64)
    after = before.copy()
    for block in ("text", "words") if source == "text" else (source,):
        start, stop = origins.blocks.get(block, (0, 0))
        after[start:stop] = table.content[other, start:stop]
    fall = 0.0
    for part, matrix in origins.maps.items():
        first, last = table.parts[part]
        own, made = np.asarray(table.dense[row, first:last], np.float64), before @ matrix
        size = float(made @ made)
        scale = float(own @ made) / size if size else 0.0
        fall += scale * float((before - after) @ matrix @ np.asarray(user[first:last], np.float64))
    return fall


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--cases", type=int, default=1000)
    given = parser.parse_args()
    results = {"deletion": deletion(given.workspace, given.cases), "swap": swap(given.workspace, given.cases)}
    print(json.dumps(results, indent=2))
