"""How often what an experiment says of the demo shop's people is true: ``python bench/introduction.py --runs 200``.

Lists are made from the hidden tastes and chance, without an index, so that a play takes seconds; people, clicks,
purchases, the record, the event log and what is read off them are those of ``molar demo --experiment``. Plays are

* ``better``: an A/B stage with a treatment that is better: how often do intervals hold the truth?
* ``equal``: with two arms that are as good as each other: how often is one of them said to be better?
* ``harmful``: a canary of 5 % in which lists cost a fifth of the clicks: how many people meet it until it goes back?
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from molar.planted import METRICS, EstimateBesideTruth, PlantedTruth
from molar_eval.experiments.analysis import analyse
from molar_eval.experiments.results import ExperimentResults
from molar_retrieval import rng as seeds
from molar_retrieval.data.demo import DemoShop, plan_shop
from molar_retrieval.data.demo.catalogue import with_visitors
from molar_retrieval.data.demo.traffic import DAY, PICKY, TrafficSimulator
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.experiments.assignment import arm_of
from molar_retrieval.experiments.definition import ARMS, TREATMENT, Arm, Experiment, Stage
from molar_retrieval.experiments.records import Assignment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.pseudonyms import session_key
from molar_retrieval.workspace.artefacts import Workspace

START = 1_737_849_600  # a midnight
NAME = "lists"
ITEMS, PLACES = 120, 10
SECOND = 1_000_000


@dataclass(frozen=True)
class Kind:
    """A kind of play: its stage, how much each arm's lists know of tastes, days between two looks, and days at most."""

    stage: Stage
    control: float
    treatment: float
    every: int
    days: int = 28


KINDS = {
    "better": Kind("ab", 0.3, 0.4, 7),
    "equal": Kind("ab", 0.4, 0.4, 7),
    "harmful": Kind("canary", 0.7, 0.52, 1),
}


@dataclass
class Played:
    """How a play ended: after how many days, by what decision, how many treated people had met a difference by then."""

    days: int
    go: str
    treated: int
    estimates: Sequence[EstimateBesideTruth] = field(default_factory=tuple)


class Play:
    """One play, in a folder of its own."""

    def __init__(self, kind: Kind, seed: int, people: int, folder: Path) -> None:
        self._kind, self._seed = kind, seed
        experiment = Experiment(NAME, treatment=Arm(options={"diversity": 0.5}), salt=f"{NAME} {seed}")
        self._workspace = Workspace(folder)
        self._store = ExperimentStore(self._workspace, make=True)
        self._store.start(experiment, kind.stage, START * SECOND)
        shop = _of_experiment(plan_shop(seed, items=ITEMS, users=20), people, experiment, kind.stage)
        self._life = TrafficSimulator(shop, START, kind.days, seed, PICKY)
        self._arms = [arm_of(experiment, kind.stage, session_key(user.user_id)) for user in shop.users]
        self._lists: dict[int, dict[str, list[str]]] = {}
        self._truth = PlantedTruth()

    def through(self) -> Played:
        """Until there is a decision, or the days are over."""
        with closing(EventLog(self._workspace)) as log, self._store:
            for day in range(self._kind.days):
                events, units = self._day(day)
                self._store.assign(units)
                self._store.trigger(NAME, [(one.unit, one.first) for one in units])
                log.append(enumerate(events))
                if (day + 1) % self._kind.every == 0:
                    results = analyse(self._workspace, NAME, (START + (day + 1) * DAY) * SECOND)
                    if results.decision.go != "wait" or day + 1 == self._kind.days:
                        return self._played(day + 1, results)
        raise AssertionError("the last day has a look")

    def _day(self, day: int) -> tuple[list[Mapping[str, Any]], list[Assignment]]:
        self._life.morning(day)
        events: list[Mapping[str, Any]] = []
        units = []
        for visit in self._life.visits(day):
            arm, unit, at = self._arms[visit.user], session_key(self._life.shop.users[visit.user].user_id), visit.at
            if arm is None:
                continue
            if visit.user not in self._lists:
                self._lists[visit.user] = self._listed(visit.user)
                units.append(Assignment(NAME, unit, arm, at * SECOND))
            lists = self._lists[visit.user]
            self._truth.add(unit, at * SECOND, *(self._life.expected(visit.user, lists[one]) for one in ARMS))
            done = self._life.visit(visit, dict.fromkeys(lists[arm], 1.0), f"{visit.user}-{at}")
            events += [event for event in done.events if event["event"] in ("click", "purchase")]
        return events, units

    def _listed(self, user: int) -> dict[str, list[str]]:
        """The list of somebody by either arm, for the whole play: tastes as far as the arm knows them, and chance."""
        with np.errstate(divide="ignore"):
            likes = np.log(self._life.chances(user))
        found = {}
        for arm in ARMS:
            chance = seeds.generator(self._seed, "lists", user, arm).gumbel(size=len(likes))
            rows = np.argsort(-((self._kind.treatment if arm == TREATMENT else self._kind.control) * likes + chance))
            found[arm] = [self._life.shop.items[row].item_id for row in rows[:PLACES].tolist()]
        return found

    def _played(self, days: int, results: ExperimentResults) -> Played:
        units = self._store.units(NAME)
        since = dict(zip(units["unit"].to_pylist(), units["triggered"].to_pylist(), strict=True))
        treated = sum(arm == TREATMENT for arm in units["arm"].to_pylist())
        return Played(days, results.decision.go, treated, self._truth.beside(results, since))


