"""The layouts of published data sets.

MovieLens: ``ratings.dat`` (1M, 10M), or ``ratings.csv`` (latest, 20M, 25M, 32M). Harper and Konstan, The MovieLens
Datasets, ACM TiiS 5(4), 2015; the README of each data set.

Amazon: one file of reviews and one of metadata per category, one object a line, each perhaps ``.gz``. 2014:
``reviews_X_5.json`` or ``reviews_X.json``, and ``meta_X.json``; McAuley, Targett, Shi and van den Hengel, Image-based
Recommendations on Styles and Substitutes, SIGIR 2015. The metadata, and the reviews that are not 5-core, are lines of
Python literals rather than JSON. 2023: ``X.jsonl`` and ``meta_X.jsonl``, an item is a ``parent_asin``; Hou, Li, He,
Yan, Chen and McAuley, Bridging Language and Items for Retrieval and Recommendation, arXiv 2403.03952.

H&M Personalized Fashion Recommendations (Kaggle, 2022): articles, customers, transactions, photos. An item is a product
(all its colours together, as each has few purchases by itself) or an article.

PixelRec: a CSV of interactions, one of item information, and covers called ``<item_id>.jpg``. Cheng et al., An Image
Dataset for Benchmarking Recommender Systems with Raw Pixels, SDM 2024. The files are called after the subset
(``Pixel200K.csv``, ``Pixel1M.csv`` …), so that they are told apart by their headers.

The files are CSV, fields between ``::``, or one object a line; plain or gzip. What they hold is in ``layouts.toml``.
"""

import ast
import csv
import html
import io
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.columns import ITEM_ID, TITLE
from molar_retrieval.data.readers import CsvReader
from molar_retrieval.data.rows import Rejects, RowBatch
from molar_retrieval.data.values import STRING_LIST
from molar_retrieval.data.variants import VariantReader
from molar_retrieval.errors import DataError

_BATCH, _LARGE_ROWS = 65_536, 4_096  # rows that are read at once; of texts
_REAL = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\s*$"
_WHOLE = r"^\s*[+-]?[0-9]{1,9}\s*$"
_NONE = pa.scalar(None, pa.string())
Layout = Mapping[str, Any]
LAYOUTS: Mapping[str, Layout] = tomllib.loads((resources.files(__package__) / "layouts.toml").read_text("utf-8"))


@dataclass(frozen=True)
class PublishedTable:
    """A file read in bounded memory as batches of one schema, with row numbers; unreadable rows go to rejects."""

    path: Path
    rows: Callable[[Rejects], Iterator[RowBatch]]

    def then(self, shape: Callable[[RowBatch], RowBatch]) -> "PublishedTable":
        """The table with each batch given another shape."""
        return PublishedTable(self.path, lambda rejects: map(shape, self.rows(rejects)))


@dataclass(frozen=True)
class PublishedData:
    """A published data set, opened: its files are found and their headers are right.

    Attributes:
        items: ``item_id`` (string, null or repeated where the data are so), ``title`` and more.
        log: ``user_id`` and ``item_id`` (strings), ``timestamp`` (as the file has it), perhaps more.
        photos: Where the photos lie unless the caller says otherwise; it need not exist.
        users: ``user_id`` (string) and more, or None.
        more_attributes: Item columns that enter the vectors beside those of the layout.
        photo_names: Where the photo of an item may lie, best first: relative to the photos folder, without the
            extension. Called after the items have been read.
    """

    items: PublishedTable
    log: PublishedTable
    photos: Path
    users: PublishedTable | None = None
    more_attributes: Sequence[str] = ()
    photo_names: Callable[[str], Sequence[str]] = lambda item_id: (item_id,)


def csv_table(path: Path, format_: str, table: str) -> PublishedTable:
    """A CSV file of known columns, else a DataError; a value is a string as it is written (007 stays 007) or null."""
    layout = LAYOUTS[format_][table]
    source, columns = CsvReader(_existing(path, format_)), list(layout["columns"])
    missing = [name for name in columns if name not in source.names]
    if missing:
        words = f"{path} has no column {', '.join(missing)}; its columns are {', '.join(source.names)}"
        raise DataError(words, f"take the file as {format_} publishes it, with its header line")

    def rows(rejects: Rejects) -> Iterator[RowBatch]:
        for read in source.batches(columns, _BATCH, rejects, columns):
            yield _named(read, layout)

    return PublishedTable(path, rows)


