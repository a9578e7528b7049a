"""What a suite asks of a log that knows only days: the order within a day means nothing there."""

from molar_eval.splits.base import DAY
from molar_eval.suite import Suite
from molar_retrieval.data.interactions import Interactions

_BY_ORDER = "leave-one-out"
_LAST_DAY, _ITS_TEST = "last day", "last day, last day"


def knows_only_days(log: Interactions) -> bool:
    """Whether every time is a midnight; a log without times knows nothing."""
    return bool(log.timestamp.any()) and not (log.timestamp % DAY).any()


def of_days(suite: Suite) -> Suite:
    """The suite with the last day in place of leave-one-out, and the declared comparison made there.

    Rules for equal times differ in nothing then, so plans that became the same are one.
    """
    fitting = [
        plan.model_copy(update={"split": _LAST_DAY, "options": {}}) if plan.split == _BY_ORDER else plan
        for plan in suite.splits
    ]
    primary = suite.primary_comparison
    if primary is not None and primary.split.split(",")[0] == _BY_ORDER:
        primary = primary.model_copy(update={"split": _ITS_TEST})
    splits = tuple(plan for n, plan in enumerate(fitting) if plan not in fitting[:n])
    return suite.model_copy(update={"splits": splits, "primary_comparison": primary})
