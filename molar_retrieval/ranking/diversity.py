"""The list that is shown, chosen slot by slot from ranked candidates: diversity, calibration, caps, quotas, pins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking.filters import Expression
from molar_retrieval.ranking.index_protocol import StoredItem
from molar_retrieval.ranking.query import ResolvedQuery, Rows

if TYPE_CHECKING:
    from molar_retrieval.ranking.rules import ActiveRule


Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
DIVERSITY = "diversity"
CALIBRATION = "calibration"
_SMOOTHING = 0.01
"""Share of the history's mix in that of a list, so that a value the list lacks does not make the divergence infinite
(Steck 2018)."""


@dataclass(frozen=True)
class Cap:
    """At most ``most`` items of the list share one of the ``values`` of a candidate, of which it may have none.

    Values are asked only for candidates that would be chosen, as to know them may take time.
    """

    name: str
    values: Callable[[int], Sequence[str]]
    most: int


@dataclass(frozen=True, eq=False)
class Quota:
    """At least ``least`` items of the list are among the candidates that ``fulfils`` marks, shape (C,)."""

    name: str
    fulfils: Mask
    least: int


@dataclass(frozen=True, eq=False)
class Mix:
    """How much of the history each value makes up, and which candidates have it."""

    target: Floats  # shares in the history, shape (V,), adding up to 1
    members: Floats  # each candidate's own, shape (C, V); rows add up to 1, or less if the history lacks a value


@dataclass(frozen=True)
class Composition:
    """What the list has to look like.

    Pins are a candidate, and what an answer tells of it, by place from 0; these count for caps and quotas from the
    start, and ignore them.
    """

    diversity: float = 0.0  # weight of unlikeness, 0 to 1
    calibration: float = 0.0  # weight of the history's mix, 0 to 1; needs ``mix``
    mix: Mix | None = None
    caps: Sequence[Cap] = ()  # all of them hold
    quotas: Sequence[Quota] = ()  # each is met if the candidates and the caps allow
    pins: Mapping[int, tuple[int, str]] = field(default_factory=dict)

    @property
    def trivial(self) -> bool:
        """Whether the list is the candidates in their order."""
        return not (self.diversity or self.calibration or self.caps or self.quotas or self.pins)


@dataclass(frozen=True)
class Choice:
    """The number of the candidate at one place, and the causes that put it before candidates of higher relevance.

    Causes are names of rules, ``diversity`` or ``calibration``.
    """

    candidate: int
    causes: tuple[str, ...] = ()


def diversify(relevance: Floats, k: int, composition: Composition, vectors: Floats | None = None) -> list[Choice]:
    """Choose at most ``k`` of C candidates; fewer where the candidates run out or the caps leave none.

    Relevance is best first, shape (C,); diversity needs ``vectors`` of length 1 or 0, shape (C, f).
    """
    count = len(relevance)
    if composition.trivial:
        return [Choice(place) for place in range(min(k, count))]
    state = _State(relevance, min(k, count), composition, vectors)
    chosen: list[Choice] = []
    while len(chosen) < k and (choice := state.next(len(chosen))) is not None:
        chosen.append(choice)
        state.take(choice.candidate)
    return chosen


class _State:
    def __init__(self, relevance: Floats, k: int, composition: Composition, vectors: Floats | None) -> None:
        if composition.diversity and vectors is None:
            raise ValueError("diversity needs the candidates' vectors")
        self.wanted, self.k, self.vectors = composition, k, vectors
        low, high = (float(relevance[-1]), float(relevance[0])) if len(relevance) else (0.0, 0.0)
        self.relevance = np.asarray((relevance - low) / max(high - low, 1e-12), np.float64)
        self.free = np.ones(len(relevance), bool)
        self.reserved = np.zeros(len(relevance), bool)
        self.reserved[[candidate for candidate, _ in composition.pins.values()]] = True
        self.likeness = np.zeros(len(relevance))
        self.counts: list[dict[str, int]] = [{} for _ in composition.caps]
        self.full = [np.zeros(len(relevance), bool) for _ in composition.caps]
        for place, (candidate, _) in composition.pins.items():
            if place < k:
                self._count(candidate)
        self.met = [0] * len(composition.quotas)
        self.shares = None if composition.mix is None else np.zeros(len(composition.mix.target))
        self.taken = 0

    def next(self, place: int) -> Choice | None:
        """The choice for a place, counted from 0; None where nothing is left."""
        if place in self.wanted.pins:
            candidate, name = self.wanted.pins[place]
            return Choice(candidate, (name,) if name else ())
        open_ = self.free & ~self.reserved
        value, weights = self._values()
        found = self._best(place, open_, value)
        if found is None:
            return None
        best, allowed, forced = found
        passed = np.flatnonzero(open_[:best])
        causes = [cap.name for cap, full in zip(self.wanted.caps, self.full, strict=True) if full[passed].any()]
        causes += forced[0] if forced is not None and (~forced[1][passed]).any() else ()
        if self._open(allowed)[passed].any():
            causes += weights
        return Choice(best, tuple(causes))

    def _open(self, candidates: Mask) -> Mask:
        """Those that no cap keeps out."""
        return candidates & ~np.logical_or.reduce(self.full) if self.full else candidates

    def _best(
        self, place: int, open_: Mask, value: Floats
    ) -> tuple[int, Mask, tuple[tuple[str, ...], Mask] | None] | None:
        """The most valuable candidate that may stand there, who else may, and what forces whom."""
        while True:
            allowed = self._open(open_)
            forced = self._forced(place, allowed)
            if forced is not None:
                allowed = allowed & forced[1]
            candidates = np.flatnonzero(allowed)
            if not len(candidates):
                return None
            for best in candidates[np.argsort(-value[candidates], kind="stable")].tolist():
                if not self._held_back(best):
                    return best, allowed, forced
            # Nobody of them may: what forces them is out of reach.

    def _held_back(self, candidate: int) -> bool:
        """Whether a cap keeps the candidate out, from now on."""
        for cap, counts, full in zip(self.wanted.caps, self.counts, self.full, strict=True):
            full[candidate] = any(counts.get(value, 0) >= cap.most for value in cap.values(candidate))
        return any(full[candidate] for full in self.full)

    def take(self, candidate: int) -> None:
        """Count a candidate as chosen."""
        self.free[candidate] = False
        self.taken += 1
        if self.wanted.diversity and self.vectors is not None:
            # Row by row: a product by BLAS differs in the last digit with the place that a candidate has among others.
            alike = np.einsum("nd,d->n", self.vectors, self.vectors[candidate])
            self.likeness = np.maximum(self.likeness, alike)
        if not self.reserved[candidate]:
            self._count(candidate)
        for number, quota in enumerate(self.wanted.quotas):
            self.met[number] += bool(quota.fulfils[candidate])
        if self.shares is not None and self.wanted.mix is not None:
            self.shares = self.shares + self.wanted.mix.members[candidate]

    def _count(self, candidate: int) -> None:
        for cap, counts in zip(self.wanted.caps, self.counts, strict=True):
            for value in cap.values(candidate):
                counts[value] = counts.get(value, 0) + 1

    def _forced(self, place: int, allowed: Mask) -> tuple[tuple[str, ...], Mask] | None:
        """The quotas that need all places that are left, and who fulfils one of them."""
        ahead = [candidate for pinned, (candidate, _) in self.wanted.pins.items() if pinned > place]
        needy: list[Quota] = []
        places = self.k - place - len(ahead)
        for quota, met in zip(self.wanted.quotas, self.met, strict=True):
            need = quota.least - met - int(quota.fulfils[ahead].sum())
            if need > 0 and (quota.fulfils & allowed).any():
                needy.append(quota)
                places -= need
        if not needy or places > 0:
            return None
        return tuple(quota.name for quota in needy), np.logical_or.reduce([quota.fulfils for quota in needy])

    def _values(self) -> tuple[Floats, list[str]]:
        """What each candidate is worth at this place, and the names of what counts beside relevance."""
        wanted, value, causes = self.wanted, self.relevance, []
        if wanted.diversity:
            value = (1 - wanted.diversity) * value - wanted.diversity * self.likeness
            causes.append(DIVERSITY)
        if wanted.calibration and wanted.mix is not None and self.shares is not None:
            value = (1 - wanted.calibration) * value - wanted.calibration * self._divergence(wanted.mix, self.shares)
            causes.append(CALIBRATION)
        return value, causes

    def _divergence(self, mix: Mix, shares: Floats) -> Floats:
        """The Kullback-Leibler divergence from the history's mix to the list's, with each candidate added."""
        listed = (shares[None, :] + mix.members) / (self.taken + 1)
        smooth = (1 - _SMOOTHING) * listed + _SMOOTHING * mix.target
        ratio = np.log(np.maximum(mix.target, 1e-12) / np.maximum(smooth, 1e-12))
        result: Floats = (mix.target * ratio).sum(axis=1)
        return result


Array = npt.NDArray[Any]
_RECENT = 200  # so many of the last items of a history say what mix of attributes a user likes
_DAY = 86_400
_AHEAD = 16  # items whose attributes are fetched together where they are looked at one by one


class RankedItems(Protocol):
    """What is known of items by row."""

    def stored(self, rows: Rows) -> Sequence[StoredItem]:
        """What the index holds of some, in their order."""

    def fulfilling(self, condition: Expression, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of some a condition means."""


