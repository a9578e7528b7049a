"""Processes that a command starts."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MOLAR = Path(sys.executable).with_name("molar")
GRACE = 2.0
"""Seconds after its parent within which a process must be gone."""

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc"),
    pytest.mark.alone,
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A catalogue of 900 photos, each of them slow to measure: a few seconds for two processes."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    noise = np.random.default_rng(3).integers(0, 255, (700, 700, 3), np.uint8)
    Image.fromarray(noise).save(folder / "images" / "0.png", compress_level=1)
    for n in range(1, 900):
        (folder / "images" / f"{n}.png").hardlink_to(folder / "images" / "0.png")
    rows = [f"{n},title {n}" for n in range(900)]
    (folder / "items.csv").write_text("\n".join(["item_id,title", *rows]) + "\n", "utf-8")
    return folder


def test_check_leaves_no_process_behind(photos, tmp_path, rounds, measured):
    """Where `check` is ended or killed, all its processes are gone within 2 s."""

    def command(n: int) -> list[str | Path]:
        return ["check", photos, "--workspace", tmp_path / str(n)]

    _attack(command, tmp_path, rounds(2, 50), measured)


def test_recommend_leaves_no_process_behind(shop, tmp_path, rounds, measured):
    """Where `recommend --processes 2` is ended or killed, all its processes are gone within 2 s."""
    names = tmp_path / "users.txt"
    names.write_text("\n".join([shop.user, *(f"stranger {n}" for n in range(200_000))]) + "\n", "utf-8")

    def command(n: int) -> list[str | Path]:
        out = tmp_path / f"{n}.parquet"
        return ["recommend", "--processes", "2", "--users", names, "--out", out, "--workspace", shop.workspace]

    _attack(command, tmp_path, rounds(2, 50), measured)


def _attack(command: Callable[[int], list[str | Path]], cwd: Path, times: int, measured: Callable[[str], None]) -> None:
    """End the command at random moments, by turns in the two ways."""
    left: list[str] = []
    reached, runs = 0, itertools.count()
    for n in range(times):
        way = (signal.SIGTERM, signal.SIGKILL)[n % 2]
        delay = random.Random(n).uniform(0.0, 1.5)
        for _ in range(8):
            if (found := _ended(command(next(runs)), cwd, way, delay)) is not None:
                break
            delay /= 2  # it was through before: a fast machine
        assert found is not None, f"{way.name} does not end it"
        left_here, code, others = found
        reached += others > 0
        # Before and after its work the command has no handler; -15 is 143 to a shell.
        assert code in ({143, -15} if way is signal.SIGTERM else {-9}), (
            f"exit code {code} after {way.name} at {delay:.2f} s"
        )
        left += left_here
    measured(f"{len(left)} of the processes of {times} runs left ({reached} had some when the signal came)")
    assert not left
    assert reached


def _ended(
    arguments: list[str | Path], cwd: Path, way: signal.Signals, delay: float
) -> tuple[list[str], int | None, int] | None:
    """What is left of a command that got a signal some time after its first process began; its exit code.

    None where it had ended before.
    """
    with subprocess.Popen(
        [str(MOLAR), *map(str, arguments)], cwd=cwd, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        start_new_session=True, env=_environment(),
    ) as run:  # fmt: skip
        try:
            _wait(lambda: bool(_workers(run.pid)) or run.poll() is not None, 60)
            time.sleep(delay)
            others = len(_members(run.pid))
            if run.poll() == 0:
                return None
            run.send_signal(way)
            if run.wait(60) == 0:
                return None
            _wait(lambda: not _members(run.pid), GRACE)
            return list(_members(run.pid).values()), run.returncode, others
        finally:
            for pid in _members(run.pid):
                os.kill(pid, signal.SIGKILL)
            run.kill()


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _wait(true: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.02)


def _workers(session: int) -> list[int]:
    return [pid for pid, command in _members(session).items() if "spawn_main" in command]


def _members(session: int) -> dict[int, str]:
    """The command lines of a session's processes that still run, by their number, but for the first one's."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != session:
            try:
                state, *numbers = (folder / "stat").read_text().rpartition(")")[2].split()
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it ended meanwhile
                continue
            if int(numbers[2]) == session and state not in "ZX":
                found[int(folder.name)] = words
    return found
