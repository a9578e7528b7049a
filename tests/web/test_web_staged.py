"""Experiments over HTTP: begun, looked at, brought further, ended, undone; who may, and what the audit log tells."""

import json
from types import SimpleNamespace

import pytest
from updates import Days, another_generation
from web_server import client_of

from molar_retrieval.experiments.records import Assignment
from molar_retrieval.experiments.store import ExperimentStore
from molar_serving.audit import changes
from molar_serving.auth import Keyring
from molar_serving.studio.screens.changes import changed_again, undone


@pytest.fixture(scope="module")
def days(trained, tmp_path_factory):
    days = Days(trained, tmp_path_factory.mktemp("staged"))
    days.first = days.workspace["generations"].pointer
    days.second = another_generation(days.workspace)
    days.workspace["generations"].switch(days.first)
    return days


@pytest.fixture(scope="module")
def keys(days):
    ring = Keyring(days.shop.workspace)
    return {name: {"authorization": f"Bearer {ring.add(name, [name])}"} for name in ("admin", "rules")}


@pytest.fixture(scope="module")
def client(days, keys):
    with client_of(days.shop.workspace, days.folder.parent / "molar.toml") as client:
        client.headers |= keys["admin"]
        yield client


def begin(client, name, treatment, **more):
    return client.post("/v1/experiments", json={"name": name, "treatment": treatment, **more})


def test_an_experiment_goes_its_way_over_http(client, days):
    began = begin(client, "best", {"generation": days.second}, placements=["home"], harm={"clicks": 0.2})
    assert began.status_code == 200, began.text
    told = began.json()
    assert (told["stage"], told["following"]) == ("shadow", "interleaving")
    assert told["experiment"]["control"]["generation"] == days.first
    assert told["experiment"]["harm"] == {"clicks": 0.2}
    assert told["stages"][0]["by"] == "admin"
    assert told.pop("beforehand")  # there is no log of what was shown
    told |= {"beforehand": []}
    assert client.get("/v1/experiments/best").json() == told
    assert client.get("/v1/experiments").json() == {"experiments": [told]}
    results = client.get("/v1/experiments/best/results").json()["results"]
    assert (results["stage"], results["decision"]["go"]) == ("shadow", "wait")
    assert client.post("/v1/experiments/best/check").json()["results"]["decision"] == results["decision"]
    page = client.get("/v1/experiments/best/report", params={"language": "de"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert '<html lang="de"' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "'unsafe-inline'" in page.headers["content-security-policy"]  # its style sheet is in it
    assert client.get("/v1/experiments/best/report", params={"language": "fr"}).status_code == 422
    assert client.get("/v1/experiments/nobody/report").status_code == 404
    refused = client.post("/v1/experiments/best/advance", json={})
    assert refused.status_code == 409
    assert "1,000 are needed" in refused.json()["detail"]
    moved = client.post("/v1/experiments/best/advance", json={"to": "everybody", "anyway": True}).json()
    assert moved == {"name": "best", "before": "shadow", "stage": "everybody", "live": days.second, "left": []}
    assert client.get("/v1/generations").json()["live"] == days.second
    with ExperimentStore(days.workspace) as store:
        store.assign([Assignment("best", "anna", "treatment", 1)])
    told = client.get("/v1/assignments", params={"user_id": "anna"}).json()
    assert told["assignments"] == [{"experiment": "best", "stage": "everybody", "arm": "treatment"}]
    assert client.get("/v1/assignments", params={"anonymous_id": "anna"}).json()["assignments"] == []
    stopped = client.post("/v1/experiments/best/stop", json={"why": "enough"}).json()
    assert (stopped["stage"], stopped["live"]) == ("stopped", days.first)
    again = client.post("/v1/experiments/best/stop", json={})
    assert (again.status_code, "over already" in again.json()["detail"]) == (409, True)
    endpoints = [one.endpoint for one in changes(days.shop.workspace)]
    assert "POST /v1/experiments/{experiment:path}/advance" in endpoints


@pytest.mark.parametrize(
    ("treatment", "more", "status", "said"),
    [
        ({"generation": "nothing"}, {}, 409, "there is no generation"),
        ({"preset": "instant"}, {}, 409, "preset instant"),
        ({"options": {"diversity": 9}}, {}, 422, "diversity = 9"),
        ({"rules": "[[rule]]\nban = 'colur = red'"}, {}, 422, "colur"),
        ({"rules": "[[rule"}, {}, 422, ""),
        ({"options": {"rerank": False}}, {"people": "region = x"}, 422, "segment of people"),
        ({"options": {"rerank": False}}, {"weeks": 0}, 422, ">= 1"),
        ({"options": {"rerank": False}}, {"week": 3}, 422, "unknown field"),
        ({}, {}, 422, "both arms are the same"),
    ],
)
def test_what_is_wrong_is_a_problem_with_a_remedy(client, days, treatment, more, status, said):
    told = begin(client, "wrong", treatment, **more)
    assert (told.status_code, said in told.json()["detail"]) == (status, True), told.text
    assert told.json()["remedy"]
    assert client.get("/v1/experiments/wrong").status_code == 404


def test_what_one_takes_is_asked_before_it_begins(client, days):
    told = client.post("/v1/experiments/plan", json={"weeks": [1, 2], "effects": [0.2], "treated": 0.25}).json()
    own = days.shop.experiments.plan(weeks=[1, 2], lifts=[0.2], treated=0.25)
    assert told["plan"] == json.loads(json.dumps(own.to_dict()))
    assert told["verdicts"]
    assert told["helps"]
    wrong = client.post("/v1/experiments/plan", json={"treated": 1.5})
    assert (wrong.status_code, bool(wrong.json()["remedy"])) == (422, True)
    assert client.post("/v1/experiments/plan", json={"weeks": []}).status_code == 422


def test_only_admins_ask(client, keys):
    asked = ["GET ", "POST ", "GET /x", "GET /x/report", "POST /plan", "POST /x/advance", "POST /x/stop"]
    for method, path in (one.split(" ") for one in asked):
        assert client.request(method, f"/v1/experiments{path}", headers=keys["rules"], json={}).status_code == 403
    assert client.get("/v1/assignments", headers=keys["rules"]).status_code == 403
    assert client.get("/v1/assignments").status_code == 422


def test_a_begin_can_be_undone(client, days):
    assert begin(client, "calm", {"options": {"diversity": 0.4}}).status_code == 200
    change = next(one for one in changes(days.shop.workspace) if one.undo)
    assert change.undo["kind"] == "experiment"
    service = SimpleNamespace(shop=days.shop, workspace=days.workspace, catch_up=lambda: None)
    call = SimpleNamespace(service=service, audit={}, key=SimpleNamespace(name="anna"))
    assert not changed_again(call.service, change.undo)
    undone(call, change)
    told = client.get("/v1/experiments/calm").json()
    assert (told["stage"], told["stages"][-1]["by"]) == ("stopped", "anna")
    assert json.dumps(call.audit)
    assert changed_again(call.service, change.undo)
