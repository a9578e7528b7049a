"""Backups: hostile archives and killed commands."""

import gzip
import hashlib
import io
import json
import random
import signal
import subprocess
import sys
import tarfile
import time

import pytest

import molar
from molar_indexes.generations import open_generation
from molar_retrieval import __version__
from molar_retrieval.errors import MolarError
from molar_retrieval.workspace.artefacts import Workspace

HEAD, INDEX, MOST = "backup.json", "files.json", 1 << 20


@pytest.fixture
def file(shop, tmp_path):
    """A backup of a shop with an event."""
    there = molar.Shop(None, shop.workspace)
    there.events.append([{"event_id": "e", "event": "view", "user_id": "u", "item_id": "SKU-0001", "timestamp": 1.7e9}])
    return there.backup(tmp_path / "in" / "shop.tar.gz").file


def refused(file, place):
    """Whether restoring is refused by an error for people, and leaves nothing behind; whatever it does, no other."""
    target = place / "new"
    before = sorted(place.rglob("*"))
    try:
        molar.restore(file, target)
    except MolarError:
        assert sorted(place.rglob("*")) == before
        return True
    return False


def described(content, **more):
    return {
        **{"format": 1, "molar": __version__, "created": "2026-01-02T03:04:05+00:00", "generation": None},
        **{"catalogue": None, "events": 0, "files": len(content)},
        **{"bytes": sum(map(len, content.values())), "size": sum(map(len, content.values())), **more},
    }


def forged(path, content, *odd, **head):
    """An archive with files and what else somebody puts into it; its own account of them is right."""
    index = {name: [len(text), hashlib.blake2b(text, digest_size=32).hexdigest(), 0] for name, text in content.items()}
    text = json.dumps(described(content, **head)).encode()
    index[HEAD] = [len(text), hashlib.blake2b(text, digest_size=32).hexdigest(), 0]
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
        put(archive, HEAD, text)
        for info, inside in odd:
            archive.addfile(info, io.BytesIO(inside))
        for name, inside in content.items():
            put(archive, name, inside)
        put(archive, INDEX, json.dumps(index).encode())
    return path


def put(archive, name, text):
    info = tarfile.TarInfo(name)
    info.size = len(text)
    archive.addfile(info, io.BytesIO(text))


def member(name, kind, link="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info, bytes(size)


def test_names_that_leave_the_folder_or_that_no_backup_has(tmp_path, measured):
    """No file name in an archive makes restore write outside the new folder or over configuration of commands
    other machines, programs and secrets."""
    names = [
        *("../evil", "/tmp/evil", "catalog/../../evil", "catalog/./x", "catalog//x", "catalog/", "..", "", "catalog"),
        *("catalog\\..\\evil", "catalog/a\nb", "C:/evil", "evil", "catalog/" + "x" * 256, "catalog/" + "x/" * 80 + "x"),
        *(".molar", ".molar/workspace.json", ".molar/cluster/head.json", ".molar/push/molar.json", "molar.toml/x"),
        *(".molar/suppressed.json/x", ".molar/../molar.toml", ".ssh/authorized_keys", ".molar/evil", "files.json/x"),
    ]
    place = tmp_path / "deep" / "place"
    place.mkdir(parents=True)
    for name in names:
        assert refused(forged(tmp_path / "a.tar.gz", {name: b"evil"}), place), name
    assert refused(forged(tmp_path / "a.tar.gz", {"catalog/a": b"", "catalog/a/b": b""}), place)
    assert not refused(forged(tmp_path / "a.tar.gz", {"catalog/items.csv": b"item_id,title\n"}), place)
    measured(f"{len(names) + 1} names refused")


def test_what_is_no_plain_file(tmp_path, measured):
    """Links, devices, folders, sparse files and extended headers are refused, before and beside plain files."""
    kinds = [
        *(member("catalog/a", tarfile.SYMTYPE, link) for link in ("/etc", "..", "b")),
        *(member("catalog/a", tarfile.LNKTYPE, link) for link in ("/etc/passwd", "molar.toml", HEAD)),
        *(member("catalog/a", kind) for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)),
        *(member("catalog/a", kind, size=512) for kind in (tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE)),
        *(member("catalog/a", kind, size=512) for kind in (tarfile.GNUTYPE_LONGLINK, b"7", b"Z")),
        member("catalog/a", tarfile.GNUTYPE_LONGNAME, size=5_000),
    ]
    for info, inside in kinds:
        for content in ({}, {"catalog/a/passwd": b"evil"}, {"molar.toml": b""}):
            assert refused(forged(tmp_path / "a.tar.gz", content, (info, inside)), tmp_path), info.type
    measured(f"{3 * len(kinds)} archives refused")