def _of_experiment(shop: DemoShop, people: int, experiment: Experiment, stage: Stage) -> DemoShop:
    """So many anonymous people who are in an arm of the stage; the others would only cost time."""
    names = (f"v{number}" for number in count(1))
    drawn = (name for name in names if arm_of(experiment, stage, session_key(name)) is not None)
    strangers = with_visitors(replace(shop, users=()), people).users
    return replace(shop, users=tuple(replace(one, user_id=next(drawn)) for one in strangers))


def plays(kind: Kind, runs: int, people: int, first: int = 0) -> Iterator[Played]:
    """Some plays of a kind, each with a seed of its own."""
    for seed in range(first, first + runs):
        with tempfile.TemporaryDirectory() as folder:
            yield Play(kind, seed, people, Path(folder)).through()


def summary(found: Sequence[Played]) -> dict[str, Any]:
    """What plays of a kind have in common: decisions, people, and how often intervals held the truth."""
    told: dict[str, Any] = {"plays": len(found)}
    told["decisions"] = {go: sum(one.go == go for one in found) for go in sorted({one.go for one in found})}
    told["days"] = float(np.mean([one.days for one in found]))
    told["treated"] = {f"{q} %": float(np.percentile([one.treated for one in found], q)) for q in (50, 90)}
    for metric in METRICS:
        own = [one for play in found for one in play.estimates if one.effect.metric == metric]
        if own:
            truth = float(np.mean([one.truth.difference for one in own]))
            told[metric] = {
                "control": float(np.mean([one.truth.control for one in own])),
                "truth": truth,
                "estimate": float(np.mean([one.effect.difference for one in own])),
                "held its own truth": float(np.mean([one.covered for one in own])),
                "held the mean of all": float(np.mean([one.effect.low <= truth <= one.effect.high for one in own])),
            }
    return told


def main() -> None:
    """Print what each kind of plays comes to, as JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=200)
    options.add_argument("--people", type=int, default=1_000, help="in both arms; of harmful plays 4 times as many")
    options.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    given = options.parse_args()
    for kind in given.kinds:
        began = time.process_time()
        found = list(plays(KINDS[kind], given.runs, given.people * (4 if kind == "harmful" else 1)))
        told = {"kind": kind, **summary(found), "seconds": time.process_time() - began}
        print(json.dumps(told, indent=2), flush=True)


if __name__ == "__main__":
    main()
