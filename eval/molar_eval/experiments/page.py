"""One page of an experiment for people who decide on money, in English, German or Japanese; it prints on A4."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from molar_eval.experiments.bottom_line import Verdict, exposed_since, verdict_of, weeks_left
from molar_eval.experiments.money import Money, weeks_until_seen
from molar_eval.experiments.results import Effect, ExperimentResults
from molar_retrieval.errors import RequestError, suggestion
from molar_retrieval.events.tables import DAY
from molar_retrieval.experiments.definition import (
    AB,
    CANARY,
    CONTROL,
    STOPPED,
    TREATMENT,
    Arm,
    Experiment,
)
from molar_retrieval.experiments.records import StageRow
from molar_retrieval.pages import svg
from molar_retrieval.pages.page import render_page
from molar_retrieval.pages.svg import Scale, tag
from molar_retrieval.pages.wording import LANGUAGES, PageWords

_SRM = 0.001
_WIDEST = 3.0  # of an axis: an interval that goes on beyond +300 % is cut there
_HEIGHT = 22


@dataclass(frozen=True)
class StageLine:
    """A stage as the page tells it: which, what happens in it, from when to when, and why it began."""

    name: str
    about: str
    begun: str
    ended: str
    why: str


@dataclass(frozen=True)
class EffectLine:
    """A figure with and without the change, the difference with its interval, and this as a picture."""

    name: str
    without: str
    having: str
    lift: str
    interval: str
    says: str
    picture: Markup | None


def board_page(
    results: ExperimentResults, experiment: Experiment, stages: Sequence[StageRow], language: str = "en"
) -> str:
    """The page; the same values give the same page.

    Args:
        results: What is known of the experiment.
        experiment: How it was defined.
        stages: Its stages so far, the first one first.
        language: ``en``, ``de`` or ``ja``.

    Raises:
        RequestError: If it does not speak that language.
    """
    if language not in LANGUAGES:
        words = f"the page speaks no {language!r}"
        raise RequestError(words, suggestion(language, LANGUAGES, f"choose one of {', '.join(LANGUAGES)}"))
    t = PageWords(language, "molar_eval.experiments", "page.toml")
    told = _Told(t, results, experiment, list(stages))
    return render_page("molar_eval.experiments", "page.html.jinja", style="page.css", language=language, t=t, told=told)


class _Told:
    """What the page tells, in one language."""

    def __init__(
        self, t: PageWords, results: ExperimentResults, experiment: Experiment, stages: list[StageRow]
    ) -> None:
        self.t, self.results, self.experiment, self.stages = t, results, experiment, stages
        self.verdict: Verdict = verdict_of(results, experiment, stages)
        self.primary = results.effect(experiment.primary)
        self.certainty = t.percent(1 - experiment.alpha)

    @property
    def until(self) -> str:
        return self.t.day(self.results.until)

    @property
    def lead(self) -> str:
        """What the bottom line rests on."""
        t, effect = self.t, self.primary
        if self.verdict == "held":
            return t("lead_held")
        if effect is None:
            return t("lead_unseen" if exposed_since(self.stages) is None else "lead_nobody")
        about = {"metric": t(f"metric_{effect.metric}"), "range": self._range(effect), "certainty": self.certainty}
        if self.verdict == "harms" and not (effect.significant and effect.high < 0):
            alarms = [t(f"guard_{one.metric}") for one in self.results.guardrails if one.alarm]
            return t("lead_alarm", what=t("and").join(alarms))
        if self.verdict == "open":
            if self.results.stage == STOPPED:
                return t("lead_stopped", **about)
            return t("lead_open", **about, n=max(1, weeks_left(self.results, self.experiment, self.stages)))
        return t(f"lead_{self.verdict}", **about)

    def _range(self, effect: Effect) -> str:
        t = self.t
        if effect.lift_low is None or effect.lift_high is None:
            return t(
                "range",
                low=self._value(effect.metric, effect.low, True),
                high=self._value(effect.metric, effect.high, True),
            )
        return t("range", low=t.change(effect.lift_low), high=t.change(effect.lift_high))

    def _value(self, metric: str, value: float, signed: bool = False) -> str:
        """A mean of a metric, or a difference of two."""
        sign = "+" if signed and value > 0 else ""
        if metric == "conversion":
            return sign + (
                self.t("points", points=self.t.number(100 * value, 2)) if signed else self.t.percent(value, 2)
            )
        if metric == "revenue":
            currency = self.results.money.currency if self.results.money is not None else ""
            return sign + self.t.amount(value, currency)
        return sign + self.t.number(float(value), 3)

    @property
    def money_line(self) -> str:
        """What it brings a month, where that is known."""
        return self._month("money_line")

    def _month(self, word: str) -> str:
        money = self.results.money
        if money is None or money.month is None or self.verdict == "held":
            return ""
        names = {"low": money.month_low, "middle": money.month, "high": money.month_high}
        return self.t(word, **{name: self.t.amount(one or 0.0, money.currency) for name, one in names.items()})

    @property
    def tried(self) -> list[tuple[str, str]]:
        """What was tried, on whom, and by which figure it is judged."""
        t, experiment, results = self.t, self.experiment, self.results
        rows = [
            (t("tried"), self._arm(experiment.treatment)),
            (t("compared"), self._arm(experiment.control)),
            (t("for_whom"), self._segment()),
            (t("judged_by"), t("judged", metric=t(f"metric_{experiment.primary}"), certainty=self.certainty)),
        ]
        if results.people:
            rows.append((t("people"), self._people()))
        return rows

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

    def _people(self) -> str:
        counted = {arm: self.results.triggered.get(arm, 0) for arm in (TREATMENT, CONTROL)}
        total = sum(self.results.people.values())
        return self.t("people_are", treatment=counted[TREATMENT], control=counted[CONTROL], total=total)

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
        if place == 0:
            return self.t("why_begun")
        who = self.t("why_automatic") if row.automatic else self.t("why_by", name=row.by) if row.by else ""
        return " ".join(filter(None, (who, self.t("why_quoted", why=row.why) if row.why else "")))

    @property
    def effects(self) -> list[EffectLine]:
        """All figures, over one axis."""
        lifts = [value for one in self.results.effects for value in (one.lift_low, one.lift_high) if value is not None]
        far = min(max([abs(value) for value in lifts], default=0.1) * 1.1 or 0.1, _WIDEST)
        self.scale = Scale(-far, far)
        return [self._effect(one) for one in self.results.effects]

    def _effect(self, effect: Effect) -> EffectLine:
        t = self.t
        says = "says_open" if effect.low <= 0 <= effect.high else "says_more" if effect.low > 0 else "says_less"
        return EffectLine(
            t(f"metric_{effect.metric}"),
            self._value(effect.metric, effect.control),
            self._value(effect.metric, effect.treatment),
            self._value(effect.metric, effect.difference, True) if effect.lift is None else t.change(effect.lift),
            self._range(effect),
            t(says),
            self._picture(effect),
        )

    def _picture(self, effect: Effect) -> Markup | None:
        if effect.lift is None or effect.lift_low is None or effect.lift_high is None:
            return None
        low, middle, high, zero = (
            svg.percent(self.scale(one)) for one in (effect.lift_low, effect.lift, effect.lift_high, 0)
        )
        y = _HEIGHT / 2
        return svg.stretched(
            _HEIGHT,
            tag("line", x1=zero, x2=zero, y1=0, y2=_HEIGHT, class_="base"),
            tag("line", x1=low, x2=high, y1=y, y2=y, class_="interval ours"),
            svg.mark("ours", middle, y),
        )

    @property
    def axis(self) -> Markup:
        """The axis of the pictures."""
        marks = []
        for value in self.scale.ticks(4):
            x = svg.percent(self.scale(value))
            marks.append(
                tag("text", self.t.change(value, 0 if self.scale.high >= 0.05 else 1), x=x, y=12, text_anchor="middle")
            )
        return svg.stretched(16, *marks)

    @property
    def months(self) -> list[tuple[str, str]]:
        """Money, a line each; what is not known says how it becomes known."""
        money, t = self.results.money, self.t
        if money is None:
            return []
        rows = [(t("month"), self._month("month_is") or t("unknown"))]
        rows += [(t("weeks_more"), self._until_known(money)), (t("payback"), self._payback(money))]
        hours = t.number(money.training_hours, 1 if money.training_hours < 10 else 0)
        if money.machine is not None and money.training is not None:
            machine = t(
                "machine_shared" if money.shared else "machine_own", amount=t.amount(money.machine, money.currency)
            )
            rows += [
                (t("machine"), machine),
                (t("training"), t("training_is", amount=t.amount(money.training, money.currency), hours=hours)),
            ]
        else:
            rows.append((t("training"), t("training_hours", hours=hours)))
        return rows

    def _until_known(self, money: Money) -> str:
        if money.month is None or self.verdict == "held":
            return self.t("unknown")
        weeks = money.weeks_more
        return self.t("weeks_more_never") if weeks is None else self.t(f"weeks_more_{'n' if weeks else 'now'}", n=weeks)

    def _payback(self, money: Money) -> str:
        t = self.t
        if money.month is None or money.training is None or self.verdict == "held":
            return t("unknown")
        if money.payback_low is None:
            return t("payback_never")
        low = self._months(money.payback_low)
        if money.payback_high is None:
            return t("payback_open", low=low)
        high = self._months(money.payback_high)
        return t("payback_about", low=low) if low == high else t("payback_range", low=low, high=high)

    def _months(self, months: float) -> str:
        if months < 1 / 30:
            return self.t("under_a_day")
        if months < 2:
            days = max(1, round(months * 30.4375))
            return self.t("days", n=days)
        return self.t("months_n", n=round(months))

    @property
    def missing(self) -> list[str]:
        """What is not known of money, with the remedy."""
        money = self.results.money
        return [self.t("no_money")] if money is None else [self.t(f"missing_{name}") for name in money.unknown]

    @property
    def doubts(self) -> list[str]:
        """What speaks against the figures, or was not looked at."""
        t, results = self.t, self.results
        found = list(self._of_data())
        if self.primary is not None and self.verdict in ("open", "nothing"):
            found.append(t("doubt_zero", range=self._range(self.primary)))
            if (weeks := self._until_seen(self.primary)) is not None:
                found.append(t("doubt_weeks", n=weeks))
            elif self.verdict == "open":
                found.append(t("doubt_never"))
        since = exposed_since(self.stages)
        if since is not None:
            found.append(t("doubt_season", n=max(1, round((results.until - since) / DAY))))
        return [*found, t("doubt_work")]

    def _of_data(self) -> Iterator[str]:
        t, results = self.t, self.results
        yield from (t("doubt_problem", problem=one) for one in results.problems)
        if results.srm is not None:
            yield t("doubt_srm" if results.srm < _SRM else "doubt_no_srm", p=_p(t, results.srm))
        if results.both:
            yield t("doubt_both", n=results.both)

    def _until_seen(self, effect: Effect) -> int | None:
        since = exposed_since(self.stages)
        if since is None:
            return None
        return weeks_until_seen(effect.low, effect.difference, effect.high, (self.results.until - since) / DAY)

    @property
    def asides(self) -> list[str]:
        """What is known before people have one of both: of lists in the background, and of mixed ones."""
        t, shadow, liked = self.t, self.results.shadow, self.results.preference
        found = []
        if shadow is not None:
            found.append(
                t(
                    "shadow_is",
                    requests=shadow.requests,
                    overlap=t.percent(shadow.overlap),
                    ratio=t.number(shadow.p99_ratio, 1),
                    errors=shadow.errors,
                    empty=shadow.empty,
                )
            )
        if liked is not None and liked.people:
            kind = "open" if liked.low <= 0 <= liked.high else "more" if liked.low > 0 else "less"
            found.append(
                t("mixed_is", people=liked.people, wins=liked.wins, losses=liked.losses) + " " + t(f"mixed_{kind}")
            )
        return found

    @property
    def next(self) -> str:
        """What happens now."""
        t, decision = self.t, self.results.decision
        if self.results.stage == STOPPED:
            return t("next_over")
        to = t(f"stage_{decision.to}") if decision.to else ""
        words = t(f"next_{decision.go}" if to or decision.go in ("wait", "stop") else "next_wait", stage=to)
        if decision.go == "wait":
            return words
        return words + " " + t("next_automatic" if decision.automatic else "next_by_hand")


def _p(t: PageWords, p: float) -> str:
    return t("below", value=t.number(0.001, 3)) if p < 0.001 else t.number(p, 3)
