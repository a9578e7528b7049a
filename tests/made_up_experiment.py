"""A made-up experiment, with results of every kind, for pages that show one."""

from typing import Any

from molar_eval.experiments.money import MeasuredWork, money_of
from molar_eval.experiments.results import Decision, Effect, ExperimentResults
from molar_retrieval.experiments.definition import Arm, Experiment, Segment
from molar_retrieval.experiments.records import StageRow

DAY = 86_400_000_000
NOW = 1_792_065_600_000_000  # 15 October 2026
EXPERIMENT = Experiment(
    "autumn",
    control=Arm("popular"),
    treatment=Arm(generation="2026-09-30T01-00-00-default"),
    segment=Segment("region = 'Kansai'"),
)
STAGES = [
    StageRow(1, "shadow", NOW - 24 * DAY, "begun", "anna", automatic=False),
    StageRow(2, "canary", NOW - 21 * DAY, "both lists share half of their items", "", automatic=True),
    StageRow(3, "ab", NOW - 14 * DAY, "no harm was seen", "anna", automatic=False),
]


def effect(metric: str = "conversion", low: float = 0.04, high: float = 0.08, control: float = 0.05) -> Effect:
    """An effect by the interval of its lift."""
    lift = (low + high) / 2
    values = (control, control * (1 + lift), control * lift, control * low, control * high)
    return Effect(metric, *values, lift, low, high, (5000, 5100), cuped=True, significant=not low <= 0 <= high)


def results(primary: Effect | None, **changed: Any) -> ExperimentResults:
    """What is known of it, by the effect on the primary metric."""
    money = money_of(
        (0.1, 0.2, 0.3), MeasuredWork(720_000.0, 9, 0), people=10_000, share=0.5, days=30.4375, margin=0.5,
        machine_hour=0.5, currency="EUR",
    )  # fmt: skip
    others = (effect("clicks", -0.02, 0.05, 0.8), effect("revenue", -0.01, 0.11, 3.2))
    known: dict[str, Any] = {
        "name": "autumn", "stage": "ab", "since": NOW - 14 * DAY, "until": NOW,
        "people": {"control": 6000, "treatment": 6012}, "triggered": {"control": 5000, "treatment": 5100}, "both": 12,
        "srm": 0.4, "effects": () if primary is None else (primary, *others), "guardrails": (), "preference": None,
        "shadow": None, "looks": (), "money": money, "problems": (),
        "decision": Decision("wait", None, (), automatic=False),
    }  # fmt: skip
    return ExperimentResults(**known | changed)
