"""Two index versions compared on interactions that neither was fitted on.

Both make lists of the moment at which the newer one's knowledge ends: by the same events, without the shop's rules and
without draws. What somebody took since, and had not before, is to be found in the first ten. People are the cases, and
the same for both, so the difference is paired. While one of the two was live its lists were seen and those of the other
one were not; that favours the one that was live.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from molar_eval.metrics import accuracy
from molar_eval.statistics import clustered_intervals
from molar_indexes.comparison import HISTORY, LENGTH, STANDINGS, ShownList, groups_of, lists_of
from molar_indexes.generations import Generation
from molar_indexes.recommender import Recommender, as_it_was
from molar_retrieval import limits
from molar_retrieval.data.event_history import DEFAULT, counted
from molar_retrieval.data.live_events import EventLogReader
from molar_retrieval.workspace.artefacts import Workspace

ALL = "all"
"""The dimension of the group that everybody is in."""
ENOUGH = 30
"""People of whom something must be known before anything is said of them."""
_STRONG = 0.5  # kinds of events that count at least this share of the strongest one are what people took
_ERROR = 0.05  # chance that any of the intervals of a comparison misses
_VALUES = 8  # groups of a field of people
_METRICS = (f"ndcg@{LENGTH}", f"hit_rate@{LENGTH}")
Outcome = Literal["better", "worse", "open", "too_few"]


@dataclass(frozen=True)
class MetricChange:
    """A metric under both generations, and its difference with an interval, paired over people.

    All intervals of a comparison hold together with 95 % (Bonferroni).
    """

    name: str
    before: float
    after: float
    low: float
    high: float


@dataclass(frozen=True)
class GroupQuality:
    """How good the lists of some people are.

    Attributes:
        dimension: ``all``, ``history`` or a field of what is kept of people.
        value: A group of it, see :class:`molar_indexes.comparison.GroupChange`; of ``all`` nothing.
        people: Of whom something is known.
        outcome: Whether the later generation is better or worse by NDCG; ``open``: it cannot be told; ``too_few``: less
            than 30 people.
        metrics: NDCG and hit rate at 10; empty where there are too few people.
    """

    dimension: str
    value: str
    people: int
    outcome: Outcome
    metrics: tuple[MetricChange, ...] = ()


@dataclass(frozen=True)
class SinceBoth:
    """What came after both generations were made, and what it says of them.

    Attributes:
        events: The last event that one of the two knows, by its number; what came later is the test.
        people: Who took something that they had not, and that one of the generations has.
        taken: How many items that are.
        groups: Everybody, then new, occasional and regular customers as of that event, then the fields of people.
    """

    events: int
    people: int
    taken: int
    groups: tuple[GroupQuality, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def judged(workspace: Path, before: str, after: str, people: int) -> SinceBoth:
    """How good the lists of two generations are by what at most so many people took since both were made.

    Raises:
        RequestError: If too many people are asked for.
        MissingArtefactError: If there is no such generation.
        StaleArtefactError: If one of them is damaged.
    """
    limits.whole("users", people, limits.COMPARED_PEOPLE)
    with ExitStack() as stack:
        opened = [stack.enter_context(Recommender.open(workspace, name)) for name in (before, after)]
        events = max(known_events(one.generation) for one in opened)
        taken = _taken(Workspace.open(workspace), opened[1].generation, events, people)
        if not taken:
            return SinceBoth(events, 0, 0, (GroupQuality(ALL, "", 0, "too_few"),))
        at = max(datetime.fromisoformat(one.generation.manifest.created) for one in opened)
        past = [stack.enter_context(as_it_was(one, events, at)) for one in opened]
        targets = _findable(past, taken)
        lists = [lists_of(one, list(targets)) for one in past]
        groups = _groups(past[1], list(targets))
    scores = [_scores(one, targets) for one in lists]
    return SinceBoth(events, len(targets), sum(map(len, targets.values())), _compared(groups, scores))


def known_events(generation: Generation) -> int:
    """The last event that a generation has learned of, by its number."""
    return int(generation.manifest.facts.get("events", {}).get("interactions", 0))


def _taken(workspace: Workspace, generation: Generation, events: int, people: int) -> dict[str, list[str]]:
    """What people took since an event, by key: of kinds that count most; of more people some, spread evenly."""
    weights = counted(generation.manifest.facts.get("events", {}).get("kinds") or DEFAULT)
    strong = [kind for kind, weight in weights.items() if weight >= _STRONG * max(weights.values())]
    with closing(EventLogReader(workspace)) as log:
        if log.mark is None or not strong:
            return {}
        last = log.last
        keys = sorted(log.people(events, last, strong)) if last > events else []
        some = [keys[place * len(keys) // people] for place in range(people)] if len(keys) > people else keys
        lines = {key: log.of_person(key, events, last, strong) for key in some}
    items = {
        key: list(dict.fromkeys(line.item_id for line in own if line.item_id is not None)) for key, own in lines.items()
    }
    return {key: own for key, own in items.items() if own}


def _findable(past: Sequence[Recommender], taken: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Of what people took what they had not before, and at least one of the generations has."""
    found: dict[str, set[str]] = {}
    for one in past:
        with one.answering() as answerer:
            state, index = answerer.present()[1], answerer.generation.index
            for key, items in taken.items():
                record = answerer.person(state, key).record
                had = set() if record is None else set(map(int, record.history))
                rows = zip(items, index.rows(items), strict=True)
                found.setdefault(key, set()).update(item for item, row in rows if row is not None and row not in had)
    targets = {key: [item for item in items if item in found[key]] for key, items in taken.items()}
    return {key: items for key, items in targets.items() if items}