def colon_table(path: Path, format_: str, table: str) -> PublishedTable:
    """A file with ``::`` between the fields and no header; empty fields are null, a title may hold ``::`` itself.

    A line is UTF-8 or, as in MovieLens-1M, Latin-1. Lines with other fields are rejected.
    """
    layout = LAYOUTS[format_][table]
    fields = [f"(?P<{name}>{'.*' if name == TITLE else '[^:]*'})" for name in layout["columns"].values()]

    def rows(rejects: Rejects) -> Iterator[RowBatch]:
        source = lines(path)
        while chunk := list(islice(source, _BATCH)):
            numbers = np.array([number for number, _ in chunk], np.int64)
            texts_ = pa.array([_decoded(line) for _, line in chunk], pa.string())
            found = pc.extract_regex(texts_, f"^{'::'.join(fields)}$")
            good = np.asarray(pc.is_valid(found))
            for i in np.flatnonzero(~good):
                rejects.add(path.name, int(numbers[i]), None, "line of another form", repr(texts_[i].as_py()[:60]))
            columns = [pc.if_else(pc.equal(c, ""), _NONE, c) for c in found.filter(pa.array(good)).flatten()]
            batch = pa.RecordBatch.from_arrays(columns, list(layout["columns"]))
            yield _named(RowBatch(numbers[good], batch), layout)

    return PublishedTable(_existing(path, format_), rows)


def object_table(path: Path, format_: str, table: str, size: int) -> PublishedTable:
    """A file of one object a line, read ``size`` rows at a time; the layout says what makes a value of which keys."""
    layout = {name: (*_WAYS[way], keys) for name, (way, *keys) in LAYOUTS[format_][table].items()}
    wanted = {key for _, _, keys in layout.values() for key in keys}

    def rows(rejects: Rejects) -> Iterator[RowBatch]:
        source = objects(path, rejects)
        while chunk := [(number, {key: row.get(key) for key in wanted}) for number, row in islice(source, size)]:
            columns = {}
            for name, (convert, kind, keys) in layout.items():
                values = (row[keys[0]] if len(keys) == 1 else [row[key] for key in keys] for _, row in chunk)
                columns[name] = pa.array(map(convert, values), kind)
            numbers = np.array([number for number, _ in chunk], np.int64)
            yield RowBatch(numbers, pa.RecordBatch.from_pydict(columns))

    return PublishedTable(path, rows)


def _existing(path: Path, format_: str) -> Path:
    if not path.is_file():
        raise DataError(f"{path.parent} has no {path.name}", f"{format_} is read from {path}; put it there")
    return path


def _named(rows: RowBatch, layout: Layout) -> RowBatch:
    """Columns as the catalogue calls them, with numbers where the layout says so."""
    named = RowBatch(rows.numbers, rows.batch.rename_columns(list(layout["columns"].values())))
    kinds = layout.get("numbers", {}).items()
    return named.with_columns({name: as_numbers(named.batch[name], pa.type_for_alias(kind)) for name, kind in kinds})


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered from 1, in bounded memory, also of ``.gz``; else a DataError."""
    try:
        with io.BufferedReader(pa.input_stream(path)) as file:
            for number, line in enumerate(file, 1):
                if bare := line.strip():
                    yield number, bare
    except OSError as error:
        raise DataError(f"{path} cannot be read to its end: {error}", "fetch the file again") from error


def objects(path: Path, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file, in JSON or as Python literals, with their line numbers; other lines are rejected.

    Nothing is evaluated.
    """
    for number, line in lines(path):
        value = None
        for parse in (json.loads, lambda text: ast.literal_eval(text.decode("utf-8"))):
            try:
                value = parse(line)
                break
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                continue
        if isinstance(value, dict):
            yield number, value
        else:
            rejects.add(path.name, number, None, "line is no object", repr(line[:60])[1:])


