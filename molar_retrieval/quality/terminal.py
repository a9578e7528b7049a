"""A check for the terminal: a verdict, then faults by severity."""

from molar_retrieval.pages.words import plural
from molar_retrieval.quality.findings import Finding, Severity
from molar_retrieval.quality.report import CheckReport

TITLES = {
    Severity.ERROR: "Errors: cannot be used as they are",
    Severity.WARNING: "Warnings: usable, but results will be worse",
    Severity.NOTE: "Notes: worth knowing",
}
_LONGEST = 120


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
