"""Places in which new items are tried: a draw decides who gets them, with probabilities that are told.

Newcomers, which had no interactions, and low-support items, which had few, are ranked among themselves by what is
guessed of them, and some ``places`` of the first ten are theirs. Which of the best :data:`POOL` of them stand there is
drawn one after the other with probabilities proportional to ``exp(guess / scale)``: the model of Plackett and Luce
(Plackett 1975, doi:10.2307/2346567), by adding Gumbel noise to each guess and taking the best (Yellott 1977,
doi:10.1016/0022-2496(77)90026-8). A guess contains the logarithm of a chance, which falls as an item's own evidence
grows: see :mod:`molar_retrieval.models.cold_start`. An low-support item that stands higher by its own score takes no
part in the draw, and one that is not drawn stays where it is.

The noise of an item follows from the draw's name and its row alone. The same answer comes again, by whatever way the
items are searched, and an item that comes or goes changes nobody else's luck.

A *propensity* is the probability that an item is among the first ten of the list, or in a shorter one, all else being
equal: 1 of what no draw decides. It is not told of what stands behind the tenth place, nor where rules, diversity or
calibration shape the list from candidates that were drawn.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking.candidates import Candidates, New, joined, merge, shared
from molar_retrieval.ranking.objectives import TOP
from molar_retrieval.ranking.query import Exploration
from molar_retrieval.rng import derive_seed

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
POOL = 100
"""New items that take part in a draw: those that are thought to fit best."""
_STEP = 0.25
"""Of the integral over the logarithm of time; the error of the trapezoidal rule is far below 1e-9."""
_GOLDEN, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_ONE, _11, _27, _30, _31 = map(np.uint64, (1, 11, 27, 30, 31))


def explored(known: Candidates, new: New, plan: Exploration, draw: str, k: int, *, whole: bool = True) -> Candidates:
    """The list with new items in the places of a ``plan``: at least ``k`` items, where there are so many.

    ``known`` are the items that had interactions, as they would stand without the others; ``new`` the cold-start items
    and low-support items; ``draw`` is the name of the draw. Not ``whole``: without new items behind the first ten
    places, where the first ``k`` have none of these.
    """
    certain = known.rows[: TOP - len(plan.slots)]
    slots = (~(new.rows[:, None] == certain).any(axis=1)).nonzero()[0]
    if not plan.slots or not len(slots):
        return known
    guesses = new.scores[slots]
    logits = guesses[:POOL] / plan.scale
    keys = guesses.copy()
    keys[:POOL] += plan.scale * gumbel(draw, new.rows[slots[:POOL]])
    last = keys[:POOL].min(initial=np.inf)
    if len(keys) > POOL:
        keys[POOL:] = np.minimum(keys[POOL:] - max(0.0, guesses[POOL:].max() - last), last)
    order = np.argsort(-keys, kind="stable")
    top = shared(plan.slots, len(order))
    first = len(top.slots)
    there = (known.rows[:, None] == new.rows[slots[order[:first]]]).any(axis=1)
    if there.any():
        known = known.take((~there).nonzero()[0])
    # Of the others cold items come later, where the list is so long; low-support ones stand among the known items.
    behind = new.cold[slots[order]] if whole or k > TOP or len(known) < TOP else False
    order = order[(np.arange(len(order)) < first) | behind]
    tried, guesses, keys = new.take(slots[order]), guesses[order], keys[order]
    merged, lift = merge(known.scores, keys, plan.slots)
    told = top.within(k) if len(known) > TOP - first else min(k, TOP) - len(known)
    chances = np.full(len(tried), np.nan)
    if told > 0:
        chances[:told] = inclusion(logits, told, order[:told])
    lift = tried.lift + (keys - guesses) + lift[len(known) :]
    tried = replace(tried, lift=lift, cold=np.ones(len(tried), bool), propensity=chances)
    every = joined(known, tried).take(merged)
    return replace(every, propensity=np.where(np.arange(len(every)) < TOP, every.propensity, np.nan))


def gumbel(draw: str, rows: npt.NDArray[np.integer]) -> Floats:
    """Standard Gumbel noise of some items, which follows from the draw's name and their rows alone (SplitMix64)."""
    bits = np.uint64(derive_seed(0, "exploration", draw)) + (rows.astype(np.uint64) + _ONE) * _GOLDEN
    bits = (bits ^ (bits >> _30)) * _FIRST
    bits = (bits ^ (bits >> _27)) * _SECOND
    bits ^= bits >> _31
    uniform = ((bits >> _11).astype(np.float64) + 0.5) / 2.0**53
    noise: Floats = -np.log(-np.log(uniform))
    return noise


def inclusion(logits: Floats, count: int, asked: npt.NDArray[np.integer]) -> Floats:
    """The probability that items are among the first ``count`` of M that are drawn without replacement.

    ``logits`` are of shape (M,), ``asked`` numbers of items, shape (A,), as the probabilities are.

    Drawing by Plackett and Luce is a race: an item of weight w = exp(logit) arrives after a time that is exponential
    with rate w, and is among the first if fewer than ``count`` others are there before it, whose number at a moment is
    a sum of independent events. The integral over the time of its arrival is taken numerically.
    """
    weights = np.exp(np.maximum(logits - logits.max(), -30.0))
    weights /= weights.sum()
    if count >= len(weights):
        return np.ones(len(asked))
    if count == 1:
        chances: Floats = weights[asked]
        return chances
    moments = np.exp(np.arange(np.log(1e-9), np.log(40 / weights.min()), _STEP))
    here = -np.expm1(-weights[:, None] * moments)  # by each moment, shape (M, T)
    session_start = weights[asked, None] * moments * (1 - here[asked]) * _STEP
    there = np.zeros((count, len(asked), len(moments)))  # the probability that so many others are
    there[0] = 1.0
    for number, own in enumerate(here):
        comes = np.where(asked[:, None] == number, 0.0, own)
        there[1:] += (there[:-1] - there[1:]) * comes
        there[0] *= 1 - comes
    result: Floats = (session_start * there.sum(axis=0)).sum(axis=1)
    return result
