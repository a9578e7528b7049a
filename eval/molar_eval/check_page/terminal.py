"""A check for the terminal: a verdict, and a block for each severity."""

from molar_eval.report.words import plural
from molar_retrieval.quality.findings import Finding, Severity
from molar_retrieval.quality.report import CheckReport

TITLES = {
    Severity.ERROR: "Errors: cannot be used as they are",
    Severity.WARNING: "Warnings: usable, but results will be worse",
    Severity.NOTE: "Notes: worth knowing",
}
_LONGEST = 64


def verdict(report: CheckReport) -> str:
    """One line: whether it can be used, and how much is wrong."""
    words = ", ".join(
        plural(report.count(severity), name)
        for severity, name in ((Severity.ERROR, "error"), (Severity.WARNING, "warning"), (Severity.NOTE, "note"))
    )
    if not report.usable:
        return f"{report.catalogue} cannot be used: {'; '.join(report.unusable)} ({words})"
    return f"{report.catalogue} can be used: {plural(report.items, 'item')}; {words}"


def blocks(report: CheckReport) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """For each severity that occurs: its title, and rows of count, fault, example and remedy."""
    found = []
    for severity, title in TITLES.items():
        rows = [
            (f"{kind.count:,}", kind.kind.title, example(kind.examples[0]), kind.kind.remedy)
            for kind in report.found
            if kind.kind.severity is severity
        ]
        if rows:
            found.append((title, rows))
    return found


def example(finding: Finding) -> str:
    """One fault in a line: what it is about, and what was seen."""
    about = finding.item_id or finding.user_id or finding.column or ""
    words = f"{about}: {finding.detail}" if about else finding.detail
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
