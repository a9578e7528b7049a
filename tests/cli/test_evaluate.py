"""`molar evaluate` as people run it."""

import json
import shutil
from contextlib import closing
from datetime import UTC, datetime

import pytest
from copies import copy_workspace
from settings_for_tests import SMALL_ALIGNMENT

SUITE = """
description = "small"
models = ["molar", "popularity"]
resamples = 200
[[splits]]
split = "temporal"
"""


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    copy_workspace(trained.workspace, folder / ".molar")
    lines = [f"{key} = {json.dumps(value)}" for key, value in {**SMALL_ALIGNMENT, "epochs": 1}.items()]
    (folder / "molar.toml").write_text("[align]\n" + "\n".join(lines))
    (folder / "small.toml").write_text(SUITE)
    return folder


def test_a_run_writes_a_report_and_passes_its_own_gate(molar, place):
    first = molar("evaluate", "--suite", "small.toml", "--out", "first", cwd=place)
    assert first.returncode == 0, first.stderr
    assert "temporal: first new item" in first.stdout
    assert "popularity" in first.stdout
    assert "fitted in" in first.stderr
    for name in ("report.html", "report.json", "examples.json"):
        assert (place / "first" / name).stat().st_size > 500
    again = molar("evaluate", "--suite", "small.toml", "--out", "second", "--gate", "first", "--json", cwd=place)
    assert again.returncode == 0, again.stderr
    assert "kept from before" in again.stderr
    report = json.loads(again.stdout)
    assert [split["name"] for split in report["splits"]] == ["temporal, first new item", "temporal, all new items"]
    assert report["made"]["command"].startswith("molar evaluate --suite small.toml")


def test_a_fall_fails_the_gate_with_code_5(molar, place):
    """The former run knew better: its popularity is replaced by molar's, or the other way round."""
    if not (place / "first").exists():
        assert molar("evaluate", "--suite", "small.toml", "--out", "first", cwd=place).returncode == 0
    before = place / "before"
    shutil.copytree(place / "first", before, dirs_exist_ok=True)
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in before.glob("scores/*/popularity/seed-0.parquet"):
        table = pq.read_table(path)
        column = table.column_names.index("hit_rate@10")
        pq.write_table(table.set_column(column, "hit_rate@10", pa.array(np.ones(len(table), np.float32))), path)
    done = molar("evaluate", "--suite", "small.toml", "--out", "now", "--gate", "before", cwd=place)
    assert done.returncode == 5, done.stderr
    assert "hit_rate@10" in done.stderr
    assert "popularity" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--suite", "papr"], 2, "'paper'"),
        (["--suite", "small.toml", "--model", "EASY"], 2, "EASE"),
        (["--suite", "small.toml", "--slice", "colour of luck"], 2, "neither items nor users"),
        (["--suite", "small.toml", "--ties", "by chance"], 2, "ties"),
        (["--suite", "small.toml", "--gate", "a", "--out", "a"], 2, "another folder"),
        (["--suite", "small.toml", "--gate", "nothing-here"], 3, "scores"),
        (["--impressions", "missing.parquet"], 1, "missing.parquet"),
    ],
)
def test_mistakes_are_two_lines_and_a_code(molar, place, arguments, code, words):
    done = molar("evaluate", *arguments, "--quiet", cwd=place)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_what_answers_showed_and_what_came_of_it_values_lists(molar, place):
    """From answers of a recommender to the command, on the shop's own event log."""
    from molar_indexes.recommender import Recommender
    from molar_retrieval.data.event_log import EventLog
    from molar_retrieval.workspace.artefacts import Workspace

    at, events = datetime(2026, 3, 2, 12, tzinfo=UTC), []
    with Recommender.open(place / ".molar") as recommender, closing(EventLog(Workspace.open(place / ".molar"))) as log:
        recommender.now = at
        people = [user.user_id for user in recommender.generation.users.between(0, 60) if len(user.history)]
        for number, user in enumerate(people):
            answer = recommender.query(user)
            click = {"event": "click", "user_id": user, "timestamp": at.isoformat(), "request_id": answer.request_id}
            item_id = answer.items[number % 10].item_id
            events += [answer.impression(at=at), {"event_id": f"c{number}", "item_id": item_id, **click}]
        assert not log.append(enumerate(events, 1)).refused
    done = molar("evaluate", "--impressions", "events", "--quiet", cwd=place)
    assert done.returncode == 0, done.stderr
    assert f"{len(people)} requests in events" in done.stdout
    estimators = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    for name in ("logged", "ips", "dr", "dr_gain"):
        assert estimators.count(name) >= 1
    assert "caution: mean weight" in done.stdout
    assert "caution, whole lists: " in done.stdout


def test_without_a_workspace_it_says_what_to_do(molar, tmp_path):
    done = molar("evaluate", cwd=tmp_path)
    assert done.returncode == 3
    assert "molar embed CATALOG" in done.stderr
