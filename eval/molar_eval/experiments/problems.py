"""What is broken about an experiment's data, in sentences: while anything is, there is no verdict."""

from collections.abc import Mapping

import numpy as np

from molar_eval.experiments.observed import HOUR, Ints, Observed
from molar_eval.experiments.population import Population
from molar_eval.experiments.sample_ratio import MISMATCH
from molar_retrieval.data.event_store import DAY
from molar_retrieval.experiments.definition import ARMS, CONTROL, TREATMENT, Experiment

MOST_BOTH = 0.05
"""Share of people with both arms from which on leaving them out may change who is compared."""
_FEWEST = 50  # people or lines from which on something is said of shares
_MOST_WRONG = 0.01  # share of lines with impossible times
_HOLE, _LONG, _WEEK = 24, 72, 168  # hours: without any line, without any whatever the weekday, of a week
_DAYS = 72  # hours from which on a hole is told in days
_LINES_A_DAY = 24 * 3  # below which a day without a line may be chance


def uneven(people: Mapping[str, int], met: Mapping[str, int], srm: float | None) -> list[str]:
    """That not as many people are in each arm as were meant to be."""
    if srm is None or srm >= MISMATCH:
        return []
    words = f"{people[CONTROL]:,} and {people[TREATMENT]:,} people, {met[CONTROL]:,} and {met[TREATMENT]:,} of them"
    return [
        f"the arms are uneven: {words} who met a difference, by chance with p = {srm:.1g}; find what loses"
        " people of one arm, and begin a new experiment"
    ]


def mixed(people: Population) -> list[str]:
    """That many people had both arms."""
    everybody = len(people) + people.both
    if everybody < _FEWEST or people.both <= MOST_BOTH * everybody:
        return []
    share = people.both / everybody
    return [f"{share:.0%} of the people had both arms and are left out: send user_id and session_id with each request"]


def silent(people: Population, observed: Observed) -> list[str]:
    """That the page tells nothing of people who were shown lists."""
    met = people.met
    found = []
    for treated, arm in enumerate(ARMS):
        own = met & (people.treated == bool(treated))
        count = int(np.count_nonzero(own))
        if count >= _FEWEST and not observed.seen[own].any():
            found.append(
                f"the event log has nothing that the {count:,} people of {arm} did since they met a difference:"
                " let the page send events"
            )
    return found


def unpriced(experiment: Experiment, observed: Observed) -> list[str]:
    """That the revenue of many purchases is not known where it decides."""
    bought = float(observed.purchases.sum())
    if experiment.primary != "revenue" or not observed.unpriced or observed.unpriced <= MOST_BOTH * bought:
        return []
    return [f"{observed.unpriced:,} purchases have no value, and their items no price: send value with purchases"]


def unheard_clicks(experiment: Experiment, observed: Observed) -> list[str]:
    """That looks name no list where they decide."""
    if experiment.primary != "clicks" or observed.clicks.any() or observed.lines < _FEWEST:
        return []
    return ["no click or view names the list that it came of: send request_id with clicks"]


def clocks(people: Population, observed: Observed, until: int) -> list[str]:
    """That moments cannot be right."""
    found = []
    later = int(np.count_nonzero(people.first > until + HOUR))
    if later:
        found.append(f"{later:,} people were first seen later than now: the clock of a server was set back or is wrong")
    for count, what in (
        (observed.ahead, "come from the future, by more than an hour"),
        (observed.early, "name an arm before their person was first seen"),
    ):
        if count > max(_MOST_WRONG * observed.lines, 1):
            found.append(
                f"{count:,} of {observed.lines:,} lines of the event log {what}: set the clocks, or send sent_at"
            )
    return found


def holes(observed: Observed, since: int, until: int, removed: int) -> list[str]:
    """That the event log lacks hours, at which it has lines in other weeks."""
    found = []
    if removed * DAY > since:
        found.append("events of since the stage began were removed: keep more days, `[events] keep_days`")
    hours = np.array([observed.hours.get(hour, 0) for hour in range(-(-since // HOUR), until // HOUR)], np.int64)
    if len(hours) and hours.mean() * 24 >= _LINES_A_DAY:
        longest = max((end - begin for begin, end in _empty(hours) if _unusual(hours, begin, end)), default=0)
        if longest:
            so_long = f"{longest} hours" if longest < _DAYS else f"{longest // 24:,} days"
            found.append(f"the event log has nothing of {so_long} on end: append what is missing")
    return found


def _empty(hours: Ints) -> list[tuple[int, int]]:
    """Where hours on end have no line, at least :data:`_HOLE` of them."""
    edges = np.flatnonzero(np.diff(np.r_[False, hours == 0, False]))
    return [(begin, end) for begin, end in edges.reshape(-1, 2).tolist() if end - begin >= _HOLE]


def _unusual(hours: Ints, begin: int, end: int) -> bool:
    """Whether the same hours of the week before or after have lines; where neither is known, whether it is long."""
    shifted = [np.arange(begin, end) + week for week in (-_WEEK, _WEEK)]
    there = np.concatenate([each[(each >= 0) & (each < len(hours))] for each in shifted])
    return bool(hours[there].any()) if len(there) else end - begin >= _LONG


def gone(experiment: Experiment, generations: set[str]) -> list[str]:
    """That an arm's generation is there no more."""
    return [
        f"the generation {name} of {arm} is gone: publish it again, or stop the experiment"
        for arm in ARMS
        if (name := experiment.arm(arm).generation) is not None and name not in generations
    ]
