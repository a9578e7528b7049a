"""What a log keeps for answers: lines that no generation contains yet, and the number of the last one."""

from datetime import UTC, datetime

import pytest

from molar_retrieval.data.event_log import EventLog
from molar_retrieval.workspace.artefacts import Manifest, Workspace

DAY = int(datetime(2026, 1, 2, tzinfo=UTC).timestamp() // 86_400)


def view(number):
    moment = f"2026-01-02T00:00:{number:02d}Z"
    return {"event_id": f"e{number}", "event": "view", "user_id": "u", "item_id": "i", "timestamp": moment}


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "shop").mkdir()
    return Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")


@pytest.fixture
def log(workspace):
    log = EventLog(workspace)
    yield log
    log.close()


def _published(workspace, **facts):
    store = workspace["generations"]
    name = f"g{len(store.versions())}"
    store.publish(store.partial(name), Manifest("generations", name, facts=facts), keep=9)


def _open(log):
    return [seq for (seq,) in log.rows("SELECT seq FROM events ORDER BY seq")]


def test_an_append_tells_the_number_of_the_last_line(log):
    assert log.append([]).seq == 0
    assert log.append(enumerate([view(1), view(2)])).seq == 2
    assert log.append([(1, view(2))]).seq == 2  # repeated: it is there
    assert log.append([(1, {})]).seq == 2
    assert log.append([(1, view(3))]).to_dict()["seq"] == 3


def test_what_a_generation_does_not_contain_is_not_sealed(log, workspace):
    log.append(enumerate(map(view, range(1, 6))))
    _published(workspace, events={"catalogue": 9, "interactions": 4})
    _published(workspace, events={"catalogue": 0, "interactions": 3})
    assert log.compact(today=DAY + 1).sealed_lines == 3
    assert _open(log) == [4, 5]
    assert log.compact(today=DAY + 1).sealed_files == 0
    _published(workspace, events={"catalogue": 9, "interactions": 9})
    assert log.compact(today=DAY + 1).sealed_files == 0  # one could be rolled back
    assert log.table()["seq"].to_pylist() == [1, 2, 3, 4, 5]


def test_a_generation_of_before_the_log_contains_nothing(log, workspace):
    log.append(enumerate(map(view, range(1, 6))))
    _published(workspace)
    assert log.compact(today=DAY + 1).sealed_lines == 0


def test_retention_removes_what_no_generation_contains(log, workspace):
    log.append(enumerate(map(view, range(1, 6))))
    _published(workspace)
    assert log.compact(keep_days=1, today=DAY + 9).removed_lines == 5


def test_events_of_a_person_and_of_items_are_found_by_an_index(log):
    for where in ("user_id = 'u'", "session_id = 's' AND user_id IS NULL"):
        plan = log.rows(f"EXPLAIN QUERY PLAN SELECT * FROM events WHERE {where} AND seq > 3")
        assert "USING INDEX of_" in plan[0][-1]
