"""What the last check found, kept in the workspace, and which of it somebody has ticked off.

``findings/last.json`` is the report of the last check, ``findings/ticks.json`` who ticked off what. A finding is all
faults of one kind; its key changes with the items that it is about, so one that comes back with others is open again.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molar_retrieval.errors import DataError, MissingArtefactError
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import OWNER, write_atomically

if TYPE_CHECKING:
    from molar_retrieval.quality.check import CheckReport

FOLDER, CHECK_PAGE = "findings", "check.html"
_LAST, _TICKS = "last.json", "ticks.json"
_KEPT = 2_000  # ticks; the oldest go
NOTE = 1_000
"""Characters of a note."""


@dataclass(frozen=True)
class TickedOff:
    """Who ticked off a finding, when (ISO 8601), and what they noted."""

    by: str
    time: str
    note: str


@dataclass(frozen=True)
class KeptFinding:
    """All faults of one kind in the last check.

    Attributes:
        key: Stays the same while the faults are about the same items.
        kind: As in ``photo.unreadable``.
        severity: ``error``, ``warning`` or ``note``.
        title: What is wrong.
        remedy: What to do.
        count: How many there are.
        examples: The worst of them, as the report has them.
        ticked: Who ticked it off; None: it is open.
    """

    key: str
    kind: str
    severity: str
    title: str
    remedy: str
    count: int
    examples: tuple[Mapping[str, Any], ...]
    ticked: TickedOff | None


@dataclass(frozen=True)
class LastCheck:
    """The last check: when it was made (ISO 8601), of how many items, why the data cannot be used, what it found."""

    made: str
    items: int
    unusable: tuple[str, ...]
    findings: tuple[KeptFinding, ...]


def keep_check(workspace: Path, report: "CheckReport", catalogue: Path, page: Path | None) -> None:
    """Keep a check and its page, with photos of the folder ``catalogue``; the page goes to ``page`` as well."""
    from molar_retrieval.quality.rendering import write_page

    write_page(workspace / CHECK_PAGE, report, catalogue)
    remember(workspace, report)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(page, (workspace / CHECK_PAGE).read_text("utf-8"), OWNER)


def remember(workspace: Path, report: "CheckReport") -> None:
    """Keep the report of a check."""
    kept = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "report": report.to_dict()}
    (workspace / FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomically(workspace / FOLDER / _LAST, json.dumps(kept, ensure_ascii=False) + "\n", OWNER)


def last_check(workspace: Path) -> LastCheck | None:
    """What the last check found; None where none was made. A DataError if what is kept is damaged."""
    kept, ticks = _read(workspace / FOLDER / _LAST), _ticks(workspace)
    if kept is None:
        return None
    try:
        report = kept["report"]
        found = [{**one, "key": str(one["key"]), "examples": tuple(one["examples"])} for one in report["found"]]
        findings = tuple(KeptFinding(**one, ticked=ticks.get(one["key"])) for one in found)
        return LastCheck(kept["made"], report["items"], tuple(report["unusable"]), findings)
    except (KeyError, TypeError) as error:
        raise DataError(f"{workspace / FOLDER / _LAST} is damaged: {error!r}", "run `molar check` again") from error


def tick(workspace: Workspace, key: str, ticked: TickedOff | None) -> TickedOff | None:
    """Tick off a finding of the last check, or with None open it again; what was noted before.

    A MissingArtefactError if the last check has no such finding, a DataError while somebody else does the same.
    """
    check = last_check(workspace.root)
    if check is None or all(one.key != key for one in check.findings):
        raise MissingArtefactError("the last check has no such finding", "look at the list again")
    with workspace.lock(FOLDER, "ticking off findings of"):
        ticks = _ticks(workspace.root)
        former = ticks.pop(key, None)
        if ticked is not None:
            ticks[key] = ticked
        last = dict(list(ticks.items())[-_KEPT:])
        text = json.dumps({name: asdict(one) for name, one in last.items()}, ensure_ascii=False)
        write_atomically(workspace.root / FOLDER / _TICKS, text + "\n")
    return former


def _ticks(workspace: Path) -> dict[str, TickedOff]:
    try:
        return {key: TickedOff(**one) for key, one in (_read(workspace / FOLDER / _TICKS) or {}).items()}
    except (TypeError, AttributeError) as error:
        raise DataError(f"{workspace / FOLDER / _TICKS} is damaged: {error!r}", "remove it") from error


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}", "remove it, and run `molar check` again") from error
    return found
