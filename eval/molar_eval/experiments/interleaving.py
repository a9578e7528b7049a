"""Interleaved and shadow lists compared.

Everybody has one *vote* a day (UTC): the sign of what the credits of that day add up to. Where nobody prefers an arm,
votes are tosses of a fair coin, whatever was before, as each list has a coin of its own. So bets on them gain nothing
on average, and all stakes together, spread by a normal distribution, are above 1 / alpha at any time with a chance of
alpha at most (Ville 1939; Robbins 1970, doi:10.1214/aoms/1177696786). That is exact. People who always prefer the same
arm, some this and as many that one, do not count for more people than they are: the variance of the votes is that of
sums by person, where it is larger; so the test holds for them as well, in large samples. What it costs is in
docs/experiments.md.

Answers are slow in bursts, so that consecutive requests are drawn together for the interval of the slowest ones
(bootstrap of blocks, Künsch 1989, doi:10.1214/aos/1176347265).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, log
from statistics import fmean

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_eval.experiments.exposure import PERSON, ItemPrices, lines_of_people, values_of
from molar_eval.experiments.results import Preference, ShadowComparison
from molar_eval.kpi.by_day import CART, CLOCKS, LOOKS, PURCHASE, WINDOW
from molar_eval.statistics import root, sums_by
from molar_retrieval.data.event_log_reader import EventLogSnapshot
from molar_retrieval.data.event_store import DAY
from molar_retrieval.experiments.definition import Primary
from molar_retrieval.experiments.records import ShadowRow
from molar_retrieval.privacy.pseudonyms import session_key, user_key
from molar_retrieval.rng import generator

WEIGHTS: Mapping[Primary, Mapping[str, float]] = {
    "clicks": dict.fromkeys((*LOOKS, CART, PURCHASE), 1.0),
    "conversion": {CART: 0.25, PURCHASE: 1.0},
    "revenue": {PURCHASE: 1.0},
}
"""By how much a use multiplies the credit of its item, by the primary figure of the experiment; of revenue its value
does as well. Other uses count nothing."""
STAKE = 0.16
"""Standard deviation of the stakes: mean votes about as far from 0 are found soonest."""
_COLUMNS = ("event", "user_id", "session_id", "item_id", "timestamp", "quantity", "value", "request_id", "seq")
_BETWEEN = "\0"  # no id has it
_ROUNDING = 1e-9
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Credits:
    """What people used of interleaved lists, a row for each use, shape (n,).

    Attributes:
        people: How many were shown a list for whose places the arms contended.
        person: Who, from 0 to below ``people``.
        day: When, in days since 1970.
        credit: Above 0 for the treatment, below 0 for the control arm.
    """

    people: int
    person: Ints
    day: Ints
    credit: Floats


def preference(found: Credits, alpha: float = 0.05) -> Preference:
    """Whom the treatment won, whom it lost, by the sum of their votes, and what is known of everybody by it.

    ``preference`` is the mean vote. Its interval holds it at all looks together with a chance of 1 - ``alpha``, in
    large samples, and leaves out 0 just where ``p``, which is exact, is below ``alpha``.
    """
    votes = _Votes.of(found)
    wins, losses = int((votes.sums > 0).sum()), int((votes.sums < 0).sum())
    low, high = votes.interval(alpha)
    return Preference(
        wins=wins,
        losses=losses,
        ties=found.people - wins - losses,
        preference=votes.mean,
        low=low,
        high=high,
        p=min(1.0, exp(-votes.gain(0.0))),
        people=found.people,
    )


@dataclass(frozen=True, eq=False)
class _Votes:
    """Sums and numbers of the votes of each person who has any, shape (n,) each."""

    sums: Floats
    counts: Floats

    @classmethod
    def of(cls, found: Credits) -> "_Votes":
        if not len(found.credit):
            return cls(np.zeros(0), np.zeros(0))
        pairs, at = np.unique(np.stack([found.person, found.day], axis=1), axis=0, return_inverse=True)
        at = at.reshape(-1)
        added, sizes = np.bincount(at, found.credit), np.bincount(at, np.abs(found.credit))
        decided = np.abs(added) > _ROUNDING * sizes
        people, who, counts = np.unique(pairs[decided, 0], return_inverse=True, return_counts=True)
        return cls(sums_by(who, np.sign(added[decided]), len(people)), counts.astype(np.float64))

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum()) if len(self.sums) else 0.0

    def gain(self, mean: float) -> float:
        """The logarithm of what bets against a mean vote have made of 1."""
        total, count = float(self.sums.sum()), float(self.counts.sum())
        by_person = float(((self.sums - mean * self.counts) ** 2).sum())
        variance = max(count * (1 + mean**2) - 2 * mean * total, by_person)
        spread = 1 + STAKE**2 * variance
        return (STAKE * (total - mean * count)) ** 2 / (2 * spread) - log(spread) / 2

    def interval(self, alpha: float) -> tuple[float, float]:
        """The mean votes against which bets have not made 1 / ``alpha``, around the one that was seen."""

        def beyond(mean: float) -> float:
            return self.gain(mean) + log(alpha)

        ends = []
        for side in (-1.0, 1.0):
            far = 0.0 if side * self.mean < 0 < beyond(0.0) else side
            ends.append(root(beyond, self.mean, far) if beyond(far) > 0 else side)
        return ends[0], ends[1]


def credits(
    state: EventLogSnapshot | None, lists: pa.Table, until: int, primary: Primary, prices: ItemPrices | None = None
) -> Credits:
    """What came of interleaved lists by the event log.

    A use belongs to a list if it names its ``request_id`` (of HTTP, the ``recommendation_id``), is of an item for which
    the arms contended there, of the person that the list was made for, known by session or since identified, and at
    most seven days after it: as in :mod:`molar_eval.kpi.by_day`, but that the list is on record itself and
    needs no impression. Of each kind one use of an item of a list counts, and of a list those of the first day on
    which there are any, as they tell how its coin fell. Only days that are over count; what is returned later is not
    taken off.

    Args:
        state: The event log; None: there is none.
        lists: As :meth:`molar_retrieval.experiments.store.ExperimentStore.lists` has them: request_id, unit, at, teams.
        until: Up to when events count, in microseconds since 1970.
        primary: What uses count by, see :data:`WEIGHTS`.
        prices: What items cost, for purchases whose event tells no value; None: these bring nothing.
    """
    lists = lists.filter(pc.not_equal(lists["teams"], "{}"))
    identified = {} if state is None else state.identified()
    users = {session_key(session): user_key(user) for session, user in identified.items()}
    units = [users.get(unit, unit) for unit in lists["unit"].to_pylist()]
    people = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    nothing = Credits(len(people), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    if state is None or not len(lists):
        return nothing
    since, end = pc.min(lists["at"]).as_py() - CLOCKS, until // DAY * DAY
    kinds = list(WEIGHTS[primary])
    tables = lines_of_people(state, identified, since, end, _COLUMNS, kinds)
    named = [table.filter(pc.is_in(table["request_id"], lists["request_id"])) for table in tables]
    if not named:
        return nothing
    done = pa.concat_tables(named).sort_by([("timestamp", "ascending"), ("seq", "ascending")])
    who = _rows(done[PERSON], list(people))
    credited = _Credited.of(lists, [people[unit] for unit in units], done["request_id"])
    place = _rows(pc.binary_join_element_wise(done["request_id"], done["item_id"], _BETWEEN), credited.keys)
    since_shown = done["timestamp"].to_numpy() - credited.at[place]
    kind = _rows(done["event"], kinds)
    own = (place >= 0) & (who == credited.person[place]) & (since_shown >= -CLOCKS) & (since_shown <= WINDOW * DAY)
    _, firsts = np.unique(np.where(own, place * len(kinds) + kind, -1), return_index=True)
    taken = firsts[own[firsts]]
    weight = np.array([WEIGHTS[primary][name] for name in kinds])[kind[taken]]
    if primary == "revenue":
        weight = weight * np.maximum(np.nan_to_num(values_of(done, prices)[taken]), 0.0)
    place, day, who = place[taken], done["timestamp"].to_numpy()[taken] // DAY, who[taken]
    credit = weight * credited.credit[place]
    first = np.full(len(lists), day.max(initial=0))
    np.minimum.at(first, credited.of_list[place][credit != 0], day[credit != 0])
    keep = (credit != 0) & (day == first[credited.of_list[place]])
    return Credits(len(people), who[keep], day[keep], credit[keep])


@dataclass(frozen=True, eq=False)
class _Credited:
    """Items of lists that count, a row each, and one at the end for what is no such item."""

    keys: list[str]
    of_list: Ints
    person: Ints
    at: Ints
    credit: Floats

    @classmethod
    def of(cls, lists: pa.Table, persons: list[int], named: pa.ChunkedArray) -> "_Credited":
        """Those of the lists that lines have named."""
        wanted = set(pc.unique(named).to_pylist())
        columns = (lists[name].to_pylist() for name in ("request_id", "at", "teams"))
        rows = [
            (f"{request}{_BETWEEN}{item}", number, person, at, credit)
            for number, (person, request, at, teams) in enumerate(zip(persons, *columns, strict=True))
            if request in wanted
            for item, credit in json.loads(teams).items()
        ]
        keys, *values = zip(*rows, ("", 0, -1, 0, 0.0), strict=True)
        of_list, person, at, credit = map(np.array, values)
        return cls(list(keys[:-1]), of_list, person, at, credit)


def _rows(values: pa.ChunkedArray, known: list[str]) -> Ints:
    """The place of each value among known ones, -1 where it is none of them."""
    found = pc.fill_null(pc.index_in(values, pa.array(known, pa.string()), skip_nulls=True), -1)
    return np.asarray(found, np.int64)


SLOW = 0.99
"""The quantile of times that arms are compared by."""
PRICES = (0.1, 0.5, 0.9)
"""Quantiles of prices that are told."""
BLOCKS = 100
"""Into so many parts requests are cut in the order of time."""
_RESAMPLES = 300
_LEAST = 1e-3  # milliseconds; no clock tells less
_SIDE = 0.025  # what lies beyond each end of an interval


@dataclass(frozen=True)
class ShadowPrices:
    """Mean prices of the lists of an arm: their mean, and their quantiles by :data:`PRICES`."""

    mean: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class ComparedShadows(ShadowComparison):
    """What both arms made of the same requests, in full.

    Attributes:
        identical: Share of requests for which both had the same items.
        p99: 99th percentile of each arm's time, control first, in milliseconds.
        p99_low: Lower end of the interval of ``p99_ratio``, with a confidence of 95 %.
        p99_high: Its upper end; infinite where nothing was answered by both.
        prices: Of each arm, control first; None where no list has prices in both.
    """

    identical: float
    p99: tuple[float, float]
    p99_low: float
    p99_high: float
    prices: tuple[ShadowPrices, ShadowPrices] | None


def compared_shadows(rows: Sequence[ShadowRow]) -> ComparedShadows | None:
    """Compare the arms by requests in the order of time; None where there are none.

    ``requests`` are those that both arms answered, of which all but ``errors`` is told; where there are fewer than a
    thousand the 99th percentile is hardly known, as its interval says.
    """
    if not rows:
        return None
    both = [row for row in rows if not (row.control_error or row.treatment_error)]
    times = _SlowestTimes([row.control_ms for row in both], [row.treatment_ms for row in both])
    control, treatment = times.of(np.ones(len(both))) if both else (0.0, 0.0)
    low, high = times.interval() if both else (0.0, inf)
    prices = _prices(both)
    return ComparedShadows(
        requests=len(both),
        overlap=fmean([row.overlap for row in both]) if both else 0.0,
        p99_ratio=treatment / control if both else 1.0,
        errors=sum(row.treatment_error and not row.control_error for row in rows),
        empty=sum(row.treatment_empty - row.control_empty for row in both),
        price=None if prices is None or prices[0].mean <= 0 else prices[1].mean / prices[0].mean,
        identical=fmean([row.overlap >= 1 for row in both]) if both else 0.0,
        p99=(control, treatment),
        p99_low=low,
        p99_high=high,
        prices=prices,
    )


class _SlowestTimes:
    """The quantile of the times of both arms, in milliseconds, for requests that count as often as weights say."""

    def __init__(self, control: Sequence[float], treatment: Sequence[float]) -> None:
        self._n = len(control)
        self._arms: list[tuple[Floats, npt.NDArray[np.intp]]] = []
        for times in (np.maximum(control, _LEAST), np.maximum(treatment, _LEAST)):
            order = np.argsort(times, kind="stable")
            self._arms.append((times[order], order))

    def of(self, weights: Floats) -> tuple[float, float]:
        control, treatment = (self._quantile(times, weights[order]) for times, order in self._arms)
        return control, treatment

    def interval(self) -> tuple[float, float]:
        """That of the ratio, by blocks of consecutive requests that are drawn with replacement."""
        blocks = min(BLOCKS, self._n)
        block = np.arange(self._n) * blocks // self._n
        random = generator(0, "shadow")
        ratios = []
        for _ in range(_RESAMPLES):
            drawn = np.bincount(random.integers(0, blocks, blocks), minlength=blocks)
            control, treatment = self.of(drawn[block].astype(np.float64))
            ratios.append(treatment / control)
        low, high = np.quantile(ratios, [_SIDE, 1 - _SIDE])
        return float(low), float(high)

    def _quantile(self, times: Floats, weights: Floats) -> float:
        reached = np.cumsum(weights)
        return float(times[np.searchsorted(reached, SLOW * reached[-1])])


def _prices(both: Sequence[ShadowRow]) -> tuple[ShadowPrices, ShadowPrices] | None:
    told = [
        (row.control_price, row.treatment_price)
        for row in both
        if row.control_price is not None and row.treatment_price is not None
    ]
    if not told:
        return None
    control, treatment = (
        ShadowPrices(float(prices.mean()), tuple(np.quantile(prices, PRICES).tolist())) for prices in np.array(told).T
    )
    return control, treatment
