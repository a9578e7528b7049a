"""All that is looked at, in order."""

from pathlib import Path

from molar.doctor.discreet import discreet
from molar.doctor.findings import Entry, Health, Section, State
from molar.doctor.machine import machine
from molar.doctor.places import places
from molar.doctor.server import server, server_of
from molar.doctor.software import software
from molar.doctor.state import artefacts, generations
from molar_retrieval.config import MolarSettings
from molar_retrieval.errors import MolarError
from molar_retrieval.workspace import Workspace


def examine(root: Path, *, deep: bool = False) -> Health:
    """Examine installation, machine and workspace.

    Args:
        root: The workspace's folder, which may not exist.
        deep: Read everything and import the heavy libraries; else it takes about a second.

    Returns:
        What was found, fit for a bug report.
    """
    sections = [software(deep), machine(deep), places(root, deep)]
    if (root / "workspace.json").exists():
        workspace = Workspace(root)
        sections += [artefacts(workspace, deep), generations(workspace, deep)]
    sections += _server(root)
    return discreet(Health(tuple(sections), deep))


def _server(root: Path) -> list[Section]:
    try:
        settings = MolarSettings.load(root.parent)
    except MolarError:
        return []  # said by the section on places
    try:
        place = server_of(settings)
    except MolarError as error:
        entry = Entry("key", "unusable", State.BROKEN, error.message, error.hint)
        return [Section("server", "Qdrant server", (entry,))]
    return [] if place is None else [server(place, root)]
