"""Personal data in a catalogue: columns and texts that look like them, and ids that are such."""

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
from molar_retrieval.quality.findings import Finding, fault, fault_kinds
from molar_retrieval.quality.items import LOOKED_AT
from molar_retrieval.quality.personal_patterns import ADDRESS, CARD, PATTERNS, PHONE, Pattern, PersonalHit, issued

WHOLE_COLUMN = 0.2  # From this share of its values on, a column is reported once, not row by row
BY_NAME = 0.6  # Share of the values of a column that must look as its name says
PUBLIC = 5  # An e-mail address or number that so many rows of the items file have is the shop's or a maker's
CHANCE = 0.3  # Where fewer numbers that could be of a card have the check digit, none is: one in ten has it by chance
_BATCH = 65_536
_KEPT = 10_000
_REMEMBERED = 100_000
_ENOUGH = 200_000

NAME, BIRTH, IDS = "personal.name", "personal.birth_date", "personal.id"
_PERSON = {"customer", "user", "buyer", "client", "recipient", "billing", "shipping", "contact", "reviewer", "kunde"}
_LETTERS = r"^[\p{L}][\p{L}.'’-]*(?: [\p{L}][\p{L}.'’-]*){0,4}$"


@dataclass(frozen=True)
class _NameRule:
    """What a column's name promises, and how its values must look for it to be believed (RE2)."""

    kind: str
    names: str
    values: str


_RULES = (
    _NameRule(NAME, "firstname lastname surname forename fullname vorname nachname prenom nom", _LETTERS),
    _NameRule(ADDRESS, "address street adresse strasse straße streetaddress", r"\p{L}{2}.*[ ,]"),
    _NameRule(ADDRESS, "zip zipcode postcode postalcode plz postleitzahl", r"^[A-Z]{0,3}[ -]?\d[\dA-Z -]{2,9}$"),
    _NameRule(PHONE, "phone telephone tel mobile telefon handy phonenumber", r"^\+?[\d ()./-]{7,20}$"),
    _NameRule(BIRTH, "birthdate birthday dob dateofbirth geburtsdatum geburtstag", r"\d"),
)


def check_personal(folder: Path, spec: CatalogueSpec, found: Collector, progress: Progress = SILENT) -> None:
    """Look for personal data in all files of a catalogue; ``found`` takes the findings with masked values."""
    stems: tuple[Stem, ...] = ("items", "users", "interactions")
    for stem in stems:
        try:
            source = find_table(folder, stem)
            if source is not None:
                _PersonalSearch(source, stem, spec, found).check(progress)
        except DataError:
            continue  # what is wrong with the file itself is for others to say


@dataclass
class _SeenColumn:
    """What was seen in one column: numbers of values, and of ``rows`` by kind of personal data; ``kept`` are examples.

    ``long_numbers`` could be of a card but for the check digit; ``as_named`` look as the column's name says; ``often``
    counts each thing that was found; a ``settled`` column is known to hold nothing else, and is not read on.
    """

    values: int = 0
    long_numbers: int = 0
    as_named: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    kept: dict[str, list[tuple[int, str | None, PersonalHit]]] = field(default_factory=dict)
    often: Counter[str] = field(default_factory=Counter)
    settled: bool = False


