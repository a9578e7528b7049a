"""`molar check`: everything that can be said about a catalogue's data before money is spent on it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow.compute as pc

from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import BATCH, TEXT, condition_of, prepare_catalogue
from molar_retrieval.data.schema import CatalogueSchema, find_file, read_spec
from molar_retrieval.data.values import sign_tells
from molar_retrieval.embedding.forecast import EmbedForecast, dry_run
from molar_retrieval.embedding.run import digests_of
from molar_retrieval.encoders import registry
from molar_retrieval.encoders.base import language_note
from molar_retrieval.encoders.fusion import unit
from molar_retrieval.errors import DataError, MolarError
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.quality import photo_text, photos
from molar_retrieval.quality.findings import FindingCollector, Found, Histogram, Severity
from molar_retrieval.quality.interactions import LogSummary, check_log
from molar_retrieval.quality.items import Items, check_attributes, check_rejects, read_items, read_texts
from molar_retrieval.quality.personal_data import check_personal_data
from molar_retrieval.quality.texts import TextCheck
from molar_retrieval.reports import wording
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.pinned import PinnedWorkspace, pin
from molar_retrieval.workspace.settings import MolarSettings

FORMAT = 2  # Of the plain data
FEW_USERS, ENOUGH_USERS = 100, 1_000
"""Users with two interactions below which collaborative factors are noise, and from which they are sound."""
ITEMS_KNOWN = 0.3  # Share of the items with five interactions below which collaborative filtering reaches few of them
SEQUENCES = 500  # Users with five interactions that a sequence model needs
UNORDERED = 0.5  # Share of steps without an order from which on there is no sequence to learn
_EXCERPT = 240
_STOPS = ("log.unreadable", "log.nothing_usable")  # Kinds of finding after which no command can read the log


@dataclass(frozen=True)
class CheckOptions:
    """What is checked.

    Attributes:
        photos: Decode photos; without, only their paths and headers are looked at.
        with_embeddings: Embed what has no vectors yet, so that photos can be compared with words.
        forecast: Find out what embedding takes here, by a few items through the encoder.
        fix_list: A .parquet, .csv or .jsonl file with a row for each finding, or None.
        processes: For photos; None: as many as there are cores.
    """

    photos: bool = True
    with_embeddings: bool = False
    forecast: bool = True
    fix_list: Path | None = None
    processes: int | None = None


@dataclass(frozen=True)
class Excerpt:
    """An item as a report shows it: title, the beginning of its description, the photo's path in the folder."""

    title: str | None
    text: str | None
    photo: str | None


@dataclass(frozen=True)
class Content:
    """What the items bring along: numbers of items, and the mean of a text's characters.

    ``photos`` can be used: readable, not blank, no placeholder, not only writing; of ``nothing``, nothing can be
    embedded.
    """

    items: int
    photos: int
    texts: int
    both: int
    nothing: int
    characters: float


@dataclass(frozen=True)
class Readiness:
    """What can be expected; a verdict is ``enough``, ``thin``, ``no`` or ``none``: there is no log."""

    content: Content
    verdicts: Mapping[str, str]
    sentences: tuple[str, ...]
    embedding: EmbedForecast | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            **asdict(self.content),
            "verdicts": dict(self.verdicts),
            "sentences": list(self.sentences),
            "embedding": None if self.embedding is None else self.embedding.to_dict(),
        }


