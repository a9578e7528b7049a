"""Personal data in a catalogue: columns named for them, e-mail addresses, and ids that are e-mail addresses."""

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.data import column_names
from molar_retrieval.data.interaction_reader import log_columns, user_column
from molar_retrieval.data.readers import TableReader
from molar_retrieval.data.schema import CatalogueSchema, Stem, find_table
from molar_retrieval.data.values import as_strings, payload_type
from molar_retrieval.errors import DataError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.quality.findings import Finding, FindingCollector, finding
from molar_retrieval.quality.items import LOOKED_AT, words_of

WHOLE_COLUMN = 0.2  # From this share of values with an e-mail address on, the column is reported, not its rows
BY_NAME = 0.6  # Share of a column's values that must look as its name says
PUBLIC = 5  # An e-mail address in so many rows of the items file belongs to the shop or a manufacturer
_BATCH, _EXAMPLES, _DISTINCT = 65_536, 10_000, 100_000

_EMAIL = re.compile(
    r"(?<![\w.+-])(?!(?:info|contact|kontakt|support|service|help|hilfe|sales|vertrieb|office|mail|hello|press|presse|team"
    r"|admin|shop|webmaster|no-?reply|newsletter|marketing|customerservice|kundenservice|orders?|returns|privacy)@)"
    r"[a-z0-9][a-z0-9._%+-]{0,63}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}(?![\w@])",
    re.IGNORECASE,
)
"""An e-mail address of a person, not of an office such as info@."""
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
    """Look for personal data in all tables of a catalogue; findings do not show them."""
    stems: tuple[Stem, ...] = ("items", "users", "interactions")
    for stem in stems:
        with suppress(DataError):  # the checks of that table report what is wrong with it
            source = find_table(folder, stem)
            if source is not None:
                _check_table(source, stem, spec, found, progress)


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

    def count(self, array: pa.Array, numbers: npt.NDArray[np.int64], ids: pa.Array) -> None:
        """Count some values, each distinct one looked at once."""
        encoded = pc.utf8_slice_codeunits(words_of(array), 0, LOOKED_AT).dictionary_encode()
        texts, codes = encoded.dictionary, np.asarray(encoded.indices.fill_null(-1))
        times = np.bincount(codes[codes >= 0], minlength=len(texts))
        self.values += int(times.sum())
        if self.kind is not None:
            self.as_named += int(times[_matching(texts, self.pattern)].sum())
        hits = {code: seen[0].lower() for code in _matching(texts, "@") if (seen := _EMAIL.search(texts[code].as_py()))}
        for code, address in hits.items():
            self.rows += int(times[code])
            if address in self.often or len(self.often) < _DISTINCT:
                self.often[address] += int(times[code])
        for i in np.flatnonzero(np.isin(codes, list(hits)))[: _EXAMPLES - len(self.examples)].tolist() if hits else ():
            self.examples.append((int(numbers[i]), ids[i].as_py(), hits[codes[i]]))

    def report(self, found: FindingCollector, file: str, kind: str, whose: str | None, *, items: bool) -> None:
        """Report the column as a whole, or its rows, by what they are about; of ``items``, addresses may be public."""
        about: dict[str, Any] = {"file": file, "column": self.name}
        if self.kind is not None and self.values >= 5 and self.as_named >= BY_NAME * self.values:
            words = f"the column is named for it, and {self.as_named:,} of {self.values:,} values look like it"
            found.add(self.kind, words, **about, amount=self.as_named / self.values)
        examples = [one for one in self.examples if not items or self.often[one[2]] < PUBLIC]
        rows = self.rows - len(self.examples) + len(examples)
        if not examples:
            return
        if rows >= max(5, WHOLE_COLUMN * self.values):
            words = f"{rows:,} of {self.values:,} values are or hold an e-mail address"
            found.add(kind, words, **about, amount=rows / self.values)
            return

        def one(place: int) -> Finding:
            own = {} if whose is None else {whose: examples[place][1]}
            return finding(kind, "an e-mail address", row=examples[place][0], **own, **about)

        found.each(kind, range(len(examples)), one)
        found.counts[kind] += rows - len(examples)


def _check_table(
    source: TableReader, stem: Stem, spec: CatalogueSchema, found: FindingCollector, progress: Progress
) -> None:
    """Read a table and report each of its columns but booleans, decimal numbers, and the log's items and times."""
    others: set[str | None] = set()
    if stem == "items":
        id_column = spec.items.item_id
    elif stem == "users":
        id_column = user_column(spec.users, source)
    else:
        log = log_columns(spec.interactions, source, spec.items.item_id)
        id_column, others = log.user_id, {log.item_id, log.timestamp}
    kinds = {name: payload_type(source.schema.field(name).type) for name in source.names if name not in others}
    names = [name for name, kind in kinds.items() if kind not in {None, pa.bool_(), pa.float64()}]
    columns = [_Column(name, *_by_name(name, stem)) for name in names]
    read = list(dict.fromkeys([*names, id_column]))
    progress.start(f"looking for personal data in {source.path.name}", source.total)
    for batch in source.batches(read, _BATCH, None, read if source.untyped else ()):
        for column in columns:
            column.count(batch.batch[column.name], batch.numbers, as_strings(batch.batch[id_column]))
        progress.advance(len(batch.numbers))
    progress.finish()
    items = stem == "items"
    leaks = any(column.rows for column in columns if column.name == id_column)  # then no id is named
    for column in columns:
        kind = "personal.id" if column.name == id_column else "personal.email"
        whose = None if leaks else "item_id" if items else "user_id"
        column.report(found, source.path.name, kind, whose, items=items)


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


def _matching(texts: pa.Array, pattern: str) -> list[int]:
    found: list[int] = np.flatnonzero(np.asarray(pc.match_substring_regex(texts, pattern))).tolist()
    return found
