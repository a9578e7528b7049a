"""A check for people: lines for the terminal, and one HTML page that needs no other file."""

from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from molar_retrieval.quality.check import CheckReport, Excerpt
from molar_retrieval.quality.findings import Finding, Found, Histogram, Severity
from molar_retrieval.reports.charts import Scale, tag, tick_label
from molar_retrieval.reports.html import Pictures, render_page
from molar_retrieval.reports.wording import plural
from molar_retrieval.workspace.files import OWNER, write_atomically

TITLES = {
    Severity.ERROR: "Errors: cannot be used as they are",
    Severity.WARNING: "Warnings: usable, but results will be worse",
    Severity.NOTE: "Notes: worth knowing",
}
_LONGEST = 120
PICTURES = 8  # Offenders of a kind that are shown with their photo
ROWS = 40  # Findings of a kind in the table
WIDTH, HEIGHT = 420, 170  # Of a histogram, in pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 4, 8, 18, 34
_UNKNOWN = Excerpt(None, None, None)


def verdict(report: CheckReport) -> str:
    """One line: whether it can be used, and how much is wrong."""
    words = ", ".join(plural(report.count(severity), str(severity)) for severity in Severity)
    if not report.usable:
        return f"{standing(report)}: {'; '.join(report.unusable)} ({words})"
    return f"{standing(report)}: {plural(report.items, 'item')}; {words}"


def standing(report: CheckReport) -> str:
    """Whether it can be used, in a few words."""
    if not report.usable:
        return f"{report.catalogue} cannot be used"
    return f"{report.catalogue} can be used{', but not all of it' if report.count(Severity.ERROR) else ''}"


def consequence(report: CheckReport) -> str:
    """What the errors cost: what is left out, and what is used all the same; empty without errors."""
    ready, log = report.readiness, report.log
    if not report.count(Severity.ERROR) or not report.usable or ready is None:
        return ""
    errors = report.count(Severity.ERROR)
    kept = [plural(report.items, "item"), plural(ready.content.photos, "photo")]
    if log is not None:
        kept.append(f"{log['interactions']:,} of {log['rows']:,} rows of the log")
    about = "the error is about" if errors == 1 else f"the {errors:,} errors are about"
    return f"What {about} is left out; used are {', '.join(kept[:-1])} and {kept[-1]}."


def lines(report: CheckReport) -> list[str]:
    """For each severity that occurs: its title; for each kind, how often it occurs with an example, and what to do."""
    said = []
    for severity, title in TITLES.items():
        found = [kind for kind in report.found if kind.kind.severity is severity]
        if not found:
            continue
        said += [title, ""]
        for kind in found:
            said.append(f"{kind.count:>9,}  {kind.kind.title}; for example {example(kind.examples[0])}")
            said.append(f"{'':11}→ {kind.kind.remedy}")
        said.append("")
    return said


def pair_lines(report: CheckReport) -> list[str]:
    """How well photos and words go together; nothing where that was not looked at."""
    if report.pairs is None:
        return []
    better, strangers = report.pairs["own_words_fit_better"], report.pairs["expected_wrong"]
    return [
        f"An item's own words fit its photo better than another item's words {better:.0%} of the time "
        f"({report.pairs['encoder']}, learned on this catalogue); about {strangers:.1%} of the pairs may be wrong."
    ]


def example(finding: Finding) -> str:
    """One fault in a line: what it is about, and what was seen, which is cut where it quotes what may be long."""
    about = finding.item_id or finding.user_id or finding.column or ""
    if finding.row is not None:
        about = f"{about} ({finding.where})" if about else finding.where
    if not about:
        return finding.detail
    words = f"{about}: {finding.detail}"
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"


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
