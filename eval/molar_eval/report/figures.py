"""What the page draws: rows over one axis, each with its numbers as text; and models in planes."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from molar_eval.report import plots
from molar_eval.report.plots import Curve, Point
from molar_eval.report.schema import Estimate, ModelResult, SliceScore, SplitResult
from molar_eval.report.standing import best_there, compared, ordered, reference, told_apart
from molar_eval.report.verdict import Verdict
from molar_retrieval.reports import charts as svg
from molar_retrieval.reports import wording as words
from molar_retrieval.reports.charts import Scale

_SHORTEST = 0.01
HITS = 25
"""Hits in a tenth of the cases from which its share is drawn: its standard error is then a fifth of it, or less."""


@dataclass(frozen=True)
class Line:
    """A row of a figure: a name, a picture that stretches, what it says as text."""

    label: str
    picture: Markup | None
    value: str
    aside: str = ""
    kind: str = "baseline"


@dataclass(frozen=True)
class Figure:
    """Rows over one axis."""

    title: str
    lines: list[Line]
    axis: Markup
    note: str = ""

    @property
    def size(self) -> int:
        """How many rows there are."""
        return len(self.lines)


def shares(verdict: Verdict) -> Figure | None:
    """Hits in round numbers, as bars."""
    hits = verdict.hits
    if hits is None:
        return None
    scale = Scale(0.0, svg.round_up([share.estimate.high for share in hits.shares]))
    lines = [
        Line(
            share.model.name,
            plots.bars(scale, [(share.estimate, share.model.kind)], thick=18, most=0),
            f"{share.hits:,}",
            _role(share.model, verdict),
            share.model.kind,
        )
        for share in hits.shares
    ]
    return Figure(hits.title, lines, Markup())


def _role(model: ModelResult, verdict: Verdict) -> str:
    if model.kind == "ours":
        return ""
    return "best other method" if model is verdict.baseline else "weakest method"


def intervals(split: SplitResult, verdict: Verdict) -> Figure | None:
    """The primary metric of every model with its interval, best first."""
    known = [(m, m.metrics[split.primary]) for m in ordered(split) if split.primary in m.metrics]
    if not known:
        return None
    scale = Scale(0.0, svg.round_up([estimate.high for _, estimate in known]))
    baseline = verdict.baseline
    line = baseline.metrics[split.primary].mean if baseline else None
    lines = [
        Line(m.name, plots.interval(scale, e, m.kind, line), words.fraction(e.mean), e.half, m.kind) for m, e in known
    ]
    note = f"The dashed line is the best other method, {baseline.name}." if baseline else ""
    return Figure(words.metric(split.primary), lines, plots.axis(scale), note)


def slices(split: SplitResult, ours: ModelResult, *, clear: bool) -> list[Figure]:
    """By dimension, ours and, under it, the baseline that is best in that part; all dimensions over the same axis.

    ``clear``: the parts in which the two are told apart; else those where the difference may be chance.
    """
    shown = {
        dimension: [part for part in parts if told_apart(split, part, dimension) is clear]
        for dimension, parts in ours.slices.items()
    }
    ends = [end for dimension, parts in shown.items() for part in parts for end in _ends(split, part, dimension)]
    scale = Scale(0.0, svg.round_up(ends))
    return [
        Figure(dimension, [_slice(split, part, dimension, scale) for part in parts], plots.axis(scale, 3))
        for dimension, parts in shown.items()
        if parts
    ]


def _ends(split: SplitResult, part: SliceScore, dimension: str) -> list[float]:
    """Where the intervals of a part end: of ours, and of the baseline that is best in it."""
    mine, theirs = part.get(split.primary), best_there(split, dimension, part.value)
    return [estimate.high for estimate in (mine, theirs and theirs[0]) if estimate is not None]


def _slice(split: SplitResult, part: SliceScore, dimension: str, scale: Scale) -> Line:
    users, mine = words.plural(part.users, "user"), part.get(split.primary)
    if mine is None:
        return Line(part.value, None, words.NONE, f"{users}: too few to tell")
    entries: list[tuple[Estimate, str]] = [(mine, "ours")]
    beside = words.fraction(mine.mean)
    if (theirs := best_there(split, dimension, part.value)) is not None:
        entries.append((theirs[0], "baseline"))
        beside += f"\n{words.fraction(theirs[0].mean)} {theirs[1]}"
    return Line(part.value, plots.bars(scale, entries), beside, users)


def ablations(split: SplitResult) -> Figure | None:
    """The difference of each ablation to the full model, with its interval."""
    full = reference(split)
    shown = [m for m in ordered(split) if m.kind == "ablation" and m is not full and split.primary in m.metrics]
    if full is None or split.primary not in full.metrics or not shown:
        return None
    tests = [compared(model, full.name, split.primary) for model in shown]
    ends = [end for test in tests if test for end in (test.difference.low, test.difference.high)]
    scale = Scale(-svg.round_up([-end for end in ends]), svg.round_up(ends), 2, 98)
    lines = []
    for model, test in zip(shown, tests, strict=True):
        if test is None:
            change = model.metrics[split.primary].mean - full.metrics[split.primary].mean
            lines.append(Line(model.name, None, words.signed(change), "not tested", model.kind))
            continue
        picture = plots.interval(scale, test.difference, model.kind, 0.0)
        value, p = words.signed(test.difference.mean), words.p_value(test.p_holm)
        lines.append(Line(model.name, picture, value, p, model.kind))
    note = f"{words.metric(split.primary)} minus that of {full.name}, which is trained in the same way."
    return Figure("Ablations", lines, plots.axis(scale) if ends else Markup(), note)


def time(split: SplitResult) -> Markup | None:
    """Quality against training time."""
    found = [(model, max(model.fit_seconds, _SHORTEST)) for model in _compared(split)]
    return _against(split, found, "training time", "training time", seconds=True)


def coverage(split: SplitResult) -> Markup | None:
    """Quality against the share of the catalogue that the lists reach."""
    found = [(m, next((v for k, v in m.lists.items() if "coverage" in k), None)) for m in _compared(split)]
    return _against(split, found, "catalogue coverage", "share of the catalogue in any list")


def _against(
    split: SplitResult,
    found: Sequence[tuple[ModelResult, float | None]],
    what: str,
    x_title: str,
    *,
    seconds: bool = False,
) -> Markup | None:
    points = [Point(m.name, m.kind, x, m.metrics[split.primary].mean) for m, x in found if x is not None]
    if len(points) < 2:
        return None
    name = words.metric(split.primary)
    return plots.scatter(points, title=f"{name} against {what}", x_title=x_title, y_title=name, seconds=seconds)


def _compared(split: SplitResult) -> list[ModelResult]:
    """Ours and the baselines; ablations would only crowd the plane around the full model."""
    models = [m for m in ordered(split) if m.kind != "ablation" and split.primary in m.metrics]
    return sorted(models, key=lambda model: model.kind != "ours")


def calibration(verdict: Verdict) -> Markup | None:
    """Hits by the score of the first suggestion, ours and the best baseline; None where there are too few of them."""
    models = _calibrated(verdict)
    if not models or hits_of_a_tenth(models[0]) < HITS:
        return None
    chosen = [m for m in models if hits_of_a_tenth(m) >= HITS]
    lines = [Curve(m.name, m.kind, [(b.score, b.hit_rate) for b in m.calibration]) for m in chosen]
    title = "Share of cases with a hit against the score of the first suggestion"
    return plots.curves(
        lines, title=title, x_title="score of the first suggestion, standardised", y_title="share of cases with a hit"
    )


def uncalibrated(split: SplitResult, verdict: Verdict) -> str:
    """Why there is no calibration, where that is for want of cases; else empty."""
    models = _calibrated(verdict)
    if not models or (found := hits_of_a_tenth(models[0])) >= HITS:
        return ""
    return (
        f"Whether a higher score means more hits cannot be told from {words.plural(split.cases, 'case')}: a tenth of "
        f"them has {found:.0f} hits on average, and {HITS} are needed."
    )


def _calibrated(verdict: Verdict) -> list[ModelResult]:
    return [m for m in (verdict.ours, verdict.baseline) if m is not None and len(m.calibration) > 1]


def hits_of_a_tenth(model: ModelResult) -> float:
    """Cases with a hit, or without where these are fewer, in one bin of a model's calibration, on average."""
    hits = sum(b.hit_rate * b.cases for b in model.calibration)
    return min(hits, sum(b.cases for b in model.calibration) - hits) / len(model.calibration)
