"""From a folder to the catalogue artefact."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import is_current, prepare_catalogue
from molar_retrieval.errors import DataError
from molar_retrieval.workspace.artefacts import Workspace


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "shop"
    (path / "images").mkdir(parents=True)
    return path


@pytest.fixture
def workspace(tmp_path, folder):
    return Workspace.for_catalogue(tmp_path / "work", folder)


def _write(folder, **columns):
    pq.write_table(pa.table(columns), folder / "items.parquet")


def _photo(folder, name, colour="red"):
    path = folder / "images" / name
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path)


def _open(workspace):
    return Catalogue.open(workspace["catalogue"].require()[0])


def _rows(workspace, *columns):
    catalogue = _open(workspace)
    return [row for b in catalogue.batches(columns, 2) for row in b.to_pylist()]


def _rejects(workspace):
    return pq.read_table(workspace["catalogue"].require()[0] / "rejects.parquet").to_pylist()


def test_a_catalogue_with_all_kinds_of_columns(folder, workspace):
    _photo(folder, "b.jpg")
    _write(
        folder,
        item_id=["a", "b"],
        title=["  A\ttitle ", None],
        description=[None, "Words"],
        image=[None, "images/b.jpg"],
        brand=["Acme", None],
        colours=[["red", None, "blue"], None],
        price=pa.array([1.5, None], pa.float32()),
        stock=pa.array([3, None], pa.int8()),
        new=[True, None],
        added=pa.array([0, None], pa.timestamp("s")),
        nested=[{"x": 1}, None],
    )
    manifest = prepare_catalogue(folder, workspace)
    catalogue = _open(workspace)
    assert len(catalogue) == 2
    assert catalogue.ids.array.to_pylist() == ["a", "b"]
    assert catalogue.folder == folder
    assert catalogue.fields == {
        "brand": "keyword",
        "colours": "keyword",
        "price": "float",
        "stock": "integer",
        "new": "bool",
        "added": "keyword",
    }
    assert catalogue.payload == tuple(catalogue.fields)
    assert catalogue.attributes == ("brand", "colours")
    first, second = _rows(workspace, "item_id", "title", "description", "image", "text", *catalogue.fields)
    assert first == {
        "item_id": "a",
        "title": "A title",
        "description": None,
        "image": None,
        "text": "A title\nbrand: Acme; colours: red, blue",
        "brand": "Acme",
        "colours": ["red", "blue"],
        "price": 1.5,
        "stock": 3,
        "new": True,
        "added": "1970-01-01 00:00:00",
    }
    assert second["text"] == "Words"
    assert second["image"] == "images/b.jpg"
    assert second["colours"] is None
    facts = manifest.facts
    counts = [facts[f"with_{name}"] for name in ("description", "image")]
    assert counts == [1, 1]
    assert facts["rejects"] == 0
    assert manifest.settings["template"] == "{title}\n{attributes}\n{description}"


def test_bad_rows_are_listed_and_shift_nothing(folder, workspace):
    _photo(folder, "ok.jpg")
    (folder / "images" / "text.jpg").write_text("no image")
    photos = ["ok.jpg", "text.jpg", "gone.jpg", "../x.jpg", "http://x.org/y.jpg", None, "ok.jpg", "ok.jpg", "ok.jpg"]
    _write(
        folder,
        item_id=["1", "2", "3", "4", "5", "6", None, "1", "  "],
        title=["one", "two", "three", "four", "five", "six", "none", "again", "blank"],
        image=photos,
        price=[1.0, np.inf, 3.0, -np.inf, 5.0, None, np.nan, 8.0, 9.0],
    )
    manifest = prepare_catalogue(folder, workspace)
    assert _rows(workspace, "item_id", "title", "image", "price") == [
        {"item_id": "1", "title": "one", "image": "images/ok.jpg", "price": 1.0},
        {"item_id": "2", "title": "two", "image": None, "price": None},
        {"item_id": "3", "title": "three", "image": None, "price": 3.0},
        {"item_id": "4", "title": "four", "image": None, "price": None},
        {"item_id": "5", "title": "five", "image": None, "price": 5.0},
        {"item_id": "6", "title": "six", "image": None, "price": None},
    ]
    listed = sorted((r["row"], r["item_id"], r["reason"].split(":")[0]) for r in _rejects(workspace) if r["item_id"])
    assert listed == [
        (2, "2", "not a finite number, left empty"),
        (2, "2", "photo not usable"),
        (3, "3", "photo not usable"),
        (4, "4", "not a finite number, left empty"),
        (4, "4", "photo not usable"),
        (5, "5", "photo not usable"),
        (8, "1", "duplicate id"),
    ]
    assert [(r["row"], r["reason"]) for r in _rejects(workspace) if not r["item_id"]] == [
        (7, "missing id"),
        (9, "missing id"),
    ]
    assert manifest.facts["rejects"] == 9
    assert manifest.facts["rejects_by_kind"]["photo not usable"] == 4
    assert {r["file"] for r in _rejects(workspace)} == {"items.parquet"}
    assert "'gone.jpg': there is no such file" in str(_rejects(workspace))


def test_photos_are_found_by_id_where_no_column_names_them(folder, workspace):
    for name in ("007.jpg", "b.webp", "x/1.png"):
        _photo(folder, name)
    (folder / "images" / "bad.jpg").write_bytes(b"")
    _write(folder, item_id=["007", "b", "x/1", "../shop", "bad", "none"], title=list("abcdef"))
    prepare_catalogue(folder, workspace)
    assert [row["image"] for row in _rows(workspace, "image")] == [
        "images/007.jpg",
        "images/b.webp",
        "images/x/1.png",
        None,
        None,
        None,
    ]
    assert [(r["row"], r["reason"]) for r in _rejects(workspace)] == [
        (5, "photo not usable: 'images/bad.jpg': it is empty")
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_formats_give_the_same_catalogue(folder, workspace, suffix):
    rows = [{"item_id": f"{i:03d}", "title": f"t {i}", "maker": "Acme", "price": i + 0.5, "n": i} for i in range(50)]
    table = pa.Table.from_pylist(rows)
    if suffix == "parquet":
        pq.write_table(table, folder / "items.parquet")
    elif suffix == "jsonl":
        (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        text = "\n".join(",".join(map(str, row.values())) for row in rows)
        (folder / "items.csv").write_text("item_id,title,maker,price,n\n" + text)
    manifest = prepare_catalogue(folder, workspace)
    columns = ["item_id", "title", "maker", "price", "n", "text"]
    assert _rows(workspace, *columns) == [{**row, "text": f"t {i}\nmaker: Acme"} for i, row in enumerate(rows)]
    assert manifest.facts["fields"] == {"maker": "keyword", "price": "float", "n": "integer"}


def test_template_names_columns_itself(folder, workspace):
    _write(folder, item_id=["1"], title=["T"], year=[1999], brand=["B"], tags=["a|b"])
    (folder / "catalog.toml").write_text(
        '[items]\nlists = ["tags"]\nexclude = ["year"]\n'
        '[text]\nlanguage = "de"\ntemplate = """{title} ({year})\n{attributes}\nBy {brand}\n{description}"""'
    )
    manifest = prepare_catalogue(folder, workspace)
    assert _rows(workspace, "text", "tags") == [{"text": "T (1999)\ntags: a, b\nBy B", "tags": ["a", "b"]}]
    assert _open(workspace).payload == ("brand", "tags")
    assert _open(workspace).language == "de"
    assert manifest.settings["language"] == "de"


def test_columns_whose_names_are_taken_are_renamed(folder, workspace):
    _write(folder, sku=["1"], item_id=["x"], title=["T"], text_column=["c"])
    (folder / "catalog.toml").write_text('[items]\nitem_id = "sku"\ntitle = "text_column"\ndescription = "title"')
    manifest = prepare_catalogue(folder, workspace)
    assert manifest.facts["renamed"] == {"item_id": "item_id_column"}
    assert _rows(workspace, "item_id", "title", "item_id_column") == [
        {"item_id": "1", "title": "c", "item_id_column": "x"}
    ]


def test_ids_in_bytes_are_read_as_utf8(folder, workspace):
    _write(folder, item_id=["é".encode(), b"\xff", b"c"], title=["T", "U", "V"])
    prepare_catalogue(folder, workspace)
    assert _rows(workspace, "item_id", "title") == [{"item_id": "é", "title": "T"}, {"item_id": "c", "title": "V"}]
    assert [(r["row"], r["reason"]) for r in _rejects(workspace)] == [(2, "missing id")]


def test_opening_a_catalogue_or_a_log_imports_nothing_heavy():
    code = """
