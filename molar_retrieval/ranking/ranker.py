"""From a user's vectors to the list that is shown: candidates, rules that weigh, the composed list."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molar_retrieval import columns
from molar_retrieval.expressions import And, Expression, matches
from molar_retrieval.index import Index, SparseVector, StoredItem, Vector
from molar_retrieval.ranking.candidates import Candidates, find, joined, scored
from molar_retrieval.ranking.compose import Cap, Choice, Mix, Plan, Quota, compose
from molar_retrieval.ranking.features import features
from molar_retrieval.ranking.reranker import CANDIDATES, Reranker
from molar_retrieval.ranking.table import ItemTable

if TYPE_CHECKING:
    from molar_retrieval.ranking.rules import Active

Array = npt.NDArray[Any]
Rows = Sequence[int] | npt.NDArray[np.integer]
_PER_PLACE = 20
"""Candidates for each place of a long list."""
_GROWTH = 4
_RECENT = 200
"""So many of the last items of a history say what mix of attributes a user likes."""
_DAY = 86_400
_REMEMBERED = 16_384
"""Items whose attributes are kept in memory at most."""
_AHEAD = 16
"""Items whose attributes are fetched together where they are looked at one by one."""
_BY_CONTENT = ("boost", "bury", "fresh", "at_least")
"""Rules that look at the attributes of all candidates."""
RERANK = "re-rank"
"""The addend of a score that the second stage makes."""
RULES = "rules"
"""The addend of a score that boosting, burying and freshness make."""


@dataclass(frozen=True, eq=False)
class Asker:
    """For whom a list is.

    Attributes:
        vector: Dense user vector.
        sparse: The sparse one beside it.
        history: Item rows, oldest first.
    """

    vector: Vector
    sparse: SparseVector
    history: Rows = ()


@dataclass(frozen=True)
class Wishes:
    """What a list should be like.

    Attributes:
        where: Condition on items, applied inside the search.
        hidden: Rows that must not come.
        diversity: Weight of unlikeness, 0 to 1.
        calibrate: Field whose mix in the history the list should have, or None.
        calibration: How much that counts, 0 to 1.
        rules: Rules that hold for this user; the limits they set are in ``where`` and ``hidden`` already.
        rerank: Whether the second stage is asked.
    """

    where: Expression | None = None
    hidden: frozenset[int] = frozenset()
    diversity: float = 0.0
    calibrate: str | None = None
    calibration: float = 0.5
    rules: "Sequence[Active]" = ()
    rerank: bool = True

    @property
    def shape(self) -> bool:
        """Whether the list is more than the best of what may come."""
        return self.diversity > 0 or self.calibrate is not None or any(_shapes(active) for active in self.rules)


@dataclass(frozen=True, eq=False)
class Placed:
    """One place of a list.

    Attributes:
        row: The item's row.
        score: Sum of ``parts``.
        parts: Addends of the score, by name.
        by_score: Its place among the candidates by score alone, from 1.
        causes: Names of the rules, ``diversity`` or ``calibration`` that put it before higher scores.
    """

    row: int
    score: float
    parts: Mapping[str, float]
    by_score: int
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Listing:
    """A list and what could not be done.

    Attributes:
        places: Best first.
        notes: A sentence for each rule that could not be kept.
    """

    places: Sequence[Placed]
    notes: Sequence[str] = field(default_factory=list)


class Ranker:
    """Ranks the items of an index.

    Args:
        index: Finds candidates.
        table: Of the same items.
        slots: How many of the first ten places newcomers get.
        reranker: The second stage, or None.
    """

    def __init__(self, index: Index, table: ItemTable, slots: int, reranker: Reranker | None = None) -> None:
        self.index = index
        self.table = table
        self.slots = slots
        self.reranker = reranker
        self._stored: dict[int, StoredItem] = {}

    def rank(self, asker: Asker, k: int, wishes: Wishes = Wishes()) -> Listing:
        """The best ``k`` items that the wishes allow."""
        if not wishes.shape:
            return self.listed([asker], [self.candidates(asker, k, wishes)], k, wishes.rerank)[0]
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

    def listed(self, askers: Sequence[Asker], found: Sequence[Candidates], k: int, rerank: bool) -> list[Listing]:
        """The lists of several users from their :meth:`candidates`."""
        found = self._moved(askers, found) if rerank else found
        places = np.arange(k)
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

    def _moved(self, askers: Sequence[Asker], found: Sequence[Candidates]) -> list[Candidates]:
        """The candidates of some users in the order of the second stage; those behind its first ones stay there."""
        some = [number for number, one in enumerate(found) if len(one)]
        if self.reranker is None or not some:
            return list(found)
        first = [found[number].take(slice(CANDIDATES)) for number in some]
        sizes = [len(one) for one in first]
        given = features(self.table, first, [askers[number].history for number in some])
        changed = list(found)
        for number, moved in zip(some, np.split(self.reranker(given, sizes), np.cumsum(sizes)[:-1]), strict=True):
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
        found = self._moved([asker], [found])[0] if wishes.rerank else found
        found, pinned, notes = self._with_wanted(asker, k, wishes, found)
        payloads = wishes.calibrate is not None or any(active.rule.action in _BY_CONTENT for active in wishes.rules)
        items = self.stored(found.rows) if payloads else []
        boosts = _boosts(wishes.rules, items, found.scores)
        by_score = np.argsort(np.lexsort((found.rows, -found.scores)))
        order = np.lexsort((by_score, -(found.scores + boosts.sum(axis=1))))
        found, boosts, by_score = found.take(order), boosts[order], by_score[order]
        items = [items[n] for n in order.tolist()] if payloads else []
        places = {int(row): n for n, row in enumerate(found.rows)}
        pins = {at: (places[row], name) for at, (row, name) in pinned.items()}
        plan = self._plan(asker, wishes, found.rows, items, pins)
        vectors = np.asarray(self.table.content[found.rows], np.float32) if wishes.diversity else None
        choices = compose(found.scores + boosts.sum(axis=1), k, plan, vectors)
        notes += _unmet(plan, choices)
        titles = [active.rule.title for active in wishes.rules]
        placed = []
        for choice in choices:
            own = boosts[choice.candidate]
            causes = [titles[n] for n in np.flatnonzero(own)]
            causes += [cause for cause in choice.causes if cause not in causes]
            placed.append(self._placed(found, choice.candidate, by_score, own.sum(), causes))
        return Listing(placed, notes), exhausted

    def _find(self, asker: Asker, k: int, size: int, hidden: Collection[int], where: Expression | None) -> Candidates:
        return find(self.index, self.table, self.slots, asker.vector, asker.sparse, k, size, hidden=hidden, where=where)

    def _with_wanted(
        self, asker: Asker, k: int, wishes: Wishes, found: Candidates
    ) -> tuple[Candidates, dict[int, tuple[int, str]], list[str]]:
        """The candidates with those that rules want and that did not come by themselves; the pinned rows by place."""
        extra: list[Candidates] = []
        pinned: dict[int, tuple[int, str]] = {}
        notes: list[str] = []
        for active in wishes.rules:
            if active.rule.action in ("boost", "at_least") and active.condition is not None:
                both = active.condition if wishes.where is None else And((wishes.where, active.condition))
                extra.append(self._find(asker, k, max(k, CANDIDATES // 4), wishes.hidden, both))
            elif active.rule.pin is not None:
                rows, problems = self._pins(active, wishes)
                notes += problems
                free = (place for place in range(active.rule.at - 1, k) if place not in pinned)
                pinned |= {place: (row, active.rule.title) for place, row in zip(free, rows, strict=False)}
        wanted = [row for row, _ in pinned.values()]
        every = joined(found, *extra, scored(self.table, asker.vector, asker.sparse, wanted))
        _, first = np.unique(every.rows, return_index=True)
        return every.take(np.sort(first)), pinned, notes

    def _pins(self, active: "Active", wishes: Wishes) -> tuple[list[int], list[str]]:
        """Rows that a rule pins, and sentences about those that it cannot."""
        rows, notes = [], []
        for item_id, row in zip(active.rule.pin or (), self.index.rows(list(active.rule.pin or ())), strict=True):
            if row is None:
                notes.append(f"{active.rule.title}: the catalogue has no item {item_id!r}")
            elif row in wishes.hidden:
                notes.append(f"{active.rule.title}: the item {item_id!r} is hidden: seen, or excluded")
            elif wishes.where is not None and not _fulfils(self.stored([row])[0], wishes.where):
                notes.append(f"{active.rule.title}: the filter or another rule leaves out the item {item_id!r}")
            else:
                rows.append(row)
        return rows, notes

    def _plan(
        self,
        asker: Asker,
        wishes: Wishes,
        rows: Array,
        items: Sequence[StoredItem],
        pinned: Mapping[int, tuple[int, str]],
    ) -> Plan:
        caps, quotas = [], []
        for active in wishes.rules:
            rule = active.rule
            if rule.at_most is not None and rule.per is not None:
                caps.append(Cap(rule.title, partial(self._values, rows, rule.per), rule.at_most))
            elif rule.at_least is not None and active.condition is not None:
                fulfils = np.fromiter((_fulfils(item, active.condition) for item in items), bool, len(items))
                quotas.append(Quota(rule.title, fulfils, rule.at_least))
        mix = None if wishes.calibrate is None else self._mix(asker, wishes.calibrate, items)
        return Plan(
            diversity=wishes.diversity,
            calibration=wishes.calibration if mix is not None else 0.0,
            mix=mix,
            caps=caps,
            quotas=quotas,
            pins={place: candidate for place, (candidate, _) in pinned.items()},
            pin_names={place: name for place, (_, name) in pinned.items()},
        )

    def _values(self, rows: Array, name: str, number: int) -> list[str]:
        """The values that one of the rows has of a field."""
        row = int(rows[number])
        if row not in self._stored:
            self.stored(rows[number : number + _AHEAD])
        return _values(self.stored([row])[0], name)

    def _mix(self, asker: Asker, name: str, items: Sequence[StoredItem]) -> Mix | None:
        """What the history is made of; None where it has no value of the field."""
        history = self.stored(asker.history[-_RECENT:])
        shares: dict[str, float] = {}
        for item in history:
            values = _values(item, name)
            for value in values:
                shares[value] = shares.get(value, 0.0) + 1 / len(values)
        if not shares:
            return None
        number = {value: n for n, value in enumerate(shares)}
        members = np.zeros((len(items), len(shares)))
        for row, item in enumerate(items):
            values = _values(item, name)
            for value in values:
                if value in number:
                    members[row, number[value]] += 1 / len(values)
        target = np.array(list(shares.values()))
        return Mix(target / target.sum(), members)

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


def _boosts(rules: "Sequence[Active]", items: Sequence[StoredItem], scores: Array) -> Array:
    """What each rule adds to each candidate's score, shape (C, rules)."""
    boosts = np.zeros((len(scores), len(rules)))
    spread = float(scores.std()) if len(scores) else 0.0
    for number, active in enumerate(rules):
        rule = active.rule
        if rule.action in ("boost", "bury") and active.condition is not None:
            sign = 1 if rule.action == "boost" else -1
            fulfilled = np.fromiter((_fulfils(item, active.condition) for item in items), bool, len(items))
            boosts[:, number] = sign * rule.by * spread * fulfilled
        elif rule.fresh is not None:
            ages = np.array([_age(item.payload.get(rule.fresh)) for item in items])
            boosts[:, number] = rule.by * spread * np.exp2(-ages / rule.half_life_days)
    return boosts


def _shapes(active: "Active") -> bool:
    """Whether a rule does more than to limit what may come."""
    return active.rule.action not in ("require", "ban")


def _fulfils(item: StoredItem, condition: Expression) -> bool:
    return matches(condition, {columns.ITEM_ID: item.item_id, **item.payload})


def _values(item: StoredItem, name: str) -> list[str]:
    value = item.payload.get(name)
    values = value if isinstance(value, list) else [] if value is None else [value]
    return list(dict.fromkeys(map(str, values)))


def _age(value: Any) -> float:
    """Days since a date or the middle of a year; infinite where there is none, 0 in the future."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 1000 <= value < 3000:
        moment = datetime(int(value), 7, 1, tzinfo=UTC)
    else:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            return np.inf
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (datetime.now(UTC) - moment).total_seconds() / _DAY)


def _unmet(plan: Plan, choices: Sequence[Choice]) -> list[str]:
    notes = []
    for quota in plan.quotas:
        met = sum(bool(quota.fulfils[choice.candidate]) for choice in choices)
        if met < min(quota.least, len(choices)):
            notes.append(f"{quota.name}: {met} could be met")
    return notes
