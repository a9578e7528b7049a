"""Tables on their way into a catalogue folder."""

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar.tables import as_table, write_catalogue
from molar_retrieval.errors import DataError, SettingsError

ROWS = [{"item_id": "007", "title": "Mug"}, {"item_id": "8", "title": None}]


@pytest.mark.parametrize(
    "make",
    [pd.DataFrame, pl.DataFrame, pa.Table.from_pylist, list, lambda rows: {k: [r[k] for r in rows] for k in rows[0]}],
    ids=["pandas", "polars", "pyarrow", "rows", "columns"],
)
def test_whatever_holds_a_table_is_one(make):
    assert as_table(make(ROWS), "items").to_pylist() == ROWS


def test_the_index_of_a_data_frame_is_no_column():
    frame = pd.DataFrame(ROWS, index=[5, 9])
    assert as_table(frame, "items").column_names == ["item_id", "title"]


@pytest.mark.parametrize("source", [7, object(), ["a", "b"], {"a": [1], "b": [1, 2]}])
def test_what_is_no_table_is_refused(source):
    with pytest.raises(DataError, match="the items cannot be read"):
        as_table(source, "items")


def test_the_same_tables_leave_the_files_alone(tmp_path):
    folder = tmp_path / "shop"
    write_catalogue(folder, {"items": ROWS}, None, None)
    before = (folder / "items.parquet").stat().st_mtime_ns
    write_catalogue(folder, {"items": ROWS}, None, None)
    assert (folder / "items.parquet").stat().st_mtime_ns == before
    write_catalogue(folder, {"items": ROWS[:1]}, None, None)
    assert pq.read_table(folder / "items.parquet").to_pylist() == ROWS[:1]


def test_files_are_taken_as_they_are_and_replace_a_former_table(tmp_path):
    folder, file = tmp_path / "shop", tmp_path / "products.csv"
    file.write_text("sku,title\n007,Mug\n")
    write_catalogue(folder, {"items": ROWS}, None, None)
    write_catalogue(folder, {"items": file}, None, {"items": {"item_id": "sku"}})
    assert sorted(path.name for path in folder.glob("items.*")) == ["items.csv"]
    assert (folder / "items.csv").read_text() == file.read_text()
    assert 'item_id = "sku"' in (folder / "catalog.toml").read_text()
    write_catalogue(folder, {"items": ROWS}, None, None)
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == ["items.parquet"]


def test_photos_come_along(tmp_path):
    (tmp_path / "photos" / "new").mkdir(parents=True)
    (tmp_path / "photos" / "new" / "007.jpg").write_bytes(b"x")
    for _ in range(2):
        write_catalogue(tmp_path / "shop", {"items": ROWS}, tmp_path / "photos", None)
    assert (tmp_path / "shop" / "images" / "new" / "007.jpg").read_bytes() == b"x"
    with pytest.raises(DataError, match="there is no folder"):
        write_catalogue(tmp_path / "shop", {"items": ROWS}, tmp_path / "nowhere", None)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not made by from_tables"):
        write_catalogue(tmp_path, {"items": ROWS}, None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["items.xlsx", "nowhere.csv"])
def test_a_file_that_is_no_table_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="is no table"):
        write_catalogue(tmp_path / "shop", {"items": tmp_path / name}, None, None)


@pytest.mark.parametrize(
    ("tables", "role", "columns", "named"),
    [
        ({"items": [{"article": "1", "title": "Mug"}]}, "item_id", {}, "article, title"),
        ({"items": ROWS, "interactions": [{"buyer": "u", "item_id": "8"}]}, "user_id", {}, "buyer, item_id"),
        ({"items": ROWS, "interactions": [{"user_id": "u", "article": "8"}]}, "item_id", {}, "user_id, article"),
        ({"items": ROWS, "users": [{"country": "FR"}]}, "user_id", {}, "country"),
        ({"items": ROWS}, "article", {"items": {"item_id": "article"}}, "item_id, title"),
        ({"items": []}, "item_id", {}, "no columns"),
    ],
)
def test_a_table_without_ids_is_refused_with_its_columns_and_the_remedy_before_anything_is_written(
    tmp_path, tables, role, columns, named
):
    with pytest.raises(DataError, match=list(tables)[-1]) as error:
        write_catalogue(tmp_path / "shop", tables, None, columns)
    assert repr(role) in error.value.message
    assert named in error.value.message
    assert "columns={" in error.value.hint
    assert not (tmp_path / "shop").exists()


def test_a_file_without_ids_is_refused_by_its_header(tmp_path):
    file = tmp_path / "products.csv"
    file.write_text("article,title\n007,Mug\n")
    with pytest.raises(DataError, match="article, title"):
        write_catalogue(tmp_path / "shop", {"items": file}, None, None)
    write_catalogue(tmp_path / "shop", {"items": file}, None, {"items": {"item_id": "article"}})
    assert (tmp_path / "shop" / "items.csv").read_text() == file.read_text()


def test_columns_that_mean_nothing_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="itms"):
        write_catalogue(tmp_path / "shop", {"items": ROWS}, None, {"itms": {"item_id": "item_id"}})