class _PersonalSearch:
    def __init__(self, source: TableSource, stem: str, spec: CatalogueSpec, found: Collector) -> None:
        self._source, self._stem, self._spec, self._found = source, stem, spec, found
        self._file = source.path.name
        self._patterns = [p for p in PATTERNS if p.in_items or stem != "items"]
        self._id = self._id_column()
        self._columns = [name for name in source.names if self._worth_reading(name)]
        self._rules = {name: rule for name in self._columns if (rule := _rule(name, stem)) is not None}
        self._seen = {name: _SeenColumn() for name in self._columns}

    def check(self, progress: Progress) -> None:
        """Read it and report."""
        columns = self._columns + [name for name in (self._id,) if name and name not in self._columns]
        if not self._columns:
            return
        text = self._source.untyped
        progress.start(f"looking for personal data in {self._file}", self._source.total)
        for rows in self._source.batches(columns, _BATCH, None, columns if text else ()):
            ids = None if self._id is None else as_written(rows.batch[self._id])
            for name in self._columns:
                column = rows.batch[name]
                texts = as_phrase(column) if is_list(column.type) else as_written(column)
                self._look(name, texts, rows.numbers, ids)
            progress.advance(len(rows.numbers))
        progress.finish()
        for name in self._columns:
            self._report(name)

    def _id_column(self) -> str | None:
        asked, columns = self._spec, self._source.names
        if self._stem == "items":
            return asked.items.item_id
        settings = asked.users if self._stem == "users" else asked.interactions
        known = (*names.USER_ID, "id") if self._stem == "users" else names.USER_ID
        found = settings.user_id or names.well_known(known, columns)
        return found if found in columns and is_word(self._source.schema.field(found).type) else None

    def _worth_reading(self, name: str) -> bool:
        """Not what cannot hold words or long numbers, and not the log's items and times."""
        if self._stem == "interactions":
            log = self._spec.interactions
            known = {log.item_id, log.timestamp, names.well_known(names.LOG_ITEM_ID, self._source.names)}
            if name in known | {names.well_known(names.TIMESTAMP, self._source.names), self._spec.items.item_id}:
                return False
        stored = payload_type(self._source.schema.field(name).type)
        return stored is not None and stored not in {pa.bool_(), pa.float64()}

    def _look(self, name: str, array: pa.Array, numbers: npt.NDArray[np.int64], ids: pa.Array | None) -> None:
        seen = self._seen[name]
        if seen.settled:
            return
        encoded = pc.utf8_slice_codeunits(array, 0, LOOKED_AT).dictionary_encode()
        texts, codes = encoded.dictionary, np.asarray(encoded.indices.fill_null(-1))
        times = np.bincount(codes[codes >= 0], minlength=len(texts))
        seen.values += int(times.sum())
        if name in self._rules:
            seen.as_named += int(times[_matching(texts, self._rules[name].values)].sum())
        for pattern in self._patterns:
            hits = _hits(texts, pattern)
            if pattern.kind == CARD:
                numbered = _matching(texts, pattern.hint)
                seen.long_numbers += sum(int(times[code]) * issued(texts[code].as_py()) for code in numbered.tolist())
            kind = pattern.kind
            for code, several in hits.items():
                seen.rows[kind] += int(times[code])
                for hit in several:
                    if hit.value in seen.often or len(seen.often) < _REMEMBERED:
                        seen.often[hit.value] += int(times[code])
            kept = seen.kept.setdefault(kind, [])
            room = _KEPT - len(kept)
            for i in np.flatnonzero(np.isin(codes, list(hits)))[:room].tolist() if hits else ():
                kept.append((int(numbers[i]), None if ids is None else ids[i].as_py(), hits[codes[i]][0]))
        seen.settled = seen.values >= _ENOUGH and max(seen.rows.values(), default=0) > seen.values / 2

    def _report(self, name: str) -> None:
        seen, rule = self._seen[name], self._rules.get(name)
        named = rule is not None and seen.values >= 5 and seen.as_named >= BY_NAME * seen.values
        if named and rule is not None:
            words = f"its name says so, and {seen.as_named:,} of {seen.values:,} values look like it"
            self._whole(rule.kind, name, seen.as_named, seen.values, words)
        for pattern in self._patterns:
            kind, rows = pattern.kind, seen.rows[pattern.kind]
            by_chance = kind == CARD and rows < CHANCE * seen.long_numbers
            if not rows or by_chance or (named and rule is not None and rule.kind == kind):
                continue
            kept = seen.kept[kind]
            if self._stem == "items":
                private = [entry for entry in kept if seen.often[entry[2].value] < PUBLIC]
                rows -= len(kept) - len(private)
                kept = private
            if not kept:
                continue
            told = IDS if name == self._id else kind
            if rows >= WHOLE_COLUMN * seen.values and rows >= 5:
                title = fault_kinds()[kind].title
                words = f"{title[0].lower()}{title[1:]}: {rows:,} of {seen.values:,} values"
                self._whole(told, name, rows, seen.values, f"{words}, such as {kept[0][2].shown}")
            else:
                self._rows(told, name, rows, kept)

    def _whole(self, kind: str, column: str, rows: int, values: int, words: str) -> None:
        where = {"file": self._file, "column": column}
        facts = {"values": rows, "share": rows / values}
        self._found.add(kind, f"the column {column!r}: {words}", **where, amount=facts["share"], facts=facts)

    def _rows(self, kind: str, column: str, rows: int, kept: list[tuple[int, str | None, PersonalHit]]) -> None:
        secret = self._id is None or column == self._id or bool(self._seen.get(self._id, _SeenColumn()).rows)

        def finding(i: int) -> Finding:
            number, own, hit = kept[min(i, len(kept) - 1)]
            about = {"item_id" if self._stem == "items" else "user_id": None if secret else own}
            return fault(kind, f"{column}: {hit.shown}", **about, file=self._file, row=number, column=column)

        self._found.each(kind, range(len(kept)), finding)
        self._found.counts[kind] += rows - len(kept)


def _rule(name: str, stem: str) -> _NameRule | None:
    """The rule for a column of this name; in the items file, only where the name speaks of a customer."""
    words = names.words(name)
    person = bool(_PERSON & set(words))
    if stem == "items" and not person:
        return None
    candidates = {*words, "".join(words), "".join(words[-2:])}
    for rule in _RULES:
        if candidates & set(rule.names.split()):
            return rule
    return _RULES[0] if words[-1:] == ["name"] and (person or len(words) == 1) else None


def _matching(texts: pa.Array, expression: str) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.asarray(pc.match_substring_regex(texts, expression)))


def _hits(texts: pa.Array, pattern: Pattern) -> dict[int, list[PersonalHit]]:
    found = {int(code): list(pattern.hits(texts[int(code)].as_py())) for code in _matching(texts, pattern.hint)}
    return {code: hits for code, hits in found.items() if hits}
