"""What is measured of photos, that measurements are kept by content, and which photos are one picture."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from molar_retrieval.progress import SILENT
from molar_retrieval.quality import photos as kept
from molar_retrieval.quality.items import equal_groups
from molar_retrieval.quality.photos import (
    CLOSE,
    PhotoState,
    is_blank,
    measure,
    measured,
    near_photos,
    perceptual_bits,
    remembered,
)
from molar_retrieval.workspace.artefacts import Workspace


def saved(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def scene():
    """A picture with a gradient, shapes and some noise."""
    random = np.random.default_rng(5)
    ground = np.linspace(60, 200, 240)[None, :, None] + random.normal(0, 6, (200, 240, 3))
    image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    pen.ellipse((40, 50, 120, 150), fill=(200, 40, 60))
    pen.rectangle((140, 30, 200, 110), fill=(30, 90, 180))
    pen.polygon([(150, 180), (220, 180), (190, 120)], fill=(240, 220, 80))
    return image


def test_a_good_photo(scene):
    record = measure(saved(scene, quality=90))
    assert record["state"] == PhotoState.GOOD
    assert (record["width"], record["height"], record["frames"]) == (240, 200, 1)
    assert not is_blank(record)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_that_is_cut_short(scene, kind, share):
    data = saved(scene, kind)
    assert measure(data)["state"] == PhotoState.GOOD
    assert measure(data[: int(len(data) * share)])["state"] in (PhotoState.TRUNCATED, PhotoState.UNREADABLE)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\xff\xd8\xff", bytes(1000), b"RIFF\x00\x00\x00\x00WEBPVP8 "])
def test_no_picture(data):
    assert measure(data)["state"] in (PhotoState.UNREADABLE, PhotoState.TRUNCATED)


def test_a_huge_picture_is_not_decoded():
    record = measure(saved(Image.new("1", (12_000, 9_000)), "PNG"))
    assert record["state"] == PhotoState.TOO_LARGE
    assert (record["width"], record["height"]) == (12_000, 9_000)


def test_an_animated_picture(scene):
    frames = [scene.rotate(90), scene.rotate(180)]
    for kind in ("GIF", "WEBP", "PNG"):
        assert measure(saved(scene, kind, save_all=True, append_images=frames, duration=100))["frames"] == 3


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 30, 90)])
def test_blank(colour):
    noisy = np.clip(np.random.default_rng(0).normal(colour, 1.5, (150, 150, 3)), 0, 255).astype(np.uint8)
    assert is_blank(measure(saved(Image.fromarray(noisy))))
    transparent = Image.new("RGBA", (150, 150), (*colour, 0))
    assert is_blank(measure(saved(transparent, "PNG")))


def test_white_goods_on_white_are_not_blank():
    image = Image.new("RGB", (200, 300), (250, 250, 250))
    ImageDraw.Draw(image).ellipse((50, 80, 150, 220), fill=(228, 228, 226), outline=(200, 200, 200))
    assert not is_blank(measure(saved(image)))


def test_perceptual_bits_survive_what_happens_to_photos(scene):
    own = perceptual_bits(scene)
    cut = scene.crop((7, 6, 233, 194))
    for other in (
        Image.open(io.BytesIO(saved(scene, quality=30))),
        scene.resize((130, 108)),
        ImageEnhance.Brightness(scene).enhance(1.15),
        ImageEnhance.Contrast(scene).enhance(0.8),
    ):
        assert np.bitwise_count(own[0] ^ perceptual_bits(other.convert("RGB"))[0]).sum() <= CLOSE
    both = np.stack([own, perceptual_bits(cut), perceptual_bits(scene.transpose(Image.Transpose.ROTATE_90))])
    left, right, _ = near_photos(both, np.full((3, 48), 100, np.uint8))
    assert (left.tolist(), right.tolist()) == ([0], [1])


def test_colours_tell_apart_what_bits_do_not():
    bits = np.zeros((2, 4, 32), np.uint8)
    colours = np.array([[200, 30, 30] * 16, [30, 30, 200] * 16], np.uint8)
    assert len(near_photos(bits, colours)[0]) == 0
    assert len(near_photos(bits, colours[[0, 0]])[0]) == 1


def test_close_pairs_are_those_of_all_comparisons():
    random = np.random.default_rng(1)
    bits = random.integers(0, 256, (300, 32), dtype=np.uint8)
    for row in range(0, 100, 2):  # as many near pairs, 0 … 24 bits apart
        flips = random.choice(256, row // 4, replace=False)
        unpacked = np.unpackbits(bits[row])
        unpacked[flips] ^= 1
        bits[row + 1] = np.packbits(unpacked)
    left, right, apart = near_photos(bits[:, None], np.zeros((300, 48), np.uint8))
    i, j = np.triu_indices(300, 1)
    whole = np.bitwise_count(bits[i] ^ bits[j]).sum(axis=1)
    expected = {(a, b) for a, b, d in zip(i.tolist(), j.tolist(), whole.tolist(), strict=True) if d <= 24}
    found = set(zip(left.tolist(), right.tolist(), strict=True))
    assert found <= expected
    assert len(found) >= 0.98 * len(expected)
    certain = {(a, b) for a, b, d in zip(i.tolist(), j.tolist(), whole.tolist(), strict=True) if d <= 15}
    assert certain <= found
    assert (apart <= 24).all()


def test_groups():
    hashes = np.array([b"a", b"", b"c", b"a", b"", b"c", b"a"])
    assert [group.tolist() for group in equal_groups(hashes)] == [[0, 3, 6], [2, 5]]
    assert equal_groups(np.zeros(0, np.uint64)) == []


@pytest.fixture
def folder(tmp_path, scene):
    (tmp_path / "images").mkdir()
    for n in range(5):
        scene.rotate(10 * n).save(tmp_path / "images" / f"{n}.jpg")
    return tmp_path


PHOTOS = [f"images/{n}.jpg" for n in range(5)]


def counting(monkeypatch):
    calls = []
    monkeypatch.setattr(kept, "measure", lambda data: calls.append(len(data)) or measure(data))
    return calls


def test_photos_are_measured_once(folder, monkeypatch):
    workspace = Workspace(folder / ".molar")
    calls = counting(monkeypatch)
    first = measured(folder, [*PHOTOS, None, "images/gone.jpg", PHOTOS[0]], workspace, SILENT)
    assert len(calls) == 5
    assert first["state"].tolist() == [0] * 5 + [PhotoState.MISSING] * 2 + [0]
    assert (first[0] == first[7]).all()
    again = measured(folder, PHOTOS, workspace, SILENT)
    assert len(calls) == 5
    assert (again == first[:5]).all()


def test_a_changed_photo_is_measured_again(folder, scene, monkeypatch):
    workspace = Workspace(folder / ".molar")
    first = measured(folder, PHOTOS, workspace, SILENT)
    scene.rotate(77).save(folder / PHOTOS[2])
    calls = counting(monkeypatch)
    now = measured(folder, PHOTOS, workspace, SILENT)
    assert len(calls) == 1
    assert (now[[0, 1, 3, 4]] == first[[0, 1, 3, 4]]).all()
    assert now[2]["hash"] != first[2]["hash"]


def test_a_damaged_memory_is_begun_anew(folder):
    workspace = Workspace(folder / ".molar")
    first = measured(folder, PHOTOS, workspace, SILENT)
    file = next((folder / ".molar" / "check").glob("photos.*"))
    file.write_bytes(file.read_bytes()[:200])
    assert len(remembered(workspace)) == 0
    assert (measured(folder, PHOTOS, workspace, SILENT) == first).all()


def test_measurements_by_earlier_rules_are_made_anew_and_removed(folder, monkeypatch):
    workspace = Workspace(folder / ".molar")
    (folder / ".molar" / "check").mkdir(parents=True)
    earlier = folder / ".molar" / "check" / "photos.0123456789ab.safetensors"
    earlier.write_bytes(b"what rules that are no more have measured")
    calls = counting(monkeypatch)
    measured(folder, PHOTOS, workspace, SILENT)
    assert len(calls) == 5
    assert not earlier.exists()


def test_several_processes_give_what_one_gives(folder, monkeypatch):
    alone = measured(folder, PHOTOS * 3, Workspace(folder / "a"), SILENT, processes=1)
    monkeypatch.setattr(kept, "_FEW", 1)
    monkeypatch.setattr(kept, "_CHUNK", 2)
    together = measured(folder, PHOTOS * 3, Workspace(folder / "b"), SILENT, processes=2)
    assert (alone == together).all()


def test_a_killed_run_goes_on_where_it_was(folder, monkeypatch):
    undisturbed = measured(folder, PHOTOS, Workspace(folder / "a"), SILENT)
    monkeypatch.setattr(kept, "_CHUNK", 1)
    monkeypatch.setattr(kept, "_KEPT", 2)
    looked = []

    def killed(data):
        if len(looked) == 3:
            raise KeyboardInterrupt
        looked.append(data)
        return measure(data)

    monkeypatch.setattr(kept, "measure", killed)
    with pytest.raises(KeyboardInterrupt):
        measured(folder, [*PHOTOS, PHOTOS[0]], Workspace(folder / "b"), SILENT)
    calls = counting(monkeypatch)
    assert (measured(folder, PHOTOS, Workspace(folder / "b"), SILENT) == undisturbed).all()
    assert len(calls) == 3, "two of five were kept"
