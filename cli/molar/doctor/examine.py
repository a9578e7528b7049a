"""All that is looked at, in order."""

from collections.abc import Callable, Iterator
from pathlib import Path

from molar.doctor.cluster import cluster
from molar.doctor.health import Entry, Health, Section
from molar.doctor.machine import machine
from molar.doctor.people import people
from molar.doctor.places import places
from molar.doctor.privacy import privacy
from molar.doctor.server import server
from molar.doctor.software import software
from molar.doctor.workspace import artefacts, generations

CHECKS: dict[tuple[str, str], Callable[[Path, bool], Iterator[Entry]]] = {
    ("software", "Software"): lambda root, deep: software(deep),
    ("machine", "Machine"): lambda root, deep: machine(deep),
    ("places", "Places"): places,
    ("artefacts", "Artefacts"): artefacts,
    ("generations", "Generations"): generations,
    ("privacy", "Privacy"): lambda root, deep: privacy(root),
    ("people", "People"): lambda root, deep: people(root),
    ("server", "Qdrant server"): lambda root, deep: server(root),
    ("cluster", "Cluster"): lambda root, deep: cluster(root),
}
"""What is looked at, by the name and the title of its section; what has no entries, as there is none, is not told."""


def examine(root: Path, *, deep: bool = False) -> Health:
    """Examine installation, machine and workspace, if there is one; what is found is fit for a bug report.

    ``deep`` reads everything and imports the heavy libraries; else it takes about a second.
    """
    sections = [Section(*named, tuple(check(root, deep))) for named, check in CHECKS.items()]
    return Health(tuple(section for section in sections if section.entries), deep).discreet()
