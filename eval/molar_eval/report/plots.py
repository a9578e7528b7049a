"""Charts of a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

from molar_eval.report.schema import Estimate, ModelResult, SliceScore, SplitResult, WalkArm, WalkResult
from molar_eval.report.tables import Cell, Grid, best_there, compared, ordered, reference, told_apart
from molar_eval.report.verdict import Verdict
from molar_retrieval.reports import charts as svg
from molar_retrieval.reports import wording as words
from molar_retrieval.reports.charts import Kind, Scale, percent, tag

ROW, BAR = 26, 9
WIDTH, HEIGHT = 420, 330
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 34, 44
LETTER = 6.4


@dataclass(frozen=True)
class Point:
    """A model in a plane."""

    name: str
    kind: Kind
    x: float
    y: float


@dataclass(frozen=True)
class Curve:
    """A model's curve in a plane."""

    name: str
    kind: Kind
    points: Sequence[tuple[float, float]]


def interval(scale: Scale, estimate: Estimate, kind: Kind, line: float | None = None) -> Markup:
    """One row: a mark at the mean, a line from end to end of the interval; ``line`` is a value to compare with."""
    middle = ROW / 2
    parts = [_rule(scale, tick, ROW, "grid") for tick in scale.ticks()]
    if line is not None:
        parts.append(_rule(scale, line, ROW, "against"))
    ends = {"x1": percent(scale(estimate.low)), "x2": percent(scale(estimate.high))}
    parts.append(tag("line", **ends, y1=middle, y2=middle, class_=f"interval {kind}"))
    return svg.stretched(ROW, *parts, svg.mark(kind, percent(scale(estimate.mean)), middle))


def bars(scale: Scale, entries: Sequence[tuple[Estimate, Kind]], *, thick: int = BAR, most: int = 3) -> Markup:
    """One row of bars under each other, each with a whisker over its interval, on at most so many lines and one."""
    height = len(entries) * (thick + 4) + 4
    parts = [_rule(scale, tick, height, "grid") for tick in scale.ticks(most)] if most else []
    for place, (estimate, kind) in enumerate(entries):
        top = 4 + place * (thick + 4)
        width = percent(scale(estimate.mean) - scale.start)
        parts.append(tag("rect", x=percent(scale.start), y=top, width=width, height=thick, class_=f"bar {kind}"))
        ends = {"x1": percent(scale(estimate.low)), "x2": percent(scale(estimate.high))}
        for name in ("halo", "whisker"):
            parts.append(tag("line", **ends, y1=top + thick / 2, y2=top + thick / 2, class_=name))
    return svg.stretched(height, *parts)


def axis(scale: Scale, most: int = 5) -> Markup:
    """The row below others: the values of their grid."""
    texts = []
    for tick in scale.ticks(most):
        place = scale(tick)
        anchor = "start" if place < 4 else "end" if place > 96 else "middle"
        texts.append(tag("text", svg.tick_label(tick), x=percent(place), y=13, text_anchor=anchor))
    return svg.stretched(18, *texts)


def _rule(scale: Scale, value: float, height: float, name: str) -> Markup:
    place = percent(scale(value))
    return tag("line", x1=place, x2=place, y1=0, y2=height, class_=name)


def scatter(points: Sequence[Point], *, title: str, x_title: str, y_title: str, seconds: bool = False) -> Markup:
    """Models in a plane, each with its name, the first ones' placed first.

    The title is for those who cannot see the picture; ``seconds`` says that x is a time, on a logarithmic scale.
    """
    across = [point.x for point in points]
    if seconds:
        x = Scale(min(across) / 3, max(across) * 3, LEFT, WIDTH - RIGHT, log=True)
        ticks = svg.times(x.low, x.high)
    else:
        x = Scale(0.0, svg.round_up(across), LEFT, WIDTH - RIGHT)
        ticks = [(tick, svg.tick_label(tick)) for tick in x.ticks()]
    y = Scale(0.0, svg.round_up([point.y for point in points]), HEIGHT - BOTTOM, TOP)
    places = [(x(point.x), y(point.y)) for point in points]
    marks = [
        svg.mark(p.kind, px, py, f"{p.name}: {svg.tick_label(round(p.y, 4))}")
        for p, (px, py) in zip(points, places, strict=True)
    ]
    names = [
        tag("text", words.short(p.name), x=at.x, y=at.y, text_anchor=at.anchor, class_=f"name {p.kind}")
        for p, at in zip(points, _labels([words.short(p.name) for p in points], places), strict=True)
    ]
    return _plane(title, x, ticks, y, x_title, y_title, [*marks, *names])


