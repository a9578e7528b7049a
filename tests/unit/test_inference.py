"""What somebody's own tables mean, whatever they call things."""

import json
import tomllib

import own_tables
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import molar
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.inference.columns import Overrides, language_of_names, name_score
from molar_retrieval.data.inference.dialect import encoding_of, form_of
from molar_retrieval.data.inference.infer import infer, tables_of
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.workspace.artefacts import Workspace

ITEMS = "sku,name,price\n" + "".join(f"P{i},Chair {i},{i}.50\n" for i in range(30))
ORDERS = "customer,sku,ordered_at\n" + "".join(f"C{i % 7},P{i % 30},2024-01-{i % 28 + 1:02d}\n" for i in range(80))


def _write(folder, **texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text, "utf-8")
    return [folder / f"{name}.csv" for name in texts]


def _read(folder):
    """Items and log as they are prepared from what was written."""
    workspace = Workspace.for_catalogue(folder / ".molar", folder)
    prepare_catalogue(folder, workspace)
    facts = prepare_interactions(folder, workspace).facts
    catalogue = Catalogue(*workspace["catalogue"].require())
    rows = [row for batch in catalogue.batches(catalogue.payload, 1000) for row in batch.to_pylist()]
    return catalogue, rows, facts, Interactions.open(workspace["interactions"].require()[0], catalogue.ids)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8-sig", "utf-8"])
def test_a_german_shop_is_read_as_it_is_meant(tmp_path, encoding):
    own_tables.german(tmp_path, encoding=encoding)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    made = molar.init(tmp_path / "Bestellungen 2024.csv", tmp_path / "Artikelstamm.csv")
    assert made.proposal.sections["items"] == {
        "file": "Artikelstamm.csv",
        **({"encoding": "cp1252"} if encoding == "cp1252" else {}),
        "item_id": "Artikelnummer",
        "title": "Bezeichnung",
        "description": "Beschreibung",
        "stock": "Lagerbestand",
    }
    log = {"user_id": "Kundennr", "item_id": "Artikel-Nr", "timestamp": "Bestelldatum", "time_zone": "Europe/Berlin"}
    assert log.items() <= made.proposal.sections["interactions"].items()
    assert made.proposal.language == "de"
    assert {path: path.read_bytes() for path in before} == before
    catalogue, rows, facts, log = _read(tmp_path)
    assert (len(catalogue), facts["rejects"], catalogue.language) == (60, 0, "de")
    assert [row["Preis"] for row in rows[:4]] == [1299.9, 49.9, 12.9, 7.9]
    assert [(row["title"], row["Preis"]) for row in made.preview.items[:1]] == [("Hemd blau Nr. 0", 1299.9)]
    shown = made.preview.interactions[0]
    assert shown["written"] != shown["time"]
    user = log.users.row(shown["user_id"])
    assert len(log) == facts["interactions"]
    assert user is not None


def test_a_japanese_shop_is_read_as_it_is_meant(tmp_path):
    own_tables.japanese(tmp_path)
    made = molar.init(tmp_path)
    assert made.proposal.sections["items"] == {
        "file": "商品マスタ.csv",
        "encoding": "cp932",
        "item_id": "商品コード",
        "title": "商品名",
        "description": "商品説明",
        "stock": "在庫数",
    }
    log = {"user_id": "会員番号", "item_id": "商品番号", "timestamp": "注文日時", "time_zone": "Asia/Tokyo"}
    assert log.items() <= made.proposal.sections["interactions"].items()
    catalogue, rows, facts, _ = _read(tmp_path)
    assert (facts["rejects"], catalogue.language) == (0, "ja")
    assert [row["価格"] for row in rows[:2]] == [980.0, 12_800.0]
    assert catalogue.ids.id(1) == "000001"


def test_names_that_say_nothing_are_told_by_contents(tmp_path):
    items = "a,b,c\n" + "".join(f"x-{i},A wooden chair of the year {i} for the kitchen,{i}.5\n" for i in range(40))
    log = "d,e,f\n" + "".join(f"2024-02-{i % 28 + 1:02d} 10:00:00,u{i % 9},x-{i % 40}\n" for i in range(90))
    sections = infer(_write(tmp_path, one=log, two=items), {}, Overrides()).sections
    assert (sections["items"]["item_id"], sections["items"]["title"]) == ("a", "b")
    assert sections["interactions"] == {"file": "one.csv", "user_id": "e", "item_id": "f", "timestamp": "d"}


