"""`molar import movielens`: the 1M layout and that of the later releases."""

import pyarrow.parquet as pq
import pytest
from importer_checks import photo, prepared, rejects

from molar_retrieval.data.importers import import_dataset
from molar_retrieval.errors import DataError

MOVIES = [
    b"1::Wooden Toys (1995)::Animation|Children's|Comedy",
    "2::Les Mis\u00e9rables, encore (1998)".encode("latin-1") + b"::Drama",
    b"3::Alien :: Return (1999)::Sci-Fi",
    b"4::Nameless::Drama",
    b"2::A second one of the same number (2000)::Drama",
    b"no movie at all",
    b"5::Unseen (1950)::Film-Noir",
]
RATINGS = [
    "1::3::5::978300760",
    "1::1::3::978300019",
    "1::2::4::978300019",
    "2::1::1::978298413",
    "2::99::1::978298414",
    "2::4::2",
    "2::4::2::yesterday",
    "::4::2::978298500",
]
USERS = ["1::F::1::10::48067", "2::M::56::16::02460", "3::M::25::20::55117-1234"]


@pytest.fixture
def million(tmp_path):
    source = tmp_path / "ml-1m"
    source.mkdir()
    (source / "movies.dat").write_bytes(b"\r\n".join(MOVIES) + b"\r\n")
    (source / "ratings.dat").write_text("\n".join(RATINGS) + "\n")
    (source / "users.dat").write_text("\n".join(USERS) + "\n")
    return source


def test_the_1m_layout_becomes_a_catalogue(million, tmp_path):
    posters = tmp_path / "posters"
    photo(posters / "1.jpg")
    photo(posters / "3.PNG")
    photo(posters / "77.jpg")
    report = import_dataset("movielens", million, tmp_path / "films", photos=posters)
    assert (report.items, report.used, report.users, report.interactions, report.photos) == (5, 3, 2, 4, 2)
    assert report.files == ("movies.dat", "ratings.dat", "users.dat")

    result = prepared(tmp_path / "films")
    assert list(result.items) == ["1", "2", "3", "4", "5"]
    assert [row["title"] for row in result.items.values()] == [
        "Wooden Toys",
        "Les Mis\u00e9rables, encore",
        "Alien :: Return",
        "Nameless",
        "Unseen",
    ]
    assert [row["year"] for row in result.items.values()] == [1995, 1998, 1999, None, 1950]
    assert result.items["1"]["genres"] == ["Animation", "Children's", "Comedy"]
    assert result.items["1"]["text"] == "Wooden Toys\ngenres: Animation, Children's, Comedy; year: 1995"
    assert {i: row["image"] for i, row in result.items.items() if row["image"]} == {
        "1": "images/1.jpg",
        "3": "images/3.png",
    }
    # In order of time, and of the file within one second.
    assert result.histories == {"1": [("1", 978300019), ("2", 978300019), ("3", 978300760)], "2": [("1", 978298413)]}
    assert result.facts["language"] == "en"
    assert (result.facts["rejects"], result.log_facts["rejects"]) == (0, 0)


def test_bad_rows_of_the_1m_layout_are_listed_with_file_and_row(million, tmp_path):
    report = import_dataset("movielens", million, tmp_path / "films")
    assert rejects(tmp_path / "films") == [
        ("movies.dat", 6, None, "line of another form: 'no movie at all'"),
        ("movies.dat", 5, "2", "repeated item id"),
        ("ratings.dat", 6, None, "line of another form: '2::4::2'"),
        ("ratings.dat", 5, "99", "item unknown to the items file: '99'"),
        ("ratings.dat", 7, "4", "missing or unreadable time: 'yesterday'"),
        ("ratings.dat", 8, "4", "missing user id"),
    ]
    assert sum(report.dropped.values()) == 6
    assert report.dropped["item unknown to the items file"] == 1


def test_users_of_the_1m_layout_in_words(million, tmp_path):
    import_dataset("movielens", million, tmp_path / "films")
    users = pq.read_table(tmp_path / "films" / "users.parquet").to_pylist()
    assert users[0] == {
        "user_id": "1",
        "gender": "F",
        "age_code": 1,
        "age": "Under 18",
        "occupation_code": 10,
        "occupation": "K-12 student",
        "zip_code": "48067",
    }
    assert [(u["age"], u["occupation"], u["zip_code"]) for u in users[1:]] == [
        ("56+", "self-employed", "02460"),
        ("25-34", "writer", "55117-1234"),
    ]


