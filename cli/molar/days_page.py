"""Days of the demo shop as an HTML page, and its plots as one SVG picture for a document."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from molar_retrieval.reports.charts import Scale, round_up, tag, tick_label
from molar_retrieval.reports.html import render_page

if TYPE_CHECKING:
    from molar.days import Day, DaysReport

WIDTH, HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 30, 24
_STYLE = """
text { font: 11px system-ui, sans-serif; fill: #5d646c; } .title { font-size: 12px; font-weight: 600; fill: #1a1c1f; }
.base, .tick { stroke: #aeb4bb; } .line { fill: none; stroke-width: 2; } .line.ours { stroke: #0b6b5d; }
.line.other { stroke: #aeb4bb; stroke-dasharray: 4 3; } .dot { fill: #0b6b5d; }
"""
_Line = tuple[str, Sequence[tuple[float, float]]]


def page(report: "DaysReport") -> str:
    """The page."""
    return render_page("molar", "days.html.jinja", style="days.css", days=report.days, plots=plots(report))


def picture(report: "DaysReport") -> str:
    """The plots as one picture, which brings its style."""
    shown, across = plots(report), 2
    placed = [
        tag("svg", plot, x=n % across * (WIDTH + 20), y=n // across * (HEIGHT + 16), width=WIDTH, height=HEIGHT)
        for n, plot in enumerate(shown)
    ]
    wide, high = across * (WIDTH + 20), -(-len(shown) // across) * (HEIGHT + 16)
    return str(
        tag(
            "svg",
            tag("style", Markup(_STYLE)),
            tag("rect", width=wide, height=high, fill="#fff"),
            *placed,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {wide} {high}",
        )
    )


def plots(report: "DaysReport") -> list[Markup]:
    """Freshness, churn, exposure by day and by age, NDCG."""

    def by_day(value: "Callable[[Day], float | None]") -> list[tuple[float, float]]:
        return [(day.day, found) for day in report.days if (found := value(day)) is not None]

    shares = [
        ("of the places", by_day(lambda day: 100 * day.arrived)),
        ("of the items", by_day(lambda day: 100 * day.arrived_items)),
    ]
    ages = [(float(age), times) for age, times in report.exposure.items()]
    return [
        _plot("Purchases that the next answer knows, %", [("", by_day(lambda day: day.visible and 100 * day.visible))]),
        _plot("Hours back to what answers know", [("", by_day(lambda day: day.age))]),
        _plot("Places of ten changed, nothing having come", [("", by_day(lambda day: day.churn))]),
        _plot("What arrived, % of the places and of the items", shares),
        _plot("Places of an arrival by its days, 1: as any item", [("", ages), ("", [(age, 1.0) for age, _ in ages])]),
        _plot("NDCG@10 against the hidden tastes", [("", by_day(lambda day: day.ndcg))]),
    ]


def _plot(title: str, lines: Sequence[_Line]) -> Markup:
    """Lines over days; the first one is ours, a second one what it is compared with."""
    values = [y for _, points in lines for _, y in points]
    days = [x for _, points in lines for x, _ in points]
    x = Scale(min(days, default=0), max(days, default=1), _LEFT + 6, WIDTH - _RIGHT)
    y = Scale(0, round_up(values), HEIGHT - _BOTTOM, _TOP)
    parts = [tag("text", title, x=0, y=14, class_="title")]
    parts.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y.start, y2=y.start, class_="base"))
    for value in y.ticks(4):
        parts.append(tag("text", tick_label(value), x=_LEFT - 4, y=y(value) + 4, text_anchor="end"))
    for value in [one for one in x.ticks(7) if one == int(one)]:
        parts.append(tag("text", tick_label(value), x=x(value), y=HEIGHT - 6, text_anchor="middle"))
    for (name, points), kind in zip(lines, ("ours", "other"), strict=False):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        parts.append(tag("polyline", points=path, class_=f"line {kind}"))
        if kind == "ours":
            hints = [(f"{name} day {a:g}: {b:.3g}".strip(), a, b) for a, b in points]
            parts += [tag("circle", tag("title", hint), cx=x(a), cy=y(b), r=3, class_="dot") for hint, a, b in hints]
    return tag("svg", tag("title", title), *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="plane", role="img")
