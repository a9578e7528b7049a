"""What the columns of a catalogue mean: ``catalog.toml`` beside the data, or a default by their names and values."""

import codecs
import os
import re
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.data import column_names
from molar_retrieval.data.availability import ACTIVE, AVAILABLE_FROM, ROLES, STOCK, iso, understood
from molar_retrieval.data.column_names import well_known
from molar_retrieval.data.readers import CsvReader, JsonLinesReader, ParquetReader, TableReader
from molar_retrieval.data.times import TimeParser
from molar_retrieval.data.values import (
    as_strings,
    is_bytes,
    is_list,
    is_number,
    is_string,
    is_text,
    is_word,
    join_present,
    map_elements,
    payload_type,
    split_lists,
)
from molar_retrieval.data.variants import VariantReader
from molar_retrieval.errors import DataError, SettingsError, nearest, shown
from molar_retrieval.workspace.config_files import read_toml
from molar_retrieval.workspace.settings import Settings, validated

DEFAULT = "{title}\n{attributes}\n{description}"
ATTRIBUTES = "attributes"


@dataclass(frozen=True)
class Template:
    """A parsed template: its lines, each of words with the field that follows them, None at the end of a line."""

    lines: tuple[tuple[tuple[str, str | None], ...], ...]

    @classmethod
    def parse(cls, template: str, source: str = "the template") -> "Template":
        """Parse a template; a DataError on unbalanced braces, or a format after the field's name."""
        return cls(tuple(_parse_line(line, source) for line in template.split("\n")))

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, in order, each once."""
        return tuple(dict.fromkeys(field for line in self.lines for _, field in line if field is not None))

    def render(self, fields: Mapping[str, pa.Array], n: int) -> pa.Array:
        """The text of ``n`` items; null for an item without any of the fields.

        ``fields`` has a string array of ``n`` values (null: nothing to say) for each field of the template.
        """
        rendered = [_render_line(line, fields, n) for line in self.lines]
        text = join_present(rendered, "\n")
        something = _any_valid([fields[name] for name in self.fields], n)
        return pc.if_else(something, text, pa.scalar(None, pa.string()))


def attribute_phrase(columns: Mapping[str, pa.Array], n: int) -> pa.Array:
    """``genres: Drama, Comedy; directors: Jane Doe`` from columns of ``n`` phrases in order; null where all are."""
    if not columns:
        return pa.nulls(n, pa.string())
    named = ((f"{label(name)}: ", phrase) for name, phrase in columns.items())
    return join_present([pc.binary_join_element_wise(*pair, "", null_handling="emit_null") for pair in named], "; ")


def label(column: str) -> str:
    """A column's name as words: ``product_type`` is ``product type``."""
    return " ".join(column.replace("_", " ").split())


def _parse_line(line: str, source: str) -> tuple[tuple[str, str | None], ...]:
    pieces = []
    try:
        for words, field, form, conversion in string.Formatter().parse(line):
            if field is not None and (form or conversion or not field.strip()):
                raise ValueError(f"{line!r} has a field without a plain name")
            pieces.append((words, None if field is None else field.strip()))
    except ValueError as error:
        raise DataError(f"{source}: {error}", "write fields as {title}, and braces of the text as {{ and }}") from error
    return tuple(pieces)


def _render_line(line: Sequence[tuple[str, str | None]], fields: Mapping[str, pa.Array], n: int) -> pa.Array:
    present = [fields[field] for _, field in line if field is not None]
    if not present:
        return pa.repeat(pa.scalar("".join(words for words, _ in line)), n)
    pieces = []
    for words, field in line:
        pieces += [pa.scalar(words)] + ([] if field is None else [pc.fill_null(fields[field], "")])
    return pc.if_else(_any_valid(present, n), pc.binary_join_element_wise(*pieces, ""), pa.scalar(None, pa.string()))


def _any_valid(arrays: Sequence[pa.Array], n: int) -> pa.Array:
    return reduce(pc.or_, map(pc.is_valid, arrays), pa.repeat(pa.scalar(False), n))


