"""`molar check`: everything that can be said about a catalogue's data before money is spent on it."""

from collections.abc import Mapping
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
from molar_retrieval.embedding.run import digests_of
from molar_retrieval.encoders import registry
from molar_retrieval.encoders.base import language_note
from molar_retrieval.errors import DataError
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.quality import photo_text
from molar_retrieval.quality import photos as of_photos
from molar_retrieval.quality.findings import FindingCollector, Found, Severity
from molar_retrieval.quality.interactions import LogSummary, check_log
from molar_retrieval.quality.items import Items, check_attributes, check_rejects, read_items, read_texts
from molar_retrieval.quality.personal_data import check_personal_data
from molar_retrieval.quality.texts import check_texts
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
class CheckReport:
    """The outcome of a check.

    Attributes:
        catalogue: Name of its folder.
        items: How many there are.
        unusable: Why other commands cannot work with it; empty: they can.
        found: By kind, worst severity first.
        content: What the items bring along; None: nothing could be read.
        outlook: What can be expected, in sentences.
        log: What the log is like; None: there is none.
        pairs: How well photos and words go together, as plain data; None: not checked.
        left_out: What was not checked, and how it would be.
        excerpts: The items among the examples.
    """

    catalogue: str
    items: int = 0
    unusable: tuple[str, ...] = ()
    found: tuple[Found, ...] = ()
    content: Content | None = None
    outlook: tuple[str, ...] = ()
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
            "readiness": None if self.content is None else asdict(self.content) | {"sentences": list(self.outlook)},
            "log": None if self.log is None else asdict(self.log),
            "pairs": self.pairs,
            "left_out": list(self.left_out),
        }


def check(
    folder: Path,
    workspace: Workspace,
    settings: MolarSettings,
    *,
    photos: bool = True,
    with_embeddings: bool = False,
    fix_list: Path | None = None,
    processes: int | None = None,
    progress: Progress = SILENT,
) -> CheckReport:
    """Check a catalogue and its log.

    The workspace gets the prepared catalogue, as `molar embed` would make it, and what was measured of photos, so that
    the next check looks at what has changed.

    Without ``photos`` only their paths and headers are looked at. ``with_embeddings`` embeds what has no vectors yet,
    so that photos can be compared with words. ``fix_list`` is a .parquet, .csv or .jsonl file that gets a row for each
    finding. Photos are measured by ``processes``; None: as many as there are cores.

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
        if settings.embed.model in registry.NAMED:  # another model is not hashed for its languages alone
            info = registry.describe(settings.embed, digests_of(inputs))
            if (note := language_note(info, catalogue.language, folder)) is not None:
                progress.note(note)
                found.add("catalogue.language", note)
        items = read_items(catalogue, spec, folder)
        found.take(check_texts(items, read_texts(items, spec, folder, progress), catalogue.language))
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
        by_kind = found.found()
        return CheckReport(
            catalogue=name,
            items=len(catalogue),
            unusable=tuple(unusable),
            found=by_kind,
            content=content,
            outlook=outlook(content, log, pairs),
            log=log,
            pairs=pairs,
            left_out=tuple(left_out),
            excerpts=_excerpts(catalogue, by_kind),
        )


def _check_pairs(
    workspace: PinnedWorkspace, catalogue: Catalogue, items: Items, found: FindingCollector, left_out: list[str]
) -> Mapping[str, object] | None:
    """Photos against words, where there are vectors of both."""
    vectors = photo_text.stored_vectors(workspace, catalogue)
    agreement = None if vectors is None else photo_text.agreement(vectors.images, vectors.texts)
    if vectors is None or agreement is None:
        few = f"fewer than {photo_text.FEWEST} items have both"
        why = "add --with-embeddings, or run `molar embed` with the built-in encoder first" if vectors is None else few
        left_out.append(f"photos were not compared with words: {why}")
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
    lengths = [pc.utf8_length(batch[TEXT]).fill_null(0) for batch in catalogue.batches([TEXT], BATCH)]
    texts = np.concatenate([np.zeros(0, np.int64), *map(np.asarray, lengths)]) > 0
    empty = np.flatnonzero(~texts & ~readable).tolist()
    found.take(items.finding("item.empty", row, "neither words nor a photo") for row in empty)
    return Content(len(catalogue), int(usable.sum()), int(texts.sum()), int((texts & usable).sum()), len(empty))


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


def outlook(content: Content, log: LogSummary | None, pairs: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """What can be expected, in sentences; ``log`` is None where there is none."""
    n = max(content.items, 1)
    said = [
        f"{content.photos:,} of {content.items:,} items ({content.photos / n:.0%}) have a usable photo, "
        f"{content.texts:,} ({content.texts / n:.0%}) have words; {content.texts - content.both:,} are known by their "
        f"words alone; {content.photos - content.both:,} by their photo alone; of {content.nothing:,} nothing can be "
        "embedded."
    ]
    if log is None or not log.interactions:
        said.append(
            "There is no log of interactions: items can be found by likeness, words and photos (`molar query "
            "--similar-to`, `--text`, `--image`), but nobody gets recommendations of their own."
        )
    else:
        many = log.users_with_two >= ENOUGH_USERS and log.items_with_five >= ITEMS_KNOWN * max(log.items, 1)
        fit = "too small" if log.users_with_two < FEW_USERS else "large enough" if many else "thin"
        said.append(
            f"The log is {fit} for collaborative filtering: {log.users_with_two:,} users with two interactions or more,"
            f" {log.items_with_five:,} items with five or more. Content carries what the log does not."
        )
        unordered = log.ties - log.ties_placed
        little = log.users_with_five < FEW_USERS or unordered > UNORDERED
        fit = "has little to learn" if little else "may help" if log.users_with_five < SEQUENCES else "has enough"
        said.append(
            f"A sequence model {fit}: {log.users_with_five:,} users with five interactions or more; {unordered:.0%} of "
            "the steps from one interaction of a user to the next have no order."
        )
        if log.cold_items:
            share = log.cold_items / n
            said.append(f"{log.cold_items:,} items ({share:.0%}) have no interaction and depend on content alone.")
    if pairs is not None:
        said.append(
            f"An item's own words fit its photo better than another item's words {pairs['own_words_fit_better']:.0%} of"
            f" the time ({pairs['encoder']}, learned on this catalogue); about {pairs['expected_wrong']:.1%} of the "
            "pairs may be wrong."
        )
    return tuple(said)
