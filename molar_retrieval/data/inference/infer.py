"""From somebody's tables to what `catalog.toml` says of them, and what is not understood of them."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data import availability
from molar_retrieval.data.images import EXTENSIONS
from molar_retrieval.data.inference import columns
from molar_retrieval.data.inference.columns import (
    NONE,
    ROLES,
    Candidate,
    Overrides,
    contained,
    language_of_names,
    name_score,
    says,
    unclear,
)
from molar_retrieval.data.inference.dialect import MOSTLY, SampledColumn, SampledTable, sampled
from molar_retrieval.data.languages import common_language
from molar_retrieval.data.schema import FILE_NAME, FORMATS, CatalogueConfig, Stem, open_source
from molar_retrieval.data.values import BESIDE_COMMAS, sign_tells
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.workspace.config_files import toml_value
from molar_retrieval.workspace.settings import validated

ZONES = {
    "cs": "Europe/Prague", "da": "Europe/Copenhagen", "de": "Europe/Berlin", "el": "Europe/Athens",
    "fi": "Europe/Helsinki", "fr": "Europe/Paris", "hu": "Europe/Budapest", "it": "Europe/Rome", "ja": "Asia/Tokyo",
    "ko": "Asia/Seoul", "nl": "Europe/Amsterdam", "no": "Europe/Oslo", "pl": "Europe/Warsaw", "sv": "Europe/Stockholm",
    "th": "Asia/Bangkok", "tr": "Europe/Istanbul", "vi": "Asia/Ho_Chi_Minh",
}  # fmt: skip
"""Zones of the languages that are spoken on one clock, nearly."""
_POINTS = ("en", "ja", "zh", "ko", "th", "he")  # languages with decimal points; all others have commas
_THOUSANDS = r"^[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+$"
_PLAIN = r"^[+-]?[0-9]+$"
_ENOUGH = 3  # numbers with three digits after a point, and none with another number of them, that tell thousands
_LOOKED_AT, _MOST_FOLDERS, _FOUND = 200, 200, 0.3  # photos that are looked for, folders, and share that must be there
_SEPARATED = 0.2  # share of the values that must be several, between bars


STEMS: tuple[Stem, ...] = ("items", "interactions", "users")
_LEAD = 0.4  # by how much the best reading of all files must be ahead of the next one
_NAMES: Mapping[Stem, Mapping[str, float]] = {
    "items": dict.fromkeys(("item_id", "title", "description"), 1)
    | dict.fromkeys(("image", "other", "stock"), 0.5)
    | dict.fromkeys(("user_id", "order"), -1),
    "interactions": {"item_id": 0.5, "user_id": 1, "timestamp": 1, "order": 0.7, "quantity": 0.5, "description": -0.5},
    "users": {"user_id": 1, "item_id": -1, "quantity": -0.5, "title": -0.3, "order": -0.7},
}
"""What a table is likely, or not, to have a column for."""
_ASKED, _VALUES = 8, 2_000  # columns to choose from; values of one
_MOSTLY = 0.9  # of a column's values, where some are missing or mistaken
_KINDS = 50  # of events at most; a column of more is none
_DELIMITERS = {";": "semicolons", ",": "commas", "\t": "tabs", "|": "bars"}
_HEAD = "# What the tables mean: proposed by `molar init`, to be changed by hand; docs/catalogue.md lists all keys.\n"


@dataclass(frozen=True)
class ReadTable:
    """One table as it is read: ``rows`` were looked at, and are all where it is ``whole``; ``columns`` by role."""

    stem: Stem
    path: Path
    form: str
    rows: int
    whole: bool
    columns: Mapping[str, Candidate]
    unused: tuple[str, ...]


@dataclass(frozen=True)
class VariantCounts:
    """How many products and variants there are, and how many products have no title."""

    products: int
    variants: int
    untitled: int


@dataclass(frozen=True)
class InferredSchema:
    """What the tables mean.

    Attributes:
        folder: Where ``catalog.toml`` goes: the lowest folder with all tables below it.
        sections: What it says, by section and key.
        tables: Each table as it is read.
        findings: What is not understood, or not as it may be meant.
        language: Of the texts; None where they do not say one.
        settings: The sections as reading takes them.
        variants: Products and variants of the rows that were looked at; None where no product has variants.
    """

    folder: Path
    sections: Mapping[str, Mapping[str, Any]]
    tables: tuple[ReadTable, ...]
    findings: tuple[str, ...]
    language: str | None
    settings: CatalogueConfig
    variants: VariantCounts | None = None


def infer(files: Sequence[Path], named: Mapping[Stem, Path], said: Overrides) -> InferredSchema:
    """Read some tables and say what they mean.

    Args:
        files: One to three tables in any order, or a folder with them; those of ``named`` may be among them.
        named: Tables of which somebody said which they are.
        said: What else was said.

    Raises:
        DataError: If a table cannot be read, or has not what it needs.
        SettingsError: If what was said does not fit the tables, or something has to be said.
    """
    paths = tables_of([*files, *(path for path in named.values() if path not in files)])
    common = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    if len(common.parts) < 2:
        listed = " and ".join(str(path) for path in paths)
        hint = "put the tables, or links to them, into one folder or into folders of one"
        raise SettingsError(f"{listed} lie below no folder of their own, where {FILE_NAME} could stand", hint)
    folder = next((parent for parent in paths[0].parents if parent.absolute() == common), common)
    return SchemaInference(folder, assign_tables([sampled(path) for path in paths], named), said).schema()


def tables_of(named: Sequence[Path]) -> list[Path]:
    """The files that are meant: those named, and of a folder the tables in it; a SettingsError if they are too many."""
    found: list[Path] = []
    for path in named:
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in FORMATS) if path.is_dir() else [path]
        found += [file for file in inside if file not in found]
    if not found:
        raise SettingsError("no table was named", "name them: `molar init orders.csv products.csv`")
    if len(found) > len(STEMS):
        listed = ", ".join(path.name for path in found[:6])
        hint = "name one file with the items, one with the purchases and, if you have it, one with the users"
        raise SettingsError(f"these are {len(found)} tables: {listed}", hint)
    return found


def assign_tables(tables: Sequence[SampledTable], said: Mapping[Stem, Path]) -> dict[Stem, SampledTable]:
    """Which table is which, by their columns and what was said; a SettingsError where they do not tell."""
    fixed = {stem: next(table for table in tables if table.path == path) for stem, path in said.items()}
    left = [table for table in tables if table.path not in said.values()]
    readings: list[tuple[float, dict[Stem, SampledTable]]] = []
    for free in permutations([stem for stem in STEMS if stem not in fixed], len(left)):
        reading = fixed | dict(zip(free, left, strict=True))
        if "items" in reading and (len(tables) == 1 or "interactions" in reading):
            readings.append((_score(reading), reading))
    if not readings:
        raise SettingsError("the tables that were named leave none for the items", "name it: --items FILE")
    best, reading = max(readings, key=lambda one: one[0])
    rest = [score for score, other in readings if other["items"] is not reading["items"]]
    if len(tables) == 1 and "items" not in said and _score({"interactions": tables[0]}) > best:
        words = f"{tables[0].path.name} looks like a log of purchases, and nothing tells what its items are"
        hint = "name the file with the items, too; if this is it: --items " + str(tables[0].path)
        raise SettingsError(words, hint)
    if rest and best - max(rest) < _LEAD:
        raise unclear("Which file has the items, one a row?", [str(table.path) for table in tables], "--items {}")
    return reading


def _score(reading: Mapping[Stem, SampledTable]) -> float:
    """How much the tables look like what they are taken for, and how well they fit together."""
    score = 0.0
    for stem, table in reading.items():
        for role, weight in _NAMES[stem].items():
            score += weight * max(name_score(name, role) for name in table.names)
        timed = bool(columns.timestamps(table, ()))
        if stem == "items":
            longest = max((column.length for column in table.columns if column.words > 0.5), default=0.0)
            score += 0.5 * (longest > 30) - 0.5 * timed
        elif stem == "interactions":
            score += 1.0 if timed else -0.5
    items, log, users = (reading.get(stem) for stem in STEMS)
    if items is not None and log is not None and (pairs := columns.item_pairs(items, log)):
        score += pairs[0][0].score + pairs[0][1].score
    if users is not None and log is not None:
        keys = [key for key in users.columns if key.unique > 0.9]
        own = [column for column in log.columns if column.times is None]
        joined = [contained(one, key) + name_score(one.name, "user_id") for one in own for key in keys]
        score += max(joined, default=0.0)
    return score


class SchemaInference:
    """What is found out of all tables, one step after the other; each leaves out the columns of those before it."""

    def __init__(self, folder: Path, tables: Mapping[Stem, SampledTable], said: Overrides) -> None:
        self._folder, self._tables, self._said = folder, tables, said
        self._items, self._log = tables["items"], tables.get("interactions")
        self._meant: dict[Stem, dict[str, Candidate]] = {stem: {} for stem in tables}
        self._more: dict[Stem, dict[str, Any]] = {stem: {} for stem in tables}  # settings that name no column
        self._findings: list[str] = []

    def schema(self) -> InferredSchema:
        """Take all steps."""
        for table in self._tables.values():
            if table.rejects.total:
                which = f"of {table.path.name}" if table.whole else f"among the first of {table.path.name}"
                words = f"{table.rejects.total:,} rows {which} cannot be read and are left out"
                self._findings.append(f"{words} ({next(iter(table.rejects.first.values()))})")
        self._item_ids()
        self._variants()
        for role in ("title", "description"):
            self._choose("items", role, columns.texts(self._items, role, self._taken("items")))
        for role in availability.ROLES:
            self._by_name("items", role, partial(_says, role))
        language, by_names = self._language()
        self._photos()
        self._numbers(language)
        if self._log is not None:
            self._events(self._log, language)
        if "users" in self._tables:
            user = self._chosen("interactions", "user_id")
            found = columns.keys(self._tables["users"], "user_id", user)
            self._choose("users", "user_id", found, needed=True)
        read, sections = [], dict[str, dict[str, Any]]()
        for stem in STEMS:
            if stem in self._tables:
                table = self._tables[stem]
                sections[stem] = self._section(stem, table)
                form = [table.source.form]
                if table.source.untyped:
                    form += [table.encoding, _DELIMITERS[table.delimiter or ","]]
                unused = tuple(name for name in table.names if name not in self._taken(stem))
                told = stem, table.path, ", ".join(form), table.rows, table.whole
                read.append(ReadTable(*told, self._meant[stem], unused))
        if by_names or self._said.language is not None:
            sections["text"] = {"language": language}
        settings = validated(CatalogueConfig, sections, "the proposal")
        findings = tuple(self._findings)
        return InferredSchema(self._folder, sections, tuple(read), findings, language, settings, self._counts())

    def _taken(self, stem: Stem) -> list[str]:
        return [one.name for one in self._meant[stem].values()]

    def _chosen(self, stem: Stem, role: str) -> SampledColumn | None:
        one = self._meant.get(stem, {}).get(role)
        return None if one is None else self._tables[stem][one.name]

    def _named(self, stem: Stem, role: str) -> str | None:
        table = self._tables[stem]
        return self._said.column(stem, role, table.names, table.path.name)

    def _by_name(self, stem: Stem, role: str, fits: Callable[[SampledColumn], bool]) -> list[Candidate]:
        """Take the best column that is called as a role and holds what fits it; all such columns."""
        found = columns.named(self._tables[stem], role, self._taken(stem), fits)
        self._choose(stem, role, found)
        return found

    def _choose(self, stem: Stem, role: str, found: list[Candidate], *, needed: bool = False) -> None:
        """Take what was said, else the best candidate; a SettingsError where one is needed and none is clear."""
        table, named = self._tables[stem], self._named(stem, role)
        if named:
            self._meant[stem][role] = _as_said(named)
        elif named == NONE and needed:
            raise SettingsError(f"{table.path.name} cannot do without {role}", f"name its column: --column {role}=…")
        elif named == NONE:
            self._more[stem][role] = NONE
        elif needed and not columns.clear(found):
            names = [one.name for one in found] or [name for name in table.names if name not in self._taken(stem)]
            if not names:
                words = f"{table.path.name} has no column left for {role}"
                raise DataError(words, "name a file with such a column")
            what = {"item_id": "says which item it is", "user_id": "says who it was"}[role]
            question = f"Which column of {table.path.name} {what} ({role})?"
            raise unclear(question, names[:_ASKED], f"--column {stem}.{role}='{{}}'")
        elif found:
            self._meant[stem][role] = found[0]

    def _item_ids(self) -> None:
        """The ids of the items in both tables."""
        items, log = self._items, self._log
        if log is None:
            self._choose("items", "item_id", columns.keys(items, "item_id"), needed=True)
            return
        own = self._named("items", "variant_id") or self._named("items", "item_id")
        theirs = self._named("interactions", "item_id")
        pairs = columns.item_pairs(items, log)
        pairs = [p for p in pairs if own in (None, p[0].name) and theirs in (None, p[1].name)]
        if not pairs and own is not None and theirs is not None:
            pairs = [(_as_said(own), _as_said(theirs))]
        best: list[dict[str, Candidate]] = [{}, {}]
        for pair in pairs:
            for side, one in zip(best, pair, strict=True):
                side.setdefault(one.name, one)
        self._choose("items", "item_id", list(best[0].values()), needed=True)
        key = self._named("items", "variant_id") or self._meant["items"]["item_id"].name
        fitting = [pair[1] for pair in pairs if pair[0].name == key]
        self._choose("interactions", "item_id", fitting or list(best[1].values()), needed=True)
        reference = self._meant["interactions"]["item_id"].name
        within = contained(log[reference], items[key])
        if within < 0.8 and items.whole:
            words = f"only {within:.0%} of the items in {reference!r} of {log.path.name} are in {key!r} of"
            self._findings.append(f"{words} {items.path.name}: purchases of the others are left out")

    def _variants(self) -> None:
        """What is called an id so far may be that of a variant, with the id of its product in another column."""
        items, said, meant = self._items, self._named("items", "variant_id"), self._meant["items"]
        if said:
            meant["variant_id"] = _as_said(said)
        elif said is None and self._named("items", "item_id") is None:
            variant = meant["item_id"]
            for product in columns.products(items, items[variant.name])[:1]:
                meant |= {"item_id": product, "variant_id": variant}
        if "variant_id" in meant:
            self._more["items"]["level"] = self._said.level
        elif self._said.level is not None:
            words = f"{items.path.name} has no variants that can be told"
            raise SettingsError(words, "name both columns: --column items.item_id=… --column items.variant_id=…")

    def _counts(self) -> VariantCounts | None:
        product, variant, title = (self._chosen("items", role) for role in ("item_id", "variant_id", "title"))
        if product is None or variant is None:
            return None
        starts = columns.run_starts(product.values)
        untitled = len(starts)
        if title is not None:
            untitled -= int(np.logical_or.reduceat(np.asarray(pc.is_valid(title.values)), starts).sum())
        return VariantCounts(len(starts), len(variant.distinct), untitled)

    def _language(self) -> tuple[str | None, bool]:
        """The language of the items' texts, and whether only the names of columns tell it; None where nothing does."""
        if self._said.language is not None:
            return self._said.language, False
        texts = [column for role in ("title", "description") if (column := self._chosen("items", role)) is not None]
        rows = zip(*(column.values.slice(0, 2_000).to_pylist() for column in texts), strict=True)
        found = common_language([" ".join(filter(None, row)) for row in rows])
        if found is not None:
            return found, False
        by_names = language_of_names(name for table in self._tables.values() for name in table.names)
        return by_names, by_names is not None

    def _photos(self) -> None:
        self._choose("items", "image", columns.photos(self._items, self._taken("items")))
        column = self._chosen("items", "image")
        if column is not None and column.addresses >= 0.5:
            del self._meant["items"]["image"]
            self._more["items"]["image"] = NONE
            words = f"the photos in {column.name!r} are web addresses, which molar does not fetch"
            self._findings.append(f"{words}: download them into images/, each called by its item's id")
            column = None
        named = column or self._chosen("items", "variant_id" if self._said.level == "variant" else "item_id")
        assert named is not None  # items without ids are refused before
        place, share = photo_folder(self._folder, named, ids=column is None)
        if place not in (None, "images"):
            self._more["items"]["images"] = place
        if column is not None and share < 0.9:
            words = f"{1 - share:.0%} of the photos in {column.name!r} are not there"
            self._findings.append(f"{words}: these items have words alone")

    def _numbers(self, language: str | None) -> None:
        """The decimal sign, the columns of several values, and columns of numbers that have words among them."""
        items, taken = self._items, self._taken("items")
        free = [column for column in items.columns if column.name not in taken]
        several = [column for column in free if not column.listed and column.separated >= _SEPARATED]
        lists = [column.name for column in several if column.length <= 300]
        if "variant_id" in self._meant["items"] and self._said.level != "variant":
            product = items[self._meant["items"]["item_id"].name]
            lists += [one for one in columns.options(items, product, taken) if one not in lists]
        decimal = self._said.decimal
        if items.source.untyped:
            decimal = decimal or decimal_of(items, language)
            for column in free:
                odd = next((v for v in column.distinct.to_pylist() if not any(c.isdigit() for c in v)), None)
                if 0.5 <= column.numbers < 1 and odd is not None:
                    words = f"{column.name!r} has words such as {odd!r} among its numbers: all of it is words"
                    self._findings.append(words)
        self._more["items"] |= {"decimal": decimal, "lists": lists or None}

    def _events(self, log: SampledTable, language: str | None) -> None:
        """The columns of the log."""
        stem: Stem = "interactions"
        found = columns.user_ids(log, self._taken(stem), self._tables.get("users"))
        self._choose(stem, "user_id", found, needed=True)
        self._choose(stem, "timestamp", columns.timestamps(log, self._taken(stem)))
        when = self._chosen(stem, "timestamp")
        if when is None:
            self._findings.append(f"{log.path.name} has no times that can be read: its rows count as in their order")
        else:
            self._times(when, log.path.name, language)
        self._by_name(stem, "event", lambda column: len(column.distinct) <= _KINDS and column.words > 0.5)
        self._by_name(stem, "position", lambda column: column.lowest() is not None)
        counts = self._by_name(stem, "quantity", lambda column: column.lowest() is not None)
        returned = [one for one in counts if (log[one.name].lowest() or 0) <= 0]
        self._choose(stem, "weight", returned)
        user = self._chosen(stem, "user_id")
        self._choose(stem, "order_id", columns.orders(log, user.name if user else None, self._taken(stem)))
        self._status(log)
        self._by_name(stem, "price", lambda column: column.numbers > _MOSTLY)
        self._choose(stem, "value", [])
        if (weight := self._meant[stem].get("weight")) is not None and weight in returned:
            words = f"{weight.name!r} has values of 0 or less, as returns have: these rows are left out"
            self._findings.append(f"{words}, and the others weigh as they say")

    def _times(self, column: SampledColumn, file: str, language: str | None) -> None:
        """The format that reading the times has to be told, and the zone, as far as the language is of one clock."""
        times, form, zone = column.times, self._said.time_format, self._said.time_zone
        if times is not None:
            if form is None and len(times.formats) > 1:
                words = f"Which of day, month and year comes first in {column.name!r} of {file}, as in {times.example}?"
                raise unclear(words, times.formats, '--time-format "{}"')
            form = form or next(iter(times.formats), None)
            if times.share < 1:
                share = f"{1 - times.share:.1%}" if times.share < 0.999 else "less than 0.1%"
                words = f"{share} of the times in {column.name!r} cannot be read: these rows are left out"
                self._findings.append(words)
            if zone is None and times.clock and not times.zone and times.personal:
                zone = ZONES.get(language or "")
                if zone is None:
                    words = f"the times in {column.name!r} name no zone and are taken for UTC"
                    self._findings.append(f"{words}: --time-zone says another one")
        self._more["interactions"] |= {"time_format": form, "time_zone": zone}

    def _status(self, log: SampledTable) -> None:
        """The status of orders, and which of its values are no purchases."""
        stem: Stem = "interactions"
        self._choose(stem, "status", columns.statuses(log, self._taken(stem)))
        ends = columns.named(log, "cancelled_at", self._taken(stem), lambda one: one.times is not None, empty=True)
        self._choose(stem, "cancelled_at", ends)
        if (status := self._chosen(stem, "status")) is None:
            return
        values = status.distinct.to_pylist()[:_KINDS]
        excluded = [value for value in values if says(value, "cancelled")]
        self._more[stem]["exclude_status"] = excluded or None
        unknown = [repr(value) for value in values if value not in excluded and not says(value, "completed")]
        if unknown:
            listed = ", ".join(unknown[:_ASKED])
            words = f"{status.name!r} has values that are not known, and count as purchases: {listed}"
            self._findings.append(f"{words}; exclude_status in {FILE_NAME} names those that do not")

    def _section(self, stem: Stem, table: SampledTable) -> dict[str, Any]:
        """What ``catalog.toml`` says of a table."""
        relative = table.path.absolute().relative_to(self._folder.absolute()).as_posix()
        said: dict[str, Any] = {"file": None if relative in {f"{stem}{form}" for form in FORMATS} else relative}
        said["encoding"] = None if table.encoding == "utf-8" else table.encoding
        said |= {role: self._meant[stem][role].name for role in ROLES[stem] if role in self._meant[stem]}
        return {key: value for key, value in (said | self._more[stem]).items() if value is not None}


