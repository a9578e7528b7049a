"""What a report says in words: verdicts, the bottom line, the terminal.

The second stage reads more than the part, ALS factors among it. A report keeps the names of its suite, as keys.
"""

import textwrap
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from molar_eval.report.schema import (
    Comparison,
    Estimate,
    Made,
    ModelResult,
    PrimaryResult,
    Report,
    ReportExamples,
    SplitResult,
)
from molar_eval.report.tables import Weakness, best, compared, ordered, weaknesses
from molar_retrieval.reports import wording as words

_ALONE, _STAGED = " alone", " + second stage"


def shown(report: Report) -> Report:
    """The report as it is shown."""
    names = _names(report)
    splits = [_split(split, names) for split in report.splits]
    tables = [table.model_copy(update={"rows": [_row(row, names) for row in table.rows]}) for table in report.tables]
    if not names:
        return report
    primary = report.primary_comparison and _primary(report.primary_comparison, names)
    return report.model_copy(update={"splits": splits, "tables": tables, "primary_comparison": primary})


def shown_examples(examples: ReportExamples | None, report: Report) -> ReportExamples | None:
    """ReportExamples as they are shown, of a report with its own names."""
    names = _names(report)
    if examples is None or not names:
        return examples
    users = [
        user.model_copy(update={"lists": {names.get(name, name): items for name, items in user.lists.items()}})
        for user in examples.users
    ]
    return examples.model_copy(update={"users": users})


def _names(report: Report) -> dict[str, str]:
    staged = {
        model.name
        for split in report.splits
        for model in split.models
        if model.name.endswith(_ALONE) and (model.facts.get("reranking") or {}).get("used")
    }
    return {name: name.removesuffix(_ALONE) + _STAGED for name in staged}


def _split(split: SplitResult, names: Mapping[str, str]) -> SplitResult:
    models = [_model(model, names) for model in split.models]
    return split.model_copy(update={"models": models, "against": names.get(split.against, split.against)})


def _primary(primary: PrimaryResult, names: Mapping[str, str]) -> PrimaryResult:
    model, against = (names.get(name, name) for name in (primary.model, primary.against))
    return primary.model_copy(update={"model": model, "against": against})


def _row(row: list[Any], names: Mapping[str, str]) -> list[Any]:
    return [names.get(cell, cell) if isinstance(cell, str) else cell for cell in row]


def _model(model: ModelResult, names: Mapping[str, str]) -> ModelResult:
    versus = {
        metric: [one.model_copy(update={"baseline": names.get(one.baseline, one.baseline)}) for one in tests]
        for metric, tests in model.versus.items()
    }
    return model.model_copy(update={"name": names.get(model.name, model.name), "versus": versus})


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
        sentences=[*prequential_sentences(split), *sentences, *_by_metric(split, ours, baseline, difference)],
        hits=hits,
        weak=weak,
        parts=parts,
        costs=_costs(split, ours, made),
    )


def prequential_sentences(split: SplitResult) -> list[str]:
    """What each arm keeps of the reference's quality, and at what cost; those that learn nothing together, last."""
    walk = split.walk
    if walk is None or walk.reference is None:
        return []
    name, length = words.metric(split.primary), words.plural(len(walk.steps), walk.window)
    told = [
        f"{arm.name} keeps {_kept_share(arm.kept)} of the {name} of {walk.reference}"
        f" at {words.percent(arm.cost, 1)} of its time, over {length}."
        for arm in walk.arms
        if arm.kept is not None and arm.cost
    ]
    idle = [f"{arm.name} keeps {_kept_share(arm.kept)}" for arm in walk.arms if arm.kept is not None and not arm.cost]
    return [*told, *([f"Learning nothing, {', '.join(idle)}."] if idle else [])]


def _kept_share(kept: Estimate) -> str:
    ends = f"95 % interval over users {words.percent(kept.low, 1)} to {words.percent(kept.high, 1)}"
    return f"{words.percent(kept.mean, 1)} ({ends})"


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


_OTHERS: dict[Outcome, str] = {
    "ahead": "ahead",
    "behind": "behind",
    "open": "not to be told from the best other method",
    "untested": "not compared",
    "alone": "compared to nothing",
}


@dataclass(frozen=True)
class View:
    """A test as the page shows it."""

    result: SplitResult
    anchor: str
    title: str
    verdict: Verdict


@dataclass(frozen=True)
class BottomLine:
    """The one thing to take from a report; ``view`` is the test that it is about, None without any."""

    view: View | None
    headline: str
    sentences: list[str]


def bottom_line(views: Sequence[View], primary: PrimaryResult | None = None) -> BottomLine:
    """What the suite declared beforehand, where it did and that was tested.

    Else the verdict on the first test whose numbers do not flatter, or on the first one, with a word on the others.
    """
    if not views:
        return BottomLine(None, "Nothing was tested", [])
    if primary is not None and primary.comparison is not None:
        view = next(view for view in views if view.result.name == primary.split)
        headline, sentences = declared(view.result, primary, primary.comparison)
        if view.verdict.outcome != "alone":
            sentences.append(f"Against the best of all other methods on this test: {view.verdict.headline}.")
        return BottomLine(view, headline, sentences)
    view = next((view for view in views if view.result.warning is None), views[0])
    verdict = view.verdict
    sentences = [*verdict.sentences]
    if verdict.outcome == "open":
        who = words.plural(view.result.users, "user")
        sentences.append(f"Either they are equally good, or {who} are too few to tell.")
    if others := [other.verdict.outcome for other in views if other is not view]:
        sentences.append(_others(others))
    return BottomLine(view, verdict.headline, sentences)


