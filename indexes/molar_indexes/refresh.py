"""From the workspace's artefacts to a published generation: the live one, its items restated, or one made anew.

The live generation with other attributes: price, stock, whatever neither encoder nor model reads; other names.

A generation says of what it is made (`materials`). Where the present artefacts are the same but for attributes, its
index is copied and the changed payloads are written over, its users and its table are shared by links, and the result
is the one that would be made anew. Where people are called something else, or have other attributes, their vectors and
histories are written under the present names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Self

from molar_indexes.attributes import ordinary, payloads
from molar_indexes.backends import restate_index
from molar_indexes.generations import (
    FORMAT,
    INDEX,
    KIND,
    POPULAR,
    TABLE,
    USERS,
    Generation,
    carry,
    carry_variants,
    open_generation,
    publish_made,
)
from molar_indexes.item_store import restated
from molar_indexes.publish_check import Proof
from molar_indexes.records import BATCH, clean_payload
from molar_indexes.users import rewrite_users
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.prepare import TEXT
from molar_retrieval.data.schema import CatalogueConfig
from molar_retrieval.data.users_file import Segments, read_segments
from molar_retrieval.embedding.content_vectors import VECTORS
from molar_retrieval.errors import MissingArtefactError, StaleArtefactError
from molar_retrieval.models.als import open_log
from molar_retrieval.models.towers.inference import FILE
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.index_protocol import IndexItem, StoredItem
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.files import link_or_copy
from molar_retrieval.workspace.jobs import Runner
from molar_retrieval.workspace.pinned import PinnedWorkspace, pin
from molar_retrieval.workspace.settings import ExplorationSettings, IndexSettings
from molar_retrieval.workspace.tensors import Array, mapped

READ = ("catalogue", "interactions", "content", "alignment")
"""Kinds of artefacts that a generation is made from."""
_PEOPLE = "people"  # in settings: the digest of attributes of people
_NUMBERS = "numbers"  # the one tensor of an alignment that is made of attributes
_MODEL = (
    "weights", "cold_start_weights", "objectives", "default_objective", "slots", "reranker",
    "content_blocks", "item_item", "content_knn", "half_life", "repeat_consumption",
)  # fmt: skip
_MOST = 0.1
"""Share of the items that are restated since their index was built; they are not in its graphs."""
_SAMPLE = 32


def segments_of(workspace: Workspace, settings: IndexSettings) -> Segments:
    """What the settings want to be kept of people, by the users file and the events of now."""
    if not settings.segments:
        return Segments({}, {}, "")
    folder, names = workspace.catalogue, Pseudonymiser.of(workspace.root)
    suppressed = SuppressionList.of(workspace.root)
    found = read_segments(folder, CatalogueConfig.read(folder).users, settings.segments, names, suppressed)
    with opened(workspace) as events:
        return found if events is None else found.changed(events.changes_of_people(suppressed))


def shaping(settings: IndexSettings, exploration_settings: ExplorationSettings, segments: Segments) -> dict[str, Any]:
    """The settings of a generation, as its manifest has them."""
    people = {"people": segments.digest} if segments.digest else {}
    return settings.of_generation() | people | {"exploration": exploration_settings.model_dump()}


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


def waiting(read: Workspace, settings: IndexSettings, exploration_settings: ExplorationSettings) -> str | None:
    """The newest generation that is made from the live artefacts and is not live, by name; None where there is none."""
    store, chosen = read[KIND], shaping(settings, exploration_settings, segments_of(read, settings))
    for folder in reversed(store.versions()):
        try:
            if folder != store.current and is_of(Manifest.read(folder), read, chosen):
                return folder.name
        except StaleArtefactError:  # it is damaged, and another one will be made
            continue
    return None


def is_current(workspace: Workspace, settings: IndexSettings, exploration_settings: ExplorationSettings) -> bool:
    """Whether publishing would find everything done, but for what the generation says of events that do not count."""
    live = workspace[KIND].manifest
    if live is None or any(workspace[kind].manifest is None for kind in READ):
        return False
    chosen = shaping(settings, exploration_settings, segments_of(workspace, settings))
    return is_of(live, workspace, chosen) and live.facts.get("events") == events_in(workspace)


def materials(read: Workspace) -> dict[str, str]:
    """Fingerprints of all that a generation is made of, but for settings and the attributes that a payload shows."""
    catalogue = Catalogue(*read["catalogue"].require())
    content, embedded = read["content"].require()
    alignment, manifest = read["alignment"].require()
    known, model = catalogue.manifest.facts, mapped(alignment / FILE)
    texts = [text for batch in catalogue.batches([TEXT], BATCH) for text in batch[TEXT].to_pylist()]
    arrays = [part for name in sorted(model) if name != _NUMBERS for part in (name.encode(), model[name].tobytes())]
    said = {"settings": manifest.settings, **{name: manifest.facts[name] for name in _MODEL if name in manifest.facts}}
    return {
        "items": fingerprint.of_json([known["ids"], catalogue.fields, known.get("availability")]),
        "texts": fingerprint.of_json(texts),
        "content": fingerprint.of_json([fingerprint.of_file(content / VECTORS), embedded.settings]),
        "model": fingerprint.of_json([fingerprint.of_bytes(arrays), said]),
        "interactions": read["interactions"].require()[1].fingerprint,
    }


@dataclass(frozen=True)
class Restated:
    """A generation, which is held, and the items that say something else now; a context manager.

    ``people`` are names and attributes of all users, None: as they were; the new manifest has the settings ``chosen``,
    and ``facts`` are what it says otherwise.
    """

    former: Generation
    catalogue: Catalogue
    items: tuple[StoredItem, ...]
    people: Sequence[tuple[str, Mapping[str, Any]]] | None
    chosen: Mapping[str, Any]
    facts: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        read: Workspace,
        chosen: Mapping[str, Any],
        facts: Mapping[str, Any],
        segments: Segments,
    ) -> Self | None:
        """The live generation restated; None where there is none, or more has to be made anew."""
        live = workspace["generations"].manifest
        if live is None or live.facts.get("made_of") != facts["made_of"] or _items(live.settings) != _items(chosen):
            return None
        try:
            former = open_generation(workspace)
        except (MissingArtefactError, StaleArtefactError):  # of another molar, or damaged
            return None
        catalogue = Catalogue(*read["catalogue"].require())
        items = tuple(_changed(former, catalogue))
        count = former.manifest.facts.get("restated", 0) + len(items)
        if former.manifest.facts.get("made_of") != facts["made_of"] or count > _MOST * len(catalogue):
            former.close()
            return None
        told = {**facts, "restated": count}
        told["origins"] = former.manifest.facts["origins"] | {"ordinary": ordinary(catalogue)}
        said = (live.facts.get("people"), live.settings.get(_PEOPLE))
        people = None if said == (facts["people"], chosen.get(_PEOPLE)) else _people(read, segments)
        if people is not None and former.users.removed:  # the others have other numbers now
            former.close()
            return None
        return cls(former, catalogue, items, people, chosen, told)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.former.close()

    def publish(
        self,
        workspace: Workspace,
        read: PinnedWorkspace,
        settings: IndexSettings,
        *,
        inputs: Mapping[str, str],
        progress: Progress,
    ) -> Generation:
        """Make it the live generation, and open it."""
        alignment = read["alignment"].require()[0]

        def made(folder: Path) -> dict[str, Any]:
            carry(alignment, folder)
            carry_variants(self.catalogue.variants_file, folder)
            proved = self._made(folder, mapped(alignment / FILE).get(_NUMBERS), progress)
            self.former.close()  # so that it can be pruned
            return {**self.former.manifest.facts, **self.facts, **proved}

        return publish_made(
            workspace,
            made,
            inputs=inputs,
            settings=self.chosen,
            keep=settings.keep,
            activate=settings.activate,
            confirm=read.confirm,
        )

    def _made(self, folder: Path, numbers: Array | None, progress: Progress) -> dict[str, Any]:
        """Fill the folder, and prove that it gives back what it should."""
        former, shown = self.former, self.catalogue.availability.shown_from
        spec = replace(former.spec, efs={})
        restate_index(former.folder / INDEX, folder / INDEX, former.backend, spec, self.items)
        restated(folder / TABLE, former.folder / TABLE, numbers, {item.row: shown(item.payload) for item in self.items})
        link_or_copy(former.folder / POPULAR, folder / POPULAR)
        items, users = list(self._sample()), former.users.between(0, _SAMPLE)
        if self.people is None:
            link_or_copy(former.folder / USERS, folder / USERS)
        else:
            rewrite_users(former.folder / USERS, folder / USERS, self.people)
            users = [replace(user, user_id=key) for user, (key, _) in zip(users, self.people, strict=False)]
        proof = Proof.of(spec, items, len(former.index), users, len(former.users))
        return proof.check(folder / INDEX, folder / USERS, former.table.items, former.backend, progress)

    def _sample(self) -> Iterator[IndexItem]:
        """What has to come back: all items that say something else, and some others."""
        anew, index = {item.row: item for item in self.items}, self.former.index
        drawn = Random(0).sample(range(len(index)), min(_SAMPLE, len(index)))
        for row in sorted({*drawn, *anew}):
            (item,) = index.fetch([row], vectors=[*index.spec.dims, *index.spec.sparse])
            payload = anew.get(row, item).payload
            yield IndexItem(row, item.item_id, item.vectors, payload, item.sparse)


def _items(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings but for what they keep of people."""
    return {name: value for name, value in settings.items() if name != _PEOPLE}