FILE_NAME = "catalog.toml"


class FileSettings(Settings):
    """Settings that every table of a catalogue has: its file and encoding."""

    file: str | None = Field(None, min_length=1, description="path below this folder; default: by name")
    encoding: str = Field("utf-8", description="encoding of a CSV file, as Python calls it: cp1252, cp932, utf-16")

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        try:
            "a".encode(encoding)
            return codecs.lookup(encoding).name
        except (LookupError, ValueError) as error:
            raise ValueError(f"{encoding[:40]!r} is no encoding of text; write utf-8, cp1252 or cp932") from error


class ItemSettings(FileSettings):
    """``[items]``: the items file and its columns; what is not named goes by its well-known name."""

    item_id: str | None = Field(None, description="the id")
    variant_id: str | None = Field(None, description="the id of a variant, where a product has a row for each")
    level: Literal["product", "variant"] = Field("product", description="what is an item, where there are variants")
    title: str | None = Field(None, description="the title")
    description: str | None = Field(None, description="the long text")
    image: str | None = Field(None, description="path of the photo, relative to the catalogue or to images")
    images: str = Field("images", description="folder of the photos, below this one")
    attributes: tuple[str, ...] | None = Field(None, description="columns that enter the text; default: by rule")
    exclude: tuple[str, ...] = Field((), description="columns that are not kept for filters and display")
    lists: tuple[str, ...] = Field((), description="text columns that hold several values in one string")
    separator: str = Field("|", min_length=1, description="what stands between these values")
    decimal: Literal[".", ","] | None = Field(None, description="decimal sign of a CSV file; default: by column")
    active: str | None = Field(None, description="whether an item may be shown at all")
    available_from: str | None = Field(None, description="from when it may be shown")
    stock: str | None = Field(None, description="how many are left; at 0 it is not shown")

    @field_validator("images")
    @classmethod
    def _below(cls, images: str) -> str:
        parts = PurePosixPath(images.replace("\\", "/")).parts
        if not parts or "\0" in images or ":" in parts[0] or {"..", "/"} & set(parts):
            raise ValueError(f"{images[:40]!r} is no folder below that of the catalogue")
        return "/".join(parts)


class InteractionSettings(FileSettings):
    """``[interactions]``: the log and its columns; what is not named goes by its well-known name."""

    user_id: str | None = Field(None, description="who")
    item_id: str | None = Field(None, description="what")
    timestamp: str | None = Field(None, description="when")
    position: str | None = Field(None, description="order among a user's interactions of one time")
    weight: str | None = Field(None, description="how much an interaction counts, a positive number")
    event: str | None = Field(None, description="the kind of event; two kinds at one time are no duplicates")
    order_id: str | None = Field(None, description="the order; its rows have blank values as the first one has them")
    status: str | None = Field(None, description="the status of the order or its line")
    exclude_status: tuple[str, ...] = Field((), description="values of status that are no purchases")
    cancelled_at: str | None = Field(None, description="when an order was cancelled; with a value it is no purchase")
    quantity: str | None = Field(None, description="pieces, in files that are appended as events")
    price: str | None = Field(None, description="price of a piece, in files that are appended as events")
    value: str | None = Field(None, description="money of the row, in files that are appended as events")
    decimal: Literal[".", ","] | None = Field(None, description="decimal sign of a CSV file; default: by its numbers")
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = Field("auto", description="unit of times that are numbers")
    time_zone: str | None = Field(None, description="zone of times that name none: Europe/Berlin; default: UTC")
    time_format: str | None = Field(None, description="strptime format of times that are not ISO 8601")


class UserSettings(FileSettings):
    """``[users]``: the users file and its columns."""

    user_id: str | None = Field(None, description="the id")


class TextSettings(Settings):
    """``[text]``: how an item is put into words."""

    template: str = Field(DEFAULT, description="lines with fields in braces; a line without any value is dropped")
    language: str | None = Field(None, description="language of the texts, as in BCP 47: en, de, pt-BR")


