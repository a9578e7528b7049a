"""Whether the live generation is of the workspace's live artefacts, told by manifests alone: no model is opened."""

from typing import Any

from molar_indexes.generations import FORMAT, KIND
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.schema import CatalogueConfig
from molar_retrieval.data.users_file import Segments, read_segments
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.settings import ExplorationSettings, IndexSettings

READ = ("catalogue", "interactions", "content", "alignment")
"""Kinds of artefacts that a generation is made from."""


def segments_of(workspace: Workspace, settings: IndexSettings) -> Segments:
    """What the settings want to be kept of people, by the users file and the events of now."""
    if not settings.segments:
        return Segments({}, {}, "")
    folder, names = workspace.catalogue, Pseudonymiser.of(workspace.root)
    suppressed = SuppressionList.of(workspace.root)
    found = read_segments(folder, CatalogueConfig.read(folder).users, settings.segments, names, suppressed)
    with opened(workspace) as events:
        return found if events is None else found.changed(events.changes_of_people(suppressed))


def shaping(settings: IndexSettings, newcomers: ExplorationSettings, segments: Segments) -> dict[str, Any]:
    """The settings of a generation, as its manifest has them."""
    people = {"people": segments.digest} if segments.digest else {}
    return settings.of_generation() | people | {"exploration": newcomers.model_dump()}


def events_in(read: Workspace) -> dict[str, Any]:
    """The last event that the catalogue and the interactions contain, by its number, and the kinds that count.

    ``days`` says whether the interactions file knows days alone.
    """
    facts = {kind: read[kind].require()[1].facts for kind in ("catalogue", "interactions")}
    log = facts["interactions"]
    told = {"kinds": log.get("kinds", {}), "days": log.get("days", False)}
    return {kind: own.get("events", 0) for kind, own in facts.items()} | told


def names_in(read: Workspace) -> str | None:
    """A digest of what people are called in the interactions; None: an earlier version of molar prepared them."""
    found: str | None = read["interactions"].require()[1].facts.get("people")
    return found


def is_of(live: Manifest, read: Workspace, chosen: dict[str, Any]) -> bool:
    """Whether a generation is made from the live artefacts with these settings."""
    inputs = {kind: read[kind].require()[1].fingerprint for kind in READ}
    told = live.facts.get("format"), live.facts.get("people")
    return (dict(live.inputs), dict(live.settings), *told) == (inputs, chosen, FORMAT, names_in(read))


def waiting(read: Workspace, settings: IndexSettings, newcomers: ExplorationSettings) -> str | None:
    """The newest generation that is made from the live artefacts and is not live, by name; None where there is none."""
    store, chosen = read[KIND], shaping(settings, newcomers, segments_of(read, settings))
    for folder in reversed(store.versions()):
        try:
            if folder != store.current and is_of(Manifest.read(folder), read, chosen):
                return folder.name
        except StaleArtefactError:  # it is damaged, and another one will be made
            continue
    return None


def is_current(workspace: Workspace, settings: IndexSettings, newcomers: ExplorationSettings) -> bool:
    """Whether publishing would find everything done, but for what the generation says of events that do not count."""
    live = workspace[KIND].manifest
    if live is None or any(workspace[kind].manifest is None for kind in READ):
        return False
    chosen = shaping(settings, newcomers, segments_of(workspace, settings))
    return is_of(live, workspace, chosen) and live.facts.get("events") == events_in(workspace)
