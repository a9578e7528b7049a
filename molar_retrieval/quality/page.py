"""A check as one HTML page that needs no other file."""

from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from molar_retrieval.durable import OWNER
from molar_retrieval.pages.page import render_page
from molar_retrieval.pages.pictures import Pictures
from molar_retrieval.pages.svg import Scale, tag, tick_label
from molar_retrieval.quality.findings import Severity
from molar_retrieval.quality.histogram import Histogram
from molar_retrieval.quality.report import CheckReport, Excerpt, Found
from molar_retrieval.quality.terminal import TITLES, consequence, pair_lines, standing
from molar_retrieval.workspace import write_atomically

PICTURES = 8  # Offenders of a kind that are shown with their photo
ROWS = 40  # Findings of a kind in the table
WIDTH, HEIGHT = 420, 170  # Of a histogram, in pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 4, 8, 18, 34
_UNKNOWN = Excerpt(None, None, None)


class Offender(NamedTuple):
    """An item that is shown; photos are data URIs, ``other`` that of the first item that shares the fault.

    ``where`` is its place in the catalogue's files.
    """

    item_id: str
    title: str
    uri: str | None
    detail: str
    where: str
    other: str | None


def write_page(path: Path, report: CheckReport, catalogue: Path) -> None:
    """Write the page, with photos of the folder ``catalogue``, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render(report, Pictures(catalogue)), OWNER)


def render(report: CheckReport, pictures: Pictures) -> str:
    """The page; the same report and photos give the same page."""
    users = len({finding.user_id for kind in report.found for finding in kind.examples} - {None})
    return render_page(
        "molar_retrieval.quality",
        "check.html.jinja",
        style="check.css",
        script="check.js",
        report=report,
        standing=standing(report),
        consequence=consequence(report),
        pair_lines=pair_lines(report),
        severities=[(s, TITLES[s], [f for f in report.found if f.kind.severity is s]) for s in Severity],
        totals={severity: report.count(severity) for severity in Severity},
        offenders=lambda found: _offenders(found, report, pictures),
        rows=[(found, finding) for found in report.found for finding in found.examples[:ROWS]],
        histograms=[(histogram, drawn(histogram)) for histogram in report.histograms if histogram.total],
        users=users,
    )


def _offenders(found: Found, report: CheckReport, pictures: Pictures) -> list[Offender]:
    """Items with a fault, as they are shown; none where no photo of them can be, or where rows are at fault."""
    if found.kind.name.startswith(("log.", "user.")):
        return []
    shown: dict[str, Offender] = {}
    for finding in found.examples:
        if finding.item_id is None or finding.item_id in shown or len(shown) >= PICTURES:
            continue
        own = report.excerpts.get(finding.item_id, _UNKNOWN)
        other = report.excerpts.get(finding.others[0], _UNKNOWN) if finding.others else _UNKNOWN
        title, photo = own.title or finding.item_id, pictures.uri(own.photo)
        beside = None if own.photo is None else pictures.uri(other.photo)
        shown[finding.item_id] = Offender(finding.item_id, title, photo, finding.detail, finding.where, beside)
    return list(shown.values()) if any(item.uri for item in shown.values()) else []


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
