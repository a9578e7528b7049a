"""`molar check`: everything that can be said about a catalogue's data before money is spent on it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from molar_retrieval.catalog.catalogue import Catalogue
from molar_retrieval.catalog.prepare import KIND as CATALOGUE
from molar_retrieval.catalog.prepare import condition_of, prepare_catalogue
from molar_retrieval.catalog.read import BATCH, TEXT
from molar_retrieval.catalog.resolve import read_spec
from molar_retrieval.catalog.sources import find_file
from molar_retrieval.catalog.spec import CatalogueSpec
from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.config import MolarSettings
from molar_retrieval.embedding.forecast import EmbedForecast
from molar_retrieval.encoders.fusion import unit
from molar_retrieval.errors import DataError, MolarError
from molar_retrieval.pinned import Pinned, pin
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.quality import mismatch, photos, vectors
from molar_retrieval.quality.attributes import check_attributes
from molar_retrieval.quality.collector import Collector
from molar_retrieval.quality.findings import Finding
from molar_retrieval.quality.histogram import Histogram
from molar_retrieval.quality.items import Items, read_items, read_texts
from molar_retrieval.quality.log import LogSummary, check_log
from molar_retrieval.quality.measure import Measured, PhotoState
from molar_retrieval.quality.measured import measured, nothing
from molar_retrieval.quality.personal import IDS as PERSONAL_IDS
from molar_retrieval.quality.personal import check_personal
from molar_retrieval.quality.readiness import Content, Readiness, readiness
from molar_retrieval.quality.rejected import check_rejects
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
        fix_list: A Parquet file with a row for each finding, or None.
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

    Args:
        folder: The catalogue.
        workspace: Of this catalogue.
        settings: The encoder of the forecast.
        options: What is checked.
        progress: Is told how far it is.

    Raises:
        SettingsError: If ``catalog.toml`` has an unknown key.
        DataError: If there is no catalogue in the folder at all.
    """
    with pin(workspace, work="molar check") as inputs:
        return _CatalogueCheck(folder, inputs, settings, options, progress)()


