"""The plots of the page: intervals and bars in rows that stretch, and small planes."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from molar_eval.report.schema import Estimate
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
