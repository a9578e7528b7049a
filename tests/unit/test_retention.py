"""What is older than a shop keeps it is not read, and copies of it go by age."""

import json
import os
import shutil
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from typer.testing import CliRunner

import molar
from molar.doctor.people import people
from molar_cli.app import app
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.event_history import EventWeights
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import DAY, is_current, is_retained, prepare_interactions
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.privacy.retention import retained_copies
from molar_retrieval.quality.findings import FindingCollector
from molar_retrieval.workspace.activity_log import recorded
from molar_retrieval.workspace.artefacts import Manifest, Workspace

NOW = int(time.time())


def write(folder, rows, columns=("user_id", "item_id", "timestamp")):
    values = dict(zip(columns, zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table({name: list(column) for name, column in values.items()}), folder / "interactions.parquet")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    pq.write_table(pa.table({"item_id": list("abc"), "title": ["one", "two", "three"]}), folder / "items.parquet")
    return folder


@pytest.fixture
def workspace(folder, tmp_path):
    workspace = Workspace.for_catalogue(tmp_path / ".molar", folder)
    prepare_catalogue(folder, workspace)
    return workspace


def histories(workspace):
    log = Interactions.open(
        workspace["interactions"].require()[0], Catalogue.open(workspace["catalogue"].require()[0]).ids
    )
    return {log.users.id(row): "".join(log.items.ids(log.history(row))) for row in range(log.n_users)}


def test_interactions_of_more_days_are_not_read_and_people_without_others_are_nobody(folder, workspace):
    old, young = NOW - 40 * DAY, NOW - 5 * DAY
    write(folder, [("u", "a", old), ("u", "b", young), ("gone", "a", old), ("v", "c", young), ("v", "a", old)])
    before = time.time()
    facts = prepare_interactions(folder, workspace, keep_days=30).facts
    since = {(int(moment) // DAY - 30) * DAY for moment in (before, time.time())}
    assert histories(workspace) == {"u": "b", "v": "c"}
    assert facts["kept"].pop("since") in since
    assert facts["kept"] == {"days": 30, "oldest": young, "too_old": 3}
    assert is_current(folder, workspace, keep_days=30)
    assert not is_current(folder, workspace)
    assert not is_current(folder, workspace, keep_days=60)
    prepare_interactions(folder, workspace)
    assert histories(workspace) == {"u": "ab", "gone": "a", "v": "ac"}


def test_a_log_is_current_until_its_oldest_interaction_is_too_old(monkeypatch):
    facts = {"kept": {"days": 30, "oldest": 100 * DAY + 5}}
    assert is_retained(facts, 30, 130.99 * DAY)
    assert not is_retained(facts, 30, 131 * DAY)
    assert not is_retained(facts, None)
    assert not is_retained({}, 30, 0)


def test_events_are_as_old_as_what_is_in_the_file(folder, workspace):
    write(folder, [("u", "a", NOW - 40 * DAY), ("u", "b", NOW - DAY)])
    log = EventLog(workspace)
    for number, (user, days) in enumerate((("u", 3), ("u", 50), ("gone", 60))):
        moment = {"event_id": f"e{number}", "event": "purchase", "timestamp": NOW - days * DAY}
        log.append([(0, {**moment, "user_id": user, "item_id": "c"})])
    log.close()
    prepare_interactions(folder, workspace, kinds=EventWeights.of({"purchase": 1.0}), keep_days=30)
    assert histories(workspace) == {"u": "cb"}


def test_what_has_no_times_cannot_be_kept_for_a_time_and_nothing_left_is_said(folder, workspace):
    write(folder, [("u", "a", 5), ("v", "b", 7)])
    with pytest.raises(SettingsError, match="no times that are dates"):
        prepare_interactions(folder, workspace, keep_days=30)
    write(folder, [("u", "a")], columns=("user_id", "item_id"))
    with pytest.raises(SettingsError, match="no times that are dates"):
        prepare_interactions(folder, workspace, keep_days=30)
    write(folder, [("u", "a", NOW - 40 * DAY)])
    with pytest.raises(DataError, match="no interaction is of the last 30 days"):
        prepare_interactions(folder, workspace, keep_days=30)


def aged(path, days):
    for one in [path, *path.rglob("*")]:
        os.utime(one, (time.time() - days * DAY,) * 2)


@pytest.fixture
def shop(trained, tmp_path):
    """A workspace with copies of every kind, half of them of forty days ago."""
    root = tmp_path / ".molar"
    copy_workspace(trained.workspace, root, ignore=shutil.ignore_patterns("finetuned"))
    workspace = Workspace(root)
    folders = [f"evaluation/{name}" for name in ("splits/{}", "models/split/{}", "trials/{}", "walks/{}", "runs/{}")]
    for days in (40, 2):
        for pattern in (*folders, "evaluation/content/fine-tuned-{}", "alignment/{}.partial"):
            one = root / pattern.format(f"of-{days}")
            one.mkdir(parents=True)
            (one / "history").write_text("u1,a")
            aged(one, days)
        former = root / "generations" / f"of-{days}"
        former.mkdir()
        then = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - days * DAY))
        Manifest("generations", former.name, created=then).write(former)
    words = root / "evaluation/content/words"
    words.mkdir()
    aged(words, 40)
    settings = tmp_path / "molar.toml"
    settings.write_text("[privacy]\ncopy_retention_days = 30\n")
    assert len(retained_copies(workspace)) == 16
    return molar.Shop(trained.shop, root, settings)


def there(shop):
    return {f"{one.path.relative_to(shop.workspace)}" for one in retained_copies(Workspace(shop.workspace))}


def test_copies_go_by_age_and_what_answers_stays(shop):
    root = shop.workspace
    live = {kind: Workspace(root)[kind].current for kind in ("generations", "alignment", "interactions")}
    before = there(shop)
    (entry,) = [one for one in people(root) if one.name == "copies"]
    assert "8 copies of more than 30 days" in entry.problem
    assert len(shop.privacy.prune(dry_run=True)) == 8
    assert there(shop) == before
    with recorded(shop.opened(), "evaluate"):  # another process may be reading what it kept long ago
        gone = shop.privacy.prune()
    assert {one.what for one in gone} == {"generation", "unfinished"}
    done = CliRunner().invoke(app, ["privacy", "prune", "-w", str(root)])
    assert done.exit_code == 0, done.stderr
    assert there(shop) == {name for name in before if "40" not in name}
    assert (root / "evaluation/content/words").is_dir()
    assert live == {kind: Workspace(root)[kind].current for kind in live}
    (entry,) = [one for one in people(root) if one.name == "copies"]
    assert entry.problem is None


def test_a_command_prunes_as_it_ends(shop):
    root = shop.workspace
    shop.update()
    assert not any("40" in name for name in there(shop))
    assert any("of-2" in name for name in there(shop))
    assert (root / "generations/current").exists()


def test_without_a_time_nothing_goes(shop):
    shop.settings_file.write_text("")
    with pytest.raises(SettingsError, match="no time is set"):
        shop.privacy.prune()
    assert [one.problem for one in people(shop.workspace)] == [None, None]


def test_interactions_that_are_overdue_are_told(shop):
    shop.settings_file.write_text("[privacy]\nretention_days = 400\n")
    (entry,) = [one for one in people(shop.workspace) if one.name == "interactions"]
    assert entry.remedy == "run `molar update`"


def test_the_check_tells_of_nobody_who_they_are(tmp_path):
    path, who = tmp_path / "fix.jsonl", ("anna@example.org", "4711", "anna@example.org")
    with FindingCollector(path) as found:
        for row, user in enumerate(who, 1):
            found.add("log.burst", f"{user!r} has many", user_id=user, file="log.csv", row=row, others=("i",))
        shown = [found.anonymised(one) for one in found.examples("log.burst")]
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [(row["user_id"], row["row"]) for row in rows] == [("user 1", 1), ("user 2", 2), ("user 1", 3)]
    assert {one.user_id: one.detail for one in shown} == {f"user {n}": f"user {n} has many" for n in (1, 2)}
    assert not any(user in path.read_text("utf-8") + str(shown) for user in who)
