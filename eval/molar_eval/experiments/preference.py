"""Which arm people prefer where one list is made of both: what they used of it, and a test that may be looked at daily.

People are the units. Somebody's *verdict* is the sign of what their credits add up to on the first day (UTC) on which
they do not cancel, and stays: so every person is one toss, in the order of the days, and where neither arm is preferred
a fair one. The tosses are bet on with all stakes at once: the gain, a mixture of likelihood ratios over shares that are
spread by a beta distribution, is above 1 / alpha at any time with a chance of alpha at most (Ville 1939; Robbins 1970,
doi:10.1214/aoms/1177696786). What it costs in people, and what it spares, is in docs/experiments.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import brentq
from scipy.special import betaln, xlogy

from molar_eval.experiments.observed import PERSON, ItemPrices, lines_of_people, values_of
from molar_eval.experiments.results import Preference
from molar_eval.kpi.daily.attribution import CART, CLOCKS, LOOKS, PURCHASE, WINDOW
from molar_retrieval.events.snapshot import LogState
from molar_retrieval.events.tables import DAY
from molar_retrieval.experiments.definition import Primary
from molar_retrieval.interactions.users import session_key, user_key

WEIGHTS: Mapping[Primary, Mapping[str, float]] = {
    "clicks": dict.fromkeys((*LOOKS, CART, PURCHASE), 1.0),
    "conversion": {CART: 0.25, PURCHASE: 1.0},
    "revenue": {PURCHASE: 1.0},
}
"""By how much a use multiplies the credit of its item, by the primary figure of the experiment; of revenue its value
does as well. Other uses count nothing."""
SPREAD = 20.0
"""Both parameters of the beta distribution: shares between .55 and .65, or .35 and .45, are found soonest."""
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
    """Whom the treatment won, whom it lost, and what is known of everybody by it.

    The interval is of the share of people whose verdict is for the treatment among those who have one, less the share
    of the others; it holds it at all times together with a chance of 1 - ``alpha``. It leaves out 0 where ``p`` is
    below ``alpha``.
    """
    verdicts = _verdicts(found)
    wins, losses = int((verdicts > 0).sum()), int((verdicts < 0).sum())
    decided = wins + losses
    low, high = share_sequence(wins, losses, alpha)
    return Preference(
        wins=wins,
        losses=losses,
        ties=found.people - decided,
        preference=(wins - losses) / decided if decided else 0.0,
        low=2 * low - 1,
        high=2 * high - 1,
        p=min(1.0, exp(-_gain(wins, losses, 0.5))),
        people=found.people,
    )


def share_sequence(wins: int, losses: int, alpha: float = 0.05) -> tuple[float, float]:
    """A confidence sequence of the chance of a win: with one of 1 - ``alpha`` it holds that at all times."""
    share = wins / (wins + losses) if wins + losses else 0.5

    def beyond(chance: float) -> float:
        return _gain(wins, losses, chance) + log(alpha)

    nearly = 1e-12
    low = float(brentq(beyond, nearly, share)) if wins and beyond(nearly) > 0 else 0.0
    high = float(brentq(beyond, share, 1 - nearly)) if losses and beyond(1 - nearly) > 0 else 1.0
    return low, high


def _gain(wins: int, losses: int, chance: float) -> float:
    """The logarithm of what bets against a chance of winning have made of 1."""
    against = float(betaln(SPREAD + wins, SPREAD + losses) - betaln(SPREAD, SPREAD))
    return against - float(xlogy(wins, chance) + xlogy(losses, 1 - chance))


def _verdicts(found: Credits) -> Ints:
    """1 for the treatment, -1 for the control arm, of those who have one."""
    if not len(found.credit):
        return np.zeros(0, np.int64)
    pairs, at = np.unique(np.stack([found.person, found.day], axis=1), axis=0, return_inverse=True)
    at = at.reshape(-1)
    sums, sizes = np.bincount(at, found.credit), np.bincount(at, np.abs(found.credit))
    decided = np.abs(sums) > _ROUNDING * sizes
    _, first = np.unique(pairs[decided, 0], return_index=True)
    return np.sign(sums[decided][first]).astype(np.int64)


def credits(
    state: LogState | None, lists: pa.Table, until: int, primary: Primary, prices: ItemPrices | None = None
) -> Credits:
    """What came of interleaved lists by the event log.

    A use belongs to a list if it names its ``request_id`` (of HTTP, the ``recommendation_id``), is of an item for which
    the arms contended there, of the person that the list was made for, known by session or since identified, and at
    most seven days after it: as in :mod:`molar_eval.kpi.daily.attribution`, but that the list is on record itself and
    needs no impression. Of each kind one use of an item of a list counts, the first one. Only days that are over
    count, so that no verdict changes; what is returned later is not taken off.

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
    day = done["timestamp"].to_numpy()[taken] // DAY
    return Credits(len(people), who[taken], day, weight * credited.credit[place[taken]])


@dataclass(frozen=True, eq=False)
class _Credited:
    """Items of lists that count, a row each, and one at the end for what is no such item."""

    keys: list[str]
    person: Ints
    at: Ints
    credit: Floats

    @classmethod
    def of(cls, lists: pa.Table, persons: list[int], named: pa.ChunkedArray) -> "_Credited":
        """Those of the lists that lines have named."""
        wanted = set(pc.unique(named).to_pylist())
        columns = (lists[name].to_pylist() for name in ("request_id", "at", "teams"))
        rows = [
            (f"{request}{_BETWEEN}{item}", person, at, credit)
            for person, request, at, teams in zip(persons, *columns, strict=True)
            if request in wanted
            for item, credit in json.loads(teams).items()
        ]
        keys, *values = zip(*rows, ("", -1, 0, 0.0), strict=True)
        person, at, credit = map(np.array, values)
        return cls(list(keys[:-1]), person, at, credit)


def _rows(values: pa.ChunkedArray, known: list[str]) -> Ints:
    """The place of each value among known ones, -1 where it is none of them."""
    found = pc.fill_null(pc.index_in(values, pa.array(known, pa.string()), skip_nulls=True), -1)
    return np.asarray(found, np.int64)
