import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from embedding_fakes import DIM, FakeEncoder, Shop, info, planned, run, vector
from PIL import Image
from safetensors.numpy import load_file

from molar_retrieval.data import images
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.images import open_image
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.embedding import ContentVectors, dry_run, pipeline, vector_cache
from molar_retrieval.encoders.base import EncoderInput, EncoderPlan
from molar_retrieval.errors import BackendError, DataError, MissingArtefactError
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.settings import EmbedSettings


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


class NoEncoder(FakeEncoder):
    """Described, never to be loaded."""

    def encode(self, items: Any) -> Any:
        raise AssertionError("the encoder was used")


def test_every_row_is_its_items_vector(shop: Shop) -> None:
    report = shop.embed(FakeEncoder())
    texts = pq.read_table(shop.workspace["catalogue"].current / "items.parquet")
    content = ContentVectors.open(report.folder)
    assert content.ids.array.to_pylist() == [item["item_id"] for item in shop.items]
    for row, (text, image) in enumerate(zip(texts["text"].to_pylist(), texts["image"].to_pylist(), strict=True)):
        photo = open_image(shop.folder, image) if image else None
        np.testing.assert_array_equal(content.vectors[row], vector(EncoderInput(text, photo)))
    assert (report.items, report.encoded, report.reused, report.dim) == (12, 12, 0, DIM)
    assert not report.up_to_date
    assert set(report.seconds) >= {"read", "encode", "write", "wait", "load", "total"}
    assert json.dumps(report.to_dict())


def test_files_are_plain_data(shop: Shop) -> None:
    report = shop.embed(FakeEncoder())
    assert sorted(path.name for path in report.folder.iterdir()) == [
        "files.json",
        "items.parquet",
        "manifest.json",
        "rejects.parquet",
        "vectors.safetensors",
    ]
    tensors = load_file(report.folder / "vectors.safetensors")
    assert {name: (t.shape, t.dtype) for name, t in tensors.items()} == {"vectors": ((12, DIM), np.float32)}
    items = pq.read_table(report.folder / "items.parquet")
    assert set(items.schema.names) >= {"item_id", "key", "image", "image_size", "image_mtime", "image_hash"}
    manifest = Manifest.read(report.folder)
    assert manifest.inputs == {"catalogue": shop.workspace["catalogue"].manifest.fingerprint}
    assert manifest.settings["embed"]["batch_size"] == 4
    assert manifest.settings["encoder"]["fingerprint"] == "fake-1"
    assert [block["name"] for block in manifest.settings["blocks"]] == ["content_text", "content_image"]
    assert "{title}" in manifest.settings["template"]
    assert manifest.fingerprint == report.folder.name


