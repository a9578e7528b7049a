"""``molar embed --dry-run``: what a run would take, from a small sample through the encoder."""

import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.embedding.content_vectors import Rows, disk_bytes, texts_and_photos
from molar_retrieval.embedding.external import as_brought
from molar_retrieval.embedding.pipeline import decode
from molar_retrieval.embedding.run import EmbeddingRun
from molar_retrieval.encoders.base import Encoder, EncoderInput, Planner
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.reports.wording import duration, size
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.settings import EmbedSettings

SAMPLE = 16
_BATCHES, _FEW, _QUICK = 4, 16, 10.0
"""Whole batches that are encoded after the sample, where there are more than so many, if that takes at most seconds."""
_BOOKKEEPING_BYTES = 200  # of memory per item: plan, keys, places of texts


@dataclass(frozen=True)
class EmbedForecast:
    """What a run of embedding would do.

    Attributes:
        items: Items in the catalogue.
        to_encode: Items that would go through the encoder.
        reused: Items whose vector is there already, or of which there is nothing to see.
        dim: Length of the vectors; None where nothing is to be encoded and there are no vectors yet.
        notes: How to read the figures.
        seconds: Predicted duration, loading the encoder included.
        load_seconds: What loading the encoder took just now.
        items_per_second: Of the sample; 0 where nothing is to be encoded.
        sampled: How many items were encoded to find out.
        disk_bytes: What the new version takes; while it is made, the earlier one takes its own beside it, and what is
            encoded is there twice.
        memory_bytes: Highest memory of this process, with the encoder loaded and the sample encoded.
        catalogue: What is known of the prepared catalogue, see its manifest.
    """

    items: int
    to_encode: int
    reused: int
    dim: int | None
    notes: tuple[str, ...]
    seconds: float = 0.0
    load_seconds: float = 0.0
    items_per_second: float = 0.0
    sampled: int = 0
    disk_bytes: int = 0
    memory_bytes: int = 0
    catalogue: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The forecast as plain data."""
        return {**asdict(self), "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """The forecast in a few lines for people."""
        first = f"{self.items:,} items: {self.to_encode:,} to encode, {self.reused:,} vectors reused"
        took = (
            f"about {duration(self.seconds)} at {self.items_per_second:,.1f} items/s, {size(self.disk_bytes)} on disk"
        )
        return [first, *([took] if self.to_encode else []), *self.notes]


def dry_run(
    workspace: Workspace,
    settings: EmbedSettings,
    *,
    progress: Progress = SILENT,
    planner: Planner | None = None,
    sample: int = SAMPLE,
) -> EmbedForecast:
    """Predict time, disk and memory of :func:`~molar_retrieval.embedding.embed`; writes nothing.

    ``sample`` items are encoded to measure the rate, and some whole batches if that is quick, as items of larger ones
    take less time; for the rest of what it takes and raises see there.
    """
    with pin(workspace, "catalogue", work="molar embed") as inputs:
        if (report := as_brought(inputs, settings)) is not None:
            return _nothing(report.items, report.dim)
        run = EmbeddingRun(inputs, settings, planner, progress)
        count, notes = len(run.catalogue), run.cautions
        if (report := run.unchanged()) is not None:
            return _nothing(count, report.dim, notes)
        cache, _, batches = run.planned()
        pending = sum(map(len, batches))
        if (change := run.change(pending)) is not None:
            notes = (*notes, change)
        if not pending:
            return _nothing(count, cache.dim, notes)
        rows, encoder = np.concatenate(batches), run.encoder
        ordered = rows[np.argsort(run.scanned.lengths[rows], kind="stable")]
        chosen = ordered[np.unique(np.linspace(0, pending - 1, min(sample, pending)).astype(np.int64))]
        seconds, sampled = _time(encoder, run.catalogue, chosen, min(settings.batch_size, 8)), len(chosen)
        some = [batches[(2 * number + 1) * len(batches) // (2 * _BATCHES)] for number in range(_BATCHES)]
        whole = sum(map(len, some))
        if len(batches) > _FEW and seconds * whole <= _QUICK * sampled:
            seconds = sum(_time(encoder, run.catalogue, batch, settings.batch_size) for batch in some)
            sampled = whole
        rate, load = sampled / seconds if seconds else 0.0, run.clock.seconds["load"]
        note = f"from a sample of {sampled} items of all text lengths, encoded in {seconds:.2f} s; ± 30 %"
        return EmbedForecast(
            items=count,
            to_encode=pending,
            reused=count - pending,
            dim=encoder.dim,
            notes=(*notes, note, _memory_note(count)),
            seconds=round(load + (pending / rate if rate else 0.0), 2),
            load_seconds=round(load, 2),
            items_per_second=round(rate, 2),
            sampled=sampled,
            disk_bytes=disk_bytes(count, encoder.dim),
            memory_bytes=process_memory(),
        )


def _nothing(items: int, dim: int | None, notes: tuple[str, ...] = ()) -> EmbedForecast:
    notes = (*notes, "nothing is to be encoded", _memory_note(items))
    disk, memory = disk_bytes(items, dim or 0), process_memory()
    return EmbedForecast(items, 0, items, dim, notes, disk_bytes=disk, memory_bytes=memory)


def _memory_note(items: int) -> str:
    return (
        f"memory: {size(process_memory())} with the sample; it does not grow with the catalogue except for some "
        f"{_BOOKKEEPING_BYTES} bytes per item ({size(items * _BOOKKEEPING_BYTES)})"
    )


def _time(encoder: Encoder, catalogue: Catalogue, rows: Rows, batch_size: int) -> float:
    """Seconds for the sampled rows in batches, after a first item that warms the encoder up."""
    found = texts_and_photos(catalogue, rows.tolist())
    reads, looks = ("text" in encoder.info.modalities), "image" in encoder.info.modalities
    inputs = []
    for text, image in (found[row] for row in rows.tolist()):
        photo = decode(catalogue.folder, image)[0] if image is not None and looks else None
        if (reads and text) or photo is not None:
            inputs.append(EncoderInput(text if reads else None, photo))
    if not inputs:
        return 0.0
    encoder.encode(inputs[:1])
    started = perf_counter()
    for start in range(0, len(inputs), batch_size):
        encoder.encode(inputs[start : start + batch_size])
    return perf_counter() - started


def process_memory() -> int:
    """Highest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
