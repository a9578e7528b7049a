"""`molar check`: everything that can be said about a catalogue's data before money is spent on it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow.compute as pc

from molar_retrieval.catalog.catalogue import Catalogue
from molar_retrieval.catalog.numbers import sign_tells
from molar_retrieval.catalog.prepare import condition_of, prepare_catalogue
from molar_retrieval.catalog.read import BATCH, TEXT
from molar_retrieval.catalog.resolve import read_spec
from molar_retrieval.catalog.sources import find_file
from molar_retrieval.catalog.spec import CatalogueSpec
from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.config import MolarSettings
from molar_retrieval.embedding.forecast import EmbedForecast
from molar_retrieval.embedding.run import digests_of
from molar_retrieval.encoders import registry
from molar_retrieval.encoders.base import language_note
from molar_retrieval.encoders.fusion import unit
from molar_retrieval.errors import DataError, MolarError
from molar_retrieval.interactions.suppressed import SuppressedPeople
from molar_retrieval.pinned import Pinned, pin
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.quality import mismatch, photos, vectors
from molar_retrieval.quality.attributes import check_attributes
from molar_retrieval.quality.collector import Collector
from molar_retrieval.quality.histogram import Histogram
from molar_retrieval.quality.items import Items, check_rejects, read_items, read_texts
from molar_retrieval.quality.log import check_log
from molar_retrieval.quality.measure import Measured, PhotoState
from molar_retrieval.quality.measured import measured, nothing
from molar_retrieval.quality.personal_data import check_personal_data
from molar_retrieval.quality.readiness import Content, readiness
from molar_retrieval.quality.report import CheckReport, Excerpt, Found, shown_items
from molar_retrieval.quality.texts import TextCheck
from molar_retrieval.workspace import Workspace

_EXCERPT = 240


@dataclass(frozen=True)
class CheckOptions:
    """What is checked.

    Attributes:
        photos: Decode photos; without, only their paths and headers are looked at.
        deep: Embed what has no vectors yet, so that photos can be compared with words.
        forecast: Find out what embedding takes here, by a few items through the encoder.
        fix_list: A .parquet, .csv or .jsonl file with a row for each finding, or None.
        processes: For photos; None: as many as there are cores.
    """

    photos: bool = True
    deep: bool = False
    forecast: bool = True
    fix_list: Path | None = None
    processes: int | None = None


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


_STOPS = ("log.unreadable", "log.nothing_usable")  # Kinds of fault of a log after which no command can read it


class _CatalogueCheck:
    def __init__(
        self, folder: Path, workspace: Pinned, settings: MolarSettings, options: CheckOptions, progress: Progress
    ) -> None:
        self.folder, self.workspace, self.settings = folder, workspace, settings
        self.options, self.progress = options, progress
        self.part = condition_of(workspace)
        self.found = Collector(options.fix_list)
        self.seconds: dict[str, float] = {}
        self.left_out: list[str] = []
        self.unusable: list[str] = []

    def __call__(self) -> CheckReport:
        with self.found:
            prepared = self._prepared()
            told = {} if prepared is None else self._checked(*prepared)
        kinds, nameless = self.found.kinds(), self.found.nameless
        shown = {kind.name: tuple(map(nameless, self.found.examples(kind.name))) for kind in kinds}
        found = tuple(Found(k, self.found.counts[k.name], shown[k.name], self.found.key(k.name)) for k in kinds)
        return CheckReport(
            catalogue=self.folder.resolve().name,
            unusable=tuple(self.unusable),
            found=found,
            left_out=tuple(self.left_out),
            excerpts={} if prepared is None else _excerpts(prepared[0], shown_items(found)),
            seconds=self.seconds,
            **told,
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + perf_counter() - started, 2)

    def _prepared(self) -> tuple[Catalogue, CatalogueSpec] | None:
        """The prepared catalogue and its spec; None where it cannot be used at all."""
        find_file(self.folder, "items")  # a folder that is not there is no finding
        try:
            with self._stage("read"):
                spec = read_spec(self.folder)
                prepare_catalogue(self.folder, self.workspace, self.progress, where=self.part)
        except DataError as error:
            self.unusable.append(error.message)
            self.found.add("catalogue.unusable", f"{error.message}; {error.hint}")
            return None
        for column, reason in spec.ambiguous_columns.items():
            told = 'say it in catalog.toml: [items] decimal = "," or "."'
            words = f"kept as words: {reason}; {told if sign_tells(reason) else 'write all of them in one way'}"
            self.found.add("attribute.wrong_type", words, column=column)
        self.workspace.take("catalogue", self.workspace["catalogue"].require())
        return Catalogue(*self.workspace["catalogue"].require()), spec

    def _checked(self, catalogue: Catalogue, spec: CatalogueSpec) -> dict[str, Any]:
        """Take all findings; what else a report holds of a catalogue that can be read."""
        self._language(catalogue)
        items = read_items(catalogue, spec, self.folder)
        with self._stage("texts"):
            texts = TextCheck(items, catalogue.language)
            self.found.take(texts(read_texts(items, spec, self.folder, self.progress)))
        self.found.take(check_rejects(catalogue, items))  # after the texts, which tell the rows of the file
        records = self._photos(items)
        with self._stage("attributes"):
            self.found.take(check_attributes(catalogue, items, self.progress))
        if self.options.deep and vectors.stored(self.workspace, catalogue) is None:
            with self._stage("embed"):
                vectors.make(self.workspace, self.folder, self.settings.embed, self.progress)
        pairs = self._pairs(catalogue, items, records)
        with self._stage("personal"):
            check_personal_data(self.folder, spec, self.found, self.progress)
        with self._stage("log"):
            ids, part = catalogue.ids, self.part is not None
            suppressed = SuppressedPeople.of(self.workspace.root)
            log = check_log(self.folder, spec, ids, self.found, self.progress, part=part, suppressed=suppressed)
        self.unusable += [finding.detail for kind in _STOPS for finding in self.found.examples(kind)]
        content = self._content(catalogue, items, records)
        return {
            "items": len(catalogue),
            "readiness": readiness(content, log, self._forecast()),
            "histograms": (*_histograms(texts, records), *(() if log is None else log.histograms)),
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
            self.found.add("catalogue.language", note)

    def _photos(self, items: Items) -> Measured:
        if not self.options.photos:
            self.left_out.append("photos were not decoded: leave out --no-photos")
            return nothing(len(items))
        with self._stage("photos"):
            processes = self.options.processes
            records = measured(self.folder, items.photos, self.workspace, self.progress, processes=processes)
            self.found.take(photos.check_photos(items, records))
        return records

    def _pairs(self, catalogue: Catalogue, items: Items, records: Measured) -> Mapping[str, object] | None:
        """What needs vectors: near duplicates by image features, and photos against words."""
        found = vectors.stored(self.workspace, catalogue)
        with self._stage("duplicates"):
            self.found.take(photos.check_shared(items, records, None if found is None else unit(found.features)))
        if found is None:
            self.left_out.append(
                "photos were not compared with words, nor near duplicates looked for among vectors: add --deep, which "
                "embeds what is new, or run `molar embed` with the built-in encoder first"
            )
            return None
        with self._stage("pairs"):
            agreement = mismatch.agreement(found.images, found.texts)
            if agreement is not None:
                self.found.take(mismatch.check_pairs(agreement, items))
        if agreement is None:
            self.left_out.append(f"photos were not compared with words: fewer than {mismatch.FEWEST} items have both")
            return None
        if not agreement.useful:
            self.left_out.append(
                "photos and words have too little in common, as far as the encoder sees, to tell which do not belong "
                f"together: own words fit better than another item's {agreement.beats:.0%} of the time"
            )
        return {**agreement.to_dict(), "encoder": found.encoder}

    def _content(self, catalogue: Catalogue, items: Items, records: Measured) -> Content:
        usable = readable = items.has_photo
        if self.options.photos:
            usable, readable = photos.usable_photos(items, records), photos.readable(items, records)
        columns = [pc.utf8_length(batch[TEXT]).fill_null(0) for batch in catalogue.batches([TEXT], BATCH)]
        lengths = np.concatenate([np.zeros(0, np.int64), *map(np.asarray, columns)])
        texts = lengths > 0
        empty = ~texts & ~readable
        rows = np.flatnonzero(empty).tolist()
        self.found.take(items.finding("item.empty", row, "neither words nor a photo") for row in rows)
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
        from molar_retrieval.embedding.forecast import dry_run

        try:
            with self._stage("forecast"):
                return dry_run(self.workspace, self.settings.embed, progress=self.progress)
        except MolarError as error:
            self.left_out.append(f"what embedding takes here was not measured: {error.message}; {error.hint}")
            return None


def _histograms(texts: TextCheck, records: Measured) -> Iterator[Histogram]:
    yield Histogram.of("text_length", "Characters of title and description", texts.lengths, "characters")
    good = records[records["state"] == PhotoState.GOOD]
    if len(good):
        pixels = np.sqrt(good["width"].astype(np.float64) * good["height"])
        yield Histogram.of("image_size", "Size of photos: square root of the area", pixels, "pixels", log=True)


def _excerpts(catalogue: Catalogue, wanted: set[str]) -> dict[str, Excerpt]:
    found: dict[str, Excerpt] = {}
    for batch in catalogue.batches([ITEM_ID, TITLE, DESCRIPTION, IMAGE], BATCH) if wanted else ():
        for item_id, title, text, photo in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if item_id in wanted:
                found[item_id] = Excerpt(title, None if text is None else text[:_EXCERPT], photo)
    return found
