"""Lines of MovieLens come back as they were written, whatever a title holds."""

import gzip
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from molar_retrieval.data.importers.formats import objects, open_movielens
from molar_retrieval.data.rows import Rejects

LETTERS = st.characters(exclude_categories=("Cs", "Cc"))
TITLES = st.text(LETTERS, min_size=1, max_size=30).map(str.strip).filter(bool)
GENRES = st.lists(st.text(st.characters(categories=("L",)), min_size=1, max_size=8), min_size=1, max_size=4)
FILMS = st.lists(st.tuples(TITLES, st.none() | st.integers(1000, 9999), GENRES), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(FILMS, st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_titles_years_and_genres(tmp_path_factory, films, newline):
    folder = tmp_path_factory.mktemp("films")
    dated = [(title, year, genres) for title, year, genres in films if year is not None or not title.endswith(")")]
    lines = [f"{n}::{t}{'' if y is None else f' ({y})'}::{'|'.join(g)}" for n, (t, y, g) in enumerate(dated)]
    (folder / "movies.dat").write_bytes(newline.join(lines).encode())
    (folder / "ratings.dat").touch()
    with Rejects(folder / "rejects.parquet") as rejects:
        parts = list(open_movielens(folder).items.rows(rejects))
    assert rejects.total == 0
    found = [row for part in parts for row in part.batch.to_pylist()]
    assert [(row["item_id"], row["title"], row["year"], row["genres"]) for row in found] == [
        (str(n), title, year, genres) for n, (title, year, genres) in enumerate(dated)
    ]
    step = 2 if newline == "\n\n" else 1
    assert [n for part in parts for n in part.numbers.tolist()] == [1 + step * n for n in range(len(dated))]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(LETTERS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(LETTERS, max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.text(LETTERS, max_size=5), JSON, max_size=4), max_size=4))
def test_objects_are_read_from_json_and_from_python(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("objects")
    for as_line in (json.dumps, repr):
        path = folder / "x.json.gz"
        path.write_bytes(gzip.compress("".join(f"{as_line(value)}\n" for value in values).encode(), 1))
        with Rejects(folder / "rejects.parquet") as rejects:
            found = list(objects(path, rejects))
        assert rejects.total == 0
        assert found == list(enumerate(values, 1))
