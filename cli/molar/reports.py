"""The reports of the evaluations that lie in a workspace, and a record of those that were written elsewhere."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from molar_retrieval.workspace.files import wait_beside, write_atomically

_EVALUATION, _RUNS, _ELSEWHERE = "evaluation", "runs", "elsewhere.json"
_REPORT, _PAGE = "report.json", "report.html"
_KEPT = 100  # folders elsewhere that are remembered


@dataclass(frozen=True)
class KeptReport:
    """An evaluation's report.

    Attributes:
        name: By which it is asked for.
        title: Its heading.
        suite: The suite that was run.
        made: When, in seconds since 1970.
        page: The file.
    """

    name: str
    title: str
    suite: str
    made: float
    page: Path


def remember_folder(workspace: Path, folder: Path) -> None:
    """Remember where a report was written that does not lie among the workspace's runs.

    The record tells people that something of them may lie there; nothing opens the folders that it names.
    """
    folder = folder.resolve()
    if folder.parent == (workspace / _EVALUATION / _RUNS).resolve():
        return
    path = workspace / _EVALUATION / _ELSEWHERE
    path.parent.mkdir(parents=True, exist_ok=True)
    with wait_beside(path):
        known = [one for one in _elsewhere(workspace) if one != str(folder)]
        write_atomically(path, json.dumps([*known, str(folder)][-_KEPT:], ensure_ascii=False) + "\n")


def evaluation_reports(workspace: Path) -> list[KeptReport]:
    """The reports in the workspace, the newest first; what is no report, or leads out of it, is left out."""
    own = (workspace / _EVALUATION / _RUNS).resolve()
    runs = [folder for folder in own.glob("*/") if (folder / _PAGE).resolve().is_relative_to(own)]
    found = [_report(folder.name, folder) for folder in runs]
    return sorted((one for one in found if one is not None), key=lambda one: -one.made)


def _report(name: str, folder: Path) -> KeptReport | None:
    page = folder / _PAGE
    try:
        title, suite = _heading(folder / _REPORT, (folder / _REPORT).stat().st_mtime_ns)
        return KeptReport(name, title, suite, page.stat().st_mtime, page)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@lru_cache(maxsize=1_000)
def _heading(path: Path, changed: int) -> tuple[str, str]:
    """Title and suite of a report, which is read once after it has changed."""
    report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return str(report["title"]), str(report["suite"])


def _elsewhere(workspace: Path) -> list[str]:
    try:
        found = json.loads((workspace / _EVALUATION / _ELSEWHERE).read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