def test_small_numbers_are_not_taken_for_items(tmp_path):
    items = "id,name\n" + "".join(f"{i},Chair {i}\n" for i in range(50))
    log = "customer,product,quantity,date\n" + "".join(f"{i % 9},{i % 50},{i % 3},2024-01-02\n" for i in range(99))
    found = infer(_write(tmp_path, orders=log, products=items), {}, Overrides())
    section = found.sections["interactions"]
    assert (section["user_id"], section["item_id"], section["weight"]) == ("customer", "product", "quantity")
    assert any("returns" in one for one in found.findings)


def test_users_are_a_third_table(tmp_path):
    users = "id,country\n" + "".join(f"C{i},de\n" for i in range(7))
    paths = _write(tmp_path, people=users, orders=ORDERS, products=ITEMS)
    assert infer(paths, {}, Overrides()).sections["users"] == {"file": "people.csv", "user_id": "id"}


def test_an_order_stands_for_a_customer_that_no_column_names(tmp_path):
    log = "order id,sku,date\n" + "".join(f"{1000 + i // 3},P{i % 30},2024-01-02\n" for i in range(90))
    found = infer(_write(tmp_path, orders=log, products=ITEMS), {}, Overrides())
    assert found.sections["interactions"]["user_id"] == "order id"


def test_items_alone_are_a_shop_and_a_log_alone_is_none(tmp_path):
    items, log = _write(tmp_path, products=ITEMS, orders=ORDERS)
    assert list(infer([items], {}, Overrides()).sections) == ["items"]
    with pytest.raises(SettingsError, match="looks like a log") as error:
        infer([log], {}, Overrides())
    assert "--items" in error.value.hint


def test_what_cannot_be_told_is_an_error_that_names_the_option(tmp_path):
    rows = [f"9,{i % 7},P{i % 30},0{i % 9 + 1}/0{i % 9 + 1}/2024" for i in range(80)]
    paths = _write(tmp_path, orders="\n".join(["x,y,sku,date", *rows, "9,1,P1,soon"]), products=ITEMS)
    with pytest.raises(SettingsError, match=r"orders\.csv says who") as error:
        infer(paths, {}, Overrides())
    assert "--column interactions.user_id='" in error.value.hint
    said = Overrides({"user_id": "y"})
    with pytest.raises(SettingsError, match="comes first") as error:
        infer(paths, {}, said)
    assert error.value.hint == 'say it: --time-format "%d/%m/%Y" or --time-format "%m/%d/%Y"'
    found = infer(paths, {}, Overrides({"user_id": "y"}, time_format="%d/%m/%Y"))
    assert found.sections["interactions"]["time_format"] == "%d/%m/%Y"
    assert any("cannot be read" in one for one in found.findings)


def test_rows_that_cannot_be_read_are_told(tmp_path):
    found = infer(
        _write(tmp_path, orders=ORDERS, products=ITEMS + "P1,a lamp,1,299\nP2,a hat,2,450\n"), {}, Overrides()
    )
    (told,) = [one for one in found.findings if "products.csv" in one]
    assert told.startswith("2 rows of products.csv cannot be read and are left out (products.csv, row ")


def test_a_single_time_that_cannot_be_read_is_no_share_of_nothing(tmp_path):
    rows = "".join(
        f"C{i % 7},P{i % 30},2024-01-{i % 28 + 1:02d} {i // 60 % 24:02d}:{i % 60:02d}\n" for i in range(9000)
    )
    log = f"customer,sku,ordered_at\n{rows}C1,P1,soon\n"
    found = infer(_write(tmp_path, orders=log, products=ITEMS), {}, Overrides())
    assert any("less than 0.1% of the times" in one for one in found.findings)


def test_a_decimal_sign_follows_from_the_language_or_an_option(tmp_path):
    rows = "".join(f'A-{i},{{}},"{i + 1},250"\n' for i in range(9))
    for name, kept in (("Lovely chair for your kitchen and the garden", "."), ("Ein schöner Stuhl für die Küche", ",")):
        (path,) = _write(tmp_path, products="sku,name,price\n" + rows.format(*[name] * 9))
        assert infer([path], {}, Overrides()).sections["items"]["decimal"] == kept
    (path,) = _write(tmp_path, products="sku,foo,bar\n" + rows.format(*["XY"] * 9))
    with pytest.raises(SettingsError, match="decimal sign in 'bar'"):
        infer([path], {}, Overrides())
    assert infer([path], {}, Overrides(decimal=",")).sections["items"]["decimal"] == ","


