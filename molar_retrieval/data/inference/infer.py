"""From somebody's tables to what `catalog.toml` says of them, and what is not understood of them."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    item_pairs,
    language_of_names,
    name_score,
    says,
    timestamps,
    unclear,
)
from molar_retrieval.data.inference.dialect import MOSTLY, SampledColumn, SampledTable, sampled
from molar_retrieval.data.languages import common_language
from molar_retrieval.data.schema import FILE_NAME, FORMATS, CatalogueConfig, Stem, open_source
from molar_retrieval.data.values import BESIDE_COMMAS, sign_tells
from molar_retrieval.errors import DataError, MolarError, SettingsError
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


def language_of(table: SampledTable, texts: Iterable[str], names: Iterable[str]) -> tuple[str | None, bool]:
    """The language of the items' texts, and whether only the names of columns tell it; None where nothing does."""
    columns = [table[name].values for name in texts]
    rows = zip(*(values.slice(0, 2_000).to_pylist() for values in columns), strict=True)
    joined = [" ".join(filter(None, row)) for row in rows]
    found = common_language(joined)
    if found is not None:
        return found, False
    by_names = language_of_names(names)
    return by_names, by_names is not None


def decimal_of(table: SampledTable, language: str | None, said: str | None) -> str | None:
    """The decimal sign that reading the items has to be told; None where their columns tell it by themselves."""
    if said is not None or not table.source.untyped:
        return said
    source = open_source(table.path, table.encoding)
    source.schema  # noqa: B018  reads the file, and finds what is doubtful
    doubtful = {name: reason for name, reason in source.ambiguous_columns.items() if sign_tells(reason)}
    local = "." if language in _POINTS else ","
    by_spreadsheet = table.delimiter == ";"  # it stands where the comma is needed for decimals
    if not doubtful:
        grouped = any(_grouped(column) for column in table.columns)
        return "," if grouped and by_spreadsheet and (language is None or local == ",") else None
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


def time_format_of(column: SampledColumn, file: str, said: str | None) -> str | None:
    """The format that reading the log's times has to be told; None where it understands them by itself."""
    form = column.times
    if said is not None or form is None or not form.formats:
        return said
    if len(form.formats) == 1:
        return form.formats[0]
    text = f"Which of day, month and year comes first in {column.name!r} of {file}, as in {form.example}?"
    raise unclear(text, form.formats, '--time-format "{}"')


def time_zone_of(column: SampledColumn, language: str | None, said: str | None) -> str | None:
    """The zone of times that people wrote down in a language that is spoken on one clock; None: UTC."""
    form = column.times
    if said is not None or form is None or not form.clock or form.zone or not form.personal:
        return said
    return ZONES.get(language or "")


def lists_of(table: SampledTable, taken: Iterable[str]) -> list[str]:
    """Columns that hold several values in one string, with bars between them."""
    free = [column for column in table.columns if column.name not in taken and not column.listed]
    return [column.name for column in free if column.separated >= _SEPARATED and column.length <= 300]


def photo_folder(folder: Path, column: SampledColumn, *, ids: bool) -> tuple[str | None, float]:
    """Where the photos of a column lie, and the share of some that is there; None: in the catalogue's own folder.

    ``ids``: the column has the items' ids, by which photos are called, and not their paths.
    """
    count = len(column.distinct)
    few = column.distinct.take(pa.array(np.linspace(0, count - 1, min(count, _LOOKED_AT)).astype(np.int64)))
    names = [name.replace("\\", "/") for name in few.to_pylist()]
    places: list[str | None] = [None] if not ids else []
    places += ["images", *(name for name in _folders(folder) if name != "images")]
    best: tuple[str | None, float] = (None, 0.0)
    for place in places:
        where = folder if place is None else folder / place
        paths = [[f"{name}{ending}" for ending in EXTENSIONS] if ids else [name.lstrip("/")] for name in names]
        share = sum(any((where / one).is_file() for one in several) for several in paths) / len(names)
        if share > best[1]:
            best = (place, share)
    return best if best[1] >= (_FOUND if ids else 1e-9) else (None, 0.0)


def _folders(folder: Path) -> list[str]:
    """Folders in the catalogue's own, and in these; none that are hidden."""
    found: list[str] = []
    for path in islice((p for pattern in ("*/", "*/*/") for p in sorted(folder.glob(pattern))), _MOST_FOLDERS):
        relative = path.relative_to(folder).as_posix()
        if path.is_dir() and not any(part.startswith(".") for part in relative.split("/")):
            found.append(relative)
    return found


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