def curves(lines: Sequence[Curve], *, title: str, x_title: str, y_title: str, floor: float = 0.0) -> Markup:
    """Curves with a mark at each point; the y-axis begins at the ``floor``."""
    across = [px for line in lines for px, _ in line.points]
    x = Scale(min(across), max(across), LEFT + 8, WIDTH - RIGHT - 8)
    highest = floor + svg.round_up([py - floor for line in lines for _, py in line.points])
    y = Scale(floor, highest, HEIGHT - BOTTOM, TOP)
    parts = []
    for line in lines:
        places = [(x(px), y(py)) for px, py in line.points]
        route = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        parts.append(tag("polyline", points=route, class_=f"curve {line.kind}"))
        parts += [svg.mark(line.kind, px, py) for px, py in places]
    ticks = [(tick, svg.tick_label(tick)) for tick in x.ticks()]
    return _plane(title, x, ticks, y, x_title, y_title, [*parts, *_legend(lines)])


def _legend(lines: Sequence[Curve]) -> list[Markup]:
    """Marks and names side by side above the plane, from the right, in two rows where one does not do."""
    parts, right, y = [], float(WIDTH - RIGHT), 12
    for line in reversed(lines):
        name = words.short(line.name)
        width = len(name) * (LETTER + 0.6) + 14
        if right - width < LEFT:
            right, y = float(WIDTH - RIGHT), y + 15
        parts.append(tag("text", name, x=right, y=y, text_anchor="end", class_=f"name {line.kind}"))
        right -= width
        parts.append(svg.mark(line.kind, right, y - 4))
        right -= 18
    return parts


def _plane(
    title: str,
    x: Scale,
    ticks: Sequence[tuple[float, str]],
    y: Scale,
    x_title: str,
    y_title: str,
    content: Sequence[Markup],
) -> Markup:
    frame: list[Markup] = []
    for tick in y.ticks():
        frame.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(tick), y2=y(tick), class_="grid"))
        frame.append(tag("text", svg.tick_label(tick), x=LEFT - 8, y=y(tick) + 4, text_anchor="end"))
    for tick, label in ticks:
        frame.append(tag("text", label, x=x(tick), y=HEIGHT - BOTTOM + 18, text_anchor="middle"))
        frame.append(tag("line", x1=x(tick), x2=x(tick), y1=y.start, y2=y.start + 4, class_="tick"))
    frame.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y.start, y2=y.start, class_="base"))
    frame.append(tag("text", x_title, x=WIDTH - RIGHT, y=HEIGHT - 6, text_anchor="end", class_="title"))
    frame.append(tag("text", y_title, x=0, y=12, class_="title"))
    box = f"0 0 {WIDTH} {HEIGHT}"
    return tag("svg", tag("title", title), *frame, *content, viewBox=box, class_="plane", role="img")


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Label:
    """Where a name stands; the side next to its mark is anchored, so that it keeps its distance in any font."""

    anchor: str
    x: float
    y: float

    def box(self, name: str) -> Box:
        """Left, top, right and bottom of the name, as wide as it is likely to be."""
        wide = len(name) * LETTER
        left = self.x - {"start": 0.0, "end": wide, "middle": wide / 2}[self.anchor]
        return left, self.y - 10, left + wide, self.y + 3


def _labels(names: Sequence[str], places: Sequence[tuple[float, float]]) -> list[_Label]:
    """A place for each name beside its mark, away from marks and from names placed before."""
    taken: list[Box] = [(px - 6, py - 6, px + 6, py + 6) for px, py in places]
    placed = []
    for name, (px, py) in zip(names, places, strict=True):
        beside = [
            _Label(anchor, px + side * 9, py + 4 + lift)
            for lift in (0, -8, 8, -13, 13, -20, 20)
            for anchor, side in (("start", 1), ("end", -1))
        ]
        offers = [*beside[:2], _Label("middle", px, py - 10), _Label("middle", px, py + 18), *beside[2:]]
        label = min(offers, key=lambda offer: _clash(offer.box(name), taken))
        taken.append(label.box(name))
        placed.append(label)
    return placed


def _clash(box: Box, taken: Sequence[Box]) -> float:
    """How much of a box is covered already or lies outside the plane, in square pixels."""
    left, top, right, bottom = box
    outside = max(LEFT - left, 0) + max(right - WIDTH, 0) + max(TOP - 12 - top, 0) + max(bottom - HEIGHT + BOTTOM, 0)
    covered = sum(
        max(min(right, b[2]) - max(left, b[0]), 0) * max(min(bottom, b[3]) - max(top, b[1]), 0) for b in taken
    )
    return covered + outside * 100


_SETTLED = 5
"""Steps after which a share of a sum over all steps so far is drawn; before, it leaps."""


def by_step(split: SplitResult, walk: WalkResult) -> Markup:
    """The metric of each step's cases, by arm."""
    lines = [Curve(arm.name, _kind(split, arm), list(enumerate(arm.values, start=1))) for arm in _drawn(walk)]
    name = words.metric(split.primary)
    return curves(lines, title=f"{name} by {walk.window}", x_title=f"{walk.window} of the walk", y_title="")


