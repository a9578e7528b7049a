"""Molar valued on a log of impressions."""

from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from settings_for_tests import SMALL_ALIGNMENT

from molar_eval.kpi.prelaunch import evaluate_shown
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.errors import DataError
from molar_retrieval.models.als import open_log
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    root = tmp_path_factory.mktemp("shown") / "work"
    copy_workspace(trained.workspace, root)
    return Workspace.open(root)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    flags = {"align": {**SMALL_ALIGNMENT, "epochs": 1}}
    return MolarSettings.load(tmp_path_factory.mktemp("none"), environ={}, flags=flags)


def write(path, workspace, *, rows=600, late=0.7, **changes):
    """Uniformly drawn items for known users and one unknown one, rewards by chance."""
    log, random = open_log(workspace), np.random.default_rng(0)
    start = int(np.quantile(log.timestamp, late))
    users = [*log.users.array.to_pylist()[:50], "nobody knows me"]
    table = {
        "context_id": [f"c{n}" for n in range(rows)],
        "user_id": [users[n % len(users)] for n in range(rows)],
        "item_id": [log.items.id(int(row)) for row in random.integers(0, log.n_items, rows)],
        "propensity": np.full(rows, 1 / log.n_items),
        "reward": (random.random(rows) < 0.2).astype(float),
        "timestamp": start + random.integers(0, 1000, rows),
    }
    table |= changes
    pq.write_table(pa.table({name: values for name, values in table.items() if values is not None}), path)
    return path


def test_estimates_come_with_their_diagnostics(workspace, settings, tmp_path):
    result = evaluate_shown(workspace, settings, write(tmp_path / "shown.parquet", workspace))
    assert result.contexts == 600
    assert 0 < result.without_history < 0.5
    values = {value.estimator: value for value in result.evaluation.values}
    assert values["logged"].mean == pytest.approx(0.2, abs=0.05)
    assert values["ips"].mean >= 0
    assert values["dr"].rows == values["ips"].rows
    assert values["dr_gain"].mean == pytest.approx(values["dr"].mean - values["logged"].mean)
    assert result.slates is None, "a file has an item a request"
    assert result.evaluation.weights.effective_rows <= 600
    assert result.evaluation.warnings, "six agreeing rows in 600 are too few, and that is said"
    assert result.to_dict()["evaluation"]["values"]


def test_a_log_without_times_is_refused(workspace, settings, tmp_path):
    path = write(tmp_path / "shown.parquet", workspace, timestamp=None)
    with pytest.raises(DataError, match="no times") as caught:
        evaluate_shown(workspace, settings, path)
    assert "timestamp" in caught.value.hint


def test_impressions_before_all_interactions_leave_nothing_to_fit_on(workspace, settings, tmp_path):
    path = write(tmp_path / "shown.parquet", workspace, timestamp=np.full(600, 1))
    with pytest.raises(DataError, match="before the first impression"):
        evaluate_shown(workspace, settings, path)


def test_impressions_of_the_event_log_are_valued_by_whole_lists(workspace, settings):
    log, random = open_log(workspace), np.random.default_rng(1)
    start, events = int(np.quantile(log.timestamp, 0.7)), []
    for number in range(60):
        user = log.users.id(number % 50)
        rows = random.choice(log.n_items, 3 + number % 3, replace=False).tolist()
        items = [{"item_id": log.items.id(row), "position": n, "propensity": 0.04} for n, row in enumerate(rows, 1)]
        event = {"event": "impression", "user_id": user, "timestamp": start + number, "request_id": f"r{number}"}
        events.append({"event_id": f"shown {number}", **event, "items": items})
        event |= {"event": "click", "item_id": log.items.id(rows[0]), "timestamp": start + number + 5}
        events.append({"event_id": f"click {number}", **event})
    with closing(EventLog(workspace)) as log_of_events:
        assert not log_of_events.append(list(enumerate(events, 1))).refused
    result = evaluate_shown(workspace, settings, None)
    assert (result.contexts, result.k, result.left_out) == (60, 5, 0)
    values = {value.estimator: value for value in result.evaluation.values}
    assert values["logged"].mean == pytest.approx(60 / (3 * 20 + 4 * 20 + 5 * 20))
    assert values["logged"].rows == 240
    assert values["ips"].rows > 0, "as many of molar's first items as a request had are compared with it"
    assert values["dr_gain"].mean == pytest.approx(values["dr"].mean - values["logged"].mean)
    assert result.slates.values == (), "several places were drawn together"
    assert result.to_dict()["slates"]["requests"] == 0
    weights = result.evaluation.weights
    assert weights.mean.low < 1.1, "as many are expected as were shown"
    assert weights.mean.high > 0.7