def test_bombs(tmp_path, measured):
    """An archive's declared size must fit on the disk, and no more than the declared size is extracted."""
    large = {"catalog/items.csv": b"x" * MOST}
    heads = [{"bytes": 1 << 60, "size": 1 << 60}, {"bytes": MOST - 1, "size": MOST}, {"bytes": 0, "size": MOST - 1}]
    heads += [{"files": 0}, {"files": 1 << 61}, {"files": -1}, {"bytes": -1}, {"size": 1e300}, {"events": "1"}]
    for head in heads:
        assert refused(forged(tmp_path / "a.tar.gz", large, **head), tmp_path), head
    with gzip.open(tmp_path / "a.tar.gz", "wb", 1) as packed:  # zeros: a thousandth of it on the disk
        packed.write(tarfile.TarInfo(HEAD).tobuf())
        for _ in range(64):
            packed.write(bytes(MOST))
    assert refused(tmp_path / "a.tar.gz", tmp_path)
    with gzip.open(tmp_path / "a.tar.gz", "wb", 1) as packed:
        info, _ = member("catalog/a", tarfile.GNUTYPE_LONGNAME)
        info.size = 1 << 40
        packed.write(info.tobuf(tarfile.GNU_FORMAT))
    assert refused(tmp_path / "a.tar.gz", tmp_path)
    measured(f"{len(heads) + 2} archives refused")


def test_archives_that_are_no_backups_or_of_another_kind(tmp_path):
    """A file that is not a backup, or has an unknown format or a later version, is refused with the reason."""
    texts = [b"", b"molar", gzip.compress(b""), gzip.compress(b"x" * 2_000), gzip.compress(bytes(4_096))]
    for text in texts:
        (tmp_path / "a.tar.gz").write_bytes(text)
        assert refused(tmp_path / "a.tar.gz", tmp_path)
    assert refused(tmp_path / "none.tar.gz", tmp_path)
    assert refused(tmp_path, tmp_path)
    for head in ({"format": 2}, {"format": "1"}, {"molar": "99.0.0"}, {"generation": "../x"}, {"created": "soon"}):
        assert refused(forged(tmp_path / "a.tar.gz", {}, **head), tmp_path)
    assert refused(forged(tmp_path / "a.tar.gz", {}, surplus=1), tmp_path)