class _CatalogueCheck:
    def __init__(
        self, folder: Path, workspace: Pinned, settings: MolarSettings, options: CheckOptions, progress: Progress
    ) -> None:
        self.folder = folder
        self.workspace = workspace
        self.settings = settings
        self.options = options
        self.progress = progress
        self.part = condition_of(workspace)
        self.seconds: dict[str, float] = {}
        self.left_out: list[str] = []
        self.histograms: list[Histogram] = []
        self.unusable: list[str] = []

    def __call__(self) -> CheckReport:
        with Collector(self.options.fix_list) as collector:
            prepared = self._prepared(collector)
            if prepared is None:
                return self._report(collector, None, None, None, None)
            catalogue, spec = prepared
            items = read_items(catalogue, spec, self.folder)
            with self._stage("texts"):
                texts = TextCheck(items, catalogue.language)
                collector.take(texts(read_texts(items, spec, self.folder, self.progress)))
            # After the texts, which tell the rows of the file.
            collector.take(check_rejects(catalogue, items))
            records = self._photos(items)
            with self._stage("photos"):
                collector.take(photos.check_photos(items, records) if self.options.photos else ())
            with self._stage("attributes"):
                collector.take(check_attributes(catalogue, items, self.progress))
            if self.options.deep and vectors.stored(self.workspace, catalogue) is None:
                with self._stage("embed"):
                    vectors.make(self.workspace, self.folder, self.settings.embed, self.progress)
            pairs = self._pairs(collector, catalogue, items, records)
            with self._stage("personal"):
                check_personal(self.folder, spec, collector, self.progress)
            log = self._log(collector, catalogue, spec)
            content = self._content(catalogue, items, records, collector)
            self._histograms(texts, records, log)
            ready = readiness(content, log, self._forecast())
        return self._report(collector, catalogue, ready, log, pairs)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + perf_counter() - started, 2)

    def _prepared(self, collector: Collector) -> tuple[Catalogue, CatalogueSpec] | None:
        """The prepared catalogue and what its columns mean, or None where it cannot be used at all."""
        find_file(self.folder, "items")  # a folder that is not there is no finding
        try:
            with self._stage("read"):
                spec = read_spec(self.folder)
                prepare_catalogue(self.folder, self.workspace, self.progress, where=self.part)
        except DataError as error:
            self.unusable.append(error.message)
            collector.add("catalogue.unusable", f"{error.message}; {error.hint}")
            return None
        self.workspace.take(CATALOGUE, self.workspace[CATALOGUE].require())
        return Catalogue(*self.workspace[CATALOGUE].require()), spec

    def _photos(self, items: Items) -> Measured:
        if not self.options.photos:
            self.left_out.append("photos were not decoded: leave out --no-photos")
            return nothing(len(items))
        with self._stage("photos"):
            return measured(self.folder, items.photos, self.workspace, self.progress, processes=self.options.processes)

    def _pairs(
        self, collector: Collector, catalogue: Catalogue, items: Items, records: Measured
    ) -> Mapping[str, object] | None:
        """What needs vectors: near duplicates by looks, and photos against words."""
        found = vectors.stored(self.workspace, catalogue)
        with self._stage("duplicates"):
            looks = None if found is None else unit(found.looks)
            collector.take(photos.check_shared(items, records, looks))
        if found is None:
            self.left_out.append(
                "photos were not compared with words, nor near duplicates looked for among vectors: add --deep, which "
                "embeds what is new, or run `molar embed` with the built-in encoder first"
            )
            return None
        with self._stage("pairs"):
            agreement = mismatch.agreement(found.images, found.texts)
            if agreement is None:
                self.left_out.append(
                    f"photos were not compared with words: fewer than {mismatch.FEWEST} items have both"
                )
                return None
            collector.take(mismatch.check_pairs(agreement, items))
        if not agreement.useful:
            self.left_out.append(
                "photos and words have too little in common, as far as the encoder sees, to tell which do not belong "
                f"together: own words fit better than another item's {agreement.beats:.0%} of the time"
            )
        return {**agreement.to_dict(), "encoder": found.encoder}

    def _log(self, collector: Collector, catalogue: Catalogue, spec: CatalogueSpec) -> LogSummary | None:
        with self._stage("log"):
            ids, part = catalogue.ids, self.part is not None
            summary = check_log(self.folder, spec, ids, collector, self.progress, part=part)
        self.unusable += [finding.detail for kind in _STOPS for finding in collector.examples(kind)]
        return summary

    def _content(self, catalogue: Catalogue, items: Items, records: Measured, collector: Collector) -> Content:
        usable = photos.usable_photos(items, records) if self.options.photos else items.has_photo
        lengths = np.zeros(len(catalogue), np.int64)
        row = 0
        for batch in catalogue.batches([TEXT], BATCH):
            for place, text in enumerate(batch[TEXT].to_pylist()):
                lengths[row + place] = len(text or "")
            row += len(batch)
        texts = lengths > 0
        readable = items.has_photo & (records["state"] == PhotoState.GOOD) if self.options.photos else items.has_photo
        empty = ~texts & ~readable
        collector.take(
            items.finding("item.empty", int(row), "neither words nor a photo") for row in np.flatnonzero(empty)
        )
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

    def _histograms(self, texts: TextCheck, records: Measured, log: LogSummary | None) -> None:
        written = "Characters of title and description"
        self.histograms.append(Histogram.of("text_length", written, texts.lengths, "characters"))
        good = records[records["state"] == PhotoState.GOOD]
        if len(good):
            pixels = np.sqrt(good["width"].astype(np.float64) * good["height"])
            area = "Size of photos: square root of the area"
            self.histograms.append(Histogram.of("image_size", area, pixels, "pixels", log=True))
        if log is not None:
            self.histograms += log.histograms

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

    def _report(
        self,
        collector: Collector,
        catalogue: Catalogue | None,
        ready: Readiness | None,
        log: LogSummary | None,
        pairs: Mapping[str, object] | None,
    ) -> CheckReport:
        shown = _masked if collector.counts[PERSONAL_IDS] else tuple[Finding, ...]
        found = tuple(
            Found(kind, collector.counts[kind.name], shown(collector.examples(kind.name))) for kind in collector.kinds()
        )
        return CheckReport(
            catalogue=self.folder.resolve().name,
            items=0 if catalogue is None else len(catalogue),
            unusable=tuple(self.unusable),
            found=found,
            readiness=ready,
            histograms=tuple(self.histograms),
            log=None if log is None else log.to_dict(),
            log_lines=() if log is None else tuple(log.lines()),
            pairs=pairs,
            left_out=tuple(self.left_out),
            excerpts={} if catalogue is None else _excerpts(catalogue, shown_items(found)),
            seconds=self.seconds,
        )


_STOPS = ("log.unreadable", "log.nothing_usable")
"""Kinds of fault of a log after which no command can read it."""


def _masked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings with user ids of which no more than the beginning is left: they are personal data themselves."""
    return tuple(
        finding if finding.user_id is None else replace(finding, user_id=f"{finding.user_id[:2]}…", others=())
        for finding in findings
    )


def _excerpts(catalogue: Catalogue, wanted: set[str]) -> dict[str, Excerpt]:
    found: dict[str, Excerpt] = {}
    for batch in catalogue.batches([ITEM_ID, TITLE, DESCRIPTION, IMAGE], BATCH) if wanted else ():
        for item_id, title, text, photo in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if item_id in wanted:
                found[item_id] = Excerpt(title, None if text is None else text[:_EXCERPT], photo)
    return found
