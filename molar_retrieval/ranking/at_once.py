"""What the scans of several people are asked for, made for all of them at once: the same in every bit, in less time."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking.best import best_first, best_of_each, places_of_each
from molar_retrieval.ranking.candidates import Candidates, CandidateSource, Guessed, New, Scan
from molar_retrieval.ranking.item_store import ItemStore

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
_FEW = 64  # items of each person up to which those of all people are scored at once
Foresee: TypeAlias = Callable[[ItemStore, Sequence[Scan], int], None]


def foresee(store: ItemStore, asked: Sequence[tuple[CandidateSource, int]], make: Foresee) -> None:
    """Make what several scans among some sources are asked for, those of one size together."""
    scans: dict[int, list[Scan]] = {}
    for source, size in asked:
        if isinstance(source, Scan):
            scans.setdefault(size, []).append(source)
    for size, some in scans.items():
        if len(some) > 1:
            make(store, some, size)


def foresee_known(store: ItemStore, scans: Sequence[Scan], size: int) -> None:
    """Make the best ``size`` known items of each scan."""
    shown = np.array([scan.shown for scan in scans]) & store.known
    users, rows = places_of_each(np.array([scan.scores for scan in scans]), shown, size)
    parts = _addends(store, scans, users, rows)
    order = best_of_each(parts.sum(axis=1), users)
    rows, parts = rows[order], parts[order]
    nothing, known, one = np.zeros(size), np.zeros(size, bool), np.ones(size)
    for scan, own in zip(scans, _pieces(users, len(scans), size), strict=True):
        some = slice(own.stop - own.start)
        scan.foreseen[size] = Candidates(rows[own], parts[own], nothing[some], known[some], nothing[some], one[some])


def foresee_new(store: ItemStore, scans: Sequence[Scan], size: int) -> None:
    """Make the best ``size`` guesses of newcomers and emerging items of each scan."""
    cold, emerging = store.cold_rows, store.emerging
    every, about = cold, np.array([scan.scores.take(cold) for scan in scans])
    if emerging is not None:
        every = np.concatenate([cold, emerging.rows])
        about = np.concatenate([about, [scan.emerging for scan in scans]], axis=1)
    users, places = places_of_each(about, np.array([scan.shown.take(every) for scan in scans]), size)
    rows, is_cold, guesses = every[places], places < len(cold), np.empty(len(places))
    guesses[is_cold] = _addends(store, scans, users[is_cold], rows[is_cold]).sum(axis=1)
    if emerging is not None:
        others = (~is_cold).nonzero()[0]
        for scan, own in zip(scans, _pieces(users[others], len(scans)), strict=True):
            guesses[others[own]] = emerging.guesses(scan.vector, places[others[own]] - len(cold))
    order = best_of_each(guesses, users, rows)  # rows of both kinds are in no order
    rows, guesses, is_cold = rows[order], guesses[order], is_cold[order]
    for scan, own in zip(scans, _pieces(users, len(scans), size), strict=True):
        scan.guessed[size] = Guessed(store, scan.vector, scan.sums, rows[own], guesses[own], is_cold[own])


def reranked(lists: Sequence[Candidates], moved: Sequence[Array], sizes: Sequence[int | None]) -> list[Candidates]:
    """What :meth:`Candidates.reranked` gives of so many lists; those of one length are put in order together."""
    alike: dict[int, list[int]] = {}
    for n, (one, own) in enumerate(zip(lists, moved, strict=True)):
        alike.setdefault(len(one) if len(own) == len(one) else -1 - n, []).append(n)
    found = list(lists)
    for some in alike.values():
        if len(some) == 1:
            found[some[0]] = lists[some[0]].reranked(moved[some[0]], sizes[some[0]])
            continue
        for n, order in zip(some, best_first(np.array([lists[n].scores + moved[n] for n in some])), strict=True):
            found[n] = replace(lists[n], moved=moved[n]).take(order[: sizes[n]])
    return found


def stacked(lists: Sequence[Candidates]) -> Candidates:
    """Lists of one length as one, whose arrays have one more axis in front."""
    return Candidates(*map(np.array, zip(*(one.columns for one in lists), strict=True)))


def taken(lists: Sequence[New], places: Rows) -> Candidates:
    """What :meth:`New.take` gives of so many lists, as one: of each ``places``, shape (lists, m)."""
    guessed = [one for one in lists if isinstance(one, Guessed)]
    if len(guessed) < len(lists) or any(one.store is not guessed[0].store for one in guessed):
        return stacked([one.take(own) for one, own in zip(lists, places, strict=True)])
    rows, scores, cold = (
        np.array([getattr(one, name)[own] for one, own in zip(guessed, places, strict=True)])
        for name in ("rows", "scores", "cold")
    )
    users, nothing = np.repeat(np.arange(len(lists)), rows.shape[1]), np.zeros(rows.shape)
    parts = _addends(guessed[0].store, guessed, users, rows.ravel()).reshape(*rows.shape, -1)
    return Candidates(rows, parts, scores - parts.sum(axis=-1), cold, nothing, nothing + 1)


def _addends(store: ItemStore, sources: Sequence[Scan | Guessed], users: Rows, rows: Rows) -> Array:
    """The addends of the scores of some items, each for one of the users, which ascend, shape (len(rows), P)."""
    addends = np.empty((len(rows), len(store.names)))
    vectors = np.array([np.asarray(source.vector, np.float32) for source in sources])
    apart = len(rows) > _FEW * len(sources)
    if not apart:
        store.add_dense(addends, vectors[users], rows)
    for source, vector, own in zip(sources, vectors, _pieces(users, len(sources)), strict=True):
        if apart:  # hundreds of vectors of items, which stay in the processor's cache
            store.add_dense(addends[own], vector, rows[own])
        addends[own, len(store.parts) :] = source.sums.of(rows[own]).T
    return addends


def _pieces(users: Rows, count: int, size: int | None = None) -> list[slice]:
    """Where each of so many users is among some that ascend, of each the first ``size``."""
    ends = np.searchsorted(users, np.arange(count + 1)).tolist()
    return [slice(begin, end if size is None else min(end, begin + size)) for begin, end in pairwise(ends)]
