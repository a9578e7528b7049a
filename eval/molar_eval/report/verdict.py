"""What a split says in plain words: who won, by how much, whether it is real, for whom it is worse, what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from molar_eval.report.schema import Comparison, Estimate, Made, ModelResult, SplitResult
from molar_eval.report.standing import Weakness, best, compared, weaknesses
from molar_eval.report.walking import sentences as of_walk
from molar_retrieval.reports import wording as words

Outcome = Literal["ahead", "behind", "open", "untested", "alone"]
_LADDER = ("ndcg", "mrr", "map")
_HITS = ("hit_rate", "recall")  # metrics that count them


@dataclass(frozen=True)
class Share:
    """Hits of one model: ``hits`` of as many as its :class:`Hits` says."""

    model: ModelResult
    estimate: Estimate
    hits: int


@dataclass(frozen=True)
class Hits:
    """Hits of a few models out of a round number: 100, or more where hits are rare or the models close.

    The metric is the hit rate of users or cases, or recall of items where that is all there is. Sentences are about the
    model of the first share.
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

    ``apart`` has the numbers of the first two be told apart, even where that takes large ones.
    """
    names = {name for model in split.models for name in model.metrics}
    wanted = [f"{base}@{words.cutoff(split.primary) or 10}" for base in _HITS]
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


@dataclass(frozen=True)
class Verdict:
    """The plain words of one split, on our best model and the best baseline; None: none was tested."""

    ours: ModelResult | None
    baseline: ModelResult | None
    difference: Comparison | None  # ours minus the baseline's by the primary metric; None where it was not tested
    outcome: Outcome
    headline: str
    sentences: list[str]  # what lies behind the headline
    hits: Hits | None  # None without a metric that counts them
    weak: list[Weakness]  # where ours is worse, clear cases first
    parts: int  # in how many parts that was looked for
    costs: list[str]

    @property
    def clear(self) -> list[Weakness]:
        """Where ours is worse and that is no chance."""
        return [weak for weak in self.weak if weak.clear]

    @property
    def unclear(self) -> list[Weakness]:
        """Where ours is below another method, perhaps by chance."""
        return [weak for weak in self.weak if not weak.clear]

    @property
    def change(self) -> str:
        """The difference with its interval and probability; empty where it was not tested."""
        if self.difference is None:
            return ""
        change, p = self.difference.difference, words.p_value(self.difference.p_holm)
        return f"{words.signed(change.mean)} ({_interval(change)}, {p})"


def judge(split: SplitResult, made: Made) -> Verdict:
    """Put a split into plain words."""
    ours, baseline = best(split, "ours"), best(split, "baseline")
    difference = compared(ours, baseline.name, split.primary) if ours and baseline else None
    outcome = _outcome(ours, baseline, difference)
    hits = count_hits(split, ours, baseline, apart=outcome != "open")
    weak, parts = weaknesses(split, ours)
    sentences = [hits.sentence(baseline)] if hits and hits.shares[0].model is ours else []
    return Verdict(
        ours=ours,
        baseline=baseline,
        difference=difference,
        outcome=outcome,
        headline=_headline(outcome, ours, baseline, difference, split.primary),
        sentences=[*of_walk(split), *sentences, *_by_metric(split, ours, baseline, difference)],
        hits=hits,
        weak=weak,
        parts=parts,
        costs=_costs(split, ours, made),
    )


def _outcome(ours: ModelResult | None, baseline: ModelResult | None, difference: Comparison | None) -> Outcome:
    if ours is None or baseline is None:
        return "alone"
    if difference is None:
        return "untested"
    if difference.p_holm >= words.ALPHA:
        return "open"
    return "ahead" if difference.difference.mean > 0 else "behind"


def _headline(
    outcome: Outcome,
    ours: ModelResult | None,
    baseline: ModelResult | None,
    difference: Comparison | None,
    primary: str,
) -> str:
    if ours is None or baseline is None:
        if baseline is not None:
            return f"{baseline.name} is the best of the methods that were tested"
        return f"{ours.name} was tested with nothing to compare it to" if ours else "No model has a result"
    if outcome == "open":
        return f"Cannot tell whether {ours.name} or {baseline.name} is better"
    if difference is None:
        return f"{ours.name} against {baseline.name}: the difference was not tested"
    theirs = baseline.metrics[primary].mean
    by = f" by {words.percent(abs(difference.difference.mean) / theirs)}" if theirs > 0 else ""
    if outcome == "ahead":
        return f"{ours.name} beats the best other method, {baseline.name},{by}".rstrip(",")
    return f"{ours.name} falls short of {baseline.name}{by}"


def _by_metric(
    split: SplitResult, ours: ModelResult | None, baseline: ModelResult | None, difference: Comparison | None
) -> list[str]:
    if ours is None or baseline is None:
        return []
    name = words.metric(split.primary)
    if split.primary.startswith(_LADDER):
        name += ", which also counts how high up the list an item stands,"
    if difference is None:
        values = [words.fraction(model.metrics[split.primary].mean) for model in (ours, baseline)]
        return [f"By {name} {ours.name} scores {values[0]} and {baseline.name} {values[1]}.", *_named(split, ours)]
    return [f"By {name} {amount(difference, baseline.metrics[split.primary].mean)}."]


def _named(split: SplitResult, ours: ModelResult) -> list[str]:
    """What was tested instead: the baseline that the suite names."""
    named = compared(ours, split.against, split.primary)
    theirs = next((model.metrics.get(split.primary) for model in split.models if model.name == split.against), None)
    if named is None or theirs is None:
        return []
    return [f"Compared with {split.against} {amount(named, theirs.mean)}."]


def amount(comparison: Comparison, theirs: float) -> str:
    """A difference in words, with its interval and probability; ``theirs`` is the mean of the other model."""
    change, p = comparison.difference, words.p_value(comparison.p_holm)
    ends = _interval(change)
    relative = f", {words.percent(abs(change.mean) / theirs)}" if theirs > 0 else ""
    if comparison.p_holm >= words.ALPHA:
        # The interval is of this comparison alone, the p-value of the hardest of many.
        counted = " among so many comparisons" if change.low > 0 or change.high < 0 else ""
        found = f"a difference of {words.signed(change.mean)} ({ends})"
        return f"they cannot be told apart: {found} may be chance{counted} ({p})"
    side = "ahead" if change.mean > 0 else "behind"
    return f"it is {side} by {words.fraction(abs(change.mean))}{relative} ({ends}); the difference is real ({p})"


def _interval(change: Estimate) -> str:
    return f"95 % interval {words.signed(change.low)} to {words.signed(change.high)}"


def _costs(split: SplitResult, ours: ModelResult | None, made: Made) -> list[str]:
    if ours is None:
        return []
    device = "" if made.device == "cpu" else f" and {made.device}"
    cores = words.plural(made.cores, "CPU core")
    costs = [f"{words.duration(ours.fit_seconds)} to train {ours.name}, on {cores}{device}"]
    if split.cases:
        costs.append(f"{words.duration(ours.score_seconds / split.cases)} to rank all items for one case")
    costs += [
        f"{words.duration(cost.milliseconds / 1000)} for a query of the index ({cost.backend}), which finds "
        f"{words.percent(cost.recall, 1)} of what exact search finds"
        for cost in split.index[:1]
    ]
    return costs
