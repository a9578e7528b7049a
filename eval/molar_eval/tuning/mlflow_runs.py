"""Trials as runs of an MLflow experiment, by its REST interface alone: no library of MLflow's is installed for it.

What is sent are values of settings, scores and times; nothing of anybody's history. Each trial is sent once: what a
killed process had not sent, or had sent by half, the next one sends.
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from molar_eval.tuning.result import State, TuningTrial
from molar_retrieval.errors import BackendError, SettingsError, redacted

EXPERIMENT = "molar tune"
_STUDY, _TRIAL = "molar.study", "molar.trial"
_SCORE, _EPOCH, _SECONDS = "ndcg_at_10", "epoch_ndcg_at_10", "seconds"
_ENDED: Mapping[State, str] = {"complete": "FINISHED", "pruned": "KILLED", "passed over": "FAILED"}
_TIMEOUT = 10.0
_MOST = 1000  # runs in one answer
_MISSING = 404


class MlflowRuns:
    """The runs of one study; ``address`` is the tracking server's.

    Who asks for them is told by ``MLFLOW_TRACKING_TOKEN``, or ``MLFLOW_TRACKING_USERNAME`` and ``_PASSWORD``.

    Raises:
        SettingsError: If the address is none.
        BackendError: If no MLflow answers there.
    """

    def __init__(self, address: str, study: str, transport: httpx.BaseTransport | None = None) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise SettingsError(
                "MLflow is spoken to at an address such as http://host:5000, without a login in it",
                "start `mlflow server`, and put a login into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            )
        self._address, self._study = address.rstrip("/"), study
        self._client = httpx.Client(timeout=_TIMEOUT, transport=transport, **_login())
        self._experiment = self._opened()
        self._sent: set[int] = set()
        self._begun: dict[int, str] = {}  # their runs, by trial, which are not ended
        self._look()

    def send(self, trials: Sequence[TuningTrial]) -> int:
        """Send the trials that are not there yet; how many these were. Raises BackendError where it does not answer."""
        missing = [trial for trial in trials if trial.number not in self._sent]
        for trial in missing:
            self._send(trial)
            self._sent.add(trial.number)
        return len(missing)

    def _send(self, trial: TuningTrial) -> None:
        now = round(time.time() * 1000)
        if trial.number not in self._begun:
            self._begun[trial.number] = self._begin(trial, now)
        run = self._begun[trial.number]
        scores = [{"key": _EPOCH, "value": s, "timestamp": now, "step": n} for n, s in enumerate(trial.epochs, start=1)]
        last = {_SECONDS: trial.seconds} | ({} if trial.score is None else {_SCORE: trial.score})
        scores += [{"key": key, "value": value, "timestamp": now, "step": 0} for key, value in last.items()]
        values = [{"key": key, "value": str(value)} for key, value in trial.values.items()]
        self._ask("runs/log-batch", {"run_id": run, "metrics": scores, "params": values})
        self._ask("runs/update", {"run_id": run, "status": _ENDED[trial.state], "end_time": now})

    def _begin(self, trial: TuningTrial, now: int) -> str:
        tags = {_STUDY: self._study, _TRIAL: str(trial.number)}
        run = self._ask(
            "runs/create",
            {
                "experiment_id": self._experiment,
                "run_name": f"{self._study} {trial.number}",
                "start_time": now - round(1000 * trial.seconds),
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            },
        )
        return str(run["run"]["info"]["run_id"])

    def _opened(self) -> str:
        """The id of the experiment, which is made where there is none."""
        asked = {"experiment_name": EXPERIMENT}
        found = self._read("GET", "experiments/get-by-name", missing=True, params=asked)
        if found is None:
            return str(self._ask("experiments/create", {"name": EXPERIMENT})["experiment_id"])
        return str(found["experiment"]["experiment_id"])

    def _look(self) -> None:
        """Which trials were sent before, whole or by half."""
        asked: dict[str, Any] = {"experiment_ids": [self._experiment], "max_results": _MOST}
        asked["filter"] = f"tags.`{_STUDY}` = '{self._study}'"
        while True:
            page = self._ask("runs/search", asked)
            for run in page.get("runs", []):
                tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
                number = int(tags[_TRIAL])
                if run["info"]["status"] in _ENDED.values():
                    self._sent.add(number)
                else:
                    self._begun[number] = str(run["info"]["run_id"])
            if not page.get("next_page_token"):
                return
            asked["page_token"] = page["next_page_token"]

    def _ask(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._read("POST", path, json=body)

    def _read(self, method: str, path: str, *, missing: bool = False, **asked: Any) -> Any:
        """What MLflow answers; None where it has no such thing, and may have none."""
        try:
            answer = self._client.request(method, f"{self._address}/api/2.0/mlflow/{path}", **asked)
            if missing and answer.status_code == _MISSING:
                return None
            answer.raise_for_status()
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise BackendError(
                f"MLflow at {self._address} does not do what it is asked ({path}): {redacted(str(error))}",
                "see whether `mlflow server` runs there, or leave it out",
            ) from error
        if not isinstance(found, dict):
            raise BackendError(f"what answers at {self._address} is no MLflow", "name the address of `mlflow server`")
        return found


def _login() -> dict[str, Any]:
    """As MLflow's own clients log in."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"headers": {"Authorization": f"Bearer {token}"}}
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return {} if name is None else {"auth": (name, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))}
