"""Who is forgotten is gone from a shop that names people by pseudonyms, and from one on statistics with noise, too.

What is made anew equals, bit by bit, a shop of the same kind that never had the person.
"""

import json
import random
from types import SimpleNamespace

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from live_content import content_of
from settings_for_tests import SMALL_ALIGNMENT
from support.person_scan import PersonScan
from typer.testing import CliRunner

import molar
from molar_cli.app import app
from molar_indexes.privacy.certificate import faults_of
from molar_retrieval.errors import RequestError
from molar_retrieval.privacy import mechanism
from molar_retrieval.privacy.ledger import PrivacyLedger
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.workspace.artefacts import Workspace

SUITE = 'description = "one"\nmodels = ["popularity"]\nresamples = 100\n[[splits]]\nsplit = "temporal"\n'
SESSION, MOMENT = "web-77-a", "2026-11-20T10:00:00Z"


def shop_in(folder, trained, privacy, without=None):
    """An embedded shop that was not aligned yet; its log has nobody of the name ``without``."""
    copy_workspace(trained.shop, folder / "shop")
    for kind in ("catalogue", "content"):
        copy_workspace(trained.workspace / kind, folder / ".molar" / kind)
    (folder / ".molar/workspace.json").write_bytes((trained.workspace / "workspace.json").read_bytes())
    for name in ("interactions", "users"):
        path = folder / f"shop/{name}.parquet"
        table = pq.read_table(path)
        pq.write_table(table.filter(pc.not_equal(table["user_id"], without or "")), path)
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**SMALL_ALIGNMENT, "epochs": 1}.items()]
    told = [f"{name} = {json.dumps(value)}" for name, value in privacy.items()]
    (folder / "molar.toml").write_text("\n".join(["[align]", *lines, "[privacy]", *told]))
    return molar.Shop(folder / "shop", folder / ".molar", folder / "molar.toml")


def bought(shop, user):
    """The person buys and looks around, as a user and in a session, and is in an evaluation."""
    one = {"timestamp": MOMENT, "item_id": "SKU-0001"}
    done = shop.events.append([
        {**one, "event_id": "e1", "event": "purchase", "user_id": user, "transaction_id": "t1"},
        {**one, "event_id": "e2", "event": "identify", "user_id": user, "session_id": SESSION, "item_id": None},
        {**one, "event_id": "e3", "event": "purchase", "session_id": SESSION, "item_id": "SKU-0002"},
    ])  # fmt: skip
    assert done.accepted == 3, done
    shop.align()
    suite = shop.workspace.parent / "one.toml"
    suite.write_text(SUITE)
    shop.evaluate(str(suite))


def in_workspace(report):
    return [one.file for one in report.found if one.file.startswith(".molar")]


def same(one, other):
    ours, theirs = content_of(one.workspace), content_of(other.workspace)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    return ours


@pytest.fixture(scope="module")
def keyed(trained, tmp_path_factory):
    """A shop with pseudonyms, the keys of which know somebody who is forgotten by the command."""
    root = tmp_path_factory.mktemp("keyed")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MOLAR_PRIVACY_KEY_FILE", str(root / "keys"))
        settings = {"ids": "pseudonymous"}
        shop = shop_in(root / "with", trained, settings)
        bought(shop, trained.user)
        before, person = shop.privacy.scan(trained.user), PersonScan.of(shop.opened(), trained.user)
        names = Pseudonymiser.of(shop.workspace)
        where = ["-w", str(shop.workspace), "--json", "--quiet"]
        done = CliRunner().invoke(app, ["privacy", "forget", "-", *where], input=f"{trained.user}\n")
        assert done.exit_code == 0, done.output
        left = person.scan([shop.workspace])
        yield root, settings, shop, before, names, (json.loads(done.stdout), left)


def test_pseudonyms_of_somebody_forgotten_are_nowhere(keyed, trained):
    _, _, shop, before, names, (done, left) = keyed
    assert {one.state for one in left} == {"clean"}, "ids, history, vectors: all that was known of them before"
    found = in_workspace(before)
    for kind in ("interactions/", "alignment/", "generations/", "events/", "evaluation/splits/"):
        assert any(name.startswith(f".molar/{kind}") for name in found), (kind, found)
    assert (done["pending"], done["failed"]) == ([], {})
    (person,) = done["certificate"]["people"]
    assert person["before"]["found"] == len(found)
    assert (person["after"]["found"], person["after"]["hits"], person["after"]["not_proven"]) == (0, 0, 0)
    called = [trained.user, names.user(trained.user), SESSION, names.session(SESSION)]
    for name in called:
        after = shop.privacy.scan(name)
        assert in_workspace(after) == []
        assert [one.file for one in after.files if one.file.startswith(".molar") and one.state != "clean"] == []
    told = "".join(path.read_text("utf-8") for path in (shop.workspace / "privacy/certificates").iterdir())
    assert not any(name in told for name in called)
    assert Pseudonymiser.of(shop.workspace).keys == names.keys


