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
from molar_retrieval.columns import ITEM_ID, TIMESTAMP, TITLE, USER_ID
from molar_retrieval.errors import DataError
from molar_retrieval.importers.published import PublishedData, PublishedTable
from molar_retrieval.importers.text_tables import colon_table, csv_table, require_file

GENRES, YEAR = "genres", "year"
_RATINGS = {"userId": USER_ID, "movieId": ITEM_ID, "rating": "rating", "timestamp": TIMESTAMP}
_MOVIES = {"movieId": ITEM_ID, "title": TITLE, "genres": GENRES}
_LINKS = {"movieId": ITEM_ID, "imdbId": "imdb_id", "tmdbId": "tmdb_id"}
_TAGS = {"userId": USER_ID, "movieId": ITEM_ID, "tag": "tag"}
_USERS = (USER_ID, "gender", "age_code", "occupation_code", "zip_code")
_RATING_TYPE = {"rating": pa.float32()}
_MOST_TAGS = 10
_TAGS_NOTE = "tags are for display only: users gave them after watching, so that in a vector they would tell the future"
# "Heat (1995)", "Death Note (2006–2007)", "Some Series (2016- )"; in some titles blanks follow the year.
_DATED = r"^(?P<title>.*\S)\s*\((?P<year>[0-9]{4})(?:\s*[–-]\s*[0-9]{0,4})?\s*\)\s*$"
_NO_GENRES = "(no genres listed)"
_AGES = {1: "Under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}
_OCCUPATIONS = dict(enumerate((
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)))  # fmt: skip


def open_movielens(folder: Path, _: str = "") -> PublishedData:
    """Open a MovieLens folder of either layout.

    Raises:
        DataError: If it holds neither, or both.
    """
    colons, table = (folder / "ratings.dat").is_file(), (folder / "ratings.csv").is_file()
    if colons and table:
        raise DataError(f"{folder} has ratings.dat and ratings.csv", "put each data set into a folder of its own")
    if not colons and not table:
        raise DataError(
            f"{folder} has neither ratings.dat nor ratings.csv",
            "movielens is read from ratings.dat, movies.dat and users.dat (1M), or from ratings.csv and movies.csv "
            "(latest, 20M, 25M, 32M)",
        )
    return _with_colons(folder) if colons else _with_commas(folder)


def _with_colons(folder: Path) -> PublishedData:
    codes = {"age_code": pa.int32(), "occupation_code": pa.int32()}
    users = folder / "users.dat"
    return PublishedData(
        colon_table(require_file(folder / "movies.dat", "movielens (1M)"), list(_MOVIES.values())).then(_films),
        colon_table(folder / "ratings.dat", list(_RATINGS.values()), _RATING_TYPE),
        folder / "images",
        attributes=(GENRES, YEAR),
        users=colon_table(users, _USERS, codes).then(_people) if users.is_file() else None,
    )


def _with_commas(folder: Path) -> PublishedData:
    movies, links, tags = folder / "movies.csv", folder / "links.csv", folder / "tags.csv"
    films = csv_table(movies, _MOVIES, "movielens").then(_films)
    ratings = csv_table(folder / "ratings.csv", _RATINGS, "movielens", _RATING_TYPE)
    linked = csv_table(links, _LINKS, "movielens") if links.is_file() else None
    tagged = csv_table(tags, _TAGS, "movielens") if tags.is_file() else None

    def items(rejects: Rejects) -> Iterator[Rows]:
        tables = [] if linked is None else [_whole(linked, _LINKS, rejects)]
        tables += [] if tagged is None else [_most_given(_whole(tagged, _TAGS, rejects))]
        for rows in films.rows(rejects):
            for table in tables:
                rows = rows.with_columns(_looked_up(rows.batch[ITEM_ID], table))
            yield rows

    return PublishedData(
        PublishedTable(movies, items),
        ratings,
        folder / "images",
        attributes=(GENRES, YEAR),
        notes=() if tagged is None else (_TAGS_NOTE,),
    )


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
    words = {"age": ("age_code", _AGES), "occupation": ("occupation_code", _OCCUPATIONS)}
    return rows.with_columns(
        {
            name: pa.array([known.get(code) for code in rows.batch[column].to_pylist()], pa.string())
            for name, (column, known) in words.items()
        }
    )


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


def _whole(source: PublishedTable, columns: Mapping[str, str], rejects: Rejects) -> pa.Table:
    schema = pa.schema([(name, pa.string()) for name in columns.values()])
    return pa.Table.from_batches([rows.batch for rows in source.rows(rejects)], schema)


def _looked_up(ids: pa.Array, table: pa.Table) -> Mapping[str, pa.Array]:
    """The other columns of a table, for some ids; null where it does not have them."""
    rows = pc.index_in(ids, value_set=table[ITEM_ID].combine_chunks())
    others = [name for name in table.column_names if name != ITEM_ID]
    return {name: table[name].combine_chunks().take(rows) for name in others}