@pytest.mark.parametrize("odd", ["1,50", "$1.50"])
def test_numbers_that_no_decimal_sign_makes_one_of_are_to_be_written_anew(tmp_path, odd):
    prices = "".join(f"Q{i};Chair {i};{i + 1}.50{' €' * odd.startswith('$')}\n" for i in range(30))
    (tmp_path / "shop").mkdir()
    paths = _write(tmp_path / "shop", products=f"sku;name;price\n{prices}Q99;Chair;{odd}\n")
    (doubt,) = molar.init(*paths).doubts()
    assert "'price' is kept as words" in doubt
    assert doubt.endswith("write it in one way")
    report = molar.open(tmp_path / "shop").check(photos=False)
    (fault,) = [kind for kind in report.found if kind.kind.name == "attribute.wrong_type"]
    assert fault.examples[0].detail.endswith("write all of them in one way")


def test_photos_in_a_folder_of_any_name(tmp_path):
    from PIL import Image

    paths = _write(tmp_path, products=ITEMS, orders=ORDERS)
    (tmp_path / "media" / "pics").mkdir(parents=True)
    for i in range(30):
        Image.new("RGB", (20, 20), (i, 0, 0)).save(tmp_path / "media" / "pics" / f"P{i}.jpg")
    made = molar.init(*paths)
    assert made.proposal.sections["items"]["images"] == "media/pics"
    assert made.preview.items[3]["image"] == "media/pics/P3.jpg"
    catalogue, *_ = _read(tmp_path)
    assert catalogue.manifest.facts["with_image"] == 30


def test_photos_that_are_web_addresses_are_left_out_and_said(tmp_path):
    items = "sku,name,image\n" + "".join(f"P{i},Chair {i},https://shop.example/{i}.jpg\n" for i in range(30))
    paths = _write(tmp_path, products=items, orders=ORDERS)
    found = infer(paths, {}, Overrides())
    assert found.sections["items"]["image"] == ""
    assert any("web addresses" in one for one in found.findings)
    molar.init(*paths)
    catalogue, *_ = _read(tmp_path)
    assert catalogue.manifest.facts["rejects"] == 0


def test_parquet_and_jsonl(tmp_path):
    pq.write_table(
        pa.table({"ASIN": ["a", "b", "c"] * 4 + ["d"], "who": list("xyzxyzxyzxyzx")}), tmp_path / "buys.parquet"
    )
    lines = [json.dumps({"asin": one, "title": f"Book {one}", "tags": ["x", one]}) for one in "abcd"]
    (tmp_path / "books.jsonl").write_text("\n".join(lines))
    found = infer([tmp_path / "buys.parquet", tmp_path / "books.jsonl"], {}, Overrides({"user_id": "who"}))
    assert found.sections["items"] == {"file": "books.jsonl", "item_id": "asin", "title": "title"}
    assert found.sections["interactions"]["item_id"] == "ASIN"
    assert any("no times" in one for one in found.findings)


def test_files_in_several_folders_have_their_settings_above_both(tmp_path):
    (items,) = _write(tmp_path / "shop" / "a", products=ITEMS)
    (log,) = _write(tmp_path / "shop" / "b", orders=ORDERS)
    made = molar.init(log, items)
    assert made.written == tmp_path / "shop" / "catalog.toml"
    assert tomllib.loads(made.text)["items"]["file"] == "a/products.csv"
    assert molar.open(log).catalogue == tmp_path / "shop"
    _, _, facts, _ = _read(tmp_path / "shop")
    assert facts["rejects"] == 0


def test_an_existing_file_is_replaced_only_if_somebody_says_so(tmp_path):
    paths = _write(tmp_path, products=ITEMS, orders=ORDERS)
    assert molar.init(*paths, dry_run=True).written is None
    assert not (tmp_path / "catalog.toml").exists()
    text = molar.init(*paths).text
    assert molar.init(*paths).text == text
    (tmp_path / "catalog.toml").write_text("# mine\n")
    with pytest.raises(SettingsError, match="is there") as error:
        molar.init(*paths)
    assert "--overwrite" in error.value.hint
    assert (tmp_path / "catalog.toml").read_text() == "# mine\n"
    molar.init(*paths, overwrite=True)
    assert (tmp_path / "catalog.toml").read_text("utf-8") == text


