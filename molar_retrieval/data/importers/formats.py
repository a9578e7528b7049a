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
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.columns import ITEM_ID, TITLE
from molar_retrieval.data.readers import CsvReader
from molar_retrieval.data.rows import Rejects, RowBatch
from molar_retrieval.data.values import STRING_LIST
from molar_retrieval.data.variants import VariantReader
from molar_retrieval.errors import DataError

_BATCH = 65_536
_REAL = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\s*$"
_WHOLE = r"^\s*[+-]?[0-9]{1,9}\s*$"

Parse = Callable[[bytes], Any]
Layout = Mapping[str, Any]
ObjectColumns = Mapping[str, tuple[Sequence[str], Callable[[Any], Any], pa.DataType]]
_FILE = (resources.files(__package__) / "layouts.toml").read_text("utf-8")
LAYOUTS: Mapping[str, Mapping[str, Any]] = tomllib.loads(_FILE)  # by format


def described(format_: str) -> dict[str, Any]:
    """What the layout of a format says about :class:`PublishedData`, by attribute."""
    known = ("attributes", "language", "time_unit", "notes")
    return {name: value for name, value in LAYOUTS[format_].items() if name in known}


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
        attributes: The item columns that enter the vectors; all others are kept for display and filters.
        users: ``user_id`` (string) and more, or None.
        language: Of the texts, as in BCP 47, empty where it is not known.
        time_unit: Of times that are numbers: ``s``, ``ms`` or ``auto``.
        notes: What whoever uses the data should know.
        photo_names: Where the photo of an item may lie, best first: relative to the photos folder, without the
            extension. Called after the items have been read.
    """

    items: PublishedTable
    log: PublishedTable
    photos: Path
    attributes: Sequence[str]
    users: PublishedTable | None = None
    language: str = "en"
    time_unit: str = "s"
    notes: Sequence[str] = ()
    photo_names: Callable[[str], Sequence[str]] = lambda item_id: (item_id,)


def require_file(path: Path, format_: str) -> Path:
    """The path itself, if there is such a file; the DataError names the format that needs it."""
    if not path.is_file():
        raise DataError(f"{path.parent} has no {path.name}", f"{format_} is read from {path}; put it there")
    return path


def csv_table(path: Path, layout: Layout, format_: str) -> PublishedTable:
    """A CSV file of known columns, else a DataError; a value is a string as it is written (007 stays 007) or null."""
    source, columns = CsvReader(require_file(path, format_)), list(layout["columns"])
    missing = [name for name in columns if name not in source.names]
    if missing:
        words = f"{path} has no column {', '.join(missing)}; its columns are {', '.join(source.names)}"
        raise DataError(words, f"take the file as {format_} publishes it, with its header line")

    def rows(rejects: Rejects) -> Iterator[RowBatch]:
        for read in source.batches(columns, _BATCH, rejects, columns):
            yield _typed(read.numbers, read.batch.columns, layout)

    return PublishedTable(path, rows)


def colon_table(path: Path, layout: Layout) -> PublishedTable:
    """A file with ``::`` between the fields and no header; empty fields are null, a title may hold ``::`` itself.

    A line is UTF-8 or, as in MovieLens-1M, Latin-1. Lines with other fields are rejected.
    """
    fields = [f"(?P<{name}>{'.*' if name == TITLE else '[^:]*'})" for name in layout["columns"].values()]

    def rows(rejects: Rejects) -> Iterator[RowBatch]:
        source = lines(path)
        while chunk := [(number, _decoded(line)) for number, line in islice(source, _BATCH)]:
            numbers = np.array([number for number, _ in chunk], np.int64)
            found = pc.extract_regex(pa.array([line for _, line in chunk], pa.string()), f"^{'::'.join(fields)}$")
            good = np.asarray(pc.is_valid(found))
            for i in np.flatnonzero(~good):
                rejects.add(path.name, int(numbers[i]), None, "line of another form", repr(chunk[i][1][:60]))
            columns = found.filter(pa.array(good)).flatten()
            empty = pa.scalar(None, pa.string())
            yield _typed(numbers[good], [pc.if_else(pc.equal(c, ""), empty, c) for c in columns], layout)

    return PublishedTable(path, rows)


def object_table(path: Path, parse: Parse, columns: ObjectColumns, size: int) -> PublishedTable:
    """A file of one object a line, read ``size`` rows at a time.

    ``columns`` has by name in the catalogue: the key, or several whose values come as a list; what makes a value of
    what the file has; and the type.
    """
    wanted = {key for keys, _, _ in columns.values() for key in keys}

    def rows(rejects: Rejects) -> Iterator[RowBatch]:
        source = objects(path, parse, rejects)
        while chunk := [(number, {key: row.get(key) for key in wanted}) for number, row in islice(source, size)]:
            arrays = [
                pa.array(
                    [convert(row[keys[0]] if len(keys) == 1 else [row[k] for k in keys]) for _, row in chunk], kind
                )
                for keys, convert, kind in columns.values()
            ]
            numbers = np.array([number for number, _ in chunk], np.int64)
            yield RowBatch(numbers, pa.RecordBatch.from_arrays(arrays, list(columns)))

    return PublishedTable(path, rows)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered from 1, in bounded memory, also of ``.gz``; else a DataError."""
    try:
        with io.BufferedReader(pa.input_stream(path)) as file:
            for number, line in enumerate(file, 1):
                if bare := line.strip():
                    yield number, bare
    except OSError as error:
        raise DataError(f"{path} cannot be read to its end: {error}", "fetch the file again") from error


