"""Histograms as inline SVG."""

from markupsafe import Markup

from molar_eval.report.svg import Scale, tag, tick_label
from molar_retrieval.quality.histogram import Histogram

WIDTH, HEIGHT = 420, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 4, 8, 18, 34


def drawn(histogram: Histogram) -> Markup:
    """Bars over an axis with a few values; how many a bar stands for is told where a pointer rests on it."""
    edges, counts = histogram.edges, histogram.counts
    most = max(counts, default=0)
    x = Scale(edges[0], edges[-1], _LEFT, WIDTH - _RIGHT, log=histogram.log)
    y = Scale(0, max(most, 1), HEIGHT - _BOTTOM, _TOP)
    parts: list[Markup] = []
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        left, right, top = x(low), x(high), y(count)
        if count:
            top = min(top, y.start - 1.5)  # a bar of few is still seen
        title = tag("title", f"{_number(low)} to {_number(high)}: {count:,}")
        width = max(right - left - 1, 0.75)
        parts.append(tag("rect", title, x=left, y=top, width=width, height=y.start - top, class_="bar ours"))
    base = tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y.start, y2=y.start, class_="base")
    for value in _ticks(histogram, x):
        place = x(value)
        anchor = "start" if place < 20 else "end" if place > WIDTH - 40 else "middle"
        parts.append(tag("line", x1=place, x2=place, y1=y.start, y2=y.start + 4, class_="tick"))
        parts.append(tag("text", _number(value), x=place, y=y.start + 17, text_anchor=anchor))
    parts.append(tag("text", histogram.unit, x=WIDTH - _RIGHT, y=HEIGHT - 2, text_anchor="end", class_="title"))
    parts.append(tag("text", f"at most {most:,}", x=_LEFT, y=11, class_="title"))
    box = f"0 0 {WIDTH} {HEIGHT}"
    return tag("svg", tag("title", histogram.title), *parts, base, viewBox=box, class_="plane", role="img")


def _ticks(histogram: Histogram, scale: Scale) -> list[float]:
    if not histogram.log:
        return scale.ticks(5)
    low, high = histogram.edges[0], histogram.edges[-1]
    powers = [factor * 10.0**power for power in range(10) for factor in (1, 2, 5)]
    inside = [value for value in powers if low <= value <= high]
    while len(inside) > 7:
        inside = [v for v in inside if str(v)[0] == "1"] if any(str(v)[0] != "1" for v in inside) else inside[::2]
    return inside


def _number(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:,.0f}k" if value < 1e6 else f"{value / 1e6:,.1f}M".replace(".0M", "M")
    return tick_label(round(value, 2 if value < 10 else 0))