def boosts(
    rules: "Sequence[ActiveRule]", rows: Array, items: RankedItems, scores: Array, now: datetime | None = None
) -> Array:
    """What each rule adds to each candidate's score, shape (C, rules); ages count until ``now``."""
    now = datetime.now(UTC) if now is None else now
    added = np.zeros((len(scores), len(rules)))
    spread = float(scores.std()) if len(scores) else 0.0
    for number, active in enumerate(rules):
        rule = active.rule
        if rule.action in ("boost", "bury") and active.condition is not None:
            sign = 1 if rule.action == "boost" else -1
            added[:, number] = sign * rule.by * spread * items.fulfilling(active.condition, rows)
        elif rule.fresh is not None:
            ages = np.array([_age(item.payload.get(rule.fresh), now) for item in items.stored(rows)])
            added[:, number] = rule.by * spread * np.exp2(-ages / rule.half_life_days)
    return added


def composition(
    request: ResolvedQuery, rows: Array, pins: Mapping[int, tuple[int, str]], items: RankedItems
) -> Composition:
    """What the list has to look like by a request's rules, diversity and calibration.

    ``rows`` are the candidates, best first; ``pins`` are candidate and rule by place.
    """
    query, caps, quotas, mix = request.query, [], [], None
    for active in request.caps:
        rule = active.rule
        if rule.at_most is not None and rule.per is not None:
            caps.append(Cap(rule.title, _reader(items, rows, rule.per), rule.at_most))
    for active in request.weighing:
        rule = active.rule
        if rule.at_least is not None and active.condition is not None:
            quotas.append(Quota(rule.title, items.fulfilling(active.condition, rows), rule.at_least))
    if query.calibrate is not None and request.user is not None:
        mix = _mix(items.stored(request.user.history[-_RECENT:]), query.calibrate, items.stored(rows))
    return Composition(query.diversity, query.calibration_weight if mix is not None else 0.0, mix, caps, quotas, pins)


