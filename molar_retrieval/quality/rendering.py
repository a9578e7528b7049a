"""A check for people: lines for the terminal, and one HTML page that needs no other file."""

from pathlib import Path
from typing import NamedTuple

from molar_retrieval.quality.check import CheckReport, Excerpt
from molar_retrieval.quality.findings import Finding, Found, Severity
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
_UNKNOWN = Excerpt(None, None)


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
    errors = report.count(Severity.ERROR)
    if not errors or not report.usable or report.content is None:
        return ""
    kept = [plural(report.items, "item"), plural(report.content.photos, "photo")]
    if report.log is not None:
        kept.append(f"{report.log.interactions:,} of {report.log.rows:,} rows of the log")
    about = "the error is about" if errors == 1 else f"the {errors:,} errors are about"
    return f"What {about} is left out; used are {', '.join(kept[:-1])} and {kept[-1]}."


def by_severity(report: CheckReport) -> list[tuple[Severity, str, list[Found]]]:
    """Each severity with its title and the kinds that were found, also if there are none."""
    return [(s, title, [found for found in report.found if found.kind.severity is s]) for s, title in TITLES.items()]


def lines(report: CheckReport) -> list[str]:
    """For each severity that occurs: its title; for each kind, how often it occurs with an example, and what to do."""
    said = []
    for _, title, kinds in by_severity(report):
        said += [title, ""] if kinds else []
        for found in kinds:
            said.append(f"{found.count:>9,}  {found.kind.title}; for example {example(found.examples[0])}")
            said.append(f"{'':11}→ {found.kind.remedy}")
        said += [""] if kinds else []
    return said


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
    """A finding about an item that is shown; photos are data URIs, ``other`` of the first item that shares it."""

    finding: Finding
    title: str
    uri: str | None
    other: str | None


def write_page(path: Path, report: CheckReport, catalogue: Path) -> None:
    """Write the page, with photos of the folder ``catalogue``, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render(report, Pictures(catalogue)), OWNER)


def render(report: CheckReport, pictures: Pictures) -> str:
    """The page; the same report and photos give the same page."""
    return render_page(
        "molar_retrieval.quality",
        "check.html.jinja",
        style="check.css",
        script="check.js",
        report=report,
        standing=standing(report),
        consequence=consequence(report),
        severities=by_severity(report),
        totals={severity: report.count(severity) for severity in Severity},
        offenders=lambda found: _offenders(found, report, pictures),
        rows=[(found, finding) for found in report.found for finding in found.examples[:ROWS]],
        users=any(finding.user_id for found in report.found for finding in found.examples),
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
        beside = None if own.photo is None else pictures.uri(other.photo)
        shown[finding.item_id] = Offender(finding, own.title or finding.item_id, pictures.uri(own.photo), beside)
    return list(shown.values()) if any(item.uri for item in shown.values()) else []