class CatalogueConfig(Settings):
    """All of ``catalog.toml``."""

    items: ItemSettings = ItemSettings()
    interactions: InteractionSettings = InteractionSettings()
    users: UserSettings = UserSettings()
    text: TextSettings = TextSettings()

    @classmethod
    def read(cls, folder: Path) -> "CatalogueConfig":
        """Read ``folder/catalog.toml``, or the defaults; a DataError if it is no TOML, else a SettingsError."""
        path = folder / FILE_NAME
        try:
            values: Mapping[str, Any] = read_toml(path)
        except FileNotFoundError:
            values = {}
        except SettingsError as error:
            raise DataError(error.message, f"{error.hint}, or delete the file") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}", "make it readable, or delete the file") from error
        return validated(cls, values, str(path))


class ItemColumns(Settings):
    """Columns of the items file by meaning; without ``image``, ``images/<item_id>.jpg`` and its like are looked for."""

    item_id: str
    title: str | None = None
    description: str | None = None
    image: str | None = None
    attributes: tuple[str, ...] = ()
    payload: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    separator: str = "|"


class CatalogueSchema(Settings):
    """What the columns of a catalogue mean.

    Attributes:
        ignored_columns: Payload columns that are no attributes, and why.
        ambiguous_columns: Columns of numbers that can be read in two ways, and why; they are kept as words.
        availability: The columns that say from when an item may be shown, by role.
        variants: The column with the ids of an item's variants.
    """

    items: ItemColumns
    images: str = "images"
    text: TextSettings = TextSettings()
    interactions: InteractionSettings = InteractionSettings()  # resolved when the log is read
    users: UserSettings = UserSettings()
    ignored_columns: dict[str, str] = Field(default_factory=dict)
    ambiguous_columns: dict[str, str] = Field(default_factory=dict)
    availability: dict[str, str] = Field(default_factory=dict)
    variants: str | None = None


Stem = Literal["items", "interactions", "users"]
_READERS: dict[str, type[TableReader]] = {
    ".parquet": ParquetReader,
    ".csv": CsvReader,
    ".jsonl": JsonLinesReader,
    ".tsv": CsvReader,
    ".tab": CsvReader,
    ".txt": CsvReader,
    ".ndjson": JsonLinesReader,
    ".pq": ParquetReader,
}
NAMED_FORMATS = tuple(_READERS)
"""Extensions of named files; without a name, only those of FORMATS are looked for."""
FORMATS = NAMED_FORMATS[:3]


def find_table(folder: Path, stem: Stem, settings: CatalogueConfig | None = None) -> TableReader | None:
    """The reader of a catalogue's items, log or users as ``catalog.toml`` says; None where there is no such file."""
    settings = CatalogueConfig.read(folder) if settings is None else settings
    path = find_file(folder, stem, settings)
    if path is None:
        return None
    source = open_source(path, getattr(settings, stem).encoding)
    source.decimal = None if stem == "users" else getattr(settings, stem).decimal
    return source