def test_bytes_that_were_changed_or_are_missing(file, tmp_path, rounds, measured):
    """An archive with a flipped bit or a missing end is refused, or restores identical files."""
    dice, whole, count = random.Random(7), file.read_bytes(), rounds(12, 400)
    place = tmp_path / "place"
    place.mkdir()
    same = 0
    for turn in range(count):
        damaged = bytearray(whole)
        if turn % 3:
            damaged[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        else:
            del damaged[dice.randrange(len(whole)) :]
        (tmp_path / "damaged.tar.gz").write_bytes(damaged)
        if not refused(tmp_path / "damaged.tar.gz", place):
            same += 1
            subprocess.run(["rm", "-rf", place / "new"], check=True)
    assert same < count / 4  # bits of the header of gzip, that say nothing
    measured(f"{count - same} of {count} damaged archives refused, the others harmless")


def test_a_file_that_was_exchanged(file, tmp_path):
    """An archive with a replaced, missing or added file is refused by the digests at its end."""
    with tarfile.open(file) as archive:
        content = {info.name: archive.extractfile(info).read() for info in archive if info.size < MOST}
        large = [info.name for info in archive if info.size >= MOST]
    assert large
    kept = {name: text for name, text in content.items() if name not in (HEAD, INDEX)}
    name = next(name for name in kept if name.endswith("log.sqlite"))
    for change in ({name: kept[name][:-1] + b"x"}, {"catalog/more.csv": b"x"}, {name: None}):
        path = tmp_path / "changed.tar.gz"
        with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
            put(archive, HEAD, content[HEAD])
            for one, text in (kept | change).items():
                if text is not None:
                    put(archive, one, text)
            put(archive, INDEX, content[INDEX])
        assert refused(path, tmp_path)


def test_folders_that_are_not_new(file, tmp_path):
    """A shop is restored only into a new or empty folder, never through a link."""
    for name in ("full", "file", "link", "dangling"):
        path = tmp_path / name
        if name == "full":
            path.mkdir()
            (path / "mine").write_text("mine")
        elif name == "file":
            path.write_text("mine")
        else:
            path.symlink_to(tmp_path / ("empty" if name == "link" else "none"))
    (tmp_path / "empty").mkdir()
    for name in ("full", "file", "link", "dangling"):
        with pytest.raises(MolarError):
            molar.restore(file, tmp_path / name)
    assert not any((tmp_path / "empty").iterdir())
    assert not (tmp_path / "none").exists()
    molar.restore(file, tmp_path / "empty")


def test_kills_of_backups_and_restores(shop, file, tmp_path, rounds, measured):
    """Killed at any moment, a backup leaves the former archive or a whole one, a restore nothing or a whole shop."""
    place, dice, count = tmp_path / "place", random.Random(11), rounds(5, 100)
    place.mkdir()
    program = "import sys, molar; from pathlib import Path; a, b = sys.argv[2:]\n"
    backup = program + "molar.Shop(None, Path(a)).backup(b)"
    restore = program + "molar.restore(a, b)"
    target, seconds = place / "shop.tar.gz", {}
    killed = 0
    for turn in range(-2, 2 * count):
        code, arguments = ((backup, (shop.workspace, target)), (restore, (file, place / "new")))[turn % 2]
        begun = time.monotonic()
        with subprocess.Popen([sys.executable, "-c", code, "-", *arguments], stderr=subprocess.PIPE) as process:
            if turn >= 0:
                time.sleep(dice.uniform(0.2, 1) * seconds[code])
                process.send_signal(signal.SIGKILL)
            process.wait()
        seconds.setdefault(code, time.monotonic() - begun)
        killed += process.returncode == -signal.SIGKILL
        if (place / "new").exists():
            with open_generation(Workspace(place / "new" / ".molar")) as generation:
                assert generation.name
            subprocess.run(["rm", "-rf", place / "new"], check=True)
        if target.exists():
            with tarfile.open(target) as archive:
                assert archive.getnames()[-1] == INDEX
        if turn % 4 == 0:
            target.unlink(missing_ok=True)
    assert killed
    molar.Shop(None, shop.workspace).backup(target)
    molar.restore(target, place / "new")
    assert {path.name for path in place.iterdir()} == {"new", target.name}
    measured(f"{killed} kills; what was left was whole, and the next run cleared the rest")


LIMITED = """
import resource, sys
import molar
a, b = sys.argv[1:]
shop = None if a.endswith(".gz") else molar.Shop(None, a)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    molar.restore(a, b) if shop is None else shop.backup(b)
except molar.MolarError as error:
    sys.exit(f"refused: {error.message}")
"""


def test_no_room(shop, file, tmp_path):
    """Under a file size limit, backup and restore report it and leave no partial file."""
    place = tmp_path / "place"
    place.mkdir()
    for source in (shop.workspace, file):
        command = [sys.executable, "-c", LIMITED, source, place / "made"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.startswith("refused: a file would be larger")) == (1, True), done.stderr
        assert not list(place.iterdir())
