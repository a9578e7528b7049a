"""A person is found in every place where molar puts people, and one who was never there in none."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from planted_person import PLACES, plant
from qdrant_fake import fake_qdrant
from served import patient
from support.person_scan import AS_IDS, CASE, FACTORS, HISTORY, VECTOR, PersonScan
from typer.testing import CliRunner

import molar
from molar_cli.app import app
from molar_indexes.privacy.server import scan_server
from molar_indexes.privacy.stored import KnownPerson
from molar_indexes.server.client import connected
from molar_retrieval.errors import RequestError


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    return plant(trained, tmp_path_factory.mktemp("privacy"))


@pytest.fixture(scope="module")
def report(place):
    return place.shop.privacy.scan(place.user, also=[place.root / "lists", place.root / "run"])


def test_a_person_is_found_in_every_place(place):
    """By the search of the tests, which looks for histories and vectors as well."""
    folders = [place.root / name for name in (".molar", "shop", "lists", "run")]
    files = PersonScan.of(place.shop.opened(), place.user).scan(folders)
    found = {one.file for one in files if one.state == "found"}
    for pattern in PLACES:
        there = {f"{path.relative_to(place.root)}" for path in place.root.glob(pattern)}
        assert there, pattern
        if "scores" in pattern or "events" in pattern:  # one model's; the last events are in the log of the database
            assert there & found, pattern
        else:
            assert there <= found, (pattern, there - found)
    assert "run/examples.json" in found
    whats = {finding.what for one in files for finding in one.findings}
    assert whats >= {"their id", "their session", HISTORY, AS_IDS, VECTOR, FACTORS, CASE}


def test_the_ids_of_a_person_are_found_wherever_they_stand(place, report):
    found = {one.file for one in report.found}
    for pattern in PLACES:
        there = {f"{path.relative_to(place.root)}" for path in place.root.glob(pattern)}
        if pattern.startswith("shop/") or pattern.endswith(("users.parquet", "users.sqlite", "check.html")):
            assert there <= found, (pattern, there - found)
    assert {".molar/experiments/experiments.sqlite", "run/examples.json", "lists/recommendations.parquet"} <= found
    assert {finding.what for one in report.found for finding in one.findings} >= {"their id", "their session"}
    assert [one.file for one in report.not_proven] == ["lists/stolen.bin"]
    assert "histories and vectors are not looked for, only ids" in report.notes
    assert sum(report.decoders.values()) == len(report.files)
    assert place.user not in json.dumps({**report.to_dict(), "found": []})


def test_an_id_may_come_on_standard_input(place):
    told = ["query", "--user", "-", "-k", "3", "--json", "--workspace", str(place.root / ".molar")]
    done = CliRunner().invoke(app, told, input=f"{place.user}\n")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["user_id"] == place.user


def test_what_has_people_in_it_is_for_its_owner_alone(place, report):
    made = [place.root / one.file for one in report.found if not one.file.startswith("shop/")]
    assert len(made) > 6
    for file in made:
        if file.name not in {"stolen.bin", "check.html"}:  # which this test wrote
            assert file.stat().st_mode & 0o077 == 0, file


def test_who_was_never_there_is_nowhere_and_what_is_not_known_is_not_proven(place):
    """By the command, which reads the id from standard input."""
    where = ["--workspace", str(place.root / ".molar"), "--also", str(place.root / "lists"), "--json", "--quiet"]
    done = CliRunner().invoke(app, ["privacy", "scan", "-", "--expect", "none", *where], input="zz-nobody\n")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["found"] == []
    assert [one["file"] for one in told["not_proven"]] == ["lists/stolen.bin"]
    empty = CliRunner().invoke(app, ["privacy", "scan", "-", *where], input="\n")
    assert empty.exit_code == 1
    assert "the id is empty" in json.loads(empty.stdout)["error"]
    with pytest.raises(RequestError, match="there is no"):
        place.shop.privacy.scan("u", also=[place.root / "nowhere"])


def test_history_and_vectors_of_somebody_are_not_in_files_that_never_had_people(place):
    person = PersonScan.of(place.shop.opened(), place.user)
    assert {HISTORY, VECTOR, FACTORS} <= person.windows.counts.keys()
    assert person.sequences
    clean = place.root / "clean"
    clean.mkdir()
    for name in (".molar/content", ".molar/catalogue", ".molar/generations"):
        copy_workspace(place.root / name, clean / name, shutil.ignore_patterns("users.sqlite", "shard"))
    assert {one.state for one in person.scan([clean])} == {"clean"}


def test_points_of_a_person_on_a_server_are_found(place, monkeypatch):
    with fake_qdrant() as fake:
        server = patient(fake.url, users="server")
        settings = place.root / "server.toml"
        settings.write_text('[index]\nusers = "server"\ntimeout = 30\n')
        monkeypatch.setenv("MOLAR_INDEX_URL", fake.url)
        molar.Shop(place.root / "shop", place.root / ".molar", settings).push()
        with connected(server) as connection:
            found = scan_server(connection, KnownPerson(place.user, place.user, [place.user], []))
            nobody = scan_server(connection, KnownPerson("zz-nobody", "zz-nobody", ["zz-nobody"], []))
    assert {one.state for one in nobody} == {"clean"}
    states = {one.file.rsplit("/", 1)[1].startswith("molar.users"): one for one in found}
    assert {finding.what for finding in states[True].findings} == {"their point", "their id in a payload"}
    assert states[False].state == "clean"


def test_everything_that_is_stored_on_a_person_is_given(place):
    out, page = place.root / "o.json", place.root / "o.html"
    command = ["privacy", "export", "-", "--out", str(out), "--page", str(page)]
    done = CliRunner().invoke(app, [*command, "-w", str(place.root / ".molar")], input=f"{place.user}\n")
    assert done.exit_code == 0, done.stderr
    assert {path.stat().st_mode & 0o777 for path in (out, page)} == {0o600}
    given = json.loads(out.read_text("utf-8"))
    parts = {part["name"]: part["rows"] for part in given["parts"]}
    taken = pq.read_table(place.root / "shop/interactions.parquet", filters=[("user_id", "=", place.user)])
    assert len(parts["purchases and other interactions"]) == len(taken)
    history = [(row["item_id"], bool(row["title"])) for row in parts["history"]]
    assert sorted(history) == sorted((item, True) for item in taken["item_id"].to_pylist())
    assert [row["user_id"] for row in parts["profile"]] == [place.user]
    assert sorted(row["event_id"] for row in parts["events"]) == ["e0", "e1", "e2"]
    assert [(row["experiment"], row["arm"]) for row in parts["experiments"]] == [("autumn", "control")]
    assert {row["what"] for row in parts["computed"]} == {"vector of taste", "factors of who takes what"}
    assert parts["copies for evaluations"]
    assert all(part["about"] for part in given["parts"])
    assert any("backups" in one for one in given["not_included"])
    assert not any("short" in one for one in given["not_included"])
    shown = page.read_text("utf-8")
    assert all(name in shown for name in (*parts, place.user, "web-77-a"))


def test_of_a_stranger_nothing_is_stored(place):
    found = place.shop.privacy.export("<b>zz</b>", page=place.root / "zz.html")
    assert found.rows == 0
    assert "<b>zz" not in (place.root / "zz.html").read_text("utf-8")
    with pytest.raises(RequestError, match="the id is empty"):
        place.shop.privacy.export("")
