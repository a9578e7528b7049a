"""Trials as runs of MLflow, by a server that is as strict as the real one where it matters."""

import json
import re

import httpx
import pytest

from molar_eval.tuning.mlflow_runs import EXPERIMENT, MlflowRuns
from molar_eval.tuning.result import TuningTrial
from molar_retrieval.errors import BackendError, SettingsError

VALUES = {"align.dropout": 0.2, "align.rerank": False}
TRIALS = [
    TuningTrial(0, "complete", VALUES, 0.1, [0.05, 0.08], 60.0),
    TuningTrial(1, "pruned", VALUES | {"align.dropout": 0.4}, None, [0.01], 20.0),
    TuningTrial(3, "passed over", VALUES | {"align.dropout": 0.5}, None, [], 0.0, "killed 3 times"),
]
NAME = re.compile(r"[\w.\-/ :]+")  # of metrics and parameters


class Mlflow:
    """A tracking server that answers as MLflow 3.17 does; ``breaks`` is a path of which the next request fails."""

    def __init__(self):
        self.experiments, self.runs, self.breaks, self.page, self.headers = {}, {}, None, 2, []

    def __call__(self, request):
        self.headers.append(request.headers)
        path = request.url.path.removeprefix("/api/2.0/mlflow/")
        if path == self.breaks:
            self.breaks = None
            return httpx.Response(503, text="not now")
        if request.method == "GET":
            name = request.url.params["experiment_name"]
            found = self.experiments.get(name)
            missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": name}
            return httpx.Response(*((404,) if found is None else (200,)), json=found or missing)
        return httpx.Response(
            200, json=getattr(self, path.replace("/", "_").replace("-", "_"))(json.loads(request.content))
        )

    def experiments_create(self, asked):
        assert asked["name"] not in self.experiments
        self.experiments[asked["name"]] = {"experiment": {"experiment_id": "1", "name": asked["name"]}}
        return {"experiment_id": "1"}

    def runs_create(self, asked):
        run = {"info": {"run_id": f"r{len(self.runs)}", "status": "RUNNING"}, "data": {"tags": asked["tags"]}}
        self.runs[run["info"]["run_id"]] = run | {"metrics": {}, "params": {}, "name": asked["run_name"]}
        return {"run": run}

    def runs_log_batch(self, asked):
        run = self.runs[asked["run_id"]]
        for one in asked["params"]:
            assert NAME.fullmatch(one["key"])
            assert run["params"].setdefault(one["key"], one["value"]) == one["value"], "parameters do not change"
        for one in asked["metrics"]:
            assert NAME.fullmatch(one["key"])
            run["metrics"].setdefault(one["key"], {})[one["step"]] = one["value"]
        return {}

    def runs_update(self, asked):
        self.runs[asked["run_id"]]["info"]["status"] = asked["status"]
        return {}

    def runs_search(self, asked):
        study = re.fullmatch(r"tags\.`molar\.study` = '(\w+)'", asked["filter"])[1]
        found = [one for one in self.runs.values() if {"key": "molar.study", "value": study} in one["data"]["tags"]]
        first = int(asked.get("page_token", 0))
        page = {"runs": found[first : first + self.page]}
        return page | ({"next_page_token": str(first + self.page)} if len(found) > first + self.page else {})


@pytest.fixture
def server():
    return Mlflow()


def runs(server, study="abc"):
    return MlflowRuns("http://mlflow:5000/", study, httpx.MockTransport(server))


def test_each_trial_is_a_run_and_sent_once(server):
    there = runs(server)
    assert [there.send(TRIALS[:1]), there.send(TRIALS), there.send(TRIALS)] == [1, 2, 0]
    assert runs(server).send(TRIALS) == 0, "another process finds them, page by page"
    assert runs(server, "other").send(TRIALS[:1]) == 1
    assert list(server.experiments) == [EXPERIMENT]
    first, second, third, _ = server.runs.values()
    assert [one["info"]["status"] for one in (first, second, third)] == ["FINISHED", "KILLED", "FAILED"]
    assert first["params"] == {"align.dropout": "0.2", "align.rerank": "False"}
    assert first["metrics"] == {"epoch_ndcg_at_10": {1: 0.05, 2: 0.08}, "ndcg_at_10": {0: 0.1}, "seconds": {0: 60.0}}
    assert "ndcg_at_10" not in second["metrics"]


@pytest.mark.parametrize("path", ["runs/create", "runs/log-batch", "runs/update"])
def test_what_was_sent_by_half_is_sent_whole(server, path):
    there, server.breaks = runs(server), path
    with pytest.raises(BackendError, match="503") as error:
        there.send(TRIALS)
    assert error.value.exit_code == 4
    assert runs(server).send(TRIALS) == len(TRIALS)
    assert len(server.runs) == len(TRIALS)
    assert {one["info"]["status"] for one in server.runs.values()} == {"FINISHED", "KILLED", "FAILED"}


def test_the_same_process_goes_on_after_a_failure(server):
    there, server.breaks = runs(server), "runs/update"
    with pytest.raises(BackendError):
        there.send(TRIALS)
    assert there.send(TRIALS) == len(TRIALS)
    assert len(server.runs) == len(TRIALS)


def test_a_login_is_that_of_the_environment(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    runs(server)
    assert server.headers[-1]["authorization"].startswith("Basic ")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    runs(server)
    assert server.headers[-1]["authorization"] == "Bearer token"


@pytest.mark.parametrize("address", ["sqlite:///runs.db", "mlruns", "http://me:secret@host:5000", "http://"])
def test_an_address_is_one_of_a_server_without_a_login(address):
    with pytest.raises(SettingsError) as error:
        MlflowRuns(address, "abc")
    assert "secret" not in error.value.message


def test_what_is_no_mlflow_is_told():
    for answer in (httpx.Response(200, text="<html>"), httpx.Response(200, json=[])):
        with pytest.raises(BackendError, match="http://mlflow:5000"):
            MlflowRuns("http://mlflow:5000", "abc", httpx.MockTransport(lambda _, answer=answer: answer))
