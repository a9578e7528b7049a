"""Photos."""

import io
import re
import struct
import subprocess
import sys
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from molar_retrieval.data import images
from molar_retrieval.data.images import ImageError, PhotoFolder, open_file, open_image
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.progress import SILENT
from molar_retrieval.quality.photos import PhotoState
from molar_retrieval.quality.photos import measured as measure_all
from molar_retrieval.workspace.artefacts import Workspace

ALLOWED = 384 << 20
"""Bytes that this process may grow by over a photo."""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, extra: bytes = b"") -> bytes:
    """One bit a pixel, all black."""
    body = zlib.compress(bytes(((width + 7) // 8 + 1) * height), 1)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(tags: list[tuple[int, int, int, int]], size: int) -> bytes:
    """A page of 64 × 64 grey pixels with tags (number, kind, count, value) beside the usual ones."""
    usual = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    strips = [(273, 4, 1, 8), (278, 4, 1, 64), (279, 4, 1, 4096)]
    taken = {tag[0] for tag in tags}
    every = sorted([tag for tag in usual + strips if tag[0] not in taken] + tags)
    entries = b"".join(struct.pack("<HHII", *tag) for tag in every)
    return (b"II*\0" + struct.pack("<IH", 8, len(every)) + entries + bytes(4)).ljust(size, b"\0")


def shared_tags(size: int) -> bytes:
    """60,000 tags, each of which says that the whole file is its value."""
    return tiff([(number, 7, size - 8, 8) for number in range(1_000, 61_000)], size)


def exif_of(data: bytes, exif: bytes) -> bytes:
    parts = [b"Exif\0\0" + exif[start : start + 65_000] for start in range(0, len(exif), 65_000)]
    return data[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(p) + 2) + p for p in parts) + data[2:]


def tiny_frames(count: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + (b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00") * count + b";"


def huge_tiles() -> bytes:
    """A small picture in one tile of 1.6 GB."""
    body = zlib.compress(bytes(64))
    tags = [(259, 3, 1, 8), (322, 4, 1, 40_000), (323, 4, 1, 40_000), (324, 4, 1, 400), (325, 4, 1, len(body))]
    return tiff(tags, 400) + body


def endless() -> bytes:
    """A JPEG that goes over its 16 megapixels 5,000 times."""
    scan = saved(Image.new("L", (4_000, 4_000)), "JPEG", progressive=True)
    last = scan.rindex(b"\xff\xda")
    return scan[:-2] + scan[last:-2] * 5_000 + b"\xff\xd9"


def plain(kind: str, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    return saved(Image.new("RGB", size, (200, 30, 60)), kind, **options)


REFUSED = {
    "99,000,000 × 1 pixels": (lambda: png(99_000_000, 1), "50 times"),
    "1 × 4,000,000 pixels": (lambda: png(1, 4_000_000), "50 times"),
    "20,001 × 4,000 pixels": (lambda: png(20_001, 4_000), "20,000 pixels"),
    "20,000 × 20,000 pixels": (lambda: png(20_000, 20_000), "100 megapixels"),
    "65 MiB of nothing": (lambda: png(10, 10) + bytes(65 << 20), "64 MiB"),
    "tiles of gigabytes": (huge_tiles, "memory|damaged"),
}
BOUNDED = {
    "text of 3 GB in a PNG": lambda: png(9, 9, chunk(b"zTXt", b"t\0\0" + zlib.compress(bytes(10 << 20), 1)) * 300),
    "a profile of 256 MB in a PNG": lambda: png(9, 9, chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1 << 28), 1))),
    "tags of 120 GB in a TIFF": lambda: shared_tags(2_000_000),
    "EXIF of 120 GB in a JPEG": lambda: exif_of(plain("JPEG"), shared_tags(2_000_000)),
    "EXIF of 120 GB in a PNG": lambda: png(9, 9, chunk(b"eXIf", shared_tags(2_000_000))),
    "EXIF of 120 GB in a WebP": lambda: plain("WEBP", exif=shared_tags(2_000_000)),
    "a million frames in a GIF": lambda: tiny_frames(1_000_000),
    "a WebP of 15 megapixels": lambda: plain("WEBP", (15_000, 1_000), lossless=True, method=0),
    "an AVIF of 8 megapixels": lambda: plain("AVIF", (4_000, 2_000), speed=10),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shop" / "images").mkdir(parents=True)
    Image.new("RGB", (80, 60), (10, 90, 200)).save(tmp_path / "shop" / "images" / "good.jpg")
    return tmp_path / "shop"


@contextmanager
def little_memory():
    """This process may not grow much: what opens a large photo in it fails."""
    images._end_all()
    images._idle.append(images._Decoder())  # with bounds of its own
    if sys.platform != "linux":
        yield
        return
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + ALLOWED, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", REFUSED)
def test_extreme_photos_are_refused(folder, tmp_path, name):
    """A photo of extreme shape or size is refused, with the reason, before it takes memory."""
    make, reason = REFUSED[name]
    (folder / "images" / "evil.png").write_bytes(make())
    with little_memory():
        with pytest.raises(ImageError, match=reason):
            open_image(folder, "images/evil.png")
        with pytest.raises(ImageError, match=reason):
            open_file(folder / "images" / "evil.png")
        records = measure_all(folder, ["images/good.jpg", "images/evil.png"], Workspace(tmp_path / "w"), SILENT)
    assert records["state"][0] == PhotoState.GOOD
    assert records["state"][1] in (PhotoState.TOO_LARGE, PhotoState.TRUNCATED)


@pytest.mark.parametrize("name", [name for name in REFUSED if "tiles" not in name])
def test_an_item_with_an_extreme_photo_stays_without_it(folder, tmp_path, name):
    """An item whose photo is refused stays in the catalogue without it, and is listed with the reason."""
    make, reason = REFUSED[name]
    (folder / "images" / "evil.png").write_bytes(make())
    (folder / "items.csv").write_text("item_id,title,image\n1,a,good.jpg\n2,b,evil.png\n", "utf-8")
    prepare_catalogue(folder, workspace := Workspace.for_catalogue(tmp_path / ".molar", folder))
    (version,) = (path.parent for path in (workspace.root / "catalogue").rglob("items.parquet"))
    assert pq.read_table(version / "items.parquet")["image"].to_pylist() == ["images/good.jpg", None]
    (reject,) = pq.read_table(version / "rejects.parquet").to_pylist()
    assert reject["item_id"] == "2"
    assert re.search(reason, str(reject))


@pytest.mark.parametrize("name", BOUNDED)
def test_bombs_inside_of_formats_are_bounded(folder, tmp_path, name):
    """What hides inside of a format (text, profiles, tags, EXIF, frames) is opened within bounds."""
    (folder / "images" / "evil.jpg").write_bytes(BOUNDED[name]())
    with little_memory():
        PhotoFolder(folder).vet_all(["images/evil.jpg"])
        with suppress(ImageError):  # it may be refused or be read, within the bounds
            open_image(folder, "images/evil.jpg")
        measure_all(folder, ["images/evil.jpg"], Workspace(tmp_path / "w"), SILENT)
        assert open_image(folder, "images/good.jpg").size == (80, 60)


def test_a_photo_that_ends_its_process_costs_itself_alone(folder, tmp_path, monkeypatch):
    """A photo over which the decoder dies costs that photo alone; the run goes on."""
    ask = images._Decoder.ask

    def dying(self, request, data=b""):
        if "evil" in str(request.get("path", request.get("paths"))):
            self._process.kill()
        return ask(self, request, data)

    monkeypatch.setattr(images._Decoder, "ask", dying)
    (folder / "images" / "evil.jpg").write_bytes(plain("JPEG"))
    with pytest.raises(ImageError, match="damaged"):
        open_image(folder, "images/evil.jpg")
    vetted = PhotoFolder(folder).vet_all(["images/good.jpg", "images/evil.jpg", "images/good.jpg"])
    assert [isinstance(one, ImageError) for one in vetted] == [False, True, False]
    assert open_image(folder, "images/good.jpg").size == (80, 60)


def test_a_photo_that_takes_for_ever_is_given_up(folder, monkeypatch):
    """A photo that keeps the decoder busy is given up after its time."""
    (folder / "images" / "slow.jpg").write_bytes(endless())
    module = images._MODULE
    hasty = images._PROGRAM.replace(".main()", f"._start_clock.__defaults__ = (0.5, 60); {module}.main()")
    monkeypatch.setattr(images, "_PROGRAM", hasty)
    images._end_all()
    with pytest.raises(ImageError, match="to open"):
        open_image(folder, "images/slow.jpg")
    assert open_image(folder, "images/good.jpg").size == (80, 60)
    images._end_all()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux bounds the memory")
def test_decoders_end_with_their_parent(tmp_path):
    """The processes that open photos are gone within 2 s of a killed parent, also in the middle of a photo."""
    (tmp_path / "slow.jpg").write_bytes(endless())
    code = """if True:
        import sys, threading
        from pathlib import Path
        from molar_retrieval.data import images
        from molar_retrieval.data.images import open_file
        images._idle.append(images._Decoder())
        print(images._idle[0]._process.pid, flush=True)
        open_file(Path(sys.argv[1]))
    """
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "slow.jpg"], stdout=subprocess.PIPE) as run:
        decoder = int(run.stdout.readline())
        time.sleep(0.5)
        run.kill()
    until = time.monotonic() + 2
    while (running := _runs(decoder)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not running


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