import sys
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
heavy = {"PIL", "scipy", "torch", "transformers", "pyarrow.csv"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_long_texts_are_kept_for_display_but_are_no_filter(folder, workspace):
    _write(folder, item_id=["1"], title=["T"], story=["words " * 50])
    prepare_catalogue(folder, workspace)
    assert _open(workspace).payload == ("story",)
    assert _open(workspace).fields == {}


def test_nothing_happens_where_nothing_changed(folder, workspace, monkeypatch):
    _photo(folder, "a.jpg")
    _write(folder, item_id=["a"], title=["T"], image=["a.jpg"])
    assert not is_current(folder, workspace)
    first = prepare_catalogue(folder, workspace)
    assert is_current(folder, workspace)
    monkeypatch.setattr("molar_retrieval.data.prepare.items_source", None)
    assert prepare_catalogue(folder, workspace) == first


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda f: os.utime(f / "items.parquet"), True),
        (lambda f: os.utime(f / "images" / "a.jpg"), True),
        (lambda f: _photo(f, "unused.jpg"), True),
        (lambda f: _write(f, item_id=["a", None], title=["T", "x"], image=["a.jpg", None]), True),
        (lambda f: _photo(f, "a.jpg", "green") or Image.new("RGB", (99, 99)).save(f / "images" / "a.jpg"), False),
        (lambda f: (f / "images" / "a.jpg").unlink(), False),
        (lambda f: _write(f, item_id=["a"], title=["U"], image=["a.jpg"]), False),
        (lambda f: _write(f, item_id=["a"], title=["T"], image=["a.jpg"], year=[1]), False),
        (lambda f: (f / "catalog.toml").write_text('[text]\ntemplate = "{title}"'), False),
    ],
    ids=["touched", "photo touched", "unused photo", "bad row added", "photo", "photo gone", "title", "column", "toml"],
)
def test_the_fingerprint_follows_the_content(folder, workspace, change, same):
    _photo(folder, "a.jpg")
    _write(folder, item_id=["a"], title=["T"], image=["a.jpg"])
    first = prepare_catalogue(folder, workspace)
    change(folder)
    assert not is_current(folder, workspace)
    second = prepare_catalogue(folder, workspace)
    assert is_current(folder, workspace)
    assert (first.fingerprint == second.fingerprint) is same
    assert workspace["catalogue"].require()[1] == second
    assert len(workspace["catalogue"].versions()) == 1
    assert workspace["catalogue"].partials() == []
    assert len(_rejects(workspace)) == second.facts["rejects"]


