"""Hits in round numbers: what a metric means for a hundred users."""

from collections.abc import Sequence
from dataclasses import dataclass

from molar_eval.report.schema import Estimate, ModelResult, SplitResult
from molar_retrieval.pages import words

_METRICS = ("hit_rate", "recall")


@dataclass(frozen=True)
class Share:
    """Hits of one model: ``hits`` of as many as its :class:`Hits` says."""

    model: ModelResult
    estimate: Estimate
    hits: int


@dataclass(frozen=True)
class Hits:
    """Hits of a few models out of a round number.

    Attributes:
        metric: What counts them: the hit rate, or recall where that is all there is.
        out_of: 100, or more where hits are rare or the models close.
        whom: What is counted: users, cases, or items.
        shares: The first is the one that sentences are about.
    """

    metric: str
    out_of: int
    whom: str
    shares: list[Share]

    @property
    def title(self) -> str:
        """What the numbers are, as a heading says it."""
        k = words.cutoff(self.metric)
        if self.whom == "items":
            return f"Of {self.out_of:,} items chosen next, found among the first {k} suggestions"
        return f"Of {self.out_of:,} {self.whom}, those with a right item among the first {k} suggestions"

    def sentence(self, rival: ModelResult | None) -> str:
        """The first model's hits and those of a rival in words."""
        first, k = self.shares[0], words.cutoff(self.metric)
        other = next((share for share in self.shares[1:] if share.model is rival), None)
        rest = f"; the best other method, {other.model.name}, " if other else ""
        if self.whom == "items":
            said = (
                f"Of {self.out_of:,} items that were chosen next, {first.model.name} has {first.hits:,} among its first"
            )
            return f"{said} {k} suggestions{rest}{f'{other.hits:,}' if other else ''}."
        said = f"finds a right next item among its first {k} suggestions for {first.hits:,} of {self.out_of:,}"
        return f"{first.model.name} {said} {self.whom}{rest}{f'for {other.hits:,}' if other else ''}."


def count_hits(
    split: SplitResult, ours: ModelResult | None, baseline: ModelResult | None, *, apart: bool
) -> Hits | None:
    """Hits of ours, of the best baseline, and of the one that finds least; None without a metric that counts them.

    Args:
        split: Whose hits.
        ours: Our best model.
        baseline: The best baseline.
        apart: Whether the numbers of the two are to be told apart, even where that takes large ones.
    """
    names = {name for model in split.models for name in model.metrics}
    wanted = [f"{base}@{words.cutoff(split.primary) or 10}" for base in _METRICS]
    metric = next((name for name in wanted if name in names), None)
    if metric is None:
        return None
    others = [model for model in split.models if model.kind == "baseline" and metric in model.metrics]
    weakest = min(others, key=lambda model: model.metrics[metric].mean, default=None)
    shown: list[ModelResult] = []
    for model in (ours, baseline, weakest):
        if model is not None and metric in model.metrics and model not in shown:
            shown.append(model)
    if not shown:
        return None
    means = [model.metrics[metric].mean for model in shown[:2]]
    out_of = next((number for number in (100, 1000) if _tells(means, number, apart)), 10_000)
    shares = [Share(m, m.metrics[metric], round(m.metrics[metric].mean * out_of)) for m in shown]
    whom = "items" if metric.startswith("recall") else "users" if split.cases == split.users else "cases"
    return Hits(metric, out_of, whom, shares)


def _tells(means: Sequence[float], out_of: int, apart: bool) -> bool:
    """Whether round numbers of so many are large enough to be like the means."""
    counts = [round(mean * out_of) for mean in means]
    return min(counts) >= 10 and (not apart or len(set(counts)) == len(set(means)))