def find_file(folder: Path, stem: Stem, settings: CatalogueConfig | None = None) -> Path | None:
    """The file that ``catalog.toml`` names, else ``folder/<stem>`` with a known extension, else None.

    A DataError if the named file is not there or not below the folder, or by name there are two, or only one that is
    not read.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", "name the folder with items.parquet, items.csv or items.jsonl")
    settings = CatalogueConfig.read(folder) if settings is None else settings
    name: str | None = getattr(settings, stem).file
    if name is None:
        return _by_name(folder, stem)
    path, key = folder / name, f"{FILE_NAME}: {stem}.file"
    # Nothing of a catalogue may name a file elsewhere, as catalogues come from others, too.
    below = os.path.realpath(path).startswith(os.path.realpath(folder).rstrip(os.sep) + os.sep)
    if "\0" in name or Path(name).is_absolute() or not below:
        words = f"{key} = {shown(name)} does not lie below {folder}"
        raise DataError(words, f"write its path relative to the folder of {FILE_NAME}, and keep it below that folder")
    if not path.is_file():
        raise DataError(f"{key} = {shown(name)}: there is no such file in {folder}", "name the file as it is called")
    reader_of(path)
    return path


def reader_of(path: Path) -> type[TableReader]:
    """The class that reads a file, by its extension; a DataError where none does."""
    reader = _READERS.get(path.suffix.lower())
    if reader is not None:
        return reader
    form = "an Excel file" if path.suffix.lower() in (".xlsx", ".xls", ".ods") else "a format that is not read"
    raise DataError(f"{path} is {form}", "save it as CSV (UTF-8), JSON lines or Parquet")


def _by_name(folder: Path, stem: str) -> Path | None:
    others = sorted(p for p in folder.glob(f"{stem}.*") if not p.name.endswith((".md", ".toml", ".txt")))
    found = [path for path in others if path.suffix in FORMATS]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(f"{folder} has {names}", f"keep one {stem} file and move the other away")
    if found and not found[0].is_file():
        raise DataError(f"{found[0]} is not a file", f"write one {stem} file, not a folder of parts")
    if not found and others:
        hint = f"save it as {stem}.parquet, {stem}.csv or {stem}.jsonl"
        raise DataError(f"{others[0]} has a format that is not read", hint)
    return found[0] if found else None


def folder_of(path: Path) -> Path:
    """The folder of a catalogue that was named itself, by its items file, or by a file that its ``catalog.toml`` names.

    A DataError for another file.
    """
    if not path.is_file():
        return path
    if path.name == FILE_NAME or path.name.partition(".")[0] == "items":
        return path.parent
    for folder in path.absolute().parents:
        if not (folder / FILE_NAME).is_file():
            continue
        settings = CatalogueConfig.read(folder)
        files = [folder / (part.file or "") for part in (settings.items, settings.interactions, settings.users)]
        if any(file.is_file() and path.samefile(file) for file in files):
            return Path(os.path.relpath(folder)) if not path.is_absolute() else folder
    words = f"{path} is a file that no {FILE_NAME} names, and a catalogue is a folder"
    if _by_name(path.parent, "items") is not None:
        raise DataError(words, f"name the folder: {path.parent}")
    raise DataError(words, f"let `molar init {path}` write one, with the log of purchases beside it if there is one")


def open_source(path: Path, encoding: str = "utf-8") -> TableReader:
    """The reader for a file, by its extension; a DataError if the file cannot be read at all."""
    reader = reader_of(path)
    return CsvReader(path, encoding) if reader is CsvReader else reader(path)


def require_column(column: str, names: Collection[str], file: str, key: str) -> str:
    """``column`` itself, if the file has it; else a DataError with the setting (``key``) and the nearest column."""
    if column in names:
        return column
    close = nearest(column, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"its columns are {', '.join(sorted(names))}"
    raise DataError(f"catalog.toml: {key} names the column {column!r}, which {file} does not have", hint)


def columns_by_role(
    settings: Settings,
    known: Mapping[str, Sequence[str]],
    source: TableReader,
    section: str,
    needed: Collection[str],
    exclude: Collection[str] = (),
) -> dict[str, str]:
    """The column that fills each role: the one that the settings name, else the first with a well-known name.

    An empty name says that there is none. Excluded columns fill a role only if they are named; roles that none fills
    are left out. A DataError says that a named column is not there, or none fills a role that is needed.
    """
    columns, file = source.names, source.path.name
    named = {role: name for role in known if (name := getattr(settings, role)) is not None}
    for role, name in named.items():
        if name or role in needed:
            require_column(name, columns, file, f"{section}.{role}")
    free = [name for name in columns if name not in {*named.values(), *exclude}]
    found = {role: named[role] if role in named else well_known(names, free) for role, names in known.items()}
    for role in needed:
        if found[role] is None:
            hint = f'call it {role}, or name it in catalog.toml: [{section}] {role} = "…"'
            raise DataError(f"{file} has no {role} column; its columns are {', '.join(columns)}", hint)
    return {role: name for role, name in found.items() if name}


SAMPLE = 20_000
LONG = 80  # mean number of characters from which a text counts as a second description
UNIQUE = 0.9  # share of distinct values from which a column counts as an id or a second title …
ENOUGH = 200  # … where it has at least so many values
_COMPARED = 8  # columns after which a column is named that its values are compared with
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]|[0-9]{1,2}[-/. ][^\W\d_]{3,9}[-/. ][0-9]{2,4}$")


def choose_attributes(sample: pa.RecordBatch, columns: Sequence[str], roles: Sequence[str]) -> dict[str, str | None]:
    """By column: None for one that is an attribute by default, otherwise the reason why it is none.

    ``sample`` has the first rows, ``columns`` are in the order of the file, ``roles`` are title and description.
    """
    reasons = {name: _reason(name, sample[name], roles) for name in columns}
    left = [name for name in columns if reasons[name] is None]
    by_words: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    for place, name in enumerate(left):
        by_words.setdefault(tuple(column_names.stems(name)), []).append((place, name))
    for name in left:
        others = [other for other in _variant_of(name, by_words) if reasons[other] is None][:_COMPARED]
        reasons[name] = next((f"it repeats {other!r}" for other in others if _alike(sample[name], sample[other])), None)
    return reasons


def _variant_of(name: str, by_words: Mapping[tuple[str, ...], list[tuple[int, str]]]) -> list[str]:
    """The columns of which one is a variant (``tmdb_genres`` of ``genres``), in their order."""
    words = tuple(column_names.stems(name))
    shorter = {some for n in range(1, len(words)) for some in (words[:n], words[-n:])}
    return [other for _, other in sorted(found for some in shorter for found in by_words.get(some, ()))]


def _reason(name: str, array: pa.Array, roles: Sequence[str]) -> str | None:
    """Why a column is no attribute, by its name, type and values; None where it is one."""
    if not is_text(array.type):
        return "it is empty" if pa.types.is_null(array.type) else f"it holds {_held(array.type)}, not words"
    if by_name := column_names.exclusion_reason(name):
        return by_name
    for role in roles:
        if column_names.is_variant(name, role):
            return f"it is another version of {role!r}"
    flat = as_strings(pc.list_flatten(array) if is_list(array.type) else array)
    values = flat.filter(pc.fill_null(pc.not_equal(flat, ""), False))
    n = len(values)
    if not n:
        return "it is empty"
    mean = pc.mean(pc.utf8_length(values)).as_py()
    if mean > LONG:
        return f"it is long text ({mean:.0f} characters on average)"
    encoded = values.dictionary_encode()
    distinct = len(encoded.dictionary) / n
    wordless = np.array([not _has_words(value) for value in encoded.dictionary.to_pylist()])
    if np.count_nonzero(wordless[encoded.indices]) > n / 2:
        return "it holds numbers or dates, not words"
    if n >= ENOUGH and distinct >= UNIQUE:
        return f"{distinct:.0%} of its values are distinct, as ids or second titles are"
    return None


def _has_words(value: str) -> bool:
    return any(map(str.isalpha, value)) and _DATE.match(value) is None


def _alike(left: pa.Array, right: pa.Array) -> bool:
    """Whether items mostly have one of the values of another column in this one."""
    both = [(a, b) for a, b in zip(_sets(left), _sets(right), strict=True) if a and b]
    return sum(not a.isdisjoint(b) for a, b in both) > len(both) / 2


def _sets(array: pa.Array) -> list[frozenset[str]]:
    if is_list(array.type):
        return [frozenset(values or ()) for values in map_elements(array, as_strings).to_pylist()]
    return [frozenset(() if value is None else (value,)) for value in as_strings(array).to_pylist()]


def _held(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "yes or no"
    if pa.types.is_temporal(kind):
        return "dates or times"
    return "numbers" if is_number(kind) else f"values of the type {kind}"


def columns_of(named: Mapping[str, str], source: TableReader, free: Sequence[str]) -> dict[str, str]:
    """The column that fills each role: the one that is named, else one of the role's name whose values mean that.

    Raises:
        DataError: If a named column is of a type that cannot say it.
    """
    found = {}
    for role in ROLES:
        column = named.get(role)
        if column is not None and not _holds(role, kind := source.schema.field(column).type):
            hint = "name another column in catalog.toml, or write it as docs/catalogue.md says"
            raise DataError(f"{source.path.name}: the {role} column {column!r} holds {kind}", hint)
        guessed = column or well_known([role], free)
        if guessed is not None and (column is not None or _means(role, guessed, source)):
            found[role] = guessed
    return found


class AvailabilityReader:
    """Reads the availability columns of one items file; ``roles`` has them by role.

    A time that names no zone is in ``zone``, by default UTC.
    """

    def __init__(self, roles: Mapping[str, str], source: TableReader, zone: str | None) -> None:
        self._roles, self._source = {column: role for role, column in roles.items()}, source
        self._times = TimeParser(zone=zone)
        if (column := roles.get(AVAILABLE_FROM)) is not None:
            written = [column] if source.untyped else []
            batches = partial(source.batches, [column], SAMPLE, None, written)
            self._times.look_through(lambda: (rows.batch[column] for rows in batches()))

    def __contains__(self, column: object) -> bool:
        return column in self._roles

    def read(self, column: str, array: pa.Array) -> tuple[pa.Array, pa.Array]:
        """The values of a column as payload, and which were given but not understood; these are missing.

        Raises:
            DataError: If the dates can be read in two ways.
        """
        try:
            values = _read(self._roles[column], array, self._times)
        except DataError as error:
            words = f"{self._source.path.name}, column {column!r}: {error.message}"
            raise DataError(words, "write days as 2026-12-31") from error
        return values, pc.and_(pc.is_valid(as_strings(array)), pc.is_null(values))


def type_of(role: str, kind: pa.DataType) -> pa.DataType:
    """The payload's type for a column of some type that fills a role."""
    if role != STOCK:
        return pa.bool_() if role == ACTIVE else pa.string()
    return payload_type(kind) if is_number(kind) else pa.float64()


