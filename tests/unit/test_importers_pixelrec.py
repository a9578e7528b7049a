"""`molar import pixelrec`."""

import pyarrow.parquet as pq
import pytest
from importer_checks import photo, prepared, rejects

from molar_retrieval.data.importers import import_dataset
from molar_retrieval.errors import DataError

ITEM_HEADER = (
    "item_id,view_number,comment_number,thumbup_number,share_number,coin_number,favorite_number,barrage_number,"
    "title,tag,description"
)
ITEMS = [
    ITEM_HEADER,
    'i0,9081726,11,22,33,44,55,66,"Cats, and dogs",Pets,"Two lines\nof words"',
    "i1,100.0,1,,3,4,5,6,\u732b\u306e\u4e00\u65e5,Pets,",
    "i2,many,1,2,3,4,5,6,Cooking,Food,Soup",
    "i1,1,1,2,3,4,5,6,Again,Food,Soup",
]
LOG = ["item_id,user_id,timestamp", "i1,u7,1653541260", "i0,u7,1653541254", "i9,u7,1653541300", "i2,u8,1653541254"]


@pytest.fixture(params=["flat", "folders as downloaded"])
def source(request, tmp_path):
    folder = tmp_path / "pixel"
    if request.param == "flat":
        places = folder / "item_info.csv", folder / "Pixel200K.csv", folder / "images"
    else:
        places = folder / "pixelrec_iteminfo" / "P.csv", folder / "pixelrec_interaction" / "P.csv", folder / "cover"
    for path, lines in zip(places, (ITEMS, LOG), strict=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", "utf-8")
    photo(places[2] / "i0.jpg")
    photo(places[2] / "i2.jpg")
    return folder


def test_it_becomes_a_catalogue(source, tmp_path):
    report = import_dataset("pixelrec", source, tmp_path / "out")
    assert (report.items, report.used, report.users, report.interactions, report.photos) == (3, 3, 2, 3, 2)
    log = report.files[1]
    assert rejects(tmp_path / "out") == [
        (report.files[0], 4, "i1", "repeated item id"),
        (log, 3, "i9", "item unknown to the items file: 'i9'"),
    ]
    result = prepared(tmp_path / "out")
    assert list(result.items) == ["i0", "i1", "i2"]
    assert result.items["i0"]["title"] == "Cats, and dogs"
    assert result.items["i0"]["description"] == "Two lines of words"
    assert result.items["i1"]["title"] == "\u732b\u306e\u4e00\u65e5"
    assert result.items["i1"]["description"] is None
    assert [row["image"] for row in result.items.values()] == ["images/i0.jpg", None, "images/i2.jpg"]
    assert result.histories == {"u7": [("i0", 1653541254), ("i1", 1653541260)], "u8": [("i2", 1653541254)]}


def test_counts_of_popularity_are_no_inputs(source, tmp_path):
    report = import_dataset("pixelrec", source, tmp_path / "out")
    assert any("display only" in note for note in report.notes)
    result = prepared(tmp_path / "out")
    assert result.attributes == ("tag",)
    assert result.items["i0"]["text"] == "Cats, and dogs\ntag: Pets\nTwo lines of words"
    assert [row["view_number"] for row in result.items.values()] == [9081726, 100, None]
    assert [row["thumbup_number"] for row in result.items.values()] == [22, None, 2]


def test_files_are_told_by_their_headers(source, tmp_path):
    (source / "other.csv").write_text("a,b\n1,2\n")
    import_dataset("pixelrec", source, tmp_path / "out")
    (source / "Pixel1M.csv").write_text("\n".join(LOG))
    with pytest.raises(DataError, match=r"Pixel1M\.csv") as caught:
        import_dataset("pixelrec", source, tmp_path / "out2")
    assert "keep the one" in caught.value.hint


def test_missing_files_are_named_by_their_columns(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no CSV file with the columns item_id,user_id,timestamp"):
        import_dataset("pixelrec", empty, tmp_path / "out")
    (empty / "Pixel200K.csv").write_text("\n".join(LOG))
    with pytest.raises(DataError, match=f"no CSV file with the columns {ITEM_HEADER}"):
        import_dataset("pixelrec", empty, tmp_path / "out")


def test_times_in_milliseconds_are_recognised(source, tmp_path):
    (log,) = [p for p in source.rglob("*.csv") if p.read_text("utf-8").startswith("item_id,user_id")]
    log.write_text("item_id,user_id,timestamp\ni0,u1,1653541254500\ni1,u1,1653541254100\n")
    import_dataset("pixelrec", source, tmp_path / "out")
    times = pq.read_table(tmp_path / "out" / "interactions.parquet")["timestamp"].to_pylist()
    assert [time.microsecond for time in times] == [500_000, 100_000]
    assert prepared(tmp_path / "out").histories == {"u1": [("i1", 1653541254), ("i0", 1653541254)]}
