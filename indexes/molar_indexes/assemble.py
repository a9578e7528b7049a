"""From the workspace's artefacts to a published generation: the live one, its items restated, or one made anew."""

from dataclasses import replace
from typing import Any

from molar_indexes.current import READ, events_in, is_of, names_in, segments_of, shaping, waiting
from molar_indexes.generations import Generation, open_generation
from molar_indexes.restated import Restated, materials
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import Runner
from molar_retrieval.workspace.pinned import PinnedWorkspace, pin
from molar_retrieval.workspace.settings import ExplorationSettings, IndexSettings


def publish_generation(
    workspace: Workspace,
    settings: IndexSettings,
    progress: Progress = SILENT,
    *,
    newcomers: ExplorationSettings | None = None,
    runner: Runner | None = None,
) -> Generation:
    """Publish the workspace's alignment as a new live generation; the present one where it is that already.

    By ``settings`` that do not activate it, the live one stays, and what was published before for this is found again.

    Items with training interactions carry the vector ``aligned`` and their ``neighbors``, those with few of them
    ``low_support`` as well, the others ``cold_start``; all carry ``content`` (conditioned, unit length) and their
    attributes. Users carry their vectors, which the ``runner`` makes where towers read many of them anew (None: this
    process), and their whole history with its times. New items are tried as ``cold-start items``
    says; None: as by default. Where only attributes differ from the live generation, the rest is taken over from it.

    Raises:
        MissingArtefactError: If a step before is missing.
        StaleArtefactError: If the artefacts do not belong together, or another version of one was published meanwhile.
    """
    with pin(workspace, *READ, work="molar align") as read:
        return _publish(workspace, read, settings, newcomers or ExplorationSettings(), runner, progress)


def _publish(
    workspace: Workspace,
    read: PinnedWorkspace,
    settings: IndexSettings,
    newcomers: ExplorationSettings,
    runner: Runner | None,
    progress: Progress,
) -> Generation:
    inputs = {kind: read[kind].require()[1].fingerprint for kind in READ}
    segments = segments_of(workspace, settings)
    chosen, events = shaping(settings, newcomers, segments), events_in(read)
    live = workspace["generations"].manifest
    if live is not None and is_of(live, read, chosen):
        if live.facts.get("events") != events:  # others came, and none of them counts
            with workspace.lock("generations"):
                workspace["generations"].update_manifest(replace(live, facts={**live.facts, "events": events}))
        return open_generation(workspace)
    if not settings.activate and (name := waiting(read, settings, newcomers)) is not None:
        return open_generation(workspace, name)
    catalogue = Catalogue(*read["catalogue"].require())
    facts: dict[str, Any] = {"segments": dict(segments.kinds), "events": events, "payload": catalogue.described}
    facts |= {"made_of": materials(read), "people": names_in(read)}
    restated = Restated.of(workspace, read, chosen, facts, segments)
    if restated is not None:
        with restated:
            return restated.publish(workspace, read, settings, inputs=inputs, progress=progress)
    from molar_indexes.anew import publish_anew  # brings torch

    return publish_anew(
        workspace, read, settings, newcomers, segments, inputs=inputs, chosen=chosen, facts=facts, runner=runner,
        progress=progress,
    )  # fmt: skip
