"""What a split says in plain words: who won, by how much, whether it is real, for whom it is worse, what it costs."""

from dataclasses import dataclass
from typing import Literal

from molar_eval.report.hits import Hits, count_hits
from molar_eval.report.schema import Comparison, Made, ModelResult, SplitResult
from molar_eval.report.standing import Weakness, best, compared, weaknesses
from molar_retrieval.pages import words

Outcome = Literal["ahead", "behind", "open", "untested", "alone"]
_LADDER = ("ndcg", "mrr", "map")


@dataclass(frozen=True)
class Verdict:
    """The plain words of one split.

    Attributes:
        ours: Our best model; None where none was tested.
        baseline: The best baseline; None where none was tested.
        difference: Ours minus the baseline's by the primary metric; None where it was not tested.
        outcome: What follows from it.
        headline: One line.
        sentences: What lies behind it.
        hits: What the metric means for a hundred users; None without a metric that counts hits.
        weak: Where ours is worse, clear cases first.
        parts: In how many parts that was looked for.
        costs: What ours costs.
    """

    ours: ModelResult | None
    baseline: ModelResult | None
    difference: Comparison | None
    outcome: Outcome
    headline: str
    sentences: list[str]
    hits: Hits | None
    weak: list[Weakness]
    parts: int
    costs: list[str]


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
        sentences=[*sentences, *_by_metric(split, ours, baseline, difference)],
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
        return f"{ours.name} and {baseline.name} are level"
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
    return [f"By {name} it is {_amount(difference, baseline.metrics[split.primary].mean)}."]


def _named(split: SplitResult, ours: ModelResult) -> list[str]:
    """What was tested instead: the baseline that the suite names."""
    named = compared(ours, split.against, split.primary)
    theirs = next((model.metrics.get(split.primary) for model in split.models if model.name == split.against), None)
    if named is None or theirs is None:
        return []
    return [f"Compared with {split.against} it is {_amount(named, theirs.mean)}."]


def _amount(comparison: Comparison, theirs: float) -> str:
    change, p = comparison.difference, words.p_value(comparison.p_holm)
    ends = f"95 % interval {words.signed(change.low)} to {words.signed(change.high)}"
    relative = f", {words.percent(abs(change.mean) / theirs)}" if theirs > 0 else ""
    if comparison.p_holm >= words.ALPHA:
        # The interval is of this comparison alone, the p-value of the hardest of many.
        counted = " among so many comparisons" if change.low > 0 or change.high < 0 else ""
        return f"level: a difference of {words.signed(change.mean)} ({ends}) may be chance{counted} ({p})"
    side = "ahead" if change.mean > 0 else "behind"
    return f"{side} by {words.fraction(abs(change.mean))}{relative} ({ends}); the difference is real ({p})"


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
