"""What a report comes down to: the verdict on the one test by which to decide, and how the others came out."""

import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from molar_eval.report.schema import Comparison, PrimaryResult, SplitResult
from molar_eval.report.verdict import Outcome, Verdict, amount
from molar_retrieval.reports import wording as words

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
