"""Events that were refused stay for a while, with problem and remedy."""

from contextlib import closing
from pathlib import Path

import pytest

from molar_retrieval.data import refused_events
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.refused_events import RefusedEvents
from molar_retrieval.workspace.artefacts import Workspace

GOOD = {"event": "view", "event_id": "1", "user_id": "anna", "item_id": "a", "timestamp": 1_700_000_000}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "shop").mkdir()
    return Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")


def test_the_first_of_each_append_are_kept_the_newest_append_first(workspace: Workspace) -> None:
    with closing(EventLog(workspace)) as log:
        log.append([(0, GOOD)])
        assert not (workspace.root / "events" / "refused.jsonl").exists()
        report = log.append([(0, GOOD), (1, GOOD | {"event": "veiw", "event_id": "2"})])
        log.append([(n, GOOD | {"timestamp": "soon"}) for n in range(30)], report)
    found = RefusedEvents(workspace.root).newest(100)
    assert [one.count for one in found] == [30] * 10 + [1]
    assert [one.row for one in found] == [*range(10), 1]
    assert (found[-1].field, found[0].field) == ("event", "timestamp")
    assert "view" in found[-1].remedy
    assert len(RefusedEvents(workspace.root).newest(3)) == 3


def test_they_never_take_much_room_and_tell_no_secret(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused_events, "_BYTES", 4_000)
    with closing(EventLog(workspace)) as log:
        for n in range(60):
            log.append([(n, GOOD | {"quantity": f"http://anna:secret@host/{n}"})])
    files = list((workspace.root / "events").glob("refused*"))
    assert sum(path.stat().st_size for path in files) < 9_000
    found = RefusedEvents(workspace.root).newest(100)
    assert found[0].row == 59
    assert not any("secret" in one.problem for one in found)


def test_a_log_of_them_that_cannot_be_written_hinders_nobody(workspace: Workspace) -> None:
    (workspace.root / "events" / "refused.jsonl").mkdir(parents=True)
    with closing(EventLog(workspace)) as log:
        report = log.append([(0, GOOD), (1, {})])
    assert (report.accepted, report.refused) == (1, 1)