def assigned(tables: Sequence[SampledTable], said: Mapping[Stem, Path]) -> dict[Stem, SampledTable]:
    """Each table by what it has; a SettingsError where they do not tell."""
    readings = sorted(
        ((_score(reading), place, reading) for place, reading in enumerate(_readings(tables, said))),
        key=lambda one: (-one[0], one[1]),
    )
    if not readings:
        raise SettingsError("the tables that were named leave none for the items", "name it: --items FILE")
    best, rest = readings[0], [one for one in readings[1:] if one[2]["items"] is not readings[0][2]["items"]]
    if len(tables) == 1 and "items" not in said and _kind(tables[0], "interactions") > _kind(tables[0], "items"):
        words = f"{tables[0].path.name} looks like a log of purchases, and nothing tells what its items are"
        hint = "name the file with the items, too; if this is it: --items " + str(tables[0].path)
        raise SettingsError(words, hint)
    if rest and best[0] - rest[0][0] < _LEAD:
        raise unclear("Which file has the items, one a row?", [str(table.path) for table in tables], "--items {}")
    return best[2]


def _readings(tables: Sequence[SampledTable], said: Mapping[Stem, Path]) -> Iterator[dict[Stem, SampledTable]]:
    """All ways to say which table is what, as far as nobody said it."""
    fixed: dict[Stem, SampledTable] = {
        stem: next(table for table in tables if table.path == path) for stem, path in said.items()
    }
    left = [table for table in tables if table not in fixed.values()]
    for free in permutations([stem for stem in STEMS if stem not in fixed], len(left)):
        reading: dict[Stem, SampledTable] = fixed | dict(zip(free, left, strict=True))
        if "items" in reading and (len(tables) == 1 or "interactions" in reading):
            yield reading


def _score(reading: Mapping[Stem, SampledTable]) -> float:
    score = sum(_kind(table, stem) for stem, table in reading.items())
    items, log, users = (reading.get(stem) for stem in STEMS)
    if items is not None and log is not None and (pairs := item_pairs(items, log)):
        score += pairs[0][0].score + pairs[0][1].score
    if users is not None and log is not None:
        score += max(
            (
                contained(own, key) + name_score(own.name, "user_id")
                for own in log.columns
                for key in users.columns
                if own.times is None and key.unique > 0.9
            ),
            default=0.0,
        )
    return score


def _kind(table: SampledTable, stem: Stem) -> float:
    """How much a table by itself looks like the one of a kind."""
    score = sum(weight * max(name_score(name, role) for name in table.names) for role, weight in _NAMES[stem].items())
    timed = bool(timestamps(table, ()))
    rest = {"items": -0.5 * timed, "interactions": 1.0 if timed else -0.5, "users": 0.0}
    longest = max((column.length for column in table.columns if column.words > 0.5), default=0.0)
    rest["items"] += 0.5 * (longest > 30)
    return score + rest[stem]


_ASKED, _VALUES = 8, 2_000  # columns to choose from; values of one
_MOSTLY = 0.9  # of a column's values, where some are missing or mistaken
_KINDS = 50  # of events at most; a column of more is none
_DELIMITERS = {";": "semicolons", ",": "commas", "\t": "tabs", "|": "bars"}


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
    folder = _folder_of(paths)
    tables = assigned([sampled(path) for path in paths], named)
    return SchemaInference(folder, tables, said)()


def _folder_of(paths: Sequence[Path]) -> Path:
    """The lowest folder above all files; a SettingsError where there is none but the root."""
    common = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    if len(common.parts) < 2:
        listed = " and ".join(str(path) for path in paths)
        hint = "put the tables, or links to them, into one folder or into folders of one"
        raise SettingsError(f"{listed} lie below no folder of their own, where {FILE_NAME} could stand", hint)
    nearest = next((parent for parent in paths[0].parents if parent.absolute() == common), None)
    return common if nearest is None else nearest


