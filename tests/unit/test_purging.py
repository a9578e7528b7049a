"""Who is forgotten is in no file afterwards, and all that is made anew equals what never knew them, bit by bit."""

import json
from fnmatch import fnmatch

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from live_content import content_of
from planted_person import PLACES, plant
from qdrant_fake import fake_qdrant
from settings_for_tests import SMALL_ALIGNMENT
from support.person_scan import PersonScan
from typer.testing import CliRunner

import molar
from molar.doctor.privacy import privacy
from molar.purging import Purge
from molar_cli.app import app
from molar_indexes.privacy import purging
from molar_indexes.privacy.certificate import FOLDER, faults_of
from molar_indexes.privacy.report.page import certificate_page
from molar_retrieval.encoders import head
from molar_retrieval.errors import DataError, RequestError, StaleArtefactError
from molar_retrieval.experiments.definition import Arm, Experiment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.retention import retained_copies
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.files import read_lock

ALIGN = "\n".join(f"{name} = {json.dumps(value)}" for name, value in {**SMALL_ALIGNMENT, "epochs": 1}.items())


@pytest.fixture(scope="module")
def done(trained, tmp_path_factory):
    """A person who is everywhere, also on a server, is forgotten: shop, what was there before, what was done."""
    root = tmp_path_factory.mktemp("forgotten")
    with fake_qdrant() as fake, pytest.MonkeyPatch.context() as patched:
        place = plant(trained, root)
        (root / "molar.toml").write_text(f'[align]\n{ALIGN}\n[index]\nusers = "server"\ntimeout = 30\n')
        patched.setenv("MOLAR_INDEX_URL", fake.url)
        place.shop.push()
        (root / ".molar/alignment/killed.partial").mkdir()
        (root / ".molar/alignment/killed.partial/best.safetensors").write_bytes(b"\0" * 9)
        (root / ".molar/recommendations.csv").write_text(f"user_id,item_id\n{place.user},SKU-0001\n")
        person = PersonScan.of(place.shop.opened(), place.user)
        before = place.shop.privacy.scan(place.user), person.scan([root / ".molar", root / "shop"])
        live = {kind: Workspace(root / ".molar")[kind].current.name for kind in ("generations", "alignment", "als")}
        forgotten = place.shop.privacy.forget(place.user, reason="asked by letter")
        collections = sorted(one.name for one in place.shop.collections())
        after = person.scan([root / ".molar"])
    return place, (*before, after), live, forgotten, collections


def test_a_person_is_in_every_place_before_and_in_none_after(done):
    place, (before, everywhere, after), live, forgotten, collections = done
    found = {one.file for one in everywhere if one.state == "found"}
    for pattern in (one for one in PLACES if one.startswith((".molar", "shop"))):
        assert any(fnmatch(name, pattern) for name in found), pattern
    assert ".molar/recommendations.csv" in found
    assert any("/" in one.file and not one.file.startswith((".molar", "shop")) for one in before.found), "the server"
    assert {one.state for one in after} == {"clean"}, "ids, history, vectors: all that was known of them before"
    assert {one.state for one in forgotten.certificate.files} == {"clean"}
    (person,) = forgotten.certificate.people
    assert (person.before.found, person.after.found, person.after.hits, person.after.not_proven) == (
        sum(not one.file.startswith("shop") for one in before.found), 0, 0, 0,
    )  # fmt: skip
    assert forgotten.pending == []
    workspace = place.shop.opened()
    assert retained_copies(workspace) == []
    assert forgotten.certificate.generations == [live["generations"]]
    assert all(workspace[kind].current.name != name for kind, name in live.items())
    assert len(workspace["generations"].versions()) == 1
    assert len(collections) == 2
    assert len(forgotten.certificate.collections) == 2


def test_the_certificate_names_nobody_and_says_what_is_out_of_reach(done):
    place, _, live, forgotten, _ = done
    one = forgotten.certificate
    assert one.artefacts["generations"][0] == live["generations"]
    assert all(former != fresh for former, fresh in one.artefacts.values())
    assert one.removed["evaluation"] >= 3
    assert (one.removed["unfinished"], one.removed["pages"]) == (1, 2)
    beyond = {(found.what, found.count) for found in one.beyond}
    rows = pq.read_table(place.root / "shop/interactions.parquet")
    assert ("source", pc.sum(pc.equal(rows["user_id"], place.user)).as_py()) in beyond
    assert {"backups", "recipients", "elsewhere"} <= {what for what, _ in beyond}
    assert "other" not in {what for what, _ in beyond}
    text = (place.root / ".molar" / FOLDER / "000001.json").read_text("utf-8")
    pages = [certificate_page(one, language) for language in ("en", "de", "ja")]
    assert place.user not in text + "".join(pages)
    assert one.people[0].hashes[0] == SuppressionList.of(place.root / ".molar").hash(place.user)
    for page in pages:
        assert one.digest in page
        assert one.people[0].hashes[0] in page
    assert {file.file for file in one.files} >= {".molar/suppressed.json"}
    assert all(len(file.digest) == 32 for file in one.files if file.file.startswith(".molar"))
    with pytest.raises(RequestError, match="speaks no"):
        certificate_page(one, "fr")


def test_what_was_made_anew_equals_what_never_knew_the_person(done, trained, tmp_path):
    """All tensors, tables and lists; only names, times and numbers of versions are others."""
    place = done[0]
    never = tmp_path / "never"
    copy_workspace(trained.shop, never / "shop")
    for name in ("interactions", "users"):
        path = never / "shop" / f"{name}.parquet"
        table = pq.read_table(path)
        pq.write_table(table.filter(pc.not_equal(table["user_id"], place.user)), path)
    for kind in ("catalogue", "content"):
        copy_workspace(trained.workspace / kind, never / ".molar" / kind)
    (never / ".molar/workspace.json").write_bytes((trained.workspace / "workspace.json").read_bytes())
    (never / "molar.toml").write_text(f"[align]\n{ALIGN}\n")
    shop = molar.Shop(never / "shop", never / ".molar", never / "molar.toml")
    shop.align()
    ours, theirs = content_of(place.root / ".molar"), content_of(never / ".molar")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert len(ours) > 12


