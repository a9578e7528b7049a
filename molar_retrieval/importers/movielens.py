"""MovieLens: which of the two layouts it is; titles, years and genres, which both write alike.

Source: Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015; the README of each data set.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.values import STRING_LIST
from molar_retrieval.columns import TITLE
from molar_retrieval.errors import DataError
from molar_retrieval.importers.published import Published

GENRES = "genres"
YEAR = "year"
ATTRIBUTES: Sequence[str] = (GENRES, YEAR)
# "Heat (1995)", "Death Note (2006–2007)", "Some Series (2016- )"; in some titles blanks follow the year.
_DATED = r"^(?P<title>.*\S)\s*\((?P<year>[0-9]{4})(?:\s*[–-]\s*[0-9]{0,4})?\s*\)\s*$"
_NO_GENRES = "(no genres listed)"


def open_movielens(folder: Path) -> Published:
    """Open a MovieLens folder: ``ratings.dat`` (1M, 10M) or ``ratings.csv`` (latest, 20M, 25M, 32M).

    Raises:
        DataError: If it holds neither, or both.
    """
    from molar_retrieval.importers.movielens_csv import MovieLensCsv
    from molar_retrieval.importers.movielens_dat import MovieLensDat

    dat, table = (folder / "ratings.dat").is_file(), (folder / "ratings.csv").is_file()
    if dat and table:
        raise DataError(f"{folder} has ratings.dat and ratings.csv", "put each data set into a folder of its own")
    if not dat and not table:
        raise DataError(
            f"{folder} has neither ratings.dat nor ratings.csv",
            "movielens is read from ratings.dat, movies.dat and users.dat (1M), or from ratings.csv and movies.csv "
            "(latest, 20M, 25M, 32M)",
        )
    return MovieLensDat(folder) if dat else MovieLensCsv(folder)


def film_columns(titles: pa.Array, genres: pa.Array) -> Mapping[str, pa.Array]:
    """Title without the year, year (int32, null where the title has none) and genres (lists of strings)."""
    dated = pc.extract_regex(titles, _DATED)
    bare, year = (pc.struct_field(dated, name) for name in (TITLE, YEAR))
    listed = pc.split_pattern(pc.if_else(pc.equal(genres, _NO_GENRES), pa.scalar(None, pa.string()), genres), "|")
    return {
        TITLE: pc.coalesce(bare, pc.utf8_trim_whitespace(titles)),
        YEAR: year.cast(pa.int32()),
        GENRES: listed.cast(STRING_LIST),
    }