def parse_loose(line: bytes) -> Any:
    """The value of a line of JSON or a Python literal (Amazon, 2014), else a ValueError; nothing is evaluated."""
    try:
        return json.loads(line)
    except ValueError:
        pass
    try:
        return ast.literal_eval(line.decode("utf-8"))
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from error


def objects(path: Path, parse: Parse, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with their line numbers; other lines are rejected."""
    for number, line in lines(path):
        try:
            value = parse(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield number, value
        else:
            rejects.add(path.name, number, None, "line is no object", repr(line[:60])[1:])


def as_numbers(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Strings as numbers of a type; null where there is none. An int64 may be written with a decimal point."""
    if kind == pa.int64():
        return as_numbers(array, pa.float64()).cast(kind, safe=False)
    pattern = _WHOLE if pa.types.is_integer(kind) else _REAL
    fine = pc.fill_null(pc.match_substring_regex(array, pattern), False)
    bare = pc.utf8_ltrim(pc.utf8_trim_whitespace(array), "+")
    return pc.if_else(fine, bare, pa.scalar(None, pa.string())).cast(kind, safe=False)


def _typed(numbers: npt.NDArray[np.int64], columns: Sequence[pa.Array], layout: Layout) -> RowBatch:
    rows = RowBatch(numbers, pa.RecordBatch.from_arrays(list(columns), list(layout["columns"].values())))
    types = layout.get("numbers", {})
    return rows.with_columns({n: as_numbers(rows.batch[n], pa.type_for_alias(kind)) for n, kind in types.items()})


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


GENRES, YEAR = "genres", "year"
_LAYOUT = LAYOUTS["movielens"]
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
    photos, about = folder / "images", described("movielens")
    if colons:
        users = folder / "users.dat"
        return PublishedData(
            colon_table(require_file(folder / "movies.dat", "movielens (1M)"), _LAYOUT["movies"]).then(_films),
            colon_table(folder / "ratings.dat", _LAYOUT["ratings"]),
            photos,
            users=colon_table(users, _LAYOUT["users"]).then(_people) if users.is_file() else None,
            **about,
        )
    movies, ratings = (csv_table(folder / f"{name}.csv", _LAYOUT[name], "movielens") for name in ("movies", "ratings"))
    return PublishedData(movies.then(_films), ratings, photos, **about)


def _films(rows: RowBatch) -> RowBatch:
    """Title without the year, year (int32, null where the title has none) and genres (lists of strings)."""
    titles, genres = rows.batch[TITLE], rows.batch[GENRES]
    dated = pc.extract_regex(titles, _DATED)
    listed = pc.split_pattern(pc.if_else(pc.equal(genres, _NO_GENRES), pa.scalar(None, pa.string()), genres), "|")
    columns = {
        ITEM_ID: rows.batch[ITEM_ID],
        TITLE: pc.coalesce(pc.struct_field(dated, TITLE), pc.utf8_trim_whitespace(titles)),
        YEAR: pc.struct_field(dated, YEAR).cast(pa.int32()),
        GENRES: listed.cast(STRING_LIST),
    }
    return RowBatch(rows.numbers, pa.RecordBatch.from_pydict(columns))


def _people(rows: RowBatch) -> RowBatch:
    """Age and occupation as code and in words."""
    ages = {int(code): words for code, words in _LAYOUT["ages"].items()}
    known = {"age": ages, "occupation": dict(enumerate(_LAYOUT["occupations"]))}
    codes = {name: rows.batch[f"{name}_code"].to_pylist() for name in known}
    return rows.with_columns({n: pa.array([known[n].get(code) for code in codes[n]], pa.string()) for n in known})


_ITEMS = 4_096
_REVIEWS = 262_144
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>")


def open_amazon(format_: str, folder: Path) -> PublishedData:
    """Open the one category in a folder; a DataError if a file is missing, or it is not clear which is meant."""
    layout = LAYOUTS[format_]
    paths = _find_pair(folder, format_, layout["ending"], layout["reviews"])

    def table(name: str, path: Path, size: int) -> PublishedTable:
        columns = {column: (keys, *_WAYS[way]) for column, (way, *keys) in layout[name].items()}
        return object_table(path, _PARSERS[format_], columns, size)

    items, log = table("items", paths[0], _ITEMS), table("log", paths[1], _REVIEWS)
    return PublishedData(items, log, folder / "images", **described(format_))


def _find_pair(folder: Path, format_: str, ending: str, reviews: Sequence[str]) -> tuple[Path, Path]:
    wanted = f"meta_<category>{ending}.gz and {reviews[0].format('<category>')}{ending}.gz, or the same unpacked"
    metas = sorted([*folder.glob(f"meta_*{ending}"), *folder.glob(f"meta_*{ending}.gz")])
    if not metas:
        raise DataError(f"{folder} has no meta_<category>{ending} or .gz", f"{format_} is read from {wanted}")
    if len(metas) > 1:
        found = ", ".join(path.name for path in metas)
        raise DataError(f"{folder} has {found}", "put each category into a folder of its own, packed or unpacked")
    category = metas[0].name.removesuffix(".gz").removesuffix(ending).removeprefix("meta_")
    names = [f"{pattern.format(category)}{ending}{packed}" for pattern in reviews for packed in ("", ".gz")]
    found_reviews = [folder / name for name in names if (folder / name).is_file()]
    if not found_reviews:
        raise DataError(f"{folder} has {metas[0].name} but none of {', '.join(names)}", "put the reviews beside it")
    if len(found_reviews) > 1:
        found = " and ".join(path.name for path in found_reviews)
        raise DataError(f"{folder} has {found}", "keep the one that is meant and move the other away")
    return metas[0], found_reviews[0]


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


def _sales_rank(ranks: Any) -> int | None:
    """The rank in the first category that has one."""
    rank = next((r for r in ranks.values() if isinstance(r, int)), None) if isinstance(ranks, dict) else None
    return rank if rank is not None and abs(rank) < 2**63 else None


def _image_url(images: Any) -> str | None:
    """The largest size of the main photo, else of the first one."""
    found = [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    found.sort(key=lambda image: image.get("variant") != "MAIN")  # stable
    urls = [as_id(image.get(size)) for image in found[:1] for size in ("hi_res", "large", "thumb")]
    return next((url for url in urls if url), None)


_PARSERS: dict[str, Parse] = {"amazon-2014": parse_loose, "amazon-2023": json.loads}
_WAYS: dict[str, tuple[Callable[[Any], Any], pa.DataType]] = {
    "id": (as_id, pa.string()),
    "text": (text, pa.string()),
    "texts": (texts, STRING_LIST),
    "number": (number, pa.float64()),
    "rating": (number, pa.float32()),
    "rank": (_sales_rank, pa.int64()),
    "image": (_image_url, pa.string()),
}
"""What makes a value of what the file has, and the type of the column, by the names in ``layouts.toml``."""


HM_LEVELS = ("product", "article")


def open_hm(folder: Path, level: str = "product") -> PublishedData:
    """Open the files as Kaggle has them, a DataError if one is unfit; an item is a ``product`` or an ``article``."""
    names = ("articles", "transactions_train", "customers")
    items, log, users = (csv_table(folder / f"{name}.csv", LAYOUTS["hm"][name], "hm") for name in names)
    about, articles = described("hm"), dict[str, list[str]]()  # of each product
    about["attributes"] = [*about["attributes"], "colour" if level == "article" else "colours"]

    @cache
    def product_of() -> tuple[pa.Array, pa.Array]:
        pairs = [(article, product) for product, own in articles.items() for article in own]
        return pa.array([one for one, _ in pairs], pa.string()), pa.array([of for _, of in pairs], pa.string())

    def in_products(rows: RowBatch) -> RowBatch:
        own, (known, products) = rows.batch["article_id"], product_of()
        found = products.take(pc.index_in(own, value_set=known))
        return rows.with_columns({ITEM_ID: pc.coalesce(found, own)})  # an unknown article is then no known item

    def photo_names(item_id: str) -> list[str]:
        """``010/0108775015``: those of the articles of a product, or that of an article."""
        return [f"{article[:3]}/{article}" for article in articles.get(item_id, [item_id])]

    if level == "article":
        items, log = items.then(_named_items), log.then(_named_items)
    else:
        items = PublishedTable(items.path, lambda rejects: _products(items.path, articles, rejects))
        log = log.then(in_products)
    return PublishedData(items, log, folder / "images", users=users, photo_names=photo_names, **about)


def _named_items(rows: RowBatch) -> RowBatch:
    names = [ITEM_ID if name == "article_id" else name for name in rows.batch.schema.names]
    return RowBatch(rows.numbers, rows.batch.rename_columns(names))


def _products(path: Path, articles: dict[str, list[str]], rejects: Rejects) -> Iterator[RowBatch]:
    """Articles gathered into products; ``articles`` takes those of each product."""
    columns = {**LAYOUTS["hm"]["articles"]["columns"], "product_code": ITEM_ID, "colour_group_name": "colours"}
    del columns["article_id"]
    source = VariantReader(CsvReader(path), "product_code", "article_id", lists=["colour_group_name"])
    written = columns.keys() - {"colour_group_name"}
    for rows in source.batches([*columns, str(source.variants)], _ITEMS, rejects, written):
        *values, variants = rows.batch.columns
        for product, own in zip(rows.batch["product_code"].to_pylist(), variants.to_pylist(), strict=True):
            articles.setdefault(product, []).extend(own or ())
        counts = pc.fill_null(pc.list_value_length(variants), 0)
        yield RowBatch(rows.numbers, pa.RecordBatch.from_arrays([*values, counts], [*columns.values(), "n_articles"]))


_PHOTOS = ("images", "cover", "covers")


def open_pixelrec(folder: Path) -> PublishedData:
    """Open a folder with the two files in it or in subfolders; a DataError if one is missing or not clear."""
    photos = next((folder / name for name in _PHOTOS if (folder / name).is_dir()), folder / _PHOTOS[0])
    log = _find(folder, "log", unlike="title")
    return PublishedData(_find(folder, "items"), log, photos, **described("pixelrec"))


def _find(folder: Path, table: str, unlike: str | None = None) -> PublishedTable:
    """The one CSV file, in the folder or a subfolder, that has the columns."""
    layout = LAYOUTS["pixelrec"][table]
    columns = layout["columns"]
    files = sorted([*folder.glob("*.csv"), *folder.glob("*/*.csv")])
    found = [path for path in files if {*columns} <= (names := _header(path)) and unlike not in names]
    if not found:
        hint = "pixelrec is read from the CSV of interactions and the one of item information, in it or in subfolders"
        raise DataError(f"{folder} has no CSV file with the columns {','.join(columns)}", hint)
    if len(found) > 1:
        listed = " and ".join(str(path.relative_to(folder)) for path in found)
        raise DataError(f"{folder} has {listed}, which have the same columns", "keep the one that is meant")
    return csv_table(found[0], layout, "pixelrec")


def _header(path: Path) -> set[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return {name.strip() for name in next(csv.reader([file.readline()]), [])}