def kept(split: SplitResult, walk: WalkResult) -> Markup | None:
    """The share of the reference's metric that each other arm has kept so far; None for a short walk, or without it."""
    whole = next((arm for arm in walk.arms if arm.name == walk.reference), None)
    others = [arm for arm in walk.arms if arm.kept is not None]
    if whole is None or not others or len(walk.steps) <= _SETTLED or not any(whole.values[:_SETTLED]):
        return None
    counts = [step.cases for step in walk.steps]
    sums = {arm.name: list(accumulate(v * n for v, n in zip(arm.values, counts, strict=True))) for arm in walk.arms}
    lines = []
    for arm in others:
        shares = zip(sums[arm.name], sums[whole.name], strict=True)
        points = [(float(step), own / all_) for step, (own, all_) in enumerate(shares, start=1)]
        lines.append(Curve(arm.name, _kind(split, arm), points[_SETTLED - 1 :]))
    least = min(share for line in lines for _, share in line.points)
    title = f"Share of the {words.metric(split.primary)} of {whole.name} that is kept, all steps so far"
    floor = max(0.0, int(least * 20) / 20 - 0.05)
    return curves(lines, title=title, x_title=f"{walk.window} of the walk", y_title="", floor=floor)


def overview(split: SplitResult) -> Grid:
    """The arms of a walk: what they keep, what learning costs; no rows without a walk."""
    walk = split.walk
    columns = ["arm", "kept", f"time by {walk.window}" if walk else "", "share of the time", "processor time", "share"]
    rows = []
    for arm in walk.arms if walk else []:
        ends = f"{words.percent(arm.kept.low, 1)} to {words.percent(arm.kept.high, 1)}" if arm.kept else ""
        wall, cpu = (words.duration(sum(each) / len(each)) for each in (arm.seconds, arm.cpu_seconds))
        shares = [words.NONE if each is None else words.percent(each, 1) for each in (arm.cost, arm.cpu_cost)]
        kept_ = Cell(words.percent(arm.kept.mean, 1) if arm.kept else words.NONE, ends)
        rows.append([Cell(arm.name), kept_, Cell(wall), Cell(shares[0]), Cell(cpu), Cell(shares[1])])
    return Grid("What is kept, and its cost", columns, rows)


def steps(split: SplitResult, walk: WalkResult) -> Grid:
    """The metric and the time of each step, by arm."""
    name = words.metric(split.primary)
    columns = [walk.window, "cases", "learned since", *(f"{name}, {arm.name}" for arm in walk.arms)]
    columns += [f"time, {arm.name}" for arm in walk.arms if any(arm.seconds)]
    rows = [
        [
            Cell(step.begin[:10]),
            Cell(words.count(step.cases)),
            Cell(words.count(step.learned)),
            *(Cell(words.fraction(arm.values[at])) for arm in walk.arms),
            *(Cell(words.duration(arm.seconds[at])) for arm in walk.arms if any(arm.seconds)),
        ]
        for at, step in enumerate(walk.steps)
    ]
    return Grid(f"Each {walk.window}", columns, rows)


def _drawn(walk: WalkResult) -> list[WalkArm]:
    """At most three arms, or none could be told from another: the reference, and the first that learns and does not."""
    others = [arm for arm in walk.arms if arm.name != walk.reference]
    chosen = [next((arm for arm in others if any(arm.seconds) is learns), None) for learns in (True, False)]
    return [*(arm for arm in walk.arms if arm.name == walk.reference), *(arm for arm in chosen if arm is not None)]


def _kind(split: SplitResult, arm: WalkArm) -> str:
    return next(model.kind for model in split.models if model.name == arm.name)


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
            bars(scale, [(share.estimate, share.model.kind)], thick=18, most=0),
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
    lines = [Line(m.name, interval(scale, e, m.kind, line), words.fraction(e.mean), e.half, m.kind) for m, e in known]
    note = f"The dashed line is the best other method, {baseline.name}." if baseline else ""
    return Figure(words.metric(split.primary), lines, axis(scale), note)


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
        Figure(dimension, [_slice(split, part, dimension, scale) for part in parts], axis(scale, 3))
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
    return Line(part.value, bars(scale, entries), beside, users)


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
        picture = interval(scale, test.difference, model.kind, 0.0)
        value, p = words.signed(test.difference.mean), words.p_value(test.p_holm)
        lines.append(Line(model.name, picture, value, p, model.kind))
    note = f"{words.metric(split.primary)} minus that of {full.name}, which is trained in the same way."
    return Figure("Ablations", lines, axis(scale) if ends else Markup(), note)


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
    return scatter(points, title=f"{name} against {what}", x_title=x_title, y_title=name, seconds=seconds)


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
    return curves(
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
