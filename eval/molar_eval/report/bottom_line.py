"""What a report comes down to: the verdict on the one test by which to decide, and how the others came out."""

import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from molar_eval.report.schema import SplitResult
from molar_eval.report.verdict import Outcome, Verdict
from molar_retrieval.pages import words

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


def bottom_line(views: Sequence[View]) -> BottomLine:
    """The verdict on the first test whose numbers do not flatter, or on the first one, with a word on the others."""
    if not views:
        return BottomLine(None, "Nothing was tested", [])
    view = next((view for view in views if view.result.warning is None), views[0])
    verdict = view.verdict
    sentences = [*verdict.sentences]
    if verdict.outcome == "open":
        who = words.plural(view.result.users, "user")
        sentences.append(f"Either they are equally good, or {who} are too few to tell.")
    if others := [other.verdict.outcome for other in views if other is not view]:
        sentences.append(_others(others))
    return BottomLine(view, verdict.headline, sentences)


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
    return _titles().get(split.title, split.title)