def test_batches_are_of_similar_length_and_full(shop: Shop) -> None:
    encoder = FakeEncoder()
    shop.embed(encoder, batch_size=4)
    assert [len(call) for call in encoder.calls] == [4, 4, 4]
    buckets = [len(item.text or "") // 32 for call in encoder.calls for item in call]
    flat = [max(buckets[i : i + 4]) for i in range(0, 12, 4)]
    assert flat == sorted(flat, reverse=True)


def test_nothing_changed_means_nothing_done(shop: Shop) -> None:
    first = shop.embed(FakeEncoder())
    again = shop.embed(NoEncoder())
    assert again.up_to_date
    assert (again.folder, again.encoded, again.reused) == (first.folder, 0, 12)
    assert shop.workspace["content"].partials() == []


def test_other_batch_size_changes_nothing(shop: Shop) -> None:
    shop.embed(FakeEncoder())
    assert shop.embed(NoEncoder(), batch_size=7).up_to_date


@pytest.mark.parametrize(
    ("change", "encoded"),
    [
        (lambda shop: shop.items[4].update(title="something else"), 1),
        (lambda shop: shop.paint("images/3.png", 999), 1),
        (lambda shop: shop.add("new", with_image=True), 1),
        (lambda shop: shop.items[5].update(image="images/0.png"), 1),
        (lambda shop: shop.items[0].update(image=None), 1),
        (lambda shop: shop.items.reverse(), 0),
        (lambda shop: shop.items.pop(3), 0),
        (lambda shop: [item.update(price=2.0) for item in shop.items], 0),
        (lambda shop: shop.items[2].update(item_id="another id"), 0),
    ],
    ids=["title", "pixels", "new", "photo-added", "photo-gone", "order", "removed", "payload", "id"],
)
def test_only_what_changed_is_encoded(shop: Shop, tmp_path: Path, change: Any, encoded: int) -> None:
    first = shop.embed(FakeEncoder())
    change(shop)
    encoder = FakeEncoder() if encoded else NoEncoder()
    report = shop.embed(encoder)
    assert (report.encoded, report.reused) == (encoded, len(shop.items) - encoded)
    assert not report.up_to_date
    assert report.folder != first.folder
    assert not first.folder.exists()
    incremental = shop.vectors_file()
    fresh = Workspace.for_catalogue(tmp_path / "fresh", shop.folder)
    fresh_shop = Shop.__new__(Shop)
    fresh_shop.__dict__.update(shop.__dict__, workspace=fresh)
    fresh_shop.embed(FakeEncoder())
    assert incremental == fresh_shop.vectors_file()


def test_other_encoder_encodes_everything(shop: Shop) -> None:
    shop.embed(FakeEncoder())
    report = shop.embed(FakeEncoder(info("fake-2"), dim=8))
    assert (report.encoded, report.reused, report.dim) == (12, 0, 8)


def test_a_shop_that_moved_with_its_workspace_keeps_its_photos(shop: Shop, tmp_path: Path) -> None:
    shop.embed(FakeEncoder())
    moved = shop.workspace.root.parent.rename(tmp_path.with_name("elsewhere"))
    workspace = Workspace.for_catalogue(moved / shop.workspace.root.name, moved / shop.folder.name)
    prepare_catalogue(workspace.catalogue, workspace)
    assert run(workspace, NoEncoder()).up_to_date
    assert Catalogue.open(workspace["catalogue"].require()[0]).folder == workspace.catalogue


def test_touched_photo_is_hashed_once_and_not_encoded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shop.embed(FakeEncoder())
    hashed: list[str] = []
    real = vector_cache.hash_image

    def counting(folder: Path, image: str, *, exists: bool) -> bytes:
        hashed.append(image)
        return real(folder, image, exists=exists)

    monkeypatch.setattr(vector_cache, "hash_image", counting)
    os.utime(shop.folder / "images/0.png", (1, 1))
    again = shop.embed(NoEncoder())
    assert again.up_to_date
    assert again.folder == first.folder
    assert hashed == ["images/0.png"]
    shop.embed(NoEncoder())
    shop.items[4]["title"] = "something else"
    shop.embed(FakeEncoder())
    assert hashed == ["images/0.png"]  # the new time was noted: not read again


def test_moved_photo_is_not_encoded_again(shop: Shop) -> None:
    shop.embed(FakeEncoder())
    (shop.folder / "images/0.png").rename(shop.folder / "images/moved.png")
    shop.items[0]["image"] = "images/moved.png"
    assert shop.embed(NoEncoder()).encoded == 0


def test_unreadable_photo_leaves_the_text(shop: Shop) -> None:
    shop.truncate("images/4.png")
    report = shop.embed(FakeEncoder())
    assert report.rejected_images == 1
    assert any("rejects.parquet" in note for note in report.notes)
    (row,) = pq.read_table(report.folder / "rejects.parquet").to_pylist()
    assert (row["file"], row["row"], row["item_id"]) == ("images/4.png", 5, "item 4")
    assert "truncated" in row["reason"]
    content = ContentVectors.open(report.folder)
    assert content.vectors[4, : DIM // 2].any()
    assert not content.vectors[4, DIM // 2 :].any()
    shop.items[0]["title"] = "changed"
    later = shop.embed(FakeEncoder())
    assert (later.encoded, later.rejected_images) == (1, 1)
    shop.paint("images/4.png", 77)
    mended = shop.embed(FakeEncoder())
    assert (mended.encoded, mended.rejected_images) == (1, 0)
    assert pq.read_table(mended.folder / "rejects.parquet").num_rows == 0


def test_photo_that_vanished_after_preparing(shop: Shop) -> None:
    shop.prepare()
    (shop.folder / "images/0.png").unlink()
    report = run(shop.workspace, FakeEncoder())
    assert report.rejected_images == 1
    assert run(shop.workspace, NoEncoder()).up_to_date


def test_item_without_content_has_a_zero_row(shop: Shop) -> None:
    shop.items.append({"item_id": "blank", "title": None, "image": None, "price": 1.0})
    encoder = FakeEncoder(info(modalities=("text", "image")))
    report = shop.embed(encoder)
    assert encoder.encoded == 12
    assert report.without_content == 1
    assert not ContentVectors.open(report.folder).vectors[-1].any()
    assert shop.embed(NoEncoder()).without_content == 1


def test_encoder_for_texts_ignores_photos_and_says_so(shop: Shop) -> None:
    encoder = FakeEncoder(info(modalities=("text",)))
    report = shop.embed(encoder)
    assert all(item.image is None for call in encoder.calls for item in call)
    assert any("cannot see photos: 8 " in note for note in report.notes)
    shop.paint("images/0.png", 500)
    again = shop.embed(NoEncoder(info(modalities=("text",))))
    assert again.encoded == 0


def test_encoder_for_photos_ignores_texts(shop: Shop) -> None:
    encoder = FakeEncoder(info(modalities=("image",)))
    report = shop.embed(encoder)
    assert all(item.text is None for call in encoder.calls for item in call)
    assert (encoder.encoded, report.without_content) == (8, 4)


def test_language_that_the_encoder_lacks_is_noted(shop: Shop) -> None:
    for item in shop.items:
        item["title"] = "Das Kleid ist für den Sommer und nicht für die Stadt, mit der Tasche aus dem Laden"
    english = info()
    encoder = FakeEncoder(type(english)(**{**vars(english), "languages": ("en",)}))
    shop.prepare()
    foretold = dry_run(shop.workspace, EmbedSettings(), planner=planned(encoder)).notes
    note = next(note for note in shop.embed(encoder).notes if "German" in note)
    assert note == foretold[0]
    assert note in shop.embed(encoder).notes


def test_huge_photo_is_reduced_before_it_waits_for_the_encoder(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "ENOUGH_PIXELS", 100)
    shop.paint("images/0.png", 3, size=(40, 20))
    encoder = FakeEncoder()
    shop.embed(encoder)
    sizes = {item.image.size for call in encoder.calls for item in call if item.image is not None}
    assert sizes == {(14, 7), (4, 4)}


def test_photo_replaced_while_it_is_read(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.prepare()
    real, changes = pipeline.open_image, iter([111, 112])

    def changing(folder: Path, path: str) -> Image.Image:
        image = real(folder, path)
        if path == "images/0.png" and (colour := next(changes, None)) is not None:
            shop.paint(path, colour)
        return image

    monkeypatch.setattr(pipeline, "open_image", changing)
    report = run(shop.workspace, FakeEncoder())
    expected = vector(EncoderInput("x", open_image(shop.folder, "images/0.png")))
    got = ContentVectors.open(report.folder).vectors[0]
    half = DIM // 2
    np.testing.assert_allclose(
        got[half:] / np.linalg.norm(got[half:]), expected[half:] / np.linalg.norm(expected[half:]), 1e-5
    )
    assert run(shop.workspace, NoEncoder()).up_to_date


def test_no_catalogue(tmp_path: Path) -> None:
    workspace = Workspace.for_catalogue(tmp_path / "ws", tmp_path)
    with pytest.raises(MissingArtefactError, match="catalogue"):
        run(workspace, FakeEncoder())


def test_second_writer_is_kept_out(shop: Shop) -> None:
    shop.prepare()
    with shop.workspace.lock("content"), pytest.raises(DataError, match="another process"):
        run(shop.workspace, FakeEncoder())


def test_encoder_that_is_not_what_it_said(shop: Shop) -> None:
    from molar_retrieval.embedding import embed
    from molar_retrieval.workspace.settings import EmbedSettings

    shop.prepare()
    with pytest.raises(BackendError, match="described"):
        embed(shop.workspace, EmbedSettings(), planner=lambda _: EncoderPlan(info("other"), FakeEncoder))


def test_full_disk_is_refused_before_encoding(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from molar_retrieval.workspace import files

    shop.prepare()
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100})())
    encoder = FakeEncoder()
    with pytest.raises(DataError, match="left"):
        run(shop.workspace, encoder)
    assert encoder.encoded == 0


def test_damaged_live_version_is_made_anew(shop: Shop) -> None:
    report = shop.embed(FakeEncoder())
    (report.folder / "items.parquet").write_bytes(b"rubbish")
    shop.items[0]["title"] = "changed"
    assert shop.embed(FakeEncoder()).encoded == 12