def test_what_is_made_anew_by_pseudonyms_equals_what_never_knew_the_person(keyed, trained):
    root, settings, shop, _, names, _ = keyed
    never = shop_in(root / "without", trained, settings, without=trained.user)
    never.align()
    assert Pseudonymiser.of(never.workspace).keys == names.keys
    ours = same(shop, never)
    (people,) = (table["user_id"] for name, table in ours.items() if name == "interactions/users.parquet")
    assert all(name.startswith("~") for name in people)
    assert names.user(trained.user) not in people
    assert any(name.startswith("generations/users.sqlite") for name in ours)


@pytest.fixture(scope="module")
def private(trained, tmp_path_factory):
    """A shop on statistics with noise that forgets somebody; then draws of noise begin as they do once more."""
    root = tmp_path_factory.mktemp("private")
    settings = {"epsilon": 4, "yearly_epsilon": 6}
    shop = shop_in(root / "with", trained, settings)
    bought(shop, trained.user)
    before, released = shop.privacy.scan(trained.user), Workspace(shop.workspace)["statistics"].current.name
    person = PersonScan.of(shop.opened(), trained.user)
    with pytest.MonkeyPatch.context() as patch:
        known_noise(patch)
        done = shop.privacy.forget(trained.user)
    return root, settings, shop, before, released, (done, person.scan([shop.workspace]))


def known_noise(patch):
    """Noise is drawn from the system's entropy, so no two releases are equal; here it is the same twice."""
    patch.setattr(mechanism, "os", SimpleNamespace(urandom=random.Random(7).randbytes))


def test_statistics_are_released_again_without_the_person(private):
    _, _, shop, before, released, (done, left) = private
    assert {one.state for one in left} == {"clean"}, "ids, history, vectors: all that was known of them before"
    assert any(name.startswith(".molar/generations/") for name in in_workspace(before))
    (person,) = done.certificate.people
    assert (person.before.found, person.after.found, person.after.hits, person.after.not_proven) == (
        len(in_workspace(before)), 0, 0, 0,
    )  # fmt: skip
    assert (done.pending, done.failed) == ([], {})
    former, fresh = done.certificate.artefacts["statistics"]
    assert former == released
    assert [entry.name for entry in PrivacyLedger(shop.workspace).entries()] == [former, fresh]
    store = Workspace(shop.workspace)["statistics"]
    assert [folder.name for folder in store.versions()] == [fresh], "what was released of the person is kept"


def test_what_is_released_and_made_anew_equals_what_never_knew_the_person(private, trained, monkeypatch):
    root, settings, shop, *_ = private
    never = shop_in(root / "without", trained, settings, without=trained.user)
    known_noise(monkeypatch)
    never.align()
    ours = same(shop, never)
    assert any(name.startswith("statistics/") for name in ours)
    assert any(name.startswith("generations/users.sqlite") for name in ours)


def test_who_the_years_budget_does_not_bear_waits(private, trained):
    shop = private[2]
    everybody = pq.read_table(trained.shop / "users.parquet")["user_id"].to_pylist()
    user, other = [one for one in everybody if one != trained.user][:2]
    live = {kind: Workspace(shop.workspace)[kind].current.name for kind in ("statistics", "generations")}
    done = shop.privacy.forget(user)
    assert "yearly_epsilon" in done.failed["rebuilt"]
    assert set(done.pending) >= {"rebuilt", "purged"}
    assert [person.pending for person in SuppressionList.of(shop.workspace).people] == [[], ["rebuilt", "purged"]]
    assert len(PrivacyLedger(shop.workspace).entries()) == 2
    workspace = Workspace(shop.workspace)
    assert {kind: workspace[kind].current.name for kind in live} == live
    assert len(shop.privacy.certificates()) == 1
    assert faults_of(workspace) == []
    assert shop.query(other, k=3).items
    with pytest.raises(RequestError, match="no history"):
        shop.query(user, k=3, fallback="error")
