"""What was acknowledged is there, once, whenever the server is killed; answers go on without room to write."""

import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from web_server import Program, until_ready

from molar_retrieval.data.event_log import EventLog
from molar_retrieval.workspace.artefacts import Workspace

KILLS = int(os.environ.get("MOLAR_TEST_KILLS", "3"))
"""How often the server is killed; 1,000 for the full strength."""
SERVE = [sys.executable, "-c", "from molar_cli.app import main; main()", "serve", "--port", "0", "--workspace"]


def event(number: int, user: str = "u") -> dict[str, str]:
    return {"event_id": f"e{number}", "event": "view_item", "user_id": user, "item_id": "SKU-0001"}


def test_kills_lose_no_acknowledged_event_and_double_none(tmp_path, record_property):
    (tmp_path / "shop").mkdir()
    workspace = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    dice, acknowledged, next_one = random.Random(5), set[int](), 0
    for turn in range(KILLS):
        server = Program(workspace.root, *(["--workers", "2"] if turn % 3 == 2 else []))
        killer = threading.Timer(dice.uniform(0.2, 1.2), server.process.send_signal, [signal.SIGKILL])
        killer.start()
        try:
            with server.client() as client:
                while True:
                    batch = [event(number) for number in range(next_one, next_one + dice.randint(1, 20))]
                    told = client.post("/v1/events", json=batch)
                    assert told.status_code == 200, told.text
                    assert told.json()["accepted"] + told.json()["duplicates"] == len(batch)
                    next_one += len(batch)
                    acknowledged.update(range(next_one - len(batch), next_one))
        except httpx.TransportError:  # the batch may be there or not: it is sent again
            pass
        finally:
            killer.join()
            server.end(signal.SIGKILL)
    (tmp_path / "replayed").mkdir()
    log, again = EventLog(workspace), EventLog(Workspace.for_catalogue(tmp_path / "again", tmp_path / "replayed"))
    state, rows = log.table(), log.table().sort_by("seq").drop_columns(["seq", "received"]).to_pylist()
    again.append(enumerate(rows))
    found, others = state["event_id"].to_pylist(), ["seq", "received"]
    assert again.table().drop_columns(others).equals(state.drop_columns(others)), "it is not what a replay makes"
    log.close()
    again.close()
    assert acknowledged
    assert {f"e{number}" for number in acknowledged} <= set(found)
    assert len(found) == len(set(found))
    record_property("measured", f"{KILLS} kills, {len(acknowledged)} acknowledged, {len(found)} there")


class Mounted(Program):
    """A server whose workspace lies on a disk of its own, made by a few lines of shell that get it as ``$0``."""

    def __init__(self, place: Path, shell: str) -> None:
        place.mkdir()
        self.place = place
        command = f'{shell}\nexec {shlex.join(SERVE)} "$0/.molar"'
        try:
            self.process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", command, str(place)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            pytest.skip(f"nothing can be mounted here: {error}")
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().partition(",")[0]
        if not self.address.startswith("http"):
            said = self.process.communicate(timeout=30)
            if self.process.returncode == 99 or "unshare:" in said[1]:
                pytest.skip(f"nothing can be mounted here: {said[1].strip()}")
            raise AssertionError(said)

    def ended(self) -> tuple[int, str]:
        """End it; its exit code, and what it said on its standard error."""
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=30)[1]
        return self.process.returncode, said

    def inside(self, name: str) -> Path:
        """A file on that disk."""
        return Path(f"/proc/{self.process.pid}/root{self.place}/{name}")


def test_a_full_disk_is_told_and_answers_go_on_until_there_is_room(trained, tmp_path):
    fill = (
        'mount -t tmpfs -o size=800m none "$0" || exit 99\n'
        f'cp -r --sparse=never {shlex.quote(str(trained.workspace))} "$0/.molar"\n'
        'cat /dev/zero > "$0/ballast" 2>/dev/null'
    )
    server = Mounted(tmp_path / "disk", fill)
    try:
        with server.client() as client:
            until_ready(client)
            told = client.post("/v1/events", json=event(1, trained.user))
            assert told.status_code == 507
            assert "no room" in told.json()["detail"]
            assert client.post("/v1/recommendations", json={"user_id": trained.user}).json()["known"]
            ballast = server.inside("ballast")
            os.truncate(ballast, 1 << 20)
            assert client.post("/v1/events", json=event(1, trained.user)).json()["accepted"] == 1
            begin, status = 2, 200
            with suppress(OSError), ballast.open("ab") as file:  # full again, with the log open
                while file.write(bytes(1 << 16)):
                    file.flush()
            while status == 200 and begin < 3_000:
                batch = [event(number, trained.user) for number in range(begin, begin + 500)]
                status, begin = client.post("/v1/events", json=batch).status_code, begin + 500
            assert status == 507
            os.truncate(ballast, 0)
            batch = [event(number, trained.user) for number in range(begin)]
            told = client.post("/v1/events", json=batch[-900:]).json()
            assert told["accepted"] + told["duplicates"] == min(len(batch), 900)
            assert told["rejected"] == []
    finally:
        code, said = server.ended()
    assert code == 0
    assert "make room there" in said  # whoever runs the server learns what to do, and where


def test_on_a_read_only_disk_answers_go_on_and_events_name_the_remedy(trained, tmp_path):
    mount = (
        f'cp -r {shlex.quote(str(trained.workspace))} "$0/.molar"\n'
        'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" || exit 99'
    )
    server = Mounted(tmp_path / "disk", mount)
    try:
        with server.client() as client:
            until_ready(client)
            for _ in range(2):
                told = client.post("/v1/events", json=event(1))
                assert told.status_code == 503
                assert "cannot be written" in told.json()["detail"]
                assert client.post("/v1/recommendations", json={"user_id": trained.user}).json()["known"]
    finally:
        code, said = server.ended()
    assert code == 0
    assert "read-only file system" in said
    assert "mount it for writing" in said


def test_the_clients_retry_after_a_kill_is_a_duplicate(tmp_path):
    (tmp_path / "shop").mkdir()
    workspace = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    for accepted in (1, 0):
        server = Program(workspace.root)
        began = time.monotonic()
        with server.client() as client:
            told = client.post("/v1/events", json=event(7)).json()
        assert (told["accepted"], told["duplicates"]) == (accepted, 1 - accepted)
        server.end(signal.SIGKILL)
        assert time.monotonic() - began < 60
