"""What a run of embedding says about itself, and where its time went."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Self

from molar_retrieval.workspace.artefacts import Manifest


class Clock:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._started = perf_counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Charge what happens inside to ``stage``."""
        started = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - started

    def rounded(self) -> dict[str, float]:
        """Seconds by stage, and in total since the clock was made."""
        total = perf_counter() - self._started
        return {stage: round(seconds, 3) for stage, seconds in [*self.seconds.items(), ("total", total)]}


_TOLD = ("items", "encoded", "reused", "rejected_images", "failed", "without_content", "dim", "missing", "unknown")


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """The outcome of :func:`molar_retrieval.embedding.embed`.

    Attributes:
        folder: The live version of the content vectors.
        fingerprint: Of that version.
        encoder: Name of the encoder, or of the file that brought the vectors.
        items: Items in the catalogue; as many rows have a vector.
        encoded: Items that went through the encoder in this run.
        reused: Items whose vector was there already: from an earlier version or an interrupted run.
        rejected_images: Photos that could not be decoded; their items have the text's vector.
        failed: Items that the encoder could not do; they have a zero vector, and the next run tries them again.
        without_content: Items of which the encoder sees nothing; they have a zero vector.
        dim: Length of the vectors.
        up_to_date: Nothing had changed, so no new version was published.
        seconds: By stage: ``load`` the encoder; ``wait`` for the reader, ``encode``, ``write`` (the three parts of the
            encoding loop); ``read`` (texts and photos, summed over threads, overlapped with encoding); ``total``.
        items_per_second: Of the encoding loop; 0 where nothing was encoded.
        missing: Items of the catalogue that a file of vectors lacks.
        unknown: Vectors of a file whose item is not in the catalogue.
        before: Name of the encoder that made the vectors before this run, where it was another one; its vectors stay.
        notes: What else is worth knowing, in sentences.
        catalogue: What is known of the prepared catalogue, see its manifest.
    """

    folder: Path
    fingerprint: str
    encoder: str
    items: int
    encoded: int = 0
    reused: int = 0
    rejected_images: int
    failed: int
    without_content: int
    dim: int
    up_to_date: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    items_per_second: float = 0.0
    missing: int = 0
    unknown: int = 0
    before: str | None = None
    notes: tuple[str, ...] = ()
    catalogue: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, manifest: Manifest, *, up_to_date: bool) -> Self:
        """What a version's manifest tells of the run that made it."""
        told = {name: manifest.facts[name] for name in _TOLD if name in manifest.facts}
        encoder = manifest.settings["encoder"]["name"]
        return cls(folder=folder, fingerprint=manifest.fingerprint, encoder=encoder, **told, up_to_date=up_to_date)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {**asdict(self), "folder": str(self.folder), "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """The report in a few lines for people, without the notes."""
        lines = [f"{self.items:,} items, vectors of {self.dim:,} numbers by {self.encoder}: {self._outcome()}"]
        odd = {
            "photos unreadable": self.rejected_images,
            "items failed": self.failed,
            "items without content": self.without_content,
        }
        if any(odd.values()):
            lines.append(", ".join(f"{n:,} {what}" for what, n in odd.items() if n))
        if self.before is not None:
            lines.append(f"the vectors by {self.before} stay here: --model {self.before} takes them again")
        if self.encoded:
            spent = {stage: self.seconds.get(stage, 0.0) for stage in ("load", "encode", "wait", "write", "read")}
            stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in spent.items())
            lines.append(f"{self.items_per_second:,.1f} items/s; {stages} (reading overlaps with encoding)")
        return lines

    def _outcome(self) -> str:
        if self.up_to_date and not self.encoded:
            return "up to date"
        if not (self.encoded or self.reused):
            return f"taken over for {self.items - self.missing:,} items"
        return f"{self.encoded:,} encoded, {self.reused:,} reused"
