"""A server from the command line, as people meet it; the server is a fake with faults, the processes are real."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from qdrant_fake import FakeQdrant, Fault, fake_qdrant

from molar_cli.commands.evaluate import _shown

SECRET = "k-9c0d-not-to-be-seen"


@pytest.fixture
def fake() -> Iterator[FakeQdrant]:
    with fake_qdrant() as server:
        yield server


@pytest.fixture
def shop(trained: Any, tmp_path: Path) -> Path:
    """A workspace of its own, in which molar.toml may be written."""
    place = tmp_path / "shop"
    copy_workspace(trained.workspace, place / ".molar")
    return place


def test_one_setting_and_every_command_goes_on(molar: Any, trained: Any, shop: Path, fake: FakeQdrant) -> None:
    """The server has two addresses, at the first of which nobody listens."""
    fake.key, dead, named = SECRET, "http://127.0.0.1:1", dict[str, str]()

    def run(*arguments: object) -> Any:
        done = molar(*arguments, cwd=shop, QDRANT_API_KEY=SECRET, **named)
        assert SECRET not in done.stdout + done.stderr
        assert done.returncode == 0, done.stderr
        return done

    asked = ["query", "--user", trained.user, "--where", "price < 50", "-k", 5, "--json"]
    own = json.loads(run(*asked).stdout)
    assert not fake.asked
    pushed = json.loads(run("index", "push", "--to", f"{dead},{fake.url}", "--json").stdout)
    assert (pushed["items"], pushed["users"], pushed["up_to_date"]) == (trained.items, None, False)
    (shop / "molar.toml").write_text("[index]\ntimeout = 30\n", "utf-8")
    named["MOLAR_INDEX_URL"] = f"{dead},{fake.url}"
    before = len(fake.asked)
    there = json.loads(run(*asked).stdout)
    assert len(fake.asked) > before
    assert [i["item_id"] for i in there["items"]] == [i["item_id"] for i in own["items"]]
    assert [i["score"] for i in there["items"]] == pytest.approx([i["score"] for i in own["items"]], abs=1e-5)
    before = len(fake.asked)
    assert json.loads(run(*asked, "--index", "local").stdout)["items"] == own["items"]
    assert len(fake.asked) == before
    run("recommend", "--out", "there.parquet", "-k", 3)
    run("recommend", "--out", "own.parquet", "-k", 3, "--index", "local")
    assert pq.read_table(shop / "there.parquet").equals(pq.read_table(shop / "own.parquet"))
    assert "up to date" in run("index", "push").stdout
    assert f"at {dead},{fake.url} as well" in run("index", "verify").stdout
    listed = json.loads(run("index", "list", "--json").stdout)["server"]["collections"]
    assert [(one["collection"], one["live"]) for one in listed] == [(pushed["collection"], True)]
    assert "nothing to remove" in run("index", "prune").stdout
    health = json.loads(run("doctor", "--json").stdout)
    states = {name: one["state"] for name, one in health["sections"]["server"].items()}
    assert states == {
        "address 1": "warning",
        "address 2": "fine",
        "protocol": "fine",
        "live items": "fine",
        "drift": "fine",
    }
    assert SECRET not in "".join(p.read_text("utf-8", "ignore") for p in shop.rglob("*.json"))


def test_align_publishes_there_as_well(molar: Any, shop: Path, fake: FakeQdrant) -> None:
    done = molar("align", "--index", fake.url, "--preset", "instant", "--workspace", shop / ".molar", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["pushed"]["generation"] == report["generation"]
    back = molar("index", "rollback", "--index", fake.url, "--workspace", shop / ".molar")
    assert back.returncode == 3
    assert "no whole generation before" in back.stderr


def test_a_dead_server_says_so_in_time_and_falls_back_only_when_told(
    molar: Any, trained: Any, shop: Path, fake: FakeQdrant
) -> None:
    workspace = ["--workspace", shop / ".molar"]
    assert molar("index", "push", "--to", fake.url, *workspace).returncode == 0
    fake.faults = [Fault("", times=999, delay=30.0)]
    asked = ["query", "--user", trained.user, "-k", 3, "--index", fake.url, *workspace]
    began = time.monotonic()
    done = molar(*asked)
    assert time.monotonic() - began < 20  # of which the server's share is two seconds; starting takes the rest
    assert done.returncode == 4
    assert "did not answer within 2 s" in done.stderr
    assert "remedy" in done.stderr
    assert done.stdout == ""
    done = molar(*asked, "--index-fallback", "local", "--json")
    assert done.returncode == 0, done.stderr
    (note,) = json.loads(done.stdout)["notes"]
    assert "the workspace's own generation answers instead" in note
    done = molar(*asked, "--index-fallback", "local")
    assert "answers instead" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["index", "push"], 2, "no server is named"),
        (["index", "prune", "--keep", "1"], 2, "no server is named"),
        (["index", "push", "--to", "db:6333"], 2, "http://host:6333"),
        (["index", "push", "--to", "http://db:6333,http://me:hidden@db2:6333"], 2, "QDRANT_API_KEY"),
        (["index", "push", "--to", "http://127.0.0.1:1"], 4, "nothing answers at http://127.0.0.1:1"),
        (["recommend", "--index", "http://127.0.0.1:1"], 4, "nothing answers"),
    ],
)
def test_what_is_wrong_and_what_to_do(molar: Any, shop: Path, arguments: list[str], code: int, said: str) -> None:
    done = molar(*arguments, "--workspace", shop / ".molar", cwd=shop)
    assert done.returncode == code
    assert said in done.stderr
    assert "remedy" in done.stderr
    assert "hidden" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_report_does_not_say_whose_server_was_asked() -> None:
    shown = _shown(["evaluate", "--index", "http://db.inside:6333", "--out", "/home/ada/run", "--slice", "a b"])
    assert shown == ["evaluate", "--index", "URL", "--out", "run", "--slice", "'a b'"]


def test_a_push_that_was_killed_goes_on(molar: Any, trained: Any, shop: Path, fake: FakeQdrant) -> None:
    """The process dies without a word while its first batch is on its way."""
    fake.faults = [Fault("PUT .*/points$", delay=20.0)]
    command = [Path(sys.executable).with_name("molar"), "index", "push", "--to", fake.url]
    with subprocess.Popen(command, cwd=shop, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as push:
        until = time.monotonic() + 60
        while not fake.of("PUT .*/points$") and time.monotonic() < until:
            time.sleep(0.02)
        push.send_signal(signal.SIGKILL)
    assert fake.client.get_aliases().aliases == []
    (left,) = [one.name for one in fake.client.get_collections().collections]
    done = molar("index", "push", "--to", fake.url, "--json", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["collection"] == left
    assert fake.client.count(left).count == trained.items
