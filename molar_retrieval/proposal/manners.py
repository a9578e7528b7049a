"""How a table writes its numbers, times, photos and texts: the settings of `catalog.toml` that follow from that."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.images import EXTENSIONS
from molar_retrieval.catalog.numbers import BESIDE_COMMAS, sign_tells
from molar_retrieval.catalog.sources import open_source
from molar_retrieval.languages import common_language
from molar_retrieval.proposal.questions import Ask, Question
from molar_retrieval.proposal.tables import SampledColumn, SampledTable
from molar_retrieval.proposal.vocabulary import language_of_names

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


def decimal_of(table: SampledTable, language: str | None, said: str | None, ask: Ask) -> str | None:
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
    name = next(iter(doubtful))
    example = next(value for value in table[name].distinct.to_pylist() if "," in value or "." in value)
    plain = example.replace(",", "").replace(".", "")
    meant = {sign: example.replace(sign, ".") if sign in example else plain for sign in ",."}
    answers = {",": f"a comma: {example} means {meant[',']}", ".": f"a point: {example} means {meant['.']}"}
    return ask(Question(f"Which is the decimal sign in {name!r} of {table.path.name}?", answers, "--decimal '{}'"))


def _grouped(column: SampledColumn) -> bool:
    """Whether all numbers with a point have three digits behind it, as thousands do."""
    pointed = column.distinct.filter(pc.match_substring(column.distinct, "."))
    return len(pointed) >= _ENOUGH and column.share(f"{_THOUSANDS}|{_PLAIN}") == 1.0


def time_format_of(column: SampledColumn, file: str, said: str | None, ask: Ask) -> str | None:
    """The format that reading the log's times has to be told; None where it understands them by itself."""
    form = column.times
    if said is not None or form is None or not form.formats:
        return said
    if len(form.formats) == 1:
        return form.formats[0]
    answers = {way: f"{form.example} is {_in_words(form.example, way)}" for way in form.formats}
    text = f"Which of day, month and year comes first in {column.name!r} of {file}, as in {form.example}?"
    return ask(Question(text, answers, '--time-format "{}"'))


def _in_words(example: str, way: str) -> str:
    from datetime import datetime

    when = datetime.strptime(example, way)
    return f"{when.day} {when:%B %Y}"


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
        share = sum(_is_there(where, name, ids=ids) for name in names) / len(names)
        if share > best[1]:
            best = (place, share)
    return best if best[1] >= (_FOUND if ids else 1e-9) else (None, 0.0)


def _is_there(folder: Path, name: str, *, ids: bool) -> bool:
    if not ids:
        return (folder / name.lstrip("/")).is_file()
    return any((folder / f"{name}{extension}").is_file() for extension in EXTENSIONS)


def _folders(folder: Path) -> list[str]:
    """Folders in the catalogue's own, and in these; none that are hidden."""
    found: list[str] = []
    for path in islice((p for pattern in ("*/", "*/*/") for p in sorted(folder.glob(pattern))), _MOST_FOLDERS):
        relative = path.relative_to(folder).as_posix()
        if path.is_dir() and not any(part.startswith(".") for part in relative.split("/")):
            found.append(relative)
    return found
