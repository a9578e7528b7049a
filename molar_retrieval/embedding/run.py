"""``molar embed``: content vectors for new and changed items, and only for those."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.embedding.content_vectors import (
    KIND,
    TENSOR,
    VECTORS,
    EmbedReport,
    ItemTable,
    Rows,
    check_disk,
    damaged_rows,
    digests,
    publish,
    scan,
    staging,
)
from molar_retrieval.embedding.external import FAMILY as EXTERNAL
from molar_retrieval.embedding.external import as_brought, import_vectors
from molar_retrieval.embedding.pipeline import (
    Clock,
    EncodeJob,
    PendingTexts,
    batches_of,
    check_encoder,
    encode_batches,
    shards_of,
)
from molar_retrieval.embedding.vector_cache import (
    ShardWriter,
    VectorCache,
    kept_versions,
    keys_of,
    lookup,
    next_shard,
    shard_folder,
    shown,
    version_by,
)
from molar_retrieval.encoders import head, registry
from molar_retrieval.encoders.base import Encoder, Planner, language_note, terms_note
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import tensors
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.files import MANIFEST
from molar_retrieval.workspace.jobs import Runner, SerialRunner
from molar_retrieval.workspace.pinned import PinnedWorkspace, pin
from molar_retrieval.workspace.settings import EmbedSettings, validated

SHAPING = ("model", "revision", "dim", "dtype", "photos", "prompt", "max_text_tokens", "image_pixels")
"""What of the settings shapes vectors; each holds for one model."""
_MOVED = "moved"  # whose batches shards hold that no encoder made


def embed(
    workspace: Workspace,
    settings: EmbedSettings,
    *,
    progress: Progress = SILENT,
    vectors: Path | None = None,
    planner: Planner | None = None,
    runner: Runner | None = None,
) -> EmbedReport:
    """Bring the workspace's content vectors up to date with its prepared catalogue.

    Only items whose text, photo, template or encoder changed are encoded; where nothing changed the encoder is not
    even loaded. Interrupted at any moment, it goes on from there when called again. A Parquet file (item_id, vector) of
    ``vectors`` made elsewhere is taken instead of encoding; the planner is the registry by default. The ``runner``
    encodes; None: this process.

    Raises:
        MissingArtefactError: If no catalogue was prepared.
        DataError: If the disk is too small, the file of vectors unusable, or another process at work.
        StaleArtefactError: If another catalogue was prepared meanwhile.
        SettingsError: If a file brought the live vectors, the catalogue has changed, and no encoder is named.
        BackendError: If the encoder is not available.
    """
    with workspace.lock(KIND), pin(workspace, "catalogue", work="molar embed") as inputs:
        if vectors is not None:
            return import_vectors(inputs, vectors, settings, progress)
        if (report := as_brought(inputs, settings)) is not None:
            return report
        return EmbeddingRun(inputs, settings, planner, progress)(runner or SerialRunner())


def digests_of(workspace: Workspace) -> Path:
    """The file that remembers digests of local weights, so that gigabytes are read once."""
    return workspace.root.absolute() / "weights.json"


class EmbeddingRun:
    """One run: what it starts from, what it would do, and the doing."""

    def __init__(
        self, inputs: PinnedWorkspace, settings: EmbedSettings, planner: Planner | None, progress: Progress
    ) -> None:
        self._planner = planner or partial(registry.plan, cache=digests_of(inputs))
        self._inputs, self._settings, self._progress = inputs, settings, progress
        self._artefacts, self._live = inputs[KIND], inputs[KIND].live
        self.clock = Clock()
        self.catalogue = Catalogue(*inputs["catalogue"].require())
        self.info = self._planner(settings).info
        with self.clock("compare"):
            self.scanned = scan(self.catalogue, self.info)
        notes = language_note(self.info, self.catalogue.language, self.catalogue.folder), terms_note(self.info)
        self.cautions = tuple(note for note in notes if note is not None)  # what is said of the encoder before its use

    def __call__(self, runner: Runner) -> EmbedReport:
        """Encode what is new or has changed, and publish."""
        for note in self.cautions:
            self._progress.note(note)
        if (report := self.unchanged()) is not None:
            return report
        if self.info.family == head.FAMILY:
            with self.clock("compare"):
                self._move_vectors()
        cache, items, batches = self.planned()
        pending = sum(map(len, batches))
        if (change := self.change(pending)) is not None:
            self._progress.note(change)
        if pending:
            if cache.own:
                self._progress.note(
                    f"going on with an interrupted run: {pending} of {len(self.catalogue)} items are left"
                )
            self._encode(cache, items, batches, runner)
        return self._publish(cache, items)

    def unchanged(self) -> EmbedReport | None:
        """The report of a run that finds everything as it was, or None."""
        if self._live is None:
            return None
        folder, facts = self._live[0], self._live[1].facts
        if facts.get("identity") != self.scanned.identity or facts.get("failed"):
            return None
        with self.clock("compare"):
            try:
                count, damaged = damaged_rows(folder)
            except (OSError, ValueError, KeyError):  # cut short: made anew
                return None
        if len(damaged):
            return None
        report = EmbedReport.of(folder, self._live[1], up_to_date=True)
        reused, notes = count - report.without_content, (*self.cautions, *facts.get("notes", ()))
        seconds = self.clock.rounded()
        return replace(report, encoder=self.info.name, encoded=0, reused=reused, seconds=seconds, notes=notes)

    @property
    def before(self) -> str | None:
        """Name of the encoder of the live vectors, where it is another one than is asked for."""
        made = None if self._live is None else self._live[1].settings["encoder"]
        return None if made is None or made["fingerprint"] == self.info.fingerprint else str(made["name"])

    def change(self, pending: int) -> str | None:
        """What it means that another encoder than the live vectors' is asked for, which has to encode so many items.

        None where it is the same.
        """
        if self.before is None:
            return None
        count, name = len(self.catalogue), self.info.name
        made = f"all {count:,} items" if pending == count else f"{pending:,} of {count:,} items"
        anew = f"encodes {made} anew" if pending else f"has made the vectors of all {count:,} items before"
        other = name if name != self.before else f"{name} in another version or by other settings"
        return f"this workspace's vectors are made by {self.before}; {other} {anew}"

    def planned(self) -> tuple[VectorCache, ItemTable, list[Rows]]:
        """What there is already, what is known of each item, and the batches of those that have to be encoded."""
        with self.clock("compare"):
            cache = VectorCache(self._artefacts, self.info.fingerprint, self.scanned.identity)
            items = lookup(self.catalogue, self.scanned, self.info, cache, self._progress)
            return cache, items, batches_of(self.scanned, items.pending, self._settings.batch_size)

    @cached_property
    def encoder(self) -> Encoder:
        """Loaded when it is first needed."""
        self._progress.start(f"loading the encoder {self.info.name}", None)
        with self.clock("load"):
            encoder = check_encoder(self._planner(self._settings).load(), self.info.fingerprint, None)
        self._progress.finish()
        return encoder

    def _encode(self, cache: VectorCache, items: ItemTable, batches: list[Rows], runner: Runner) -> None:
        folder, photos = shard_folder(self._artefacts, self.info.fingerprint), self.catalogue.folder
        count, pending, work = len(self.catalogue), sum(map(len, batches)), self.scanned.identity
        serial = isinstance(runner, SerialRunner)
        with PendingTexts(folder, count, shared=not serial) as texts:
            for first, read, images in shown(self.catalogue, self.scanned, self.info):
                for i in np.flatnonzero(items.pending[first : first + len(read)]).tolist():
                    texts.add(first + i, read[i], images[i])
            if serial:
                encoder = check_encoder(self.encoder, self.info.fingerprint, cache.dim)
                check_disk(folder, count, encoder.dim, pending)
                with ShardWriter(next_shard(folder), work, encoder.blocks, encoder.dim) as shard:
                    encode_batches(texts, photos, encoder, shard, batches, self.clock, self._progress)
            else:
                job = EncodeJob(
                    folder.absolute(), texts.share().absolute(), photos.absolute(), _with_whole_path(self._settings),
                    self._planner, self.info.fingerprint, work, cache.dim, (count, pending), uuid4().hex,
                )  # fmt: skip
                with self.clock("encode"):
                    made = runner.run(job, shards_of(batches, texts), self._progress)
                for note in made.notes:
                    self._progress.note(note)
        with self.clock("write"):
            cache.refresh()
            cache.take(items)

    def _publish(self, cache: VectorCache, items: ItemTable) -> EmbedReport:
        blocks = cache.blocks or self.encoder.blocks
        dim, notes = blocks[-1].stop, []
        if self.scanned.unseen:
            notes.append(f"the encoder {self.info.name} cannot see photos: {self.scanned.unseen} were not used")
        check_disk(self._artefacts.root, len(self.catalogue), dim)
        folder = staging(self._inputs)
        with self.clock("publish"):
            cache.assemble(folder / VECTORS, items, dim)
            made, reused = int(items.pending.sum()), int((items.filled & ~items.pending).sum())
            facts = {"encoded": made, "reused": reused, "notes": notes, "identity": self.scanned.identity}
            report = publish(
                self._inputs, folder, items, self.catalogue, encoder=self.info, blocks=blocks, settings=self._settings,
                facts={**facts, "seconds": self.clock.rounded()},
                keep=kept_versions(self._artefacts, self.info.fingerprint),
            )  # fmt: skip
        seconds = self.clock.rounded()
        loop = sum(seconds.get(stage, 0.0) for stage in ("wait", "encode", "write"))
        return replace(
            report,
            before=self.before,
            seconds=seconds,
            items_per_second=round(made / loop, 2) if made and loop else 0.0,
            notes=(*self.cautions, *notes, *_trouble(report)),
        )

    def _move_vectors(self) -> None:
        """Move vectors of a fine-tuned encoder's base to its own, as far as their items are as they were.

        They are written into a shard, without a photo being read; what is missing there is encoded as usual. Nothing
        happens where the base has none; nor where they are not live and the fine-tuned encoder has its own version.
        """
        settings, fused = head.base_and_head(self._settings)
        info = registry.describe(settings)
        source = version_by(self._artefacts, info.fingerprint)
        own = version_by(self._artefacts, self.info.fingerprint)
        if source is None or (source != self._artefacts.current and own is not None):
            return
        check_disk(self._artefacts.root, len(self.catalogue), fused.dim, len(self.catalogue))
        cache = VectorCache(self._artefacts, info.fingerprint, work="")
        if cache.version is None:
            return
        items = lookup(self.catalogue, self.scanned, info, cache, self._progress)
        vectors = tensors.mapped(cache.version / VECTORS)[TENSOR]
        folder = shard_folder(self._artefacts, self.info.fingerprint)
        with ShardWriter(next_shard(folder), _MOVED, fused.output_blocks, fused.dim) as shard:
            for first, texts, images in shown(self.catalogue, self.scanned, info):
                places = items.places[first : first + len(texts)]
                there = np.flatnonzero((places >= 0) & (places < cache.published))
                read, photos = ([values[i] for i in there] for values in (texts, images))
                rows, places = first + there, places[there]
                records = items.records[rows]
                columns = {
                    "key": digests(keys_of(self.info, read, photos, records["image_hash"])),
                    "image": photos,
                    "image_size": records["image_size"],
                    "image_mtime": records["image_mtime"],
                    "image_hash": digests(records["image_hash"]),
                    "reason": [cache.reasons.get(place) for place in places.tolist()],
                }
                shard.append(rows, columns, fused(vectors[places], read))


def _trouble(report: EmbedReport) -> Iterator[str]:
    if report.rejected_images:
        yield f"{report.rejected_images} photos could not be read, see {report.folder / 'rejects.parquet'}"
    if report.failed:
        yield f"{report.failed} items could not be encoded and have a zero vector; the next run tries again"


def with_current_encoder(settings: EmbedSettings, workspace: Workspace) -> EmbedSettings:
    """The settings; what they leave open of the encoder is as it was when the live vectors were made.

    A model that is named stays; where it is another one, nothing of the previous encoder's settings holds.
    """
    named, kept = settings.model_fields_set, current_encoder(workspace)
    settings = _with_whole_path(settings)
    if "model" in named and settings.model != kept.get("model"):
        return settings
    own = {key: kept[key] for key in SHAPING if key in kept and key not in named}
    return settings.model_copy(
        update=validated(EmbedSettings, own, "the vectors' manifest").model_dump(include=set(own))
    )


def current_encoder(workspace: Workspace) -> dict[str, Any]:
    """Settings of the encoder that made the live vectors; empty where there are none, or a file brought them.

    A StaleArtefactError says that the live version is damaged.
    """
    folder = workspace[KIND].current
    if folder is None or not (folder / MANIFEST).exists():
        return {}  # its reader says so
    made = Manifest.read(folder).settings
    external = made["encoder"].get("family") == EXTERNAL
    return {} if external else find_model_folder(made.get("embed", {}), workspace.root)


def base_encoder(settings: EmbedSettings) -> EmbedSettings:
    """The settings of the encoder that a fine-tuned one was made from; of another encoder, its own."""
    folder = Path(settings.model)
    if settings.model in registry.NAMED or not folder.is_dir():
        return settings
    account = head.read_account(folder)
    if account and head.is_head(folder):
        return head.base_and_head(settings)[0]
    if (base := account.get("encoder")) is not None:
        return settings.model_copy(update={"revision": None, "dim": None, "model": base})
    return settings


def find_model_folder(embed: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Settings of an encoder as a manifest keeps them; a folder that moved with the workspace is named where it is."""
    model = embed.get("model")
    if model is None or not Path(model).is_absolute() or Path(model).is_dir():
        return dict(embed)
    parts = Path(model).parts
    ends = (Path(*parts[n:]) for n in range(1, len(parts)))
    found = (place / end for end in ends for place in (root, root.parent))
    return {**embed, "model": next((str(one) for one in found if one.is_dir()), model)}


def _with_whole_path(settings: EmbedSettings) -> EmbedSettings:
    """A folder is named from the root, so that it is found wherever the next command runs."""
    folder = Path(settings.model).expanduser()
    if settings.model in registry.NAMED or folder.is_absolute() or not folder.is_dir():
        return settings
    return settings.model_copy(update={"model": str(folder.absolute())})