def _as_said(name: str) -> Candidate:
    return Candidate(name, 1.0, "as you said", True)


def _says(role: str, column: SampledColumn) -> bool:
    """Whether a column's values say of items that they are in stock, active, or available from a moment on."""
    if role == availability.AVAILABLE_FROM:
        return column.times is not None and not column.times.formats
    values = column.distinct.slice(0, _VALUES).to_pylist()
    return sum(availability.understood(role, value) is not None for value in values) >= MOSTLY * len(values)


def decimal_of(table: SampledTable, language: str | None) -> str | None:
    """The decimal sign that reading a CSV file has to be told; None where its columns tell it by themselves."""
    source = open_source(table.path, table.encoding)
    source.schema  # noqa: B018  reads the file, and finds what is doubtful
    doubtful = {name: reason for name, reason in source.ambiguous_columns.items() if sign_tells(reason)}
    local = "." if language in _POINTS else ","
    by_spreadsheet = table.delimiter == ";"  # it stands where the comma is needed for decimals
    if not doubtful:
        comma = by_spreadsheet and (language is None or local == ",")
        return "," if comma and any(_grouped(column) for column in table.columns) else None
    if BESIDE_COMMAS in doubtful.values() or by_spreadsheet:
        return ","
    if language is not None:
        return local
    words = f"Which is the decimal sign in {next(iter(doubtful))!r} of {table.path.name}?"
    raise unclear(words, ",.", "--decimal '{}'")


