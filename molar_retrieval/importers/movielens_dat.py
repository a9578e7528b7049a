"""MovieLens-1M: ``ratings.dat``, ``movies.dat``, ``users.dat``, with ``::`` between the fields and no header.

MovieLens-10M has the same form without ``users.dat``.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.importers.lines import fields
from molar_retrieval.importers.movielens import ATTRIBUTES, GENRES, film_columns
from molar_retrieval.importers.published import Common
from molar_retrieval.importers.tables import as_numbers, require_file, with_columns

_FORMAT = "movielens (1M)"
_RATING = r"^(?P<user_id>[^:]*)::(?P<item_id>[^:]*)::(?P<rating>[^:]*)::(?P<timestamp>[^:]*)$"
# A title may hold "::" itself.
_MOVIE = r"^(?P<item_id>[^:]*)::(?P<title>.*)::(?P<genres>[^:]*)$"
_USER = r"^(?P<user_id>[^:]*)::(?P<gender>[^:]*)::(?P<age_code>[^:]*)::(?P<occupation_code>[^:]*)::(?P<zip_code>[^:]*)$"
_AGES = {1: "Under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}
_OCCUPATIONS = dict(
    enumerate(
        (
            "other",
            "academic/educator",
            "artist",
            "clerical/admin",
            "college/grad student",
            "customer service",
            "doctor/health care",
            "executive/managerial",
            "farmer",
            "homemaker",
            "K-12 student",
            "lawyer",
            "programmer",
            "retired",
            "sales/marketing",
            "scientist",
            "self-employed",
            "technician/engineer",
            "tradesman/craftsman",
            "unemployed",
            "writer",
        )
    )
)


class MovieLensDat(Common):
    """See :class:`~molar_retrieval.importers.published.Published`."""

    attributes: Sequence[str] = ATTRIBUTES
    time_unit = "s"

    def __init__(self, folder: Path) -> None:
        self.items_file = require_file(folder / "movies.dat", _FORMAT)
        self.log_file = require_file(folder / "ratings.dat", _FORMAT)
        users = folder / "users.dat"
        self.users_file: Path | None = users if users.is_file() else None
        self.photos = folder / "images"

    def items(self, rejects: Rejects) -> Iterator[Rows]:
        """``item_id``, ``title``, ``year``, ``genres``."""
        for rows in fields(self.items_file, _MOVIE, rejects):
            columns = {ITEM_ID: rows.batch[ITEM_ID], **film_columns(rows.batch["title"], rows.batch[GENRES])}
            yield Rows(rows.numbers, pa.RecordBatch.from_pydict(columns))

    def interactions(self, rejects: Rejects) -> Iterator[Rows]:
        """``user_id``, ``item_id``, ``rating``, ``timestamp``."""
        for rows in fields(self.log_file, _RATING, rejects):
            rating = as_numbers(rows.batch["rating"], pa.float32())
            yield Rows(rows.numbers, with_columns(rows.batch, {"rating": rating}))

    def users(self, rejects: Rejects) -> Iterator[Rows]:
        """``user_id``, gender, age and occupation as code and in words, zip code."""
        path = self.users_file
        for rows in fields(path, _USER, rejects) if path is not None else ():
            ages = as_numbers(rows.batch["age_code"], pa.int32())
            occupations = as_numbers(rows.batch["occupation_code"], pa.int32())
            columns = {
                "age_code": ages,
                "age": _in_words(ages, _AGES),
                "occupation_code": occupations,
                "occupation": _in_words(occupations, _OCCUPATIONS),
            }
            yield Rows(rows.numbers, with_columns(rows.batch, columns))


def _in_words(codes: pa.Array, words: Mapping[int, str]) -> pa.Array:
    return pa.array([words.get(code) for code in codes.to_pylist()], pa.string())
