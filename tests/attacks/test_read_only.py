"""Reading from media that cannot be written."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_serving import READER, child

from molar_indexes import edge
from molar_indexes.recommender import Recommender
from molar_retrieval.workspace import fingerprint

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
CONTRACT = "tests/contract/test_index_backends.py"


def state(folder: Path) -> dict[str, tuple[object, ...]]:
    """Of every file: its bytes, and what tells whether it was written or replaced."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    facts = {path: path.stat() for path in files}
    return {
        str(path.relative_to(folder)): (fingerprint.of_file(path), f.st_mtime_ns, f.st_ino, f.st_mode, f.st_size)
        for path, f in facts.items()
    }


def mounted(folder: Path, seen: Path, command: list[str]) -> list[str]:
    """The command as somebody else who sees a folder read-only; files may be read, whosever they are."""
    reads = [f"--{which}-caps=-all,+dac_read_search" for which in ("inh", "ambient")]
    other = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *reads, *command]
    mount = 'mount --bind "$0" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    return ["unshare", "-m", "sh", "-c", mount, str(folder), str(seen), *other]


def skip_without_mounts(folder: Path) -> None:
    try:
        subprocess.run(mounted(folder, folder, ["true"]), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted read-only here: {error}")


@contextmanager
def reading(folder: Path) -> Iterator[list[str]]:
    """How a command is begun for which a folder is not to be written."""
    if os.geteuid() == 0:
        skip_without_mounts(folder)
        yield mounted(folder, folder, [])
        return
    modes = {path: path.stat().st_mode for path in [folder, *folder.rglob("*")]}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        yield []
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    quiet = {"HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    known = os.environ
    return subprocess.run(command, cwd=cwd, env={**known, **quiet}, capture_output=True, text=True, check=False)


@pytest.fixture
def molar() -> list[str]:
    return [sys.executable, "-c", "from molar_cli.app import main; main()"]


def test_another_user_asks_read_only_media(shop, molar, rounds, measured):
    """Every way of asking works for another user on a read-only mount, with the same answers."""
    item = shop_item(shop)
    ways = [["query", "--user", shop.user, "--json"], ["query", "--session", item, "--json"]]
    ways += rounds(
        [],
        [
            ["query", "--similar-to", item, "--json"],
            ["query", "--text", "red shoes", "--json"],
            ["index", "list", "--json"],
            ["index", "verify", "--deep"],
        ],
    )
    before = state(shop.workspace)
    with reading(shop.workspace) as others:
        for way in ways:
            here = run([*molar, *way], shop.workspace.parent)
            there = run([*others, *molar, *way], shop.workspace.parent)
            assert (there.returncode, there.stderr) == (0, here.stderr), there.stderr
            assert answered(there.stdout) == answered(here.stdout)
    assert {name: facts[:3] for name, facts in state(shop.workspace).items()} == {n: f[:3] for n, f in before.items()}
    measured(f"{len(ways)} of {len(ways)} commands")


def shop_item(shop) -> str:
    with Recommender.open(shop.workspace) as recommender:
        return recommender.query(shop.user).items[0].item_id


def answered(text: str) -> object:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    if isinstance(found, dict):
        found.pop("timings_ms", None)
        found.pop("request_id", None)
    return found


def test_the_contract_of_indexes_holds_on_read_only_media(tmp_path, rounds, measured):
    """An index keeps its whole contract for another user on a read-only mount."""
    written, seen = tmp_path / "written", tmp_path / "seen"
    written.mkdir()
    skip_without_mounts(written)
    os.chown(written, NOBODY, NOBODY)
    seen.mkdir()
    tests = ["-k", rounds("edge and (vectors_are_returned or excluded)", "edge or exact")]
    command = [sys.executable, "-m", "pytest", CONTRACT, "-q", "-p", "no:cacheprovider", *tests]
    done = run(mounted(written, seen, command), ROOT, MOLAR_TEST_READ_ONLY=f"{written}:{seen}")
    assert done.returncode == 0, done.stdout
    assert list(written.iterdir())
    measured(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("large", [False, True], ids=["copied", "linked"])
def test_reading_changes_no_byte(shop, rounds, measured, tmp_path, monkeypatch, large):
    """Readers write, replace and touch no file of a generation."""
    if large:
        monkeypatch.setattr(edge, "_LARGE", -1)
    folder = shop.workspace / "generations"
    before, stop = state(folder), tmp_path / "stop"
    processes = [] if large or rounds(True, False) else [child(READER, str(shop.workspace), shop.user, str(stop), "1")]
    with Recommender.open(shop.workspace) as recommender:
        answer = recommender.query(shop.user)

    def ask() -> None:
        for _ in range(rounds(3, 50)):
            with Recommender.open(shop.workspace) as recommender:
                assert recommender.query(shop.user).items == answer.items
                recommender.query(shop.user, where="category = Shoes")

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.touch()
    for process in processes:
        _, complaints = process.communicate(timeout=60)
        assert process.returncode == 0, complaints
    after = state(folder)
    wanted = slice(0, 1) if large else slice(None)
    assert {name: facts[wanted] for name, facts in after.items()} == {n: f[wanted] for n, f in before.items()}
    measured(f"{len(after)} files equal after {2 * rounds(3, 50)} openings and more")