@pytest.mark.parametrize(
    ("columns", "words", "hint"),
    [
        ({"itemid": "sku"}, "no column 'itemid' of a catalogue", "item_id"),
        ({"items.item_id": "skuu"}, r"products\.csv has no column 'skuu'", "sku"),
        ({"items.item_id": ""}, "cannot do without item_id", "--column"),
    ],
)
def test_what_was_said_must_fit(tmp_path, columns, words, hint):
    paths = _write(tmp_path, products=ITEMS, orders=ORDERS)
    with pytest.raises(SettingsError, match=words) as error:
        molar.init(*paths, columns=columns)
    assert hint in error.value.hint


def test_a_column_that_is_said_to_be_missing_is_not_guessed(tmp_path):
    paths = _write(tmp_path, products=ITEMS, orders=ORDERS)
    made = molar.init(*paths, columns={"title": ""})
    assert made.preview.items[0]["title"] is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,Chair,3.5\n2,Table,4\n", "has no column names"),
        ("sep=;\na;b\n1;2\n", "a line for spreadsheets"),
        ("sku,name\n", "no rows"),
    ],
)
def test_files_that_are_no_tables(tmp_path, text, words):
    paths = _write(tmp_path, products=text)
    with pytest.raises(DataError, match=words):
        infer(paths, {}, Overrides())


def test_too_many_tables(tmp_path):
    paths = _write(tmp_path, a=ITEMS, b=ITEMS, c=ITEMS, d=ITEMS)
    with pytest.raises(SettingsError, match="these are 4 tables"):
        tables_of([tmp_path])
    with pytest.raises(SettingsError, match="no table"):
        tables_of([])
    assert tables_of(paths[:2]) == paths[:2]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Blaue Größe für Mädchen – 12 €\n"),
        ("cp1252", "Crème brûlée à l’été, 5 m²\n"),
        ("cp932", "青い茶碗、軽くて丈夫です。ｶﾅ\n"),
        ("cp932", "注文番号,会員番号\n"),
        ("euc_jp", "青い茶碗、軽くて丈夫です\n"),
        ("cp1250", "Koszula z bawełny, długie rękawy, żółta\n"),
        ("cp1251", "Хлопковая рубашка SKU-1\n"),
        ("utf-16", "Größe\n"),
        ("utf-8", "Größe, 茶碗\n"),
    ],
)
def test_encodings_are_told_apart(tmp_path, encoding, text):
    (tmp_path / "a.csv").write_bytes((text * 50).encode(encoding))
    assert encoding_of(tmp_path / "a.csv") == encoding


def test_an_unknown_encoding_is_no_guess(tmp_path):
    (tmp_path / "a.csv").write_bytes(("Größe\n" * 50).encode("mac-roman"))
    with pytest.raises(DataError, match="neither UTF-8"):
        encoding_of(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("times", "formats"),
    [
        (["31.12.2024 14:05", "1.1.2025 9:00"], ()),
        (["2025年12月31日 14:05"], ()),
        (["2025-01-02T10:00:00Z"], ()),
        (["1700000000"], ()),
        (["01/13/2025"], ()),
        (["01/02/2025", "03/04/2025"], ("%d/%m/%Y", "%m/%d/%Y")),
        (["31.12.24"], ("%d.%m.%y",)),
        (["20251231", "20250102"], ("%Y%m%d",)),
        (["12/31/2024 02:05 PM"], ("%m/%d/%Y %I:%M %p",)),
        (["03 Jan 2025"], ("%d %b %Y",)),
    ],
)
def test_how_times_are_written(times, formats):
    assert form_of(pa.array(times)).formats == formats


@pytest.mark.parametrize("values", [["A-1"], ["007", "12"], ["45123"], ["12:05"], [""], ["3.5", "4"]])
def test_what_is_no_time(values):
    assert form_of(pa.array(values)) is None


def test_names_in_several_languages():
    for name in ("Artikel-Nr.", "SKU", "商品コード", "Référence", "código producto", "货号", "상품코드"):
        assert name_score(name, "item_id") > 0.8
    assert language_of_names(["Artikelnummer", "Bezeichnung", "Preis", "Farbe"]) == "de"
    assert language_of_names(["商品コード", "商品名", "価格"]) == "ja"
    assert language_of_names(["sku", "name"]) is None
