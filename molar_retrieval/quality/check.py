"""`molar check`: everything that can be said about a catalogue's data before money is spent on it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.columns import IMAGE, ITEM_ID, TITLE
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import BATCH, TEXT, condition_of, prepare_catalogue
from molar_retrieval.data.schema import find_file, read_spec
from molar_retrieval.data.values import sign_tells
from molar_retrieval.embedding.estimate import EmbedForecast, dry_run
from molar_retrieval.embedding.run import digests_of
from molar_retrieval.encoders import registry
from molar_retrieval.encoders.base import language_note
from molar_retrieval.errors import DataError, MolarError
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.quality import photo_text
from molar_retrieval.quality import photos as of_photos
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
_STOPS = ("log.unreadable", "log.nothing_usable")  # Kinds of finding after which no command can read the log


@dataclass(frozen=True)
class Excerpt:
    """An item as a report shows it: its title, and the photo's path in the folder."""

    title: str | None
    photo: str | None


@dataclass(frozen=True)
class Content:
    """What the items bring along, in numbers of items.

    ``photos`` can be used: readable, not blank, no placeholder; of ``nothing``, nothing can be embedded.
    """

    items: int
    photos: int
    texts: int
    both: int
    nothing: int


@dataclass(frozen=True)
class Readiness:
    """What can be expected, in ``sentences``; ``embedding`` is None where that was not measured."""

    content: Content
    sentences: tuple[str, ...]
    embedding: EmbedForecast | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        embedding = None if self.embedding is None else self.embedding.to_dict()
        return {**asdict(self.content), "sentences": list(self.sentences), "embedding": embedding}


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
        log: What the log is like; None: there is none.
        pairs: How well photos and words go together, as plain data; None: not checked.
        left_out: What was not checked, and how it would be.
        excerpts: The items among the examples.
    """

    catalogue: str
    items: int = 0
    unusable: tuple[str, ...] = ()
    found: tuple[Found, ...] = ()
    readiness: Readiness | None = None
    histograms: tuple[Histogram, ...] = ()
    log: LogSummary | None = None
    pairs: Mapping[str, Any] | None = None
    left_out: tuple[str, ...] = ()
    excerpts: Mapping[str, Excerpt] = field(default_factory=dict)

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
            "log": None if self.log is None else asdict(self.log),
            "pairs": self.pairs,
            "histograms": [asdict(histogram) for histogram in self.histograms],
            "left_out": list(self.left_out),
        }


def check(
    folder: Path,
    workspace: Workspace,
    settings: MolarSettings,
    *,
    photos: bool = True,
    with_embeddings: bool = False,
    forecast: bool = True,
    fix_list: Path | None = None,
    processes: int | None = None,
    progress: Progress = SILENT,
) -> CheckReport:
    """Check a catalogue and its log.

    The workspace gets the prepared catalogue, as `molar embed` would make it, and what was measured of photos, so that
    the next check looks at what has changed.

    Without ``photos`` only their paths and headers are looked at. ``with_embeddings`` embeds what has no vectors yet,
    so that photos can be compared with words; ``forecast`` finds out what embedding takes here, by a few items through
    the encoder. ``fix_list`` is a .parquet, .csv or .jsonl file that gets a row for each finding. Photos are measured
    by ``processes``; None: as many as there are cores.

    Raises:
        SettingsError: If ``catalog.toml`` has an unknown key.
        DataError: If there is no catalogue in the folder at all.
    """
    find_file(folder, "items")  # a folder that is not there is no finding
    name, left_out = folder.resolve().name, []
    with pin(workspace, work="molar check") as inputs, FindingCollector(fix_list) as found:
        part = condition_of(inputs)
        try:
            spec = read_spec(folder)
            prepare_catalogue(folder, inputs, progress, where=part)
        except DataError as error:
            found.add("catalogue.unusable", f"{error.message}; {error.hint}")
            return CheckReport(name, unusable=(error.message,), found=found.found())
        inputs.take("catalogue", inputs["catalogue"].require())
        catalogue = Catalogue(*inputs["catalogue"].require())
        for column, reason in spec.ambiguous_columns.items():
            told = 'say it in catalog.toml: [items] decimal = "," or "."'
            detail = f"kept as words: {reason}; {told if sign_tells(reason) else 'write all of them in one way'}"
            found.add("attribute.wrong_type", detail, column=column)
        if forecast or settings.embed.model in registry.NAMED:  # a model is not hashed for its languages alone
            _check_language(catalogue, folder, inputs, settings, found, progress)
        items = read_items(catalogue, spec, folder)
        texts = TextCheck(items, catalogue.language)
        found.take(texts(read_texts(items, spec, folder, progress)))
        found.take(check_rejects(catalogue, items))  # after the texts, which tell the rows of the file
        if photos:
            measured = of_photos.measured(folder, items.photos, inputs, progress, processes=processes)
            found.take(of_photos.check_photos(items, measured))
        else:
            measured = of_photos.nothing(len(items))
            left_out.append("photos were not decoded: leave out --no-photos")
        found.take(check_attributes(catalogue, items, progress))
        found.take(of_photos.check_shared(items, measured))
        if with_embeddings and photo_text.stored_vectors(inputs, catalogue) is None:
            photo_text.make_vectors(inputs, folder, settings.embed, progress)
        pairs = _check_pairs(inputs, catalogue, items, found, left_out)
        check_personal_data(folder, spec, found, progress)
        suppressed = SuppressionList.of(inputs.root)
        log = check_log(folder, spec, catalogue.lookup, found, progress, part=part is not None, suppressed=suppressed)
        unusable = [finding.detail for kind in _STOPS for finding in found.examples(kind)]
        content = _content(catalogue, items, measured if photos else None, found)
        if content.nothing == content.items:
            unusable.append("no item has words or a photo that can be read: nothing can be embedded")
        embedding = None
        try:
            if forecast:
                embedding = dry_run(inputs, settings.embed, progress=progress)
            else:
                left_out.append("what embedding takes here was not measured: leave out --no-forecast")
        except MolarError as error:
            left_out.append(f"what embedding takes here was not measured: {error.message}; {error.hint}")
        by_kind = found.found()
        return CheckReport(
            catalogue=name,
            items=len(catalogue),
            unusable=tuple(unusable),
            found=by_kind,
            readiness=readiness(content, log, embedding),
            histograms=(*_histograms(texts, measured), *(() if log is None else log.histograms)),
            log=log,
            pairs=pairs,
            left_out=tuple(left_out),
            excerpts=_excerpts(catalogue, by_kind),
        )


def _check_language(
    catalogue: Catalogue,
    folder: Path,
    workspace: PinnedWorkspace,
    settings: MolarSettings,
    found: FindingCollector,
    progress: Progress,
) -> None:
    """Say where the encoder does not know the language of the texts."""
    try:
        info = registry.describe(settings.embed, digests_of(workspace))
    except MolarError:
        return  # the forecast says so
    if (note := language_note(info, catalogue.language, folder)) is not None:
        progress.note(note)
        found.add("catalogue.language", note)


def _check_pairs(
    workspace: PinnedWorkspace, catalogue: Catalogue, items: Items, found: FindingCollector, left_out: list[str]
) -> Mapping[str, object] | None:
    """Photos against words, where there are vectors of both."""
    vectors = photo_text.stored_vectors(workspace, catalogue)
    if vectors is None:
        left_out.append(
            "photos were not compared with words: add --with-embeddings, which embeds what is new, or run "
            "`molar embed` with the built-in encoder first"
        )
        return None
    agreement = photo_text.agreement(vectors.images, vectors.texts)
    if agreement is None:
        left_out.append(f"photos were not compared with words: fewer than {photo_text.FEWEST} items have both")
        return None
    found.take(photo_text.check_pairs(agreement, items))
    if not agreement.useful:
        left_out.append(
            "photos and words have too little in common, as far as the encoder sees, to tell which do not belong "
            f"together: own words fit better than another item's {agreement.win_rate:.0%} of the time"
        )
    return {**agreement.to_dict(), "encoder": vectors.encoder}


def _content(
    catalogue: Catalogue, items: Items, measured: of_photos.Measured | None, found: FindingCollector
) -> Content:
    """Count what the items bring along, and report those that bring nothing."""
    usable = readable = items.has_photo
    if measured is not None:
        usable, readable = of_photos.usable_photos(items, measured), of_photos.readable(items, measured)
    columns = [pc.utf8_length(batch[TEXT]).fill_null(0) for batch in catalogue.batches([TEXT], BATCH)]
    texts = np.concatenate([np.zeros(0, np.int64), *map(np.asarray, columns)]) > 0
    empty = ~texts & ~readable
    rows = np.flatnonzero(empty).tolist()
    found.take(items.finding("item.empty", row, "neither words nor a photo") for row in rows)
    both = int((texts & usable).sum())
    return Content(len(catalogue), int(usable.sum()), int(texts.sum()), both, int(empty.sum()))


def _histograms(texts: TextCheck, measured: of_photos.Measured) -> Iterator[Histogram]:
    yield Histogram.of("text_length", "Characters of title and description", texts.lengths, "characters")
    good = measured[measured["state"] == of_photos.PhotoState.GOOD]
    if len(good):
        pixels = np.sqrt(good["width"].astype(np.float64) * good["height"])
        yield Histogram.of("image_size", "Size of photos: square root of the area", pixels, "pixels", log=True)


def _excerpts(catalogue: Catalogue, found: tuple[Found, ...]) -> dict[str, Excerpt]:
    """The items among the examples, and the first item that shares each of their findings."""
    examples = [finding for kind in found for finding in kind.examples]
    wanted = {finding.item_id for finding in examples} | {finding.others[0] for finding in examples if finding.others}
    ids = pa.array([item_id for item_id in wanted if item_id is not None], pa.string())
    shown: dict[str, Excerpt] = {}
    for batch in catalogue.batches([ITEM_ID, TITLE, IMAGE], BATCH) if len(ids) else ():
        rows = batch.filter(pc.is_in(batch[ITEM_ID].cast(pa.string()), ids))
        for item_id, title, photo in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            shown[item_id] = Excerpt(title, photo)
    return shown


def readiness(content: Content, log: LogSummary | None, embedding: EmbedForecast | None) -> Readiness:
    """Say what can be expected; ``log`` is None where there is none, ``embedding`` where that was not asked."""
    said = [_of_content(content)]
    if log is None or not log.interactions:
        said.append(
            "There is no log of interactions: items can be found by likeness, words and photos (`molar query "
            "--similar`, `--text`, `--image`), but nobody gets recommendations of their own."
        )
    else:
        said += [_collaborative(log), _sequence(log)]
        if log.cold_items:
            share = log.cold_items / max(content.items, 1)
            said.append(f"{log.cold_items:,} items ({share:.0%}) have no interaction and depend on content alone.")
    if embedding is not None and embedding.to_encode:
        duration, size = wording.duration(embedding.seconds), wording.size(embedding.disk_bytes)
        said.append(
            f"Embedding {embedding.to_encode:,} items takes about {duration} on this machine "
            f"(measured: {embedding.items_per_second:,.0f} items/s) and {size} of disk."
        )
    elif embedding is not None:
        said.append("All items are embedded already; nothing has to be encoded.")
    return Readiness(content, tuple(said), embedding)


def _collaborative(log: LogSummary) -> str:
    users = f"{log.users_with_two:,} users with two interactions or more"
    if log.users_with_two < FEW_USERS:
        rest = "Recommendations will rest on content and on what sells."
        return f"The log is too small for collaborative filtering: {users}. {rest}"
    users += f", {log.items_with_five:,} items with five or more."
    if log.users_with_two >= ENOUGH_USERS and log.items_with_five >= ITEMS_KNOWN * max(log.items, 1):
        return f"The log is enough for collaborative filtering: {users}"
    return f"The log is thin for collaborative filtering: {users} Expect content to carry much of the score."


def _sequence(log: LogSummary) -> str:
    little, unordered = "A sequence model has little to learn:", log.ties - log.ties_placed
    if log.users_with_five < FEW_USERS:
        return f"{little} only {log.users_with_five:,} users have five interactions."
    if unordered > UNORDERED:
        return (
            f"{little} {unordered:.0%} of the steps from one interaction of a user to the next have no order in time."
        )
    judged = "The log is enough for a sequence model" if log.users_with_five >= SEQUENCES else None
    users = f"{log.users_with_five:,} users with five interactions or more."
    return f"{judged or 'A sequence model may help a little'}: {users}"


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
