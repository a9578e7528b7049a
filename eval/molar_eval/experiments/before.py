"""What people did before an experiment began, which CUPED takes out of what they do in it."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from molar_eval.experiments.outcomes import BEFORE, Floats, cut, days_bought, sums_of
from molar_eval.experiments.past import past_purchases
from molar_eval.experiments.population import Population
from molar_retrieval.data.event_store import DAY
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace.artefacts import Workspace

_KEPT = 4  # experiments whose people's past is kept in memory


@dataclass(frozen=True, eq=False)
class PastOfPeople:
    """What n people did in the :data:`BEFORE` weeks before an experiment, shape (n,); large figures are cut.

    Attributes:
        days: On how many days each bought.
        spent: What each spent; None: there are no prices.
    """

    days: Floats
    spent: Floats | None

    def of(self, metric: str) -> Floats | None:
        """What goes with a metric: of revenue what was spent, of others the days on which somebody bought."""
        return self.spent if metric == "revenue" else self.days


def past_of(people: Population, workspace: Workspace, begun: int) -> PastOfPeople | None:
    """What people bought by file and events before the experiment began; None: it is not known of anybody.

    It is read once in a process for each experiment and state of the catalogue. What comes late to a log that was read
    is left out: that makes the figures no less valid, as it is of both arms.
    """
    pointer = workspace["catalogue"].pointer
    found = None if pointer is None else _purchases(workspace.root, pointer, begun)
    if found is None:
        return None
    keys, days, spent = found
    rows = keys.rows(people.keys.array)
    known = rows >= 0
    if not known.any():
        return None
    of_days, of_money = (None if each is None else cut(np.where(known, each[rows], 0.0)) for each in (days, spent))
    assert of_days is not None
    return PastOfPeople(of_days, of_money)


@lru_cache(maxsize=_KEPT)
def _purchases(root: Path, catalogue: str, begun: int) -> tuple[IdMap, Floats, Floats | None] | None:
    """Who bought in the weeks before a moment, on how many days and for how much."""
    try:
        past = past_purchases(Workspace(root))
    except DataError:  # nobody bought anything, or nobody knows when
        return None
    day = past.micros // DAY
    earlier = (past.micros < begun) & (day >= begun // DAY - 7 * BEFORE)
    who = np.unique(past.person[earlier])
    if not len(who):
        return None
    days = days_bought(who, past.person[earlier], day[earlier])
    spent = None if past.value is None else sums_of(who, past.person[earlier], past.value[earlier])
    return IdMap([past.keys[number] for number in who.tolist()]), days, spent
