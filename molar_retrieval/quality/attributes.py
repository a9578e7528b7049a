"""Attributes that say nothing, or say one thing in several ways."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.catalogue import Catalogue
from molar_retrieval.catalog.names import not_input_by_name
from molar_retrieval.catalog.values import doubles, is_list
from molar_retrieval.progress import Progress
from molar_retrieval.quality.findings import Finding, fault
from molar_retrieval.quality.items import Items

DISTINCT = 50_000
"""Distinct values from which a column's values are no longer counted one by one."""
EMPTY = 0.9
"""Share of items without a value from which a column counts as nearly empty."""
UNIQUE = 0.9
"""Share of distinct values from which a column counts as nearly unique."""
_ENOUGH = 30  # values that a judgement needs
RARE = 20
"""A spelling counts as a slip where another one of the same word has so many times as many items …"""
_LETTERS, _LONGEST = 5, 80  # of a word in which one may be wrong
_COMMON = 2_000  # words of which others may be slips
OUTLIER = 6.0
"""Robust standard deviations from the median from which a number counts as an outlier."""
PARSED = 0.9
"""Share of the values of a text column that must be numbers before the others count as wrong."""
_BATCH = 65_536
_POSITIVE, _GRADES = 0.98, 20
_NUMBER = re.compile(r"[+-]?\d{1,15}(?:[.,]\d+)?")
_NOTHING = {"null", "none", "nan", "n/a", "na", "nil", "-", "--", "?", "unknown", "undefined", "tbd", "#n/a"}


@dataclass
class _WordColumn:
    """What is known of one column so far."""

    values: int = 0
    rows: int = 0
    counts: Counter[str] | None = field(default_factory=Counter)


def check_attributes(catalogue: Catalogue, items: Items, progress: Progress) -> Iterator[Finding]:
    """What is wrong with the columns beside title, description and photo.

    Args:
        catalogue: Prepared.
        items: Of the catalogue.
        progress: Is told of each batch.
    """
    words = [name for name, kind in catalogue.fields.items() if kind in ("keyword", "bool")]
    numbers = [name for name, kind in catalogue.fields.items() if kind in ("integer", "float")]
    columns = {name: _WordColumn() for name in words}
    numeric: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in numbers}
    progress.start("reading attributes", len(catalogue))
    for batch in catalogue.batches([*words, *numbers], _BATCH) if words or numbers else ():
        for name in words:
            _count(columns[name], batch[name])
        for name in numbers:
            numeric[name].append(_numbers(batch[name]))
        progress.advance(len(batch))
    progress.finish()
    slips: dict[str, dict[str, Finding]] = {}
    for name, column in columns.items():
        yield from _column(name, column, catalogue, items)
        if found := _slips(name, column):
            slips[name] = found
    for name, parts in numeric.items():
        yield from _numeric(name, np.concatenate(parts) if parts else np.zeros(0), items)
    if slips:
        yield from _owners(catalogue, items, slips)


def _count(column: _WordColumn, array: pa.Array) -> None:
    column.rows += len(array)
    flat = pc.list_flatten(array) if is_list(array.type) else array.cast(pa.string())
    flat = flat.drop_null()
    column.values += len(array) - array.null_count
    if column.counts is not None:
        for entry in pc.value_counts(flat).to_pylist():
            column.counts[entry["values"]] += entry["counts"]
        if len(column.counts) > DISTINCT:
            column.counts = None


def _numbers(array: pa.Array) -> npt.NDArray[np.float64]:
    """A number for each item, NaN where there is none or several."""
    if is_list(array.type):
        return np.full(len(array), np.nan)
    return np.asarray(doubles(array).fill_null(np.nan), np.float64)


def _column(name: str, column: _WordColumn, catalogue: Catalogue, items: Items) -> Iterator[Finding]:
    def about(kind: str, detail: str) -> Finding:
        return fault(kind, detail, file=items.file, column=name)

    if column.rows < _ENOUGH:
        return
    if column.values <= (1 - EMPTY) * column.rows:
        yield about("attribute.empty", f"{column.values:,} of {column.rows:,} items have a value")
    elif column.counts is not None and len(column.counts) == 1:
        yield about("attribute.constant", f"always {_short(next(iter(column.counts)))}")
    distinct = DISTINCT if column.counts is None else len(column.counts)
    told = not_input_by_name(name) is not None and name not in catalogue.attributes
    if column.values >= _ENOUGH and distinct >= UNIQUE * column.values and not told:
        yield about("attribute.unique", f"{distinct:,} different values for {column.values:,} items")


def _slips(name: str, column: _WordColumn) -> dict[str, Finding]:
    """Values of a column that are wrong, each with a finding that lacks its item."""
    counts = column.counts
    if not counts:
        return {}
    found: dict[str, Finding] = {}
    if _are_numbers(counts):
        for value in counts:
            if not _NUMBER.fullmatch(value.strip()):
                found[value] = fault("attribute.wrong_type", f"{_short(value)} among numbers", column=name)
        return found
    for value in counts:
        if value.strip().casefold() in _NOTHING:
            found[value] = fault("attribute.filler", _short(value), column=name)
    for value, better in _variants({v: n for v, n in counts.items() if v not in found}).items():
        detail = f"{_short(value)} ({counts[value]:,}) beside {_short(better)} ({counts[better]:,})"
        found[value] = fault("attribute.spelling", detail, column=name, amount=float(counts[better]))
    return found