def declared(split: SplitResult, primary: PrimaryResult, comparison: Comparison) -> tuple[str, list[str]]:
    """What came of the comparison that was declared beforehand, on the test that it is of: a headline and the rest."""
    model, against = primary.model, primary.against
    theirs = next(one for one in split.models if one.name == against).metrics[primary.metric].mean
    by = f" by {words.percent(abs(comparison.difference.mean) / theirs)}" if theirs > 0 else ""
    if comparison.p >= words.ALPHA:
        headline = f"Cannot tell whether {model} or {against} is better"
    elif comparison.difference.mean > 0:
        headline = f"{model} beats {against}{by}"
    else:
        headline = f"{model} falls short of {against}{by}"
    said = [
        f"By {words.metric(primary.metric)} {amount(comparison, theirs)}.",
        "The suite declared this one comparison before it ran, so its probability stands uncorrected; those of all "
        "others of the run are corrected together.",
    ]
    return headline, said


def _others(outcomes: Sequence[Outcome]) -> str:
    counts = Counter(outcomes)
    told = {said: counts[outcome] for outcome, said in _OTHERS.items() if counts[outcome]}
    if len(told) > 1:
        each = ", ".join(f"{said} in {count}" for said, count in told.items())
        return f"In {len(outcomes)} other tests our best model is {each}."
    which = "the other test" if len(outcomes) == 1 else f"all {len(outcomes)} other tests"
    return f"In {which} our best model is {next(iter(told))}."


@cache
def _titles() -> dict[str, str]:
    return tomllib.loads(Path(__file__).with_name("titles.toml").read_text("utf-8"))


def plain_title(split: SplitResult) -> str:
    """What a test asks, without the words of papers."""
    title, comma, ties = split.title.partition(", ties by ")
    return _titles().get(title, title) + (f", equal times by {ties}" if comma else "")


WIDTH = 100
_SHOWN = 3


@dataclass(frozen=True)
class TerminalTable:
    """A table as the command's console prints it, and, in ``lines``, what is said below it.

    Columns that begin with ``>`` are aligned to the right.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    lines: list[str]


def terminal_tables(report: Report) -> list[TerminalTable]:
    """One table per split: the models by the primary metric, best first."""
    report = shown(report)
    return [_table(split, report) for split in report.splits]


def _table(split: SplitResult, report: Report) -> TerminalTable:
    recall = f"recall@{words.cutoff(split.primary)}"
    second = recall if recall != split.primary and any(recall in m.metrics for m in split.models) else None
    columns = ["model", f">{words.metric(split.primary)}", *([f">{words.metric(second)}"] if second else [])]
    columns += [f">− {words.short(split.against)}", ">seconds"]
    verdict = judge(split, report.made)
    caption = f"* other than {split.against} with p < {words.ALPHA}: paired test, corrected after Holm"
    primary, said = report.primary_comparison, []
    if primary is not None and primary.comparison is not None and primary.split == split.name:
        headline, sentences = declared(split, primary, primary.comparison)
        said = [f"{headline}. {' '.join(sentences)}"]
    said += [" ".join(verdict.sentences) or f"{verdict.headline}.", _worse(verdict.weak, verdict.parts)]
    said += [f"Caution: {split.warning}."] if split.warning else []
    return TerminalTable(
        title=textwrap.shorten(f"{split.title}, {words.plural(split.cases, 'case')}", WIDTH, placeholder="…"),
        columns=columns,
        rows=[_leaderboard_row(model, split, second) for model in ordered(split)],
        lines=[line for text in (caption, *said) for line in textwrap.wrap(text, WIDTH)],
    )


def _leaderboard_row(model: ModelResult, split: SplitResult, second: str | None) -> list[str]:
    primary = model.metrics.get(split.primary)
    row = [words.short(model.name), f"{words.fraction(primary.mean)} {primary.half}" if primary else words.NONE]
    if second:
        row.append(words.fraction(model.metrics[second].mean if second in model.metrics else None))
    test = compared(model, split.against, split.primary)
    mark = "*" if test and test.p_holm < words.ALPHA else " "
    row.append(f"{words.signed(test.difference.mean)}{mark}" if test else words.NONE + " ")
    return [*row, f"{model.fit_seconds:,.1f}"]


def _worse(weak: list[Weakness], parts: int) -> str:
    if not weak:
        return f"In none of {words.plural(parts, 'group')} is another method better." if parts else ""
    found = [
        f"{w.dimension} {words.short(w.value)} ({words.short(w.baseline)}{'' if w.clear else ', perhaps by chance'})"
        for w in weak[:_SHOWN]
    ]
    rest = f" and {len(weak) - _SHOWN} more" if len(weak) > _SHOWN else ""
    return f"Worse than another method for: {', '.join(found)}{rest}; {words.plural(parts, 'group')} in all."
