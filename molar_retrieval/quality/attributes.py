"""Attributes that say nothing, or say one thing in several ways."""

import re
import unicodedata
from collections.abc import Iterator
from functools import partial

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

DISTINCT = 50_000  # Distinct values of a column from which no slips are looked for among them
EMPTY = 0.9  # Share of items without a value from which a column counts as nearly empty
UNIQUE = 0.9  # Share of distinct values from which a column counts as nearly unique
_ENOUGH = 30  # values that a judgement needs
RARE = 20  # A spelling counts as a slip where another one of the same word has so many times as many items …
_LETTERS, _LONGEST = 5, 80  # of a word in which one may be wrong
_COMMON = 2_000  # words of which others may be slips
OUTLIER = 6.0  # Robust standard deviations from the median from which a number counts as an outlier
PARSED = 0.9  # Share of the values of a text column that must be numbers before the others count as wrong
_BATCH = 65_536
_KINDS = ("keyword", "bool", "integer", "float")
_POSITIVE, _GRADES = 0.98, 20
_NUMBER = re.compile(r"[+-]?\d{1,15}(?:[.,]\d+)?")
_NOTHING = {"null", "none", "nan", "n/a", "na", "nil", "-", "--", "?", "unknown", "undefined", "tbd", "#n/a"}


def check_attributes(catalogue: Catalogue, items: Items, progress: Progress) -> Iterator[Finding]:
    """What is wrong with the columns beside title, description and photo, one after the other.

    Not with those that say from when an item may be shown: that all are active and a few are sold out is as it should.
    """
    told = catalogue.availability.roles
    columns = {name: kind for name, kind in catalogue.fields.items() if kind in _KINDS and name not in told}
    progress.start("reading attributes", len(columns))
    for name, parts in catalogue.columns(columns, _BATCH):
        kind = columns[name]
        if parts and kind in ("keyword", "bool"):
            yield from _words(name, pa.chunked_array(parts).combine_chunks(), catalogue, items)
        elif parts and not is_list(parts[0].type):
            numbers = [np.asarray(doubles(part).fill_null(np.nan), np.float64) for part in parts]
            yield from _numeric(name, np.concatenate(numbers), items)
        progress.advance(1)
    progress.finish()


def _words(name: str, column: pa.Array, catalogue: Catalogue, items: Items) -> Iterator[Finding]:
    several = is_list(column.type)
    values = pc.list_flatten(column) if several else column.cast(pa.string())
    owners = np.asarray(pc.list_parent_indices(column)) if several else np.arange(len(column))
    counted = pc.value_counts(values.drop_null())
    filled, rows = len(column) - column.null_count, len(column)
    about = partial(fault, file=items.file, column=name)
    if rows >= _ENOUGH and filled <= (1 - EMPTY) * rows:
        yield about("attribute.empty", f"{filled:,} of {rows:,} items have a value")
    elif rows >= _ENOUGH and len(counted) == 1:
        yield about("attribute.constant", f"always {_short(counted[0]['values'].as_py())}")
    told = not_input_by_name(name) is not None and name not in catalogue.attributes
    if filled >= _ENOUGH and len(counted) >= UNIQUE * filled and not told:
        yield about("attribute.unique", f"{len(counted):,} different values for {filled:,} items")
    if len(counted) > DISTINCT:
        return
    slips = slips_of({entry["values"]: entry["counts"] for entry in counted.to_pylist()})
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
    for value, better in _variants({v: n for v, n in counts.items() if v not in found}).items():
        detail = f"{_short(value)} ({counts[value]:,}) beside {_short(better)} ({counts[better]:,})"
        found[value] = ("attribute.spelling", detail, float(counts[better]))
    return found


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
    return long != short + "s" and any(long[:i] + long[i + 1 :] == short for i in range(len(long)))


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


def _short(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:39] + "…")
