"""What was done in a workspace, and what it took, is written down, also where it failed or was killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from molar.bill import billed
from molar_retrieval.errors import DataError
from molar_retrieval.progress import Notes
from molar_retrieval.workspace.activity_log import recorded, work_done
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import CostSettings

KILLED = """
import sys
from pathlib import Path
from molar.progress import display
from molar_retrieval.workspace.activity_log import recorded
from molar_retrieval.workspace.artefacts import Workspace
with recorded(Workspace(Path(sys.argv[1])), "align"):
    display().start("embedding", 3)
    display().start("the towers", 3)
    print("at work", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "shop").mkdir()
    place = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    (place.root / "catalogue").mkdir()
    (place.root / "catalogue" / "current").write_text("1")
    return place


def test_what_went_well_is_told_with_what_it_took(workspace: Workspace) -> None:
    assert work_done(workspace) == []
    with recorded(workspace, "update") as told:
        (running,) = work_done(workspace)
        assert (running.what, running.state, running.seconds) == ("update", "running", None)
        until = os.times().user + 0.05
        while os.times().user < until:
            sum(range(1_000))
        told.outcome, told.steps = "three new items", {"catalogue": 1.5}
    (done,) = work_done(workspace)
    assert (done.state, done.outcome, done.steps) == ("done", "three new items", {"catalogue": 1.5})
    assert done.generation is None
    assert done.processor is not None
    assert done.processor >= 0.04
    assert done.ended is not None
    with recorded(workspace, "embed"):
        pass
    assert [one.what for one in work_done(workspace)] == ["embed", "update"]
    assert [one.what for one in work_done(workspace, 1)] == ["embed"]


def test_what_failed_says_why_without_secrets(workspace: Workspace) -> None:
    with pytest.raises(DataError), recorded(workspace, "align"):
        raise DataError("http://anna:secret@host is not there", "start it")
    with pytest.raises(KeyboardInterrupt), recorded(workspace, "evaluate"):
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), recorded(workspace, "embed"):
        raise ZeroDivisionError("division by zero")
    found = {one.what: one for one in work_done(workspace)}
    assert {one.state for one in found.values()} == {"failed"}
    assert found["align"].remedy == "start it"
    assert "secret" not in found["align"].outcome
    assert "interrupted" in found["evaluate"].outcome
    assert found["embed"].outcome == "ZeroDivisionError: division by zero"


def test_what_was_killed_is_told_as_such_and_stays_in_the_log(workspace: Workspace) -> None:
    command = [sys.executable, "-c", KILLED, str(workspace.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [one.state for one in work_done(workspace)] == ["running"]
        process.kill()
    assert [(one.what, one.state) for one in work_done(workspace)] == [("align", "killed")]
    with (workspace.root / "work" / next((workspace.root / "work").glob("*.running"))).open("a") as file:
        file.write('{"step": "tor')  # it was killed in the middle of writing
    told = Notes()
    with billed(workspace, "update", CostSettings(), told):
        assert {one.what: one.state for one in work_done(workspace)} == {"align": "killed", "update": "running"}
    assert {one.what: one.state for one in work_done(workspace)} == {"align": "killed", "update": "done"}
    (note,) = told.notes
    assert "`molar align`" in note
    assert "in step 'the towers'" in note
    with billed(workspace, "update", CostSettings(), told):
        assert told.notes == [note]
    (killed,) = [one for one in work_done(workspace) if one.state == "killed"]
    assert "in step 'the towers'" in killed.outcome
    assert "OPENBLAS_CORETYPE" in killed.remedy
    assert [path.name for path in (workspace.root / "work").iterdir()] == ["log.jsonl"]


def test_work_is_done_where_it_cannot_be_written_down(workspace: Workspace) -> None:
    (workspace.root / "work").write_text("a file, no folder")
    with recorded(workspace, "update"):
        pass
    assert work_done(workspace) == []


def test_a_first_command_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError), recorded(Workspace(tmp_path / ".molar"), "embed"):
        raise DataError("there is no such catalogue", "name one")
    assert not list((tmp_path / ".molar").iterdir())
