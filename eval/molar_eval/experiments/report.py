"""The page of an experiment."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

from markupsafe import Markup

from molar_eval.experiments.decisions import ITEM_VALUE
from molar_eval.experiments.money import Money, weeks_until_seen
from molar_eval.experiments.results import Effect, ExperimentResults, Verdict, exposed_since, verdict_of, weeks_left
from molar_retrieval.data.event_store import DAY
from molar_retrieval.errors import RequestError, suggestion
from molar_retrieval.experiments.definition import (
    AB,
    CANARY,
    CONTROL,
    STOPPED,
    TREATMENT,
    Arm,
    Experiment,
)
from molar_retrieval.experiments.records import Look, StageRow
from molar_retrieval.reports import charts as svg
from molar_retrieval.reports.charts import Scale, tag
from molar_retrieval.reports.html import render_page
from molar_retrieval.reports.wording import LANGUAGES, PageWords
from molar_retrieval.workspace.config_files import parse_toml

_PACKAGE, _FILE = "molar_eval.experiments", "reasons.toml"
_KEPT = re.compile(r"(?:^|; )(?P<arm>control|treatment) is kept$")
_FIELDS = {"metric": "clicks|carts|conversion|revenue", "percent": r"\d+%"}
_NUMBER = r"[\d,]*\d(?:\.\d+)?"


def reason_in(words: PageWords, recorded: str) -> str:
    """A reason in the language of some words; what a person wrote, and what is not known there, is quoted."""
    kept = _KEPT.search(recorded)
    rest, told = recorded if kept is None else recorded[: kept.start()], []
    while rest:
        name, found = _first(rest)
        if found is None:
            told.append(words("why_quoted", why=rest))
            break
        told.append(_said(words, name, found))
        rest = rest[found.end() :]
    if kept is not None:
        told.append(_said(words, f"kept_{kept['arm']}", kept))
    return " ".join(told)


def _first(text: str) -> tuple[str, re.Match[str] | None]:
    """The reason with which a text begins, by its name."""
    for name, pattern in _patterns().items():
        if (found := pattern.match(text)) is not None:
            return name, found
    return "", None


def _said(words: PageWords, name: str, found: re.Match[str]) -> str:
    if words.code == "en":
        text = found[0].strip(" ;")
        return text[0].upper() + text[1:] + ("" if text.endswith(":") else ".")
    values: dict[str, int | float | str] = {}
    for field, text in found.groupdict().items():
        if field == "metric":
            values[field] = words(f"metric_{text}")
        elif field == "percent":
            values[field] = words.percent(int(text[:-1]) / 100)
        elif field != "arm":
            number = text.replace(",", "")
            values[field] = float(number) if "." in number else int(number)
    return _reasons(words.code)(name, **values)


@cache
def _reasons(code: str) -> PageWords:
    return PageWords(code, _PACKAGE, _FILE)


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """By name, what begins with a reason and a blank or the end after it."""
    found = {}
    text = (resources.files(_PACKAGE) / _FILE).read_text("utf-8")
    for name, entry in parse_toml(text, _FILE).items():
        pattern = re.sub(r"\\\{(\w+)\\\}", _field, re.escape(entry["en"])).replace(r"\(s\)", "s?")
        found[name] = re.compile(f"{pattern}(?: |$)")
    return found


def _field(place: re.Match[str]) -> str:
    return f"(?P<{place[1]}>{_FIELDS.get(place[1], _NUMBER)})"


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


_SRM = 0.001
_WIDEST = 3.0  # of an axis: an interval that goes on beyond +300 % is cut there
_HEIGHT = 22


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


@dataclass(frozen=True)
class LookLine:
    """A look that is on record: the difference per person with its interval then, and what was decided."""

    number: int
    day: str
    middle: str
    low: str
    high: str
    picture: Markup | None
    information: float
    decision: str


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
    told = ResultsTold(results, experiment, stages, language)
    package, template = "molar_eval.experiments", "page.html.jinja"
    return render_page(package, template, style="page.css", language=language, t=told.t, told=told)


class ResultsTold(DefinitionTold):
    """An experiment with its results; arguments are those of :func:`board_page`."""

    def __init__(
        self, results: ExperimentResults, experiment: Experiment, stages: Sequence[StageRow], language: str
    ) -> None:
        super().__init__(experiment, stages, language)
        self.results = results
        self.verdict: Verdict = verdict_of(results, experiment, self.stages)
        self.primary = results.effect(experiment.primary)

    @property
    def until(self) -> str:
        """The day to which events are read."""
        return self.t.day(self.results.until)

    @property
    def bottom(self) -> str:
        """The bottom line."""
        return self.t("bottom_stopped" if self.verdict == "open" and self.over else f"bottom_{self.verdict}")

    @property
    def lead(self) -> str:
        """What the bottom line rests on."""
        t, effect = self.t, self.primary
        if self.verdict == "held":
            return t("lead_held")
        if effect is None:
            never = "lead_never" if self.over else "lead_unseen"
            return t(never if exposed_since(self.stages) is None else "lead_nobody")
        about = {"metric": t(f"metric_{effect.metric}"), "range": self._range(effect), "certainty": self.certainty}
        if self.verdict == "harms" and not (effect.significant and effect.high < 0):
            alarms = [t(f"guard_{one.metric}") for one in self.results.guardrails if one.alarm]
            return t("lead_alarm", what=t("and").join(alarms))
        if self.verdict == "open":
            if self.over:
                return t("lead_stopped", **about)
            return t("lead_open", **about, n=max(1, weeks_left(self.results, self.experiment, self.stages)))
        futile = self.verdict == "nothing" and weeks_left(self.results, self.experiment, self.stages)
        return t("lead_futile" if futile else f"lead_{self.verdict}", **about)

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
        if metric in ("revenue", ITEM_VALUE):
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
        """Those of the definition, and who was in it."""
        return [*super().tried, *([(self.t("people"), self._people())] if self.results.people else [])]

    def _people(self) -> str:
        counted = {arm: self.results.triggered.get(arm, 0) for arm in (TREATMENT, CONTROL)}
        total = sum(self.results.people.values())
        return self.t("people_are", treatment=counted[TREATMENT], control=counted[CONTROL], total=total)

    @property
    def effects(self) -> list[EffectLine]:
        """All figures, over one axis."""
        return [self._effect(one) for one in self.results.effects]

    @cached_property
    def _scale(self) -> Scale:
        lifts = [value for one in self.results.effects for value in (one.lift_low, one.lift_high) if value is not None]
        far = min(max([abs(value) for value in lifts], default=0.1) * 1.1 or 0.1, _WIDEST)
        return Scale(-far, far)

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
        return _interval(self._scale, effect.lift_low, effect.lift, effect.lift_high)

    @property
    def looks(self) -> list[LookLine]:
        """All looks at the comparison of two groups, over one axis."""
        facts = [look.facts for look in self.results.looks if "low" in look.facts]
        far = max((abs(float(one[end])) for one in facts for end in ("low", "high")), default=1.0) or 1.0
        return [self._look(look, Scale(-far, far)) for look in self.results.looks]

    def _look(self, look: Look, scale: Scale) -> LookLine:
        day, ends = self.t.day(look.at), ["", "", ""]
        picture = None
        if "low" in look.facts:
            values = [float(look.facts[name]) for name in ("low", "difference", "high")]
            ends, picture = [self._value(look.metric, one, True) for one in values], _interval(scale, *values)
        low, middle, high = ends
        return LookLine(look.number, day, middle, low, high, picture, look.information, look.decision)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is to go so."""
        return tuple(reason_in(self.t, why) for why in self.results.decision.why)

    @property
    def axis(self) -> Markup:
        """The axis of the pictures."""
        marks = []
        for value in self._scale.ticks(6):
            x = svg.percent(self._scale(value))
            marks.append(
                tag("text", self.t.change(value, 0 if self._scale.high >= 0.05 else 1), x=x, y=12, text_anchor="middle")
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
        if money.machine is not None:
            word = "machine_shared" if money.shared else "machine_own"
            rows.append((t("machine"), t(word, amount=t.amount(money.machine, money.currency))))
        return [*rows, (t("training"), self._training(money))]

    def _training(self, money: Money) -> str:
        t = self.t
        if "training" in money.unknown:
            return t("unknown")
        if not money.training_hours:
            return t("training_none")
        hours = t.number(money.training_hours, 1 if money.training_hours < 10 else 0)
        if money.training is None:
            return t("training_hours", hours=hours)
        return t("training_is", amount=t.amount(money.training, money.currency), hours=hours)

    def _until_known(self, money: Money) -> str:
        if money.month is None or self.verdict == "held":
            return self.t("unknown")
        weeks = money.weeks_more
        return self.t("weeks_more_never") if weeks is None else self.t(f"weeks_more_{'n' if weeks else 'now'}", n=weeks)

    def _payback(self, money: Money) -> str:
        t = self.t
        if money.month is None or money.training is None or self.verdict == "held":
            return t("unknown")
        if not money.training:
            return t("payback_nothing")
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
        if self.primary is not None and self.verdict in ("open", "watched", "nothing"):
            found += [t("doubt_zero", range=self._range(self.primary)), *self._more_time(self.primary)]
        since = exposed_since(self.stages)
        if since is not None:
            found.append(t("doubt_season", n=max(1, round((results.until - since) / DAY))))
        if results.money is not None:
            known = results.money.month is not None and self.experiment.unit == "person"
            found += [*([t("doubt_cut")] if known else []), t("doubt_work")]
        return found

    def _of_data(self) -> Iterator[str]:
        t, results = self.t, self.results
        yield from (t("doubt_problem", problem=one) for one in results.problems)
        if results.srm is not None:
            yield t("doubt_srm" if results.srm < _SRM else "doubt_no_srm", p=_p(t, results.srm))
        if results.both:
            yield t("doubt_both", n=results.both)

    def _more_time(self, effect: Effect) -> Iterator[str]:
        """How many weeks more would tell, unless the last look says so already."""
        since, looks = exposed_since(self.stages), self.results.looks
        if since is None or (looks and looks[-1].facts.get("weeks_more")):
            return
        days = (self.results.until - since) / DAY
        weeks = weeks_until_seen(effect.low, effect.difference, effect.high, days)
        if weeks is not None:
            yield self.t("doubt_weeks", n=weeks)
        elif self.verdict == "open":
            yield self.t("doubt_never")

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
        if self.over:
            return t("next_over")
        to = t(f"stage_{decision.to}") if decision.to else ""
        words = t(f"next_{decision.go}" if to or decision.go in ("wait", "stop") else "next_wait", stage=to)
        if decision.go == "wait":
            return words
        return words + " " + t("next_automatic" if decision.automatic else "next_by_hand")


def _p(t: PageWords, p: float) -> str:
    return t("below", value=t.number(0.001, 3)) if p < 0.001 else t.number(p, 3)


def _interval(scale: Scale, low: float, middle: float, high: float) -> Markup:
    """An interval and its estimate beside zero."""
    start, at, end, zero = (svg.percent(scale(one)) for one in (low, middle, high, 0.0))
    y = _HEIGHT / 2
    return svg.stretched(
        _HEIGHT,
        tag("line", x1=zero, x2=zero, y1=0, y2=_HEIGHT, class_="base"),
        tag("line", x1=start, x2=end, y1=y, y2=y, class_="interval ours"),
        svg.mark("ours", at, y),
    )
