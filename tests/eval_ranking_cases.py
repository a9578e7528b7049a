"""Small cases for the tests of ranking and metrics, and what plain Python makes of them."""

import math

import numpy as np

from molar_eval.cases import Cases
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.ids import IdMap


def ragged(lists):
    """Offsets and values of a list of arrays."""
    values = np.concatenate(lists) if lists else np.zeros(0)
    return np.concatenate([[0], np.cumsum([len(one) for one in lists], dtype=np.int64)]), values.astype(np.int32)


def log_of(histories, n_items):
    offsets, item = ragged([np.array(history, np.int32) for history in histories])
    users, items = IdMap([f"u{u}" for u in range(len(histories))]), IdMap([f"i{i}" for i in range(n_items)])
    return Interactions(users, items, offsets, item, np.zeros(len(item), np.int64))


def cases_of(histories, targets, n_items, readable=None):
    """One case per history, all of which lies before it."""
    offsets, items = ragged([np.array(case, np.int32) for case in targets])
    rows, lengths = np.arange(len(histories)), np.array([len(history) for history in histories], np.int64)
    return Cases(log_of(histories, n_items), rows, lengths, offsets, items, readable)


def slowly_ranked(scores, histories, targets, candidates, hide, k):
    """Lists of (score, item) and ranks, as the definition reads."""
    lists, ranks = [], []
    for row, history, own in zip(scores, histories, targets, strict=True):
        allowed = {
            item: float(score)
            for item, score in enumerate(row)
            if candidates[item] and not (hide and item in history) and score > -math.inf
        }
        best = sorted(allowed, key=lambda item: (-allowed[item], item))[:k]
        lists.append([(allowed[item], item) for item in best])
        placed = sorted((t for t in own if t in allowed), key=lambda item: (-allowed[item], item))
        for target in own:
            if target not in allowed:
                ranks.append(0)
                continue
            rivals = sum(score >= allowed[target] for item, score in allowed.items() if item not in own)
            ranks.append(1 + rivals + placed.index(target))
    return lists, ranks
