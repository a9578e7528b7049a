"""Weights for whoever comes back: what somebody takes first in a visit is found by other parts than what they take on.

The last thing that people took is in most logs one of several that they took together: a basket, an evening's ratings.
Weights that are chosen by it alone trust the item before it, and few parts tell what somebody will want who was away
for weeks. So the validation cases are asked once more as of the moment when the visit of their last item began, by what
was known then; other items of the visit, which training has read, can be no answer. Where weights of their own find
more of these than those for what comes next, they answer whoever asks half an hour or more after their last item.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from molar_retrieval import rng
from molar_retrieval.alignment.fusion import Fusion, Gain
from molar_retrieval.alignment.validation import ValidationCases, means, sample
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.ranking.aims import VISIT
from molar_retrieval.workspace.tensors import Mask, Ranks, Rows

FEWEST = 100
"""Validation cases below which nothing is chosen."""
_MOST = 2000
"""Cases that choose, drawn where there are more."""


@dataclass(frozen=True, eq=False)
class Arriving:
    """The weights of each part for whoever comes back, and how they rank, for the manifest."""

    weights: Mapping[str, float]
    report: dict[str, Any]


def arrivals(cases: ValidationCases, seed: int = 0) -> ValidationCases:
    """The cases as of the beginning of the visit in which their target was taken, at most 2,000 of them.

    A visit is what was done with less than half an hour between one thing and the next. Cases in whose first visit the
    target was taken are left out.
    """
    log = cases.histories()
    begins, asked = visit_began(log, cases.times)
    chosen = np.flatnonzero(begins > log.offsets[:-1])
    known = log.select(np.arange(len(log)) < begins[log.user]).of_users(chosen)
    found = replace(cases.select(chosen), times=asked[chosen], known=known)
    return sample(found, _MOST, rng.generator(seed, "arrivals"))


def visit_began(log: Interactions, times: Rows) -> tuple[Rows, Rows]:
    """Of the visit of each user at some time, in seconds: the place in the log of its first interaction, and when.

    That is the end of the history, and the time itself, where somebody comes back at that time. Shapes (n_users,).
    """
    starts = np.ones(len(log), bool)
    starts[1:] = (np.diff(log.timestamp) >= VISIT) | (np.diff(log.user) != 0)
    last = np.maximum.accumulate(np.where(starts, np.arange(len(log)), -1))
    begins, asked = log.offsets[1:].copy(), np.array(times, np.int64)
    within = ~comes_back(replace(log, asked_at=asked)) & (np.diff(log.offsets) > 0)
    begins[within] = last[log.offsets[1:][within] - 1]
    asked[within] = log.timestamp[begins[within]]
    return begins, asked


def comes_back(log: Interactions) -> Mask:
    """Whether each user is asked about half an hour or more after their last interaction; shape (n_users,).

    Nobody is where the log does not say when they are asked about, or their last interaction has no time.
    """
    found = np.zeros(log.n_users, bool)
    some = np.flatnonzero(np.diff(log.offsets))
    if log.asked_at is not None:
        last = log.timestamp[log.offsets[some + 1] - 1]
        found[some] = (last > 0) & (last <= log.asked_at[some] - VISIT)
    return found


def better(fusion: Fusion, own: Ranks, others: Ranks) -> Arriving | None:
    """What was found, if it ranks the arrivals better than others do, by more than a standard error; else None."""
    if Gain.of(own, others).beyond(1.0) <= 0:
        return None
    scores = {name: means(rank) for name, rank in {**fusion.alone, "next": others, "aligned": own}.items()}
    return Arriving(fusion.weights, {"cases": len(own), "scores": scores, "shares": dict(fusion.shares)})