def _holds(role: str, kind: pa.DataType) -> bool:
    if is_string(kind) or pa.types.is_null(kind):
        return True
    if role != AVAILABLE_FROM:
        return is_number(kind)
    times = pa.types.is_date(kind) or pa.types.is_timestamp(kind)
    return bool(times or (is_number(kind) and not pa.types.is_boolean(kind)))


def _means(role: str, column: str, source: TableReader) -> bool:
    """Whether at least half of a column's values are what its name says: an *active* ingredient is another matter."""
    kind = source.schema.field(column).type
    if role == AVAILABLE_FROM or not is_string(kind):
        return _holds(role, kind)
    some = next(iter(source.batches([column], SAMPLE)), None)
    if some is None:
        return False
    array = some.batch[column]
    told: int = len(array) - _read(role, array, TimeParser()).null_count
    return told > 0 and 2 * told >= int(len(array) - array.null_count)


def _read(role: str, array: pa.Array, times: TimeParser) -> pa.Array:
    """Values of a role as the payload has them, null where they are missing or not understood."""
    kind = type_of(role, array.type)
    array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    if role == AVAILABLE_FROM:
        micros, known = times.parse(array)
        return pa.array([iso(int(one)) if there else None for one, there in zip(micros, known, strict=True)], kind)
    if is_string(array.type):
        words = array.dictionary_encode()
        meanings = pa.array([understood(role, word) for word in words.dictionary.to_pylist()], kind)
        return meanings.take(words.indices)
    if role == STOCK:
        return array.cast(kind, safe=False)
    numbers = array.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(numbers), pc.not_equal(numbers, 0.0), pa.scalar(None, kind))


