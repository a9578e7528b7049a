"""`molar events` as people run it."""

import json
from datetime import datetime

from molar_retrieval.workspace.artefacts import Workspace


def test_events_are_appended_shown_sealed_and_written(molar, tmp_path):
    (tmp_path / "shop").mkdir()
    Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    where = ("-w", tmp_path / ".molar")
    found = molar("events", "tail", *where)
    assert (found.returncode, "molar events append FILE" in found.stderr) == (3, True)
    row = {"event_id": "e1", "event": "view", "user_id": "u", "item_id": "i", "timestamp": "2026-01-02T12:00:00Z"}
    bad = {**row, "event_id": "e2", "event": "viev"}
    text = "".join(json.dumps(one) + "\n" for one in (row, bad, row))
    found = molar("events", "append", "-", *where, input=text)
    assert (found.returncode, found.stdout) == (0, "1 accepted, 1 repeated, 1 refused\n"), found.stderr
    assert "row 2, event: the kind 'viev' is not known; did you mean 'view'?" in found.stderr
    (tmp_path / "bad.jsonl").write_text(json.dumps(bad), "utf-8")
    found = molar("events", "append", tmp_path / "bad.jsonl", *where, "--json")
    assert (found.returncode, json.loads(found.stdout)["refusals"][0]["field"]) == (1, "event")
    found = molar("events", "tail", "-n", 5, *where, "--json")
    (line,) = json.loads(found.stdout)["events"]
    assert datetime.fromisoformat(line.pop("received")).tzinfo
    assert line == {**row, "line": 0, "seq": 1, "timestamp": "2026-01-02T12:00:00+00:00"}
    assert "2026-01-02 12:00:00  view   u    i" in molar("events", "tail", *where).stdout
    assert molar("events", "compact", *where).stdout == "1 lines sealed in 1 files\n"
    found = molar("events", "export", tmp_path / "out.csv", *where)
    assert (found.returncode, (tmp_path / "out.csv").read_text("utf-8").count("\n")) == (0, 2), found.stderr
    for option, name, lines in (("--user", "u", 2), ("--user", "nobody", 1), ("--session", "u", 1)):
        found = molar("events", "export", tmp_path / "out.csv", option, "-", *where, input=f"{name}\n")
        assert (found.returncode, (tmp_path / "out.csv").read_text("utf-8").count("\n")) == (0, lines), found.stderr
    found = molar("events", "compact", "--keep-days", 1, *where, "--json")
    assert json.loads(found.stdout)["removed_lines"] == 1
    for name, words in (("none.csv", "there is no file"), ("none.doc", "no table of events")):
        found = molar("events", "append", tmp_path / name, *where)
        assert (found.returncode, words in found.stderr) == (1, True)
