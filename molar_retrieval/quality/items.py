"""The items of a catalogue as a check sees them: what was set aside at preparation, and attributes.

Which row of the file an item is, and what was wrong with its texts, can only be seen in the file.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.columns import IMAGE, ITEM_ID
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.column_names import exclusion_reason
from molar_retrieval.data.prepare import BATCH
from molar_retrieval.data.rows import FILE_NAME as REJECTS
from molar_retrieval.data.schema import CatalogueSchema, items_source
from molar_retrieval.data.values import as_phrase, as_strings, doubles, is_list
from molar_retrieval.ids import IdMap
from molar_retrieval.progress import Progress
from molar_retrieval.quality.findings import Finding, finding

LOOKED_AT = 20_000  # Characters of a text that are looked at: what comes after them no encoder reads
_PHOTO_REJECT = "photo not usable"
_BY_REASON = {
    "missing id": "item.no_id",
    "duplicate id": "item.same_id",
    "not a finite number, left empty": "attribute.not_finite",
}
_PHOTOS = {
    "there is no such file": "photo.missing",
    "URL": "photo.outside",
    "leaves the catalogue": "photo.outside",
    "out of the catalogue": "photo.outside",
    "not relative to the catalogue": "photo.outside",
    "larger than": "photo.too_large",
}

DISTINCT = 50_000  # Distinct values of a column from which no slips are looked for among them
EMPTY = 0.9  # Share of items without a value from which a column counts as nearly empty
UNIQUE = 0.9  # Share of distinct values from which a column counts as nearly unique
_ENOUGH = 30  # values that a judgement needs
RARE = 20  # A spelling counts as a slip where another one of the same word has so many times as many items …
_LETTERS, _LONGEST = 5, 80  # of a word in which one may be wrong
_COMMON = 2_000  # words of which others may be slips
OUTLIER = 6.0  # Robust standard deviations from the median from which a number counts as an outlier
PARSED = 0.9  # Share of the values of a text column that must be numbers before the others count as wrong
_KINDS = ("keyword", "bool", "integer", "float")
_POSITIVE, _GRADES = 0.98, 20
_NUMBER = re.compile(r"[+-]?\d{1,15}(?:[.,]\d+)?")
_NOTHING = {"null", "none", "nan", "n/a", "na", "nil", "-", "--", "?", "unknown", "undefined", "tbd", "#n/a"}

Rows = npt.NDArray[np.int64]
Texts = list[str | None]


@dataclass(frozen=True)
class Items:
    """What findings about items need, in the order of the prepared catalogue; some 200 bytes of memory for each.

    ``numbers`` are rows of ``file``, from 1, or 0 where not known; ``photos`` are paths in the catalogue's folder;
    ``titles`` are hashes (uint64), 0 for none; ``bad_photo``: the photo was rejected before it was looked at.
    """

    ids: IdMap
    file: str
    numbers: npt.NDArray[np.int64]
    photos: list[str | None]
    titles: npt.NDArray[np.uint64]
    bad_photo: npt.NDArray[np.bool_]
    title_column: str | None
    description_column: str | None
    photo_column: str | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_photo(self) -> npt.NDArray[np.bool_]:
        """Which items have a photo that is there."""
        return np.array([photo is not None for photo in self.photos], bool)

    def finding(
        self,
        kind: str,
        row: int,
        detail: str,
        amount: float = 0.0,
        *,
        column: str | None = None,
        photo: bool = False,
        others: tuple[str, ...] = (),
    ) -> Finding:
        """A finding about the item of a row; with ``photo`` it is about the column of photos."""
        where = {"item_id": self.ids.id(row), "file": self.file, "row": int(self.numbers[row]) or None}
        column = self.photo_column if photo else column
        return finding(kind, detail, **where, column=column, others=others, amount=amount)


def read_items(catalogue: Catalogue, spec: CatalogueSchema, folder: Path) -> Items:
    """Read what findings need, without the texts, of a catalogue prepared from ``folder`` as it is."""
    photos: list[str | None] = []
    for batch in catalogue.batches([IMAGE], BATCH):
        photos += batch[IMAGE].to_pylist()
    bad = np.zeros(len(catalogue), bool)
    refused = [reject[ITEM_ID] for reject in _rejects(catalogue) if reject["reason"].startswith(_PHOTO_REJECT)]
    rows = catalogue.ids.rows([item_id for item_id in refused if item_id is not None])
    bad[rows[rows >= 0]] = True
    n = len(catalogue)
    return Items(
        ids=catalogue.ids,
        file=items_source(folder).path.name,
        numbers=np.zeros(n, np.int64),
        photos=photos,
        titles=np.zeros(n, np.uint64),
        bad_photo=bad,
        title_column=spec.items.title,
        description_column=spec.items.description,
        photo_column=spec.items.image,
    )


def read_texts(
    items: Items, spec: CatalogueSchema, folder: Path, progress: Progress
) -> Iterator[tuple[Rows, Texts, Texts]]:
    """Rows, titles and descriptions of all items, as the file has them.

    Fills in the items' row numbers and the hashes of titles. What the prepared catalogue left out is left out here.
    """
    source, named = items_source(folder), spec.items
    columns = list(dict.fromkeys(c for c in (named.item_id, named.title, named.description) if c is not None))
    taken = np.zeros(len(items), bool)
    progress.start("reading texts", source.total)
    for batch in source.batches(columns, BATCH, as_strings={named.item_id}):
        rows = items.ids.rows(as_strings(batch.batch[named.item_id])).astype(np.int64)
        new = np.zeros(len(rows), bool)
        new[np.unique(rows, return_index=True)[1]] = True
        kept = batch.where(new & (rows >= 0) & ~taken[rows])
        rows = rows[np.isin(batch.numbers, kept.numbers)]
        taken[rows] = True
        none: Texts = [None] * len(rows)
        titles, descriptions = (
            none if column is None else list(words_of(kept.batch[column]).to_pylist())
            for column in (named.title, named.description)
        )
        items.numbers[rows] = kept.numbers
        items.titles[rows] = [text_hash(title) for title in titles]
        yield rows, titles, descriptions
        progress.advance(len(batch.numbers))
    progress.finish()


def text_hash(text: str | None) -> int:
    """A number for a text, whatever its case and white space; 0 where there is none."""
    if text is None or not (folded := " ".join(text.casefold().split())):
        return 0
    return int.from_bytes(blake2b(folded.encode("utf-8", "replace"), digest_size=8).digest(), "little") or 1


def equal_groups(values: npt.NDArray[Any]) -> list[Rows]:
    """Rows with equal values (0 or empty for none): groups of two or more, ordered by first row."""
    rows = np.flatnonzero(values != values.dtype.type())
    _, group, sizes = np.unique(values[rows], return_inverse=True, return_counts=True)
    parts = np.split(rows[np.argsort(group, kind="stable")], np.cumsum(sizes)[:-1])
    return sorted((part for part in parts if len(part) > 1), key=lambda part: int(part[0]))


def _rejects(catalogue: Catalogue) -> list[dict[str, Any]]:
    """What was set aside at preparation: ``file``, ``row``, item and ``reason``."""
    found: list[dict[str, Any]] = pq.read_table(catalogue.version / REJECTS).to_pylist()
    return found


def check_rejects(catalogue: Catalogue, items: Items) -> Iterator[Finding]:
    """Rows that were left out, and photos that were refused by path or header."""
    for reject in _rejects(catalogue):
        where = {name: reject[name] for name in (ITEM_ID, "file", "row")}
        kind, _, detail = reject["reason"].partition(": ")
        if kind == _PHOTO_REJECT:
            found = next((name for words, name in _PHOTOS.items() if words in detail), "photo.unreadable")
            yield finding(found, detail, **where, column=items.photo_column)
        else:
            column = detail.partition(" is ")[0] if kind.startswith("not a finite") else None
            yield finding(_BY_REASON.get(kind, "catalogue.row"), reject["reason"], **where, column=column)


def words_of(array: pa.Array) -> pa.Array:
    """Values as strings, as they are written; the elements of a list joined by commas."""
    return as_phrase(array) if is_list(array.type) else as_strings(array)


def check_attributes(catalogue: Catalogue, items: Items, progress: Progress) -> Iterator[Finding]:
    """What is wrong with the columns beside title, description and photo, one after the other.

    Not with those that say from when an item may be shown: that all are active and a few are sold out is as it should.
    """
    told = catalogue.availability.roles
    columns = {name: kind for name, kind in catalogue.fields.items() if kind in _KINDS and name not in told}
    progress.start("reading attributes", len(columns))
    for name, parts in catalogue.columns(columns, BATCH):
        kind = columns[name]
        if parts and kind in ("keyword", "bool"):
            yield from _words(name, pa.chunked_array(parts).combine_chunks(), catalogue, items)
        elif parts and not is_list(parts[0].type):
            numbers = [np.asarray(doubles(part).fill_null(np.nan), np.float64) for part in parts]
            yield from _numeric(name, np.concatenate(numbers), items)
        progress.advance(1)
    progress.finish()


def _words(name: str, column: pa.Array, catalogue: Catalogue, items: Items) -> Iterator[Finding]:
    several, rows, filled = is_list(column.type), len(column), len(column) - column.null_count
    values = pc.list_flatten(column) if several else column.cast(pa.string())
    owners = np.asarray(pc.list_parent_indices(column)) if several else np.arange(rows)
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(values.drop_null()).to_pylist()}
    told = exclusion_reason(name) is not None and name not in catalogue.attributes
    for kind, faulty, detail in (
        ("attribute.empty", filled <= (1 - EMPTY) * rows, f"{filled:,} of {rows:,} items have a value"),
        ("attribute.constant", len(counts) == 1, f"always {_short(next(iter(counts), ''))}"),
        (
            "attribute.unique",
            filled >= _ENOUGH and len(counts) >= UNIQUE * filled and not told,
            f"{len(counts):,} different values for {filled:,} items",
        ),
    ):
        if rows >= _ENOUGH and faulty:
            yield finding(kind, detail, file=items.file, column=name)
            break
    slips = slips_of(counts) if len(counts) <= DISTINCT else {}
    for place in np.flatnonzero(np.asarray(pc.is_in(values, pa.array(list(slips), pa.string())))).tolist():
        kind, detail, amount = slips[values[place].as_py()]
        yield items.finding(kind, int(owners[place]), detail, amount, column=name)


def slips_of(counts: dict[str, int]) -> dict[str, tuple[str, str, float]]:
    """Of each wrong value of a column (counted by items): the kind of fault, what is seen, and how bad it is."""
    wrong, total = [value for value in counts if not _NUMBER.fullmatch(value.strip())], sum(counts.values())
    numbers = total - sum(counts[value] for value in wrong)
    if total >= _ENOUGH and PARSED * total <= numbers < total:
        return {value: ("attribute.wrong_type", f"{_short(value)} among numbers", 0.0) for value in wrong}
    fillers = [value for value in counts if value.strip().casefold() in _NOTHING]
    found = {value: ("attribute.filler", _short(value), 0.0) for value in fillers}
    for value, better in _spellings({v: n for v, n in counts.items() if v not in found}).items():
        detail = f"{_short(value)} ({counts[value]:,}) beside {_short(better)} ({counts[better]:,})"
        found[value] = ("attribute.spelling", detail, float(counts[better]))
    return found


def _spellings(counts: dict[str, int]) -> dict[str, str]:
    """The rarer spellings of a value, each with the commonest one.

    Spellings that differ in case, accents, blanks and punctuation only are the same; so are those that differ in a
    letter or two, if one is much rarer, they begin alike and neither has a digit (sizes and models differ in those).
    Plurals are words of their own.
    """
    found: dict[str, str] = {}
    best: dict[str, str] = {}
    for value in sorted(counts, key=lambda value: (-counts[value], value)):
        first = best.setdefault(_folded(value), value)
        if first != value and _folded(value):
            found[value] = first
    words = [key for key in best if _LETTERS <= len(key) <= _LONGEST and not any(c.isdigit() for c in key)]
    near: dict[str, list[str]] = {}
    for common in [word for word in words if counts[best[word]] >= RARE][:_COMMON]:
        for shorter in _shortened(common):
            near.setdefault(shorter, []).append(common)
    for rare in words:
        for common in (common for shorter in _shortened(rare) for common in near.get(shorter, ())):
            plural = common in (rare + "s", rare.removesuffix("s"))
            if rare[0] == common[0] and counts[best[common]] >= RARE * counts[best[rare]] and not plural:
                found[best[rare]] = best[common]
    return found


def _shortened(word: str) -> set[str]:
    """A word, and it without each of its letters: words of which one is a slip of the other have one of these alike."""
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


def _folded(value: str) -> str:
    plain = unicodedata.normalize("NFKD", value.casefold())
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    return "".join(c for c in letters if c.isalnum() or c in "+%/&")


def _numeric(name: str, values: npt.NDArray[np.float64], items: Items) -> Iterator[Finding]:
    present = np.flatnonzero(np.isfinite(values))
    if len(present) < _ENOUGH:
        return
    numbers = values[present]
    if numbers.min() == numbers.max():
        yield finding("attribute.constant", f"always {numbers[0]:g}", file=items.file, column=name)
        return
    low, high = np.percentile(numbers, [25, 75])
    apart = deviations(numbers)
    for place in np.flatnonzero(apart > OUTLIER):
        detail = f"{numbers[place]:,g}; half of all lie between {low:,g} and {high:,g}"
        yield items.finding("attribute.outlier", int(present[place]), detail, float(apart[place]), column=name)


def deviations(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far numbers are from their median, in robust standard deviations.

    Of numbers above 0, as prices are, the logarithms are compared, and a few that are 0 or below are infinitely far;
    not so of grades and the like, which have few values.
    """
    positive = numbers > 0
    if positive.mean() <= _POSITIVE or len(np.unique(numbers)) <= _GRADES:
        positive = np.ones(len(numbers), bool)
        scale = numbers
    else:
        scale = np.log(numbers[positive])
    apart = np.full(len(numbers), np.inf)
    with np.errstate(all="ignore"):
        from_middle = np.abs(scale - np.median(scale))
        low, high = np.percentile(scale, [25, 75])
        apart[positive] = from_middle / max((high - low) / 1.349, 1.4826 * np.median(from_middle))
    apart[positive & ~np.isfinite(apart)] = 0
    return apart


def _short(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:39] + "…")
