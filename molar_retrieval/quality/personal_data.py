"""Personal data in a catalogue: columns named for them, e-mail addresses, and ids that are e-mail addresses."""

import re
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data import column_names
from molar_retrieval.data.readers import TableReader
from molar_retrieval.data.schema import CatalogueSchema, Stem, find_table
from molar_retrieval.data.values import as_phrase, as_strings, is_list, is_word, payload_type
from molar_retrieval.errors import DataError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.quality.findings import Finding, FindingCollector, finding
from molar_retrieval.quality.items import LOOKED_AT

WHOLE_COLUMN = 0.2  # From this share of values with an e-mail address on, the column is reported, not its rows
BY_NAME = 0.6  # Share of a column's values that must look as its name says
PUBLIC = 5  # An e-mail address in so many rows of the items file belongs to the shop or a manufacturer
_BATCH, _EXAMPLES, _DISTINCT = 65_536, 10_000, 100_000

_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@"
    r"((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+)([A-Za-z]{2,24})(?![\w@])"
)
_OFFICE = re.compile(
    "(?:info|contact|kontakt|support|service|help|hilfe|sales|vertrieb|office|mail|hello|press|presse|team|admin|shop"
    "|webmaster|no-?reply|newsletter|marketing|customerservice|kundenservice|orders?|returns|privacy)@"
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


def check_personal_data(
    folder: Path, spec: CatalogueSchema, found: FindingCollector, progress: Progress = SILENT
) -> None:
    """Look for personal data in all tables of a catalogue; findings show masked values only."""
    stems: tuple[Stem, ...] = ("items", "users", "interactions")
    for stem in stems:
        try:
            source = find_table(folder, stem)
            if source is not None:
                _check_table(source, stem, spec, found, progress)
        except DataError:
            continue  # the checks of that table report what is wrong with it


def emails(text: str) -> list[str]:
    """The e-mail addresses of persons in a text, in lower case; not those of offices such as info@."""
    found = (match[0].lower() for match in _EMAIL.finditer(text))
    return [address for address in found if not _OFFICE.match(address)]


def masked(address: str) -> str:
    """An e-mail address by its first letters and its top-level domain: ``j…@s….org``."""
    name, _, host = address.partition("@")
    return f"{name[:1]}…@{host[:1]}….{host.rpartition('.')[2]}"


@dataclass
class _Column:
    """One column: ``kind`` and ``pattern`` by its name, or None, and what is counted of its values.

    ``as_named`` values look as the name says, ``rows`` have an address; ``examples`` are row, id and address; ``often``
    is in how many rows an address is.
    """

    name: str
    kind: str | None
    pattern: str
    values: int = 0
    as_named: int = 0
    rows: int = 0
    examples: list[tuple[int, str | None, str]] = field(default_factory=list)
    often: Counter[str] = field(default_factory=Counter)

    def count(self, array: pa.Array, numbers: npt.NDArray[np.int64], ids: pa.Array | None) -> None:
        """Count some values, each distinct one looked at once."""
        words = as_phrase(array) if is_list(array.type) else as_strings(array)
        encoded = pc.utf8_slice_codeunits(words, 0, LOOKED_AT).dictionary_encode()
        texts, codes = encoded.dictionary, np.asarray(encoded.indices.fill_null(-1))
        times = np.bincount(codes[codes >= 0], minlength=len(texts))
        self.values += int(times.sum())
        if self.kind is not None:
            self.as_named += int(times[_matching(texts, self.pattern)].sum())
        hits = {code: found for code in _matching(texts, "@").tolist() if (found := emails(texts[code].as_py()))}
        for code, found in hits.items():
            self.rows += int(times[code])
            for address in found:
                if address in self.often or len(self.often) < _DISTINCT:
                    self.often[address] += int(times[code])
        room = _EXAMPLES - len(self.examples)
        for i in np.flatnonzero(np.isin(codes, list(hits)))[:room].tolist() if hits else ():
            self.examples.append((int(numbers[i]), None if ids is None else ids[i].as_py(), hits[codes[i]][0]))

    def report(self, found: FindingCollector, file: str, kind: str, about: str | None, most: float) -> None:
        """Report the column as a whole, or its rows by the column ``about``; not addresses in ``most`` rows or more."""
        where: dict[str, Any] = {"file": file, "column": self.name}
        if self.kind is not None and self.values >= 5 and self.as_named >= BY_NAME * self.values:
            words = f"its name says so, and {self.as_named:,} of {self.values:,} values look like it"
            found.add(self.kind, f"the column {self.name!r}: {words}", **where, amount=self.as_named / self.values)
        examples = [seen for seen in self.examples if self.often[seen[2]] < most]
        rows = self.rows - len(self.examples) + len(examples)
        if not examples:
            return
        if rows >= max(5, WHOLE_COLUMN * self.values):
            such = f"{rows:,} of {self.values:,} values are or hold an e-mail address, such as {masked(examples[0][2])}"
            found.add(kind, f"the column {self.name!r}: {such}", **where, amount=rows / self.values)
            return

        def one(i: int) -> Finding:
            number, own, address = examples[i]
            whose = {} if about is None else {about: own}
            return finding(kind, f"{self.name}: {masked(address)}", **whose, **where, row=number)

        found.each(kind, range(len(examples)), one)
        found.counts[kind] += rows - len(examples)


def _check_table(
    source: TableReader, stem: Stem, spec: CatalogueSchema, found: FindingCollector, progress: Progress
) -> None:
    """Read a table and report each of its columns."""
    file, id_column = source.path.name, _id_column(source, stem, spec)
    names = [name for name in source.names if _may_hold_text(source, stem, spec, name)]
    columns = [_Column(name, *_by_name(name, stem)) for name in names]
    if not columns:
        return
    read = [*names, *(name for name in (id_column,) if name and name not in names)]
    progress.start(f"looking for personal data in {file}", source.total)
    for batch in source.batches(read, _BATCH, None, read if source.untyped else ()):
        ids = None if id_column is None else as_strings(batch.batch[id_column])
        for column in columns:
            column.count(batch.batch[column.name], batch.numbers, ids)
        progress.advance(len(batch.numbers))
    progress.finish()
    # An id is not named where ids are addresses, or may be.
    ids_leak = id_column is None or any(column.rows for column in columns if column.name == id_column)
    whose, most = ("item_id", PUBLIC) if stem == "items" else ("user_id", inf)
    for column in columns:
        is_id = column.name == id_column
        kind = "personal.id" if is_id else "personal.email"
        column.report(found, file, kind, None if ids_leak or is_id else whose, most)


def _id_column(source: TableReader, stem: Stem, spec: CatalogueSchema) -> str | None:
    if stem == "items":
        return spec.items.item_id
    settings = spec.users if stem == "users" else spec.interactions
    known = (*column_names.USER_ID, "id") if stem == "users" else column_names.USER_ID
    found = settings.user_id or column_names.well_known(known, source.names)
    return found if found in source.names and is_word(source.schema.field(found).type) else None


def _may_hold_text(source: TableReader, stem: Stem, spec: CatalogueSchema, name: str) -> bool:
    """Not booleans and decimal numbers, and not the log's items and times."""
    log = spec.interactions
    of_items = {log.item_id, spec.items.item_id, column_names.well_known(column_names.LOG_ITEM_ID, source.names)}
    times = {log.timestamp, column_names.well_known(column_names.TIMESTAMP, source.names)}
    if stem == "interactions" and name in of_items | times:
        return False
    return payload_type(source.schema.field(name).type) not in {None, pa.bool_(), pa.float64()}


def _by_name(name: str, stem: str) -> tuple[str | None, str]:
    """Kind and pattern for a column of this name; in the items file, only where the name speaks of a customer."""
    words = column_names.words(name)
    person = bool(_PERSON & set(words))
    if stem == "items" and not person:
        return None, ""
    candidates = {*words, "".join(words), "".join(words[-2:])}
    for kind, known, pattern in _COLUMNS:
        if candidates & set(known.split()):
            return kind, pattern
    is_name = words[-1:] == ["name"] and (person or len(words) == 1)
    return ("personal.name" if is_name else None), _LETTERS


def _matching(texts: pa.Array, pattern: str) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.asarray(pc.match_substring_regex(texts, pattern)))
