"""From a user's vectors to the list that is shown: candidates, rules that weigh, the composed list."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molar_retrieval.expressions import And, Expression
from molar_retrieval.index import Index, StoredItem
from molar_retrieval.ranking import shaping
from molar_retrieval.ranking.candidates import Candidates, find, joined, scored
from molar_retrieval.ranking.compose import compose
from molar_retrieval.ranking.features import moves
from molar_retrieval.ranking.item_store import ItemStore
from molar_retrieval.ranking.reranker import CANDIDATES, Reranker
from molar_retrieval.ranking.wishes import PLAIN, RERANK, RULES, Asker, Listing, Placed, Rows, Wishes

if TYPE_CHECKING:
    from molar_retrieval.ranking.rules import Active

Array = npt.NDArray[Any]
_PER_PLACE = 20
"""Candidates for each place of a long list."""
_GROWTH = 4
_TOLD = 100
"""Items of a rule of which is told that they cannot be pinned; so many are enough to see that it is wrong."""
_REMEMBERED = 16_384
"""Items whose attributes are kept in memory at most."""


class Ranker:
    """Ranks the items of an index.

    Args:
        index: Finds candidates.
        table: Of the same items.
        slots: How many of the first ten places newcomers get.
        reranker: The second stage, or None.
    """

    def __init__(self, index: Index, table: ItemStore, slots: int, reranker: Reranker | None = None) -> None:
        self.index = index
        self.table = table
        self.slots = slots
        self.reranker = reranker
        self._stored: dict[int, StoredItem] = {}
        self._named: dict[str, int | None] = {}

    def rank(self, asker: Asker, k: int, wishes: Wishes = PLAIN) -> Listing:
        """The best ``k`` items that the wishes allow."""
        if not wishes.shape:
            return self.listed([asker], [self.candidates(asker, k, wishes)], k, [wishes])[0]
        size = max(CANDIDATES, _PER_PLACE * k)
        while True:
            listing, exhausted = self._shaped(asker, k, wishes, size)
            if len(listing.places) == k or exhausted:
                return listing
            size *= _GROWTH

    def candidates(self, asker: Asker, k: int, wishes: Wishes) -> Candidates:
        """What a list that nothing shapes is chosen from."""
        size = max(k, CANDIDATES) if wishes.rerank and self.reranker is not None else k
        return self._find(asker, k, size, wishes.hidden, wishes.where)

    def listed(
        self, askers: Sequence[Asker], found: Sequence[Candidates], k: int, wishes: Sequence[Wishes]
    ) -> list[Listing]:
        """The lists of several users from their :meth:`candidates`."""
        found = self._moved(askers, found, wishes)
        places = np.arange(max(map(len, found), default=0))  # not by k, which may be any number
        return [Listing([self._placed(one, n, places) for n in range(min(k, len(one)))]) for one in found]

    def stored(self, rows: Rows) -> list[StoredItem]:
        """What the index holds of some items, in their order; the last thousands are remembered."""
        wanted = [int(row) for row in rows]
        known = self._stored
        missing = [row for row in wanted if row not in known]
        if len(known) + len(missing) > _REMEMBERED:
            known = self._stored = {row: known[row] for row in wanted if row in known}
        known |= {item.row: item for item in self.index.fetch(missing)} if missing else {}
        return [known[row] for row in wanted]

    def _moved(
        self, askers: Sequence[Asker], found: Sequence[Candidates], wishes: Sequence[Wishes]
    ) -> list[Candidates]:
        """The candidates as the second stage orders them, where wished; those behind its first ones stay there."""
        some = [n for n, (one, wish) in enumerate(zip(found, wishes, strict=True)) if len(one) and wish.rerank]
        if self.reranker is None or not some:
            return list(found)
        first = [found[number].take(slice(CANDIDATES)) for number in some]
        histories = [askers[number].history for number in some]
        changed = list(found)
        for number, moved in zip(some, moves(self.table, self.reranker, first, histories), strict=True):
            one, scores = found[number], found[number].scores
            # The rest goes down by as much as the least of the first ones did.
            down = max(0.0, float(scores[len(moved) - 1] - (scores[: len(moved)] + moved).min()))
            every = np.concatenate([moved, np.full(len(one) - len(moved), -down)])
            changed[number] = replace(one, moved=every).take(np.argsort(-(scores + every), kind="stable"))
        return changed

    def _shaped(self, asker: Asker, k: int, wishes: Wishes, size: int) -> tuple[Listing, bool]:
        """The list from some candidates, and whether there are no others."""
        found = self._find(asker, k, size, wishes.hidden, wishes.where)
        exhausted = len(found) < size
        (found,) = self._moved([asker], [found], [wishes])
        found, pinned, notes = self._with_wanted(asker, k, wishes, found)
        payloads = shaping.reads_all(wishes)
        items = self.stored(found.rows) if payloads else []
        boosts = shaping.boosts(wishes.rules.weighing, items, found.scores, wishes.now)
        by_score = np.argsort(np.lexsort((found.rows, -found.scores)))
        order = np.lexsort((by_score, -(found.scores + boosts.sum(axis=1))))
        found, boosts, by_score = found.take(order), boosts[order], by_score[order]
        items = [items[n] for n in order.tolist()] if payloads else []
        places = {int(row): n for n, row in enumerate(found.rows)}
        pins = {at: (places[row], name) for at, (row, name) in pinned.items()}
        plan = shaping.plan(wishes, asker.history, found.rows, items, pins, self.stored)
        vectors = np.asarray(self.table.content[found.rows], np.float32) if wishes.diversity else None
        choices = compose(found.scores + boosts.sum(axis=1), k, plan, vectors)
        notes += shaping.unmet(plan, choices)
        titles = [active.rule.title for active in wishes.rules.weighing]
        placed = []
        for choice in choices:
            own = boosts[choice.candidate]
            causes = [titles[n] for n in np.flatnonzero(own)]
            causes += [cause for cause in choice.causes if cause not in causes]
            placed.append(self._placed(found, choice.candidate, by_score, own.sum(), causes))
        return Listing(placed, notes), exhausted

    def _find(self, asker: Asker, k: int, size: int, hidden: Collection[int], where: Expression | None) -> Candidates:
        return find(self.index, self.table, self.slots, asker, k, size, hidden=hidden, where=where)

    def _with_wanted(
        self, asker: Asker, k: int, wishes: Wishes, found: Candidates
    ) -> tuple[Candidates, dict[int, tuple[int, str]], list[str]]:
        """The candidates with those that rules want and that did not come by themselves; the pinned rows by place."""
        extra: list[Candidates] = []
        pinned: dict[int, tuple[int, str]] = {}
        notes: list[str] = []
        for active in wishes.rules.weighing:
            if active.rule.action in ("boost", "at_least") and active.condition is not None:
                both = active.condition if wishes.where is None else And((wishes.where, active.condition))
                extra.append(self._find(asker, k, max(k, CANDIDATES // 4), wishes.hidden, both))
        for active in (pin for pin in wishes.rules.pins if pin.rule.at <= k):
            free = [place for place in range(active.rule.at - 1, k) if place not in pinned]
            rows, problems = self._pins(active, wishes, len(free))
            notes += problems
            pinned |= {place: (row, active.rule.title) for place, row in zip(free, rows, strict=False)}
        if pinned:
            wanted = np.array([row for row, _ in pinned.values()])
            extra.append(scored(self.table, asker.vector, self.table.sums(asker.sparse), wanted))
        if not extra:
            return found, pinned, notes
        every = joined(found, *extra)
        _, first = np.unique(every.rows, return_index=True)
        return every.take(np.sort(first)), pinned, notes

    def _pins(self, active: "Active", wishes: Wishes, places: int) -> tuple[list[int], list[str]]:
        """Rows that a rule pins, so many as there are places, and sentences about those that it cannot."""
        rows: list[int] = []
        notes: list[str] = []
        pins = active.rule.pin or ()
        found = self._rows(pins)
        if wishes.where is not None:
            self.stored([row for row in found if row is not None][:places])  # at once, they are asked for one by one
        for item_id, row in zip(pins, found, strict=True):
            if len(rows) == places:
                break
            if row is None:
                notes.append(f"{active.rule.title}: the catalogue has no item {item_id!r}")
            elif row in wishes.hidden:
                notes.append(f"{active.rule.title}: the item {item_id!r} is hidden: seen, or excluded")
            elif wishes.where is not None and not shaping.fulfils(self.stored([row])[0], wishes.where):
                notes.append(f"{active.rule.title}: the filter or another rule leaves out the item {item_id!r}")
            else:
                rows.append(row)
        return rows, notes[:_TOLD]

    def _rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """Rows of items that rules name; they are looked up once."""
        if missing := [item_id for item_id in item_ids if item_id not in self._named]:
            self._named |= dict(zip(missing, self.index.rows(missing), strict=True))
        return [self._named[item_id] for item_id in item_ids]

    def _placed(
        self,
        found: Candidates,
        number: int,
        by_score: Array,
        boost: float = 0.0,
        causes: Sequence[str] = (),
    ) -> Placed:
        parts = dict(zip(self.table.names, found.parts[number].tolist(), strict=True))
        parts |= {"newcomer": float(found.lift[number])} if found.newcomer[number] else {}
        parts |= {RERANK: float(found.moved[number])} if found.moved[number] else {}
        parts |= {RULES: float(boost)} if boost else {}
        return Placed(int(found.rows[number]), sum(parts.values()), parts, int(by_score[number]) + 1, tuple(causes))
