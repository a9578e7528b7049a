"""MovieLens latest, 20M, 25M, 32M: ``ratings.csv``, ``movies.csv``, perhaps ``links.csv`` and ``tags.csv``."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows
from molar_retrieval.catalog.values import STRING_LIST
from molar_retrieval.columns import ITEM_ID, TIMESTAMP, TITLE, USER_ID
from molar_retrieval.importers.movielens import ATTRIBUTES, GENRES, film_columns
from molar_retrieval.importers.published import Common
from molar_retrieval.importers.tables import OfficialCsv, as_numbers, with_columns

_FORMAT = "movielens"
_RATINGS = {"userId": USER_ID, "movieId": ITEM_ID, "rating": "rating", "timestamp": TIMESTAMP}
_MOVIES = {"movieId": ITEM_ID, "title": TITLE, "genres": GENRES}
_LINKS = {"movieId": ITEM_ID, "imdbId": "imdb_id", "tmdbId": "tmdb_id"}
_TAGS = {"userId": USER_ID, "movieId": ITEM_ID, "tag": "tag"}
_MOST_TAGS = 10


class MovieLensCsv(Common):
    """See :class:`~molar_retrieval.importers.published.Published`."""

    attributes: Sequence[str] = ATTRIBUTES
    time_unit = "s"

    def __init__(self, folder: Path) -> None:
        self._movies = OfficialCsv(folder / "movies.csv", _MOVIES, _FORMAT)
        self._ratings = OfficialCsv(folder / "ratings.csv", _RATINGS, _FORMAT)
        self._links = _optional(folder / "links.csv", _LINKS)
        self._tags = _optional(folder / "tags.csv", _TAGS)
        self.items_file, self.log_file = self._movies.path, self._ratings.path
        self.photos = folder / "images"
        kept = (
            "tags are for display only: users gave them after watching, so that in a vector they would tell the future"
        )
        self.notes: Sequence[str] = () if self._tags is None else (kept,)

    def items(self, rejects: Rejects) -> Iterator[Rows]:
        """``item_id``, ``title``, ``year``, ``genres``; ``imdb_id``, ``tmdb_id`` and ``tags`` where there are such."""
        tables = [table for table in (self._read_links(rejects), self._read_tags(rejects)) if table is not None]
        for rows in self._movies.rows(rejects):
            ids = rows.batch[ITEM_ID]
            columns = {ITEM_ID: ids, **film_columns(rows.batch[TITLE], rows.batch[GENRES])}
            for table in tables:
                columns |= _looked_up(ids, table)
            yield Rows(rows.numbers, pa.RecordBatch.from_pydict(columns))

    def interactions(self, rejects: Rejects) -> Iterator[Rows]:
        """``user_id``, ``item_id``, ``rating``, ``timestamp``."""
        for rows in self._ratings.rows(rejects):
            rating = as_numbers(rows.batch["rating"], pa.float32())
            yield Rows(rows.numbers, with_columns(rows.batch, {"rating": rating}))

    def _read_links(self, rejects: Rejects) -> pa.Table | None:
        return None if self._links is None else _table(self._links, rejects)

    def _read_tags(self, rejects: Rejects) -> pa.Table | None:
        """The tags of each movie that most users gave it, lower case; equally frequent ones by alphabet."""
        if self._tags is None:
            return None
        table = _table(self._tags, rejects)
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


def _optional(path: Path, columns: Mapping[str, str]) -> OfficialCsv | None:
    return OfficialCsv(path, columns, _FORMAT) if path.is_file() else None


def _table(source: OfficialCsv, rejects: Rejects) -> pa.Table:
    schema = pa.schema([(name, pa.string()) for name in source.names])
    return pa.Table.from_batches([rows.batch for rows in source.rows(rejects)], schema)


def _looked_up(ids: pa.Array, table: pa.Table) -> Mapping[str, pa.Array]:
    """The other columns of a table, for some ids; null where it does not have them."""
    rows = pc.index_in(ids, value_set=table[ITEM_ID].combine_chunks())
    others = [name for name in table.column_names if name != ITEM_ID]
    return {name: table[name].combine_chunks().take(rows) for name in others}
