"""Data: what the last check found, to be ticked off, and the reports, which are opened as they were written."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from molar.findings import CHECK_PAGE, NOTE, TickedOff, last_check, tick
from molar.reports import evaluation_reports
from molar_retrieval.errors import MissingArtefactError
from molar_serving.browsers import ALONE
from molar_serving.problems import ProblemError
from molar_serving.studio.visit import Page, Screen, Visit

_EXAMPLES = 5


async def overview(visit: Visit) -> Page:
    """What the last check found, open or ticked off, and which reports there are."""
    root = visit.service.workspace.root
    which = visit.asked("show", "open")
    check, reports = await visit.do(lambda: (last_check(root), evaluation_reports(root)))
    found = () if check is None else check.findings
    shown = [one for one in found if which == "all" or (one.ticked is not None) == (which == "ticked")]
    counts = {"open": sum(one.ticked is None for one in found), "ticked": sum(one.ticked is not None for one in found)}
    return Page(
        "data/data.html.jinja",
        {
            "check": check,
            "findings": shown,
            "counts": {**counts, "all": len(found)},
            "which": which if which in ("open", "ticked", "all") else "open",
            "reports": reports,
            "has_page": (root / CHECK_PAGE).is_file(),
            "most": _EXAMPLES,
            "note": NOTE,
        },
    )


async def ticked(visit: Visit) -> Page:
    """Tick off a finding, or open it again."""
    visit.need("note", "open")
    key, note = visit.path["name"], visit.sent("note").strip()[:NOTE]
    by, now = visit.call.key.name, datetime.now(UTC).isoformat(timespec="seconds")
    after = None if visit.sent("open") else TickedOff(by, now, note)
    try:
        former = await visit.do(lambda: tick(visit.service.workspace, key, after))
    except MissingArtefactError as error:
        raise ProblemError(404, error.message, error.hint) from error
    noted = None if former is None else asdict(former)
    visit.audit["undo"] = {"kind": "finding", "finding": key, "before": noted, "after": after and asdict(after)}
    return Page.to(f"/studio/data?show={'ticked' if visit.sent('open') else 'open'}")


async def check_page(visit: Visit) -> Page:
    """The page of the last check."""
    return await _alone(visit, visit.service.workspace.root / CHECK_PAGE)


async def report(visit: Visit) -> Page:
    """The page of an evaluation."""
    name, root = visit.path["name"], visit.service.workspace.root
    found = await visit.do(lambda: next((one for one in evaluation_reports(root) if one.name == name), None))
    if found is None:
        raise ProblemError(404, "there is no such report", "choose one of the list")
    return await _alone(visit, found.page)


async def _alone(visit: Visit, path: Path) -> Page:
    try:
        content = await visit.do(path.read_bytes)
    except FileNotFoundError as error:
        raise ProblemError(404, "there is no such report", "choose one of the list") from error
    return Page(content=content, headers={"Content-Security-Policy": ALONE}, media_type="text/html; charset=utf-8")


SCREENS = (
    Screen("GET", "/studio/data", "viewer", overview, nav="data"),
    Screen("GET", "/studio/data/check", "viewer", check_page),
    Screen("GET", "/studio/data/reports/{name}", "viewer", report),
    Screen("POST", "/studio/data/findings/{name}", "merchandiser", ticked, changes=True),
)
