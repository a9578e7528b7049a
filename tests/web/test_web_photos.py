"""Photos of items over HTTP: kept in the catalogue's folder, and in searches after the next update."""

import errno
import io
import os
import time

import numpy as np
import pytest
from PIL import Image
from updates import Days
from web_server import client_of

from molar_retrieval import limits
from molar_retrieval.data.images import keep_photo
from molar_retrieval.errors import RequestError


@pytest.fixture(scope="module")
def days(trained, tmp_path_factory):
    return Days(trained, tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def client(days):
    with client_of(days.shop.workspace, days.folder.parent / "molar.toml") as client:
        yield client


def photo(seed, kind="JPEG"):
    """The file of a photo of coloured tiles, like no other."""
    tiles = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(tiles).resize((240, 240), Image.Resampling.NEAREST).save(file, kind)
    return file.getvalue()


def put(client, item_id, content, kind="image/jpeg"):
    return client.put(f"/v1/photos/{item_id}", content=content, headers={"content-type": kind})


def found(client, content):
    told = client.post("/v1/search/photo?k=1", content=content, headers={"content-type": "image/jpeg"})
    assert told.status_code == 200, told.text
    return [one["item_id"] for one in told.json()["items"]]


def test_photos_of_known_and_new_items_are_searched_by_after_the_update(client, days):
    known, new = photo(1), photo(2)
    client.put("/v1/items/NEW-1", json={"attributes": {"title": "A quilt", "price": 30}})
    assert put(client, "SKU-0002", known).json() == {
        "item_id": "SKU-0002", "state": "known", "image": "images/SKU-0002.jpg"
    }  # fmt: skip
    assert put(client, "NEW-1", new).json()["state"] == "queued"
    assert (days.folder / "images" / "SKU-0002.jpg").read_bytes() == known
    assert found(client, known) != ["SKU-0002"], "vectors wait for the update"
    assert not days.shop.update().up_to_date
    until = time.monotonic() + 60
    while found(client, new) != ["NEW-1"]:
        assert time.monotonic() < until, "the new generation does not answer"
        time.sleep(0.05)
    assert found(client, known) == ["SKU-0002"]
    assert client.get("/v1/items/NEW-1").json()["attributes"]["title"] == "A quilt"


def test_another_kind_of_file_takes_the_place_of_the_former_photo(client, days):
    assert put(client, "SKU-0003", photo(3)).json()["image"] == "images/SKU-0003.jpg"
    assert put(client, "SKU-0003", photo(4, "PNG"), "image/png").json()["image"] == "images/SKU-0003.png"
    assert {path.name for path in (days.folder / "images").glob("SKU-0003*")} == {"SKU-0003.png"}


@pytest.mark.parametrize(
    ("item", "content", "status", "said"),
    [
        ("SKU-0004", b"no photo", 422, "image"),
        ("SKU-0004", photo(5, "GIF"), 422, "GIF"),
        ("SKU-0004", photo(5)[:900], 422, "truncated"),
        ("SKU-0004", b"", 422, "empty"),
        ("SKU-0004", bytes(limits.PHOTO + 1), 413, ""),
        ("nothing", photo(5), 404, "unknown"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_changes_nothing(client, days, item, content, status, said):
    def standing():
        return sorted((path.name, path.stat().st_mtime_ns) for path in (days.folder / "images").iterdir())

    before = standing(), client.get("/v1/status").json()["events"]
    told = put(client, item, content)
    assert told.status_code == status, told.text
    assert said in told.json()["detail"]
    assert (standing(), client.get("/v1/status").json()["events"]) == before


@pytest.mark.parametrize("name", ["a/b", "../up", ".hidden", "x" * 201, "c:d"])
def test_an_id_that_names_no_file_is_refused(client, days, name):
    client.put(f"/v1/items/{name.replace('/', '%2F')}", json={"attributes": {"title": "Odd"}})
    told = put(client, name.replace("/", "%2F").replace("..", "%2E%2E"), photo(6))
    assert told.status_code == 422, told.text
    assert "cannot name a file" in told.json()["detail"]


def test_a_full_disk_is_told_and_the_former_photo_stays(client, days, monkeypatch):
    put(client, "SKU-0005", photo(7))

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(days.folder))

    monkeypatch.setattr("molar_retrieval.data.images.os.fsync", full)
    told = put(client, "SKU-0005", photo(8))
    monkeypatch.undo()
    assert told.status_code == 507
    assert str(days.folder) not in told.text
    assert (days.folder / "images" / "SKU-0005.jpg").read_bytes() == photo(7)
    assert put(client, "SKU-0005", photo(8)).status_code == 200


def test_without_a_column_of_photos_they_are_found_by_the_ids_of_items(trained, tmp_path):
    days = Days(trained, tmp_path)
    days.items(lambda table: table.drop(columns=["image"]))
    settings = days.folder / "catalog.toml"
    settings.write_text("".join(line for line in settings.open() if not line.startswith("image")), "utf-8")
    days.shop.update()
    mine = photo(9)
    with client_of(days.shop.workspace, days.folder.parent / "molar.toml") as client:
        before = client.get("/v1/status").json()["events"]
        assert put(client, "SKU-0006", mine).json()["image"] == "images/SKU-0006.jpg"
        assert client.get("/v1/status").json()["events"] == before, "nothing names photos there"
        assert not days.shop.update().up_to_date
    with client_of(days.shop.workspace, days.folder.parent / "molar.toml") as client:
        assert found(client, mine) == ["SKU-0006"]


def test_nothing_is_written_through_a_link_out_of_the_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestError, match="a link out of"):
        keep_photo(tmp_path / "shop", "a", photo(10))
    assert not list((tmp_path / "elsewhere").iterdir())