def _grouped(column: SampledColumn) -> bool:
    """Whether all numbers with a point have three digits behind it, as thousands do."""
    pointed = column.distinct.filter(pc.match_substring(column.distinct, "."))
    return len(pointed) >= _ENOUGH and column.share(f"{_THOUSANDS}|{_PLAIN}") == 1.0


def photo_folder(folder: Path, column: SampledColumn, *, ids: bool) -> tuple[str | None, float]:
    """Where the photos of a column lie, and the share of some that is there; None: in the catalogue's own folder.

    ``ids``: the column has the items' ids, by which photos are called, and not their paths.
    """
    count = len(column.distinct)
    few = column.distinct.take(pa.array(np.linspace(0, count - 1, min(count, _LOOKED_AT)).astype(np.int64)))
    names = [name.replace("\\", "/") for name in few.to_pylist()]
    below = islice((path for pattern in ("*/", "*/*/") for path in sorted(folder.glob(pattern))), _MOST_FOLDERS)
    inside = [path.relative_to(folder).as_posix() for path in below if path.is_dir()]
    visible = [name for name in inside if not any(part.startswith(".") for part in name.split("/"))]
    best: tuple[str | None, float] = (None, 0.0)
    for place in dict.fromkeys([*([] if ids else [None]), "images", *visible]):
        where = folder if place is None else folder / place
        paths = [[f"{name}{ending}" for ending in EXTENSIONS] if ids else [name.lstrip("/")] for name in names]
        share = sum(any((where / one).is_file() for one in several) for several in paths) / len(names)
        if share > best[1]:
            best = (place, share)
    return best if best[1] >= (_FOUND if ids else 1e-9) else (None, 0.0)


def config_text(proposal: InferredSchema) -> str:
    """The file, in TOML."""
    lines = [_HEAD]
    for section, values in proposal.sections.items():
        lines += [f"[{section}]", *(f"{key} = {toml_value(value)}" for key, value in values.items()), ""]
    return "\n".join(lines)


def write_config(proposal: InferredSchema, *, overwrite: bool) -> Path:
    """Write the file, unless it says the same already; a SettingsError where another one would have to be replaced."""
    path, text = proposal.folder / FILE_NAME, config_text(proposal)
    try:
        if path.exists():
            if path.read_bytes() == text.encode():
                return path
            if not overwrite:
                hint = "keep it, or replace it: --overwrite"
                raise SettingsError(f"{path} is there, and says something else", hint)
        partial = path.with_name(f"{FILE_NAME}.partial")
        partial.write_text(text, "utf-8")
        partial.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}", "make the folder writable") from error
    return path