def test_ratings_are_kept_with_the_log(million, tmp_path):
    import_dataset("movielens", million, tmp_path / "films")
    log = pq.read_table(tmp_path / "films" / "interactions.parquet")
    assert log.column_names[:3] == ["user_id", "item_id", "timestamp"]
    assert log["rating"].to_pylist() == [5, 3, 4, 1]


@pytest.fixture
def latest(tmp_path):
    source = tmp_path / "ml-latest"
    source.mkdir()
    movies = [
        "movieId,title,genres",
        "1,Wooden Toys (1995),Adventure|Animation",
        '11,"Minister, The ""Deputy"" (1995)",Comedy',
        "12,Caf\u00e9 (2006\u20132007) ,(no genres listed)",
        "13,(1984),Drama",
        "14,,Drama",
    ]
    ratings = [
        "userId,movieId,rating,timestamp",
        "1,1,4.0,964982703",
        "1,11,0.5,964981247",
        "2,12,3.5,1445714835",
        "2,14,great,1445714836",
        "2,14,3.5,1445714837,9",
    ]
    (source / "movies.csv").write_text("\n".join(movies) + "\n", "utf-8")
    (source / "ratings.csv").write_text("\r\n".join(ratings) + "\r\n", "utf-8")
    return source


def test_the_latest_layout_becomes_a_catalogue(latest, tmp_path):
    report = import_dataset("movielens", latest, tmp_path / "films")
    assert (report.items, report.used, report.users, report.interactions, report.photos) == (5, 4, 2, 4, 0)
    assert rejects(tmp_path / "films") == [("ratings.csv", 5, None, "wrong number of fields: 5 instead of 4")]
    result = prepared(tmp_path / "films")
    assert [(row["title"], row["year"], row["genres"]) for row in result.items.values()] == [
        ("Wooden Toys", 1995, ["Adventure", "Animation"]),
        ('Minister, The "Deputy"', 1995, ["Comedy"]),
        ("Caf\u00e9", 2006, None),
        ("(1984)", None, ["Drama"]),
        (None, None, ["Drama"]),
    ]
    assert result.histories["1"] == [("11", 964981247), ("1", 964982703)]
    assert pq.read_table(tmp_path / "films" / "interactions.parquet")["rating"].to_pylist() == [4, 0.5, 3.5, None]
    assert not (tmp_path / "films" / "users.parquet").exists()


def test_missing_files_are_named_with_what_is_expected(tmp_path, million, latest):
    with pytest.raises(DataError, match=r"neither ratings\.dat nor ratings\.csv") as caught:
        import_dataset("movielens", tmp_path, tmp_path / "films")
    assert "movies.dat" in caught.value.hint
    (million / "movies.dat").unlink()
    with pytest.raises(DataError, match=r"ml-1m has no movies\.dat"):
        import_dataset("movielens", million, tmp_path / "films")
    (latest / "movies.csv").write_text("id,name\n1,x\n")
    with pytest.raises(DataError, match="has no column movieId, title, genres; its columns are id, name"):
        import_dataset("movielens", latest, tmp_path / "films")
    (million / "ratings.csv").write_text("x\n")
    with pytest.raises(DataError, match=r"ratings\.dat and ratings\.csv"):
        import_dataset("movielens", million, tmp_path / "films")
    assert not (tmp_path / "films").exists()


def test_a_log_of_other_films_is_refused(latest, tmp_path):
    (latest / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,901,4.0,964982703\n")
    with pytest.raises(DataError, match=r"none of its 1 rows is usable; 1 × item unknown .*row 1.*'901'"):
        import_dataset("movielens", latest, tmp_path / "films")
    (latest / "ratings.csv").write_text("userId,movieId,rating,timestamp\n")
    with pytest.raises(DataError, match="has no rows"):
        import_dataset("movielens", latest, tmp_path / "films")
    assert not list(tmp_path.glob(".films*"))