def as_numbers(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Strings as numbers of a type; null where there is none. An int64 may be written with a decimal point."""
    if kind == pa.int64():
        return as_numbers(array, pa.float64()).cast(kind, safe=False)
    fine = pc.fill_null(pc.match_substring_regex(array, _WHOLE if pa.types.is_integer(kind) else _REAL), False)
    bare = pc.utf8_ltrim(pc.utf8_trim_whitespace(array), "+")
    return pc.if_else(fine, bare, _NONE).cast(kind, safe=False)


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


GENRES, YEAR = "genres", "year"
# "Heat (1995)", "Death Note (2006–2007)", "Some Series (2016- )"; in some titles blanks follow the year.
_DATED = r"^(?P<title>.*\S)\s*\((?P<year>[0-9]{4})(?:\s*[–-]\s*[0-9]{0,4})?\s*\)\s*$"
_NO_GENRES = "(no genres listed)"


def open_movielens(folder: Path) -> PublishedData:
    """Open a MovieLens folder of either layout; a DataError if it holds neither, or both."""
    colons, table = (folder / "ratings.dat").is_file(), (folder / "ratings.csv").is_file()
    if colons and table:
        raise DataError(f"{folder} has ratings.dat and ratings.csv", "put each data set into a folder of its own")
    if not colons and not table:
        one, other = "ratings.dat, movies.dat and users.dat (1M)", "ratings.csv and movies.csv (latest, 20M, 25M, 32M)"
        hint = f"movielens is read from {one}, or from {other}"
        raise DataError(f"{folder} has neither ratings.dat nor ratings.csv", hint)
    ending, open_table = (".dat", colon_table) if colons else (".csv", csv_table)
    movies, ratings = (open_table(folder / f"{name}{ending}", "movielens", name) for name in ("movies", "ratings"))
    users = None
    if colons and (folder / "users.dat").is_file():
        users = colon_table(folder / "users.dat", "movielens", "users").then(_people)
    return PublishedData(movies.then(_films), ratings, folder / "images", users)


def _films(rows: RowBatch) -> RowBatch:
    """Title without the year, year (int32, null where the title has none) and genres (lists of strings)."""
    titles, genres = rows.batch[TITLE], rows.batch[GENRES]
    dated = pc.extract_regex(titles, _DATED)
    listed = pc.split_pattern(pc.if_else(pc.equal(genres, _NO_GENRES), _NONE, genres), "|")
    columns = {
        ITEM_ID: rows.batch[ITEM_ID],
        TITLE: pc.coalesce(pc.struct_field(dated, TITLE), pc.utf8_trim_whitespace(titles)),
        YEAR: pc.struct_field(dated, YEAR).cast(pa.int32()),
        GENRES: listed.cast(STRING_LIST),
    }
    return RowBatch(rows.numbers, pa.RecordBatch.from_pydict(columns))


def _people(rows: RowBatch) -> RowBatch:
    """Age and occupation as code and in words."""
    ages = {int(code): words for code, words in LAYOUTS["movielens"]["ages"].items()}
    known = {"age": ages, "occupation": dict(enumerate(LAYOUTS["movielens"]["occupations"]))}
    codes = {name: rows.batch[f"{name}_code"].to_pylist() for name in known}
    return rows.with_columns({n: pa.array([known[n].get(code) for code in codes[n]], pa.string()) for n in known})


_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>")


def open_amazon(format_: str, folder: Path) -> PublishedData:
    """Open the one category in a folder; a DataError if a file is missing, or it is not clear which is meant."""
    ending, reviews = LAYOUTS[format_]["ending"], LAYOUTS[format_]["reviews"]
    metas = sorted([*folder.glob(f"meta_*{ending}"), *folder.glob(f"meta_*{ending}.gz")])
    if not metas:
        wanted = f"meta_<category>{ending}.gz and {reviews[0].format('<category>')}{ending}.gz, or the same unpacked"
        raise DataError(f"{folder} has no meta_<category>{ending} or .gz", f"{format_} is read from {wanted}")
    if len(metas) > 1:
        found = ", ".join(path.name for path in metas)
        raise DataError(f"{folder} has {found}", "put each category into a folder of its own, packed or unpacked")
    category = metas[0].name.removesuffix(".gz").removesuffix(ending).removeprefix("meta_")
    names = [f"{pattern.format(category)}{ending}{packed}" for pattern in reviews for packed in ("", ".gz")]
    logs = [folder / name for name in names if (folder / name).is_file()]
    if not logs:
        raise DataError(f"{folder} has {metas[0].name} but none of {', '.join(names)}", "put the reviews beside it")
    if len(logs) > 1:
        found = " and ".join(path.name for path in logs)
        raise DataError(f"{folder} has {found}", "keep the one that is meant and move the other away")
    items = object_table(metas[0], format_, "items", _LARGE_ROWS)
    return PublishedData(items, object_table(logs[0], format_, "log", 4 * _BATCH), folder / "images")


def as_id(value: Any) -> str | None:
    """A string as it is; None for anything else, and for what no file could hold."""
    return value if isinstance(value, str) and _is_unicode(value) else None


def text(value: Any) -> str | None:
    """A text of a web page without its markup and entities; the elements of a list become lines."""
    if isinstance(value, list):
        return "\n".join(plain for plain in map(text, value) if plain) or None
    if not isinstance(value, str):
        return None
    plain = _MARKUP.sub(" ", html.unescape(_MARKUP.sub(" ", value))) if {"&", "<"} & set(value) else value
    plain = plain if _is_unicode(plain) else plain.encode("utf-8", "replace").decode("utf-8")
    return plain.strip() or None


def texts(values: Any) -> list[str]:
    """The texts in lists, at any depth, each once."""
    return list(dict.fromkeys(plain for plain in map(text, _flat(values)) if plain))


def number(value: Any) -> float | None:
    """A number, also one written as a string ("12.99", "$12.99"); None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value.strip().lstrip("$").replace(",", "") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return found if np.isfinite(found) else None


def _flat(values: Any) -> Iterable[Any]:
    for value in values if isinstance(values, list) else [values]:
        yield from _flat(value) if isinstance(value, list) else [value]


def _is_unicode(value: str) -> bool:
    """Whether there is no half of a surrogate pair in it."""
    try:
        return value.isascii() or bool(value.encode("utf-8"))
    except UnicodeEncodeError:
        return False


_WAYS: dict[str, tuple[Callable[[Any], Any], pa.DataType]] = {
    "id": (as_id, pa.string()),
    "text": (text, pa.string()),
    "texts": (texts, STRING_LIST),
    "number": (number, pa.float64()),
    "rating": (number, pa.float32()),
}
"""What makes a value of what the file has, and the type of the column, by the names in ``layouts.toml``."""
HM_LEVELS = ("product", "article")


def open_hm(folder: Path, level: str = "product") -> PublishedData:
    """Open the files as Kaggle has them, a DataError if one is unfit; an item is a ``product`` or an ``article``."""
    names = ("articles", "transactions_train", "customers")
    items, log, users = (csv_table(folder / f"{name}.csv", "hm", name) for name in names)
    articles, product_of = dict[str, list[str]](), dict[str, str]()  # articles of each product, and the reverse

    def named_items(rows: RowBatch) -> RowBatch:
        names = [ITEM_ID if name == "article_id" else name for name in rows.batch.schema.names]
        return RowBatch(rows.numbers, rows.batch.rename_columns(names))

    def products(rejects: Rejects) -> Iterator[RowBatch]:
        columns = {**LAYOUTS["hm"]["articles"]["columns"], "product_code": ITEM_ID, "colour_group_name": "colours"}
        del columns["article_id"]
        source = VariantReader(CsvReader(items.path), "product_code", "article_id", lists=["colour_group_name"])
        written = columns.keys() - {"colour_group_name"}
        for rows in source.batches([*columns, str(source.variants)], _LARGE_ROWS, rejects, written):
            *values, variants = rows.batch.columns
            for product, own in zip(rows.batch["product_code"].to_pylist(), variants.to_pylist(), strict=True):
                articles.setdefault(product, []).extend(own or ())
                product_of.update(dict.fromkeys(own or (), product))
            counts = pc.fill_null(pc.list_value_length(variants), 0)
            names = [*columns.values(), "n_articles"]
            yield RowBatch(rows.numbers, pa.RecordBatch.from_arrays([*values, counts], names))

    def in_products(rows: RowBatch) -> RowBatch:
        own = rows.batch["article_id"].dictionary_encode()  # an unknown article is then no known item
        found = pa.array([product_of.get(one, one) for one in own.dictionary.to_pylist()], pa.string())
        return rows.with_columns({ITEM_ID: found.take(own.indices)})

    def photo_names(item_id: str) -> list[str]:
        """``010/0108775015``: those of the articles of a product, or that of an article."""
        return [f"{article[:3]}/{article}" for article in articles.get(item_id, [item_id])]

    if level == "article":
        items, log, colours = items.then(named_items), log.then(named_items), "colour"
    else:
        items, log, colours = PublishedTable(items.path, products), log.then(in_products), "colours"
    return PublishedData(items, log, folder / "images", users, [colours], photo_names)


_PHOTOS = ("images", "cover", "covers")


def open_pixelrec(folder: Path) -> PublishedData:
    """Open a folder with the two files in it or in subfolders; a DataError if one is missing or not clear."""
    files = {path: _header(path) for path in sorted([*folder.glob("*.csv"), *folder.glob("*/*.csv")])}

    def find(table: str, unlike: str | None = None) -> PublishedTable:
        columns = LAYOUTS["pixelrec"][table]["columns"]
        found = [path for path, names in files.items() if {*columns} <= names and unlike not in names]
        if not found:
            hint = "pixelrec is read from the CSV of interactions and the one of item information, or from subfolders"
            raise DataError(f"{folder} has no CSV file with the columns {','.join(columns)}", hint)
        if len(found) > 1:
            listed = " and ".join(str(path.relative_to(folder)) for path in found)
            raise DataError(f"{folder} has {listed}, which have the same columns", "keep the one that is meant")
        return csv_table(found[0], "pixelrec", table)

    photos = next((folder / name for name in _PHOTOS if (folder / name).is_dir()), folder / _PHOTOS[0])
    log = find("log", unlike="title")
    return PublishedData(find("items"), log, photos)


def _header(path: Path) -> set[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return {name.strip() for name in next(csv.reader([file.readline()]), [])}
