"""``molar embed``: content vectors for new and changed items, and only for those."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.embedding.batches import PendingTexts, batches_of
from molar_retrieval.embedding.catalogue import scan
from molar_retrieval.embedding.contents import KIND, damaged_rows
from molar_retrieval.embedding.external import as_brought, import_vectors
from molar_retrieval.embedding.job import EncodeJob, anywhere, new_run, shards_of
from molar_retrieval.embedding.keys import Rows
from molar_retrieval.embedding.known import KnownVectors
from molar_retrieval.embedding.pipeline import loaded, require_dim, run
from molar_retrieval.embedding.publish import Origin, assemble, check_disk, publish, staging
from molar_retrieval.embedding.reader import Reader
from molar_retrieval.embedding.report import Clock, EmbedReport
from molar_retrieval.embedding.resolve import ItemFacts, resolve
from molar_retrieval.embedding.shards import ShardWriter, shard_folder, work_name
from molar_retrieval.embedding.tuned import move_vectors
from molar_retrieval.encoders import fused, registry
from molar_retrieval.encoders.base import Encoder, Planner, language_note, terms_note
from molar_retrieval.encoders.head import FAMILY
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import Runner, SerialRunner
from molar_retrieval.workspace.pinned import PinnedWorkspace, pin
from molar_retrieval.workspace.settings import EmbedSettings


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
        return EmbeddingRun(inputs, settings, planner, progress, runner)()


def digests_of(workspace: Workspace) -> Path:
    """The file that remembers digests of local weights, so that gigabytes are read once."""
    return workspace.root.absolute() / "weights.json"


class EmbeddingRun:
    """One run: what it starts from, what it would do, and the doing."""

    def __init__(
        self,
        inputs: PinnedWorkspace,
        settings: EmbedSettings,
        planner: Planner | None,
        progress: Progress,
        runner: Runner | None = None,
    ) -> None:
        self._planner = planner or partial(registry.plan, cache=digests_of(inputs))
        self._runner = runner or SerialRunner()
        self._inputs, self._settings, self._progress = inputs, settings, progress
        self._artefacts = inputs[KIND]
        self.live = self._artefacts.live
        self.clock = Clock()
        self.catalogue = Catalogue(*inputs["catalogue"].require())
        self.info = self._planner(settings).info
        with self.clock("compare"):
            self.scanned = scan(self.catalogue, self.info)

    def __call__(self) -> EmbedReport:
        """Encode what is new or has changed, and publish."""
        for note in self.cautions():
            self._progress.note(note)
        if (report := self.unchanged()) is not None:
            return report
        self._drop_outdated()
        if self.info.family == FAMILY:
            with self.clock("compare"):
                beneath, head = fused.layers(self._settings)
                under = registry.describe(beneath)
                move_vectors(self._artefacts, self.catalogue, self.info, under, head, self._progress)
        folder = shard_folder(self._artefacts, self.info.fingerprint)
        shared = not isinstance(self._runner, SerialRunner)
        with PendingTexts(folder, len(self.catalogue), shared=shared) as texts:
            known, items, batches = self.planned(texts)
            todo = {number: rows for number, rows in enumerate(batches) if number not in known.own}
            if (change := self.change(sum(map(len, todo.values())))) is not None:
                self._progress.note(change)
            encoded = np.zeros(len(self.catalogue), bool)
            if todo:
                encoded[np.concatenate(list(todo.values()))] = True
                self._encode(known, todo, folder, texts)
        for number, rows in enumerate(batches):
            if number in known.own:
                items.take(rows, known.own[number], known)
        items.explain(known)
        return self._publish(known, items, encoded)

    def unchanged(self) -> EmbedReport | None:
        """The report of a run that finds everything as it was, or None."""
        if (live := self.live) is None:
            return None
        folder, facts = live[0], live[1].facts
        if facts.get("identity") != self.scanned.identity or facts.get("failed"):
            return None
        with self.clock("compare"):
            try:
                count, damaged = damaged_rows(folder)
            except (OSError, ValueError, KeyError):  # cut short: made anew
                return None
        if len(damaged):
            return None
        report = EmbedReport.of(folder, live[1], up_to_date=True)
        reused, notes = count - report.without_content, (*self.cautions(), *facts.get("notes", ()))
        seconds = self.clock.rounded()
        return replace(report, encoder=self.info.name, encoded=0, reused=reused, seconds=seconds, notes=notes)

    @property
    def former(self) -> str | None:
        """Name of the encoder of the live vectors, where it is another one than is asked for."""
        made = None if self.live is None else self.live[1].settings["encoder"]
        return None if made is None or made["fingerprint"] == self.info.fingerprint else str(made["name"])

    def change(self, pending: int) -> str | None:
        """What it means that another encoder than the live vectors' is asked for, or None where it is the same.

        Args:
            pending: How many items it has to encode.
        """
        if self.former is None:
            return None
        count, name = len(self.catalogue), self.info.name
        made = f"all {count:,} items" if pending == count else f"{pending:,} of {count:,} items"
        anew = f"encodes {made} anew" if pending else f"has made the vectors of all {count:,} items before"
        other = name if name != self.former else f"{name} in another version or by other settings"
        return f"this workspace's vectors are made by {self.former}; {other} {anew}"

    def planned(self, texts: PendingTexts | None = None) -> tuple[KnownVectors, ItemFacts, list[Rows]]:
        """What is known already, what of each item, and the batches; those in ``known.own`` are done.

        What has to be read of their items goes to ``texts``.
        """
        with self.clock("compare"):
            work = work_name(self.scanned.identity, self._settings.batch_size)
            known = KnownVectors(self._artefacts, self.info.fingerprint, work)
            items = resolve(self.catalogue, self.scanned, self.info, known, self._progress, texts)
            return known, items, batches_of(self.scanned, items.pending, self._settings.batch_size)

    def _drop_outdated(self) -> None:
        """Remove unfinished work of molar 0.x before it had shards, which cannot go on."""
        for folder in self._artefacts.partials():
            if (folder / "plan.json").exists():
                self._progress.note("unfinished work of an earlier version of molar cannot go on: it starts anew")
                shutil.rmtree(folder, ignore_errors=True)

    @cached_property
    def encoder(self) -> Encoder:
        """Loaded when it is first needed."""
        self._progress.start(f"loading the encoder {self.info.name}", None)
        with self.clock("load"):
            encoder = loaded(self._planner(self._settings), self.info.fingerprint)
        self._progress.finish()
        return encoder

    def _encode(self, known: KnownVectors, todo: Mapping[int, Rows], folder: Path, texts: PendingTexts) -> None:
        missing, count = sum(map(len, todo.values())), len(self.catalogue)
        if known.own:
            self._progress.note(f"going on with an interrupted run: {missing} of {count} items are left")
        if isinstance(self._runner, SerialRunner):
            require_dim(self.encoder, known.dim)
            check_disk(folder, count, self.encoder.dim, missing)
            reader = Reader(texts, self.catalogue.folder, self.info.fingerprint)
            with ShardWriter(folder, self.encoder.blocks, self.encoder.dim) as shard:
                run(reader, self.encoder, shard, known.work, todo, self.clock, self._progress)
        else:
            job = EncodeJob(
                folder.absolute(), texts.share().absolute(), self.catalogue.folder.absolute(), anywhere(self._settings),
                self._planner, self.info.fingerprint, known.work, known.dim, (count, missing), new_run(),
            )  # fmt: skip
            with self.clock("encode"):
                made = self._runner.run(job, shards_of(todo, texts), self._progress)
            for note in made.notes:
                self._progress.note(note)
        with self.clock("write"):
            known.refresh()

    def _publish(self, known: KnownVectors, items: ItemFacts, encoded: npt.NDArray[np.bool_]) -> EmbedReport:
        dim = known.dim or self.encoder.dim
        blocks = known.blocks or self.encoder.blocks
        origin = Origin(self.catalogue, self.info, blocks, self._settings, self.scanned.identity)
        check_disk(self._artefacts.root, len(self.catalogue), dim)
        folder, notes = staging(self._artefacts), self._notes()
        with self.clock("publish"):
            assemble(folder, items, known, dim)
            made, reused = int(encoded.sum()), int((items.filled & ~encoded).sum())
            facts = {"encoded": made, "reused": reused, "notes": notes, "seconds": self.clock.rounded()}
            report = publish(self._inputs, folder, items, origin, facts)
        seconds = self.clock.rounded()
        loop = sum(seconds.get(stage, 0.0) for stage in ("wait", "encode", "write"))
        return replace(
            report,
            before=self.former,
            seconds=seconds,
            items_per_second=round(made / loop, 2) if made and loop else 0.0,
            notes=(*self.cautions(), *notes, *_trouble(report)),
        )

    def cautions(self) -> tuple[str, ...]:
        """What is said of the encoder before it is used: its terms, and where it does not know the language."""
        told = language_note(self.info, self.catalogue.language, self.catalogue.folder), terms_note(self.info)
        return tuple(note for note in told if note is not None)

    def _notes(self) -> list[str]:
        notes = []
        if self.scanned.unseen:
            notes.append(f"the encoder {self.info.name} cannot see photos: {self.scanned.unseen} were not used")
        return notes


def _trouble(report: EmbedReport) -> Iterator[str]:
    if report.rejected_images:
        yield f"{report.rejected_images} photos could not be read, see {report.folder / 'rejects.parquet'}"
    if report.failed:
        yield f"{report.failed} items could not be encoded and have a zero vector; the next run tries again"
