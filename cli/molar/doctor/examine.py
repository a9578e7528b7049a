"""All that is looked at, in order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from molar.doctor.cluster import cluster
from molar.doctor.health import Entry, Health, Section
from molar.doctor.machine import machine
from molar.doctor.people import people
from molar.doctor.places import places
from molar.doctor.privacy import privacy
from molar.doctor.server import server
from molar.doctor.software import software
from molar.doctor.workspace import artefacts, audit, generations, work


@dataclass(frozen=True)
class Examined:
    """What is looked at: a workspace, how closely, by the settings of a file or its own, with what server."""

    root: Path
    deep: bool = False
    file: Path | None = None
    index: str | None = None
    versions: bool = False


CHECKS: dict[tuple[str, str], Callable[[Examined], Iterator[Entry]]] = {
    ("software", "Software"): lambda what: software(what.deep, versions=what.versions),
    ("machine", "Machine"): lambda what: machine(what.deep),
    ("places", "Places"): lambda what: places(what.root, what.deep, what.file),
    ("artefacts", "Artefacts"): lambda what: artefacts(what.root, what.deep),
    ("generations", "Generations"): lambda what: generations(what.root, what.deep),
    ("work", "Work"): lambda what: work(what.root),
    ("audit", "Audit log"): lambda what: audit(what.root, what.deep),
    ("privacy", "Privacy"): lambda what: privacy(what.root, what.file),
    ("people", "People"): lambda what: people(what.root, what.file),
    ("server", "Qdrant server"): lambda what: server(what.root, what.file, what.index),
    ("cluster", "Cluster"): lambda what: cluster(what.root, what.file),
}
"""What is looked at, by the name and the title of its section; what has no entries, as there is none, is not told."""


def examine(
    root: Path, *, deep: bool = False, versions: bool = False, file: Path | None = None, index: str | None = None
) -> Health:
    """Examine installation, machine and workspace, if there is one; what is found is fit for a bug report.

    ``deep`` reads everything and imports the heavy libraries; else it takes about a second. With
    ``versions`` all libraries are named, else those that are wrong. ``file`` are settings instead of ``molar.toml``
    beside the workspace, ``index`` is the address of a server, or ``local``.
    """
    what = Examined(root, deep, file, index, versions)
    sections = [Section(*named, tuple(check(what))) for named, check in CHECKS.items()]
    return Health(tuple(section for section in sections if section.entries), deep).discreet()
