"""Repeat consumption: which items of their history users take again, by how often, how long ago, how usual that is.

Answers read it, so what only fitting needs is imported there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.workspace.tensors import Array, Matrix, Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from molar_retrieval.data.interactions import Interactions
    from molar_retrieval.models.popularity import Popularity

Integers = npt.NDArray[np.integer]
DAY = 86_400
REPEAT_CONSUMPTION = "repeat_consumption"
_TOGETHER = 32
"""Days of which the demand of all items is held at a time."""
_USUAL = 60.0
"""Days between two times, as far as a history does not tell."""


class HistoryItems(NamedTuple):
    """People with each different item of their histories, P of them: rows, and what the chance is made of, (P, 4)."""

    users: Rows
    items: Rows
    features: Array


@dataclass(frozen=True, eq=False)
class RepeatConsumption:
    """The chance that somebody takes an item again on a day on which they take anything, a *visit*.

    A logistic regression on training visits. Of an item that was taken on n days, the first and the last of them
    ``span`` days apart and the last one g days and v visits ago, by somebody with V visits in all:

        logit = b₀ + b₁ log n + b₂ log(1 + v) + b₃ log²(g / τ + 0.1) + b₄ log V + b₅ demand + tendency of the item
        τ = (span + 60) / n

    τ is the usual interval, in days, demand that of :class:`~molar_retrieval.models.popularity.Popularity`. The
    tendency is how much more often the item is taken again than these numbers say: the logarithm of repeats against
    those expected, both plus 20 (as the repeat customer probability of Bhagat et al. 2018,
    doi:10.1145/3219819.3219891), times a number that is fitted with the others. Decay in a user's
    own visits is as in Anderson et al. 2014 (doi:10.1145/2566486.2568018).

    The score is ``log(1 + exp(logit) · M / B)``, M being the known items and B those of a visit on average: the odds
    against those of any item. It is 0 for all that somebody did not have, or had on the day that is asked about.

    Attributes:
        numbers: b₀ to b₅.
        tendency: Of each item, shape (n_items,); -inf where nobody had it.
        demand: The same at ``until``, as numbers of the trend, shape (n_items,).
        lift: ``log(M / B)``.
        until: The moment at which histories are asked about where nothing else is said, in seconds since 1970.
        trend: Demand at other moments; None: it is taken for what it is at ``until``.
    """

    numbers: npt.NDArray[np.float64]
    tendency: npt.NDArray[np.float32]
    demand: npt.NDArray[np.float32]
    lift: float
    until: int
    popularity: "Popularity | None" = None

    name: ClassVar[str] = REPEAT_CONSUMPTION

    @property
    def weights(self) -> "csr_matrix":
        """What an item of a history says of the others: of itself alone, shape (n_items, n_items)."""
        from scipy.sparse import csr_matrix, diags_array

        return csr_matrix(diags_array(np.isfinite(self.tendency).astype(np.float32)))

    def read(self, log: "Interactions") -> "csr_matrix":
        """Scores of the items of each history when it is asked about, shape (n_users, n_items), float32."""
        from scipy.sparse import csr_matrix

        asked = np.full(log.n_users, self.until) if log.asked_at is None else log.asked_at
        pairs = history_items(log.user, log.item, log.timestamp, asked)
        demand = self.demand[pairs.items]
        if self.popularity is not None and log.asked_at is not None:
            demand = demanded(self.popularity, pairs, asked)
        scores = self._scores(pairs, demand)
        matrix = csr_matrix((scores, (pairs.users, pairs.items)), shape=(log.n_users, log.n_items))
        matrix.eliminate_zeros()
        return matrix

    def scores(self, log: "Interactions") -> Matrix:
        """The same for all items."""
        result: Matrix = self.read(log).toarray()
        return result

    def __call__(self, items: Rows, times: Rows) -> tuple[Rows, Matrix]:
        """The items of one history that have a score, ascending, and the scores; oldest first, times in seconds.

        It is asked about at ``until``, or when it ends, if that is later.
        """
        asked = np.array([max(self.until, int(times[-1]) if len(times) else 0)])
        pairs = history_items(np.zeros(len(items), np.int64), items, times, asked)
        scores = self._scores(pairs, self.demand[pairs.items])
        return pairs.items[scores > 0], scores[scores > 0]

    def described(self) -> dict[str, Any]:
        """All that is no array of items, JSON-able."""
        return {"numbers": self.numbers.tolist(), "lift": self.lift, "until": self.until}

    @classmethod
    def of(cls, described: Mapping[str, Any], tensors: Mapping[str, Array]) -> Self:
        """The inverse of :meth:`described` and :meth:`to_tensors`; other arrays are not looked at."""
        tendency, demand = (tensors[f"{REPEAT_CONSUMPTION}.{name}"] for name in ("tendency", "demand"))
        return cls(np.array(described["numbers"]), tendency, demand, float(described["lift"]), int(described["until"]))

    def to_tensors(self) -> dict[str, Array]:
        """What is told of items, by name."""
        return {f"{REPEAT_CONSUMPTION}.tendency": self.tendency, f"{REPEAT_CONSUMPTION}.demand": self.demand}

    def _scores(self, pairs: HistoryItems, demand: Array) -> Matrix:
        logits = self.numbers[0] + pairs.features @ self.numbers[1:-1] + self.numbers[-1] * demand
        logits += self.tendency[pairs.items]
        scores: Matrix = np.logaddexp(0, logits + self.lift).astype(np.float32)
        return scores


def demanded(popularity: "Popularity", pairs: HistoryItems, asked: Rows) -> Array:
    """Demand of the items of histories on the days when these are asked about, shape (P,)."""
    days, which = np.unique(asked // DAY, return_inverse=True)
    own, found = which[pairs.users], np.empty(len(pairs.items))
    for begin in range(0, len(days), _TOGETHER):
        some = days[begin : begin + _TOGETHER]
        here = (own >= begin) & (own < begin + len(some))
        found[here] = popularity.log_scores(some * DAY)[own[here] - begin, pairs.items[here]]
    return found


def day_after(log: "Interactions") -> int:
    """The beginning of the day after a log's last interaction, in seconds since 1970."""
    return DAY * (int(log.timestamp.max()) // DAY + 1) if len(log) else 0


def visits_begin(users: Integers, days: Integers) -> npt.NDArray[np.bool_]:
    """Where a visit begins, of interactions by person and time, shape (n,)."""
    begins = np.ones(len(users), bool)
    begins[1:] = (users[1:] != users[:-1]) | (days[1:] != days[:-1])
    return begins


def history_items(people: Integers, rows: Integers, times: Rows, asked: Rows) -> HistoryItems:
    """What histories, by person and time, say of their items when they are ``asked`` about, shape (n_users,).

    What was taken on that day is left out, and so is what has no time.
    """
    users, items, days = people.astype(np.int64), rows.astype(np.int64), times // DAY
    today = asked // DAY
    width = int(items.max(initial=0)) + 1
    past = (days < today[users]) & (times > 0)
    gone = np.unique((users * width + items)[days >= today[users]])
    users, items, days = users[past], items[past], days[past]
    visit = np.cumsum(visits_begin(users, days))
    order = np.argsort(users * width + items, kind="stable")
    users, items, days, visit = users[order], items[order], days[order], visit[order]
    pairs = users * width + items
    begins = np.flatnonzero(np.diff(pairs, prepend=-1))
    ends = np.append(begins[1:], len(pairs)) - 1 if len(begins) else begins
    newly = np.ones(len(pairs), np.int64)
    newly[1:] = (pairs[1:] != pairs[:-1]) | (days[1:] != days[:-1])
    count = np.add.reduceat(newly, begins) if len(begins) else newly
    first, last = np.full(len(asked), len(visit) + 1), np.zeros(len(asked), np.int64)
    np.minimum.at(first, users, visit)
    np.maximum.at(last, users, visit)
    kept = ~np.isin(pairs[begins], gone)
    begins, ends, count = begins[kept], ends[kept], count[kept]
    who = users[begins]
    usual = (days[ends] - days[begins] + _USUAL) / count
    overdue = np.log((today[who] - days[ends]) / usual + 0.1)
    since, visits = last[who] - visit[ends], last[who] - first[who] + 1
    return HistoryItems(
        who, items[begins], np.column_stack([np.log(count), np.log1p(since), overdue**2, np.log(visits)])
    )


_RARE = 0.01
"""Share of a log's interactions that repeat a former day's, below which nothing is learned."""
_FEWEST = 200
"""Repeats from which the numbers can be told."""
_MOMENTS, _PAIRS = 10_000, 1_000_000
"""Visits that are learned from, and interactions before them in all."""
_PRIOR = 20.0
"""Repeats of an item, as expected of any, that its own tendency is held against."""
_HALF_LIFE = 7.0
"""Of demand, in days."""
_SEED = 0


def fit_repeat_consumption(log: "Interactions", until: int | None = None, least: int = 1) -> RepeatConsumption | None:
    """Learn from a log; None where it has no times, or next to nothing is taken again.

    Items that fewer than ``least`` people had have no tendency of their own. ``until`` is the day after the log's
    last interaction, if nothing else is said.
    """
    from molar_retrieval.models.k_anonymity import had_by_few
    from molar_retrieval.models.popularity import Popularity

    if not len(log) or int(log.timestamp.min()) <= 0 or _repeats(log) < _RARE * len(log):
        return None
    visits = _DrawnVisits.drawn(log)
    if visits is None:
        return None
    pairs = history_items(visits.histories.user, visits.histories.item, visits.histories.timestamp, visits.asked)
    taken = np.isin(pairs.users * log.n_items + pairs.items, visits.taken)
    if np.count_nonzero(taken) < _FEWEST:
        return None
    popularity = Popularity.fit(log, _HALF_LIFE, least)
    features = np.column_stack([pairs.features, demanded(popularity, pairs, visits.asked)])
    numbers = _logistic(features, taken)
    expected = _sigmoid(numbers[0] + features @ numbers[1:])
    sums = [np.bincount(pairs.items, values, minlength=log.n_items) for values in (taken, expected)]
    tendency = np.log((sums[0] + _PRIOR) / (sums[1] + _PRIOR))
    tendency[had_by_few(log, least)] = 0
    learned = _logistic(np.column_stack([features, tendency[pairs.items]]), taken)
    counts = np.bincount(log.item, minlength=log.n_items)
    lift = np.log(np.count_nonzero(counts) * len(visits.asked) / len(visits.taken))
    known = np.where(counts > 0, learned[-1] * tendency, -np.inf).astype(np.float32)
    return RepeatConsumption(
        learned[:-1], known, popularity.now(), float(lift), day_after(log) if until is None else until, popularity
    )


def over_items(repeats: RepeatConsumption, rows: Rows, log: "Interactions", least: int = 1) -> RepeatConsumption:
    """The same over other items and a later log: each item was at ``rows`` before, -1 where it is new.

    An item that nobody had when habits were learned has no tendency of its own.
    """
    from molar_retrieval.models.item_item import known_items
    from molar_retrieval.models.popularity import Popularity

    before = np.where(rows >= 0, repeats.tendency[rows], -np.inf)
    tendency = np.where(known_items(log), np.where(np.isfinite(before), before, 0), -np.inf).astype(np.float32)
    demand = Popularity.fit(log, _HALF_LIFE, least).now()
    return replace(repeats, tendency=tendency, demand=demand, until=day_after(log), popularity=None)


def seeing(repeats: RepeatConsumption, log: "Interactions", least: int = 1) -> RepeatConsumption:
    """The same, with the demand of all items over the time of a log."""
    from molar_retrieval.models.popularity import Popularity

    return replace(repeats, popularity=Popularity.fit(log, _HALF_LIFE, least))


class _DrawnVisits(NamedTuple):
    """Visits of a log, drawn at random: histories before them, when they were, and which pairs were taken then."""

    histories: "Interactions"
    asked: Rows
    taken: Rows  # visit · n_items + item, each once

    @classmethod
    def drawn(cls, log: "Interactions") -> "_DrawnVisits | None":
        """At most 10,000 of those that are not a person's first; None: there are none."""
        begins = np.flatnonzero(visits_begin(log.user, log.timestamp // DAY))
        ends = np.append(begins[1:], len(log))
        before = begins - log.offsets[log.user[begins]]
        later = np.flatnonzero(before > 0)
        order = rng.generator(_SEED, "visits").permutation(later)[:_MOMENTS]
        chosen = np.sort(order[: max(1, int(np.searchsorted(np.cumsum(before[order]), _PAIRS)))])
        if not len(chosen):
            return None
        lengths = ends[chosen] - begins[chosen]
        visit = np.repeat(np.arange(len(chosen)), lengths)
        slots = np.arange(len(visit)) + np.repeat(begins[chosen] - np.cumsum(lengths) + lengths, lengths)
        taken = np.unique(visit * log.n_items + log.item[slots])
        return cls(log.before(begins[chosen]), log.timestamp[begins[chosen]], taken)


def _repeats(log: "Interactions") -> int:
    """Interactions with an item that the person had before, each day once."""
    pairs = log.user.astype(np.int64) * log.n_items + log.item
    order = np.argsort(pairs, kind="stable")
    pairs, days = pairs[order], log.timestamp[order] // DAY
    return int(np.count_nonzero((pairs[1:] == pairs[:-1]) & (days[1:] != days[:-1])))


def _sigmoid(logits: Array) -> Array:
    return 1 / (1 + np.exp(-logits))


def _logistic(features: Array, taken: npt.NDArray[np.bool_], ridge: float = 1.0) -> npt.NDArray[np.float64]:
    """A logistic regression with a slight ridge, by Newton's method: the constant, then a number for each feature."""
    table = np.column_stack([np.ones(len(features)), features])
    numbers = np.zeros(table.shape[1])
    penalty = ridge * np.eye(len(numbers))
    for _ in range(25):
        chance = _sigmoid(table @ numbers)
        slope = table.T @ (taken - chance) - penalty @ numbers
        step = np.linalg.solve((table * (chance * (1 - chance))[:, None]).T @ table + penalty, slope)
        numbers += step
        if np.abs(step).max() < 1e-6:
            break
    return numbers