_ROLES = {
    ITEM_ID: column_names.ITEM_ID,
    TITLE: column_names.TITLE,
    DESCRIPTION: column_names.DESCRIPTION,
    IMAGE: column_names.IMAGE,
}


def read_spec(folder: Path) -> CatalogueSchema:
    """What the columns of the catalogue in ``folder`` mean: ``catalog.toml``, or the default where it is silent."""
    settings = CatalogueConfig.read(folder)
    return resolve(settings, items_source(folder, settings))


def items_source(folder: Path, settings: CatalogueConfig | None = None) -> TableReader:
    """The items file of a catalogue, its numbers by the settings; a DataError if there is none, or it is unreadable."""
    settings = CatalogueConfig.read(folder) if settings is None else settings
    source = find_table(folder, "items", settings)
    if source is None:
        hint = "put items.parquet, items.csv or items.jsonl there, or let `molar init` map files of other names"
        raise DataError(f"{folder} has no items file", hint)
    return _with_variants(source, settings.items)


def _with_variants(source: TableReader, asked: ItemSettings) -> TableReader:
    """The items file as settings say that its rows are products or variants; itself where they name no variants."""
    if asked.variant_id is None:
        if asked.level == "variant":
            hint = 'name the column of the variants\' ids: [items] variant_id = "…"'
            raise DataError("catalog.toml: items.level is variant, and there is no items.variant_id", hint)
        return source
    others = [name for name in source.names if name != asked.variant_id]
    product = asked.item_id or column_names.well_known(column_names.ITEM_ID, others) or ITEM_ID
    for key, column in (("item_id", product), ("variant_id", asked.variant_id)):
        require_column(column, source.names, source.path.name, f"items.{key}")
    if product == asked.variant_id:
        words = f"catalog.toml: items.item_id and items.variant_id are one column, {product!r}"
        raise DataError(words, "name the column of products as item_id, or leave variant_id out")
    named = {role: getattr(asked, role) or column_names.well_known([role], source.names) for role in ROLES}
    columns = {role: column for role, column in named.items() if column}
    return VariantReader(
        source,
        product,
        asked.variant_id,
        lists=asked.lists,
        separator=asked.separator,
        availability=columns,
        fill=asked.level == "variant",
    )