class SchemaInference:
    """The reading of all tables, one after the other."""

    def __init__(self, folder: Path, tables: Mapping[Stem, SampledTable], said: Overrides) -> None:
        self._folder, self._tables, self._said = folder, tables, said
        self._meant: dict[Stem, dict[str, Candidate]] = {stem: {} for stem in tables}
        self._more: dict[Stem, dict[str, Any]] = {stem: {} for stem in tables}  # settings that name no column
        self.findings: list[str] = []

    def __call__(self) -> InferredSchema:
        """Read them."""
        for table in self._tables.values():
            self._tell_rejects(table)
        self._join()
        self._variants()
        items = self._tables["items"]
        for role in ("title", "description"):
            self._choose("items", role, columns.texts(items, role, self._taken("items")))
        for role in availability.ROLES:
            self._by_name("items", role, partial(_says, role))
        language, by_names = self._language()
        self._photos()
        self._numbers(language)
        if "interactions" in self._tables:
            self._log(language)
        if "users" in self._tables:
            who = self._meant.get("interactions", {}).get("user_id")
            in_log = None if who is None else self._tables["interactions"][who.name]
            self._choose("users", "user_id", columns.key_of(self._tables["users"], in_log), needed=True)
        sections = self._sections()
        if by_names or self._said.language is not None:
            sections["text"] = {"language": language}
        settings = validated(CatalogueConfig, sections, "the proposal")
        tables = tuple(self._read(stem) for stem in STEMS if stem in self._tables)
        counts = self._counts()
        return InferredSchema(self._folder, sections, tables, tuple(self.findings), language, settings, counts)

    def _taken(self, stem: Stem) -> list[str]:
        return [one.name for one in self._meant[stem].values()]

    def _tell_rejects(self, table: SampledTable) -> None:
        if table.rejects.total:
            which = f"of {table.path.name}" if table.whole else f"among the first of {table.path.name}"
            first = next(iter(table.rejects.first.values()))
            self.findings.append(f"{table.rejects.total:,} rows {which} cannot be read and are left out ({first})")

    def _join(self) -> None:
        """The ids of the items in both tables."""
        items, log = self._tables["items"], self._tables.get("interactions")
        if log is None:
            self._choose("items", "item_id", columns.item_ids(items), needed=True)
            return
        pairs = columns.item_pairs(items, log)
        own = self._named("items", "variant_id") or self._named("items", "item_id")
        theirs = self._named("interactions", "item_id")
        pairs = [p for p in pairs if own in (None, p[0].name) and theirs in (None, p[1].name)]
        if not pairs and own is not None and theirs is not None:
            pairs = [(Candidate(own, 0, "as you said", True), Candidate(theirs, 0, "as you said", True))]
        references = list({pair[1].name: pair[1] for pair in reversed(pairs)}.values())[::-1]
        keys = list({pair[0].name: pair[0] for pair in reversed(pairs)}.values())[::-1]
        self._choose("items", "item_id", keys, needed=True)
        key = self._named("items", "variant_id") or self._meant["items"]["item_id"].name
        fitting = [pair[1] for pair in pairs if pair[0].name == key]
        self._choose("interactions", "item_id", fitting or references, needed=True)
        self._tell_join(items, log)

    def _tell_join(self, items: SampledTable, log: SampledTable) -> None:
        key = self._named("items", "variant_id") or self._meant["items"]["item_id"].name
        reference = self._meant["interactions"]["item_id"].name
        within = columns.contained(log[reference], items[key])
        if within < 0.8 and items.whole:
            words = f"only {within:.0%} of the items in {reference!r} of {log.path.name} are in {key!r} of"
            self.findings.append(f"{words} {items.path.name}: purchases of the others are left out")

    def _variants(self) -> None:
        """What is called an id so far may be that of a variant, with the id of its product in another column."""
        items, said = self._tables["items"], self._named("items", "variant_id")
        if said is None and self._named("items", "item_id") is None:
            variant = self._meant["items"]["item_id"]
            for found in columns.products(items, items[variant.name])[:1]:
                self._meant["items"] |= {"item_id": found, "variant_id": variant}
        elif said:
            self._meant["items"]["variant_id"] = Candidate(said, 1.0, "as you said", True)
        if "variant_id" in self._meant["items"]:
            self._more["items"]["level"] = self._said.level
        elif self._said.level is not None:
            words = f"{items.path.name} has no variants that can be told"
            raise SettingsError(words, "name both columns: --column items.item_id=… --column items.variant_id=…")

    def _counts(self) -> VariantCounts | None:
        items, meant = self._tables["items"], self._meant["items"]
        if "variant_id" not in meant:
            return None
        starts = columns.run_starts(items[meant["item_id"].name].values)
        untitled = len(starts)
        if "title" in meant:
            there = np.asarray(pc.is_valid(items[meant["title"].name].values))
            untitled = int((~np.logical_or.reduceat(there, starts)).sum())
        return VariantCounts(len(starts), len(items[meant["variant_id"].name].distinct), untitled)

    def _status(self, log: SampledTable) -> None:
        """The status of orders, and which of its values are no purchases."""
        stem: Stem = "interactions"
        self._choose(stem, "status", columns.statuses(log, self._taken(stem)))
        self._choose(stem, "cancelled_at", columns.cancellations(log, self._taken(stem)))
        status = self._meant[stem].get("status")
        if status is None:
            return
        values = log[status.name].distinct.to_pylist()[:_KINDS]
        excluded = [value for value in values if says(value, "cancelled")]
        self._more[stem]["exclude_status"] = excluded or None
        unknown = [repr(value) for value in values if value not in excluded and not says(value, "completed")]
        if unknown:
            words = (
                f"{status.name!r} has values that are not known, and count as purchases: {', '.join(unknown[:_ASKED])}"
            )
            self.findings.append(f"{words}; exclude_status in {FILE_NAME} names those that do not")

    def _log(self, language: str | None) -> None:
        stem: Stem = "interactions"
        log = self._tables[stem]
        found = columns.user_ids(log, self._taken(stem), self._tables.get("users"))
        self._choose(stem, "user_id", found, needed=True)
        self._choose(stem, "timestamp", columns.timestamps(log, self._taken(stem)))
        when = self._meant[stem].get("timestamp")
        if when is None:
            self.findings.append(f"{log.path.name} has no times that can be read: its rows count as in their order")
        else:
            self._times(log, when.name, language)
        self._by_name(stem, "event", lambda column: len(column.distinct) <= _KINDS and column.words > 0.5)
        self._by_name(stem, "position", lambda column: column.lowest() is not None)
        counts = self._by_name(stem, "quantity", lambda column: column.lowest() is not None)
        returned = [one for one in counts if (log[one.name].lowest() or 0) <= 0]
        self._choose(stem, "weight", returned)
        user = self._meant[stem].get("user_id")
        self._choose(stem, "order_id", columns.orders(log, user.name if user else None, self._taken(stem)))
        self._status(log)
        self._by_name(stem, "price", lambda column: column.numbers > _MOSTLY)
        self._choose(stem, "value", [])
        if (weight := self._meant[stem].get("weight")) is not None and weight in returned:
            words = f"{weight.name!r} has values of 0 or less, as returns have: these rows are left out"
            self.findings.append(f"{words}, and the others weigh as they say")

    def _times(self, log: SampledTable, name: str, language: str | None) -> None:
        column, file = log[name], log.path.name
        form = time_format_of(column, file, self._said.time_format)
        zone = time_zone_of(column, language, self._said.time_zone)
        self._more["interactions"] |= {"time_format": form, "time_zone": zone}
        times = column.times
        if times is not None and times.share < 1:
            share = f"{1 - times.share:.1%}" if times.share < 0.999 else "less than 0.1%"
            self.findings.append(f"{share} of the times in {name!r} cannot be read: these rows are left out")
        if times is not None and times.clock and not times.zone and zone is None and times.personal:
            self.findings.append(
                f"the times in {name!r} name no zone and are taken for UTC: --time-zone says another one"
            )

    def _language(self) -> tuple[str | None, bool]:
        items = self._tables["items"]
        texts = [one.name for role, one in self._meant["items"].items() if role in ("title", "description")]
        names = [name for table in self._tables.values() for name in table.names]
        if self._said.language is not None:
            return self._said.language, False
        return language_of(items, texts, names)

    def _photos(self) -> None:
        items = self._tables["items"]
        found = columns.photos(items, self._taken("items"))
        self._choose("items", "image", found)
        chosen = self._meant["items"].get("image")
        if chosen is not None and items[chosen.name].addresses >= 0.5:
            del self._meant["items"]["image"]
            self._more["items"]["image"] = NONE
            hint = "download them into images/, each called by its item's id"
            self.findings.append(f"the photos in {chosen.name!r} are web addresses, which molar does not fetch: {hint}")
            chosen = None
        by_id = chosen is None
        own = "variant_id" if self._said.level == "variant" else "item_id"
        column = items[self._meant["items"][own].name if chosen is None else chosen.name]
        place, share = photo_folder(self._folder, column, ids=by_id)
        if place not in (None, "images"):
            self._more["items"]["images"] = place
        if chosen is not None and share < 0.9:
            self.findings.append(
                f"{1 - share:.0%} of the photos in {chosen.name!r} are not there: these items have words alone"
            )

    def _numbers(self, language: str | None) -> None:
        items = self._tables["items"]
        decimal = decimal_of(items, language, self._said.decimal)
        lists = lists_of(items, self._taken("items"))
        if "variant_id" in self._meant["items"] and self._said.level != "variant":
            product = items[self._meant["items"]["item_id"].name]
            lists += [one for one in columns.options(items, product, self._taken("items")) if one not in lists]
        self._more["items"] |= {"decimal": decimal, "lists": lists or None}
        for column in items.columns:
            if 0.5 <= column.numbers < 1 and column.name not in self._taken("items"):
                odd = next((v for v in column.distinct.to_pylist() if not any(c.isdigit() for c in v)), None)
                if odd is not None and items.source.untyped:
                    self.findings.append(
                        f"{column.name!r} has words such as {odd!r} among its numbers: all of it is words"
                    )

    def _named(self, stem: Stem, role: str) -> str | None:
        table = self._tables[stem]
        return self._said.column(stem, role, table.names, table.path.name)

    def _by_name(self, stem: Stem, role: str, fits: Callable[[SampledColumn], bool]) -> list[Candidate]:
        """Take the best column that is called as a role and holds what fits it; all such columns."""
        found = columns.named(self._tables[stem], role, self._taken(stem), fits)
        self._choose(stem, role, found)
        return found

    def _choose(self, stem: Stem, role: str, found: list[Candidate], *, needed: bool = False) -> None:
        """Take what was said, else the best candidate; where one is needed and none is clear, ask."""
        table, named = self._tables[stem], self._named(stem, role)
        if named is not None:
            if named == NONE and needed:
                words = f"{table.path.name} cannot do without {role}"
                raise SettingsError(words, f"name its column: --column {role}=…")
            if named == NONE:
                self._more[stem][role] = NONE
            else:
                self._meant[stem][role] = Candidate(named, 1.0, "as you said", True)
            return
        if needed and not columns.clear(found):
            raise self._unclear(table, stem, role, found)
        if found:
            self._meant[stem][role] = found[0]

    def _unclear(self, table: SampledTable, stem: Stem, role: str, found: list[Candidate]) -> MolarError:
        names = [one.name for one in found] or [name for name in table.names if name not in self._taken(stem)]
        if not names:
            return DataError(f"{table.path.name} has no column left for {role}", "name a file with such a column")
        what = {"item_id": "says which item it is", "user_id": "says who it was"}[role]
        text = f"Which column of {table.path.name} {what} ({role})?"
        return unclear(text, names[:_ASKED], f"--column {stem}.{role}='{{}}'")

    def _sections(self) -> dict[str, dict[str, Any]]:
        sections: dict[str, dict[str, Any]] = {}
        for stem in STEMS:
            if (table := self._tables.get(stem)) is None:
                continue
            relative = table.path.absolute().relative_to(self._folder.absolute()).as_posix()
            said: dict[str, Any] = {"file": None if relative in {f"{stem}{form}" for form in FORMATS} else relative}
            said["encoding"] = None if table.encoding == "utf-8" else table.encoding
            said |= {role: self._meant[stem][role].name for role in ROLES[stem] if role in self._meant[stem]}
            said |= self._more[stem]
            sections[stem] = {key: value for key, value in said.items() if value is not None}
        return sections

    def _read(self, stem: Stem) -> ReadTable:
        table, meant = self._tables[stem], self._meant[stem]
        form = [table.source.form]
        if table.source.untyped:
            form += [table.encoding, _DELIMITERS[table.delimiter or ","]]
        taken = self._taken(stem)
        unused = tuple(name for name in table.names if name not in taken)
        return ReadTable(stem, table.path, ", ".join(form), table.rows, table.whole, meant, unused)


def _says(role: str, column: SampledColumn) -> bool:
    """Whether a column's values say of items that they are in stock, active, or available from a moment on."""
    if role == availability.AVAILABLE_FROM:
        return column.times is not None and not column.times.formats
    values = column.distinct.slice(0, _VALUES).to_pylist()
    return sum(availability.understood(role, value) is not None for value in values) >= MOSTLY * len(values)


_HEAD = "# What the tables mean: proposed by `molar init`, to be changed by hand; docs/catalogue.md lists all keys.\n"


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
