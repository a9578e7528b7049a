"""How the models of a split stand: order, the best of a kind, where ours is below a baseline."""

from dataclasses import dataclass

from molar_eval.report.schema import Comparison, Estimate, ModelResult, SliceScore, SplitResult

_REFERENCES = ("molar (fast)", "molar")


@dataclass(frozen=True)
class Weakness:
    """A part of the cases, one value of a dimension, in which our metric is below that of the best baseline there."""

    dimension: str
    value: str
    users: int
    ours: Estimate
    baseline: str
    theirs: Estimate

    @property
    def clear(self) -> bool:
        """Whether the two intervals lie apart."""
        return self.ours.high < self.theirs.low


def best(split: SplitResult, kind: str) -> ModelResult | None:
    """The best model of a kind by the split's primary metric."""
    models = [model for model in split.models if model.kind == kind and split.primary in model.metrics]
    return max(models, key=lambda model: model.metrics[split.primary].mean, default=None)


def ordered(split: SplitResult) -> list[ModelResult]:
    """The models by the primary metric, best first; those without it last."""
    lowest = float("-inf")
    return sorted(
        split.models,
        key=lambda model: model.metrics[split.primary].mean if split.primary in model.metrics else lowest,
        reverse=True,
    )


def reference(split: SplitResult) -> ModelResult | None:
    """What ablations are compared with: the full model, trained as they are."""
    by_name = {model.name: model for model in split.models}
    return next((by_name[name] for name in _REFERENCES if name in by_name), None)


def compared(model: ModelResult, baseline: str, metric: str) -> Comparison | None:
    """The test of a model against a baseline, where there was one."""
    return next((c for c in model.versus.get(metric, []) if c.baseline == baseline), None)


def baselines(split: SplitResult) -> list[ModelResult]:
    """What ours is compared to."""
    return [model for model in split.models if model.kind == "baseline"]


def best_there(split: SplitResult, dimension: str, value: str) -> tuple[Estimate, str] | None:
    """The best baseline in a part of the cases: its primary metric and its name; None where none can be told."""
    found = [
        (estimate, model.name)
        for model in baselines(split)
        for part in model.slices.get(dimension, [])
        if part.value == value and (estimate := part.get(split.primary)) is not None
    ]
    return max(found, key=lambda rival: rival[0].mean, default=None)


def told_apart(split: SplitResult, part: SliceScore, dimension: str) -> bool:
    """Whether ours and the best baseline of a part of the cases have intervals that do not touch."""
    mine, there = part.get(split.primary), best_there(split, dimension, part.value)
    return mine is not None and there is not None and (mine.low > there[0].high or there[0].low > mine.high)


def weaknesses(split: SplitResult, ours: ModelResult | None) -> tuple[list[Weakness], int]:
    """Where ours is below the best baseline there, clear cases first; and in how many parts that was looked for."""
    weak, judged = [], 0
    for dimension, parts in ours.slices.items() if ours else ():
        for part in parts:
            mine, there = part.get(split.primary), best_there(split, dimension, part.value)
            if mine is None or there is None:
                continue
            judged += 1
            theirs, name = there
            if theirs.mean > mine.mean:
                weak.append(Weakness(dimension, part.value, part.users, mine, name, theirs))
    return sorted(weak, key=lambda w: (not w.clear, w.ours.mean - w.theirs.mean)), judged


LEADERBOARD = {
    "split": "string",
    "model": "string",
    "metric": "string",
    "mean": "double",
    "low": "double",
    "high": "double",
    "against": "string",
    "difference": "double",
    "p_holm": "double",
    "fit_seconds": "double",
}
"""Columns of a leaderboard and their Arrow types."""


def standings(split: SplitResult) -> list[dict[str, object]]:
    """The models of a test as rows of a leaderboard, best first."""
    rows: list[dict[str, object]] = []
    for model in ordered(split):
        found, test = model.metrics.get(split.primary), compared(model, split.against, split.primary)
        rows.append(
            {
                "split": split.name,
                "model": model.name,
                "metric": split.primary,
                "mean": found and found.mean,
                "low": found and found.low,
                "high": found and found.high,
                "against": split.against,
                "difference": test and test.difference.mean,
                "p_holm": test and test.p_holm,
                "fit_seconds": model.fit_seconds,
            }
        )
    return rows