def test_requests_that_wait_are_finished_by_the_next_alignment_and_certificates_are_a_chain(done):
    place = done[0]
    settings = place.root / "later.toml"
    settings.write_text('[align]\npreset = "instant"\nthreads = 1\n')
    shop = molar.Shop(place.root / "shop", place.root / ".molar", settings)
    workspace = shop.opened()
    one, two = pq.read_table(place.root / "shop/users.parquet")["user_id"].to_pylist()[:2]
    asked = shop.privacy.forget(one, later=True)
    assert (asked.certificate, asked.pending) == (None, ["rebuilt", "purged"])
    shop.privacy.object(two, later=True)
    (entry,) = [found for found in privacy(workspace.root) if found.name == "suppressed"]
    assert entry.remedy == "run `molar align`"
    shop.align()
    first, second = shop.privacy.certificates()
    assert second.former == first.digest
    assert [(person.kind, person.before, person.after) for person in second.people] == [
        ("forgotten", None, None), ("objected", None, None),
    ]  # fmt: skip
    assert [person.pending for person in SuppressionList.of(workspace.root).people] == [[], [], []]
    users = pq.read_table(workspace["interactions"].current / "users.parquet")["user_id"].to_pylist()
    assert {one, two}.isdisjoint(users)
    page = ["--page", str(place.root / "2.html"), "--language", "de", "-w", str(workspace.root)]
    told = CliRunner().invoke(app, ["privacy", "certificate", "2", *page])
    assert told.exit_code == 0, told.stderr
    assert "Bescheinigung 2" in (place.root / "2.html").read_text("utf-8")
    with pytest.raises(RequestError, match="21 people at once"):
        shop.privacy.forget([f"nobody-{number}" for number in range(21)])
    with pytest.raises(RequestError, match="no certificate 7"):
        shop.privacy.certificate(7)


def test_a_certificate_that_was_changed_or_taken_out_is_seen(done):
    place = done[0]
    workspace = place.shop.opened()
    paths = sorted((workspace.root / FOLDER).glob("*.json"))
    assert faults_of(workspace) == []
    text = paths[0].read_text("utf-8")
    paths[0].write_text(text.replace('"forgotten"', '"objected"'), "utf-8")
    assert faults_of(workspace) == ["000001.json was changed"]
    with pytest.raises(DataError, match="chain of certificates is broken"):
        place.shop.privacy.certificates()
    (entry,) = [found for found in privacy(workspace.root) if found.name == "certificates"]
    assert "000001.json was changed" in entry.problem
    paths[0].unlink()
    assert faults_of(workspace) == ["before 000002.json one is missing"]
    paths[0].write_text("{", "utf-8")
    assert "cannot be read" in faults_of(workspace)[0]
    paths[0].write_text(text, "utf-8")
    assert faults_of(workspace) == []


def generation(workspace, name):
    folder = workspace["generations"].root / name
    folder.mkdir(parents=True)
    Manifest("generations", name).write(folder)
    return folder


def test_a_former_generation_that_is_read_or_shown_is_named_as_still_there(tmp_path, monkeypatch):
    monkeypatch.setattr(purging, "_PATIENCE", 0.1)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/items.csv").write_text("item_id,title\na,A\n")
    workspace = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    folders = {name: generation(workspace, name) for name in ("live", "former", "read", "shown")}
    workspace["generations"].switch("live")
    with ExperimentStore(workspace, make=True) as store:
        store.start(Experiment("autumn", treatment=Arm(generation="shown"), salt="1"), "canary", 50, "anna")
    with read_lock(folders["read"]):
        gone, still = purging.remove_former(workspace)
    assert gone == ["former"]
    assert [(one.what, one.name) for one in still] == [("held", "read"), ("shown", "shown")]
    assert purging.remove_former(workspace)[0] == ["read"]
    assert purging.shown(workspace) == ["shown"]
    assert {path.name for path in workspace["generations"].versions()} == {"live", "shown"}


def test_what_cannot_be_made_anew_is_told_and_waits(tmp_path, monkeypatch):
    def stale(_):
        raise StaleArtefactError("the catalogue has changed", "run `molar embed`")

    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/items.csv").write_text("item_id,title\na,A\n")
    workspace = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    monkeypatch.setattr(Purge, "rebuild", stale)
    told = CliRunner().invoke(app, ["privacy", "forget", "-", "-w", str(workspace.root)], input="forgetme-0500\n")
    assert told.exit_code == 1
    assert "what was learnt of them: the catalogue has changed; run `molar embed`" in " ".join(told.stdout.split())
    assert faults_of(workspace) == []
    assert not (workspace.root / FOLDER).exists()
    (person,) = SuppressionList.of(workspace.root).people
    assert person.pending == ["rebuilt", "purged"]


def test_an_encoder_that_learnt_from_histories_is_not_proven(tmp_path):
    tuned = tmp_path / ".molar/finetuned"
    tuned.mkdir(parents=True)
    workspace = Workspace(tmp_path / ".molar")
    assert purging.learnt(workspace) == []
    head.write_account(tuned, {"interactions": 0})
    assert purging.learnt(workspace) == []
    head.write_account(tuned, {"interactions": 1234})
    (found,) = purging.learnt(workspace)
    assert (found.what, found.count) == ("weights", 1234)
