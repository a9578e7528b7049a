"""Another key for the pseudonyms of a workspace: other names everywhere, former ones nowhere; nothing else changes."""

import json
import os
import random
import shutil
import signal
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from qdrant_fake import fake_qdrant
from typer.testing import CliRunner
from updates import Days, another_generation

import molar
from molar_cli.app import app
from molar_eval.splits import leave_one_out
from molar_indexes.generations import open_generation
from molar_indexes.privacy.key_rotation import rotate
from molar_indexes.privacy.server import scan_server
from molar_indexes.privacy.stored import KnownPerson
from molar_indexes.recommender import Recommender
from molar_indexes.server.client import connected
from molar_indexes.server.collections import published
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.push import push
from molar_indexes.verify import verify
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.event_log_reader import snapshot
from molar_retrieval.errors import DataError, SettingsError, StaleArtefactError
from molar_retrieval.experiments.definition import Arm, Experiment
from molar_retrieval.experiments.records import Assignment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.models.als import open_log
from molar_retrieval.models.refresh import refresh
from molar_retrieval.privacy.id_scan import IdPatterns, Name, scan
from molar_retrieval.privacy.pseudonyms import FILE, Pseudonymiser, hashed, new_key, read_keys, write_keys
from molar_retrieval.privacy.suppression import EVER, NEVER, SuppressionList, suppress
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.activity_log import recorded
from molar_retrieval.workspace.artefacts import SWITCHING, Workspace
from molar_retrieval.workspace.files import read_lock
from molar_retrieval.workspace.settings import IndexSettings, PrivacySettings

KILLS = int(os.environ.get("MOLAR_TEST_KILLS", "3"))
TESTS = Path(__file__).resolve().parents[1]
MOMENT = {"timestamp": "2026-11-20T10:00:00Z"}
SESSION, VISITOR = "web-77-abc", "visitor-93-xyz"


@dataclass
class Place:
    """A workspace that names a person in all places; the keys lie at ``keys``."""

    workspace: Workspace
    keys: Path
    user: str

    @property
    def settings(self):
        return PrivacySettings(ids="pseudonymous", key_file=self.keys)

    def rotate(self, index=None):
        return rotate(self.workspace, self.settings, index or IndexSettings())


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    days = Days(trained, tmp_path_factory.mktemp("rotation"))
    place, user = days.workspace, "u0004"
    with closing(EventLog(place)) as log:
        every = [
            {"event": "identify", "user_id": user, "session_id": SESSION},
            {"event": "purchase", "user_id": user, "item_id": "SKU-0001", "transaction_id": "t1"},
            {"event": "purchase", "session_id": VISITOR, "item_id": "SKU-0002", "transaction_id": "t2"},
            {"event": "view", "session_id": SESSION, "item_id": "SKU-0003"},
        ]
        rows = [{"event_id": f"e{n}", **MOMENT, **one} for n, one in enumerate(every)]
        log.append(enumerate(rows, 1))
        days.shop.update()
        place["generations"].prune(0)  # those that do not have the events would keep them from being sealed
        assert log.compact(today=20_800).sealed_lines == 3
        log.append([(1, {"event_id": "e9", "event": "view", "user_id": user, "item_id": "SKU-0004", **MOMENT})])
        assert log.append([(1, {"event_id": "e8", "event": user, "user_id": user, **MOMENT})]).refused
    another_generation(place)
    with ExperimentStore(place, make=True) as store:
        store.start(Experiment("autumn", treatment=Arm(options={"diversity": 0.3}), salt="1"), "shadow", 100, "anna")
        store.assign([Assignment("autumn", unit, "control", 1) for unit in (user, f"@session:{VISITOR}")])
    leave_one_out(open_log(place)).save(place.root / "evaluation/splits")
    scores = place.root / "evaluation/runs/one/scores/last/popularity/seed-0.parquet"
    scores.parent.mkdir(parents=True)
    pq.write_table(pa.table({"case": [0], "user": [user], "ndcg": [0.5]}), scores)
    (place.root / "serving").mkdir(exist_ok=True)
    (place.root / "serving/answers.sqlite").write_bytes(user.encode())
    return Place(place, days.folder.parent / "keys", user)


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    monkeypatch.setenv("MOLAR_PRIVACY_KEY_FILE", str(tmp_path / "keys"))
    copy_workspace(made.workspace.root, tmp_path / ".molar")
    return Place(Workspace(tmp_path / ".molar"), tmp_path / "keys", made.user)


