"""A shop whose people are named by pseudonyms: the same lists as by ids, and nobody's id anywhere in its workspace."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from settings_for_tests import SMALL_ALIGNMENT
from studio_client import StudioClient
from typer.testing import CliRunner
from web_server import client_of

import molar
from molar.doctor.privacy import privacy
from molar_cli.app import app
from molar_eval.kpi.by_day import daily
from molar_indexes.privacy.stored import id_patterns
from molar_retrieval.errors import RequestError
from molar_retrieval.experiments.definition import Arm, Experiment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.id_scan import IdPatterns, Name, scan
from molar_retrieval.privacy.pseudonyms import FILE, Pseudonymiser

SUITE = 'description = "one"\nmodels = ["popularity"]\nresamples = 100\n[[splits]]\nsplit = "temporal"\n'
SESSION, VISITOR, NEW = "web-session-77", "visitor-31", "newcomer-55"
MOMENT = "2026-11-20T10:00:00Z"
EVENTS = [
    {"event": "purchase", "user_id": "USER", "item_id": "SKU-0001", "transaction_id": "t1"},
    {"event": "identify", "user_id": "USER", "session_id": SESSION},
    {"event": "purchase", "session_id": SESSION, "item_id": "SKU-0002"},
    {"event": "return", "user_id": "USER", "item_id": "SKU-0001", "transaction_id": "t1"},
    {"event": "view", "session_id": VISITOR, "item_id": "SKU-0003"},
    {"event": "purchase", "user_id": NEW, "item_id": "SKU-0004"},
]


@dataclass
class Two:
    """A shop made twice from one log."""

    plain: molar.Shop
    keyed: molar.Shop
    user: str

    @property
    def people(self) -> list[dict[str, str]]:
        return [{"user_id": self.user}, {"anonymous_id": SESSION}, {"anonymous_id": VISITOR}, {"user_id": NEW}]


def settings(folder: Path, **privacy: str) -> Path:
    lines = [f"{name} = {json.dumps(value)}" for name, value in SMALL_ALIGNMENT.items()]
    told = [f"{name} = {json.dumps(value)}" for name, value in privacy.items()]
    file = folder / "molar.toml"
    drawn = ["[experiments]", "holdout = 0"]  # who is held out is drawn by name, and a pseudonym is another one
    file.write_text("\n".join(["[align]", *lines, *drawn, "[privacy]", *told]))
    return file


@pytest.fixture(scope="module")
def two(trained, tmp_path_factory):
    root = tmp_path_factory.mktemp("keyed")
    others = shutil.ignore_patterns("interactions", "als", "serving")  # what other tests were answered there, too
    workspace = copy_workspace(trained.workspace, root / ".molar", others)
    for kind in ("alignment", "generations"):
        shutil.rmtree(workspace / kind)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MOLAR_PRIVACY_KEY_FILE", str(root / "keys" / "shop"))
        keyed = molar.Shop(trained.shop, workspace, settings(root, ids="pseudonymous"))
        keyed.align()
        (root / "plain").mkdir()
        workspace = copy_workspace(trained.workspace, root / "plain" / ".molar")
        plain = molar.Shop(trained.shop, workspace, settings(root / "plain"))
        for shop in (plain, keyed):
            rows = [{**one, "user_id": trained.user} if one.get("user_id") == "USER" else one for one in EVENTS]
            done = shop.events.append([{"event_id": f"e{n}", "timestamp": MOMENT, **row} for n, row in enumerate(rows)])
            assert done.accepted == len(EVENTS), done
        yield Two(plain, keyed, trained.user)


@pytest.fixture(scope="module")
def answers(two):
    """What is answered over HTTP by both."""
    return served(two.plain, two.user), served(two.keyed, two.user)


def told(answer):
    return [(one.item_id, one.score, one.reasons) for one in answer.items], answer.notes


def found_in(folder: Path, *names: str) -> list[str]:
    files = scan([folder], IdPatterns([Name(one, "an id") for one in names]))
    assert not [one.file for one in files if one.doubts], "whatever is not proven may name somebody"
    return [one.file for one in files if one.findings]


def test_keys_lie_outside_for_their_owner_alone_and_are_on_record(two):
    keys = two.keyed.settings.privacy.key_file
    assert keys.stat().st_mode & 0o777 == 0o600
    assert Pseudonymiser.of(two.keyed.workspace).marks[0] in (two.keyed.workspace / FILE).read_text()
    assert Pseudonymiser.of(two.plain.workspace).keys == ()


def test_lists_and_reasons_are_the_same_for_the_same_ids(two):
    """Draws of new items go by name, so they differ."""
    with two.plain.recommender() as plain, two.keyed.recommender() as keyed:
        for who in two.people:
            asked = {**who, "explore": False, "explain": True}
            assert told(keyed.query(**asked)) == told(plain.query(**asked)), who
            assert keyed.query(**asked).user_id == who.get("user_id"), "an answer names who was asked about"
            hidden = {"k": 5, **who}
            assert told(keyed.popular(**hidden)) == told(plain.popular(**hidden))
        pseudonym = Pseudonymiser.of(two.keyed.workspace).user(two.user)
        assert told(keyed.query(pseudonym, explore=False)) == told(keyed.query(two.user, explore=False))


def test_lists_of_everybody_come_with_the_ids_of_the_shop(two, tmp_path):
    done = {}
    for name, shop in (("plain", two.plain), ("keyed", two.keyed)):
        done[name] = shop.recommend(tmp_path / f"{name}.parquet", k=3, explore=False, processes=1)
    plain, keyed = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("plain", "keyed"))
    assert plain.equals(keyed)
    two.keyed.recommend(tmp_path / "some.csv", k=3, users=[two.user, "nobody"], processes=1)
    assert {line.split(",")[0].strip('"') for line in (tmp_path / "some.csv").read_text().splitlines()[1:]} == {
        two.user
    }


def test_a_shop_joins_its_own_tables_by_pseudonyms(two):
    names = Pseudonymiser.of(two.keyed.workspace)
    asked = ["privacy", "pseudonym", "-", "--workspace", str(two.keyed.workspace)]
    told = CliRunner().invoke(app, asked, input=f"{two.user}\n{NEW}\n")
    assert told.stdout == f"{two.user}\t{names.user(two.user)}\n{NEW}\t{names.user(NEW)}\n"
    assert two.keyed.privacy.pseudonyms(SESSION, sessions=True) == {SESSION: names.session(SESSION)}
    with pytest.raises(RequestError, match="has no pseudonyms"):
        two.plain.privacy.pseudonyms(two.user)


def test_the_doctor_tells_by_what_people_are_named(two):
    def named(shop):
        entries = {one.name: one for one in privacy(Path(shop.workspace))}
        return entries["ids"].value if "ids" in entries else None

    assert named(two.keyed) == "pseudonyms by 1 key"
    assert named(two.plain) is None


def served(shop: molar.Shop, user: str) -> dict:
    """What is answered over HTTP about people of a shop that has one experiment."""
    with ExperimentStore(shop.opened(), make=True) as store:
        tried = Experiment("autumn", treatment=Arm(options={"diversity": 0.3}), salt="1", assigned="elsewhere")
        store.start(tried, "ab", 100, "anna")
    outside = Path(shop.workspace).parent / "outside.csv"
    outside.write_text(f"user_id,arm,timestamp\n{user},treatment,{MOMENT}\n")
    assert shop.experiments.assign("autumn", outside).accepted == 1
    with client_of(shop.workspace, shop.settings_file) as client:

        def post(path: str, **body) -> dict:
            reply = client.post(f"/v1/{path}", json=body)
            assert reply.status_code == 200, reply.text
            return reply.json()

        found, sent = {}, {"timestamp": MOMENT, "event": "purchase"}
        found["taken"] = post("events", event_id="h1", user_id=user, item_id="SKU-0009", **sent)["accepted"]
        found["merged"] = post("users/merge", anonymous_id=VISITOR, user_id=NEW)
        found["again"] = post("users/merge", anonymous_id=VISITOR, user_id=NEW)
        end = time.monotonic() + 30
        while "SKU-0003" not in client.get(f"/v1/users/{NEW}").text:  # until they are one for answers, too
            assert time.monotonic() < end
        lists = {"k": 3, "explore": False}
        first = post("recommendations", user_id=user, anonymous_id=SESSION, arms={"autumn": "treatment"}, **lists)
        found["list"] = [first["items"], first["experiment"]]
        behind = client.get(first["next"]).json()
        found["next"] = behind["items"]
        found["control"] = post("recommendations", user_id=NEW, arms={"autumn": "control"}, **lists)["items"]
        found["words"] = post("search", text="red", user_id=user, k=3)["items"]
        found["user"] = client.get(f"/v1/users/{user}").json()
        found["visitor"] = client.get(f"/v1/users/{VISITOR}", params={"anonymous": True}).json()["history"]
        found["assigned"] = client.get("/v1/assignments", params={"user_id": user}).json()

        studio = StudioClient(client)
        found["moved"] = studio.get("/studio/people", q=user).headers["location"]
        found["page"] = studio.get(found["moved"]).text
        time.sleep(0.3)  # until answers are on the disk
    return found


def test_a_server_answers_by_ids_and_keeps_pseudonyms(two, answers):
    plain, keyed = ({name: told for name, told in one.items() if name not in ("moved", "page")} for one in answers)
    for name in plain:
        assert without_times(keyed[name]) == without_times(plain[name]), name
    assert keyed["user"]["id"] == two.user
    assert keyed["merged"]["user_id"] == NEW


def test_the_studio_shows_pseudonyms_and_says_so(two, answers):
    plain, keyed = answers
    name = Pseudonymiser.of(two.keyed.workspace).user(two.user)
    assert keyed["moved"] == f"/studio/people/{quote(name, safe='')}"
    assert "This is a pseudonym" in keyed["page"]
    assert two.user not in keyed["page"]
    assert name in keyed["page"]
    assert "pseudonym" not in plain["page"]


def without_times(value):
    told = json.loads(json.dumps(value))
    if isinstance(told, dict):
        for name in ("generation", "recommendation_id"):
            told.pop(name, None)
    return told


def test_nobodys_id_is_in_the_workspace(two, answers, tmp_path):
    """After everything: evaluation, figures, a check of the data, the scan's own look, lists of all."""
    shop, root = two.keyed, Path(two.keyed.workspace)
    (tmp_path / "one.toml").write_text(SUITE)
    shop.evaluate(str(tmp_path / "one.toml"), slices=["segment"])
    shop.check(photos=False)
    shop.update()
    daily(shop.opened(), 7, 20_777)
    shop.events.compact()
    names = [two.user, SESSION, VISITOR, NEW]
    assert found_in(root, *names) == []
    assert found_in(Path(two.plain.workspace), two.user) != []
    patterns, _ = id_patterns(shop.opened(), two.user)
    assert {"their id", "their pseudonym", "their session"} <= {one.what for one in patterns.names}
    (found,) = [one for one in scan([root / "interactions"], patterns) if one.file.endswith("users.parquet")]
    assert {one.what for one in found.findings} >= {"their pseudonym"}
    facts = json.loads(shop.privacy.report(tmp_path / "paper").facts.read_text())
    assert facts["measures"]["pseudonyms"]["value"] == 1
    assert facts["risks"]["names"]["value"] is True
    parts = {one.name: one.rows for one in shop.privacy.export(two.user).parts}
    assert all(parts[name] for name in ("profile", "purchases and other interactions", "history", "events", "computed"))