def _groups(past: Recommender, keys: Sequence[str]) -> list[dict[str, str]]:
    with past.answering() as answerer:
        state = answerer.present()[1]
        return [{ALL: "", **groups_of(answerer.person(state, key).record)} for key in keys]


def _scores(
    lists: Mapping[str, ShownList], targets: Mapping[str, Sequence[str]]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The metrics of each person, shape (people, metrics)."""
    ranks: list[int] = []
    for key, items in targets.items():
        place = {item.item_id: rank for rank, item in enumerate(lists[key].items, 1)}
        ranks += [place.get(item, 0) for item in items]
    offsets = np.cumsum([0, *map(len, targets.values())])
    found = accuracy(np.array(ranks, np.int64), offsets, [LENGTH])
    return np.stack([found[name] for name in _METRICS], axis=1).astype(np.float64)


def _compared(
    groups: Sequence[Mapping[str, str]], scores: Sequence[np.ndarray[Any, np.dtype[np.float64]]]
) -> tuple[GroupQuality, ...]:
    members: dict[str, dict[str, list[int]]] = {}
    for number, own in enumerate(groups):
        for dimension, value in own.items():
            members.setdefault(dimension, {}).setdefault(value, []).append(number)
    named = []
    for dimension, values in members.items():
        order = sorted(values, key=lambda value: (-len(values[value]), value))[:_VALUES]
        named += [
            (dimension, value) for value in (sorted(order, key=STANDINGS.index) if dimension == HISTORY else order)
        ]
    told = sum(len(members[dimension][value]) >= ENOUGH for dimension, value in named)
    return tuple(
        _group(dimension, value, [one[members[dimension][value]] for one in scores], 1 - _ERROR / max(told, 1))
        for dimension, value in named
    )


def _group(
    dimension: str, value: str, scores: Sequence[np.ndarray[Any, np.dtype[np.float64]]], level: float
) -> GroupQuality:
    before, after = scores
    if len(before) < ENOUGH:
        return GroupQuality(dimension, value, len(before), "too_few")
    intervals = clustered_intervals(after - before, np.arange(len(before)), level=level)
    means = zip(_METRICS, before.mean(axis=0), after.mean(axis=0), intervals, strict=True)
    metrics = tuple(MetricChange(name, float(b), float(a), own.low, own.high) for name, b, a, own in means)
    ndcg = intervals[0]
    outcome: Outcome = "better" if ndcg.low > 0 else "worse" if ndcg.high < 0 else "open"
    return GroupQuality(dimension, value, len(before), outcome, metrics)
