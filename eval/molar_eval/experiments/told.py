"""What an experiment is and how it went so far, in the words of people who decide, in English, German or Japanese."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from molar_eval.experiments.reasons import reason_in
from molar_retrieval.errors import RequestError, suggestion
from molar_retrieval.experiments.definition import AB, CANARY, STOPPED, Arm, Experiment
from molar_retrieval.experiments.records import StageRow
from molar_retrieval.reports.wording import LANGUAGES, PageWords


@dataclass(frozen=True)
class StageLine:
    """A stage as the page tells it: which, what happens in it, from when to when, and why it began."""

    name: str
    about: str
    begun: str
    ended: str
    why: str


def words_in(language: str) -> PageWords:
    """The words of experiments in a language; a RequestError if there are none."""
    if language not in LANGUAGES:
        words = f"the page speaks no {language!r}"
        raise RequestError(words, suggestion(language, LANGUAGES, f"choose one of {', '.join(LANGUAGES)}"))
    return PageWords(language, "molar_eval.experiments", "page.toml")


_BEGUN = "begun"
"""What is on record of a first stage that nothing spoke against."""


class DefinitionTold:
    """An experiment as it was defined, and its stages.

    Args:
        experiment: How it was defined.
        stages: Its stages so far, the first one first.
        language: ``en``, ``de`` or ``ja``.

    Raises:
        RequestError: If there are no words in that language.
    """

    def __init__(self, experiment: Experiment, stages: Sequence[StageRow], language: str) -> None:
        self.t = words_in(language)
        self.experiment, self.stages = experiment, list(stages)
        self.certainty = self.t.percent(1 - experiment.alpha)

    @property
    def over(self) -> bool:
        """Whether it was stopped."""
        return self.stages[-1].stage == STOPPED

    @property
    def tried(self) -> list[tuple[str, str]]:
        """What was tried, on whom, and by which figure it is judged."""
        t, experiment = self.t, self.experiment
        return [
            (t("tried"), self._arm(experiment.treatment)),
            (t("compared"), self._arm(experiment.control)),
            (t("for_whom"), self._segment()),
            (t("judged_by"), t("judged", metric=t(f"metric_{experiment.primary}"), certainty=self.certainty)),
        ]

    def _arm(self, arm: Arm) -> str:
        t = self.t
        if arm.shows != "lists":
            return t(f"arm_{arm.shows}")
        parts = [t("arm_generation", name=arm.generation) if arm.generation else t("arm_live")]
        if arm.rules:
            parts.append(t("arm_rules", name=arm.rules))
        if arm.options:
            parts.append(t("arm_options", options=", ".join(f"{key} = {value}" for key, value in arm.options.items())))
        return t("joined").join(parts)

    def _segment(self) -> str:
        t, segment = self.t, self.experiment.segment
        parts = []
        if segment.people:
            parts.append(t("segment_people", condition=segment.people))
        if segment.items:
            parts.append(t("segment_items", condition=segment.items))
        if segment.placements:
            parts.append(t("segment_placements", places=", ".join(segment.placements)))
        first, last = self.experiment.slice
        if last - first < 1:
            parts.append(t("segment_slice", share=t.percent(last - first)))
        return t("joined").join(parts) if parts else t("segment_all")

    @property
    def ladder(self) -> Iterator[StageLine]:
        """Every stage with its dates and why it began."""
        t = self.t
        for place, row in enumerate(self.stages):
            after = self.stages[place + 1] if place + 1 < len(self.stages) else None
            ended = t.day(after.begun) if after else "" if row.stage == STOPPED else t("today")
            shares = {CANARY: self.experiment.canary, AB: self.experiment.treated}
            about = t(f"about_{row.stage}", share=t.percent(shares.get(row.stage, 0.0)))
            yield StageLine(t(f"stage_{row.stage}"), about, t.day(row.begun), ended, self._why(row, place))

    def _why(self, row: StageRow, place: int) -> str:
        if place == 0 and row.why in ("", _BEGUN):
            return self.t("why_begun")
        who = self.t("why_automatic") if row.automatic else self.t("why_by", name=row.by) if row.by else ""
        return " ".join(filter(None, (who, reason_in(self.t, row.why))))