def _people(read: Workspace, segments: Segments) -> list[tuple[str, Mapping[str, Any]]]:
    """What each user of the interactions is called, with their attributes."""
    return [(key, segments.of.get(key, {})) for key in open_log(read).users.array.to_pylist()]


def _changed(former: Generation, catalogue: Catalogue) -> Iterator[StoredItem]:
    """The items whose payload is another one than is stored, as it is to be stored."""
    said = payloads(catalogue)
    for begin in range(0, len(catalogue), BATCH):
        stored = former.index.fetch(range(begin, begin + BATCH))
        for (item_id, payload), before in zip(islice(said, BATCH), stored, strict=True):
            cleaned = clean_payload(item_id, payload)
            if cleaned != before.payload:
                yield StoredItem(before.row, item_id, cleaned)


def publish_generation(
    workspace: Workspace,
    settings: IndexSettings,
    progress: Progress = SILENT,
    *,
    exploration_settings: ExplorationSettings | None = None,
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
        return _publish(workspace, read, settings, exploration_settings or ExplorationSettings(), runner, progress)


def _publish(
    workspace: Workspace,
    read: PinnedWorkspace,
    settings: IndexSettings,
    exploration_settings: ExplorationSettings,
    runner: Runner | None,
    progress: Progress,
) -> Generation:
    inputs = {kind: read[kind].require()[1].fingerprint for kind in READ}
    segments = segments_of(workspace, settings)
    chosen, events = shaping(settings, exploration_settings, segments), events_in(read)
    live = workspace["generations"].manifest
    if live is not None and is_of(live, read, chosen):
        if live.facts.get("events") != events:  # others came, and none of them counts
            with workspace.lock("generations"):
                workspace["generations"].update_manifest(replace(live, facts={**live.facts, "events": events}))
        return open_generation(workspace)
    if not settings.activate and (name := waiting(read, settings, exploration_settings)) is not None:
        return open_generation(workspace, name)
    catalogue = Catalogue(*read["catalogue"].require())
    facts: dict[str, Any] = {"segments": dict(segments.kinds), "events": events, "payload": catalogue.described}
    facts |= {"made_of": materials(read), "people": names_in(read)}
    restated = Restated.of(workspace, read, chosen, facts, segments)
    if restated is not None:
        with restated:
            return restated.publish(workspace, read, settings, inputs=inputs, progress=progress)
    from molar_indexes.rebuild import publish_anew  # brings torch

    return publish_anew(
        workspace, read, settings, exploration_settings, segments,
        inputs=inputs, chosen=chosen, facts=facts, runner=runner,
        progress=progress,
    )  # fmt: skip