def resolve(settings: CatalogueConfig, source: TableReader) -> CatalogueSchema:
    """Resolve settings against the columns of the items file; a DataError if one of them is not there."""
    asked, file, columns = settings.items, source.path.name, source.names
    if asked.level == "variant":
        asked = asked.model_copy(update={"item_id": asked.variant_id})
    roles = columns_by_role(asked, _ROLES, source, "items", [ITEM_ID], asked.exclude)
    types = dict(zip(source.schema.names, source.schema.types, strict=True))
    for role, name in roles.items():
        kind = types[name]
        if not _fills(kind, role):
            hint = f'name another column in catalog.toml, or do without: [items] exclude = ["{name}"]'
            raise DataError(f"{file}: the {role} column {name!r} holds {kind}", hint)
    kept_out = {*asked.exclude} - {source.variants}  # by which variants are found
    free = [name for name in columns if name not in roles.values() and name not in kept_out]
    usable = [name for name in free if payload_type(types[name]) is not None]
    ignored_columns = {name: f"it holds {types[name]}" for name in free if payload_type(types[name]) is None}
    for key, listed in (("exclude", asked.exclude), ("lists", asked.lists), ("attributes", asked.attributes or ())):
        for name in listed:
            require_column(name, columns, file, f"items.{key}")
    named = {role: column for role in ROLES if (column := getattr(asked, role)) is not None}
    for role, column in named.items():
        require_column(column, columns, file, f"items.{role}")
    for column, meaning in ((roles[ITEM_ID], "id"), *((column, f"{role} column") for role, column in named.items())):
        if column in asked.lists:
            raise DataError(f"catalog.toml: items.lists names {column!r}, the {meaning}", "take it off the list")
    when = columns_of(named, source, [name for name in usable if name not in asked.lists])
    if asked.attributes is None:
        product = settings.items.item_id if asked.level == "variant" else None
        ignored_columns |= dict.fromkeys(when.values(), "it says from when the item may be shown")
        ignored_columns |= {name: "it has ids" for name in (source.variants, product) if name in usable}
        reasons = _default_attributes(source, [name for name in usable if name not in ignored_columns], roles, asked)
        attributes = tuple(name for name, reason in reasons.items() if reason is None)
        ignored_columns |= {name: reason for name, reason in reasons.items() if reason is not None}
    else:
        attributes = _asked_attributes(asked.attributes, roles, source)
        ignored_columns |= {name: "catalog.toml does not name it" for name in usable if name not in attributes}
    items = ItemColumns(
        **roles, attributes=attributes, payload=tuple(usable), lists=asked.lists, separator=asked.separator
    )
    _check_template(settings.text.template, items, source)
    return CatalogueSchema(
        items=items,
        images=asked.images,
        text=settings.text,
        interactions=settings.interactions,
        users=settings.users,
        ignored_columns=ignored_columns,
        ambiguous_columns={name: reason for name, reason in source.ambiguous_columns.items() if name in usable},
        availability=when,
        variants=source.variants,
    )


