"""``molar embed``: content vectors for new and changed items, and only for those."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path

from molar_retrieval import fingerprint
from molar_retrieval.config import EmbedSettings
from molar_retrieval.embedding.clock import Clock
from molar_retrieval.embedding.external import take
from molar_retrieval.embedding.moved import move
from molar_retrieval.embedding.pipeline import run
from molar_retrieval.embedding.publish import Counts, Origin, publish
from molar_retrieval.embedding.reader import Reader
from molar_retrieval.embedding.report import EmbedReport
from molar_retrieval.embedding.rowfile import damaged_rows, open_vectors
from molar_retrieval.embedding.source import Scan, Source, scan
from molar_retrieval.embedding.store import VECTORS
from molar_retrieval.embedding.work import Work, lay_out
from molar_retrieval.encoders import fused, languages, registry
from molar_retrieval.encoders.base import Encoder, EncoderInfo
from molar_retrieval.encoders.head import FAMILY
from molar_retrieval.errors import BackendError, StaleArtefactError
from molar_retrieval.pinned import pin
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import ArtefactStore, Workspace

KIND = "content"
EncoderLoader = Callable[[EmbedSettings], Encoder]
Describer = Callable[[EmbedSettings], EncoderInfo]


def embed(
    workspace: Workspace,
    settings: EmbedSettings,
    *,
    progress: Progress = SILENT,
    vectors: Path | None = None,
    encoder_loader: EncoderLoader | None = None,
    describe: Describer | None = None,
) -> EmbedReport:
    """Bring the workspace's content vectors up to date with its prepared catalogue.

    Only items whose text, photo, template or encoder changed are encoded; where nothing changed the encoder is not
    even loaded. Interrupted at any moment, it goes on from there when called again.

    Args:
        workspace: With a prepared catalogue.
        settings: Which encoder, and how it runs.
        progress: Told how far it is.
        vectors: A Parquet file (item_id, vector) with vectors made elsewhere, to be taken instead of encoding.
        encoder_loader: Loads the encoder; by default the registry does.
        describe: Says what the encoder is, without loading it; by default the registry does.

    Returns:
        What was done.

    Raises:
        MissingArtefactError: If no catalogue was prepared.
        DataError: If the disk is too small, the file of vectors unusable, or another process at work.
        StaleArtefactError: If another catalogue was prepared meanwhile.
        BackendError: If the encoder is not available.
    """
    with workspace.lock(KIND), pin(workspace, "catalogue", work="molar embed") as inputs:
        source = Source.of(inputs)
        if vectors is not None:
            return take(workspace[KIND], source, vectors, settings, progress)
        describe, encoder_loader = with_registry(workspace, describe, encoder_loader)
        return _Run(workspace[KIND], source, describe(settings), settings, encoder_loader, progress)()


def with_registry(
    workspace: Workspace, describe: Describer | None, loader: EncoderLoader | None
) -> tuple[Describer, EncoderLoader]:
    """What was given, else the registry with a memory for digests of local weights in the workspace."""
    cache = digests_of(workspace)
    return describe or partial(registry.describe, cache=cache), loader or partial(registry.load, cache=cache)


def digests_of(workspace: Workspace) -> Path:
    """The file that remembers digests of local weights, so that gigabytes are read once."""
    return workspace.root / "weights.json"


class _Run:
    def __init__(
        self,
        artefacts: ArtefactStore,
        source: Source,
        info: EncoderInfo,
        settings: EmbedSettings,
        loader: EncoderLoader,
        progress: Progress,
    ) -> None:
        self.artefacts = artefacts
        self.source = source
        self.info = info
        self.settings = settings
        self.progress = progress
        self.clock = Clock()
        self._loader = loader

    def __call__(self) -> EmbedReport:
        with self.clock("compare"):
            look = scan(self.source, self.info)
            report = unchanged(self.artefacts, look, self.info.name, self.clock)
        if report is not None:
            return report
        if self.info.family == FAMILY:
            with self.clock("compare"):
                move(self.artefacts, self.source, self.info, *fused.layers(self.settings), self.progress)
        folder = self.artefacts.partial(work_name(look, self.settings))
        work = self._work(folder, look)
        try:
            encoded = self._encode(work)
            return self._publish(work, look, encoded)
        finally:
            work.close()

    @cached_property
    def encoder(self) -> Encoder:
        """Loaded when it is first needed."""
        with self.clock("load"):
            encoder = self._loader(self.settings)
        if encoder.info.fingerprint != self.info.fingerprint:
            raise BackendError(
                f"the model {self.info.name} is not the one that was described a moment ago",
                "run again; if it stays so, name a fixed revision",
            )
        return encoder

    def _work(self, folder: Path, look: Scan) -> Work:
        with self.clock("compare"):
            work = Work.resume(folder)
        if work is not None:
            left = sum(len(work.plan.rows(number)) for number in work.todo)
            self.progress.note(f"going on with an interrupted run: {left} of {work.head.count} items are left")
            return work
        started = self.clock.seconds["load"]
        with self.clock("compare"):
            work = lay_out(
                self.artefacts,
                folder,
                self.source,
                look,
                self.info,
                self.settings.batch_size,
                lambda: self.encoder,
                self.progress,
            )
        self.clock.seconds["compare"] -= self.clock.seconds["load"] - started
        return work

    def _encode(self, work: Work) -> int:
        batches = [work.plan.rows(number) for number in work.todo]
        if batches:
            reader = Reader(work.texts, self.source.folder, self.info.fingerprint)
            run(reader, self.encoder, work.store, batches, self.clock, self.progress)
        return sum(map(len, batches))

    def _publish(self, work: Work, look: Scan, encoded: int) -> EmbedReport:
        origin = Origin(self.source, self.info, work.head.blocks, self.settings.model_dump(mode="json"), look.identity)
        before = self.artefacts.current
        notes = self._notes(look)
        facts = {"encoded": encoded, "reused": work.reused, "notes": notes, "seconds": self.clock.rounded()}
        with self.clock("publish"):
            folder, counts = publish(self.artefacts, work.store, origin, facts)
        notes = [*notes, *_trouble(folder, counts)]
        seconds = self.clock.rounded()
        loop = sum(seconds.get(stage, 0.0) for stage in ("wait", "encode", "write"))
        return EmbedReport(
            folder=folder,
            fingerprint=folder.name,
            encoder=self.info.name,
            **asdict(counts),
            encoded=encoded,
            reused=work.reused,
            dim=work.head.dim,
            up_to_date=folder == before,
            seconds=seconds,
            items_per_second=round(encoded / loop, 2) if encoded and loop else 0.0,
            notes=tuple(notes),
        )

    def _notes(self, look: Scan) -> list[str]:
        notes = []
        if look.unseen:
            notes.append(f"the encoder {self.info.name} cannot see photos: {look.unseen} were not used")
        if (note := languages.fits(self.info, self.source.samples())) is not None:
            notes.append(note)
        return notes


def work_name(look: Scan, settings: EmbedSettings) -> str:
    """The name of the folder of unfinished work: only work on the same inputs in the same batches can go on."""
    return fingerprint.of_json([look.identity, settings.batch_size])


def unchanged(artefacts: ArtefactStore, look: Scan, encoder: str, clock: Clock) -> EmbedReport | None:
    """The report of a run that finds everything as it was, or None."""
    if (live := artefacts.live) is None:
        return None
    folder, facts = live[0], live[1].facts
    if facts.get("identity") != look.identity or facts.get("failed"):
        return None
    try:
        with closing(open_vectors(folder / VECTORS)) as file:
            count, dim = file.count, file.dtype.shape[0]
            if len(damaged_rows(file)):
                return None
    except (StaleArtefactError, OSError):  # cut short: made anew
        return None
    return EmbedReport(
        folder=folder,
        fingerprint=folder.name,
        encoder=encoder,
        items=count,
        encoded=0,
        reused=count - facts["without_content"],
        rejected_images=facts["rejected_images"],
        failed=0,
        without_content=facts["without_content"],
        dim=dim,
        up_to_date=True,
        seconds=clock.rounded(),
        notes=tuple(facts.get("notes", ())),
    )


def _trouble(folder: Path, counts: Counts) -> list[str]:
    notes = []
    if counts.rejected_images:
        notes.append(f"{counts.rejected_images} photos could not be read, see {folder / 'rejects.parquet'}")
    if counts.failed:
        notes.append(f"{counts.failed} items could not be encoded and have a zero vector; the next run tries again")
    return notes