def _are_numbers(counts: Counter[str]) -> bool:
    total = counts.total()
    numbers = sum(n for value, n in counts.items() if _NUMBER.fullmatch(value.strip()))
    return total >= _ENOUGH and PARSED * total <= numbers < total


def _variants(counts: dict[str, int]) -> dict[str, str]:
    """The rarer spellings of a value, each with the commonest one.

    Spellings that differ in case, accents, blanks and punctuation only are the same; so are those that differ in a
    letter or two, if one is much rarer, they begin alike and neither has a digit (sizes and models differ in those).
    """
    found: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for value in counts:
        groups.setdefault(_folded(value), []).append(value)
    best: dict[str, str] = {}
    for key, spellings in groups.items():
        spellings.sort(key=lambda value: (-counts[value], value))
        best[key] = spellings[0]
        if key:
            found.update(dict.fromkeys(spellings[1:], spellings[0]))
    for rare, common in _typing_slips(best, counts):
        found[best[rare]] = best[common]
    return found


def _typing_slips(best: dict[str, str], counts: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Pairs of folded values of which the first is a slip of the second."""
    keys = [key for key in best if _LETTERS <= len(key) <= _LONGEST and not any(c.isdigit() for c in key)]
    common = sorted((k for k in keys if counts[best[k]] >= RARE), key=lambda k: -counts[best[k]])[:_COMMON]
    near: dict[str, list[int]] = {}
    for place, key in enumerate(common):
        for shorter in _shortened(key):
            near.setdefault(shorter, []).append(place)
    for rare in keys:
        for place in sorted({place for shorter in _shortened(rare) for place in near.get(shorter, ())}):
            key = common[place]
            if rare[0] == key[0] and counts[best[key]] >= RARE * counts[best[rare]] and _one_slip(rare, key):
                yield rare, key
                break


def _shortened(word: str) -> set[str]:
    """A word, and it without each of its letters: words of which one is a slip of the other have one of these alike."""
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


def _one_slip(left: str, right: str) -> bool:
    """Whether a letter was left out, added, exchanged, or two neighbours were swapped; plurals are no slips."""
    if abs(len(left) - len(right)) > 1:
        return False
    if len(left) == len(right):
        wrong = [i for i, (a, b) in enumerate(zip(left, right, strict=True)) if a != b]
        if len(wrong) == 2 and wrong[1] == wrong[0] + 1:
            return left[wrong[0]] == right[wrong[1]] and left[wrong[1]] == right[wrong[0]]
        return len(wrong) == 1
    short, long = sorted((left, right), key=len)
    if long == short + "s":
        return False
    return any(long[:i] + long[i + 1 :] == short for i in range(len(long)))


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
        yield fault("attribute.constant", f"always {numbers[0]:g}", file=items.file, column=name)
        return
    for place, apart in _outliers(numbers):
        detail = f"{numbers[place]:,g}; half of all lie between {np.percentile(numbers, 25):,g} and "
        detail += f"{np.percentile(numbers, 75):,g}"
        yield items.finding("attribute.outlier", int(present[place]), detail, float(apart), column=name)


def _outliers(numbers: npt.NDArray[np.float64]) -> Iterator[tuple[int, float]]:
    """Places of numbers far from the others, and how far in robust standard deviations.

    Of numbers above 0, as prices are, the logarithms are compared, and a few that are 0 or below are outliers; not so
    of grades and the like, which have few values.
    """
    positive = numbers > 0
    if positive.mean() > _POSITIVE and len(np.unique(numbers)) > _GRADES:
        for place in np.flatnonzero(~positive):
            yield int(place), float("inf")
        places, scale = np.flatnonzero(positive), np.log(numbers[positive])
    else:
        places, scale = np.arange(len(numbers)), numbers
    middle = np.median(scale)
    quarters = np.percentile(scale, [25, 75])
    with np.errstate(over="ignore"):
        spread = max(float(quarters[1] - quarters[0]) / 1.349, 1.4826 * float(np.median(np.abs(scale - middle))))
    if spread == 0 or not np.isfinite(spread):
        return
    apart = np.abs(scale - middle) / spread
    for place in np.flatnonzero(apart > OUTLIER):
        yield int(places[place]), float(apart[place])


def _owners(catalogue: Catalogue, items: Items, slips: dict[str, dict[str, Finding]]) -> Iterator[Finding]:
    """The findings about values, once for each item that has one."""
    row = 0
    for batch in catalogue.batches(list(slips), _BATCH):
        for name, found in slips.items():
            for place, value in _pairs(batch[name]):
                if (finding := found.get(value)) is not None:
                    yield items.finding(finding.kind.name, row + place, finding.detail, finding.amount, column=name)
        row += len(batch)


def _pairs(array: pa.Array) -> Iterator[tuple[int, str]]:
    if is_list(array.type):
        parents: Sequence[int] = pc.list_parent_indices(array).to_pylist()
        yield from zip(parents, pc.list_flatten(array).to_pylist(), strict=True)
    else:
        yield from enumerate(array.cast(pa.string()).to_pylist())


def _short(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:39] + "…")
