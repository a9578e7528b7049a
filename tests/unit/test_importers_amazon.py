"""`molar import amazon-2014` and `amazon-2023`."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importer_checks import photo, prepared, rejects

from molar_retrieval.data.importers import import_dataset
from molar_retrieval.data.importers.formats import number, text, texts
from molar_retrieval.errors import DataError

DAY = 1252800000
META_2014 = [
    {
        "asin": "0000031852",
        "related": {"also_bought": ["B00JHONN1S"], "also_viewed": []},
        "title": 'Girl\'s "Zebra" Skirt &amp; Top',
        "price": 3.17,
        "salesRank": {"Toys & Games": 211836},
        "imUrl": "http://pictures.example/51fA.jpg",
        "brand": "Coxl\u00fbres",
        "categories": [["Sports & Outdoors", "Dance"], ["Clothing", "Dance"]],
        "description": "Soft.<br />Very <b>soft</b> &quot;tulle&quot;, 2 < 3",
    },
    {"asin": "B00JHONN1S", "description": "", "categories": [["Clothing"]]},
    {"asin": "0000031852", "title": "The same again"},
    {"title": "Without an id", "price": 1},
    {"asin": "B000UNSOLD", "title": "Nobody's", "categories": []},
]
REVIEWS_2014 = [
    {"reviewerID": "A2", "asin": "B00JHONN1S", "overall": 5.0, "unixReviewTime": DAY + 86400},
    {"reviewerID": "A2", "asin": "0000031852", "helpful": [2, 3], "overall": 4.0, "unixReviewTime": DAY},
    {"reviewerID": "A1", "asin": "0000031852", "overall": 1.0, "reviewText": "d\u00e9j\u00e0", "unixReviewTime": DAY},
    {"reviewerID": "A1", "asin": "B00000GONE", "overall": 1.0, "unixReviewTime": DAY},
    {"reviewerID": "A1", "asin": "0000031852", "overall": 1.0},
    {"asin": "0000031852", "overall": 1.0, "unixReviewTime": DAY},
]


def _write(path, lines):
    data = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data.encode()))
    else:
        path.write_text(data, "utf-8")


def _source(tmp_path, files):
    source = tmp_path / "amazon"
    source.mkdir()
    for name, lines in files.items():
        _write(source / name, lines)
    return source


@pytest.mark.parametrize(
    ("meta", "reviews", "as_line"),
    [
        ("meta_Toys.json.gz", "reviews_Toys_5.json.gz", json.dumps),
        ("meta_Toys.json", "reviews_Toys_5.json", json.dumps),
        ("meta_Toys.json.gz", "reviews_Toys.json.gz", repr),  # those of all users are Python, too
    ],
)
def test_2014_becomes_a_catalogue(tmp_path, meta, reviews, as_line):
    lines = [*map(as_line, REVIEWS_2014), "half a li"]
    source = _source(tmp_path, {meta: [*map(repr, META_2014), "{'asin': open('x')}"], reviews: lines})
    photo(source / "images" / "0000031852.jpg")
    report = import_dataset("amazon-2014", source, tmp_path / "toys")
    assert (report.items, report.used, report.users, report.interactions, report.photos) == (3, 2, 2, 3, 1)
    assert rejects(tmp_path / "toys") == [
        (meta, 6, None, "line is no object: \"{'asin': open('x')}\""),
        (meta, 3, "0000031852", "repeated item id"),
        (meta, 4, None, "missing item id"),
        (reviews, 7, None, "line is no object: 'half a li'"),
        (reviews, 4, "B00000GONE", "item unknown to the items file: 'B00000GONE'"),
        (reviews, 5, "0000031852", "missing or unreadable time: None"),
        (reviews, 6, "0000031852", "missing user id"),
    ]
    result = prepared(tmp_path / "toys")
    assert list(result.items) == ["0000031852", "B00JHONN1S", "B000UNSOLD"]
    first = result.items["0000031852"]
    assert first["title"] == 'Girl\'s "Zebra" Skirt & Top'
    assert first["description"] == 'Soft. Very soft "tulle", 2 < 3'
    assert first["categories"] == ["Sports & Outdoors", "Dance", "Clothing"]
    assert (first["price"], first["image"]) == (3.17, "images/0000031852.jpg")
    assert result.attributes == ("brand", "categories")
    assert "211836" not in first["text"]
    assert "B00JHONN1S" not in json.dumps(first)
    assert result.items["B00JHONN1S"]["description"] is None
    assert result.histories == {
        "A2": [("0000031852", DAY), ("B00JHONN1S", DAY + 86400)],
        "A1": [("0000031852", DAY)],
    }


def test_2014_never_evaluates(tmp_path):
    trap = tmp_path / "trap"
    evil = f"{{'asin': __import__('pathlib').Path({str(trap)!r}).touch()}}"
    deep = "[" * 100_000
    lines = [repr({"asin": "1"}), evil, deep]
    source = _source(tmp_path, {"meta_X.json": lines, "reviews_X.json": [json.dumps(REVIEWS_2014[0] | {"asin": "1"})]})
    report = import_dataset("amazon-2014", source, tmp_path / "out")
    assert not trap.exists()
    assert report.dropped == {"line is no object": 2}


META_2023 = [
    {
        "main_category": "All Beauty",
        "title": "Howard LC0008 Oil",
        "average_rating": 4.8,
        "rating_number": 10,
        "features": ["Conditions", "Smells of <i>oranges</i>"],
        "description": ["First part.", "Second part."],
        "price": "$1,012.99",
        "images": [
            {"thumb": "t0", "large": "l0", "variant": "PT01", "hi_res": "h0"},
            {"thumb": "t1", "large": "https://pictures.example/l1.jpg", "variant": "MAIN", "hi_res": None},
        ],
        "videos": [],
        "store": "Howard",
        "categories": ["Beauty", "Hair"],
        "details": {"UPC": "617390882781"},
        "parent_asin": "B01CUPMQZE",
        "bought_together": None,
    },
    {"title": "\ud83d\ude00 half \ud83d", "features": [], "description": [], "price": None, "images": []}
    | {"parent_asin": "B076WQZGPM", "store": None, "categories": []},
]
REVIEWS_2023 = [
    {"rating": 5.0, "title": "t", "text": "half \ud83d", "images": [], "asin": "B00YQ6X8EO"}
    | {"parent_asin": "B01CUPMQZE", "user_id": "AGK", "timestamp": 1588687728923, "verified_purchase": True},
    {"rating": 4.0, "asin": "B076WQZGPM", "parent_asin": "B076WQZGPM", "user_id": "AGK", "timestamp": 1588687728107},
    {"rating": 1.0, "asin": "B01CUPMQZE", "parent_asin": "B0OTHER", "user_id": "AFS", "timestamp": 1588687728107},
    {"rating": 1.0, "asin": "x", "parent_asin": "B01CUPMQZE", "user_id": "AFS", "timestamp": 978307200000},
]


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_2023_becomes_a_catalogue(tmp_path, packed):
    files = {
        f"meta_All_Beauty.jsonl{packed}": map(json.dumps, META_2023),
        f"All_Beauty.jsonl{packed}": map(json.dumps, REVIEWS_2023),
    }
    source = _source(tmp_path, files)
    pictures = tmp_path / "pictures"
    photo(pictures / "B076WQZGPM.jpeg")
    report = import_dataset("amazon-2023", source, tmp_path / "beauty", photos=pictures)
    assert (report.items, report.used, report.users, report.interactions, report.photos) == (2, 2, 2, 3, 1)
    assert report.dropped == {"item unknown to the items file": 1}
    result = prepared(tmp_path / "beauty")
    first, second = result.items["B01CUPMQZE"], result.items["B076WQZGPM"]
    assert first["description"] == "First part. Second part. Conditions Smells of oranges"
    assert first["price"] == 1012.99
    assert first["text"].splitlines()[1] == "store: Howard; main category: All Beauty; categories: Beauty, Hair"
    assert not {"average_rating", "rating_number"} & first.keys()
    assert second["title"] == "\U0001f600 half ?"
    assert second["image"] == "images/B076WQZGPM.jpeg"
    # Milliseconds order what happened in one second, and a time before 2001 is read in the same unit.
    assert result.histories == {
        "AGK": [("B076WQZGPM", 1588687728), ("B01CUPMQZE", 1588687728)],
        "AFS": [("B01CUPMQZE", 978307200)],
    }
    times = pq.read_table(tmp_path / "beauty" / "interactions.parquet")["timestamp"]
    assert times.type == pa.timestamp("ms", "UTC")
    assert times.cast(pa.int64()).to_pylist() == [1588687728923, 1588687728107, 978307200000]


def test_it_must_be_clear_which_files_are_meant(tmp_path):
    source = _source(tmp_path, {})
    with pytest.raises(DataError, match=r"has no meta_<category>\.json or \.gz") as caught:
        import_dataset("amazon-2014", source, tmp_path / "out")
    assert "reviews_<category>_5.json.gz" in caught.value.hint
    _write(source / "meta_Toys.json.gz", ["{}"])
    with pytest.raises(DataError, match=r"but none of reviews_Toys_5\.json, reviews_Toys_5\.json\.gz, reviews_Toys"):
        import_dataset("amazon-2014", source, tmp_path / "out")
    _write(source / "reviews_Toys_5.json", ["{}"])
    _write(source / "reviews_Toys.json.gz", ["{}"])
    with pytest.raises(DataError, match=r"reviews_Toys_5\.json and reviews_Toys\.json\.gz"):
        import_dataset("amazon-2014", source, tmp_path / "out")
    _write(source / "meta_Books.json", ["{}"])
    with pytest.raises(DataError, match=r"meta_Books\.json, meta_Toys\.json\.gz"):
        import_dataset("amazon-2014", source, tmp_path / "out")


@pytest.mark.parametrize("damage", ["cut", "no gzip"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    lines = [json.dumps(META_2023[0] | {"parent_asin": f"B{n}"}) for n in range(1000)]
    source = _source(tmp_path, {"meta_X.jsonl.gz": lines, "X.jsonl.gz": map(json.dumps, REVIEWS_2023)})
    path = source / "meta_X.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20] if damage == "cut" else b"<html>not found</html>")
    with pytest.raises(DataError, match=r"meta_X\.jsonl\.gz cannot be read to its end") as caught:
        import_dataset("amazon-2023", source, tmp_path / "out")
    assert "fetch the file again" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_values_of_any_kind_are_read_or_empty():
    assert [number(v) for v in (3, "2.50", " $1,200.5 ", "from 3", "nan", None, True, [1], 10**400)] == [
        3.0,
        2.5,
        1200.5,
        *[None] * 6,
    ]
    assert text(["a", None, 3, " b "]) == "a\nb"
    assert (text(""), text("  "), text({}), text(7)) == (None,) * 4
    assert texts([["A", "B"], "A", [["C", None]], 3]) == ["A", "B", "C"]
    assert text("x &lt;b&gt;y&lt;/b&gt; 3 < 4") == "x  y  3 < 4"
