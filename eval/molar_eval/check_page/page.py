"""A check as one HTML page that needs no other file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from molar_eval.check_page.histograms import drawn
from molar_eval.check_page.terminal import TITLES, pair_lines
from molar_eval.report import words
from molar_eval.report.pictures import Pictures
from molar_eval.report.policy import policy, source
from molar_retrieval.quality.findings import Finding, Severity
from molar_retrieval.quality.report import CheckReport, Found

PICTURES = 8
"""Offenders of a kind that are shown with their photo."""
ROWS = 40
"""Findings of a kind in the table."""


@dataclass(frozen=True)
class Offender:
    """An item that is shown.

    Attributes:
        item_id: Its id.
        title: Its title.
        uri: Its photo as a data URI, or None.
        detail: What was seen.
        other: Photo of the first item that shares the fault, or None.
    """

    item_id: str
    title: str
    uri: str | None
    detail: str
    other: str | None


def render(report: CheckReport, pictures: Pictures) -> str:
    """The page; the same report and photos give the same page.

    Args:
        report: What was found.
        pictures: Where the photos of offenders come from.
    """
    environment = Environment(
        loader=PackageLoader("molar_eval.check_page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    report, users = _without_users(report)
    style = Markup("\n").join(
        [
            source(environment, "molar_eval.report", "style.css"),
            source(environment, "molar_eval.check_page", "check.css"),
        ]
    )
    script = source(environment, "molar_eval.check_page", "check.js")
    environment.filters.update(count=words.count)
    environment.globals.update(plural=words.plural)
    return environment.get_template("check.html.jinja").render(
        report=report,
        pair_lines=pair_lines(report),
        severities=[(s, TITLES[s], [f for f in report.found if f.kind.severity is s]) for s in Severity],
        totals={severity: report.count(severity) for severity in Severity},
        offenders=lambda found: _offenders(found, report, pictures),
        rows=_rows(report.found),
        histograms=[(histogram, drawn(histogram)) for histogram in report.histograms if histogram.total],
        users=users,
        style=style,
        script=script,
        policy=policy(style, script),
    )


def _without_users(report: CheckReport) -> tuple[CheckReport, int]:
    """The report with numbers for the ids of users, as a page is passed on; and how many users it is about."""
    names: dict[str, str] = {}

    def nameless(finding: Finding) -> Finding:
        own = finding.user_id
        if own is None:
            return finding
        name = names.setdefault(own, f"user {len(names) + 1}")
        return replace(finding, user_id=name, others=(), detail=finding.detail.replace(repr(own), name))

    found = tuple(replace(kind, examples=tuple(map(nameless, kind.examples))) for kind in report.found)
    return replace(report, found=found), len(names)


def _offenders(found: Found, report: CheckReport, pictures: Pictures) -> list[Offender]:
    """Items with a fault, as they are shown; none where no photo of them can be."""
    shown: list[Offender] = []
    seen: set[str] = set()
    for finding in found.examples:
        if finding.item_id is None or finding.item_id in seen or len(shown) >= PICTURES:
            continue
        seen.add(finding.item_id)
        excerpt = report.excerpts.get(finding.item_id)
        photo = excerpt.photo if excerpt is not None else None
        title = (excerpt.title if excerpt is not None else None) or finding.item_id
        other = report.excerpts.get(finding.others[0]) if finding.others else None
        beside = pictures.uri(other.photo) if other is not None and photo is not None else None
        shown.append(Offender(finding.item_id, title, pictures.uri(photo), finding.detail, beside))
    return shown if any(item.uri for item in shown) else []


def _rows(found: Sequence[Found]) -> list[tuple[Found, Finding]]:
    return [(kind, finding) for kind in found for finding in kind.examples[:ROWS]]
