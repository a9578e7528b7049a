"""Files that go by other names, in other folders and other encodings."""

import os

import pyarrow as pa
import pytest

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.data.schema import CatalogueConfig, find_file, find_table, folder_of, open_source
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.workspace.artefacts import Workspace

PRODUCTS = "Artikelnummer;Bezeichnung;Preis\nÄ1;Blaue Größe;1.299,00\nÄ2;Rot, für den Sommer;12,50\n"
ORDERS = "Kunde;Artikel;Datum\nk1;Ä1;31.12.2024 14:05\nk1;Ä2;01.01.2025 10:00\n"
SETTINGS = """
[items]
file = "export/Produkte.CSV"
encoding = "{encoding}"
item_id = "Artikelnummer"
title = "Bezeichnung"

[interactions]
file = "export/Bestellungen.txt"
encoding = "{encoding}"
user_id = "Kunde"
item_id = "Artikel"
timestamp = "Datum"
"""


def _shop(folder, encoding="cp1252"):
    (folder / "export").mkdir(parents=True)
    (folder / "export" / "Produkte.CSV").write_bytes(PRODUCTS.encode(encoding))
    (folder / "export" / "Bestellungen.txt").write_bytes(ORDERS.encode(encoding))
    (folder / "catalog.toml").write_text(SETTINGS.format(encoding=encoding), "utf-8")
    return folder


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-8-sig", "utf-16", "mac-roman"])
def test_files_keep_their_names_folders_and_encodings(tmp_path, encoding):
    folder = _shop(tmp_path / "shop", encoding)
    workspace = Workspace.for_catalogue(tmp_path / ".molar", folder)
    manifest = prepare_catalogue(folder, workspace)
    facts = prepare_interactions(folder, workspace).facts
    catalogue = Catalogue(*workspace["catalogue"].require())
    rows = [row for batch in catalogue.batches(["item_id", "title", "Preis"], 10) for row in batch.to_pylist()]
    assert rows == [
        {"item_id": "Ä1", "title": "Blaue Größe", "Preis": 1299.0},
        {"item_id": "Ä2", "title": "Rot, für den Sommer", "Preis": 12.5},
    ]
    assert (facts["interactions"], facts["rejects"]) == (2, 0)
    assert prepare_catalogue(folder, workspace) == manifest
    (folder / "export" / "Produkte.CSV").write_bytes((PRODUCTS + "Ä3;Neu;5,00\n").encode(encoding))
    assert prepare_catalogue(folder, workspace).facts["items"] == 3


def test_japanese_spreadsheets(tmp_path):
    path = tmp_path / "商品.csv"
    path.write_bytes("商品コード,商品名\r\nA-1,青い茶碗\r\n".encode("cp932"))
    source = open_source(path, "cp932")
    assert next(source.batches(["商品名"], 10)).batch["商品名"].to_pylist() == ["青い茶碗"]
    with pytest.raises(DataError, match="not a readable CSV file") as error:
        open_source(path)
    assert "molar init" in error.value.hint


def test_bytes_of_another_encoding_are_refused_with_the_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,title\n1,\xe4\n")
    with pytest.raises(DataError, match=r"a\.csv is not a readable CSV file"):
        list(open_source(path, "cp932").batches(["title"], 10))


def test_every_named_file_and_the_settings_stand_for_the_folder(tmp_path, monkeypatch):
    folder = _shop(tmp_path / "shop")
    for name in ("export/Produkte.CSV", "export/Bestellungen.txt", "catalog.toml"):
        assert folder_of(folder / name) == folder
    monkeypatch.chdir(folder / "export")
    assert folder_of(type(folder)("Produkte.CSV")).resolve() == folder
    other = folder / "export" / "other.csv"
    other.write_text("a\n")
    with pytest.raises(DataError, match=r"no catalog\.toml names") as error:
        folder_of(other)
    assert f"molar init {other}" in error.value.hint


@pytest.mark.parametrize("name", ["../secret.csv", "/etc/passwd", "link.csv", "a/../../secret.csv"])
def test_a_catalogue_names_no_file_outside_of_its_folder(tmp_path, name):
    folder = tmp_path / "shop"
    (folder / "a").mkdir(parents=True)
    (tmp_path / "secret.csv").write_text("id\n1\n")
    os.symlink(tmp_path / "secret.csv", folder / "link.csv")  # noqa: PTH211
    (folder / "catalog.toml").write_text(f'[items]\nfile = "{name}"\n')
    with pytest.raises(DataError, match="does not lie below"):
        find_file(folder, "items")


@pytest.mark.parametrize(
    ("name", "words"), [("gone.csv", "no such file"), ("a.xlsx", "an Excel file"), ("a.pdf", "not read")]
)
def test_what_is_wrong_with_a_named_file(tmp_path, name, words):
    if name != "gone.csv":
        (tmp_path / name).touch()
    (tmp_path / "catalog.toml").write_text(f'[items]\nfile = "{name}"\n')
    with pytest.raises(DataError, match=words):
        find_table(tmp_path, "items")


@pytest.mark.parametrize("encoding", ["nonsense", "base64", "rot13", "a\\u0000b"])
def test_an_encoding_must_be_one_of_text(tmp_path, encoding):
    (tmp_path / "catalog.toml").write_text(f'[items]\nencoding = "{encoding}"\n')
    with pytest.raises(SettingsError, match=r"items\.encoding"):
        CatalogueConfig.read(tmp_path)


def test_encodings_have_one_name(tmp_path):
    (tmp_path / "catalog.toml").write_text('[items]\nencoding = "UTF8"\n[users]\nencoding = "Latin-1"\n')
    settings = CatalogueConfig.read(tmp_path)
    assert (settings.items.encoding, settings.users.encoding) == ("utf-8", "iso8859-1")


def test_tab_separated_files_are_csv(tmp_path):
    (tmp_path / "items.tsv.tsv").write_text("id\ttitle\n1\ta, b\n")
    assert open_source(tmp_path / "items.tsv.tsv").schema.field("id").type == pa.int64()