def _reader(items: RankedItems, rows: Array, name: str) -> Callable[[int], list[str]]:
    """Says which values of a field one of the rows has; those behind it are fetched along."""
    known: dict[int, list[str]] = {}

    def values(number: int) -> list[str]:
        if number not in known:
            known.update(
                (number + n, values_of(item, name))
                for n, item in enumerate(items.stored(rows[number : number + _AHEAD]))
            )
        return known[number]

    return values


def _mix(history: Sequence[StoredItem], name: str, items: Sequence[StoredItem]) -> Mix | None:
    """What the history is made of; None where it has no value of the field."""
    shares: dict[str, float] = {}
    for item in history:
        values = values_of(item, name)
        for value in values:
            shares[value] = shares.get(value, 0.0) + 1 / len(values)
    if not shares:
        return None
    number = {value: n for n, value in enumerate(shares)}
    members = np.zeros((len(items), len(shares)))
    for row, item in enumerate(items):
        values = values_of(item, name)
        for value in values:
            if value in number:
                members[row, number[value]] += 1 / len(values)
    target = np.array(list(shares.values()))
    return Mix(target / target.sum(), members)


def values_of(item: StoredItem, name: str) -> list[str]:
    """The different values that an item has of a field, as caps count them and calibration weighs them."""
    value = item.payload.get(name)
    values = value if isinstance(value, list) else [] if value is None else [value]
    return list(dict.fromkeys(map(str, values)))


def _age(value: Any, now: datetime) -> float:
    """Days since a date; infinite where there is none, 0 in the future."""
    begun = dated(value)
    return np.inf if begun is None else max(0.0, (now - begun).total_seconds() / _DAY)


def dated(value: Any) -> datetime | None:
    """The moment that a field tells, the middle of a year where it tells that alone; None where it tells none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 1000 <= value < 3000:
        return datetime(int(value), 7, 1, tzinfo=UTC)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def unmet(composition: Composition, choices: Sequence[Choice]) -> list[str]:
    """A sentence for each quota that could not be met."""
    notes = []
    for quota in composition.quotas:
        met = sum(bool(quota.fulfils[choice.candidate]) for choice in choices)
        if met < min(quota.least, len(choices)):
            notes.append(f"{quota.name}: {met} could be met")
    return notes