def named_in(place, *names):
    """Files of the workspace in which a name is."""
    files = scan([place.workspace.root], IdPatterns([Name(name, "it") for name in names]))
    return [one.file for one in files if one.state == "found"]


def lists(workspace, *names):
    with Recommender.open(workspace.root) as recommender:
        return [
            [(one.item_id, one.score) for one in recommender.query(name, k=8, explore=False).items] for name in names
        ]


def state(place):
    """All that a rotation leaves, but for names and moments."""
    root, kinds = place.workspace.root, ("interactions", "als", "alignment", "generations")
    versions = [folder for kind in kinds for folder in place.workspace[kind].versions()]
    assert [problem for one in versions for problem in artefacts.check_inventory(one, digests=True)] == []
    with open_generation(place.workspace) as generation:
        assert verify(generation, place.workspace, deep=True) == []
    assert not (root / "rotation").exists()
    names = Pseudonymiser.of(root)
    with snapshot(place.workspace) as log, ExperimentStore(place.workspace) as experiments:
        events = [
            (row["user_id"], row["session_id"], row["item_id"]) for one in log.tables() for row in one.to_pylist()
        ]
        units = experiments.assigned("autumn", [names.user(place.user), f"@session:{names.session(VISITOR)}"])
    arms = list(units.values())
    return [folder.name for folder in versions], sorted(events, key=str), arms, open_log(place.workspace).users


def test_the_first_key_and_another_one(place):
    user, others = place.user, ["u0001", "u0002"]
    before, answers = state(place), lists(place.workspace, user, *others)
    assert len(named_in(place, user)) >= 12
    done = place.rotate()
    assert (done.keys, done.ended, done.people) == (1, False, len(before[3]))
    assert place.keys.stat().st_mode & 0o777 == 0o600
    first = Pseudonymiser.of(place.workspace.root)
    assert first.keys == read_keys(place.keys)
    assert named_in(place, user, SESSION, VISITOR) == []
    after = state(place)
    assert after[0] == before[0]
    assert after[2] == before[2] == ["control", "control"]
    *users, visitor = before[3].array.to_pylist()
    assert after[3].array.to_pylist() == [*map(first.user, users), f"@session:{first.session(VISITOR)}"]
    assert visitor == f"@session:{VISITOR}"
    renamed = [(who and first.user(who), session and first.session(session), item) for who, session, item in before[1]]
    assert after[1] == sorted(renamed, key=str)
    called = [first.user(one) for one in (user, *others)]
    assert lists(place.workspace, *called) == answers
    assert refresh(place.workspace).up_to_date
    split = place.workspace.root.glob("evaluation/splits/*/split.json")
    assert [json.loads(one.read_text())["people"] for one in split] == [open_log(place.workspace).users.digest]
    assert not (place.workspace.root / "serving/answers.sqlite").exists()
    with closing(EventLog(place.workspace)) as log:
        again = {**MOMENT, "event": "purchase", "user_id": called[0], "item_id": "SKU-0001", "transaction_id": "t1"}
        assert log.append([(1, {"event_id": "other", **again})]).repeated == 1  # known by order, person and item
    done = place.rotate()
    assert done.keys == 2
    second = Pseudonymiser.of(place.workspace.root)
    assert second.keys[0] == first.keys[0]
    assert named_in(place, called[0], first.session(SESSION), first.session(VISITOR)) == []
    assert lists(place.workspace, *[second.user(one) for one in (user, *others)]) == answers
    assert second.user(user) == hashed(called[0], second.keys[1:])
    state(place)


def test_who_is_left_out_stays_so_under_the_new_name(place):
    suppress(place.workspace.root, "objected", {place.user: [SESSION]})
    for _ in range(2):
        place.rotate()
        listed, names = SuppressionList.of(place.workspace.root), Pseudonymiser.of(place.workspace.root)
        assert listed.user(place.user) == listed.keyed(names.user(place.user)) == EVER
        assert listed.keyed(names.user("u0001")) == NEVER


def test_keys_that_are_there_are_taken(place, tmp_path):
    write_keys(place.keys, (new_key(), new_key()))
    assert place.rotate().keys == 2
    assert len(read_keys(place.keys)) == 2


