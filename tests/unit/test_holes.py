"""Files with holes: what is stored in them, and digests that do not hash the rest."""

import errno
import os
import random
from pathlib import Path

import pytest

from molar_retrieval.workspace import artefacts, fingerprint
from molar_retrieval.workspace.fingerprint import filled, of_file, of_sparse_file


def pieces(path: Path) -> list[tuple[int, bytes]]:
    with path.open("rb") as file:
        return list(filled(file.fileno()))


def sparse(path: Path, size: int, *written: tuple[int, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
        for place, content in written:
            file.seek(place)
            file.write(content)
    return path


@pytest.mark.parametrize("seed", range(20))
def test_what_is_left_out_is_zeros_and_holes_make_no_difference(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    size = chance.randrange(1, 400_000)
    places = [chance.randrange(size) for _ in range(chance.randrange(6))]
    written = [(p, chance.randbytes(min(chance.choice([1, 5000, 70_000]), size - p))) for p in places]
    path = sparse(tmp_path / "holes", size, *written)
    content = path.read_bytes()
    rebuilt = bytearray(size)
    for place, piece in pieces(path):
        assert piece.strip(b"\0")
        rebuilt[place : place + len(piece)] = piece
    assert bytes(rebuilt) == content
    (tmp_path / "full").write_bytes(content)
    assert pieces(tmp_path / "full") == pieces(path)


def test_a_file_system_that_knows_of_no_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sparse(tmp_path / "holes", 300_000, (200_000, b"here"))
    known = pieces(path)

    def lseek(*_: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(fingerprint.os, "lseek", lseek)
    assert pieces(path) == known == [(196_608, bytes(200_000 - 196_608) + b"here" + bytes(700))]


def test_a_digest_reads_no_holes_and_finds_every_change(tmp_path: Path) -> None:
    path = sparse(tmp_path / "index" / "page_0.dat", 1 << 36, (5, b"first"), (1 << 35, b"middle"))
    artefacts.write_inventory(tmp_path)  # 64 GB would take a minute
    assert artefacts.check_inventory(tmp_path, digests=True) == []
    for place in (0, 9, 4096, (1 << 35) + 5, 1 << 34, (1 << 36) - 1):
        with path.open("r+b") as file:
            file.seek(place)
            before = file.read(1)
            file.seek(place)
            file.write(bytes([before[0] ^ 8]))
        assert artefacts.check_inventory(tmp_path, digests=True) == ["index/page_0.dat was changed"]
        with path.open("r+b") as file:
            file.seek(place)
            file.write(before)
        assert artefacts.check_inventory(tmp_path, digests=True) == []
    os.truncate(path, (1 << 36) - 1)
    assert "bytes instead of" in artefacts.check_inventory(tmp_path)[0]


def test_content_that_moved_within_the_file_is_a_change(tmp_path: Path) -> None:
    one = sparse(tmp_path / "one", 1 << 20, (0, b"x" * 4096), (8192, b"y" * 4096))
    other = sparse(tmp_path / "other", 1 << 20, (0, b"x" * 4096), (4096, b"y" * 4096))
    assert of_sparse_file(one) != of_sparse_file(other)


def test_digests_of_earlier_versions_hold(tmp_path: Path) -> None:
    path = sparse(tmp_path / "index" / "page_0.dat", 200_000, (70_000, b"here"))
    artefacts.write_inventory(tmp_path)
    listing = tmp_path / artefacts.INVENTORY
    known = {"index/page_0.dat": [200_000, of_file(path)]}
    listing.write_text(artefacts._inventory_of(known), "utf-8")
    assert artefacts.check_inventory(tmp_path, digests=True) == []
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert artefacts.check_inventory(tmp_path, digests=True) == ["index/page_0.dat was changed"]
