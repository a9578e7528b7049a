"""MovieLens: ``ratings.dat`` (1M, 10M), or ``ratings.csv`` (latest, 20M, 25M, 32M).

Source: Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015; the README of each data set.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.rows import Rows
from molar_retrieval.catalog.values import STRING_LIST
from molar_retrieval.columns import ITEM_ID, TITLE, USER_ID
from molar_retrieval.errors import DataError
from molar_retrieval.importers.tables import (
    LAYOUTS,
    Layout,
    PublishedData,
    PublishedTable,
    colon_table,
    csv_table,
    described,
    require_file,
)

GENRES, YEAR = "genres", "year"
_LAYOUT = LAYOUTS["movielens"]
_MOST_TAGS = 10
# "Heat (1995)", "Death Note (2006–2007)", "Some Series (2016- )"; in some titles blanks follow the year.
_DATED = r"^(?P<title>.*\S)\s*\((?P<year>[0-9]{4})(?:\s*[–-]\s*[0-9]{0,4})?\s*\)\s*$"
_NO_GENRES = "(no genres listed)"


def open_movielens(folder: Path, _: str = "") -> PublishedData:
    """Open a MovieLens folder of either layout; a DataError if it holds neither, or both."""
    colons, table = (folder / "ratings.dat").is_file(), (folder / "ratings.csv").is_file()
    if colons and table:
        raise DataError(f"{folder} has ratings.dat and ratings.csv", "put each data set into a folder of its own")
    if not colons and not table:
        one, other = "ratings.dat, movies.dat and users.dat (1M)", "ratings.csv and movies.csv (latest, 20M, 25M, 32M)"
        hint = f"movielens is read from {one}, or from {other}"
        raise DataError(f"{folder} has neither ratings.dat nor ratings.csv", hint)
    return _with_colons(folder) if colons else _with_commas(folder)


def _with_colons(folder: Path) -> PublishedData:
    users = folder / "users.dat"
    return PublishedData(
        colon_table(require_file(folder / "movies.dat", "movielens (1M)"), _LAYOUT["movies"]).then(_films),
        colon_table(folder / "ratings.dat", _LAYOUT["ratings"]),
        folder / "images",
        users=colon_table(users, _LAYOUT["users"]).then(_people) if users.is_file() else None,
        **described("movielens") | {"notes": ()},
    )


def _with_commas(folder: Path) -> PublishedData:
    movies, ratings = (csv_table(folder / f"{name}.csv", _LAYOUT[name], "movielens") for name in ("movies", "ratings"))
    others = {
        name: csv_table(folder / f"{name}.csv", _LAYOUT[name], "movielens")
        for name in ("links", "tags")
        if (folder / f"{name}.csv").is_file()
    }
    films = movies.then(_films)

    def items(rejects: Rejects) -> Iterator[Rows]:
        tables = {name: _whole(table, _LAYOUT[name], rejects) for name, table in others.items()}
        if "tags" in tables:
            tables["tags"] = _most_given(tables["tags"])
        for rows in films.rows(rejects):
            for table in tables.values():
                rows = rows.with_columns(_looked_up(rows.batch[ITEM_ID], table))
            yield rows

    about = described("movielens") | ({} if "tags" in others else {"notes": ()})
    return PublishedData(PublishedTable(movies.path, items), ratings, folder / "images", **about)


def _films(rows: Rows) -> Rows:
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
    return Rows(rows.numbers, pa.RecordBatch.from_pydict(columns))


def _people(rows: Rows) -> Rows:
    """Age and occupation as code and in words."""
    ages = {int(code): words for code, words in _LAYOUT["ages"].items()}
    known = {"age": ages, "occupation": dict(enumerate(_LAYOUT["occupations"]))}
    codes = {name: rows.batch[f"{name}_code"].to_pylist() for name in known}
    return rows.with_columns({n: pa.array([known[n].get(code) for code in codes[n]], pa.string()) for n in known})


def _most_given(table: pa.Table) -> pa.Table:
    """The tags of each movie that most users gave it, lower case; equally frequent ones by alphabet."""
    tag = pc.utf8_lower(pc.utf8_trim_whitespace(table["tag"]))
    table = table.set_column(table.schema.get_field_index("tag"), "tag", tag)
    counts = table.group_by([ITEM_ID, "tag"]).aggregate([(USER_ID, "count_distinct")])
    order = [(ITEM_ID, "ascending"), (f"{USER_ID}_count_distinct", "descending"), ("tag", "ascending")]
    counts = counts.filter(pc.not_equal(counts["tag"], "")).sort_by(order)
    runs = pc.run_end_encode(counts[ITEM_ID].combine_chunks())
    tags = counts["tag"].combine_chunks()
    bounds = pairwise([0, *runs.run_ends.to_pylist()])
    lists = [tags[start : min(end, start + _MOST_TAGS)].to_pylist() for start, end in bounds]
    return pa.table({ITEM_ID: runs.values, "tags": pa.array(lists, STRING_LIST)})


def _whole(source: PublishedTable, layout: Layout, rejects: Rejects) -> pa.Table:
    schema = pa.schema([(name, pa.string()) for name in layout["columns"].values()])
    return pa.Table.from_batches([rows.batch for rows in source.rows(rejects)], schema)


def _looked_up(ids: pa.Array, table: pa.Table) -> Mapping[str, pa.Array]:
    """The other columns of a table, for some ids; null where it does not have them."""
    rows = pc.index_in(ids, value_set=table[ITEM_ID].combine_chunks())
    others = [name for name in table.column_names if name != ITEM_ID]
    return {name: table[name].combine_chunks().take(rows) for name in others}