def _fills(kind: pa.DataType, role: str) -> bool:
    """Whether a column of this type can be what it is named after."""
    if role == ITEM_ID:
        return is_word(kind)
    if role == IMAGE:
        return is_word(kind) and not is_bytes(kind)
    return payload_type(kind) is not None or is_bytes(kind)


def _default_attributes(
    source: TableReader, usable: Sequence[str], roles: dict[str, str], asked: ItemSettings
) -> dict[str, str | None]:
    sample = _sample(source, usable, set(asked.lists) if source.untyped else set())
    for name in set(asked.lists) & set(usable):
        position = sample.schema.get_field_index(name)
        sample = sample.set_column(position, name, split_lists(sample[name], asked.separator))
    texts = [roles[role] for role in (TITLE, DESCRIPTION) if role in roles]
    return choose_attributes(sample, usable, texts)


def _sample(source: TableReader, columns: Sequence[str], written: Collection[str]) -> pa.RecordBatch:
    batches, n = [], 0
    for rows in source.batches(columns, SAMPLE, as_strings=written) if columns else ():
        batches.append(rows.batch)
        n += len(rows)
        if n >= SAMPLE:
            break
    if batches:
        return pa.concat_batches(batches).slice(0, SAMPLE)
    return pa.RecordBatch.from_arrays([pa.nulls(0, source.schema.field(c).type) for c in columns], list(columns))


def _asked_attributes(asked: Sequence[str], roles: dict[str, str], source: TableReader) -> tuple[str, ...]:
    for name in asked:
        role = next((role for role, column in roles.items() if column == name), None)
        if role is not None:
            raise DataError(f"catalog.toml: the attribute {name!r} is the {role} already", "take it off the list")
        if payload_type(kind := source.schema.field(name).type) is None:
            raise DataError(f"catalog.toml: the attribute {name!r} holds {kind}", "flatten it to strings or lists")
    return tuple(dict.fromkeys(asked))


def _check_template(template: str, items: ItemColumns, source: TableReader) -> None:
    fields = Template.parse(template, "catalog.toml: text.template").fields
    if not fields:
        raise DataError("catalog.toml: text.template has no field", "name one: {title}, {attributes}, {description}")
    usable = [field.name for field in source.schema if payload_type(field.type) is not None]
    known = [TITLE, DESCRIPTION, ATTRIBUTES, *usable]
    for name in fields:
        if name not in known:
            close = nearest(name, known, n=1)
            hint = f"did you mean {{{close[0]}}}?" if close else f"known are {', '.join(known)}"
            raise DataError(f"catalog.toml: text.template has the field {{{name}}}, which is no column", hint)
