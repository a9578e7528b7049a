"""From a walk to what a report says of it: each step, what each arm keeps of training anew, and what it costs."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import numpy as np

from molar_eval.metrics.accuracy import accuracy
from molar_eval.models.baselines import baselines
from molar_eval.models.prequential import RETRAINED
from molar_eval.report.schema import Estimate, WalkArm, WalkResult, WalkStep
from molar_eval.results import estimate
from molar_eval.splits.prequential import Walk
from molar_eval.statistics.bootstrap import clustered_ratio
from molar_eval.suite import Suite
from molar_eval.walk import WalkTrial
from molar_retrieval.workspace.resources import Took


def walk_result(walk: Walk, arms: Mapping[str, WalkTrial], suite: Suite) -> WalkResult:
    """The walk by arm; the share that is kept has an interval over users, all of whose cases are drawn together.

    Ways to go on with an alignment keep a share of training it anew, at a share of the cost; baselines do not.
    """
    cases, key = walk.cases, next(iter(walk.split.tests))
    going_on = set(arms) - {RETRAINED, *baselines()} if RETRAINED in arms else set()
    values = {
        name: accuracy(one.trial.ranked[key].ranks, cases.offsets, suite.cutoffs)[suite.primary]
        for name, one in arms.items()
    }

    def kept(name: str) -> Estimate | None:
        if name not in going_on or not values[RETRAINED].any():
            return None
        return estimate(clustered_ratio(values[name], values[RETRAINED], cases.user, resamples=suite.resamples))

    def share(name: str, of: Callable[[Took], float]) -> float | None:
        if name not in going_on:
            return None
        own, whole = (sum(map(of, arms[one].costs)) for one in (name, RETRAINED))
        return own / whole

    moments = np.array([walk.start, *(step.begin for step in walk.steps)])
    before = np.searchsorted(np.sort(walk.split.history.timestamp), moments)
    return WalkResult(
        window=walk.window,
        reference=RETRAINED if RETRAINED in arms else None,
        steps=[
            WalkStep(
                begin=datetime.fromtimestamp(step.begin, UTC).isoformat(),
                cases=step.cases.stop - step.cases.start,
                learned=int(learned),
            )
            for step, learned in zip(walk.steps, np.diff(before), strict=True)
        ],
        arms=[
            WalkArm(
                name=name,
                values=[float(values[name][step.cases].mean()) for step in walk.steps],
                seconds=[cost.seconds for cost in one.costs],
                cpu_seconds=[cost.processor for cost in one.costs],
                kept=kept(name),
                cost=share(name, lambda cost: cost.seconds),
                cpu_cost=share(name, lambda cost: cost.processor),
            )
            for name, one in arms.items()
        ],
    )
