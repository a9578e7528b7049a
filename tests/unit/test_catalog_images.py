"""Photos: paths, headers, decoding."""

import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from molar_retrieval.data.images import ImageError, PhotoFolder, open_image


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "catalogue"
    (root / "images").mkdir(parents=True)
    Image.new("RGB", (8, 6), "red").save(root / "images" / "a.jpg")
    Image.new("RGB", (8, 6), "red").save(tmp_path / "outside.jpg")
    return root


def vet(folder, named):
    found = PhotoFolder(folder).vet_all([named])[0]
    if isinstance(found, ImageError):
        raise found
    return found


def _png_header(path, width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


@pytest.mark.parametrize("named", ["images/a.jpg", "a.jpg", "./images/a.jpg", "images//a.jpg", "images\\a.jpg"])
def test_a_photo_is_found_under_the_catalogue_and_under_images(folder, named):
    size = (folder / "images" / "a.jpg").stat().st_size
    assert vet(folder, named) == ("images/a.jpg", size)


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("images/none.jpg", "no such file"),
        ("../outside.jpg", "leaves the catalogue"),
        ("images/../../outside.jpg", "leaves the catalogue"),
        ("/etc/passwd", "not relative"),
        ("C:\\photos\\a.jpg", "not relative"),
        ("https://example.org/a.jpg", "URL"),
        ("//example.org/a.jpg", "URL"),
        ("file:///etc/passwd", "URL"),
        ("DATA:image/png;base64,AAAA", "URL"),
        ("images", "not a file"),
        ("a\0.jpg", "NUL"),
        ("x" * 5000, "cannot be read"),
    ],
)
def test_paths_that_are_refused(folder, named, reason):
    for refuse in (lambda name: vet(folder, name), lambda name: open_image(folder, name)):
        with pytest.raises(ImageError) as caught:
            refuse(named)
        assert reason in caught.value.reason


def test_links_may_not_leave_the_folder(folder, tmp_path):
    (folder / "images" / "file.jpg").symlink_to(tmp_path / "outside.jpg")
    (folder / "elsewhere").symlink_to(tmp_path)
    (folder / "images" / "inside.jpg").symlink_to(folder / "images" / "a.jpg")
    for named in ("images/file.jpg", "elsewhere/outside.jpg"):
        with pytest.raises(ImageError, match="link out of"):
            vet(folder, named)
        with pytest.raises(ImageError, match="link out of"):
            open_image(folder, named)
    assert vet(folder, "images/inside.jpg")[0] == "images/inside.jpg"


def test_a_sibling_folder_with_a_longer_name_is_outside(folder, tmp_path):
    (tmp_path / "catalogue-2").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "catalogue-2" / "x.png")
    (folder / "images" / "x.png").symlink_to(tmp_path / "catalogue-2" / "x.png")
    with pytest.raises(ImageError, match="link out of"):
        vet(folder, "images/x.png")


def test_a_pipe_is_not_opened(folder):
    os.mkfifo(folder / "images" / "pipe.jpg")
    with pytest.raises(ImageError, match="not a file"):
        vet(folder, "pipe.jpg")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_files_that_are_no_image(folder, content, reason):
    (folder / "images" / "x.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        vet(folder, "x.jpg")


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (20_000, 20_000)])
def test_huge_photos_are_refused_by_their_header(folder, width, height):
    _png_header(folder / "images" / "huge.png", width, height)
    for refuse in (lambda name: vet(folder, name), lambda name: open_image(folder, name)):
        with pytest.raises(ImageError, match="100 megapixels"):
            refuse("images/huge.png")


def test_a_large_photo_below_the_limit_passes_without_a_warning(folder):
    _png_header(folder / "images" / "large.png", 9_900, 10_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vet(folder, "large.png")[0] == "images/large.png"


def test_truncation_is_found_at_decoding_only(folder):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = folder / "images" / "cut.jpg"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    assert vet(folder, "cut.jpg")[0] == "images/cut.jpg"
    with pytest.raises(ImageError, match="truncated"):
        open_image(folder, "images/cut.jpg")


def test_photos_come_upright(folder):
    image = Image.new("RGB", (8, 4), "blue")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(folder / "images" / "turned.jpg", exif=exif)
    assert open_image(folder, "images/turned.jpg").size == (4, 8)


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (0, 0, 255, 0)), ("LA", (0, 0))])
def test_transparency_becomes_white(folder, mode, colour):
    Image.new(mode, (2, 2), colour).save(folder / "images" / "clear.png")
    image = open_image(folder, "images/clear.png")
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_transparency_of_a_palette_becomes_white(folder):
    image = Image.new("P", (2, 2), 0)
    image.putpalette([10, 20, 30] + [0] * 765)
    image.save(folder / "images" / "p.png", transparency=0)
    assert open_image(folder, "images/p.png").getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_not_clipped(folder):
    Image.fromarray(np.full((2, 2), 32_768, np.uint16)).save(folder / "images" / "deep.png")
    assert open_image(folder, "images/deep.png").getpixel((0, 0)) == (128, 128, 128)


def test_cmyk_becomes_rgb(folder):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(folder / "images" / "print.jpg")
    red, green, blue = open_image(folder, "images/print.jpg").getpixel((1, 1))
    assert red > 200
    assert green < 60
    assert blue < 60


def test_the_first_frame_counts(folder):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "green")]
    frames[0].save(folder / "images" / "move.gif", save_all=True, append_images=frames[1:])
    assert open_image(folder, "images/move.gif").getpixel((0, 0)) == (255, 0, 0)


def test_find_by_item_id(folder):
    (folder / "images" / "brand").mkdir()
    Image.new("RGB", (2, 2)).save(folder / "images" / "brand" / "7.webp")
    photos = PhotoFolder(folder)
    assert photos.find("a") == "images/a.jpg"
    assert photos.find("brand/7") == "images/brand/7.webp"
    assert [photos.find(x) for x in ("b", "../../outside", "a\0", "")] == [None] * 4


def test_opening_in_threads_leaves_the_warning_filters_alone(folder):
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda _: open_image(folder, "images/a.jpg").size, range(200)))
    assert images == [(8, 6)] * 200
    assert warnings.filters == before