def test_a_photo_that_appears_later_is_noticed(folder, workspace):
    shutil.rmtree(folder / "images")
    _write(folder, item_id=["a"], title=["T"])
    prepare_catalogue(folder, workspace)
    assert is_current(folder, workspace)
    (folder / "images").mkdir()
    _photo(folder, "a.jpg")
    prepare_catalogue(folder, workspace)
    assert _rows(workspace, "image") == [{"image": "images/a.jpg"}]


def test_a_second_items_file_is_noticed(folder, workspace):
    _write(folder, item_id=["a"], title=["T"])
    prepare_catalogue(folder, workspace)
    (folder / "items.csv").write_text("item_id,title\nb,U\n")
    with pytest.raises(DataError, match=r"items.csv and items.parquet"):
        prepare_catalogue(folder, workspace)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": pa.array([], pa.string())}, "has no rows"),
        ({"item_id": pa.array([None, ""], pa.string())}, "none of its 2 rows is usable; 2 × missing id"),
    ],
)
def test_a_catalogue_without_any_item_is_refused(folder, workspace, columns, message):
    _write(folder, **columns)
    with pytest.raises(DataError, match=message) as caught:
        prepare_catalogue(folder, workspace)
    assert "items.parquet" in caught.value.message
    assert workspace["catalogue"].current is None


def test_an_interrupted_run_leaves_the_old_version_and_is_repeated(folder, workspace, monkeypatch):
    _write(folder, item_id=["a"], title=["T"])
    first = prepare_catalogue(folder, workspace)
    _write(folder, item_id=["b"], title=["U"])
    with monkeypatch.context() as patch:
        patch.setattr("molar_retrieval.data.prepare.TableDigest.result", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare_catalogue(folder, workspace)
    assert workspace["catalogue"].require()[1] == first
    prepare_catalogue(folder, workspace)
    assert _rows(workspace, "item_id") == [{"item_id": "b"}]


def test_duplicates_are_found_across_batches(folder, workspace, monkeypatch):
    monkeypatch.setattr("molar_retrieval.data.prepare.BATCH", 3)
    monkeypatch.setattr("molar_retrieval.data.prepare._ROW_GROUP", 5)
    _write(folder, item_id=[str(i % 7) for i in range(20)], title=[f"row {i}" for i in range(20)])
    manifest = prepare_catalogue(folder, workspace)
    assert [row["title"] for row in _rows(workspace, "title")] == [f"row {i}" for i in range(7)]
    assert manifest.facts["rejects_by_kind"] == {"duplicate id": 13}
    assert [r["row"] for r in _rejects(workspace)] == list(range(8, 21))


def test_progress_hears_of_every_row_and_the_summary(folder, workspace):
    class Listener:
        def __init__(self):
            self.rows, self.total, self.notes = 0, None, []

        def start(self, task, total):
            self.total = total

        def advance(self, n=1):
            self.rows += n

        def note(self, message):
            self.notes.append(message)

        def finish(self):
            pass

    _write(folder, item_id=["a", None, "c"], title=["T", "U", None])
    listener = Listener()
    prepare_catalogue(folder, workspace, listener)
    assert listener.rows == listener.total == 3
    assert listener.notes == ["2 items, 0 with a photo, 0 described; 1 rejects (1 × missing id)"]


def test_a_spreadsheet_has_prices_to_filter_by_and_lists_stay_lists(folder, workspace):
    lines = ["id;title;price;sizes", "a;Stuhl;€ 1.299,00;38,39", "b;Tisch;€ 12,50;40,41"]
    (folder / "items.csv").write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    (folder / "catalog.toml").write_text('[items]\nlists = ["sizes"]\nseparator = ","')
    prepare_catalogue(folder, workspace, where="price > 1000")
    assert _rows(workspace, "item_id", "price", "sizes") == [
        {"item_id": "a", "price": 1299.0, "sizes": ["38", "39"]},
    ]