@dataclass(frozen=True)
class CheckReport:
    """The outcome of a check.

    Attributes:
        catalogue: Name of its folder.
        items: How many there are.
        unusable: Why other commands cannot work with it; empty: they can.
        found: By kind, worst severity first.
        readiness: What can be expected; None: nothing could be read.
        histograms: Distributions.
        log: What the log is like, as plain data; None: there is none.
        log_lines: The same in sentences.
        pairs: How well photos and words go together, as plain data; None: not checked.
        left_out: What was not checked, and how it would be.
        excerpts: The items among the examples.
        seconds: By stage.
    """

    catalogue: str
    items: int = 0
    unusable: tuple[str, ...] = ()
    found: tuple[Found, ...] = ()
    readiness: Readiness | None = None
    histograms: tuple[Histogram, ...] = ()
    log: Mapping[str, Any] | None = None
    log_lines: tuple[str, ...] = ()
    pairs: Mapping[str, Any] | None = None
    left_out: tuple[str, ...] = ()
    excerpts: Mapping[str, Excerpt] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether other commands can work with the data."""
        return not self.unusable

    def count(self, severity: Severity) -> int:
        """How many findings of a severity there are."""
        return sum(found.count for found in self.found if found.kind.severity is severity)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "format": FORMAT,
            "catalogue": self.catalogue,
            "items": self.items,
            "usable": self.usable,
            "unusable": list(self.unusable),
            "counts": {str(severity): self.count(severity) for severity in Severity},
            "found": [found.to_dict() for found in self.found],
            "readiness": None if self.readiness is None else self.readiness.to_dict(),
            "log": self.log,
            "pairs": self.pairs,
            "histograms": [histogram.to_dict() for histogram in self.histograms],
            "left_out": list(self.left_out),
            "seconds": dict(self.seconds),
        }


def check(
    folder: Path,
    workspace: Workspace,
    settings: MolarSettings,
    options: CheckOptions = CheckOptions(),
    *,
    progress: Progress = SILENT,
) -> CheckReport:
    """Check a catalogue and its log.

    The workspace gets the prepared catalogue, as `molar embed` would make it, and what was measured of photos, so that
    the next check looks at what has changed.

    Raises:
        SettingsError: If ``catalog.toml`` has an unknown key.
        DataError: If there is no catalogue in the folder at all.
    """
    with pin(workspace, work="molar check") as inputs:
        return _CatalogueCheck(folder, inputs, settings, options, progress)()


class _CatalogueCheck:
    def __init__(
        self,
        folder: Path,
        workspace: PinnedWorkspace,
        settings: MolarSettings,
        options: CheckOptions,
        progress: Progress,
    ) -> None:
        self.folder, self.workspace, self.settings = folder, workspace, settings
        self.options, self.progress = options, progress
        self.part = condition_of(workspace)
        self.collector = FindingCollector(options.fix_list)
        self.seconds: dict[str, float] = {}
        self.left_out: list[str] = []
        self.unusable: list[str] = []

    def __call__(self) -> CheckReport:
        with self.collector:
            prepared = self._prepared()
            checked = {} if prepared is None else self._checked(*prepared)
        found = self.collector.found()
        return CheckReport(
            catalogue=self.folder.resolve().name,
            unusable=tuple(self.unusable),
            found=found,
            left_out=tuple(self.left_out),
            excerpts={} if prepared is None else _excerpts(prepared[0], found),
            seconds=self.seconds,
            **checked,
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + perf_counter() - started, 2)

    def _prepared(self) -> tuple[Catalogue, CatalogueSchema] | None:
        """The prepared catalogue and its spec; None where it cannot be used at all."""
        find_file(self.folder, "items")  # a folder that is not there is no finding
        try:
            with self._stage("read"):
                spec = read_spec(self.folder)
                prepare_catalogue(self.folder, self.workspace, self.progress, where=self.part)
        except DataError as error:
            self.unusable.append(error.message)
            self.collector.add("catalogue.unusable", f"{error.message}; {error.hint}")
            return None
        for column, reason in spec.ambiguous_columns.items():
            told = 'say it in catalog.toml: [items] decimal = "," or "."'
            detail = f"kept as words: {reason}; {told if sign_tells(reason) else 'write all of them in one way'}"
            self.collector.add("attribute.wrong_type", detail, column=column)
        self.workspace.take("catalogue", self.workspace["catalogue"].require())
        return Catalogue(*self.workspace["catalogue"].require()), spec

    def _checked(self, catalogue: Catalogue, spec: CatalogueSchema) -> dict[str, Any]:
        """Take all findings; what else a report holds of a catalogue that can be read."""
        take = self.collector.take
        self._language(catalogue)
        items = read_items(catalogue, spec, self.folder)
        with self._stage("texts"):
            texts = TextCheck(items, catalogue.language)
            take(texts(read_texts(items, spec, self.folder, self.progress)))
        take(check_rejects(catalogue, items))  # after the texts, which tell the rows of the file
        measured = self._photos(items)
        with self._stage("attributes"):
            take(check_attributes(catalogue, items, self.progress))
        if self.options.with_embeddings and photo_text.stored_vectors(self.workspace, catalogue) is None:
            with self._stage("embed"):
                photo_text.make_vectors(self.workspace, self.folder, self.settings.embed, self.progress)
        pairs = self._pairs(catalogue, items, measured)
        with self._stage("personal"):
            check_personal_data(self.folder, spec, self.collector, self.progress)
        with self._stage("log"):
            log = check_log(
                self.folder,
                spec,
                catalogue.lookup,
                self.collector,
                self.progress,
                part=self.part is not None,
                suppressed=SuppressionList.of(self.workspace.root),
            )
        self.unusable += [finding.detail for kind in _STOPS for finding in self.collector.examples(kind)]
        content = self._content(catalogue, items, measured)
        return {
            "items": len(catalogue),
            "readiness": readiness(content, log, self._forecast()),
            "histograms": (*_histograms(texts, measured), *(() if log is None else log.histograms)),
            "log": None if log is None else log.to_dict(),
            "log_lines": () if log is None else tuple(log.lines()),
            "pairs": pairs,
        }

    def _language(self, catalogue: Catalogue) -> None:
        """Say first where the encoder does not know the language of the texts; a model is not hashed for that alone."""
        asked = self.settings.embed
        if asked.model not in registry.NAMED and not self.options.forecast:
            return
        try:
            info = registry.describe(asked, digests_of(self.workspace))
        except MolarError:
            return  # the forecast says so
        if (note := language_note(info, catalogue.language, self.folder)) is not None:
            self.progress.note(note)
            self.collector.add("catalogue.language", note)

    def _photos(self, items: Items) -> photos.Measured:
        if not self.options.photos:
            self.left_out.append("photos were not decoded: leave out --no-photos")
            return photos.nothing(len(items))
        with self._stage("photos"):
            processes = self.options.processes
            found = photos.measured(self.folder, items.photos, self.workspace, self.progress, processes=processes)
            self.collector.take(photos.check_photos(items, found))
        return found

    def _pairs(self, catalogue: Catalogue, items: Items, measured: photos.Measured) -> Mapping[str, object] | None:
        """What needs vectors: near duplicates by image features, and photos against words."""
        vectors = photo_text.stored_vectors(self.workspace, catalogue)
        with self._stage("duplicates"):
            features = None if vectors is None else unit(vectors.features)
            self.collector.take(photos.check_shared(items, measured, features))
        if vectors is None:
            self.left_out.append(
                "photos were not compared with words, nor near duplicates looked for among vectors: add "
                "--with-embeddings, which embeds what is new, or run `molar embed` with the built-in encoder first"
            )
            return None
        with self._stage("pairs"):
            agreement = photo_text.agreement(vectors.images, vectors.texts)
            if agreement is not None:
                self.collector.take(photo_text.check_pairs(agreement, items))
        if agreement is None:
            self.left_out.append(f"photos were not compared with words: fewer than {photo_text.FEWEST} items have both")
            return None
        if not agreement.useful:
            self.left_out.append(
                "photos and words have too little in common, as far as the encoder sees, to tell which do not belong "
                f"together: own words fit better than another item's {agreement.win_rate:.0%} of the time"
            )
        return {**agreement.to_dict(), "encoder": vectors.encoder}

    def _content(self, catalogue: Catalogue, items: Items, measured: photos.Measured) -> Content:
        usable = readable = items.has_photo
        if self.options.photos:
            usable, readable = photos.usable_photos(items, measured), photos.readable(items, measured)
        columns = [pc.utf8_length(batch[TEXT]).fill_null(0) for batch in catalogue.batches([TEXT], BATCH)]
        lengths = np.concatenate([np.zeros(0, np.int64), *map(np.asarray, columns)])
        texts = lengths > 0
        empty = ~texts & ~readable
        rows = np.flatnonzero(empty).tolist()
        self.collector.take(items.finding("item.empty", row, "neither words nor a photo") for row in rows)
        if empty.all():
            self.unusable.append("no item has words or a photo that can be read: nothing can be embedded")
        return Content(
            items=len(catalogue),
            photos=int(usable.sum()),
            texts=int(texts.sum()),
            both=int((texts & usable).sum()),
            nothing=int(empty.sum()),
            characters=float(lengths[texts].mean()) if texts.any() else 0.0,
        )

    def _forecast(self) -> EmbedForecast | None:
        if not self.options.forecast:
            self.left_out.append("what embedding takes here was not measured: leave out --no-forecast")
            return None
        try:
            with self._stage("forecast"):
                return dry_run(self.workspace, self.settings.embed, progress=self.progress)
        except MolarError as error:
            self.left_out.append(f"what embedding takes here was not measured: {error.message}; {error.hint}")
            return None


def _histograms(texts: TextCheck, measured: photos.Measured) -> Iterator[Histogram]:
    yield Histogram.of("text_length", "Characters of title and description", texts.lengths, "characters")
    good = measured[measured["state"] == photos.PhotoState.GOOD]
    if len(good):
        pixels = np.sqrt(good["width"].astype(np.float64) * good["height"])
        yield Histogram.of("image_size", "Size of photos: square root of the area", pixels, "pixels", log=True)


def _excerpts(catalogue: Catalogue, found: tuple[Found, ...]) -> dict[str, Excerpt]:
    """The items among the examples, and the first item that shares each of their findings."""
    examples = [finding for kind in found for finding in kind.examples]
    wanted = {finding.item_id for finding in examples} | {finding.others[0] for finding in examples if finding.others}
    shown: dict[str, Excerpt] = {}
    for batch in catalogue.batches([ITEM_ID, TITLE, DESCRIPTION, IMAGE], BATCH) if wanted - {None} else ():
        for item_id, title, text, photo in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if item_id in wanted:
                shown[item_id] = Excerpt(title, None if text is None else text[:_EXCERPT], photo)
    return shown


def readiness(content: Content, log: LogSummary | None, embedding: EmbedForecast | None) -> Readiness:
    """Say what can be expected; ``log`` is None where there is none, ``embedding`` where that was not asked."""
    verdicts, said = {"collaborative": "none", "sequence": "none"}, [_of_content(content)]
    if log is None or not log.interactions:
        said.append(
            "There is no log of interactions: items can be found by likeness, words and photos (`molar query "
            "--similar`, `--text`, `--image`), but nobody gets recommendations of their own."
        )
    else:
        told = {"collaborative": _collaborative(log), "sequence": _sequence(log)}
        verdicts = {name: verdict for name, (verdict, _) in told.items()}
        share = log.cold_items / max(content.items, 1)
        said += [sentence for _, sentence in told.values()]
        if log.cold_items:
            said.append(f"{log.cold_items:,} items ({share:.0%}) have no interaction and depend on content alone.")
    if embedding is not None and embedding.to_encode:
        duration, size = wording.duration(embedding.seconds), wording.size(embedding.disk_bytes)
        said.append(
            f"Embedding {embedding.to_encode:,} items takes about {duration} on this machine "
            f"(measured: {embedding.items_per_second:,.0f} items/s) and {size} of disk."
        )
    elif embedding is not None:
        said.append("All items are embedded already; nothing has to be encoded.")
    return Readiness(content, verdicts, tuple(said), embedding)


def _collaborative(log: LogSummary) -> tuple[str, str]:
    """The verdict, and what it is for people."""
    users = f"{log.users_with_two:,} users with two interactions or more"
    if log.users_with_two < FEW_USERS:
        rest = "Recommendations will rest on content and on what sells."
        return "no", f"The log is too small for collaborative filtering: {users}. {rest}"
    users += f", {log.items_with_five:,} items with five or more."
    if log.users_with_two >= ENOUGH_USERS and log.items_with_five >= ITEMS_KNOWN * max(log.items, 1):
        return "enough", f"The log is enough for collaborative filtering: {users}"
    said = f"The log is thin for collaborative filtering: {users} Expect content to carry much of the score."
    return "thin", said


def _sequence(log: LogSummary) -> tuple[str, str]:
    users = f"{log.users_with_five:,} users with five interactions or more"
    if log.users_with_five < FEW_USERS:
        return "no", f"A sequence model has little to learn: only {log.users_with_five:,} users have five interactions."
    unordered = log.ties - log.ties_placed
    if unordered > UNORDERED:
        why = f"{unordered:.0%} of the steps from one interaction of a user to the next have no order in time."
        return "no", f"A sequence model has little to learn: {why}"
    if log.users_with_five >= SEQUENCES:
        return "enough", f"The log is enough for a sequence model: {users}."
    return "thin", f"A sequence model may help a little: {users}."


def _of_content(content: Content) -> str:
    n = max(content.items, 1)
    parts = [
        f"{content.photos:,} of {content.items:,} items ({content.photos / n:.0%}) have a usable photo, "
        f"{content.texts:,} ({content.texts / n:.0%}) have words"
    ]
    for count, what in (
        (content.texts - content.both, "{:,} are known by their words alone"),
        (content.photos - content.both, "{:,} by their photo alone"),
        (content.nothing, "of {:,} nothing can be embedded"),
    ):
        if count:
            parts.append(what.format(count))
    return "; ".join(parts) + "."
