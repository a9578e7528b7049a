"""Personal data in a catalogue: columns named for them, e-mail addresses, and ids that are e-mail addresses."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog import names
from molar_retrieval.catalog.sources import Stem, find_table
from molar_retrieval.catalog.spec import CatalogueSpec
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.catalog.values import as_phrase, as_written, is_list, is_word, payload_type
from molar_retrieval.errors import DataError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.quality.collector import Collector
from molar_retrieval.quality.findings import Finding, fault
from molar_retrieval.quality.items import LOOKED_AT

WHOLE_COLUMN = 0.2  # From this share of values with an e-mail address on, the column is reported, not its rows
BY_NAME = 0.6  # Share of a column's values that must look as its name says
PUBLIC = 5  # An e-mail address in so many rows of the items file belongs to the shop or a manufacturer
_BATCH, _EXAMPLES, _DISTINCT = 65_536, 10_000, 100_000

EMAIL, IDS = "personal.email", "personal.id"
_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@"
    r"((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+)([A-Za-z]{2,24})(?![\w@])"
)
_OFFICES = frozenset(
    (
        "info",
        "contact",
        "kontakt",
        "support",
        "service",
        "help",
        "hilfe",
        "sales",
        "vertrieb",
        "office",
        "mail",
        "hello",
        "press",
        "presse",
        "team",
        "admin",
        "webmaster",
        "noreply",
        "no-reply",
        "newsletter",
        "marketing",
        "customerservice",
        "kundenservice",
        "shop",
        "orders",
        "order",
        "returns",
        "privacy",
    )
)
_PERSON = {"customer", "user", "buyer", "client", "recipient", "billing", "shipping", "contact", "reviewer", "kunde"}
_LETTERS = r"^[\p{L}][\p{L}.'’-]*(?: [\p{L}][\p{L}.'’-]*){0,4}$"
_COLUMNS = (
    ("personal.name", "firstname lastname surname forename fullname vorname nachname prenom nom", _LETTERS),
    ("personal.address", "address street adresse strasse straße streetaddress", r"\p{L}{2}.*[ ,]"),
    ("personal.address", "zip zipcode postcode postalcode plz postleitzahl", r"^[A-Z]{0,3}[ -]?\d[\dA-Z -]{2,9}$"),
    ("personal.phone", "phone telephone tel mobile telefon handy phonenumber", r"^\+?[\d ()./-]{7,20}$"),
    ("personal.birth_date", "birthdate birthday dob dateofbirth geburtsdatum geburtstag", r"\d"),
)
"""Kind, names of columns, and how most of their values must look (RE2)."""


def check_personal_data(folder: Path, spec: CatalogueSpec, found: Collector, progress: Progress = SILENT) -> None:
    """Look for personal data in all tables of a catalogue; findings show masked values only."""
    stems: tuple[Stem, ...] = ("items", "users", "interactions")
    for stem in stems:
        try:
            source = find_table(folder, stem)
            if source is not None:
                _Search(source, stem, spec, found).check(progress)
        except DataError:
            continue  # the checks of that table report what is wrong with it


def emails(text: str) -> list[str]:
    """The e-mail addresses of persons in a text, in lower case; not those of offices such as info@."""
    found = (match[0].lower() for match in _EMAIL.finditer(text))
    return [address for address in found if address.partition("@")[0] not in _OFFICES]


def masked(address: str) -> str:
    """An e-mail address by its first letters and its top-level domain: ``j…@s….org``."""
    name, _, host = address.partition("@")
    return f"{name[:1]}…@{host[:1]}….{host.rpartition('.')[2]}"


@dataclass
class _Column:
    """Counts of one column: values, those that look as its name says, rows with an address, and examples of these."""

    values: int = 0
    as_named: int = 0
    rows: int = 0
    examples: list[tuple[int, str | None, str]] = field(default_factory=list)
    often: Counter[str] = field(default_factory=Counter)


class _Search:
    def __init__(self, source: TableSource, stem: str, spec: CatalogueSpec, found: Collector) -> None:
        self._source, self._stem, self._spec, self._found = source, stem, spec, found
        self._file = source.path.name
        self._id = self._id_column()
        self._columns = {name: _Column() for name in source.names if self._may_hold_text(name)}
        self._named = {name: rule for name in self._columns if (rule := _named(name, stem)) is not None}

    def check(self, progress: Progress) -> None:
        """Read the table and report."""
        if not self._columns:
            return
        read = [*self._columns, *(name for name in (self._id,) if name and name not in self._columns)]
        progress.start(f"looking for personal data in {self._file}", self._source.total)
        for rows in self._source.batches(read, _BATCH, None, read if self._source.untyped else ()):
            ids = None if self._id is None else as_written(rows.batch[self._id])
            for name, column in self._columns.items():
                values = rows.batch[name]
                texts = as_phrase(values) if is_list(values.type) else as_written(values)
                self._count(column, name, texts, rows.numbers, ids)
            progress.advance(len(rows.numbers))
        progress.finish()
        for name, column in self._columns.items():
            self._report(name, column)

    def _id_column(self) -> str | None:
        columns = self._source.names
        if self._stem == "items":
            return self._spec.items.item_id
        settings = self._spec.users if self._stem == "users" else self._spec.interactions
        known = (*names.USER_ID, "id") if self._stem == "users" else names.USER_ID
        found = settings.user_id or names.well_known(known, columns)
        return found if found in columns and is_word(self._source.schema.field(found).type) else None

    def _may_hold_text(self, name: str) -> bool:
        """Not booleans and decimal numbers, and not the log's items and times."""
        if self._stem == "interactions":
            log = self._spec.interactions
            known = {log.item_id, log.timestamp, self._spec.items.item_id}
            known |= {names.well_known(some, self._source.names) for some in (names.LOG_ITEM_ID, names.TIMESTAMP)}
            if name in known:
                return False
        return payload_type(self._source.schema.field(name).type) not in {None, pa.bool_(), pa.float64()}

    def _count(
        self, column: _Column, name: str, array: pa.Array, numbers: npt.NDArray[np.int64], ids: pa.Array | None
    ) -> None:
        encoded = pc.utf8_slice_codeunits(array, 0, LOOKED_AT).dictionary_encode()
        texts, codes = encoded.dictionary, np.asarray(encoded.indices.fill_null(-1))
        times = np.bincount(codes[codes >= 0], minlength=len(texts))
        column.values += int(times.sum())
        if name in self._named:
            column.as_named += int(times[_matching(texts, self._named[name][1])].sum())
        hits = {code: found for code in _matching(texts, "@").tolist() if (found := emails(texts[code].as_py()))}
        for code, found in hits.items():
            column.rows += int(times[code])
            for address in found:
                if address in column.often or len(column.often) < _DISTINCT:
                    column.often[address] += int(times[code])
        room = _EXAMPLES - len(column.examples)
        for i in np.flatnonzero(np.isin(codes, list(hits)))[:room].tolist() if hits else ():
            column.examples.append((int(numbers[i]), None if ids is None else ids[i].as_py(), hits[codes[i]][0]))

    def _report(self, name: str, column: _Column) -> None:
        if name in self._named and column.values >= 5 and column.as_named >= BY_NAME * column.values:
            words = f"its name says so, and {column.as_named:,} of {column.values:,} values look like it"
            self._whole(self._named[name][0], name, column.as_named, column.values, words)
        examples, rows = column.examples, column.rows
        if self._stem == "items":
            examples = [one for one in examples if column.often[one[2]] < PUBLIC]
            rows -= len(column.examples) - len(examples)
        if not examples:
            return
        kind = IDS if name == self._id else EMAIL
        if rows >= WHOLE_COLUMN * column.values and rows >= 5:
            words = (
                f"{rows:,} of {column.values:,} values are or hold an e-mail address, such as {masked(examples[0][2])}"
            )
            self._whole(kind, name, rows, column.values, words)
        else:
            self._rows(kind, name, rows, examples)

    def _whole(self, kind: str, column: str, rows: int, values: int, words: str) -> None:
        facts = {"values": rows, "share": rows / values}
        where = {"file": self._file, "column": column}
        self._found.add(kind, f"the column {column!r}: {words}", **where, amount=facts["share"], facts=facts)

    def _rows(self, kind: str, name: str, rows: int, examples: list[tuple[int, str | None, str]]) -> None:
        secret = self._id is None or name == self._id or bool(self._columns.get(self._id, _Column()).rows)

        def finding(i: int) -> Finding:
            number, own, address = examples[min(i, len(examples) - 1)]
            about = {"item_id" if self._stem == "items" else "user_id": None if secret else own}
            return fault(kind, f"{name}: {masked(address)}", **about, file=self._file, row=number, column=name)

        self._found.each(kind, range(len(examples)), finding)
        self._found.counts[kind] += rows - len(examples)


def _named(name: str, stem: str) -> tuple[str, str] | None:
    """Kind and pattern for a column of this name; in the items file, only where the name speaks of a customer."""
    words = names.words(name)
    person = bool(_PERSON & set(words))
    if stem == "items" and not person:
        return None
    candidates = {*words, "".join(words), "".join(words[-2:])}
    for kind, known, pattern in _COLUMNS:
        if candidates & set(known.split()):
            return kind, pattern
    return ("personal.name", _LETTERS) if words[-1:] == ["name"] and (person or len(words) == 1) else None


def _matching(texts: pa.Array, pattern: str) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.asarray(pc.match_substring_regex(texts, pattern)))
