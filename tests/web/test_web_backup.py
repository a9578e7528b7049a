"""A backup is taken while a server answers and events come in, and answers the same elsewhere."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import closing

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from updates import Days, another_generation
from web_server import client_of, program

import molar
from molar_indexes import backup
from molar_indexes.generations import open_generation
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.progress import Notes
from molar_retrieval.workspace.artefacts import Workspace
from molar_serving.auth import Keyring


@pytest.fixture
def days(trained, tmp_path):
    return Days(trained, tmp_path / "here")


class Meanwhile(Notes):
    """Does something once, when the archive begins to be written."""

    def __init__(self, act):
        super().__init__()
        self._act = act

    def start(self, task, total):
        act, self._act = self._act, lambda: None
        act()


def cli(*arguments):
    command = [sys.executable, "-c", "from molar_cli.app import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def people(workspace, count=20):
    with open_generation(workspace) as generation:
        return [user for user, _ in zip(generation.users.keys(), range(count), strict=False)]


def lists(client, users):
    found = {}
    for user in users:
        told = client.post("/v1/recommendations", json={"user_id": user, "k": 10, "explore": False})
        assert told.status_code == 200, told.text
        found[user] = [(item["item_id"], item["score"]) for item in told.json()["items"]]
    return found


def test_it_is_taken_while_a_server_takes_events_and_answers_the_same_elsewhere(days, tmp_path):
    (days.folder.parent / "rules.toml").write_text("")
    secret = Keyring(days.shop.workspace).add("backend", ["answer", "events"])
    users, headers = people(days.workspace), {"authorization": f"Bearer {secret}"}
    acknowledged, ended, file = [], threading.Event(), tmp_path / "shop.tar.gz"

    def post(address):
        with httpx.Client(base_url=address, headers=headers, timeout=30) as client:
            while not ended.is_set():
                number = len(acknowledged)
                event = {
                    "event_id": f"e{number}",
                    "event": "view",
                    "user_id": f"visitor {number}",
                    "item_id": "SKU-0001",
                }
                told = client.post("/v1/events", json=event)
                assert told.status_code == 200, told.text
                acknowledged.append(number)

    with program(days.shop.workspace) as server:
        thread = threading.Thread(target=post, args=[server.address])
        thread.start()
        while len(acknowledged) < 20:
            time.sleep(0.01)
        before = len(acknowledged)
        done = cli("backup", file, "--workspace", days.shop.workspace, "--json")
        after = len(acknowledged)
        ended.set()
        thread.join()
        with server.client(headers=headers) as client:
            here = lists(client, users)
    assert json.loads(done.stdout)["generation"] == days.workspace["generations"].pointer
    assert file.stat().st_mode & 0o777 == 0o600

    cli("restore", file, tmp_path / "there")
    there = molar.open(tmp_path / "there" / "catalog")
    assert there.workspace == tmp_path / "there" / ".molar"
    with closing(EventLog(Workspace(there.workspace))) as log:
        kept = log.table().sort_by("seq")
    with closing(EventLog(days.workspace)) as log:
        whole = log.table().sort_by("seq")
    assert before <= len(kept) <= after + 1
    assert kept.equals(whole.slice(0, len(kept)))
    with program(there.workspace) as server, server.client() as client:
        assert client.post("/v1/recommendations", json={"user_id": users[0]}).status_code == 401
        client.headers.update(headers)
        assert lists(client, users) == here
    for user in users[:3]:
        told = [cli("query", "--user", user, "--json", "-w", shop.workspace).stdout for shop in (days.shop, there)]
        one, other = (json.loads(text)["items"] for text in told)
        assert [(i["item_id"], i["score"]) for i in one] == [(i["item_id"], i["score"]) for i in other]
    assert not there.verify(deep=True).problems


def test_nothing_is_to_be_done_anew_where_it_is_restored(days, tmp_path):
    assert days.shop.update().up_to_date
    restored = molar.restore(days.shop.backup(tmp_path / "shop.tar.gz").file, tmp_path / "there")
    assert molar.open(restored.catalogue).update().up_to_date


def test_an_index_version_that_is_superseded_meanwhile_is_whole_in_it(days, tmp_path):
    first = days.workspace["generations"].pointer

    def publish():
        another_generation(days.workspace, keep=0)
        days.workspace["generations"].prune(0)

    found = backup.write_backup(days.workspace, tmp_path / "shop.tar.gz", progress=Meanwhile(publish))
    assert found.generation == first != days.workspace["generations"].pointer
    with open_generation(Workspace(molar.restore(found.file, tmp_path / "there").workspace)) as generation:
        assert generation.name == first


def test_a_table_that_is_written_meanwhile_is_there_as_a_whole(days, tmp_path):
    table = pa.table({"user_id": ["u"] * 9, "item_id": ["SKU-0001"] * 9, "timestamp": [1_700_000_000] * 9})
    path = days.folder / "interactions.parquet"
    found = backup.write_backup(
        days.workspace, tmp_path / "shop.tar.gz", progress=Meanwhile(lambda: pq.write_table(table, path))
    )
    restored = molar.restore(found.file, tmp_path / "there")
    assert (restored.catalogue / path.name).read_bytes() == path.read_bytes()
    assert (restored.catalogue / path.name).stat().st_mtime_ns == path.stat().st_mtime_ns


def test_settings_rules_photos_and_lists_of_people_are_in_it_and_what_is_not_is_said(days, tmp_path, monkeypatch):
    monkeypatch.setenv("MOLAR_INDEX_URL", "http://127.0.0.1:1")
    (days.folder.parent / "rules.toml").write_text('[[bury]]\nname = "late"\nwhere = "price > 90"\n')
    days.shop.privacy.object("u0001", later=True)
    found = days.shop.backup(tmp_path / "shop.tar.gz")
    assert any("molar index push" in one for one in found.notes)
    restored = molar.restore(found.file, tmp_path / "there")
    assert found.created in restored.notes[0]
    for name in ("molar.toml", "rules.toml", ".molar/suppressed.json"):
        assert (restored.folder / name).read_bytes() == (days.folder.parent / name).read_bytes()
    photos = {path.name for path in (days.folder / "images").iterdir()}
    assert photos == {path.name for path in (restored.catalogue / "images").iterdir()}
    assert Workspace(restored.workspace)["catalogue"].manifest.facts["folder"] == str(restored.catalogue)
    files = [path for path in restored.workspace.glob("generations/**/*") if path.is_file()]
    assert not [path for path in (restored.folder, restored.workspace, *files) if path.stat().st_mode & 0o077]


def test_a_shop_that_has_nothing_but_events_keeps_sealed_and_open_days(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "items.csv").write_text("item_id,title\na,Chair\n")
    shop = molar.open(tmp_path / "shop")
    past = {"event": "view", "user_id": "u", "item_id": "a"}
    for number, moment in enumerate((1.5e9, 1.6e9, time.time())):
        shop.events.append([{**past, "event_id": f"e{number}", "timestamp": moment}])
    assert shop.events.compact().sealed_files == 2
    found = shop.backup(tmp_path / "shop.tar.gz")
    assert (found.generation, found.events) == (None, 3)
    there = molar.open(molar.restore(found.file, tmp_path / "there").catalogue)
    assert there.events.table().to_pylist() == shop.events.table().to_pylist()
    assert there.events.append([{**past, "event_id": "e0", "timestamp": 1.5e9}]).repeated == 1


def test_every_name_in_a_workspace_is_known_to_be_in_a_backup_or_not(days):
    with client_of(days.shop.workspace) as client:
        client.post("/v1/events", json={"event_id": "e", "event": "view", "user_id": "u", "item_id": "SKU-0001"})
        client.post("/v1/recommendations", json={"user_id": "u"})
    days.shop.check()
    days.shop.update()
    names = {path.name for path in days.shop.workspace.iterdir()}
    known = {*backup.KINDS, *backup.FOLDERS, *backup.FILES, *backup.LEFT_OUT}
    assert names <= known
    assert {"serving", "events", "generations"} <= names


def test_a_newer_archive_and_a_name_that_is_taken_are_refused(days, tmp_path, monkeypatch):
    file = tmp_path / "shop.tar.gz"
    for version, fine in (("0.1.0", True), ("0.1.7", False)):
        monkeypatch.setattr(backup, "__version__", version)
        days.shop.backup(file)  # over the former one
        monkeypatch.undo()
        if fine:
            molar.restore(file, tmp_path / "there")
        else:
            with pytest.raises(molar.MolarError, match=r"0\.1\.7"):
                molar.restore(file, tmp_path / "elsewhere")
    (tmp_path / "list.csv").write_text("mine")
    with pytest.raises(molar.MolarError, match="no backup"):
        days.shop.backup(tmp_path / "list.csv")
    assert (tmp_path / "list.csv").read_text() == "mine"
    with pytest.raises(molar.MolarError, match="there already"):
        molar.restore(file, tmp_path / "there")
    assert not (tmp_path / "elsewhere").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"here", "there", "list.csv", file.name}
    assert os.access(tmp_path / "there" / ".molar" / "workspace.json", os.R_OK)
