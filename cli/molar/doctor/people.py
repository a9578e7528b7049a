"""What is kept of people: whether it is kept longer than the settings say."""

import time
from collections.abc import Iterator
from pathlib import Path

from molar.doctor.health import Entry, Fault, entry
from molar_retrieval.data.prepare_interactions import DAY, is_retained
from molar_retrieval.errors import MolarError
from molar_retrieval.privacy.retention import older_than, retained_copies
from molar_retrieval.reports.wording import plural, size
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.discovery import file_beside
from molar_retrieval.workspace.settings import FILE_NAME, MolarSettings


def people(root: Path, file: Path | None = None) -> Iterator[Entry]:
    """Interactions and copies of them, and whether some are overdue; nothing is told where there is no workspace."""
    if not (root / "workspace.json").exists():
        return
    try:
        settings = MolarSettings.load(root.parent, name=file_beside(root, FILE_NAME).name, file=file)
        yield from _interactions(Workspace(root), settings.privacy.retention_days)
        yield _copies(Workspace(root), settings.privacy.copy_retention_days)
    except MolarError:
        return  # said where settings and artefacts are looked at


def _interactions(workspace: Workspace, days: int | None) -> Iterator[Entry]:
    manifest = workspace["interactions"].manifest
    if manifest is None:
        return
    kept = manifest.facts.get("kept")
    if days is None:
        yield entry("interactions", "kept without end: [privacy] retention_days is not set")
        return
    what = f"interactions of more than {days:,} days are still there"
    late = Fault(what, "run `molar update`") if not is_retained(manifest.facts, days) else None
    age = "" if kept is None else f", the oldest is of {(time.time() - kept['oldest']) / DAY:,.0f} days ago"
    yield entry("interactions", f"kept for {days:,} days{age}", late, data=kept)


def _copies(workspace: Workspace, days: int | None) -> Entry:
    found = retained_copies(workspace)
    late = older_than(found, days)
    told = f"{plural(len(found), 'copy', 'copies')} of evaluations, unfinished work and older generations"
    oldest = f", the oldest of {max(one.days() for one in found):,.0f} days ago" if found else ""
    what = f"{plural(len(late), 'copy', 'copies')} of more than {days} days are still there"
    return entry(
        "copies",
        f"{told}, {size(sum(one.bytes for one in found))}{oldest}",
        bool(late) and Fault(what, "run `molar privacy prune`"),
        data={"copies": len(found), "overdue": len(late), "copy_retention_days": days},
    )