def test_it_refuses_while_somebody_answers_reads_or_writes(place, monkeypatch):
    live = place.workspace["generations"].require()[0]
    with read_lock(live), pytest.raises(DataError, match=f"answers from generation {live.name}"):
        place.rotate()
    with recorded(place.workspace, "align"), pytest.raises(DataError, match="`molar align` is at work"):
        place.rotate()
    with place.workspace.lock("alignment"), pytest.raises(DataError, match="writing the alignment"):
        place.rotate()
    with closing(EventLog(place.workspace)), pytest.raises(DataError, match=r"another process has .*log.sqlite open"):
        place.rotate()
    monkeypatch.delenv("MOLAR_PRIVACY_KEY_FILE")
    with pytest.raises(SettingsError, match="nothing says where the key"):
        rotate(place.workspace, PrivacySettings(), IndexSettings())
    with pytest.raises(SettingsError, match="beside what it is to protect"):
        rotate(
            place.workspace, PrivacySettings(ids="pseudonymous", key_file=place.workspace.root / "k"), IndexSettings()
        )
    assert not place.keys.exists()
    assert not (place.workspace.root / FILE).exists()


def child(warm, place, last):
    """A rotation that kills itself at its n-th change of the disk; whether it was killed, and what it told."""
    done = warm.run(TESTS / "rotation_child.py", place.workspace.root, place.keys, last, cwd=TESTS)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0, done.stdout


def test_killed_anywhere(place, warm, tmp_path, monkeypatch):
    key = new_key()
    whole = Place(Workspace(tmp_path / "undisturbed"), place.keys, place.user)
    copy_workspace(place.workspace.root, whole.workspace.root)
    write_keys(place.keys, (key,))
    killed, told = child(warm, whole, 0)
    assert not killed
    expected, total, dice, found = state(whole), int(told), random.Random(7), set()
    for number in range(KILLS):
        one = Place(Workspace(tmp_path / f"killed-{number}"), tmp_path / f"keys-{number}", place.user)
        copy_workspace(place.workspace.root, one.workspace.root)
        write_keys(one.keys, (key,))
        monkeypatch.setenv("MOLAR_PRIVACY_KEY_FILE", str(one.keys))
        last = dice.randint(1 + total * number // KILLS, total * (number + 1) // KILLS)
        assert child(warm, one, last)[0]
        switching = (one.workspace.root / SWITCHING).exists()
        found.add(switching)
        if switching:
            with pytest.raises(StaleArtefactError, match="was interrupted"):
                Workspace.open(one.workspace.root)
            place_of = ["--workspace", str(one.workspace.root)]
            done = CliRunner().invoke(
                app, ["privacy", "rotate", "--quiet", *place_of], env={"MOLAR_PRIVACY_IDS": "pseudonymous"}
            )
            assert done.exit_code == 0, done.output
        else:
            Workspace.open(one.workspace.root)
            one.rotate()
        names = Pseudonymiser.of(one.workspace.root)
        if len(names.keys) == 1:
            assert state(one) == expected, f"killed at change {last} of {total}"
        assert named_in(one, place.user, SESSION, VISITOR) == []
        shutil.rmtree(one.workspace.root)
    assert True in found


def test_people_on_a_server_are_published_anew(place):
    with fake_qdrant() as fake:
        index = IndexSettings(url=fake.url, users="server", timeout=30)
        push(place.workspace, index)
        server = ServerConfig.of(index)
        with connected(server) as connection:
            (before,) = published(connection, server.people)
        done = place.rotate(index)
        assert done.collections == (before.name,)
        names = Pseudonymiser.of(place.workspace.root)
        with connected(server) as connection:
            found = scan_server(connection, KnownPerson(place.user, place.user, [place.user], []))
            assert {one.state for one in found} == {"clean"}
            assert [one.live for one in published(connection, server.people)] == [True]
        with Recommender.open(place.workspace.root, server=server) as recommender:
            assert recommender.query(names.user(place.user), k=3).items


def test_by_the_front_door(place, trained):
    """Asked by the shop's ids before and after: by the command, with settings that say where the keys are to lie."""
    root = place.workspace.root.parent
    (root / "molar.toml").write_text('[privacy]\nids = "pseudonymous"\n')
    shop, where = molar.Shop(trained.shop, place.workspace.root), ["--workspace", str(place.workspace.root), "--json"]
    answers = [shop.query(name, k=5, explore=False).items for name in (place.user, "u0001")]
    for keys in (1, 2):
        done = CliRunner().invoke(app, ["privacy", "rotate", "--quiet", *where])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["keys"] == keys
        assert [shop.query(name, k=5, explore=False).items for name in (place.user, "u0001")] == answers
    assert not (place.workspace.root / "rotation").exists()
